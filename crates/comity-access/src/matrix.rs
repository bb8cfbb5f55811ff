//! Who may do what in which state, as data: the rules, the tests and `docs/reference/access-matrix.md` read this table.

use std::fmt::Write as _;

use crate::act::{Kind, Role, State};

/// A command with the roles that have it and the states that take it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which command.
    pub kind: Kind,
    /// Whose it is.
    pub roles: &'static [Role],
    /// When it can be given.
    pub states: &'static [State],
}

const fn of(kind: Kind, roles: &'static [Role], states: &'static [State]) -> Row {
    Row { kind, roles, states }
}

const PROJECT: &[Role] = &[Role::Applicant, Role::Member];
const BOT: &[Role] = &[Role::Bot];
const OPEN: &[State] = &[State::Submitted, State::UnderReview, State::DecisionAsked];
const UNDECIDED: &[State] =
    &[State::Draft, State::Submitted, State::Returned, State::UnderReview, State::DecisionAsked, State::Appealed];

/// What is not in here does not exist. [`Kind::Open`] begins an application and so has no state.
pub const MATRIX: &[Row] = &[
    of(Kind::Open, &[Role::Applicant], &[]),
    of(Kind::SaveDraft, PROJECT, &[State::Draft, State::Returned]),
    of(Kind::ChangeModels, PROJECT, &[State::Draft, State::Returned]),
    of(Kind::Attach, PROJECT, &[State::Draft, State::Returned]),
    of(Kind::Submit, &[Role::Applicant], &[State::Draft]),
    of(
        Kind::Reveal,
        &[Role::Applicant],
        &[State::Submitted, State::Returned, State::UnderReview, State::DecisionAsked, State::Appealed],
    ),
    of(
        Kind::Sign,
        &[Role::Signatory],
        &[State::Submitted, State::Returned, State::UnderReview, State::DecisionAsked, State::Appealed],
    ),
    of(Kind::Return, &[Role::Reviewer, Role::Decider, Role::Operator], OPEN),
    of(Kind::Answer, &[Role::Applicant], &[State::Returned]),
    of(Kind::RequestReview, &[Role::Decider, Role::Operator, Role::Bot], OPEN),
    of(Kind::Review, &[Role::Reviewer], &[State::UnderReview, State::DecisionAsked]),
    of(
        Kind::DeclareConflict,
        &[Role::Reviewer, Role::Decider, Role::AppealReviewer],
        &[State::Submitted, State::Returned, State::UnderReview, State::DecisionAsked, State::Appealed],
    ),
    of(Kind::RequestDecision, &[Role::Reviewer, Role::Operator], &[State::Submitted, State::UnderReview]),
    of(Kind::Vote, &[Role::Decider], &[State::DecisionAsked]),
    of(Kind::Approve, &[Role::Decider, Role::Operator, Role::Bot], OPEN),
    of(Kind::Reject, &[Role::Decider, Role::Operator, Role::Bot], OPEN),
    of(
        Kind::Remark,
        &[Role::Applicant, Role::Member, Role::Reviewer, Role::Decider, Role::AppealReviewer, Role::Operator],
        &[
            State::Submitted,
            State::Returned,
            State::UnderReview,
            State::DecisionAsked,
            State::Approved,
            State::Rejected,
            State::Revoked,
            State::Appealed,
        ],
    ),
    of(Kind::Revoke, &[Role::Decider, Role::Operator, Role::Bot], &[State::Approved]),
    of(
        Kind::Withdraw,
        &[Role::Applicant],
        &[
            State::Draft,
            State::Submitted,
            State::Returned,
            State::UnderReview,
            State::DecisionAsked,
            State::Approved,
            State::Appealed,
        ],
    ),
    of(Kind::Appeal, &[Role::Applicant], &[State::Rejected, State::Revoked]),
    of(Kind::Reinstate, &[Role::AppealReviewer], &[State::Appealed]),
    of(Kind::Dismiss, &[Role::AppealReviewer], &[State::Appealed]),
    of(
        Kind::CopyAsNew,
        PROJECT,
        &[State::Rejected, State::Revoked, State::Withdrawn, State::Lapsed, State::Expired, State::Closed],
    ),
    of(Kind::Close, &[Role::Operator, Role::Bot], &[State::Rejected, State::Revoked]),
    of(Kind::Remind, BOT, &[State::Submitted, State::UnderReview, State::DecisionAsked, State::Appealed]),
    of(Kind::Escalate, BOT, OPEN),
    of(Kind::Lapse, BOT, UNDECIDED),
    of(Kind::Expire, BOT, &[State::Approved]),
];

/// The row of a command.
pub fn row(kind: Kind) -> &'static Row {
    MATRIX.iter().find(|row| row.kind == kind).expect("every command has a row")
}

/// Whether the table has it. Conditions (conflicts, seals, votes) come on top.
pub fn allows(kind: Kind, role: Role, state: State) -> bool {
    let row = row(kind);
    row.roles.contains(&role) && row.states.contains(&state)
}

/// The table as a page shows it: a letter for each role in each state.
pub fn markdown() -> String {
    let mut text = String::from("| command |");
    for state in State::ALL {
        let _ = write!(text, " {state} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(State::ALL.len()));
    for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Open) {
        let _ = write!(text, "\n| `{kind}` |");
        for state in State::ALL {
            let letters: String =
                Role::ALL.iter().filter(|role| allows(*kind, **role, *state)).map(|role| letter(*role)).collect();
            let _ = write!(text, " {letters} |");
        }
    }
    text.push('\n');
    text
}

const fn letter(role: Role) -> char {
    match role {
        Role::Applicant => 'A',
        Role::Member => 'M',
        Role::Signatory => 'S',
        Role::Reviewer => 'R',
        Role::Decider => 'D',
        Role::AppealReviewer => 'P',
        Role::Operator => 'O',
        Role::Bot => 'B',
    }
}

//! Who may do what in which state, as data: the rules, the tests and the page of decision 0060 read this table.

use std::fmt::Write as _;

use super::act::{Kind, Role, State};

/// A command with the roles that have it and the states that take it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub kind: Kind,
    pub roles: &'static [Role],
    pub states: &'static [State],
}

const fn of(kind: Kind, roles: &'static [Role], states: &'static [State]) -> Row {
    Row { kind, roles, states }
}

const OWNER: &[Role] = &[Role::Handler, Role::AppealReviewer];
const BOT: &[Role] = &[Role::Bot];
const UNDECIDED: &[State] = &[State::Open, State::ToDecide];
const FOR_THE_PROJECT: &[State] = &[State::Cleared, State::Overturned, State::Lapsed];

/// All commands.
pub const MATRIX: &[Row] = &[
    // Opening has no state before it.
    of(Kind::Open, &[Role::Bot, Role::Handler], &[]),
    of(Kind::Add, BOT, UNDECIDED),
    of(Kind::Answer, &[Role::Project], UNDECIDED),
    of(Kind::Remark, OWNER, State::ALL),
    of(Kind::Clear, &[Role::Handler], UNDECIDED),
    of(Kind::Uphold, &[Role::Handler], &[State::ToDecide]),
    of(Kind::Appeal, &[Role::Project], &[State::Upheld]),
    of(Kind::Overturn, &[Role::AppealReviewer], &[State::Appealed]),
    of(Kind::Confirm, &[Role::AppealReviewer], &[State::Appealed]),
    of(Kind::Owe, OWNER, FOR_THE_PROJECT),
    of(Kind::Pay, OWNER, FOR_THE_PROJECT),
    of(Kind::Refund, OWNER, FOR_THE_PROJECT),
    // The house, by the program that asked it.
    of(Kind::Booked, BOT, FOR_THE_PROJECT),
    of(Kind::Declined, BOT, FOR_THE_PROJECT),
    of(Kind::Await, BOT, &[State::Open]),
    of(Kind::Lapse, BOT, &[State::ToDecide, State::Appealed]),
    of(Kind::Close, BOT, &[State::Upheld]),
    of(Kind::Forget, BOT, State::ALL),
];

/// The row of a command.
pub fn row(kind: Kind) -> &'static Row {
    MATRIX.iter().find(|row| row.kind == kind).expect("every command has a row")
}

/// Whether the table has it. Conditions come on top.
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
        Role::Project => 'P',
        Role::Handler => 'H',
        Role::AppealReviewer => 'R',
        Role::Bot => 'B',
    }
}

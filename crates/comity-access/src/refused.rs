//! Why an act was not taken, and whose move is next.

use comity_wire::Timestamp;

use crate::act::{Kind, Role, State};
use crate::clock::Party;
use crate::form::Missing;

/// Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The state does not take it.
    #[error("{kind} is not possible while the application is {state}; next is {next}")]
    NotNow {
        /// What was asked.
        kind: Kind,
        /// Where it stands.
        state: State,
        /// Who can do something now.
        next: Party,
    },
    /// Others may.
    #[error("{kind} is not for the {role}, but for {}", list(.roles))]
    NotYours {
        /// What was asked.
        kind: Kind,
        /// As what.
        role: Role,
        /// Whose it is.
        roles: &'static [Role],
    },
    /// The role would do, the person was not asked.
    #[error("{who} was not asked to {kind} here; next is {next}")]
    Stranger {
        /// What was asked.
        kind: Kind,
        /// Who tried.
        who: String,
        /// Who can do something now.
        next: Party,
    },
    /// An interest of their own.
    #[error("{who} has a conflict of interest here ({why}); somebody else has to {kind}")]
    Conflict {
        /// What was asked.
        kind: Kind,
        /// Who tried.
        who: String,
        /// Declared, or the same organisation.
        why: &'static str,
    },
    /// An appeal wants fresh eyes.
    #[error("{who} took part in what is appealed; an appeal goes to somebody who did not")]
    TookPart {
        /// Who tried.
        who: String,
    },
    /// A decision without a reason is none.
    #[error("{kind} needs a reason")]
    NoReason {
        /// What was asked.
        kind: Kind,
    },
    /// The form is not filled in.
    #[error("the form is not complete: {}", fields(.0))]
    Incomplete(Vec<Missing>),
    /// A condition of the form is not met.
    #[error("{what}; next is {next}")]
    Unmet {
        /// Which.
        what: &'static str,
        /// Who can meet it.
        next: Party,
    },
    /// A bound.
    #[error("too much: at most {most} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there may be.
        most: u64,
    },
    /// The content makes no sense.
    #[error("{0}")]
    Content(&'static str),
    /// The clock has not run out.
    #[error("{kind} is the clock's, and it runs until {until}")]
    TooEarly {
        /// What was asked.
        kind: Kind,
        /// When it is due.
        until: Timestamp,
    },
}

impl Refused {
    /// Who can do something about it.
    pub fn next(&self) -> Party {
        match self {
            Self::NotNow { next, .. } | Self::Stranger { next, .. } | Self::Unmet { next, .. } => *next,
            Self::NotYours { roles, .. } => roles.first().map_or(Party::Nobody, |role| Party::of(*role)),
            Self::Conflict { .. } => Party::Owner,
            Self::TookPart { .. } => Party::AppealReviewer,
            Self::TooEarly { .. } => Party::Nobody,
            Self::NoReason { .. } | Self::Incomplete(_) | Self::TooMuch { .. } | Self::Content(_) => Party::Caller,
        }
    }
}

fn list(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

fn fields(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

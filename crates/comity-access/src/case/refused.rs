//! Why an act was not taken, and whose move is next.

use comity_wire::{Amount, Timestamp, TokenId};

use super::act::{Kind, Role, State};
use super::event::Party;

/// Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    #[error("{kind} is not possible while the case is {state}; next is {next}")]
    NotNow { kind: Kind, state: State, next: Party },
    #[error("{kind} is not for the {role}, but for {}", list(.roles))]
    NotYours { kind: Kind, role: Role, roles: &'static [Role] },
    /// Another project's.
    #[error("this is not the case of {who}")]
    Stranger { who: String },
    #[error("{who} took part in what is appealed; an appeal goes to somebody who did not")]
    TookPart { who: String },
    #[error("{kind} needs words: a reason, an answer, a reference")]
    NoReason { kind: Kind },
    #[error("too much: at most {most} {what}")]
    TooMuch { what: &'static str, most: u64 },
    #[error("{0}")]
    Content(&'static str),
    /// A second order of the same token.
    #[error(
        "{} µcr of {token} are ordered back in this case already; whoever means more than that says so (--again)",
        amount.ucr()
    )]
    Ordered { token: TokenId, amount: Amount },
    #[error("{kind} is the clock's, and it runs until {until}")]
    TooEarly { kind: Kind, until: Timestamp },
}

fn list(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

//! What a log may write of a call: what the policy's log class lets it, and no more.

use comity_wire::object::{Logging, Tier};
use comity_wire::{ModelId, Op};

use crate::phase::authorise::Authorised;

/// In the extensions of each reply to a call that reached the owner's policy. A log that writes of a reply without one
/// knows nothing of it but its route, status and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Class `none`: not even that it was.
    Nothing,
    /// Class `metadata`: who, what, how much and when.
    Metadata(Facts),
    /// Class `bodies`: the texts as well.
    Bodies(Facts),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub model: ModelId,
    pub op: Op,
    pub tier: Tier,
    /// The project's pseudonym at this owner.
    pub subject: String,
}

impl Seen {
    pub(crate) fn of(authorised: &Authorised) -> Self {
        let facts = || Facts {
            model: authorised.asked.model.clone(),
            op: authorised.asked.op,
            tier: authorised.allowed.tier,
            subject: authorised.subject().to_owned(),
        };
        match authorised.allowed.tier_rule.logging {
            Logging::None => Self::Nothing,
            Logging::Metadata => Self::Metadata(facts()),
            Logging::Bodies => Self::Bodies(facts()),
        }
    }

    /// What may be written; `None` where the call is not to be written of at all.
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Nothing => None,
            Self::Metadata(facts) | Self::Bodies(facts) => Some(facts),
        }
    }

    pub fn may_write_bodies(&self) -> bool {
        matches!(self, Self::Bodies(_))
    }
}

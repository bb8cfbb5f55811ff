//! What an owner's form asks beyond its fields: clocks, voices, consent.

use comity_wire::api::access::Shown;
use comity_wire::object::Tier;
use comity_wire::time::DAY_S;
use serde::{Deserialize, Serialize};

/// Read from the form's TOML; whoever leaves one out gets what stands here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The owner answers within this.
    pub answer_s: u64,
    /// What happens when the owner does not.
    pub when_silent: WhenSilent,
    /// The applicant answers a question, or hands a draft in, within this.
    pub applicant_s: u64,
    /// How long a refusal can be appealed.
    pub appeal_s: u64,
    /// The longest that a grant holds.
    pub grant_s_max: u64,
    /// Votes for it without which nobody can approve.
    pub votes_needed: u8,
    /// Whether the applicant's institution has to sign.
    pub signatory: bool,
    /// Seals that are opened before anything is granted.
    pub shown: Vec<Shown>,
    /// Nobody decides about their own organisation.
    pub other_organisation: bool,
}

/// What the end of the owner's time means. An owner who says nothing is reminded: silence grants only where they said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WhenSilent {
    /// The same persons are asked again.
    Remind {},
    /// Somebody else is asked, once; then as `remind`.
    Escalate {
        /// Whom.
        to: String,
    },
    /// The application ends unanswered.
    Lapse {},
    /// It is granted as it was asked for, if nothing else is missing; else as `remind`.
    Approve {
        /// At this tier.
        tier: Tier,
        /// For so long.
        grant_s: u64,
    },
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            answer_s: 14 * DAY_S,
            when_silent: WhenSilent::Remind {},
            applicant_s: 30 * DAY_S,
            appeal_s: 30 * DAY_S,
            grant_s_max: 366 * DAY_S,
            votes_needed: 0,
            signatory: false,
            shown: Vec::new(),
            other_organisation: false,
        }
    }
}

//! The owner's rules: what is done with an application the moment it is handed in, without anybody's hand.
//!
//! A pure function of the rules, of what the clearing house's token says of the project, and of what became of it here before.

use comity_wire::object::{Tier, Vetting};
use comity_wire::time::DAY_S;
use comity_wire::{ModelId, Timestamp};
use serde::Deserialize;

use crate::act::{Act, Actor, Role, Terms};
use crate::application::Application;

/// `[[access.rule]]` of an owner's configuration. The first whose conditions are met is done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rule {
    /// Met where every model that is asked for is one of these; none named: any.
    pub models: Vec<ModelId>,
    /// Met where the project declared at least one purpose and declared none but these; none named: any.
    pub purposes: Vec<String>,
    /// Met where the house vetted the project so far, or further.
    pub vetting: Vetting,
    /// Met also where an application of the project was revoked here before.
    pub after_revocation: bool,
    /// What is done.
    pub then: Then,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Grants what was asked for, if nothing else is missing (signature, votes, opened identity).
    Approve {
        /// At this tier.
        tier: Tier,
        /// For so long, and no longer than the form lets a grant hold.
        days: u32,
    },
    /// Refuses.
    Reject {
        /// Why; the applicant reads it, and may appeal.
        reason: String,
    },
    /// Asks these for their view: a vetted peer who vouches, a committee.
    Review {
        /// Their ids.
        by: Vec<String>,
    },
}

/// As it stands in TOML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    models: Vec<ModelId>,
    #[serde(default)]
    purposes: Vec<String>,
    #[serde(default)]
    vetting: Option<Vetting>,
    #[serde(default)]
    after_revocation: bool,
    then: String,
    tier: Option<Tier>,
    days: Option<u32>,
    reason: Option<String>,
    by: Option<Vec<String>>,
}

impl TryFrom<Written> for Rule {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { models, purposes, vetting, after_revocation, then, tier, days, reason, by } = written;
        let then = match (then.as_str(), tier, days, reason, by) {
            ("approve", Some(tier), Some(days), None, None) => Then::Approve { tier, days },
            ("reject", None, None, Some(reason), None) => Then::Reject { reason },
            ("review", None, None, None, Some(by)) => Then::Review { by },
            ("approve", ..) => return Err("a rule that approves has tier and days, and neither reason nor by"),
            ("reject", ..) => return Err("a rule that rejects has a reason, and neither tier, days nor by"),
            ("review", ..) => return Err("a rule that asks for a review has by, and neither tier, days nor reason"),
            _ => return Err("a rule's then is approve, reject or review"),
        };
        Ok(Self { models, purposes, vetting: vetting.unwrap_or(Vetting::None), after_revocation, then })
    }
}

/// What is known of a project where it hands an application in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// As the house's token states it.
    pub vetting: Vetting,
    /// As the project declared them at the house.
    pub purposes: Vec<String>,
    /// Whether an application of the project ended in a revocation.
    pub was_revoked: bool,
}

impl Rule {
    /// Whether its conditions are met.
    pub fn is_met(&self, application: &Application, facts: &Facts) -> bool {
        let models = self.models.is_empty() || application.models().iter().all(|model| self.models.contains(model));
        let declared = !facts.purposes.is_empty() && facts.purposes.iter().all(|it| self.purposes.contains(it));
        models
            && (self.purposes.is_empty() || declared)
            && facts.vetting >= self.vetting
            && (self.after_revocation || !facts.was_revoked)
    }
}

/// The act of the first rule that is met, and its author.
pub fn apply(
    rules: &[Rule],
    application: &Application,
    facts: &Facts,
    grant_s_max: u64,
    now: Timestamp,
) -> Option<(Act, Actor)> {
    let (number, rule) = (1..).zip(rules).find(|(_, rule)| rule.is_met(application, facts))?;
    let reason = format!("rule {number} of the owner");
    let act = match &rule.then {
        Then::Approve { tier, days } => Act::Approve {
            terms: Terms {
                models: application.models().to_vec(),
                tier: *tier,
                not_after: now.plus((u64::from(*days) * DAY_S).min(grant_s_max)),
                plan: None,
                executions: None,
            },
            reason,
        },
        Then::Reject { reason } => Act::Reject { reason: reason.clone() },
        Then::Review { by } => Act::RequestReview { reviewers: by.clone() },
    };
    Some((act, Actor { id: format!("rule-{number}"), role: Role::Bot, organisation: None }))
}

//! The access decision: may this caller ask this op of this model, and if not, what is missing and whose move it is
//! (spec/03-manifest.md §6).
//!
//! Default deny: what no row names is refused. Every check is equality or order on enumerated values. Search, SDK,
//! gateway and owner ask the same function.

mod approved;

use comity_wire::cbor::Text;
use comity_wire::object::{Delegates, Grant, ModelState, OpRule, Plan, Policy, Run, Summary, Tier, TierRule, Vetting};
use comity_wire::{Code, Digest, ModelId, Op, OrgId, Timestamp};

pub use approved::Approved;

/// A DUO-like code.
pub type Purpose = Text<48>;

/// A caller's question.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub model: &'a ModelId,
    pub op: Op,
    /// What the house states; `None` under an own-node token.
    pub vetting: Vetting,
    /// The project's declared purposes.
    pub purposes: &'a [Purpose],
    /// Grants of this subject that were verified and not revoked.
    pub grants: &'a [&'a Grant],
    /// Plans that are known here, by digest: a grant that names another one opens nothing.
    pub plans: &'a [(Digest, &'a Plan)],
    /// The execution that the call says it is part of.
    pub run: Option<&'a Run>,
    /// Terms of use that the project has agreed to at this owner, by digest.
    pub agreed: &'a [Digest],
    /// Whether the caller holds a block rather than the token.
    pub delegated: bool,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(Box<Allowed>),
    Refuse(Missing),
}

/// The highest tier that the caller reaches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub tier: Tier,
    /// Its limits, no wider than those of the plan that the call rests on.
    pub rule: OpRule,
    pub tier_rule: TierRule,
    /// The approval of a plan that the call rests on: it counts there.
    pub approved: Option<Box<Approved>>,
}

/// What stands between the caller and the least tier that would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Missing {
    pub code: Code,
    pub message: String,
    pub requirement: Requirement,
    pub whose_move: Move,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// Nothing can be done: the model or op is not offered.
    NotOffered,
    Vetting(Vetting),
    Grant {
        org: OrgId,
        tier: Tier,
    },
    /// The owner has to approve a plan that lists it, or to bring the one that it approved.
    Plan(Digest),
    /// The call must say which execution of this plan it is part of.
    Run(Digest),
    /// One of these must be declared.
    Purposes(Vec<Purpose>),
    /// The root holder must call.
    NotDelegated,
    /// The project must agree to these terms of use.
    Terms(Digest),
    /// The tier's hours begin then.
    Hours {
        opens_at: Timestamp,
    },
}

/// Who has to do something next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Caller,
    Owner,
    House,
    Nobody,
}

impl Move {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Owner => "owner",
            Self::House => "house",
            Self::Nobody => "nobody",
        }
    }
}

/// Decides under a policy. Pure: the same question has the same answer.
pub fn decide(policy: &Policy, ask: &Ask<'_>) -> Decision {
    if !policy.models.contains(ask.model) {
        let message = format!("no policy of its owner covers {}", ask.model);
        return Decision::Refuse(not_offered(Code::ModelNotFound, message));
    }
    let mut least_missing = None;
    let mut reached = None;
    // Rows ascend by tier: the last that is reached is the highest, the first that is missed the least.
    for rule in policy.rules_of(ask.op) {
        let Some(tier_rule) = policy.tier(rule.tier) else {
            continue;
        };
        match reaches(policy.org, tier_rule, ask) {
            Ok(approved) => reached = Some((rule, tier_rule, approved)),
            Err(missing) => least_missing = least_missing.or(Some(missing)),
        }
    }
    match (reached, least_missing) {
        (Some((rule, tier_rule, approved)), _) => {
            let narrowed = approved.as_ref().map_or_else(|| rule.clone(), |approved| approved.narrow(rule));
            let allowed = Allowed { tier: rule.tier, rule: narrowed, tier_rule: tier_rule.clone(), approved };
            Decision::Allow(Box::new(allowed))
        }
        (None, Some(missing)) => Decision::Refuse(missing),
        (None, None) => Decision::Refuse(op_not_offered(ask)),
    }
}

/// The same from a summary's rows, which know vetting and grants only, and nothing of plans: a preview for search. The node decides.
///
/// # Errors
/// [`Missing`] for the least tier.
pub fn decide_summary(summary: &Summary, ask: &Ask<'_>) -> Result<Tier, Missing> {
    if summary.state == ModelState::Withdrawn {
        return Err(not_offered(Code::Withdrawn, format!("{} was withdrawn by its owner", summary.model)));
    }
    if summary.model != *ask.model {
        return Err(not_offered(Code::ModelNotFound, format!("{} is another model", summary.model)));
    }
    let mut rows: Vec<_> = summary.ops.iter().filter(|row| row.op == ask.op).collect();
    rows.sort_by_key(|row| row.tier);
    let mut least_missing = None;
    let mut reached = None;
    for row in rows {
        // t3 asks its owner's grant whatever the row says: a summary may err.
        let asks_grant = row.grant || row.tier == Tier::Audited;
        let granted = || ask.grants.iter().any(|held| approved::covers(held, summary.org, row.tier, ask));
        let reach = vetted(row.vetting, ask).and_then(|()| {
            if asks_grant && !granted() { Err(approved::grant_required(summary.org, row.tier, ask)) } else { Ok(()) }
        });
        match reach {
            Ok(()) => reached = Some(row.tier),
            Err(missing) => least_missing = least_missing.or(Some(missing)),
        }
    }
    reached.ok_or_else(|| least_missing.unwrap_or_else(|| op_not_offered(ask)))
}

fn reaches(org: OrgId, rule: &TierRule, ask: &Ask<'_>) -> Result<Option<Box<Approved>>, Missing> {
    vetted(rule.vetting, ask)?;
    // t3 asks its owner's grant whatever the row says (design §6: a policy without is malformed).
    let approved = if rule.grant || rule.tier == Tier::Audited {
        approved::find(org, rule.tier, ask)?.map(Box::new)
    } else {
        None
    };
    let allowed = |purpose: &Purpose| rule.purposes.contains(purpose);
    if !rule.purposes.is_empty() && !ask.purposes.iter().any(allowed) {
        let names: Vec<&str> = rule.purposes.iter().map(Text::as_str).collect();
        return Err(Missing {
            code: Code::PurposeNotAllowed,
            message: format!("tier {} of {} is for these purposes only: {}", rule.tier, ask.model, names.join(", ")),
            requirement: Requirement::Purposes(rule.purposes.to_vec()),
            whose_move: Move::Caller,
        });
    }
    // A block's key says nothing of membership, so `members` refuses blocks too: members draw by mandate.
    if ask.delegated && rule.delegates != Delegates::All {
        return Err(Missing {
            code: Code::DelegateNotAllowed,
            message: format!(
                "tier {} of {} does not admit delegates; the token's own holder may call",
                rule.tier, ask.model
            ),
            requirement: Requirement::NotDelegated,
            whose_move: Move::Caller,
        });
    }
    let terms = rule.terms_at(ask.now);
    if let Some(asked) = terms.first()
        && !terms.iter().any(|terms| ask.agreed.contains(terms))
    {
        return Err(Missing {
            code: Code::TermsNotSigned,
            message: format!(
                "tier {} of {} asks that the project agrees to its owner's terms of use {asked}; the token's own holder reads \
                 and signs them",
                rule.tier, ask.model
            ),
            requirement: Requirement::Terms(*asked),
            whose_move: Move::Caller,
        });
    }
    // Last: whoever waits for the hours gets in when they begin.
    let opens_in_s = rule.opens_in_s(ask.now);
    if opens_in_s > 0 {
        let opens_at = ask.now.plus(opens_in_s);
        return Err(Missing {
            code: Code::OutsideHours,
            message: format!("tier {} of {} is closed at this hour; it opens at {opens_at}", rule.tier, ask.model),
            requirement: Requirement::Hours { opens_at },
            whose_move: Move::Caller,
        });
    }
    Ok(approved)
}

fn vetted(vetting: Vetting, ask: &Ask<'_>) -> Result<(), Missing> {
    if ask.vetting >= vetting {
        return Ok(());
    }
    Err(Missing {
        code: Code::VettingTooLow,
        message: format!("{} of {} asks vetting '{vetting}', the project has '{}'", ask.op, ask.model, ask.vetting),
        requirement: Requirement::Vetting(vetting),
        whose_move: Move::House,
    })
}

fn op_not_offered(ask: &Ask<'_>) -> Missing {
    not_offered(Code::OpNotOffered, format!("{} does not offer {}", ask.model, ask.op))
}

fn not_offered(code: Code, message: String) -> Missing {
    Missing { code, message, requirement: Requirement::NotOffered, whose_move: Move::Nobody }
}

#[cfg(test)]
mod tests;

//! Grants, and the plans that some of them approve (spec/03-manifest.md §7, §8).
//!
//! A grant that names a plan opens what the plan lists and nothing else, at its tier and below, and only within an execution:
//! whoever approved 500 calls approved no other.

use comity_wire::object::{Grant, OpRule, Plan, PlanOp, Run, Tier};
use comity_wire::{Code, Digest, GrantId, OrgId, Timestamp};

use super::{Ask, Missing, Move, Requirement};

/// The approval that a call rests on, and what an execution of its plan may use of the op. Whether an execution is left is
/// known to whoever counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    pub grant: GrantId,
    /// When the grant ends, and with it each execution.
    pub not_after: Timestamp,
    pub plan: Digest,
    pub executions: u32,
    pub run: Run,
    /// How long the execution may last.
    pub hours: u16,
    pub row: PlanOp,
}

impl Approved {
    /// The policy's limits on one call, as far as the plan does not set narrower ones.
    pub(super) fn narrow(&self, rule: &OpRule) -> OpRule {
        let mut rule = rule.clone();
        let row = &self.row;
        rule.output_tokens_max = row.output_tokens_max.unwrap_or(u32::MAX).min(rule.output_tokens_max);
        rule.logprobs_max = row.logprobs_max.unwrap_or(u8::MAX).min(rule.logprobs_max);
        rule.choices_max = row.choices_max.unwrap_or(u16::MAX).min(rule.choices_max);
        rule
    }
}

/// The grant that opens a tier: `None` where one without a plan does. Of several approvals the one that was given last counts;
/// a token that names only another chooses that one.
pub(super) fn find(org: OrgId, tier: Tier, ask: &Ask<'_>) -> Result<Option<Approved>, Missing> {
    let mut best: Option<(&Grant, Approved)> = None;
    let mut nearest: Option<Missing> = None;
    for held in ask.grants.iter().filter(|held| covers(held, org, tier, ask)) {
        let Some(digest) = held.plan else { return Ok(None) };
        match within(held, digest, ask) {
            Ok(approved) => {
                let is_later =
                    |(other, _): &(&Grant, Approved)| (other.not_before, other.id) < (held.not_before, held.id);
                if best.as_ref().is_none_or(is_later) {
                    best = Some((held, approved));
                }
            }
            // Whoever only has to name an execution is nearer than whoever waits for an approval.
            Err(missing) => {
                let is_nearer = matches!(missing.requirement, Requirement::Run(_));
                nearest = nearest.filter(|_| !is_nearer).or(Some(missing));
            }
        }
    }
    match (best, nearest) {
        (Some((_, approved)), _) => Ok(Some(approved)),
        (None, Some(missing)) => Err(missing),
        (None, None) => Err(grant_required(org, tier, ask)),
    }
}

/// Whether a grant is one for this, whatever its plan says.
pub(super) fn covers(grant: &Grant, org: OrgId, tier: Tier, ask: &Ask<'_>) -> bool {
    grant.org == org
        && grant.models.contains(ask.model)
        && (grant.ops.is_empty() || grant.ops.contains(&ask.op))
        && grant.tier >= tier
        && (tier != Tier::Audited || grant.plan.is_some())
        && grant.not_before <= ask.now
        && ask.now < grant.not_after
}

fn within(grant: &Grant, digest: Digest, ask: &Ask<'_>) -> Result<Approved, Missing> {
    let plan = |message: String| Missing {
        code: Code::GrantRequired,
        message,
        requirement: Requirement::Plan(digest),
        whose_move: Move::Owner,
    };
    let Some((_, known)) = ask.plans.iter().find(|(known, _)| *known == digest) else {
        return Err(plan(format!(
            "this node does not have the plan {digest} that was approved; its owner brings it there"
        )));
    };
    let listed = |known: &Plan| known.models.contains(ask.model).then(|| known.op(ask.op).cloned()).flatten();
    let Some(row) = listed(known) else {
        return Err(plan(format!(
            "the approved plan '{}' does not list {} of {}; apply with one that does",
            known.title, ask.op, ask.model
        )));
    };
    let Some(run) = ask.run else {
        return Err(Missing {
            code: Code::RunRequired,
            message: format!(
                "{} of {} is approved within the plan '{}' only; name the execution in 'comity_run'",
                ask.op, ask.model, known.title
            ),
            requirement: Requirement::Run(digest),
            whose_move: Move::Caller,
        });
    };
    Ok(Approved {
        grant: grant.id,
        not_after: grant.not_after,
        plan: digest,
        executions: grant.executions(),
        run: run.clone(),
        hours: known.hours,
        row,
    })
}

pub(super) fn grant_required(org: OrgId, tier: Tier, ask: &Ask<'_>) -> Missing {
    Missing {
        code: Code::GrantRequired,
        message: format!("{} of {} needs its owner's grant for tier {tier}; apply to the owner", ask.op, ask.model),
        requirement: Requirement::Grant { org, tier },
        whose_move: Move::Owner,
    }
}

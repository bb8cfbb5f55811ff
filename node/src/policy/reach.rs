//! What callers get of a policy, by the very function that the gateway asks.

use std::collections::BTreeSet;

use comity_token::policy::{Ask, Decision, Purpose, decide};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Grant, Plan, PlanOp, Policy, Run, Tier, Vetting};
use comity_wire::{Digest, GrantId, ModelId, Op, Timestamp};
use serde::Serialize;

/// Who asks, as the house states it and as this owner has granted.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    pub vetting: Vetting,
    pub purposes: &'a [Purpose],
    pub grants: &'a [&'a Grant],
    /// Plans that the node has. That the call names an execution is supposed.
    pub plans: &'a [(Digest, &'a Plan)],
    /// Terms of use that its project has agreed to.
    pub agreed: &'a [Digest],
    pub delegated: bool,
}

/// What a caller gets of one op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub op: Op,
    /// The tier that answers; left out where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Of a refusal: its code, what is missing, whose move is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whose_move: Option<&'static str>,
}

/// What `caller` gets of `op` at `now`.
pub fn outcome(policy: &Policy, model: &ModelId, op: Op, caller: &Caller<'_>, now: Timestamp) -> Outcome {
    let run = run();
    let ask = Ask {
        model,
        op,
        vetting: caller.vetting,
        purposes: caller.purposes,
        grants: caller.grants,
        plans: caller.plans,
        run: Some(&run),
        agreed: caller.agreed,
        delegated: caller.delegated,
        now,
    };
    match decide(policy, &ask) {
        Decision::Allow(allowed) => {
            Outcome { op, tier: Some(allowed.tier), missing: None, message: None, whose_move: None }
        }
        Decision::Refuse(missing) => Outcome {
            op,
            tier: None,
            missing: Some(missing.code.to_string()),
            message: Some(missing.message),
            whose_move: Some(missing.whose_move.as_str()),
        },
    }
}

/// A kind of caller who gets another tier of an op, or none, under a new policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shift {
    pub op: Op,
    pub vetting: Vetting,
    /// The tier of the grant that such a caller holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<Tier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Tier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Tier>,
}

impl Shift {
    /// Whether somebody loses something that they had.
    pub fn is_loss(&self) -> bool {
        self.after < self.before
    }
}

const VETTINGS: [Vetting; 3] = [Vetting::None, Vetting::Registered, Vetting::Vetted];
const GRANTED: [Option<Tier>; 5] =
    [None, Some(Tier::Open), Some(Tier::Registered), Some(Tier::Vetted), Some(Tier::Audited)];

/// Who gains and who loses what, of all kinds of callers that a policy tells apart by vetting and grant. They declare every purpose
/// that either policy names, and hold the token itself. They have agreed to the newest terms that the policy before takes, to the oldest, to any
/// one, or to none; and they call at `now`, or in the last second of a time that the policy before gives them.
pub fn shifts(before: &Policy, after: &Policy, model: &ModelId, now: Timestamp) -> Vec<Shift> {
    let ops: BTreeSet<Op> = before.rules.iter().chain(after.rules.iter()).map(|rule| rule.op).collect();
    let purposes: Vec<Purpose> =
        before.tiers.iter().chain(after.tiers.iter()).flat_map(|tier| tier.purposes.iter().cloned()).collect();
    let given = before.tiers.iter().filter_map(|rule| rule.terms_from).filter(|from| now < *from);
    let moments = std::iter::once(now).chain(given.map(|from| from.minus(1)));
    let supposed: Vec<_> =
        moments.flat_map(|at| agreed(before, at).into_iter().map(move |terms| (at, terms))).collect();
    let plan = supposed_plan(model, &ops);
    let plans = [(Digest::ZERO, &plan)];
    let mut shifts = Vec::new();
    for op in ops {
        for vetting in VETTINGS {
            for tier in GRANTED {
                for (at, agreed) in &supposed {
                    let grant = tier.map(|tier| self::supposed(after, model, tier, *at));
                    let grants: Vec<&Grant> = grant.iter().collect();
                    let (grants, plans) = (grants.as_slice(), plans.as_slice());
                    let caller = Caller { vetting, purposes: &purposes, grants, plans, agreed, delegated: false };
                    let reached = |policy| outcome(policy, model, op, &caller, *at).tier;
                    let shift = Shift { op, vetting, grant: tier, before: reached(before), after: reached(after) };
                    if shift.before != shift.after && !shifts.contains(&shift) {
                        shifts.push(shift);
                    }
                }
            }
        }
    }
    // A grant that changes nothing is left out: what holds without one holds with any.
    let plain: Vec<Shift> = shifts.iter().filter(|shift| shift.grant.is_none()).cloned().collect();
    shifts.retain(|shift| {
        let same = |plain: &Shift| {
            (plain.op, plain.vetting, plain.before, plain.after) == (shift.op, shift.vetting, shift.before, shift.after)
        };
        shift.grant.is_none() || !plain.iter().any(same)
    });
    shifts
}

/// A grant of `tier` as this owner would give it, with a plan where one is needed.
///
/// # Panics
/// Never: its texts are short.
pub fn supposed(policy: &Policy, model: &ModelId, tier: Tier, now: Timestamp) -> Grant {
    Grant {
        id: GrantId([0; 16]),
        org: policy.org,
        subject: Text::new("preview").expect("it is short"),
        models: List::new(vec![model.clone()]).expect("it is one"),
        tier,
        ops: List::default(),
        not_before: now,
        not_after: now.plus(1),
        plan: (tier == Tier::Audited).then_some(Digest::ZERO),
        reason: Text::new("preview").expect("it is short"),
        executions: None,
    }
}

/// The plan that [`supposed`] approves, under no digest that one could have: every op, as much as one likes.
///
/// # Panics
/// Never: its texts are short.
pub fn supposed_plan(model: &ModelId, ops: &BTreeSet<Op>) -> Plan {
    let row = |op: &Op| PlanOp {
        op: *op,
        calls: u32::MAX,
        input_tokens: None,
        output_tokens: None,
        output_tokens_max: None,
        logprobs_max: None,
        choices_max: None,
        sites: List::default(),
    };
    Plan {
        title: Text::new("preview").expect("it is short"),
        models: List::new(vec![model.clone()]).expect("it is one"),
        ops: List::new(ops.iter().map(row).collect()).expect("there are 15 ops"),
        hours: Plan::HOURS_MAX,
        data: List::default(),
        purpose: Text::default(),
        outputs: Text::default(),
    }
}

/// What a project may have agreed to that the policy takes at a moment.
fn agreed(policy: &Policy, at: Timestamp) -> Vec<Vec<Digest>> {
    let taken: Vec<Vec<Digest>> = policy.tiers.iter().map(|tier| tier.terms_at(at)).collect();
    let newest = taken.iter().filter_map(|terms| terms.first().copied()).collect();
    let oldest = taken.iter().filter_map(|terms| terms.last().copied()).collect();
    let mut agreed = vec![newest, oldest, Vec::new()];
    agreed.extend(taken.into_iter().flatten().map(|terms| vec![terms]));
    agreed.sort_unstable();
    agreed.dedup();
    agreed
}

/// Tiers that ask for terms of use now, and under the policy after for none until a date: a text that replaces another was meant to.
pub fn reopened(before: &Policy, after: &Policy, now: Timestamp) -> Vec<(Tier, Timestamp)> {
    let asks = |tier: Tier| before.tier(tier).is_some_and(|rule| !rule.terms_at(now).is_empty());
    let waits = after.tiers.iter().filter(|rule| rule.terms_at(now).is_empty() && asks(rule.tier));
    waits.filter_map(|rule| Some((rule.tier, rule.terms_from?))).collect()
}

fn run() -> Run {
    "preview".parse().expect("it names a run")
}

//! A plan tried out against what its owner publishes: nothing is asked of a model, and nothing is spent.

use comity_token::directory::Directory as _;
use comity_token::policy::{self, Decision, Missing};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Grant, Plan, PlanOp, Policy, Run, Tariff, Tier, Vetting};
use comity_wire::{Amount, Exact, GrantId, Meter, ModelId, Op};

use super::{Client, Error};

/// What one op of a plan would come to at one model.
#[derive(Debug)]
pub struct Rehearsed {
    pub model: ModelId,
    pub op: Op,
    /// What decides it today, with nothing granted.
    pub now: Result<Tier, Missing>,
    /// What decided it if the owner approved this plan.
    pub approved: Result<Tier, Missing>,
    /// The most that one execution may cost of it, by today's tariff; `None` where it has no price.
    pub cost_max: Option<Amount>,
    /// Limits of the plan that the policy's are below: the lesser counts.
    pub narrowed: Vec<(&'static str, u64)>,
}

impl Client {
    /// Decides each op of a plan at each of its models as their owner's node would.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn rehearse(&self, plan: &Plan) -> Result<Vec<Rehearsed>, Error> {
        // Without a house the caller is nobody in particular; that is an answer too.
        let vetting = self.project().await.map_or(Vetting::None, |project| project.vetting);
        let mut all = Vec::new();
        for model in &plan.models {
            let target = self.target(model).await?;
            let policy = self.seen.directory.policy(model);
            for row in &plan.ops {
                let grant = approving(&target.summary, plan, self.now());
                let now = self.decided(&target.summary, policy.as_deref(), (model, row.op, vetting), &[], plan);
                let approved =
                    self.decided(&target.summary, policy.as_deref(), (model, row.op, vetting), &[&grant], plan);
                all.push(Rehearsed {
                    model: model.clone(),
                    op: row.op,
                    narrowed: policy.as_deref().map_or_else(Vec::new, |policy| narrowed(policy, row, &approved)),
                    cost_max: cost_max(&target.tariff, policy.as_deref(), row),
                    now,
                    approved,
                });
            }
        }
        Ok(all)
    }

    fn decided(
        &self,
        summary: &comity_wire::object::Summary,
        policy: Option<&Policy>,
        (model, op, vetting): (&ModelId, Op, Vetting),
        grants: &[&Grant],
        plan: &Plan,
    ) -> Result<Tier, Missing> {
        let run: Run = "rehearsal".parse().expect("it names a run");
        // Purposes are the house's to state; a tier that asks for one says so when it is called.
        let purposes: Vec<policy::Purpose> = policy
            .into_iter()
            .flat_map(|policy| &policy.tiers)
            .flat_map(|tier| tier.purposes.iter().cloned())
            .collect();
        // And so are terms of use, which are signed in a minute.
        let terms = policy.into_iter().flat_map(|policy| &policy.tiers).filter_map(|tier| tier.terms);
        let agreed: Vec<_> = terms.collect();
        let plans = [(plan.digest(), plan)];
        let ask = policy::Ask {
            model,
            op,
            vetting,
            purposes: &purposes,
            grants,
            plans: &plans,
            run: Some(&run),
            agreed: &agreed,
            delegated: false,
            now: self.now(),
        };
        match policy.map(|policy| policy::decide(policy, &ask)) {
            Some(Decision::Allow(allowed)) => Ok(allowed.tier),
            Some(Decision::Refuse(missing)) => Err(missing),
            None => policy::decide_summary(summary, &ask),
        }
    }
}

/// The grant that would approve it.
fn approving(summary: &comity_wire::object::Summary, plan: &Plan, now: comity_wire::Timestamp) -> Grant {
    Grant {
        id: GrantId([0; 16]),
        org: summary.org,
        subject: Text::new("rehearsal").expect("it is short"),
        models: List::new(plan.models.to_vec()).expect("a plan names fewer"),
        tier: Tier::Audited,
        ops: List::default(),
        not_before: now,
        not_after: now.plus(1),
        plan: Some(plan.digest()),
        reason: Text::default(),
        executions: None,
    }
}

/// An upper bound: every call at the dearest step, with its minimum.
fn cost_max(tariff: &Tariff, policy: Option<&Policy>, row: &PlanOp) -> Option<Amount> {
    let calls = u128::from(row.calls);
    let input_bytes_max = policy.and_then(|policy| policy.rules_of(row.op).map(|rule| rule.input_bytes_max).max());
    let output_tokens = u128::from(row.output_tokens.unwrap_or(0));
    // What is asked beside a chat or completion is paid with it.
    let paid: &[Op] =
        if matches!(row.op, Op::Logprobs | Op::PromptLogprobs) { &[Op::Chat, Op::Completions] } else { &[row.op] };
    let of = |op: &Op| {
        let price = tariff.price(*op)?;
        let minimum = u128::try_from(price.minimum.ucr()).ok()?.checked_mul(1_000_000)?.checked_mul(calls)?;
        price.rates.iter().try_fold(minimum, |sum, rate| {
            let units = match rate.meter {
                Meter::Requests => calls,
                Meter::InputTokens => u128::from(row.input_tokens?),
                Meter::OutputTokens => output_tokens,
                Meter::OutputBytes => output_tokens * u128::from(tariff.output_bytes_per_token),
                Meter::InputBytes => calls * u128::from(input_bytes_max?),
                _ => 0,
            };
            let dearest = rate.steps.iter().map(|step| u128::from(step.ucr_per_million)).max().unwrap_or(0);
            sum.checked_add(units.checked_mul(dearest)?)
        })
    };
    paid.iter().filter_map(of).max().and_then(|sum| Exact(sum).ceil())
}

/// What the policy's row allows less of than the plan wants.
fn narrowed(policy: &Policy, row: &PlanOp, reached: &Result<Tier, Missing>) -> Vec<(&'static str, u64)> {
    let Ok(tier) = reached else { return Vec::new() };
    let Some(rule) = policy.rules_of(row.op).find(|rule| rule.tier == *tier) else { return Vec::new() };
    let bounds = [
        ("output_tokens_max", row.output_tokens_max.map(u64::from), u64::from(rule.output_tokens_max)),
        ("logprobs_max", row.logprobs_max.map(u64::from), u64::from(rule.logprobs_max)),
        ("choices_max", row.choices_max.map(u64::from), u64::from(rule.choices_max)),
    ];
    bounds.into_iter().filter_map(|(name, wanted, most)| (wanted? > most).then_some((name, most))).collect()
}

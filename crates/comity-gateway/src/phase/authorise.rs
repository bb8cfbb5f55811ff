//! May they: scope, policy with this owner's grants, limits, tariff, price.

mod limits;

use comity_http::Refusal;
use comity_supply::Delta;
use comity_token::{Allowed, Ask, Decision, Denied, decide};
use comity_wire::object::{
    Demand, Grant, Logging, Manifest, ModelState, OpRule, Plan, Policy, Run, Scope, Tariff, Tier,
};
use comity_wire::{Amount, Code, Digest, GrantId, Meter, ModelId, Op, Verified};

use super::authenticate::Authenticated;
use crate::config::Served;
use crate::fields::{self, Asked, Prompt};
use crate::gateway::Inner;
use crate::plans;
use crate::refusal;
use crate::schema::Pair;
use crate::spend::{Bound, Caps, Limit, Priced, Rule, Within, price};

/// A request that its owner's policy allows, with its price.
pub(crate) struct Authorised {
    pub(crate) authenticated: Box<Authenticated>,
    pub(crate) asked: Asked,
    pub(crate) served: Served,
    pub(crate) allowed: Allowed,
    pub(crate) scope: Scope,
    pub(crate) tariff: Verified<Tariff>,
    pub(crate) manifest: Digest,
    pub(crate) priced: Priced,
    /// The policy's rows whose pace the call counts in.
    pub(crate) bounds: Vec<Bound>,
    /// The executions of plans that it counts in.
    pub(crate) within: Vec<Within>,
    /// By which tier and which approval each of its ops is answered.
    judged: Vec<Judged>,
    /// What returned log-probabilities are rounded to.
    pub(crate) decimals: Option<u8>,
    /// Days for which its texts are kept, where they are.
    pub(crate) keeps_days: Option<u16>,
    /// Whether its token is one of this node's own, which any fresh key is given.
    pub(crate) is_anonymous: bool,
}

/// An op of a call, and what it rests on.
type Judged = (Op, Tier, Option<GrantId>);

fn judged(allowed: &Allowed) -> Judged {
    (allowed.rule.op, allowed.tier, allowed.approved.as_ref().map(|approved| approved.grant))
}

/// Whom all count as who have a token of this node's own. No pseudonym: a digest in hex or a base32 text is longer.
const ANYBODY: &str = "anybody";

impl Authorised {
    /// The project's pseudonym at this owner.
    pub(crate) fn subject(&self) -> &str {
        self.authenticated.capability.token().subject.as_str()
    }

    /// Who it counts with in the owner's windows, in concurrency and in the queue: its project. Those whom nobody knows count as one,
    /// since each could have as many keys as they like.
    pub(crate) fn counted_as(&self) -> &str {
        if self.is_anonymous { ANYBODY } else { self.subject() }
    }

    /// Log-probabilities leave with as many decimals as the owner lets them have.
    pub(crate) fn round(&self, delta: &mut Delta) {
        if let (Some(decimals), Some(logprobs)) = (self.decimals, &mut delta.logprobs) {
            limits::round(logprobs, decimals);
        }
    }

    /// Input and output tokens at most.
    pub(crate) fn tokens_max(&self) -> u64 {
        tokens_max(&self.tariff, &self.priced.demand)
    }

    /// The longest answer that this much would pay for.
    pub(crate) fn output_tokens_fit(&self, pays: comity_wire::Amount) -> Option<u64> {
        self.tariff.affordable_output(&self.priced.demand, pays)
    }

    /// The most tokens of the prompt that the answer repeats: a token is a byte at least.
    pub(crate) fn repeated_tokens(&self) -> u64 {
        let tokens = |prompt: &Prompt| match prompt {
            Prompt::Text(text) => text.len() as u64,
            Prompt::Ids(ids) => ids.len() as u64,
        };
        let once: u64 = if self.asked.echo { self.asked.prompts.iter().map(tokens).sum() } else { 0 };
        once.saturating_mul(self.asked.n)
    }
}

pub(crate) fn authorise(inner: &Inner, authenticated: Box<Authenticated>) -> Result<Box<Authorised>, Refusal> {
    let now = authenticated.now;
    let mut asked = read(inner, &authenticated)?;
    let capability = &authenticated.capability;
    let denied = |denied: Denied| refusal::denied(&denied, now);
    let ops = ops(&asked);
    let scope = capability.allows(&asked.model, asked.op).map_err(denied)?.clone();
    for op in &ops {
        capability.allows(&asked.model, *op).map_err(denied)?;
    }
    let served = inner.served().get(&asked.model).cloned().ok_or_else(|| model_not_found(&asked.model))?;
    let manifest = inner.directory.manifest(&asked.model).ok_or_else(|| model_not_found(&asked.model))?;
    offered(&manifest, &scope, asked.op)?;
    if asked.batch {
        offered(&manifest, &scope, Op::Batch)?;
    }
    if asked.op == Op::Predict {
        asked.schema = Some(predictable(&manifest, &asked)?);
    }
    let policy = inner.directory.policy(&asked.model).ok_or_else(|| model_not_found(&asked.model))?;
    let op = asked.op;
    let more = |refusal, tier| refusal::more(refusal, inner, &manifest, &policy, op, tier);
    let (model, run) = (asked.model.clone(), asked.run.clone());
    let allow = |op| {
        let allowed = allow(inner, &authenticated, &policy, (&model, op), run.as_ref());
        allowed.map_err(|refusal| more(refusal, None))
    };
    let allowed = allow(asked.op)?;
    let subject = capability.token().subject.as_str();
    inner.stopping.admit(&asked.model, subject)?;
    inner.guarding.admit(subject, now)?;
    let also = ops.into_iter().map(allow).collect::<Result<Vec<_>, _>>()?;
    let of_tier = |refusal| more(refusal, Some(allowed.tier));
    authenticated.trail.note(|call| {
        call.model = Some(asked.model.clone());
        call.op = Some(asked.op);
        call.tier = Some(allowed.tier_rule.tier);
        call.stream = asked.stream;
    });
    let terms = capability.token();
    authenticated.trail.caller(allowed.tier_rule.logging, terms.subject.as_str(), terms.id);
    limits::check(&authenticated, &asked, &served, &allowed, &also).map_err(of_tier)?;
    untaken(&mut asked, &served)?;
    let tariff = inner.directory.tariff(&scope.tariff).ok_or_else(|| {
        Refusal::new(Code::TariffMismatch, "this node does not have the tariff that the token pins")
            .with("whose_move", "owner")
    })?;
    let bounds = bounds(&policy, &allowed, &also);
    let approved = || std::iter::once(&allowed).chain(&also).filter_map(|row| row.approved.as_deref());
    if asked.run.is_some() && approved().next().is_none() {
        // It is answered without a plan, and counts in none.
        asked.ignored.push(fields::RUN.to_owned());
    }
    let planned = approved().filter_map(|approved| approved.row.output_tokens).min();
    let mut rule = allowed.rule.clone();
    if let Some(batch) = also.iter().find(|row| row.rule.op == Op::Batch) {
        rule.output_tokens_max = rule.output_tokens_max.min(batch.rule.output_tokens_max);
        rule.charge_max = [rule.charge_max, batch.rule.charge_max].into_iter().flatten().min();
    }
    let priced = price_of(
        &authenticated,
        &asked,
        (&rule, allowed.tier_rule.charge_max),
        &manifest,
        (&scope, &tariff),
        (&bounds, planned),
    )
    .map_err(of_tier)?;
    let judged = std::iter::once(&allowed).chain(&also).map(judged).collect();
    let within = plans::within(approved(), &tariff.worst_meters(&priced.demand).expect("it was priced"));
    let decimals = std::iter::once(&allowed).chain(&also).filter_map(|row| row.rule.logprobs_decimals).min();
    let keeps_days = kept(inner, allowed.tier_rule.logging, &manifest)?;
    let manifest = manifest.id();
    // The roster lets no house name this organisation as its issuer (spec/02-keys.md K-6).
    let own = terms.issuer() == inner.org && terms.terms.budget.is_zero();
    // Whom the owner gave a grant is known.
    let is_anonymous = own && inner.grants.of(&terms.subject, &terms.terms.grants, &*inner.directory, now).is_empty();
    Ok(Box::new(Authorised {
        asked,
        served,
        allowed,
        scope,
        tariff,
        manifest,
        priced,
        bounds,
        within,
        judged,
        decimals,
        keeps_days,
        is_anonymous,
        authenticated,
    }))
}

/// Whether a call that was let in may still be answered, by what stands now. Where it would rest on another tier or approval, it is judged anew
/// when it is sent again: price and limits are those of its own. What is looked for in its texts, and done about it, is what the tier says now.
pub(crate) fn stands(inner: &Inner, authorised: &mut Authorised) -> Result<(), Refusal> {
    let (authenticated, asked) = (&authorised.authenticated, &authorised.asked);
    inner.stopping.admit(&asked.model, authorised.subject())?;
    inner.guarding.admit(authorised.subject(), authenticated.now)?;
    let policy = inner.directory.policy(&asked.model).ok_or_else(|| model_not_found(&asked.model))?;
    let allow = |op| allow(inner, authenticated, &policy, (&asked.model, op), asked.run.as_ref());
    let now = allow(asked.op)?;
    let also = ops(asked).into_iter().map(allow).collect::<Result<Vec<_>, _>>()?;
    if !std::iter::once(&now).chain(&also).map(judged).eq(authorised.judged.iter().copied()) {
        let message =
            "what this project may do here has changed while the call waited; the same request again is judged by that";
        return Err(Refusal::new(Code::Busy, message).with("whose_move", "caller").retry_after_s(1));
    }
    authorised.allowed.tier_rule.filters = now.tier_rule.filters;
    Ok(())
}

/// Who keeps texts so that misuse can be looked into lets nothing through that would not be kept.
fn kept(inner: &Inner, logging: Logging, manifest: &Manifest) -> Result<Option<u16>, Refusal> {
    let days = manifest.data_policy.retention_days;
    let Some(transcripts) = inner.transcripts.as_ref().filter(|_| logging == Logging::Bodies && days > 0) else {
        return Ok(None);
    };
    if transcripts.is_ready() {
        return Ok(Some(days));
    }
    let message = "this tier's calls are kept by their owner, and cannot be written down at present";
    Err(Refusal::new(Code::Busy, message).with("whose_move", "owner").retry_after_s(10))
}

/// The rows that count: each op's, and each tier's once.
fn bounds(policy: &Policy, allowed: &Allowed, also: &[Allowed]) -> Vec<Bound> {
    let mut bounds: Vec<Bound> = Vec::with_capacity(2);
    for row in std::iter::once(allowed).chain(also) {
        let rule = |op| Rule { policy: policy.name.as_str().to_owned(), tier: row.tier, op };
        let (tier, op) = (&row.tier_rule, &row.rule);
        if bounds.iter().all(|bound| bound.rule.op.is_some() || bound.rule.tier != row.tier) {
            bounds.push(Bound { rule: rule(None), concurrency: tier.concurrency, windows: tier.windows.to_vec() });
        }
        if op.concurrency.is_some() || !op.windows.is_empty() {
            let concurrency = op.concurrency.unwrap_or(0);
            bounds.push(Bound { rule: rule(Some(op.op)), concurrency, windows: op.windows.to_vec() });
        }
    }
    bounds
}

fn tokens_max(tariff: &Tariff, demand: &Demand) -> u64 {
    let worst = tariff.worst_meters(demand).expect("it was priced");
    worst.get(Meter::InputTokens).saturating_add(worst.get(Meter::OutputTokens))
}

fn read(inner: &Inner, authenticated: &Authenticated) -> Result<Asked, Refusal> {
    let route = authenticated.route;
    let given = if route.method == http::Method::GET {
        fields::query(&authenticated.request.authority().query)?
    } else {
        fields::body(&authenticated.body)?
    };
    fields::read(route, given, || {
        let served = inner.served();
        let scope = &authenticated.capability.token().terms.scope;
        let mut models =
            scope.iter().filter(|scope| scope.ops.contains(&route.op) && served.contains_key(&scope.model));
        models.next().filter(|_| models.next().is_none()).map(|scope| scope.model.clone())
    })
}

/// What is asked beside the route's own op. A batch's limits are those of both, and it is charged as one.
fn ops(asked: &Asked) -> Vec<Op> {
    let logprobs = asked.logprobs.is_some().then_some(Op::Logprobs);
    let prompt = (asked.echo && asked.logprobs.is_some()).then_some(Op::PromptLogprobs);
    let batch = asked.batch.then_some(Op::Batch);
    logprobs.into_iter().chain(prompt).chain(batch).collect()
}

/// Holds every input against the manifest's own schema.
fn predictable(manifest: &Manifest, asked: &Asked) -> Result<Pair, Refusal> {
    let declared = manifest.op(Op::Predict).and_then(|row| row.schema.as_ref());
    let schema = declared.and_then(|json| Pair::parse(json).ok()).ok_or_else(|| {
        let message = format!("{} does not say in a readable schema what it takes and gives", manifest.model);
        Refusal::new(Code::OpNotOffered, message).with("whose_move", "owner")
    })?;
    let inputs = asked.body.get("inputs").and_then(serde_json::Value::as_array).into_iter().flatten();
    for (number, input) in inputs.enumerate() {
        schema
            .input
            .check(&format!("inputs[{number}]"), input)
            .map_err(|mismatch| refusal::form(format!("{} must be {}", mismatch.at, mismatch.expected), "inputs"))?;
    }
    Ok(schema)
}

pub(crate) fn model_not_found(model: &ModelId) -> Refusal {
    Refusal::new(Code::ModelNotFound, format!("this node does not serve {model}"))
        .param("model")
        .with("whose_move", "caller")
}

/// An owner may withdraw a model, and never re-price or exchange it under a token.
fn offered(manifest: &Verified<Manifest>, scope: &Scope, op: Op) -> Result<(), Refusal> {
    let withdrawn = |why: String| Refusal::new(Code::Withdrawn, why).with("whose_move", "caller");
    if manifest.status.state == ModelState::Withdrawn {
        return Err(withdrawn(format!("{} was withdrawn by its owner", manifest.model)));
    }
    if manifest.release.digest() != scope.release {
        return Err(withdrawn(format!("the release of {} that the token pins is served no more", manifest.model)));
    }
    if manifest.op(op).is_none() {
        let message = format!("{} does not offer {op}", manifest.model);
        return Err(Refusal::new(Code::OpNotOffered, message).with("whose_move", "nobody"));
    }
    Ok(())
}

fn allow(
    inner: &Inner,
    authenticated: &Authenticated,
    policy: &Policy,
    (model, op): (&ModelId, Op),
    run: Option<&Run>,
) -> Result<Allowed, Refusal> {
    let capability = &authenticated.capability;
    let terms = &capability.token().terms;
    let grants = inner.grants.of(&capability.token().subject, &terms.grants, &*inner.directory, authenticated.now);
    let grants: Vec<&Grant> = grants.iter().map(|grant| grant.object()).collect();
    let plans = inner.plans.of(grants.iter().copied());
    let plans: Vec<(Digest, &Plan)> = plans.iter().map(|(digest, plan)| (*digest, &**plan)).collect();
    let agreed = inner.agreements.of(&capability.token().subject);
    let ask = Ask {
        model,
        op,
        vetting: terms.vetting,
        purposes: &terms.purposes,
        grants: &grants,
        plans: &plans,
        run,
        agreed: &agreed,
        delegated: capability.is_delegated(),
        now: authenticated.now,
    };
    match decide(policy, &ask) {
        Decision::Allow(mut allowed) => {
            inner.passing.soften(&capability.token().subject, authenticated.now, &mut allowed.tier_rule);
            Ok(*allowed)
        }
        Decision::Refuse(missing) => Err(refusal::missing(&missing, authenticated.now)),
    }
}

/// Fields that shape how the answer is drawn, not what it is.
const ADVICE: &[&str] = &["temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"];

/// What the upstream was found not to take never reaches it: advice is dropped and named, what the caller counts on is
/// refused.
fn untaken(asked: &mut Asked, served: &Served) -> Result<(), Refusal> {
    for name in &served.fields_refused {
        if !asked.body.contains_key(name) {
            continue;
        }
        if !ADVICE.contains(&name.as_str()) {
            let message = format!("the server of {} does not take '{name}'", asked.model);
            return Err(Refusal::new(Code::OpNotOffered, message).param(name).with("whose_move", "nobody"));
        }
        asked.body.shift_remove(name);
        asked.ignored.push(name.clone());
    }
    Ok(())
}

fn price_of(
    authenticated: &Authenticated,
    asked: &Asked,
    (rule, tier_max): (&OpRule, Amount),
    manifest: &Manifest,
    (scope, tariff): (&Scope, &Tariff),
    (bounds, planned): (&[Bound], Option<u64>),
) -> Result<Priced, Refusal> {
    let authority = authenticated.request.authority();
    let ceiling = manifest.output_tokens_max.unwrap_or(u32::MAX).min(rule.output_tokens_max);
    let choices = asked.prompts().checked_mul(asked.generated);
    let mut demand = Demand {
        op: asked.priced_op(),
        input_bytes: authenticated.body.len() as u64,
        choices: choices.ok_or_else(|| refusal::form("too many choices", "n"))?,
        output_tokens: u64::from(ceiling),
    };
    let op_max = rule.charge_max;
    let mut caps =
        Caps { signed: authority.max_charge, window: authenticated.capability.token().terms.window, policy: op_max };
    if asked.limit == Limit::None {
        // Without a limit of the caller's own, the owner's ceiling on one call counts too, and no more is said than its
        // windows of tokens can take.
        let tier_max = Some(tier_max).filter(|max| !max.is_zero());
        caps.policy = [op_max, tier_max].into_iter().flatten().min();
        let room = bounds.iter().flat_map(|bound| &bound.windows).filter_map(|window| window.tokens).min();
        if let (Some(room), Some(input)) = (room, tariff.worst_meters(&Demand { output_tokens: 0, ..demand })) {
            let room = room.saturating_sub(input.get(Meter::InputTokens)) / demand.choices.max(1);
            demand.output_tokens = demand.output_tokens.min(room);
        }
        if let Some(planned) = planned {
            demand.output_tokens = demand.output_tokens.min(planned / demand.choices.max(1));
        }
    }
    price(tariff, (scope.tariff, authority.tariff), demand, asked.limit, caps)
        .map_err(|refused| refusal::refused(&refused))
}

//! Quotes: pins the tariff and release that an owner publishes for a model, for a node that serves it.
//!
//! Pure over the directory. Whether the project may use the model is the owner's to decide, at the door.

use comity_token::Directory;
use comity_wire::api::clearing::{QuoteModel, QuoteRequest};
use comity_wire::cbor::{Encode as _, List};
use comity_wire::object::{
    Demand, ModelState, NodeCertificate, OpRule, Policy, Quote, RevokedKind, Scope, Tariff, TierRule, Vetting,
};
use comity_wire::{Amount, Digest, OrgId, QuoteId, Timestamp, Verified};

use crate::config::Config;
use crate::failure::Failure;

/// The most models that one token has.
pub const MODELS_MAX: usize = 8;

/// A quote to be signed, and what it rests on.
pub struct Draft {
    pub quote: Quote,
    pub certificate: Verified<NodeCertificate>,
    pub tariffs: Vec<Verified<Tariff>>,
}

/// # Errors
/// [`Failure`] naming the model, op or node that cannot be quoted.
pub fn draft(
    request: &QuoteRequest,
    vetting: Vetting,
    directory: &dyn Directory,
    config: &Config,
    now: Timestamp,
) -> Result<Draft, Failure> {
    let certificate = certificate(request.node, directory, config.org, now)?;
    if request.models.is_empty() || request.models.len() > MODELS_MAX {
        return Err(Failure::invalid(format!("a quote is for 1 to {MODELS_MAX} models")));
    }
    let mut pinned = Vec::with_capacity(request.models.len());
    for ask in &request.models {
        pinned.push(pin(ask, request, vetting, directory)?);
    }
    pinned.sort_by(|a, b| a.scope.model.cmp(&b.scope.model));
    if pinned.windows(2).any(|pair| pair[0].scope.model == pair[1].scope.model) {
        return Err(Failure::invalid("a quote names each model once"));
    }
    let window = pinned.iter().map(|pin| pin.window).min().expect("at least one model");
    if let Some(pin) = pinned.iter().find(|pin| pin.single > window) {
        // Such a call could never be admitted (rule 6): better told now than after the escrow.
        let what = "the owner's policy allows calls that its window can never admit, for a single call";
        return Err(Failure::Limit { what, max: format!("{window} (it allows {})", pin.single) });
    }
    let lanes_max = pinned.iter().map(|pin| pin.lanes_max).min().unwrap_or(1).min(config.lanes_max).max(1);
    let scope: Vec<_> = pinned.iter().map(|pin| pin.scope.clone()).collect();
    let expires_at = now.plus(config.quote_valid_s).min(certificate.not_after);
    let mut quote = Quote {
        id: QuoteId([0; 16]),
        issuer: config.org,
        project: request.project,
        node: request.node,
        scope: List::new(scope).map_err(Failure::invalid)?,
        window,
        lanes_max,
        longest_op_s: config.longest_op_s,
        issued_at: now,
        expires_at,
    };
    quote.id = id(&quote);
    Ok(Draft { quote, certificate, tariffs: pinned.into_iter().map(|pin| pin.tariff).collect() })
}

/// The certificate of a node that work may be brought to now.
///
/// # Errors
/// [`Failure`] where there is none in date, or its node or organisation is revoked.
pub fn certificate(
    node: comity_wire::NodeId,
    directory: &dyn Directory,
    house: OrgId,
    now: Timestamp,
) -> Result<Verified<NodeCertificate>, Failure> {
    let roster = directory.roster();
    if now >= roster.expires_at {
        return Err(Failure::RosterExpired { at: roster.expires_at });
    }
    let missing = || Failure::NotFound { what: format!("node {node} with a certificate in date") };
    let certificate = directory.certificate(node).filter(|found| found.is_valid_at(now)).ok_or_else(missing)?;
    if roster.organisation(certificate.org).is_none() {
        return Err(missing());
    }
    let revoked = directory.standing(house).is_some_and(|list| {
        list.contains(RevokedKind::Node, &node.to_string())
            || list.contains(RevokedKind::Organisation, &certificate.org.to_string())
    });
    if revoked { Err(Failure::Revoked) } else { Ok(certificate) }
}

/// One model with what its owner publishes for it.
struct Pin {
    scope: Scope,
    tariff: Verified<Tariff>,
    window: Amount,
    lanes_max: u16,
    /// The worst single call that the policy lets through, as far as it can be computed.
    single: Amount,
}

fn pin(ask: &QuoteModel, request: &QuoteRequest, vetting: Vetting, directory: &dyn Directory) -> Result<Pin, Failure> {
    let QuoteModel { model, ops } = ask;
    let not_found = || Failure::ModelNotFound { model: model.clone(), node: request.node };
    let summary = directory.summary(model).filter(|found| found.nodes.contains(&request.node)).ok_or_else(not_found)?;
    if summary.state == ModelState::Withdrawn {
        return Err(Failure::Withdrawn { model: model.clone() });
    }
    let behind = |what| Failure::DirectoryBehind { what, model: model.clone() };
    let tariff = directory.tariff(&summary.tariff).ok_or_else(|| behind("the tariff"))?;
    let policy = directory.policy(model).ok_or_else(|| behind("the policy"))?;
    let mut ops = ops.clone();
    ops.sort_unstable();
    ops.dedup();
    if ops.is_empty() {
        return Err(Failure::invalid(format!("name an op of {model}, such as 'chat'")));
    }
    let (mut window, mut lanes_max, mut single) = (Amount::MAX, u16::MAX, Amount::ZERO);
    for op in &ops {
        let not_offered = || Failure::OpNotOffered { model: model.clone(), op: *op };
        if !summary.ops.iter().any(|row| row.op == *op) || tariff.price(*op).is_none() {
            return Err(not_offered());
        }
        let (tier, rule) = likely_rule(&policy, *op, vetting).ok_or_else(not_offered)?;
        window = window.min(tier.window_max);
        lanes_max = lanes_max.min(tier.lanes_max);
        single = single.max(worst_single(&tariff, rule).unwrap_or(Amount::MAX).min(tier.charge_max));
    }
    let scope = Scope {
        model: model.clone(),
        release: summary.release,
        ops: List::new(ops).map_err(Failure::invalid)?,
        tariff: summary.tariff,
    };
    Ok(Pin { scope, tariff, window, lanes_max, single })
}

/// The rule under which the owner will likely take the call: the highest tier that the vetting opens, one without a
/// grant if there is any. The owner decides at the door, and may always let less stand.
fn likely_rule(policy: &Policy, op: comity_wire::Op, vetting: Vetting) -> Option<(&TierRule, &OpRule)> {
    let rows = || policy.rules_of(op).filter_map(|rule| policy.tier(rule.tier).map(|tier| (tier, rule)));
    let open = rows().filter(|(tier, _)| tier.vetting <= vetting && !tier.grant).last();
    open.or_else(|| rows().filter(|(tier, _)| tier.vetting <= vetting).last()).or_else(|| rows().next())
}

fn worst_single(tariff: &Tariff, rule: &OpRule) -> Option<Amount> {
    let demand = Demand {
        op: rule.op,
        input_bytes: rule.input_bytes_max.into(),
        choices: u64::from(rule.choices_max).max(1),
        output_tokens: rule.output_tokens_max.into(),
    };
    tariff.worst_case(&demand).ok()
}

/// What is quoted names the quote: the same in the same second is the same quote.
fn id(quote: &Quote) -> QuoteId {
    let digest = Digest::of_parts(&[b"comity/clearing/quote/v1", &quote.to_cbor()]);
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_bytes()[..16]);
    QuoteId(id)
}

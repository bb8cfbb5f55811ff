//! The node's own routes under `/comity/v1/`: signed by holders, tag `comity-api-v1`.

pub(crate) mod agreements;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use bytes::Bytes;
use comity_http::{Refusal, body};
use comity_token::{ApiCaller, Capability, Directory as _, mint, verify_api, verify_receipt};
use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::node::{
    AcknowledgeReply, AcknowledgeRequest, Approval, FinalAnswer, FinalAsk, LaneStatus, LanesReply, NodeReply,
    OwnTokenReply, OwnTokenRequest, PlansReply, ReceiptReply, RunOp, RunStatus,
};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{
    Acknowledgement, Chain, Confirmation, Grant, IdText, ModelState, RevokedKind, Run, Scope, Terms, Token, Vetting,
};
use comity_wire::{Amount, Code, Digest, ModelId, Signed, TokenId, Verified};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::acknowledge::prove;
use crate::claims;
use crate::gateway::{Gateway, Inner};
use crate::phase::authenticate::chain_header;
use crate::phase::authorise::model_not_found;
use crate::plans::begun;
use crate::refusal;
use crate::spend::{Change, LaneKey, Outcome, Refused, RunKey, RunRow, Slot};
use crate::writer::WriteError;

const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a final waits for requests under way; after it the caller asks again.
const FINAL_WAIT: Duration = Duration::from_secs(20);
const FINAL_LOOK: Duration = Duration::from_millis(25);

async fn read(request: Request) -> Result<(Parts, Bytes), Refusal> {
    let (parts, stream) = request.into_parts();
    let bytes = body::read(&parts.headers, stream, body::Limit::bytes(BODY_BYTES_MAX)).await?;
    Ok((parts, bytes))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|error| refusal::form(format!("the body is not what this route takes: {error}"), "body"))
}

fn caller(inner: &Inner, parts: &Parts, bytes: &[u8]) -> Result<ApiCaller, Refusal> {
    let now = inner.now();
    let query = parts.uri.query().unwrap_or("");
    let called = verify_api(parts.method.as_str(), parts.uri.path(), query, &parts.headers, bytes, now);
    called.map_err(|denied| refusal::denied(&denied, now))
}

/// A query as it was asked; axum's own refusal has neither code nor form.
fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    query.map(|Query(query)| query).map_err(|rejection| refusal::form(rejection.body_text(), "query"))
}

fn not_yours(what: &str) -> Refusal {
    Refusal::new(Code::NotYours, format!("the key that signed this call does not hold {what}"))
        .with("whose_move", "caller")
}

fn signed(bytes: &[u8]) -> SignedBytes {
    SignedBytes::new(bytes).expect("signed objects are smaller than what carries them")
}

/// `POST /comity/v1/tokens`: a budget-0 token of this organisation for its own node (rule 9).
pub(crate) async fn token(State(gateway): State<Gateway>, request: Request) -> Result<Json<OwnTokenReply>, Refusal> {
    let inner = &*gateway.0;
    let (parts, bytes) = read(request).await?;
    let called = caller(inner, &parts, &bytes)?;
    let asked: OwnTokenRequest = json(&bytes)?;
    let Some(issuer) = &inner.own_issuer else {
        return Err(Refusal::new(
            Code::NotFound,
            "this node issues no tokens of its own; buy one from the clearing house",
        ));
    };
    if called.key != asked.holder {
        return Err(not_yours("the key that the token would name"));
    }
    let now = inner.now();
    let mut models: Vec<ModelId> =
        if asked.models.is_empty() { inner.served().keys().cloned().collect() } else { asked.models };
    models.sort();
    models.dedup();
    let scope: Vec<Scope> = models.iter().map(|model| own_scope(inner, model)).collect::<Result<_, _>>()?;
    let scope = List::new(scope).map_err(|_| refusal::form("a token names at most 8 models", "models"))?;
    if scope.is_empty() {
        return Err(refusal::form("this node serves no model", "models"));
    }
    let valid_s = u64::from(asked.valid_s.min(inner.config.own_token_s_max).max(60));
    let expires_at = now.plus(valid_s.min(Token::VALID_S_MAX));
    let token = Token {
        issuer: IdText(inner.org),
        subject: Text::new(asked.holder.thumbprint().to_string()).expect("64 hex digits"),
        audience: IdText(inner.node),
        expires_at,
        not_before: now,
        issued_at: now,
        id: TokenId((inner.entropy)()),
        holder: Confirmation(asked.holder),
        terms: Terms {
            roster_version: inner.directory.roster().version,
            scope,
            budget: Amount::ZERO,
            vetting: Vetting::None,
            purposes: List::default(),
            window: Amount::ZERO,
            lanes_max: inner.config.own_token_lanes.clamp(1, Token::LANES_MAX),
            longest_op_s: 600,
            settle_by: expires_at.plus(600 + Token::SETTLE_S_MIN),
            depth: 0,
            grants: List::default(),
        },
    };
    Ok(Json(OwnTokenReply { token: signed(mint(token, issuer).bytes()) }))
}

fn own_scope(inner: &Inner, model: &ModelId) -> Result<Scope, Refusal> {
    let manifest = inner
        .served()
        .get(model)
        .and_then(|_| inner.directory.manifest(model))
        .ok_or_else(|| model_not_found(model))?;
    if manifest.status.state == ModelState::Withdrawn {
        return Err(Refusal::new(Code::Withdrawn, format!("{model} was withdrawn by its owner")));
    }
    let tariff = manifest.ops.first().map(|row| row.tariff).ok_or_else(|| model_not_found(model))?;
    let ops = manifest.ops.iter().filter(|row| row.tariff == tariff).map(|row| row.op).collect();
    let ops = List::new(ops).expect("a manifest has at most 16 ops");
    Ok(Scope { model: model.clone(), release: manifest.release.digest(), ops, tariff })
}

/// `POST /comity/v1/acknowledgements`: taken on an empty budget, after expiry and while draining, until `settle_by`.
pub(crate) async fn acknowledge(
    State(gateway): State<Gateway>,
    request: Request,
) -> Result<Json<AcknowledgeReply>, Refusal> {
    let inner = &*gateway.0;
    let (_, bytes) = read(request).await?;
    let asked: AcknowledgeRequest = json(&bytes)?;
    let decoded = Signed::<Acknowledgement>::decode(&asked.acknowledgement);
    let token = decoded.map_err(|error| refusal::denied(&error.into(), inner.now()))?.unverified().token;
    let chains = inner.chains_of(token).await?;
    let Some(first) = chains.first() else { return Err(token_unknown()) };
    let settle_by = first.token().terms.settle_by;
    if !first.token().terms.budget.is_zero() && inner.now() > settle_by {
        return Err(Refusal::new(Code::Expired, format!("acknowledgements were taken until {settle_by}")));
    }
    let root = first.token().id();
    let proof = prove(inner, &asked.acknowledgement, &chains).await?;
    match inner.ledger.change(token, root, Change::Acknowledge { token, proof }).await {
        Ok(Outcome::Acknowledged { lanes }) => Ok(Json(AcknowledgeReply { token, lanes })),
        Ok(_) => Err(Refusal::new(Code::Internal, "an acknowledgement came to something else")),
        Err(error) => Err(refusal::write(&error)),
    }
}

fn token_unknown() -> Refusal {
    Refusal::new(Code::TokenUnknown, "this node does not hold that token; send it in header comity-token")
}

#[derive(serde::Deserialize)]
pub(crate) struct SlotQuery {
    token: TokenId,
    leaf: Digest,
    lane: u16,
    seq: u64,
    #[serde(default)]
    item: u32,
}

/// `GET /comity/v1/receipts?token&leaf&lane&seq`. Where it says that nothing was charged, nothing that was signed by then is.
pub(crate) async fn receipt(
    State(gateway): State<Gateway>,
    query: Result<Query<SlotQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<ReceiptReply>, Refusal> {
    let inner = &*gateway.0;
    let query = asked(query)?;
    if query.seq == 0 || i64::try_from(query.seq).is_err() {
        return Err(refusal::form("seq is a number from 1 to 2^63-1", "seq"));
    }
    let (parts, bytes) = read(request).await?;
    let called = caller(inner, &parts, &bytes)?;
    let (key, slot) = (LaneKey { leaf: query.leaf, lane: query.lane }, Slot { seq: query.seq, item: query.item });
    // In this order: a request that ends in between is found in the store, and its chain after it.
    let is_here = inner.arrived.has(query.token, key, slot);
    let is_open =
        is_here || inner.ledger.is_open(query.token, key, slot).await.map_err(|error| refusal::store(&error))?;
    let found = inner.ledger.store().charge(query.token, key, slot).await.map_err(|error| refusal::store(&error))?;
    let seen = inner.chains_of(query.token).await?.into_iter().find(|chain| chain.leaf() == query.leaf);
    let chain = match seen {
        Some(chain) => Some(chain),
        // Chains are kept with their first charge: under one that is not here nothing was charged yet.
        None => {
            sent_along(inner, &parts)?.filter(|chain| (chain.token().id, chain.leaf()) == (query.token, query.leaf))
        }
    };
    let chain = match chain {
        Some(chain) if chain.keys().contains(&&called.key) => chain,
        None if found.is_none() && !is_open => return Err(token_unknown()),
        // Under way at another gateway, or held by one that died: its chain comes with its charge, and until then nobody
        // can say whose it is.
        None if found.is_none() => return Err(refusal::refused(&Refused::InFlight { seq: query.seq })),
        _ => return Err(not_yours("that lane")),
    };
    let found = match found {
        Some(found) => Some(found),
        None if is_open => return Err(refusal::refused(&Refused::InFlight { seq: query.seq })),
        // The promise is the holder's: what others on the path ask says how things stand, by clocks that are not its.
        None if *chain.holder() != called.key => None,
        None => {
            let (token, created, at) = (query.token, called.created, inner.now());
            let change = Change::Asked { token, key, slot, created, at };
            inner.ledger.change(token, chain.token().id(), change).await.map_err(|error| refusal::write(&error))?;
            // A request that came and ended in between.
            inner.ledger.store().charge(token, key, slot).await.map_err(|error| refusal::store(&error))?
        }
    };
    let found = found.ok_or_else(|| Refusal::new(Code::NotFound, "nothing was charged for that seq"))?;
    Ok(Json(ReceiptReply { receipt: signed(&found.receipt) }))
}

/// The chain in the headers, which may have expired.
fn sent_along(inner: &Inner, parts: &Parts) -> Result<Option<Arc<Capability>>, Refusal> {
    let Some(bytes) = chain_header(&parts.headers)? else { return Ok(None) };
    let chain = comity_token::verify_for_settlement(&bytes, &*inner.directory, inner.node);
    chain.map(|chain| Some(Arc::new(chain))).map_err(|denied| refusal::denied(&denied, inner.now()))
}

/// `POST /comity/v1/receipts`: shows this node a receipt of its own. One that it has lost ends the token here (rule 9).
pub(crate) async fn shown(State(gateway): State<Gateway>, request: Request) -> Result<Json<ReceiptReply>, Refusal> {
    let inner = &*gateway.0;
    let (_, bytes) = read(request).await?;
    let asked: ReceiptReply = json(&bytes)?;
    let certificate =
        inner.directory.certificate(inner.node).ok_or_else(|| Refusal::new(Code::Internal, "no certificate"))?;
    let receipt =
        verify_receipt(&asked.receipt, &certificate).map_err(|denied| refusal::denied(&denied, inner.now()))?;
    let key = LaneKey { leaf: receipt.leaf, lane: receipt.lane };
    let stored = inner
        .ledger
        .store()
        .charge_by_n(receipt.token, key, receipt.n)
        .await
        .map_err(|error| refusal::store(&error))?;
    if stored.is_some_and(|stored| stored.charged.receipt == receipt.id()) {
        return Ok(Json(asked));
    }
    let chains = inner.chains_of(receipt.token).await?;
    // The token's own content id is not in a receipt; where the chain was lost too, its leaf stands for it.
    let root = chains.first().map_or(receipt.leaf, |chain| chain.token().id());
    let change = Change::Supersede { token: receipt.token, at: root };
    inner.ledger.change(receipt.token, root, change).await.map_err(|error| refusal::write(&error))?;
    Err(refusal::refused(&Refused::Superseded))
}

/// `POST /comity/v1/finals`, signed by the root holder, or by whoever shows a token that is revoked: closed first, then waited for, then signed.
pub(crate) async fn final_(State(gateway): State<Gateway>, request: Request) -> Result<Json<FinalAnswer>, Refusal> {
    let inner = &*gateway.0;
    let (parts, bytes) = read(request).await?;
    let called = caller(inner, &parts, &bytes)?;
    let asked: FinalAsk = json(&bytes)?;
    let chain = root_chain(inner, &parts, asked.token).await?;
    if *chain.root_holder() != called.key && !is_revoked_and_shown(inner, &parts, &chain)? {
        return Err(not_yours("the token"));
    }
    let root = chain.token().id();
    let close = Change::Close { token: asked.token, leaf: chain.leaf(), chain: chain.chain_bytes().into() };
    inner.ledger.change(asked.token, root, close).await.map_err(|error| refusal::write(&error))?;
    inner.fail("final.after_closed");
    let sign = async {
        loop {
            let change = Change::Final { token: asked.token, at: inner.now() };
            match inner.ledger.change(asked.token, root, change).await {
                Err(WriteError::Refused(Refused::StillOpen)) => tokio::time::sleep(FINAL_LOOK).await,
                other => return other,
            }
        }
    };
    let signed_final = match tokio::time::timeout(FINAL_WAIT, sign).await {
        Ok(Ok(Outcome::Final(bytes))) => bytes,
        Ok(Ok(_)) => return Err(Refusal::new(Code::Internal, "a final came to something else")),
        Ok(Err(error)) => return Err(refusal::write(&error)),
        Err(_) => return Err(refusal::refused(&Refused::StillOpen)),
    };
    let delivered = claims::settle(inner, asked.token).await;
    if !delivered {
        inner.claim_now.notify_one();
    }
    Ok(Json(FinalAnswer { final_: signed(&signed_final), delivered }))
}

/// Whether the token is on its issuer's list, and the caller has its bytes. Its holder key may be in other hands or lost; ending it takes
/// nothing from anybody, and sends home what was not charged (spec/07-settlement.md §7.4).
fn is_revoked_and_shown(inner: &Inner, parts: &Parts, chain: &Capability) -> Result<bool, Refusal> {
    let Some(bytes) = chain_header(&parts.headers)? else { return Ok(false) };
    let token = chain.token();
    let shown = Chain::from_bytes(&bytes).is_ok_and(|shown| shown.token == token.bytes());
    let list = inner.directory.standing(token.issuer());
    Ok(shown && list.is_some_and(|list| list.contains(RevokedKind::Token, &token.id.to_string())))
}

/// A chain of the token: one that was seen, else the one that is sent along (a token that was never used has none here).
async fn root_chain(inner: &Inner, parts: &Parts, token: TokenId) -> Result<Arc<Capability>, Refusal> {
    if let Some(chain) = inner.chains_of(token).await?.into_iter().next() {
        return Ok(chain);
    }
    let chain = sent_along(inner, parts)?.ok_or_else(token_unknown)?;
    if chain.token().id == token { Ok(chain) } else { Err(token_unknown()) }
}

/// A chain of the token on whose path the caller is: of those that were seen, else the one that is sent along.
async fn chain_of(
    inner: &Inner,
    parts: &Parts,
    token: TokenId,
    called: &ApiCaller,
) -> Result<Arc<Capability>, Refusal> {
    let seen = inner.chains_of(token).await?;
    if let Some(chain) = seen.iter().find(|chain| chain.keys().contains(&&called.key)) {
        return Ok(Arc::clone(chain));
    }
    let Some(chain) = sent_along(inner, parts)? else {
        return Err(if seen.is_empty() { token_unknown() } else { not_yours("the token or a block of it") });
    };
    match chain.token().id == token && chain.keys().contains(&&called.key) {
        true => Ok(chain),
        false => Err(not_yours("the token or a block of it")),
    }
}

#[derive(serde::Deserialize)]
pub(crate) struct TokenQuery {
    token: TokenId,
}

/// `GET /comity/v1/lanes?token`: how the token stands here. The root holder sees all lanes, others their own and those
/// below them.
pub(crate) async fn lanes(
    State(gateway): State<Gateway>,
    query: Result<Query<TokenQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<LanesReply>, Refusal> {
    let inner = &*gateway.0;
    let query = asked(query)?;
    let (parts, bytes) = read(request).await?;
    let called = caller(inner, &parts, &bytes)?;
    let mut chains = inner.chains_of(query.token).await?;
    if chains.is_empty()
        && let Some(bytes) = chain_header(&parts.headers)?
    {
        let chain = comity_token::verify_for_settlement(&bytes, &*inner.directory, inner.node);
        chains.push(Arc::new(chain.map_err(|denied| refusal::denied(&denied, inner.now()))?));
    }
    let Some(first) = chains.first() else { return Err(token_unknown()) };
    let root = first.token().clone();
    let seen: Vec<&Arc<Capability>> = chains.iter().filter(|chain| chain.keys().contains(&&called.key)).collect();
    if root.id != query.token || seen.is_empty() {
        return Err(not_yours("the token or a block of it"));
    }
    let account = inner.ledger.account(query.token, root.id()).await.map_err(|error| refusal::write(&error))?;
    let whole = comity_token::PathCap { id: root.id(), cap: root.terms.budget };
    let balance = inner.balance(query.token, &[whole]);
    let mut lanes = Vec::new();
    for (key, lane) in &account.lanes {
        if !seen.iter().any(|chain| chain.leaf() == key.leaf) {
            continue;
        }
        let newest = inner
            .ledger
            .store()
            .charge_by_n(query.token, *key, lane.n)
            .await
            .map_err(|error| refusal::store(&error))?;
        lanes.push(LaneStatus {
            leaf: key.leaf,
            lane: key.lane,
            n: lane.n,
            seq_highest: lane.seq_highest,
            total: lane.total,
            acknowledged: lane.acknowledged,
            receipt: newest.map(|newest| signed(&newest.receipt)),
        });
    }
    Ok(Json(LanesReply {
        token: query.token,
        charged: balance.charged,
        held: balance.reserved,
        budget: root.terms.budget,
        closed: account.closed,
        lanes,
    }))
}

/// `GET /comity/v1/plans?token`: what was approved for the token's project and would count now, whichever of it the token names.
pub(crate) async fn plans(
    State(gateway): State<Gateway>,
    query: Result<Query<TokenQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<PlansReply>, Refusal> {
    let inner = &*gateway.0;
    let query = asked(query)?;
    let (parts, bytes) = read(request).await?;
    let called = caller(inner, &parts, &bytes)?;
    let chain = chain_of(inner, &parts, query.token, &called).await?;
    let subject = chain.token().subject.as_str();
    let rows = inner.ledger.store().runs(subject).await.map_err(|error| refusal::store(&error))?;
    let now = inner.now();
    let mut plans: Vec<_> = inner
        .grants
        .approving(subject, &*inner.directory, now)
        .iter()
        .filter_map(|grant| approval(inner, grant, &rows).map(|approval| (grant.not_before, approval)))
        .collect();
    plans.sort_by_key(|(from, approval)| std::cmp::Reverse((*from, approval.grant)));
    Ok(Json(PlansReply { plans: plans.into_iter().map(|(_, approval)| approval).collect() }))
}

fn approval(inner: &Inner, grant: &Verified<Grant>, rows: &[(RunKey, RunRow)]) -> Option<Approval> {
    let digest = grant.plan?;
    let plan = inner.plans.get(&digest);
    let lasts = plan.as_ref().map_or(0, |plan| u64::from(plan.hours) * 3_600);
    let run = |(run, of): (Run, Vec<&(RunKey, RunRow)>)| {
        let begun_at = of.iter().map(|(_, row)| row.begun).min().unwrap_or_default();
        let ops = of.iter().map(|(key, row)| RunOp {
            op: key.op,
            calls: row.used.calls,
            input_tokens: row.used.input_tokens,
            output_tokens: row.used.output_tokens,
        });
        let ends_at = begun_at.plus(lasts).min(grant.not_after);
        RunStatus { run: run.to_string(), begun_at, ends_at, ops: ops.collect() }
    };
    let runs: Vec<RunStatus> = begun(rows, grant.id).into_iter().map(run).collect();
    let executions = grant.executions();
    Some(Approval {
        grant: grant.id,
        content: Verified::id(grant),
        plan: digest,
        title: plan.map(|plan| plan.title.as_str().to_owned()),
        models: grant.models.to_vec(),
        executions,
        left: executions.saturating_sub(u32::try_from(runs.len()).unwrap_or(u32::MAX)),
        not_after: grant.not_after,
        runs,
    })
}

/// `GET /comity/v1/node`.
pub(crate) async fn node(State(gateway): State<Gateway>) -> Result<Json<NodeReply>, Refusal> {
    let certificate = gateway.0.directory.certificate(gateway.0.node);
    let certificate = certificate.ok_or_else(|| Refusal::new(Code::Internal, "this node has no certificate"))?;
    Ok(Json(NodeReply { node: gateway.0.node, certificate: signed(certificate.bytes()) }))
}

/// The token of a chain, before anything is verified: to know whom to ask.
pub(crate) fn token_of(chain: &[u8]) -> Option<Token> {
    let chain = Chain::from_bytes(chain).ok()?;
    Signed::<Token>::decode(&chain.token).ok().map(|signed| signed.unverified().clone())
}

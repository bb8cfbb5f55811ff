//! Terms of use are read, and agreed to (spec/03-manifest.md §9).

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use comity_http::Refusal;
use comity_token::{Trust, verify_agreement};
use comity_wire::api::node::{Agreed, AgreementRequest, AgreementsReply, TermsReply};
use comity_wire::object::{Agreement, Chain};
use comity_wire::{Code, Digest, Signed};

use super::{TokenQuery, asked, caller, chain_of, json, not_yours, read, root_chain, signed};
use crate::gateway::{Gateway, Inner};
use crate::refusal;
use crate::store::{StoreError, agreed};

fn unknown(what: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("this owner has no terms of use {what}"))
        .hint("the policy of a model names them, and so does the refusal of a call")
}

/// `GET /comity/v1/terms/{digest}`.
pub(crate) async fn terms(
    State(gateway): State<Gateway>,
    Path(named): Path<String>,
) -> Result<Json<TermsReply>, Refusal> {
    let digest: Digest = named.parse().map_err(|_| refusal::form("a digest is 64 lower-case hex digits", "digest"))?;
    let terms = gateway.0.agreements.get(&digest).ok_or_else(|| unknown(&named))?;
    let (title, text) = (terms.title.as_str().to_owned(), terms.text.as_str().to_owned());
    Ok(Json(TermsReply { terms: digest, org: terms.org, title, text }))
}

/// `GET /comity/v1/agreements?token`.
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    query: Result<Query<TokenQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<AgreementsReply>, Refusal> {
    let inner = &*gateway.0;
    let query = asked(query)?;
    let (parts, bytes) = read(request).await?;
    let called = caller(inner, &parts, &bytes)?;
    let chain = chain_of(inner, &parts, query.token, &called).await?;
    all(inner, chain.token().subject.as_str()).await.map(Json)
}

async fn all(inner: &Inner, subject: &str) -> Result<AgreementsReply, Refusal> {
    let rows = inner.ledger.store().agreements_of(subject).await.map_err(|error| refusal::store(&error))?;
    let shown = |row: agreed::Agreed| Agreed {
        title: inner.agreements.get(&row.terms).map(|terms| terms.title.as_str().to_owned()),
        terms: row.terms,
        at: row.at,
        agreement: signed(&row.bytes),
    };
    Ok(AgreementsReply { agreements: rows.into_iter().map(shown).collect() })
}

/// `POST /comity/v1/agreements`: kept before it counts.
pub(crate) async fn agree(State(gateway): State<Gateway>, request: Request) -> Result<Json<AgreementsReply>, Refusal> {
    let inner = &*gateway.0;
    let (parts, bytes) = read(request).await?;
    let (called, now) = (caller(inner, &parts, &bytes)?, inner.now());
    let ask: AgreementRequest = json(&bytes)?;
    let denied = |denied| refusal::denied(&denied, now);
    let named = Signed::<Agreement>::decode(&ask.agreement).map_err(|error| denied(error.into()))?;
    let chain = root_chain(inner, &parts, named.unverified().token).await?;
    if *chain.root_holder() != called.key {
        return Err(not_yours("the token"));
    }
    if chain.token().issuer() == inner.org {
        let message = "a token of this node's own is nobody's in particular, and agrees for no project";
        return Err(refusal::form(message, "token").hint("draw a token from a clearing house, and agree with that one"));
    }
    // The token alone: what became of a part that its holder handed on is nothing to its own word.
    let token = Chain { token: chain.token().bytes().to_vec(), blocks: Vec::new() }.to_bytes();
    let trust = Trust { directory: &*inner.directory, node: inner.node, now };
    comity_token::verify(&token, &trust).map_err(denied)?;
    let agreement = verify_agreement(&ask.agreement, &chain, inner.org, now).map_err(denied)?;
    if inner.agreements.get(&agreement.terms).is_none() {
        return Err(unknown(&agreement.terms.to_string()));
    }
    let subject = agreement.subject.as_str().to_owned();
    // Said once more it changes nothing, and is no news to anybody.
    if inner.agreements.of(&subject).contains(&agreement.terms) {
        return all(inner, &subject).await.map(Json);
    }
    let row = agreed::Agreed {
        subject: subject.clone(),
        terms: agreement.terms,
        bytes: agreement.bytes().to_vec(),
        token: chain.token().bytes().to_vec(),
        at: agreement.at,
    };
    inner.ledger.store().agreement_put(row).await.map_err(|error| match error {
        StoreError::Refused { why } => {
            Refusal::new(Code::LimitExceeded, format!("this owner takes no more agreements: {why}"))
                .with("whose_move", "owner")
        }
        error => refusal::store(&error),
    })?;
    inner.agreements.agree(&subject, agreement.terms);
    all(inner, &subject).await.map(Json)
}

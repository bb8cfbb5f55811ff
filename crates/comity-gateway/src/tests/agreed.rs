//! Terms of use: what a tier asks for, who agrees for a project, and what is kept of it (spec/03-manifest.md F-11, F-12).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use comity_token::{Narrow, sign_agreement};
use comity_wire::api::node::{AgreementsReply, OwnTokenReply, TermsReply};
use comity_wire::cbor::Text;
use comity_wire::object::{Agreement, Chain, TermsOfUse, Token};
use comity_wire::{Digest, OrgId, SecretKey, Signed, TokenId};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::world::*;
use crate::store::{Memory, Store};

pub(super) fn terms(version: u8) -> TermsOfUse {
    TermsOfUse {
        org: LAB,
        title: Text::new(format!("Research use, version {version}")).unwrap(),
        text: Text::new("1. Nobody is harmed with what the model says.\n").unwrap(),
    }
}

fn asking() -> Setting {
    let mut setting = Setting::default();
    setting.tier.terms = Some(terms(1).digest());
    setting
}

pub(super) fn agreement(world: &World, key: &SecretKey, change: impl FnOnce(&mut Agreement)) -> Value {
    let mut agreement = Agreement {
        org: LAB,
        subject: Text::new("sub-of-the-project").unwrap(),
        terms: terms(1).digest(),
        token: TOKEN,
        at: comity_wire::Timestamp(world.clock.load(Ordering::SeqCst)),
    };
    change(&mut agreement);
    let signed = sign_agreement(&agreement, key);
    json!({"agreement": comity_wire::api::clearing::SignedBytes::new(signed.bytes()).unwrap()})
}

async fn agree(world: &World, key: &str, change: impl FnOnce(&mut Agreement)) -> String {
    let key = secret(key);
    let body = agreement(world, &key, change);
    code(world.call("POST", "/comity/v1/agreements", "", &body, &key).await).await
}

/// A world whose owner has the terms that its tier asks for.
async fn world(store: Arc<dyn Store>) -> World {
    let world = World::on(asking(), store).await;
    world.gateway.terms_put(&terms(1).to_bytes().unwrap()).await.unwrap();
    world
}

#[tokio::test]
async fn a_call_waits_for_the_projects_agreement_and_no_longer() {
    let world = world(Arc::new(Memory::default())).await;
    let chain = world.mint(|_| {});
    let (status, _, body) = read(world.send(&world.ask(&chain)).await).await;
    let error = serde_json::from_slice::<Value>(&body).unwrap()["error"].clone();
    assert_eq!((status, &error["code"], &error["whose_move"]), (403, &json!("terms_not_signed"), &json!("caller")));
    // The refusal names the text, and anybody can read it.
    assert_eq!(error["terms"], json!(terms(1).digest()));
    let path = format!("/comity/v1/terms/{}", terms(1).digest());
    let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let (_, _, body) = read(world.gateway.router().oneshot(request).await.unwrap()).await;
    let shown: TermsReply = serde_json::from_slice(&body).unwrap();
    let read =
        TermsOfUse { org: shown.org, title: Text::new(shown.title).unwrap(), text: Text::new(shown.text).unwrap() };
    assert_eq!(read.digest(), terms(1).digest());
    assert_eq!(agree(&world, "holder", |_| {}).await, "ok");
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    // It is the project's: another token of it needs no other one, another project's does.
    let next = world.mint(|token| token.id = TokenId([9; 16]));
    assert_eq!(world.code(&world.ask(&next)).await, "ok");
    let other = world.mint(|token| {
        (token.id, token.subject) = (TokenId([8; 16]), Text::new("sub-of-another").unwrap());
    });
    assert_eq!(world.code(&world.ask(&other)).await, "terms_not_signed");
}

#[tokio::test]
async fn who_may_agree_and_to_what() {
    let world = world(Arc::new(Memory::default())).await;
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "terms_not_signed");
    assert_eq!(agree(&world, "stranger", |_| {}).await, "not_yours");
    // The call is the holder's, the signature under the agreement somebody else's.
    let body = agreement(&world, &secret("stranger"), |_| {});
    let told = world.call("POST", "/comity/v1/agreements", "", &body, &secret("holder")).await;
    assert_eq!(code(told).await, "wrong_key");
    assert_eq!(agree(&world, "holder", |agreed| agreed.org = OrgId([9; 16])).await, "not_yours");
    assert_eq!(
        agree(&world, "holder", |agreed| agreed.subject = Text::new("sub-of-another").unwrap()).await,
        "not_yours"
    );
    assert_eq!(agree(&world, "holder", |agreed| agreed.token = TokenId([9; 16])).await, "token_unknown");
    assert_eq!(agree(&world, "holder", |agreed| agreed.terms = Digest([1; 32])).await, "not_found");
    assert_eq!(agree(&world, "holder", |agreed| agreed.at = NOW.minus(61)).await, "stale");
    assert_eq!(world.code(&world.ask(&chain)).await, "terms_not_signed", "none of these counted");
    world.clock.fetch_add(7_200, Ordering::SeqCst);
    assert_eq!(agree(&world, "holder", |_| {}).await, "expired");
}

/// Nobody knows whose a token of the node's own is.
#[tokio::test]
async fn a_token_that_anybody_is_given_agrees_for_nobody() {
    let world = world(Arc::new(Memory::default())).await;
    let ask = json!({"holder": secret("holder").public(), "models": ["lab/tiny"], "valid_s": 600});
    let (_, _, body) = read(world.call("POST", "/comity/v1/tokens", "", &ask, &secret("holder")).await).await;
    let reply: OwnTokenReply = serde_json::from_slice(&body).unwrap();
    let token = Signed::<Token>::decode(&reply.token).unwrap().unverified().clone();
    let chain = Chain { token: reply.token.to_vec(), blocks: Vec::new() }.to_bytes();
    let mut ask = world.ask(&chain);
    ask.max = comity_wire::Amount::ZERO;
    assert_eq!(world.code(&ask).await, "terms_not_signed");
    let named = |agreed: &mut Agreement| (agreed.subject, agreed.token) = (token.subject.clone(), token.id);
    assert_eq!(agree(&world, "holder", named).await, "invalid_request");
}

#[tokio::test]
async fn what_was_agreed_to_outlives_the_process_with_its_proof() {
    let store = Memory::default();
    let first = world(Arc::new(store.clone())).await;
    let chain = first.mint(|_| {});
    assert_eq!(first.code(&first.ask(&chain)).await, "terms_not_signed");
    assert_eq!(agree(&first, "holder", |_| {}).await, "ok");
    // Twice is once: what was said first stands.
    first.clock.fetch_add(30, Ordering::SeqCst);
    assert_eq!(agree(&first, "holder", |_| {}).await, "ok");
    first.gateway.stop();
    first.gateway.drained().await;
    drop(first);
    let second = World::on(asking(), Arc::new(store)).await;
    assert_eq!(second.code(&second.ask(&chain)).await, "ok");
    let query = format!("token={TOKEN}");
    let told = second.call("GET", "/comity/v1/agreements", &query, &Value::Null, &secret("holder")).await;
    let (_, _, body) = read(told).await;
    let reply: AgreementsReply = serde_json::from_slice(&body).unwrap();
    let [agreed] = &reply.agreements[..] else { panic!("{reply:?}") };
    assert_eq!((agreed.terms, agreed.at), (terms(1).digest(), NOW));
    assert_eq!(agreed.title.as_deref(), Some("Research use, version 1"));
    let signed = Signed::<Agreement>::decode(&agreed.agreement).unwrap().verify(&secret("holder").public()).unwrap();
    assert_eq!(signed.subject.as_str(), "sub-of-the-project");
    // The token that names the key is kept beside it, as its house signed it.
    let kept = second.gateway.agreements_of("sub-of-the-project").await.unwrap();
    let token = Signed::<Token>::decode(&kept[0].token).unwrap().verify(&secret("house issuer").public()).unwrap();
    assert_eq!((token.id, token.holder.0), (TOKEN, secret("holder").public()));
}

/// A part of the token for a student, for ten minutes.
fn handed_on(chain: &[u8]) -> Vec<u8> {
    let narrow = Narrow {
        cap: comity_wire::Amount::from_ucr(100_000),
        expires_at: NOW.plus(600),
        lanes: 1,
        depth: 0,
        models: Vec::new(),
        ops: Vec::new(),
        next: secret("student").public(),
    };
    comity_token::delegate(chain, &secret("holder"), narrow).unwrap()
}

/// What became of a part of the token that its holder handed on is nothing to the holder's own word.
#[tokio::test]
async fn a_holder_agrees_after_a_part_of_the_token_has_ended() {
    let world = world(Arc::new(Memory::default())).await;
    let chain = world.mint(|token| token.terms.depth = 1);
    let student = handed_on(&chain);
    let mut ask = world.ask(&student);
    ask.key = secret("student");
    assert_eq!(world.code(&ask).await, "terms_not_signed");
    world.clock.fetch_add(700, Ordering::SeqCst);
    // The node knows no chain of the token but the one that has ended.
    assert_eq!(agree(&world, "holder", |_| {}).await, "ok");
}

/// Whoever holds a part of the token reads what its project agreed to, whosever chain the node saw first; and agrees to nothing.
#[tokio::test]
async fn a_delegate_reads_what_was_agreed_to_and_does_not_agree() {
    let world = world(Arc::new(Memory::default())).await;
    let chain = world.mint(|token| token.terms.depth = 1);
    assert_eq!(world.code(&world.ask(&chain)).await, "terms_not_signed");
    let student = handed_on(&chain);
    let asks = |seq| {
        let mut ask = world.ask(&student).seq(seq);
        ask.key = secret("student");
        ask
    };
    assert_eq!(world.code(&asks(1)).await, "terms_not_signed");
    assert_eq!(agree(&world, "student", |_| {}).await, "not_yours");
    assert_eq!(agree(&world, "holder", |_| {}).await, "ok");
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    assert_eq!(world.code(&asks(1)).await, "ok", "it is the project's agreement");
    let query = format!("token={TOKEN}");
    for (who, said) in [("holder", "ok"), ("student", "ok"), ("stranger", "not_yours")] {
        let told = world.call("GET", "/comity/v1/agreements", &query, &Value::Null, &secret(who)).await;
        assert_eq!(code(told).await, said, "{who}");
        let told = world.call("GET", "/comity/v1/plans", &query, &Value::Null, &secret(who)).await;
        assert_eq!(code(told).await, said, "{who}");
    }
}

#[tokio::test]
async fn until_their_day_the_terms_before_are_enough() {
    let mut setting = asking();
    setting.tier.terms = Some(terms(2).digest());
    setting.tier.terms_before = Some(terms(1).digest());
    setting.tier.terms_from = Some(NOW.plus(1_000));
    let world = World::on(setting, Arc::new(Memory::default())).await;
    for version in [1, 2] {
        world.gateway.terms_put(&terms(version).to_bytes().unwrap()).await.unwrap();
    }
    let chain = world.mint(|_| {});
    assert_eq!(world.code(&world.ask(&chain)).await, "terms_not_signed");
    assert_eq!(agree(&world, "holder", |_| {}).await, "ok");
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    world.clock.fetch_add(999, Ordering::SeqCst);
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "ok");
    world.clock.fetch_add(1, Ordering::SeqCst);
    assert_eq!(world.code(&world.ask(&chain).seq(3)).await, "terms_not_signed");
    assert_eq!(agree(&world, "holder", |agreed| agreed.terms = terms(2).digest()).await, "ok");
    assert_eq!(world.code(&world.ask(&chain).seq(3)).await, "ok");
}

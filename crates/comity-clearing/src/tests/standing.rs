//! The house's revocation lists: numbered, fresh, whole, and signed by whatever issuer key the house has.

use comity_wire::object::{RevocationList, RevokedKind, Token, Vetting};
use comity_wire::{Signed, TokenId};

use super::world::*;
use crate::admin::PersonVouch;

async fn the_revocation_list_starts_empty_and_stays_fresh(on: On) {
    let world = World::new(on, 1_000).await;
    let published = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&published);
    world.house.on_standing(std::sync::Arc::new(move |list| sink.lock().unwrap().push(list.number)));
    let first = world.house.standing().unwrap();
    assert_eq!((first.number, first.entries.len(), first.org), (1, 0, HOUSE));
    world.directory.insert(first.bytes()).unwrap();
    assert!(!world.house.standing_renew().await.unwrap());
    world.pass(12 * 3600).await;
    assert!(world.house.standing_renew().await.unwrap());
    let lab = world.buy(10).await;
    assert_eq!(world.house.revoke(lab.token.id).await.unwrap(), 3);
    assert_eq!(*published.lock().unwrap(), [1, 2, 3]);
    let request = http::Request::builder().uri("/comity/v1/standing").body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(world.house.router(), request).await.unwrap();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let list = Signed::<RevocationList>::decode(&bytes).unwrap().verify(&secret("issuer").public()).unwrap();
    assert!(list.contains(RevokedKind::Token, &lab.token.id.to_string()));
    world.house.revoke_node(NODE).await.unwrap();
    world.directory.insert(world.house.standing().unwrap().bytes()).unwrap();
    assert_eq!(code(&world.post("/v1/quotes", world.quote_request(), &world.member).await), "revoked");
}

/// A house that stopped after a token was revoked and before the list was made.
async fn revoked_without_a_list(on: On) -> (World, TokenId) {
    let mut world = World::new(on, 10_000).await;
    let token = world.buy(10).await.token.id;
    let stop = |point| assert_ne!(point, "revoke.after_commit", "the house stops here");
    world.restart_failing(std::sync::Arc::new(stop)).await;
    let house = world.house.clone();
    tokio::spawn(async move { house.revoke(token).await }).await.unwrap_err();
    (world, token)
}

async fn a_house_that_stopped_between_a_revocation_and_its_list_lists_it_when_it_opens(on: On) {
    let (mut world, token) = revoked_without_a_list(on).await;
    assert_eq!(world.house.standing().unwrap().number, 1, "no list was made");

    world.restart().await;
    let list = world.house.standing().unwrap();
    assert_eq!(list.number, 2);
    assert!(list.contains(RevokedKind::Token, &token.to_string()));
    world.restart().await;
    assert_eq!(world.house.standing().unwrap().number, 2, "and once is enough");
}

/// One of several replicas that stopped there is opened by nobody: the others list it at their next turn.
async fn a_revocation_without_its_list_is_listed_at_the_next_turn(on: On) {
    let (world, token) = revoked_without_a_list(on).await;
    assert!(world.house.standing_renew().await.unwrap(), "the list is new, and not whole");
    let list = world.house.standing().unwrap();
    assert!(list.number == 2 && list.contains(RevokedKind::Token, &token.to_string()));
    assert!(!world.house.standing_renew().await.unwrap(), "and once is enough");
}

async fn a_list_names_what_still_runs_and_goes_on_under_another_key(on: On) {
    let mut world = World::new(on, 10_000).await;
    let token = world.buy(10).await.token.id;
    world.house.revoke(token).await.unwrap();
    world.house.revoke_node(NODE).await.unwrap();
    world.restart_keyed("issuer 2").await;
    let list = world.house.standing().unwrap();
    assert_eq!((list.number, list.entries.len()), (4, 2), "the house opens, and numbers on");
    assert_eq!(*list.signer(), secret("issuer 2").public());
    world.pass(Token::VALID_S_MAX + 3 * comity_wire::time::SKEW_S).await;
    assert!(world.house.standing_renew().await.unwrap());
    let list = world.house.standing().unwrap();
    assert!(!list.contains(RevokedKind::Token, &token.to_string()), "it has ended by itself");
    assert!(list.contains(RevokedKind::Node, &NODE.to_string()), "a node has no end");
}

async fn a_list_that_is_full_takes_no_more_and_is_still_made_anew(on: On) {
    let world = World::new(on, 10_000).await;
    let room = RevocationList::ENTRIES_MAX as u64 - 256;
    fill(&world, 1, room).await;
    world.house.revoke(token(room)).await.unwrap();
    assert_eq!(world.house.standing().unwrap().entries.len() as u64, room);
    let refused = world.house.revoke(token(room + 1)).await.unwrap_err();
    assert_eq!(refused.code(), comity_wire::Code::LimitExceeded);
    assert!(refused.message().contains("ends by itself by 20"), "{}", refused.message());
    world.house.revoke(token(room)).await.expect("it stands there already");
    world.house.revoke_node(NODE).await.expect("there is room for what is not a token");
    world.pass(12 * 3600).await;
    assert!(world.house.standing_renew().await.unwrap());
    world.pass(Token::VALID_S_MAX).await;
    world.house.revoke(token(room + 1)).await.expect("those before have ended");
    assert_eq!(world.house.standing().unwrap().entries.len(), 2);
}

/// A computer is lost with the tokens that it drew. What has ended needs no place, and the smallest get none where there are too few.
async fn what_a_revoked_key_drew_is_stopped_as_far_as_the_list_goes(on: On) {
    let world = World::new(on, 10_000).await;
    let key = world.member.public();
    let who = PersonVouch { who: key.to_string(), vetting: Vetting::Vetted, seen: "her passport".into(), until: None };
    world.house.person_vouch(who).await.unwrap();
    world.buy(500).await;
    world.pass(Token::VALID_S_MAX).await;
    let [small, large, middle] =
        [world.buy(10).await, world.buy(30).await, world.buy(20).await].map(|lab| lab.token.id);
    let room = RevocationList::ENTRIES_MAX as u64 - 256;
    fill(&world, 1, room - 1).await;
    let stopped = world.house.key_revoke(None, key).await.unwrap();
    assert_eq!((stopped.stopped, stopped.left), (2, 1));
    let list = world.house.standing().unwrap();
    let is_on = |token: TokenId| list.entries.iter().any(|entry| entry.subject.as_str() == token.to_string());
    assert_eq!([small, large, middle].map(is_on), [false, true, true]);
    world.house.revoke_node(NODE).await.expect("there is room for what is not a token");
    world.pass(Token::VALID_S_MAX).await;
    let later = world.house.key_revoke(None, key).await.unwrap();
    assert_eq!((later.stopped, later.left), (0, 0), "a day later all have ended");
    world.sums().await;
}

/// Who may not fill the list for everybody else; and a key that is nobody's, which the operator put into a project.
async fn what_members_stop_leaves_room_for_the_operator(on: On) {
    let world = World::new(on, 10_000).await;
    let stranger = secret("stranger").public();
    assert_eq!(world.house.key_revoke(None, stranger).await.unwrap_err().code(), comity_wire::Code::NotFound);
    let key = world.member.public();
    let who = PersonVouch { who: key.to_string(), vetting: Vetting::Vetted, seen: "her passport".into(), until: None };
    world.house.person_vouch(who).await.unwrap();
    let laptop = secret("laptop").public();
    let person = world.house.persons().await.unwrap()[0].person;
    let add = crate::admin::PersonKey { person, key: laptop, reason: String::new() };
    world.house.person_key_add(add).await.unwrap();
    world.buy(10).await;
    world.buy(10).await;
    fill(&world, 1, RevocationList::ENTRIES_MAX as u64 - 256 - 1_024).await;
    let stopped = world.house.key_revoke(Some(laptop), key).await.unwrap();
    assert_eq!((stopped.stopped, stopped.left), (1, 1));
    let stopped = world.house.key_revoke(None, key).await.unwrap();
    assert_eq!((stopped.stopped, stopped.left), (2, 0));
}

async fn a_key_that_is_nobodys_ends_with_what_it_drew(on: On) {
    let world = World::new(on, 10_000).await;
    let (key, token) = (world.member.public(), world.buy(10).await.token.id);
    let stopped = world.house.key_revoke(None, key).await.unwrap();
    assert_eq!((stopped.stopped, stopped.left), (1, 0));
    assert!(world.house.standing().unwrap().contains(RevokedKind::Token, &token.to_string()));
    assert_eq!(world.count("SELECT COUNT(*) FROM member").await, 0);
    let again = crate::admin::Members {
        project: world.project,
        add: vec![key],
        remove: vec![],
        role: None,
        reason: String::new(),
    };
    assert!(world.house.members(again).await.is_err(), "it is never taken again");
}

fn token(number: u64) -> TokenId {
    TokenId([[0; 8], number.to_be_bytes()].concat().try_into().unwrap())
}

/// Tokens of these numbers are revoked.
async fn fill(world: &World, from: u64, to: u64) {
    let now = world.house.now();
    let work = world.house.write(move |conn| {
        Box::pin(async move {
            for number in from..to {
                let subject = token(number).to_string();
                crate::store::house::revocation_insert_in_tx(conn, RevokedKind::Token, &subject, now).await?;
            }
            Ok(())
        })
    });
    work.await.unwrap();
}

on_each_store! {
    what_a_revoked_key_drew_is_stopped_as_far_as_the_list_goes
    what_members_stop_leaves_room_for_the_operator
    a_key_that_is_nobodys_ends_with_what_it_drew
    a_list_that_is_full_takes_no_more_and_is_still_made_anew
    the_revocation_list_starts_empty_and_stays_fresh
    a_house_that_stopped_between_a_revocation_and_its_list_lists_it_when_it_opens
    a_revocation_without_its_list_is_listed_at_the_next_turn
    a_list_names_what_still_runs_and_goes_on_under_another_key
}

//! What a user allows the wallet, and what a wallet does where many ask at once.

use std::sync::Arc;

use comity_sdk::token::Narrow;
use comity_sdk::{Client, Error, Query};
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::{Amount, SecretKey};

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_draws_no_more_than_its_user_allows() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = federation.client("careful");
    let limits = client.profile().limits;
    let mut dear = Query::chat(lab.model(), &[("user", "Where?")], Some(8), false);
    dear.max_charge = limits.token.checked_add(Amount::from_ucr(1));
    match client.ask(&dear).await {
        Err(Error::TokenLimit { limit, needed }) => assert_eq!((limit, Some(needed)), (limits.token, dear.max_charge)),
        other => panic!("one token would hold more than it may: {other:?}"),
    }
    assert!(client.purses().await.is_empty(), "nothing was asked for");

    // Who only looks spends nothing, also where the money is there.
    let looks = Client::look(
        &federation.wallet("careful"),
        client.profile().clone(),
        Some(federation.member().clone()),
        Federation::world(),
    );
    let looks = looks.unwrap_or_else(|error| panic!("looking needs no lock: {}", chain(&error)));
    dear.max_charge = Some(Amount::from_ucr(REQUEST_UCR));
    assert!(matches!(looks.ask(&dear).await, Err(Error::LooksOnly)));
    let account = federation.books_add_up().await;
    assert_eq!((account.in_escrow, account.settled), (Amount::ZERO, Amount::ZERO));
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_below_a_tokens_usual_size_is_drawn_to_its_end_and_no_further() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let mut profile = federation.client("usual").profile().clone();
    // Two calls and a half.
    profile.limits.total = Amount::from_ucr(2 * REQUEST_UCR + REQUEST_UCR / 2);
    assert!(profile.limits.total < profile.limits.token);
    let folder = federation.wallet("small");
    std::fs::create_dir_all(&folder).expect("a wallet's folder");
    let client = Client::open(&folder, profile.clone(), Some(federation.member().clone()), Federation::world());
    let client = client.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let query = Query::chat(lab.model(), &[("user", "Where?")], Some(8), false);
    for call in 0..2 {
        client.ask(&query).await.unwrap_or_else(|error| panic!("call {call}: {}", chain(&error)));
    }
    assert_eq!(federation.books_add_up().await.awarded, comity_tests::federation::AWARD);
    match client.ask(&query).await {
        Err(Error::Limit { limit, .. }) => assert_eq!(limit, profile.limits.total),
        other => panic!("the limit leaves half of what a call costs: {other:?}"),
    }
    assert_eq!(upstream.asked(), 2);
    for purse in client.purses().await {
        client.finish(purse.token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    let account = federation.books_add_up().await;
    assert_eq!((account.settled, account.in_escrow), (Amount::from_ucr(2 * REQUEST_UCR), Amount::ZERO));
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_callers_than_lanes_wait_for_one_another() {
    const CALLERS: u32 = 8;
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let advisor = federation.client("advisor");
    let cap = Amount::from_ucr(CALLERS * REQUEST_UCR);
    let token = advisor.buy(&lab.model(), cap, 1).await.expect("a token");
    let key = SecretKey::from_seed([9; 32]);
    let narrow = Narrow {
        cap,
        expires_at: advisor.now().plus(600),
        lanes: 1,
        depth: 0,
        models: Vec::new(),
        ops: Vec::new(),
        next: key.public(),
    };
    let handed = advisor.delegate(token, narrow).await.expect("a narrower right");

    // One lane, and no way to draw another right.
    let student = Arc::new(federation.client("student"));
    student.adopt(&handed, &key, cap).await.expect("the right is taken in");
    let ask = |number: u32| {
        let (student, model) = (Arc::clone(&student), lab.model());
        tokio::spawn(async move {
            let mut query = Query::chat(model, &[("user", &format!("Question {number}"))], Some(8), false);
            query.max_charge = Some(Amount::from_ucr(REQUEST_UCR));
            student.ask(&query).await.map(|answer| answer.receipt.n)
        })
    };
    let calls: Vec<_> = (0..CALLERS).map(ask).collect();
    let mut places = Vec::new();
    for call in calls {
        places.push(call.await.expect("a call").unwrap_or_else(|error| panic!("{}", chain(&error))));
    }
    places.sort_unstable();
    assert_eq!(places, (1..=u64::from(CALLERS)).collect::<Vec<_>>(), "one after the other, in one lane");
    federation.end().await;
}

//! What was handed on of a token is whoever's it was given to until its end: the wallet that it came from does not take it back by itself.

use std::time::Duration;

use comity_sdk::client::World;
use comity_sdk::token::Narrow;
use comity_sdk::{Client, Error, Query};
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::{Amount, SecretKey};

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_idle_or_done_ends_no_token_that_others_work_under() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let advisor = federation.client("advisor");
    let ask = async |client: &Client, text: &str| {
        client.ask(&Query::chat(lab.model(), &[("user", text)], Some(8), false)).await
    };
    let first = ask(&advisor, "one").await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let token = first.receipt.token;

    // Beside the program that has the wallet, as a command would.
    let world: World = Federation::world();
    let home = federation.wallet("advisor");
    let looks = Client::look(&home, advisor.profile().clone(), None, world).expect("looking needs no lock");
    let (key, cap) = (SecretKey::from_seed([9; 32]), Amount::from_ucr(3 * REQUEST_UCR));
    let (expires_at, next) = (looks.now().plus(600), key.public());
    let narrow = Narrow { cap, expires_at, lanes: 1, depth: 0, models: Vec::new(), ops: Vec::new(), next };
    let handed = looks.delegate(token, narrow).await.expect("a narrower right");
    drop(looks);

    assert!(advisor.finish_idle(Duration::ZERO).await.is_empty(), "nobody asks here, and others may");
    match advisor.finish(token).await {
        Err(Error::HandedOn { token: told, until }) => assert!(told == token && until >= expires_at),
        other => panic!("{other:?}"),
    }
    let purse = advisor.purses().await.remove(0);
    assert!(purse.unfinished && !purse.is_due(), "{purse:?}");
    // Who opens the wallet next knows it too.
    drop(advisor);
    let advisor = federation.client("advisor");
    assert!(matches!(advisor.finish(token).await, Err(Error::HandedOn { .. })));

    let student = federation.client("student");
    student.adopt(&handed, &key, cap).await.expect("the right is taken in");
    for text in ["two", "three"] {
        let answer = ask(&student, text).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(answer.receipt.token, token, "it spends what it was given");
    }

    student.acknowledge(token).await.expect("what it was asked");

    // Its owner may take it back all the same.
    advisor.refresh().await.expect("the federation");
    let reply = advisor.take_back(token).await.unwrap_or_else(|error| panic!("{}", chain(&error))).reply;
    assert!(reply.is_some());
    let account = federation.books_add_up().await;
    assert_eq!((account.in_escrow, account.settled), (Amount::ZERO, Amount::from_ucr(3 * REQUEST_UCR)));
    // Two of the three were others'; all came out of what the advisor drew.
    assert_eq!(advisor.limits().await.drawn_ucr, account.settled);
    assert_eq!(student.limits().await.drawn_ucr, Amount::ZERO);
    federation.end().await;
}

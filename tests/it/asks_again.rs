//! A call that has a name is charged once, whoever dies; two calls that are meant are two (rules 2 and 3).

use comity_sdk::client::{Patience, Wanted};
use comity_sdk::journal::{Entry, Journal};
use comity_sdk::keys::Key;
use comity_sdk::{Client, Error, Query};
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::{Amount, ModelId};

#[tokio::test(flavor = "multi_thread")]
async fn a_named_call_is_charged_once_across_restarts_of_both_sides() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = federation.client("named");
    let first = ask(&client, &named(&client, &lab.model(), "a", "one")).await;

    // The lane goes on; the name still finds its answer, whole and streamed.
    ask(&client, &named(&client, &lab.model(), "b", "two")).await;
    let again = ask(&client, &named(&client, &lab.model(), "a", "one")).await;
    assert_eq!((again.receipt.id(), &again.body), (first.receipt.id(), &first.body));
    drop(client);
    let client = federation.client("named");
    let again = ask(&client, &named(&client, &lab.model(), "a", "one")).await;
    assert_eq!((again.receipt.id(), &again.body), (first.receipt.id(), &first.body));

    // Another request under the name is refused, before anything is signed.
    let other = client.ask(&named(&client, &lab.model(), "a", "three")).await;
    assert!(matches!(other, Err(Error::KeyConflict)), "{other:?}");

    // A node that was killed has forgotten the reply, never the charge.
    federation.service("lab").kill().await;
    federation.service("lab").restart().await;
    let gone = comity_tests::federation::eventually("the node's word", async || {
        match client.ask(&named(&client, &lab.model(), "a", "one")).await {
            Err(Error::Replayed { receipt, charge }) => Ok((receipt, charge)),
            // Its new address has to come round first.
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(gone.await, (first.receipt.id(), Amount::from_ucr(REQUEST_UCR)));

    // Equal and meant: two names, two calls.
    ask(&client, &named(&client, &lab.model(), "c", "one")).await;
    assert_eq!(upstream.asked(), 3, "the model was asked once for each name");
    finish(&client).await;
    let account = federation.books_add_up().await;
    assert_eq!(account.settled, Amount::from_ucr(3 * REQUEST_UCR));
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_under_one_name_are_one_call() {
    let upstream = Scripted::shut().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = federation.client("at-once");
    let query = named(&client, &lab.model(), "a", "one");
    let callers = futures::future::join_all((0..8).map(|_| client.ask(&query)));
    let opened = async {
        comity_tests::federation::eventually("the model was asked", async || {
            if upstream.asked() > 0 { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        upstream.open();
    };
    let (answers, ()) = futures::future::join(callers, opened).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused.code(), Some(comity_wire::Code::InFlight), "{}", chain(refused));
    }
    assert_eq!(upstream.asked(), 1);
    finish(&client).await;
    assert_eq!(federation.books_add_up().await.settled, Amount::from_ucr(REQUEST_UCR));
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_nothing_new_is_charged_for_nothing_new() {
    let upstream = Scripted::shut().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = std::sync::Arc::new(federation.client("again"));
    let only = async |client: &Client, query: &Query| {
        client.ask_patiently(query, Patience { tries_max: 1, wait_s_max: 1 }, &|| Wanted::Charged).await
    };
    let never = only(&client, &named(&client, &lab.model(), "never", "one")).await;
    assert!(matches!(never, Err(Error::Unsigned)), "{never:?}");

    // Signed, sent, and never charged: its node died with it. Its token has ended since.
    let query = named(&client, &lab.model(), "a", "one");
    let asking = tokio::spawn({
        let (client, query) = (std::sync::Arc::clone(&client), query.clone());
        async move { client.ask(&query).await }
    });
    eventually("the model was asked", async || if upstream.asked() > 0 { Ok(()) } else { Err("not yet".to_owned()) })
        .await;
    federation.service("lab").kill().await;
    asking.await.expect("a call").expect_err("its node died");
    let token = client.purses().await.first().expect("a token").token;
    drop(client);
    let (mut journal, _) = Journal::open(&Client::journal(&federation.wallet("again"))).expect("a journal");
    journal.append(&Entry::Ended { token }).expect("written");
    drop(journal);
    let client = federation.client("again");
    let away = client.ask(&query).await.expect_err("its node is away");
    assert!(matches!(away, Error::InDoubt { most, .. } if most == Amount::from_ucr(REQUEST_UCR)), "{}", chain(&away));
    federation.service("lab").restart().await;
    upstream.open();
    let said = eventually("the node's word", async || match only(&client, &query).await {
        Err(error @ Error::InDoubt { .. }) => Err(chain(&error)),
        said => Ok(said.map(|answer| answer.receipt.charge)),
    });
    let said = said.await;
    assert!(matches!(said, Err(Error::Unsigned)), "{said:?}");
    assert_eq!(upstream.asked(), 1, "what turned out new was not signed");
    ask(&client, &query).await;
    assert_eq!(upstream.asked(), 2);
    finish(&client).await;
    assert_eq!(federation.books_add_up().await.settled, Amount::from_ucr(REQUEST_UCR));
    federation.end().await;
}

fn named(client: &Client, model: &ModelId, key: &str, question: &str) -> Query {
    let key = Some(Key::of_caller(key.as_bytes(), client.now()));
    Query { key, ..Query::chat(model.clone(), &[("user", question)], Some(8), false) }
}

async fn ask(client: &Client, query: &Query) -> comity_sdk::Answer {
    client.ask(query).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

async fn finish(client: &Client) {
    for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
        client.finish(purse.token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
}

//! A wallet that dies between any two durable steps: no sale is lost, no question is paid twice, everything goes home.

use std::sync::Arc;

use comity_sdk::audit::audit;
use comity_sdk::client::World;
use comity_sdk::journal::{Entry, Journal};
use comity_sdk::token::directory::File;
use comity_sdk::{Client, Query};
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::{Amount, ModelId};

/// Where it dies, and how many answers are paid once the same question has been asked again.
const POINTS: [(&str, i64); 8] = [
    ("buy.before", 1),
    ("buy.after", 1),
    ("send.before", 1),
    ("send.after", 1),
    ("receipt.before", 1),
    // The first answer was taken in: asking again is another question.
    ("receipt.after", 2),
    ("final.before", 2),
    ("final.after", 2),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_dies_at_any_point_loses_nothing_and_pays_once() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let (mut asked, mut paid) = (0, 0);
    for (point, answers) in POINTS {
        let dying = Arc::new(federation.client_in(point, dies_at(point)));
        let died = tokio::spawn(live(Arc::clone(&dying), lab.model())).await;
        assert!(died.is_err_and(|error| error.is_panic()), "{point} was not reached");
        drop(Arc::into_inner(dying).expect("its task has ended"));

        let client = federation.client(point);
        let unknown = client.reconcile().await;
        assert!(unknown.is_empty(), "{point}: {unknown:?}");
        let answer =
            client.ask(&question(&lab.model())).await.unwrap_or_else(|error| panic!("{point}: {}", chain(&error)));
        assert_eq!(answer.text().as_deref(), Some(comity_tests::upstream::ANSWER), "{point}");
        for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
            client.finish(purse.token).await.unwrap_or_else(|error| panic!("{point}: {}", chain(&error)));
        }
        asked += answers;
        paid += answers * i64::from(REQUEST_UCR);
        let account = federation.books_add_up().await;
        assert_eq!(account.settled.ucr(), paid, "{point}");
        assert_eq!(account.in_escrow, Amount::ZERO, "{point}");
        assert_eq!(
            i64::try_from(upstream.asked()),
            Ok(asked),
            "{point}: the model was asked once for each that was paid"
        );
        let entries = Journal::read(&Client::journal(&federation.wallet(point))).expect("a journal");
        let report = audit(&entries, client.directory()).expect("a journal that follows from itself");
        assert_eq!((report.verified, report.failures), (answers.unsigned_abs(), Vec::new()), "{point}");
        assert_eq!(one_found(entries, client.directory()), 1, "{point}: a receipt for more bytes than were sent");
        let spent = Amount::sum(client.purses().await.iter().map(|purse| purse.spent));
        assert_eq!(spent.map(Amount::ucr), Some(answers * i64::from(REQUEST_UCR)), "{point}");
    }
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_was_missing_is_asked_for_before_anything_else_is_signed() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let dying = Arc::new(federation.client_in("missing", dies_at("receipt.before")));
    let died = tokio::spawn(live(Arc::clone(&dying), lab.model())).await;
    assert!(died.is_err_and(|error| error.is_panic()));
    let token = dying.purses().await[0].token;
    drop(Arc::into_inner(dying).expect("its task has ended"));
    // As if the answer had come without it.
    let (mut journal, _) =
        Journal::open(&Client::journal(&federation.wallet("missing"))).expect("the wallet's journal");
    let missing = Entry::Fault { token, lane: 0, seq: 1, receipt: None, what: "no receipt came".to_owned() };
    journal.append(&missing).expect("a line");
    drop(journal);

    let client = federation.client("missing");
    assert!(client.purses().await[0].stopped.is_some());
    let other = Query::chat(lab.model(), &[("user", "And of Spain?")], Some(8), false);
    let answer = client.ask(&other).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!((answer.receipt.token, answer.receipt.seq), (token, 2), "under the same token, in the same lane");
    assert_eq!(client.purses().await[0].spent, Amount::from_ucr(2 * REQUEST_UCR));
    let entries = Journal::read(&Client::journal(&federation.wallet("missing"))).expect("a journal");
    let report = audit(&entries, client.directory()).expect("a journal that follows from itself");
    assert_eq!((report.verified, report.failures), (2, Vec::new()), "it came, so nothing is missing");
    federation.end().await;
}

/// How many receipts do not stand once the first question is said to have been a byte shorter.
fn one_found(mut entries: Vec<Entry>, directory: &File) -> usize {
    let first = entries.iter_mut().find_map(|entry| match entry {
        Entry::Signed { open, .. } => Some(open),
        _ => None,
    });
    first.expect("something was asked").input_bytes -= 1;
    audit(&entries, directory).expect("the rest follows").failures.len()
}

/// The whole life of one token.
async fn live(client: Arc<Client>, model: ModelId) {
    let answer = client.ask(&question(&model)).await.expect("the node answers");
    client.finish(answer.receipt.token).await.expect("the node and the house end it");
}

fn question(model: &ModelId) -> Query {
    Query::chat(model.clone(), &[("user", "What is the capital of France?")], Some(8), false)
}

fn dies_at(point: &'static str) -> World {
    // Unwinds without the noise of a panic.
    let failpoint = move |reached: &'static str| {
        if reached == point {
            std::panic::resume_unwind(Box::new(point));
        }
    };
    World { failpoint: Arc::new(failpoint), ..Federation::world() }
}

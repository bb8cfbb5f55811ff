//! One node, two processes, one PostgreSQL: the same doors, the same books.

use std::collections::BTreeSet;
use std::path::Path;

use comity_scratch::Database;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, eventually};
use comity_tests::holder::Met;
use comity_tests::{Federation, Holder, Owner, Scripted};
use comity_token::Directory as _;
use comity_wire::{Amount, Code};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

const CALLERS: u16 = 40;
const ROOM: u16 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_a_node_share_its_books_through_a_rolling_restart() {
    let database = Database::create().await;
    let url = database.url();
    // The address is a secret: a file of its own.
    let furnish = |home: &Path, publish: bool| {
        let text = format!("[feed]\npublish = {publish}\n[spend]\nstore_file = \"keys/spend.url\"\n");
        std::fs::write(home.join("node.toml"), text).expect("node.toml");
        comity_node::home::write_secret(&home.join("keys/spend.url"), url.as_bytes()).expect("a secret");
    };
    let upstream = Scripted::shut().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == lab.name {
            furnish(home, true);
        }
    })
    .await;
    federation.replica("lab", "lab-b", |home| furnish(home, false)).await;

    let client = federation.client("raw");
    let node = federation.card("lab").node;
    eventually("a certificate that names both processes", async || {
        client.refresh().await.map_err(|error| comity_tests::federation::chain(&error))?;
        let keys = client.directory().certificate(node).map_or(0, |certificate| certificate.transport_keys.len());
        if keys == 2 { Ok(()) } else { Err(format!("{keys} keys")) }
    })
    .await;
    let price = Amount::from_ucr(REQUEST_UCR);
    let budget = Amount::from_ucr(REQUEST_UCR * u32::from(ROOM));
    let holder = Holder::mint(&federation, &client, &lab.model(), budget, CALLERS).await;
    let (first, second) = (holder.at(federation.address("lab")), holder.at(federation.address("lab-b")));

    // No answer before everybody else was refused: all that fits is held at once, at either process.
    let (mut answered, mut refused) = (Vec::new(), 0);
    let call = async |lane: u16| {
        let request = holder.sign(&lab.model(), lane, 1, price);
        let met = if lane.is_multiple_of(2) { first.send(&request).await } else { second.send(&request).await };
        (lane, request, met)
    };
    let mut calls: FuturesUnordered<_> = (0..CALLERS).map(call).collect();
    while let Some((lane, request, met)) = calls.next().await {
        match met {
            Met::Answered { receipt, .. } => answered.push((lane, request, receipt)),
            Met::Refused { code, .. } => {
                assert_eq!(code, Code::BudgetExhausted);
                refused += 1;
            }
        }
        if refused == CALLERS - ROOM {
            upstream.open();
        }
    }
    assert_eq!((answered.len(), refused), (usize::from(ROOM), CALLERS - ROOM));
    let distinct: BTreeSet<_> = answered.iter().map(|(.., receipt)| receipt).collect();
    assert_eq!(distinct.len(), answered.len());

    // Whoever did not get its answer asks the other process, and is told what was charged.
    for (lane, request, receipt) in &answered {
        let other = if lane.is_multiple_of(2) { &second } else { &first };
        let Met::Refused { code, receipt: stored, .. } = other.send(request).await else { panic!("charged again") };
        assert_eq!((code, stored.as_ref()), (Code::Replayed, Some(receipt)));
    }
    // One goes; the other knows everything, to the last credit.
    federation.service("lab").end().await;
    let lanes = second.lanes().await;
    assert_eq!((lanes.charged, lanes.held), (budget, Amount::ZERO));
    assert_eq!(lanes.lanes.len(), usize::from(ROOM));
    let (_, request, receipt) = &answered[0];
    // The one that answered it still has the answer; the other one has the receipt.
    let stored = match second.send(request).await {
        Met::Answered { receipt, replayed: true, .. } => Some(receipt),
        Met::Refused { receipt, .. } => receipt,
        charged @ Met::Answered { .. } => panic!("charged again: {charged:?}"),
    };
    assert_eq!(stored.as_ref(), Some(receipt));
}

//! Two hundred callers at once, raw requests past any wallet, on a token with room for forty.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use comity_tests::doors::alone;
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR};
use comity_tests::holder::Met;
use comity_tests::{Federation, Holder, Owner, Scripted};
use comity_wire::object::DoorKind;
use comity_wire::{Amount, Code};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

const CALLERS: u16 = 200;
const ROOM: u16 = 40;
const PATIENCE: Duration = Duration::from_secs(120);

comity_tests::through_each_door!(exactly_forty_are_answered_and_the_others_are_told_that_the_budget_is_exhausted);

async fn exactly_forty_are_answered_and_the_others_are_told_that_the_budget_is_exhausted(door: DoorKind) {
    // Nothing is answered before everyone else was refused: all forty stand in holds at the same moment.
    let upstream = Scripted::shut().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start_at(std::slice::from_ref(&lab), alone(door)).await;
    let client = federation.client("raw");
    let price = Amount::from_ucr(REQUEST_UCR);
    let budget = Amount::from_ucr(REQUEST_UCR * u32::from(ROOM));
    let holder = Arc::new(Holder::mint(&federation, &client, &lab.model(), budget, CALLERS).await);

    let mut calls: FuturesUnordered<_> = (0..CALLERS)
        .map(|lane| {
            let (holder, request) = (Arc::clone(&holder), holder.sign(&lab.model(), lane, 1, price));
            tokio::spawn(async move { holder.send(&request).await })
        })
        .collect();
    let (mut receipts, mut refused) = (BTreeSet::new(), 0);
    let all = async {
        while let Some(met) = calls.next().await {
            match met.expect("a call comes to its end") {
                Met::Answered { receipt, replayed, .. } => {
                    assert!(!replayed, "nobody sent anything twice");
                    receipts.insert(receipt);
                }
                Met::Refused { code, status, receipt } => {
                    assert_eq!((code, status), (Code::BudgetExhausted, 402));
                    assert_eq!(receipt, None, "who is refused is not charged");
                    refused += 1;
                }
            }
            if refused == usize::from(CALLERS - ROOM) {
                upstream.open();
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, all).await;
    assert!(ended.is_ok(), "{refused} refused, {} answered, then nothing more came", receipts.len());
    assert_eq!((receipts.len(), refused), (usize::from(ROOM), usize::from(CALLERS - ROOM)));
    assert_eq!(upstream.asked(), usize::from(ROOM), "who is refused does not reach the model");

    let lanes = holder.lanes().await;
    assert_eq!(
        (lanes.charged, lanes.held),
        (budget, Amount::ZERO),
        "the token is spent to the last credit, not beyond"
    );
    let total = Amount::sum(lanes.lanes.iter().map(|lane| lane.total));
    assert_eq!(total, Some(budget));
    assert!(lanes.lanes.iter().all(|lane| lane.n <= 1 && lane.total <= price), "{lanes:?}");
    federation.end().await;
}

//! The same signed bytes, sent again.

use comity_tests::doors::alone;
use comity_tests::federation::{PER_REQUEST, REQUEST_UCR};
use comity_tests::holder::Met;
use comity_tests::{Federation, Holder, Owner, Scripted, eventually};
use comity_wire::object::DoorKind;
use comity_wire::{Amount, Code};

comity_tests::through_each_door!(a_replay_gets_the_stored_receipt_and_is_not_charged);

async fn a_replay_gets_the_stored_receipt_and_is_not_charged(door: DoorKind) {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_at(std::slice::from_ref(&lab), alone(door)).await;
    let client = federation.client("raw");
    let price = Amount::from_ucr(REQUEST_UCR);
    let budget = Amount::from_ucr(10 * REQUEST_UCR);
    let holder = Holder::mint(&federation, &client, &lab.model(), budget, 4).await;

    let request = holder.sign(&lab.model(), 0, 1, price);
    let Met::Answered { receipt, body, replayed: false } = holder.send(&request).await else {
        panic!("it was refused")
    };
    // The stored reply while it is kept: the same bytes.
    for _ in 0..3 {
        let again = Met::Answered { receipt: receipt.clone(), body: body.clone(), replayed: true };
        assert_eq!(holder.send(&request).await, again);
    }
    charged_once(&holder, price).await;
    assert_eq!(upstream.asked(), 1, "a replay does not reach the model");

    // Another body in a charged place of the sequence is another request, and refused.
    let other = holder.sign(&lab.model(), 0, 1, budget);
    let met = holder.send(&other).await;
    assert!(matches!(met, Met::Refused { code: Code::SequenceConflict, status: 409, .. }), "{met:?}");
    charged_once(&holder, price).await;

    // A node that was killed has forgotten the reply, never the charge: 409 with the stored receipt.
    federation.service("lab").kill().await;
    federation.service("lab").restart().await;
    // Through a hub: once the node has dialled it again.
    let met = eventually("the node can be reached", async || holder.try_send(&request).await).await;
    match met {
        Met::Refused { code: Code::Replayed, status: 409, receipt: stored } => assert_eq!(stored, Some(receipt)),
        Met::Answered { receipt: stored, .. } => assert_eq!(stored, receipt),
        met => panic!("{met:?}"),
    }
    charged_once(&holder, price).await;
    assert_eq!(upstream.asked(), 1);
    federation.end().await;
}

async fn charged_once(holder: &Holder, price: Amount) {
    let lanes = holder.lanes().await;
    assert_eq!((lanes.charged, lanes.held), (price, Amount::ZERO));
    let seen: Vec<_> = lanes.lanes.iter().map(|lane| (lane.lane, lane.n, lane.seq_highest, lane.total)).collect();
    assert_eq!(seen, [(0, 1, 1, price)]);
}

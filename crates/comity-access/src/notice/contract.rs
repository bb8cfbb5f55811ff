//! What every outbox keeps to, in memory or in a database: one suite for all of them.
//!
//! It stands among the sources so that the tests of a store in this crate can play it; `tests/notices` plays it on the
//! outbox in memory.

use comity_wire::Timestamp;

use crate::notice::{Delivery, DeliveryId, Notice, Outbox, Queued};

const NOW: Timestamp = Timestamp(1_800_000_000);

/// A row of its own number.
fn row(target: &str, n: u8, notice: &Notice) -> Delivery {
    Delivery {
        id: DeliveryId([n; 16]),
        target: target.into(),
        address: (n % 2 == 1).then(|| format!("{n}@lab.example")),
        notice: notice.clone(),
    }
}

fn numbers(rows: &[Queued]) -> Vec<u8> {
    rows.iter().map(|row| row.delivery.id.0[0]).collect()
}

/// `write` puts rows in as the transaction of an event does. The outbox begins empty.
pub(crate) async fn keeps(outbox: &dyn Outbox, notice: &Notice, write: impl AsyncFn(Vec<Delivery>, Timestamp)) {
    let hold = |now: Timestamp| now.plus(180);
    let due = async |target: &'static str, now: Timestamp, limit: usize| {
        outbox.due(target, now, hold(now), limit).await.expect("rows")
    };
    assert!(due("a", NOW, 9).await.is_empty());
    // A row comes as it was written, once, however often it was written.
    write(vec![row("a", 1, notice), row("b", 2, notice)], NOW).await;
    write(vec![row("a", 1, notice)], NOW.plus(1)).await;
    let expected = Queued { delivery: row("a", 1, notice), attempts: 0, since: NOW };
    assert!(due("a", NOW.minus(1), 9).await.is_empty(), "before its time");
    assert_eq!(due("a", NOW, 9).await, [expected.clone()]);
    assert_eq!(numbers(&due("b", NOW, 9).await), [2], "each target has its own");
    // It is held back, and comes again where nothing was said of it.
    assert!(due("a", hold(NOW).minus(1), 9).await.is_empty(), "somebody has it");
    assert_eq!(due("a", hold(NOW), 9).await, [expected.clone()]);
    // It failed.
    outbox.again(DeliveryId([1; 16]), NOW.plus(1_000), "no").await.expect("written");
    assert!(due("a", NOW.plus(999), 9).await.is_empty());
    assert_eq!(due("a", NOW.plus(1_000), 9).await, [Queued { attempts: 1, ..expected.clone() }]);
    outbox.again(DeliveryId([1; 16]), NOW.plus(2_000), &"ä".repeat(300)).await.expect("written");
    assert_eq!(due("a", NOW.plus(2_000), 9).await, [Queued { attempts: 2, ..expected }]);
    // It is over, in one way or the other, and writing it again does not begin it anew.
    outbox.done(DeliveryId([1; 16]), NOW.plus(2_001)).await.expect("written");
    outbox.gave_up(DeliveryId([2; 16]), NOW.plus(2_001), "no").await.expect("written");
    write(vec![row("a", 1, notice), row("b", 2, notice)], NOW.plus(2_002)).await;
    for target in ["a", "b"] {
        assert!(due(target, NOW.plus(3 * 86_400), 9).await.is_empty());
    }
    // The longest due first, so many and no more; two who take at once have no row in common.
    let now = NOW.plus(4 * 86_400);
    for n in [5, 4, 3] {
        write(vec![row("a", n, notice)], now.plus(u64::from(9 - n))).await;
    }
    let later = now.plus(10);
    assert_eq!(numbers(&due("a", later, 2).await), [5, 4]);
    assert_eq!(numbers(&due("a", later, 2).await), [3]);
    let later = hold(later);
    let (one, other) = futures::join!(due("a", later, 2), due("a", later, 2));
    let mut both = [numbers(&one), numbers(&other)].concat();
    both.sort_unstable();
    assert_eq!(both, [3, 4, 5]);
    // What waits for targets that are gone, waits no more.
    write(vec![row("b", 6, notice), row("c", 7, notice)], later).await;
    let given_up = |targets: &'static [&'static str]| async move {
        let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
        outbox.gave_up_others(&targets, later, "gone").await.expect("written")
    };
    assert_eq!(given_up(&["a", "b"]).await, 1);
    assert_eq!(given_up(&["a", "b"]).await, 0);
    let later = hold(later);
    assert_eq!(numbers(&due("b", later, 9).await), [6]);
    assert!(due("c", later, 9).await.is_empty());
    assert_eq!(given_up(&[]).await, 4);
    assert!(due("a", later.plus(86_400), 9).await.is_empty());
}

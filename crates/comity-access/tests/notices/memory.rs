//! An outbox in memory: the contract of [`Outbox`] in its shortest form.

use std::collections::BTreeMap;
use std::sync::Mutex;

use comity_access::notice::{Delivery, DeliveryId, Outbox, Queued, Unkept};
use comity_wire::Timestamp;
use futures::FutureExt as _;
use futures::future::BoxFuture;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    GaveUp(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) row: Queued,
    pub(crate) next: Timestamp,
    pub(crate) why: String,
    pub(crate) end: Option<End>,
}

#[derive(Default)]
pub(crate) struct Memory {
    rows: Mutex<BTreeMap<DeliveryId, Kept>>,
    /// Whether the process dies before it says that something was delivered.
    pub(crate) dies: std::sync::atomic::AtomicBool,
}

impl Memory {
    pub(crate) fn write(&self, deliveries: Vec<Delivery>, now: Timestamp) {
        let mut rows = self.rows.lock().unwrap();
        for delivery in deliveries {
            let row = Queued { delivery, attempts: 0, since: now };
            rows.entry(row.delivery.id).or_insert(Kept { row, next: now, why: String::new(), end: None });
        }
    }

    pub(crate) fn rows(&self) -> Vec<Kept> {
        self.rows.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn only(&self) -> Kept {
        let mut rows = self.rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }

    fn change(&self, id: DeliveryId, change: impl FnOnce(&mut Kept)) -> Result<(), Unkept> {
        change(self.rows.lock().unwrap().get_mut(&id).expect("a row that was taken is there"));
        Ok(())
    }
}

impl Outbox for Memory {
    fn due<'a>(
        &'a self,
        target: &'a str,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Queued>, Unkept>> {
        let mut rows = self.rows.lock().unwrap();
        let is_due = |kept: &&mut Kept| kept.end.is_none() && kept.row.delivery.target == target && kept.next <= now;
        let mut due: Vec<&mut Kept> = rows.values_mut().filter(is_due).collect();
        due.sort_by_key(|kept| kept.next);
        let taken = due.into_iter().take(limit).map(|kept| {
            kept.next = until;
            kept.row.clone()
        });
        let taken = taken.collect();
        async move { Ok(taken) }.boxed()
    }

    fn done(&self, id: DeliveryId, _: Timestamp) -> BoxFuture<'_, Result<(), Unkept>> {
        let dies = self.dies.load(std::sync::atomic::Ordering::SeqCst);
        let result =
            if dies { Err(Unkept("killed".into())) } else { self.change(id, |kept| kept.end = Some(End::Done)) };
        async move { result }.boxed()
    }

    fn again<'a>(&'a self, id: DeliveryId, next: Timestamp, why: &'a str) -> BoxFuture<'a, Result<(), Unkept>> {
        let result = self.change(id, |kept| {
            kept.row.attempts += 1;
            (kept.next, kept.why) = (next, why.to_owned());
        });
        async move { result }.boxed()
    }

    fn gave_up<'a>(&'a self, id: DeliveryId, _: Timestamp, why: &'a str) -> BoxFuture<'a, Result<(), Unkept>> {
        let result = self.change(id, |kept| kept.end = Some(End::GaveUp(why.to_owned())));
        async move { result }.boxed()
    }

    fn gave_up_others<'a>(
        &'a self,
        targets: &'a [String],
        _: Timestamp,
        why: &'a str,
    ) -> BoxFuture<'a, Result<u64, Unkept>> {
        let mut rows = self.rows.lock().unwrap();
        let others =
            rows.values_mut().filter(|kept| kept.end.is_none() && !targets.contains(&kept.row.delivery.target));
        let count = others.map(|kept| kept.end = Some(End::GaveUp(why.to_owned()))).count();
        async move { Ok(count as u64) }.boxed()
    }
}

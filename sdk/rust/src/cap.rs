//! What calls may cost together. Each is set aside at its signed maximum before it is sent, so the sum never passes the cap.

use std::sync::{Mutex, PoisonError};

use comity_wire::Amount;
use tokio::sync::Notify;

/// A bound on a sum that several callers draw on at once.
#[derive(Debug)]
pub struct Cap {
    limit: Amount,
    sums: Mutex<Spent>,
    freed: Notify,
}

/// What was charged, and what may still be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub spent: Amount,
    pub held: Amount,
}

/// There is no room for a call, and none will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the next call may cost {needed}, and {spent} of the cap of {limit} is spent")]
pub struct Capped {
    pub limit: Amount,
    pub spent: Amount,
    pub needed: Amount,
}

/// Room for one call. Dropped without [`Held::charged`], it was not charged.
#[derive(Debug)]
pub struct Held<'a> {
    cap: &'a Cap,
    most: Amount,
    charged: Amount,
}

impl Cap {
    /// `spent` of `limit` is gone already.
    pub fn new(limit: Amount, spent: Amount) -> Self {
        Self { limit, sums: Mutex::new(Spent { spent, held: Amount::ZERO }), freed: Notify::new() }
    }

    pub fn sums(&self) -> Spent {
        *self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets `most` aside, as soon as there is room for it.
    ///
    /// # Errors
    /// [`Capped`] where there would be none even if nothing that is held were charged.
    pub async fn hold(&self, most: Amount) -> Result<Held<'_>, Capped> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(held) = self.try_hold(most)? {
                return Ok(held);
            }
            freed.await;
        }
    }

    /// Sets aside what was signed within the cap before, whatever is left now.
    pub fn hold_again(&self, most: Amount) -> Held<'_> {
        self.with(|sums| sums.held = sums.held.saturating_add(most));
        Held { cap: self, most, charged: Amount::ZERO }
    }

    fn try_hold(&self, most: Amount) -> Result<Option<Held<'_>>, Capped> {
        self.with(|sums| {
            if sums.spent.saturating_add(most) > self.limit {
                return Err(Capped { limit: self.limit, spent: sums.spent, needed: most });
            }
            if sums.spent.saturating_add(sums.held).saturating_add(most) > self.limit {
                return Ok(None);
            }
            sums.held = sums.held.saturating_add(most);
            Ok(Some(Held { cap: self, most, charged: Amount::ZERO }))
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Spent) -> T) -> T {
        change(&mut self.sums.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held<'_> {
    /// The call was charged this much, or may have been.
    pub fn charged(mut self, charge: Amount) {
        self.charged = charge;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let (most, charged) = (self.most, self.charged);
        self.cap.with(|sums| {
            sums.held = sums.held.saturating_sub(most);
            sums.spent = sums.spent.saturating_add(charged);
        });
        self.cap.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ucr(amount: u32) -> Amount {
        Amount::from_ucr(amount)
    }

    #[tokio::test]
    async fn the_sum_of_what_is_held_and_spent_never_passes_the_cap() {
        let cap = Cap::new(ucr(100), ucr(10));
        let first = cap.hold(ucr(60)).await.unwrap();
        // 31 would fit if the first cost nothing: it waits, and is not refused.
        let waiting = cap.hold(ucr(31));
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        first.charged(ucr(59));
        assert_eq!(cap.sums(), Spent { spent: ucr(69), held: Amount::ZERO });
        let mut waiting_done = waiting.await.map(drop);
        assert!(waiting_done.is_ok(), "69 + 31 is the cap to the micro-credit");
        waiting_done = cap.hold(ucr(32)).await.map(drop);
        assert_eq!(waiting_done, Err(Capped { limit: ucr(100), spent: ucr(69), needed: ucr(32) }));
        assert_eq!(cap.sums(), Spent { spent: ucr(69), held: Amount::ZERO }, "what was not charged is free again");
    }

    #[tokio::test]
    async fn what_can_never_fit_is_refused_at_once() {
        let cap = Cap::new(ucr(5), Amount::ZERO);
        assert!(cap.hold(ucr(6)).await.is_err());
        assert!(cap.hold(ucr(5)).await.is_ok());
    }
}

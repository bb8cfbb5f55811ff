//! What the desk does by itself, turn by turn: clocks, what decisions have left to be done, reminders, what is kept no longer.

use std::convert::Infallible;
use std::time::Duration;

use comity_wire::Timestamp;
use tokio::time::Instant;

use super::{Desk, Trouble};
use crate::id::ApplicationId;
use crate::notice;
use crate::store::{EffectKind, Filter, StoreError};

/// Acts of one application that follow from one another without anybody: a rule, a clock that ran out twice.
const FOLLOWING_MAX: usize = 8;
/// How long notices that are over are remembered, so that they are not said again.
const NOTICES_KEPT_S: u64 = 7 * comity_wire::time::DAY_S;
/// Applications and grants that are read at once; few in tests, so that they see more than one page.
const PAGE: u32 = if cfg!(test) { 2 } else { 256 };

impl Desk {
    /// Says of clocks that will run out soon that they will, once each; and forgets what was said and is over.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn remind(&self) -> Result<(), Trouble> {
        let now = (self.0.clock)();
        self.0.store.forget_notices(now.minus(NOTICES_KEPT_S)).await?;
        if self.0.targets.names().is_empty() {
            return Ok(());
        }
        let soon = now.plus(notice::SOON_S);
        let mut filter = Filter { open: true, ..Filter::default() };
        loop {
            let page = self.0.store.list(&filter, PAGE).await?;
            let mut deliveries = Vec::new();
            for row in page.iter().filter(|row| row.due.is_some_and(|due| due.at <= soon)) {
                let said = self.find(row.id).await.map(|found| notice::soon(&found, now));
                deliveries.extend(said.ok().flatten().iter().flat_map(|notice| self.0.targets.deliveries(notice)));
            }
            if !deliveries.is_empty() {
                self.0.store.tell(&deliveries, now).await?;
                self.0.told.notify_one();
            }
            match page.last().filter(|last| last.cursor().0 <= soon) {
                Some(last) => filter.after = Some(last.cursor()),
                None => return Ok(()),
            }
        }
    }

    /// Does what decisions have left to be done to the grants; whether nothing is left. What lets somebody in waits until nobody is in
    /// who should not be. One that cannot be done does not keep the others from being done.
    pub async fn settle(&self) -> bool {
        let withdrawn = self.settle_kind(EffectKind::Withdraw).await;
        self.settle_kind(EffectKind::Grant).await && withdrawn
    }

    async fn settle_kind(&self, kind: EffectKind) -> bool {
        let (mut after, mut is_all) = (None, true);
        loop {
            let page = match self.0.store.effects(kind, after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "cannot read what decisions have left to be done");
                    return false;
                }
            };
            let Some(last) = page.last() else { return is_all };
            after = Some((last.application, last.n));
            for effect in page {
                if let Err(error) = self.perform(effect).await {
                    tracing::error!(application = %effect.application, grant = %effect.grant, error, "what was decided is not done yet");
                    is_all = false;
                }
            }
        }
    }

    /// Brings what clocks that have run out bring; how many acts that were.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn tick(&self) -> Result<usize, Trouble> {
        let (now, mut after, mut acts) = ((self.0.clock)(), None, 0);
        loop {
            let page = self.0.store.run_out(now, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(acts) };
            after = Some(*last);
            for (_, id) in page {
                match self.tick_one(id).await {
                    Ok(done) => acts += done,
                    Err(Trouble::Moved) => {}
                    // One that cannot be read, or that the rules hold fast, does not keep the others from theirs.
                    Err(Trouble::Store(error @ StoreError::Unreadable { .. })) => {
                        tracing::error!(application = %id, %error, "an application's clock has run out, and its log does not hold");
                    }
                    Err(Trouble::Store(error)) => return Err(error.into()),
                    Err(trouble) => {
                        tracing::error!(application = %id, %trouble, "an application's clock has run out, and what it brings is refused");
                    }
                }
            }
        }
    }

    async fn tick_one(&self, id: ApplicationId) -> Result<usize, Trouble> {
        let mut application = self.find(id).await?;
        let form = self.form_of(&application).await?;
        for done in 0..FOLLOWING_MAX {
            let now = (self.0.clock)();
            let Some((act, actor)) = application.tick(now, &form.form.settings) else { return Ok(done) };
            let before = application.state();
            application.salt((self.0.entropy)());
            application.act(act, &actor, &form.form, now)?;
            self.keep(&application, before, &form).await?;
        }
        Ok(FOLLOWING_MAX)
    }

    /// Removes the bytes of attachments of applications that have been over for as long as the owner keeps them; how many.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn forget_attachments(&self) -> Result<u64, Trouble> {
        let kept = u64::from(self.0.config.attachments_days) * comity_wire::time::DAY_S;
        let ended_before = Timestamp((self.0.clock)().0.saturating_sub(kept));
        Ok(self.0.store.forget_attachments(ended_before).await?)
    }

    /// Goes on for ever: clocks, and what decisions have left to be done.
    pub async fn run(&self) -> Infallible {
        const EVERY: Duration = Duration::from_secs(5);
        const AGAIN: Duration = Duration::from_secs(1);
        const HOUR: Duration = Duration::from_secs(3600);
        let mut hourly_at = Instant::now();
        loop {
            if let Err(error) = self.tick().await {
                tracing::error!(%error, "the clocks of applications stand still; they are looked at again");
            }
            let pause = if self.settle().await { EVERY } else { AGAIN };
            if hourly_at <= Instant::now() {
                hourly_at = Instant::now() + HOUR;
                if let Err(error) = self.remind().await {
                    tracing::error!(%error, "nobody was told of clocks that run out soon; it is tried in an hour");
                }
                match self.forget_attachments().await {
                    Ok(0) => {}
                    Ok(removed) => {
                        tracing::info!(removed, "attachments of applications that are long over were removed")
                    }
                    Err(error) => tracing::error!(%error, "attachments that are kept too long stay for another hour"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.0.left.notified() => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

//! Quotes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use comity_wire::api::clearing::QuoteRequest;
use comity_wire::object::Quote;
use comity_wire::time::DAY_S;
use comity_wire::{Digest, ProjectId, PublicKey, Signed, Timestamp, Unverified, Verified, cose};

use super::{Clearing, persons};
use crate::failure::Failure;
use crate::{quote, store};

/// Quotes that are remembered; when there are more, all are forgotten.
const KNOWN_MAX: usize = 4_096;

/// Quotes that one process gives a project within an hour: a class of 500 asks for twenty each.
const AN_HOUR_MAX: u32 = 10_000;
const HOUR_S: u64 = 3_600;
/// Quotes that are looked at in one transaction: few, since whoever reserves waits for it.
const LOOK_PAGE: u32 = 100;

/// How many quotes each project was given in this hour.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<(u64, HashMap<ProjectId, u32>)>);

impl Pace {
    /// # Errors
    /// [`Failure::TooSoon`] where the project has had as many as there are.
    pub(super) fn take(&self, project: ProjectId, now: Timestamp) -> Result<(), Failure> {
        let hour = now.seconds() / HOUR_S;
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.0 != hour {
            *pace = (hour, HashMap::new());
        }
        let given = pace.1.entry(project).or_default();
        if *given >= AN_HOUR_MAX {
            let wait_s = (hour + 1) * HOUR_S - now.seconds();
            return Err(Failure::TooSoon { what: "quotes of a project", wait_s });
        }
        *given += 1;
        Ok(())
    }
}

/// Quotes that were verified, by a digest of all their bytes. One serves many reservations, and verifying it costs more than
/// anything else that a reservation asks of the processor.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<Digest, Arc<Verified<Quote>>>>);

impl Known {
    /// # Errors
    /// [`Unverified`] where no key of `issuers` signed it.
    pub(super) fn verified(&self, bytes: &[u8], issuers: &[PublicKey]) -> Result<Arc<Verified<Quote>>, Unverified> {
        let digest = Digest::of(bytes);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        if let Some(quote) = known {
            return Ok(quote);
        }
        let quote = Arc::new(Signed::<Quote>::decode(bytes)?.verify_any(issuers)?);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(digest, Arc::clone(&quote));
        Ok(quote)
    }
}

impl Clearing {
    /// Pins a price for a member's project. Repeating it in the same second gives the same quote.
    ///
    /// # Errors
    /// [`Failure`]: who asks, then what is asked.
    pub async fn quote(&self, caller: &PublicKey, request: &QuoteRequest) -> Result<Verified<Quote>, Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let found = store::projects::project_of_member(&mut conn.db(), request.project, caller).await?;
        let Some((_, role, statements)) = found else {
            Self::member_of(&mut conn.db(), caller, request.project).await?;
            return Err(Failure::NotFound { what: format!("project {}", request.project) });
        };
        let level = persons::level_of(&mut conn.db(), (request.project, &statements), (caller, role), now).await?;
        drop(conn);
        self.issues(now)?;
        self.inner.quotes_pace.take(request.project, now)?;
        let draft = quote::draft(request, level.vetting, &*self.inner.directory, &self.inner.config, now)?;
        self.is_owner(&draft.certificate).await?;
        self.within_schedule(draft.certificate.org, &draft.quote.scope, &draft.tariffs).await?;
        let quote = cose::try_sign(&draft.quote, &self.inner.keys.issuer)?.verify(&self.inner.keys.issuer.public())?;
        let (stored, tariffs, owner) = (quote.clone(), draft.tariffs, draft.certificate.org);
        self.write(move |conn| {
            Box::pin(async move {
                for tariff in &tariffs {
                    store::tokens::tariff_insert_in_tx(conn, tariff).await?;
                }
                store::prices::quoted_in_tx(conn, owner, &stored.scope, stored.issued_at).await?;
                store::quotes::insert_in_tx(conn, &stored).await
            })
        })
        .await?;
        self.fail("quote.after_commit");
        Ok(quote)
    }

    /// Drops quotes that ended a day ago and under which nobody drew a token. How many.
    pub(super) async fn quotes_drop(&self) -> Result<u64, Failure> {
        let before = self.now().minus(DAY_S);
        let mut dropped = 0;
        loop {
            let (looked, gone) = self
                .write(move |conn| Box::pin(async move { store::quotes::look_in_tx(conn, before, LOOK_PAGE).await }))
                .await?;
            dropped += gone;
            if looked < u64::from(LOOK_PAGE) {
                return Ok(dropped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_so_many_quotes_in_an_hour() {
        let (pace, one, other) = (Pace::default(), ProjectId([1; 16]), ProjectId([2; 16]));
        let now = Timestamp(7_200 + 600);
        for _ in 0..AN_HOUR_MAX {
            pace.take(one, now).unwrap();
        }
        let refused = pace.take(one, now).unwrap_err();
        assert!(matches!(refused, Failure::TooSoon { wait_s: 3_000, .. }), "{refused:?}");
        pace.take(other, now).unwrap();
        pace.take(one, now.plus(3_000)).unwrap();
    }
}

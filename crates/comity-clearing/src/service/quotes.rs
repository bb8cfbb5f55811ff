//! Quotes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use comity_wire::api::clearing::QuoteRequest;
use comity_wire::object::Quote;
use comity_wire::{Digest, PublicKey, Signed, Unverified, Verified, cose};

use super::{Clearing, persons};
use crate::failure::Failure;
use crate::{quote, store};

/// Quotes that are remembered; when there are more, all are forgotten.
const KNOWN_MAX: usize = 4_096;

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
                store::tokens::quote_insert_in_tx(conn, &stored).await
            })
        })
        .await?;
        self.fail("quote.after_commit");
        Ok(quote)
    }
}

//! One call, asked until it is answered, refused for good, or was tried often enough.

use std::time::Duration;

use comity_wire::Code;

use super::open::Asked;
use super::send::Sign;
use super::{Client, Error};
use crate::chat::{Answer, Query};
use crate::door::DoorError;

/// How long a call is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub tries_max: u32,
    /// The longest wait between two tries, whatever the other side asks for.
    pub wait_s_max: u64,
}

impl Default for Patience {
    /// A minute or two where the other side names no time.
    fn default() -> Self {
        Self { tries_max: 6, wait_s_max: 60 }
    }
}

/// Whether a caller still wants what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Yes,
    /// Only what may have been charged already.
    Charged,
    No,
}

impl Client {
    /// Asks again what passes: a model that starts, a node that is busy, a reply that was lost. A call without a key may be
    /// charged twice so; give it one. `wanted` is asked before each try: where it is no more than [`Wanted::Charged`], nothing is signed
    /// that was not ([`Error::Unsigned`]).
    ///
    /// # Errors
    /// The last [`Error`].
    pub async fn ask_patiently<M: Asked>(
        &self,
        query: &Query<M>,
        patience: Patience,
        wanted: &(dyn Fn() -> Wanted + Sync),
    ) -> Result<Answer, Error> {
        let (mut tries, mut told) = (1_u32, false);
        loop {
            let sign = if wanted() == Wanted::Yes { Sign::Anew } else { Sign::Never };
            let error = match self.ask_as(query, sign).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // A lost reply is asked for again under the same key.
            let lost = error.is_lost();
            // The first word of a receipt: where it charged nothing, the next try is a new one.
            let settled = error.is_lost_reply() && !told;
            told |= settled;
            let ends = async || match wanted() {
                Wanted::Yes => false,
                Wanted::Charged => !(lost || self.may_be_charged_as(query).await),
                Wanted::No => true,
            };
            if tries >= patience.tries_max || !(error.should_retry() || lost || settled) || ends().await {
                return Err(error);
            }
            tries += 1;
            if settled {
                continue;
            }
            let wait = error.retry_after_s().unwrap_or_else(|| 1 << tries.min(5)).clamp(1, patience.wait_s_max.max(1));
            for _ in 0..wait {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if ends().await {
                    return Err(error);
                }
            }
        }
    }

    /// Whether the call under this query's name may be charged, or is.
    async fn may_be_charged_as<M: Asked>(&self, query: &Query<M>) -> bool {
        match &query.key {
            Some(key) => self.may_be_charged(key).await,
            None => false,
        }
    }
}

impl Error {
    /// Whether the same call may succeed later without anybody changing it.
    pub fn should_retry(&self) -> bool {
        self.refusal().map_or_else(|| self.code().is_some_and(Code::should_retry), |refusal| refusal.remote.retry)
    }

    /// Whether the same call may be answered later: what stopped it passes, or somebody was not reached, so that what became of it is
    /// not known. Also one that was not asked.
    pub fn may_come_later(&self) -> bool {
        let was_not_asked = matches!(self.root(), Self::Unsigned | Self::NoDoor(_) | Self::Silent(_));
        self.should_retry() || self.is_lost() || was_not_asked
    }

    /// A connection that failed: what became of the call is not known.
    fn is_lost(&self) -> bool {
        matches!(self.root(), Self::Door(_)) && self.code().is_none()
    }

    /// The node says for the first time that it answered and charged, and keeps the answer no more.
    fn is_lost_reply(&self) -> bool {
        matches!(self.root(), Self::Door(DoorError::Refused(_))) && self.code() == Some(Code::Replayed)
    }
}

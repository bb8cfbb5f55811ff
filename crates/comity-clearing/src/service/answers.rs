//! Answers that are kept: read before a call is done, written after.

use super::Clearing;
use crate::answers::{ANSWER_BYTES_MAX, Answer, KEPT_S, Once, Turn};
use crate::failure::{Failure, chain};
use crate::store;

impl Clearing {
    /// Lets one call of a key through at a time.
    ///
    /// # Errors
    /// [`Failure::InFlight`] while another one is under way.
    pub(crate) fn answer_turn(&self, once: &Once) -> Result<Turn, Failure> {
        self.inner.turns.take(once)
    }

    /// What was answered under the key, if that was for the same call.
    ///
    /// # Errors
    /// [`Failure::IdempotencyConflict`] where it was for another.
    pub(crate) async fn answer_kept(&self, once: &Once) -> Result<Option<Answer>, Failure> {
        let since = self.now().minus(KEPT_S);
        let kept = store::answers::answer_find(&mut self.read().await?.db(), once, since).await?;
        match kept {
            Some((call, _)) if call != once.call => Err(Failure::IdempotencyConflict),
            kept => Ok(kept.map(|(_, answer)| answer)),
        }
    }

    /// Keeps an answer, and says which one is to be given: where another replica did the same call under the same key at the same
    /// moment, what it answered first. Where it cannot be kept the call was done all the same: it is told, and a repeat is done again.
    pub(crate) async fn answer_keep(&self, once: &Once, answer: Answer) -> Answer {
        self.fail("answer.before_keep");
        if answer.body.len() > ANSWER_BYTES_MAX {
            return answer;
        }
        let (now, asked, own) = (self.now(), once.clone(), answer.clone());
        let kept = self
            .write(move |conn| Box::pin(async move { store::answers::answer_put_in_tx(conn, &asked, &own, now).await }))
            .await;
        match kept {
            Ok(Some((call, kept))) if call == once.call => kept,
            Ok(Some(_)) => {
                tracing::warn!(
                    "two calls came under one idempotency key at two replicas: the second's answer is not kept"
                );
                answer
            }
            Ok(None) => answer,
            Err(failure) => {
                tracing::warn!(error = %chain(&failure), "an answer was not kept for its idempotency key");
                answer
            }
        }
    }

    /// Carries on with `work` when whoever waits for it is gone. Shutdown waits for it.
    ///
    /// # Errors
    /// [`Failure::NotWritten`] where it panicked.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let done = self.inner.tasks.spawn(work).await;
        done.map_err(|error| Failure::NotWritten { cause: error.to_string() })
    }
}

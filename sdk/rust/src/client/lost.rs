//! A computer that is lost: its key ends, what it drew is stopped, and what that has not spent goes home.
//!
//! The holder keys are gone with the computer. A node ends a token for whoever shows it once its issuer revoked it (spec/07-settlement.md
//! §7.4), so the bytes, which the house shows to another key of the same person, are enough.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_wire::api::clearing::{FinalReply, FinalRequest, SignedBytes};
use comity_wire::api::person::TokensStopped;
use comity_wire::object::{Chain, Token};
use comity_wire::{Amount, Code, PublicKey, SecretKey, Signed, TokenId};
use futures::future::BoxFuture;

use super::{Client, Error};

/// What became of a lost computer's tokens.
#[derive(Debug, Default)]
pub struct Lost {
    /// On the revocation list.
    pub stopped: u64,
    /// For which the list has no room: asked again in an hour.
    pub left: u64,
    /// Ended at their nodes, and what went home of each.
    pub ended: Vec<(TokenId, Amount)>,
    /// Not ended: they go home by themselves at their deadline.
    pub not_ended: Vec<(TokenId, Error)>,
    /// Why the house was not asked for more: what was done before holds.
    pub cut_short: Option<Error>,
}

/// A node has the list within a minute; it is asked this often, and no more.
const ASKED_MAX: u32 = 90;
const PAUSE: Duration = Duration::from_secs(1);
/// Replies of the house; each shows the largest that are left.
const ROUNDS_MAX: u32 = 64;

impl Client {
    /// Ends a key of the same person, and all that it drew. The same again goes on where it stopped.
    ///
    /// # Errors
    /// [`Error`] of the house; what a node says is in [`Lost`].
    pub async fn revoke_lost(&self, key: PublicKey) -> Result<Lost, Error> {
        let house = || -> BoxFuture<'_, _> {
            Box::pin(async move { Ok(self.revoke_key(key).await?.tokens.unwrap_or_default()) })
        };
        stop_all(house, |token| Box::pin(async move { Ok(self.end_revoked(&token).await?.refunded) })).await
    }

    /// The final of a token that is revoked, lodged at the house.
    async fn end_revoked(&self, token: &Signed<Token>) -> Result<FinalReply, Error> {
        let (id, node) = (token.unverified().id, token.unverified().audience());
        let chain = Chain { token: token.bytes().to_vec(), blocks: Vec::new() }.to_bytes();
        // The node need not learn who asks: any key will do.
        let key = SecretKey::from_seed((self.world.entropy)());
        let mut asked = 0;
        let answer = loop {
            asked += 1;
            match self.ask_final(node, id, &key, &chain).await {
                // It does not have the list yet, or still ends an answer.
                Err(error) if matches!(error.code(), Some(Code::NotYours | Code::InFlight)) && asked < ASKED_MAX => {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => break answer?,
            }
        };
        let certificate = self.certificate(node)?;
        let final_ = comity_token::verify_final(&answer.final_, &certificate)
            .map_err(|_| Error::Missing("a final under its receipt key"))?;
        if final_.token != id {
            return Err(Error::Missing("the final of the token that was named"));
        }
        let final_ = SignedBytes::new(final_.bytes()).map_err(|_| Error::Missing("a final of its size"))?;
        self.house_post("/v1/finals", &FinalRequest { final_ }).await
    }
}

/// Asks the house until it shows nothing new, and ends what it shows. What was done stays told of where the house then fails.
async fn stop_all<'a>(
    mut house: impl FnMut() -> BoxFuture<'a, Result<TokensStopped, Error>> + Send,
    mut end: impl FnMut(Signed<Token>) -> BoxFuture<'a, Result<Amount, Error>> + Send,
) -> Result<Lost, Error> {
    let (mut lost, mut seen) = (Lost::default(), BTreeSet::new());
    for round in 0..ROUNDS_MAX {
        let TokensStopped { stopped, left, tokens } = match house().await {
            Err(error) if round > 0 => {
                lost.cut_short = Some(error);
                break;
            }
            reply => reply?,
        };
        lost.stopped = lost.stopped.max(stopped);
        lost.left = left;
        let mut new = false;
        for bytes in tokens {
            let token = Signed::<Token>::decode(&bytes).map_err(Error::Unverified)?;
            let id = token.unverified().id;
            if !seen.insert(id) {
                continue;
            }
            new = true;
            match end(token).await {
                Ok(home) => lost.ended.push((id, home)),
                Err(error) => lost.not_ended.push((id, error)),
            }
        }
        if !new {
            break;
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::chains;

    /// What the house says, one reply after the other; `None`: it cannot be reached.
    async fn lost(replies: [Option<u64>; 3]) -> (Result<Lost, Error>, usize) {
        let (mut asked, mut replies) = (0, replies.into_iter());
        let house = || -> BoxFuture<'_, _> {
            asked += 1;
            let reply = replies.next().flatten().ok_or(Error::Missing("the house")).map(|stopped| {
                let tokens = vec![SignedBytes::new(chains::root().bytes()).unwrap()];
                TokensStopped { stopped, left: 7, tokens }
            });
            Box::pin(async move { reply })
        };
        let lost = stop_all(house, |_| Box::pin(async { Ok(Amount::from_ucr(5)) })).await;
        (lost, asked)
    }

    #[tokio::test]
    async fn a_house_that_is_gone_after_its_first_reply_leaves_told_what_was_done() {
        let (told, asked) = lost([Some(1), None, None]).await;
        let told = told.unwrap();
        assert_eq!((told.stopped, told.left, asked), (1, 7, 2));
        assert_eq!(told.ended, [(chains::root().id, Amount::from_ucr(5))]);
        assert!(matches!(told.cut_short, Some(Error::Missing("the house"))), "{told:?}");
        // With nothing new the house has been asked for all.
        let (told, asked) = lost([Some(1), Some(2), None]).await;
        let told = told.unwrap();
        assert_eq!((told.stopped, told.ended.len(), asked), (2, 1, 2), "a token is ended once");
        assert!(told.cut_short.is_none());
        // Nothing was done where it was never there.
        assert!(lost([None, None, None]).await.0.is_err());
    }
}

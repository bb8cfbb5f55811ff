//! Heads of what owners' people decided: each goes on from the one before, and the house logs it, so that no owner can change or
//! take out unseen what it has sealed (spec/11-access.md §9).

use comity_wire::api::decisions::{DecisionsReply, DecisionsRequest, HeadKnown, STEPS_MAX};
use comity_wire::log::goes_on;
use comity_wire::object::DecisionHead;
use comity_wire::time::SKEW_S;
use comity_wire::{Digest, NodeId, PublicKey, Signed};

use super::Clearing;
use crate::failure::Failure;
use crate::store;

const DECIDED: &str = "heads of decisions are brought, and asked for, by the node with its transport key";
/// Heads of one node that are taken in an hour.
const AN_HOUR_MAX: u32 = 60;
const HOUR_S: u64 = 3_600;
/// How long ago a head may have been signed: its moment says since when its events stand here.
const OLD_S: u64 = 3_600;

impl Clearing {
    /// The newest head of a node.
    ///
    /// # Errors
    /// [`Failure::NotYours`] where it is not the node that asks.
    pub async fn decisions_of(&self, caller: &PublicKey, node: NodeId) -> Result<DecisionsReply, Failure> {
        self.node_asking(caller, node, DECIDED).await?;
        let newest = store::decisions::newest(&mut self.read().await?.db(), node).await?;
        Ok(DecisionsReply { newest })
    }

    /// Takes a node's next head; the newest one again is answered again.
    ///
    /// # Errors
    /// [`Failure`] where it is not this node's word, or does not go on from the newest one; then nothing is kept.
    pub async fn decisions(&self, caller: &PublicKey, request: &DecisionsRequest) -> Result<DecisionsReply, Failure> {
        let signed = Signed::<DecisionHead>::decode(&request.head)?;
        let node = signed.unverified().node;
        let known = self.node_asking(caller, node, DECIDED).await?;
        let head = signed.verify_any(&known.receipt_keys)?;
        let now = self.now();
        if head.at > now.plus(SKEW_S) {
            return Err(Failure::invalid(
                "the head was signed at a moment that is still to come: set the node's clock",
            ));
        }
        let proof = request.consistency.clone();
        let newest = self
            .write(move |conn| {
                Box::pin(async move {
                    let newest = store::decisions::newest(conn, node).await?;
                    if newest.as_ref().is_some_and(|newest| newest.content == head.id()) {
                        return Ok(newest);
                    }
                    if head.at.plus(OLD_S) < now {
                        return Err(Failure::invalid(
                            "the head was signed more than an hour ago: sign one now, and set the node's clock",
                        ));
                    }
                    if let Some(newest) = &newest {
                        follows(newest, &head, &proof)?;
                        let nth = store::decisions::nth_newest(conn, node, AN_HOUR_MAX).await?;
                        if let Some(next) = nth.map(|at| at.plus(HOUR_S)).filter(|next| *next > now) {
                            return Err(Failure::TooSoon { what: "heads of decisions", wait_s: next.since(now) });
                        }
                    } else if !proof.is_empty() {
                        return Err(Failure::invalid(
                            "the house has no head of this node that another could go on from",
                        ));
                    }
                    store::decisions::insert_in_tx(conn, &head, now).await?;
                    store::decisions::newest(conn, node).await
                })
            })
            .await?;
        Ok(DecisionsReply { newest })
    }
}

/// Whether a head may follow the newest one.
fn follows(newest: &HeadKnown, head: &DecisionHead, proof: &[Digest]) -> Result<(), Failure> {
    let broken = |what: String| Err(Failure::DecisionsBroken { what });
    if head.n <= newest.n {
        return broken(format!("head {} comes after head {}", head.n, newest.n));
    }
    if head.log < newest.log {
        return broken(format!("log {} ended when log {} began", head.log, newest.log));
    }
    if head.log == newest.log {
        let is_so = proof.len() <= STEPS_MAX && goes_on(newest.size, &newest.root, head.size, &head.root, proof);
        if !is_so {
            let HeadKnown { n, size, .. } = newest;
            return broken(format!("its tree of {} events does not begin with the {size} of head {n}", head.size));
        }
    } else if !proof.is_empty() {
        return Err(Failure::invalid("another log does not go on from the one before"));
    }
    Ok(())
}

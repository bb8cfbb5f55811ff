//! Counts at work: each month the house asks every node that it sold work of what its own meter says, and lays that beside
//! receipts and ledger.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use comity_ledger::Db;
use comity_wire::api::count::{BREAKS_TOLD_MAX, CountAsked, CountReply, MatchOfNode, Matched};
use comity_wire::object::{Count, CountLine};
use comity_wire::time::{DAY_S, SKEW_S};
use comity_wire::{NodeId, PublicKey, Signed, Timestamp, TokenId};

use super::Clearing;
use crate::failure::Failure;
use crate::settlement::matching;
use crate::store;
use crate::store::counts::{AskedRow, Scope};

/// How long after its end a month is counted: by then the last of its tokens has expired, and what nobody acknowledged of it
/// can have been challenged.
const COUNT_AFTER_S: u64 = 8 * DAY_S;
/// Counts that a node is asked for at once.
const ASKED_AT_ONCE_MAX: u32 = 24;
/// Pages that are kept of all counts of one node and period.
const PAGES_KEPT_MAX: u64 = 4 * Count::PAGES_MAX as u64;
/// Nodes that are asked at once, and of one report.
const NODES_MAX: u32 = 10_000;
const COUNTED: &str = "counts are asked of a node, and sent by it, with its transport key";
/// Breaks of one node that the operator is shown.
const BREAKS_SHOWN_MAX: usize = 10_000;

/// The month before the one that `now` lies in, in UTC.
fn month_before(now: Timestamp) -> (Timestamp, Timestamp) {
    let first_of = |at: Timestamp| {
        let text = format!("{}-01", &at.to_string()[..7]);
        Timestamp::of_date(&text).expect("a year and a month are followed by a first day")
    };
    let to = first_of(now);
    (first_of(to.minus(DAY_S)), to)
}

impl Clearing {
    /// Asks for the counts of the month before, once it can be counted. How many nodes were asked.
    pub(crate) async fn counts_turn(&self) -> Result<u64, Failure> {
        let now = self.now();
        let (from, to) = month_before(now);
        if now < to.plus(COUNT_AFTER_S) || self.inner.counted.load(Ordering::Relaxed) == to.0 {
            return Ok(0);
        }
        let nodes = store::counts::nodes_to_ask(&mut self.read().await?.db(), from, to, NODES_MAX).await?;
        let found = nodes.len() as u64;
        let mut asked = 0;
        if found > 0 {
            // Another replica may have asked meanwhile, and have the answer.
            asked = self
                .write(move |conn| {
                    Box::pin(async move {
                        let mut asked = 0;
                        for node in nodes {
                            let scope = Scope { node, from, to };
                            asked += u64::from(store::counts::ask_once_in_tx(conn, scope, now).await?);
                        }
                        Ok(asked)
                    })
                })
                .await?;
        }
        // Where more are left than are asked at once, the next turn goes on.
        if found < u64::from(NODES_MAX) {
            self.inner.counted.store(to.0, Ordering::Relaxed);
        }
        Ok(asked)
    }

    /// Asks one node, or all that sold work then, for a count of the tokens issued in a period; also of one that was counted before.
    ///
    /// # Errors
    /// [`Failure`] where the period is not over, or nothing of the node was ever sold.
    pub async fn count_ask(&self, from: Timestamp, to: Timestamp, node: Option<NodeId>) -> Result<u64, Failure> {
        let now = self.now();
        if from >= to || to > now {
            return Err(Failure::invalid("a period that is counted has begun, and has ended by now"));
        }
        let mut conn = self.read().await?;
        let nodes = match node {
            Some(node) if store::house::node_keys(&mut conn.db(), node).await?.owner.is_none() => {
                return Err(Failure::NotFound { what: format!("node {node}, whose work was sold") });
            }
            Some(node) => vec![node],
            None => {
                let mut nodes = store::counts::nodes_to_ask(&mut conn.db(), from, to, NODES_MAX).await?;
                let asked = store::counts::of_period(&mut conn.db(), from, to, NODES_MAX).await?;
                nodes.extend(asked.iter().map(|row| row.scope.node));
                nodes
            }
        };
        drop(conn);
        let asked = nodes.len() as u64;
        self.write(move |conn| {
            Box::pin(async move {
                for node in nodes {
                    store::counts::ask_in_tx(conn, Scope { node, from, to }, now).await?;
                }
                Ok(())
            })
        })
        .await?;
        Ok(asked)
    }

    /// What waits for a node, the oldest first.
    ///
    /// # Errors
    /// [`Failure::NotYours`] where it is not the node that asks.
    pub async fn counts_of(&self, caller: &PublicKey, node: NodeId) -> Result<Vec<CountAsked>, Failure> {
        self.node_asking(caller, node, COUNTED).await?;
        store::counts::awaited(&mut self.read().await?.db(), node, ASKED_AT_ONCE_MAX).await
    }

    /// Takes a page of a count. With the last of them the reply says what was matched; the same page again is answered again.
    ///
    /// # Errors
    /// [`Failure`] where nobody asked for it, or it is not this node's word; then nothing is kept.
    pub async fn count(&self, caller: &PublicKey, bytes: &[u8]) -> Result<CountReply, Failure> {
        let signed = Signed::<Count>::decode(bytes)?;
        let node = signed.unverified().node;
        let known = self.node_asking(caller, node, COUNTED).await?;
        let count = signed.verify_any(&known.receipt_keys)?;
        let now = self.now();
        if count.issuer != self.inner.config.org {
            return Err(Failure::invalid("the count is of another house's tokens"));
        }
        if count.at > now.plus(SKEW_S) {
            return Err(Failure::invalid("the count was read at a moment that is still to come: set the node's clock"));
        }
        let scope = Scope { node, from: count.from, to: count.to };
        let (at, all) = (count.at, count.pages);
        let (pages, whole) = self
            .write(move |conn| {
                Box::pin(async move {
                    if !store::counts::page_is_there(conn, count.id()).await? {
                        is_asked(conn, scope).await?;
                        if store::counts::pages_kept(conn, scope).await? >= PAGES_KEPT_MAX {
                            return Err(Failure::Limit { what: "pages of one count", max: PAGES_KEPT_MAX.to_string() });
                        }
                        let others = store::counts::pages(conn, scope, at).await?;
                        fits(&count, &others)?;
                        store::counts::page_insert_in_tx(conn, &count, now).await?;
                    }
                    let pages = store::counts::pages(conn, scope, at).await?;
                    let whole = pages.len() == usize::from(all);
                    if whole {
                        lines(&pages)?;
                        store::counts::counted_in_tx(conn, scope, at).await?;
                    }
                    Ok((pages.len(), whole))
                })
            })
            .await?;
        let matched = if whole { Some(self.matched(scope, Some(at), BREAKS_TOLD_MAX).await?) } else { None };
        if let Some(matched) = &matched
            && matched.differing > 0
        {
            tracing::warn!(%node, from = %scope.from, to = %scope.to, breaks = matched.differing, "a count differs from the books");
        }
        Ok(CountReply { pages: u16::try_from(pages).unwrap_or(u16::MAX), matched })
    }

    /// What was matched of a period, node by node, as the books stand now; of nodes that have not counted, the books alone.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn matches(&self, from: Timestamp, to: Timestamp) -> Result<Vec<MatchOfNode>, Failure> {
        let asked = store::counts::of_period(&mut self.read().await?.db(), from, to, NODES_MAX).await?;
        let mut told = Vec::with_capacity(asked.len());
        for AskedRow { scope, counted_at, .. } in asked {
            let matched = self.matched(scope, counted_at, BREAKS_SHOWN_MAX).await?;
            told.push(MatchOfNode { node: scope.node, from, to, counted_at, matched });
        }
        Ok(told)
    }

    async fn matched(&self, scope: Scope, at: Option<Timestamp>, breaks_max: usize) -> Result<Matched, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot_to_audit().await?;
        let mut seen = snapshot.db();
        let pages = match at {
            Some(at) => store::counts::pages(&mut seen, scope, at).await?,
            None => Vec::new(),
        };
        let booked = store::counts::booked(&mut seen, scope).await?;
        snapshot.rollback().await?;
        let mut matched = matching::matched(&lines(&pages)?, &booked);
        if at.is_none() {
            // Not counted is no break of any token.
            matched.breaks.retain(|found| found.kind != comity_wire::api::count::BreakKind::NotCounted);
            matched.differing = matched.breaks.len() as u64;
        }
        matched.breaks.truncate(breaks_max);
        Ok(matched)
    }
}

async fn is_asked(conn: &mut Db<'_>, scope: Scope) -> Result<(), Failure> {
    match store::counts::find(conn, scope).await? {
        Some(AskedRow { counted_at: None, .. }) => Ok(()),
        Some(_) => Err(Failure::invalid("this count has come already; the house asks anew where it wants another")),
        None => Err(Failure::NotFound { what: "a count that was asked for, of that period".into() }),
    }
}

/// Whether a page goes with those that came before it.
fn fits(count: &Count, others: &[Vec<u8>]) -> Result<(), Failure> {
    for bytes in others {
        let other = Signed::<Count>::decode(bytes)?;
        let other = other.unverified();
        if other.pages != count.pages || other.page == count.page {
            return Err(Failure::invalid("another page of this count says otherwise: read the meter anew"));
        }
    }
    Ok(())
}

/// The lines of all pages.
fn lines(pages: &[Vec<u8>]) -> Result<BTreeMap<TokenId, CountLine>, Failure> {
    let mut lines = BTreeMap::new();
    for bytes in pages {
        for line in Signed::<Count>::decode(bytes)?.unverified().lines.iter() {
            if lines.insert(line.token, line.clone()).is_some() {
                return Err(Failure::invalid("a count names each token once"));
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_counted_from_its_first_day_to_the_next_ones() {
        let month = |now: &str| {
            let (from, to) = month_before(Timestamp::of_date(now).unwrap());
            (from.to_string(), to.to_string())
        };
        let days = |from: &str, to: &str| (format!("{from}T00:00:00Z"), format!("{to}T00:00:00Z"));
        assert_eq!(month("2026-11-28"), days("2026-10-01", "2026-11-01"));
        assert_eq!(month("2026-01-01"), days("2025-12-01", "2026-01-01"));
        assert_eq!(month("2028-03-31"), days("2028-02-01", "2028-03-01"));
    }
}

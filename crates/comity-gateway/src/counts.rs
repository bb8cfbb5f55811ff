//! Counts for the house (spec/07-settlement.md §9): what this node charged under the tokens of a period, read from the store.

use std::collections::BTreeMap;

use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::count::{CountAsked, CountReply, CountRequest};
use comity_wire::cbor::List;
use comity_wire::object::{Count, CountLine};
use comity_wire::{Amount, OrgId, TokenId, cose};
use tracing::{debug, error, info, warn};

use crate::claims::{ClaimError, bounded, houses};
use crate::control::token_of;
use crate::gateway::{Gateway, Inner};
use crate::store::StoreError;

impl Gateway {
    /// Sends the counts that the houses of this federation ask for, once. Returns how many were sent whole.
    pub async fn send_counts(&self) -> usize {
        let inner = &*self.0;
        let Some(house) = &inner.house else { return 0 };
        let mut sent = 0;
        for org in houses(inner) {
            let asked = match bounded(house.counts(org, inner.node)).await {
                Ok(reply) => reply.counts,
                // Of a house that nobody has drawn a token for this node from, this node is not known.
                Err(refused) => {
                    debug!(house = %org, error = %refused, "no counts were asked for");
                    continue;
                }
            };
            for count in asked {
                match send(inner, org, count).await {
                    Ok(reply) => {
                        sent += 1;
                        tell(org, count, &reply);
                    }
                    Err(error) => {
                        error!(house = %org, from = %count.from, to = %count.to, %error, "a count was not sent: it is tried again");
                    }
                }
            }
        }
        sent
    }
}

/// The reply to the last page.
async fn send(inner: &Inner, org: OrgId, asked: CountAsked) -> Result<CountReply, ClaimError> {
    let house = inner.house.as_ref().ok_or(ClaimError::Stored("no house"))?;
    let at = inner.now();
    let lines: Vec<CountLine> = read(inner, org, asked).await?.into_values().collect();
    let chunks: Vec<&[CountLine]> = if lines.is_empty() { vec![&[]] } else { lines.chunks(Count::LINES_MAX).collect() };
    let pages = u16::try_from(chunks.len()).ok().filter(|pages| *pages <= Count::PAGES_MAX);
    let pages = pages.ok_or(ClaimError::Stored("a count of more pages than one may have"))?;
    let mut reply = None;
    for (page, lines) in (1_u16..).zip(chunks) {
        let count = Count {
            node: inner.node,
            issuer: org,
            from: asked.from,
            to: asked.to,
            page,
            pages,
            lines: List::new(lines.to_vec()).expect("a chunk is a page"),
            at,
        };
        let signed = cose::try_sign(&count, &inner.receipt_key).map_err(|_| ClaimError::Stored("count"))?;
        let count = SignedBytes::new(signed.bytes()).map_err(|_| ClaimError::Stored("count"))?;
        reply = Some(bounded(house.count(org, CountRequest { count })).await?);
    }
    reply.ok_or(ClaimError::Stored("no page"))
}

/// What was charged under each token that the house issued in that time.
async fn read(inner: &Inner, org: OrgId, asked: CountAsked) -> Result<BTreeMap<TokenId, CountLine>, StoreError> {
    let store = inner.ledger.store();
    let mut lines = BTreeMap::new();
    for token in store.tokens().await? {
        let chains = store.chains(token).await?;
        let Some(terms) = chains.iter().find_map(|(_, chain)| token_of(chain)) else { continue };
        if terms.issuer() != org || terms.issued_at < asked.from || terms.issued_at >= asked.to {
            continue;
        }
        let Some(account) = store.account(token).await? else { continue };
        let (lanes, charges) = (account.lanes.len(), account.lanes.values().map(|lane| lane.n).sum());
        if charges > 0 {
            let charged = account.lanes.values().map(|lane| lane.total).fold(Amount::ZERO, Amount::saturating_add);
            let lanes = u32::try_from(lanes).map_err(|_| StoreError::Unreadable { what: "lanes of a token" })?;
            lines.insert(token, CountLine { token, lanes, charges, charged });
        }
    }
    Ok(lines)
}

fn tell(org: OrgId, asked: CountAsked, reply: &CountReply) {
    let Some(matched) = &reply.matched else { return };
    info!(
        house = %org, from = %asked.from, to = %asked.to, tokens = matched.tokens, metered = %matched.metered,
        settled = %matched.settled, in_transit = %matched.in_transit, breaks = matched.differing, "the house matched a count"
    );
    for found in &matched.breaks {
        warn!(token = %found.token, kind = ?found.kind, amount = %found.amount, whose_move = ?found.whose_move, "{}", found.message);
    }
}

//! Samples for auditors at work: settlements drawn from the log, and the trail of each.

use std::collections::BTreeSet;

use comity_ledger::{Db, Posted, TransferKind};
use comity_wire::api::challenge::Challenge;
use comity_wire::api::clearing::SignedBytes;
use comity_wire::log::{Checkpoint, TILE_WIDTH};
use comity_wire::object::Claim;
use comity_wire::{Digest, LotId, PublicKey, Signed, Timestamp, TokenId};
use serde_json::{Value, json};

use super::Clearing;
use crate::failure::Failure;
use crate::log::sample::{ITEMS_MAX, SEED_MAX, Sample, drawn, settlement};
use crate::log::trail::{DrawView, LineView, Proof, Reservation, Settlement, TokenTrail, Trail, TransferView};
use crate::store;
use crate::store::tokens::TokenRow;

/// Claims of a token that are looked through for the lanes that time has paid.
const CLAIMS_LOOKED_AT_MAX: u32 = 64;
/// Challenges of a token that a trail shows.
const REQUESTS_MAX: u32 = 256;

impl Clearing {
    /// Draws `n` settlements from the log's newest checkpoint.
    ///
    /// # Errors
    /// [`Failure`] where nothing of the log was signed yet, or more is asked for than is drawn at once.
    pub async fn sample(
        &self,
        n: usize,
        seed: &str,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Sample, Failure> {
        if n == 0 || n > ITEMS_MAX {
            return Err(Failure::Limit { what: "items of a sample", max: ITEMS_MAX.to_string() });
        }
        if seed.is_empty() || seed.len() > SEED_MAX {
            return Err(Failure::Limit { what: "bytes of a seed", max: SEED_MAX.to_string() });
        }
        let note = self.log_checkpoint().await?;
        let (text, _) = note.split_once("\n\n").ok_or(Failure::Unreadable { table: "log_checkpoint", what: "note" })?;
        let Checkpoint { size, root, .. } = Checkpoint::parse(&format!("{text}\n"))
            .map_err(|_| Failure::Unreadable { table: "log_checkpoint", what: "note" })?;
        let mut settlements = Vec::new();
        let mut conn = self.read().await?;
        let mut index = 0;
        while index < size {
            let entries = store::log::entries(&mut conn.db(), index, TILE_WIDTH.min(size - index)).await?;
            if entries.is_empty() {
                return Err(Failure::Unreadable { table: "log_entry", what: "an entry of the signed tree" });
            }
            for entry in entries {
                if settlement(&entry, from, to).is_some() {
                    settlements.push(index);
                }
                index += 1;
            }
        }
        let population = settlements.len() as u64;
        let places = drawn(&root, seed, population, n);
        let items = places.into_iter().map(|place| settlements[usize::try_from(place).unwrap_or(usize::MAX)]).collect();
        Ok(Sample { seed: seed.to_owned(), n, from, to, checkpoint: note, size, root, population, items })
    }

    /// Everything that the house has about the settlement at `index` of the log, proved within the tree of `size`.
    ///
    /// # Errors
    /// [`Failure`] where there is none.
    pub async fn trail(&self, index: u64, size: u64) -> Result<Trail, Failure> {
        let proof = self.log_inclusion(index, Some(size)).await?;
        let not_found = || Failure::NotFound { what: format!("a settlement at entry {index}") };
        let posted = settlement(&proof.entry, None, None).ok_or_else(not_found)?;
        let token = TokenId(posted.transfer.reference.0);
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot_to_audit().await?;
        let mut seen = snapshot.db();
        let row = store::tokens::token_find(&mut seen, token).await?.ok_or_else(not_found)?;
        let draws = store::awards::draws(&mut seen, token).await?;
        let lots: Vec<LotId> = draws.iter().map(|draw| draw.lot).collect();
        let lines = store::sample::lines(&mut seen, posted.transfer.id, posted.seq).await?;
        let claims = claims(&mut seen, &posted, &lines).await?;
        let quotes = match row.project {
            Some(project) => store::sample::quotes_at(&mut seen, project, row.node, row.issued_at).await?,
            None => Vec::new(),
        };
        let reserved = TransferKind::Reserve.number();
        let transfers = store::sample::transfers_about(&mut seen, token.0, reserved).await?;
        let challenges = store::challenges::of_token(&mut seen, token, REQUESTS_MAX).await?;
        let paid_out = store::sample::paid_out(&mut seen, token).await?;
        let mut acts = store::sample::acts_of_lots(&mut seen, &lots).await?;
        acts.extend(paid_out.iter().flat_map(|line| [line.terms, line.act]));
        let (signed, issuer) = self.token_bytes(&row, &claims)?;
        let trail = Trail {
            transfer: TransferView::from(&posted),
            proof: Proof { index, entry: bytes(proof.entry)?, path: proof.proof },
            awards: awards(&mut seen, &lots).await?,
            approvals: store::sample::acts(&mut seen, acts).await?,
            quotes,
            reservation: Reservation {
                transfers: transfers.iter().map(TransferView::from).collect(),
                draws: draws
                    .iter()
                    .map(|draw| DrawView { lot: draw.lot, amount: draw.amount, returned: draw.returned })
                    .collect(),
            },
            tariffs: tariffs(&mut seen, &signed).await?,
            token: TokenTrail { signed, issuer },
            node_keys: Vec::new(),
            claims,
            settlement: Settlement {
                settled_before: store::sample::settled_before(&mut seen, token, posted.seq).await?,
                lines,
            },
            requests: challenges.iter().map(|row| self.told(row)).collect::<Vec<Challenge>>(),
            paid_out,
        };
        snapshot.rollback().await?;
        drop(conn);
        Ok(Trail { node_keys: self.known(row.node).await?.receipt_keys, ..trail })
    }

    /// A token as it was signed, and by whom; the house may no longer have that key.
    fn token_bytes(&self, row: &TokenRow, claims: &[SignedBytes]) -> Result<(SignedBytes, PublicKey), Failure> {
        let unreadable = |what| Failure::Unreadable { table: "token", what };
        let signed = match (&row.bytes, claims.first()) {
            (Some(kept), _) => kept.clone(),
            (None, Some(claim)) => token_of_claim(claim)?,
            (None, None) => self.sign(row)?.bytes().to_vec(),
        };
        let issuers = match row.issuer {
            Some(issuer) => vec![issuer],
            None => self.inner.keys.issuers(),
        };
        let token = Signed::<comity_wire::object::Token>::decode(&signed)?.verify_any(&issuers)?;
        if token.id != row.id || row.content.is_some_and(|content| content != token.id()) {
            return Err(unreadable("the token that its row names"));
        }
        Ok((bytes(signed)?, *token.signer()))
    }
}

fn bytes(bytes: Vec<u8>) -> Result<SignedBytes, Failure> {
    SignedBytes::new(bytes).map_err(Failure::invalid)
}

fn token_of_claim(claim: &[u8]) -> Result<Vec<u8>, Failure> {
    let unreadable = Failure::Unreadable { table: "claim", what: "a chain" };
    let signed = Signed::<Claim>::decode(claim)?;
    let Some(chain) = signed.unverified().chains.iter().next() else { return Err(unreadable) };
    Ok(comity_wire::object::Chain::from_bytes(chain).map_err(|_| unreadable)?.token)
}

/// The claim that the settlement names; of one that time brought, those that have its lanes, the newest first.
async fn claims(conn: &mut Db<'_>, posted: &Posted, lines: &[LineView]) -> Result<Vec<SignedBytes>, Failure> {
    if let Some(claim) = store::challenges::claim_bytes(conn, posted.transfer.evidence).await? {
        return Ok(vec![bytes(claim)?]);
    }
    let mut missing: BTreeSet<(Digest, u16)> = lines.iter().map(|line| (line.leaf, line.lane)).collect();
    let mut found = Vec::new();
    let token = TokenId(posted.transfer.reference.0);
    for id in store::challenges::claims_of(conn, token, CLAIMS_LOOKED_AT_MAX).await? {
        if missing.is_empty() {
            break;
        }
        let Some(claim) = store::challenges::claim_bytes(conn, id).await? else { continue };
        let signed = Signed::<Claim>::decode(&claim)?;
        let mut brings = false;
        for lane in &signed.unverified().lanes {
            let receipt = Signed::<comity_wire::object::Receipt>::decode(&lane.receipt)?;
            let receipt = receipt.unverified();
            brings |= missing.remove(&(receipt.leaf, receipt.lane));
        }
        if brings {
            found.push(bytes(claim)?);
        }
    }
    Ok(found)
}

async fn tariffs(conn: &mut Db<'_>, token: &SignedBytes) -> Result<Vec<SignedBytes>, Failure> {
    let token = Signed::<comity_wire::object::Token>::decode(token)?;
    let ids: BTreeSet<Digest> = token.unverified().terms.scope.iter().map(|scope| scope.tariff).collect();
    let mut tariffs = Vec::with_capacity(ids.len());
    for id in ids {
        tariffs.extend(store::sample::tariff_find(conn, id).await?);
    }
    Ok(tariffs)
}

/// The awards of these lots, each with those of its lots that were drawn on.
async fn awards(conn: &mut Db<'_>, lots: &[LotId]) -> Result<Vec<Value>, Failure> {
    let mut told = Vec::new();
    let mut rows = Vec::with_capacity(lots.len());
    for lot in lots {
        rows.extend(store::awards::lot_find(conn, *lot).await?);
    }
    let ids: BTreeSet<_> = rows.iter().map(|lot| lot.award).collect();
    for id in ids {
        let Some(award) = store::awards::award_find(conn, id).await? else { continue };
        let lots: Vec<Value> = rows
            .iter()
            .filter(|lot| lot.award == id)
            .map(|lot| {
                json!({
                    "lot": lot.id, "project": lot.project, "part": lot.part, "amount_ucr": lot.amount, "opens_at": lot.opens_at,
                    "ends_at": lot.ends_at, "released_at": lot.released_at, "report": lot.report, "origin": lot.origin,
                })
            })
            .collect();
        told.push(json!({
            "award": award.id, "project": award.project, "funder": award.funder, "award_number": award.award_number,
            "listing": award.listing, "kind": award.kind, "amount_ucr": award.amount, "starts_at": award.starts_at,
            "ends_at": award.ends_at, "owners": award.owners, "ops": award.ops, "use_or_lose": award.forfeits, "lots": lots,
        }));
    }
    Ok(told)
}

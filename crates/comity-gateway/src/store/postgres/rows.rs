//! Rows and what they mean.

use comity_wire::cbor::{Decode, Limits};
use comity_wire::merkle::Frontier;
use comity_wire::object::Tier;
use comity_wire::{Amount, Digest, Op, Timestamp, TokenId};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::{StoreError, StoredCharge};
use crate::spend::{Charged, Evidence, Lane, LaneKey, Pace, Recent, Rule, Slot};

pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).expect("wire numbers stay below 2^63")
}

pub(super) fn uint(row: &PgRow, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

pub(super) fn amount(row: &PgRow, column: &'static str) -> Result<Amount, StoreError> {
    Amount::new(row.try_get(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

fn array<const N: usize>(row: &PgRow, column: &'static str) -> Result<[u8; N], StoreError> {
    row.try_get::<Vec<u8>, _>(column)?.try_into().map_err(|_| StoreError::Unreadable { what: column })
}

pub(super) fn digest(row: &PgRow, column: &'static str) -> Result<Digest, StoreError> {
    array(row, column).map(Digest)
}

pub(super) fn token(row: &PgRow) -> Result<TokenId, StoreError> {
    array(row, "token").map(TokenId)
}

fn small<T: TryFrom<i64>>(row: &PgRow, column: &'static str) -> Result<T, StoreError> {
    T::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

/// A map of the wire; an empty one, which the wire leaves out, stands here as `a0`.
fn map<T: Decode + Default>(row: &PgRow, column: &'static str) -> Result<T, StoreError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    if bytes == [0xa0] {
        return Ok(T::default());
    }
    let limits = Limits { bytes_max: 4096, items_max: 256, tagged: false };
    T::from_cbor(&bytes, limits).map_err(|_| StoreError::Unreadable { what: column })
}

pub(super) fn key(row: &PgRow) -> Result<LaneKey, StoreError> {
    Ok(LaneKey { leaf: digest(row, "leaf")?, lane: small(row, "lane")? })
}

pub(super) fn lane(row: &PgRow) -> Result<Lane, StoreError> {
    let n = uint(row, "n")?;
    let roots = row.try_get::<Vec<u8>, _>("frontier")?;
    let roots = roots.chunks_exact(32).map(|root| Digest(root.try_into().expect("chunks of 32"))).collect();
    let acknowledgement: Option<Vec<u8>> = row.try_get("acknowledgement")?;
    let acknowledgement = acknowledgement.map(|id| id.try_into().map(Digest)).transpose();
    Ok(Lane {
        n,
        seq_highest: uint(row, "seq_highest")?,
        total: amount(row, "total")?,
        remainder: small(row, "remainder")?,
        meters: map(row, "meters")?,
        flags: map(row, "flags")?,
        frontier: Frontier::from_parts(n, roots).ok_or(StoreError::Unreadable { what: "frontier" })?,
        acknowledged_n: uint(row, "acknowledged_n")?,
        acknowledged: amount(row, "acknowledged")?,
        acknowledgement: acknowledgement.map_err(|_| StoreError::Unreadable { what: "acknowledgement" })?,
        claimed_n: uint(row, "claimed_n")?,
        claimed_acknowledged_n: uint(row, "claimed_acknowledged_n")?,
        recent: Recent::default(),
    })
}

pub(super) fn pace(row: &PgRow) -> Result<(Rule, u32, Pace), StoreError> {
    let unreadable = |what| StoreError::Unreadable { what };
    let op = match uint(row, "op")? {
        0 => None,
        number => Some(Op::from_number(number).ok_or_else(|| unreadable("op"))?),
    };
    let tier = Tier::from_number(uint(row, "tier")?).ok_or_else(|| unreadable("tier"))?;
    let rule = Rule { policy: row.try_get("policy")?, tier, op };
    let begun = Timestamp(uint(row, "begun")?);
    Ok((rule, small(row, "seconds")?, Pace { begun, requests: small(row, "requests")?, tokens: uint(row, "tokens")? }))
}

pub(super) fn slot(row: &PgRow) -> Result<Slot, StoreError> {
    Ok(Slot { seq: uint(row, "seq")?, item: small(row, "item")? })
}

pub(super) fn charged(row: &PgRow) -> Result<Charged, StoreError> {
    Ok(Charged {
        authority: digest(row, "authority")?,
        n: uint(row, "n")?,
        total: amount(row, "total")?,
        receipt: digest(row, "receipt_id")?,
    })
}

pub(super) fn charge(row: &PgRow) -> Result<StoredCharge, StoreError> {
    Ok(StoredCharge {
        slot: slot(row)?,
        charged: charged(row)?,
        receipt: row.try_get("receipt")?,
        evidence: Evidence { base: row.try_get("evidence")?, signature: array(row, "signature")? },
    })
}

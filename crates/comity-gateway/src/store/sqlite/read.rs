//! Columns, and what is read from them.

use comity_wire::cbor::{Decode, Limits};
use comity_wire::merkle::Frontier;
use comity_wire::object::Tier;
use comity_wire::{Amount, Digest, Op, Timestamp, TokenId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::spend::{Charged, Evidence, Lane, LaneKey, Pace, Recent, Rule, Slot};
use crate::store::{StoreError, StoredCharge};

pub(super) fn id(token: &TokenId) -> Vec<u8> {
    token.0.to_vec()
}

pub(super) fn digest(digest: &Digest) -> Vec<u8> {
    digest.0.to_vec()
}

pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).expect("wire numbers stay below 2^63")
}

pub(super) fn uint(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

pub(super) fn amount(row: &SqliteRow, column: &'static str) -> Result<Amount, StoreError> {
    Amount::new(row.try_get(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

pub(super) fn read_array<const N: usize>(row: &SqliteRow, column: &'static str) -> Result<[u8; N], StoreError> {
    row.try_get::<Vec<u8>, _>(column)?.try_into().map_err(|_| StoreError::Unreadable { what: column })
}

pub(super) fn read_digest(row: &SqliteRow, column: &'static str) -> Result<Digest, StoreError> {
    read_array(row, column).map(Digest)
}

fn small<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    T::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Unreadable { what: column })
}

/// A map of the wire; an empty one, which the wire leaves out, stands here as `a0`.
fn map<T: Decode + Default>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    if bytes == [0xa0] {
        return Ok(T::default());
    }
    let limits = Limits { bytes_max: 4096, items_max: 256, tagged: false };
    T::from_cbor(&bytes, limits).map_err(|_| StoreError::Unreadable { what: column })
}

pub(super) fn read_key(row: &SqliteRow) -> Result<LaneKey, StoreError> {
    Ok(LaneKey { leaf: read_digest(row, "leaf")?, lane: small(row, "lane")? })
}

pub(super) fn read_lane(row: &SqliteRow) -> Result<(LaneKey, Lane), StoreError> {
    let key = read_key(row)?;
    let n = uint(row, "n")?;
    let roots = row.try_get::<Vec<u8>, _>("frontier")?;
    let roots = roots.chunks_exact(32).map(|root| Digest(root.try_into().expect("chunks of 32"))).collect();
    let acknowledgement: Option<Vec<u8>> = row.try_get("acknowledgement")?;
    let acknowledgement = acknowledgement.map(|id| id.try_into().map(Digest)).transpose();
    let lane = Lane {
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
    };
    Ok((key, lane))
}

pub(super) fn read_pace(row: &SqliteRow) -> Result<(Rule, u32, Pace), StoreError> {
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

pub(super) fn read_slot(row: &SqliteRow) -> Result<Slot, StoreError> {
    Ok(Slot { seq: uint(row, "seq")?, item: small(row, "item")? })
}

pub(super) fn read_charged(row: &SqliteRow) -> Result<Charged, StoreError> {
    Ok(Charged {
        authority: read_digest(row, "authority")?,
        n: uint(row, "n")?,
        total: amount(row, "total")?,
        receipt: read_digest(row, "receipt_id")?,
    })
}

pub(super) fn read_charge(row: &SqliteRow) -> Result<StoredCharge, StoreError> {
    Ok(StoredCharge {
        slot: read_slot(row)?,
        charged: read_charged(row)?,
        receipt: row.try_get("receipt")?,
        evidence: Evidence { base: row.try_get("evidence")?, signature: read_array(row, "signature")? },
    })
}

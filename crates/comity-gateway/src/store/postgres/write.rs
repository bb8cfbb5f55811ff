//! What a round writes, set by set: a statement for each table, however many requests the round decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_wire::cbor::Encode as _;
use comity_wire::{Amount, Digest, TokenId};
use sqlx::postgres::PgConnection;

use super::super::{Decided, StoreError};
use super::rows::int;
use super::{digest, id, planned};
use crate::spend::{Book, Charged, Evidence, Lane, LaneKey, Pace, PaceKey, Slot, Write};

pub(super) const fn token_of(write: &Write) -> Option<TokenId> {
    match write {
        Write::Token { token, .. }
        | Write::Chain { token, .. }
        | Write::Spent { token, .. }
        | Write::Lane { token, .. }
        | Write::Charge { token, .. }
        | Write::Acknowledgement { token, .. }
        | Write::Closed { token }
        | Write::Final { token, .. }
        | Write::Superseded { token, .. }
        | Write::Asked { token, .. }
        | Write::Claim { token, .. } => Some(*token),
        Write::Pace { .. } | Write::Run { .. } => None,
    }
}

pub(super) fn charge_of(write: &Write) -> Option<(TokenId, LaneKey, Slot, Digest)> {
    match write {
        Write::Charge { token, key, slot, charged, .. } => Some((*token, *key, *slot, charged.receipt)),
        _ => None,
    }
}

/// Writes all of it. Gives the tokens whose accounts changed.
pub(super) async fn all(
    tx: &mut PgConnection,
    fence: i64,
    versions: &BTreeMap<TokenId, i64>,
    decided: &Decided,
    book: &Book,
) -> Result<BTreeSet<TokenId>, StoreError> {
    holds_end(tx, decided).await?;
    let changed: BTreeSet<TokenId> = decided.writes.iter().filter_map(token_of).collect();
    let of = |token: &TokenId| {
        versions.get(token).map(|version| version + 1).ok_or(StoreError::Unreadable { what: "token" })
    };
    if !changed.is_empty() {
        let tokens: Vec<Vec<u8>> = changed.iter().map(id).collect();
        let sql = "UPDATE token SET version = version + 1 WHERE token = ANY($1)";
        sqlx::query(sql).bind(tokens).execute(&mut *tx).await?;
    }
    let (mut spent, mut lanes) = (BTreeMap::new(), BTreeMap::new());
    let (mut paces, mut runs) = (BTreeMap::new(), BTreeMap::new());
    let (mut charges, mut others) = (Vec::new(), Vec::new());
    for write in &decided.writes {
        match write {
            // Its row was made with the lock.
            Write::Token { .. } => {}
            Write::Spent { token, id, amount, cap } => {
                spent.insert((*token, *id), (*amount, *cap, of(token)?));
            }
            Write::Lane { token, key, lane } => {
                lanes.insert((*token, *key), (lane, of(token)?));
            }
            Write::Charge { token, key, slot, charged, charge, receipt, evidence } => {
                charges.push(Row { token, key, slot, charged, charge, receipt, evidence });
            }
            Write::Pace { key, pace } => {
                paces.insert(key, pace);
            }
            Write::Run { key, row } => {
                runs.insert(key, row);
            }
            other => others.push(other),
        }
    }
    spent_put(tx, &spent).await?;
    lanes_put(tx, &lanes).await?;
    charges_put(tx, &charges).await?;
    paces_put(tx, &paces).await?;
    planned::runs_put(tx, &runs).await?;
    for write in others {
        other_put(tx, write).await?;
    }
    holds_begin(tx, fence, decided, book).await?;
    Ok(changed)
}

async fn spent_put(
    tx: &mut PgConnection,
    spent: &BTreeMap<(TokenId, Digest), (Amount, Amount, i64)>,
) -> Result<(), StoreError> {
    if spent.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO spent (token, id, amount, cap, version) \
               SELECT * FROM UNNEST($1::BYTEA[], $2::BYTEA[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[]) \
               ON CONFLICT (token, id) DO UPDATE SET amount = excluded.amount, cap = excluded.cap, version = excluded.version";
    sqlx::query(sql)
        .bind(spent.keys().map(|(token, _)| id(token)).collect::<Vec<_>>())
        .bind(spent.keys().map(|(_, at)| digest(at)).collect::<Vec<_>>())
        .bind(spent.values().map(|(amount, ..)| amount.ucr()).collect::<Vec<_>>())
        .bind(spent.values().map(|(_, cap, _)| cap.ucr()).collect::<Vec<_>>())
        .bind(spent.values().map(|(.., version)| *version).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

async fn lanes_put(
    tx: &mut PgConnection,
    lanes: &BTreeMap<(TokenId, LaneKey), (&Arc<Lane>, i64)>,
) -> Result<(), StoreError> {
    if lanes.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO lane (token, leaf, lane, n, seq_highest, total, remainder, meters, flags, frontier, \
               acknowledged_n, acknowledged, acknowledgement, claimed_n, claimed_acknowledged_n, version) \
               SELECT * FROM UNNEST($1::BYTEA[], $2::BYTEA[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[], $6::BIGINT[], \
               $7::BIGINT[], $8::BYTEA[], $9::BYTEA[], $10::BYTEA[], $11::BIGINT[], $12::BIGINT[], $13::BYTEA[], \
               $14::BIGINT[], $15::BIGINT[], $16::BIGINT[]) \
               ON CONFLICT (token, leaf, lane) DO UPDATE SET n = excluded.n, seq_highest = excluded.seq_highest, \
               total = excluded.total, remainder = excluded.remainder, meters = excluded.meters, flags = excluded.flags, \
               frontier = excluded.frontier, acknowledged_n = excluded.acknowledged_n, \
               acknowledged = excluded.acknowledged, acknowledgement = excluded.acknowledgement, \
               claimed_n = excluded.claimed_n, claimed_acknowledged_n = excluded.claimed_acknowledged_n, \
               version = excluded.version";
    let numbers = |number: fn(&Lane) -> i64| lanes.values().map(|(lane, _)| number(lane)).collect::<Vec<i64>>();
    let bytes = |bytes: fn(&Lane) -> Vec<u8>| lanes.values().map(|(lane, _)| bytes(lane)).collect::<Vec<Vec<u8>>>();
    sqlx::query(sql)
        .bind(lanes.keys().map(|(token, _)| id(token)).collect::<Vec<_>>())
        .bind(lanes.keys().map(|(_, key)| digest(&key.leaf)).collect::<Vec<_>>())
        .bind(lanes.keys().map(|(_, key)| i64::from(key.lane)).collect::<Vec<_>>())
        .bind(numbers(|lane| int(lane.n)))
        .bind(numbers(|lane| int(lane.seq_highest)))
        .bind(numbers(|lane| lane.total.ucr()))
        .bind(numbers(|lane| i64::from(lane.remainder)))
        .bind(bytes(|lane| lane.meters.to_cbor()))
        .bind(bytes(|lane| lane.flags.to_cbor()))
        .bind(bytes(|lane| lane.frontier.roots().iter().flat_map(|root| root.0).collect()))
        .bind(numbers(|lane| int(lane.acknowledged_n)))
        .bind(numbers(|lane| lane.acknowledged.ucr()))
        .bind(lanes.values().map(|(lane, _)| lane.acknowledgement.as_ref().map(digest)).collect::<Vec<_>>())
        .bind(numbers(|lane| int(lane.claimed_n)))
        .bind(numbers(|lane| int(lane.claimed_acknowledged_n)))
        .bind(lanes.values().map(|(_, version)| *version).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

async fn paces_put(tx: &mut PgConnection, paces: &BTreeMap<&PaceKey, &Pace>) -> Result<(), StoreError> {
    if paces.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO pace (subject, policy, tier, op, seconds, begun, requests, tokens) \
               SELECT * FROM UNNEST($1::TEXT[], $2::TEXT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[], $6::BIGINT[], \
               $7::BIGINT[], $8::BIGINT[]) \
               ON CONFLICT (subject, policy, tier, op, seconds) DO UPDATE SET begun = excluded.begun, \
               requests = excluded.requests, tokens = excluded.tokens";
    let texts = |text: fn(&PaceKey) -> &str| paces.keys().map(|key| text(key).to_owned()).collect::<Vec<String>>();
    let keys = |number: fn(&PaceKey) -> i64| paces.keys().map(|key| number(key)).collect::<Vec<i64>>();
    let numbers = |number: fn(&Pace) -> i64| paces.values().map(|pace| number(pace)).collect::<Vec<i64>>();
    sqlx::query(sql)
        .bind(texts(|key| &key.subject))
        .bind(texts(|key| &key.rule.policy))
        .bind(keys(|key| i64::from(key.rule.tier.number())))
        .bind(keys(|key| key.rule.op.map_or(0, |op| i64::from(op.number()))))
        .bind(keys(|key| i64::from(key.seconds)))
        .bind(numbers(|pace| int(pace.begun.seconds())))
        .bind(numbers(|pace| i64::from(pace.requests)))
        .bind(numbers(|pace| i64::try_from(pace.tokens).unwrap_or(i64::MAX)))
        .execute(tx)
        .await?;
    Ok(())
}

struct Row<'w> {
    token: &'w TokenId,
    key: &'w LaneKey,
    slot: &'w Slot,
    charged: &'w Charged,
    charge: &'w Amount,
    receipt: &'w Vec<u8>,
    evidence: &'w Evidence,
}

async fn charges_put(tx: &mut PgConnection, charges: &[Row<'_>]) -> Result<(), StoreError> {
    if charges.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO charge (token, leaf, lane, seq, item, n, authority, charge, total, receipt_id, receipt, \
               evidence, signature) SELECT * FROM UNNEST($1::BYTEA[], $2::BYTEA[], $3::BIGINT[], $4::BIGINT[], \
               $5::BIGINT[], $6::BIGINT[], $7::BYTEA[], $8::BIGINT[], $9::BIGINT[], $10::BYTEA[], $11::BYTEA[], \
               $12::TEXT[], $13::BYTEA[])";
    let numbers = |number: fn(&Row<'_>) -> i64| charges.iter().map(number).collect::<Vec<i64>>();
    let bytes = |bytes: fn(&Row<'_>) -> Vec<u8>| charges.iter().map(bytes).collect::<Vec<Vec<u8>>>();
    sqlx::query(sql)
        .bind(bytes(|row| id(row.token)))
        .bind(bytes(|row| digest(&row.key.leaf)))
        .bind(numbers(|row| i64::from(row.key.lane)))
        .bind(numbers(|row| int(row.slot.seq)))
        .bind(numbers(|row| i64::from(row.slot.item)))
        .bind(numbers(|row| int(row.charged.n)))
        .bind(bytes(|row| digest(&row.charged.authority)))
        .bind(numbers(|row| row.charge.ucr()))
        .bind(numbers(|row| row.charged.total.ucr()))
        .bind(bytes(|row| digest(&row.charged.receipt)))
        .bind(bytes(|row| row.receipt.clone()))
        .bind(charges.iter().map(|row| row.evidence.base.clone()).collect::<Vec<_>>())
        .bind(bytes(|row| row.evidence.signature.to_vec()))
        .execute(tx)
        .await?;
    Ok(())
}

/// What comes once in a token's life, or once an hour.
async fn other_put(tx: &mut PgConnection, write: &Write) -> Result<(), StoreError> {
    let query = match write {
        Write::Chain { token, leaf, bytes } => {
            let sql = "INSERT INTO chain (leaf, token, bytes, subject) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
            sqlx::query(sql)
                .bind(digest(leaf))
                .bind(id(token))
                .bind(bytes.to_vec())
                .bind(super::super::kept::subject_of(bytes))
        }
        Write::Acknowledgement { token, id: ack, bytes } => {
            sqlx::query("INSERT INTO acknowledgement (token, id, bytes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(id(token))
                .bind(digest(ack))
                .bind(bytes.clone())
        }
        Write::Closed { token } => sqlx::query("UPDATE token SET closed = TRUE WHERE token = $1").bind(id(token)),
        Write::Final { token, bytes } => {
            sqlx::query("UPDATE token SET final = $2 WHERE token = $1").bind(id(token)).bind(bytes.clone())
        }
        Write::Superseded { token, at } => {
            sqlx::query("INSERT INTO superseded (token, at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(id(token))
                .bind(digest(at))
        }
        Write::Asked { token, key, slot, created } => {
            let sql = "INSERT INTO asked (token, leaf, lane, seq, item, created) VALUES ($1, $2, $3, $4, $5, $6) \
                       ON CONFLICT (token, leaf, lane, seq, item) DO UPDATE \
                       SET created = GREATEST(asked.created, excluded.created)";
            let query = sqlx::query(sql).bind(id(token)).bind(digest(&key.leaf)).bind(i64::from(key.lane));
            query.bind(int(slot.seq)).bind(i64::from(slot.item)).bind(int(created.seconds()))
        }
        Write::Claim { token, number, pending } => {
            let sql = "DELETE FROM acknowledgement WHERE token = $1 AND id NOT IN \
                       (SELECT acknowledgement FROM lane WHERE token = $1 AND acknowledgement IS NOT NULL)";
            sqlx::query(sql).bind(id(token)).execute(&mut *tx).await?;
            sqlx::query("UPDATE token SET claims = $2, pending = $3 WHERE token = $1")
                .bind(id(token))
                .bind(int(*number))
                .bind(pending.clone())
        }
        other => unreachable!("{other:?} is written with its kind"),
    };
    query.execute(tx).await?;
    Ok(())
}

/// Ends holds that were there. Under the token's lock they still are: another count is a broken invariant.
async fn holds_end(tx: &mut PgConnection, decided: &Decided) -> Result<(), StoreError> {
    if decided.ended.is_empty() {
        return Ok(());
    }
    let holds: Vec<i64> = decided.ended.iter().map(|hold| int(hold.number())).collect();
    let ended = sqlx::query("DELETE FROM hold WHERE id = ANY($1)").bind(&holds).execute(tx).await?.rows_affected();
    if ended == holds.len() as u64 { Ok(()) } else { Err(StoreError::Unreadable { what: "hold" }) }
}

async fn holds_begin(tx: &mut PgConnection, fence: i64, decided: &Decided, book: &Book) -> Result<(), StoreError> {
    if decided.held.is_empty() {
        return Ok(());
    }
    let held: Vec<_> =
        decided.held.iter().map(|hold| book.hold_export(*hold).expect("what is left open is in the book")).collect();
    let sql = "INSERT INTO hold (id, fence, token, leaf, lane, seq, item, subject, amount, body) \
               SELECT id, $2, token, leaf, lane, seq, item, subject, amount, body FROM UNNEST($1::BIGINT[], \
               $3::BYTEA[], $4::BYTEA[], $5::BIGINT[], $6::BIGINT[], $7::BIGINT[], $8::TEXT[], $9::BIGINT[], $10::TEXT[]) \
               AS h (id, token, leaf, lane, seq, item, subject, amount, body)";
    sqlx::query(sql)
        .bind(held.iter().map(|hold| int(hold.id.number())).collect::<Vec<_>>())
        .bind(fence)
        .bind(held.iter().map(|hold| id(&hold.token)).collect::<Vec<_>>())
        .bind(held.iter().map(|hold| digest(&hold.key.leaf)).collect::<Vec<_>>())
        .bind(held.iter().map(|hold| i64::from(hold.key.lane)).collect::<Vec<_>>())
        .bind(held.iter().map(|hold| int(hold.slot.seq)).collect::<Vec<_>>())
        .bind(held.iter().map(|hold| i64::from(hold.slot.item)).collect::<Vec<_>>())
        .bind(held.iter().map(|hold| hold.subject.clone()).collect::<Vec<_>>())
        .bind(held.iter().map(|hold| hold.amount.ucr()).collect::<Vec<_>>())
        .bind(held.iter().map(|hold| hold.body.clone()).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

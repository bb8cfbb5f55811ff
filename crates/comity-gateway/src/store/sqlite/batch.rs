//! A batch of charges, straight to SQLite on the thread of whoever writes it (docs/decisions/0101).
//!
//! What else is written goes through sqlx, by its other thread. For a batch that was as dear as SQLite itself: every value copied
//! for the way there, two switches of threads, an answer for each statement.

use std::collections::BTreeMap;
use std::path::Path;

use comity_wire::cbor::Encode as _;
use rusqlite::{Connection, Error, OpenFlags, Params, ffi, params};

use super::BUSY_TIMEOUT;
use super::read::int;
use crate::spend::{Pace, PaceKey, RunKey, RunRow, Write};
use crate::store::planned::counted;
use crate::store::{StoreError, kept};

/// More than there are texts below: each stays prepared.
const STATEMENTS_MAX: usize = 32;
/// More than a batch of charges appends to the log.
const TRIAL_BYTES: i64 = 1 << 20;

/// Opens a file whose tables are up to date.
///
/// # Errors
/// [`StoreError::File`].
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Whoever has it has it alone: it stands behind a lock of ours.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // What a statement would undo that changes many rows stays in memory: SQLite would make a file for it.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA wal_autocheckpoint = 0; \
         PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

/// One transaction. Where it does not end well the connection must not be used again: dropped, it undoes what it began.
///
/// # Errors
/// [`StoreError::Fenced`], [`StoreError::Refused`], [`StoreError::File`].
pub(super) fn write(connection: &Connection, writes: &[Write], fence: i64) -> Result<(), StoreError> {
    run(connection, "BEGIN IMMEDIATE", [])?;
    // A fence that has moved on makes the column null, which the table refuses.
    let compared = "UPDATE spend_fence SET commits = commits + 1, fence = CASE fence WHEN ? THEN fence END";
    run(connection, compared, [fence])?;
    for write in once_spent(writes) {
        put(connection, write)?;
    }
    run(connection, "COMMIT", [])
}

/// Two commits: what is put in and taken out in one is never written.
///
/// # Errors
/// [`StoreError::File`].
pub(super) fn try_out(connection: &Connection) -> Result<(), StoreError> {
    run(connection, "INSERT OR REPLACE INTO trial (id, bytes) VALUES (1, zeroblob(?))", [TRIAL_BYTES])?;
    run(connection, "DELETE FROM trial", [])
}

fn run(connection: &Connection, sql: &str, values: impl Params) -> Result<(), StoreError> {
    let ran = connection.prepare_cached(sql).and_then(|mut statement| statement.execute(values));
    match ran {
        Ok(_) => Ok(()),
        Err(error) if is_null(&error, "spend_fence.fence") => Err(StoreError::Fenced),
        Err(error) if is_null(&error, "spent.amount") || is_null(&error, "lane.n") => Err(StoreError::Refused {
            why: "a batch was worked out from an account that is older than the store".into(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Whether a column that a condition of ours makes null refused it.
fn is_null(error: &Error, column: &str) -> bool {
    let Error::SqliteFailure(error, Some(message)) = error else { return false };
    error.extended_code == ffi::SQLITE_CONSTRAINT_NOTNULL && message.ends_with(column)
}

/// The writes with each `spent` row written once, in its first place and with its last amount: sixteen lanes of one token
/// all count in one row.
fn once_spent(writes: &[Write]) -> Vec<&Write> {
    let mut last = BTreeMap::new();
    for write in writes {
        if let Write::Spent { token, id, .. } = write {
            last.insert((*token, *id), write);
        }
    }
    let once = writes.iter().filter_map(|write| match write {
        Write::Spent { token, id, .. } => last.remove(&(*token, *id)),
        other => Some(other),
    });
    once.collect()
}

fn put(to: &Connection, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Token { token, root } => {
            run(to, "INSERT INTO token (token, root) VALUES (?, ?) ON CONFLICT DO NOTHING", params![token.0, root.0])
        }
        Write::Chain { token, leaf, bytes } => run(
            to,
            "INSERT INTO chain (leaf, token, bytes, subject) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            params![leaf.0, token.0, &bytes[..], kept::subject_of(bytes)],
        ),
        Write::Acknowledgement { token, id, bytes } => run(
            to,
            "INSERT INTO acknowledgement (token, id, bytes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            params![token.0, id.0, bytes],
        ),
        Write::Closed { token } => run(to, "UPDATE token SET closed = 1 WHERE token = ?", [token.0]),
        Write::Final { token, bytes } => run(to, "UPDATE token SET final = ? WHERE token = ?", params![bytes, token.0]),
        Write::Superseded { token, at } => {
            run(to, "INSERT INTO superseded (token, at) VALUES (?, ?) ON CONFLICT DO NOTHING", params![token.0, at.0])
        }
        Write::Asked { token, key, slot, created } => run(
            to,
            "INSERT INTO asked (token, leaf, lane, seq, item, created) VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET created = MAX(created, excluded.created)",
            params![token.0, key.leaf.0, key.lane, int(slot.seq), slot.item, int(created.seconds())],
        ),
        Write::Claim { token, number, pending } => {
            run(
                to,
                "DELETE FROM acknowledgement WHERE token = ?1 AND id NOT IN \
                 (SELECT acknowledgement FROM lane WHERE token = ?1 AND acknowledgement IS NOT NULL)",
                [token.0],
            )?;
            let sql = "UPDATE token SET claims = ?, pending = ? WHERE token = ?";
            run(to, sql, params![int(*number), pending, token.0])
        }
        // Sums only rise: one that fell was worked out from an older account. The column takes no null.
        Write::Spent { token, id, amount, .. } => run(
            to,
            "INSERT INTO spent (token, id, amount) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET amount = CASE WHEN excluded.amount >= amount THEN excluded.amount END",
            params![token.0, id.0, amount.ucr()],
        ),
        Write::Lane { token, key, lane } => {
            let frontier: Vec<u8> = lane.frontier.roots().iter().flat_map(|root| root.0).collect();
            run(
                to,
                "INSERT INTO lane (token, leaf, lane, n, seq_highest, total, remainder, meters, flags, frontier, acknowledged_n, \
                 acknowledged, acknowledgement, claimed_n, claimed_acknowledged_n) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                 ON CONFLICT DO UPDATE SET n = CASE WHEN excluded.n >= n THEN excluded.n END, seq_highest = excluded.seq_highest, \
                 total = excluded.total, remainder = excluded.remainder, meters = excluded.meters, flags = excluded.flags, \
                 frontier = excluded.frontier, acknowledged_n = excluded.acknowledged_n, acknowledged = excluded.acknowledged, \
                 acknowledgement = excluded.acknowledgement, claimed_n = excluded.claimed_n, \
                 claimed_acknowledged_n = excluded.claimed_acknowledged_n",
                params![
                    token.0,
                    key.leaf.0,
                    key.lane,
                    int(lane.n),
                    int(lane.seq_highest),
                    lane.total.ucr(),
                    lane.remainder,
                    lane.meters.to_cbor(),
                    lane.flags.to_cbor(),
                    frontier,
                    int(lane.acknowledged_n),
                    lane.acknowledged.ucr(),
                    lane.acknowledgement.map(|id| id.0),
                    int(lane.claimed_n),
                    int(lane.claimed_acknowledged_n),
                ],
            )
        }
        Write::Charge { token, key, slot, charged, charge, receipt, evidence } => run(
            to,
            "INSERT INTO charge (token, leaf, lane, seq, item, n, authority, charge, total, receipt_id, receipt, evidence, signature) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                token.0,
                key.leaf.0,
                key.lane,
                int(slot.seq),
                slot.item,
                int(charged.n),
                charged.authority.0,
                charge.ucr(),
                charged.total.ucr(),
                charged.receipt.0,
                &receipt[..],
                evidence.base,
                &evidence.signature[..],
            ],
        ),
        Write::Pace { key, pace } => put_pace(to, key, pace),
        Write::Run { key, row } => put_run(to, key, row),
    }
}

fn put_pace(to: &Connection, key: &PaceKey, pace: &Pace) -> Result<(), StoreError> {
    run(
        to,
        "INSERT INTO pace (subject, policy, tier, op, seconds, begun, requests, tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO UPDATE SET begun = excluded.begun, requests = excluded.requests, tokens = excluded.tokens",
        params![
            key.subject,
            key.rule.policy,
            i64::from(key.rule.tier.number()),
            key.rule.op.map_or(0, |op| i64::from(op.number())),
            key.seconds,
            int(pace.begun.seconds()),
            pace.requests,
            i64::try_from(pace.tokens).unwrap_or(i64::MAX),
        ],
    )
}

fn put_run(to: &Connection, key: &RunKey, row: &RunRow) -> Result<(), StoreError> {
    run(
        to,
        "INSERT INTO plan_run (subject, grant_id, run, op, begun, ends, calls, input_tokens, output_tokens) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET begun = excluded.begun, calls = excluded.calls, \
         input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens",
        params![
            key.subject,
            key.grant.0,
            key.run.to_string(),
            i64::from(key.op.number()),
            int(row.begun.seconds()),
            int(row.until.seconds()),
            counted(row.used.calls),
            counted(row.used.input_tokens),
            counted(row.used.output_tokens),
        ],
    )
}

//! Officers, and the acts that need two of them.

use comity_ledger::db::{Db, Row, query};
use comity_wire::{Digest, PublicKey, Timestamp};

use super::{Cells, seconds};
use crate::acts::{ActRecord, Officer, Signature};
use crate::failure::Failure;

pub(crate) async fn officers(conn: &mut Db<'_>) -> Result<Vec<Officer>, Failure> {
    let rows =
        query("SELECT key, name FROM officer WHERE removed_at IS NULL ORDER BY added_at, key").fetch_all(conn).await?;
    let officer = |row| {
        let cells = Cells { table: "officer", row };
        Ok(Officer { key: cells.key("key")?, name: cells.text("name")? })
    };
    rows.iter().map(officer).collect()
}

pub(crate) async fn officer_put_in_tx(conn: &mut Db<'_>, officer: &Officer, now: Timestamp) -> Result<(), Failure> {
    query(
        "INSERT INTO officer (key, name, added_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (key) DO UPDATE SET name = ?2, added_at = ?3, removed_at = NULL",
    )
    .bind(officer.key.as_bytes().to_vec())
    .bind(&officer.name)
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn officer_remove_in_tx(conn: &mut Db<'_>, key: &PublicKey, now: Timestamp) -> Result<(), Failure> {
    query("UPDATE officer SET removed_at = ? WHERE key = ?")
        .bind(seconds(now))
        .bind(key.as_bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn act_find(conn: &mut Db<'_>, id: Digest) -> Result<Option<ActRecord>, Failure> {
    let row = query("SELECT * FROM act WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    row.as_ref().map(act).transpose()
}

/// How many wait for a second person.
pub(crate) async fn acts_waiting(conn: &mut Db<'_>) -> Result<u64, Failure> {
    let count: i64 = query("SELECT COUNT(*) FROM act WHERE state = 0").fetch_one(conn).await?.first()?;
    Ok(count.unsigned_abs())
}

/// The newest acts, those that wait before all others.
pub(crate) async fn acts(conn: &mut Db<'_>, limit: u32) -> Result<Vec<ActRecord>, Failure> {
    let rows = query("SELECT * FROM act ORDER BY state, proposed_at DESC, id LIMIT ?")
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(act).collect()
}

pub(crate) async fn act_insert_in_tx(conn: &mut Db<'_>, act: &ActRecord, kind: &str) -> Result<(), Failure> {
    let (proposer, proposal) = signature(act.proposed_by.as_ref());
    query(
        "INSERT INTO act (id, kind, body, proposer, proposal, proposed_at, done_at, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(act.id.0.to_vec())
    .bind(kind)
    .bind(&act.body)
    .bind(proposer)
    .bind(proposal)
    .bind(seconds(act.proposed_at))
    .bind(act.done_at.map(seconds))
    .bind(i64::from(act.done_at.is_some()))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn act_approve_in_tx(
    conn: &mut Db<'_>,
    id: Digest,
    by: Option<&Signature>,
    now: Timestamp,
) -> Result<(), Failure> {
    let (approver, approval) = signature(by);
    query("UPDATE act SET approver = ?, approval = ?, done_at = ?, state = 1 WHERE id = ? AND state = 0")
        .bind(approver)
        .bind(approval)
        .bind(seconds(now))
        .bind(id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops an act that waits; whether there was one.
pub(crate) async fn act_drop_in_tx(conn: &mut Db<'_>, id: Digest) -> Result<bool, Failure> {
    Ok(query("DELETE FROM act WHERE id = ? AND state = 0").bind(id.0.to_vec()).execute(conn).await? == 1)
}

fn signature(by: Option<&Signature>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    (by.map(|by| by.officer.as_bytes().to_vec()), by.map(|by| by.signature.to_vec()))
}

pub(crate) fn act(row: &Row) -> Result<ActRecord, Failure> {
    let cells = Cells { table: "act", row };
    let by = |key: &'static str, signature: &'static str| -> Result<Option<Signature>, Failure> {
        let Some(bytes) = cells.blob_maybe(signature)? else { return Ok(None) };
        let signature = comity_wire::cbor::Bytes::new(bytes).map_err(|_| cells.unreadable(signature))?;
        Ok(Some(Signature { officer: cells.key(key)?, signature }))
    };
    Ok(ActRecord {
        id: cells.digest("id")?,
        body: cells.text("body")?,
        proposed_by: by("proposer", "proposal")?,
        proposed_at: cells.time("proposed_at")?,
        approved_by: by("approver", "approval")?,
        done_at: cells.time_maybe("done_at")?,
    })
}

/// The bodies of all acts of a kind that were done, the newest first.
pub(crate) async fn done_of(conn: &mut Db<'_>, kind: &str) -> Result<Vec<String>, Failure> {
    let sql = "SELECT body FROM act WHERE kind = ? AND state = 1 ORDER BY proposed_at DESC, id LIMIT 10000";
    let rows = query(sql).bind(kind).fetch_all(conn).await?;
    rows.iter().map(|row| Cells { table: "act", row }.text("body")).collect()
}

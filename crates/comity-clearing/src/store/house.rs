//! The house's own state: its heartbeat, the nodes' keys it has seen, its revocation lists.

use comity_wire::cbor::Text;
use comity_wire::object::{NodeCertificate, Revocation, RevokedKind};
use comity_wire::{NodeId, OrgId, PublicKey, Timestamp};
use sqlx::sqlite::SqliteConnection;

use super::{Cells, int, seconds};
use crate::failure::Failure;
use crate::settlement::Calendar;
use crate::settlement::calendar::Beat;

pub(crate) async fn calendar(conn: &mut SqliteConnection) -> Result<Calendar, Failure> {
    let rows = sqlx::query("SELECT begins_at, ends_at FROM open_span ORDER BY begins_at").fetch_all(conn).await?;
    let span = |row| {
        let cells = Cells { table: "open_span", row };
        Ok((cells.time("begins_at")?, cells.time("ends_at")?))
    };
    Ok(Calendar::new(rows.iter().map(span).collect::<Result<_, Failure>>()?))
}

pub(crate) async fn beat_in_tx(conn: &mut SqliteConnection, beat: Beat, now: Timestamp) -> Result<(), Failure> {
    let sql = match beat {
        Beat::Opened => "INSERT INTO open_span (begins_at, ends_at) VALUES (?1, ?1)",
        Beat::Extended => {
            "UPDATE open_span SET ends_at = MAX(ends_at, ?1) WHERE begins_at = (SELECT MAX(begins_at) FROM open_span)"
        }
    };
    sqlx::query(sql).bind(seconds(now)).execute(conn).await?;
    Ok(())
}

/// Remembers the receipt keys of a certificate, for good.
pub(crate) async fn node_keys_put_in_tx(
    conn: &mut SqliteConnection,
    certificate: &NodeCertificate,
    now: Timestamp,
) -> Result<(), Failure> {
    for entry in &certificate.receipt_keys {
        sqlx::query("INSERT INTO node_key (node, key, owner, seen_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(certificate.node.0.to_vec())
            .bind(entry.key.as_bytes().to_vec())
            .bind(certificate.org.0.to_vec())
            .bind(seconds(now))
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Every receipt key that the house has seen certified to `node`, and who owns the node.
pub(crate) async fn node_keys(
    conn: &mut SqliteConnection,
    node: NodeId,
) -> Result<(Vec<PublicKey>, Option<OrgId>), Failure> {
    let rows = sqlx::query("SELECT key, owner FROM node_key WHERE node = ? ORDER BY seen_at DESC, key")
        .bind(node.0.to_vec())
        .fetch_all(conn)
        .await?;
    let cells = |row| Cells { table: "node_key", row };
    let keys = rows.iter().map(|row| cells(row).key("key")).collect::<Result<_, _>>()?;
    let owner = rows.first().map(|row| cells(row).bytes("owner")).transpose()?;
    Ok((keys, owner.map(OrgId)))
}

pub(crate) async fn revocation_insert_in_tx(
    conn: &mut SqliteConnection,
    kind: RevokedKind,
    subject: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    sqlx::query("INSERT INTO revocation (kind, subject, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(i64::from(kind.number()))
        .bind(subject)
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// Everything that was revoked, in the list's order.
pub(crate) async fn revocations(conn: &mut SqliteConnection) -> Result<Vec<Revocation>, Failure> {
    let rows = sqlx::query("SELECT kind, subject, at FROM revocation").fetch_all(conn).await?;
    let entry = |row| {
        let cells = Cells { table: "revocation", row };
        Ok(Revocation {
            kind: RevokedKind::from_number(cells.uint("kind")?).ok_or_else(|| cells.unreadable("kind"))?,
            subject: Text::new(cells.text("subject")?).map_err(|_| cells.unreadable("subject"))?,
            at: cells.time("at")?,
        })
    };
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>, Failure>>()?;
    entries.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
    Ok(entries)
}

/// The bytes of the newest revocation list.
pub(crate) async fn standing(conn: &mut SqliteConnection) -> Result<Option<Vec<u8>>, Failure> {
    let row = sqlx::query("SELECT bytes FROM standing ORDER BY number DESC LIMIT 1").fetch_optional(conn).await?;
    row.map(|row| Cells { table: "standing", row: &row }.blob("bytes")).transpose()
}

/// Keeps the newest list only: an older one is never served again.
pub(crate) async fn standing_put_in_tx(
    conn: &mut SqliteConnection,
    number: u64,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(), Failure> {
    sqlx::query("INSERT INTO standing (number, bytes, issued_at) VALUES (?, ?, ?)")
        .bind(int(number))
        .bind(bytes.to_vec())
        .bind(seconds(now))
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM standing WHERE number < ?").bind(int(number)).execute(conn).await?;
    Ok(())
}

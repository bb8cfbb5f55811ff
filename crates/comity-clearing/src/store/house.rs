//! The house's own state: its heartbeat, the nodes' keys it has seen, its revocation lists.

use std::collections::BTreeSet;

use comity_ledger::db::{Db, query};
use comity_wire::cbor::Text;
use comity_wire::object::{NodeCertificate, ReceiptKey, Revocation, RevokedKind, Token};
use comity_wire::time::SKEW_S;
use comity_wire::{Digest, NodeId, OrgId, PublicKey, Timestamp};

use super::{Cells, int, seconds};
use crate::failure::Failure;
use crate::settlement::Calendar;
use crate::settlement::calendar::Beat;

pub(crate) async fn calendar(conn: &mut Db<'_>) -> Result<Calendar, Failure> {
    let rows = query("SELECT begins_at, ends_at FROM open_span ORDER BY begins_at").fetch_all(conn).await?;
    let span = |row| {
        let cells = Cells { table: "open_span", row };
        Ok((cells.time("begins_at")?, cells.time("ends_at")?))
    };
    Ok(Calendar::new(rows.iter().map(span).collect::<Result<_, Failure>>()?))
}

/// Says that the house is open, and gives back the calendar with that. Of several replicas each beats: what the newest span says is
/// read under the lock, so that none of them begins another beside it.
pub(crate) async fn beat_in_tx(conn: &mut Db<'_>, now: Timestamp) -> Result<Calendar, Failure> {
    let mut calendar = calendar(conn).await?;
    let sql = match calendar.beat(now) {
        Beat::Opened => "INSERT INTO open_span (begins_at, ends_at) VALUES (?1, ?1)",
        Beat::Extended => {
            "UPDATE open_span SET ends_at = CASE WHEN ends_at < ?1 THEN ?1 ELSE ends_at END \
             WHERE begins_at = (SELECT MAX(begins_at) FROM open_span)"
        }
    };
    query(sql).bind(seconds(now)).execute(conn).await?;
    Ok(calendar)
}

/// The keys of a node that the house has seen certified to it by its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeKeys {
    /// Who certified it when the house first sold its work; `None` where nothing was sold.
    pub(crate) owner: Option<OrgId>,
    pub(crate) keys: BTreeSet<NodeKey>,
}

/// A key with the dates for which it was certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeKey {
    pub(crate) use_: KeyUse,
    pub(crate) key: PublicKey,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyUse {
    /// Receipts, finals, claims.
    Receipt = 1,
    /// The node's calls to the house.
    Transport = 2,
}

impl NodeKeys {
    pub(crate) fn of(&self, use_: KeyUse) -> impl Iterator<Item = PublicKey> {
        self.keys.iter().filter(move |entry| entry.use_ == use_).map(|entry| entry.key)
    }

    /// Whether `certificate` is the owner's and says something that is not remembered yet.
    pub(crate) fn lacks(&self, certificate: &NodeCertificate) -> bool {
        let known = |new: &NodeKey| {
            let mut same = self.keys.iter().filter(|old| (old.use_, old.key) == (new.use_, new.key));
            same.any(|old| old.from <= new.from && old.until >= new.until)
        };
        self.owner.is_none_or(|owner| owner == certificate.org) && !keys_of(certificate).all(|key| known(&key))
    }
}

fn keys_of(certificate: &NodeCertificate) -> impl Iterator<Item = NodeKey> {
    let NodeCertificate { not_before, not_after, .. } = *certificate;
    let receipt =
        |entry: &ReceiptKey| NodeKey { use_: KeyUse::Receipt, key: entry.key, from: entry.from, until: entry.until };
    let transport =
        move |key: &PublicKey| NodeKey { use_: KeyUse::Transport, key: *key, from: not_before, until: not_after };
    certificate.receipt_keys.iter().map(receipt).chain(certificate.transport_keys.iter().map(transport))
}

/// Remembers the keys of a certificate, for good; not where the node is another organisation's. Whether it is this one's.
pub(crate) async fn node_keys_put_in_tx(
    conn: &mut Db<'_>,
    certificate: &NodeCertificate,
    now: Timestamp,
) -> Result<bool, Failure> {
    let known = node_keys(conn, certificate.node).await?;
    if known.owner.is_some_and(|owner| owner != certificate.org) {
        return Ok(false);
    }
    if !known.lacks(certificate) {
        return Ok(true);
    }
    for entry in keys_of(certificate) {
        query(
            "INSERT INTO node_key (node, use, key, owner, from_at, until_at, seen_at) VALUES (?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (node, use, key) DO UPDATE SET \
             from_at = CASE WHEN excluded.from_at < node_key.from_at THEN excluded.from_at ELSE node_key.from_at END, \
             until_at = CASE WHEN excluded.until_at > node_key.until_at THEN excluded.until_at ELSE node_key.until_at END",
        )
        .bind(certificate.node.0.to_vec())
        .bind(entry.use_ as i64)
        .bind(entry.key.as_bytes().to_vec())
        .bind(certificate.org.0.to_vec())
        .bind(seconds(entry.from))
        .bind(seconds(entry.until))
        .bind(seconds(now))
        .execute(conn)
        .await?;
    }
    Ok(true)
}

/// Every key that the house has seen certified to `node`, and who owns the node.
pub(crate) async fn node_keys(conn: &mut Db<'_>, node: NodeId) -> Result<NodeKeys, Failure> {
    let rows = query("SELECT * FROM node_key WHERE node = ? ORDER BY seen_at, use, key")
        .bind(node.0.to_vec())
        .fetch_all(conn)
        .await?;
    let cells = |row| Cells { table: "node_key", row };
    let key = |row| {
        let cells = cells(row);
        let use_ = match cells.int("use")? {
            1 => KeyUse::Receipt,
            2 => KeyUse::Transport,
            _ => return Err(cells.unreadable("use")),
        };
        Ok(NodeKey { use_, key: cells.key("key")?, from: cells.time("from_at")?, until: cells.time("until_at")? })
    };
    let keys = rows.iter().map(key).collect::<Result<_, Failure>>()?;
    let owner = rows.first().map(|row| cells(row).bytes("owner")).transpose()?;
    Ok(NodeKeys { owner: owner.map(OrgId), keys })
}

/// The nodes whose work the house has sold.
pub(crate) async fn nodes(conn: &mut Db<'_>) -> Result<Vec<NodeId>, Failure> {
    let rows = query("SELECT DISTINCT node FROM node_key ORDER BY node").fetch_all(conn).await?;
    rows.iter().map(|row| Ok(NodeId(Cells { table: "node_key", row }.bytes("node")?))).collect()
}

pub(crate) async fn revocation_insert_in_tx(
    conn: &mut Db<'_>,
    kind: RevokedKind,
    subject: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO revocation (kind, subject, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(i64::from(kind.number()))
        .bind(subject)
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// A token that was revoked before this has ended by itself: the list stays as long as what it stops.
pub(crate) fn ended(now: Timestamp) -> Timestamp {
    now.minus(TOKEN_ENDS_S)
}

/// When a token that was revoked then has ended by itself at the latest.
pub(crate) fn ends(at: Timestamp) -> Timestamp {
    at.plus(TOKEN_ENDS_S)
}

const TOKEN_ENDS_S: u64 = Token::VALID_S_MAX + 2 * SKEW_S;

/// Everything that was revoked, in the list's order.
pub(crate) async fn revocations(conn: &mut Db<'_>, now: Timestamp) -> Result<Vec<Revocation>, Failure> {
    let rows = query("SELECT kind, subject, at FROM revocation WHERE NOT (kind = ? AND at < ?)")
        .bind(int(RevokedKind::Token.number().into()))
        .bind(seconds(ended(now)))
        .fetch_all(conn)
        .await?;
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
pub(crate) async fn standing(conn: &mut Db<'_>) -> Result<Option<Vec<u8>>, Failure> {
    let row = query("SELECT bytes FROM standing ORDER BY number DESC LIMIT 1").fetch_optional(conn).await?;
    row.map(|row| Cells { table: "standing", row: &row }.blob("bytes")).transpose()
}

/// When the newest revocation list was signed.
pub(crate) async fn standing_issued_at(conn: &mut Db<'_>) -> Result<Option<Timestamp>, Failure> {
    let row = query("SELECT issued_at FROM standing ORDER BY number DESC LIMIT 1").fetch_optional(conn).await?;
    row.map(|row| Cells { table: "standing", row: &row }.time("issued_at")).transpose()
}

/// Keeps the newest list only: an older one is never served again.
pub(crate) async fn standing_put_in_tx(
    conn: &mut Db<'_>,
    (number, content): (u64, Digest),
    bytes: &[u8],
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO standing (number, bytes, issued_at) VALUES (?, ?, ?)")
        .bind(int(number))
        .bind(bytes.to_vec())
        .bind(seconds(now))
        .execute(conn)
        .await?;
    query("DELETE FROM standing WHERE number < ?").bind(int(number)).execute(conn).await?;
    super::log::standing_queue_in_tx(conn, number, content).await
}

//! The transparency log in SQL: what waits, what is sealed, what was signed.

use std::collections::BTreeSet;

use comity_ledger::books::{Coded, transfers_after};
use comity_ledger::db::{Db, Row, query};
use comity_wire::log::{
    Entry, LogClaim, LogCreditNote, LogDecisions, LogFinal, LogStanding, LogToken, LogTransfer, TILE_WIDTH, TileId,
    Tiles, TransferBytes,
};
use comity_wire::{Amount, Digest, Encode as _, NodeId, Timestamp, TokenId};

use super::{Cells, int, seconds};
use crate::failure::Failure;

/// How far the log has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) epoch: u64,
    pub(crate) size: u64,
    /// The ledger's place of the last transfer that is in it.
    pub(crate) transfers: u64,
}

pub(crate) async fn state(conn: &mut Db<'_>) -> Result<State, Failure> {
    let row = query("SELECT epoch, size, transfers FROM log_state WHERE one = 1").fetch_one(conn).await?;
    let cells = Cells { table: "log_state", row: &row };
    Ok(State { epoch: cells.uint("epoch")?, size: cells.uint("size")?, transfers: cells.uint("transfers")? })
}

/// What waits to be sealed, in the order of the log, and how far that reaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) entries: Vec<Vec<u8>>,
    /// The ledger's place of the last transfer among them, or of the last one before.
    pub(crate) transfers: u64,
    /// The acts among them.
    acts: Vec<i64>,
    /// Heads of decisions, and where among them they stand.
    heads: Vec<(Digest, u64)>,
}

/// What waits, with what a head of decisions says beside its number.
const ACTS: &str = "SELECT unsealed.*, h.node AS of_node, h.log AS of_log FROM unsealed \
     LEFT JOIN decision_head h ON h.content = unsealed.content";

/// The next entries, at most `limit` transfers and as many other acts.
pub(crate) async fn waiting(conn: &mut Db<'_>, state: &State, limit: u32) -> Result<Waiting, Failure> {
    let transfers = transfers_after(conn, state.transfers, limit).await?;
    let is_all = transfers.len() < limit as usize;
    let last = transfers.last().map_or(state.transfers, |last| last.posted.seq);
    // An act stands behind the transfers that were there before it: those of the next page's wait for that page.
    let upto = if is_all { i64::MAX } else { int(last) };
    let acts = query(format!("{ACTS} WHERE unsealed.place <= ? ORDER BY unsealed.seq LIMIT ?"))
        .bind(upto)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    let is_cut = acts.len() == limit as usize;
    let mut found = Waiting { transfers: state.transfers, ..Waiting::default() };
    let mut transfers = transfers.iter().peekable();
    let mut take = |found: &mut Waiting, upto: u64| {
        while let Some(next) = transfers.next_if(|next| next.posted.seq <= upto) {
            found.entries.push(transfer(next).to_cbor());
            found.transfers = next.posted.seq;
        }
    };
    for row in &acts {
        let cells = Cells { table: "unsealed", row };
        take(&mut found, cells.uint("place")?);
        let act = act(cells)?;
        if let Entry::Decisions(said) = &act {
            found.heads.push((said.content, found.entries.len() as u64));
        }
        found.entries.push(act.to_cbor());
        found.acts.push(cells.int("seq")?);
    }
    if !is_cut {
        take(&mut found, last);
    }
    Ok(found)
}

/// What the log says of a transfer.
pub(crate) fn transfer(coded: &Coded) -> Entry {
    Entry::Transfer(LogTransfer {
        bytes: TransferBytes(coded.posted.to_bytes()),
        debit_code: coded.debit.number(),
        credit_code: coded.credit.number(),
    })
}

fn act(cells: Cells<'_>) -> Result<Entry, Failure> {
    let token = || cells.bytes("token").map(TokenId);
    let (content, number) = (cells.digest("content")?, cells.uint("number")?);
    Ok(match cells.int("kind")? {
        2 => Entry::Token(LogToken { token: token()?, content, budget: cells.amount("number")? }),
        3 => Entry::Standing(LogStanding { number, content }),
        4 => Entry::Claim(LogClaim { token: token()?, content, number }),
        5 => Entry::Final(LogFinal { token: token()?, content }),
        6 => {
            let node = NodeId(cells.bytes("of_node")?);
            Entry::Decisions(LogDecisions { node, n: number, log: cells.uint("of_log")?, content })
        }
        7 => Entry::CreditNote(LogCreditNote { token: token()?, content, amount: cells.amount("number")? }),
        _ => return Err(cells.unreadable("kind")),
    })
}

/// Queues a revocation list. (Tokens, claims and finals are queued by the tables' own triggers.)
pub(crate) async fn standing_queue_in_tx(conn: &mut Db<'_>, number: u64, content: Digest) -> Result<(), Failure> {
    let sql = "INSERT INTO unsealed (place, kind, token, content, number) SELECT COALESCE(MAX(seq), 0), 3, NULL, ?, ? FROM transfer";
    // The engines tell the types of values from the columns only where the values stand in a row of their own.
    query(sql).bind(content.0.to_vec()).bind(int(number)).execute(conn).await?;
    Ok(())
}

/// How many acts wait, of both kinds.
pub(crate) async fn waiting_count(conn: &mut Db<'_>) -> Result<u64, Failure> {
    let sql = "SELECT (SELECT COUNT(*) FROM unsealed) + (SELECT COALESCE(MAX(seq), 0) FROM transfer) - \
               (SELECT transfers FROM log_state WHERE one = 1)";
    let count: i64 = query(sql).fetch_one(conn).await?.first()?;
    Ok(count.unsigned_abs())
}

/// Puts entries and tiles into the log, if it still stands where they were made for. Whether it did.
pub(crate) async fn seal_in_tx(
    conn: &mut Db<'_>,
    before: &State,
    sealed: &Waiting,
    tiles: &[(TileId, Vec<u8>)],
) -> Result<bool, Failure> {
    if state(conn).await? != *before {
        return Ok(false);
    }
    let mut idx = before.size;
    for run in sealed.entries.chunks(ROWS_PER_STATEMENT) {
        let places = vec!["(?, ?)"; run.len()].join(", ");
        let mut inserting = query(format!("INSERT INTO log_entry (idx, bytes) VALUES {places}"));
        for entry in run {
            inserting = inserting.bind(int(idx)).bind(entry.clone());
            idx += 1;
        }
        inserting.execute(conn).await?;
    }
    for (content, at) in &sealed.heads {
        super::decisions::place_in_tx(conn, *content, before.size + at).await?;
    }
    for (tile, hashes) in tiles {
        query(
            "INSERT INTO log_tile (level, n, hashes) VALUES (?1, ?2, ?3) \
             ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes",
        )
        .bind(i64::from(tile.level))
        .bind(int(tile.index))
        .bind(hashes.clone())
        .execute(conn)
        .await?;
    }
    if let Some(last) = sealed.acts.last() {
        let deleted = query("DELETE FROM unsealed WHERE seq <= ?").bind(*last).execute(conn).await?;
        if deleted != sealed.acts.len() as u64 {
            return Err(Failure::Books {
                what: format!("{deleted} acts left the queue, {} were sealed", sealed.acts.len()),
            });
        }
    }
    query("UPDATE log_state SET size = ?, transfers = ? WHERE one = 1")
        .bind(int(idx))
        .bind(int(sealed.transfers))
        .execute(conn)
        .await?;
    Ok(true)
}

/// Rows in one statement.
const ROWS_PER_STATEMENT: usize = 256;

/// Tiles of the tree of `size`, each as wide as it is there. One that is not whole is left out, and then missed by whoever
/// needs it.
pub(crate) async fn tiles(conn: &mut Db<'_>, ids: &BTreeSet<TileId>, size: u64) -> Result<Tiles, Failure> {
    let mut found = Tiles::default();
    for tile in ids {
        let width = tile.width_at(size);
        if let Some(bytes) = tile_bytes(conn, *tile, width).await? {
            found
                .insert(*tile, width, &bytes)
                .map_err(|_| Failure::Unreadable { table: "log_tile", what: "hashes" })?;
        }
    }
    Ok(found)
}

/// The first `width` hashes of a tile.
pub(crate) async fn tile_bytes(conn: &mut Db<'_>, tile: TileId, width: u16) -> Result<Option<Vec<u8>>, Failure> {
    let row = query("SELECT hashes FROM log_tile WHERE level = ? AND n = ?")
        .bind(i64::from(tile.level))
        .bind(int(tile.index))
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut bytes = Cells { table: "log_tile", row: &row }.blob("hashes")?;
    let length = usize::from(width) * 32;
    if bytes.len() < length {
        return Ok(None);
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}

/// Entries from `idx` on, at most `limit`; fewer where the log ends.
pub(crate) async fn entries(conn: &mut Db<'_>, idx: u64, limit: u64) -> Result<Vec<Vec<u8>>, Failure> {
    let rows = query("SELECT idx, bytes FROM log_entry WHERE idx >= ? AND idx < ? ORDER BY idx")
        .bind(int(idx))
        .bind(int(idx.saturating_add(limit.min(TILE_WIDTH))))
        .fetch_all(conn)
        .await?;
    let entry = |(at, row): (usize, &Row)| {
        let cells = Cells { table: "log_entry", row };
        // A place without a row would shift all that follow.
        if cells.uint("idx")? == idx + at as u64 { cells.blob("bytes") } else { Err(cells.unreadable("idx")) }
    };
    rows.iter().enumerate().map(entry).collect()
}

/// A checkpoint that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) size: u64,
    pub(crate) root: Digest,
    pub(crate) note: String,
    pub(crate) signed_at: Timestamp,
}

/// The newest checkpoint of this epoch.
pub(crate) async fn checkpoint(conn: &mut Db<'_>, epoch: u64) -> Result<Option<Signed>, Failure> {
    let row = query("SELECT * FROM log_checkpoint WHERE epoch = ? ORDER BY size DESC LIMIT 1")
        .bind(int(epoch))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(signed).transpose()
}

/// Every checkpoint of this epoch that was signed.
pub(crate) async fn checkpoints(conn: &mut Db<'_>, epoch: u64) -> Result<Vec<Signed>, Failure> {
    let rows = query("SELECT * FROM log_checkpoint WHERE epoch = ?").bind(int(epoch)).fetch_all(conn).await?;
    rows.iter().map(signed).collect()
}

fn signed(row: &Row) -> Result<Signed, Failure> {
    let cells = Cells { table: "log_checkpoint", row };
    let (size, root) = (cells.uint("size")?, cells.digest("root")?);
    Ok(Signed { size, root, note: cells.text("note")?, signed_at: cells.time("signed_at")? })
}

/// Which tiles are stored.
pub(crate) async fn tile_ids(conn: &mut Db<'_>) -> Result<Vec<TileId>, Failure> {
    let rows = query("SELECT level, n FROM log_tile").fetch_all(conn).await?;
    let id = |row: &Row| {
        let cells = Cells { table: "log_tile", row };
        let level = u8::try_from(cells.uint("level")?).map_err(|_| cells.unreadable("level"))?;
        Ok(TileId { level, index: cells.uint("n")? })
    };
    rows.iter().map(id).collect()
}

/// Keeps a signed checkpoint. Of one size there is one root: another one is refused, as is one of a log that has ended meanwhile.
pub(crate) async fn checkpoint_insert_in_tx(conn: &mut Db<'_>, epoch: u64, signed: &Signed) -> Result<(), Failure> {
    if state(conn).await?.epoch != epoch {
        return Err(Failure::Books { what: format!("log {epoch} has ended") });
    }
    query(
        "INSERT INTO log_checkpoint (epoch, size, root, note, signed_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (epoch, size) DO NOTHING",
    )
    .bind(int(epoch))
    .bind(int(signed.size))
    .bind(signed.root.0.to_vec())
    .bind(&signed.note)
    .bind(seconds(signed.signed_at))
    .execute(conn)
    .await?;
    let row = query("SELECT root FROM log_checkpoint WHERE epoch = ? AND size = ?")
        .bind(int(epoch))
        .bind(int(signed.size))
        .fetch_one(conn)
        .await?;
    if (Cells { table: "log_checkpoint", row: &row }).digest("root")? == signed.root {
        Ok(())
    } else {
        Err(Failure::Books { what: format!("a checkpoint of size {} was signed with another root", signed.size) })
    }
}

/// A witness: its name and its key.
pub(crate) async fn witnesses(conn: &mut Db<'_>) -> Result<Vec<String>, Failure> {
    let rows = query("SELECT vkey FROM log_witness ORDER BY name").fetch_all(conn).await?;
    rows.iter().map(|row| Cells { table: "log_witness", row }.text("vkey")).collect()
}

/// Lets a key cosign. The same name with another key is another witness, and replaces the first.
pub(crate) async fn witness_put_in_tx(
    conn: &mut Db<'_>,
    (name, vkey): (&str, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    query("DELETE FROM log_cosignature WHERE name = ?").bind(name).execute(conn).await?;
    query(
        "INSERT INTO log_witness (name, vkey, added_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (name) DO UPDATE SET vkey = excluded.vkey, added_at = excluded.added_at",
    )
    .bind(name)
    .bind(vkey)
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps a cosignature of the checkpoint of `size`, where it is newer than the one that is kept.
pub(crate) async fn cosignature_put_in_tx(
    conn: &mut Db<'_>,
    (epoch, size): (u64, u64),
    name: &str,
    line: &str,
) -> Result<(), Failure> {
    query(
        "INSERT INTO log_cosignature (name, epoch, size, line) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET \
         epoch = excluded.epoch, size = excluded.size, line = excluded.line \
         WHERE (log_cosignature.epoch, log_cosignature.size) <= (excluded.epoch, excluded.size)",
    )
    .bind(name)
    .bind(int(epoch))
    .bind(int(size))
    .bind(line)
    .execute(conn)
    .await?;
    Ok(())
}

/// The cosignatures that are kept for the checkpoint of `size`.
pub(crate) async fn cosignatures(conn: &mut Db<'_>, epoch: u64, size: u64) -> Result<Vec<String>, Failure> {
    let rows = query("SELECT line FROM log_cosignature WHERE epoch = ? AND size = ? ORDER BY name")
        .bind(int(epoch))
        .bind(int(size))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Cells { table: "log_cosignature", row }.text("line")).collect()
}

/// The note of the checkpoint of `size`, if one was signed.
pub(crate) async fn checkpoint_at(conn: &mut Db<'_>, epoch: u64, size: u64) -> Result<Option<String>, Failure> {
    let row = query("SELECT note FROM log_checkpoint WHERE epoch = ? AND size = ?")
        .bind(int(epoch))
        .bind(int(size))
        .fetch_optional(conn)
        .await?;
    row.map(|row| Cells { table: "log_checkpoint", row: &row }.text("note")).transpose()
}

/// A log of this house that ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Ended {
    pub epoch: u64,
    /// The newest checkpoint that anybody may have seen.
    pub note: Option<String>,
    pub why: String,
    pub ended_at: Timestamp,
}

pub(crate) async fn ended(conn: &mut Db<'_>) -> Result<Vec<Ended>, Failure> {
    let rows = query("SELECT * FROM log_ended ORDER BY epoch").fetch_all(conn).await?;
    let one = |row: &Row| {
        let cells = Cells { table: "log_ended", row };
        let note = Some(cells.text("note")?).filter(|note| !note.is_empty());
        Ok(Ended { epoch: cells.uint("epoch")?, note, why: cells.text("why")?, ended_at: cells.time("ended_at")? })
    };
    rows.iter().map(one).collect()
}

/// Ends the log `epoch` and begins the next with what is sealed now.
pub(crate) async fn end_in_tx(conn: &mut Db<'_>, ended: &Ended) -> Result<(), Failure> {
    query("INSERT INTO log_ended (epoch, note, why, ended_at) VALUES (?, ?, ?, ?)")
        .bind(int(ended.epoch))
        .bind(ended.note.clone().unwrap_or_default())
        .bind(&ended.why)
        .bind(seconds(ended.ended_at))
        .execute(conn)
        .await?;
    let moved = query("UPDATE log_state SET epoch = ?2 WHERE one = 1 AND epoch = ?1")
        .bind(int(ended.epoch))
        .bind(int(ended.epoch + 1))
        .execute(conn)
        .await?;
    if moved == 1 { Ok(()) } else { Err(Failure::Books { what: format!("log {} has ended already", ended.epoch) }) }
}

/// Everything that the house's tables say must be in the log, but for transfers: told by content id.
pub(crate) async fn acts_expected(conn: &mut Db<'_>) -> Result<Vec<(Digest, Entry)>, Failure> {
    let mut all = Vec::new();
    let rows = query("SELECT id, content, budget FROM token WHERE content IS NOT NULL").fetch_all(conn).await?;
    for row in &rows {
        let cells = Cells { table: "token", row };
        let (token, content) = (TokenId(cells.bytes("id")?), cells.digest("content")?);
        let budget: Amount = cells.amount("budget")?;
        all.push((content, Entry::Token(LogToken { token, content, budget })));
    }
    let rows = query("SELECT id, token, number FROM claim").fetch_all(conn).await?;
    for row in &rows {
        let cells = Cells { table: "claim", row };
        let (token, content) = (TokenId(cells.bytes("token")?), cells.digest("id")?);
        all.push((content, Entry::Claim(LogClaim { token, content, number: cells.uint("number")? })));
    }
    let rows = query("SELECT id, token FROM final").fetch_all(conn).await?;
    for row in &rows {
        let cells = Cells { table: "final", row };
        let (token, content) = (TokenId(cells.bytes("token")?), cells.digest("id")?);
        all.push((content, Entry::Final(LogFinal { token, content })));
    }
    let rows = query("SELECT node, n, log, content FROM decision_head").fetch_all(conn).await?;
    for row in &rows {
        let cells = Cells { table: "decision_head", row };
        let (node, content) = (NodeId(cells.bytes("node")?), cells.digest("content")?);
        let said = LogDecisions { node, n: cells.uint("n")?, log: cells.uint("log")?, content };
        all.push((content, Entry::Decisions(said)));
    }
    let rows = query("SELECT id, token, amount FROM credit_note").fetch_all(conn).await?;
    for row in &rows {
        let cells = Cells { table: "credit_note", row };
        let (token, content) = (TokenId(cells.bytes("token")?), cells.digest("id")?);
        all.push((content, Entry::CreditNote(LogCreditNote { token, content, amount: cells.amount("amount")? })));
    }
    Ok(all)
}

/// The acts that wait in the queue, by content id.
pub(crate) async fn acts_waiting(conn: &mut Db<'_>) -> Result<Vec<Entry>, Failure> {
    let rows = query(format!("{ACTS} ORDER BY unsealed.seq")).fetch_all(conn).await?;
    rows.iter().map(|row| act(Cells { table: "unsealed", row })).collect()
}

//! The database and the log say the same: every act of the books is sealed or waits, in the same bytes and the same order, and
//! nothing else is in the log.

use std::collections::{BTreeSet, HashMap};

use comity_ledger::books::transfers_after;
use comity_ledger::db::Db;
use comity_wire::log::{Entry, Growing, Note, TILE_WIDTH, TileId};
use comity_wire::{Digest, Encode as _};
use serde::Serialize;

use crate::failure::Failure;
use crate::service::Clearing;
use crate::store;

/// What was found. They agree if [`LogAgreement::holds`].
#[derive(Clone, Debug, Serialize)]
pub struct LogAgreement {
    pub holds: bool,
    /// Entries of the log.
    pub entries: u64,
    pub root: Digest,
    /// Acts that wait to be sealed.
    pub waiting: u64,
    pub disagreements: Vec<Disagreement>,
    /// Those beyond the [`LISTED_MAX`] that are listed.
    pub left_out: u64,
}

/// Disagreements listed; more are only counted.
const LISTED_MAX: usize = 1_000;

/// One place where they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "break", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Disagreement {
    /// The entry cannot be read.
    EntryUnreadable { index: u64, why: String },
    /// The entry is not what the books have at that place: `seq` is the ledger's.
    TransferDiffers { index: u64, seq: u64 },
    /// The entry is a transfer that the books do not have.
    TransferUnknown { index: u64 },
    /// The entry is an act that the books do not have, or have otherwise.
    ActUnknown { index: u64, content: Digest },
    /// An act of the books is neither sealed nor waiting.
    ActMissing { content: Digest },
    /// Transfers of the books that the log has passed over.
    TransfersMissing { from: u64, to: u64 },
    /// A stored tile is not what the entries make.
    TileDiffers { level: u8, tile: u64 },
    /// A signed checkpoint is not of these entries.
    CheckpointDiffers { size: u64, signed: Digest, computed: Digest },
    /// How far the log says it came is not where its entries end.
    StateDiffers { size: u64, entries: u64 },
}

struct Comparing {
    tree: Growing,
    /// The next transfers of the books.
    page: std::collections::VecDeque<Entry>,
    seq: u64,
    acts: HashMap<Digest, Entry>,
    signed: HashMap<u64, Digest>,
    found: Vec<Disagreement>,
    left_out: u64,
}

impl Clearing {
    /// Holds the log's every entry, tile and checkpoint against the books, in one snapshot.
    ///
    /// # Errors
    /// [`Failure`] where they cannot be read; what differs is in the report.
    pub async fn log_audit(&self) -> Result<LogAgreement, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot_to_audit().await?;
        let mut seen = snapshot.db();
        let state = store::log::state(&mut seen).await?;
        let acts = store::log::acts_expected(&mut seen).await?.into_iter().collect();
        let signed = store::log::checkpoints(&mut seen, state.epoch).await?;
        let mut comparing = Comparing {
            tree: Growing::default(),
            page: std::collections::VecDeque::new(),
            seq: 0,
            acts,
            signed: HashMap::new(),
            found: Vec::new(),
            left_out: 0,
        };
        for note in signed {
            // A note that cannot be read is one that nobody could be shown.
            let read =
                Note::parse(note.note.as_bytes()).and_then(|note| comity_wire::log::Checkpoint::parse(note.text()));
            let same = read.is_ok_and(|read| (read.size, read.root) == (note.size, note.root));
            comparing.signed.insert(note.size, if same { note.root } else { Digest::ZERO });
        }
        loop {
            let at = comparing.tree.size();
            comparing.checkpoint(at);
            let entries = store::log::entries(&mut seen, at, TILE_WIDTH).await;
            let Ok(entries) = entries else {
                comparing
                    .found(Disagreement::EntryUnreadable { index: at, why: "a place is missing behind it".into() });
                break;
            };
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                comparing.entry(&mut seen, &entry).await?;
            }
        }
        let waiting = store::log::waiting_count(&mut seen).await?;
        comparing.finish(&mut seen, state.size, state.transfers).await?;
        snapshot.rollback().await?;
        let Comparing { tree, found, left_out, .. } = comparing;
        Ok(LogAgreement {
            holds: found.is_empty(),
            entries: tree.size(),
            root: tree.root(),
            waiting,
            disagreements: found,
            left_out,
        })
    }
}

impl Comparing {
    fn found(&mut self, what: Disagreement) {
        if self.found.len() < LISTED_MAX {
            self.found.push(what);
        } else {
            self.left_out += 1;
        }
    }

    async fn entry(&mut self, seen: &mut Db<'_>, bytes: &[u8]) -> Result<(), Failure> {
        let index = self.tree.size();
        self.tree.push(bytes);
        match Entry::from_bytes(bytes) {
            Ok(entry @ Entry::Transfer(_)) => {
                let expected = self.next_transfer(seen).await?;
                match expected {
                    None => self.found(Disagreement::TransferUnknown { index }),
                    Some(expected) if expected != entry => {
                        self.found(Disagreement::TransferDiffers { index, seq: self.seq });
                    }
                    Some(_) => {}
                }
            }
            // The books keep the newest revocation list alone: older ones stand in the log only.
            Ok(Entry::Standing(_)) => {}
            Ok(act) => {
                let content = content(&act);
                if self.acts.remove(&content).is_none_or(|expected| expected != act) {
                    self.found(Disagreement::ActUnknown { index, content });
                }
            }
            Err(error) => self.found(Disagreement::EntryUnreadable { index, why: error.to_string() }),
        }
        self.checkpoint(self.tree.size());
        Ok(())
    }

    fn checkpoint(&mut self, size: u64) {
        if let Some(signed) = self.signed.remove(&size) {
            let computed = self.tree.root();
            if computed != signed {
                self.found(Disagreement::CheckpointDiffers { size, signed, computed });
            }
        }
    }

    async fn next_transfer(&mut self, seen: &mut Db<'_>) -> Result<Option<Entry>, Failure> {
        if self.page.is_empty() {
            let page = transfers_after(seen, self.seq, PAGE).await?;
            self.page = page.iter().map(store::log::transfer).collect();
        }
        let next = self.page.pop_front();
        self.seq += u64::from(next.is_some());
        Ok(next)
    }

    async fn finish(&mut self, seen: &mut Db<'_>, size: u64, transfers: u64) -> Result<(), Failure> {
        if size != self.tree.size() {
            self.found(Disagreement::StateDiffers { size, entries: self.tree.size() });
        }
        if transfers != self.seq {
            let (from, to) = (self.seq.min(transfers) + 1, self.seq.max(transfers));
            self.found(Disagreement::TransfersMissing { from, to });
        }
        for waiting in store::log::acts_waiting(seen).await? {
            self.acts.remove(&content(&waiting));
        }
        let mut missing: Vec<_> = self.acts.drain().map(|(content, _)| content).collect();
        missing.sort_unstable();
        for content in missing {
            self.found(Disagreement::ActMissing { content });
        }
        let mut sizes: Vec<_> = self.signed.drain().collect();
        sizes.sort_unstable();
        for (size, signed) in sizes {
            // Signed beyond the end of the log.
            self.found(Disagreement::CheckpointDiffers { size, signed, computed: Digest::ZERO });
        }
        let tiles: Vec<(TileId, Vec<u8>)> = self.tree.changed().collect();
        let ids: BTreeSet<TileId> = tiles.iter().map(|(tile, _)| *tile).collect();
        for (tile, bytes) in &tiles {
            let width = tile.width_at(self.tree.size());
            if store::log::tile_bytes(seen, *tile, width).await?.as_ref() != Some(bytes) {
                self.found(Disagreement::TileDiffers { level: tile.level, tile: tile.index });
            }
        }
        for tile in store::log::tile_ids(seen).await? {
            if !ids.contains(&tile) {
                self.found(Disagreement::TileDiffers { level: tile.level, tile: tile.index });
            }
        }
        Ok(())
    }
}

/// Transfers read at once.
const PAGE: u32 = 1_000;

/// What names an act.
fn content(act: &Entry) -> Digest {
    match act {
        Entry::Token(said) => said.content,
        Entry::Standing(said) => said.content,
        Entry::Claim(said) => said.content,
        Entry::Final(said) => said.content,
        Entry::Decisions(said) => said.content,
        Entry::CreditNote(said) => said.content,
        Entry::Transfer(said) => Digest::of(&said.to_cbor()),
    }
}

//! The log's sequencer: takes what waits, gives it places, stores entries and tiles, signs.
//!
//! Off the write path: an act only stands in its queue, or in the ledger, when it is answered. Three steps follow, each whole or
//! not at all: *seal* (one SQL transaction: entries, tiles, the queue, how far it came), *remember* (the checkpoint that is
//! about to be signed, outside of the database), *sign* (the checkpoint, in the database; only from there it is served).
//! A house that dies between two of them goes on with the next. Before each signature the stored tree is held against what
//! was signed last, as the database and the memory outside have it: a database that was set back signs nothing.
//!
//! Several replicas on one database may all try: what was sealed meanwhile is seen in the transaction, under the one
//! write lock (decision 0035), and tried again. Each remembers what any of them has signed: whichever is left when the database
//! comes back older than it was notices it (decision 0051).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use comity_wire::log::{Checkpoint, Growing, KeyUse, Line, Note, Resource, Steps, TileId, VerifierKey, bundle};
use comity_wire::{Digest, Timestamp};

use super::Clearing;
use crate::config::{LOG_FORGOTTEN, LogKey};
use crate::failure::Failure;
use crate::store;
use crate::store::log::{Signed, State, Waiting};

pub use crate::store::log::Ended;

/// How often the sequencer looks.
pub(super) const EVERY_S: u64 = 1;
/// Transfers, and other acts, that are sealed in one transaction: few enough that no sale waits long behind them.
const SEAL_MAX: u32 = 512;
/// Transactions of one turn; what waits behind them waits for the next second.
const SEALS_PER_TURN_MAX: usize = 64;
/// Turns between two complaints about a log that stopped.
const COMPLAIN_EVERY: u64 = 60;

/// One sealing at a time in this process, and why it could not the last time.
#[derive(Default)]
pub(crate) struct Sequencer {
    turn: tokio::sync::Mutex<()>,
    stopped: Mutex<Option<String>>,
    /// Turns in a row that failed.
    failed: AtomicU64,
    /// Whether what was signed could not be written down outside of the database the last time, and not be read there: a matter of this
    /// process's machine, where another replica signs on.
    unwritten: AtomicBool,
    unread: AtomicBool,
}

/// How the log stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogStatus {
    pub origin: String,
    /// What its checkpoints are verified under.
    pub vkey: String,
    /// Signed and served.
    pub size: u64,
    pub signed_at: Option<Timestamp>,
    /// Sealed, and perhaps not signed yet.
    pub sealed: u64,
    /// Acts that wait to be sealed.
    pub waiting: u64,
    /// The keys that may cosign.
    pub witnesses: Vec<String>,
    /// Earlier logs of this house, which ended.
    pub ended: Vec<Ended>,
    /// Why nothing is signed or served.
    pub stopped: Option<String>,
}

/// The newest checkpoint that may be served, as a note.
struct Served {
    note: Note,
    size: u64,
}

impl Clearing {
    /// Seals what waits and signs. A log that stopped says so in this process's log, not each second.
    pub(super) async fn log_turn(&self) -> Result<(), Failure> {
        match self.log_advance().await {
            Ok(_) | Err(Failure::LogKeyless) => {
                self.inner.log.failed.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(failure) => match self.inner.log.failed.fetch_add(1, Ordering::Relaxed) % COMPLAIN_EVERY {
                0 => Err(failure),
                _ => Ok(()),
            },
        }
    }

    /// Seals everything that waits, then signs if there is something new. What was signed, or stood already.
    ///
    /// # Errors
    /// [`Failure::LogStopped`] where the stored tree is not what was signed; [`Failure::LogKeyless`] where it is sealed
    /// and there is no key to sign with.
    pub async fn log_advance(&self) -> Result<Checkpoint, Failure> {
        let turn = self.inner.log.turn.lock().await;
        let done = self.log_steps().await;
        let why = match &done {
            Err(Failure::LogStopped { what }) => Some(what.clone()),
            _ => None,
        };
        *self.inner.log.stopped.lock().unwrap_or_else(PoisonError::into_inner) = why;
        drop(turn);
        done
    }

    async fn log_steps(&self) -> Result<Checkpoint, Failure> {
        // Nothing is added to a tree that is not the one that was signed.
        match self.log_checked().await {
            Ok(_) | Err(Failure::LogKeyless) => {}
            Err(failure) => return Err(failure),
        }
        for _ in 0..SEALS_PER_TURN_MAX {
            if !self.log_seal().await? {
                break;
            }
        }
        self.log_sign().await
    }

    /// Whether what is signed here can be remembered here.
    pub(super) fn log_remembers(&self) -> bool {
        let log = &self.inner.log;
        !log.unwritten.load(Ordering::Relaxed) && !log.unread.load(Ordering::Relaxed)
    }

    /// Why nothing is signed or served, as the last turn found.
    fn log_stopped(&self) -> Option<String> {
        self.inner.log.stopped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Seals one page; whether more may wait.
    async fn log_seal(&self) -> Result<bool, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let before = store::log::state(&mut seen).await?;
        let waiting = store::log::waiting(&mut seen, &before, SEAL_MAX).await?;
        if waiting.entries.is_empty() {
            snapshot.rollback().await?;
            return Ok(false);
        }
        let edge = Growing::edge(before.size).into_iter().map(|(tile, _)| tile).collect();
        let tiles = store::log::tiles(&mut seen, &edge, before.size).await?;
        snapshot.rollback().await?;
        drop(conn);
        let mut tree = Growing::from(before.size, tiles).map_err(|error| stopped(&error))?;
        waiting.entries.iter().for_each(|entry| tree.push(entry));
        let tiles: Vec<_> = tree.changed().collect();
        self.fail("log.before_seal");
        self.log_seal_write(before, waiting, tiles).await?;
        self.fail("log.after_seal");
        Ok(true)
    }

    async fn log_seal_write(
        &self,
        before: State,
        waiting: Waiting,
        tiles: Vec<(TileId, Vec<u8>)>,
    ) -> Result<(), Failure> {
        let house = self.clone();
        self.write(move |conn| {
            Box::pin(async move {
                // Where another process was quicker, what it sealed is not sealed again.
                if store::log::seal_in_tx(conn, &before, &waiting, &tiles).await? {
                    house.fail("log.in_seal");
                }
                Ok(())
            })
        })
        .await
    }

    /// Signs the tree as it is sealed, unless that size is signed already.
    async fn log_sign(&self) -> Result<Checkpoint, Failure> {
        let (key, state, newest) = self.log_checked().await?;
        let origin = self.log_origin(state.epoch);
        let root = self.log_root(state.size, state.size).await?;
        let checkpoint = Checkpoint { origin, size: state.size, root };
        if newest.is_some_and(|newest| newest.size == state.size) {
            return Ok(checkpoint);
        }
        // Ed25519 gives the same bytes again: a checkpoint that was remembered and never stored is signed as it was.
        let note = Note::sign(&checkpoint, &key.secret).map_err(Failure::invalid)?.to_string();
        self.fail("log.before_memory");
        self.log_remember(&key, note.clone()).await?;
        self.fail("log.after_memory");
        let signed = Signed { size: state.size, root, note, signed_at: self.now() };
        self.write(move |conn| {
            Box::pin(async move { store::log::checkpoint_insert_in_tx(conn, state.epoch, &signed).await })
        })
        .await?;
        self.fail("log.after_sign");
        Ok(checkpoint)
    }

    async fn log_remember(&self, key: &LogKey, note: String) -> Result<(), Failure> {
        let memory = key.memory.clone();
        let written = tokio::task::spawn_blocking(move || memory.write(note.as_bytes())).await;
        let written = written.map_err(std::io::Error::other).flatten();
        self.inner.log.unwritten.store(written.is_err(), Ordering::Relaxed);
        written.map_err(|error| {
            stopped(&format!("the newest checkpoint cannot be remembered outside of the database: {error}"))
        })
    }

    /// Holds the stored tree against what was signed last.
    async fn log_checked(&self) -> Result<(LogKey, State, Option<Signed>), Failure> {
        // Read before the database, which is never behind it: others seal and sign meanwhile.
        let remembered = self.log_memory().await;
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let state = store::log::state(&mut snapshot.db()).await?;
        let newest = store::log::checkpoint(&mut snapshot.db(), state.epoch).await?;
        let ended = match self.inner.restored {
            Some(_) => store::log::ended(&mut snapshot.db()).await?.last().map(|ended| ended.ended_at),
            None => None,
        };
        snapshot.rollback().await?;
        drop(conn);
        if let Some(newest) = &newest {
            self.log_holds(&state, newest.size, newest.root, "the newest checkpoint in the database").await?;
        }
        let key = self.inner.keys.log.clone().ok_or(Failure::LogKeyless)?;
        let last = newest.as_ref().map(|newest| newest.signed_at).max(ended);
        if let Some(restored) = self.inner.restored
            && key.others
            && last.is_none_or(|last| last < restored.restored_at)
        {
            return Err(stopped(
                &"the books came back from a backup, and several replicas signed this log: what each of them signed after it is not \
                  known here. The operator ends this log with `comity clearing log restart`; the books go on meanwhile",
            ));
        }
        let remembered = self.log_remembered(&key, state.epoch, remembered)?;
        if let Some(remembered) = &remembered {
            self.log_holds(&state, remembered.size, remembered.root, "the checkpoint that was signed last").await?;
        }
        if let Some(newest) = &newest
            && remembered.is_none_or(|remembered| remembered.size < newest.size)
        {
            self.log_follow(&key, state.epoch, newest).await?;
        }
        Ok((key, state, newest))
    }

    /// Remembers what another replica has signed, as if this one had.
    async fn log_follow(&self, key: &LogKey, epoch: u64, newest: &Signed) -> Result<(), Failure> {
        let vkey = self.log_vkey(key, epoch)?;
        let is_own = Note::parse(newest.note.as_bytes()).and_then(|note| note.verify(&vkey)).is_ok();
        if !is_own {
            return Err(stopped(&format!(
                "the newest checkpoint in the database (size {}) is not signed by this log's key. The operator gives every replica                  of the house the same keys/log.key; the books go on meanwhile",
                newest.size
            )));
        }
        self.log_remember(key, newest.note.clone()).await
    }

    /// What stands in the memory outside of the database, where it can be read.
    async fn log_memory(&self) -> Result<Option<Vec<u8>>, std::io::Error> {
        let Some(key) = self.inner.keys.log.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || key.memory.read()).await;
        let read = read.map_err(std::io::Error::other).flatten();
        self.inner.log.unread.store(read.is_err(), Ordering::Relaxed);
        read
    }

    async fn log_holds(&self, state: &State, size: u64, root: Digest, what: &str) -> Result<(), Failure> {
        if size > state.size {
            return Err(stopped(&format!(
                "{what} has size {size}, and the database only {}: it was set back to an older state. The operator brings back a \
                 newer backup, or ends this log with `comity clearing log restart`; the books go on meanwhile",
                state.size
            )));
        }
        if self.log_root(size, state.size).await? != root {
            return Err(stopped(&format!(
                "{what} (size {size}) has another root than the database: what is stored was changed, or comes from another copy. \
                 The operator compares it with a backup by `comity audit`; the books go on meanwhile"
            )));
        }
        Ok(())
    }

    /// The root of the first `size` entries, out of the tiles of a tree of `whole`.
    async fn log_root(&self, size: u64, whole: u64) -> Result<Digest, Failure> {
        let ids = comity_wire::log::tiles_of(0..size);
        let tiles = store::log::tiles(&mut self.read().await?.db(), &ids, whole).await?;
        tiles.root(0..size).map_err(|error| stopped(&error))
    }

    fn log_remembered(
        &self,
        key: &LogKey,
        epoch: u64,
        read: Result<Option<Vec<u8>>, std::io::Error>,
    ) -> Result<Option<Checkpoint>, Failure> {
        let Some(bytes) = read.map_err(|error| stopped(&format!("the memory of what was signed: {error}")))? else {
            return Ok(None);
        };
        if bytes == LOG_FORGOTTEN {
            return Err(stopped(
                &"the books came back from a backup, and what this log signed after it is not known here. The operator puts back \
                 log.checkpoint of the house's home as it was, if it can still be read, or ends this log with `comity clearing \
                 log restart`; the books go on meanwhile",
            ));
        }
        let vkey = self.log_vkey(key, epoch)?;
        let note = Note::parse(&bytes).and_then(|note| note.verify(&vkey));
        match note {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            // An earlier log of this house: it ended.
            Err(_) if self.is_of_an_earlier_log(key, epoch, &bytes) => Ok(None),
            Err(error) => Err(stopped(&format!(
                "the memory of what was signed is not this log's ({error}). The operator brings back keys and memory of one \
                 home, or ends this log with `comity clearing log restart`"
            ))),
        }
    }

    fn is_of_an_earlier_log(&self, key: &LogKey, epoch: u64, bytes: &[u8]) -> bool {
        let Ok(note) = Note::parse(bytes) else { return false };
        let by = |epoch| self.log_vkey(key, epoch).is_ok_and(|vkey| note.verify(&vkey).is_ok());
        (1..epoch).any(by)
    }

    /// Which log this is.
    pub(crate) fn log_origin(&self, epoch: u64) -> String {
        format!("comity/{}/log/{epoch}", self.inner.config.org)
    }

    fn log_vkey(&self, key: &LogKey, epoch: u64) -> Result<VerifierKey, Failure> {
        VerifierKey::new(&self.log_origin(epoch), KeyUse::Log, key.secret.public()).map_err(Failure::invalid)
    }

    /// Ends a log whose past is lost, and begins the next with what is sealed. Both stay to be seen.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn log_restart(&self, why: &str) -> Result<LogStatus, Failure> {
        if why.trim().is_empty() || why.len() > 400 {
            return Err(Failure::invalid("say why in 1 to 400 bytes: everybody who verifies the log reads it"));
        }
        let turn = self.inner.log.turn.lock().await;
        let key = self.inner.keys.log.clone().ok_or(Failure::LogKeyless)?;
        // A log begins with what is true: where rows were changed there is something to bring back first.
        let agreement = self.log_audit().await?;
        if !agreement.holds {
            return Err(stopped(&format!(
                "books and log differ in {} places, which `comity ledger audit` names. The operator brings back a backup in which \
                 they agree; no log begins with what was changed",
                agreement.disagreements.len()
            )));
        }
        let mut conn = self.read().await?;
        let epoch = store::log::state(&mut conn.db()).await?.epoch;
        let stored = store::log::checkpoint(&mut conn.db(), epoch).await?;
        drop(conn);
        let remembered = self.log_memory().await.ok().flatten();
        let vkey = self.log_vkey(&key, epoch)?;
        let forgot = remembered.as_deref() == Some(LOG_FORGOTTEN);
        // Of the two the one that reached further: somebody may have seen it.
        let of_this = |bytes: Vec<u8>| {
            let note = Note::parse(&bytes).ok()?;
            note.verify(&vkey).ok().map(|checkpoint| (checkpoint.size, note.to_string()))
        };
        let newest = remembered.and_then(of_this).into_iter().chain(stored.map(|stored| (stored.size, stored.note)));
        let note = newest.max_by_key(|(size, _)| *size).map(|(_, note)| note);
        let ended = Ended { epoch, note, why: why.trim().to_owned(), ended_at: self.now() };
        tracing::error!(log = %self.log_origin(epoch), why = ended.why, "the log ends, another one begins");
        self.write(move |conn| Box::pin(async move { store::log::end_in_tx(conn, &ended).await })).await?;
        self.fail("log.after_restart");
        if forgot {
            // What was forgotten was the log's that has ended: in its place stands that log's beginning, which is true of it.
            let beginning =
                Checkpoint { origin: self.log_origin(epoch), size: 0, root: comity_wire::merkle::root(&[]) };
            let note = Note::sign(&beginning, &key.secret).map_err(Failure::invalid)?.to_string();
            self.log_remember(&key, note).await?;
        }
        drop(turn);
        self.log_advance().await?;
        self.log_status().await
    }

    /// How the log stands, for operators and for whoever asks.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn log_status(&self) -> Result<LogStatus, Failure> {
        let key = self.inner.keys.log.as_ref().ok_or(Failure::LogKeyless)?;
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let state = store::log::state(&mut seen).await?;
        let newest = store::log::checkpoint(&mut seen, state.epoch).await?;
        let waiting = store::log::waiting_count(&mut seen).await?;
        let witnesses = store::log::witnesses(&mut seen).await?;
        let ended = store::log::ended(&mut seen).await?;
        snapshot.rollback().await?;
        Ok(LogStatus {
            origin: self.log_origin(state.epoch),
            vkey: self.log_vkey(key, state.epoch)?.to_string(),
            size: newest.as_ref().map_or(0, |newest| newest.size),
            signed_at: newest.map(|newest| newest.signed_at),
            sealed: state.size,
            waiting,
            witnesses,
            ended,
            stopped: self.log_stopped(),
        })
    }

    /// The newest checkpoint with the cosignatures it was given.
    async fn log_served(&self) -> Result<Served, Failure> {
        if self.inner.keys.log.is_none() {
            return Err(Failure::LogKeyless);
        }
        if let Some(what) = self.log_stopped() {
            return Err(Failure::LogStopped { what });
        }
        let mut conn = self.read().await?;
        let state = store::log::state(&mut conn.db()).await?;
        let newest = store::log::checkpoint(&mut conn.db(), state.epoch).await?;
        let newest = newest.ok_or_else(|| Failure::NotFound { what: "checkpoint: the log is empty".into() })?;
        let lines = store::log::cosignatures(&mut conn.db(), state.epoch, newest.size).await?;
        let unreadable = |_| Failure::Unreadable { table: "log_checkpoint", what: "note" };
        let mut note = Note::parse(newest.note.as_bytes()).map_err(unreadable)?;
        for line in lines {
            note.add(Line::parse(&line).map_err(unreadable)?).map_err(unreadable)?;
        }
        Ok(Served { note, size: newest.size })
    }

    /// The signed checkpoint that is served.
    ///
    /// # Errors
    /// [`Failure`], also where the log stopped.
    pub async fn log_checkpoint(&self) -> Result<String, Failure> {
        Ok(self.log_served().await?.note.to_string())
    }

    /// The bytes of a tile or a bundle of what was signed; `None` where it is not part of it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn log_resource(&self, resource: Resource) -> Result<Option<Vec<u8>>, Failure> {
        let mut conn = self.read().await?;
        let state = store::log::state(&mut conn.db()).await?;
        let signed = store::log::checkpoint(&mut conn.db(), state.epoch).await?.map_or(0, |newest| newest.size);
        if self.inner.keys.log.is_none() || !resource.is_within(signed) {
            return Ok(None);
        }
        match resource {
            Resource::Tile(tile, width) => store::log::tile_bytes(&mut conn.db(), tile, width).await,
            Resource::Entries(index, width) => {
                let entries = store::log::entries(&mut conn.db(), index * 256, width.into()).await?;
                if entries.len() != usize::from(width) {
                    return Err(Failure::Unreadable { table: "log_entry", what: "entries that were sealed" });
                }
                Ok(Some(bundle(entries.iter().map(Vec::as_slice))))
            }
        }
    }

    /// That entry `index` is in the signed tree of `size`, or of the newest.
    ///
    /// # Errors
    /// [`Failure`] where there is no such entry in it.
    pub async fn log_inclusion(&self, index: u64, size: Option<u64>) -> Result<LogProof, Failure> {
        let served = self.log_served().await?;
        let size = self.log_size(size, served.size)?;
        let not_found = || Failure::NotFound { what: format!("entry {index} in the log of size {size}") };
        let steps = Steps::inclusion(index, size).ok_or_else(not_found)?;
        let proof = self.log_proof(&steps, served.size).await?;
        let entry = store::log::entries(&mut self.read().await?.db(), index, 1).await?.pop().ok_or_else(not_found)?;
        let root = self.log_root(size, served.size).await?;
        Ok(LogProof { size, root, proof, entry, checkpoint: served.note.to_string() })
    }

    /// That the signed tree of `to`, or of the newest, begins with the one of `from`.
    ///
    /// # Errors
    /// [`Failure`] where `from` is above it.
    pub async fn log_consistency(&self, from: u64, to: Option<u64>) -> Result<LogProof, Failure> {
        let served = self.log_served().await?;
        let size = self.log_size(to, served.size)?;
        let steps = Steps::consistency(from, size);
        let steps = steps.ok_or_else(|| Failure::invalid(format!("from {from} is above {size}")))?;
        let proof = self.log_proof(&steps, served.size).await?;
        let root = self.log_root(size, served.size).await?;
        Ok(LogProof { size, root, proof, entry: Vec::new(), checkpoint: served.note.to_string() })
    }

    fn log_size(&self, asked: Option<u64>, signed: u64) -> Result<u64, Failure> {
        match asked {
            Some(size) if size > signed => {
                Err(Failure::invalid(format!("the log has {signed} signed entries, not {size}")))
            }
            asked => Ok(asked.unwrap_or(signed)),
        }
    }

    async fn log_proof(&self, steps: &Steps, size: u64) -> Result<Vec<Digest>, Failure> {
        let tiles = store::log::tiles(&mut self.read().await?.db(), &steps.tiles(), size).await?;
        steps.of(&tiles).map_err(|error| stopped(&error))
    }

    /// Lets a witness cosign.
    ///
    /// # Errors
    /// [`Failure`] where it is no cosigner's key.
    pub async fn log_witness(&self, vkey: &str) -> Result<(), Failure> {
        let key: VerifierKey = vkey.parse().map_err(Failure::invalid)?;
        if key.use_() != KeyUse::Cosigner {
            return Err(Failure::invalid("a witness has a cosigner's key (type 4)"));
        }
        let (name, vkey, now) = (key.name().to_owned(), key.to_string(), self.now());
        self.write(move |conn| Box::pin(async move { store::log::witness_put_in_tx(conn, (&name, &vkey), now).await }))
            .await
    }

    /// Takes a witness's line for the checkpoint of `size`.
    ///
    /// # Errors
    /// [`Failure`] where that witness may not cosign here, or its line does not stand.
    pub async fn log_cosign(&self, size: u64, line: &str) -> Result<(), Failure> {
        let line = Line::parse(line).map_err(Failure::invalid)?;
        let mut conn = self.read().await?;
        let epoch = store::log::state(&mut conn.db()).await?.epoch;
        let keys = store::log::witnesses(&mut conn.db()).await?;
        let note = store::log::checkpoint_at(&mut conn.db(), epoch, size).await?;
        drop(conn);
        let mut keys = keys.iter().filter_map(|key| key.parse::<VerifierKey>().ok());
        let key = keys.find(|key| line.is_by(key)).ok_or(Failure::NotYours {
            what: "this key may not cosign here: `comity clearing log witness`, by the operator",
        })?;
        let note = note.ok_or_else(|| Failure::NotFound { what: format!("checkpoint of size {size}") })?;
        let mut note = Note::parse(note.as_bytes()).map_err(Failure::invalid)?;
        note.add(line.clone()).map_err(Failure::invalid)?;
        note.cosigned(&key).map_err(Failure::invalid)?;
        let (name, line) = (key.name().to_owned(), line.to_string());
        let at = (epoch, size);
        self.write(move |conn| Box::pin(async move { store::log::cosignature_put_in_tx(conn, at, &name, &line).await }))
            .await
    }
}

/// A proof with what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    pub size: u64,
    pub root: Digest,
    pub proof: Vec<Digest>,
    /// The entry that is proved, where it is one.
    pub entry: Vec<u8>,
    /// The newest signed checkpoint.
    pub checkpoint: String,
}

fn stopped(what: &dyn std::fmt::Display) -> Failure {
    Failure::LogStopped { what: what.to_string() }
}

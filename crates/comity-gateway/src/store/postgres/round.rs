//! A round: lock, read, decide, write, commit; again where the database says so, and in doubt until it is known.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use comity_wire::{Digest, TokenId};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tracing::{debug, warn};

use super::super::{Decided, Needs, StoreError};
use super::{Postgres, digest, id, planned, read, rows, write};
use crate::spend::{Account, Book, HoldId, LaneKey, Slot};

/// How often a round that the database undid is tried.
const TRIES_MAX: u32 = 8;
/// Longest pause between two tries, in milliseconds.
const PAUSE_MS_MAX: u64 = 200;

pub(super) type Decide<'d> = dyn FnMut(&mut Book) -> Decided + Send + 'd;

/// How far a round came: what decides whether it may be tried again.
#[derive(Default)]
struct Progress {
    /// Its number in the gateway's row.
    round: i64,
    /// COMMIT was sent: from here on only the database knows.
    committing: bool,
    /// The number after the last hold that it opens.
    next: u64,
    /// What it charges last.
    charge: Option<(TokenId, LaneKey, Slot, Digest)>,
}

/// What is true once the round is durable.
struct Ready {
    accounts: Vec<(TokenId, i64, Account)>,
    next: HoldId,
}

impl Postgres {
    pub(super) async fn run(&self, needs: &Needs, decide: &mut Decide<'_>) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let deadline = tokio::time::Instant::now() + self.waits.answer;
        for tries in 0.. {
            let mut progress = Progress::default();
            // Taken out: whatever happens to this future, a connection in an unknown state is not used again.
            let held = writer.take();
            let was_used = held.is_some();
            let attempt = self.attempt(held, needs, decide, &mut progress);
            let ended = tokio::time::timeout_at(deadline, attempt).await;
            let (connection, outcome) = ended.unwrap_or((None, Err(StoreError::Timeout)));
            let error = match outcome {
                Ok(ready) => {
                    *writer = connection;
                    self.follow(ready);
                    return Ok(());
                }
                Err(error) => error,
            };
            if progress.committing && is_open_ended(&error) {
                warn!(%error, "the answer to a commit was lost");
                // Its numbers may stand in the database.
                self.next.store(progress.next, Ordering::SeqCst);
                *self.known() = super::Known::default();
                return if self.resolve(&progress).await? { Ok(()) } else { Err(error) };
            }
            *writer = connection;
            // A connection that was idle may have been closed by the other side long ago.
            let stale = was_used && matches!(error, StoreError::Database(sqlx::Error::Io(_)));
            if !(stale || is_undone(&error)) || tries == TRIES_MAX {
                return Err(error);
            }
            debug!(%error, tries, "a round is tried again");
            tokio::time::sleep(pause(tries)).await;
        }
        unreachable!("the loop ends by itself")
    }

    async fn attempt(
        &self,
        held: Option<PgConnection>,
        needs: &Needs,
        decide: &mut Decide<'_>,
        progress: &mut Progress,
    ) -> (Option<PgConnection>, Result<Ready, StoreError>) {
        let mut connection = match held {
            Some(connection) => connection,
            None => {
                // Who answers now may be another server than before, with less than was read from that one.
                *self.known() = super::Known::default();
                match self.connect().await {
                    Ok(connection) => connection,
                    Err(error) => return (None, Err(error)),
                }
            }
        };
        let mut tx = match connection.begin().await {
            Ok(tx) => tx,
            Err(error) => return (None, Err(error.into())),
        };
        let outcome = match self.in_tx(&mut tx, needs, decide, progress).await {
            Ok(ready) => {
                progress.committing = true;
                tx.commit().await.map(|()| ready).map_err(StoreError::from)
            }
            // Undone here and now: its locks must not wait for somebody to use this connection again.
            Err(error) => match tx.rollback().await {
                Ok(()) => Err(error),
                Err(_) => return (None, Err(error)),
            },
        };
        // A connection that answered at all answers again; another one is closed.
        let answers = outcome.as_ref().err().is_none_or(|error| sql_state(error).is_some() || is_ours(error));
        (answers.then_some(connection), outcome)
    }

    async fn in_tx(
        &self,
        tx: &mut PgConnection,
        needs: &Needs,
        decide: &mut Decide<'_>,
        progress: &mut Progress,
    ) -> Result<Ready, StoreError> {
        let sql = concat!(
            "UPDATE replica SET round = round + 1, expires_at = ",
            now!(),
            " + $2 WHERE fence = $1 RETURNING round"
        );
        let query = sqlx::query_scalar(sql).bind(self.fence()).bind(i64::from(self.waits.lease_s));
        progress.round = query.fetch_optional(&mut *tx).await?.ok_or(StoreError::Fenced)?;
        let versions = self.lock_tokens(tx, needs).await?;
        let mut book = Book::for_round(HoldId::from_number(self.next.load(Ordering::SeqCst)));
        for account in self.accounts(tx, &versions).await? {
            book.load(account);
        }
        load_holds(tx, &versions, &mut book).await?;
        lock_subjects(tx, needs, &mut book).await?;
        let decided = decide(&mut book);
        progress.next = book.next().number();
        progress.charge = decided.writes.iter().rev().find_map(write::charge_of);
        let changed = write::all(tx, self.fence(), &versions, &decided, &book).await?;
        let accounts = versions.iter().filter_map(|(token, version)| {
            let version = version + i64::from(changed.contains(token));
            Some((*token, version, book.unload_account(*token)?))
        });
        Ok(Ready { accounts: accounts.collect(), next: book.next() })
    }

    /// Locks the rows of tokens in their order and makes those that are not there. Gives their versions.
    async fn lock_tokens(&self, tx: &mut PgConnection, needs: &Needs) -> Result<BTreeMap<TokenId, i64>, StoreError> {
        let is_new = |token: &TokenId| !self.known().accounts.contains_key(token);
        let new: Vec<(&TokenId, &Digest)> = needs
            .tokens
            .iter()
            .filter_map(|(token, root)| Some((token, root.as_ref()?)))
            .filter(|(token, _)| is_new(token))
            .collect();
        if !new.is_empty() {
            let tokens: Vec<Vec<u8>> = new.iter().map(|(token, _)| id(token)).collect();
            let roots: Vec<Vec<u8>> = new.iter().map(|(_, root)| digest(root)).collect();
            let sql =
                "INSERT INTO token (token, root) SELECT * FROM UNNEST($1::BYTEA[], $2::BYTEA[]) ON CONFLICT DO NOTHING";
            sqlx::query(sql).bind(tokens).bind(roots).execute(&mut *tx).await?;
        }
        let tokens: Vec<Vec<u8>> = needs.tokens.keys().map(id).collect();
        let sql = "SELECT token, version FROM token WHERE token = ANY($1) ORDER BY token FOR UPDATE";
        let locked = sqlx::query(sql).bind(tokens).fetch_all(&mut *tx).await?;
        locked.iter().map(|row| Ok((rows::token(row)?, row.try_get("version")?))).collect()
    }

    /// The accounts under the locks: from memory where the version is the one that is remembered.
    async fn accounts(
        &self,
        tx: &mut PgConnection,
        versions: &BTreeMap<TokenId, i64>,
    ) -> Result<Vec<Account>, StoreError> {
        let (mut accounts, mut stale) = (BTreeMap::new(), Vec::new());
        {
            let known = self.known();
            for (token, version) in versions {
                match known.accounts.get(token) {
                    Some(known) if known.version <= *version => {
                        accounts.insert(*token, known.account.clone());
                        if known.version < *version {
                            stale.push((*token, known.version));
                        }
                    }
                    _ => stale.push((*token, -1)),
                }
            }
        }
        let unknown: Vec<Vec<u8>> =
            stale.iter().filter(|(_, version)| *version < 0).map(|(token, _)| id(token)).collect();
        if !unknown.is_empty() {
            let sql = "SELECT token, root FROM token WHERE token = ANY($1)";
            for row in &sqlx::query(sql).bind(unknown).fetch_all(&mut *tx).await? {
                let token = rows::token(row)?;
                accounts.insert(token, Account::new(token, rows::digest(row, "root")?));
            }
        }
        if !stale.is_empty() {
            read::accounts(tx, &stale, &mut accounts).await?;
        }
        Ok(accounts.into_values().collect())
    }

    fn follow(&self, ready: Ready) {
        self.next.store(ready.next.number(), Ordering::SeqCst);
        let mut known = self.known();
        for (token, version, account) in ready.accounts {
            known.keep(token, version, account);
        }
    }

    /// Whether a round was committed whose answer was lost. The gateway's row is locked for it: who still holds the lock is
    /// that very transaction, and it ends soon, one way or the other.
    async fn resolve(&self, progress: &Progress) -> Result<bool, StoreError> {
        let deadline = tokio::time::Instant::now() + self.waits.doubt;
        let mut tries = 0;
        loop {
            match tokio::time::timeout_at(deadline, self.within(self.look(progress))).await {
                Ok(Ok(committed)) => {
                    warn!(committed, "it is known what the commit came to");
                    return Ok(committed);
                }
                Ok(Err(error)) => debug!(%error, "it is not known yet what a commit came to"),
                Err(_) => return Err(StoreError::Doubt),
            }
            tokio::time::sleep(pause(tries)).await;
            tries = (tries + 1).min(TRIES_MAX);
        }
    }

    async fn look(&self, progress: &Progress) -> Result<bool, StoreError> {
        let mut connection = self.connect().await?;
        let sql = "SELECT round FROM replica WHERE fence = $1 FOR UPDATE";
        let round: Option<i64> = sqlx::query_scalar(sql).bind(self.fence()).fetch_optional(&mut connection).await?;
        if let Some(round) = round {
            return Ok(round >= progress.round);
        }
        // Its fence was taken meanwhile, and its holds are gone with it; a charge that was made is there for good. Other
        // changes are asked for again by whoever wants them.
        let Some((token, key, slot, receipt)) = progress.charge else { return Ok(false) };
        let sql =
            "SELECT receipt_id FROM charge WHERE token = $1 AND leaf = $2 AND lane = $3 AND seq = $4 AND item = $5";
        let query = sqlx::query_scalar::<_, Vec<u8>>(sql).bind(id(&token)).bind(digest(&key.leaf));
        let query = query.bind(i64::from(key.lane)).bind(rows::int(slot.seq)).bind(i64::from(slot.item));
        Ok(query.fetch_optional(&mut connection).await?.is_some_and(|stored| stored == receipt.0))
    }
}

async fn load_holds(
    tx: &mut PgConnection,
    versions: &BTreeMap<TokenId, i64>,
    book: &mut Book,
) -> Result<(), StoreError> {
    let tokens: Vec<Vec<u8>> = versions.keys().map(id).collect();
    let found = sqlx::query("SELECT id, body FROM hold WHERE token = ANY($1)").bind(tokens).fetch_all(&mut *tx).await?;
    for row in &found {
        let hold = HoldId::from_number(rows::uint(row, "id")?);
        book.hold_import(hold, row.try_get("body")?).map_err(|_| StoreError::Unreadable { what: "hold" })?;
    }
    Ok(())
}

/// Locks the rows of subjects in their order, after all tokens, and reads how their windows stand.
async fn lock_subjects(tx: &mut PgConnection, needs: &Needs, book: &mut Book) -> Result<(), StoreError> {
    if needs.subjects.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = needs.subjects.iter().cloned().collect();
    let sql = "SELECT subject FROM subject WHERE subject = ANY($1) ORDER BY subject FOR UPDATE";
    let locked = sqlx::query(sql).bind(&names).fetch_all(&mut *tx).await?;
    if locked.len() < names.len() {
        let make =
            "INSERT INTO subject (subject) SELECT name FROM UNNEST($1::TEXT[]) AS n (name) ON CONFLICT DO NOTHING";
        sqlx::query(make).bind(&names).execute(&mut *tx).await?;
        sqlx::query(sql).bind(&names).execute(&mut *tx).await?;
    }
    // Read after the lock is held: who held it before has committed its holds and charges. Those of this round's tokens
    // are in the book.
    let tokens: Vec<Vec<u8>> = needs.tokens.keys().map(id).collect();
    let sql = "SELECT body FROM hold WHERE subject = ANY($1) AND NOT token = ANY($2)";
    for row in &sqlx::query(sql).bind(&names).bind(tokens).fetch_all(&mut *tx).await? {
        book.hold_counts(row.try_get("body")?).map_err(|_| StoreError::Unreadable { what: "hold" })?;
    }
    let mut paces: BTreeMap<String, Vec<_>> = names.iter().map(|name| (name.clone(), Vec::new())).collect();
    let sql = "SELECT * FROM pace WHERE subject = ANY($1)";
    for row in &sqlx::query(sql).bind(&names).fetch_all(&mut *tx).await? {
        paces.entry(row.try_get("subject")?).or_default().push(rows::pace(row)?);
    }
    let mut runs: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for row in planned::runs(tx, &names).await? {
        runs.entry(row.0.subject.clone()).or_default().push(row);
    }
    for (name, rows) in paces {
        let runs = runs.remove(&name).unwrap_or_default();
        book.load_subject(&name, rows, runs);
    }
    Ok(())
}

/// Whether the database undid it for others' sake: nothing is wrong with it.
fn is_undone(error: &StoreError) -> bool {
    matches!(sql_state(error).as_deref(), Some("40001" | "40P01"))
}

/// After a COMMIT was sent: whether it may have happened all the same. A server that says no has not done it, unless it
/// says that it does not know, or that it is going down.
fn is_open_ended(error: &StoreError) -> bool {
    sql_state(error).is_none_or(|state| state == "40003" || state.starts_with("08") || state.starts_with("57P"))
}

/// What we said no to ourselves.
const fn is_ours(error: &StoreError) -> bool {
    matches!(error, StoreError::Fenced | StoreError::Unreadable { .. })
}

fn sql_state(error: &StoreError) -> Option<String> {
    let StoreError::Database(sqlx::Error::Database(error)) = error else { return None };
    Some(error.code()?.into_owned())
}

/// Longer from try to try, and never the same for two gateways.
pub(super) fn pause(tries: u32) -> Duration {
    let mut chance = [0; 2];
    getrandom::fill(&mut chance).expect("the system has randomness");
    let most = (5_u64 << tries.min(16)).min(PAUSE_MS_MAX);
    Duration::from_millis(1 + u64::from(u16::from_be_bytes(chance)) * most / u64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A COMMIT that never arrived is not one that was made, whatever became of its answer.
    #[tokio::test]
    async fn what_a_commit_came_to_is_what_the_gateways_own_row_says() {
        let database = comity_scratch::Database::create().await;
        let store = Postgres::open(&database.url()).await.unwrap();
        let came = async |round| {
            let progress = Progress { round, committing: true, ..Progress::default() };
            store.resolve(&progress).await.unwrap()
        };
        assert!(!came(1).await);
        let mut beside = store.connect().await.unwrap();
        sqlx::query("UPDATE replica SET round = 1").execute(&mut beside).await.unwrap();
        assert!(came(1).await && !came(2).await);
        // Its fence was taken, and it charged nothing that would stand without it.
        sqlx::query("DELETE FROM replica").execute(&mut beside).await.unwrap();
        assert!(!came(1).await);
    }
}

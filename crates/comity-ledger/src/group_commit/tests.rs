//! Sharing a commit, failing alone, and telling the truth about a COMMIT that went wrong.

use std::convert::Infallible;

use futures::future::{join, join_all};
use tempfile::TempDir;

use super::*;
use crate::books::migrate;
use crate::db::Migrations;

struct Bench {
    committer: Committer,
    writer: Writer,
    /// Commits as SQLite counts them.
    hooked: Arc<AtomicU64>,
    dir: TempDir,
}

async fn bench(waiting_max: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::sqlite(dir.path().join("ledger.db"));
    migrate(&database, Migrations::default()).await.unwrap();
    let mut conn = database.connect().await.unwrap();
    query("CREATE TABLE word (word TEXT NOT NULL UNIQUE) STRICT").execute(&mut conn.db()).await.unwrap();
    conn.close().await.unwrap();
    let (committer, mut writer) = Committer::with_bound(database, waiting_max).await.unwrap();
    let hooked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&hooked);
    writer
        .hook(move || {
            count.fetch_add(1, Ordering::Relaxed);
            true
        })
        .await;
    Bench { committer, writer, hooked, dir }
}

impl Writer {
    async fn hook(&mut self, hook: impl FnMut() -> bool + Send + 'static) {
        let Some(Conn::Sqlite(conn)) = &mut self.conn else { panic!("it is SQLite's") };
        conn.lock_handle().await.unwrap().set_commit_hook(hook);
    }
}

impl Bench {
    /// Polls the callers first, so that all of them wait in the queue before the writer begins.
    async fn serve<T>(self, callers: impl Future<Output = T>) -> (T, Vec<String>) {
        let Self { committer, writer, dir, .. } = self;
        let callers = async {
            let told = callers.await;
            drop(committer);
            told
        };
        let (told, ()) = join(callers, writer.run(std::future::pending())).await;
        let mut conn = Database::sqlite(dir.path().join("ledger.db")).connect().await.unwrap();
        let words = query("SELECT word FROM word ORDER BY word").fetch_all(&mut conn.db()).await.unwrap();
        (told, words.iter().map(|row| row.text("word").unwrap()).collect())
    }
}

type Told = Result<u64, CommitError<String>>;

/// Writes a word, then ends as asked.
async fn write(committer: Committer, word: &'static str, end: Result<u64, &'static str>) -> Told {
    committer
        .run(move |conn| {
            Box::pin(async move {
                query("INSERT INTO word VALUES (?)")
                    .bind(word)
                    .execute(conn)
                    .await
                    .map_err(|error| error.to_string())?;
                if end == Err("panic") {
                    std::panic::panic_any("a planted panic");
                }
                end.map_err(str::to_owned)
            })
        })
        .await
}

#[tokio::test]
async fn callers_who_come_together_share_one_commit() {
    let bench = bench(64).await;
    let (committer, hooked) = (bench.committer.clone(), Arc::clone(&bench.hooked));
    let one = |n: u64| {
        let committer = committer.clone();
        async move {
            committer
                .run(move |conn| {
                    Box::pin(async move {
                        query("INSERT INTO word VALUES (?)").bind(n.to_string()).execute(conn).await.unwrap();
                        Ok::<_, Infallible>(n)
                    })
                })
                .await
                .unwrap()
        }
    };
    let all = join_all((0..50).map(one));
    let commits = Arc::clone(&committer.commits);
    drop(committer);
    let (told, words) = bench.serve(all).await;
    assert_eq!(told, (0..50).collect::<Vec<u64>>());
    assert_eq!(words.len(), 50);
    assert_eq!((hooked.load(Ordering::Relaxed), commits.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn an_idle_writer_commits_at_once() {
    let bench = bench(64).await;
    let (committer, hooked) = (bench.committer.clone(), Arc::clone(&bench.hooked));
    let callers = async move {
        assert!(matches!(write(committer.clone(), "a", Ok(1)).await, Ok(1)));
        assert_eq!(committer.commits(), 1);
        assert!(matches!(write(committer.clone(), "b", Ok(2)).await, Ok(2)));
    };
    let ((), words) = bench.serve(callers).await;
    assert_eq!(words, ["a", "b"]);
    assert_eq!(hooked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_job_that_fails_undoes_itself_alone() {
    let bench = bench(64).await;
    let committer = bench.committer.clone();
    let jobs = [("a", Ok(1)), ("b", Err("no")), ("c", Err("panic")), ("a", Ok(4)), ("d", Ok(5))];
    let all = join_all(jobs.map(|(word, end)| write(committer.clone(), word, end)));
    let hooked = Arc::clone(&bench.hooked);
    drop(committer);
    let (told, words) = bench.serve(all).await;
    assert!(matches!(told[0], Ok(1)));
    assert!(matches!(&told[1], Err(CommitError::Refused(no)) if no == "no"));
    assert!(matches!(&told[2], Err(CommitError::NotCommitted { .. })));
    assert!(matches!(&told[3], Err(CommitError::Refused(unique)) if unique.contains("UNIQUE")));
    assert!(matches!(told[4], Ok(5)));
    assert_eq!(words, ["a", "d"]);
    assert_eq!(hooked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_batch_of_refusals_commits_nothing() {
    let bench = bench(64).await;
    let committer = bench.committer.clone();
    let all = join_all([write(committer.clone(), "a", Err("no")), write(committer.clone(), "b", Err("no"))]);
    let hooked = Arc::clone(&bench.hooked);
    drop(committer);
    let (told, words) = bench.serve(all).await;
    assert!(told.iter().all(|told| matches!(told, Err(CommitError::Refused(_)))));
    assert_eq!((words.len(), hooked.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn a_commit_that_did_not_happen_is_told_to_all_who_rest_on_it() {
    let mut bench = bench(64).await;
    bench.writer.hook(|| false).await; // SQLite turns this COMMIT into a ROLLBACK and reports an error.
    let committer = bench.committer.clone();
    let callers = async move {
        // The second refuses because of what the first wrote; as that is gone, the refusal rests on nothing.
        let lost = join_all([write(committer.clone(), "a", Ok(1)), write(committer.clone(), "a", Ok(2))]).await;
        let after = write(committer.clone(), "a", Ok(3)).await;
        (lost, after)
    };
    let ((lost, after), words) = bench.serve(callers).await;
    assert!(lost.iter().all(|told| matches!(told, Err(CommitError::NotCommitted { .. }))), "{lost:?}");
    // A fresh connection serves the next.
    assert!(matches!(after, Ok(3)), "{after:?}");
    assert_eq!(words, ["a"]);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_read_back() {
    let mut bench = bench(64).await;
    let lost = sqlx::Error::WorkerCrashed;
    let mut conn = bench.writer.conn.take().unwrap();
    let mark = mark_next(&mut conn.db(), bench.writer.started).await.unwrap(); // This one happened.
    assert!(matches!(bench.writer.read_back(mark, &lost).await, Fate::Committed));
    assert!(matches!(bench.writer.read_back(mark + 1, &lost).await, Fate::NotCommitted { .. }));
    bench.writer.conn = None;
    bench.writer.database = Database::sqlite(bench.dir.path().join("no such directory/ledger.db"));
    assert!(matches!(bench.writer.read_back(mark, &lost).await, Fate::Unknown { .. }));
}

#[tokio::test]
async fn a_full_queue_is_busy_and_a_stopped_writer_says_so() {
    let bench = bench(1).await;
    let waiting = write(bench.committer.clone(), "a", Ok(1));
    let mut waiting = pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(matches!(write(bench.committer.clone(), "b", Ok(2)).await, Err(CommitError::Busy)));
    // Stopped at once, it still does what was queued.
    let (told, ()) = join(waiting, bench.writer.run(std::future::ready(()))).await;
    assert!(matches!(told, Ok(1)));
    assert!(matches!(write(bench.committer, "c", Ok(3)).await, Err(CommitError::Stopped)));
}

#[tokio::test]
async fn a_job_whose_caller_left_before_it_began_is_skipped() {
    let bench = bench(8).await;
    let left = Box::pin(write(bench.committer.clone(), "left", Ok(1)));
    let mut left = left;
    assert!(left.as_mut().now_or_never().is_none());
    drop(left);
    let committer = bench.committer.clone();
    let (told, words) = bench.serve(write(committer, "stayed", Ok(2))).await;
    assert!(matches!(told, Ok(2)));
    assert_eq!(words, ["stayed"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_not_committed() {
    let mut bench = bench(8).await;
    let conn = bench.writer.conn.as_mut().unwrap();
    query("PRAGMA query_only = ON").execute(&mut conn.db()).await.unwrap();
    let committer = bench.committer.clone();
    let (told, words) = bench.serve(write(committer, "a", Ok(1))).await;
    assert!(matches!(&told, Err(CommitError::NotCommitted { cause }) if cause.contains("readonly")), "{told:?}");
    assert!(words.is_empty());
}

/// Writes each word; answers with the number of words that were merged; a word that stands there already is `None`.
fn words(committer: Committer) -> Merged<&'static str, Option<usize>, String> {
    Merged::new(committer, |conn, words| {
        Box::pin(async move {
            let mut answers = Vec::new();
            for word in &words {
                if *word == "fail" {
                    return Err("a planted failure".to_owned());
                }
                let insert = query("INSERT INTO word VALUES (?) ON CONFLICT DO NOTHING").bind(*word);
                let done = insert.execute(conn).await.map_err(|error| error.to_string())?;
                answers.push((done == 1).then_some(words.len()));
            }
            Ok(answers)
        })
    })
}

#[tokio::test]
async fn requests_that_wait_together_are_merged_into_one_job() {
    // One place in the queue: they share a job, or they would be busy.
    let bench = bench(1).await;
    let merged = words(bench.committer.clone());
    let hooked = Arc::clone(&bench.hooked);
    let callers = async move {
        let together = join_all(["a", "b", "a", "c"].map(|word| merged.ask(word))).await;
        let alone = merged.ask("d").await;
        (together, alone)
    };
    let ((together, alone), words) = bench.serve(callers).await;
    let together: Vec<_> = together.into_iter().map(Result::unwrap).collect();
    assert_eq!(together, [Some(4), Some(4), None, Some(4)]);
    assert_eq!(alone.unwrap(), Some(1));
    assert_eq!(words, ["a", "b", "c", "d"]);
    assert_eq!(hooked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_merged_job_that_fails_undoes_all_of_it_and_nothing_else() {
    let bench = bench(8).await;
    let merged = words(bench.committer.clone());
    let other = write(bench.committer.clone(), "other", Ok(1));
    let callers = async move {
        let told = join(join_all(["a", "fail", "b"].map(|word| merged.ask(word))), other).await;
        (told, merged.ask("after").await)
    };
    let (((merged, other), after), words) = bench.serve(callers).await;
    assert!(
        merged.iter().all(|told| matches!(told, Err(CommitError::Refused(why)) if **why == "a planted failure")),
        "{merged:?}"
    );
    assert!(matches!((other, after), (Ok(1), Ok(Some(1)))));
    assert_eq!(words, ["after", "other"]);
}

#[tokio::test]
async fn requests_of_a_writer_that_went_away_are_not_left_waiting() {
    let bench = bench(8).await;
    let merged = words(bench.committer.clone());
    let asked = merged.ask("a");
    let mut asked = pin!(asked);
    assert!(asked.as_mut().now_or_never().is_none());
    drop(bench.writer);
    assert!(matches!(asked.await, Err(CommitError::Unknown { .. })));
    assert!(matches!(merged.ask("b").await, Err(CommitError::Stopped)));
}

/// 256 callers on one hot allocation, each reserving again and again: merged, and each in a job of its own.
#[tokio::test]
#[ignore = "a measurement"]
async fn single_reservations_per_second() {
    use crate::account::{AccountCode, NewAccount};
    use crate::books::LedgerTx;
    use crate::contract::{NOW, account, transfer};
    use crate::decide::{Group, Outcome};
    use crate::id::{Reference, TransferId};
    use crate::store::{Store as _, StoreError};
    use crate::transfer::{Transfer, TransferKind};
    const CALLERS: u32 = 256;
    const EACH: u32 = 40;

    async fn reserve(conn: &mut Db<'_>, escrows: Vec<NewAccount>) -> Result<Vec<Outcome>, StoreError> {
        let group = |escrow: &NewAccount| {
            let alice = account(AccountCode::Allocation, 1);
            let id = TransferId::derive(TransferKind::Reserve, &[escrow.reference.as_bytes()]);
            Group::single(Transfer { id, ..transfer(TransferKind::Reserve, 0, alice, *escrow, 1) })
        };
        let groups: Vec<Group> = escrows.iter().map(group).collect();
        let mut ledger = LedgerTx::new(conn);
        ledger.accounts_open_in_tx(&escrows, NOW).await?;
        let outcomes = ledger.transfers_post_in_tx(&groups, NOW).await?;
        Ok(outcomes.into_iter().flat_map(|group| group.0).collect())
    }

    for merge in [true, false] {
        let bench = bench(JOBS_WAITING_MAX).await;
        let committer = bench.committer.clone();
        let merged = Merged::new(committer.clone(), |conn, escrows| Box::pin(reserve(conn, escrows)));
        let callers = async move {
            let opened = committer.run(|conn| {
                Box::pin(async move {
                    let (issuance, alice) = (account(AccountCode::Issuance, 0), account(AccountCode::Allocation, 1));
                    let mut ledger = LedgerTx::new(conn);
                    ledger.accounts_open_in_tx(&[issuance, alice], NOW).await?;
                    ledger
                        .transfer_post_in_tx(transfer(TransferKind::Award, 1, issuance, alice, 1_000_000_000), NOW)
                        .await
                })
            });
            let opened: Result<Outcome, CommitError<StoreError>> = opened.await;
            assert!(matches!(opened, Ok(Outcome::Created)));
            let caller = |caller: u32| {
                let (committer, merged) = (committer.clone(), merged.clone());
                async move {
                    for n in 0..EACH {
                        let mut reference = [5; 16];
                        reference[..4].copy_from_slice(&(caller * EACH + n).to_be_bytes());
                        let escrow = NewAccount::credits(AccountCode::Escrow, Reference(reference));
                        if merge {
                            assert_eq!(merged.ask(escrow).await.unwrap(), Outcome::Created);
                        } else {
                            let done = committer.run(move |conn| Box::pin(reserve(conn, vec![escrow]))).await;
                            assert_eq!(done.unwrap(), [Outcome::Created]);
                        }
                    }
                }
            };
            let start = std::time::Instant::now();
            join_all((0..CALLERS).map(caller)).await;
            let rate = f64::from(CALLERS * EACH) / start.elapsed().as_secs_f64();
            eprintln!("{rate:.0} reservations/s, merged {merge}, {} commits", committer.commits());
        };
        bench.serve(callers).await;
    }
}

#[tokio::test]
async fn a_writer_apart_waits_for_nobody_and_ends_when_told_with_what_was_queued_done() {
    let Bench { committer, mut writer, dir, .. } = bench(64).await;
    let (committed, commits) = std::sync::mpsc::channel();
    writer.hook(move || committed.send(()).is_ok()).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = writer.run_apart(async move { drop(stopped.await) }).unwrap();
    let mut first = Box::pin(write(committer.clone(), "first", Ok(1)));
    assert!(futures::poll!(&mut first).is_pending());
    // This runtime does nothing else meanwhile: its one thread stands here.
    commits.recv_timeout(Duration::from_secs(60)).expect("it was committed by another thread");
    assert_eq!(first.await.unwrap(), 1);
    let mut second = Box::pin(write(committer.clone(), "second", Ok(2)));
    assert!(futures::poll!(&mut second).is_pending());
    stop.send(()).unwrap();
    ended.await;
    assert_eq!(second.await.unwrap(), 2);
    assert!(matches!(write(committer, "third", Ok(3)).await, Err(CommitError::Stopped)));
    let mut conn = Database::sqlite(dir.path().join("ledger.db")).connect().await.unwrap();
    let words = query("SELECT word FROM word ORDER BY word").fetch_all(&mut conn.db()).await.unwrap();
    assert_eq!(words.len(), 2);
}

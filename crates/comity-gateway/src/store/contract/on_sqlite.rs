//! What the store in one SQLite file does beside the contract.

use super::*;

#[tokio::test]
async fn one_process_at_a_time_and_a_late_one_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spend.db");
    let first = Sqlite::open(&path).await.unwrap();
    assert!(matches!(Sqlite::open(&path).await, Err(StoreError::Locked { .. })));
    first.write(&charge(1, 1)).await.unwrap();
    // A lock that did not hold (another machine, a copied lock file): the fence still tells.
    std::fs::remove_file(path.with_added_extension("lock")).unwrap();
    let second = Sqlite::open(&path).await.unwrap();
    assert_eq!(second.fence(), first.fence() + 1);
    assert!(matches!(first.write(&charge(2, 2)).await, Err(StoreError::Fenced)));
    second.write(&charge(2, 2)).await.unwrap();
    assert_eq!(second.account(TOKEN).await.unwrap().unwrap().lanes[&KEY].n, 2);
}

/// Sums only rise: a batch that was worked out from an older account is refused whole.
#[tokio::test]
async fn a_batch_from_an_older_account_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("spend.db")).await.unwrap();
    store.write(&charge(2, 2)).await.unwrap();
    let spent = |amount| {
        let (amount, cap) = (Amount::from_ucr(amount), Amount::from_ucr(10));
        Write::Spent { token: TOKEN, id: ROOT, amount, cap }
    };
    let older = Write::Lane { token: TOKEN, key: KEY, lane: Arc::new(lane(1, 2)) };
    for rows in [vec![spent(9)], vec![older.clone()], vec![spent(10), older]] {
        let refused = store.write(&rows).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
        let account = store.account(TOKEN).await.unwrap().unwrap();
        assert_eq!((account.lanes[&KEY].n, account.spent(&ROOT)), (2, Amount::from_ucr(10)));
    }
    store.write(&charge(3, 3)).await.unwrap();
    assert_eq!(store.account(TOKEN).await.unwrap().unwrap().lanes[&KEY].n, 3);
}

/// The last row breaks a rule: what was written before it in the same call is undone, and the store goes on.
#[tokio::test]
async fn what_fails_at_its_last_row_leaves_nothing_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("spend.db")).await.unwrap();
    store.write(&charge(1, 1)).await.unwrap();
    // The rows of a lane that is known, which are one call from `BEGIN` to `COMMIT`.
    let mut rows = charge(2, 2).split_off(2);
    let Some(Write::Charge { charge: due, charged, .. }) = rows.last_mut() else { panic!("a charge comes last") };
    (*due, charged.total) = (Amount::from_ucr(11), Amount::from_ucr(10));
    for _ in 0..3 {
        let refused = store.write(&rows).await;
        assert!(matches!(refused, Err(StoreError::File(_))), "{refused:?}");
        assert_eq!(store.account(TOKEN).await.unwrap().unwrap().lanes[&KEY].n, 1);
    }
    store.final_delivered(TOKEN).await.unwrap();
    assert!(store.is_final_delivered(TOKEN).await.unwrap(), "it is no part of what was undone");
    store.write(&charge(2, 2)).await.unwrap();
    assert_eq!(store.account(TOKEN).await.unwrap().unwrap().lanes[&KEY].n, 2);
}

/// Whoever is let in again after a batch that failed is charged by the connection that was tried, and by no other.
#[tokio::test]
async fn a_trial_is_of_the_connection_that_charges() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("spend.db"), dir.path().join("away"));
    let store = Sqlite::open(&path).await.unwrap();
    store.write(&charge(1, 1)).await.unwrap();
    // A slot that is charged twice: the batch fails, and its connection is gone.
    assert!(store.write(&charge(1, 1)).await.is_err());
    std::fs::rename(&path, &away).unwrap();
    assert!(matches!(store.try_out().await, Err(StoreError::File(_))), "charges could not be written");
    assert!(matches!(store.write(&charge(2, 2)).await, Err(StoreError::File(_))));
    std::fs::rename(&away, &path).unwrap();
    store.try_out().await.unwrap();
    store.write(&charge(2, 2)).await.unwrap();
    assert_eq!(store.account(TOKEN).await.unwrap().unwrap().lanes[&KEY].n, 2);
}

/// And a store that takes batches again takes all else again.
#[tokio::test]
async fn a_trial_that_passes_mends_what_else_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("spend.db")).await.unwrap();
    store.break_others().await;
    assert!(store.house_restored_put(OrgId([7; 16]), Timestamp(1)).await.is_err());
    store.try_out().await.unwrap();
    store.house_restored_put(OrgId([7; 16]), Timestamp(1)).await.unwrap();
}

/// A write that is given up while it waits for another's end was not begun; one that has begun is whole.
#[tokio::test]
async fn a_write_that_is_given_up_is_whole_or_not_there_and_takes_nothing_along() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spend.db");
    let store = Sqlite::open(&path).await.unwrap();
    store.write(&charge(1, 1)).await.unwrap();
    let house = OrgId([7; 16]);
    for n in 2..20_u64 {
        let rows = charge(n, n).split_off(2);
        let mut other = store.house_restored_put(house, Timestamp(n));
        let waits = n % 2 == 0;
        if waits {
            assert!(futures::poll!(&mut other).is_pending(), "it is at work, and has the lock");
        }
        let mut write = store.write(&rows);
        assert_eq!(futures::poll!(&mut write).is_pending(), waits, "{n}");
        drop(write);
        other.await.unwrap();
        let account = store.account(TOKEN).await.unwrap().unwrap();
        let is_there = store.charge(TOKEN, KEY, Slot { seq: n, item: 0 }).await.unwrap().is_some();
        assert_eq!((account.lanes[&KEY].n == n, is_there), (!waits, !waits), "{n}");
        if waits {
            store.write(&rows).await.unwrap();
        }
        assert_eq!(store.house_restored(house).await.unwrap(), Some(Timestamp(n)));
    }
}

/// What a statement would undo that fails at its last row is kept in memory: not in a file for each commit.
#[tokio::test]
async fn a_batch_makes_no_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path().join("spend.db")).await.unwrap();
    assert_eq!(store.temp_store().await, 2, "https://sqlite.org/pragma.html#pragma_temp_store: memory");
}

/// As at a node, where the writer has a thread of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_log_is_copied_away_while_commits_go_on() {
    const COMMITS: u64 = 400;
    const CHARGES: u64 = 32;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spend.db");
    let store = Sqlite::open(&path).await.unwrap();
    let log = || std::fs::metadata(dir.path().join("spend.db-wal")).unwrap().len();
    store.write(&charge(1, 1)).await.unwrap();
    let (rows, mut most) = (charge(2, 2), 0);
    for commit in 0..COMMITS {
        // The lane's row is the same each time: its tree would take longer than the store does.
        let of_one = |number| rows[2..].iter().map(move |row| numbered(row, 2 + commit * CHARGES + number));
        store.write(&(0..CHARGES).flat_map(of_one).collect::<Vec<_>>()).await.unwrap();
        most = most.max(log());
    }
    assert!(most < 8 << 20, "{most} bytes of log");
}

fn numbered(row: &Write, at: u64) -> Write {
    let mut row = row.clone();
    if let Write::Charge { slot, charged, .. } = &mut row {
        (slot.seq, charged.n) = (at, at);
    }
    row
}

/// Chains of before, as a store has them that was made by an earlier version.
#[tokio::test]
async fn chains_of_before_are_told_whose_they_are_in_bounded_steps() {
    let (dir, many) = (tempfile::tempdir().unwrap(), crate::store::kept::FILL_MAX + 20);
    let path = dir.path().join("spend.db");
    let store = Sqlite::open(&path).await.unwrap();
    store.write(&met(9, "sub-a")).await.unwrap();
    let leaves = (0..many).map(|n| Write::Chain {
        token: TokenId([9; 16]),
        leaf: id(u64::from(n)),
        bytes: Arc::from(&b"none"[..]),
    });
    store.write(&leaves.collect::<Vec<_>>()).await.unwrap();
    let url = format!("sqlite://{}", path.display());
    let mut raw = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("UPDATE chain SET subject = NULL").execute(&mut raw).await.unwrap();
    assert!(tokens(&store, "sub-a", 0, 10).await.is_empty());
    assert_eq!(store.subjects_fill().await.unwrap(), crate::store::kept::FILL_MAX);
    assert_eq!(store.subjects_fill().await.unwrap(), 21);
    assert_eq!(store.subjects_fill().await.unwrap(), 0, "what cannot be read is not looked at for ever");
    assert_eq!(tokens(&store, "sub-a", 0, 10).await, [9]);
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(
        "EXPLAIN QUERY PLAN SELECT DISTINCT token FROM chain WHERE subject = ? AND token >= ? ORDER BY token LIMIT ?",
    )
    .fetch_all(&mut raw)
    .await
    .unwrap();
    assert!(plan.iter().any(|(.., step)| step.contains("chain_of_subject")), "{plan:?}");
}

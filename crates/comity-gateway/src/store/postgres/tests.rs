//! Rounds of two gateways on one database, beside one book that decides alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use comity_scratch::{Database, Wire};
use comity_token::PathCap;
use comity_wire::object::{Basis, Ended, Flags, Tier, Window};
use comity_wire::{Amount, Exact, Meter, Meters, NodeId, Op, SecretKey, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use super::super::Store as _;
use super::super::kept::Kept as _;
use super::*;
use crate::spend::{Admission, Ask, Bound, Change, Charge, Evidence, Outcome, Refused, Rule, Signer, Write};
use crate::store::Decided;

const TOKEN: TokenId = TokenId([1; 16]);

fn root() -> Digest {
    Digest([2; 32])
}

fn signer() -> Signer {
    Signer { node: NodeId([9; 16]), key: SecretKey::from_seed([8; 32]), restore: 0 }
}

fn needs() -> Needs {
    Needs { tokens: [(TOKEN, Some(root()))].into(), subjects: ["s".to_owned()].into() }
}

fn ask(lane: u16, seq: u64, hold: u32) -> Ask {
    let amount = Amount::from_ucr(hold);
    Ask {
        token: TOKEN,
        key: LaneKey { leaf: root(), lane },
        slot: Slot { seq, item: 0 },
        authority: root(),
        created: Timestamp(0),
        path: vec![PathCap { id: root(), cap: Amount::from_ucr(300) }],
        lanes: 4,
        lanes_max: 3,
        window: Amount::from_ucr(120),
        hold: amount,
        least: Amount::ZERO,
        max: amount,
        subject: "s".into(),
        bounds: vec![Bound {
            rule: Rule { policy: "tiny".into(), tier: Tier::Registered, op: None },
            concurrency: 4,
            windows: vec![Window { seconds: 10, requests: Some(12), tokens: Some(400) }],
        }],
        tokens: u64::from(hold),
        within: Vec::new(),
    }
}

fn charge(hold: HoldId, exact: u128) -> Change {
    Change::Charge(Box::new(Charge {
        hold,
        exact: Exact(exact),
        meters: Meters::default().with(Meter::Requests, 1).with(Meter::OutputTokens, 9),
        flags: Flags::default(),
        basis: Basis::Counted,
        ended: Ended::Stop,
        request: root(),
        response: root(),
        model: "lab/m".parse().unwrap(),
        op: Op::Chat,
        release: root(),
        manifest: root(),
        tariff: root(),
        standing: 1,
        at: Timestamp(5),
        evidence: Evidence { base: String::new(), signature: [0; 64] },
        chain: Arc::from(&b"chain"[..]),
        acknowledgement: None,
    }))
}

async fn admit(store: &Postgres, ask: &Ask, now: Timestamp) -> Result<Result<Admission, Refused>, StoreError> {
    let mut said = None;
    let mut decide = |book: &mut Book| {
        let admission = book.admit(ask, now);
        let held = if let Ok(Admission::Held(id)) = admission { vec![id] } else { Vec::new() };
        said = Some(admission);
        Decided { held, ..Decided::default() }
    };
    store.round(&needs(), &mut decide).await?;
    Ok(said.unwrap())
}

async fn change(store: &Postgres, change: Change) -> Result<Result<Outcome, Refused>, StoreError> {
    let mut said = None;
    let mut decide = |book: &mut Book| {
        let mut stage = book.stage(std::slice::from_ref(&change), &signer());
        let decided = Decided { writes: std::mem::take(&mut stage.writes), ended: stage.charged(), held: Vec::new() };
        said = book.commit(stage).pop();
        decided
    };
    store.round(&needs(), &mut decide).await?;
    Ok(said.unwrap())
}

async fn release(store: &Postgres, hold: HoldId) {
    let mut decide = |book: &mut Book| {
        book.release(hold);
        Decided { ended: vec![hold], ..Decided::default() }
    };
    store.round(&needs(), &mut decide).await.unwrap();
}

async fn held(admitted: Result<Result<Admission, Refused>, StoreError>) -> HoldId {
    let Ok(Ok(Admission::Held(id))) = admitted else { panic!("{admitted:?}") };
    id
}

async fn say(database: &Database, sql: &str) {
    let options: PgConnectOptions = database.url().parse().unwrap();
    options.connect().await.unwrap().execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

/// As if nothing had been heard of it for a lease.
async fn silence(database: &Database, store: &Postgres) {
    say(database, &format!("UPDATE replica SET expires_at = 0 WHERE fence = {}", store.fence())).await;
}

struct Pair {
    rng: ChaCha8Rng,
    stores: Vec<Postgres>,
    alone: Book,
    /// Which gateway, its hold, and the lone book's.
    open: Vec<(usize, HoldId, HoldId, u32)>,
    admitted: usize,
    refused: BTreeMap<String, usize>,
}

impl Pair {
    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    fn one(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }

    async fn admit(&mut self, now: Timestamp) {
        let at = self.one(2);
        let (lane, seq) = (u16::try_from(self.below(4)).unwrap(), 1 + self.below(9));
        let ask = ask(lane, seq, u32::try_from(self.below(50)).unwrap());
        let expected = self.alone.admit(&ask, now);
        let said = admit(&self.stores[at], &ask, now).await.unwrap();
        match (expected, said) {
            (Ok(Admission::Held(lone)), Ok(Admission::Held(id))) => {
                self.admitted += 1;
                self.open.push((at, id, lone, u32::try_from(ask.hold.ucr()).unwrap()));
            }
            (expected, said) => {
                assert_eq!(expected, said, "{ask:?}");
                let Err(refused) = said else { return };
                *self.refused.entry(refused.code().to_string()).or_default() += 1;
            }
        }
    }

    async fn end(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.one(self.open.len());
        let (gateway, id, lone, amount) = self.open.remove(at);
        if self.below(4) == 0 {
            self.alone.release(lone);
            return release(&self.stores[gateway], id).await;
        }
        let exact = u128::from(self.below(u64::from(amount) * 1_000_000 + 1));
        let stage = self.alone.stage(&[charge(lone, exact)], &signer());
        let Ok(Outcome::Charged(expected)) = self.alone.commit(stage).remove(0) else { panic!("not charged alone") };
        let said = change(&self.stores[gateway], charge(id, exact)).await.unwrap();
        let Ok(Outcome::Charged(receipt)) = said else { panic!("{said:?}") };
        assert_eq!(receipt.bytes(), expected.bytes(), "the same receipt, whoever signs it");
    }

    /// One gateway is taken for dead by the other, and comes back.
    async fn die(&mut self, database: &Database) {
        let at = self.one(2);
        silence(database, &self.stores[at]).await;
        assert_eq!(self.stores[1 - at].beat().await.unwrap().buried, 1);
        let mut refused = |_: &mut Book| Decided::default();
        assert!(matches!(self.stores[at].round(&needs(), &mut refused).await, Err(StoreError::Fenced)));
        for (_, _, lone, _) in self.open.iter().filter(|(gateway, ..)| *gateway == at) {
            self.alone.release(*lone);
        }
        self.open.retain(|(gateway, ..)| *gateway != at);
        self.stores[at].rejoin().await.unwrap();
    }
}

#[tokio::test]
async fn two_gateways_decide_as_one_book_would() {
    let mut refused = BTreeMap::new();
    let mut admitted = 0;
    for seed in 0..6 {
        println!("seed {seed}");
        let database = Database::create().await;
        let stores =
            vec![Postgres::open(&database.url()).await.unwrap(), Postgres::open(&database.url()).await.unwrap()];
        let mut alone = Book::new(10);
        alone.load(Account::new(TOKEN, root()));
        alone.load_subject("s", Vec::new(), Vec::new());
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pair = Pair { rng, stores, alone, open: Vec::new(), admitted: 0, refused: BTreeMap::new() };
        for step in 0..150 {
            match pair.below(20) {
                0..12 => pair.admit(Timestamp(100 + step / 4)).await,
                12..19 => pair.end().await,
                _ => pair.die(&database).await,
            }
        }
        let stored = pair.stores[0].account(TOKEN).await.unwrap().unwrap();
        assert_eq!(Some(&stored), pair.alone.account(TOKEN), "the store has what the lone book has");
        admitted += pair.admitted;
        for (code, count) in pair.refused {
            *refused.entry(code).or_insert(0) += count;
        }
    }
    assert!(admitted > 100, "{admitted} admitted");
    for code in ["budget_exhausted", "ack_required", "too_many_requests", "lane_beyond_max", "in_flight"] {
        assert!(refused.contains_key(code), "{code} is not among {refused:?}");
    }
}

/// Two that decided at the same time on what both had read would each spend it.
#[tokio::test]
async fn a_round_decides_nothing_before_it_has_the_locks() {
    let database = Database::create().await;
    let store = Postgres::open(&database.url()).await.unwrap();
    held(admit(&store, &ask(0, 1, 10), Timestamp(5)).await).await;
    for (seq, row) in [(2, "token"), (3, "subject")] {
        let options: PgConnectOptions = database.url().parse().unwrap();
        let mut other = options.connect().await.unwrap();
        // Weaker than what deletes a row, so that no foreign key waits for it.
        let sql = format!("BEGIN; SELECT 1 FROM {row} FOR NO KEY UPDATE");
        other.execute(AssertSqlSafe(sql)).await.unwrap();
        let (ask, decided) = (ask(0, seq, 10), AtomicBool::new(false));
        let mut decide = |book: &mut Book| {
            decided.store(true, Ordering::SeqCst);
            let Ok(Admission::Held(id)) = book.admit(&ask, Timestamp(5)) else { panic!("there is room") };
            Decided { held: vec![id], ..Decided::default() }
        };
        let needs = needs();
        let mut round = std::pin::pin!(store.round(&needs, &mut decide));
        tokio::select! {
            said = &mut round => panic!("{row}: it did not wait, and said {said:?}"),
            () = somebody_waits(&database) => {}
        }
        assert!(!decided.load(Ordering::SeqCst), "{row}: it decided before it waited");
        other.execute("COMMIT").await.unwrap();
        round.await.unwrap();
    }
}

/// Until a connection to this database waits for a lock.
async fn somebody_waits(database: &Database) {
    let options: PgConnectOptions = database.url().parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut connection).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_gateway_that_lost_its_fence_commits_nothing() {
    let database = Database::create().await;
    let (first, second) =
        (Postgres::open(&database.url()).await.unwrap(), Postgres::open(&database.url()).await.unwrap());
    let now = Timestamp(5);
    let hold = held(admit(&first, &ask(0, 1, 40), now).await).await;
    // Its slot is taken for everybody, until it is taken for dead.
    assert_eq!(admit(&second, &ask(0, 1, 40), now).await.unwrap(), Err(Refused::InFlight { seq: 1 }));
    assert!(second.is_open(TOKEN, ask(0, 1, 1).key, Slot { seq: 1, item: 0 }).await.unwrap());
    assert_eq!(second.beat().await.unwrap().buried, 0, "it lives");
    silence(&database, &first).await;
    assert_eq!(second.beat().await.unwrap().buried, 1);
    let again = held(admit(&second, &ask(0, 1, 40), now).await).await;
    assert!(matches!(change(&first, charge(hold, 7)).await, Err(StoreError::Fenced)));
    assert!(matches!(first.beat().await, Err(StoreError::Fenced)));
    first.rejoin().await.unwrap();
    // Under its new fence it may work, and the old hold is still not its own.
    assert_eq!(change(&first, charge(hold, 7)).await.unwrap().unwrap_err(), Refused::HoldGone);
    assert!(change(&second, charge(again, 7)).await.unwrap().is_ok());
    assert_eq!(first.account(TOKEN).await.unwrap().unwrap().lanes[&ask(0, 1, 1).key].n, 1);
}

#[tokio::test]
async fn a_round_that_the_database_undoes_is_made_again() {
    let database = Database::create().await;
    let store = Postgres::open(&database.url()).await.unwrap();
    // A sequence is not undone with the transaction that drew from it, so it counts the failures.
    say(
        &database,
        "CREATE SEQUENCE tries; \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE n BIGINT := nextval('tries'); BEGIN \
         IF n <= 4 THEN RAISE EXCEPTION 'undone' USING ERRCODE = CASE WHEN n % 2 = 0 THEN '40001' ELSE '40P01' END; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON hold FOR EACH ROW EXECUTE FUNCTION refuse();",
    )
    .await;
    held(admit(&store, &ask(0, 1, 40), Timestamp(5)).await).await;
    // One that is undone for ever is not made for ever, and leaves nothing behind.
    say(
        &database,
        "ALTER SEQUENCE tries RESTART; CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'undone' USING ERRCODE = '40001'; END $$;",
    )
    .await;
    assert!(admit(&store, &ask(1, 1, 40), Timestamp(5)).await.is_err());
    say(&database, "DROP TRIGGER refuse ON hold").await;
    assert!(!store.is_open(TOKEN, ask(1, 1, 1).key, Slot { seq: 1, item: 0 }).await.unwrap());
    held(admit(&store, &ask(1, 1, 40), Timestamp(5)).await).await;
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_known_for_what_it_was() {
    let database = Database::create().await;
    let wire = Wire::to(database.far()).await;
    let waits = Waits { answer: Duration::from_secs(2), doubt: Duration::from_secs(20), lease_s: 60 };
    let store = Postgres::open_with(&database.url_by(wire.port()), waits).await.unwrap();
    let beside = Postgres::open(&database.url()).await.unwrap();
    let hold = held(admit(&store, &ask(0, 1, 40), Timestamp(5)).await).await;
    // The server hears of it, but not we of the server: the round is decided, and its answers do not come.
    let stored = async {
        loop {
            if let Some(charge) = beside.charge(TOKEN, ask(0, 1, 1).key, Slot { seq: 1, item: 0 }).await.unwrap() {
                wire.mend();
                return charge;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut said = None;
    let mut decide = |book: &mut Book| {
        let mut stage = book.stage(&[charge(hold, 7)], &signer());
        let decided = Decided { writes: std::mem::take(&mut stage.writes), ended: vec![hold], held: Vec::new() };
        said = book.commit(stage).pop();
        decided
    };
    let needs = needs();
    say(
        &database,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; \
         END $$; CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON charge DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();",
    )
    .await;
    // Deferred to COMMIT, the wait for a lock that we have gives us the moment in which COMMIT was said and not answered.
    let options: PgConnectOptions = database.url().parse().unwrap();
    let mut locked = options.connect().await.unwrap();
    locked.execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let deafen = async {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'COMMIT' AND state = 'active'";
        let options: PgConnectOptions = database.url().parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connection).await.unwrap() == 0 {}
        wire.deafen();
        locked.close().await.unwrap();
    };
    let (outcome, (), stored) = tokio::join!(store.round(&needs, &mut decide), deafen, stored);
    outcome.unwrap();
    let Some(Ok(Outcome::Charged(receipt))) = said else { panic!("{said:?}") };
    assert_eq!(receipt.bytes(), stored.receipt);
    // And one that the database never heard of is known for that.
    let hold = held(admit(&store, &ask(0, 2, 40), Timestamp(5)).await).await;
    wire.cut();
    assert!(matches!(change(&store, charge(hold, 7)).await, Err(StoreError::Timeout)));
    wire.mend();
    assert!(change(&store, charge(hold, 7)).await.unwrap().is_ok(), "the hold stands and is charged once");
}

#[tokio::test]
async fn one_gateway_at_a_time_claims() {
    let database = Database::create().await;
    let (first, second) =
        (Postgres::open(&database.url()).await.unwrap(), Postgres::open(&database.url()).await.unwrap());
    held(admit(&first, &ask(0, 1, 40), Timestamp(5)).await).await;
    assert!(first.claim_begin(TOKEN).await.unwrap());
    assert!(!second.claim_begin(TOKEN).await.unwrap());
    first.claim_end(TOKEN).await.unwrap();
    assert!(second.claim_begin(TOKEN).await.unwrap());
    second.claim_end(TOKEN).await.unwrap();
    // It ends with the gateway's fence, whether that is lost or given back.
    assert!(first.claim_begin(TOKEN).await.unwrap());
    silence(&database, &first).await;
    second.beat().await.unwrap();
    assert!(second.claim_begin(TOKEN).await.unwrap());
    second.leave().await.unwrap();
    first.rejoin().await.unwrap();
    assert!(first.claim_begin(TOKEN).await.unwrap());
}

#[tokio::test]
async fn the_address_stands_in_no_error() {
    for url in ["postgres://user:canary-7f3a@localhost:99999999/x", "mysql://canary-7f3a@x/y", "canary-7f3a"] {
        let Err(error) = Postgres::open(url).await else { panic!("{url} was opened") };
        let mut text = format!("{error:?} {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!("{cause:?} {cause}"));
            source = cause.source();
        }
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn chains_of_before_are_told_whose_they_are() {
    let database = Database::create().await;
    let store = Postgres::open(&database.url()).await.unwrap();
    let chain = Write::Chain { token: TOKEN, leaf: root(), bytes: std::sync::Arc::from(&b"none"[..]) };
    store.write(&[Write::Token { token: TOKEN, root: root() }, chain]).await.unwrap();
    assert_eq!(store.subjects_fill().await.unwrap(), 0);
    say(&database, "UPDATE chain SET subject = NULL").await;
    assert_eq!((store.subjects_fill().await.unwrap(), store.subjects_fill().await.unwrap()), (1, 0));
}

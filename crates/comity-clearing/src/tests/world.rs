//! A house on books of its own, with one project and one member, and a clock that moves when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use comity_ledger::Database;
use comity_ledger::db::{Conn, query};
use comity_token::directory::File;
use comity_token::sign_api;
use comity_wire::cose;
use comity_wire::object::{ModelState, Token, Vetting};
use comity_wire::{Digest, LotId, ProjectId, SecretKey, Timestamp, TokenId};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(super) use super::federation::*;
pub(super) use super::lab::Lab;
use crate::lots::FundKind;
use crate::{AwardAsk, Clearing, Config, Keys, ProjectAdd, ProjectVet};

/// The house, its clock, its file, and one project with one member.
pub(super) struct World {
    pub(super) house: Clearing,
    pub(super) directory: Arc<File>,
    pub(super) clock: Arc<AtomicU64>,
    pub(super) project: ProjectId,
    pub(super) books: Books,
    pub(super) member: SecretKey,
    nonce: AtomicU64,
    ids: AtomicU64,
}

/// Which engine keeps a test's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Sqlite,
    Postgres,
}

/// A test's database, for as long as the test.
pub(super) enum Books {
    Sqlite(tempfile::TempDir),
    /// The folder is for what a house keeps outside of its database.
    Postgres(comity_scratch::Database, tempfile::TempDir),
}

/// The memory of what the log's key signed, as a file; and everything that it ever remembered.
pub(super) struct Memory(std::path::PathBuf);

impl crate::LogMemory for Memory {
    fn read(&self) -> std::io::Result<Option<Vec<u8>>> {
        Ok(std::fs::read(self.0.join("log.checkpoint")).ok())
    }

    fn write(&self, note: &[u8]) -> std::io::Result<()> {
        use std::io::Write as _;
        // Whole or not at all, as in earnest: a twin of the house may read it meanwhile.
        let mut newest = tempfile::NamedTempFile::new_in(&self.0)?;
        newest.write_all(note)?;
        newest.persist(self.0.join("log.checkpoint"))?;
        let mut all = std::fs::File::options().create(true).append(true).open(self.0.join("log.all"))?;
        all.write_all(note)?;
        all.write_all(b"\0")
    }
}

impl Books {
    /// With every table, as a house makes them when it starts.
    pub(super) async fn new(on: On) -> Self {
        let fill = async |url: String| crate::ops::migrate(&Database::postgres(&url).unwrap()).await.unwrap();
        match on {
            On::Sqlite => Self::empty(on).await,
            On::Postgres => {
                Self::Postgres(comity_scratch::Database::filled("clearing", fill).await, tempfile::tempdir().unwrap())
            }
        }
    }

    /// Without a table.
    pub(super) async fn empty(on: On) -> Self {
        match on {
            On::Sqlite => Self::Sqlite(tempfile::tempdir().unwrap()),
            On::Postgres => Self::Postgres(comity_scratch::Database::create().await, tempfile::tempdir().unwrap()),
        }
    }

    pub(super) fn database(&self) -> Database {
        match self {
            Self::Sqlite(dir) => Database::sqlite(dir.path().join("house.db")),
            Self::Postgres(scratch, _) => Database::postgres(&scratch.url()).unwrap(),
        }
    }

    /// A connection behind the house's back.
    pub(super) async fn connect(&self) -> Conn {
        self.database().connect().await.unwrap()
    }

    /// Tests write as SQLite has it.
    fn spelled(&self, sql: &str) -> String {
        match self {
            Self::Sqlite(_) => sql.to_owned(),
            Self::Postgres(..) => {
                let sql = sql.replace("x'", "'\\x").replace("AS BLOB", "AS BYTEA");
                [16, 32].iter().fold(sql, |sql, length| {
                    sql.replace(&format!("zeroblob({length})"), &format!("decode(repeat('00', {length}), 'hex')"))
                })
            }
        }
    }

    /// Writes into the database what no house would, or no house of today.
    pub(super) async fn tamper(&self, sql: &'static str) {
        let sql = self.spelled(sql);
        for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
            query(statement.to_owned()).execute(&mut self.connect().await.db()).await.unwrap();
        }
    }

    /// What lies beside the database.
    pub(super) fn folder(&self) -> &std::path::Path {
        match self {
            Self::Sqlite(dir) | Self::Postgres(_, dir) => dir.path(),
        }
    }

    /// Every note that the log's key ever signed, oldest first.
    pub(super) fn notes(&self) -> Vec<String> {
        let all = std::fs::read_to_string(self.folder().join("log.all")).unwrap_or_default();
        all.split_terminator('\0').map(str::to_owned).collect()
    }

    /// The file, of those that are one.
    fn file(&self, name: &str) -> std::path::PathBuf {
        let Self::Sqlite(dir) = self else { panic!("only SQLite's books are a file") };
        dir.path().join(name)
    }
}

impl World {
    /// Awarded `awarded` µcr and vetted.
    pub(super) async fn new(on: On, awarded: u32) -> Self {
        let world = Self::on(Books::new(on).await).await;
        world.register(awarded).await;
        world
    }

    /// A house on books that somebody else wrote, in which this world's project and member are.
    pub(super) async fn on(books: Books) -> Self {
        let directory = directory(&lab_certificate());
        let clock = Arc::new(AtomicU64::new(START.0));
        let house = open(&books, &directory, &clock).await;
        let (project, member) = (ProjectId([7; 16]), secret("member"));
        let world =
            Self { house, directory, clock, project, books, member, nonce: AtomicU64::new(0), ids: AtomicU64::new(0) };
        world.publish(1, tariff(PRICE).id(), ModelState::Active);
        world
    }

    /// As [`new`](Self::new), with a house that draws from every claim.
    pub(super) async fn sampling(on: On, awarded: u32) -> Self {
        let books = Books::new(on).await;
        std::fs::write(books.folder().join("sample"), "").unwrap();
        let world = Self::on(books).await;
        world.register(awarded).await;
        world
    }

    async fn register(&self, awarded: u32) {
        let Self { house, project, member, .. } = self;
        let add = ProjectAdd {
            id: Some(*project),
            title: "Weather".into(),
            purposes: vec!["research".into()],
            members: vec![member.public()],
        };
        assert_eq!(house.project_add(add).await.unwrap(), *project);
        let vet = ProjectVet {
            project: *project,
            vetting: Vetting::Vetted,
            issuer: "operator".into(),
            claim: "passport seen".into(),
            from: None,
            until: None,
        };
        assert_eq!(house.project_vet(vet).await.unwrap(), Vetting::Vetted);
        if awarded > 0 {
            house.award(self.award("A-1", awarded)).await.unwrap();
        }
    }

    pub(super) fn award(&self, number: &str, amount: u32) -> AwardAsk {
        AwardAsk {
            project: self.project,
            amount: ucr(amount),
            funder: "NSF".into(),
            award_number: number.into(),
            ends_at: START.plus(365 * DAY),
            starts_at: None,
            listing: String::new(),
            kind: FundKind::Institutional,
            owners: vec![],
            ops: vec![],
            use_or_lose: false,
            parts: vec![],
        }
    }

    /// The first lot of the world's project, in the order of their ends.
    pub(super) async fn lot(&self) -> LotId {
        self.house.project_status(self.project).await.unwrap().lots[0].lot
    }

    pub(super) fn publish(&self, version: u64, tariff: Digest, state: ModelState) {
        let signed = cose::sign(&summary(version, tariff, state), &secret("writer"));
        self.directory.insert(signed.bytes()).unwrap();
    }

    /// A second process of the same house on the same database.
    pub(super) async fn twin(&self) -> Clearing {
        open(&self.books, &self.directory, &self.clock).await
    }

    /// As [`twin`](Self::twin), with a home of its own for what a house keeps outside of its database.
    pub(super) async fn replica(&self, home: &std::path::Path) -> Clearing {
        self.replica_keyed(home, "issuer").await
    }

    pub(super) async fn replica_keyed(&self, home: &std::path::Path, issuer: &str) -> Clearing {
        let keys =
            Keys::new(secret(issuer), [5; 32]).with_log(secret("log"), Arc::new(Memory(home.to_owned()))).shared();
        open_remembering(&self.books, &self.directory, &self.clock, keys, crate::no_failpoint()).await
    }

    /// Closes the house and opens it again on the same file.
    pub(super) async fn restart(&mut self) {
        self.restart_failing(crate::no_failpoint()).await;
    }

    /// The house comes back with another issuer key, and without the one before.
    pub(super) async fn restart_keyed(&mut self, issuer: &str) {
        self.restart_beside(issuer, &[]).await;
    }

    /// The house comes back with an issuer key, and others beside it.
    pub(super) async fn restart_beside(&mut self, issuer: &str, others: &[&str]) {
        self.house.shutdown().await;
        let mut keys = Keys::new(secret(issuer), [5; 32]);
        keys.retired = others.iter().map(|name| secret(name)).collect();
        self.house = open_keyed(&self.books, &self.directory, &self.clock, keys, crate::no_failpoint()).await;
    }

    pub(super) async fn restart_failing(&mut self, failpoint: crate::Failpoint) {
        self.house.shutdown().await;
        self.house = open_with(&self.books, &self.directory, &self.clock, failpoint).await;
    }

    /// The house comes back with a directory that has never met but this certificate of the lab's node.
    pub(super) async fn restart_with(&mut self, certificate: &[u8]) {
        self.directory = directory(certificate);
        self.publish(1, tariff(PRICE).id(), ModelState::Active);
        self.restart().await;
    }

    /// A copy of the house's file as it is now.
    pub(super) async fn backup(&mut self) -> Vec<u8> {
        self.house.shutdown().await;
        let copy = std::fs::read(self.books.file("house.db")).unwrap();
        self.house = open(&self.books, &self.directory, &self.clock).await;
        copy
    }

    /// The house comes back with the file that it had then.
    pub(super) async fn restore(&mut self, backup: &[u8]) {
        self.house.shutdown().await;
        for log in ["house.db-wal", "house.db-shm"] {
            let _ = std::fs::remove_file(self.books.file(log));
        }
        std::fs::write(self.books.file("house.db"), backup).unwrap();
        self.house = open(&self.books, &self.directory, &self.clock).await;
    }

    /// The house goes on with books that were copied into a PostgreSQL; what it keeps outside of them goes along.
    pub(super) async fn moved_to(&mut self, scratch: comity_scratch::Database) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["log.checkpoint", "log.all"] {
            std::fs::copy(self.books.folder().join(name), folder.path().join(name)).unwrap();
        }
        self.books = Books::Postgres(scratch, folder);
        self.house = open(&self.books, &self.directory, &self.clock).await;
    }

    /// What a query over the house's file counts.
    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        query(sql).fetch_one(&mut self.books.connect().await.db()).await.unwrap().first().unwrap()
    }

    /// The content ids of all claims in the books.
    pub(super) async fn claim_ids(&self) -> Vec<[u8; 32]> {
        let sql = "SELECT id FROM claim ORDER BY taken_at, id";
        let rows = query(sql).fetch_all(&mut self.books.connect().await.db()).await;
        rows.unwrap().iter().map(|row| row.blob("id").unwrap().try_into().unwrap()).collect()
    }

    /// Changes the house's file behind its back.
    pub(super) async fn tamper(&self, sql: &'static str) {
        self.books.tamper(sql).await;
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    /// Time passes with the house open. Its beats are all in the books afterwards, though only the first and the last were waited for.
    pub(super) async fn pass(&self, seconds: u64) {
        let first = seconds.min(120);
        self.clock.fetch_add(first, Ordering::SeqCst);
        self.house.beat().await.unwrap();
        let now = self.clock.fetch_add(seconds - first, Ordering::SeqCst) + seconds - first;
        let beaten =
            "UPDATE open_span SET ends_at = ? WHERE ends_at < ? AND begins_at = (SELECT MAX(begins_at) FROM open_span)";
        let now = i64::try_from(now).unwrap();
        query(beaten).bind(now).bind(now).execute(&mut self.books.connect().await.db()).await.unwrap();
        self.house.beat().await.unwrap();
    }

    /// Time passes and nobody is there.
    pub(super) fn sleep(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The machine's clock is set back.
    pub(super) fn set_back(&self, seconds: u64) {
        self.clock.fetch_sub(seconds, Ordering::SeqCst);
    }

    pub(super) fn request(&self, method: &str, uri: &str, body: &Value, key: &SecretKey) -> Request<Body> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in sign_api(method, path, query, &body, self.now(), nonce, key) {
            request = request.header(name, value);
        }
        request.body(Body::from(body)).unwrap()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let response = self.house.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let retry = response.headers().get("x-should-retry").is_some();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(retry, status != 200, "every refusal, and nothing else, says whether to try again");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(super) async fn post(&self, uri: &str, body: Value, key: &SecretKey) -> (u16, Value) {
        self.send(self.request("POST", uri, &body, key)).await
    }

    pub(super) async fn get(&self, uri: &str, key: &SecretKey) -> (u16, Value) {
        self.send(self.request("GET", uri, &Value::Null, key)).await
    }

    pub(super) fn quote_request(&self) -> Value {
        json!({ "project": self.project, "node": NODE, "models": [{ "model": model(), "ops": ["chat"] }] })
    }

    pub(super) async fn quote(&self) -> Value {
        let (status, reply) = self.post("/v1/quotes", self.quote_request(), &self.member).await;
        assert_eq!(status, 200, "{reply}");
        reply["quote"].clone()
    }

    pub(super) fn reservation(&self, quote: &Value, budget: u32) -> Value {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.ids.fetch_add(1, Ordering::SeqCst) + 1).to_be_bytes());
        json!({
            "id": TokenId(id), "quote": quote, "budget": budget, "holder": secret("holder").public(),
            "valid_s": 3600, "depth": 2,
        })
    }

    /// A node with a token of `budget` µcr that it has sold.
    pub(super) async fn buy(&self, budget: u32) -> Lab {
        let quote = self.quote().await;
        let (status, reply) = self.post("/v1/reservations", self.reservation(&quote, budget), &self.member).await;
        assert_eq!(status, 200, "{reply}");
        Lab::new(&reply["token"])
    }

    pub(super) async fn claim(&self, claim: &Value) -> (u16, Value) {
        self.post("/v1/claims", claim.clone(), &secret("transport")).await
    }

    pub(super) async fn finish(&self, final_: Value) -> (u16, Value) {
        let body = serde_json::to_vec(&final_).unwrap();
        self.send(Request::builder().method("POST").uri("/v1/finals").body(Body::from(body)).unwrap()).await
    }

    /// Awarded, settled, in escrow, available; and the audit that says they hold.
    pub(super) async fn sums(&self) -> [i64; 4] {
        let report = self.house.audit().await.unwrap();
        assert!(report.holds, "{:?} {:?}", report.findings, report.ledger.breaks);
        assert_eq!(report.ledger_sum_ucr, 0);
        let sums = report.totals;
        let own = sums.settled.ucr() - sums.from_suspense.ucr();
        let elsewhere = sums.unreleased.ucr() + sums.expired.ucr();
        assert_eq!(sums.awarded.ucr(), own + sums.in_escrow.ucr() + sums.available.ucr() + elsewhere);
        [sums.awarded.ucr(), sums.settled.ucr(), sums.in_escrow.ucr(), sums.available.ucr()]
    }
}

async fn open(books: &Books, directory: &Arc<File>, clock: &Arc<AtomicU64>) -> Clearing {
    open_with(books, directory, clock, crate::no_failpoint()).await
}

async fn open_with(
    books: &Books,
    directory: &Arc<File>,
    clock: &Arc<AtomicU64>,
    failpoint: crate::Failpoint,
) -> Clearing {
    open_keyed(books, directory, clock, Keys::new(secret("issuer"), [5; 32]), failpoint).await
}

async fn open_keyed(
    books: &Books,
    directory: &Arc<File>,
    clock: &Arc<AtomicU64>,
    keys: Keys,
    failpoint: crate::Failpoint,
) -> Clearing {
    let keys = keys.with_log(secret("log"), Arc::new(Memory(books.folder().to_owned())));
    open_remembering(books, directory, clock, keys, failpoint).await
}

async fn open_remembering(
    books: &Books,
    directory: &Arc<File>,
    clock: &Arc<AtomicU64>,
    keys: Keys,
    failpoint: crate::Failpoint,
) -> Clearing {
    let clock = Arc::clone(clock);
    let clock = Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)));
    // The least that the protocol allows: fewer hours to live through.
    // Where a test asks for it, every claim is drawn from; else none, since nobody would answer.
    let sample_one_in = u32::from(books.folder().join("sample").exists());
    let config =
        Config { settle_after_s: Token::SETTLE_S_MIN, sample_one_in, sample_receipts: 4, ..Config::new(HOUSE) };
    Clearing::open_with(config, books.database(), keys, directory.clone(), clock, failpoint).await.unwrap()
}

pub(super) fn code(reply: &(u16, Value)) -> String {
    reply.1["code"].as_str().unwrap_or("none").to_owned()
}

pub(super) fn signed_bytes(value: &Value) -> Vec<u8> {
    let bytes: comity_wire::api::clearing::SignedBytes = serde_json::from_value(value.clone()).unwrap();
    bytes.to_vec()
}

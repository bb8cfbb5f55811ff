//! SQLite and PostgreSQL: the same statements, since `$1` is a value's place in both.

use std::path::Path;
use std::time::Duration;

use comity_wire::time::DAY_S;
use comity_wire::{Digest, GrantId, ModelId, Timestamp};
use futures::FutureExt as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _, SqlSafeStr as _};

use super::outbox;
use super::{
    Answer, Append, Appended, Attached, Effect, EffectKind, Filter, KeptMax, NEVER, OpenMax, PAGE_MAX, Row, Standing,
    Store, StoreError, Waits,
};
use crate::act::{Kind, State};
use crate::application::Application;
use crate::clock::{Due, Party};
use crate::id::ApplicationId;
use crate::notice::Delivery;

const CONNECTIONS_MAX: u32 = 4;
const ANSWER: Duration = Duration::from_secs(10);
/// Beside the tables of the node's charges, where both are in one database.
const MIGRATIONS: &str = "access_migrations";

/// One file, for a node of one process.
#[derive(Clone, Debug)]
pub struct Sqlite(pub(super) SqlitePool);

/// Shared by the processes of one node.
#[derive(Clone, Debug)]
pub struct Postgres(pub(super) PgPool);

impl Sqlite {
    /// Opens the file, made where it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(ANSWER)
            // What is deleted is not to be found in the file.
            .pragma("secure_delete", "ON")
            .pragma("trusted_schema", "OFF");
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).connect_with(options).await?;
        let access = include_str!("../../migrations/0001_access.sql");
        let notice = include_str!("../../migrations/0002_notice.sql");
        let case = include_str!("../../migrations/0003_case.sql");
        let seal = include_str!("../../migrations/0004_seal.sql");
        let since = include_str!("../../migrations/0005_since.sql");
        let register = include_str!("../../migrations/0006_register.sql");
        let first = [("access", access), ("notice", notice), ("case", case)];
        let [access, notice, case] = first;
        let files = [access, notice, case, ("seal", seal), ("since", since), ("register", register)];
        migrator(files).run(&pool).await?;
        Ok(Self(pool))
    }

    /// Closes it, so that nothing is left in the log beside the file.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl Postgres {
    /// Connects, and brings the tables up to date. `url` is a secret and stands in no error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let bad = |_| StoreError::Unreadable { what: "an address that is not postgres://USER@HOST/DATABASE".into() };
        let options: PgConnectOptions = url.parse().map_err(bad)?;
        let options = options.application_name("comity-access").disable_statement_logging();
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ANSWER);
        let pool = pool.connect_with(options).await?;
        let access = include_str!("../../migrations/postgres/0001_access.sql");
        let notice = include_str!("../../migrations/postgres/0002_notice.sql");
        let case = include_str!("../../migrations/postgres/0003_case.sql");
        let seal = include_str!("../../migrations/postgres/0004_seal.sql");
        let since = include_str!("../../migrations/postgres/0005_since.sql");
        let register = include_str!("../../migrations/postgres/0006_register.sql");
        let first = [("access", access), ("notice", notice), ("case", case)];
        let [access, notice, case] = first;
        let files = [access, notice, case, ("seal", seal), ("since", since), ("register", register)];
        migrator(files).run(&pool).await?;
        Ok(Self(pool))
    }
}

fn migrator<const N: usize>(files: [(&'static str, &'static str); N]) -> Migrator {
    let migration = |(number, (name, sql)): (i64, (&'static str, &'static str))| {
        Migration::new(number, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations((1..).zip(files).map(migration).collect());
    migrator.dangerous_set_table_name(MIGRATIONS);
    migrator
}

const ROWS: &str = "SELECT id, subject, state, party, due_at, models, opened_at, changed_at FROM access_application \
     WHERE ($1 = '' OR state = $1) AND ($2 = '' OR party = $2) AND ($3 = '' OR replace(models, $3, '') <> models) AND ($4 = 0 OR is_open = 1) \
     AND (due_at > $5 OR (due_at = $5 AND id > $6))";
const OF_SUBJECT: &str = " AND subject = $8";
const ORDER: &str = " ORDER BY due_at, id LIMIT $7";

fn rows_of(filter: &Filter) -> String {
    format!("{ROWS}{}{ORDER}", if filter.subject.is_some() { OF_SUBJECT } else { "" })
}

/// A model's id between blanks, as `models` has it.
fn pattern(model: &ModelId) -> String {
    format!(" {model} ")
}

fn kind_word(kind: EffectKind) -> &'static str {
    match kind {
        EffectKind::Grant => "grant",
        EffectKind::Withdraw => "withdraw",
    }
}

pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unreadable(what: impl Into<String>) -> StoreError {
    StoreError::Unreadable { what: what.into() }
}

pub(super) fn sixteen(bytes: Vec<u8>, what: &str) -> Result<[u8; 16], StoreError> {
    bytes.try_into().map_err(|_| unreadable(what))
}

/// Whether it was revoked, and nobody has said since that this was wrong.
fn is_revoked(application: &Application) -> bool {
    let last = application.events().iter().rev().map(crate::event::Recorded::event).find(|event| {
        event.state == State::Revoked && event.act.kind() == Kind::Revoke || event.act.kind() == Kind::Reinstate
    });
    last.is_some_and(|event| event.act.kind() == Kind::Revoke)
}

fn party(word: &str) -> Option<Party> {
    [Party::Applicant, Party::Signatory, Party::Owner, Party::AppealReviewer, Party::Caller, Party::Nobody]
        .into_iter()
        .find(|party| party.word() == word)
}

/// The columns of a list, as both drivers give them.
type Columns = (Vec<u8>, String, String, String, i64, String, i64, i64);

fn row_of((id, subject, state, moves, due_at, models, opened_at, changed_at): Columns) -> Result<Row, StoreError> {
    let at = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0));
    let known = State::ALL.iter().copied().find(|known| known.as_str() == state);
    let due = party(&moves).filter(|_| due_at < int(NEVER.0)).map(|party| Due { party, at: at(due_at) });
    let models = models.split_ascii_whitespace().map(|model| model.parse::<ModelId>());
    Ok(Row {
        id: ApplicationId(sixteen(id, "an application's id")?),
        subject,
        state: known.ok_or_else(|| unreadable(format!("state {state}")))?,
        due,
        models: models.collect::<Result<_, _>>().map_err(|_| unreadable("a model's name"))?,
        opened_at: at(opened_at),
        changed_at: at(changed_at),
    })
}

fn effect_row((application, n, kind, grant): (Vec<u8>, i64, String, Vec<u8>)) -> Result<Effect, StoreError> {
    let kind = match kind.as_str() {
        "grant" => EffectKind::Grant,
        "withdraw" => EffectKind::Withdraw,
        other => return Err(unreadable(format!("effect {other}"))),
    };
    Ok(Effect {
        application: ApplicationId(sixteen(application, "an application's id")?),
        n: u64::try_from(n).map_err(|_| unreadable("an event's number"))?,
        kind,
        grant: GrantId(sixteen(grant, "a grant's id")?),
    })
}

fn read(events: &[Vec<u8>]) -> Result<Application, StoreError> {
    Application::read(events.iter().map(Vec::as_slice)).map_err(|broken| unreadable(broken.to_string()))
}

pub(super) async fn within<T>(work: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
    tokio::time::timeout(ANSWER, work).await.unwrap_or(Err(StoreError::Timeout))
}

/// The same on both. `begin` is what begins to write.
macro_rules! store {
    ($name:ident, $pool:ty, $begin:literal) => {
        #[cfg(test)]
        impl $name {
            pub(super) fn pool(&self) -> &$pool {
                &self.0
            }
        }

        impl Store for $name {
            fn load(&self, id: ApplicationId) -> Answer<'_, Option<Application>> {
                within(async move {
                    let events: Vec<(Vec<u8>,)> =
                        sqlx::query_as("SELECT bytes FROM access_event WHERE application = $1 ORDER BY n")
                            .bind(id.0.to_vec())
                            .fetch_all(&self.0)
                            .await?;
                    if events.is_empty() {
                        return Ok(None);
                    }
                    let events: Vec<Vec<u8>> = events.into_iter().map(|(bytes,)| bytes).collect();
                    read(&events).map(Some)
                })
                .boxed()
            }

            fn append<'a>(&'a self, append: Append<'a>) -> Answer<'a, Appended> {
                within(async move {
                    let application = append.application;
                    let last = application.events().last().ok_or_else(|| unreadable("an application without events"))?;
                    let (event, id) = (last.event(), application.id().0.to_vec());
                    let mut tx = self.0.begin_with($begin).await?;
                    let due_at = application.due().map_or(NEVER, |due| due.at);
                    let party = application.due().map_or("", |due| due.party.word());
                    let models = application.models().iter().map(ModelId::to_string).collect::<Vec<_>>().join(" ");
                    let (is_open, changed_at) = (i64::from(!application.state().is_ended()), int(event.at.0));
                    if event.n == 1 {
                        let OpenMax { subject, subject_a_day, all } = append.open_max;
                        let open: (i64, i64, i64) = sqlx::query_as(
                            "SELECT (SELECT count(*) FROM access_application WHERE subject = $1 AND is_open = 1), \
                             (SELECT count(*) FROM access_application WHERE is_open = 1), \
                             (SELECT count(*) FROM access_application WHERE subject = $1 AND opened_at > $2)",
                        )
                        .bind(application.subject())
                        .bind(int(event.at.minus(DAY_S).0))
                        .fetch_one(&mut *tx)
                        .await?;
                        if open.0 >= i64::from(subject) {
                            return Ok(Appended::TooMany { what: "open applications of one project", most: subject });
                        }
                        if open.2 >= i64::from(subject_a_day) {
                            let what = "applications of one project begun within a day";
                            return Ok(Appended::TooMany { what, most: subject_a_day });
                        }
                        if open.1 >= i64::from(all) {
                            return Ok(Appended::TooMany { what: "open applications at this node", most: all });
                        }
                        sqlx::query("INSERT INTO access_form (digest, text) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                            .bind(append.form.digest().0.to_vec())
                            .bind(append.form_text)
                            .execute(&mut *tx)
                            .await?;
                        let put = sqlx::query(
                            "INSERT INTO access_application (id, subject, state, is_open, party, due_at, opened_at, changed_at, \
                             events, head, form, models, was_revoked) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 1, $8, $9, $10, 0) \
                             ON CONFLICT DO NOTHING",
                        )
                        .bind(&id)
                        .bind(application.subject())
                        .bind(application.state().as_str())
                        .bind(is_open)
                        .bind(party)
                        .bind(int(due_at.0))
                        .bind(changed_at)
                        .bind(application.head().0.to_vec())
                        .bind(append.form.digest().0.to_vec())
                        .bind(format!(" {models} "))
                        .execute(&mut *tx)
                        .await?;
                        if put.rows_affected() != 1 {
                            return Ok(Appended::Moved);
                        }
                    } else {
                        let put = sqlx::query(
                            "UPDATE access_application SET state = $2, is_open = $3, party = $4, due_at = $5, changed_at = $6, \
                             events = $7, head = $8, models = $9, was_revoked = $11 WHERE id = $1 AND events = $7 - 1 AND head = $10",
                        )
                        .bind(&id)
                        .bind(application.state().as_str())
                        .bind(is_open)
                        .bind(party)
                        .bind(int(due_at.0))
                        .bind(changed_at)
                        .bind(int(event.n))
                        .bind(application.head().0.to_vec())
                        .bind(format!(" {models} "))
                        .bind(event.before.0.to_vec())
                        .bind(i64::from(is_revoked(application)))
                        .execute(&mut *tx)
                        .await?;
                        if put.rows_affected() != 1 {
                            return Ok(Appended::Moved);
                        }
                    }
                    sqlx::query("INSERT INTO access_event (application, n, bytes) VALUES ($1, $2, $3)")
                        .bind(&id)
                        .bind(int(event.n))
                        .bind(last.bytes())
                        .execute(&mut *tx)
                        .await?;
                    if let Some(effect) = append.effect {
                        sqlx::query(
                            "INSERT INTO access_effect (application, n, kind, grant_id, is_done) VALUES ($1, $2, $3, $4, 0)",
                        )
                        .bind(&id)
                        .bind(int(effect.n))
                        .bind(kind_word(effect.kind))
                        .bind(effect.grant.0.to_vec())
                        .execute(&mut *tx)
                        .await?;
                    }
                    for delivery in append.deliveries {
                        sqlx::query(outbox::PUT)
                            .bind(delivery.id.0.to_vec())
                            .bind(&delivery.target)
                            .bind(&delivery.address)
                            .bind(delivery.notice.to_json())
                            .bind(int(event.at.0))
                            .execute(&mut *tx)
                            .await?;
                    }
                    tx.commit().await?;
                    Ok(Appended::Done)
                })
                .boxed()
            }

            fn list<'a>(&'a self, filter: &'a Filter, limit: u32) -> Answer<'a, Vec<Row>> {
                within(async move {
                    let (at, id) = filter.after.map_or((0, Vec::new()), |(at, id)| (int(at.0), id.0.to_vec()));
                    let query = sqlx::query_as::<_, Columns>(sqlx::AssertSqlSafe(rows_of(filter)))
                        .bind(filter.state.map_or("", State::as_str))
                        .bind(filter.party.map_or("", Party::word))
                        .bind(filter.model.as_ref().map(pattern).unwrap_or_default())
                        .bind(i64::from(filter.open))
                        .bind(at)
                        .bind(id)
                        .bind(i64::from(limit.min(PAGE_MAX)));
                    let query = match &filter.subject {
                        Some(subject) => query.bind(subject.as_str()),
                        None => query,
                    };
                    query.fetch_all(&self.0).await?.into_iter().map(row_of).collect()
                })
                .boxed()
            }

            fn run_out(
                &self,
                now: Timestamp,
                after: Option<(Timestamp, ApplicationId)>,
                limit: u32,
            ) -> Answer<'_, Vec<(Timestamp, ApplicationId)>> {
                within(async move {
                    let (at, id) = after.map_or((-1, Vec::new()), |(at, id)| (int(at.0), id.0.to_vec()));
                    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
                        "SELECT due_at, id FROM access_application WHERE due_at <= $1 \
                         AND (due_at > $2 OR (due_at = $2 AND id > $3)) ORDER BY due_at, id LIMIT $4",
                    )
                    .bind(int(now.0))
                    .bind(at)
                    .bind(id)
                    .bind(i64::from(limit))
                    .fetch_all(&self.0)
                    .await?;
                    let at = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0));
                    let row = |(due, id)| Ok((at(due), ApplicationId(sixteen(id, "an application's id")?)));
                    rows.into_iter().map(row).collect()
                })
                .boxed()
            }

            fn form(&self, digest: Digest) -> Answer<'_, Option<String>> {
                within(async move {
                    let text: Option<(String,)> = sqlx::query_as("SELECT text FROM access_form WHERE digest = $1")
                        .bind(digest.0.to_vec())
                        .fetch_optional(&self.0)
                        .await?;
                    Ok(text.map(|(text,)| text))
                })
                .boxed()
            }

            fn attach<'a>(
                &'a self,
                of: &'a Application,
                digest: Digest,
                bytes: &'a [u8],
                most: KeptMax,
            ) -> Answer<'a, Attached> {
                within(async move {
                    let id = of.id().0.to_vec();
                    let mut tx = self.0.begin_with($begin).await?;
                    let put = sqlx::query(
                        "INSERT INTO access_attachment (application, digest, bytes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                    )
                    .bind(id)
                    .bind(digest.0.to_vec())
                    .bind(bytes)
                    .execute(&mut *tx)
                    .await?;
                    if put.rows_affected() == 0 {
                        return Ok(Attached::Done);
                    }
                    let kept: (i64, i64) = sqlx::query_as(
                        "SELECT (SELECT CAST(COALESCE(SUM(length(bytes)), 0) AS BIGINT) FROM access_attachment JOIN access_application \
                         ON application = id WHERE subject = $1), \
                         (SELECT CAST(COALESCE(SUM(length(bytes)), 0) AS BIGINT) FROM access_attachment)",
                    )
                    .bind(of.subject())
                    .fetch_one(&mut *tx)
                    .await?;
                    let too_much = |what, most: u64| Ok(Attached::TooMuch { what, most: (most >> 20) as u32 });
                    if kept.0 > int(most.subject) {
                        return too_much("MiB of attachments of one project", most.subject);
                    }
                    if kept.1 > int(most.all) {
                        return too_much("MiB of attachments at this node", most.all);
                    }
                    tx.commit().await?;
                    Ok(Attached::Done)
                })
                .boxed()
            }

            fn forget_attachments(&self, ended_before: Timestamp) -> Answer<'_, u64> {
                within(async move {
                    let removed = sqlx::query(
                        "DELETE FROM access_attachment WHERE application IN \
                         (SELECT id FROM access_application WHERE is_open = 0 AND changed_at < $1)",
                    )
                    .bind(int(ended_before.0))
                    .execute(&self.0)
                    .await?;
                    Ok(removed.rows_affected())
                })
                .boxed()
            }

            fn attachment(&self, id: ApplicationId, digest: Digest) -> Answer<'_, Option<Vec<u8>>> {
                within(async move {
                    let found: Option<(Vec<u8>,)> =
                        sqlx::query_as("SELECT bytes FROM access_attachment WHERE application = $1 AND digest = $2")
                            .bind(id.0.to_vec())
                            .bind(digest.0.to_vec())
                            .fetch_optional(&self.0)
                            .await?;
                    Ok(found.map(|(bytes,)| bytes))
                })
                .boxed()
            }

            fn effects(
                &self,
                kind: EffectKind,
                after: Option<(ApplicationId, u64)>,
                limit: u32,
            ) -> Answer<'_, Vec<Effect>> {
                within(async move {
                    let (id, n) = after.map_or((Vec::new(), 0), |(id, n)| (id.0.to_vec(), int(n)));
                    let rows: Vec<(Vec<u8>, i64, String, Vec<u8>)> = sqlx::query_as(
                        "SELECT application, n, kind, grant_id FROM access_effect WHERE is_done = 0 AND kind = $1 \
                         AND (application > $2 OR (application = $2 AND n > $3)) ORDER BY application, n LIMIT $4",
                    )
                    .bind(kind_word(kind))
                    .bind(id)
                    .bind(n)
                    .bind(i64::from(limit))
                    .fetch_all(&self.0)
                    .await?;
                    rows.into_iter().map(effect_row).collect()
                })
                .boxed()
            }

            fn effect_done(&self, effect: Effect) -> Answer<'_, ()> {
                within(async move {
                    sqlx::query("UPDATE access_effect SET is_done = 1 WHERE application = $1 AND n = $2 AND kind = $3")
                        .bind(effect.application.0.to_vec())
                        .bind(int(effect.n))
                        .bind(kind_word(effect.kind))
                        .execute(&self.0)
                        .await?;
                    Ok(())
                })
                .boxed()
            }

            fn grant_of(&self, id: ApplicationId) -> Answer<'_, Option<GrantId>> {
                within(async move {
                    let row = sqlx::query(
                        "SELECT grant_id FROM access_effect WHERE application = $1 AND kind = 'grant' ORDER BY n DESC LIMIT 1",
                    )
                    .bind(id.0.to_vec())
                    .fetch_optional(&self.0)
                    .await?;
                    let Some(row) = row else { return Ok(None) };
                    Ok(Some(GrantId(sixteen(row.try_get("grant_id")?, "a grant's id")?)))
                })
                .boxed()
            }

            fn application_of(&self, grant: GrantId) -> Answer<'_, Option<ApplicationId>> {
                within(async move {
                    let row: Option<(Vec<u8>,)> =
                        sqlx::query_as("SELECT application FROM access_effect WHERE grant_id = $1 AND kind = 'grant' LIMIT 1")
                            .bind(grant.0.to_vec())
                            .fetch_optional(&self.0)
                            .await?;
                    row.map(|(id,)| sixteen(id, "an application's id").map(ApplicationId)).transpose()
                })
                .boxed()
            }

            fn standing(&self, now: Timestamp) -> Answer<'_, Standing> {
                within(async move {
                    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
                        "SELECT party, COUNT(*), CAST(SUM(CASE WHEN due_at <= $1 THEN 1 ELSE 0 END) AS BIGINT) \
                         FROM access_application WHERE is_open = 1 AND party <> '' GROUP BY party ORDER BY party",
                    )
                    .bind(int(now.0))
                    .fetch_all(&self.0)
                    .await?;
                    let undone: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM access_effect WHERE is_done = 0")
                        .fetch_one(&self.0)
                        .await?;
                    let count = |number: i64| u64::try_from(number).unwrap_or(0);
                    let waits = |(word, open, overdue): (String, i64, i64)| {
                        let party = party(&word).ok_or_else(|| unreadable(format!("party {word}")))?;
                        Ok::<_, StoreError>(Waits { party, open: count(open), overdue: count(overdue) })
                    };
                    let waits = rows.into_iter().map(waits).collect::<Result<_, _>>()?;
                    Ok(Standing { waits, undone: count(undone.0) })
                })
                .boxed()
            }

            fn tell<'a>(&'a self, deliveries: &'a [Delivery], at: Timestamp) -> Answer<'a, ()> {
                within(async move {
                    let mut tx = self.0.begin_with($begin).await?;
                    for delivery in deliveries {
                        sqlx::query(outbox::PUT)
                            .bind(delivery.id.0.to_vec())
                            .bind(&delivery.target)
                            .bind(&delivery.address)
                            .bind(delivery.notice.to_json())
                            .bind(int(at.0))
                            .execute(&mut *tx)
                            .await?;
                    }
                    Ok(tx.commit().await?)
                })
                .boxed()
            }

            fn forget_notices(&self, before: Timestamp) -> Answer<'_, ()> {
                within(async move {
                    sqlx::query("DELETE FROM access_notice WHERE state > 0 AND ended_at < $1")
                        .bind(int(before.0))
                        .execute(&self.0)
                        .await?;
                    Ok(())
                })
                .boxed()
            }

            fn was_revoked<'a>(&'a self, subject: &'a str) -> Answer<'a, bool> {
                within(async move {
                    let found: Option<(i64,)> = sqlx::query_as(
                        "SELECT CAST(1 AS BIGINT) FROM access_application WHERE subject = $1 AND was_revoked = 1 LIMIT 1",
                    )
                    .bind(subject)
                    .fetch_optional(&self.0)
                    .await?;
                    Ok(found.is_some())
                })
                .boxed()
            }
        }
    };
}

store!(Sqlite, SqlitePool, "BEGIN IMMEDIATE");
store!(Postgres, PgPool, "BEGIN");

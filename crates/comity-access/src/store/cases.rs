//! Cases, in either database.

use comity_wire::{ModelId, Timestamp};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::outbox;
use super::sql::{Postgres, Sqlite, int, sixteen, within};
use super::{Appended, NEVER, StoreError};
use crate::case::store::{Append, Cases, EXCERPT_BYTES_MAX, Excerpt, OpenMax, PAGE_MAX, Row, Which, due_of};
use crate::case::{Case, CaseId, Event, State};
use crate::event::Recorded;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

const ROWS: &str = "SELECT id, subject, category, model, state, due_at, opened_at, changed_at FROM access_case \
     WHERE ($1 = 0 OR is_open = 1) AND (opened_at < $2 OR (opened_at = $2 AND id < $3))";
const OF_SUBJECT: &str = " AND subject = $5";
const ORDER: &str = " ORDER BY opened_at DESC, id DESC LIMIT $4";
const PUT_ROW: &str = "INSERT INTO access_case (id, subject, category, model, state, is_open, gathers, due_at, opened_at, changed_at, \
     events, head) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING";
const PUT_EVENT: &str = "INSERT INTO access_case_event (case_id, n, bytes) VALUES ($1, $2, $3)";
const PUT_EXCERPT: &str = "INSERT INTO access_case_excerpt (case_id, sealed, until) VALUES ($1, $2, $3)";

fn unreadable(what: impl Into<String>) -> StoreError {
    StoreError::Unreadable { what: what.into() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(u64::try_from(seconds).unwrap_or(0))
}

fn case_id(bytes: Vec<u8>) -> Result<CaseId, StoreError> {
    sixteen(bytes, "a case's id").map(CaseId)
}

/// Whether nothing is decided yet, and more of the same can be added.
const fn is_undecided(state: State) -> bool {
    matches!(state, State::Open | State::ToDecide)
}

fn read(id: CaseId, events: &[(Vec<u8>,)]) -> Result<Case, StoreError> {
    let case = Case::read(events.iter().map(|(bytes,)| bytes.as_slice()));
    let case = case.map_err(|broken| unreadable(format!("{id}: {broken}")))?;
    // A log under another case's id is whole in itself.
    if case.id() == id { Ok(case) } else { Err(unreadable(format!("{id}: the log is another case's"))) }
}

/// The columns of a list, as both drivers give them.
type Columns = (Vec<u8>, String, String, String, String, i64, i64, i64);

fn row_of((id, subject, category, model, state, due_at, opened_at, changed_at): Columns) -> Result<Row, StoreError> {
    let known = State::ALL.iter().copied().find(|known| known.as_str() == state);
    let state = known.ok_or_else(|| unreadable(format!("state {state}")))?;
    Ok(Row {
        id: case_id(id)?,
        subject,
        category,
        model: model.parse::<ModelId>().map_err(|_| unreadable("a model's name"))?,
        state,
        due: due_of(state, at(due_at)),
        opened_at: at(opened_at),
        changed_at: at(changed_at),
    })
}

fn due_row((seconds, id): (i64, Vec<u8>)) -> Result<(Timestamp, CaseId), StoreError> {
    Ok((at(seconds), case_id(id)?))
}

/// A cursor from which everything is asked for, where there is none.
fn behind(after: Option<(Timestamp, CaseId)>) -> (i64, Vec<u8>) {
    after.map_or((-1, Vec::new()), |(at, id)| (int(at.0), id.0.to_vec()))
}

/// What a row says of a case.
struct Facts<'c> {
    category: &'c str,
    model: String,
    due_at: i64,
    opened_at: i64,
    newest: &'c Recorded<Event>,
}

fn facts(case: &Case) -> Result<Facts<'_>, StoreError> {
    let seen = case.seen().first().ok_or_else(|| unreadable("a case without what was seen"))?;
    let (Some(first), Some(newest)) = (case.events().first(), case.events().last()) else {
        return Err(unreadable("a case without events"));
    };
    Ok(Facts {
        category: &seen.category,
        model: seen.model.to_string(),
        due_at: int(case.due().map_or(NEVER, |due| due.at).0),
        opened_at: int(first.event().at.0),
        newest,
    })
}

fn fits(excerpt: &Excerpt) -> Result<(), StoreError> {
    if excerpt.sealed.len() <= EXCERPT_BYTES_MAX { Ok(()) } else { Err(unreadable("an excerpt that is too long")) }
}

macro_rules! cases {
    ($name:ident, $begin:literal) => {
        impl Cases for $name {
            fn case(&self, id: CaseId) -> Answer<'_, Option<Case>> {
                within(async move {
                    let sql = "SELECT bytes FROM access_case_event WHERE case_id = $1 ORDER BY n";
                    let events: Vec<(Vec<u8>,)> = sqlx::query_as(sql).bind(id.0.to_vec()).fetch_all(&self.0).await?;
                    if events.is_empty() { Ok(None) } else { read(id, &events).map(Some) }
                })
                .boxed()
            }

            fn case_append<'a>(&'a self, append: Append<'a>) -> Answer<'a, Appended> {
                within(async move {
                    let case = append.case;
                    let Facts { category, model, due_at, opened_at, newest } = facts(case)?;
                    let (event, id) = (newest.event(), case.id().0.to_vec());
                    let is_open = i64::from(!case.state().is_ended());
                    let mut tx = self.0.begin_with($begin).await?;
                    let put = if event.n == 1 {
                        let OpenMax { subject, all, .. } = append.open_max;
                        let open: (i64, i64) = sqlx::query_as(
                            "SELECT (SELECT count(*) FROM access_case WHERE subject = $1 AND is_open = 1), \
                             (SELECT count(*) FROM access_case WHERE is_open = 1)",
                        )
                        .bind(case.subject())
                        .fetch_one(&mut *tx)
                        .await?;
                        if open.0 >= i64::from(subject) {
                            return Ok(Appended::TooMany { what: "open cases of one project", most: subject });
                        }
                        if open.1 >= i64::from(all) {
                            return Ok(Appended::TooMany { what: "open cases at this node", most: all });
                        }
                        sqlx::query(PUT_ROW)
                            .bind(&id)
                            .bind(case.subject())
                            .bind(category)
                            .bind(model)
                            .bind(case.state().as_str())
                            .bind(is_open)
                            .bind(i64::from(append.gathers))
                            .bind(due_at)
                            .bind(opened_at)
                            .bind(opened_at)
                            .bind(1_i64)
                            .bind(case.link().0.to_vec())
                            .execute(&mut *tx)
                            .await?
                    } else {
                        sqlx::query(
                            "UPDATE access_case SET state = $2, is_open = $3, gathers = gathers * $4, due_at = $5, changed_at = $6, \
                             events = $7, head = $8 WHERE id = $1 AND events = $7 - 1 AND head = $9",
                        )
                        .bind(&id)
                        .bind(case.state().as_str())
                        .bind(is_open)
                        .bind(i64::from(is_undecided(case.state())))
                        .bind(due_at)
                        .bind(int(event.at.0))
                        .bind(int(event.n))
                        .bind(case.link().0.to_vec())
                        .bind(event.before.0.to_vec())
                        .execute(&mut *tx)
                        .await?
                    };
                    if put.rows_affected() != 1 {
                        return Ok(Appended::Moved);
                    }
                    sqlx::query(PUT_EVENT).bind(&id).bind(int(event.n)).bind(newest.bytes()).execute(&mut *tx).await?;
                    if let Some(excerpt) = append.excerpt.filter(|_| event.n == 1) {
                        fits(excerpt)?;
                        let query = sqlx::query(PUT_EXCERPT).bind(&id).bind(&excerpt.sealed);
                        query.bind(int(excerpt.until.0)).execute(&mut *tx).await?;
                    }
                    if case.excerpt().is_none() {
                        let sql = "DELETE FROM access_case_excerpt WHERE case_id = $1";
                        sqlx::query(sql).bind(&id).execute(&mut *tx).await?;
                    }
                    if append.has_effect {
                        let sql = "INSERT INTO access_case_effect (case_id, n) VALUES ($1, $2)";
                        sqlx::query(sql).bind(&id).bind(int(event.n)).execute(&mut *tx).await?;
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

            fn case_take<'a>(&'a self, case: &'a Case, excerpt: Option<&'a Excerpt>) -> Answer<'a, bool> {
                within(async move {
                    let Facts { category, model, due_at, opened_at, newest } = facts(case)?;
                    let id = case.id().0.to_vec();
                    let mut tx = self.0.begin_with($begin).await?;
                    // Where another process's undecided case of the same is here already, more of it is added to that one.
                    let mut is_new = false;
                    for gathers in [i64::from(is_undecided(case.state())), 0] {
                        let put = sqlx::query(PUT_ROW)
                            .bind(&id)
                            .bind(case.subject())
                            .bind(category)
                            .bind(&model)
                            .bind(case.state().as_str())
                            .bind(i64::from(!case.state().is_ended()))
                            .bind(gathers)
                            .bind(due_at)
                            .bind(opened_at)
                            .bind(int(newest.event().at.0))
                            .bind(int(case.events().len() as u64))
                            .bind(case.link().0.to_vec())
                            .execute(&mut *tx)
                            .await?;
                        is_new = put.rows_affected() == 1;
                        if is_new {
                            break;
                        }
                    }
                    if !is_new {
                        return Ok(false);
                    }
                    for recorded in case.events() {
                        let query = sqlx::query(PUT_EVENT).bind(&id).bind(int(recorded.event().n));
                        query.bind(recorded.bytes()).execute(&mut *tx).await?;
                    }
                    if let Some(excerpt) = excerpt {
                        fits(excerpt)?;
                        let query = sqlx::query(PUT_EXCERPT).bind(&id).bind(&excerpt.sealed);
                        query.bind(int(excerpt.until.0)).execute(&mut *tx).await?;
                    }
                    tx.commit().await?;
                    Ok(true)
                })
                .boxed()
            }

            fn case_list<'a>(&'a self, which: &'a Which, limit: u32) -> Answer<'a, Vec<Row>> {
                within(async move {
                    let (before, id) = which.after.map_or((i64::MAX, Vec::new()), |(at, id)| (int(at.0), id.0.to_vec()));
                    let of_subject = if which.subject.is_some() { OF_SUBJECT } else { "" };
                    let sql = sqlx::AssertSqlSafe(format!("{ROWS}{of_subject}{ORDER}"));
                    let query = sqlx::query_as::<_, Columns>(sql).bind(i64::from(which.open)).bind(before).bind(id);
                    let query = query.bind(i64::from(limit.min(PAGE_MAX)));
                    let query = match &which.subject {
                        Some(subject) => query.bind(subject.as_str()),
                        None => query,
                    };
                    query.fetch_all(&self.0).await?.into_iter().map(row_of).collect()
                })
                .boxed()
            }

            fn case_undecided<'a>(
                &'a self,
                subject: &'a str,
                category: &'a str,
                model: &'a str,
            ) -> Answer<'a, Option<CaseId>> {
                within(async move {
                    let found: Option<(Vec<u8>,)> = sqlx::query_as(
                        "SELECT id FROM access_case WHERE subject = $1 AND category = $2 AND model = $3 AND state IN ($4, $5) \
                         ORDER BY gathers DESC, id LIMIT 1",
                    )
                    .bind(subject)
                    .bind(category)
                    .bind(model)
                    .bind(State::Open.as_str())
                    .bind(State::ToDecide.as_str())
                    .fetch_optional(&self.0)
                    .await?;
                    found.map(|(id,)| case_id(id)).transpose()
                })
                .boxed()
            }

            fn case_due(
                &self,
                by: Timestamp,
                after: Option<(Timestamp, CaseId)>,
                limit: u32,
            ) -> Answer<'_, Vec<(Timestamp, CaseId)>> {
                within(async move {
                    let (from, id) = behind(after);
                    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
                        "SELECT due_at, id FROM access_case WHERE due_at <= $1 AND (due_at > $2 OR (due_at = $2 AND id > $3)) \
                         ORDER BY due_at, id LIMIT $4",
                    )
                    .bind(int(by.0.min(NEVER.0 - 1)))
                    .bind(from)
                    .bind(id)
                    .bind(i64::from(limit))
                    .fetch_all(&self.0)
                    .await?;
                    rows.into_iter().map(due_row).collect()
                })
                .boxed()
            }

            fn excerpt(&self, id: CaseId) -> Answer<'_, Option<Excerpt>> {
                within(async move {
                    let sql = "SELECT sealed, until FROM access_case_excerpt WHERE case_id = $1";
                    let found: Option<(Vec<u8>, i64)> =
                        sqlx::query_as(sql).bind(id.0.to_vec()).fetch_optional(&self.0).await?;
                    Ok(found.map(|(sealed, until)| Excerpt { sealed, until: at(until) }))
                })
                .boxed()
            }

            fn excerpts_due(
                &self,
                by: Timestamp,
                after: Option<(Timestamp, CaseId)>,
                limit: u32,
            ) -> Answer<'_, Vec<(Timestamp, CaseId)>> {
                within(async move {
                    let (from, id) = behind(after);
                    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
                        "SELECT until, case_id FROM access_case_excerpt WHERE until <= $1 \
                         AND (until > $2 OR (until = $2 AND case_id > $3)) ORDER BY until, case_id LIMIT $4",
                    )
                    .bind(int(by.0))
                    .bind(from)
                    .bind(id)
                    .bind(i64::from(limit))
                    .fetch_all(&self.0)
                    .await?;
                    rows.into_iter().map(due_row).collect()
                })
                .boxed()
            }

            fn case_effects(&self, after: Option<(CaseId, u64)>, limit: u32) -> Answer<'_, Vec<(CaseId, u64)>> {
                within(async move {
                    let (id, n) = after.map_or((Vec::new(), 0), |(id, n)| (id.0.to_vec(), int(n)));
                    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
                        "SELECT case_id, n FROM access_case_effect WHERE case_id > $1 OR (case_id = $1 AND n > $2) \
                         ORDER BY case_id, n LIMIT $3",
                    )
                    .bind(id)
                    .bind(n)
                    .bind(i64::from(limit))
                    .fetch_all(&self.0)
                    .await?;
                    let number = |n: i64| u64::try_from(n).map_err(|_| unreadable("an event's number"));
                    rows.into_iter().map(|(id, n)| Ok((case_id(id)?, number(n)?))).collect()
                })
                .boxed()
            }

            fn case_effect_done(&self, id: CaseId, n: u64) -> Answer<'_, ()> {
                within(async move {
                    let sql = "DELETE FROM access_case_effect WHERE case_id = $1 AND n = $2";
                    sqlx::query(sql).bind(id.0.to_vec()).bind(int(n)).execute(&self.0).await?;
                    Ok(())
                })
                .boxed()
            }
        }
    };
}

cases!(Sqlite, "BEGIN IMMEDIATE");
cases!(Postgres, "BEGIN");

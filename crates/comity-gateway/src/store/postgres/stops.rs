//! What the operator has stopped, in PostgreSQL: said to all gateways of the node in the same transaction.

use comity_wire::Timestamp;
use futures::FutureExt as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::Postgres;
use super::rows::int;
use crate::store::stops::{Running, STOPS_MAX, Said, SaidAct, Stop, Stops, Target, Word, too_many};
use crate::store::{Answer, StoreError};

impl Stops for Postgres {
    fn stops(&self) -> Answer<'_, Vec<Stop>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT kind, name, ends_running, author, reason, at FROM stop ORDER BY kind, name LIMIT $1";
                let query = sqlx::query(sql).bind(i64::try_from(STOPS_MAX).expect("small"));
                query.fetch_all(connection).await?.iter().map(stop).collect()
            }
            .boxed()
        })
    }

    fn stop_put<'a>(&'a self, wanted: &'a Stop) -> Answer<'a, Stop> {
        let wanted = wanted.clone();
        self.ask(move |connection| async move { put(connection, &wanted).await }.boxed())
    }

    fn stop_end<'a>(&'a self, target: &'a Target, word: &'a Word) -> Answer<'a, Option<Stop>> {
        let (target, word) = (target.clone(), word.clone());
        self.ask(move |connection| async move { end(connection, &target, &word).await }.boxed())
    }

    fn stop_log(&self, most: u32) -> Answer<'_, Vec<Said>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT n, act, kind, name, author, reason, at FROM stop_log ORDER BY n DESC LIMIT $1";
                let rows = sqlx::query(sql).bind(i64::from(most)).fetch_all(connection).await?;
                rows.iter().map(said).collect()
            }
            .boxed()
        })
    }

    fn stop_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<Said>> {
        self.ask(move |connection| {
            async move {
                let sql =
                    "SELECT n, act, kind, name, author, reason, at FROM stop_log WHERE n > $1 ORDER BY n LIMIT $2";
                let rows = sqlx::query(sql).bind(int(n)).bind(i64::from(most)).fetch_all(connection).await?;
                rows.iter().map(said).collect()
            }
            .boxed()
        })
    }
}

/// Every gateway reads again what is stopped. The lock on this row also puts the lines of the log in order.
const TELL: &str = "UPDATE spend_fence SET news = news + 1";

async fn put(connection: &mut PgConnection, wanted: &Stop) -> Result<Stop, StoreError> {
    let mut tx = connection.begin().await?;
    sqlx::query(TELL).execute(&mut *tx).await?;
    let (kind, name) = wanted.target.row();
    let sql = "INSERT INTO stop (kind, name, ends_running, author, reason, at) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (kind, name) DO UPDATE SET ends_running = GREATEST(stop.ends_running, excluded.ends_running) \
               RETURNING kind, name, ends_running, author, reason, at";
    let query = sqlx::query(sql).bind(kind).bind(name).bind(wanted.running.number());
    let query = query.bind(wanted.word.author.clone()).bind(wanted.word.reason.clone());
    let stands = stop(&query.bind(int(wanted.word.at.seconds())).fetch_one(&mut *tx).await?)?;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM stop").fetch_one(&mut *tx).await?;
    if count > i64::try_from(STOPS_MAX).expect("small") {
        return Err(too_many());
    }
    say(&mut tx, wanted.running.said(), &wanted.target, &wanted.word).await?;
    tx.commit().await?;
    Ok(stands)
}

async fn end(connection: &mut PgConnection, target: &Target, word: &Word) -> Result<Option<Stop>, StoreError> {
    let mut tx = connection.begin().await?;
    sqlx::query(TELL).execute(&mut *tx).await?;
    let (kind, name) = target.row();
    let sql = "DELETE FROM stop WHERE kind = $1 AND name = $2 RETURNING kind, name, ends_running, author, reason, at";
    let ended = sqlx::query(sql).bind(kind).bind(name).fetch_optional(&mut *tx).await?;
    let ended = ended.as_ref().map(stop).transpose()?;
    if ended.is_some() {
        say(&mut tx, SaidAct::Resumed, target, word).await?;
    }
    tx.commit().await?;
    Ok(ended)
}

pub(super) async fn say(tx: &mut PgConnection, act: SaidAct, target: &Target, word: &Word) -> Result<(), StoreError> {
    let (kind, name) = target.row();
    let sql = "INSERT INTO stop_log (n, act, kind, name, author, reason, at) \
               SELECT COALESCE(MAX(n), 0) + 1, $1, $2, $3, $4, $5, $6 FROM stop_log";
    let query = sqlx::query(sql).bind(act.number()).bind(kind).bind(name);
    let query = query.bind(word.author.clone()).bind(word.reason.clone()).bind(int(word.at.seconds()));
    query.execute(tx).await?;
    Ok(())
}

fn said(row: &PgRow) -> Result<Said, StoreError> {
    Ok(Said {
        n: u64::try_from(row.try_get::<i64, _>("n")?).unwrap_or(0),
        act: SaidAct::of_number(row.try_get("act")?)?,
        target: target(row)?,
        word: word(row)?,
    })
}

fn stop(row: &PgRow) -> Result<Stop, StoreError> {
    let running = Running::of_number(row.try_get("ends_running")?);
    Ok(Stop { target: target(row)?, running, word: word(row)? })
}

fn target(row: &PgRow) -> Result<Target, StoreError> {
    Target::of_row(row.try_get("kind")?, row.try_get("name")?)
}

fn word(row: &PgRow) -> Result<Word, StoreError> {
    let at = Timestamp(u64::try_from(row.try_get::<i64, _>("at")?).unwrap_or(0));
    Ok(Word { author: row.try_get("author")?, reason: row.try_get("reason")?, at })
}

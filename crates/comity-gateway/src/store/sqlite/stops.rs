//! What the operator has stopped, in SQLite.

use comity_wire::Timestamp;
use futures::FutureExt as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::{Sqlite, int};
use crate::store::stops::{Running, STOPS_MAX, Said, SaidAct, Stop, Stops, Target, Word, too_many};
use crate::store::{Answer, StoreError};

impl Stops for Sqlite {
    fn stops(&self) -> Answer<'_, Vec<Stop>> {
        async move {
            let sql = "SELECT kind, name, ends_running, author, reason, at FROM stop ORDER BY kind, name LIMIT ?";
            let query = sqlx::query(sql).bind(i64::try_from(STOPS_MAX).expect("small"));
            query.fetch_all(&self.readers).await?.iter().map(stop).collect()
        }
        .boxed()
    }

    fn stop_put<'a>(&'a self, wanted: &'a Stop) -> Answer<'a, Stop> {
        async move {
            let mut writer = self.writer().await;
            let put = put(&mut writer, wanted).await;
            self.mend(&mut writer, &put).await;
            put
        }
        .boxed()
    }

    fn stop_end<'a>(&'a self, target: &'a Target, word: &'a Word) -> Answer<'a, Option<Stop>> {
        async move {
            let mut writer = self.writer().await;
            let ended = end(&mut writer, target, word).await;
            self.mend(&mut writer, &ended).await;
            ended
        }
        .boxed()
    }

    fn stop_log(&self, most: u32) -> Answer<'_, Vec<Said>> {
        async move {
            let sql = "SELECT n, act, kind, name, author, reason, at FROM stop_log ORDER BY n DESC LIMIT ?";
            let rows = sqlx::query(sql).bind(i64::from(most)).fetch_all(&self.readers).await?;
            rows.iter().map(said).collect()
        }
        .boxed()
    }

    fn stop_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<Said>> {
        async move {
            let sql = "SELECT n, act, kind, name, author, reason, at FROM stop_log WHERE n > ? ORDER BY n LIMIT ?";
            let rows = sqlx::query(sql).bind(int(n)).bind(i64::from(most)).fetch_all(&self.readers).await?;
            rows.iter().map(said).collect()
        }
        .boxed()
    }
}

async fn put(writer: &mut SqliteConnection, wanted: &Stop) -> Result<Stop, StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let (kind, name) = wanted.target.row();
    let sql = "INSERT INTO stop (kind, name, ends_running, author, reason, at) VALUES (?, ?, ?, ?, ?, ?) \
               ON CONFLICT (kind, name) DO UPDATE SET ends_running = MAX(ends_running, excluded.ends_running) \
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

async fn end(writer: &mut SqliteConnection, target: &Target, word: &Word) -> Result<Option<Stop>, StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let (kind, name) = target.row();
    let sql = "DELETE FROM stop WHERE kind = ? AND name = ? RETURNING kind, name, ends_running, author, reason, at";
    let ended = sqlx::query(sql).bind(kind).bind(name).fetch_optional(&mut *tx).await?;
    let Some(ended) = ended.as_ref().map(stop).transpose()? else { return Ok(None) };
    say(&mut tx, SaidAct::Resumed, target, word).await?;
    tx.commit().await?;
    Ok(Some(ended))
}

pub(super) async fn say(
    tx: &mut SqliteConnection,
    act: SaidAct,
    target: &Target,
    word: &Word,
) -> Result<(), StoreError> {
    let (kind, name) = target.row();
    let sql = "INSERT INTO stop_log (n, act, kind, name, author, reason, at) \
               SELECT COALESCE(MAX(n), 0) + 1, ?, ?, ?, ?, ?, ? FROM stop_log";
    let query = sqlx::query(sql).bind(act.number()).bind(kind).bind(name);
    let query = query.bind(word.author.clone()).bind(word.reason.clone()).bind(int(word.at.seconds()));
    query.execute(tx).await?;
    Ok(())
}

fn said(row: &SqliteRow) -> Result<Said, StoreError> {
    Ok(Said {
        n: u64::try_from(row.try_get::<i64, _>("n")?).unwrap_or(0),
        act: SaidAct::of_number(row.try_get("act")?)?,
        target: target(row)?,
        word: word(row)?,
    })
}

fn stop(row: &SqliteRow) -> Result<Stop, StoreError> {
    let running = Running::of_number(row.try_get("ends_running")?);
    Ok(Stop { target: target(row)?, running, word: word(row)? })
}

fn target(row: &SqliteRow) -> Result<Target, StoreError> {
    Target::of_row(row.try_get("kind")?, row.try_get("name")?)
}

fn word(row: &SqliteRow) -> Result<Word, StoreError> {
    let at = Timestamp(u64::try_from(row.try_get::<i64, _>("at")?).unwrap_or(0));
    Ok(Word { author: row.try_get("author")?, reason: row.try_get("reason")?, at })
}

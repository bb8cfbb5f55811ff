//! Grants by hand, in SQLite.

use comity_wire::GrantId;
use futures::FutureExt as _;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use super::{Sqlite, digest, int};
use crate::store::granted::{Given, GrantSaid, Granted, Row, said};
use crate::store::stops::Word;
use crate::store::{Answer, StoreError};

impl Granted for Sqlite {
    fn grant_give<'a>(&'a self, grant: GrantId, given: &'a Given, bytes: &'a [u8], word: &'a Word) -> Answer<'a, ()> {
        async move {
            let mut writer = self.writer().await;
            let put = give(&mut writer, grant, given, bytes, word).await;
            self.mend(&mut writer, &put).await;
            put
        }
        .boxed()
    }

    fn grant_take_back<'a>(&'a self, grant: GrantId, word: &'a Word) -> Answer<'a, ()> {
        async move {
            let mut writer = self.writer().await;
            let taken = take_back(&mut writer, grant, word).await;
            self.mend(&mut writer, &taken).await;
            taken
        }
        .boxed()
    }

    fn grant_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<GrantSaid>> {
        async move {
            let sql = "SELECT n, act, grant_id, content, subject, author, reason, at FROM grant_log WHERE n > ? ORDER BY n LIMIT ?";
            let query = sqlx::query_as(sql).bind(int(n)).bind(i64::from(most));
            let rows: Vec<Row> = query.fetch_all(&self.readers).await?;
            rows.into_iter().map(said).collect()
        }
        .boxed()
    }
}

async fn give(
    writer: &mut SqliteConnection,
    grant: GrantId,
    given: &Given,
    bytes: &[u8],
    word: &Word,
) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let sql = "INSERT INTO access_grant (id, subject, bytes, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(digest(&given.content)).bind(given.subject.clone()).bind(bytes.to_vec());
    query.bind(int(word.at.seconds())).execute(&mut *tx).await?;
    log(&mut tx, grant, Some(given), word).await?;
    tx.commit().await?;
    Ok(())
}

async fn take_back(writer: &mut SqliteConnection, grant: GrantId, word: &Word) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let query = sqlx::query("INSERT INTO grant_withdrawn (id, at) VALUES (?, ?) ON CONFLICT DO NOTHING");
    query.bind(grant.0.to_vec()).bind(int(word.at.seconds())).execute(&mut *tx).await?;
    log(&mut tx, grant, None, word).await?;
    tx.commit().await?;
    Ok(())
}

async fn log(tx: &mut SqliteConnection, grant: GrantId, given: Option<&Given>, word: &Word) -> Result<(), StoreError> {
    let sql = "INSERT INTO grant_log (n, act, grant_id, content, subject, author, reason, at) \
               SELECT COALESCE(MAX(n), 0) + 1, ?, ?, ?, ?, ?, ?, ? FROM grant_log";
    let query = sqlx::query(sql).bind(if given.is_some() { 1_i64 } else { 2 }).bind(grant.0.to_vec());
    let query = query.bind(given.map(|given| digest(&given.content)));
    let query = query.bind(given.map(|given| given.subject.clone()).unwrap_or_default());
    let query = query.bind(word.author.clone()).bind(word.reason.clone()).bind(int(word.at.seconds()));
    query.execute(tx).await?;
    Ok(())
}

//! Grants by hand, in PostgreSQL: said to all gateways of the node in the same transaction.

use comity_wire::GrantId;
use futures::FutureExt as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::rows::int;
use super::{Postgres, digest};
use crate::store::granted::{Given, GrantSaid, Granted, Row, said};
use crate::store::stops::Word;
use crate::store::{Answer, StoreError};

impl Granted for Postgres {
    fn grant_give<'a>(&'a self, grant: GrantId, given: &'a Given, bytes: &'a [u8], word: &'a Word) -> Answer<'a, ()> {
        let (given, bytes, word) = (given.clone(), bytes.to_vec(), word.clone());
        self.ask(move |connection| async move { give(connection, grant, &given, &bytes, &word).await }.boxed())
    }

    fn grant_take_back<'a>(&'a self, grant: GrantId, word: &'a Word) -> Answer<'a, ()> {
        let word = word.clone();
        self.ask(move |connection| async move { take_back(connection, grant, &word).await }.boxed())
    }

    fn grant_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<GrantSaid>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT n, act, grant_id, content, subject, author, reason, at FROM grant_log WHERE n > $1 ORDER BY n LIMIT $2";
                let query = sqlx::query_as(sql).bind(int(n)).bind(i64::from(most));
                let rows: Vec<Row> = query.fetch_all(connection).await?;
                rows.into_iter().map(said).collect()
            }
            .boxed()
        })
    }
}

/// Every gateway reads again what was granted. The lock on this row also puts the lines of the log in order.
const TELL: &str = "UPDATE spend_fence SET news = news + 1";

async fn give(
    connection: &mut PgConnection,
    grant: GrantId,
    given: &Given,
    bytes: &[u8],
    word: &Word,
) -> Result<(), StoreError> {
    let mut tx = connection.begin().await?;
    sqlx::query(TELL).execute(&mut *tx).await?;
    let sql = "INSERT INTO access_grant (id, subject, bytes, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(digest(&given.content)).bind(given.subject.clone()).bind(bytes.to_vec());
    query.bind(int(word.at.seconds())).execute(&mut *tx).await?;
    log(&mut tx, grant, Some(given), word).await?;
    tx.commit().await?;
    Ok(())
}

async fn take_back(connection: &mut PgConnection, grant: GrantId, word: &Word) -> Result<(), StoreError> {
    let mut tx = connection.begin().await?;
    sqlx::query(TELL).execute(&mut *tx).await?;
    let query = sqlx::query("INSERT INTO grant_withdrawn (id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    query.bind(grant.0.to_vec()).bind(int(word.at.seconds())).execute(&mut *tx).await?;
    log(&mut tx, grant, None, word).await?;
    tx.commit().await?;
    Ok(())
}

async fn log(tx: &mut PgConnection, grant: GrantId, given: Option<&Given>, word: &Word) -> Result<(), StoreError> {
    let sql = "INSERT INTO grant_log (n, act, grant_id, content, subject, author, reason, at) \
               SELECT COALESCE(MAX(n), 0) + 1, $1, $2, $3, $4, $5, $6, $7 FROM grant_log";
    let query = sqlx::query(sql).bind(if given.is_some() { 1_i64 } else { 2 }).bind(grant.0.to_vec());
    let query = query.bind(given.map(|given| digest(&given.content)));
    let query = query.bind(given.map(|given| given.subject.clone()).unwrap_or_default());
    let query = query.bind(word.author.clone()).bind(word.reason.clone()).bind(int(word.at.seconds()));
    query.execute(tx).await?;
    Ok(())
}

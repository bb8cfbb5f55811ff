//! What passes, in PostgreSQL: said to all gateways of the node in the same transaction.

use comity_guard::Category;
use futures::FutureExt as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::Postgres;
use super::rows::int;
use crate::store::passes::{PASSES_MAX, Pass, PassSaid, Passes, Row, SaidRow, pass, said, too_many};
use crate::store::stops::Word;
use crate::store::{Answer, StoreError};

impl Passes for Postgres {
    fn passes(&self) -> Answer<'_, Vec<Pass>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT subject, category, until FROM pass ORDER BY subject, category LIMIT $1";
                let most = i64::try_from(PASSES_MAX).expect("a small number");
                let rows: Vec<Row> = sqlx::query_as(sql).bind(most).fetch_all(connection).await?;
                rows.into_iter().filter_map(pass).collect()
            }
            .boxed()
        })
    }

    fn pass_put<'a>(&'a self, pass: &'a Pass, word: &'a Word) -> Answer<'a, ()> {
        let (pass, word) = (pass.clone(), word.clone());
        self.ask(move |connection| async move { put(connection, &pass, &word).await }.boxed())
    }

    fn pass_end<'a>(&'a self, subject: &'a str, category: Category, word: &'a Word) -> Answer<'a, bool> {
        let (subject, word) = (subject.to_owned(), word.clone());
        self.ask(move |connection| async move { end(connection, &subject, category, &word).await }.boxed())
    }

    fn pass_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<PassSaid>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT n, subject, category, until, author, reason, at FROM pass_log WHERE n > $1 ORDER BY n LIMIT $2";
                let query = sqlx::query_as(sql).bind(int(n)).bind(i64::from(most));
                let rows: Vec<SaidRow> = query.fetch_all(connection).await?;
                rows.into_iter().map(said).collect()
            }
            .boxed()
        })
    }
}

/// Every gateway reads again what passes. The lock on this row also puts the lines of the log in order.
const TELL: &str = "UPDATE spend_fence SET news = news + 1";

async fn put(connection: &mut PgConnection, pass: &Pass, word: &Word) -> Result<(), StoreError> {
    let mut tx = connection.begin().await?;
    sqlx::query(TELL).execute(&mut *tx).await?;
    let over = sqlx::query("DELETE FROM pass WHERE until <= $1").bind(int(word.at.seconds()));
    over.execute(&mut *tx).await?;
    let sql = "INSERT INTO pass (subject, category, until) VALUES ($1, $2, $3) \
               ON CONFLICT (subject, category) DO UPDATE SET until = excluded.until";
    let query = sqlx::query(sql).bind(&pass.subject).bind(i64::from(pass.category.number()));
    query.bind(int(pass.until.seconds())).execute(&mut *tx).await?;
    let stand: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pass").fetch_one(&mut *tx).await?;
    if stand > i64::try_from(PASSES_MAX).expect("a small number") {
        tx.rollback().await?;
        return Err(too_many());
    }
    log(&mut tx, &pass.subject, pass.category, Some(int(pass.until.seconds())), word).await?;
    tx.commit().await?;
    Ok(())
}

async fn end(
    connection: &mut PgConnection,
    subject: &str,
    category: Category,
    word: &Word,
) -> Result<bool, StoreError> {
    let mut tx = connection.begin().await?;
    sqlx::query(TELL).execute(&mut *tx).await?;
    let query = sqlx::query("DELETE FROM pass WHERE subject = $1 AND category = $2").bind(subject);
    let gone = query.bind(i64::from(category.number())).execute(&mut *tx).await?.rows_affected() > 0;
    if gone {
        log(&mut tx, subject, category, None, word).await?;
    }
    tx.commit().await?;
    Ok(gone)
}

async fn log(
    tx: &mut PgConnection,
    subject: &str,
    category: Category,
    until: Option<i64>,
    word: &Word,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO pass_log (n, subject, category, until, author, reason, at) \
               SELECT COALESCE(MAX(n), 0) + 1, $1, $2, $3, $4, $5, $6 FROM pass_log";
    let query = sqlx::query(sql).bind(subject).bind(i64::from(category.number())).bind(until);
    let query = query.bind(&word.author).bind(&word.reason).bind(int(word.at.seconds()));
    query.execute(tx).await?;
    Ok(())
}

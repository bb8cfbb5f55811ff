//! What passes, in SQLite.

use comity_guard::Category;
use futures::FutureExt as _;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use super::{Sqlite, int};
use crate::store::passes::{PASSES_MAX, Pass, PassSaid, Passes, Row, SaidRow, pass, said, too_many};
use crate::store::stops::Word;
use crate::store::{Answer, StoreError};

impl Passes for Sqlite {
    fn passes(&self) -> Answer<'_, Vec<Pass>> {
        async move {
            let query = sqlx::query_as("SELECT subject, category, until FROM pass ORDER BY subject, category LIMIT ?");
            let most = i64::try_from(PASSES_MAX).expect("a small number");
            let rows: Vec<Row> = query.bind(most).fetch_all(&self.readers).await?;
            rows.into_iter().filter_map(pass).collect()
        }
        .boxed()
    }

    fn pass_put<'a>(&'a self, pass: &'a Pass, word: &'a Word) -> Answer<'a, ()> {
        async move {
            let mut writer = self.writer().await;
            let done = put(&mut writer, pass, word).await;
            self.mend(&mut writer, &done).await;
            done
        }
        .boxed()
    }

    fn pass_end<'a>(&'a self, subject: &'a str, category: Category, word: &'a Word) -> Answer<'a, bool> {
        async move {
            let mut writer = self.writer().await;
            let done = end(&mut writer, subject, category, word).await;
            self.mend(&mut writer, &done).await;
            done
        }
        .boxed()
    }

    fn pass_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<PassSaid>> {
        async move {
            let sql =
                "SELECT n, subject, category, until, author, reason, at FROM pass_log WHERE n > ? ORDER BY n LIMIT ?";
            let rows: Vec<SaidRow> =
                sqlx::query_as(sql).bind(int(n)).bind(i64::from(most)).fetch_all(&self.readers).await?;
            rows.into_iter().map(said).collect()
        }
        .boxed()
    }
}

async fn put(writer: &mut SqliteConnection, pass: &Pass, word: &Word) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let over = sqlx::query("DELETE FROM pass WHERE until <= ?").bind(int(word.at.seconds()));
    over.execute(&mut *tx).await?;
    let sql =
        "INSERT INTO pass (subject, category, until) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = excluded.until";
    let query = sqlx::query(sql).bind(pass.subject.clone()).bind(i64::from(pass.category.number()));
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
    writer: &mut SqliteConnection,
    subject: &str,
    category: Category,
    word: &Word,
) -> Result<bool, StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let query = sqlx::query("DELETE FROM pass WHERE subject = ? AND category = ?").bind(subject.to_owned());
    let gone = query.bind(i64::from(category.number())).execute(&mut *tx).await?.rows_affected() > 0;
    if gone {
        log(&mut tx, subject, category, None, word).await?;
    }
    tx.commit().await?;
    Ok(gone)
}

async fn log(
    tx: &mut SqliteConnection,
    subject: &str,
    category: Category,
    until: Option<i64>,
    word: &Word,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO pass_log (n, subject, category, until, author, reason, at) \
               SELECT COALESCE(MAX(n), 0) + 1, ?, ?, ?, ?, ?, ? FROM pass_log";
    let query = sqlx::query(sql).bind(subject.to_owned()).bind(i64::from(category.number())).bind(until);
    let query = query.bind(word.author.clone()).bind(word.reason.clone()).bind(int(word.at.seconds()));
    query.execute(tx).await?;
    Ok(())
}

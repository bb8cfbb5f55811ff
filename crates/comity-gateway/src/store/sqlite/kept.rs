//! Whose tokens are, and where texts lie, in SQLite.

use comity_wire::TokenId;
use futures::FutureExt as _;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use super::{Sqlite, id, int, read_array};
use crate::store::kept::{FILL_MAX, HOMES_MAX, Kept, Row, TextHome, UNHEARD_S, place, read, subject_of, too_many};
use crate::store::{Answer, StoreError};

impl Kept for Sqlite {
    fn tokens_of<'a>(&'a self, subject: &'a str, from: TokenId, most: u32) -> Answer<'a, Vec<TokenId>> {
        async move {
            let sql = "SELECT DISTINCT token FROM chain WHERE subject = ? AND token >= ? ORDER BY token LIMIT ?";
            let query = sqlx::query(sql).bind(subject.to_owned()).bind(id(&from)).bind(i64::from(most));
            let rows = query.fetch_all(&self.readers).await?;
            rows.iter().map(|row| Ok(TokenId(read_array(row, "token")?))).collect()
        }
        .boxed()
    }

    fn subjects_fill(&self) -> Answer<'_, u32> {
        async move {
            let mut writer = self.writer().await;
            let filled = fill(&mut writer, self.fence).await;
            self.mend(&mut writer, &filled).await;
            filled
        }
        .boxed()
    }

    fn home_put<'a>(&'a self, home: &'a TextHome) -> Answer<'a, ()> {
        async move {
            let mut writer = self.writer().await;
            let put = put(&mut writer, home).await;
            self.mend(&mut writer, &put).await;
            put
        }
        .boxed()
    }

    fn homes(&self) -> Answer<'_, Vec<TextHome>> {
        async move {
            let query = sqlx::query_as("SELECT id, place, seen_at, until FROM text_home ORDER BY id");
            let rows: Vec<Row> = query.fetch_all(&self.readers).await?;
            rows.into_iter().map(read).collect()
        }
        .boxed()
    }
}

async fn fill(writer: &mut SqliteConnection, fence: i64) -> Result<u32, StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let sql = "SELECT leaf, bytes FROM chain WHERE subject IS NULL LIMIT ?";
    let chains: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(sql).bind(i64::from(FILL_MAX)).fetch_all(&mut *tx).await?;
    for (leaf, bytes) in &chains {
        let sql = "UPDATE chain SET subject = ? WHERE leaf = ? AND (SELECT fence FROM spend_fence) = ?";
        let query = sqlx::query(sql).bind(subject_of(bytes)).bind(leaf.clone()).bind(fence);
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(StoreError::Fenced);
        }
    }
    tx.commit().await?;
    Ok(u32::try_from(chains.len()).expect("at most FILL_MAX"))
}

async fn put(writer: &mut SqliteConnection, home: &TextHome) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let now = int(home.seen_at.seconds());
    let over = int(home.seen_at.minus(UNHEARD_S).seconds());
    sqlx::query("DELETE FROM text_home WHERE until <= ? OR id = ?").bind(over).bind(&home.id).execute(&mut *tx).await?;
    if home.until > home.seen_at {
        let others: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM text_home").fetch_one(&mut *tx).await?;
        if usize::try_from(others).is_ok_and(|others| others >= HOMES_MAX) {
            return Err(too_many());
        }
        let query = sqlx::query("INSERT INTO text_home (id, place, seen_at, until) VALUES (?, ?, ?, ?)");
        let query = query.bind(&home.id).bind(place(home)).bind(now).bind(int(home.until.seconds()));
        query.execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}

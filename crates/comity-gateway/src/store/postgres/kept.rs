//! Whose tokens are, and where texts lie, in PostgreSQL.

use comity_wire::TokenId;
use futures::FutureExt as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::super::kept::{FILL_MAX, HOMES_MAX, Kept, Row, TextHome, UNHEARD_S, place, read, subject_of, too_many};
use super::super::{Answer, StoreError};
use super::rows::{self, int};
use super::{Postgres, id};

impl Kept for Postgres {
    fn tokens_of<'a>(&'a self, subject: &'a str, from: TokenId, most: u32) -> Answer<'a, Vec<TokenId>> {
        let subject = subject.to_owned();
        self.ask(move |connection| {
            async move {
                let sql = "SELECT DISTINCT token FROM chain WHERE subject = $1 AND token >= $2 ORDER BY token LIMIT $3";
                let query = sqlx::query(sql).bind(subject).bind(id(&from)).bind(i64::from(most));
                query.fetch_all(connection).await?.iter().map(rows::token).collect()
            }
            .boxed()
        })
    }

    /// What a chain says is so whoever reads it: no fence is compared.
    fn subjects_fill(&self) -> Answer<'_, u32> {
        self.ask(move |connection| fill(connection).boxed())
    }

    fn home_put<'a>(&'a self, home: &'a TextHome) -> Answer<'a, ()> {
        let home = home.clone();
        self.ask(move |connection| async move { put(connection, &home).await }.boxed())
    }

    fn homes(&self) -> Answer<'_, Vec<TextHome>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_as("SELECT id, place, seen_at, until FROM text_home ORDER BY id");
                let rows: Vec<Row> = query.fetch_all(connection).await?;
                rows.into_iter().map(read).collect()
            }
            .boxed()
        })
    }
}

async fn fill(connection: &mut PgConnection) -> Result<u32, StoreError> {
    let sql = "SELECT leaf, bytes FROM chain WHERE subject IS NULL LIMIT $1";
    let query = sqlx::query_as(sql).bind(i64::from(FILL_MAX));
    let chains: Vec<(Vec<u8>, Vec<u8>)> = query.fetch_all(&mut *connection).await?;
    let subjects: Vec<String> = chains.iter().map(|(_, bytes)| subject_of(bytes)).collect();
    let leaves: Vec<Vec<u8>> = chains.into_iter().map(|(leaf, _)| leaf).collect();
    let sql = "UPDATE chain SET subject = k.subject FROM UNNEST($1::BYTEA[], $2::TEXT[]) AS k (leaf, subject) \
               WHERE chain.leaf = k.leaf";
    sqlx::query(sql).bind(&leaves).bind(&subjects).execute(connection).await?;
    Ok(u32::try_from(leaves.len()).expect("at most FILL_MAX"))
}

async fn put(connection: &mut PgConnection, home: &TextHome) -> Result<(), StoreError> {
    let mut tx = connection.begin().await?;
    // The row of news is locked first: whoever counts beside counts after.
    sqlx::query("UPDATE spend_fence SET news = news + 0").execute(&mut *tx).await?;
    let now = int(home.seen_at.seconds());
    let over = int(home.seen_at.minus(UNHEARD_S).seconds());
    let query = sqlx::query("DELETE FROM text_home WHERE until <= $1 OR id = $2").bind(over).bind(&home.id);
    query.execute(&mut *tx).await?;
    if home.until > home.seen_at {
        let others: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM text_home").fetch_one(&mut *tx).await?;
        if usize::try_from(others).is_ok_and(|others| others >= HOMES_MAX) {
            return Err(too_many());
        }
        let query = sqlx::query("INSERT INTO text_home (id, place, seen_at, until) VALUES ($1, $2, $3, $4)");
        let query = query.bind(&home.id).bind(place(home)).bind(now).bind(int(home.until.seconds()));
        query.execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

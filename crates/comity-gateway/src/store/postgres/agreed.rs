//! Terms of use and agreements in PostgreSQL. Each is news: the other gateways read it again.

use comity_wire::{Digest, Timestamp};
use futures::FutureExt as _;
use sqlx::Connection as _;

use super::super::Answer;
use super::super::agreed::{AGREEMENTS_MAX, Agreed, Agreements, Row, Short, TERMS_MAX, agreed, most, short};
use super::super::agreed::{too_many, too_many_terms};
use super::rows::int;
use super::{Postgres, digest};

impl Agreements for Postgres {
    fn terms_put(&self, id: Digest, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                // The row of news is locked first: whoever counts beside counts after.
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(&mut *tx).await?;
                let sql = "INSERT INTO terms_of_use (id, bytes, at) SELECT $1, $2, $3 \
                           WHERE (SELECT COUNT(*) FROM terms_of_use) < $4 ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(digest(&id)).bind(bytes).bind(int(at.seconds()));
                query.bind(most(TERMS_MAX)).execute(&mut *tx).await?;
                let there = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM terms_of_use WHERE id = $1");
                let there = there.bind(digest(&id)).fetch_one(&mut *tx).await?;
                // What is refused is no news.
                if there != 1 {
                    tx.rollback().await?;
                    return Err(too_many_terms());
                }
                tx.commit().await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn terms(&self) -> Answer<'_, Vec<Vec<u8>>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_scalar("SELECT bytes FROM terms_of_use ORDER BY at, id LIMIT $1");
                Ok(query.bind(most(TERMS_MAX)).fetch_all(connection).await?)
            }
            .boxed()
        })
    }

    fn agreement_put(&self, agreed: Agreed) -> Answer<'_, ()> {
        self.ask(move |connection| {
            let Agreed { subject, terms, bytes, token, at } = agreed;
            async move {
                let mut tx = connection.begin().await?;
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(&mut *tx).await?;
                let sql = "INSERT INTO agreement (subject, terms, bytes, token, at) SELECT $1, $2, $3, $4, $5 \
                           WHERE (SELECT COUNT(*) FROM agreement) < $6 ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(&subject).bind(digest(&terms)).bind(bytes).bind(token);
                query.bind(int(at.seconds())).bind(most(AGREEMENTS_MAX)).execute(&mut *tx).await?;
                let sql = "SELECT COUNT(*) FROM agreement WHERE subject = $1 AND terms = $2";
                let there = sqlx::query_scalar::<_, i64>(sql).bind(&subject).bind(digest(&terms));
                let there = there.fetch_one(&mut *tx).await?;
                if there != 1 {
                    tx.rollback().await?;
                    return Err(too_many());
                }
                tx.commit().await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn agreements(&self) -> Answer<'_, Vec<(String, Digest, Timestamp)>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT subject, terms, at FROM agreement ORDER BY at, subject, terms LIMIT $1";
                let rows: Vec<Short> = sqlx::query_as(sql).bind(most(AGREEMENTS_MAX)).fetch_all(connection).await?;
                rows.into_iter().map(short).collect()
            }
            .boxed()
        })
    }

    fn agreements_of<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<Agreed>> {
        let subject = subject.to_owned();
        self.ask(move |connection| {
            async move {
                let sql = "SELECT subject, terms, bytes, token, at FROM agreement WHERE subject = $1 \
                           ORDER BY at DESC, terms LIMIT $2";
                let rows: Vec<Row> =
                    sqlx::query_as(sql).bind(subject).bind(most(TERMS_MAX)).fetch_all(connection).await?;
                rows.into_iter().map(agreed).collect()
            }
            .boxed()
        })
    }
}

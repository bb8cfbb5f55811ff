//! Terms of use and agreements in SQLite.

use comity_wire::{Digest, Timestamp};
use futures::FutureExt as _;

use super::{Sqlite, digest, int};
use crate::store::Answer;
use crate::store::agreed::{AGREEMENTS_MAX, Agreed, Agreements, Row, Short, TERMS_MAX, agreed, most, short};
use crate::store::agreed::{too_many, too_many_terms};

impl Agreements for Sqlite {
    fn terms_put(&self, id: Digest, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query(
                "INSERT INTO terms_of_use (id, bytes, at) SELECT ?1, ?2, ?3 FROM spend_fence WHERE fence = ?4 \
                 AND (SELECT COUNT(*) FROM terms_of_use) < ?5 ON CONFLICT DO NOTHING",
            );
            let query = query.bind(digest(&id)).bind(bytes).bind(int(at.seconds())).bind(self.fence);
            query.bind(most(TERMS_MAX)).execute(&mut *writer).await?;
            let there = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM terms_of_use WHERE id = ?");
            let there = there.bind(digest(&id)).fetch_one(&mut *writer).await?;
            if there == 1 { Ok(()) } else { Err(too_many_terms()) }
        }
        .boxed()
    }

    fn terms(&self) -> Answer<'_, Vec<Vec<u8>>> {
        async move {
            let query = sqlx::query_scalar("SELECT bytes FROM terms_of_use ORDER BY at, id LIMIT ?");
            Ok(query.bind(most(TERMS_MAX)).fetch_all(&self.readers).await?)
        }
        .boxed()
    }

    fn agreement_put(&self, agreed: Agreed) -> Answer<'_, ()> {
        async move {
            let Agreed { subject, terms, bytes, token, at } = agreed;
            let mut writer = self.writer().await;
            let query = sqlx::query(
                "INSERT INTO agreement (subject, terms, bytes, token, at) SELECT ?1, ?2, ?3, ?4, ?5 FROM spend_fence \
                 WHERE fence = ?6 AND (SELECT COUNT(*) FROM agreement) < ?7 ON CONFLICT DO NOTHING",
            );
            let query = query.bind(&subject).bind(digest(&terms)).bind(bytes).bind(token).bind(int(at.seconds()));
            query.bind(self.fence).bind(most(AGREEMENTS_MAX)).execute(&mut *writer).await?;
            let there = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM agreement WHERE subject = ? AND terms = ?");
            let there = there.bind(&subject).bind(digest(&terms)).fetch_one(&mut *writer).await?;
            if there == 1 { Ok(()) } else { Err(too_many()) }
        }
        .boxed()
    }

    fn agreements(&self) -> Answer<'_, Vec<(String, Digest, Timestamp)>> {
        async move {
            let query = sqlx::query_as("SELECT subject, terms, at FROM agreement ORDER BY at, subject, terms LIMIT ?");
            let rows: Vec<Short> = query.bind(most(AGREEMENTS_MAX)).fetch_all(&self.readers).await?;
            rows.into_iter().map(short).collect()
        }
        .boxed()
    }

    fn agreements_of<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<Agreed>> {
        async move {
            let query = sqlx::query_as(
                "SELECT subject, terms, bytes, token, at FROM agreement WHERE subject = ? ORDER BY at DESC, terms LIMIT ?",
            );
            let rows: Vec<Row> =
                query.bind(subject.to_owned()).bind(most(TERMS_MAX)).fetch_all(&self.readers).await?;
            rows.into_iter().map(agreed).collect()
        }
        .boxed()
    }
}

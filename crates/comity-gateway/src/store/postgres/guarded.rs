//! The guard's tables in PostgreSQL, shared by all gateways of the node.

use comity_guard::volume::{Counted, Delta};
use comity_wire::Timestamp;
use futures::FutureExt as _;
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, Row as _};

use super::Postgres;
use super::rows::int;
use crate::store::guarded::{SUSPENSIONS_MAX, Suspension, VOLUME_ROWS_MAX, category, known};
use crate::store::stops::{SaidAct, Target, Word};
use crate::store::{Answer, Guarded, StoreError};

impl Guarded for Postgres {
    fn volume<'a>(&'a self, subject: &'a str, from: u32) -> Answer<'a, Vec<(Counted, u32, u64)>> {
        let subject = subject.to_owned();
        self.ask(move |connection| {
            async move {
                let sql = "SELECT counted, hour, count FROM volume WHERE subject = $1 AND hour >= $2 \
                           ORDER BY hour DESC LIMIT $3";
                let query = sqlx::query(sql).bind(subject).bind(i64::from(from)).bind(VOLUME_ROWS_MAX);
                let rows = query.fetch_all(connection).await?;
                let row = |row: &PgRow| -> Result<_, StoreError> {
                    Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?))
                };
                let rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
                Ok(rows.into_iter().filter_map(known).collect())
            }
            .boxed()
        })
    }

    fn volume_add<'a>(&'a self, deltas: &'a [Delta]) -> Answer<'a, ()> {
        // In the order of the key: two gateways that add at once then wait for each other in one order.
        let mut deltas: Vec<&Delta> = deltas.iter().collect();
        deltas.sort_by_key(|delta| (&delta.project, delta.counted.number(), delta.hour));
        let subjects: Vec<String> = deltas.iter().map(|delta| delta.project.clone()).collect();
        let numbers = |number: fn(&Delta) -> i64| deltas.iter().map(|delta| number(delta)).collect::<Vec<i64>>();
        let counted = numbers(|delta| i64::from(delta.counted.number()));
        let (hours, counts) = (numbers(|delta| i64::from(delta.hour)), numbers(|delta| i64::from(delta.count)));
        self.ask(move |connection| {
            async move {
                let sql = "INSERT INTO volume (subject, counted, hour, count) \
                           SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) \
                           ON CONFLICT (subject, counted, hour) DO UPDATE SET count = volume.count + excluded.count";
                let mut tx = connection.begin().await?;
                sqlx::query(sql).bind(subjects).bind(counted).bind(hours).bind(counts).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn volume_forget(&self, before: u32) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("DELETE FROM volume WHERE hour < $1").bind(i64::from(before));
                query.execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn suspensions(&self) -> Answer<'_, Vec<Suspension>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT subject, category, rule, at FROM suspension ORDER BY at, subject LIMIT $1";
                let query = sqlx::query(sql).bind(i64::try_from(SUSPENSIONS_MAX).expect("small"));
                let row = |row: &PgRow| {
                    Ok(Suspension {
                        subject: row.try_get(0)?,
                        category: category(row.try_get(1)?),
                        rule: row.try_get(2)?,
                        at: Timestamp(u64::try_from(row.try_get::<i64, _>(3)?).unwrap_or(0)),
                    })
                };
                query.fetch_all(connection).await?.iter().map(row).collect()
            }
            .boxed()
        })
    }

    fn suspension_put<'a>(&'a self, suspension: &'a Suspension) -> Answer<'a, ()> {
        let suspension = suspension.clone();
        self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                let sql = "INSERT INTO suspension (subject, category, rule, at) VALUES ($1, $2, $3, $4) \
                           ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(suspension.subject).bind(i64::from(suspension.category.number()));
                query.bind(suspension.rule).bind(int(suspension.at.seconds())).execute(&mut *tx).await?;
                // Every gateway reads again who is suspended.
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn suspension_end<'a>(&'a self, subject: &'a str, word: Option<&'a Word>) -> Answer<'a, bool> {
        let (subject, word) = (subject.to_owned(), word.cloned());
        self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                // Its lock puts the lines of the operator's log in order.
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(&mut *tx).await?;
                let query = sqlx::query("DELETE FROM suspension WHERE subject = $1").bind(subject.clone());
                let ended = query.execute(&mut *tx).await?.rows_affected() == 1;
                if let Some(word) = word.filter(|_| ended) {
                    super::stops::say(&mut tx, SaidAct::Lifted, &Target::Project(subject), &word).await?;
                }
                tx.commit().await?;
                Ok(ended)
            }
            .boxed()
        })
    }
}

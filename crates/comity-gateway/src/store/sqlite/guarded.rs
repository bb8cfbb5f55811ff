//! The guard's tables in SQLite.

use comity_guard::volume::{Counted, Delta};
use comity_wire::Timestamp;
use futures::FutureExt as _;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};

use super::{Sqlite, int};
use crate::store::guarded::{SUSPENSIONS_MAX, Suspension, VOLUME_ROWS_MAX, category, known};
use crate::store::stops::{SaidAct, Target, Word};
use crate::store::{Answer, Guarded, StoreError};

impl Guarded for Sqlite {
    fn volume<'a>(&'a self, subject: &'a str, from: u32) -> Answer<'a, Vec<(Counted, u32, u64)>> {
        async move {
            let query = sqlx::query(
                "SELECT counted, hour, count FROM volume WHERE subject = ? AND hour >= ? ORDER BY hour DESC LIMIT ?",
            );
            let query = query.bind(subject.to_owned()).bind(i64::from(from)).bind(VOLUME_ROWS_MAX);
            let rows = query.fetch_all(&self.readers).await?;
            let row = |row: &sqlx::sqlite::SqliteRow| -> Result<_, StoreError> {
                Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?))
            };
            let rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
            Ok(rows.into_iter().filter_map(known).collect())
        }
        .boxed()
    }

    fn volume_add<'a>(&'a self, deltas: &'a [Delta]) -> Answer<'a, ()> {
        async move {
            let mut writer = self.writer().await;
            let added = add(&mut writer, deltas, self.fence).await;
            self.mend(&mut writer, &added).await;
            drop(writer);
            added?;
            self.checkpoints.written(deltas.len());
            Ok(())
        }
        .boxed()
    }

    fn volume_forget(&self, before: u32) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query("DELETE FROM volume WHERE hour < ? AND (SELECT fence FROM spend_fence) = ?");
            query.bind(i64::from(before)).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn suspensions(&self) -> Answer<'_, Vec<Suspension>> {
        async move {
            let query = sqlx::query("SELECT subject, category, rule, at FROM suspension ORDER BY at, subject LIMIT ?");
            let rows = query.bind(i64::try_from(SUSPENSIONS_MAX).expect("small")).fetch_all(&self.readers).await?;
            let row = |row: &sqlx::sqlite::SqliteRow| {
                Ok(Suspension {
                    subject: row.try_get(0)?,
                    category: category(row.try_get(1)?),
                    rule: row.try_get(2)?,
                    at: Timestamp(u64::try_from(row.try_get::<i64, _>(3)?).unwrap_or(0)),
                })
            };
            rows.iter().map(row).collect()
        }
        .boxed()
    }

    fn suspension_put<'a>(&'a self, suspension: &'a Suspension) -> Answer<'a, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query(
                "INSERT INTO suspension (subject, category, rule, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            );
            let query = query.bind(suspension.subject.clone()).bind(i64::from(suspension.category.number()));
            query.bind(suspension.rule.clone()).bind(int(suspension.at.seconds())).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn suspension_end<'a>(&'a self, subject: &'a str, word: Option<&'a Word>) -> Answer<'a, bool> {
        async move {
            let mut writer = self.writer().await;
            let ended = end(&mut writer, subject, word).await;
            self.mend(&mut writer, &ended).await;
            ended
        }
        .boxed()
    }
}

async fn end(writer: &mut SqliteConnection, subject: &str, word: Option<&Word>) -> Result<bool, StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let query = sqlx::query("DELETE FROM suspension WHERE subject = ?").bind(subject.to_owned());
    let ended = query.execute(&mut *tx).await?.rows_affected() == 1;
    if let Some(word) = word.filter(|_| ended) {
        super::stops::say(&mut tx, SaidAct::Lifted, &Target::Project(subject.to_owned()), word).await?;
    }
    tx.commit().await?;
    Ok(ended)
}

async fn add(writer: &mut SqliteConnection, deltas: &[Delta], fence: i64) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    for delta in deltas {
        let query = sqlx::query(
            "INSERT INTO volume (subject, counted, hour, count) SELECT ?, ?, ?, ? FROM spend_fence WHERE fence = ? \
             ON CONFLICT (subject, counted, hour) DO UPDATE SET count = count + excluded.count",
        );
        let query = query.bind(delta.project.clone()).bind(i64::from(delta.counted.number()));
        let query = query.bind(i64::from(delta.hour)).bind(i64::from(delta.count)).bind(fence);
        if query.execute(&mut *tx).await?.rows_affected() != 1 {
            return Err(StoreError::Fenced);
        }
    }
    Ok(tx.commit().await?)
}

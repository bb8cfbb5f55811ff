//! Experiment plans and their executions in PostgreSQL.

use std::collections::BTreeMap;

use comity_wire::{Digest, Timestamp};
use futures::FutureExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::super::planned::{PLANS_MAX, counted, run, too_many};
use super::super::{Answer, Planned, StoreError};
use super::rows::int;
use super::{Postgres, digest};
use crate::spend::{RunKey, RunRow};

impl Planned for Postgres {
    fn plan_put(&self, id: Digest, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                // The row of news is locked first: whoever counts beside counts after.
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(&mut *tx).await?;
                let most = i64::try_from(PLANS_MAX).expect("a small number");
                let sql = "INSERT INTO experiment_plan (id, bytes, at) SELECT $1, $2, $3 \
                           WHERE (SELECT COUNT(*) FROM experiment_plan) < $4 ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(digest(&id)).bind(bytes).bind(int(at.seconds())).bind(most);
                query.execute(&mut *tx).await?;
                let there = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM experiment_plan WHERE id = $1");
                let there = there.bind(digest(&id)).fetch_one(&mut *tx).await?;
                tx.commit().await?;
                if there == 1 { Ok(()) } else { Err(too_many()) }
            }
            .boxed()
        })
    }

    fn plans(&self) -> Answer<'_, Vec<Vec<u8>>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_scalar("SELECT bytes FROM experiment_plan ORDER BY at, id LIMIT $1");
                Ok(query.bind(i64::try_from(PLANS_MAX).expect("a small number")).fetch_all(connection).await?)
            }
            .boxed()
        })
    }

    fn runs<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(RunKey, RunRow)>> {
        let subject = subject.to_owned();
        self.ask(move |connection| async move { runs(connection, &[subject]).await }.boxed())
    }

    /// What has ended has ended for every gateway: no fence is compared.
    fn runs_forget(&self, before: Timestamp) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("DELETE FROM plan_run WHERE ends < $1").bind(int(before.seconds()));
                query.execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }
}

/// Those of several projects.
pub(super) async fn runs(
    connection: &mut PgConnection,
    subjects: &[String],
) -> Result<Vec<(RunKey, RunRow)>, StoreError> {
    let sql = "SELECT subject, grant_id, run, op, begun, ends, calls, input_tokens, output_tokens FROM plan_run \
               WHERE subject = ANY($1)";
    let rows = sqlx::query(sql).bind(subjects).fetch_all(connection).await?;
    let read = |row: &sqlx::postgres::PgRow| {
        let subject: String = row.try_get(0)?;
        let columns = (
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
            row.try_get(4)?,
            row.try_get(5)?,
            row.try_get(6)?,
            row.try_get(7)?,
            row.try_get(8)?,
        );
        run(&subject, columns)
    };
    rows.iter().map(read).collect()
}

/// Joins the transaction of the charges that count there, under the subjects' locks.
pub(super) async fn runs_put(tx: &mut PgConnection, runs: &BTreeMap<&RunKey, &RunRow>) -> Result<(), StoreError> {
    if runs.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO plan_run (subject, grant_id, run, op, begun, ends, calls, input_tokens, output_tokens) \
               SELECT * FROM UNNEST($1::TEXT[], $2::BYTEA[], $3::TEXT[], $4::BIGINT[], $5::BIGINT[], $6::BIGINT[], \
               $7::BIGINT[], $8::BIGINT[], $9::BIGINT[]) \
               ON CONFLICT (subject, grant_id, run, op) DO UPDATE SET begun = excluded.begun, calls = excluded.calls, \
               input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens";
    let numbers = |number: fn(&RunRow) -> i64| runs.values().map(|row| number(row)).collect::<Vec<i64>>();
    sqlx::query(sql)
        .bind(runs.keys().map(|key| key.subject.clone()).collect::<Vec<_>>())
        .bind(runs.keys().map(|key| key.grant.0.to_vec()).collect::<Vec<_>>())
        .bind(runs.keys().map(|key| key.run.to_string()).collect::<Vec<_>>())
        .bind(runs.keys().map(|key| i64::from(key.op.number())).collect::<Vec<_>>())
        .bind(numbers(|row| int(row.begun.seconds())))
        .bind(numbers(|row| int(row.until.seconds())))
        .bind(numbers(|row| counted(row.used.calls)))
        .bind(numbers(|row| counted(row.used.input_tokens)))
        .bind(numbers(|row| counted(row.used.output_tokens)))
        .execute(tx)
        .await?;
    Ok(())
}

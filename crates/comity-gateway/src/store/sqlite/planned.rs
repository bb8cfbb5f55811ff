//! Experiment plans and their executions in SQLite.

use comity_wire::{Digest, Timestamp};
use futures::FutureExt as _;

use super::{Sqlite, digest, int};
use crate::spend::{RunKey, RunRow};
use crate::store::planned::{PLANS_MAX, Row, run, too_many};
use crate::store::{Answer, Planned};

impl Planned for Sqlite {
    fn plan_put(&self, id: Digest, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let most = i64::try_from(PLANS_MAX).expect("a small number");
            let query = sqlx::query(
                "INSERT INTO experiment_plan (id, bytes, at) SELECT ?1, ?2, ?3 FROM spend_fence WHERE fence = ?4 \
                 AND (SELECT COUNT(*) FROM experiment_plan) < ?5 ON CONFLICT DO NOTHING",
            );
            let query = query.bind(digest(&id)).bind(bytes).bind(int(at.seconds())).bind(self.fence).bind(most);
            query.execute(&mut *writer).await?;
            let there = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM experiment_plan WHERE id = ?");
            let there = there.bind(digest(&id)).fetch_one(&mut *writer).await?;
            if there == 1 { Ok(()) } else { Err(too_many()) }
        }
        .boxed()
    }

    fn plans(&self) -> Answer<'_, Vec<Vec<u8>>> {
        async move {
            let query = sqlx::query_scalar("SELECT bytes FROM experiment_plan ORDER BY at, id LIMIT ?");
            let most = i64::try_from(PLANS_MAX).expect("a small number");
            Ok(query.bind(most).fetch_all(&self.readers).await?)
        }
        .boxed()
    }

    fn runs<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(RunKey, RunRow)>> {
        async move {
            let query = sqlx::query_as(
                "SELECT grant_id, run, op, begun, ends, calls, input_tokens, output_tokens FROM plan_run WHERE subject = ?",
            );
            let rows: Vec<Row> = query.bind(subject.to_owned()).fetch_all(&self.readers).await?;
            rows.into_iter().map(|row| run(subject, row)).collect()
        }
        .boxed()
    }

    fn runs_forget(&self, before: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query("DELETE FROM plan_run WHERE ends < ? AND (SELECT fence FROM spend_fence) = ?");
            query.bind(int(before.seconds())).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }
}

//! Credit notes in SQLite.

use comity_wire::{CreditNoteId, OrgId, Timestamp, TokenId};
use futures::FutureExt as _;

use super::{Sqlite, int};
use crate::store::credited::{COLUMNS, CREDITS_MAX, HouseSaid, Noted, Row, noted, said_columns, too_many};
use crate::store::{Answer, Credited};

impl Credited for Sqlite {
    fn credit_put<'a>(&'a self, note: &'a Noted) -> Answer<'a, ()> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query(
                "INSERT INTO credit_note (id, house, token, amount, reason, case_link, author, at, state) \
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0 FROM spend_fence WHERE fence = ?9 \
                 AND (SELECT COUNT(*) FROM credit_note) < ?10 ON CONFLICT DO NOTHING",
            );
            let query = query.bind(note.id.0.to_vec()).bind(note.house.0.to_vec()).bind(note.token.0.to_vec());
            let query = query.bind(note.amount.ucr()).bind(i64::from(note.reason.number()));
            let query = query.bind(note.case.map(|case| case.0.to_vec())).bind(note.author.clone());
            let most = i64::try_from(CREDITS_MAX).expect("a small number");
            query.bind(int(note.at.seconds())).bind(self.fence).bind(most).execute(&mut *writer).await?;
            let there = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM credit_note WHERE id = ?");
            let there = there.bind(note.id.0.to_vec()).fetch_one(&mut *writer).await?;
            if there == 1 { Ok(()) } else { Err(too_many()) }
        }
        .boxed()
    }

    fn credit_said<'a>(&'a self, id: CreditNoteId, said: &'a HouseSaid) -> Answer<'a, ()> {
        async move {
            let (state, content, booked_at, code, message) = said_columns(said);
            let mut writer = self.writer().await;
            let query = sqlx::query(
                "UPDATE credit_note SET state = ?, content = ?, booked_at = ?, code = ?, message = ? \
                 WHERE id = ? AND (SELECT fence FROM spend_fence) = ?",
            );
            let query = query.bind(state).bind(content).bind(booked_at).bind(code).bind(message);
            query.bind(id.0.to_vec()).bind(self.fence).execute(&mut *writer).await?;
            Ok(())
        }
        .boxed()
    }

    fn credits_again(&self, house: OrgId, since: Timestamp) -> Answer<'_, u64> {
        async move {
            let mut writer = self.writer().await;
            let query = sqlx::query(
                "UPDATE credit_note SET state = 0, content = NULL, booked_at = NULL \
                 WHERE house = ? AND state = 1 AND booked_at >= ? AND (SELECT fence FROM spend_fence) = ?",
            );
            let query = query.bind(house.0.to_vec()).bind(int(since.seconds())).bind(self.fence);
            Ok(query.execute(&mut *writer).await?.rows_affected())
        }
        .boxed()
    }

    fn credits_waiting(&self, limit: u32) -> Answer<'_, Vec<Noted>> {
        async move {
            let sql = format!("SELECT {COLUMNS} FROM credit_note WHERE state = 0 ORDER BY at, id LIMIT ?");
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(i64::from(limit));
            let rows: Vec<Row> = query.fetch_all(&self.readers).await?;
            rows.into_iter().map(noted).collect()
        }
        .boxed()
    }

    fn credits(&self, token: Option<TokenId>, limit: u32) -> Answer<'_, Vec<Noted>> {
        async move {
            let of = if token.is_some() { "WHERE token = ?1" } else { "WHERE ?1 IS NULL" };
            let sql = format!("SELECT {COLUMNS} FROM credit_note {of} ORDER BY at DESC, id DESC LIMIT ?2");
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(token.map(|token| token.0.to_vec()));
            let rows: Vec<Row> = query.bind(i64::from(limit)).fetch_all(&self.readers).await?;
            rows.into_iter().map(noted).collect()
        }
        .boxed()
    }
}

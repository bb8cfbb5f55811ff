//! Credit notes in PostgreSQL.

use comity_wire::{CreditNoteId, OrgId, Timestamp, TokenId};
use futures::FutureExt as _;
use sqlx::Connection as _;

use super::super::credited::{COLUMNS, CREDITS_MAX, HouseSaid, Noted, Row, noted, said_columns, too_many};
use super::super::{Answer, Credited};
use super::Postgres;
use super::rows::int;

impl Credited for Postgres {
    fn credit_put<'a>(&'a self, note: &'a Noted) -> Answer<'a, ()> {
        let note = note.clone();
        self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                // The row of news is locked first: whoever counts beside counts after.
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(&mut *tx).await?;
                let sql = "INSERT INTO credit_note (id, house, token, amount, reason, case_link, author, at, state) \
                           SELECT $1, $2, $3, $4, $5, $6, $7, $8, 0 WHERE (SELECT COUNT(*) FROM credit_note) < $9 \
                           ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(note.id.0.to_vec()).bind(note.house.0.to_vec());
                let query = query.bind(note.token.0.to_vec()).bind(note.amount.ucr());
                let query = query.bind(i64::from(note.reason.number())).bind(note.case.map(|case| case.0.to_vec()));
                let most = i64::try_from(CREDITS_MAX).expect("a small number");
                let query = query.bind(note.author.clone()).bind(int(note.at.seconds())).bind(most);
                query.execute(&mut *tx).await?;
                let there = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM credit_note WHERE id = $1");
                let there = there.bind(note.id.0.to_vec()).fetch_one(&mut *tx).await?;
                tx.commit().await?;
                if there == 1 { Ok(()) } else { Err(too_many()) }
            }
            .boxed()
        })
    }

    /// What a house says it says to every gateway: no fence is compared.
    fn credit_said<'a>(&'a self, id: CreditNoteId, said: &'a HouseSaid) -> Answer<'a, ()> {
        let (state, content, booked_at, code, message) = said_columns(said);
        self.ask(move |connection| {
            async move {
                let sql = "UPDATE credit_note SET state = $1, content = $2, booked_at = $3, code = $4, message = $5 \
                           WHERE id = $6";
                let query = sqlx::query(sql).bind(state).bind(content).bind(booked_at).bind(code).bind(message);
                query.bind(id.0.to_vec()).execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn credits_again(&self, house: OrgId, since: Timestamp) -> Answer<'_, u64> {
        self.ask(move |connection| {
            async move {
                let sql = "UPDATE credit_note SET state = 0, content = NULL, booked_at = NULL \
                           WHERE house = $1 AND state = 1 AND booked_at >= $2";
                let query = sqlx::query(sql).bind(house.0.to_vec()).bind(int(since.seconds()));
                Ok(query.execute(connection).await?.rows_affected())
            }
            .boxed()
        })
    }

    fn credits_waiting(&self, limit: u32) -> Answer<'_, Vec<Noted>> {
        self.ask(move |connection| {
            async move {
                let sql = format!("SELECT {COLUMNS} FROM credit_note WHERE state = 0 ORDER BY at, id LIMIT $1");
                let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(i64::from(limit));
                let rows: Vec<Row> = query.fetch_all(connection).await?;
                rows.into_iter().map(noted).collect()
            }
            .boxed()
        })
    }

    fn credits(&self, token: Option<TokenId>, limit: u32) -> Answer<'_, Vec<Noted>> {
        self.ask(move |connection| {
            async move {
                let of = "WHERE $1::BYTEA IS NULL OR token = $1";
                let sql = format!("SELECT {COLUMNS} FROM credit_note {of} ORDER BY at DESC, id DESC LIMIT $2");
                let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(token.map(|token| token.0.to_vec()));
                let rows: Vec<Row> = query.bind(i64::from(limit)).fetch_all(connection).await?;
                rows.into_iter().map(noted).collect()
            }
            .boxed()
        })
    }
}

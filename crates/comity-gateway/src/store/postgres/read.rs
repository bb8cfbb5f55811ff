//! What is read outside of rounds, and accounts, which rounds read too.

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_wire::{Digest, GrantId, OrgId, Timestamp, TokenId};
use futures::FutureExt as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use super::super::{Answer, GRANTS_MAX, Needs, Rounds, Store, StoreError, StoredCharge, withdrawn};
use super::rows::{self, int};
use super::{Postgres, digest, id};
use crate::spend::{Account, LaneKey, Pace, Rule, SEQ_SPAN, Slot, Write};

/// Brings accounts up to date: of each token what changed after the version beside it.
pub(super) async fn accounts(
    connection: &mut PgConnection,
    after: &[(TokenId, i64)],
    accounts: &mut BTreeMap<TokenId, Account>,
) -> Result<(), StoreError> {
    let tokens: Vec<Vec<u8>> = after.iter().map(|(token, _)| id(token)).collect();
    let versions: Vec<i64> = after.iter().map(|(_, version)| *version).collect();
    let sql = "SELECT token, closed, final, claims, pending FROM token WHERE token = ANY($1)";
    for row in &sqlx::query(sql).bind(&tokens).fetch_all(&mut *connection).await? {
        let account = of(row, accounts)?;
        account.closed = row.try_get("closed")?;
        account.final_ = row.try_get("final")?;
        account.claims = rows::uint(row, "claims")?;
        account.pending = row.try_get("pending")?;
    }
    let sql = "SELECT token, at FROM superseded WHERE token = ANY($1)";
    for row in &sqlx::query(sql).bind(&tokens).fetch_all(&mut *connection).await? {
        of(row, accounts)?.superseded.insert(rows::digest(row, "at")?);
    }
    let sql = "SELECT token, leaf, lane, seq, item, created FROM asked WHERE token = ANY($1)";
    for row in &sqlx::query(sql).bind(&tokens).fetch_all(&mut *connection).await? {
        let created = Timestamp(rows::uint(row, "created")?);
        of(row, accounts)?.asked(rows::key(row)?, rows::slot(row)?, created);
    }
    let sql = "SELECT s.token, s.id, s.amount FROM spent s \
               JOIN UNNEST($1::BYTEA[], $2::BIGINT[]) AS k (token, version) ON s.token = k.token AND s.version > k.version";
    for row in &sqlx::query(sql).bind(&tokens).bind(&versions).fetch_all(&mut *connection).await? {
        let account = of(row, accounts)?;
        account.spent.insert(rows::digest(row, "id")?, rows::amount(row, "amount")?);
    }
    let sql = "SELECT l.* FROM lane l \
               JOIN UNNEST($1::BYTEA[], $2::BIGINT[]) AS k (token, version) ON l.token = k.token AND l.version > k.version";
    for row in &sqlx::query(sql).bind(&tokens).bind(&versions).fetch_all(&mut *connection).await? {
        let account = of(row, accounts)?;
        account.lanes.insert(rows::key(row)?, Arc::new(rows::lane(row)?));
    }
    let sql = "SELECT c.token, c.leaf, c.lane, c.seq, c.item, c.n, c.authority, c.total, c.receipt_id FROM lane l \
               JOIN UNNEST($1::BYTEA[], $2::BIGINT[]) AS k (token, version) ON l.token = k.token AND l.version > k.version \
               JOIN charge c ON c.token = l.token AND c.leaf = l.leaf AND c.lane = l.lane \
               AND (c.seq > l.seq_highest - $3 OR c.n = l.n)";
    let recent = sqlx::query(sql).bind(&tokens).bind(&versions).bind(int(SEQ_SPAN));
    for row in &recent.fetch_all(&mut *connection).await? {
        let account = of(row, accounts)?;
        let lane = account.lanes.get_mut(&rows::key(row)?).ok_or(StoreError::Unreadable { what: "lane" })?;
        Arc::make_mut(lane).recent.insert(rows::slot(row)?, rows::charged(row)?);
    }
    Ok(())
}

fn of<'a>(row: &PgRow, accounts: &'a mut BTreeMap<TokenId, Account>) -> Result<&'a mut Account, StoreError> {
    accounts.get_mut(&rows::token(row)?).ok_or(StoreError::Unreadable { what: "token" })
}

impl Store for Postgres {
    fn account(&self, token: TokenId) -> Answer<'_, Option<Account>> {
        self.ask(move |connection| {
            async move {
                // One snapshot: a round that commits meanwhile is seen whole or not at all.
                let mut tx = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                let sql = "SELECT root FROM token WHERE token = $1";
                let Some(row) = sqlx::query(sql).bind(id(&token)).fetch_optional(&mut *tx).await? else {
                    return Ok(None);
                };
                let mut found = BTreeMap::from([(token, Account::new(token, rows::digest(&row, "root")?))]);
                accounts(&mut tx, &[(token, -1)], &mut found).await?;
                tx.commit().await?;
                Ok(found.remove(&token))
            }
            .boxed()
        })
    }

    fn write<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, ()> {
        let writing = async move {
            let mut needs = Needs::default();
            for write in writes {
                let root = if let Write::Token { root, .. } = write { Some(*root) } else { None };
                if let Some(token) = super::write::token_of(write) {
                    let of_token = needs.tokens.entry(token).or_default();
                    *of_token = of_token.or(root);
                }
                match write {
                    Write::Pace { key, .. } => needs.subjects.insert(key.subject.clone()),
                    Write::Run { key, .. } => needs.subjects.insert(key.subject.clone()),
                    _ => false,
                };
            }
            let mut decide = |_: &mut crate::spend::Book| super::super::Decided {
                writes: writes.to_vec(),
                ..super::super::Decided::default()
            };
            self.round(&needs, &mut decide).await
        };
        writing.boxed()
    }

    fn charge(&self, token: TokenId, key: LaneKey, slot: Slot) -> Answer<'_, Option<StoredCharge>> {
        self.ask(move |connection| {
            async move {
                let sql =
                    "SELECT * FROM charge WHERE token = $1 AND leaf = $2 AND lane = $3 AND seq = $4 AND item = $5";
                let query = sqlx::query(sql).bind(id(&token)).bind(digest(&key.leaf)).bind(i64::from(key.lane));
                let row = query.bind(int(slot.seq)).bind(i64::from(slot.item)).fetch_optional(connection).await?;
                row.map(|row| rows::charge(&row)).transpose()
            }
            .boxed()
        })
    }

    fn charge_by_n(&self, token: TokenId, key: LaneKey, n: u64) -> Answer<'_, Option<StoredCharge>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT * FROM charge WHERE token = $1 AND leaf = $2 AND lane = $3 AND n = $4";
                let query = sqlx::query(sql).bind(id(&token)).bind(digest(&key.leaf)).bind(i64::from(key.lane));
                query.bind(int(n)).fetch_optional(connection).await?.map(|row| rows::charge(&row)).transpose()
            }
            .boxed()
        })
    }

    fn history(&self, token: TokenId, key: LaneKey, count: u64) -> Answer<'_, Vec<Digest>> {
        self.ask(move |connection| {
            async move {
                let sql =
                    "SELECT receipt_id FROM charge WHERE token = $1 AND leaf = $2 AND lane = $3 AND n <= $4 ORDER BY n";
                let query = sqlx::query(sql).bind(id(&token)).bind(digest(&key.leaf)).bind(i64::from(key.lane));
                let rows = query.bind(int(count)).fetch_all(connection).await?;
                rows.iter().map(|row| rows::digest(row, "receipt_id")).collect()
            }
            .boxed()
        })
    }

    fn chain(&self, leaf: Digest) -> Answer<'_, Option<Vec<u8>>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_scalar("SELECT bytes FROM chain WHERE leaf = $1").bind(digest(&leaf));
                Ok(query.fetch_optional(connection).await?)
            }
            .boxed()
        })
    }

    fn chains(&self, token: TokenId) -> Answer<'_, Vec<(Digest, Vec<u8>)>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("SELECT leaf, bytes FROM chain WHERE token = $1").bind(id(&token));
                let rows = query.fetch_all(connection).await?;
                rows.iter().map(|row| Ok((rows::digest(row, "leaf")?, row.try_get("bytes")?))).collect()
            }
            .boxed()
        })
    }

    fn acknowledgement(&self, token: TokenId, ack: Digest) -> Answer<'_, Option<Vec<u8>>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_scalar("SELECT bytes FROM acknowledgement WHERE token = $1 AND id = $2");
                Ok(query.bind(id(&token)).bind(digest(&ack)).fetch_optional(connection).await?)
            }
            .boxed()
        })
    }

    fn tokens_due(&self) -> Answer<'_, Vec<TokenId>> {
        self.ask(move |connection| {
            async move {
                let sql = "SELECT token FROM lane WHERE n > claimed_n OR acknowledged_n > claimed_acknowledged_n \
                       UNION SELECT token FROM token WHERE (closed AND NOT delivered) OR pending IS NOT NULL";
                let rows = sqlx::query(sql).fetch_all(connection).await?;
                rows.iter().map(rows::token).collect()
            }
            .boxed()
        })
    }

    /// What the house has answered is so whoever asked: no fence is compared.
    fn final_delivered(&self, token: TokenId) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("UPDATE token SET delivered = TRUE WHERE token = $1").bind(id(&token));
                query.execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn tokens(&self) -> Answer<'_, Vec<TokenId>> {
        self.ask(move |connection| {
            async move {
                let rows = sqlx::query("SELECT token FROM token").fetch_all(connection).await?;
                rows.iter().map(rows::token).collect()
            }
            .boxed()
        })
    }

    fn final_forgotten(&self, token: TokenId) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("UPDATE token SET delivered = FALSE WHERE token = $1").bind(id(&token));
                query.execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn house_restored(&self, house: OrgId) -> Answer<'_, Option<Timestamp>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_scalar::<_, i64>("SELECT restored_at FROM house WHERE org = $1");
                let at = query.bind(house.0.to_vec()).fetch_optional(connection).await?;
                Ok(at.map(|at| Timestamp(at.unsigned_abs())))
            }
            .boxed()
        })
    }

    fn house_restored_put(&self, house: OrgId, at: Timestamp) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query(
                    "INSERT INTO house (org, restored_at) VALUES ($1, $2) \
                     ON CONFLICT (org) DO UPDATE SET restored_at = excluded.restored_at",
                );
                query.bind(house.0.to_vec()).bind(int(at.seconds())).execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn is_final_delivered(&self, token: TokenId) -> Answer<'_, bool> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_scalar("SELECT delivered FROM token WHERE token = $1").bind(id(&token));
                Ok(query.fetch_optional(connection).await? == Some(true))
            }
            .boxed()
        })
    }

    fn paces<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(Rule, u32, Pace)>> {
        let subject = subject.to_owned();
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("SELECT * FROM pace WHERE subject = $1").bind(subject);
                query.fetch_all(connection).await?.iter().map(rows::pace).collect()
            }
            .boxed()
        })
    }

    /// What has ended has ended for every gateway: no fence is compared.
    fn paces_forget(&self, now: Timestamp) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("DELETE FROM pace WHERE begun + seconds <= $1").bind(int(now.seconds()));
                query.execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }

    /// What is stale is so for every gateway: no fence is compared.
    fn asked_forget(&self, before: Timestamp) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query("DELETE FROM asked WHERE created < $1").bind(int(before.seconds()));
                query.execute(connection).await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn grant_put(&self, grant: Digest, subject: String, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                let sql =
                    "INSERT INTO access_grant (id, subject, bytes, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(digest(&grant)).bind(subject).bind(bytes).bind(int(at.seconds()));
                query.execute(&mut *tx).await?;
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn grants(&self) -> Answer<'_, Vec<Vec<u8>>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_scalar("SELECT bytes FROM access_grant ORDER BY at, id LIMIT $1");
                Ok(query.bind(i64::try_from(GRANTS_MAX).expect("a small number")).fetch_all(connection).await?)
            }
            .boxed()
        })
    }

    fn grant_withdraw(&self, grant: GrantId, at: Timestamp) -> Answer<'_, ()> {
        self.ask(move |connection| {
            async move {
                let mut tx = connection.begin().await?;
                let query = sqlx::query("INSERT INTO grant_withdrawn (id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING");
                query.bind(grant.0.to_vec()).bind(int(at.seconds())).execute(&mut *tx).await?;
                sqlx::query("UPDATE spend_fence SET news = news + 1").execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }
            .boxed()
        })
    }

    fn grants_withdrawn(&self) -> Answer<'_, Vec<(GrantId, Timestamp)>> {
        self.ask(move |connection| {
            async move {
                let query = sqlx::query_as("SELECT id, at FROM grant_withdrawn ORDER BY at DESC, id LIMIT $1");
                let rows: Vec<(Vec<u8>, i64)> =
                    query.bind(i64::try_from(GRANTS_MAX).expect("a small number")).fetch_all(connection).await?;
                rows.into_iter().map(withdrawn).collect()
            }
            .boxed()
        })
    }

    fn rounds(&self) -> Option<&dyn Rounds> {
        Some(self)
    }
}

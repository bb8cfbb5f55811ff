//! Logins under way.

use comity_ledger::db::{Db, query};
use comity_wire::{PublicKey, Timestamp};

use super::{Cells, int, json, seconds};
use crate::failure::Failure;

/// A login as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) id: [u8; 16],
    pub(crate) key: PublicKey,
    pub(crate) issuer: String,
    pub(crate) mfa: bool,
    pub(crate) redirect: String,
    pub(crate) state: String,
    pub(crate) nonce: String,
    pub(crate) secret: String,
    pub(crate) interval_s: u64,
    pub(crate) polled_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) done_at: Option<Timestamp>,
    pub(crate) ignored: Vec<String>,
}

impl Login {
    /// Whether a browser on the caller's own computer does it.
    pub(crate) fn is_browsers(&self) -> bool {
        !self.redirect.is_empty()
    }
}

pub(crate) async fn login_find(conn: &mut Db<'_>, id: [u8; 16]) -> Result<Option<Login>, Failure> {
    let row = query("SELECT * FROM login WHERE id = ?").bind(id.to_vec()).fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(None) };
    let cells = Cells { table: "login", row: &row };
    Ok(Some(Login {
        id,
        key: cells.key("key")?,
        issuer: cells.text("issuer")?,
        mfa: cells.int("mfa")? == 1,
        redirect: cells.text("redirect")?,
        state: cells.text("state")?,
        nonce: cells.text("nonce")?,
        secret: cells.text("secret")?,
        interval_s: cells.uint("interval_s")?,
        polled_at: cells.time("polled_at")?,
        expires_at: cells.time("expires_at")?,
        done_at: cells.time_maybe("done_at")?,
        ignored: cells.json("ignored")?,
    }))
}

pub(crate) async fn login_insert_in_tx(conn: &mut Db<'_>, login: &Login) -> Result<(), Failure> {
    query(
        "INSERT INTO login (id, key, issuer, mfa, redirect, state, nonce, secret, interval_s, polled_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(login.id.to_vec())
    .bind(login.key.as_bytes().to_vec())
    .bind(&login.issuer)
    .bind(i64::from(login.mfa))
    .bind(&login.redirect)
    .bind(&login.state)
    .bind(&login.nonce)
    .bind(&login.secret)
    .bind(int(login.interval_s))
    .bind(seconds(login.polled_at))
    .bind(seconds(login.expires_at))
    .execute(conn)
    .await?;
    Ok(())
}

/// When it was asked for last, and how long it waits from now on.
pub(crate) async fn login_polled_in_tx(
    conn: &mut Db<'_>,
    id: [u8; 16],
    interval_s: u64,
    now: Timestamp,
) -> Result<(), Failure> {
    query("UPDATE login SET interval_s = ?, polled_at = ? WHERE id = ?")
        .bind(int(interval_s))
        .bind(seconds(now))
        .bind(id.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// It is done: its secrets are of no more use.
pub(crate) async fn login_done_in_tx(
    conn: &mut Db<'_>,
    id: [u8; 16],
    ignored: &[String],
    now: Timestamp,
) -> Result<(), Failure> {
    query("UPDATE login SET done_at = ?, ignored = ?, secret = '', state = '', nonce = '' WHERE id = ?")
        .bind(seconds(now))
        .bind(json(ignored))
        .bind(id.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets those whose time is over.
pub(crate) async fn logins_end_in_tx(conn: &mut Db<'_>, now: Timestamp) -> Result<(), Failure> {
    query("DELETE FROM login WHERE expires_at <= ?").bind(seconds(now)).execute(conn).await?;
    Ok(())
}

/// How many there are, and how many of them are this key's.
pub(crate) async fn logins_open(conn: &mut Db<'_>, key: &PublicKey) -> Result<(u64, u64), Failure> {
    let row = query("SELECT count(*) AS of_all, count(CASE WHEN key = ? THEN 1 END) AS of_key FROM login");
    let row = row.bind(key.as_bytes().to_vec()).fetch_one(conn).await?;
    let cells = Cells { table: "login", row: &row };
    Ok((cells.uint("of_all")?, cells.uint("of_key")?))
}

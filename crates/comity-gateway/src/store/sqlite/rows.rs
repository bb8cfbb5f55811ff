//! Rows of the tables that charges write to, and the calls that bring them there.

use std::collections::BTreeMap;

use comity_wire::cbor::Encode as _;
use sqlx::error::ErrorKind;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Sqlite as Db};

use super::planned;
use super::read::{digest, id, int};
use crate::spend::Write;
use crate::store::StoreError;

/// Tables that charges write to, in the order in which they refer to one another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rows {
    Spent,
    Lane,
    Charge,
    Pace,
    Run,
}

impl Rows {
    pub(super) const ALL: [Self; 5] = [Self::Spent, Self::Lane, Self::Charge, Self::Pace, Self::Run];

    pub(super) fn of(write: &Write) -> Option<Self> {
        match write {
            Write::Spent { .. } => Some(Self::Spent),
            Write::Lane { .. } => Some(Self::Lane),
            Write::Charge { .. } => Some(Self::Charge),
            Write::Pace { .. } => Some(Self::Pace),
            Write::Run { .. } => Some(Self::Run),
            _ => None,
        }
    }

    /// Rows of one statement. Each number of rows is a text of its own, which stays prepared.
    pub(super) const fn most(self) -> usize {
        match self {
            Self::Spent | Self::Pace | Self::Run => 4,
            Self::Lane | Self::Charge => 16,
        }
    }

    /// Before the rows, one row, after the rows.
    const fn sql(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Spent => (
                "INSERT INTO spent (token, id, amount) VALUES ",
                "(?, ?, ?)",
                // Sums only rise: one that fell was worked out from an older account. The column takes no null.
                " ON CONFLICT DO UPDATE SET amount = CASE WHEN excluded.amount >= amount THEN excluded.amount END; ",
            ),
            Self::Lane => (
                "INSERT INTO lane (token, leaf, lane, n, seq_highest, total, remainder, meters, flags, frontier, acknowledged_n, \
                 acknowledged, acknowledgement, claimed_n, claimed_acknowledged_n) VALUES ",
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                " ON CONFLICT DO UPDATE SET n = CASE WHEN excluded.n >= n THEN excluded.n END, seq_highest = excluded.seq_highest, total = excluded.total, \
                 remainder = excluded.remainder, meters = excluded.meters, flags = excluded.flags, frontier = excluded.frontier, \
                 acknowledged_n = excluded.acknowledged_n, acknowledged = excluded.acknowledged, \
                 acknowledgement = excluded.acknowledgement, claimed_n = excluded.claimed_n, \
                 claimed_acknowledged_n = excluded.claimed_acknowledged_n; ",
            ),
            Self::Charge => (
                "INSERT INTO charge (token, leaf, lane, seq, item, n, authority, charge, total, receipt_id, receipt, evidence, \
                 signature) VALUES ",
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "; ",
            ),
            Self::Pace => (
                "INSERT INTO pace (subject, policy, tier, op, seconds, begun, requests, tokens) VALUES ",
                "(?, ?, ?, ?, ?, ?, ?, ?)",
                " ON CONFLICT DO UPDATE SET begun = excluded.begun, requests = excluded.requests, tokens = excluded.tokens; ",
            ),
            Self::Run => planned::RUN_SQL,
        }
    }
}

/// The prepared texts that are kept: as many as there are numbers of rows in one call.
pub(super) const STATEMENTS_MAX: usize = 128;

/// Statements that go to the connection's thread together: to wake it, and be woken by it, costs more than they do. A batch of
/// charges of lanes that are known is one of them, from `BEGIN` to `COMMIT`: a statement that fails ends the call, so nothing
/// after it is run.
#[derive(Default)]
pub(super) struct Call<'w> {
    sql: String,
    fence: Option<i64>,
    last: Option<Rows>,
    rows: Vec<&'w Write>,
}

impl<'w> Call<'w> {
    /// Begins a transaction, and compares the fence: one that has moved on makes the column null, which the table refuses.
    pub(super) fn begin(fence: i64) -> Self {
        let sql =
            "BEGIN IMMEDIATE; UPDATE spend_fence SET commits = commits + 1, fence = CASE fence WHEN ? THEN fence END; ";
        Self { sql: sql.to_owned(), fence: Some(fence), ..Self::default() }
    }

    /// A table comes once, and none before one that it refers to.
    pub(super) fn takes(&self, rows: Rows) -> bool {
        self.last.is_none_or(|last| last < rows)
    }

    pub(super) fn add(&mut self, rows: Rows, writes: &[&'w Write]) {
        let (before, row, after) = rows.sql();
        self.sql.push_str(before);
        for number in 0..writes.len() {
            self.sql.push_str(if number > 0 { ", " } else { "" });
            self.sql.push_str(row);
        }
        self.sql.push_str(after);
        self.rows.extend_from_slice(writes);
        self.last = Some(rows);
    }

    /// What there is, and the transaction's end.
    pub(super) async fn commit(mut self, writer: &mut SqliteConnection) -> Result<(), StoreError> {
        self.sql.push_str("COMMIT");
        self.run(writer).await
    }

    pub(super) async fn run(self, writer: &mut SqliteConnection) -> Result<(), StoreError> {
        if self.sql.is_empty() {
            return Ok(());
        }
        // Nothing in the text is anybody's: it is put together from the constants above.
        let query = sqlx::query(AssertSqlSafe(self.sql));
        let query = self.fence.into_iter().fold(query, sqlx::query::Query::bind);
        let query = self.rows.into_iter().fold(query, bind);
        let written = query.execute(writer).await;
        written.map_err(|error| match () {
            () if is_null(&error, "spend_fence.fence") => StoreError::Fenced,
            () if is_null(&error, "spent.amount") || is_null(&error, "lane.n") => StoreError::Refused {
                why: "a batch was worked out from an account that is older than the store".into(),
            },
            () => error.into(),
        })?;
        Ok(())
    }
}

/// Whether a column that a condition of ours makes null refused it.
fn is_null(error: &sqlx::Error, column: &str) -> bool {
    let error = error.as_database_error();
    error.is_some_and(|error| error.kind() == ErrorKind::NotNullViolation && error.message().ends_with(column))
}

/// The writes with each `spent` row written once, in its first place and with its last amount: sixteen lanes of one token
/// all count in one row.
pub(super) fn once_spent(writes: &[Write]) -> Vec<&Write> {
    let mut last = BTreeMap::new();
    for write in writes {
        if let Write::Spent { token, id, .. } = write {
            last.insert((*token, *id), write);
        }
    }
    let once = writes.iter().filter_map(|write| match write {
        Write::Spent { token, id, .. } => last.remove(&(*token, *id)),
        other => Some(other),
    });
    once.collect()
}

pub(super) type Query = sqlx::query::Query<'static, Db, SqliteArguments>;

/// Binds a row, in the order of its statement's columns.
fn bind(query: Query, write: &Write) -> Query {
    match write {
        Write::Spent { token, id: at, amount, .. } => query.bind(id(token)).bind(digest(at)).bind(amount.ucr()),
        Write::Lane { token, key, lane } => query
            .bind(id(token))
            .bind(digest(&key.leaf))
            .bind(i64::from(key.lane))
            .bind(int(lane.n))
            .bind(int(lane.seq_highest))
            .bind(lane.total.ucr())
            .bind(i64::from(lane.remainder))
            .bind(lane.meters.to_cbor())
            .bind(lane.flags.to_cbor())
            .bind(lane.frontier.roots().iter().flat_map(|root| root.0).collect::<Vec<u8>>())
            .bind(int(lane.acknowledged_n))
            .bind(lane.acknowledged.ucr())
            .bind(lane.acknowledgement.as_ref().map(digest))
            .bind(int(lane.claimed_n))
            .bind(int(lane.claimed_acknowledged_n)),
        Write::Charge { token, key, slot, charged, charge, receipt, evidence } => query
            .bind(id(token))
            .bind(digest(&key.leaf))
            .bind(i64::from(key.lane))
            .bind(int(slot.seq))
            .bind(i64::from(slot.item))
            .bind(int(charged.n))
            .bind(digest(&charged.authority))
            .bind(charge.ucr())
            .bind(charged.total.ucr())
            .bind(digest(&charged.receipt))
            .bind(receipt.clone())
            .bind(evidence.base.clone())
            .bind(evidence.signature.to_vec()),
        Write::Pace { key, pace } => query
            .bind(key.subject.clone())
            .bind(key.rule.policy.clone())
            .bind(i64::from(key.rule.tier.number()))
            .bind(key.rule.op.map_or(0, |op| i64::from(op.number())))
            .bind(i64::from(key.seconds))
            .bind(int(pace.begun.seconds()))
            .bind(i64::from(pace.requests))
            .bind(i64::try_from(pace.tokens).unwrap_or(i64::MAX)),
        Write::Run { key, row } => planned::run_bind(query, key, row),
        other => unreachable!("{other:?} is not one of a call's rows"),
    }
}

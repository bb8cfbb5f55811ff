//! One statement for many rows.
//!
//! Statement texts are prepared and kept, so there must be few of them. SQLite gets a list of values in runs whose sizes are
//! powers of two; PostgreSQL gets one array for each column, so that a statement has one text, whatever the number of rows.

use std::borrow::Cow;

use sqlx::AssertSqlSafe;

use super::query::{bind_postgres, numbered};
use super::{Db, Query, Row, Value, within};

/// Rows in one statement of SQLite: 16 columns × 256 stay well below its 32,766 parameters.
pub const ROWS_PER_STATEMENT_MAX: usize = 256;
/// Rows in one statement of PostgreSQL, where a row costs no parameter.
const ROWS_PER_ARRAY_MAX: usize = 4_096;
/// Where the rows stand in a text: as a list of rows, or as what a column is one of.
const ROWS: &str = "{rows}";
const ANY: &str = "{any}";

/// A row's values, each turned into a [`Value`].
#[macro_export]
macro_rules! values {
    ($($value:expr),+ $(,)?) => { [$($crate::db::Value::from($value)),+] };
}

/// A statement over rows; see [`Query::each`].
#[derive(Debug)]
#[must_use]
pub struct Many<const N: usize> {
    statement: Query,
    rows: Vec<[Value; N]>,
    repeats: bool,
}

impl Query {
    /// Says the statement over many rows of the same types: `{rows}` in its text stands for them (`VALUES …`), or, where a row is
    /// one value, `{any}` for being one of them (`id {any}`). Other values stand before them, and are bound before.
    pub fn each<const N: usize>(self, rows: impl IntoIterator<Item = [Value; N]>) -> Many<N> {
        Many { statement: self, rows: rows.into_iter().collect(), repeats: false }
    }
}

impl<const N: usize> Many<N> {
    /// A row may be said twice without harm: fewer statements on SQLite.
    pub fn repeatable(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// How many rows it changed. Does nothing without rows.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub async fn execute(self, db: &mut Db<'_>) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        match db {
            Db::Sqlite(conn) => {
                for statement in self.sqlite() {
                    changed += statement.sqlite().execute(&mut **conn).await?.rows_affected();
                }
            }
            Db::Postgres(conn, wait) => {
                for statement in self.postgres() {
                    changed += within(*wait, statement.execute(&mut **conn)).await?.rows_affected();
                }
            }
        }
        Ok(changed)
    }

    /// What it gives for all rows.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub async fn fetch_all(self, db: &mut Db<'_>) -> Result<Vec<Row>, sqlx::Error> {
        let mut found = Vec::new();
        match db {
            Db::Sqlite(conn) => {
                for statement in self.sqlite() {
                    found.extend(statement.sqlite().fetch_all(&mut **conn).await?.into_iter().map(Row::Sqlite));
                }
            }
            Db::Postgres(conn, wait) => {
                for statement in self.postgres() {
                    let rows = within(*wait, statement.fetch_all(&mut **conn)).await?;
                    found.extend(rows.into_iter().map(Row::Postgres));
                }
            }
        }
        Ok(found)
    }

    fn sqlite(self) -> Vec<Query> {
        let said = |run: &[[Value; N]]| {
            let sql = &self.statement.sql;
            let sql = if sql.contains(ANY) {
                sql.replacen(ANY, &format!("IN ({})", list("?", run.len())), 1)
            } else {
                let one = format!("({})", list("?", N));
                sql.replacen(ROWS, &format!("VALUES {}", list(&one, run.len())), 1)
            };
            let mut values = self.statement.values.clone();
            values.extend(run.iter().flatten().cloned());
            Query { sql: Cow::Owned(sql), values }
        };
        if self.repeats {
            padded_runs(&self.rows).map(|run| said(&run)).collect()
        } else {
            runs(&self.rows).map(said).collect()
        }
    }

    fn postgres(self) -> Vec<sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>> {
        let Self { statement, rows, .. } = self;
        let Some(first) = rows.first() else { return Vec::new() };
        let arrays = first.each_ref().map(Value::array).join(",");
        let sql = if statement.sql.contains(ANY) {
            statement.sql.replacen(ANY, &format!("= ANY({arrays})"), 1)
        } else {
            statement.sql.replacen(ROWS, &format!("SELECT * FROM unnest({arrays})"), 1)
        };
        let sql = numbered(&sql);
        let mut rows = rows.into_iter().peekable();
        let mut statements = Vec::new();
        while rows.peek().is_some() {
            let mut columns: [Vec<Value>; N] = std::array::from_fn(|_| Vec::new());
            for row in rows.by_ref().take(ROWS_PER_ARRAY_MAX) {
                columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
            }
            let saying = sqlx::query(AssertSqlSafe(sql.clone()));
            let saying = statement.values.iter().cloned().fold(saying, bind_postgres);
            statements.push(columns.into_iter().fold(saying, |saying, column| match column.first() {
                Some(Value::Blob(_)) => saying.bind(column.into_iter().map(Value::into_blob).collect::<Vec<_>>()),
                Some(Value::Text(_)) => saying.bind(column.into_iter().map(Value::into_text).collect::<Vec<_>>()),
                _ => saying.bind(column.into_iter().map(Value::into_int).collect::<Vec<_>>()),
            }));
        }
        statements
    }
}

impl Value {
    /// A place for an array of such values.
    const fn array(&self) -> &'static str {
        match self {
            Self::Int(_) => "?::bigint[]",
            Self::Blob(_) => "?::bytea[]",
            Self::Text(_) => "?::text[]",
        }
    }

    fn into_int(self) -> Option<i64> {
        let Self::Int(value) = self else { unreachable!("{MIXED}") };
        value
    }

    fn into_blob(self) -> Option<Vec<u8>> {
        let Self::Blob(value) = self else { unreachable!("{MIXED}") };
        value
    }

    fn into_text(self) -> Option<String> {
        let Self::Text(value) = self else { unreachable!("{MIXED}") };
        value
    }
}

const MIXED: &str = "the rows of a statement are of the same types";

/// Splits rows into runs whose sizes are powers of two, so that few statement texts serve every number of rows.
pub fn runs<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = (rows.len().checked_ilog2()?).min(ROWS_PER_STATEMENT_MAX.ilog2());
        let (run, rest) = rows.split_at(1 << size);
        rows = rest;
        Some(run)
    })
}

/// Splits rows into runs and fills the last up to a power of two by repeating a row, where a repeat does no harm:
/// fewer statements than [`runs`], which matters because each one is a trip to the connection's thread.
fn padded_runs<T: Clone>(rows: &[T]) -> impl Iterator<Item = Vec<T>> {
    rows.chunks(ROWS_PER_STATEMENT_MAX).map(|chunk| {
        let mut run = chunk.to_vec();
        run.resize(chunk.len().next_power_of_two(), chunk[0].clone());
        run
    })
}

/// `one`, `times` over, with commas.
pub fn list(one: &str, times: usize) -> String {
    let mut list = String::with_capacity((one.len() + 1) * times);
    for at in 0..times {
        if at > 0 {
            list.push(',');
        }
        list.push_str(one);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Database, query};

    #[test]
    fn runs_cover_every_row_once_in_sizes_of_powers_of_two() {
        for count in [0, 1, 2, 3, 7, 255, 256, 257, 1000] {
            let rows: Vec<usize> = (0..count).collect();
            let whole: Vec<usize> = runs(&rows).flatten().copied().collect();
            assert_eq!(whole, rows);
            assert!(runs(&rows).all(|run| run.len().is_power_of_two() && run.len() <= ROWS_PER_STATEMENT_MAX));
            let mut padded: Vec<usize> = padded_runs(&rows).flatten().collect();
            padded.sort_unstable();
            padded.dedup();
            assert_eq!(padded, rows);
            assert!(padded_runs(&rows).all(|run| run.len().is_power_of_two()));
        }
    }

    /// More rows than one statement of either engine takes, with values that are not there, in one order.
    async fn every_row_arrives_once(database: Database) {
        let mut conn = database.connect().await.unwrap();
        let blob = if matches!(database, Database::Sqlite(_)) { "BLOB" } else { "BYTEA" };
        let made =
            format!("CREATE TABLE many (place BIGINT NOT NULL, id {blob} NOT NULL, said TEXT, fixed BIGINT NOT NULL)");
        query(made).execute(&mut conn.db()).await.unwrap();
        let count = i64::try_from(ROWS_PER_ARRAY_MAX).unwrap() + 3;
        let said = |at: i64| (at % 3 != 0).then(|| format!("row {at}, \"quoted\", {{braced}}, NULL"));
        let row = |at: i64| values![at, at.to_be_bytes(), said(at), 7_i64];
        let inserting = query("INSERT INTO many (place, id, said, fixed) {rows} RETURNING place");
        let placed = inserting.each((0..count).map(row)).fetch_all(&mut conn.db()).await.unwrap();
        let placed: Vec<i64> = placed.iter().map(|row| row.first().unwrap()).collect();
        assert_eq!(placed, (0..count).collect::<Vec<_>>());
        // A value stands before the rows; whoever is not there is not found.
        let asked = [0, 1, 5, count - 1, count].map(|at| values![at.to_be_bytes()]);
        let asking = query("SELECT place, said FROM many WHERE fixed = ? AND id {any} ORDER BY place").bind(7);
        let found = asking.each(asked).repeatable().fetch_all(&mut conn.db()).await.unwrap();
        let mut found: Vec<_> =
            found.iter().map(|row| (row.int("place").unwrap(), row.text_maybe("said").unwrap())).collect();
        found.dedup();
        assert_eq!(found, [0, 1, 5, count - 1].map(|at| (at, said(at))));
        let moving = query(
            "WITH moved (at, by) AS ({rows}) UPDATE many SET fixed = fixed + moved.by FROM moved WHERE place = moved.at",
        );
        let moved =
            moving.each((0..5).map(|at| values![at, at * 10])).repeatable().execute(&mut conn.db()).await.unwrap();
        assert_eq!(moved, 5);
        let sum = query("SELECT CAST(SUM(fixed) AS BIGINT) FROM many").fetch_one(&mut conn.db()).await.unwrap();
        assert_eq!(sum.first().unwrap(), 7 * count + 100);
        let nothing: [[Value; 1]; 0] = [];
        assert_eq!(query("DELETE FROM many WHERE place {any}").each(nothing).execute(&mut conn.db()).await.unwrap(), 0);
        conn.close().await.unwrap();
    }

    #[tokio::test]
    async fn every_row_arrives_once_in_sqlite() {
        let folder = tempfile::tempdir().unwrap();
        every_row_arrives_once(Database::sqlite(folder.path().join("many.db"))).await;
    }

    mod postgres {
        #[tokio::test]
        async fn every_row_arrives_once() {
            let scratch = comity_scratch::Database::create().await;
            super::every_row_arrives_once(super::Database::postgres(&scratch.url()).unwrap()).await;
        }
    }
}

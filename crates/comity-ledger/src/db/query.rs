//! A statement with its values.

use std::borrow::Cow;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;

use super::{Db, Row, within};

/// A value of a type that both engines have.
#[derive(Clone, Debug)]
pub enum Value {
    Int(Option<i64>),
    Blob(Option<Vec<u8>>),
    Text(Option<String>),
}

macro_rules! from {
    ($($type:ty => $variant:ident, $value:ident: $to:expr;)+) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$variant($to)
            }
        })+
    };
}

from! {
    i64 => Int, value: Some(value);
    Option<i64> => Int, value: value;
    Vec<u8> => Blob, value: Some(value);
    &[u8] => Blob, value: Some(value.to_vec());
    Option<Vec<u8>> => Blob, value: value;
    String => Text, value: Some(value);
    &str => Text, value: Some(value.to_owned());
    &String => Text, value: Some(value.clone());
    Option<String> => Text, value: value;
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Blob(Some(value.to_vec()))
    }
}

/// A statement on its way. Its text is ours alone; what others said is among its values.
#[derive(Clone, Debug)]
#[must_use]
pub struct Query {
    pub(super) sql: Cow<'static, str>,
    pub(super) values: Vec<Value>,
}

/// Begins a statement. `?` stands for the next value, `?N` for the Nth.
pub fn query(sql: impl Into<Cow<'static, str>>) -> Query {
    Query { sql: sql.into(), values: Vec::new() }
}

impl Query {
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows it changed.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub async fn execute(self, db: &mut Db<'_>) -> Result<u64, sqlx::Error> {
        Ok(match db {
            Db::Sqlite(conn) => self.sqlite().execute(&mut **conn).await?.rows_affected(),
            Db::Postgres(conn, wait) => within(*wait, self.postgres().execute(&mut **conn)).await?.rows_affected(),
        })
    }

    /// # Errors
    /// [`sqlx::Error`].
    pub async fn fetch_all(self, db: &mut Db<'_>) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match db {
            Db::Sqlite(conn) => self.sqlite().fetch_all(&mut **conn).await?.into_iter().map(Row::Sqlite).collect(),
            Db::Postgres(conn, wait) => {
                within(*wait, self.postgres().fetch_all(&mut **conn)).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// # Errors
    /// [`sqlx::Error`].
    pub async fn fetch_optional(self, db: &mut Db<'_>) -> Result<Option<Row>, sqlx::Error> {
        Ok(match db {
            Db::Sqlite(conn) => self.sqlite().fetch_optional(&mut **conn).await?.map(Row::Sqlite),
            Db::Postgres(conn, wait) => {
                within(*wait, self.postgres().fetch_optional(&mut **conn)).await?.map(Row::Postgres)
            }
        })
    }

    /// # Errors
    /// [`sqlx::Error`], also where there is no row.
    pub async fn fetch_one(self, db: &mut Db<'_>) -> Result<Row, sqlx::Error> {
        self.fetch_optional(db).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Row by row, for what may be too much for memory.
    pub fn fetch<'q>(self, db: &'q mut Db<'_>) -> BoxStream<'q, Result<Row, sqlx::Error>> {
        match db {
            Db::Sqlite(conn) => self.sqlite().fetch(&mut **conn).map_ok(Row::Sqlite).boxed(),
            Db::Postgres(conn, _) => self.postgres().fetch(&mut **conn).map_ok(Row::Postgres).boxed(),
        }
    }

    pub(super) fn sqlite(self) -> sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments> {
        let query = sqlx::query(AssertSqlSafe(self.sql.into_owned()));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Int(value) => query.bind(value),
            Value::Blob(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
        })
    }

    fn postgres(self) -> PgQuery {
        let query = sqlx::query(AssertSqlSafe(numbered(&self.sql)));
        self.values.into_iter().fold(query, bind_postgres)
    }
}

type PgQuery = sqlx::query::Query<'static, sqlx::Postgres, PgArguments>;

pub(super) fn bind_postgres(query: PgQuery, value: Value) -> PgQuery {
    match value {
        Value::Int(value) => query.bind(value),
        Value::Blob(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
    }
}

/// The same text with PostgreSQL's `$N`. No text of ours has a question mark in it for another reason.
pub(super) fn numbered(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() + 32);
    let mut next = 0_usize;
    let mut parts = sql.split('?');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        text.push('$');
        if !part.starts_with(|first: char| first.is_ascii_digit()) {
            next += 1;
            text.push_str(&next.to_string());
        }
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_in_their_order_or_as_they_say() {
        assert_eq!(numbered("SELECT 1"), "SELECT 1");
        assert_eq!(numbered("a = ? AND b IN (?,?)"), "a = $1 AND b IN ($2,$3)");
        assert_eq!(numbered("a = ?1 AND b = ?2 OR c = ?1"), "a = $1 AND b = $2 OR c = $1");
    }
}

//! A row of either engine, read by column.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Row as _, Type};

#[derive(Debug)]
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// # Errors
    /// [`sqlx::Error`] where there is no such column, or it holds something else.
    pub fn int(&self, column: &str) -> Result<i64, sqlx::Error> {
        self.get(column)
    }

    /// # Errors
    /// As [`Row::int`].
    pub fn int_maybe(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.get(column)
    }

    /// # Errors
    /// As [`Row::int`].
    pub fn blob(&self, column: &str) -> Result<Vec<u8>, sqlx::Error> {
        self.get(column)
    }

    /// # Errors
    /// As [`Row::int`].
    pub fn blob_maybe(&self, column: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
        self.get(column)
    }

    /// # Errors
    /// As [`Row::int`].
    pub fn text(&self, column: &str) -> Result<String, sqlx::Error> {
        self.get(column)
    }

    /// # Errors
    /// As [`Row::int`].
    pub fn text_maybe(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.get(column)
    }

    /// The first column, where a statement gives one number.
    ///
    /// # Errors
    /// As [`Row::int`].
    pub fn first(&self) -> Result<i64, sqlx::Error> {
        self.get(0)
    }

    fn get<'r, T, I>(&'r self, column: I) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, sqlx::Sqlite> + Type<sqlx::Sqlite> + Decode<'r, sqlx::Postgres> + Type<sqlx::Postgres>,
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

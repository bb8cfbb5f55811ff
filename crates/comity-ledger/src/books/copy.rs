//! Books that outgrow SQLite: every row of them into an empty PostgreSQL, in one transaction.
//!
//! Nobody writes the old books meanwhile: their one write lock is held until the new ones are committed. Triggers and foreign
//! keys of the new tables are off while rows come in, since a trigger would do a second time what was done, and are on again,
//! and every foreign key checked, before COMMIT.

use futures::TryStreamExt as _;

use super::migrations;
use crate::db::{Database, Db, Kind, MigrationStanding, Migrations, Query, Row, Tx, list, query, runs};
use crate::store::StoreError;

/// Rows in one statement.
const ROWS: usize = 128;
/// How long the last statements, which check every row, may take.
const CHECK_WAIT_S: u64 = 3600;

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    #[error("cannot read or write the books")]
    Store(#[from] StoreError),
    #[error("books are copied from SQLite to PostgreSQL")]
    Direction,
    #[error("the database that they shall be copied to has tables already: it must be empty")]
    NotEmpty,
    #[error("the tables of the old books are not this program's: {0} is not applied as it knows it")]
    NotMigrated(i64),
    #[error("table {table} is not the same in both: {what}")]
    Table { table: String, what: String },
    #[error("{table} had {from} rows and has {to}")]
    Count { table: String, from: u64, to: u64 },
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A column of the new tables.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    of: Of,
    /// Numbers that it has to go on from.
    is_identity: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Int,
    Blob,
    Text,
}

/// Copies everything, or nothing; how many rows of each table. `tell` hears of each table that is done.
///
/// # Errors
/// [`CopyError`].
pub async fn copy(
    from: &Database,
    to: &Database,
    others: Migrations,
    mut tell: impl FnMut(&str, u64),
) -> Result<Vec<(String, u64)>, CopyError> {
    if (from.kind(), to.kind()) != (Kind::Sqlite, Kind::Postgres) {
        return Err(CopyError::Direction);
    }
    let all = migrations().and(others);
    let states = from.migration_states(&all).await?;
    if let Some(other) = states.iter().find(|state| state.standing != MigrationStanding::Applied) {
        return Err(CopyError::NotMigrated(other.number));
    }
    let mut new = to.connect().await?;
    if !is_empty(to).await? {
        return Err(CopyError::NotEmpty);
    }
    let mut old = from.connect().await?;
    // From here on nobody else writes the old books.
    let mut source = old.write().await?;
    to.migrate(&all).await?;
    let mut target = new.write().await?;
    let tables = tables(&mut source.db()).await?;
    let keys = foreign_keys_off(&mut target.db()).await?;
    let mut done = Vec::with_capacity(tables.len());
    for table in tables {
        let rows = copy_table(&mut source, &mut target, &table).await?;
        tell(&table, rows);
        done.push((table, rows));
    }
    if let Tx::Postgres(_, wait) = &mut target {
        *wait = std::time::Duration::from_secs(CHECK_WAIT_S);
    }
    let mut db = target.db();
    query(format!("SET LOCAL statement_timeout = '{CHECK_WAIT_S}s'")).execute(&mut db).await?;
    for sql in keys {
        query(sql).execute(&mut db).await?;
    }
    target.commit().await?;
    source.rollback().await?;
    old.close().await?;
    new.close().await?;
    Ok(done)
}

/// Whether a database has no table and no view at all.
///
/// # Errors
/// [`StoreError`] where it cannot be reached.
pub async fn is_empty(database: &Database) -> Result<bool, StoreError> {
    let mut conn = database.connect().await?;
    let sql = match database.kind() {
        Kind::Sqlite => "SELECT COUNT(*) FROM sqlite_schema",
        Kind::Postgres => {
            "SELECT COUNT(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm')"
        }
    };
    let tables = query(sql).fetch_one(&mut conn.db()).await?.first()?;
    conn.close().await?;
    Ok(tables == 0)
}

async fn count(db: &mut Db<'_>, sql: impl Into<std::borrow::Cow<'static, str>>) -> Result<u64, CopyError> {
    Ok(query(sql).fetch_one(db).await?.first()?.unsigned_abs())
}

/// The tables of the old books, but those of the engine and of the migrator.
async fn tables(db: &mut Db<'_>) -> Result<Vec<String>, CopyError> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
               AND name <> '_sqlx_migrations' ORDER BY name";
    let rows = query(sql).fetch_all(db).await?;
    Ok(rows.iter().map(|row| row.text("name")).collect::<Result<_, _>>()?)
}

/// Takes away every foreign key of the new tables; the statements that put them back, and check them.
async fn foreign_keys_off(db: &mut Db<'_>) -> Result<Vec<String>, CopyError> {
    let sql = "SELECT CAST(k.conrelid::regclass AS TEXT) AS tab, format('%I', k.conname) AS name, \
               pg_get_constraintdef(k.oid) AS def FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace \
               WHERE k.contype = 'f' AND n.nspname = current_schema() ORDER BY 1, 2";
    let mut back = Vec::new();
    for row in query(sql).fetch_all(db).await? {
        let (table, name, definition) = (row.text("tab")?, row.text("name")?, row.text("def")?);
        query(format!("ALTER TABLE {table} DROP CONSTRAINT {name}")).execute(db).await?;
        back.push(format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"));
    }
    Ok(back)
}

async fn columns(db: &mut Db<'_>, table: &str) -> Result<Vec<Column>, CopyError> {
    let sql = "SELECT CAST(column_name AS TEXT) AS name, CAST(data_type AS TEXT) AS of, CAST(is_identity AS TEXT) AS identity \
               FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ? ORDER BY column_name";
    let mut columns = Vec::new();
    for row in query(sql).bind(table).fetch_all(db).await? {
        let of = match row.text("of")?.as_str() {
            "bigint" => Of::Int,
            "bytea" => Of::Blob,
            "text" => Of::Text,
            other => {
                return Err(CopyError::Table { table: table.to_owned(), what: format!("a column of type {other}") });
            }
        };
        columns.push(Column { name: row.text("name")?, of, is_identity: row.text("identity")? == "YES" });
    }
    Ok(columns)
}

async fn copy_table(source: &mut Tx<'_>, target: &mut Tx<'_>, table: &str) -> Result<u64, CopyError> {
    let mut new = target.db();
    let columns = columns(&mut new, table).await?;
    let sql = format!("SELECT name FROM pragma_table_info('{table}') ORDER BY name");
    let rows = query(sql).fetch_all(&mut source.db()).await?;
    let before = rows.iter().map(|row| row.text("name")).collect::<Result<Vec<_>, _>>()?;
    if !columns.iter().map(|column| &column.name).eq(&before) {
        let now: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        return Err(CopyError::Table { table: table.to_owned(), what: format!("columns {before:?} and {now:?}") });
    }
    let quoted = |column: &Column| format!("\"{}\"", column.name);
    let names = columns.iter().map(quoted).collect::<Vec<_>>().join(", ");
    // What a migration put there is in the old books as it is now.
    for sql in [format!("ALTER TABLE \"{table}\" DISABLE TRIGGER USER"), format!("DELETE FROM \"{table}\"")] {
        query(sql).execute(&mut new).await?;
    }
    let mut old = source.db();
    let mut rows = query(format!("SELECT {names} FROM \"{table}\"")).fetch(&mut old);
    let (mut page, mut copied) = (Vec::with_capacity(ROWS), 0_u64);
    loop {
        let next = rows.try_next().await?;
        let is_last = next.is_none();
        page.extend(next);
        if page.len() == ROWS || is_last {
            insert(&mut new, table, &names, &columns, &page).await?;
            copied += page.len() as u64;
            page.clear();
        }
        if is_last {
            break;
        }
    }
    drop(rows);
    query(format!("ALTER TABLE \"{table}\" ENABLE TRIGGER USER")).execute(&mut new).await?;
    for column in columns.iter().filter(|column| column.is_identity) {
        let name = &column.name;
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', '{name}'), MAX(\"{name}\")) FROM \"{table}\" HAVING MAX(\"{name}\") > 0"
        );
        query(sql).fetch_all(&mut new).await?;
    }
    let (from, to) = (
        count(&mut old, format!("SELECT COUNT(*) FROM \"{table}\"")).await?,
        count(&mut new, format!("SELECT COUNT(*) FROM \"{table}\"")).await?,
    );
    if from != to || from != copied {
        return Err(CopyError::Count { table: table.to_owned(), from, to });
    }
    Ok(copied)
}

async fn insert(db: &mut Db<'_>, table: &str, names: &str, columns: &[Column], rows: &[Row]) -> Result<(), CopyError> {
    let one = format!("({})", list("?", columns.len()));
    for run in runs(rows) {
        let sql = format!("INSERT INTO \"{table}\" ({names}) VALUES {}", list(&one, run.len()));
        let mut insert = query(sql);
        for row in run {
            for column in columns {
                insert = bind(insert, row, column)?;
            }
        }
        insert.execute(db).await?;
    }
    Ok(())
}

fn bind(insert: Query, row: &Row, column: &Column) -> Result<Query, sqlx::Error> {
    let name = column.name.as_str();
    Ok(match column.of {
        Of::Int => insert.bind(row.int_maybe(name)?),
        Of::Blob => insert.bind(row.blob_maybe(name)?),
        Of::Text => insert.bind(row.text_maybe(name)?),
    })
}

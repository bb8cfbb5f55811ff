//! A PostgreSQL of several hosts: one that can be written, and standbys that may become it.
//!
//! An address names them with commas, as libpq's does: `postgres://USER@HOST,HOST:PORT/DATABASE`, or `?host=A,B&port=1,2`.
//! Whoever connects finds the one that is no standby; all who share the address then begin with that one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::within;
use crate::store::StoreError;

/// Hosts in one address.
const HOSTS_MAX: usize = 8;
/// How long a host may take to answer where there is another one.
const HOST_WAIT: Duration = Duration::from_secs(3);

/// Cheap to clone; clones agree on which host was the writable one last.
#[derive(Clone)]
pub struct Servers {
    all: Arc<[PgConnectOptions]>,
    current: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} hosts", self.all.len())
    }
}

impl Servers {
    /// # Errors
    /// [`StoreError::Address`], which does not say it.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let one = |url: String| {
            let options: PgConnectOptions = url.parse().map_err(|_| StoreError::Address)?;
            Ok::<_, StoreError>(options.application_name("comity-clearing").disable_statement_logging())
        };
        let all: Arc<[_]> = hosts(url).ok_or(StoreError::Address)?.into_iter().map(one).collect::<Result<_, _>>()?;
        if all.is_empty() || all.len() > HOSTS_MAX {
            return Err(StoreError::Address);
        }
        Ok(Self { all, current: Arc::default() })
    }

    /// Where there are several.
    pub(crate) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// Which of them was the writable one last, and how to reach it.
    pub(crate) fn current(&self) -> (usize, PgConnectOptions) {
        let at = self.current.load(Ordering::Relaxed);
        (at, self.all[at].clone())
    }

    /// A connection to the one that can be written, looked for from the one that was last. One host alone is taken as it is.
    ///
    /// # Errors
    /// [`sqlx::Error`] of the last one that was tried.
    pub(crate) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        if !self.are_several() {
            return self.all[0].connect().await;
        }
        let first = self.current.load(Ordering::Relaxed);
        let mut last = sqlx::Error::PoolTimedOut;
        for at in (first..self.all.len()).chain(0..first) {
            match within(HOST_WAIT, self.try_one(at)).await {
                Ok(conn) => {
                    if self.current.swap(at, Ordering::Relaxed) != at {
                        tracing::warn!(host = at + 1, "another host of the books can be written now");
                    }
                    return Ok(conn);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn try_one(&self, at: usize) -> Result<PgConnection, sqlx::Error> {
        let mut conn = self.all[at].connect().await?;
        if is_standby(&mut conn).await? {
            conn.close().await?;
            return Err(sqlx::Error::Io(std::io::Error::other("it is a standby")));
        }
        Ok(conn)
    }
}

pub(super) async fn is_standby(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(conn).await
}

/// The same address for each host by itself; `None` where hosts and ports do not go together.
fn hosts(url: &str) -> Option<Vec<String>> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (user, named) = authority.rsplit_once('@').map_or(("", authority), |(user, named)| (user, named));
    let at = if user.is_empty() { String::new() } else { format!("{user}@") };
    if named.contains(',') {
        return Some(named.split(',').map(|host| format!("{scheme}://{at}{host}{rest}")).collect());
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let of = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let Some(listed) = of("host").filter(|hosts| hosts.contains(',')) else { return Some(vec![url.to_owned()]) };
    let ports: Vec<&str> = of("port").map_or_else(Vec::new, |ports| ports.split(',').collect());
    let others: String = query
        .split('&')
        .filter(|part| !part.starts_with("host=") && !part.starts_with("port="))
        .map(|part| format!("&{part}"))
        .collect();
    let count = listed.split(',').count();
    let port = |place: usize| match ports.len() {
        0 => Some(String::new()),
        1 => Some(format!("&port={}", ports[0])),
        several if several == count => Some(format!("&port={}", ports[place])),
        _ => None,
    };
    let one = |(place, host): (usize, &str)| {
        Some(format!("{scheme}://{at}{named}{path}?host={host}{}{others}", port(place)?))
    };
    listed.split(',').enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_each_host() {
        let of = |url: &str| hosts(url).map(|hosts| hosts.join(" "));
        for (url, expected) in [
            ("postgres://u:p@a/db", "postgres://u:p@a/db"),
            (
                "postgres://u:p,q@a:1,b:2/db?sslmode=require",
                "postgres://u:p,q@a:1/db?sslmode=require postgres://u:p,q@b:2/db?sslmode=require",
            ),
            (
                "postgres://u@localhost/db?host=/x,/y",
                "postgres://u@localhost/db?host=/x postgres://u@localhost/db?host=/y",
            ),
            (
                "postgres://localhost/db?host=/x,/y&port=1,2&sslmode=disable",
                "postgres://localhost/db?host=/x&port=1&sslmode=disable postgres://localhost/db?host=/y&port=2&sslmode=disable",
            ),
        ] {
            assert_eq!(of(url).as_deref(), Some(expected), "{url}");
            assert!(Servers::parse(url).is_ok(), "{url}");
        }
        assert_eq!(of("postgres://localhost/db?host=/x,/y,/z&port=1,2"), None);
        assert!(Servers::parse(&format!("postgres://{}/db", ["a"; 9].join(","))).is_err());
    }
}

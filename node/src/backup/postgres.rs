//! `pg_dump` and `pg_restore`, told where the database is by their environment: an argument is seen by every account of the
//! machine, and a password may be in it.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::failure::{Failure, While as _};
use crate::settings::Address;

/// What an address may say after its `?`, and what libpq calls it.
const SAID: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("sslmode", "PGSSLMODE"),
    ("ssl-mode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("ssl-root-cert", "PGSSLROOTCERT"),
    ("ssl-ca", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("ssl-cert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("ssl-key", "PGSSLKEY"),
    ("options", "PGOPTIONS"),
];

/// The address as libpq reads it from the environment.
fn environment(address: &Address) -> Result<Vec<(&'static str, String)>, Failure> {
    let cannot = || Failure::new("the address of the books cannot be told to PostgreSQL's own programs");
    let url = reqwest::Url::parse(address.exposed()).map_err(|_| cannot())?;
    let text = |text: &str| percent_decoded(text).ok_or_else(cannot);
    let mut said = Vec::new();
    for (name, value) in [
        ("PGHOST", url.host_str().map(str::to_owned)),
        ("PGPORT", url.port().map(|port| port.to_string())),
        ("PGUSER", Some(url.username().to_owned())),
        ("PGPASSWORD", url.password().map(str::to_owned)),
        ("PGDATABASE", Some(url.path().trim_start_matches('/').to_owned())),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            said.push((name, text(&value)?));
        }
    }
    for (name, value) in url.query_pairs() {
        match SAID.iter().find(|(known, _)| *known == name) {
            Some((_, variable)) => {
                said.retain(|(other, _)| other != variable);
                said.push((variable, value.into_owned()));
            }
            // What is only for the house's own connections.
            None if matches!(&*name, "application_name" | "statement-cache-capacity") => {}
            None => return Err(cannot().hint(format!("`{name}` in it is not known to us"))),
        }
    }
    Ok(said)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn command(program: &str, address: &Address) -> Result<Command, Failure> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.arg("--no-password").envs(environment(address)?);
    Ok(command)
}

async fn run(mut command: Command, program: &str) -> Result<(), Failure> {
    let hint =
        format!("install PostgreSQL's client programs, of the server's version or newer: {program} must be in PATH");
    let done = command.output().await.while_(format!("cannot run {program}")).map_err(|failure| failure.hint(hint))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Failure::new(format!("{program} ended with {}", done.status)).because(said))
}

/// Writes everything that `snapshot` sees.
pub(super) async fn dump(address: &Address, snapshot: &str, into: &Path) -> Result<(), Failure> {
    let mut command = command("pg_dump", address)?;
    command.args(["--format=custom", "--no-owner", "--no-privileges", "--snapshot", snapshot, "--file"]).arg(into);
    run(command, "pg_dump").await?;
    // Its list of contents is at the end: a file that has one is whole.
    let mut list = Command::new("pg_restore");
    list.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).arg("--list").arg(into);
    run(list, "pg_restore").await
}

/// All of it, or nothing.
pub(super) async fn load(address: &Address, from: &Path) -> Result<(), Failure> {
    let mut command = command("pg_restore", address)?;
    let said = environment(address)?;
    let database = said.iter().find(|(name, _)| *name == "PGDATABASE").map_or("", |(_, name)| name.as_str());
    command.args(["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--dbname", database]);
    run(
        {
            command.arg(from);
            command
        },
        "pg_restore",
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_part_by_part() {
        let of = |text: &str| {
            let address = Address::told(Some(text.into()), None).unwrap().unwrap();
            environment(&address).map(|mut said| {
                said.sort_unstable();
                said.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(
            of("postgres://me:p%40ss@db.example:5433/books?sslmode=verify-full").unwrap(),
            "PGDATABASE=books PGHOST=db.example PGPASSWORD=p@ss PGPORT=5433 PGSSLMODE=verify-full PGUSER=me"
        );
        assert_eq!(
            of("postgres://me@localhost/books?host=/run/pg").unwrap(),
            "PGDATABASE=books PGHOST=/run/pg PGUSER=me"
        );
        let refused = of("postgres://u:canary-51c9@h/d?secret=canary-51c9").unwrap_err().to_string();
        assert!(refused.contains("`secret`") && !refused.contains("canary"), "{refused}");
    }
}

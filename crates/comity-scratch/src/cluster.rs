//! A PostgreSQL that a test may break: a cluster of its own on a socket, and standbys of it.

use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a start takes on a slow and busy machine.
const START_WAIT: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(50);

/// A running server. Dropping it ends it and takes its folder away.
pub struct Server {
    dir: tempfile::TempDir,
    child: Child,
    user: Option<(u32, u32)>,
}

impl Server {
    /// A new cluster; what is `promised` is said to it as `-c` settings.
    ///
    /// # Panics
    /// Where PostgreSQL is not there, or does not come up.
    pub fn start(promised: &[&str]) -> Self {
        let (dir, user) = folder();
        let mut initdb = command(user, "initdb");
        initdb.args(["--no-sync", "--username=comity", "--encoding=UTF8", "--locale=C", "--auth-local=trust"]);
        run(initdb.args(["--auth-host=reject", "-D"]).arg(dir.path().join("data")));
        Self::run_in(dir, user, promised)
    }

    /// A standby that follows this one under the name `name`.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn standby(&self, name: &str) -> Self {
        let (dir, user) = folder();
        let primary = format!("host={} user=comity application_name={name}", self.socket().display());
        let mut copy = command(user, "pg_basebackup");
        copy.args([
            "--no-sync",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            "-d",
            &primary,
            "-D",
        ]);
        run(copy.arg(dir.path().join("data")));
        Self::run_in(dir, user, &[])
    }

    fn run_in(dir: tempfile::TempDir, user: Option<(u32, u32)>, promised: &[&str]) -> Self {
        let mut server = command(user, "postgres");
        server.arg("-D").arg(dir.path().join("data")).arg("-k").arg(dir.path().join("socket"));
        server.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        promised.iter().for_each(|setting| {
            server.args(["-c", setting]);
        });
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn();
        let server = Self { dir, child: child.expect("PostgreSQL starts"), user };
        server.until("it is up", |server| {
            let mut ready = command(server.user, "pg_isready");
            ready.arg("-h").arg(server.socket()).args(["-U", "comity", "-d", "postgres"]).stdout(Stdio::null());
            ready.status().is_ok_and(|status| status.success())
        });
        server
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// Where it does not come about, with the server's log.
    pub fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < START_WAIT, "{what} did not come about: {}", log());
            std::thread::sleep(LOOK);
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Ends it as a power cut would end its processes: nothing is written out, nobody is told.
    ///
    /// # Panics
    /// Where it cannot be told.
    pub fn stop_immediate(&mut self) {
        self.ctl(&["stop", "-m", "immediate"]);
        let _ = self.child.wait();
    }

    /// Makes a standby the one that is written.
    ///
    /// # Panics
    /// Where it cannot be told.
    pub fn promote(&self) {
        self.ctl(&["promote", "-w"]);
    }

    /// Changes a setting of the running server.
    ///
    /// # Panics
    /// Where it cannot be told.
    pub fn say(&self, sql: &str) -> String {
        let mut psql = command(self.user, "psql");
        psql.args(["-X", "-q", "-A", "-t", "-U", "comity", "-d", "postgres", "-c", sql, "-h"]).arg(self.socket());
        let said = psql.output().expect("psql runs");
        assert!(said.status.success(), "{sql}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    fn ctl(&self, arguments: &[&str]) {
        let mut ctl = command(self.user, "pg_ctl");
        run(ctl.args(arguments).arg("-D").arg(self.dir.path().join("data")));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A standby's or a server's own processes end with it.
        let mut ctl = command(self.user, "pg_ctl");
        ctl.args(["stop", "-m", "immediate", "-D"]).arg(self.dir.path().join("data"));
        let _ = ctl.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of a database on any of these servers, the first that can be written.
pub fn url_of(servers: &[&Server]) -> String {
    let hosts: Vec<_> = servers.iter().map(|server| server.socket().display().to_string()).collect();
    format!("postgres://comity@localhost/postgres?host={}", hosts.join(","))
}

/// PostgreSQL refuses to be root: then it runs as somebody with few rights.
fn user() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    if String::from_utf8_lossy(&id.stdout).trim() != "0" {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("there is a user postgres or nobody"))
}

fn folder() -> (tempfile::TempDir, Option<(u32, u32)>) {
    let (dir, user) = (tempfile::Builder::new().prefix("comity-pg-").tempdir().expect("a folder"), user());
    std::fs::DirBuilder::new().mode(0o700).create(dir.path().join("socket")).expect("a folder");
    if let Some((uid, gid)) = user {
        for made in [dir.path().to_owned(), dir.path().join("socket")] {
            chown(&made, Some(uid), Some(gid)).expect("it is given away");
        }
    }
    (dir, user)
}

fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort_unstable();
    let told = Command::new("pg_config")
        .arg("--bindir")
        .output()
        .ok()
        .map(|said| PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()));
    let all = told.into_iter().chain(found.into_iter().rev().map(|(_, folder)| folder));
    all.into_iter().find(|folder| folder.join("initdb").is_file()).expect("a PostgreSQL server is installed")
}

fn command(user: Option<(u32, u32)>, program: &str) -> Command {
    let mut command = Command::new(binaries().join(program));
    command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(command: &mut Command) {
    let done = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().expect("it runs");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

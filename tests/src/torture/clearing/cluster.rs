//! A PostgreSQL of the run's own, which is stopped without warning and started again on the same data.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// It ends when this is dropped.
pub(super) struct Cluster {
    bin: PathBuf,
    folder: TempDir,
    user: Option<(u32, u32)>,
}

impl Cluster {
    /// # Panics
    /// Where there is no PostgreSQL, or it does not start.
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let user = user();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("it is ours");
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).expect("we are root");
        }
        let cluster = Self { bin: binaries(), folder, user };
        let data = cluster.data();
        let made =
            cluster.run("initdb", &["--no-sync", "--username=comity", "--encoding=UTF8", "--locale=C"], &["-D", &data]);
        assert!(made, "initdb makes a cluster");
        cluster.up();
        cluster
    }

    pub(super) fn up(&self) {
        let options = format!("-k {} -c listen_addresses= -c fsync=off", self.folder.path().display());
        let log = self.folder.path().join("log").display().to_string();
        let started =
            self.run("pg_ctl", &["start", "-w", "-t", "60"], &["-D", &self.data(), "-l", &log, "-o", &options]);
        assert!(started, "the cluster starts: {}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// `pg_ctl stop -m immediate`: no checkpoint, no goodbye.
    pub(super) fn stop_immediately(&self) {
        assert!(self.run("pg_ctl", &["stop", "-m", "immediate", "-w"], &["-D", &self.data()]), "it stops");
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://comity@localhost/postgres?host={}", self.folder.path().display())
    }

    /// Its address through a TCP port of this machine, where a wire listens.
    pub(super) fn url_by(port: u16) -> String {
        format!("postgres://comity@127.0.0.1:{port}/postgres?sslmode=disable")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, fixed: &[&str], more: &[&str]) -> bool {
        let mut command = Command::new(self.bin.join(program));
        command.args(fixed).args(more).current_dir("/").env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.run("pg_ctl", &["stop", "-m", "immediate", "-w"], &["-D", &self.data()]);
    }
}

/// PostgreSQL refuses to be root.
fn user() -> Option<(u32, u32)> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !root {
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

fn binaries() -> PathBuf {
    let is_whole = |folder: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|name| folder.join(name).is_file());
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    let found = told.into_iter().chain(folders.into_iter().rev()).find(is_whole);
    found.unwrap_or_else(|| {
        panic!(
            "no PostgreSQL in the usual places ({}): put pg_config into PATH",
            Path::new("/usr/lib/postgresql").display()
        )
    })
}

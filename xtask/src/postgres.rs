//! A PostgreSQL of one's own: made for the tests, gone after them.
//!
//! Promises: its data lie in a temporary folder, it listens on a socket in a folder of mode 0700 and on no network, it runs
//! as an ordinary user even where we are root (PostgreSQL refuses to be root), and it ends when this process does, however
//! that ends.

use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::process::{self, probe, step};

pub(crate) const HELP: &str = "\
Start a PostgreSQL for tests, run a command beside it, and take it away again.

Usage: cargo xtask postgres [command…]

The command finds its address in COMITY_TEST_POSTGRES. Without a command the address is printed, and the server stays until
Ctrl-C. `cargo xtask test postgres` is this with every test that needs a PostgreSQL. Where COMITY_TEST_POSTGRES is set, both use
the server that it names, in which they must be allowed to make databases; tests that break a server start their own all the same.

Example: cargo xtask postgres cargo nextest run --profile postgres -p comity-gateway
";

/// Where tests read the address.
pub(crate) const VARIABLE: &str = "COMITY_TEST_POSTGRES";
/// Every test has a few connections, and there are as many tests at once as processors.
const CONNECTIONS_MAX: u32 = 300;
const START_WAIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(30);

/// What a server promises of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing beyond its own end.
    None,
    /// It is on the disk.
    Durable,
}

/// A running server. It ends when this is dropped, and also when this process dies: a shell waits for the end of its
/// standard input and then stops the server and removes its folder.
pub(crate) struct Cluster {
    keeper: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
    socket: PathBuf,
}

/// The keeper. `$1` is the folder; what follows runs the server.
const KEEPER: &str =
    "dir=$1; shift; \"$@\" & server=$!; cat >/dev/null; kill -INT $server; wait $server; rm -rf \"$dir\"";

impl Cluster {
    /// Finds PostgreSQL (as root on Debian: installs it), makes a cluster and starts it. A test's server forgets what a
    /// power cut would take; one that is measured keeps everything, as PostgreSQL does by itself.
    pub(crate) fn start(promise: Promise) -> Result<Self> {
        let bin = binaries()?;
        let user = User::find()?;
        let dir = folder(&user)?;
        let socket = dir.join("socket");
        let data = dir.join("data");
        let mut initdb = user.command(&bin.join("initdb"));
        initdb.args(["--no-sync", "--username=comity", "--encoding=UTF8", "--locale=C", "--auth-local=trust"]);
        initdb.args(["--auth-host=reject", "-D"]).arg(&data);
        let made = initdb.output().map_err(|error| Failure::machine(format!("cannot run initdb: {error}")))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            let _ = std::fs::remove_dir_all(&dir);
            return Err(Failure::machine(format!("initdb failed: {said}")));
        }
        let log = std::fs::File::create(dir.join("log"))
            .map_err(|error| Failure::machine(format!("cannot write {}: {error}", dir.display())))?;
        let mut keeper = user.command(Path::new("/bin/sh"));
        keeper.args(["-c", KEEPER, "sh"]).arg(&dir).arg(bin.join("postgres")).arg("-D").arg(&data);
        keeper.arg("-k").arg(&socket).args(["-c", "listen_addresses="]);
        keeper.args(["-c", &format!("max_connections={CONNECTIONS_MAX}")]);
        if promise == Promise::None {
            keeper.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        // A group of its own: Ctrl-C reaches us, and we end it.
        keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut keeper = keeper.spawn().map_err(|error| Failure::machine(format!("cannot run a shell: {error}")))?;
        let lifeline = keeper.stdin.take();
        let cluster = Self { keeper, lifeline, socket };
        cluster.until_ready(&bin, &dir)?;
        Ok(cluster)
    }

    fn until_ready(&self, bin: &Path, dir: &Path) -> Result {
        let socket = self.socket.to_string_lossy();
        let is_ready = bin.join("pg_isready").to_string_lossy().into_owned();
        let started = Instant::now();
        while probe(&is_ready, &["-h", &socket, "-U", "comity", "-d", "postgres"]).is_none() {
            if started.elapsed() > START_WAIT {
                let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                return Err(Failure::machine(format!("PostgreSQL did not start within 30 s: {log}")));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://comity@localhost/postgres?host={}", self.socket.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.keeper.wait();
    }
}

/// A server for tests: the one that was named, or one that is started.
pub(crate) enum Server {
    Named(String),
    Started(Cluster),
}

impl Server {
    pub(crate) fn find() -> Result<Self> {
        match std::env::var(VARIABLE) {
            Ok(url) if !url.contains("://") => Err(Failure::machine(format!(
                "{VARIABLE} is no address: postgres://USER:PASSWORD@HOST:PORT/DATABASE, or leave it out and one is started"
            ))),
            Ok(url) => Ok(Self::Named(url)),
            Err(_) => Cluster::start(Promise::None).map(Self::Started),
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Named(url) => url.clone(),
            Self::Started(cluster) => cluster.url(),
        }
    }
}

pub(crate) fn run(place: &Place, args: &[String]) -> Result {
    let cluster = Server::find()?;
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    let Some((name, rest)) = args.split_first() else {
        if matches!(cluster, Server::Named(_)) {
            eprintln!("{VARIABLE} names a server already; nothing was started");
            return Ok(());
        }
        println!("export {VARIABLE}='{}'", cluster.url());
        eprintln!("a PostgreSQL runs until Ctrl-C; paste the line above into the shell that runs the tests");
        loop {
            std::thread::park();
        }
    };
    let mut command = if name == "cargo" { process::cargo(place) } else { process::program(place, name) };
    step("command", command.args(rest).env(VARIABLE, cluster.url()))
}

/// The folder with `initdb` and `postgres`. `pg_config` may be there without a server, so the programs are looked for.
pub(crate) fn binaries() -> Result<PathBuf> {
    if let Some(found) = look() {
        return Ok(found);
    }
    process::install(&["postgresql"])?;
    look().ok_or_else(|| {
        Failure::machine("PostgreSQL was installed and initdb is in none of the usual places")
            .hint("put pg_config into PATH")
    })
}

/// What `doctor` shows.
pub(crate) fn look() -> Option<PathBuf> {
    let is_whole =
        |folder: &PathBuf| ["initdb", "postgres", "pg_isready"].iter().all(|name| folder.join(name).is_file());
    let told = probe("pg_config", &["--bindir"]).map(PathBuf::from);
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable();
    told.into_iter().chain(versions.into_iter().rev().map(|(_, folder)| folder)).find(is_whole)
}

/// Whom the server runs as: us, or somebody with few rights where we are root.
struct User(Option<(u32, u32)>);

impl User {
    fn find() -> Result<Self> {
        if probe("id", &["-u"]).as_deref() != Some("0") {
            return Ok(Self(None));
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let ids = |name: &str| {
            let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut numbers = line.split(':').skip(2);
            Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
        };
        let found = ids("postgres").or_else(|| ids("nobody"));
        found.map(|ids| Self(Some(ids))).ok_or_else(|| {
            Failure::machine("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
        })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // Not the checkout: another user may not be allowed to look at it.
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }
}

fn folder(user: &User) -> Result<PathBuf> {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_nanos());
    let dir = std::env::temp_dir().join(format!("comity-postgres-{}-{since}", std::process::id()));
    let failed = |error| Failure::machine(format!("cannot make {}: {error}", dir.display()));
    for made in [dir.clone(), dir.join("socket")] {
        std::fs::DirBuilder::new().mode(0o700).create(&made).map_err(failed)?;
        if let Some((uid, gid)) = user.0 {
            chown(&made, Some(uid), Some(gid)).map_err(failed)?;
        }
    }
    Ok(dir)
}

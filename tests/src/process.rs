//! Processes of the built binary.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use comity_wire::NodeId;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// What a service prints on stdout, once, when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    pub node: NodeId,
    pub door: String,
    #[serde(default)]
    pub libp2p: Vec<String>,
}

/// A running service. Dropping it kills the process.
#[derive(Debug)]
pub struct Service {
    pub ready: Ready,
    pub home: PathBuf,
    name: &'static str,
    arguments: Vec<String>,
    child: Child,
}

/// Longer than any start takes on a slow and busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// Somebody else may have been given the port of a process that was killed.
const RESTART_TRIES: u32 = 5;

/// The binary beside this test: `target/debug/deps/it-…` → `target/debug/comity`.
///
/// # Panics
/// Where it was not built.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in deps/ of a profile's folder");
    let path = folder.join(format!("comity{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not there: run `cargo build -p comity-node` first", path.display());
    path
}

fn command() -> Command {
    let mut command = Command::new(binary());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// Where it cannot be started.
pub async fn run(arguments: &[&str]) -> Ended {
    let output = command().args(arguments).output().await.expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ended { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// [`run`], for commands that must succeed; gives their stdout.
///
/// # Panics
/// Where it fails, with what it said.
pub async fn expect(arguments: &[&str]) -> String {
    let ended = run(arguments).await;
    assert!(ended.success, "`comity {}` failed:\n{}\n{}", arguments.join(" "), ended.stdout, ended.stderr);
    ended.stdout
}

impl Service {
    /// Starts `comity NOUN run --home HOME …` on ports of the system's choice and waits until it is ready.
    ///
    /// # Panics
    /// Where it does not come up, with its log.
    pub async fn start(name: &'static str, noun: &str, home: &Path, hub: Option<&str>) -> Self {
        let mut arguments = vec![noun.to_owned(), "run".to_owned(), "--home".to_owned(), home.display().to_string()];
        if let Some(hub) = hub {
            arguments.extend(["--hub".to_owned(), hub.to_owned()]);
        }
        let (child, ready) =
            launch(name, &arguments, "127.0.0.1:0", home).await.unwrap_or_else(|said| panic!("{said}"));
        Self { ready, home: home.to_owned(), name, arguments, child }
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("the service was not ended")
    }

    /// Kill −9: no handler runs, nothing is flushed.
    ///
    /// # Panics
    /// Where it has ended before by itself.
    pub async fn kill(&mut self) {
        assert!(self.child.try_wait().expect("a child can be asked").is_none(), "{} ended by itself", self.name);
        self.child.kill().await.expect("a child can be killed");
    }

    /// Starts it again from its home, on the port it had: callers know the door by its address.
    ///
    /// # Panics
    /// Where it does not come up.
    pub async fn restart(&mut self) {
        let listen = self.ready.door.trim_start_matches("https://").to_owned();
        let mut said = String::new();
        for _ in 0..RESTART_TRIES {
            match launch(self.name, &self.arguments, &listen, &self.home).await {
                Ok((child, ready)) => {
                    (self.child, self.ready) = (child, ready);
                    return;
                }
                Err(failed) => said = failed,
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        panic!("{said}");
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn end(&mut self) {
        let Some(id) = self.child.id() else { return };
        Command::new("kill").args(["-TERM", &id.to_string()]).status().await.expect("kill runs");
        let ended = tokio::time::timeout(END_TIMEOUT, self.child.wait()).await;
        assert!(ended.is_ok(), "{} did not end within {END_TIMEOUT:?} of being asked", self.name);
    }

    /// What it has logged, for a test that fails.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log(self.name, &self.home)).unwrap_or_default()
    }
}

fn log(name: &str, home: &Path) -> PathBuf {
    home.with_file_name(format!("{name}.log"))
}

async fn launch(name: &str, arguments: &[String], listen: &str, home: &Path) -> Result<(Child, Ready), String> {
    let path = log(name, home);
    let errors = std::fs::File::options().create(true).append(true).open(&path).expect("a log can be made");
    let mut child = command()
        .args(arguments)
        .args(["--listen", listen])
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout was piped")).lines();
    let line = tokio::time::timeout(READY_TIMEOUT, lines.next_line()).await;
    let Ok(Ok(Some(line))) = line else {
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        return Err(format!("{name} did not come up:\n{said}"));
    };
    let ready = serde_json::from_str(&line).map_err(|error| format!("{name} is not ready but says {line}: {error}"))?;
    // Whatever else it prints must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, ready))
}

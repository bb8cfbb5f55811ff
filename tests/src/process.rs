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
    /// Empty where it has no HTTPS door.
    #[serde(default)]
    pub door: String,
    #[serde(default)]
    pub quic: Option<String>,
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
    /// Its doors, as it was told at its first start.
    doors: Vec<String>,
    child: Child,
}

/// Longer than any start takes on a slow and busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// Somebody else may have been given the port of a process that was killed, for as long as one connection by QUIC stands.
const RESTART_TRIES: u32 = 120;
/// What `std::process::abort` ends a process with.
const SIGABRT: i32 = 6;

/// The built binary.
///
/// # Panics
/// Where it was not built.
pub fn binary() -> PathBuf {
    built("comity")
}

/// The same program, with failpoints (`src/bin/comity-crash.rs`).
///
/// # Panics
/// Where it was not built.
pub fn crash_binary() -> PathBuf {
    built("comity-crash")
}

/// Beside this program: a test is `target/debug/deps/it-…`, an example `target/release/examples/…`, a binary lies in
/// `target/debug` itself.
fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own path");
    let beside = own.parent().expect("a program lies in a folder");
    let is_below = beside.ends_with("deps") || beside.ends_with("examples");
    let folder = if is_below { beside.parent().expect("it lies in a folder") } else { beside };
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let hint = "run `cargo build --workspace --all-targets` first";
    assert!(path.is_file(), "{} is not there: {hint}", path.display());
    path
}

fn command(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A program, with something said to the shell before; `exec` keeps the process's id.
fn shell(first: &str, program: &Path) -> Command {
    let mut command = command("sh".into());
    command.args(["-c", &format!("{first}; exec \"$0\" \"$@\"")]).arg(program);
    command
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl From<std::process::Output> for Ended {
    fn from(output: std::process::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Self { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// Runs a command to its end.
///
/// # Panics
/// Where it cannot be started.
pub async fn run(arguments: &[&str]) -> Ended {
    command(binary()).args(arguments).output().await.expect("the binary starts").into()
}

/// [`run`], with something in its environment.
///
/// # Panics
/// Where it cannot be started.
pub async fn run_with(environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = command(binary());
    command.args(arguments).envs(environment.iter().copied()).output().await.expect("the binary starts").into()
}

/// [`run`], by somebody whose home is this folder, and who types there.
///
/// # Panics
/// Where it cannot be started.
pub async fn run_in(folder: &Path, arguments: &[&str]) -> Ended {
    command_in(folder).args(arguments).output().await.expect("the binary starts").into()
}

fn command_in(folder: &Path) -> Command {
    let mut command = command(binary());
    command.current_dir(folder).env("HOME", folder).env_remove("COMITY_HOME").env_remove("XDG_CONFIG_HOME");
    command
}

/// [`spawn`], by somebody whose home is this folder.
///
/// # Panics
/// Where it cannot be started.
pub fn spawn_in(folder: &Path, arguments: &[&str]) -> Child {
    command_in(folder).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// A command that goes on until it is told to stop.
///
/// # Panics
/// Where it cannot be started.
pub fn spawn(arguments: &[&str]) -> Child {
    command(binary()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// Tells it to stop, and gives what it said.
///
/// # Panics
/// Where it does not end.
pub async fn stop(child: Child) -> Ended {
    let id = child.id().expect("it runs");
    Command::new("kill").args(["-TERM", &id.to_string()]).status().await.expect("kill runs");
    let output = tokio::time::timeout(END_TIMEOUT, child.wait_with_output()).await.expect("it ends");
    let output = output.expect("it was started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ended { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// [`run`], of the program that dies where it is told to: `at` is `POINT:COUNT`.
///
/// # Panics
/// Where it cannot be started.
pub async fn run_armed(arguments: &[&str], at: &str) -> Ended {
    // No core file, whatever the machine is set to.
    let mut command = shell("ulimit -c 0", &crash_binary());
    let output = command.env("COMITY_CRASH_AT", at).args(arguments).output().await.expect("the binary starts");
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
        Self::start_at(name, noun, home, hub, &["--listen", "127.0.0.1:0"]).await
    }

    /// [`Service::start`] with doors of the test's choice; started again, it has them where they were.
    ///
    /// # Panics
    /// As that.
    pub async fn start_at(name: &'static str, noun: &str, home: &Path, hub: Option<&str>, doors: &[&str]) -> Self {
        let mut arguments = vec![noun.to_owned(), "run".to_owned(), "--home".to_owned(), home.display().to_string()];
        if let Some(hub) = hub {
            arguments.extend(["--hub".to_owned(), hub.to_owned()]);
        }
        let listen: Vec<_> = doors.iter().map(|&argument| argument.to_owned()).collect();
        let (child, ready) = launch(command(binary()), name, &arguments, &listen, home)
            .await
            .unwrap_or_else(|not_up| panic!("{}", not_up.said));
        Self { ready, home: home.to_owned(), name, arguments, doors: listen, child }
    }

    /// What later starts are told beside what the first was.
    pub fn also(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
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

    /// Starts it again from its home, on the ports it had: others know its doors by their addresses.
    ///
    /// # Panics
    /// Where it does not come up.
    pub async fn restart(&mut self) {
        let armed = self.launch_again(|| command(binary())).await;
        assert!(armed.is_ok(), "nothing ends `comity` but a signal, and it got none: {}", self.log());
    }

    /// [`Service::restart`], of `program`, told by `at`, `POINT:COUNT`, where to die: [`crash_binary`] does as it is told.
    ///
    /// # Errors
    /// [`Died`] where it came to the point before it was ready.
    ///
    /// # Panics
    /// Where it does not come up for another reason.
    pub async fn restart_armed(&mut self, program: &Path, at: &str) -> Result<(), Died> {
        self.launch_again(|| {
            // No core file, whatever the machine is set to.
            let mut command = shell("ulimit -c 0", program);
            command.env("COMITY_CRASH_AT", at);
            command
        })
        .await
    }

    /// [`Service::restart`], of a process that hears of a file that may not grow as of a disk that is full: by an error, not
    /// by a signal that ends it.
    ///
    /// # Panics
    /// As that.
    pub async fn restart_bounded(&mut self) {
        let ended = self.launch_again(|| shell("trap '' XFSZ", &binary())).await;
        assert!(ended.is_ok(), "nothing ends `comity` but a signal, and it got none: {}", self.log());
    }

    async fn launch_again(&mut self, program: impl Fn() -> Command) -> Result<(), Died> {
        let mut listen = self.doors.clone();
        for word in 1..listen.len() {
            let had = match (listen[word - 1].as_str(), &self.ready.quic) {
                ("--listen", _) => self.ready.door.strip_prefix("https://"),
                ("--quic", Some(quic)) => quic.strip_prefix("quic://"),
                _ => None,
            };
            if let Some(address) = had {
                listen[word] = address.to_owned();
            }
        }
        if let Some(port) = self.ready.libp2p.iter().find_map(|address| address.split_once("/tcp/")) {
            listen.extend(["--libp2p".to_owned(), format!("127.0.0.1:{}", port.1)]);
        }
        let mut said = String::new();
        for _ in 0..RESTART_TRIES {
            match launch(program(), self.name, &self.arguments, &listen, &self.home).await {
                Ok((child, ready)) => {
                    (self.child, self.ready) = (child, ready);
                    return Ok(());
                }
                Err(NotUp { aborted: true, .. }) => return Err(Died),
                Err(not_up) => said = not_up.said,
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        panic!("{said}");
    }

    /// Waits until it has died at its failpoint; whether it did within `patience`.
    ///
    /// # Panics
    /// Where it ended in another way.
    pub async fn died(&mut self, patience: Duration) -> bool {
        let Ok(status) = tokio::time::timeout(patience, self.child.wait()).await else { return false };
        let status = status.expect("a child can be waited for");
        assert!(is_abort(status), "{} ended by itself ({status}):\n{}", self.name, self.log());
        true
    }

    /// Asks it to end, by SIGTERM.
    ///
    /// # Panics
    /// Where it cannot be told.
    pub async fn ask_to_end(&self) {
        let Some(id) = self.child.id() else { return };
        Command::new("kill").args(["-TERM", &id.to_string()]).status().await.expect("kill runs");
    }

    /// Waits until it has ended; whether it says that it ended well.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn ended(&mut self) -> bool {
        let ended = tokio::time::timeout(END_TIMEOUT, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} did not end within {END_TIMEOUT:?} of being asked", self.name));
        ended.expect("a child can be waited for").success()
    }

    /// Whether it runs.
    ///
    /// # Panics
    /// Where the system does not say.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn end(&mut self) {
        self.ask_to_end().await;
        self.ended().await;
    }

    /// What it has logged, for a test that fails.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log(self.name, &self.home)).unwrap_or_default()
    }
}

/// It came to its failpoint before it was ready.
#[derive(Clone, Copy, Debug)]
pub struct Died;

struct NotUp {
    said: String,
    aborted: bool,
}

fn is_abort(status: std::process::ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGABRT)
}

fn log(name: &str, home: &Path) -> PathBuf {
    home.with_file_name(format!("{name}.log"))
}

async fn launch(
    mut command: Command,
    name: &str,
    arguments: &[String],
    listen: &[String],
    home: &Path,
) -> Result<(Child, Ready), NotUp> {
    let path = log(name, home);
    let errors = std::fs::File::options().create(true).append(true).open(&path).expect("a log can be made");
    let started = command.args(arguments).args(listen).stdout(Stdio::piped()).stderr(errors).spawn();
    let mut child = started.expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout was piped")).lines();
    let line = tokio::time::timeout(READY_TIMEOUT, lines.next_line()).await;
    let Ok(Ok(Some(line))) = line else {
        let ended = tokio::time::timeout(END_TIMEOUT, child.wait()).await;
        let aborted = matches!(ended, Ok(Ok(status)) if is_abort(status));
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        return Err(NotUp { said: format!("{name} did not come up:\n{said}"), aborted });
    };
    let ready =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name} is not ready but says {line}: {error}"));
    // Whatever else it prints must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, ready))
}

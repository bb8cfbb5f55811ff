//! The demo's processes: started from this very program, ended by their ids.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::failure::{Failure, While as _};

/// What a service prints on stdout, once, when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ready {
    pub(super) node: comity_wire::NodeId,
    pub(super) door: String,
    #[serde(default)]
    pub(super) libp2p: Vec<String>,
}

/// A running service. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) ready: Ready,
    child: Child,
}

/// Longer than any start takes on a slow machine; a service that is not up by then never will be.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const END_TIMEOUT: Duration = Duration::from_secs(10);

fn program() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe().while_("cannot find this program")?))
}

/// Runs a command to its end and gives what it printed.
pub(super) async fn run(arguments: &[&str]) -> Result<String, Failure> {
    let output = program()?.args(arguments).stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(format!("`comity {}` failed", arguments.join(" "))).because(said))
}

impl Service {
    pub(super) async fn start(name: &'static str, arguments: &[&str], folder: &Path) -> Result<Self, Failure> {
        let log = folder.join(format!("{name}.log"));
        let errors = std::fs::File::create(&log)?;
        let mut child = program()?
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .while_(format!("cannot start {name}"))?;
        let stdout = child.stdout.take().expect("stdout was piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(READY_TIMEOUT, lines.next_line()).await;
        let ready = match line {
            Ok(Ok(Some(line))) => {
                serde_json::from_str(&line).while_(format!("{name} said something else than ready: {line}"))?
            }
            _ => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::new(format!("{name} did not come up")).because(said));
            }
        };
        // Whatever else it prints must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { ready, child })
    }

    /// Asks it to end, then makes it.
    pub(super) async fn end(mut self) {
        if let Some(id) = self.child.id() {
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await.ok();
        }
        if tokio::time::timeout(END_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await.ok();
        }
    }
}

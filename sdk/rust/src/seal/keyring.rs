//! The operating system's keyring, asked by its own tool: `secret-tool` of libsecret, `security` on a Mac.
//!
//! A tool, and no crate: a D-Bus client is some forty crates in a wheel that many run where there is no keyring. What is secret goes
//! over a pipe and never stands among a process's arguments (decision 0093).

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use comity_wire::Digest;
use zeroize::Zeroizing;

use super::Secret;

/// What keeps a secret for whoever is logged in.
pub trait Keyring: Send + Sync {
    /// # Errors
    /// [`KeyringError`].
    fn put(&self, account: &str, secret: &[u8; 32]) -> Result<(), KeyringError>;

    /// # Errors
    /// [`KeyringError::Missing`] where it keeps none under this name.
    fn get(&self, account: &str) -> Result<Secret, KeyringError>;

    /// # Errors
    /// [`KeyringError`].
    fn forget(&self, account: &str) -> Result<(), KeyringError>;
}

/// Why a keyring was of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    #[error("there is no keyring: {tool} cannot be run")]
    Tool { tool: &'static str, source: std::io::Error },
    #[error("the keyring does not answer ({tool}): {said}")]
    Refused { tool: &'static str, said: String },
    #[error("the keyring has not answered within {} s", PATIENCE.as_secs())]
    Late,
    #[error("the keyring keeps nothing for this folder")]
    Missing,
}

impl KeyringError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Tool { .. } => {
                "install it (Debian: libsecret-tools), or use a passphrase: comity wallet seal --passphrase"
            }
            Self::Refused { .. } | Self::Late => {
                "unlock it by logging in at the desktop; where there is none (ssh, a job), a passphrase is what works: comity wallet seal --passphrase"
            }
            Self::Missing => {
                "log in as the person, and on the computer, that sealed it; a wallet that moves goes by comity wallet export"
            }
        }
    }
}

/// The one of this operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

/// Somebody may have to type a password in first.
const PATIENCE: Duration = Duration::from_secs(120);
const SERVICE: &str = "comity";
const ANSWER_MAX: u64 = 4096;

#[cfg(not(target_os = "macos"))]
impl Keyring for System {
    fn put(&self, account: &str, secret: &[u8; 32]) -> Result<(), KeyringError> {
        let text = Zeroizing::new(Digest(*secret).to_string());
        let arguments = ["store", "--label=Comity wallet", "service", SERVICE, "account", account];
        run("secret-tool", &arguments, text.as_bytes()).map(drop)
    }

    fn get(&self, account: &str) -> Result<Secret, KeyringError> {
        let text = run("secret-tool", &["lookup", "service", SERVICE, "account", account], b"");
        let text = text.map_err(|error| match error {
            // It says nothing where there is nothing.
            KeyringError::Refused { said, .. } if said.is_empty() => KeyringError::Missing,
            error => error,
        })?;
        secret_of(&text)
    }

    fn forget(&self, account: &str) -> Result<(), KeyringError> {
        run("secret-tool", &["clear", "service", SERVICE, "account", account], b"").map(drop)
    }
}

#[cfg(target_os = "macos")]
impl Keyring for System {
    fn put(&self, account: &str, secret: &[u8; 32]) -> Result<(), KeyringError> {
        // Its commands come over the pipe, so that the secret is no argument of a process.
        let text = Zeroizing::new(Digest(*secret).to_string());
        let command = format!("add-generic-password -U -s {SERVICE} -a {account} -w {}\n", &*text);
        let command = Zeroizing::new(command);
        run("security", &["-i"], command.as_bytes()).map(drop)
    }

    fn get(&self, account: &str) -> Result<Secret, KeyringError> {
        let text = run("security", &["find-generic-password", "-s", SERVICE, "-a", account, "-w"], b"");
        let text = text.map_err(|error| match error {
            KeyringError::Refused { said, .. } if said.contains("could not be found") => KeyringError::Missing,
            error => error,
        })?;
        secret_of(&text)
    }

    fn forget(&self, account: &str) -> Result<(), KeyringError> {
        run("security", &["delete-generic-password", "-s", SERVICE, "-a", account], b"").map(drop)
    }
}

fn secret_of(text: &[u8]) -> Result<Secret, KeyringError> {
    let text = std::str::from_utf8(text).unwrap_or_default().trim();
    text.parse::<Digest>().map(|secret| Zeroizing::new(secret.0)).map_err(|_| KeyringError::Missing)
}

/// Runs a tool to its end, and gives what it said.
fn run(tool: &'static str, arguments: &[&str], input: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| KeyringError::Tool { tool, source })?;
    let io = |source| KeyringError::Tool { tool, source };
    if let Some(mut stdin) = child.stdin.take() {
        // One that left without reading says why.
        let _ = stdin.write_all(input);
    }
    let said = child.stdout.take().map(drain);
    let complained = child.stderr.take().map(drain);
    let Some(said) = said.and_then(|said| said.recv_timeout(PATIENCE).ok()) else {
        return Err(ended(child, KeyringError::Late));
    };
    let status = child.wait().map_err(io)?;
    if status.success() {
        return Ok(said);
    }
    let complained = complained.and_then(|said| said.recv_timeout(PATIENCE).ok()).unwrap_or_default();
    let text: String = String::from_utf8_lossy(&complained).trim().chars().take(200).collect();
    Err(KeyringError::Refused { tool, said: text })
}

fn ended(mut child: Child, error: KeyringError) -> KeyringError {
    let _ = child.kill();
    let _ = child.wait();
    error
}

/// All that comes out of a pipe until it is closed, within a bound.
fn drain(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<Zeroizing<Vec<u8>>> {
    let (give, take) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut said = Zeroizing::new(Vec::with_capacity(ANSWER_MAX as usize));
        let _ = pipe.take(ANSWER_MAX).read_to_end(&mut said);
        let _ = give.send(said);
    });
    take
}

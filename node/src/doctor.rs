//! What is wrong with a house or a node, and whose move is next: looked at from its home, whether it runs or not.
//!
//! Each check is one sentence of what was found, and one of what to do where it is not well. Nothing is changed but that the
//! writers' lock is taken once and given back.

mod books;
mod home;
mod machine;
pub mod node;

use comity_wire::Timestamp;
use serde::Serialize;

use crate::home::Home;
use crate::service::admin;
use crate::shell;

/// How well one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    /// It works, and will not always.
    Warn,
    /// It does not work, or must not.
    Fail,
}

#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub check: &'static str,
    pub state: State,
    pub found: String,
    /// Whose move is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), next: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, state: State::Warn, found: found.into(), next: Some(next.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, state: State::Fail, found: found.into(), next: Some(next.into()) }
    }
}

/// What was looked at, in the order in which it is to be mended.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `house` or `node`.
    #[serde(skip)]
    pub what: &'static str,
    pub at: Timestamp,
    /// Whether nothing fails.
    pub well: bool,
    pub running: bool,
    pub checks: Vec<Check>,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What takes no time, however large the books are.
    Quick,
    /// Every page and every row: the whole audit.
    Full,
}

/// Looks at everything.
pub async fn look(home: &Home, depth: Depth) -> Report {
    let now = shell::now();
    // A service that answers is running, whatever it says.
    let running = admin::get::<serde_json::Value>(&home.path, "/admin/log").await.is_ok();
    let mut checks = home::checks(home, now);
    checks.extend(machine::checks(home));
    checks.extend(books::checks(home, now, depth, running).await);
    checks.push(home::backup(home, now));
    let well = checks.iter().all(|check| check.state < State::Fail);
    Report { what: "house", at: now, well, running, checks }
}

impl Report {
    /// For people, legible without colour.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Check { check, state, found, next } in &self.checks {
            let state = match state {
                State::Ok => "ok",
                State::Warn => "WARN",
                State::Fail => "FAIL",
            };
            text.push_str(&format!("{state:<5} {check}: {found}\n"));
            if let Some(next) = next {
                text.push_str(&format!("      next: {next}\n"));
            }
        }
        let count = |state| self.checks.iter().filter(|check| check.state == state).count();
        let running = if self.running { "running" } else { "not running" };
        text.push_str(&format!(
            "{} failures, {} warnings; the {} is {running}",
            count(State::Fail),
            count(State::Warn),
            self.what
        ));
        text
    }
}

/// A stretch of time, as people say it.
fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

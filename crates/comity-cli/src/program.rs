//! The program that researchers install alone, and what it says to somebody who comes for the first time.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{CommandFactory as _, Parser, Subcommand};
pub use clap_complete::Shell;
use comity_sdk::Profile;

use crate::command::{Command, run};
use crate::printer::say;
use crate::session::{self, Folder};

/// Ask AI models that stay with their owners, within a research budget, with a receipt for each answer.
#[derive(Parser)]
#[command(
    name = "comity",
    version,
    max_term_width = 100,
    propagate_version = true,
    after_help = "Owners, hubs and clearing houses run the full program: it is built from the sources."
)]
struct Arguments {
    #[command(flatten)]
    folder: Folder,
    #[command(subcommand)]
    command: Option<Any>,
}

#[derive(Subcommand)]
enum Any {
    #[command(flatten)]
    Researcher(Box<Command>),
    /// Print what a shell needs to complete commands
    Completions { shell: Shell },
}

/// What a shell needs to complete a program's commands, to stdout.
pub fn completions(shell: Shell, program: &mut clap::Command) {
    let mut script = Vec::new();
    clap_complete::generate(shell, program, "comity", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
}

/// Runs one command; `arguments` begin with the program's name. Gives the exit code.
///
/// # Panics
/// Where the operating system gives no threads.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Also help and version, which are no failures.
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    let Some(command) = arguments.command else {
        say(&lesson(arguments.folder.home));
        return 0;
    };
    let command = match command {
        Any::Researcher(command) => *command,
        Any::Completions { shell } => {
            completions(shell, &mut Arguments::command());
            return 0;
        }
    };
    comity_sdk::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("the operating system gives threads");
    match runtime.block_on(run(command, arguments.folder, &(Arc::new(|_: &'static str| {}) as _))) {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("{failure}");
            1
        }
    }
}

/// Where this person stands, and what comes next.
pub fn lesson(home: Option<PathBuf>) -> String {
    let steps = session::home(home).map_or_else(|failure| failure.to_string(), |home| next(&home));
    format!(
        "comity: ask AI models that stay with their owners, within a research budget, with a receipt for each answer\n\n{steps}\n\n\
         All commands: comity --help"
    )
}

fn next(home: &Path) -> String {
    let profile = match Profile::load(home) {
        Ok(profile) => profile,
        Err(comity_sdk::profile::ProfileError::Missing { .. }) => {
            return "You have no profile yet. Ask your institution, or a hub's operator, for the federation's roster and a hub's \
                    address, then:\n\n  comity init --roster roster.cbor --entry https://HUB\n  comity login\n  comity whoami"
                .to_owned();
        }
        Err(error) => return format!("{error}\n{}", home.display()),
    };
    let mut steps = Vec::new();
    if profile.project.is_none() {
        steps.push(("comity project propose --help", "have a project, or let your PI take you into one"));
        steps.push(("comity mandate redeem mandate.cbor", "draw on somebody's budget, if they gave you a mandate"));
    }
    steps.extend([
        ("comity models search", "what may you use now, and what does it cost?"),
        ("comity estimate prompts.txt --models lab/a,lab/b", "what would a file of prompts cost?"),
        ("comity chat lab/a \"…\"", "ask one"),
        ("comity compare prompts.txt --models lab/a,lab/b --cap 0.1cr", "ask several, side by side, with a report"),
        ("comity proxy", "use any OpenAI client"),
        ("comity wallet status", "what is spent, and what can be"),
        ("comity receipts list", "what you have evidence of"),
        ("comity fingerprint take lab/a", "will it still be the same model when your reviewer asks?"),
    ]);
    let width = steps.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let lines = steps.iter().map(|(command, why)| format!("  {command:width$}  {why}"));
    format!("Your home folder is {}. What you can do:\n\n{}", home.display(), lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_first_is_told_the_first_step() {
        let home = tempfile::tempdir().unwrap();
        let told = lesson(Some(home.path().to_owned()));
        assert!(told.contains("comity init --roster") && !told.contains("comity compare"), "{told}");
        std::fs::write(home.path().join("profile.toml"), "roster = \"roster.cbor\"\nentry = []\n").unwrap();
        let told = lesson(Some(home.path().to_owned()));
        assert!(told.contains("comity compare") && told.contains("project propose"), "{told}");
    }

    #[test]
    fn each_command_of_the_lesson_is_one() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("profile.toml"), "roster = \"roster.cbor\"\nentry = []\n").unwrap();
        let told = lesson(Some(home.path().to_owned()));
        let commands = Arguments::command();
        for line in told.lines().filter_map(|line| line.strip_prefix("  comity ")) {
            let words: Vec<_> = line.split_whitespace().collect();
            let first = commands.find_subcommand(words[0]);
            assert!(first.is_some(), "{line}");
        }
    }
}

//! The one place that writes to a terminal.

use std::error::Error;

/// A failed command: what went wrong, and what to do next.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let hint = hint(&error);
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}\n  because: {error}");
            cause = error.source();
        }
        Self { message, hint }
    }
}

/// What a person can do about a code.
fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    use comity_wire::Code;
    let code = error.downcast_ref::<comity_sdk::Error>()?.code()?;
    let hint = match code {
        Code::GrantRequired => {
            "apply to the model's owner with `comity access apply MODEL`; once it is granted the same call succeeds"
        }
        Code::VettingTooLow => {
            "`comity whoami` says what is missing, and whose move it is; a token keeps the vetting with which it was drawn: once nothing is missing, `comity wallet finish`, and ask again"
        }
        Code::BudgetExhausted | Code::MaxTooLow => "raise the cap or ask for less: a shorter --max-tokens costs less",
        Code::BalanceTooLow => "the project's award is spent: see `comity project`",
        Code::StandingStale | Code::RosterBehind => "the node is catching up: try again in a minute",
        Code::Stale => "this computer's clock is off: set it and try again",
        Code::ModelStarting | Code::UpstreamUnavailable => "the owner's model is not up: try again later",
        Code::NotRegistered => "register your member key at the clearing house",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// A result, to stdout.
pub fn say(text: &str) {
    write(format_args!("{text}\n"));
}

/// A part of a result without a line's end.
pub(crate) fn say_part(text: &str) {
    write(format_args!("{text}"));
}

/// Whoever reads may have gone (`| head`): what was asked for is done all the same. A result that cannot be written is an
/// error.
#[expect(clippy::exit, reason = "a result that is lost must not look like a success")]
fn write(text: std::fmt::Arguments<'_>) {
    use std::io::{ErrorKind, Write as _};
    let mut stdout = std::io::stdout().lock();
    match stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: the result cannot be written: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Talk, to stderr.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Rows with aligned columns; the last column is not padded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// What somebody else wrote, as a terminal may show it: without what moves the cursor, changes the direction of writing, or begins a
/// command of the terminal's.
pub fn plain(text: &str) -> String {
    let is_hidden = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "22".to_owned()]];
        assert_eq!(super::table(&["name", "n"], &rows), "name  n\na     1\nlong  22");
    }

    #[test]
    fn what_a_stranger_wrote_moves_nothing_on_the_screen() {
        assert_eq!(
            super::plain("a\u{1b}[2Jb\rc\td\u{202e}e\u{9b}f\u{7f}\ng é"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f\u{fffd}\ng é"
        );
    }
}

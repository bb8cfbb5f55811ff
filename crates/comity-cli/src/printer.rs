//! The one place that writes to a terminal.

use std::error::Error;

use comity_sdk::profile::ProfileError;

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
        let any = &error as &(dyn Error + 'static);
        let of_profile = || any.downcast_ref::<ProfileError>().map(|error| error.hint().to_owned());
        let hint = any.downcast_ref::<comity_sdk::Error>().and_then(comity_sdk::Error::hint).or_else(of_profile);
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}\n  because: {error}");
            cause = error.source();
        }
        Self { message, hint }
    }
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

/// Writes a file that its owner alone may read: prompts and answers stand in it.
pub(crate) fn put_private(path: &std::path::Path, text: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text)
}

/// One line on a terminal that is written over; elsewhere a line now and then.
pub(crate) struct Running {
    is_terminal: bool,
    last: Option<std::time::Instant>,
}

impl Running {
    pub(crate) fn new() -> Self {
        use std::io::IsTerminal as _;
        let is_terminal = std::io::stderr().is_terminal();
        // Elsewhere a line is worth writing only where it takes a while.
        Self { is_terminal, last: (!is_terminal).then(std::time::Instant::now) }
    }

    /// `text` is made only where it is shown.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        let pause = std::time::Duration::from_millis(if self.is_terminal { 100 } else { 10_000 });
        if self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(std::time::Instant::now());
        if self.is_terminal {
            eprint!("\r\x1b[K{}", text());
        } else {
            eprintln!("{}", text());
        }
    }

    /// Leaves the terminal's line free.
    pub(crate) fn end(&self) {
        if self.is_terminal && self.last.is_some() {
            eprint!("\r\x1b[K");
        }
    }
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

/// A share; a dash where there is nothing to have a share of.
pub(crate) fn percent_of(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
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

//! A page of the documentation, played: its blocks, the words of its commands, and all its commands with what they stand for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{self, Ended};

/// For a story whose days have to be one day: where it is about to end, waits until it has.
pub async fn clear_of_midnight() {
    const DAY_S: u64 = 86_400;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let left = DAY_S - now % DAY_S;
    if left < 120 {
        tokio::time::sleep(std::time::Duration::from_secs(left + 1)).await;
    }
}

/// The blocks of one language, in their order.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let opened = page.split(&fence).skip(1);
    opened.map(|rest| rest.split("```").next().expect("a block ends").to_owned()).collect()
}

/// Words as a shell takes them, with double quotes; a comment ends the line.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut is_word) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, is_word) = (!quoted, true),
            ' ' if !quoted => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            '#' if !quoted && !is_word => break,
            c => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// The commands of a page, to be typed by whoever a story has, and which of them were.
#[derive(Debug)]
pub struct Script {
    commands: Vec<Command>,
    means: RefCell<BTreeMap<String, String>>,
    played: RefCell<Vec<Line>>,
}

/// A line that somebody typed, in the page's words.
#[derive(Debug)]
struct Line {
    words: Vec<String>,
    /// How many of them are the page's command; what was added stands behind.
    command: usize,
}

/// A command as the page has it.
#[derive(Debug, PartialEq, Eq)]
struct Command {
    words: Vec<String>,
    /// On a line of its own, to be typed as it is. Otherwise it stands within a sentence, which may leave words out.
    whole: bool,
}

/// Somebody who types commands in a folder that is their home, too.
#[derive(Clone, Debug)]
pub struct Typist<'a> {
    script: &'a Script,
    folder: PathBuf,
}

impl Script {
    /// # Panics
    /// Where the page has no commands.
    pub fn new(page: &str) -> Self {
        let mut commands = Vec::new();
        let (mut fenced, mut begun) = (false, String::new());
        for line in page.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                // Every second piece lies between backticks.
                for piece in line.split('`').skip(1).step_by(2) {
                    commands.extend(alternatives(piece, false));
                }
            } else if let Some(line) = line.trim_end().strip_suffix('\\') {
                begun.push_str(line);
            } else {
                begun.push_str(line);
                commands.extend(alternatives(&std::mem::take(&mut begun), true));
            }
        }
        let mut kept: Vec<Command> = Vec::new();
        for command in commands {
            match kept.iter_mut().find(|known| known.words == command.words) {
                Some(known) => known.whole |= command.whole,
                None => kept.push(command),
            }
        }
        assert!(!kept.is_empty(), "the page has no commands");
        Self { commands: kept, means: RefCell::default(), played: RefCell::default() }
    }

    /// What a reader puts where the page says `name`, from now on.
    pub fn means(&self, name: &str, value: impl std::fmt::Display) {
        self.means.borrow_mut().insert(name.to_owned(), value.to_string());
    }

    pub fn at(&self, folder: &Path) -> Typist<'_> {
        Typist { script: self, folder: folder.to_owned() }
    }

    /// Those that nobody has typed, but for `excused`: how each begins, and why.
    ///
    /// # Panics
    /// Where one is left, or one of the excused is no longer on the page.
    pub fn all_played(&self, excused: &[(&str, &str)]) {
        let played = self.played.borrow();
        let is_played = |command: &Command| {
            let whole = |line: &Line| line.words[..line.command] == command.words[..];
            let mentioned = |line: &Line| is_within(&command.words, &line.words);
            played.iter().any(|line| if command.whole { whole(line) } else { mentioned(line) })
        };
        let excused: Vec<_> = excused.iter().map(|(begins, _)| self.find(begins)).collect();
        let left: Vec<String> = self
            .commands
            .iter()
            .filter(|command| !is_played(command) && !excused.contains(command))
            .map(|command| command.words.join(" "))
            .collect();
        assert!(left.is_empty(), "commands of the page that nobody played:\n{}", left.join("\n"));
    }

    /// The one that begins so; where several do, the one that says no more.
    fn find(&self, begins: &str) -> &Command {
        let begins = words(begins);
        let mut found = self.commands.iter().filter(|command| command.words[1..].starts_with(&begins));
        let (first, more) = (found.next(), found.next().is_some());
        let same = self.commands.iter().find(|command| command.words[1..] == begins[..]);
        let chosen = same.or(if more { None } else { first });
        chosen.unwrap_or_else(|| panic!("the page has no command, or more than one, that begins {begins:?}"))
    }

    /// What was put in is not looked at again.
    fn filled(&self, word: &str) -> String {
        let means = self.means.borrow();
        let (mut filled, mut rest) = (String::new(), word);
        while let Some(next) = rest.chars().next() {
            // `did:key:…` before `…`.
            let longest =
                means.iter().filter(|(name, _)| rest.starts_with(&***name)).max_by_key(|(name, _)| name.len());
            let (value, taken) = match longest {
                Some((name, value)) => (value.as_str(), name.len()),
                None => (&rest[..next.len_utf8()], next.len_utf8()),
            };
            filled.push_str(value);
            rest = &rest[taken..];
        }
        filled
    }
}

/// A command for each side of a `|`; none where it is no command of the program.
fn alternatives(text: &str, whole: bool) -> Vec<Command> {
    let words = words(text.trim());
    if words.len() < 2 || words[0] != "comity" {
        return Vec::new();
    }
    let sides = words.iter().map(|word| word.split('|').count()).max().unwrap_or(1);
    let side = |number: usize| {
        let word = |word: &String| word.split('|').nth(number).unwrap_or(word).to_owned();
        Command { words: words.iter().map(word).collect(), whole }
    };
    (0..sides).map(side).collect()
}

/// Whether these words stand in a line in their order, whatever stands between them.
fn is_within(words: &[String], line: &[String]) -> bool {
    let mut rest = line.iter();
    words.iter().all(|word| rest.any(|other| other == word))
}

impl Typist<'_> {
    /// The page's command that begins so, with `more` behind, and its words as this reader types them.
    fn typed(&self, begins: &str, more: &str) -> (Line, Vec<String>) {
        let command = &self.script.find(begins).words;
        let line = Line { command: command.len(), words: [&command[..], &words(more)].concat() };
        let typed = line.words.iter().map(|word| self.script.filled(word)).skip(1).collect();
        (line, typed)
    }

    /// What was refused was not played.
    fn entered(&self, line: Line) {
        self.script.played.borrow_mut().push(line);
    }

    /// A command of the page, with `more` behind, to its end; where the page sends what it says to a file, it goes there.
    ///
    /// # Panics
    /// Where the page has no such command.
    pub async fn run_with(&self, begins: &str, more: &str) -> Ended {
        let (line, mut typed) = self.typed(begins, more);
        let file = typed.iter().position(|word| word == ">").map(|at| typed.drain(at..).nth(1).expect("a file's name"));
        let ended = self.ended(&typed).await;
        if let Some(file) = file {
            std::fs::write(self.folder.join(file), format!("{}\n", ended.stdout)).expect("it can be written");
        }
        if ended.success {
            self.entered(line);
        }
        ended
    }

    async fn ended(&self, typed: &[String]) -> Ended {
        let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
        process::run_in(&self.folder, &typed).await
    }

    /// [`Typist::run_with`], for one that must succeed; gives its stdout.
    ///
    /// # Panics
    /// Where it fails.
    pub async fn play_with(&self, begins: &str, more: &str) -> String {
        let ended = self.run_with(begins, more).await;
        assert!(ended.success, "`comity {begins} … {more}` failed:\n{}\n{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// # Panics
    /// As [`Typist::play_with`].
    pub async fn play(&self, begins: &str) -> String {
        self.play_with(begins, "").await
    }

    /// [`Typist::play_with`], for what it says in JSON.
    ///
    /// # Panics
    /// As that, and where it says something else.
    pub async fn json_with(&self, begins: &str, more: &str) -> Value {
        let said = self.play_with(begins, more).await;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{begins}: {error}: {said}"))
    }

    /// # Panics
    /// As [`Typist::json_with`].
    pub async fn json(&self, begins: &str) -> Value {
        self.json_with(begins, "").await
    }

    /// A command of the page that is refused; gives why.
    ///
    /// # Panics
    /// Where it is not refused.
    pub async fn refused_with(&self, begins: &str, more: &str) -> String {
        let ended = self.run_with(begins, more).await;
        assert!(!ended.success, "`comity {begins} … {more}` was not refused: {}", ended.stdout);
        ended.stderr
    }

    /// One of the page that goes on until it is stopped.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn spawn_with(&self, begins: &str, more: &str) -> tokio::process::Child {
        let (line, typed) = self.typed(begins, more);
        let child = process::spawn_in(&self.folder, &typed.iter().map(String::as_str).collect::<Vec<_>>());
        self.entered(line);
        child
    }

    /// A command that is not on the page, in the page's words. Where it does what it should, what the page says within a sentence was played
    /// by it, too.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn says(&self, line: &str) -> Ended {
        let words = words(line);
        let typed: Vec<_> = words.iter().map(|word| self.script.filled(word)).skip(1).collect();
        let ended = self.ended(&typed).await;
        if ended.success {
            self.entered(Line { command: words.len(), words });
        }
        ended
    }

    /// [`Typist::says`], for one that must succeed; gives its stdout.
    ///
    /// # Panics
    /// Where it fails.
    pub async fn also(&self, line: &str) -> String {
        let ended = self.says(line).await;
        assert!(ended.success, "`{line}` failed:\n{}\n{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// [`Typist::says`], for one that is refused; gives why.
    ///
    /// # Panics
    /// Where it is not refused.
    pub async fn fails(&self, line: &str) -> String {
        let ended = self.says(line).await;
        assert!(!ended.success, "`{line}` was not refused: {}", ended.stdout);
        ended.stderr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "Run `comity a show|end ID`, then `comity b`:\n```sh\ncomity a give --to ID \\\n    --now   # soon\n```\n";

    #[test]
    fn each_command_of_a_page_is_found_and_missed_where_it_was_not_played() {
        let script = Script::new(PAGE);
        let lines: Vec<String> = script.commands.iter().map(|command| command.words.join(" ")).collect();
        assert_eq!(lines, ["comity a show ID", "comity a end ID", "comity b", "comity a give --to ID --now"]);
        script.means("ID", 7);
        let typist = script.at(Path::new("."));
        for (begins, more, says) in [("a give", "--loud", "a give --to 7 --now --loud"), ("a show", "", "a show 7")] {
            let (line, typed) = typist.typed(begins, more);
            assert_eq!(typed.join(" "), says);
            typist.entered(line);
        }
        let missed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| script.all_played(&[("b", "later")])));
        let missed = *missed.expect_err("one is left").downcast::<String>().expect("words");
        assert!(missed.ends_with("played:\ncomity a end ID"), "{missed}");
        typist.entered(Line { words: words("comity a end now ID"), command: 5 });
        script.all_played(&[("b", "later")]);
    }
}

//! What the pages tell their readers to type is a command of this program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};

use super::Arguments;

/// What stands on a page for something of the reader's own, and one of that kind.
const STANDS_FOR: &[(&str, &str)] = &[
    ("ADDRESS@NODE", "/ip4/192.0.2.7/tcp/4001@node-byha4dqobyha4dqobyha4dqoby"),
    ("PROJECT", "proj-byha4dqobyha4dqobyha4dqoby"),
    ("AWARD", "award-byha4dqobyha4dqobyha4dqoby"),
    ("LOT", "lot-byha4dqobyha4dqobyha4dqoby"),
    ("ORG", "org-byha4dqobyha4dqobyha4dqoby"),
    ("TOKEN", "tok-byha4dqobyha4dqobyha4dqoby"),
    ("ACT", DIGEST),
    ("DISPUTE", DIGEST),
    ("RECEIPT", DIGEST),
    ("DIGEST", DIGEST),
    ("LINK", DIGEST),
    ("ID", DIGEST),
    ("PACKET", "7"),
    ("PERSON", "7"),
    ("KEY", "did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd"),
    ("did:key:…", "did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd"),
];
const DIGEST: &str = "abababababababababababababababababababababababababababababababab";
/// What follows an id's prefix; and what follows that of an application or a case.
const ID: &str = "byha4dqobyha4dqobyha4dqoby";
const LONG: &str = "abababababababababababababababab";
/// What a reader has to put there, and nothing here can stand for.
const HOLES: &[&str] = &["…", "...", "VKEY", "LOGKEY"];

/// A command as a page has it, and where.
struct Typed {
    place: String,
    text: String,
    /// Whether it stands on a line of its own, to be typed as it is.
    whole: bool,
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs/start", "docs/operating", "docs/reference"] {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder of pages");
        pages.extend(
            entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension() == Some("md".as_ref())),
        );
    }
    pages.sort();
    pages
}

/// Lines of fenced blocks that begin with the program's name, and what stands so between backticks.
fn typed(page: &Path) -> Vec<Typed> {
    let text = std::fs::read_to_string(page).expect("a page");
    let (mut found, mut fenced, mut begun) = (Vec::new(), false, None::<(usize, String)>);
    let name = page.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            (fenced, begun) = (!fenced, None);
            continue;
        }
        let place = |number: usize| format!("{name}:{number}");
        if !fenced {
            // Every second piece lies between backticks.
            for piece in line.split('`').skip(1).step_by(2).filter(|piece| piece.starts_with("comity ")) {
                found.push(Typed { place: place(number), text: piece.to_owned(), whole: false });
            }
            continue;
        }
        let (at, mut whole) = begun.take().unwrap_or((number, String::new()));
        let line = line.trim().strip_prefix("$ ").unwrap_or_else(|| line.trim());
        if whole.is_empty() && !line.starts_with("comity ") {
            continue;
        }
        whole.push_str(line.trim_end_matches('\\'));
        if line.ends_with('\\') {
            begun = Some((at, whole));
        } else {
            found.push(Typed { place: place(at), text: whole, whole: true });
        }
    }
    found
}

/// The words of a command line, as a shell has them; without what is behind it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_word) = (Vec::new(), String::new(), None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), letter) => word.push(letter),
            (None, '"' | '\'') => (quote, is_word) = (Some(letter), true),
            (None, '#' | '>' | '|' | '&' | ';') if !is_word => break,
            // What need not be typed may be.
            (None, '[' | ']') => {}
            (None, letter) if letter.is_whitespace() => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            (None, letter) => {
                word.push(letter);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

fn stands_for(word: &str) -> String {
    if let Some((_, one)) = STANDS_FOR.iter().find(|(name, _)| *name == word) {
        return (*one).to_owned();
    }
    match word.strip_suffix("-…") {
        Some(prefix @ ("app" | "case")) => format!("{prefix}-{LONG}"),
        Some(prefix) if prefix.chars().all(|letter| letter.is_ascii_lowercase()) => format!("{prefix}-{ID}"),
        _ => word.to_owned(),
    }
}

/// Whether the words lead to a command that has these options. What its arguments are is left to the reader.
fn leads(command: &clap::Command, words: &[String]) -> Result<(), String> {
    let mut at = command;
    let mut rest = words.iter().skip(1).skip_while(|word| word.starts_with('-'));
    for word in rest.by_ref() {
        let is_name = word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-') && !word.starts_with('-');
        match at.find_subcommand(word) {
            Some(next) => at = next,
            None if is_name && at.has_subcommands() && at.get_positionals().next().is_none() => {
                return Err(format!("'{}' has no command '{word}'", at.get_name()));
            }
            None => break,
        }
    }
    let known = |name: &str| {
        let long = |argument: &clap::Arg| {
            argument.get_long() == Some(name) || argument.get_all_aliases().is_some_and(|all| all.contains(&name))
        };
        at.get_arguments().any(long) || command.get_arguments().any(long) || ["help", "version"].contains(&name)
    };
    let options = words.iter().filter(|word| word.starts_with("--")).flat_map(|word| word.split('|'));
    let mut options =
        options.filter_map(|word| word.strip_prefix("--")).map(|word| word.split('=').next().unwrap_or(word));
    match options.find(|name| !name.is_empty() && !known(name)) {
        Some(name) => Err(format!("'{}' has no option '--{name}'", at.get_name())),
        None => Ok(()),
    }
}

fn program() -> clap::Command {
    let mut command = Arguments::command();
    command.build();
    command
}

fn is_understood(command: &clap::Command, typed: &Typed) -> Result<(), String> {
    let words: Vec<String> = words(&typed.text).iter().map(|word| stands_for(word)).collect();
    leads(command, &words)?;
    // One with a hole in it is no whole command.
    if !typed.whole || words.iter().any(|word| HOLES.contains(&word.as_str()) || word.contains('|')) {
        return Ok(());
    }
    match Arguments::try_parse_from(&words) {
        Ok(_) => Ok(()),
        Err(error)
            if [clap::error::ErrorKind::DisplayHelp, clap::error::ErrorKind::DisplayVersion]
                .contains(&error.kind()) =>
        {
            Ok(())
        }
        Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

#[test]
fn each_command_of_the_pages_can_be_typed() {
    let command = program();
    let all: Vec<Typed> = pages().iter().flat_map(|page| typed(page)).collect();
    assert!(all.iter().filter(|typed| typed.whole).count() > 150 && all.len() > 300, "{} commands", all.len());
    let mut wrong = String::new();
    for typed in &all {
        if let Err(why) = is_understood(&command, typed) {
            let _ = writeln!(wrong, "{}: {}\n    {why}", typed.place, typed.text);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_cannot_be_typed_is_found() {
    let command = program();
    let typed = |text: &str, whole| Typed { place: String::new(), text: text.into(), whole };
    for text in [
        "comity clearing award give --home house PROJECT --credits 100 --funder NSF --award 1   # a word",
        "comity clearing period list --home house > periods.json",
        "comity access apply lab/model --set purpose=\"which proteins fold\" --organisation \"Uni Jena\" [--person \"Ada Lovelace\"]",
    ] {
        assert_eq!(is_understood(&command, &typed(text, true)), Ok(()), "{text}");
    }
    for text in [
        "comity clearing awards give --home house",
        "comity clearing award give --home house PROJECT --credit 100",
        "comity clearing award give --home house PROJECT",
        "comity clearing period reopen --home house --to yesterday --reason x",
    ] {
        assert!(is_understood(&command, &typed(text, true)).is_err(), "{text}");
    }
    assert!(is_understood(&command, &typed("comity clearing award give … --ower org-…", false)).is_err());
    assert_eq!(is_understood(&command, &typed("comity clearing award give … --owner org-…", false)), Ok(()));
}

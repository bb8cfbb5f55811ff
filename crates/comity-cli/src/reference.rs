//! A program's commands as a page: from the code, so that the page cannot lag behind it.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// Every command that does something, with its arguments, under a heading of its own.
pub fn page(program: &Command) -> String {
    let mut text =
        "# Commands\n\nMade from the program (`cargo run -p comity-node --example reference`); a test holds the two together. Every \
         command has `--help`, and every researcher's command takes `--home DIR` before it.\n"
        .to_owned();
    for command in program.get_subcommands().filter(|command| !is_help(command)) {
        let _ =
            write!(text, "\n## {}\n{}\n", command.get_name(), sentence(command.get_about().map(ToString::to_string)));
        walk(command, program.get_name(), &mut text);
    }
    text
}

fn walk(command: &Command, before: &str, text: &mut String) {
    let name = format!("{before} {}", command.get_name());
    let below: Vec<_> = command.get_subcommands().filter(|command| !is_help(command)).collect();
    if below.is_empty() {
        one(command, &name, text);
    }
    for command in below {
        walk(command, &name, text);
    }
}

fn one(command: &Command, name: &str, text: &mut String) {
    let shown: Vec<&Arg> =
        command.get_arguments().filter(|argument| !argument.is_hide_set() && argument.get_id() != "help").collect();
    let (named, placed): (Vec<&Arg>, Vec<&Arg>) = shown.into_iter().partition(|argument| argument.get_long().is_some());
    let places = placed.iter().map(|argument| match (argument.is_required_set(), value(argument)) {
        (true, value) => format!(" {value}"),
        (false, value) => format!(" [{value}]"),
    });
    let _ = write!(
        text,
        "\n### {name}{}\n{}\n",
        places.collect::<String>(),
        sentence(command.get_about().map(ToString::to_string))
    );
    for argument in placed.into_iter().chain(named) {
        let _ = writeln!(text, "- {}", line(argument));
    }
}

fn line(argument: &Arg) -> String {
    let name = match argument.get_long() {
        Some(long) if argument.get_action().takes_values() => format!("`--{long} {}`", value(argument)),
        Some(long) => format!("`--{long}`"),
        None => format!("`{}`", value(argument)),
    };
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let mut said = String::new();
    if let Some(help) = argument.get_help() {
        let _ = write!(said, ": {}", help.to_string().replace('\n', " "));
    }
    if !defaults.is_empty() && argument.get_action().takes_values() {
        let _ = write!(said, " (default {})", defaults.join(" "));
    }
    if argument.is_required_set() && argument.get_long().is_some() {
        said.push_str(" (required)");
    }
    format!("{name}{said}")
}

fn value(argument: &Arg) -> String {
    let names: Vec<_> = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    if names.is_empty() { argument.get_id().as_str().to_uppercase() } else { names.join(" ") }
}

fn sentence(about: Option<String>) -> String {
    about.map(|about| format!("{}.", about.trim_end_matches('.'))).unwrap_or_default()
}

fn is_help(command: &Command) -> bool {
    command.is_hide_set() || command.get_name() == "help"
}

//! What a notice tells its reader to type is a command of this program.

use clap::{Parser, Subcommand};
use comity_access::ApplicationId;
use comity_access::case::{CaseId, notices};
use comity_access::notice::commands;
use comity_node::command::cases::CasesCommand;
use comity_node::command::requests::RequestsCommand;

#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    _command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one at a time, in a test")]
enum Command {
    #[command(flatten)]
    Researcher(comity_cli::Command),
    #[command(subcommand)]
    Requests(RequestsCommand),
    #[command(subcommand)]
    Cases(CasesCommand),
}

#[test]
fn each_command_that_a_notice_names_can_be_typed() {
    let mut commands = commands(ApplicationId([7; 16]));
    commands.extend(notices::commands(CaseId([7; 16])));
    assert!(commands.len() >= 11, "{commands:?}");
    for command in commands {
        let words = command.split(' ').map(|word| word.trim_matches('"'));
        if let Err(error) = Program::try_parse_from(words) {
            panic!("{command}: {error}");
        }
    }
}

//! `comity project`, `comity project status`.

use comity_sdk::token::directory::Directory as _;

use crate::printer::{Failure, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Project {
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<ProjectCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum ProjectCommand {
    /// What each key of the project gives, all that is missing, and whose move it is
    Status {
        #[arg(long)]
        json: bool,
    },
}

impl Project {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        if let Some(ProjectCommand::Status { json }) = self.command {
            let missing = client.missing().await?;
            if json {
                say(&serde_json::to_string_pretty(&missing)?);
                return Ok(());
            }
            say(&format!("{} {}", missing.project, missing.title));
            for member in &missing.members {
                let person = member.person.map_or_else(|| "nobody knows whose".to_owned(), |person| person.to_string());
                say(&format!("{} {} ({person})", member.role, member.key));
                super::whoami::level(&member.level);
            }
            return Ok(());
        }
        let project = client.project().await?;
        if self.json {
            say(&serde_json::to_string_pretty(&project)?);
            return Ok(());
        }
        say(&format!("{} {}\nvetting    {}", project.project, project.title, project.vetting));
        say(&format!(
            "awarded    {}\nsettled    {}\nin escrow  {}\navailable  {}",
            project.awarded, project.settled, project.in_escrow, project.available
        ));
        for lot in &project.lots {
            let state = lot.closed.clone().unwrap_or_else(|| format!("until {}", lot.ends_at));
            say(&format!(
                "lot        {} {} part {}: {} left, {state}",
                lot.funder, lot.award_number, lot.part, lot.available
            ));
        }
        let roster = client.directory().roster();
        for known in &project.pseudonyms {
            let org = roster.organisation(known.org).map_or_else(|| known.org.to_string(), |org| org.name.to_string());
            say(&format!("known as   {} at {org}", known.subject));
        }
        Ok(())
    }
}

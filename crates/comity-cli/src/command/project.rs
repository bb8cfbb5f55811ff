//! `comity project`.

use comity_sdk::token::directory::Directory as _;

use crate::printer::{Failure, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Project {
    #[arg(long)]
    json: bool,
}

impl Project {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
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

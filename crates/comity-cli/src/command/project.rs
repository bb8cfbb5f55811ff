//! `comity project`, `comity project propose|status|sponsor`.

use std::path::PathBuf;

use comity_sdk::Profile;
use comity_sdk::token::directory::Directory as _;
use comity_wire::api::person::MissingReply;
use comity_wire::api::proposal::ProposalRequest;
use comity_wire::time::DAY_S;
use comity_wire::{ProjectId, PublicKey};

use crate::printer::{Failure, note, say};
use crate::session::{self, Session};

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
    /// Propose a project to the clearing house; you are its PI
    Propose(Propose),
    /// Answer for a member, as a PI of the project: you know who it is, and what they will do
    Sponsor {
        /// The member's key, did:key:z6Mk…
        member: PublicKey,
        /// How many days your word holds; 0 takes it back
        #[arg(long, default_value_t = 366)]
        days: u64,
    },
    /// What each key of the project gives, all that is missing, and whose move it is
    Status {
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Propose {
    #[arg(long)]
    title: String,
    /// What is to be found out, and why these models; or --purpose-file
    #[arg(long, required_unless_present = "purpose_file", conflicts_with = "purpose_file")]
    purpose: Option<String>,
    /// A file with the same
    #[arg(long)]
    purpose_file: Option<PathBuf>,
    /// A code of use, such as DUO:0000042; may be given more than once
    #[arg(long = "use-term")]
    use_terms: Vec<String>,
    /// A kind of data that will be sent to models, such as public; may be given more than once
    #[arg(long = "data-class")]
    data_classes: Vec<String>,
    /// The key of somebody who will draw under mandates; may be given more than once
    #[arg(long = "member")]
    members: Vec<PublicKey>,
}

impl Propose {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        let purpose = match (self.purpose, self.purpose_file) {
            (Some(purpose), _) => purpose,
            (None, Some(file)) => std::fs::read_to_string(&file).map_err(|error| {
                Failure::new(format!("cannot read {}: {error}", file.display()), "name a file with the purpose in it")
            })?,
            (None, None) => String::new(),
        };
        let mut id = [0; 16];
        id.copy_from_slice(&session::random()[..16]);
        let ask = ProposalRequest {
            id: ProjectId(id),
            title: self.title,
            purpose,
            use_terms: self.use_terms,
            data_classes: self.data_classes,
            members: self.members,
        };
        let missing = client.propose(&ask).await?;
        if client.profile().project.is_none() {
            Profile::amend(&session.home, |profile| profile.project = Some(missing.project))?;
            note("it is your profile's project from now on");
        }
        show(&missing);
        Ok(())
    }
}

/// Of each key of a project what it gives, and what is missing.
fn show(missing: &MissingReply) {
    say(&format!("{} {}", missing.project, missing.title));
    for member in &missing.members {
        let person = member.person.map_or_else(|| "nobody knows whose".to_owned(), |person| person.to_string());
        say(&format!("{} {} ({person})", member.role, member.key));
        super::whoami::level(&member.level);
    }
}

impl Project {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        match self.command {
            Some(ProjectCommand::Propose(propose)) => return propose.run(session).await,
            Some(ProjectCommand::Sponsor { member, days }) => {
                let until = client.now().plus(days.saturating_mul(DAY_S));
                show(&client.sponsor(member, until).await?);
                return Ok(());
            }
            Some(ProjectCommand::Status { json }) => {
                let missing = client.missing().await?;
                if json {
                    say(&serde_json::to_string_pretty(&missing)?);
                } else {
                    show(&missing);
                }
                return Ok(());
            }
            None => {}
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

//! `comity clearing amie`: sites that speak ACCESS AMIE, and what stands between them and the house.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comity_clearing::admin::{
    Announce, MemberOf, Merge, MeterRow, Person, PersonSay, ReportAs, SiteAdd, SiteChange, SiteKey, SiteRow,
    TransactionRow, UsagePage,
};
use comity_wire::{AwardId, OrgId, ProjectId, PublicKey, Timestamp};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum AmieCommand {
    /// Who may call, and by which key
    #[command(subcommand)]
    Site(SiteCommand),
    /// Let sites know who a member is, or that it changed; without it they learn a pseudonym
    Person(Box<PersonArguments>),
    /// Two members are one person: each site that knows them as two is asked to make them one
    Merge(Box<MergeArguments>),
    /// Tell a site of an award that does not name its owner, or that is older than the site
    Announce {
        #[arg(long)]
        home: PathBuf,
        /// The site's name
        #[arg(long)]
        site: String,
        award: AwardId,
    },
    /// Ask a site again for what failed there about a project
    Retry {
        #[arg(long)]
        home: PathBuf,
        /// The site's name
        #[arg(long)]
        site: String,
        project: ProjectId,
    },
    /// The newest transactions, those in progress first
    Transactions {
        #[arg(long)]
        home: PathBuf,
        /// in-progress, completed or failed
        #[arg(long)]
        state: Option<String>,
    },
    /// What central sites ask of this house as one of their resources
    #[command(subcommand)]
    Central(super::central::CentralCommand),
    /// What projects paid here, as usage messages by which this house reports itself to ACCESS as one resource: one a line
    Usage(UsageArguments),
    /// What a site's own meter says of a month, for each project
    Meter {
        #[arg(long)]
        home: PathBuf,
        /// The site's name
        #[arg(long)]
        site: String,
        /// YYYY-MM
        month: String,
    },
}

#[derive(Debug, Args)]
pub struct UsageArguments {
    #[arg(long)]
    home: PathBuf,
    /// What ACCESS calls this house as a resource
    #[arg(long)]
    resource: String,
    /// The community account that projects are reported under
    #[arg(long, default_value = "comity")]
    username: String,
    /// The first day (UTC), YYYY-MM-DD; left out: from the beginning
    #[arg(long, value_parser = super::report::day)]
    from: Option<Timestamp>,
    /// The last day (UTC), YYYY-MM-DD; left out: up to now
    #[arg(long, value_parser = super::report::last_day)]
    to: Option<Timestamp>,
}

/// Messages are below what `amieclient` can send, 768 KiB.
const MESSAGE_BYTES_MAX: usize = 700 << 10;

#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// Let a site call; prints its key, which is shown once
    Add {
        #[arg(long)]
        home: PathBuf,
        /// What it says in XA-SITE
        #[arg(long)]
        name: String,
        /// Whose resource it is, org-…
        #[arg(long)]
        organisation: OrgId,
        /// The resource's name in AMIE, such as tiny.lab.example
        #[arg(long)]
        resource: String,
    },
    /// Give a site another key, also after it was revoked
    Rekey {
        #[arg(long)]
        home: PathBuf,
        name: String,
    },
    /// Let a site call no more
    Revoke {
        #[arg(long)]
        home: PathBuf,
        name: String,
    },
    /// All sites
    List {
        #[arg(long)]
        home: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct PersonArguments {
    #[arg(long)]
    home: PathBuf,
    project: ProjectId,
    /// The member's key, did:key:z6Mk…
    member: PublicKey,
    #[arg(long)]
    first_name: String,
    #[arg(long)]
    last_name: String,
    #[arg(long)]
    organization: String,
    /// The organisation's code in AMIE
    #[arg(long, default_value = "0")]
    org_code: String,
    #[arg(long, default_value = "")]
    email: String,
    /// A PI's project: its field of science
    #[arg(long, default_value = "0")]
    pfos: String,
}

#[derive(Debug, Args)]
pub struct MergeArguments {
    #[arg(long)]
    home: PathBuf,
    /// A project of the member whose number stays
    #[arg(long)]
    project: ProjectId,
    /// The member whose number stays, did:key:z6Mk…
    #[arg(long)]
    keep: PublicKey,
    /// A project of the other one; left out: the same
    #[arg(long)]
    gone_project: Option<ProjectId>,
    /// The member whose number goes
    #[arg(long)]
    gone: PublicKey,
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: AmieCommand) -> Result<String, Failure> {
    match command {
        AmieCommand::Site(command) => site(command).await,
        AmieCommand::Central(command) => super::central::run(command).await,
        AmieCommand::Person(arguments) => {
            let PersonArguments { home, project, member, first_name, last_name, organization, org_code, email, pfos } =
                *arguments;
            let person = Person { first_name, last_name, organization, org_code, email, pfos };
            let reply: Value =
                admin::post(&home, "/admin/amie/persons", &PersonSay { project, member, person }).await?;
            Ok(reply.to_string())
        }
        AmieCommand::Merge(arguments) => {
            let MergeArguments { home, project, keep, gone_project, gone } = *arguments;
            let gone = MemberOf { project: gone_project.unwrap_or(project), member: gone };
            let ask = Merge { keep: MemberOf { project, member: keep }, gone };
            let reply: Value = admin::post(&home, "/admin/amie/merge", &ask).await?;
            Ok(reply.to_string())
        }
        AmieCommand::Announce { home, site, award } => {
            let reply: Value = admin::post(&home, "/admin/amie/announce", &Announce { site, award }).await?;
            Ok(reply.to_string())
        }
        AmieCommand::Retry { home, site, project } => {
            let ask = json!({ "site": site, "project": project });
            let reply: Value = admin::post(&home, "/admin/amie/retry", &ask).await?;
            Ok(reply.to_string())
        }
        AmieCommand::Transactions { home, state } => {
            let query = state.map_or_else(String::new, |state| format!("?state={}", plain(&state)));
            let rows: Vec<TransactionRow> = admin::get(&home, &format!("/admin/amie/transactions{query}")).await?;
            Ok(serde_json::to_string_pretty(&rows)?)
        }
        AmieCommand::Usage(arguments) => usage(arguments).await,
        AmieCommand::Meter { home, site, month } => {
            let path = format!("/admin/amie/meter?site={}&month={}", plain(&site), plain(&month));
            let rows: Vec<MeterRow> = admin::get(&home, &path).await?;
            Ok(serde_json::to_string_pretty(&rows)?)
        }
    }
}

async fn site(command: SiteCommand) -> Result<String, Failure> {
    let change = |home: PathBuf, name: String, change: SiteChange| async move {
        let key: SiteKey = admin::post(&home, &format!("/admin/amie/sites/{}", plain(&name)), &change).await?;
        Ok(serde_json::to_string(&key)?)
    };
    match command {
        SiteCommand::Add { home, name, organisation, resource } => {
            let key: SiteKey =
                admin::post(&home, "/admin/amie/sites", &SiteAdd { name, organisation, resource }).await?;
            Ok(serde_json::to_string(&key)?)
        }
        SiteCommand::Rekey { home, name } => change(home, name, SiteChange::Rekey).await,
        SiteCommand::Revoke { home, name } => change(home, name, SiteChange::Revoke).await,
        SiteCommand::List { home } => {
            let rows: Vec<SiteRow> = admin::get(&home, "/admin/amie/sites").await?;
            Ok(serde_json::to_string_pretty(&rows)?)
        }
    }
}

async fn usage(arguments: UsageArguments) -> Result<String, Failure> {
    let UsageArguments { home, resource, username, from, to } = arguments;
    let by = ReportAs { resource, username };
    let (mut compute, mut adjustment) = (Vec::new(), Vec::new());
    let mut after = Some(0);
    while let Some(place) = after {
        let ask = json!({ "period": { "from": from, "to": to }, "by": by, "after": place });
        let page: UsagePage = admin::post(&home, "/admin/amie/usage", &ask).await?;
        compute.extend(page.compute.into_iter().map(|record| Value::Object(record).to_string()));
        adjustment.extend(page.adjustment.into_iter().map(|record| Value::Object(record).to_string()));
        after = page.next;
    }
    let lines: Vec<String> =
        [messages("Compute", &compute), messages("Adjustment", &adjustment)].into_iter().flatten().collect();
    Ok(lines.join("\n"))
}

/// Records in messages of one kind, each small enough to be sent at once.
fn messages(kind: &str, records: &[String]) -> Vec<String> {
    let mut groups: Vec<Vec<&str>> = Vec::new();
    let mut bytes = MESSAGE_BYTES_MAX;
    for record in records {
        bytes += record.len() + 1;
        if bytes > MESSAGE_BYTES_MAX {
            groups.push(Vec::new());
            bytes = record.len() + 1;
        }
        if let Some(group) = groups.last_mut() {
            group.push(record);
        }
    }
    groups.into_iter().map(|group| format!("{{\"UsageType\":\"{kind}\",\"Records\":[{}]}}", group.join(","))).collect()
}

/// What names consist of; anything else could not be one, and must not become another path.
fn plain(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    text.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_small_enough_to_be_sent_and_lose_no_record() {
        let records: Vec<String> = (0..5_000).map(|n| format!("{{\"LocalRecordID\":\"{n:0400}\"}}")).collect();
        let messages = messages("Compute", &records);
        assert_eq!(messages.len(), 3);
        let mut found = 0;
        for message in &messages {
            assert!(message.len() < 768 << 10);
            let read: Value = serde_json::from_str(message).expect("JSON");
            found += read["Records"].as_array().expect("records").len();
        }
        assert_eq!(found, records.len());
        assert!(super::messages("Adjustment", &[]).is_empty());
    }
}

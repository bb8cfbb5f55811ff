//! `comity audit`: a whole clearing house verified from its log, by anybody; and samples of its settlements with their trails.

use std::path::PathBuf;

use clap::Subcommand;
use comity_clearing::admin::SampleAsk;
use comity_clearing::log::sample::Sample;
use comity_clearing::log::trail::Trail;
use comity_wire::Timestamp;
use comity_wire::log::VerifierKey;
use serde_json::json;

use super::clearing::report::{day, last_day};
use crate::failure::Failure;
use crate::log::{DoorArguments, Source, check, sample as files};
use crate::service::admin;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Audit {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    /// A copy of the log, as `comity clearing log export` or any tool for such logs makes it
    #[arg(required_unless_present = "door", conflicts_with = "door")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    door: DoorArguments,
    /// The log's key (name+id+key), which you were told by another way than the log
    #[arg(long, value_name = "VKEY", required = true)]
    key: Option<VerifierKey>,
    /// A witness that must have cosigned (name+id+key); may be given more than once
    #[arg(long = "witness", value_name = "VKEY")]
    witnesses: Vec<VerifierKey>,
    /// One line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Draw settlements from the log of a running house, and write a folder for each with its whole trail
    Sample(SampleArguments),
    /// Draw a sample again from a copy of the log, and compute every trail of it again, without the house
    Redraw(RedrawArguments),
}

#[derive(Debug, clap::Args)]
pub struct SampleArguments {
    /// A new folder for the sample
    folder: PathBuf,
    /// The house's home
    #[arg(long)]
    home: PathBuf,
    /// How many settlements
    #[arg(long, default_value_t = 60)]
    n: usize,
    /// A text that the auditor chose, and told nobody before
    #[arg(long)]
    seed: String,
    /// The first day on which they were paid (UTC), YYYY-MM-DD; left out: from the beginning
    #[arg(long, value_parser = day)]
    from: Option<Timestamp>,
    /// The last day (UTC), YYYY-MM-DD; left out: up to now
    #[arg(long, value_parser = last_day)]
    to: Option<Timestamp>,
}

#[derive(Debug, clap::Args)]
pub struct RedrawArguments {
    /// The folder of the sample
    folder: PathBuf,
    /// A copy of the log, as `comity clearing log export` or any tool for such logs makes it
    #[arg(long)]
    log: PathBuf,
    /// The log's key (name+id+key), which you were told by another way than the log
    #[arg(long, value_name = "VKEY")]
    key: VerifierKey,
}

async fn sample(ask: SampleArguments) -> Result<String, Failure> {
    let SampleArguments { folder, home, n, seed, from, to } = ask;
    let drawn: Sample = admin::post(&home, "/admin/sample", &SampleAsk { n, seed, from, to }).await?;
    files::begin(&folder, &drawn)?;
    let mut differing = Vec::new();
    for (turn, index) in (1..).zip(&drawn.items) {
        let trail: Trail = admin::get(&home, &format!("/admin/sample/{index}?size={}", drawn.size)).await?;
        let checks = files::put(&folder, turn, &trail, &drawn)?;
        differing.extend(checks.into_iter().filter(|check| !check.holds).map(|check| (turn, check)));
        if turn % 10 == 0 {
            eprintln!("{turn} of {} trails written", drawn.items.len());
        }
    }
    let told = json!({
        "population": drawn.population, "items": drawn.items.len(), "log_size": drawn.size, "log_root": drawn.root,
        "differing": differing.iter().map(|(turn, check)| json!({ "folder": format!("{turn:03}"), "check": check.check, "found": check.found })).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&told)?;
    if differing.is_empty() {
        return Ok(text);
    }
    Err(Failure::new("something in the sample does not hold")
        .because(text)
        .hint("the folders say what; they were all written"))
}

async fn redraw(ask: RedrawArguments) -> Result<String, Failure> {
    let redrawn = files::redraw(&ask.folder, &Source::Folder(ask.log), &ask.key).await?;
    let text = serde_json::to_string_pretty(&redrawn)?;
    if redrawn.holds {
        return Ok(text);
    }
    Err(Failure::new("the sample does not hold")
        .because(text)
        .hint("keep folder, log and its checkpoint; then ask the house"))
}

/// # Errors
/// [`Failure`] where the log cannot be read, or a break was found.
pub async fn run(audit: Audit) -> Result<String, Failure> {
    match audit.command {
        Some(AuditCommand::Sample(ask)) => return sample(ask).await,
        Some(AuditCommand::Redraw(ask)) => return redraw(ask).await,
        None => {}
    }
    let key = audit.key.ok_or_else(|| Failure::new("no key to verify the log by").hint("--key VKEY"))?;
    let source = match (audit.folder, audit.door.client()?) {
        (Some(folder), _) => Source::Folder(folder),
        (None, Some(door)) => Source::Door(door),
        (None, None) => return Err(Failure::new("no log to audit").hint("name a folder, or --door and --door-key")),
    };
    let checked = check(&source, &key, &audit.witnesses).await?;
    let text = if audit.json { serde_json::to_string(&checked)? } else { serde_json::to_string_pretty(&checked)? };
    if checked.report.holds {
        return Ok(text);
    }
    Err(Failure::new("the log has a break")
        .because(text)
        .hint("keep this copy and its checkpoint: together they prove what was signed; then ask the house"))
}

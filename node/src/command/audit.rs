//! `comity audit`: a whole clearing house verified from its log, by anybody.

use std::path::PathBuf;

use comity_wire::log::VerifierKey;

use crate::failure::Failure;
use crate::log::{DoorArguments, Source, check};

#[derive(Debug, clap::Args)]
pub struct Audit {
    /// A copy of the log, as `comity clearing log export` or any tool for such logs makes it
    #[arg(required_unless_present = "door", conflicts_with = "door")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    door: DoorArguments,
    /// The log's key (name+id+key), which you were told by another way than the log
    #[arg(long, value_name = "VKEY")]
    key: VerifierKey,
    /// A witness that must have cosigned (name+id+key); may be given more than once
    #[arg(long = "witness", value_name = "VKEY")]
    witnesses: Vec<VerifierKey>,
    /// One line
    #[arg(long)]
    json: bool,
}

/// # Errors
/// [`Failure`] where the log cannot be read, or a break was found.
pub async fn run(audit: Audit) -> Result<String, Failure> {
    let source = match (audit.folder, audit.door.client()?) {
        (Some(folder), _) => Source::Folder(folder),
        (None, Some(door)) => Source::Door(door),
        (None, None) => return Err(Failure::new("no log to audit").hint("name a folder, or --door and --door-key")),
    };
    let checked = check(&source, &audit.key, &audit.witnesses).await?;
    let text = if audit.json { serde_json::to_string(&checked)? } else { serde_json::to_string_pretty(&checked)? };
    if checked.report.holds {
        return Ok(text);
    }
    Err(Failure::new("the log has a break")
        .because(text)
        .hint("keep this copy and its checkpoint: together they prove what was signed; then ask the house"))
}

//! `comity clearing log show|export|witness|restart`: the operator's side of the transparency log.

use std::path::PathBuf;

use clap::Subcommand;
use comity_clearing::admin::{LogRestart, LogWitness};
use comity_http::dial::Client;
use comity_wire::log::VerifierKey;

use crate::failure::Failure;
use crate::log::Source;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Show the log's origin, its key for auditors, how far it is signed, and what waits
    Show {
        #[arg(long)]
        home: PathBuf,
    },
    /// Seal and sign what waits, then copy the log into a folder for `comity audit`, other tools, or a web server
    Export {
        #[arg(long)]
        home: PathBuf,
        /// The folder; what is in it already is gone on with
        folder: PathBuf,
    },
    /// Let a witness cosign: the key that `comity node witness --show-key` prints
    Witness {
        #[arg(long)]
        home: PathBuf,
        vkey: VerifierKey,
    },
    /// End a log whose past is lost with a restored database, and begin another: everybody sees both, and why
    Restart {
        #[arg(long)]
        home: PathBuf,
        /// What happened, for everybody who verifies the log
        #[arg(long)]
        why: String,
    },
}

/// # Errors
/// [`Failure`] with a hint.
pub(super) async fn run(command: LogCommand) -> Result<String, Failure> {
    let status: serde_json::Value = match command {
        LogCommand::Show { home } => admin::get(&home, "/admin/log").await?,
        LogCommand::Export { home, folder } => {
            let _: serde_json::Value = admin::post(&home, "/admin/log/seal", &()).await?;
            let source = Source::Door(Client::unix(home.join(admin::SOCKET)));
            let checkpoint = source.copy(&folder).await?;
            return Ok(format!("{} {} {}", checkpoint.origin, checkpoint.size, checkpoint.root));
        }
        LogCommand::Witness { home, vkey } => {
            admin::post(&home, "/admin/log/witness", &LogWitness { vkey: vkey.to_string() }).await?
        }
        LogCommand::Restart { home, why } => admin::post(&home, "/admin/log/restart", &LogRestart { why }).await?,
    };
    Ok(serde_json::to_string_pretty(&status)?)
}

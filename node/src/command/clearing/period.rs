//! `comity clearing period`: closing the books of a month.

use std::path::PathBuf;

use clap::Subcommand;
use comity_clearing::acts::{Act, PeriodClose, PeriodReopen};
use comity_clearing::service::ClosedPeriod;
use comity_wire::Timestamp;

use super::act::{Acting, bring};
use super::report::last_day;
use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum PeriodCommand {
    /// Close the books up to the end of a day (UTC): nothing is posted before it any more, and its totals stay
    Close {
        #[command(flatten)]
        acting: Acting,
        /// The last day of the period, YYYY-MM-DD
        #[arg(long, value_parser = last_day)]
        to: Timestamp,
        /// What it is called, such as 2026-10
        #[arg(long)]
        name: String,
    },
    /// Reopen the newest closed period. It stays on record, with who did it and why
    Reopen {
        #[command(flatten)]
        acting: Acting,
        /// The last day of the period, YYYY-MM-DD
        #[arg(long, value_parser = last_day)]
        to: Timestamp,
        #[arg(long)]
        reason: String,
    },
    /// Closed periods with their totals, the newest first
    List {
        #[arg(long)]
        home: PathBuf,
    },
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: PeriodCommand) -> Result<String, Failure> {
    match command {
        PeriodCommand::Close { acting, to, name } => {
            bring(&acting, Act::PeriodClose(PeriodClose { name, until: to })).await
        }
        PeriodCommand::Reopen { acting, to, reason } => {
            bring(&acting, Act::PeriodReopen(PeriodReopen { until: to, reason })).await
        }
        PeriodCommand::List { home } => {
            let periods: Vec<ClosedPeriod> = admin::get(&home, "/admin/periods").await?;
            Ok(serde_json::to_string_pretty(&periods)?)
        }
    }
}

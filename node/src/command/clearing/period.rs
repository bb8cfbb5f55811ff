//! `comity clearing period|owner`: closing the books of a month, and what owners were paid.

use std::path::PathBuf;

use clap::Subcommand;
use comity_clearing::acts::{Act, PeriodClose, PeriodReopen, Remit};
use comity_clearing::service::ClosedPeriod;
use comity_wire::{Amount, OrgId, Timestamp};

use super::act::{Acting, bring};
use super::report::{day, last_day};
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

#[derive(Debug, Subcommand)]
pub enum OwnerCommand {
    /// Record that an owner was paid, outside of these books: what it is owed becomes less
    Paid {
        #[command(flatten)]
        acting: Acting,
        /// The owner's organisation
        owner: OrgId,
        /// In credits, such as 12.5
        #[arg(long, value_parser = super::award::credits)]
        credits: Amount,
        /// What names the payment at your bank or in your ledger; one payment is recorded once
        #[arg(long)]
        payment: String,
        /// When it was paid (UTC), YYYY-MM-DD
        #[arg(long, value_parser = day)]
        on: Timestamp,
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

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn owner(command: OwnerCommand) -> Result<String, Failure> {
    let OwnerCommand::Paid { acting, owner, credits, payment, on } = command;
    bring(&acting, Act::Remit(Remit { owner, amount: credits, payment, paid_on: on })).await
}

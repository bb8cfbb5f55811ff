//! `comity clearing report`: what accountants ask of the books.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comity_clearing::reports::{FundStatement, HoldRow, JournalPage, PayableRow, Report, RollRow, TrialRow, csv};
use comity_clearing::service::{PriceRow, RecoveryRow};
use comity_wire::time::DAY_S;
use comity_wire::{OrgId, ProjectId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// All accounts by what they are for; the balances sum to zero
    TrialBalance(Over),
    /// Each project's credits: opening, awarded, moved, withdrawn, expired, settled, closing
    RollForward(Over),
    /// What lies in escrow now, the oldest first
    Holds(Form),
    /// What each owner earned and was paid
    Payables(Over),
    /// What models cost, and from when to when: every tariff that was ever quoted
    Prices {
        /// Only this owner's
        #[arg(long)]
        owner: Option<OrgId>,
        #[command(flatten)]
        over: Over,
    },
    /// What each recharge owner recovered in a fiscal year, and what it carries on (2 CFR 200.468)
    Recovery {
        /// As it was reported: `comity clearing owner costs`
        #[arg(long)]
        year: String,
        #[command(flatten)]
        form: Form,
    },
    /// A project's statement, line by line
    Statement {
        project: ProjectId,
        #[command(flatten)]
        over: Over,
    },
    /// The whole books as a journal that hledger, ledger or beancount's converters read
    Journal {
        #[arg(long)]
        home: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Form {
    #[arg(long)]
    home: PathBuf,
    /// Rows as comma-separated values, without the totals
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Args)]
pub struct Over {
    #[command(flatten)]
    form: Form,
    /// The first day (UTC), YYYY-MM-DD; left out: from the beginning
    #[arg(long, value_parser = day)]
    from: Option<Timestamp>,
    /// The last day (UTC), YYYY-MM-DD; left out: up to now
    #[arg(long, value_parser = last_day)]
    to: Option<Timestamp>,
}

impl Over {
    fn path(&self, report: &str) -> String {
        let part = |name: &str, at: Option<Timestamp>| at.map(|at| format!("{name}={}", at.seconds()));
        let parts: Vec<String> = [part("from", self.from), part("to", self.to)].into_iter().flatten().collect();
        format!("/admin/reports/{report}?{}", parts.join("&"))
    }
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: ReportCommand) -> Result<(), Failure> {
    match command {
        ReportCommand::TrialBalance(over) => rows::<TrialRow>(&over.form, &over.path("trial-balance")).await,
        ReportCommand::RollForward(over) => rows::<RollRow>(&over.form, &over.path("roll-forward")).await,
        ReportCommand::Holds(form) => rows::<HoldRow>(&form, "/admin/reports/holds").await,
        ReportCommand::Payables(over) => rows::<PayableRow>(&over.form, &over.path("payables")).await,
        ReportCommand::Prices { owner, over } => {
            let owner = owner.map(|owner| format!("&owner={owner}")).unwrap_or_default();
            rows::<PriceRow>(&over.form, &format!("{}{owner}", over.path("prices"))).await
        }
        ReportCommand::Recovery { year, form } => {
            let year = comity_sdk::discover::percent(&year);
            rows::<RecoveryRow>(&form, &format!("/admin/reports/recovery?year={year}")).await
        }
        ReportCommand::Statement { project, over } => {
            let path = over.path(&format!("statement/{project}"));
            let statement: FundStatement = admin::get(&over.form.home, &path).await?;
            say(&over.form, &statement, &statement.rows)
        }
        ReportCommand::Journal { home } => {
            let mut after = 0;
            loop {
                let page: JournalPage = admin::get(&home, &format!("/admin/reports/journal?after={after}")).await?;
                comity_cli::say(page.journal.trim_end_matches('\n'));
                match page.next {
                    Some(next) => after = next,
                    None => return Ok(()),
                }
            }
        }
    }
}

async fn rows<R: Serialize + DeserializeOwned>(form: &Form, path: &str) -> Result<(), Failure> {
    let report: Report<R> = admin::get(&form.home, path).await?;
    say(form, &report, &report.rows)
}

fn say<R: Serialize>(form: &Form, whole: &impl Serialize, rows: &[R]) -> Result<(), Failure> {
    if form.csv {
        comity_cli::say(csv(rows).trim_end_matches("\r\n"));
    } else {
        comity_cli::say(&serde_json::to_string_pretty(whole)?);
    }
    Ok(())
}

pub(in crate::command) fn day(text: &str) -> Result<Timestamp, String> {
    Timestamp::of_date(text).map_err(|error| error.to_string())
}

/// The end of a day.
pub(in crate::command) fn last_day(text: &str) -> Result<Timestamp, String> {
    day(text).map(|day| day.plus(DAY_S))
}

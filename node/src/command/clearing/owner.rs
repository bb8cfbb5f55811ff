//! `comity clearing owner`: how owners are paid, and that they were.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comity_clearing::acts::{Act, Exchange, OwnerCosts, OwnerSchedule, OwnerTerms, PayRun, ProjectOf, Remit};
use comity_clearing::admin::RemittanceAsk;
use comity_clearing::owners::Basis;
use comity_clearing::recharge::ScheduleRate;
use comity_clearing::reports::csv;
use comity_clearing::service::{OwnerShow, RemittanceRow, RemittanceSet, ScheduleShow, TermsRow};
use comity_wire::{Amount, OrgId, ProjectId, Timestamp};

use super::act::{Acting, bring};
use super::award::credits;
use super::report::{day, last_day};
use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, Subcommand)]
pub enum OwnerCommand {
    /// How owners are paid: set and list. Without terms, use is counted and nothing is payable
    #[command(subcommand)]
    Terms(TermsCommand),
    /// A recharge owner's published rates (2 CFR 200.468): record and list
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Record what a fiscal year did cost a recharge owner; said again, the later one holds
    Costs {
        #[command(flatten)]
        acting: Acting,
        /// The owner's organisation
        owner: OrgId,
        /// What the fiscal year is called
        #[arg(long)]
        year: String,
        /// Its first day (UTC), YYYY-MM-DD
        #[arg(long, value_parser = day)]
        from: Timestamp,
        /// Its last day (UTC), YYYY-MM-DD
        #[arg(long, value_parser = last_day)]
        to: Timestamp,
        /// In credits
        #[arg(long, value_parser = credits)]
        credits: Amount,
        /// Where it is written
        #[arg(long)]
        evidence: String,
    },
    /// What an owner earned, what of it is payable, and why the rest is not
    Show {
        #[arg(long)]
        home: PathBuf,
        owner: OrgId,
    },
    /// Record that an owner was paid, outside of these books: what it is owed becomes less
    Paid {
        #[command(flatten)]
        acting: Acting,
        /// The owner's organisation
        owner: OrgId,
        /// In credits, such as 12.5
        #[arg(long, value_parser = credits)]
        credits: Amount,
        /// What names the payment at your bank or in your ledger; one payment is recorded once
        #[arg(long)]
        payment: String,
        /// When it was paid (UTC), YYYY-MM-DD
        #[arg(long, value_parser = day)]
        on: Timestamp,
    },
    /// A payment run: record that owners were paid all that is due of what they earned up to the end of a closed period
    Pay {
        #[command(flatten)]
        acting: Acting,
        /// What names the run, and each of its payments, at your bank or in your ledger
        #[arg(long)]
        run: String,
        /// The last day of the period (UTC), YYYY-MM-DD
        #[arg(long, value_parser = last_day)]
        to: Timestamp,
        /// When it was paid (UTC), YYYY-MM-DD
        #[arg(long, value_parser = day)]
        on: Timestamp,
        /// Only this owner; may be given more than once
        #[arg(long = "owner")]
        owners: Vec<OrgId>,
    },
    /// Turn what an owner earned into credit for a project of its own. What its own projects paid it keeps their lots' ends and
    /// restrictions
    Exchange {
        #[command(flatten)]
        acting: Acting,
        /// The owner's organisation
        owner: OrgId,
        /// A project that was stated to be the owner's
        project: ProjectId,
        /// In credits, such as 12.5
        #[arg(long, value_parser = credits)]
        credits: Amount,
        /// Names the exchange
        #[arg(long)]
        number: String,
        /// The last day on which what others paid can be used (UTC), YYYY-MM-DD
        #[arg(long, value_parser = last_day)]
        ends: Timestamp,
    },
    /// State that a project is an owner's own. An act: it decides where credits may go
    Project {
        #[command(flatten)]
        acting: Acting,
        /// The owner's organisation
        owner: OrgId,
        project: ProjectId,
        /// What it rests on
        #[arg(long)]
        reason: String,
    },
    /// The remittance file of a run or a payment: for what each owner was paid
    Remittance {
        #[arg(long)]
        home: PathBuf,
        /// The name of the run, or of a payment that was recorded by itself
        #[arg(long)]
        run: String,
        /// Only this owner's: the file that may be sent to it
        #[arg(long)]
        owner: Option<OrgId>,
        /// With projects, funders and award numbers, for drawing down funds: it stays in the house
        #[arg(long)]
        awards: bool,
        /// Rows as comma-separated values
        #[arg(long)]
        csv: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum TermsCommand {
    /// Set how an owner is paid for what is sold from a day on. An act: two persons, once there are two
    #[command(subcommand)]
    Set(TermsSet),
    /// All terms that were ever set
    List {
        #[arg(long)]
        home: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Record a version of a schedule. An act: two persons, once there are two
    Record {
        #[command(flatten)]
        acting: Acting,
        /// The owner's organisation
        owner: OrgId,
        /// A TOML file: schedule, from, approved_by, fiscal_year, credits, and [[rates]] with model, op, meter,
        /// ucr_per_million, expected_units
        #[arg(long)]
        file: PathBuf,
    },
    /// Every schedule that was recorded
    List {
        #[arg(long)]
        home: PathBuf,
    },
}

/// A schedule as its owner writes it.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleFile {
    schedule: String,
    /// YYYY-MM-DD.
    from: String,
    approved_by: String,
    fiscal_year: String,
    /// What the year is expected to cost.
    credits: String,
    rates: Vec<ScheduleRate>,
}

impl ScheduleFile {
    fn read(file: &std::path::Path, owner: OrgId) -> Result<OwnerSchedule, Failure> {
        let shown = file.display();
        let hint = "docs/start/accountant.md shows one";
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::new(format!("cannot read {shown}: {error}")).hint("name the schedule's file"))?;
        let read: Self = toml::from_str(&text)
            .map_err(|error| Failure::new(format!("{shown} is no schedule: {error}")).hint(hint))?;
        let wrong = |error| Failure::new(format!("{shown}: {error}")).hint(hint);
        Ok(OwnerSchedule {
            owner,
            schedule: read.schedule,
            from: day(&read.from).map_err(wrong)?,
            approved_by: read.approved_by,
            fiscal_year: read.fiscal_year,
            costs: credits(&read.credits).map_err(wrong)?,
            rates: read.rates,
        })
    }
}

#[derive(Debug, Args)]
pub struct Whom {
    #[command(flatten)]
    acting: Acting,
    /// The owner's organisation
    owner: OrgId,
    /// For what is sold from this day on (UTC), YYYY-MM-DD; not in a closed period
    #[arg(long, value_parser = day)]
    from: Timestamp,
}

#[derive(Debug, Subcommand)]
pub enum TermsSet {
    /// Paid by a published schedule of rates that recovers cost (2 CFR 200.468)
    Recharge {
        #[command(flatten)]
        whom: Whom,
        /// Also for what was sold before and no terms paid
        #[arg(long)]
        arrears: bool,
        /// What names the schedule
        #[arg(long)]
        schedule: String,
        /// The schedule's date, YYYY-MM-DD
        #[arg(long, value_parser = day)]
        dated: Timestamp,
    },
    /// Paid by a contract
    Commercial {
        #[command(flatten)]
        whom: Whom,
        /// Also for what was sold before and no terms paid
        #[arg(long)]
        arrears: bool,
        /// The contract's number
        #[arg(long)]
        contract: String,
        /// No more is payable under it, in credits
        #[arg(long, value_parser = credits)]
        ceiling: Option<Amount>,
        /// Its last day, YYYY-MM-DD: what is sold later is not payable under it
        #[arg(long, value_parser = last_day)]
        ends: Option<Timestamp>,
    },
    /// An agency: counted, and payable only under an agreement's number
    Agency {
        #[command(flatten)]
        whom: Whom,
        /// Also for what was sold before and no terms paid
        #[arg(long)]
        arrears: bool,
        /// The interagency agreement's number; left out: nothing is payable
        #[arg(long)]
        agreement: Option<String>,
        /// No more is payable under it, in credits
        #[arg(long, value_parser = credits, requires = "agreement")]
        ceiling: Option<Amount>,
        /// Its last day, YYYY-MM-DD: what is sold later is not payable under it
        #[arg(long, value_parser = last_day, requires = "agreement")]
        ends: Option<Timestamp>,
    },
    /// Counted, and never paid
    None {
        #[command(flatten)]
        whom: Whom,
    },
}

impl TermsSet {
    fn act(self) -> (Acting, Act) {
        let (whom, arrears, basis) = match self {
            Self::Recharge { whom, arrears, schedule, dated } => (whom, arrears, Basis::Recharge { schedule, dated }),
            Self::Commercial { whom, arrears, contract, ceiling, ends } => {
                (whom, arrears, Basis::Commercial { contract, ceiling, ends_at: ends })
            }
            Self::Agency { whom, arrears, agreement, ceiling, ends } => {
                let agreement = agreement.unwrap_or_default();
                (whom, arrears, Basis::Agency { agreement, ceiling, ends_at: ends })
            }
            Self::None { whom } => (whom, false, Basis::None {}),
        };
        let Whom { acting, owner, from } = whom;
        (acting, Act::OwnerTerms(OwnerTerms { owner, from, basis, arrears }))
    }
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: OwnerCommand) -> Result<String, Failure> {
    match command {
        OwnerCommand::Terms(TermsCommand::Set(set)) => {
            let (acting, act) = set.act();
            bring(&acting, act).await
        }
        OwnerCommand::Terms(TermsCommand::List { home }) => {
            let terms: Vec<TermsRow> = admin::get(&home, "/admin/owners/terms").await?;
            Ok(serde_json::to_string_pretty(&terms)?)
        }
        OwnerCommand::Schedule(ScheduleCommand::Record { acting, owner, file }) => {
            bring(&acting, Act::OwnerSchedule(ScheduleFile::read(&file, owner)?)).await
        }
        OwnerCommand::Schedule(ScheduleCommand::List { home }) => {
            let schedules: Vec<ScheduleShow> = admin::get(&home, "/admin/owners/schedules").await?;
            Ok(serde_json::to_string_pretty(&schedules)?)
        }
        OwnerCommand::Costs { acting, owner, year, from, to, credits, evidence } => {
            let costs = OwnerCosts { owner, fiscal_year: year, from, until: to, costs: credits, evidence };
            bring(&acting, Act::OwnerCosts(costs)).await
        }
        OwnerCommand::Show { home, owner } => {
            let show: OwnerShow = admin::get(&home, &format!("/admin/owners/show/{owner}")).await?;
            Ok(serde_json::to_string_pretty(&show)?)
        }
        OwnerCommand::Paid { acting, owner, credits, payment, on } => {
            bring(&acting, Act::Remit(Remit { owner, amount: credits, payment, paid_on: on })).await
        }
        OwnerCommand::Pay { acting, run, to, on, owners } => {
            bring(&acting, Act::PayRun(PayRun { run, until: to, paid_on: on, owners })).await
        }
        OwnerCommand::Exchange { acting, owner, project, credits, number, ends } => {
            bring(&acting, Act::Exchange(Exchange { owner, project, amount: credits, number, ends_at: ends })).await
        }
        OwnerCommand::Project { acting, owner, project, reason } => {
            bring(&acting, Act::ProjectOf(ProjectOf { project, organisation: owner, reason })).await
        }
        OwnerCommand::Remittance { home, run, owner, awards, csv: as_csv } => {
            let ask = RemittanceAsk { run, owner, awards };
            let set: RemittanceSet = admin::post(&home, "/admin/owners/remittances", &ask).await?;
            if as_csv {
                let rows: Vec<RemittanceRow> = set.remittances.into_iter().flat_map(|paid| paid.rows).collect();
                return Ok(csv(&rows).trim_end_matches("\r\n").to_owned());
            }
            Ok(serde_json::to_string_pretty(&set)?)
        }
    }
}

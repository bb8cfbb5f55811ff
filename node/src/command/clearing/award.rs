//! `comity clearing award`: credits given, in dated parts, and what becomes of them.

use clap::{Args, Subcommand, ValueEnum};
use comity_clearing::AwardAsk;
use comity_clearing::acts::{Act, AwardResume, Extend, Move, PartAsk, Release, Supplement, Withdraw};
use comity_clearing::admin::AwardFreeze;
use comity_clearing::lots::FundKind;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, AwardId, LotId, Op, OrgId, ProjectId, Timestamp};

use super::act::{Acting, bring};
use crate::failure::Failure;
use crate::service::admin;
use crate::shell;

#[derive(Debug, Subcommand)]
pub enum AwardCommand {
    /// Give a project credits
    Give(Give),
    /// More credits under an award; `project show` lists awards and lots with their ids
    Supplement {
        #[command(flatten)]
        acting: Acting,
        award: AwardId,
        /// Tells it from the award's other supplements
        #[arg(long)]
        number: String,
        /// CREDITS[,FROM[,TO]][,after-report]; dates are YYYY-MM-DD
        #[arg(long, value_parser = part)]
        part: PartAsk,
    },
    /// A part that waited for a report becomes spendable
    Release {
        #[command(flatten)]
        acting: Acting,
        lot: LotId,
        /// Which report was taken in
        #[arg(long)]
        report: String,
    },
    /// An award, and its parts that end with it, end later
    Extend {
        #[command(flatten)]
        acting: Acting,
        award: AwardId,
        /// The last day on which it can be spent
        #[arg(long, value_parser = last_day)]
        ends: Timestamp,
        #[arg(long)]
        reason: String,
    },
    /// Credits of a lot go to another project, under the same award
    Move {
        #[command(flatten)]
        acting: Acting,
        lot: LotId,
        #[arg(long)]
        to: ProjectId,
        #[arg(long, value_parser = credits)]
        credits: Amount,
        #[arg(long)]
        reason: String,
    },
    /// Credits of a lot go back to where they came from
    Withdraw {
        #[command(flatten)]
        acting: Acting,
        lot: LotId,
        #[arg(long, value_parser = credits)]
        credits: Amount,
        #[arg(long)]
        reason: String,
    },
    /// Stop an award from being drawn upon, which one person may
    Freeze {
        #[command(flatten)]
        acting: Acting,
        award: AwardId,
        /// Let it be drawn upon again; with --officer, where two keep the books
        #[arg(long)]
        resume: bool,
        /// With --officer: what it rests on; tells one time from the next
        #[arg(long, default_value = "", requires_all = ["officer", "resume"])]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct Give {
    #[command(flatten)]
    acting: Acting,
    project: ProjectId,
    /// Credits, such as 100 or 0.5
    #[arg(long, value_parser = credits)]
    credits: Amount,
    #[arg(long)]
    funder: String,
    /// The award's number at the funder
    #[arg(long)]
    award: String,
    /// How many days it may be spent, today included
    #[arg(long, default_value_t = 365)]
    days: u64,
    /// The last day on which it may be spent, YYYY-MM-DD
    #[arg(long, value_parser = last_day, conflicts_with = "days")]
    ends: Option<Timestamp>,
    /// The first day, YYYY-MM-DD
    #[arg(long, value_parser = day)]
    starts: Option<Timestamp>,
    /// Whose money it is
    #[arg(long, value_enum, default_value_t = Kind::Institutional)]
    kind: Kind,
    /// Assistance listing of a federal award, such as 47.070
    #[arg(long, default_value = "")]
    listing: String,
    /// Usable at this owner only; may be given more than once
    #[arg(long = "owner")]
    owners: Vec<OrgId>,
    /// Usable for this op only; may be given more than once
    #[arg(long = "op")]
    ops: Vec<Op>,
    /// What is left at the end of a part expires
    #[arg(long)]
    use_or_lose: bool,
    /// A dated part, CREDITS[,FROM[,TO]][,after-report]; may be given more than once, and all of them add up to --credits
    #[arg(long = "part", value_parser = part)]
    parts: Vec<PartAsk>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Federal,
    Institutional,
    Donated,
    Starter,
}

/// # Errors
/// [`Failure`] where the house is not running, or refuses.
pub(super) async fn run(command: AwardCommand) -> Result<String, Failure> {
    let (acting, act) = match command {
        AwardCommand::Give(ask) => return give(ask).await,
        AwardCommand::Freeze { acting, award, resume, reason } if resume && acting.officer.is_some() => {
            (acting, Act::AwardResume(AwardResume { award, reason }))
        }
        AwardCommand::Freeze { acting, award, resume, .. } => {
            let ask = AwardFreeze { award, frozen: !resume };
            let reply: serde_json::Value = admin::post(&acting.home, "/admin/awards/freeze", &ask).await?;
            return Ok(serde_json::to_string(&reply)?);
        }
        AwardCommand::Supplement { acting, award, number, part } => {
            (acting, Act::Supplement(Supplement { award, number, part }))
        }
        AwardCommand::Release { acting, lot, report } => (acting, Act::Release(Release { lot, report })),
        AwardCommand::Extend { acting, award, ends, reason } => {
            (acting, Act::Extend(Extend { award, ends_at: ends, reason }))
        }
        AwardCommand::Move { acting, lot, to, credits, reason } => {
            (acting, Act::Move(Move { lot, to, amount: credits, reason }))
        }
        AwardCommand::Withdraw { acting, lot, credits, reason } => {
            (acting, Act::Withdraw(Withdraw { lot, amount: credits, reason }))
        }
    };
    bring(&acting, act).await
}

pub(super) async fn give(give: Give) -> Result<String, Failure> {
    let Give { acting, project, credits, funder, award, days, ends, starts, kind, listing, owners, ops, .. } = give;
    // Until the end of a day, so that the same command later on this day is the same act.
    let today = shell::now().seconds() / DAY_S;
    let ends_at = ends.unwrap_or_else(|| Timestamp(today.saturating_add(days).saturating_mul(DAY_S)));
    let ask = AwardAsk {
        project,
        amount: credits,
        funder,
        award_number: award,
        ends_at,
        starts_at: starts,
        listing,
        kind: match kind {
            Kind::Federal => FundKind::Federal,
            Kind::Institutional => FundKind::Institutional,
            Kind::Donated => FundKind::Donated,
            Kind::Starter => FundKind::Starter,
        },
        owners,
        ops,
        use_or_lose: give.use_or_lose,
        parts: give.parts,
    };
    bring(&acting, Act::Award(ask)).await
}

/// `100` or `0.25`, in credits.
pub(super) fn credits(text: &str) -> Result<Amount, String> {
    let wrong = || "credits are a number such as 100 or 0.25, with at most six decimals".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 6 || !digits(whole) || !digits(part) || text.ends_with('.') {
        return Err(wrong());
    }
    let ucr: i64 = format!("{whole}{part:0<6}").parse().map_err(|_| wrong())?;
    Amount::new(ucr).map_err(|_| wrong())
}

fn day(text: &str) -> Result<Timestamp, String> {
    Timestamp::of_date(text).map_err(|error| error.to_string())
}

/// The end of a day.
fn last_day(text: &str) -> Result<Timestamp, String> {
    day(text).map(|day| day.plus(DAY_S))
}

/// `CREDITS[,FROM[,TO]][,after-report]`.
fn part(text: &str) -> Result<PartAsk, String> {
    let mut words: Vec<&str> = text.split(',').collect();
    let after_report = words.last() == Some(&"after-report");
    if after_report {
        words.pop();
    }
    let (amount, dates) = words.split_first().ok_or("a part begins with its credits")?;
    if dates.len() > 2 {
        return Err("a part is CREDITS[,FROM[,TO]][,after-report]".to_owned());
    }
    Ok(PartAsk {
        amount: credits(amount)?,
        opens_at: dates.first().map(|date| day(date)).transpose()?,
        ends_at: dates.get(1).map(|date| last_day(date)).transpose()?,
        after_report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_read_to_the_micro_credit() {
        assert_eq!(credits("100").unwrap().ucr(), 100_000_000);
        assert_eq!(credits("0.25").unwrap().ucr(), 250_000);
        assert_eq!(credits("1.000001").unwrap().ucr(), 1_000_001);
        for text in ["", ".5", "5.", "-1", "1e3", "0.0000001", "99999999999999999"] {
            assert!(credits(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_part_has_dates_and_may_wait_for_a_report() {
        let whole = part("50,2027-01-01,2027-06-30,after-report").unwrap();
        assert_eq!(whole.amount.ucr(), 50_000_000);
        assert_eq!(whole.opens_at.unwrap().to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(whole.ends_at.unwrap().to_string(), "2027-07-01T00:00:00Z");
        assert!(whole.after_report);
        let plain = PartAsk { amount: credits("50").unwrap(), opens_at: None, ends_at: None, after_report: false };
        assert_eq!(part("50").unwrap(), plain);
        assert_eq!(part("50,after-report").unwrap(), PartAsk { after_report: true, ..plain });
        for text in ["", "50,soon", "50,2027-01-01,2027-01-02,2027-01-03", "after-report"] {
            assert!(part(text).is_err(), "{text}");
        }
    }
}

//! `comity plan`: an experiment plan, read before anybody is asked to approve it.

use std::path::{Path, PathBuf};

use comity_sdk::token::policy::Missing;
use comity_wire::Amount;
use comity_wire::object::{Plan, Tier};

use crate::plan;
use crate::printer::{Failure, say};
use crate::session::Session;

#[derive(Debug, clap::Subcommand)]
pub enum PlanCommand {
    /// Read a plan's TOML: every problem at once, or what it says and its digest
    Check {
        plan: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Try it out against what its owner publishes: what decides each op, what an execution costs at most, and what would be
    /// refused and why. No model is asked, and nothing is spent
    DryRun { plan: PathBuf },
}

impl PlanCommand {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (path, json) = match self {
            Self::Check { plan, json } => (plan, json),
            Self::DryRun { plan } => return dry_run(session, &open(&plan)?).await,
        };
        let plan = open(&path)?;
        if json {
            say(&serde_json::to_string_pretty(&serde_json::json!({"digest": plan.digest(), "plan": plan}))?);
        } else {
            say(&format!("plan {}\n{}", plan.digest(), plan::told(&plan)));
        }
        Ok(())
    }
}

async fn dry_run(session: &Session, plan: &Plan) -> Result<(), Failure> {
    let rehearsed = session.look()?.rehearse(plan).await?;
    let mut sum = Some(Amount::ZERO);
    let mut refused = 0;
    for one in &rehearsed {
        let decided = |decided: &Result<Tier, Missing>| match decided {
            Ok(tier) => format!("answered in tier {tier}"),
            Err(missing) => format!("refused: {} (next: {})", missing.message, missing.whose_move.as_str()),
        };
        let cost = one.cost_max.map_or_else(|| "it has no price".to_owned(), |most| format!("at most {most}"));
        say(&format!("{} {}", one.model, one.op));
        say(&format!("  today          {}", decided(&one.now)));
        say(&format!("  once approved  {}", decided(&one.approved)));
        say(&format!("  an execution   {cost}"));
        for (name, most) in &one.narrowed {
            say(&format!("  {name}: the owner's policy gives {most}, whatever the plan says"));
        }
        refused += usize::from(one.approved.is_err() || one.cost_max.is_none());
        sum = sum.zip(one.cost_max).and_then(|(sum, most)| sum.checked_add(most));
    }
    if let Some(sum) = sum {
        say(&format!("an execution costs at most {sum}, at one of the models for each op or at all of them together"));
    }
    if refused > 0 {
        let message = format!("{refused} of {} ops would be refused although the plan is approved", rehearsed.len());
        return Err(Failure::new(message, "leave them out, or ask the owner to offer them"));
    }
    Ok(())
}

/// A plan of a file.
pub(super) fn open(path: &Path) -> Result<Plan, Failure> {
    let unread = |error| Failure::new(format!("cannot read {}: {error}", path.display()), "write it first");
    let text = std::fs::read_to_string(path).map_err(unread)?;
    plan::read(&text).map_err(|problems| {
        let message = format!("{} is no experiment plan:\n  {}", path.display(), problems.join("\n  "));
        Failure::new(message, "docs/operating/plans.md says what a plan has")
    })
}

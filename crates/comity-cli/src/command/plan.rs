//! `comity plan`: an experiment plan, read before anybody is asked to approve it.

use std::path::{Path, PathBuf};

use comity_wire::object::Plan;

use crate::plan;
use crate::printer::{Failure, say};

#[derive(Debug, clap::Subcommand)]
pub enum PlanCommand {
    /// Read a plan's TOML: every problem at once, or what it says and its digest
    Check {
        plan: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

impl PlanCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self::Check { plan: path, json } = self;
        let plan = open(&path)?;
        if json {
            say(&serde_json::to_string_pretty(&serde_json::json!({"digest": plan.digest(), "plan": plan}))?);
        } else {
            say(&format!("plan {}\n{}", plan.digest(), plan::told(&plan)));
        }
        Ok(())
    }
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

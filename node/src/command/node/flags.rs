//! `comity node flags`: what the owner's filter told of, and who is suspended, through the admin socket.

use std::path::PathBuf;

use comity_gateway::Flagged;
use comity_guard::volume::Advice;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, clap::Args)]
pub struct Flags {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Let a suspended project in again, by its pseudonym
    #[arg(long, value_name = "PROJECT")]
    resume: Option<String>,
    /// Why; it is kept
    #[arg(long, requires = "resume")]
    reason: Option<String>,
    /// Who says so, where it is not this login's name
    #[arg(long = "by", value_name = "NAME", requires = "resume")]
    author: Option<String>,
}

/// What `GET /admin/flags` answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct View {
    /// Newest first.
    pub(crate) flags: Vec<Flagged>,
    pub(crate) suspended: Vec<Suspended>,
    /// What clearing houses see of projects over several owners.
    #[serde(default)]
    pub(crate) advised: Vec<Advised>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Advised {
    pub(crate) project: String,
    #[serde(flatten)]
    pub(crate) advice: Advice,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Suspended {
    pub project: String,
    pub category: String,
    pub rule: String,
    pub since: u64,
}

/// What `POST /admin/resume` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resume {
    pub(crate) project: String,
    pub(crate) author: String,
    pub(crate) reason: String,
}

impl Flags {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if let Some(project) = self.resume {
            let reason = self.reason.unwrap_or_else(|| "by comity node flags --resume".into());
            let author = self.author.unwrap_or_else(crate::command::login);
            let ask = Resume { project, author, reason };
            let resumed: serde_json::Value = admin::post(&self.home, "/admin/resume", &ask).await?;
            comity_cli::say(&resumed.to_string());
            return Ok(());
        }
        let view: View = admin::get(&self.home, "/admin/flags").await?;
        if self.json {
            comity_cli::say(&serde_json::to_string_pretty(&view)?);
            return Ok(());
        }
        if view.flags.is_empty() && view.suspended.is_empty() && view.advised.is_empty() {
            comity_cli::say("nothing was flagged since this process started");
            return Ok(());
        }
        for one in &view.suspended {
            let Suspended { project, category, rule, since } = one;
            comity_cli::say(&format!("suspended  {project}  {category}  {rule}  since {since}"));
        }
        for Advised { project, advice } in &view.advised {
            let Advice { category, count, bound, until, .. } = advice;
            let line = format!(
                "spread     {project}  {category}  at least {count} over several owners in a day, {bound} are allowed; until {until}"
            );
            comity_cli::say(&line);
        }
        for one in &view.flags {
            let (band, action) = (json!(one.band), json!(one.action));
            let (band, action) = (band.as_str().unwrap_or_default(), action.as_str().unwrap_or_default());
            let Flagged { at, project, model, category, rule, count, .. } = one;
            comity_cli::say(&format!("{at}  {action:<9} {band:<6} {count:>6}  {category}  {rule}  {model}  {project}"));
        }
        Ok(())
    }
}

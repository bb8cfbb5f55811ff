//! `comity node stop|resume`: a model, a project or the node, in force within a second.

use std::path::PathBuf;

use comity_gateway::store::stops::{Running, Said, SaidAct, Stop as Stopped, Target};
use comity_wire::ModelId;
use serde_json::json;

use crate::command::node::flags::Suspended;
use crate::failure::Failure;
use crate::home::Home;
use crate::service::stops::{self, Ask, Done, View};

#[derive(Debug, clap::Args)]
pub struct Stop {
    #[command(flatten)]
    what: What,
    /// Why. Callers whom it stops read it
    #[arg(long, required_unless_present_any = ["list", "log"])]
    reason: Option<String>,
    /// End what is running too, instead of letting it finish
    #[arg(long)]
    now: bool,
    /// Show what is stopped, and who is suspended
    #[arg(long, conflicts_with_all = ["models", "projects", "all", "now", "log"])]
    list: bool,
    /// Show who stopped and resumed what, when and why
    #[arg(long, conflicts_with_all = ["models", "projects", "all", "now"])]
    log: bool,
}

#[derive(Debug, clap::Args)]
pub struct Resume {
    #[command(flatten)]
    what: What,
    /// Why
    #[arg(long)]
    reason: String,
}

#[derive(Debug, clap::Args)]
struct What {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// A model; may be given more than once
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<ModelId>,
    /// A project, by its pseudonym with this organisation; may be given more than once
    #[arg(long = "project", value_name = "PROJECT")]
    projects: Vec<String>,
    /// The whole node
    #[arg(long)]
    all: bool,
    /// Who says so, where it is not this login's name
    #[arg(long = "by", value_name = "NAME")]
    author: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl What {
    fn targets(&self) -> Vec<Target> {
        let models = self.models.iter().cloned().map(Target::Model);
        let projects = self.projects.iter().cloned().map(Target::Project);
        self.all.then_some(Target::Node).into_iter().chain(models).chain(projects).collect()
    }

    fn author(&self) -> String {
        self.author.clone().unwrap_or_else(crate::command::login)
    }

    async fn ask(&self, reason: String, running: Option<Running>) -> Result<Vec<Done>, Failure> {
        let ask = Ask { targets: self.targets(), author: self.author(), reason, running };
        stops::ask(&Home::open(&self.home)?, &ask).await
    }
}

impl Stop {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if self.list || self.log {
            return self.show().await;
        }
        let running = if self.now { Running::Ends } else { Running::Finishes };
        let reason = self.reason.clone().unwrap_or_default();
        let done = self.what.ask(reason, Some(running)).await?;
        if self.what.json {
            comity_cli::say(&serde_json::to_string_pretty(&done)?);
            return Ok(());
        }
        for Done { target, stop, .. } in &done {
            if let Some(stop) = stop {
                comity_cli::say(&format!("stopped  {target}  {}", said(stop)));
            }
        }
        comity_cli::note(&format!(
            "in force now, and within a second at every process of this node; taken back by: comity node resume --home {} …",
            self.what.home.display()
        ));
        Ok(())
    }

    async fn show(self) -> Result<(), Failure> {
        let view = stops::view(&Home::open(&self.what.home)?).await?;
        if self.what.json {
            let shown = if self.log {
                json!(view.log)
            } else {
                json!({"stops": view.stops, "suspended": view.suspended, "running": view.running})
            };
            comity_cli::say(&serde_json::to_string_pretty(&shown)?);
            return Ok(());
        }
        if self.log {
            for line in view.log.iter().map(line) {
                comity_cli::say(&line);
            }
            return Ok(());
        }
        for line in stopped(&view) {
            comity_cli::say(&line);
        }
        Ok(())
    }
}

/// What is stopped, a line each.
pub(super) fn stopped(view: &View) -> Vec<String> {
    let stops = view.stops.iter().map(|stop| format!("stopped  {}  {}", stop.target, said(stop)));
    let suspended = view.suspended.iter().map(|Suspended { project, category, rule, since }| {
        format!("suspended  project {project}  by the filter since {since}: {rule} ({category})")
    });
    let lines: Vec<String> = stops.chain(suspended).collect();
    if lines.is_empty() { vec!["nothing is stopped".to_owned()] } else { lines }
}

impl Resume {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let done = self.what.ask(self.reason.clone(), None).await?;
        if self.what.json {
            comity_cli::say(&serde_json::to_string_pretty(&done)?);
        } else {
            for Done { target, stop, was_suspended } in &done {
                let was = match (stop, was_suspended) {
                    (Some(stop), _) => said(stop),
                    (None, true) => "suspended by the filter".into(),
                    (None, false) => "it was not stopped".into(),
                };
                comity_cli::say(&format!("resumed  {target}  ({was})"));
            }
        }
        // Who resumes a model while the node is stopped has to know that it is not answered for.
        let view = stops::view(&Home::open(&self.what.home)?).await?;
        for stop in &view.stops {
            comity_cli::note(&format!("still stopped: {}  {}", stop.target, said(stop)));
        }
        Ok(())
    }
}

/// Since when, by whom, why.
pub(crate) fn said(stop: &Stopped) -> String {
    let running = match stop.running {
        Running::Finishes => "what ran could finish",
        Running::Ends => "what ran was ended",
    };
    format!("since {} by {}: {} ({running})", stop.word.at, stop.word.author, stop.word.reason)
}

fn line(said: &Said) -> String {
    let act = match said.act {
        SaidAct::Stopped => "stopped",
        SaidAct::StoppedNow => "stopped, ending what ran",
        SaidAct::Resumed => "resumed",
        SaidAct::Lifted => "let in again, suspended by the filter",
    };
    format!("{}  {}  {act}  {}  by {}: {}", said.n, said.word.at, said.target, said.word.author, said.word.reason)
}

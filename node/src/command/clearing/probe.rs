//! `comity clearing probe`: blind checks of the models that the house sells (docs/operating/probes.md).

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comity_clearing::admin::FindingAct;
use comity_probe::Finding;
use comity_wire::time::DAY_S;
use comity_wire::{Digest, Timestamp};

use crate::failure::Failure;
use crate::home::Home;
use crate::keystore::KeyName;
use crate::probe::config::Config;
use crate::probe::report::{self, Status};
use crate::probe::runner::{Runner, Store};
use crate::probe::{journal, personas};
use crate::program::Failpoint;
use crate::service::admin;
use crate::shell;

#[derive(Debug, Subcommand)]
pub enum ProbeCommand {
    /// Make the secret, and the personas of the days ahead: projects with awards, as any other. Again: those who are lacking
    Init(Init),
    /// Ask what is due, until it is stopped
    Run(Run),
    /// What is checked, how far it is, what it costs, why calls failed
    Status {
        #[arg(long)]
        home: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// What the tests drew up, and what becomes of it
    #[command(subcommand)]
    Findings(FindingsCommand),
}

#[derive(Debug, Args)]
pub struct Init {
    #[arg(long)]
    home: PathBuf,
    /// Key file of the officer who brings the awards; needed once two officers are registered
    #[arg(long, value_name = "FILE")]
    officer: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[arg(long)]
    home: PathBuf,
    /// Ask what is due now, and end
    #[arg(long)]
    once: bool,
    /// Ask all calls of this day at once (YYYY-MM-DD), and end: a rehearsal, since whoever watches sees a burst
    #[arg(long, value_name = "DAY", value_parser = day, conflicts_with = "once")]
    rehearse: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub enum FindingsCommand {
    /// Those that were drawn up, the newest last, and where each stands
    List {
        #[arg(long)]
        home: PathBuf,
    },
    /// One of them as its owner is shown it; its receipts as files
    Look {
        #[arg(long)]
        home: PathBuf,
        id: Digest,
        /// Put the receipts here, to be read with `comity receipts verify`
        #[arg(long, value_name = "FOLDER")]
        receipts: Option<PathBuf>,
    },
    /// Leave it at that: the test begins anew, nobody is shown anything
    Dismiss {
        #[arg(long)]
        home: PathBuf,
        id: Digest,
    },
    /// Give it to its owner, who may answer for two weeks before anybody else reads it. The prompts and personas that it gives away
    /// are not used again
    Show {
        #[arg(long)]
        home: PathBuf,
        id: Digest,
    },
    /// Make it public, with the owner's answer
    Publish(Deciding),
    /// Take it back: it stays readable as withdrawn
    Withdraw(Deciding),
}

/// Who decides, and why: both are read with the finding.
#[derive(Debug, Args)]
pub struct Deciding {
    #[arg(long)]
    home: PathBuf,
    id: Digest,
    /// Your name, as it is published
    #[arg(long)]
    by: String,
    #[arg(long)]
    reason: String,
}

/// # Errors
/// [`Failure`] with a hint.
pub(super) async fn run(command: ProbeCommand, failpoint: &Failpoint) -> Result<String, Failure> {
    match command {
        ProbeCommand::Init(init) => init.run().await,
        ProbeCommand::Run(run) => run.run(failpoint).await,
        ProbeCommand::Status { home, json } => {
            let home = Home::open(&home)?;
            let status = Status::look(&home, &Config::read(&home.path)?, shell::now())?;
            if json { Ok(serde_json::to_string_pretty(&status)?) } else { Ok(status.text()) }
        }
        ProbeCommand::Findings(command) => findings(command).await,
    }
}

impl Init {
    async fn run(self) -> Result<String, Failure> {
        let home = Home::open(&self.home)?;
        let config = Config::read(&home.path)?;
        let officer = personas::officer(self.officer.as_deref())?;
        if journal::Journal::is_open(&crate::probe::folder(&home)) {
            return Err(Failure::new("`comity clearing probe run` has the journal")
                .hint("end it, then init, then run it again"));
        }
        home.keys.read_or_create(KeyName::Probe)?;
        let mut store = Store::open(&home)?;
        let made = personas::make(&home, &config, &mut store, officer.as_ref(), shell::now()).await?;
        let waiting = match made.waiting {
            0 => "next: comity clearing probe run".to_owned(),
            waiting => format!("{waiting} awards wait for a second officer: comity clearing act list; then init again"),
        };
        comity_cli::note(&waiting);
        Ok(serde_json::to_string(&made)?)
    }
}

impl Run {
    async fn run(self, failpoint: &Failpoint) -> Result<String, Failure> {
        let home = Home::open(&self.home)?;
        let config = Config::read(&home.path)?;
        let mut runner = Runner::open(home, config, failpoint)?;
        let done = match (self.once, self.rehearse) {
            (_, Some(day)) => runner.play(day).await?,
            (true, None) => runner.once().await?,
            (false, None) => {
                comity_cli::note("asking; ends with SIGTERM or Ctrl-C");
                runner.serve(crate::service::doors::stopped()).await?;
                return Ok("stopped: what was under way has ended".to_owned());
            }
        };
        Ok(serde_json::to_string(&done)?)
    }
}

async fn findings(command: FindingsCommand) -> Result<String, Failure> {
    match command {
        FindingsCommand::List { home } => {
            let house: Option<Vec<Finding>> = admin::get_if_running(&home, "/admin/findings").await?;
            let house = house.unwrap_or_default();
            let drawn = report::drawn(&Home::open(&home)?)?;
            let lines: Vec<_> = drawn.iter().map(|drawn| report::DrawnLine::of(drawn, &house)).collect();
            Ok(serde_json::to_string_pretty(&lines)?)
        }
        FindingsCommand::Look { home, id, receipts } => {
            let home = Home::open(&home)?;
            let drawn = report::drawn_one(&home, id)?;
            if let Some(folder) = receipts {
                let count = report::receipts(&home, &drawn.finding, &folder)?;
                comity_cli::note(&format!("{count} receipts in {}", folder.display()));
            }
            Ok(serde_json::to_string_pretty(&drawn.finding)?)
        }
        FindingsCommand::Show { home, id } => {
            let home = Home::open(&home)?;
            let finding = Box::new(report::drawn_one(&home, id)?.finding);
            let shown: Finding = admin::post(&home.path, "/admin/findings", &FindingAct::Show { finding }).await?;
            report::deal_with(&home, id)?;
            Ok(serde_json::to_string_pretty(&shown)?)
        }
        FindingsCommand::Publish(Deciding { home, id, by, reason }) => {
            act(&home, FindingAct::Publish { id, by, reason }).await
        }
        FindingsCommand::Withdraw(Deciding { home, id, by, reason }) => {
            act(&home, FindingAct::Withdraw { id, by, reason }).await
        }
        FindingsCommand::Dismiss { home, id } => {
            let home = Home::open(&home)?;
            report::drawn_one(&home, id)?;
            report::deal_with(&home, id)?;
            Ok(format!("{id}: dealt with"))
        }
    }
}

async fn act(home: &Path, act: FindingAct) -> Result<String, Failure> {
    let finding: Finding = admin::post(home, "/admin/findings", &act).await?;
    Ok(serde_json::to_string_pretty(&finding)?)
}

fn day(text: &str) -> Result<u64, String> {
    Timestamp::of_date(text).map(|day| day.seconds() / DAY_S).map_err(|error| error.to_string())
}

//! `comity node transcripts`: what was kept of calls, for whoever has the key.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::failure::Failure;
use crate::home::Home;
use crate::service::register;
use crate::shell;
use crate::transcripts::{Chosen, Folder, Gone, Key, Said};

#[derive(Debug, Subcommand)]
pub enum Transcripts {
    /// Make the key: from the next start on, texts of tiers with logging = "bodies" are kept, sealed for it
    Init(Init),
    /// Print the heads of what is kept, one JSON object a line
    List(Which),
    /// Print heads and texts, one JSON object a line
    Show(Show),
    /// Remove for good, but for what a hold keeps; it is written down who asked and why
    Delete(Delete),
    /// Keep some, whatever their days: a court wants them, a case is open
    Hold(HoldAsk),
    /// End a hold: what is overdue goes within the hour
    Release(Release),
    /// Print all holds, one JSON object a line
    Holds(Of),
    /// Print what went, who asked and why, and check that no line was changed
    Removed(Of),
}

/// Who says so, and why.
#[derive(Debug, Args)]
struct Why {
    /// Why; it is written down
    #[arg(long)]
    reason: String,
    /// Who says so, where it is not this login's name
    #[arg(long = "by", value_name = "NAME")]
    author: Option<String>,
}

impl Why {
    fn said(&self) -> Said {
        let by = self.author.clone().unwrap_or_else(crate::command::login);
        Said { at: shell::now(), by, reason: self.reason.clone() }
    }
}

#[derive(Debug, Args)]
pub struct HoldAsk {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    #[command(flatten)]
    chosen: ChosenArguments,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, Args)]
pub struct Release {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// The hold's number
    number: u64,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, Args)]
pub struct Of {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
}

#[derive(Debug, Args)]
pub struct Init {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// Where to write the secret half. Keep it off the node: nothing there needs it
    #[arg(long)]
    key: PathBuf,
}

#[derive(Debug, Args)]
pub struct Which {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    #[command(flatten)]
    chosen: ChosenArguments,
}

#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    which: Which,
    /// The secret half
    #[arg(long)]
    key: PathBuf,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// Everything that is kept
    #[arg(long, conflicts_with_all = ["subject", "receipt", "model"], required_unless_present_any = ["subject", "receipt", "model"])]
    all: bool,
    #[command(flatten)]
    chosen: ChosenArguments,
    #[command(flatten)]
    why: Why,
}

/// Which; all that are named must fit.
#[derive(Debug, Args)]
struct ChosenArguments {
    /// Of this project, by its pseudonym
    #[arg(long)]
    subject: Option<String>,
    /// Of this call
    #[arg(long)]
    receipt: Option<String>,
    /// Of this model
    #[arg(long)]
    model: Option<String>,
}

impl ChosenArguments {
    fn chosen(&self) -> Chosen {
        Chosen { subject: self.subject.clone(), receipt: self.receipt.clone(), model: self.model.clone() }
    }
}

impl Transcripts {
    /// Whoever changes what is kept is in the register: where no process runs, at once.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let changed = match &self {
            Self::Delete(delete) => Some(delete.home.clone()),
            Self::Hold(ask) => Some(ask.home.clone()),
            Self::Release(release) => Some(release.home.clone()),
            _ => None,
        };
        tokio::task::spawn_blocking(move || self.at_files()).await??;
        if let Some(home) = changed
            && let Err(failure) = register::enter_files(&home).await
        {
            comity_cli::note(&format!("it is done, and comes into the register at the next start: {failure}"));
        }
        Ok(())
    }

    fn at_files(self) -> Result<(), Failure> {
        match self {
            Self::Init(init) => {
                let home = Home::open(&init.home)?;
                Key::create(&home.path, &init.key)?;
                comity_cli::say(&init.key.display().to_string());
                eprintln!(
                    "next: take the key off this machine; say logging = \"bodies\" in the tier and in [data_policy], with \
                     retention_days; restart the node"
                );
                Ok(())
            }
            Self::List(which) => which.print(None),
            Self::Show(show) => show.which.print(Some(&Key::read(&show.key)?)),
            Self::Delete(delete) => {
                let folder = Folder::open(&Home::open(&delete.home)?.path)?;
                let Gone { went, held } = folder.remove(&delete.chosen.chosen(), delete.why.said())?;
                comity_cli::say(&json!({"removed": went, "held": held}).to_string());
                if held > 0 {
                    comity_cli::note("what a hold keeps is still there: comity node transcripts holds");
                }
                Ok(())
            }
            Self::Hold(ask) => {
                let chosen = ask.chosen.chosen();
                if chosen.is_all() {
                    return Err(Failure::new("a hold says what it keeps").hint("--subject, --receipt or --model"));
                }
                let folder = Folder::open(&Home::open(&ask.home)?.path)?;
                comity_cli::say(&serde_json::to_string(&folder.hold(chosen, ask.why.said())?)?);
                Ok(())
            }
            Self::Release(release) => {
                let folder = Folder::open(&Home::open(&release.home)?.path)?;
                comity_cli::say(&serde_json::to_string(&folder.release(release.number, release.why.said())?)?);
                Ok(())
            }
            Self::Holds(of) => {
                for hold in Folder::open(&Home::open(&of.home)?.path)?.holds()? {
                    comity_cli::say(&serde_json::to_string(&hold)?);
                }
                Ok(())
            }
            Self::Removed(of) => {
                let (removed, newest) = Folder::open(&Home::open(&of.home)?.path)?.removed()?;
                for one in &removed {
                    comity_cli::say(&serde_json::to_string(one)?);
                }
                comity_cli::note(&format!(
                    "{} lines, each follows the one before; the newest is {newest}: keep it to see later that none was changed",
                    removed.len()
                ));
                Ok(())
            }
        }
    }
}

impl Which {
    fn print(&self, key: Option<&Key>) -> Result<(), Failure> {
        let folder = Folder::open(&Home::open(&self.home)?.path)?;
        let chosen = self.chosen.chosen();
        for kept in folder.all()?.iter().filter(|kept| chosen.fits(&kept.head)) {
            let mut line = json!({"head": kept.head, "until": kept.until});
            if let Some(key) = key {
                line["texts"] = serde_json::to_value(kept.open(key)?)?;
            }
            comity_cli::say(&line.to_string());
        }
        Ok(())
    }
}

//! `comity node transcripts`: what was kept of calls, for whoever has the key.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::failure::Failure;
use crate::home::Home;
use crate::transcripts::{Folder, Head, Key};

#[derive(Debug, Subcommand)]
pub enum Transcripts {
    /// Make the key: from the next start on, texts of tiers with logging = "bodies" are kept, sealed for it
    Init(Init),
    /// Print the heads of what is kept, one JSON object a line
    List(Which),
    /// Print heads and texts, one JSON object a line
    Show(Show),
    /// Remove for good
    Delete(Delete),
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
    chosen: Chosen,
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
    chosen: Chosen,
}

/// Which; all that are named must fit.
#[derive(Debug, Args)]
struct Chosen {
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

impl Chosen {
    fn fits(&self, head: &Head) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        is(&self.subject, &head.subject)
            && is(&self.receipt, &head.receipt.to_string())
            && is(&self.model, head.model.as_str())
    }
}

impl Transcripts {
    pub(super) fn run(self) -> Result<(), Failure> {
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
                let gone = folder.remove(|head| delete.chosen.fits(head))?;
                comity_cli::say(&json!({"removed": gone}).to_string());
                Ok(())
            }
        }
    }
}

impl Which {
    fn print(&self, key: Option<&Key>) -> Result<(), Failure> {
        let folder = Folder::open(&Home::open(&self.home)?.path)?;
        for kept in folder.all()?.iter().filter(|kept| self.chosen.fits(&kept.head)) {
            let mut line = json!({"head": kept.head, "until": kept.until});
            if let Some(key) = key {
                line["texts"] = serde_json::to_value(kept.open(key)?)?;
            }
            comity_cli::say(&line.to_string());
        }
        Ok(())
    }
}

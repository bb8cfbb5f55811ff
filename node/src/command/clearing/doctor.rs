//! `comity clearing doctor`.

use std::path::PathBuf;

use crate::doctor::{self, Depth};
use crate::failure::Failure;
use crate::home::Home;

#[derive(Debug, clap::Args)]
pub struct Doctor {
    #[arg(long)]
    home: PathBuf,
    /// Read every page and add every transfer again
    #[arg(long)]
    full: bool,
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let home = Home::open(&self.home)?;
        let report = doctor::look(&home, if self.full { Depth::Full } else { Depth::Quick }).await;
        let text = if self.json { serde_json::to_string(&report)? } else { report.text() };
        comity_cli::say(&text);
        if report.well {
            return Ok(());
        }
        Err(Failure::new("the house is not well")
            .hint("mend what says FAIL from the top: what is below may rest on it"))
    }
}

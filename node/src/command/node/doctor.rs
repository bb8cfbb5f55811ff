//! `comity node doctor`.

use std::path::PathBuf;

use crate::doctor;
use crate::failure::Failure;
use crate::home::Home;

#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let report = doctor::node::look(&Home::open(&self.home)?).await;
        let text = if self.json { serde_json::to_string(&report)? } else { report.text() };
        comity_cli::say(&text);
        if report.well {
            return Ok(());
        }
        Err(Failure::new("the node is not well").hint("mend what says FAIL from the top: what is below may rest on it"))
    }
}

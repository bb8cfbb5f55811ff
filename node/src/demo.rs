//! `comity demo`: the whole loop on loopback, with real processes, keys, sockets and books.

mod children;
mod report;
mod stage;
mod story;

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Print one report object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// Leave everything running and say how to use it, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

impl Demo {
    /// # Errors
    /// [`Failure`] naming the stage; every child is ended first.
    pub async fn run(self) -> Result<(), Failure> {
        let folder = tempfile::Builder::new().prefix("comity-demo-").tempdir()?;
        let story = async {
            let mut stage = stage::Stage::set(folder.path()).await?;
            let report = story::play(&mut stage).await?;
            report.check()?;
            let text = if self.json { serde_json::to_string(&report)? } else { report.for_people() };
            comity_cli::say(&text);
            if self.keep {
                stage.keep().await?;
            }
            stage.end().await;
            Ok(())
        };
        tokio::select! {
            result = story => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::new("stopped before the end")),
        }
    }
}

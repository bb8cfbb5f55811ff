//! `comity demo`: the whole loop on loopback, with real processes, keys, sockets and books.

mod children;
mod report;
mod stage;
mod story;

use crate::failure::Failure;
use crate::service::stopped;

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
                stage.keep()?;
            }
            Ok::<_, Failure>(stage)
        };
        let stage = tokio::select! {
            result = story => result?,
            result = stopped() => {
                result?;
                return Err(Failure::new("stopped before the end"));
            }
        };
        // The story is told: from here on a signal is how `--keep` ends, not a failure.
        let kept = if self.keep { stopped().await } else { Ok(()) };
        stage.end().await;
        kept
    }
}

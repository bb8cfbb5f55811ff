//! `comity conduct show|sign`.

use crate::printer::{Failure, note, say};
use crate::session::Session;

#[derive(Debug, clap::Subcommand)]
pub enum ConductCommand {
    /// Read the clearing house's code of conduct
    Show,
    /// Sign it with your member key: you have read it, and keep to it
    Sign,
}

impl ConductCommand {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        let conduct = client.conduct().await?;
        match self {
            Self::Show => {
                note(&format!("version {}, {}", conduct.version, conduct.digest));
                say(conduct.body.trim_end());
            }
            Self::Sign => {
                let who = client.sign_conduct(&conduct).await?;
                note(&format!("signed: version {}, {}", conduct.version, conduct.digest));
                super::whoami::show(&who);
            }
        }
        Ok(())
    }
}

//! `comity node findings`: what a house found of this node's models, and what the owner says to it (docs/operating/probes.md).

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comity_clearing::service::findings::{FindingAnswer, FindingsReply};
use comity_http::dial::Client;
use comity_http::{Endpoint, TrustedKeys};
use comity_probe::Finding;
use comity_wire::Digest;
use comity_wire::object::AnchorRole;
use http::Method;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::keystore::KeyName;
use crate::shell;

/// Pages that are read at once: a house that has more to say of one node is asked again.
const PAGES_MAX: usize = 100;

#[derive(Debug, Subcommand)]
pub enum FindingsCommand {
    /// All that the house has shown to this node, the oldest first: numbers and receipts, and until when it waits for an answer
    List(Asking),
    /// Say what there is to say. It is published with the finding; a later answer replaces it
    Answer {
        #[command(flatten)]
        asking: Asking,
        id: Digest,
        /// The words
        #[arg(long, required_unless_present = "file")]
        text: Option<String>,
        /// A file with the words
        #[arg(long, conflicts_with = "text")]
        file: Option<PathBuf>,
    },
}

/// Who asks, and where.
#[derive(Debug, Args)]
pub struct Asking {
    /// The home folder that `init` made
    #[arg(long)]
    home: PathBuf,
    /// The house's door: https://HOST:PORT. Its key is the roster's
    #[arg(long, value_name = "URL")]
    house: String,
}

/// # Errors
/// [`Failure`] where the house is not reached, or refuses.
pub(super) async fn run(command: FindingsCommand) -> Result<String, Failure> {
    match command {
        FindingsCommand::List(asking) => Ok(serde_json::to_string_pretty(&asking.list().await?)?),
        FindingsCommand::Answer { asking, id, text, file } => {
            let answer = match (text, file) {
                (Some(text), _) => text,
                (None, Some(file)) => {
                    std::fs::read_to_string(&file).while_(format!("cannot read {}", file.display()))?
                }
                (None, None) => return Err(Failure::new("no answer").hint("name --text or --file")),
            };
            let path = format!("/v1/findings/{id}/answers");
            let finding: Finding = asking.call(Method::POST, &path, Some(&FindingAnswer { answer })).await?;
            Ok(serde_json::to_string_pretty(&finding)?)
        }
    }
}

impl Asking {
    async fn list(&self) -> Result<Vec<Finding>, Failure> {
        let node = Home::open(&self.home)?.card.node;
        let (mut findings, mut cursor) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let path = format!("/v1/findings/shown?node={node}{cursor}");
            let page: FindingsReply = self.call(Method::GET, &path, None::<&()>).await?;
            findings.extend(page.findings);
            let Some(next) = page.next else { break };
            cursor = format!("&cursor={next}");
        }
        Ok(findings)
    }

    /// Signed by the node's transport key.
    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl serde::Serialize>,
    ) -> Result<T, Failure> {
        let home = Home::open(&self.home)?;
        let (_, roster) = home.roster()?;
        let house = roster.anchors_of(AnchorRole::House).next();
        let house = house.ok_or_else(|| Failure::new("the roster names no clearing house"))?;
        let trusted = TrustedKeys::Exactly(vec![*house.transport_key.as_bytes()]);
        let client = Client::new(Endpoint { addresses: vec![self.house.clone()], trusted })?;
        let key = home.keys.read(KeyName::Transport)?;
        Ok(client.call_signed(method, path, body, &key, shell::now()).await?)
    }
}

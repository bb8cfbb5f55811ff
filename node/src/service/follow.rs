//! A process that does not write its organisation's feed: what it serves has to have come from the one that does.

use std::time::Duration;

use comity_gateway::Served;
use comity_token::Directory as _;

use crate::failure::Failure;
use crate::service::Member;

/// How long it waits for what the other one has published.
const KNOWN_WAIT: Duration = Duration::from_secs(60);
const KNOWN_LOOK: Duration = Duration::from_secs(1);

/// Waits until the process that writes the feed has published this node and its models, and they have come here.
pub(super) async fn known(member: &Member, served: &[Served]) -> Result<(), Failure> {
    let mut changed = member.network.changed();
    let waiting = async {
        while missing(member, served).is_some() {
            for served in served.iter().filter(|served| member.directory.manifest(&served.model).is_none()) {
                // Summaries are replicated; a full manifest is fetched by who wants it.
                if let Some(summary) = member.directory.summary(&served.model) {
                    member.network.fetch_manifest(summary.manifest).await;
                }
            }
            if missing(member, served).is_some() {
                let _ = tokio::time::timeout(KNOWN_LOOK, changed.changed()).await;
            }
        }
    };
    let _ = tokio::time::timeout(KNOWN_WAIT, waiting).await;
    let Some(missing) = missing(member, served) else { return Ok(()) };
    Err(Failure::new(format!("{missing} did not come from the federation")).hint(
        "start the process that publishes first, and give both the same --hub, the same certificate and the same models",
    ))
}

/// What this node has to know of itself and does not.
fn missing(member: &Member, served: &[Served]) -> Option<String> {
    if member.directory.certificate(member.home.card.node).is_none() {
        return Some("this node's certificate".into());
    }
    let unknown = served.iter().find(|served| member.directory.manifest(&served.model).is_none())?;
    Some(format!("the manifest of {}", unknown.model))
}

//! What clearing houses found of this node's models by their blind checks: looked for twice a day, and told of in the log, once each. The
//! operator answers with `comity node findings`.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use comity_probe::{Finding, State};
use comity_wire::NodeId;

use super::house_client::HouseClient;

/// From one look to the next: an owner has two weeks.
const EVERY: Duration = Duration::from_secs(12 * 3_600);
/// The same where a house was not reached: its door may not be known yet after a start.
const AGAIN: Duration = Duration::from_secs(10);
/// Looks in vain before it is waited as long as after one that was not.
const TRIES: u32 = 30;

/// Looks for ever.
pub(super) async fn watch(houses: HouseClient, node: NodeId) -> Infallible {
    let (mut told, mut tries) = (BTreeSet::new(), 0);
    loop {
        let mut reached = true;
        for house in houses.houses() {
            match houses.findings(house, node).await {
                Ok(findings) => findings.iter().filter(|finding| waits(finding)).for_each(|finding| {
                    // At most as many as a house has of one node in the pages that are read.
                    if told.insert(finding.id) {
                        let (model, why) = (&finding.evidence.model, finding.evidence.why.name());
                        tracing::warn!(finding = %finding.id, %model, %why, "a clearing house waits for an answer: comity node findings");
                    }
                }),
                Err(error) => {
                    reached = false;
                    tracing::debug!(%error, %house, "its findings cannot be read now");
                }
            }
        }
        tries = if reached { 0 } else { tries + 1 };
        tokio::time::sleep(if reached || tries >= TRIES { EVERY } else { AGAIN }).await;
    }
}

fn waits(finding: &Finding) -> bool {
    finding.answer.is_none() && matches!(finding.state, State::Shown { .. } | State::Published { .. })
}

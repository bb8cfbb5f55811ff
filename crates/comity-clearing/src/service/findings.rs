//! Findings of blind probes at the house: shown to the owner, answered, published or withdrawn (spec/13-checks.md §13.2). Which are drawn up, and
//! from what, the house's own books never hear: they get a finding when a person shows it to its owner.

use comity_ledger::Db;
use comity_probe::{Act, Finding};
use comity_wire::{Digest, NodeId, PublicKey, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Clearing;
use crate::failure::Failure;
use crate::http::pages::{Page, cut};
use crate::store;
use crate::store::findings::{FindingRow, Which};

/// Findings of a house: each was shown by a person.
const FINDINGS_MAX: u64 = 10_000;
const SHOWN: &str = "findings are shown to the node that they are about, and answered by it, with its transport key";

/// A list of findings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FindingsReply {
    pub findings: Vec<Finding>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `POST /v1/findings/{id}/answers`: what the owner says. A later one replaces it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingAnswer {
    #[schemars(length(min = 1, max = 16_384))]
    pub answer: String,
}

/// What the house's people do with a finding.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub enum FindingAct {
    /// Its owner gets it, and may answer for two weeks before anybody else reads it.
    Show {
        finding: Box<Finding>,
    },
    Publish {
        id: Digest,
        by: String,
        reason: String,
    },
    Withdraw {
        id: Digest,
        by: String,
        reason: String,
    },
}

/// A finding's place among others: when it was shown, and its id.
fn place(row: &FindingRow) -> Vec<u8> {
    [&row.shown_at.0.to_be_bytes()[..], row.finding.id.as_bytes()].concat()
}

fn place_read(place: [u8; 40]) -> (Timestamp, Digest) {
    let (at, id) = place.split_at(8);
    let at = u64::from_be_bytes(at.try_into().expect("8 of 40 bytes"));
    (Timestamp(at.min(i64::MAX.unsigned_abs())), Digest(id.try_into().expect("32 of 40 bytes")))
}

impl Clearing {
    /// Those that a node was shown, the oldest first.
    ///
    /// # Errors
    /// [`Failure::NotYours`] where it is not the node that asks.
    pub(crate) async fn findings_of(
        &self,
        caller: &PublicKey,
        node: NodeId,
        page: &Page,
    ) -> Result<FindingsReply, Failure> {
        self.node_asking(caller, node, SHOWN).await?;
        self.findings_page(Which::Of(node), page).await
    }

    /// Those that were published, also where they were withdrawn since.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn findings_published(&self, page: &Page) -> Result<FindingsReply, Failure> {
        self.findings_page(Which::Published, page).await
    }

    async fn findings_page(&self, which: Which, page: &Page) -> Result<FindingsReply, Failure> {
        let after = page.place::<40>()?.map(place_read);
        let rows = store::findings::page(&mut self.read().await?.db(), which, after, page.limit + 1).await?;
        let (rows, next) = cut(page, rows, place);
        Ok(FindingsReply { findings: rows.into_iter().map(|row| row.finding).collect(), next })
    }

    /// What the owner says of a finding.
    ///
    /// # Errors
    /// [`Failure`]: of another node, or withdrawn already.
    pub(crate) async fn finding_answer(
        &self,
        caller: &PublicKey,
        id: Digest,
        answer: String,
    ) -> Result<Finding, Failure> {
        let found = store::findings::find(&mut self.read().await?.db(), id).await?.ok_or_else(|| not_found(id))?;
        self.node_asking(caller, found.finding.evidence.node, SHOWN).await?;
        let finding = self.finding_moved(id, Act::Answer(answer)).await?;
        tracing::info!(%id, "an owner answered a finding");
        Ok(finding)
    }

    /// All of them.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn findings(&self) -> Result<Vec<Finding>, Failure> {
        let limit = u32::try_from(FINDINGS_MAX).expect("a small number");
        let rows = store::findings::page(&mut self.read().await?.db(), Which::All, None, limit).await?;
        Ok(rows.into_iter().map(|row| row.finding).collect())
    }

    /// What a person of the house does with one.
    ///
    /// # Errors
    /// [`Failure`]: not from where it stands, or its owner still has time.
    pub async fn finding_act(&self, act: FindingAct) -> Result<Finding, Failure> {
        match act {
            FindingAct::Show { finding } => self.finding_show(*finding).await,
            FindingAct::Publish { id, by, reason } => self.finding_moved(id, Act::Publish { by, reason }).await,
            FindingAct::Withdraw { id, by, reason } => self.finding_moved(id, Act::Withdraw { by, reason }).await,
        }
    }

    /// The same again changes nothing: the owner's time runs from the first.
    async fn finding_show(&self, finding: Finding) -> Result<Finding, Failure> {
        if !finding.is_whole() {
            return Err(Failure::invalid("the finding's id is not the digest of its evidence"));
        }
        let now = self.now();
        self.write(move |conn| {
            let finding = Finding { state: comity_probe::State::Drawn, answer: None, ..finding.clone() };
            Box::pin(async move { show_in_tx(conn, finding, now).await })
        })
        .await
    }

    async fn finding_moved(&self, id: Digest, act: Act) -> Result<Finding, Failure> {
        let now = self.now();
        self.write(move |conn| {
            let act = act.clone();
            Box::pin(async move {
                let mut found = store::findings::find(conn, id).await?.ok_or_else(|| not_found(id))?;
                found.finding.act(now, act).map_err(Failure::Finding)?;
                store::findings::put_in_tx(conn, &found).await?;
                Ok(found.finding)
            })
        })
        .await
    }
}

async fn show_in_tx(conn: &mut Db<'_>, mut finding: Finding, now: Timestamp) -> Result<Finding, Failure> {
    if let Some(known) = store::findings::find(conn, finding.id).await? {
        return Ok(known.finding);
    }
    if store::findings::count(conn).await? >= FINDINGS_MAX {
        return Err(Failure::Limit { what: "findings of a house", max: FINDINGS_MAX.to_string() });
    }
    finding.act(now, Act::Show).map_err(Failure::Finding)?;
    let row = FindingRow { shown_at: now, published: false, finding };
    store::findings::put_in_tx(conn, &row).await?;
    Ok(row.finding)
}

fn not_found(id: Digest) -> Failure {
    Failure::NotFound { what: format!("finding {id}") }
}

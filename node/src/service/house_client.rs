//! The house as an owner's node sees it: found through the federation, trusted by the roster's key.

use std::sync::Arc;

use comity_clearing::service::findings::FindingsReply;
use comity_gateway::{House, HouseError};
use comity_http::dial::{CallError, Client};
use comity_http::{Endpoint, TrustedKeys};
use comity_probe::Finding;
use comity_supply::BoxFuture;
use comity_token::Directory;
use comity_wire::api::advisory::AdvisoriesReply;
use comity_wire::api::challenge::{AnswerRequest, Challenge, ChallengesReply};
use comity_wire::api::clearing::{ClaimReply, ClaimRequest, FinalReply, FinalRequest, HouseReply};
use comity_wire::api::count::{CountReply, CountRequest, CountsReply};
use comity_wire::api::credit::{CreditNoteReply, CreditNoteRequest};
use comity_wire::api::decisions::{DecisionsReply, DecisionsRequest};
use comity_wire::object::{Anchor, AnchorRole, DoorKind};
use comity_wire::{Digest, NodeId, OrgId, PublicKey, SecretKey};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::service::Member;

/// Dials the house where its announcement says it is.
pub struct HouseClient {
    directory: Arc<dyn Directory>,
    transport: SecretKey,
    clock: comity_network::Clock,
}

impl HouseClient {
    pub fn of(member: &Member) -> Self {
        Self {
            directory: Arc::clone(&member.directory),
            transport: member.transport.clone(),
            clock: Arc::clone(&member.clock),
        }
    }

    /// The houses of the roster.
    pub fn houses(&self) -> Vec<OrgId> {
        self.directory.roster().anchors_of(AnchorRole::House).map(|anchor| anchor.org).collect()
    }

    /// What a house has shown to this node.
    ///
    /// # Errors
    /// [`HouseError`].
    pub async fn findings(&self, house: OrgId, node: NodeId) -> Result<Vec<Finding>, HouseError> {
        let (mut findings, mut cursor) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let path = format!("/v1/findings/shown?node={node}{cursor}");
            let page: FindingsReply = self.call(house, Method::GET, &path, None::<&()>).await?;
            findings.extend(page.findings);
            let Some(next) = page.next else { break };
            cursor = format!("&cursor={next}");
        }
        Ok(findings)
    }

    fn client(&self, house: OrgId) -> Result<Client, HouseError> {
        let roster = self.directory.roster();
        let mut anchors = roster.anchors_of(AnchorRole::House);
        let anchor =
            anchors.find(|anchor| anchor.org == house).ok_or_else(|| unreached("the roster names no such house"))?;
        let announcement = self.directory.announcement(anchor.node);
        let announcement = announcement.ok_or_else(|| unreached("the house has not announced a door yet"))?;
        let own = announcement.doors.iter().filter(|door| matches!(door.kind, DoorKind::Quic | DoorKind::Https));
        let addresses: Vec<_> = own.map(|door| door.address.to_string()).collect();
        let trusted = TrustedKeys::Exactly(house_keys(&*self.directory, anchor).map(|key| *key.as_bytes()).collect());
        Client::new(Endpoint { addresses, trusted }).map_err(|error| unreached(error.to_string()))
    }

    /// The newest head of this node's decisions that a house has.
    ///
    /// # Errors
    /// [`HouseError`].
    pub async fn decisions(&self, house: OrgId, node: NodeId) -> Result<DecisionsReply, HouseError> {
        self.call(house, Method::GET, &format!("/v1/decisions?node={node}"), None::<&()>).await
    }

    /// Brings the next one.
    ///
    /// # Errors
    /// [`HouseError`].
    pub async fn decided(&self, house: OrgId, ask: DecisionsRequest) -> Result<DecisionsReply, HouseError> {
        self.post(house, "/v1/decisions", &ask).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        house: OrgId,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, HouseError> {
        self.call(house, Method::POST, path, Some(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        house: OrgId,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, HouseError> {
        let client = self.client(house)?;
        let called = client.call_signed(method, path, body, &self.transport, (self.clock)()).await;
        called.map_err(|error| match error {
            CallError::Remote(remote) => {
                let settled = remote.fields.get("settled").cloned().unwrap_or_default();
                let settled = serde_json::from_value(settled).unwrap_or_default();
                HouseError {
                    code: remote.known_code(),
                    message: remote.to_string(),
                    settled,
                    retry_after_s: remote.retry_after_s,
                }
            }
            other => unreached(other.to_string()),
        })
    }
}

/// The keys that a house's door may show: the roster's, and those of its other replicas, which its own organisation certified.
fn house_keys(directory: &dyn Directory, anchor: &Anchor) -> impl Iterator<Item = PublicKey> {
    let certificate = directory.certificate(anchor.node).filter(|certificate| certificate.org == anchor.org);
    let replicas = certificate.map(|certificate| certificate.transport_keys.to_vec()).unwrap_or_default();
    std::iter::once(anchor.transport_key).chain(replicas)
}

/// Pages of challenges, of advisories or of findings, that are read in one round of claims; what lies behind them waits for the next.
const PAGES_MAX: usize = 10;

fn unreached(reason: impl Into<String>) -> HouseError {
    HouseError { code: None, message: reason.into(), settled: Vec::new(), retry_after_s: None }
}

impl House for HouseClient {
    fn claim(&self, house: OrgId, ask: ClaimRequest) -> BoxFuture<'_, Result<ClaimReply, HouseError>> {
        Box::pin(async move { self.post(house, "/v1/claims", &ask).await })
    }

    fn about(&self, house: OrgId) -> BoxFuture<'_, Result<HouseReply, HouseError>> {
        Box::pin(async move {
            let client = self.client(house)?;
            let called = client.call(Method::GET, "/v1/house", None::<&()>).await;
            called.map_err(|error| unreached(error.to_string()))
        })
    }

    fn final_(&self, house: OrgId, ask: FinalRequest) -> BoxFuture<'_, Result<FinalReply, HouseError>> {
        Box::pin(async move { self.post(house, "/v1/finals", &ask).await })
    }

    fn challenges(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<ChallengesReply, HouseError>> {
        Box::pin(async move {
            let (mut challenges, mut cursor) = (Vec::new(), String::new());
            for _ in 0..PAGES_MAX {
                let path = format!("/v1/challenges?node={node}{cursor}");
                let page: ChallengesReply = self.call(house, Method::GET, &path, None::<&()>).await?;
                challenges.extend(page.challenges);
                let Some(next) = page.next else { break };
                cursor = format!("&cursor={next}");
            }
            Ok(ChallengesReply { challenges, next: None })
        })
    }

    fn answer(
        &self,
        house: OrgId,
        challenge: Digest,
        ask: AnswerRequest,
    ) -> BoxFuture<'_, Result<Challenge, HouseError>> {
        Box::pin(async move { self.post(house, &format!("/v1/challenges/{challenge}/answers"), &ask).await })
    }

    fn advisories(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<AdvisoriesReply, HouseError>> {
        Box::pin(async move {
            let (mut advisories, mut cursor) = (Vec::new(), String::new());
            for _ in 0..PAGES_MAX {
                let path = format!("/v1/advisories?node={node}&limit=1000{cursor}");
                let page: AdvisoriesReply = self.call(house, Method::GET, &path, None::<&()>).await?;
                advisories.extend(page.advisories);
                let Some(next) = page.next else { break };
                cursor = format!("&cursor={next}");
            }
            Ok(AdvisoriesReply { advisories, next: None })
        })
    }

    fn counts(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<CountsReply, HouseError>> {
        let path = format!("/v1/counts?node={node}");
        Box::pin(async move { self.call(house, Method::GET, &path, None::<&()>).await })
    }

    fn count(&self, house: OrgId, ask: CountRequest) -> BoxFuture<'_, Result<CountReply, HouseError>> {
        Box::pin(async move { self.post(house, "/v1/counts", &ask).await })
    }

    fn credit_note(&self, house: OrgId, ask: CreditNoteRequest) -> BoxFuture<'_, Result<CreditNoteReply, HouseError>> {
        Box::pin(async move { self.post(house, "/v1/credit-notes", &ask).await })
    }
}

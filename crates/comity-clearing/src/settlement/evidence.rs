//! Evidence: signed bytes in, what they prove out. Every signature is checked here and nowhere else in settlement.

use std::collections::{BTreeMap, BTreeSet};

use comity_token::{Capability, Directory, verify_for_settlement};
use comity_wire::object::{Acknowledgement, Claim, Final, Flags, IssuerStatus, Receipt, Token};
use comity_wire::{Amount, Digest, NodeId, OrgId, PublicKey, Signed, Timestamp, TokenId, Unverified, Verified};

use super::{Head, LaneKey, PathCap, Refused};

/// Whom the house believes.
#[derive(Clone, Copy)]
pub struct Trust<'a> {
    pub house: OrgId,
    /// Whose roster names the house's issuer keys.
    pub directory: &'a dyn Directory,
    /// Every receipt key ever certified to the node by its owner, also after its certificate's end.
    pub receipt_keys: &'a [PublicKey],
}

/// A claim whose signatures stand.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Content id of the claim.
    pub id: Digest,
    pub number: u64,
    /// The token, as the claim brings it: the house may have lost its own copy (rule 9).
    pub token: Verified<Token>,
    /// Whether the key that signed the token is compromised: then the house pays for what it knows to be its own.
    pub compromised: bool,
    /// Each lane once.
    pub lanes: BTreeMap<LaneKey, LaneClaim>,
}

/// What a claim says of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneClaim {
    pub path: Vec<PathCap>,
    pub n: u64,
    pub total: Amount,
    /// Content id of receipt n.
    pub receipt: Digest,
    /// Root over receipts 1…n−1.
    pub history: Digest,
    /// Counts of the lane's receipts by filter category, from the first on.
    pub flags: Flags,
    /// When receipt n was signed, by the node's clock.
    pub at: Timestamp,
    pub settled_n: Option<u64>,
    pub inclusion: Vec<Digest>,
    /// How much of the total a holder acknowledged, and up to which receipt.
    pub acknowledged: Amount,
    pub acknowledged_n: u64,
}

/// A final whose signature stands.
#[derive(Clone, Debug)]
pub struct Finalled {
    pub id: Digest,
    pub token: TokenId,
    pub heads: BTreeMap<LaneKey, Head>,
}

/// Verifies a claim with all that it carries.
///
/// # Errors
/// [`Refused`]: the claim's signature first, then chains, receipts, acknowledgements.
pub fn claim(bytes: &[u8], trust: &Trust<'_>) -> Result<Claimed, Refused> {
    let claim = Signed::<Claim>::decode(bytes)?.verify_any(trust.receipt_keys)?;
    let mut chains = BTreeMap::new();
    for bytes in &claim.chains {
        let chain = verify_for_settlement(bytes, trust.directory, claim.node).map_err(Refused::Chain)?;
        let token = chain.token();
        if token.issuer() != trust.house {
            return Err(Refused::WrongIssuer { issuer: token.issuer() });
        }
        if token.id != claim.token {
            return Err(Refused::WrongToken { what: "a chain of the claim", token: claim.token });
        }
        chains.insert(chain.leaf(), chain);
    }
    let first = chains.values().next().expect("a claim has at least one chain");
    let (token, compromised) = (first.token().clone(), first.issuer_status() == IssuerStatus::Compromised);
    if chains.values().any(|chain| chain.token().id() != token.id()) {
        return Err(Refused::TokenConflict { token: claim.token });
    }
    let mut lanes = BTreeMap::new();
    for lane in &claim.lanes {
        // Whose receipt it is, is checked although the claim's signature stands for it: a statement may show it alone.
        let receipt = Signed::<Receipt>::decode(&lane.receipt)?.verify_any(trust.receipt_keys)?;
        let (key, entry) = self::lane(&claim, &chains, &receipt, lane.settled_n, lane.inclusion.to_vec())?;
        if lanes.insert(key, entry).is_some() {
            return Err(Refused::LaneTwice { leaf: key.leaf, lane: key.lane });
        }
    }
    for bytes in &claim.acknowledgements {
        acknowledge(bytes, claim.token, &chains, &mut lanes)?;
    }
    Ok(Claimed { id: claim.id(), number: claim.number, token, compromised, lanes })
}

/// Verifies a final.
///
/// # Errors
/// [`Refused`] where no receipt key of the node signed it.
pub fn final_(bytes: &[u8], node: NodeId, trust: &Trust<'_>) -> Result<Finalled, Refused> {
    let signed = Signed::<Final>::decode(bytes)?.verify_any(trust.receipt_keys)?;
    if signed.node != node {
        return Err(Refused::WrongNode);
    }
    let head = |lane: &comity_wire::object::AckLane| {
        let key = LaneKey { leaf: lane.leaf, lane: lane.lane };
        (key, Head { n: lane.n, total: lane.total, receipt: lane.receipt })
    };
    Ok(Finalled { id: signed.id(), token: signed.token, heads: signed.lanes.iter().map(head).collect() })
}

fn lane(
    claim: &Claim,
    chains: &BTreeMap<Digest, Capability>,
    receipt: &Verified<Receipt>,
    settled_n: Option<u64>,
    inclusion: Vec<Digest>,
) -> Result<(LaneKey, LaneClaim), Refused> {
    if receipt.token != claim.token {
        return Err(Refused::WrongToken { what: "a receipt of the claim", token: claim.token });
    }
    if receipt.node != claim.node {
        return Err(Refused::WrongNode);
    }
    let chain = chains.get(&receipt.leaf).ok_or(Refused::LeafUnknown { leaf: receipt.leaf })?;
    if receipt.lane >= chain.lanes() {
        return Err(Refused::LaneBeyondMax { lane: receipt.lane, max: chain.lanes() });
    }
    let lane = LaneClaim {
        path: blocks(chain),
        n: receipt.n,
        total: receipt.total,
        receipt: receipt.id(),
        history: receipt.history,
        flags: receipt.flags_total.clone(),
        at: receipt.at,
        settled_n,
        inclusion,
        acknowledged: Amount::ZERO,
        acknowledged_n: 0,
    };
    Ok((LaneKey { leaf: receipt.leaf, lane: receipt.lane }, lane))
}

/// The caps of the blocks; the token's budget stands apart.
fn blocks(chain: &Capability) -> Vec<PathCap> {
    chain.blocks().iter().map(|block| PathCap { id: block.id(), cap: block.cap }).collect()
}

/// Adds an acknowledgement to the lanes it covers. It may name lanes that the claim does not: one signature, up to 64.
fn acknowledge(
    bytes: &[u8],
    token: TokenId,
    chains: &BTreeMap<Digest, Capability>,
    lanes: &mut BTreeMap<LaneKey, LaneClaim>,
) -> Result<(), Refused> {
    let signed = Signed::<Acknowledgement>::decode(bytes)?;
    let keys: BTreeSet<_> = chains.values().flat_map(Capability::keys).copied().collect();
    let acknowledgement = signed.verify_any(&keys)?;
    if acknowledgement.token != token {
        return Err(Refused::WrongToken { what: "an acknowledgement", token });
    }
    for entry in &acknowledgement.lanes {
        let Some(lane) = lanes.get_mut(&LaneKey { leaf: entry.leaf, lane: entry.lane }) else { continue };
        // The leaf or any ancestor of it: a holder of another branch says nothing about this lane.
        let chain = &chains[&entry.leaf];
        if !chain.keys().into_iter().any(|key| key == acknowledgement.signer()) {
            return Err(Unverified::WrongKey { kind: "acknowledgement" }.into());
        }
        let misfit = Refused::AcknowledgementMisfit { n: entry.n };
        match entry.n.cmp(&lane.n) {
            // The node keeps newer receipts back. What this one shows is acknowledged whole.
            std::cmp::Ordering::Greater if entry.total >= lane.total => lane.acknowledged = lane.total,
            std::cmp::Ordering::Equal if entry.total == lane.total && entry.receipt == lane.receipt => {
                lane.acknowledged = lane.total;
            }
            std::cmp::Ordering::Less if entry.total <= lane.total => {
                lane.acknowledged = lane.acknowledged.max(entry.total);
            }
            _ => return Err(misfit),
        }
        lane.acknowledged_n = lane.acknowledged_n.max(entry.n.min(lane.n));
    }
    Ok(())
}

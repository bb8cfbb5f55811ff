//! Chains: a token and its blocks, verified root to leaf, and lengthened offline by their holder (spec/04-token.md §4–§5).
//!
//! Order, cheap before dear, the first fault reported: form of every part → issuer key by `kid` → token's signature →
//! roster version → the key's use and dates → each block's index, link, signature → narrowing → audience → roster's end →
//! time → standing and revocations. The proof of possession is [`crate::request`]'s.

use std::sync::Arc;

use comity_wire::object::{
    Block, Chain, IssuerKey, IssuerStatus, IssuerUse, RevocationList, RevokedKind, Scope, Token, Vetting,
};
use comity_wire::time::SKEW_S;
use comity_wire::{
    Amount, Digest, ModelId, NodeId, Op, OrgId, PublicKey, SecretKey, Signed, Timestamp, Unverified, Verified, cose,
};

use crate::denied::Denied;
use crate::directory::Directory;
use crate::rights::Rights;
use crate::signature::Known;

/// Under what a chain is judged: whose roster and lists, at which node, when.
#[derive(Clone, Copy)]
pub struct Trust<'a> {
    pub directory: &'a dyn Directory,
    /// The node that must be the audience.
    pub node: NodeId,
    pub now: Timestamp,
}

/// A chain that was verified root to leaf. Only this module builds one.
#[derive(Clone, Debug)]
pub struct Capability {
    token: Verified<Token>,
    blocks: Vec<Verified<Block>>,
    bytes: Arc<[u8]>,
    /// The leaf's key.
    holder: Known,
    issuer_use: IssuerUse,
    issuer_status: IssuerStatus,
    standing: u64,
}

/// A cap that a charge counts against: the root's budget or a block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathCap {
    /// Content id of the token or block.
    pub id: Digest,
    pub cap: Amount,
}

/// A right to hand on: what the next holder may do at most.
#[derive(Clone, Debug)]
pub struct Narrow {
    pub cap: Amount,
    pub expires_at: Timestamp,
    /// 1 or more.
    pub lanes: u16,
    /// How many blocks may follow.
    pub depth: u8,
    /// Empty: as before. Order does not matter.
    pub models: Vec<ModelId>,
    /// Empty: as before. Order does not matter.
    pub ops: Vec<Op>,
    pub next: PublicKey,
}

/// Why a right cannot be handed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelegateError {
    #[error("the token file is not a chain this version can read")]
    Chain(#[source] Denied),
    #[error("the key at hand is not the one the chain ends with")]
    NotHolder,
    #[error("the new block would widen the right: {what}")]
    Widens { what: &'static str },
    #[error("the new block breaks its own rules")]
    Block(#[source] Unverified),
}

/// Verifies a chain for admission.
///
/// # Errors
/// [`Denied`]: the first fault in the order above.
pub fn verify(chain: &[u8], trust: &Trust<'_>) -> Result<Capability, Denied> {
    let mut capability = authenticate(chain, trust.directory, Purpose::Admission)?;
    let token = &capability.token;
    if token.audience() != trust.node {
        return Err(Denied::WrongAudience { audience: token.audience(), node: trust.node });
    }
    let roster = trust.directory.roster();
    if trust.now >= roster.expires_at {
        return Err(Denied::RosterExpired { at: roster.expires_at });
    }
    // A key's first use and its retirement are judged by `iat`: it must not lie ahead.
    let from = token.not_before.max(token.issued_at);
    if trust.now.plus(SKEW_S) < from {
        return Err(Denied::NotYetValid { from });
    }
    let ends = capability.expires_at();
    if trust.now >= ends.plus(SKEW_S) {
        return Err(Denied::Expired { at: ends });
    }
    capability.standing = standing(&capability, trust)?;
    Ok(capability)
}

/// Verifies a chain that work was done under: all of [`verify`] but roster expiry, time and revocation, since authority
/// is judged at admission (rules 8 and 10). The house tells its own tokens of a compromised key by
/// [`Capability::issuer_status`].
///
/// # Errors
/// [`Denied`].
pub fn verify_for_settlement(chain: &[u8], directory: &dyn Directory, node: NodeId) -> Result<Capability, Denied> {
    let capability = authenticate(chain, directory, Purpose::Settlement)?;
    match capability.token.audience() {
        audience if audience != node => Err(Denied::WrongAudience { audience, node }),
        _ => Ok(capability),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Admission,
    Settlement,
}

/// Form, signatures, links, narrowing.
fn authenticate(bytes: &[u8], directory: &dyn Directory, purpose: Purpose) -> Result<Capability, Denied> {
    let chain = Chain::from_bytes(bytes).map_err(Denied::Chain)?;
    let token = Signed::<Token>::decode(&chain.token)?;
    let blocks = decode_blocks(&chain)?;

    let (token, issuer) = verify_token(token, directory, purpose)?;
    let mut verified = Vec::with_capacity(blocks.len());
    let (mut before, mut holder) = (token.id(), *token.holder());
    for (at, block) in blocks.into_iter().enumerate() {
        let index = at + 1;
        let named = usize::from(block.unverified().index);
        if named != index {
            return Err(Denied::BlockOrder { place: index, index: named });
        }
        if block.unverified().previous != before {
            return Err(Denied::BlockSpliced { index });
        }
        let block = block.verify(&holder).map_err(|source| Denied::Block { index, source })?;
        (before, holder) = (block.id(), block.next);
        verified.push(block);
    }

    let mut rights = Rights::of(&token);
    for (at, block) in verified.iter().enumerate() {
        rights = rights.narrow(block).map_err(|widens| Denied::BlockWidens { index: at + 1, what: widens.0 })?;
    }
    Ok(Capability {
        token,
        blocks: verified,
        bytes: bytes.into(),
        holder: holder.into(),
        issuer_use: issuer.use_,
        issuer_status: issuer.status,
        standing: 0,
    })
}

fn decode_blocks(chain: &Chain) -> Result<Vec<Signed<Block>>, Denied> {
    let decode = |(at, block): (usize, &Vec<u8>)| {
        Signed::decode(block).map_err(|source| Denied::Block { index: at + 1, source })
    };
    chain.blocks.iter().enumerate().map(decode).collect()
}

/// The root: a pinned issuer key of the organisation that `iss` names, in use when the token was issued.
fn verify_token(
    token: Signed<Token>,
    directory: &dyn Directory,
    purpose: Purpose,
) -> Result<(Verified<Token>, IssuerKey), Denied> {
    let roster = directory.roster();
    let claims = token.unverified();
    let (issuer, needs) = (claims.issuer(), claims.terms.roster_version);
    let wrong = |why| Denied::WrongIssuer { issuer, why };
    let listed = roster
        .organisation(issuer)
        .and_then(|org| org.issuers.iter().find(|entry| entry.key.as_bytes() == token.kid()));
    let Some(entry) = listed else {
        // Only a newer roster can know it: say that rather than send the holder away for good.
        let behind = needs > roster.version;
        return Err(if behind {
            Denied::RosterBehind { needs, have: roster.version }
        } else {
            wrong("the roster does not list it")
        });
    };
    let entry = entry.clone();
    if entry.status == IssuerStatus::Compromised && purpose == Purpose::Admission {
        return Err(wrong("it is compromised"));
    }
    let token = token.verify(&entry.key)?;
    if needs > roster.version {
        return Err(Denied::RosterBehind { needs, have: roster.version });
    }
    if token.issued_at < entry.from {
        return Err(wrong("it was not in use yet when the token was issued"));
    }
    if entry.retired_at.is_some_and(|retired| token.issued_at > retired) {
        return Err(wrong("it was retired before the token was issued"));
    }
    if entry.use_ == IssuerUse::OwnNode {
        own_node(&token, directory).map_err(wrong)?;
    }
    Ok((token, entry))
}

/// An organisation may issue tokens for its own nodes, without a budget and without stating anything of the holder.
fn own_node(token: &Token, directory: &dyn Directory) -> Result<(), &'static str> {
    let own = directory.certificate(token.audience()).is_some_and(|certificate| certificate.org == token.issuer());
    match () {
        () if !own => Err("an own-node key issues for its organisation's nodes only"),
        () if !token.terms.budget.is_zero() => Err("an own-node key issues budget 0 only"),
        () if token.terms.vetting != Vetting::None => Err("an own-node key states no vetting"),
        () if token.subject.as_str() != token.holder().thumbprint().to_string() => {
            Err("an own-node token's subject is its holder's thumbprint")
        }
        () => Ok(()),
    }
}

/// The number of the issuer's list that was looked at.
fn standing(capability: &Capability, trust: &Trust<'_>) -> Result<u64, Denied> {
    let token = &capability.token;
    let issuer = token.issuer();
    let list = trust.directory.standing(issuer).ok_or(Denied::StandingStale { issuer })?;
    // One from the future would never grow old.
    if trust.now.since(list.issued_at) > RevocationList::STALE_S || list.issued_at > trust.now.plus(SKEW_S) {
        return Err(Denied::StandingStale { issuer });
    }
    let check = |kind, subject: String| {
        if list.contains(kind, &subject) { Err(Denied::Revoked { kind, subject }) } else { Ok(()) }
    };
    if list.entries.is_empty() {
        return Ok(list.number);
    }
    check(RevokedKind::Token, token.id.to_string())?;
    for block in &capability.blocks {
        check(RevokedKind::Block, block.id().to_string())?;
    }
    check(RevokedKind::Node, token.audience().to_string())?;
    check(RevokedKind::Organisation, issuer.to_string())?;
    if let Some(certificate) = trust.directory.certificate(token.audience()) {
        check(RevokedKind::Organisation, certificate.org.to_string())?;
    }
    Ok(list.number)
}

impl Capability {
    pub fn token(&self) -> &Verified<Token> {
        &self.token
    }

    pub fn blocks(&self) -> &[Verified<Block>] {
        &self.blocks
    }

    /// Content id of the last block, of the token where there is none: what a request names.
    pub fn leaf(&self) -> Digest {
        self.blocks.last().map_or_else(|| self.token.id(), Verified::id)
    }

    /// The leaf's key: who may sign requests.
    pub fn holder(&self) -> &PublicKey {
        self.holder.key()
    }

    /// [`Self::holder`], with its text.
    pub fn known_holder(&self) -> &Known {
        &self.holder
    }

    pub fn root_holder(&self) -> &PublicKey {
        self.token.holder()
    }

    /// The caps that a charge counts against at once, root first.
    pub fn path(&self) -> Vec<PathCap> {
        let root = PathCap { id: self.token.id(), cap: self.token.terms.budget };
        let blocks = self.blocks.iter().map(|block| PathCap { id: block.id(), cap: block.cap });
        std::iter::once(root).chain(blocks).collect()
    }

    /// All holders' keys, root first.
    pub fn keys(&self) -> Vec<&PublicKey> {
        std::iter::once(self.token.holder()).chain(self.blocks.iter().map(|block| &block.next)).collect()
    }

    /// When the leaf's right ends.
    pub fn expires_at(&self) -> Timestamp {
        self.blocks.last().map_or(self.token.expires_at, |block| block.expires_at)
    }

    /// How many lanes the leaf has: numbers 0 … lanes−1.
    pub fn lanes(&self) -> u16 {
        self.blocks.last().map_or(self.token.terms.lanes_max, |block| block.lanes())
    }

    /// Whether anyone but the root holder uses it.
    pub fn is_delegated(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// The scope that allows `op` of `model` all along the path.
    ///
    /// # Errors
    /// [`Denied::ModelNotInScope`], [`Denied::OpNotInScope`].
    pub fn allows(&self, model: &ModelId, op: Op) -> Result<&Scope, Denied> {
        let rights = self.rights();
        let scope = self.token.scope_of(model).filter(|_| rights.has_model(model));
        let scope = scope.ok_or_else(|| Denied::ModelNotInScope { model: model.clone() })?;
        if scope.ops.contains(&op) && rights.keeps_op(op) {
            Ok(scope)
        } else {
            Err(Denied::OpNotInScope { model: model.clone(), op })
        }
    }

    pub fn issuer(&self) -> OrgId {
        self.token.issuer()
    }

    /// Whether the house or the audience's own organisation issued it.
    pub fn issuer_use(&self) -> IssuerUse {
        self.issuer_use
    }

    pub fn issuer_status(&self) -> IssuerStatus {
        self.issuer_status
    }

    /// Number of the issuer's revocation list that admission looked at; 0 from [`verify_for_settlement`].
    pub fn standing(&self) -> u64 {
        self.standing
    }

    pub fn chain_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn rights(&self) -> Rights<'_> {
        let mut rights = Rights::of(&self.token);
        for block in &self.blocks {
            rights = rights.narrow(block).expect("verified blocks narrow");
        }
        rights
    }
}

/// Adds a block, offline, and gives back the longer chain. Checks what it can without a roster: form, links, narrowing.
///
/// # Errors
/// [`DelegateError`].
pub fn delegate(chain: &[u8], holder: &SecretKey, narrow: Narrow) -> Result<Vec<u8>, DelegateError> {
    let mut chain = Chain::from_bytes(chain).map_err(|source| DelegateError::Chain(Denied::Chain(source)))?;
    let token = Signed::<Token>::decode(&chain.token).map_err(|source| DelegateError::Chain(source.into()))?;
    let blocks = decode_blocks(&chain).map_err(DelegateError::Chain)?;
    let (mut before, mut key) = (token.id(), *token.unverified().holder());
    let mut rights = Rights::of(token.unverified());
    for (at, block) in blocks.iter().enumerate() {
        let widens =
            |widens: crate::rights::Widens| DelegateError::Chain(Denied::BlockWidens { index: at + 1, what: widens.0 });
        rights = rights.narrow(block.unverified()).map_err(widens)?;
        (before, key) = (block.id(), block.unverified().next);
    }
    if holder.public() != key {
        return Err(DelegateError::NotHolder);
    }
    let block = block_of(narrow, before, blocks.len() + 1)?;
    rights.narrow(&block).map_err(|widens| DelegateError::Widens { what: widens.0 })?;
    let signed = cose::try_sign(&block, holder).map_err(DelegateError::Block)?;
    chain.blocks.push(signed.bytes().to_vec());
    Ok(chain.to_bytes())
}

fn block_of(mut narrow: Narrow, previous: Digest, index: usize) -> Result<Block, DelegateError> {
    narrow.models.sort_unstable();
    narrow.models.dedup();
    narrow.ops.sort_unstable();
    narrow.ops.dedup();
    if index > Chain::BLOCKS_MAX {
        return Err(DelegateError::Widens { what: "depth" });
    }
    Ok(Block {
        previous,
        index: u8::try_from(index).expect("at most four blocks"),
        cap: narrow.cap,
        expires_at: narrow.expires_at,
        lanes: Some(narrow.lanes).filter(|lanes| *lanes != 1),
        depth: Some(narrow.depth).filter(|depth| *depth != 0),
        models: narrow.models.try_into().map_err(|_| DelegateError::Widens { what: "models" })?,
        ops: narrow.ops.try_into().map_err(|_| DelegateError::Widens { what: "ops" })?,
        next: narrow.next,
    })
}

#[cfg(test)]
mod tests;

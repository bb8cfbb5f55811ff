//! A house with many projects, and everything that its callers bring: reservations, receipts, claims.

use std::sync::atomic::{AtomicU64, Ordering};

use comity_clearing::Clearing;
use comity_ledger::Database;
use comity_node::shell;
pub(crate) use comity_tests::house::LANES;
use comity_tests::house::{NODE, START, World as Federation, list, model, secret, tariff};
use comity_wire::api::clearing::{ReservationRequest, SignedBytes};
use comity_wire::cbor::{Bytes, List};
use comity_wire::object::{AckLane, Acknowledgement, Basis, Chain, Claim, ClaimLane, Ended, Flags, Receipt, Token};
use comity_wire::{Amount, Digest, Meter, Meters, Op, ProjectId, PublicKey, Signed, TokenId, Verified, cose, merkle};

/// What a lane's newest receipt is claimed for.
const LANE_TOTAL: u32 = 1_000;

fn ucr(amount: u32) -> Amount {
    Amount::from_ucr(amount)
}

/// A house, and a quote for each of its projects.
pub(crate) struct World {
    pub(crate) house: Clearing,
    quotes: Vec<SignedBytes>,
    /// Made once: what is measured is the house.
    member: PublicKey,
    holder: PublicKey,
    next: AtomicU64,
}

impl World {
    /// A house with `projects` projects, each with an award that a bench does not use up.
    pub(crate) async fn open(database: Database, projects: usize) -> Result<Self, String> {
        let federation = Federation::new();
        let opened = federation.open(database).await;
        let house = opened.map_err(|error| format!("error: the house does not open: {error}"))?;
        let mut quotes = Vec::with_capacity(projects);
        for number in 0..projects {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&(number as u64 + 1).to_be_bytes());
            federation.begin(&house, ProjectId(id), Amount::credits(1_000_000)).await;
            let quote = federation.quote(&house, ProjectId(id)).await;
            quotes.push(quote.map_err(|failure| format!("error: no quote: {failure}"))?);
        }
        let (member, holder) = (secret("member").public(), secret("holder").public());
        Ok(Self { house, quotes, member, holder, next: AtomicU64::new(1) })
    }

    /// A new reservation of one of the projects in turn.
    pub(crate) async fn reserve(&self, budget: u32) -> Result<SignedBytes, comity_clearing::Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // As a wallet chooses it.
        let random = Digest::of(&number.to_be_bytes()).0[..16].try_into().expect("16 of 32 bytes");
        let request = ReservationRequest {
            id: TokenId::v7(shell::now(), random),
            quote: self.quotes[number as usize % self.quotes.len()].clone(),
            budget: ucr(budget),
            holder: self.holder,
            valid_s: 3600,
            lanes_max: None,
            depth: 0,
            grants: Vec::new(),
            mandate: None,
        };
        Ok(self.house.reserve(&self.member, &request).await?.token)
    }

    /// A claim over [`LANES`] lanes of a token of its own, with one acknowledgement for all of them.
    pub(crate) async fn drafted(&self) -> Result<Vec<u8>, comity_clearing::Failure> {
        let bytes = self.reserve(LANE_TOTAL * u32::from(LANES)).await?;
        let token = Signed::<Token>::decode(&bytes)?.verify(&secret("issuer").public())?;
        let receipts: Vec<_> = (0..LANES).map(|lane| receipt(&token, lane)).collect();
        let acked = receipts.iter().map(|receipt| AckLane {
            leaf: token.id(),
            lane: receipt.lane,
            n: receipt.n,
            total: receipt.total,
            receipt: receipt.id(),
        });
        let acknowledgement = Acknowledgement { token: token.id, lanes: list(acked.collect()), at: START };
        let acknowledgement = cose::sign(&acknowledgement, &secret("holder"));
        let chain = Chain { token: bytes.to_vec(), blocks: vec![] };
        let lane = |receipt: &Verified<Receipt>| ClaimLane {
            receipt: Bytes::new(receipt.bytes()).expect("a receipt's bytes"),
            settled_n: None,
            inclusion: List::default(),
        };
        let claim = Claim {
            token: token.id,
            node: NODE,
            number: 1,
            chains: list(vec![Bytes::new(chain.to_bytes()).expect("a chain's bytes")]),
            lanes: list(receipts.iter().map(lane).collect()),
            acknowledgements: list(vec![Bytes::new(acknowledgement.bytes()).expect("an acknowledgement's bytes")]),
            at: START,
        };
        Ok(cose::sign(&claim, &secret("receipt")).bytes().to_vec())
    }

    /// Settles a claim; everything in it is paid.
    pub(crate) async fn claim(&self, claim: &[u8]) -> Result<(), String> {
        let reply = self.house.claim(&secret("transport").public(), claim).await;
        let reply = reply.map_err(|failure| format!("error: a claim was refused: {failure}"))?;
        if reply.settled == ucr(LANE_TOTAL * u32::from(LANES)) {
            Ok(())
        } else {
            Err(format!("error: {} of a claim was paid", reply.settled))
        }
    }
}

/// The newest receipt of a lane in which a thousand queries were answered.
fn receipt(token: &Verified<Token>, lane: u16) -> Verified<Receipt> {
    let n = 1_000;
    let receipt = Receipt {
        token: token.id,
        leaf: token.id(),
        lane,
        seq: n,
        item: 0,
        n,
        charge: ucr(1),
        total: ucr(LANE_TOTAL),
        remainder: 0,
        meters: Meters::default().with(Meter::Requests, 1),
        meters_total: Meters::default().with(Meter::Requests, n),
        flags: Flags::default(),
        flags_total: Flags::default(),
        bytes_out: None,
        rank: None,
        basis: Basis::Counted,
        ended: Ended::Stop,
        request: Digest::of(b"request"),
        response: Digest::of(b"response"),
        release: Digest::of(b"release"),
        manifest: Digest::of(b"manifest"),
        tariff: cose::sign(&tariff(), &secret("writer")).id(),
        history: merkle::root(&[Digest::of(b"earlier")]),
        standing: 1,
        node: NODE,
        at: START,
        restore: 0,
        authority: Digest::of(&lane.to_be_bytes()),
        model: model(),
        op: Op::Chat,
    };
    cose::sign(&receipt, &secret("receipt"))
}

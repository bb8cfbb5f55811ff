//! One token's life at the house: reserved, claimed twice, ended. Each act is known by its id and can be done again.

use comity_clearing::{Clearing, Failure};
use comity_wire::api::clearing::{ClaimReply, FinalReply, ReservationRequest, SignedBytes, TokenStatus, lane_proof};
use comity_wire::cbor::Bytes;
use comity_wire::merkle;
use comity_wire::object::{
    AckLane, Acknowledgement, Basis, Chain, Claim, ClaimLane, Ended, Final, Flags, Receipt, Token,
};
use comity_wire::{Amount, Code, Digest, Meter, Meters, Op, SecretKey, Signed, TokenId, Verified, cose};

use crate::Chance;
use crate::house::{NODE, START, World, list, model, secret, tariff};
use crate::torture::Tally;

/// Receipts when the first claim is made, and when the second is.
const CLAIMED_AT: [usize; 2] = [2, 5];

/// What the house answered an act with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Token(Vec<u8>),
    Claim(ClaimReply),
    Final(FinalReply),
}

pub(super) struct Sale {
    request: ReservationRequest,
    charges: Vec<u32>,
    answers: Vec<Answer>,
}

/// Why an act was not answered.
pub(super) enum Unanswered {
    /// The house has a fault: it is done again later.
    Fault(String),
    /// Nobody honest must hear this.
    Refused(String),
}

impl Sale {
    pub(super) fn new(quote: SignedBytes, chance: &mut Chance) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&chance.draw().to_be_bytes());
        id[8..].copy_from_slice(&chance.draw().to_be_bytes());
        let charges = (0..CLAIMED_AT[1]).map(|_| u32::try_from(1 + chance.within(0..40)).expect("small")).collect();
        let request = ReservationRequest {
            id: TokenId(id),
            quote,
            budget: Amount::from_ucr(400),
            holder: secret("holder").public(),
            valid_s: 3_600,
            lanes_max: None,
            depth: 0,
            grants: Vec::new(),
            mandate: None,
        };
        Self { request, charges, answers: Vec::new() }
    }

    pub(super) fn id(&self) -> TokenId {
        self.request.id
    }

    pub(super) fn is_done(&self) -> bool {
        self.answers.len() == 4
    }

    /// What the owner is owed once it is done.
    pub(super) fn total(&self) -> i64 {
        self.charges.iter().map(|charge| i64::from(*charge)).sum()
    }

    /// Goes as far as it comes.
    pub(super) async fn go_on(
        &mut self,
        house: &Clearing,
        world: &World,
        tally: &Tally,
        told: impl Fn(),
    ) -> Result<(), Unanswered> {
        while !self.is_done() {
            let answer = self.act(self.answers.len(), house, world).await.map_err(unanswered)?;
            self.check(&answer, tally);
            self.answers.push(answer);
            tally.acked();
            told();
        }
        Ok(())
    }

    /// Whether what was answered stands in the books, before it is asked again: who asks again would be sold it anew.
    pub(super) fn stands(&self, books: &[TokenStatus], tally: &Tally) {
        let Some(newest) = self.answers.last() else { return };
        let Some(known) = books.iter().find(|known| known.token == self.id()) else {
            return tally.lost(&format!("{} was answered {newest:?}, and is not in the books", self.id()));
        };
        let stands = match newest {
            Answer::Token(_) => known.budget == self.request.budget,
            Answer::Claim(reply) => known.settled >= reply.settled_total,
            Answer::Final(reply) => known.closed && known.refunded == reply.refunded,
        };
        if !stands {
            tally.lost(&format!("{} was answered {newest:?}; in the books: {known:?}", self.id()));
        }
    }

    /// Whether the house gives the same answers again.
    pub(super) async fn look_again(&self, house: &Clearing, world: &World, tally: &Tally) {
        for (at, known) in self.answers.iter().enumerate() {
            match self.act(at, house, world).await {
                Ok(again) if again == *known => {}
                Ok(again) => tally.lost(&format!("{} was answered {known:?}, and again {again:?}", self.id())),
                Err(failure) => tally.lost(&format!("{} was answered {known:?}, and now: {failure}", self.id())),
            }
        }
    }

    async fn act(&self, at: usize, house: &Clearing, world: &World) -> Result<Answer, Failure> {
        match at {
            0 => {
                let reply = house.reserve(&world.member.public(), &self.request).await?;
                Ok(Answer::Token(reply.token.to_vec()))
            }
            1 | 2 => {
                let claim = self.claim(at);
                Ok(Answer::Claim(house.claim(&secret("transport").public(), &claim).await?))
            }
            _ => Ok(Answer::Final(house.final_(&self.final_()).await?)),
        }
    }

    fn check(&self, answer: &Answer, tally: &Tally) {
        let paid = |upto: usize| self.charges[..upto].iter().map(|charge| i64::from(*charge)).sum::<i64>();
        match (self.answers.len(), answer) {
            (at @ (1 | 2), Answer::Claim(reply)) => {
                let more = reply.settled_total.ucr() - paid(CLAIMED_AT[at - 1]);
                if more != 0 {
                    tally.overspent(more.abs(), &format!("{} was settled with {}", self.id(), reply.settled_total));
                }
            }
            (3, Answer::Final(reply)) => {
                let home = self.request.budget.ucr() - self.total();
                if reply.refunded.ucr() != home || !reply.in_escrow.is_zero() {
                    tally.broken(&format!("{} came to {reply:?}, {home} should go home", self.id()));
                }
            }
            _ => {}
        }
    }

    fn token(&self) -> Verified<Token> {
        let Some(Answer::Token(bytes)) = self.answers.first() else { panic!("it was reserved first") };
        let signed = Signed::<Token>::decode(bytes).expect("a token");
        signed.verify(&secret("issuer").public()).expect("the house's own")
    }

    fn receipts(&self, upto: usize) -> Vec<Verified<Receipt>> {
        let (token, key) = (self.token(), secret("receipt"));
        let mut receipts: Vec<Verified<Receipt>> = Vec::new();
        for (charge, n) in self.charges[..upto].iter().zip(1_u64..) {
            let ids: Vec<_> = receipts.iter().map(Verified::id).collect();
            let total =
                receipts.last().map_or(Amount::ZERO, |last| last.total).saturating_add(Amount::from_ucr(*charge));
            receipts.push(cose::sign(&receipt(&token, n, Amount::from_ucr(*charge), total, merkle::root(&ids)), &key));
        }
        receipts
    }

    fn claim(&self, at: usize) -> Vec<u8> {
        let token = self.token();
        let receipts = self.receipts(CLAIMED_AT[at - 1]);
        let settled_n = (at == 2).then_some(CLAIMED_AT[0] as u64);
        let ids: Vec<_> = receipts.iter().map(Verified::id).collect();
        let newest = receipts.last().expect("some");
        let inclusion = settled_n.map_or_else(Vec::new, |settled| lane_proof(&ids, newest.n, settled));
        let lane =
            ClaimLane { receipt: Bytes::new(newest.bytes()).expect("small"), settled_n, inclusion: list(inclusion) };
        let ack = Acknowledgement { token: token.id, lanes: list(vec![head(&token, newest)]), at: START };
        let chain = Chain { token: token.bytes().to_vec(), blocks: Vec::new() }.to_bytes();
        let claim = Claim {
            token: token.id,
            node: NODE,
            number: at as u64,
            chains: list(vec![Bytes::new(chain).expect("small")]),
            lanes: list(vec![lane]),
            acknowledgements: list(vec![Bytes::new(signed(&ack, "holder")).expect("small")]),
            at: START,
        };
        signed(&claim, "receipt")
    }

    fn final_(&self) -> Vec<u8> {
        let token = self.token();
        let receipts = self.receipts(CLAIMED_AT[1]);
        let lanes = list(vec![head(&token, receipts.last().expect("some"))]);
        signed(&Final { token: token.id, node: NODE, lanes, at: START }, "receipt")
    }
}

fn signed<T: comity_wire::Object>(object: &T, key: &str) -> Vec<u8> {
    let key: SecretKey = secret(key);
    cose::sign(object, &key).bytes().to_vec()
}

fn head(token: &Verified<Token>, receipt: &Verified<Receipt>) -> AckLane {
    AckLane { leaf: token.id(), lane: 0, n: receipt.n, total: receipt.total, receipt: receipt.id() }
}

fn receipt(token: &Verified<Token>, n: u64, charge: Amount, total: Amount, history: Digest) -> Receipt {
    Receipt {
        token: token.id,
        leaf: token.id(),
        lane: 0,
        seq: n,
        item: 0,
        n,
        charge,
        total,
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
        history,
        standing: 1,
        node: NODE,
        at: START,
        restore: 0,
        authority: Digest::of(&n.to_be_bytes()),
        model: model(),
        op: Op::Chat,
    }
}

pub(super) fn unanswered(failure: Failure) -> Unanswered {
    let told = failure.to_string();
    match failure.code() {
        // The house says that it cannot, or that it may have: whoever asks, asks again.
        Code::StoreUnavailable | Code::Busy => Unanswered::Fault(told),
        // Of a quote, by a clock that was set ahead.
        Code::Expired => Unanswered::Fault(told),
        code => Unanswered::Refused(format!("{code}: {told}")),
    }
}

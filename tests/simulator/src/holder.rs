//! A holder: the SDK's wallet core, and what its client does around it, without waiting for anything.
//!
//! Durable: the journal, and what its user asked (a body can be asked again). A crash loses the wallet in memory and every
//! call under way.

use std::collections::{BTreeMap, BTreeSet};

use comity_sdk::journal::Entry;
use comity_sdk::receipts;
use comity_sdk::wallet::{Ask, Begun, Place, Purse, UnderWay, Wallet, WalletError, stored};
use comity_token::request::Authority;
use comity_token::{request, sign_api, sign_request, verify_final};
use comity_wire::cbor::List;
use comity_wire::object::{AckLane, Acknowledgement, Demand};
use comity_wire::{Amount, Code, Digest, Op, SecretKey, Timestamp, TokenId, Verified, cose};

use crate::around::Around;
use crate::federation::{BASE, METHOD, MODEL, NODE, PATH, Seen};
use crate::net::{Call, Message, Reply};
use crate::truth::Checked;

pub(crate) struct Holder {
    pub(crate) index: usize,
    pub(crate) honest: bool,
    pub(crate) key: SecretKey,
    journal: Vec<Entry>,
    wallet: Wallet,
    calls: BTreeMap<u64, Under>,
    numbers: u64,
    /// What was asked last in each lane.
    bodies: BTreeMap<(TokenId, u16), Vec<u8>>,
    asked: u64,
    /// The next number that a lie takes, by lane.
    spent: BTreeMap<(TokenId, u16), u64>,
    /// Leaves whose chain the node has seen.
    shown: BTreeSet<Digest>,
    backup: Option<usize>,
    /// It was set back to a backup: it may not know all that it signed.
    pub(crate) set_back: bool,
}

/// A call that waits for its answer.
#[allow(clippy::large_enum_variant, reason = "a holder has a few of them at once")]
enum Under {
    Request { token: TokenId, lane: u16, authority: Authority, body: Vec<u8>, ack: Option<Verified<Acknowledgement>> },
    LookUp { token: TokenId, lane: u16, seq: u64 },
    Acknowledge { ack: Verified<Acknowledgement> },
    Final { token: TokenId },
    Reserve { id: TokenId, budget: Amount },
}

impl Holder {
    pub(crate) fn new(index: usize, honest: bool, key: SecretKey) -> Self {
        Self {
            index,
            honest,
            key,
            journal: Vec::new(),
            wallet: Wallet::default(),
            calls: BTreeMap::new(),
            numbers: 0,
            bodies: BTreeMap::new(),
            asked: 0,
            spent: BTreeMap::new(),
            shown: BTreeSet::new(),
            backup: None,
            set_back: false,
        }
    }

    pub(crate) fn purses(&self) -> impl Iterator<Item = &Purse> {
        self.wallet.purses()
    }

    /// On disk first, as the client does it.
    fn write(&mut self, entry: Entry) {
        self.wallet.apply(&entry).expect("what the client writes follows from what it wrote before");
        self.journal.push(entry);
    }

    /// The process dies and starts again.
    pub(crate) fn crash(&mut self) {
        self.calls.clear();
        self.shown.clear();
        self.wallet = Wallet::replay(self.journal.iter().cloned()).expect("a journal can be read again");
    }

    pub(crate) fn back_up(&mut self) {
        self.backup = Some(self.journal.len());
    }

    pub(crate) fn restore(&mut self) {
        let Some(len) = self.backup.take() else { return };
        self.set_back |= len < self.journal.len();
        self.journal.truncate(len);
        self.crash();
    }

    /// The caller's patience ends.
    pub(crate) fn let_go(&mut self) {
        self.calls.clear();
    }

    fn number(&mut self, under: Under) -> Call {
        self.numbers += 1;
        self.calls.insert(self.numbers, under);
        Call { holder: self.index, number: self.numbers }
    }

    /// A chain came in by another way than the house: a right that somebody delegated.
    pub(crate) fn adopt(&mut self, chain: &[u8], cap: Amount) {
        let seed = stored(&*self.key.seed());
        self.write(Entry::Token { chain: stored(chain), seed, cap });
    }

    pub(crate) fn reserve(&mut self, around: &mut Around<'_>) {
        let id = TokenId(around.chance.bytes());
        let budget = Amount::from_ucr(60 + u32::try_from(around.chance.below(700)).expect("small"));
        let call = self.number(Under::Reserve { id, budget });
        around.send(Message::Reserve { call, id, key: self.key.public(), budget });
    }

    fn under_way(&self) -> UnderWay {
        let lanes = self.calls.values().filter_map(|under| match under {
            Under::Request { token, lane, .. } => Some((*token, *lane)),
            _ => None,
        });
        lanes.collect()
    }

    /// Asks: a body whose outcome is unknown once more, or a new one.
    pub(crate) fn ask(&mut self, around: &mut Around<'_>) -> Checked {
        let open = self.wallet.purses().filter(|purse| purse.is_open(around.now) || around.chance.one_in(8));
        let tokens: Vec<TokenId> = open.map(Purse::id).collect();
        if tokens.is_empty() {
            return Ok(());
        }
        let token = tokens[around.chance.index(tokens.len())];
        let under_way = self.under_way();
        let doubtful: Vec<u16> =
            self.wallet.purse(token).expect("it is there").doubtful(&under_way).map(|(lane, _)| lane).collect();
        let known = doubtful.first().and_then(|lane| self.bodies.get(&(token, *lane))).cloned();
        let again = around.chance.one_in(2);
        let body = known.filter(|_| again).unwrap_or_else(|| {
            self.asked += 1;
            let limit = around.chance.below(OUTPUT_MAX + 1);
            match around.chance.below(4) {
                0 => format!("{} without a limit", self.asked).into_bytes(),
                _ => format!("{} limit={limit}", self.asked).into_bytes(),
            }
        });
        let demand = demand(&body);
        let worst = BASE.tariff.worst_case(&demand).expect("chat has a price");
        let max_charge = match around.chance.below(6) {
            0 => Amount::from_ucr(u32::try_from(around.chance.below(90)).expect("small")),
            1 => worst.saturating_add(Amount::from_ucr(5)),
            _ => worst,
        };
        let ask = asked(&body, max_charge);
        let most = Ask { max_charge: Amount::MAX, ..ask };
        let place = self.wallet.place(&most, &under_way, around.now).expect("its token is known");
        if let Place::Unknown(begun) = place {
            around.truth.meet("asked again");
            return self.send(begun, body, around);
        }
        match self.wallet.begin(token, &ask, around.now) {
            Ok(begun) => {
                let entry = begun.entry.clone().expect("a new request is journalled");
                self.write(entry);
                self.bodies.insert((begun.token, begun.lane), body.clone());
                // It dies after it wrote and before it sent.
                if around.strikes(40) {
                    self.crash();
                    return Ok(());
                }
                self.send(begun, body, around)
            }
            Err(error) => {
                around.truth.meet(match error {
                    WalletError::Ended => "nothing is signed: the token has ended",
                    WalletError::Stopped { .. } => "nothing is signed: the node broke a rule",
                    WalletError::Budget { .. } => "nothing is signed: the budget",
                    WalletError::Window { .. } => "nothing is signed: the window",
                    WalletError::LanesBusy(_) => "nothing is signed: lanes are busy",
                    _ => "nothing is signed",
                });
                around.net.note(|| format!("holder {} signs nothing: {error}", self.index));
                if matches!(error, WalletError::LanesBusy(_)) {
                    self.resolve(around);
                }
                Ok(())
            }
        }
    }

    fn send(&mut self, begun: Begun, body: Vec<u8>, around: &mut Around<'_>) -> Checked {
        let Begun { authority, token, lane, .. } = begun;
        let purse = self.wallet.purse(token).expect("it was begun under it");
        let ack = purse.acknowledge(around.now).filter(|_| !around.chance.one_in(3));
        if let Some(ack) = &ack {
            around.truth.acknowledge(ack);
        }
        around.truth.sign((authority.leaf, lane), authority.seq, authority.max_charge.ucr());
        let with_chain = !self.shown.contains(&authority.leaf);
        self.transmit(token, lane, authority, body, ack, with_chain, around);
        Ok(())
    }

    fn transmit(
        &mut self,
        token: TokenId,
        lane: u16,
        authority: Authority,
        body: Vec<u8>,
        ack: Option<Verified<Acknowledgement>>,
        with_chain: bool,
        around: &mut Around<'_>,
    ) {
        let purse = self.wallet.purse(token).expect("it was begun under it");
        let headers = sign_request(&authority, around.now, purse.key());
        let chain = with_chain.then(|| purse.chain().to_vec());
        let acknowledgement = ack.as_ref().map(|ack| ack.bytes().to_vec());
        around.net.note(|| format!("holder {} asks {authority:?} ack {}", self.index, ack.is_some()));
        let call = self.number(Under::Request { token, lane, authority, body: body.clone(), ack });
        around.send(Message::Request { call, headers, chain, body, acknowledgement });
    }

    /// Asks the node about lanes in doubt.
    pub(crate) fn resolve(&mut self, around: &mut Around<'_>) {
        let under_way = self.under_way();
        let mut asks = Vec::new();
        for purse in self.wallet.purses() {
            asks.extend(purse.doubtful(&under_way).map(|(lane, open)| (purse.id(), purse.leaf(), lane, open.seq)));
        }
        for (token, leaf, lane, seq) in asks {
            let key = self.wallet.purse(token).expect("it is there").key().public();
            let call = self.number(Under::LookUp { token, lane, seq });
            around.send(Message::LookUp { call, key, token, leaf, lane, seq });
        }
    }

    pub(crate) fn acknowledge(&mut self, around: &mut Around<'_>) {
        let acks: Vec<_> =
            self.wallet.purses().filter_map(|purse| Some((purse.id(), purse.acknowledge(around.now)?))).collect();
        for (token, ack) in acks {
            around.truth.acknowledge(&ack);
            let bytes = ack.bytes().to_vec();
            let call = self.number(Under::Acknowledge { ack });
            around.send(Message::Acknowledge { call, token, bytes });
        }
    }

    /// The root holder asks for the final of a token.
    pub(crate) fn end(&mut self, around: &mut Around<'_>) {
        let open: Vec<TokenId> =
            self.wallet.purses().filter(|purse| purse.is_root() && !purse.is_closed()).map(Purse::id).collect();
        if open.is_empty() {
            return;
        }
        let token = open[around.chance.index(open.len())];
        let purse = self.wallet.purse(token).expect("it is there");
        let chain = purse.chain().to_vec();
        let nonce = around.chance.bytes();
        let headers = sign_api("POST", "/comity/v1/finals", "", b"", around.now, nonce, purse.key());
        let call = self.number(Under::Final { token });
        around.send(Message::AskFinal { call, headers, token, chain });
    }

    /// Shows the node the newest receipt of each lane: one that was set back learns of it (rule 9).
    pub(crate) fn show(&mut self, around: &mut Around<'_>) {
        let mut newest: BTreeMap<(TokenId, u16), &Entry> = BTreeMap::new();
        for entry in &self.journal {
            if let Entry::Receipt { token, lane, .. } = entry {
                newest.insert((*token, *lane), entry);
            }
        }
        for entry in newest.into_values() {
            if let Entry::Receipt { receipt, .. } = entry {
                around.send(Message::Show { receipt: receipt.to_vec() });
            }
        }
    }

    pub(crate) fn hear(&mut self, call: Call, reply: Reply, around: &mut Around<'_>) -> Checked {
        let Some(under) = self.calls.remove(&call.number) else { return Ok(()) };
        match (under, reply) {
            (Under::Request { token, lane, authority, body, ack }, reply) => {
                self.hear_answer((token, lane, authority, body, ack), reply, around)
            }
            (Under::LookUp { token, lane, .. }, Reply::Receipt(bytes)) => {
                self.take_in(token, lane, &bytes, None, around).map(drop)
            }
            (Under::LookUp { token, lane, seq }, Reply::Refused { code: Code::NotFound | Code::TokenUnknown, .. }) => {
                self.write(Entry::Free { token, lane, seq });
                Ok(())
            }
            (Under::Acknowledge { ack }, Reply::Acknowledged) => {
                self.note_acknowledged(&ack);
                Ok(())
            }
            (Under::Final { token }, Reply::Final(bytes)) => {
                let stands = verify_final(&bytes, &BASE.certificate).is_ok_and(|signed| signed.token == token);
                if stands {
                    self.write(Entry::Ended { token });
                    around.send(Message::Final { bytes });
                    self.write(Entry::Closed { token });
                }
                Ok(())
            }
            (Under::Reserve { id, budget }, Reply::Token(bytes)) => {
                let chain = comity_wire::object::Chain { token: bytes, blocks: Vec::new() }.to_bytes();
                let fits = comity_token::verify_for_settlement(&chain, &Seen { now: around.now }, NODE);
                if fits.is_ok_and(|chain| chain.token().id == id && chain.token().terms.budget == budget) {
                    self.adopt(&chain, budget);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn hear_answer(
        &mut self,
        (token, lane, authority, body, ack): (TokenId, u16, Authority, Vec<u8>, Option<Verified<Acknowledgement>>),
        reply: Reply,
        around: &mut Around<'_>,
    ) -> Checked {
        match reply {
            Reply::Answer { answer, receipt: Some(receipt) } => {
                self.shown.insert(authority.leaf);
                let taken = self.take_in(token, lane, &receipt, Some((&authority.nonce, &answer)), around)?;
                if let Some(ack) = ack.filter(|_| taken) {
                    self.note_acknowledged(&ack);
                }
                Ok(())
            }
            Reply::Answer { receipt: None, .. } => {
                around.truth.meet("an answer without its receipt");
                self.stop(token, lane, None, "no receipt came");
                self.resolve(around);
                Ok(())
            }
            Reply::Refused { code: Code::TokenUnknown, .. } => {
                self.transmit(token, lane, authority, body, ack, true, around);
                Ok(())
            }
            Reply::Refused { receipt: Some(receipt), .. } => {
                self.take_in(token, lane, &receipt, None, around).map(drop)
            }
            Reply::Refused { code, receipt: None } => {
                around.truth.meet("a refusal");
                if matches!(code, Code::InFlight | Code::Internal | Code::StoreUnavailable) {
                    return Ok(());
                }
                self.write(Entry::Free { token, lane, seq: authority.seq });
                match code {
                    Code::Closed | Code::Superseded | Code::Revoked => self.write(Entry::Ended { token }),
                    Code::AckRequired => self.acknowledge(around),
                    _ => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_acknowledged(&mut self, ack: &Acknowledgement) {
        let entries = self.wallet.purse(ack.token).map_or_else(|_| Vec::new(), |purse| purse.acknowledged(ack));
        entries.into_iter().for_each(|entry| self.write(entry));
    }

    /// Verifies, checks, journals. Gives whether it was taken.
    fn take_in(
        &mut self,
        token: TokenId,
        lane: u16,
        bytes: &[u8],
        exchanged: Option<(&[u8; 16], &[u8])>,
        around: &mut Around<'_>,
    ) -> Checked<bool> {
        let receipt = match receipts::verify(bytes, &Seen { now: around.now }) {
            Ok(receipt) => receipt,
            Err(fault) => {
                self.stop(token, lane, None, &fault.to_string());
                return Ok(false);
            }
        };
        let Ok(purse) = self.wallet.purse(token) else { return Ok(false) };
        if purse.lane(lane).is_some_and(|known| known.has(&receipt.id())) {
            return Ok(true);
        }
        let answered = |(nonce, body)| comity_sdk::lane::check_response(&receipt, nonce, body);
        let checked = purse.check(lane, &receipt, &BASE.tariff).and_then(|()| exchanged.map_or(Ok(()), answered));
        if let Err(fault) = checked {
            around.net.note(|| format!("holder {} finds a fault: {fault}", self.index));
            around.truth.meet("a fault in a receipt");
            self.stop(token, lane, Some(bytes), &fault.to_string());
            self.show(around);
            return Ok(false);
        }
        if self.honest && !self.set_back {
            around.truth.take(&receipt)?;
        }
        self.write(Entry::Receipt { token, lane, receipt: stored(bytes) });
        Ok(true)
    }

    fn stop(&mut self, token: TokenId, lane: u16, receipt: Option<&[u8]>, what: &str) {
        let Ok(purse) = self.wallet.purse(token) else { return };
        let known = purse.lane(lane);
        if known.is_some_and(|lane| lane.is_faulted() || (receipt.is_none() && lane.stopped().is_some())) {
            return;
        }
        let seq = known.and_then(|lane| lane.open.as_ref()).map_or(0, |open| open.seq);
        self.write(Entry::Fault { token, lane, seq, receipt: receipt.map(stored), what: what.to_owned() });
    }

    /// Breaks the rules in one way or another.
    pub(crate) fn lie(&mut self, around: &mut Around<'_>) {
        let tokens: Vec<TokenId> = self.wallet.purses().map(Purse::id).collect();
        if tokens.is_empty() {
            return;
        }
        let purse = self.wallet.purse(tokens[around.chance.index(tokens.len())]).expect("it is there");
        let (token, leaf) = (purse.id(), purse.leaf());
        let lane = u16::try_from(around.chance.below(u64::from(purse.lanes_max()) + 1)).expect("a lane");
        let known = purse.lane(lane);
        if around.chance.one_in(2) {
            // The same seq for something else, one far ahead, or a lane that it does not have.
            let next = known.map_or(1, comity_sdk::lane::Lane::next_seq);
            let seq = match around.chance.below(8) {
                0 => next + 80,
                1 | 2 => 1 + around.chance.below(next + 2),
                _ => {
                    // As one who spends what was never its own: request after request.
                    let spent = self.spent.entry((token, lane)).or_insert(next);
                    *spent += 1;
                    *spent - 1
                }
            };
            self.asked += 1;
            let body = format!("{} limit={} lie", self.asked, around.chance.below(30)).into_bytes();
            let max_charge = Amount::from_ucr(u32::try_from(around.chance.below(120)).expect("small"));
            let authority = Authority {
                leaf,
                lane,
                seq,
                method: METHOD.to_owned(),
                path: PATH.to_owned(),
                query: String::new(),
                content_digest: Digest::of(&body),
                tariff: BASE.tariff.id(),
                max_charge,
                nonce: around.chance.bytes(),
            };
            around.truth.sign((leaf, lane), seq, max_charge.ucr());
            around.truth.meet("a holder equivocates");
            let headers = sign_request(&authority, around.now, purse.key());
            let chain = Some(purse.chain().to_vec());
            let call = Call { holder: self.index, number: 0 };
            around.send(Message::Request { call, headers, chain, body, acknowledgement: None });
            return;
        }
        let (n, total) = known.map_or((0, Amount::ZERO), |lane| (lane.n(), lane.total()));
        let n = (n + around.chance.below(4)).max(1);
        let total = match around.chance.below(3) {
            0 => Amount::ZERO,
            1 => total.saturating_add(Amount::from_ucr(500)),
            _ => total,
        };
        let entry = AckLane { leaf, lane, n, total, receipt: Digest::of(b"no receipt") };
        let ack = signed_ack(token, vec![entry], around.now, purse.key());
        around.truth.acknowledge(&ack);
        around.truth.meet("a holder acknowledges what is not");
        let call = Call { holder: self.index, number: 0 };
        around.send(Message::Acknowledge { call, token, bytes: ack.bytes().to_vec() });
    }
}

pub(crate) fn signed_ack(
    token: TokenId,
    entries: Vec<AckLane>,
    at: Timestamp,
    key: &SecretKey,
) -> Verified<Acknowledgement> {
    cose::sign(&Acknowledgement { token, lanes: List::new(entries).expect("few"), at }, key)
}

/// What a body asks for. A body without a limit may be answered as long as its maximum pays.
pub(crate) fn limit_of(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("limit=")?;
    rest.split(' ').next()?.parse().ok()
}

/// The owner's ceiling.
pub(crate) const OUTPUT_MAX: u64 = 24;

pub(crate) fn demand(body: &[u8]) -> Demand {
    let output_tokens = limit_of(body).unwrap_or(OUTPUT_MAX);
    Demand { op: Op::Chat, input_bytes: body.len() as u64, choices: 1, output_tokens }
}

fn asked(body: &[u8], max_charge: Amount) -> Ask<'_> {
    Ask {
        method: METHOD,
        path: PATH,
        query: "",
        body,
        model: &MODEL,
        op: Op::Chat,
        tariff: BASE.tariff.id(),
        max_charge,
        key: None,
    }
}

/// What a receipt must name as its response.
pub(crate) fn response_of(nonce: &[u8; 16], answer: &[u8]) -> Digest {
    request::response_digest(nonce, answer)
}

//! A node: the gateway's spend core on its store in memory, and what phases, writer and claims do around it.
//!
//! Durable: the store. A crash loses the book, the holds, the requests that run and the chains that were verified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_gateway::spend::{
    Account, Admission, Ask, Book, Caps, Change, Charge, Evidence, HoldId, Known, LaneKey, Limit, Outcome, Proof,
    Refused, Signer, Slot, price,
};
use comity_gateway::store::{Memory, Store as _, StoreError};
use comity_token::request::request_digest;
use comity_token::{
    Capability, Trust, VerifiedRequest, parse_request, verify, verify_acknowledgement_among, verify_api,
    verify_for_settlement, verify_receipt,
};
use comity_wire::object::{Basis, Ended, Final, Flags};
use comity_wire::{Amount, Code, Digest, Meter, Meters, Op, PublicKey, TokenId, Verified, cose};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};

use crate::around::Around;
use crate::federation::{BASE, KEYS, METHOD, MODEL, NODE, PATH, RELEASE, START, Seen};
use crate::holder::{demand, limit_of, response_of};
use crate::lies::Lies;
use crate::net::{Call, Headers, Message, Reply};
use crate::truth::Checked;

pub(crate) struct Node {
    pub(crate) store: Memory,
    pub(crate) book: Book,
    pub(crate) signer: Signer,
    pub(crate) chains: BTreeMap<Digest, Arc<Capability>>,
    running: Vec<Running>,
    /// Tokens whose claim was corrected once already.
    pub(crate) corrected: BTreeSet<TokenId>,
    backup: Option<Memory>,
    /// What it does beside its work where it does not keep to the rules.
    pub(crate) lies: Option<Lies>,
}

/// A request that was admitted and has no answer yet.
struct Running {
    hold: HoldId,
    call: Call,
    capability: Arc<Capability>,
    request: VerifiedRequest,
    body: Vec<u8>,
    acknowledgement: Option<Proof>,
    output_max: u64,
    amount: Amount,
    standing: u64,
}

/// Tokens in memory.
const TOKENS_MAX: usize = 64;

/// Why a batch is not answered.
pub(crate) enum Unwritten {
    /// The store refused it.
    Failed,
    /// The process died.
    Died,
}

/// What the store in memory has ready at once.
pub(crate) fn ready<T>(answer: BoxFuture<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.now_or_never().expect("a store in memory never waits")
}

impl Node {
    pub(crate) fn new(lies: Option<Lies>) -> Self {
        Self {
            store: Memory::default(),
            book: Book::new(TOKENS_MAX),
            signer: Signer { node: NODE, key: KEYS.receipt.clone(), restore: 0 },
            chains: BTreeMap::new(),
            running: Vec::new(),
            corrected: BTreeSet::new(),
            backup: None,
            lies,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    pub(crate) fn crash(&mut self) {
        self.book = Book::new(TOKENS_MAX);
        self.running.clear();
        self.chains.clear();
        self.corrected.clear();
    }

    pub(crate) fn back_up(&mut self) {
        self.backup = Some(self.store.copy());
    }

    /// The disk is lost; what was backed up is put in its place, and the certificate says so.
    pub(crate) fn restore(&mut self, around: &mut Around<'_>) {
        let Some(store) = self.backup.take() else { return };
        self.store = store;
        self.signer.restore += 1;
        self.crash();
        around.truth.node_set_back = true;
        for (lane, charged) in &mut around.truth.charged {
            let token = around.truth.leaves[&lane.0].token;
            let account = ready(self.store.account(token)).expect("it can be read");
            let key = LaneKey { leaf: lane.0, lane: lane.1 };
            let n = account.and_then(|account| Some(account.lanes.get(&key)?.n)).unwrap_or(0);
            charged.truncate(usize::try_from(n).expect("small"));
        }
        around.truth.answered.clear();
    }

    pub(crate) fn hear(&mut self, message: Message, around: &mut Around<'_>) -> Checked {
        match message {
            Message::Request { call, headers, chain, body, acknowledgement } => {
                let asked = Asked { call, headers, chain, body, acknowledgement };
                self.request(asked, around)
            }
            Message::Acknowledge { call, token, bytes } => {
                let taken = self.acknowledge(token, &bytes, around);
                if let Ok(true) = taken {
                    around.send(Message::Reply { call, reply: Reply::Acknowledged });
                }
                taken.map(drop)
            }
            Message::LookUp { call, key, token, leaf, lane, seq } => {
                self.look_up(call, &key, (token, leaf, lane, seq), around);
                Ok(())
            }
            Message::AskFinal { call, headers, token, chain } => self.ask_final(call, &headers, token, &chain, around),
            Message::Show { receipt } => self.shown(&receipt, around),
            Message::Claimed { token, claim, outcome } => self.claimed(token, claim, outcome, around),
            Message::FinalTaken { token } => {
                let _ = ready(self.store.final_delivered(token));
                Ok(())
            }
            Message::Asked { id, token, leaf, lane, newest, mut left, left_at } => {
                let key = LaneKey { leaf, lane };
                left.extend(left_at.iter().filter_map(|at| self.charging(token, key, newest, *at)));
                left.sort_unstable();
                left.dedup();
                self.show_what_is_asked(id, (token, key, newest), &left, around)
            }
            _ => Ok(()),
        }
    }

    /// Authenticate, authorise, hold: the gateway's phases, each in a sentence.
    fn request(&mut self, asked: Asked, around: &mut Around<'_>) -> Checked {
        let call = asked.call;
        match self.admit(asked, around) {
            Ok(()) => {}
            Err(Turned::Away(code)) => {
                around.net.note(|| format!("node refuses: {code}"));
                around.send(Message::Reply { call, reply: Reply::Refused { code, receipt: None } });
            }
            Err(Turned::Stored(code, receipt)) => {
                around.net.note(|| format!("node answers from its store: {code}"));
                around.truth.meet("answered from the store");
                around.send(Message::Reply { call, reply: Reply::Refused { code, receipt: Some(receipt) } });
            }
        }
        Ok(())
    }

    fn admit(&mut self, asked: Asked, around: &mut Around<'_>) -> Result<(), Turned> {
        let Asked { call, headers, chain, body, acknowledgement } = asked;
        let headers = header_map(&headers);
        let parsed = parse_request(METHOD, PATH, "", &headers, &body);
        let leaf = parsed.as_ref().ok().map(|request| request.authority().leaf);
        let capability = self.capability(chain.as_deref(), leaf, around)?;
        let parsed = parsed.map_err(|denied| Turned::Away(denied.code()))?;
        if parsed.authority().leaf != capability.leaf() {
            return Err(Turned::Away(Code::WrongKey));
        }
        let request = parsed.verify(capability.holder(), around.now).map_err(|denied| Turned::Away(denied.code()))?;
        let (token, root) = (capability.token().id, capability.token().id());
        self.load(token, root)?;
        let acknowledgement = match acknowledgement {
            Some(bytes) => Some(self.prove(&bytes, std::slice::from_ref(&capability))?),
            None => None,
        };
        let authority = request.authority();
        let key = LaneKey { leaf: authority.leaf, lane: authority.lane };
        let slot = Slot { seq: authority.seq, item: 0 };
        self.plant(token, around);
        match self.book.known(token, root, key, slot, authority.id()) {
            Ok(Known::Free) => {}
            Ok(Known::Charged(_)) => return Err(self.stored(token, key, slot, Code::Replayed)),
            Ok(Known::AskStore { highest }) => return Err(self.old(token, key, slot, authority.id(), highest)),
            Err(Refused::SequenceConflict { .. }) => return Err(self.stored(token, key, slot, Code::SequenceConflict)),
            Err(refused) => return Err(Turned::Away(refused.code())),
        }
        let scope = capability.allows(&MODEL, Op::Chat).map_err(|denied| Turned::Away(denied.code()))?;
        let terms = &capability.token().terms;
        let limit = limit_of(&body).map_or(Limit::None, Limit::Stated);
        let asks = comity_wire::object::Demand { output_tokens: crate::holder::OUTPUT_MAX, ..demand(&body) };
        let caps = Caps { signed: authority.max_charge, window: terms.window, policy: None };
        let priced = price(&BASE.tariff, (scope.tariff, authority.tariff), asks, limit, caps)
            .map_err(|refused| Turned::Away(refused.code()))?;
        let mut ask = Ask {
            token,
            key,
            slot,
            authority: authority.id(),
            created: around.now,
            path: capability.path(),
            lanes: capability.lanes(),
            lanes_max: terms.lanes_max,
            window: terms.window,
            hold: priced.hold,
            least: priced.least,
            max: authority.max_charge,
            subject: capability.token().subject.as_str().to_owned(),
            bounds: Vec::new(),
            tokens: 0,
            within: Vec::new(),
        };
        around.bugs.node_asks(&mut ask);
        let mut admission = self.book.admit(&ask, around.now);
        if let (Err(Refused::AckRequired { .. }), Some(proof)) = (&admission, &acknowledgement) {
            let change = Change::Acknowledge { token, proof: proof.clone() };
            let _ = self.change(vec![change], around);
            admission = self.book.admit(&ask, around.now);
        }
        match admission {
            Ok(Admission::Held(hold)) => {
                around.truth.meet("admitted");
                around.net.note(|| format!("node holds {} for {authority:?}", ask.hold));
                let (output_max, amount) = (priced.demand.output_tokens, ask.hold);
                let standing = capability.standing();
                self.running.push(Running {
                    hold,
                    call,
                    capability,
                    request,
                    body,
                    acknowledgement,
                    output_max,
                    amount,
                    standing,
                });
                Ok(())
            }
            Ok(Admission::Charged(_)) => Err(self.stored(token, key, slot, Code::Replayed)),
            Ok(Admission::AskStore { highest }) => Err(self.old(token, key, slot, ask.authority, highest)),
            Err(refused) => Err(Turned::Away(refused.code())),
        }
    }

    /// A planted bug may have changed what the book has.
    fn plant(&mut self, token: TokenId, around: &Around<'_>) {
        if let Some(mut account) = self.book.account(token).cloned()
            && around.bugs.node_knows(&mut account)
        {
            let _ = self.book.unload_account(token);
            self.book.load(account);
        }
    }

    fn stored(&self, token: TokenId, key: LaneKey, slot: Slot, code: Code) -> Turned {
        match ready(self.store.charge(token, key, slot)) {
            Ok(Some(found)) => Turned::Stored(code, found.receipt),
            _ => Turned::Away(Code::Internal),
        }
    }

    fn old(&self, token: TokenId, key: LaneKey, slot: Slot, authority: Digest, highest: u64) -> Turned {
        match ready(self.store.charge(token, key, slot)) {
            Ok(Some(found)) if found.charged.authority == authority => Turned::Stored(Code::Replayed, found.receipt),
            Ok(Some(found)) => Turned::Stored(Code::SequenceConflict, found.receipt),
            Ok(None) => Turned::Away(Refused::SeqOutsideSpan { seq: slot.seq, highest }.code()),
            Err(_) => Turned::Away(Code::StoreUnavailable),
        }
    }

    /// The right that comes along, else one that was seen, judged as of now.
    fn capability(
        &mut self,
        chain: Option<&[u8]>,
        leaf: Option<Digest>,
        around: &Around<'_>,
    ) -> Result<Arc<Capability>, Turned> {
        let directory = Seen { now: around.now };
        let trust = Trust { directory: &directory, node: NODE, now: around.now };
        let kept = match (chain, leaf) {
            (Some(chain), _) => chain.to_vec(),
            (None, Some(leaf)) => match self.chains.get(&leaf) {
                Some(known) => known.chain_bytes().to_vec(),
                None => match ready(self.store.chain(leaf)) {
                    Ok(Some(chain)) => chain,
                    _ => return Err(Turned::Away(Code::TokenUnknown)),
                },
            },
            (None, None) => return Err(Turned::Away(Code::Malformed)),
        };
        let capability = Arc::new(verify(&kept, &trust).map_err(|denied| Turned::Away(denied.code()))?);
        self.chains.insert(capability.leaf(), capability.clone());
        Ok(capability)
    }

    pub(crate) fn load(&mut self, token: TokenId, root: Digest) -> Result<(), Turned> {
        if !self.book.is_loaded(token) {
            let account = ready(self.store.account(token)).map_err(|_| Turned::Away(Code::StoreUnavailable))?;
            self.book.load(account.unwrap_or_else(|| Account::new(token, root)));
        }
        Ok(())
    }

    fn prove(&mut self, bytes: &[u8], chains: &[Arc<Capability>]) -> Result<Proof, Turned> {
        let borrowed: Vec<&Capability> = chains.iter().map(|chain| &**chain).collect();
        let ack = verify_acknowledgement_among(bytes, &borrowed).map_err(|denied| Turned::Away(denied.code()))?;
        let root = chains.first().expect("one at least").token().id();
        self.load(ack.token, root)?;
        let mut lanes = Vec::new();
        for lane in &ack.lanes {
            let key = LaneKey { leaf: lane.leaf, lane: lane.lane };
            let stored = ready(self.store.charge_by_n(ack.token, key, lane.n));
            let stored = stored.map_err(|_| Turned::Away(Code::StoreUnavailable))?.map(|stored| stored.charged);
            lanes.push((lane.clone(), stored));
        }
        Ok(Proof { bytes: bytes.to_vec(), lanes })
    }

    fn chains_of(&self, token: TokenId) -> Vec<Arc<Capability>> {
        let mut found: BTreeMap<Digest, Arc<Capability>> = BTreeMap::new();
        for (leaf, bytes) in ready(self.store.chains(token)).unwrap_or_default() {
            let kept = self.chains.get(&leaf).cloned();
            let chain = kept.or_else(|| verify_for_settlement(&bytes, &Seen { now: START }, NODE).ok().map(Arc::new));
            found.extend(chain.map(|chain| (leaf, chain)));
        }
        let seen = self.chains.values().filter(|chain| chain.token().id == token);
        found.extend(seen.map(|chain| (chain.leaf(), chain.clone())));
        found.into_values().collect()
    }

    fn acknowledge(&mut self, token: TokenId, bytes: &[u8], around: &mut Around<'_>) -> Checked<bool> {
        let chains = self.chains_of(token);
        let Some(first) = chains.first() else { return Ok(false) };
        if around.now > first.token().terms.settle_by {
            return Ok(false);
        }
        let Ok(proof) = self.prove(bytes, &chains) else {
            around.truth.meet("an acknowledgement that does not verify");
            return Ok(false);
        };
        let outcomes = self.change(vec![Change::Acknowledge { token, proof }], around)?;
        Ok(matches!(outcomes.as_deref(), Ok([Ok(Outcome::Acknowledged { .. })])))
    }

    fn look_up(
        &mut self,
        call: Call,
        caller: &PublicKey,
        (token, leaf, lane, seq): (TokenId, Digest, u16, u64),
        around: &mut Around<'_>,
    ) {
        let (key, slot) = (LaneKey { leaf, lane }, Slot { seq, item: 0 });
        let is_open = self.book.is_open(token, key, slot);
        let Ok(found) = ready(self.store.charge(token, key, slot)) else { return };
        let chains = self.chains_of(token);
        let refused = |code| Reply::Refused { code, receipt: None };
        let reply = match (chains.iter().find(|chain| chain.leaf() == leaf), found) {
            (Some(chain), _) if !chain.keys().contains(&caller) => refused(Code::NotYours),
            (None, found) if found.is_some() || is_open => refused(Code::NotYours),
            (None, _) => refused(Code::TokenUnknown),
            (Some(_), Some(found)) => Reply::Receipt(found.receipt),
            (Some(_), None) if is_open => refused(Code::InFlight),
            (Some(_), None) => refused(Code::NotFound),
        };
        around.send(Message::Reply { call, reply });
    }

    fn ask_final(
        &mut self,
        call: Call,
        headers: &Headers,
        token: TokenId,
        chain: &[u8],
        around: &mut Around<'_>,
    ) -> Checked {
        let Ok(called) = verify_api("POST", "/comity/v1/finals", "", &header_map(headers), b"", around.now) else {
            return Ok(());
        };
        let Ok(chain) = verify_for_settlement(chain, &Seen { now: around.now }, NODE) else { return Ok(()) };
        if *chain.root_holder() != called.key || chain.token().id != token {
            return Ok(());
        }
        let root = chain.token().id();
        if self.load(token, root).is_err() {
            return Ok(());
        }
        let close = Change::Close { token, leaf: chain.leaf(), chain: chain.chain_bytes().into() };
        if self.change(vec![close], around)?.is_err() {
            return Ok(());
        }
        let outcomes = self.change(vec![Change::Final { token, at: around.now }], around)?;
        if let Ok([Ok(Outcome::Final(bytes))]) = outcomes.as_deref() {
            around.truth.finals.insert(token);
            around.send(Message::Reply { call, reply: Reply::Final(bytes.clone()) });
        }
        Ok(())
    }

    fn shown(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Checked {
        let Ok(receipt) = verify_receipt(bytes, &BASE.certificate) else { return Ok(()) };
        let key = LaneKey { leaf: receipt.leaf, lane: receipt.lane };
        let Ok(stored) = ready(self.store.charge_by_n(receipt.token, key, receipt.n)) else { return Ok(()) };
        if stored.is_some_and(|stored| stored.charged.receipt == receipt.id()) {
            return Ok(());
        }
        around.truth.meet("a node that meets its own newer receipt");
        let set_back = around.truth.node_set_back || !around.truth.node_honest;
        around.truth.holds("an honest node knows what it signed", set_back, || format!("n {}", receipt.n))?;
        let chains = self.chains_of(receipt.token);
        let root = chains.first().map_or(receipt.leaf, |chain| chain.token().id());
        if self.load(receipt.token, root).is_ok() {
            let _ = self.change(vec![Change::Supersede { token: receipt.token, at: root }], around)?;
        }
        Ok(())
    }

    /// Makes changes durable in one transaction, as the writer does.
    pub(crate) fn change(
        &mut self,
        changes: Vec<Change>,
        around: &mut Around<'_>,
    ) -> Checked<Result<Vec<Result<Outcome, Refused>>, Unwritten>> {
        let stage = self.book.stage(&changes, &self.signer);
        let fails = around.strikes(30);
        if fails {
            self.store.fill_up(true);
        }
        let written = stage.writes.is_empty() || ready(self.store.write(&stage.writes)).is_ok();
        self.store.fill_up(false);
        if !written {
            around.truth.meet("a store that takes nothing");
            for token in stage.tokens().collect::<Vec<_>>() {
                let root = self.book.account(token).map(|account| account.root);
                self.book.unload(token);
                if let Some(root) = root {
                    let _ = self.load(token, root);
                }
            }
            return Ok(Err(Unwritten::Failed));
        }
        for outcome in stage.outcomes.iter().flatten() {
            if let Outcome::Charged(receipt) = outcome {
                around.truth.charge(receipt)?;
            }
        }
        if around.strikes(30) {
            around.truth.meet("a node that dies after COMMIT");
            self.crash();
            return Ok(Err(Unwritten::Died));
        }
        Ok(Ok(self.book.commit(stage)))
    }

    /// The model has answered some requests: they are charged in one batch, then answered.
    pub(crate) fn finish(&mut self, around: &mut Around<'_>) -> Checked {
        let count = 1 + around.chance.index(3);
        let mut batch = Vec::new();
        for _ in 0..count.min(self.running.len()) {
            let at = around.chance.index(self.running.len());
            batch.push(self.running.swap_remove(at));
        }
        if batch.is_empty() {
            return Ok(());
        }
        for running in &batch {
            let token = running.capability.token();
            let (id, root) = (token.id, token.id());
            if self.load(id, root).is_err() {
                return Ok(());
            }
        }
        let answers: Vec<_> = batch.iter().map(|running| answer_of(running, around)).collect();
        let changes: Vec<_> =
            batch.iter().zip(&answers).map(|(running, answer)| charge_of(running, answer, around)).collect();
        if around.bugs.node_answers_before_commit() {
            let stage = self.book.stage(&changes, &self.signer);
            let said = stage.outcomes;
            self.answer(&batch, &answers, &said, around);
        }
        if around.strikes(30) {
            around.truth.meet("a node that dies before COMMIT");
            self.crash();
            return self.answered_is_durable(around);
        }
        match self.change(changes, around)? {
            Ok(outcomes) => self.answer(&batch, &answers, &outcomes, around),
            Err(Unwritten::Died) => {}
            Err(Unwritten::Failed) => {
                for running in &batch {
                    self.book.release(running.hold);
                    let reply = Reply::Refused { code: Code::StoreUnavailable, receipt: None };
                    around.send(Message::Reply { call: running.call, reply });
                }
            }
        }
        self.answered_is_durable(around)
    }

    fn answer(
        &mut self,
        batch: &[Running],
        answers: &[Vec<u8>],
        outcomes: &[Result<Outcome, Refused>],
        around: &mut Around<'_>,
    ) {
        for ((running, answer), outcome) in batch.iter().zip(answers).zip(outcomes) {
            let reply = match outcome {
                Ok(Outcome::Charged(receipt)) => {
                    around.truth.meet("charged");
                    let lane = (receipt.leaf, receipt.lane);
                    around.truth.answered.insert(receipt.id(), (receipt.token, lane, receipt.n));
                    around
                        .net
                        .note(|| format!("node charges {} as n {} seq {}", receipt.charge, receipt.n, receipt.seq));
                    match &mut self.lies {
                        Some(lies) => lies.answer(answer, receipt, around.chance),
                        None => Reply::Answer { answer: answer.clone(), receipt: Some(receipt.bytes().to_vec()) },
                    }
                }
                Err(refused) => {
                    self.book.release(running.hold);
                    Reply::Refused { code: refused.code(), receipt: None }
                }
                Ok(_) => continue,
            };
            around.send(Message::Reply { call: running.call, reply });
        }
    }

    /// Answered ⇒ durable: each receipt that was handed out is in the store, once.
    pub(crate) fn answered_is_durable(&self, around: &mut Around<'_>) -> Checked {
        let answered: Vec<_> = around.truth.answered.iter().map(|(id, at)| (*id, *at)).collect();
        for (id, (token, lane, n)) in answered.into_iter() {
            let key = LaneKey { leaf: lane.0, lane: lane.1 };
            let stored = ready(self.store.charge_by_n(token, key, n)).expect("it can be read");
            let is_there = stored.is_some_and(|stored| stored.charged.receipt == id);
            around.truth.holds("answered is durable", is_there, || format!("n {n} of lane {lane:?}"))?;
        }
        around.truth.answered.clear();
        Ok(())
    }

    /// The bounds that the owner relies on (rule 6), after each step.
    pub(crate) fn check(&self, around: &mut Around<'_>) -> Checked {
        let tokens: Vec<_> = around.truth.tokens.iter().map(|(id, sold)| (*id, sold.clone())).collect();
        for (id, sold) in tokens {
            let Ok(Some(account)) = ready(self.store.account(id)) else { continue };
            let lanes = account.lanes.len();
            let (lanes, max) = (i64::try_from(lanes).expect("few"), i64::from(sold.lanes_max));
            around.truth.bound("lanes within lanes_max", lanes, max, || format!("token {id}"))?;
            for (key, lane) in &account.lanes {
                let at = (key.leaf, key.lane);
                let acknowledged = lane.acknowledged.ucr();
                if around.truth.node_honest {
                    let most = around.truth.properly.get(&at).copied().unwrap_or(0);
                    let what = || format!("lane {at:?}");
                    around.truth.bound("a node counts what was acknowledged", acknowledged, most, what)?;
                    let charged = around.truth.charged.get(&at).and_then(|charged| charged.last());
                    let total = charged.map_or(0, |last| last.total);
                    let same = total == lane.total.ucr();
                    around.truth.holds("the node's total is what was charged", same, what)?;
                }
                let of_lane = |running: &&Running| {
                    let authority = running.request.authority();
                    (authority.leaf, authority.lane) == at
                };
                let held: i64 = self.running.iter().filter(of_lane).map(|running| running.amount.ucr()).sum();
                let open = lane.total.ucr() - acknowledged + held;
                around.truth.bound("unpaid work within the window", open, sold.window, || format!("lane {at:?}"))?;
            }
        }
        Ok(())
    }
}

struct Asked {
    call: Call,
    headers: Headers,
    chain: Option<Vec<u8>>,
    body: Vec<u8>,
    acknowledgement: Option<Vec<u8>>,
}

/// Why a request is not admitted.
pub(crate) enum Turned {
    Away(Code),
    Stored(Code, Vec<u8>),
}

fn header_map(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).expect("what is signed is plain"));
    }
    map
}

/// Twice as much may come out of one as of another; some answers rest on nothing.
fn answer_of(running: &Running, around: &mut Around<'_>) -> Vec<u8> {
    let tokens = around.chance.below(running.output_max + 1);
    vec![b'a'; usize::try_from(tokens).expect("small")]
}

fn charge_of(running: &Running, answer: &[u8], around: &Around<'_>) -> Change {
    let authority = running.request.authority();
    let meters = Meters::default()
        .with(Meter::Requests, 1)
        .with(Meter::InputBytes, running.body.len() as u64)
        .with(Meter::OutputTokens, answer.len() as u64);
    let exact = BASE.tariff.exact(Op::Chat, &meters).expect("chat has a price");
    Change::Charge(Box::new(Charge {
        hold: running.hold,
        exact,
        meters,
        flags: Flags::default(),
        basis: Basis::Upstream,
        ended: Ended::Stop,
        request: request_digest(&authority.nonce, &running.body),
        response: response_of(&authority.nonce, answer),
        model: MODEL.clone(),
        op: Op::Chat,
        release: *RELEASE,
        manifest: Digest::ZERO,
        tariff: BASE.tariff.id(),
        standing: running.standing,
        at: around.now,
        evidence: Evidence {
            base: running.request.signature_base().to_owned(),
            signature: *running.request.signature(),
        },
        chain: running.capability.chain_bytes().into(),
        acknowledgement: running.acknowledgement.clone(),
    }))
}

/// A signed final, whatever it says.
pub(crate) fn signed_final(final_: &Final) -> Verified<Final> {
    cose::sign(final_, &KEYS.receipt)
}

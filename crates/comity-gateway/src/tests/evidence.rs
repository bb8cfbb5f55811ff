//! Acknowledgements, claims, finals: what owner and house can rely on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use comity_token::verify_claim;
use comity_wire::api::advisory::{AdvisoriesReply, Advisory, AdvisoryBand};
use comity_wire::api::challenge::{AnswerRequest, Challenge, ChallengeCause, ChallengeState, ChallengesReply, Shown};
use comity_wire::api::clearing::{
    ClaimReply, ClaimRequest, FinalReply, FinalRequest, HouseReply, Restored, SettledLane, lane_continues,
};
use comity_wire::api::count::{CountAsked, CountReply, CountRequest, CountsReply};
use comity_wire::api::credit::{CreditNoteReply, CreditNoteRequest};
use comity_wire::api::node::FinalAnswer;
use comity_wire::cbor::Text;
use comity_wire::object::{Acknowledgement, Count, CountLine, CreditNote, FilterAction, Final, Receipt};
use comity_wire::{Amount, Code, Digest, NodeId, OrgId, Signed, Timestamp};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;
use tower::ServiceExt as _;

use super::guarded::{HARMLESS, POLITICAL, prompt, rows};
use super::world::*;
use crate::control::token_of;
use crate::{House, HouseError};

/// Keeps what it was sent; answers as it is told.
#[derive(Default)]
pub(super) struct Books {
    claims: Mutex<Vec<Vec<u8>>>,
    finals: Mutex<Vec<Vec<u8>>>,
    pub(super) refuse: Mutex<Option<Option<Code>>>,
    /// When a refused call is to come again.
    pub(super) retry_after_s: Mutex<Option<u64>>,
    settled: Mutex<Vec<SettledLane>>,
    pub(super) restored: Mutex<Option<Restored>>,
    challenges: Mutex<Vec<Challenge>>,
    shown: Mutex<Vec<Shown>>,
    advisories: Mutex<Vec<Advisory>>,
    asked: Mutex<Vec<CountAsked>>,
    counts: Mutex<Vec<Vec<u8>>>,
    pub(super) notes: Mutex<Vec<CreditNote>>,
    /// What goes on while a claim is on its way: one for each.
    meanwhile: Mutex<Vec<BoxFuture<'static, ()>>>,
}

impl Books {
    fn answer<T>(&self, reply: T) -> Result<T, HouseError> {
        match *self.refuse.lock().unwrap() {
            Some(code) => {
                let settled = self.settled.lock().unwrap().clone();
                let retry_after_s = *self.retry_after_s.lock().unwrap();
                Err(HouseError { code, message: "scripted".into(), settled, retry_after_s })
            }
            None => Ok(reply),
        }
    }
}

impl House for Arc<Books> {
    fn claim(&self, house: OrgId, ask: ClaimRequest) -> BoxFuture<'_, Result<ClaimReply, HouseError>> {
        assert_eq!(house, HOUSE);
        self.claims.lock().unwrap().push(ask.claim.to_vec());
        let zero = Amount::ZERO;
        let reply = ClaimReply {
            token: TOKEN,
            number: 1,
            settled: zero,
            settled_total: zero,
            unacknowledged: zero,
            exceptions: Vec::new(),
        };
        let answer = Books::answer(self, reply);
        let meanwhile = self.meanwhile.lock().unwrap().pop();
        async move {
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            answer
        }
        .boxed()
    }

    fn about(&self, house: OrgId) -> BoxFuture<'_, Result<HouseReply, HouseError>> {
        let restored = *self.restored.lock().unwrap();
        let answer = Books::answer(self, HouseReply { house, open_since: Timestamp(0), restored });
        async move { answer }.boxed()
    }

    fn final_(&self, _: OrgId, ask: FinalRequest) -> BoxFuture<'_, Result<FinalReply, HouseError>> {
        self.finals.lock().unwrap().push(ask.final_.to_vec());
        let answer = Books::answer(self, FinalReply { token: TOKEN, refunded: Amount::ZERO, in_escrow: Amount::ZERO });
        async move { answer }.boxed()
    }

    fn challenges(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<ChallengesReply, HouseError>> {
        assert_eq!((house, node), (HOUSE, NODE));
        let challenges = self.challenges.lock().unwrap().clone();
        async move { Ok(ChallengesReply { challenges, next: None }) }.boxed()
    }

    fn answer(&self, _: OrgId, id: Digest, ask: AnswerRequest) -> BoxFuture<'_, Result<Challenge, HouseError>> {
        let mut challenges = self.challenges.lock().unwrap();
        let challenge = challenges.iter_mut().find(|challenge| challenge.id == id).expect("one that was asked");
        for shown in ask.shown {
            let receipt = verify(&shown.receipt);
            let n = receipt.n;
            challenge.left.retain(|left| *left != n);
            let (above, upto) = (receipt.total.saturating_sub(receipt.charge), receipt.total);
            challenge.left_at.retain(|at| *at <= above || *at > upto);
            self.shown.lock().unwrap().push(shown);
        }
        let answer = challenge.clone();
        async move { Ok(answer) }.boxed()
    }

    fn advisories(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<AdvisoriesReply, HouseError>> {
        assert_eq!((house, node), (HOUSE, NODE));
        let advisories = Books::answer(self, self.advisories.lock().unwrap().clone());
        async move { Ok(AdvisoriesReply { advisories: advisories?, next: None }) }.boxed()
    }

    fn counts(&self, house: OrgId, node: NodeId) -> BoxFuture<'_, Result<CountsReply, HouseError>> {
        assert_eq!((house, node), (HOUSE, NODE));
        let counts = self.asked.lock().unwrap().clone();
        async move { Ok(CountsReply { counts }) }.boxed()
    }

    fn count(&self, _: OrgId, ask: CountRequest) -> BoxFuture<'_, Result<CountReply, HouseError>> {
        self.counts.lock().unwrap().push(ask.count.to_vec());
        let answer = Books::answer(self, CountReply { pages: 1, matched: None });
        async move { answer }.boxed()
    }

    fn credit_note(&self, house: OrgId, ask: CreditNoteRequest) -> BoxFuture<'_, Result<CreditNoteReply, HouseError>> {
        assert_eq!(house, HOUSE);
        let signed = Signed::<CreditNote>::decode(&ask.note).unwrap().verify(&secret("receipt").public()).unwrap();
        let note = signed.object().clone();
        let reply = CreditNoteReply {
            id: note.id,
            content: signed.id(),
            token: note.token,
            amount: note.amount,
            returned: note.amount,
            to_suspense: Amount::ZERO,
            left: Amount::ZERO,
            taken_at: note.at,
        };
        self.notes.lock().unwrap().push(note);
        let answer = Books::answer(self, reply);
        async move { answer }.boxed()
    }
}

async fn with_books() -> (World, Arc<Books>) {
    let books = Arc::new(Books::default());
    let setting = Setting { house: Some(Arc::new(books.clone())), ..Setting::default() };
    (World::new(setting).await, books)
}

async fn ask(world: &World, chain: &[u8], seq: u64) -> comity_wire::Verified<Receipt> {
    let (status, headers, body) = read(world.send(&world.ask(chain).seq(seq)).await).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    receipt(&headers)
}

async fn post_ack(world: &World, bytes: Vec<u8>) -> String {
    let body = json!({"acknowledgement": comity_wire::api::clearing::SignedBytes::new(bytes).unwrap()});
    code(world.call("POST", "/comity/v1/acknowledgements", "", &body, &secret("anyone")).await).await
}

/// What a house sees over several owners is an amount above its bound, like one that was counted here (spec §7.10).
#[tokio::test]
async fn what_a_house_tells_of_a_project_is_acted_on_as_the_policy_says() {
    let books = Arc::new(Books::default());
    let row = rows(&[("volume/political_persuasion", FilterAction::Hold)]);
    let world = World::new(Setting { house: Some(Arc::new(books.clone())), ..row }).await;
    let subject = comity_wire::Pseudonym([7; 16]);
    let named = subject.to_string();
    let chain = world.mint(|token| token.subject = Text::new(named.as_str()).unwrap());
    let told = |subject, category: &str| Advisory {
        subject,
        category: category.into(),
        count: 400,
        bound: 200,
        band: AdvisoryBand::Medium,
        first_at: NOW,
        at: NOW,
        until: NOW.plus(3_600),
    };
    let said = async |seq, text| world.code(&prompt(&world, &chain, seq, text)).await;
    assert_eq!(said(1, POLITICAL).await, "ok");
    // Of another project, or of a category that is not known here: nothing changes.
    let other = comity_wire::Pseudonym([8; 16]);
    *books.advisories.lock().unwrap() = vec![told(other, "political_persuasion"), told(subject, "of a later version")];
    world.gateway.take_advice().await;
    assert_eq!(said(2, POLITICAL).await, "ok");
    books.advisories.lock().unwrap().push(told(subject, "political_persuasion"));
    world.gateway.take_advice().await;
    assert_eq!(said(3, POLITICAL).await, "held_for_review");
    assert_eq!(said(3, HARMLESS).await, "ok", "the project is not stopped, the amount is");
    let advised: Vec<String> = world.gateway.advised().into_iter().map(|(project, _)| project).collect();
    assert!(advised.contains(&named) && advised.len() == 2, "{advised:?}");
    // The owner is told with the first call that adds to it, and what was done.
    let flags = world.gateway.flags();
    let spread: Vec<_> = flags.iter().filter(|flag| flag.rule == "volume/spread").collect();
    assert!(matches!(spread[..], [one] if one.action == FilterAction::Hold && one.count == 400), "{flags:?}");
    // A house that does not answer is not taken to say that all is well; one that has nothing to tell any more is.
    *books.refuse.lock().unwrap() = Some(None);
    world.gateway.take_advice().await;
    assert_eq!(said(4, POLITICAL).await, "held_for_review");
    *books.refuse.lock().unwrap() = None;
    books.advisories.lock().unwrap().clear();
    world.gateway.take_advice().await;
    assert_eq!(said(4, POLITICAL).await, "ok");
    // It ends by itself, too.
    books.advisories.lock().unwrap().push(told(subject, "political_persuasion"));
    world.gateway.take_advice().await;
    world.clock.fetch_add(3_600, Ordering::SeqCst);
    assert_eq!(said(5, POLITICAL).await, "ok");
    assert!(world.gateway.advised().is_empty());
}

/// Without a row the owner is told, and nothing is stopped.
#[tokio::test]
async fn an_owner_without_a_row_is_told_of_a_project_that_spreads_thin() {
    let books = Arc::new(Books::default());
    let row = rows(&[("political_persuasion", FilterAction::Log)]);
    let world = World::new(Setting { house: Some(Arc::new(books.clone())), ..row }).await;
    let subject = comity_wire::Pseudonym([7; 16]);
    let chain = world.mint(|token| token.subject = Text::new(subject.to_string()).unwrap());
    let (category, band) = ("political_persuasion".to_owned(), AdvisoryBand::High);
    let until = NOW.plus(3_600);
    let told = Advisory { subject, category, count: 2_000, bound: 200, band, first_at: NOW, at: NOW, until };
    books.advisories.lock().unwrap().push(told);
    world.gateway.take_advice().await;
    for (seq, text, flags) in [(1, HARMLESS, 0), (2, POLITICAL, 1), (3, POLITICAL, 1)] {
        assert_eq!(world.code(&prompt(&world, &chain, seq, text)).await, "ok");
        let flagged = world.gateway.flags();
        let spread = flagged.iter().filter(|flag| flag.rule == "volume/spread").collect::<Vec<_>>();
        assert_eq!(spread.len(), flags, "{flagged:?}");
        assert!(spread.iter().all(|flag| flag.count == 2_000 && flag.project == subject.to_string()));
    }
}

#[tokio::test]
async fn receipts_form_one_history_with_exact_sums() {
    let world = World::new(Setting {
        rates: vec![rate(comity_wire::Meter::OutputTokens, 333_334)],
        minimum: 0,
        ..Setting::default()
    })
    .await;
    let chain = world.mint(|_| {});
    let mut ids = Vec::new();
    let mut exact = 0_u128;
    for seq in 1..=9 {
        let receipt = ask(&world, &chain, seq).await;
        exact += 3 * 333_334;
        assert_eq!(receipt.history, comity_wire::merkle::root(&ids));
        assert_eq!(receipt.exact_total().unwrap().0, exact);
        assert_eq!(receipt.meters_total.get(comity_wire::Meter::Requests), seq);
        ids.push(receipt.id());
    }
}

#[tokio::test]
async fn a_claim_carries_receipts_acknowledgements_and_a_proof_from_what_was_settled() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let mut receipts = Vec::new();
    for seq in 1..=3 {
        receipts.push(ask(&world, &chain, seq).await);
    }
    assert_eq!(post_ack(&world, acknowledge(&[&receipts[1]], &secret("holder"))).await, "ok");
    assert_eq!(world.gateway.claim_all().await, 1);
    for seq in 4..=8 {
        receipts.push(ask(&world, &chain, seq).await);
    }
    world.gateway.claim_all().await;
    world.gateway.claim_all().await;
    let claims = books.claims.lock().unwrap().clone();
    let certificate = comity_token::Directory::certificate(&*world.directory, NODE).unwrap();
    let claims: Vec<_> = claims.iter().map(|bytes| verify_claim(bytes, &certificate).unwrap()).collect();
    assert_eq!(claims.iter().map(|claim| claim.number).collect::<Vec<_>>(), [1, 2], "nothing is claimed twice");
    assert_eq!(claims[0].lanes[0].settled_n, None);
    let ack = Signed::<Acknowledgement>::decode(&claims[0].acknowledgements[0]).unwrap();
    assert_eq!(ack.unverified().lanes[0].n, 2);
    let (old, new) = (verify(&claims[0].lanes[0].receipt), verify(&claims[1].lanes[0].receipt));
    assert_eq!((old.n, new.n, claims[1].lanes[0].settled_n), (3, 8, Some(3)));
    let proof = &claims[1].lanes[0].inclusion;
    assert!(lane_continues((old.n, &old.id()), &old.history, (new.n, &new.history), proof));
}

/// A house's question up to one of the receipts of a claim, for nothing yet.
fn challenge_of(newest: &Receipt) -> Challenge {
    Challenge {
        id: Digest::of(b"challenge"),
        token: TOKEN,
        leaf: newest.leaf,
        lane: newest.lane,
        cause: ChallengeCause::Sample,
        state: ChallengeState::Open,
        claim: Digest::of(b"claim"),
        log_size: Some(9),
        newest: newest.n,
        total: newest.total,
        left: Vec::new(),
        left_at: Vec::new(),
        blind: None,
        due_at: Timestamp(9),
    }
}

/// Each receipt that the house asks for lies in the claimed history, and is for a request that its holder signed.
#[tokio::test]
async fn a_challenge_is_answered_with_receipts_and_signed_requests() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let mut receipts = Vec::new();
    for seq in 1..=20 {
        receipts.push(ask(&world, &chain, seq).await);
    }
    let newest = &receipts[17];
    let challenge = Challenge { left: (1..=18).collect(), ..challenge_of(newest) };
    books.challenges.lock().unwrap().push(challenge);
    assert_eq!(world.gateway.answer_challenges().await, 1);
    let shown = books.shown.lock().unwrap();
    assert_eq!(shown.len(), 18);
    for (shown, receipt) in shown.iter().zip(&receipts) {
        assert_eq!(shown.receipt[..], *receipt.bytes());
        let holder = secret("holder").public();
        let signature = shown.signature[..].try_into().unwrap();
        let authority = comity_token::signed_authority(&shown.request, signature, &holder).unwrap();
        assert_eq!((authority.id(), authority.seq), (receipt.authority, receipt.seq));
        assert!(receipt.charge <= authority.max_charge);
        let of = (newest.n, &newest.history);
        let continues = lane_continues((receipt.n, &receipt.id()), &receipt.history, of, &shown.proof);
        assert_eq!(continues, receipt.n < newest.n, "{}", receipt.n);
        let Some(before) = &shown.before else {
            assert_eq!(receipt.n, 1, "only the first has nothing before it");
            continue;
        };
        let known = &receipts[receipt.n as usize - 2];
        assert_eq!(before.receipt[..], *known.bytes());
        assert!(lane_continues((known.n, &known.id()), &known.history, of, &before.proof), "{}", receipt.n);
    }
}

/// Of a long tail the house names what of its total it wants to see: the receipts that charge it.
#[tokio::test]
async fn amounts_are_answered_with_the_receipts_that_charge_them() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let mut receipts = Vec::new();
    for seq in 1..=20 {
        receipts.push(ask(&world, &chain, seq).await);
    }
    let newest = &receipts[17];
    let upto = |n: usize| receipts[n - 1].total;
    let above =
        |n: usize| receipts[n - 1].total.saturating_sub(receipts[n - 1].charge).saturating_add(Amount::from_ucr(1));
    // The last µcr of the 1st, the first of the 2nd, both ends of the 9th, and the last of all.
    let left_at = vec![upto(1), above(2), above(9), upto(9), upto(18)];
    assert!(left_at.is_sorted() && above(9) < upto(9), "{left_at:?}");
    let challenge = Challenge { cause: ChallengeCause::Tail, left_at, ..challenge_of(newest) };
    books.challenges.lock().unwrap().push(challenge);
    assert_eq!(world.gateway.answer_challenges().await, 1);
    let shown = books.shown.lock().unwrap();
    assert_eq!(shown.iter().map(|shown| verify(&shown.receipt).n).collect::<Vec<_>>(), [1, 2, 9, 18]);
}

/// The owner's meter, as the house is told: all lanes of the tokens that were issued in the period, and no others.
#[tokio::test]
async fn a_count_is_read_from_the_store_and_signed() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let mut charged = Amount::ZERO;
    for seq in 1..=5 {
        charged = ask(&world, &chain, seq).await.total;
    }
    let token = token_of(&chain).unwrap();
    let issued = token.issued_at;
    let now = issued.plus(60);
    let period = |from, to| CountAsked { from, to, asked_at: now };
    // Its last second is the next period's, its first its own.
    let outside = [period(issued.minus(100), issued), period(issued.plus(1), issued.plus(2))];
    books.asked.lock().unwrap().extend([period(issued, issued.plus(1)), outside[0], outside[1]]);
    world.clock.store(now.0, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.gateway.send_counts().await, 3);
    let certificate = comity_token::Directory::certificate(&*world.directory, NODE).unwrap();
    let counts: Vec<_> = books.counts.lock().unwrap().clone();
    let keys: Vec<_> = certificate.receipt_keys.iter().map(|entry| entry.key).collect();
    let counts: Vec<_> =
        counts.iter().map(|bytes| Signed::<Count>::decode(bytes).unwrap().verify_any(&keys).unwrap()).collect();
    let [counted, before, after] = &counts[..] else { panic!("three were asked for") };
    assert_eq!((counted.node, counted.issuer, counted.page, counted.pages), (NODE, HOUSE, 1, 1));
    let line = CountLine { token: TOKEN, lanes: 1, charges: 5, charged };
    assert_eq!(counted.lines[..], [line]);
    assert!(before.lines.is_empty() && after.lines.is_empty(), "another period's");
    // What was not taken is counted again.
    *books.refuse.lock().unwrap() = Some(None);
    assert_eq!(world.gateway.send_counts().await, 0);
    *books.refuse.lock().unwrap() = None;
    assert_eq!(world.gateway.send_counts().await, 3);
}

#[tokio::test]
async fn a_claim_without_an_answer_is_sent_again_as_it_was() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    ask(&world, &chain, 1).await;
    *books.refuse.lock().unwrap() = Some(None);
    assert_eq!(world.gateway.claim_all().await, 0);
    ask(&world, &chain, 2).await;
    // A new process, too.
    let setting = Setting { house: Some(Arc::new(books.clone())), ..Setting::default() };
    let again = World::on(setting, world.store.clone()).await;
    *books.refuse.lock().unwrap() = None;
    assert_eq!(again.gateway.claim_all().await, 1);
    let claims = books.claims.lock().unwrap().clone();
    assert_eq!(claims.len(), 3);
    assert_eq!(claims[0], claims[1]);
    let last = Signed::<comity_wire::object::Claim>::decode(&claims[2]).unwrap();
    assert_eq!(last.unverified().lanes[0].settled_n, Some(1));
}

#[tokio::test]
async fn a_token_that_is_worked_with_meanwhile_keeps_no_other_waiting() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    ask(&world, &chain, 1).await;
    for seq in 2..=9 {
        let (router, request) = (world.gateway.router(), world.ask(&chain).seq(seq).request());
        let asked = async move { assert_eq!(router.oneshot(request).await.unwrap().status(), 200) };
        books.meanwhile.lock().unwrap().push(asked.boxed());
    }
    let claims = || books.claims.lock().unwrap().len();
    world.gateway.claim_all().await;
    assert_eq!(claims(), 1, "what was charged meanwhile is due the next time");
    world.gateway.claim_all().await;
    assert_eq!(claims(), 2);
    let last = Signed::<comity_wire::object::Claim>::decode(&books.claims.lock().unwrap()[1]).unwrap();
    assert_eq!(verify(&last.unverified().lanes[0].receipt).n, 2);
}

/// Spec S-5: the house was set back to a backup, or this node was; the claim is made anew from where the house stands.
#[tokio::test]
async fn a_node_proves_from_the_receipt_that_the_house_settled_last() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let mut receipts = Vec::new();
    for seq in 1..=4 {
        receipts.push(ask(&world, &chain, seq).await);
        assert_eq!(world.gateway.claim_all().await, 1);
    }
    receipts.push(ask(&world, &chain, 5).await);
    let at = |n| vec![SettledLane { leaf: receipts[0].leaf, lane: 0, n }];
    *books.refuse.lock().unwrap() = Some(Some(Code::SettledDiffers));
    *books.settled.lock().unwrap() = at(2);
    // A house that never agrees is not asked for ever.
    assert_eq!(world.gateway.claim_all().await, 0);
    assert_eq!(books.claims.lock().unwrap().len(), 6);
    *books.refuse.lock().unwrap() = None;
    assert_eq!(world.gateway.claim_all().await, 1);
    assert_eq!(world.gateway.claim_all().await, 0, "all of it is settled");
    let claims: Vec<_> = books.claims.lock().unwrap().iter().map(|bytes| Signed::decode(bytes).unwrap()).collect();
    let settled = |claim: &Signed<comity_wire::object::Claim>| claim.unverified().lanes[0].settled_n;
    assert_eq!(
        claims.iter().map(settled).collect::<Vec<_>>(),
        [None, Some(1), Some(2), Some(3), Some(4), Some(2), Some(2)]
    );
    let (old, new) = (&receipts[1], &receipts[4]);
    let proof = &claims[6].unverified().lanes[0].inclusion;
    assert!(lane_continues((2, &old.id()), &old.history, (5, &new.history), proof));
}

#[tokio::test]
async fn a_final_closes_first_and_names_every_head() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let first = ask(&world, &chain, 1).await;
    let (_, headers, _) = read(world.send(&world.ask(&chain).lane(3)).await).await;
    let other = receipt(&headers);
    let body = json!({"token": TOKEN});
    let call = async |key: &str| world.call("POST", "/comity/v1/finals", "", &body, &secret(key)).await;
    assert_eq!(code(call("thief").await).await, "not_yours");
    let (status, _, answer) = read(call("holder").await).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let answer: FinalAnswer = serde_json::from_slice(&answer).unwrap();
    assert!(answer.delivered);
    let signed = Signed::<Final>::decode(&answer.final_).unwrap().verify(&secret("receipt").public()).unwrap();
    let heads: Vec<_> = signed.lanes.iter().map(|head| (head.lane, head.n, head.total, head.receipt)).collect();
    assert_eq!(heads, [(0, 1, first.total, first.id()), (3, 1, other.total, other.id())]);
    assert_eq!(world.code(&world.ask(&chain).seq(2)).await, "closed");
    // What was charged is still answered, and acknowledgements are still taken.
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
    assert_eq!(post_ack(&world, acknowledge(&[&first, &other], &secret("holder"))).await, "ok");
    let again: FinalAnswer = serde_json::from_slice(&read(call("holder").await).await.2).unwrap();
    assert_eq!(again.final_, answer.final_, "signed once");
    assert_eq!(books.finals.lock().unwrap().len(), 1);
}

/// The holder key is lost with a computer, or in other hands: what it had left must not wait for its deadline.
#[tokio::test]
async fn a_revoked_token_is_ended_by_whoever_shows_it_and_no_other_is() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let first = ask(&world, &chain, 1).await;
    let asks = async |shown: Option<&[u8]>| {
        let body = json!({"token": TOKEN}).to_string();
        let mut request = http::Request::post("/comity/v1/finals");
        if let Some(shown) = shown {
            request = request.header("comity-token", sf(shown));
        }
        let key = secret("another computer of hers");
        for (name, value) in
            comity_token::sign_api("POST", "/comity/v1/finals", "", body.as_bytes(), NOW, [1; 16], &key)
        {
            request = request.header(name, value);
        }
        let request = request.body(axum::body::Body::from(body)).unwrap();
        tower::ServiceExt::oneshot(world.gateway.router(), request).await.unwrap()
    };
    assert_eq!(code(asks(Some(&chain)).await).await, "not_yours", "it is not revoked");
    world.revoke_token();
    assert_eq!(code(asks(None).await).await, "not_yours", "to know its id is not enough");
    let other = world.mint(|token| token.id = comity_wire::TokenId([0x77; 16]));
    assert_eq!(code(asks(Some(&other)).await).await, "not_yours", "nor is another token");
    assert!(books.finals.lock().unwrap().is_empty());
    let (status, _, answer) = read(asks(Some(&chain)).await).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let answer: FinalAnswer = serde_json::from_slice(&answer).unwrap();
    let signed = Signed::<Final>::decode(&answer.final_).unwrap().verify(&secret("receipt").public()).unwrap();
    assert_eq!(signed.lanes.iter().map(|head| head.receipt).collect::<Vec<_>>(), [first.id()]);
    assert_eq!(books.finals.lock().unwrap().len(), 1, "the house has it");
}

/// Rule 9: the house lost what this node said after the backup, and would send the credits home at `settle_by`.
#[tokio::test]
async fn what_a_restored_house_may_have_forgotten_is_claimed_again_and_once() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let first = ask(&world, &chain, 1).await;
    let second = ask(&world, &chain, 2).await;
    assert_eq!(post_ack(&world, acknowledge(&[&second], &secret("holder"))).await, "ok");
    let body = json!({"token": TOKEN});
    let answer = read(world.call("POST", "/comity/v1/finals", "", &body, &secret("holder")).await).await;
    assert_eq!(answer.0, 200);
    let said = |books: &Books| (books.claims.lock().unwrap().len(), books.finals.lock().unwrap().len());
    let before = said(&books);
    world.gateway.houses_look().await;
    assert_eq!(world.gateway.claim_all().await, 0, "the house forgot nothing");

    let restored = |backup_at: Timestamp, restored_at| Some(Restored { number: 1, backup_at, restored_at });
    *books.restored.lock().unwrap() = restored(NOW, NOW.plus(60));
    world.gateway.houses_look().await;
    assert_eq!(world.gateway.claim_all().await, 1);
    assert_eq!(said(&books), (before.0 + 1, before.1 + 1));
    let claim = Signed::<comity_wire::object::Claim>::decode(books.claims.lock().unwrap().last().unwrap()).unwrap();
    let lane = &claim.unverified().lanes[0];
    let newest = Signed::<Receipt>::decode(&lane.receipt).unwrap();
    assert_eq!((lane.settled_n, newest.id()), (None, second.id()), "from the beginning, with what was acknowledged");
    assert_eq!(claim.unverified().acknowledgements.len(), 1);
    assert_ne!(first.id(), second.id());
    let finals = books.finals.lock().unwrap().clone();
    assert_eq!(finals.first(), finals.last(), "signed once");

    // The same time is acted on once, also by a node that was started again; another time is another.
    world.gateway.houses_look().await;
    assert_eq!(world.gateway.claim_all().await, 0);
    *books.restored.lock().unwrap() = restored(NOW, NOW.plus(90));
    world.gateway.houses_look().await;
    assert_eq!(world.gateway.claim_all().await, 1);
    // Whose time was over before the backup was made: nothing of it is forgotten.
    *books.restored.lock().unwrap() = restored(NOW.plus(400 * 86_400), NOW.plus(401 * 86_400));
    world.gateway.houses_look().await;
    assert_eq!(world.gateway.claim_all().await, 0);
}

#[tokio::test]
async fn a_token_that_was_never_used_comes_home_too() {
    let (world, books) = with_books().await;
    let chain = world.mint(|_| {});
    let body = json!({"token": TOKEN}).to_string();
    let mut request = http::Request::post("/comity/v1/finals").header("comity-token", sf(&chain));
    for (name, value) in
        comity_token::sign_api("POST", "/comity/v1/finals", "", body.as_bytes(), NOW, [1; 16], &secret("holder"))
    {
        request = request.header(name, value);
    }
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let response = tower::ServiceExt::oneshot(world.gateway.router(), request).await.unwrap();
    assert_eq!(code(response).await, "ok");
    assert_eq!(books.finals.lock().unwrap().len(), 1);
    assert_eq!(world.code(&world.ask(&chain)).await, "closed");
}

/// A house that came back from a backup may not know of a token at all.
#[tokio::test]
async fn a_final_that_nobody_can_take_any_more_is_not_brought_for_ever_where_nothing_was_charged() {
    for charges in [0, 1] {
        let (world, books) = with_books().await;
        let chain = world.mint(|_| {});
        for seq in 1..=charges {
            ask(&world, &chain, seq).await;
        }
        *books.refuse.lock().unwrap() = Some(Some(Code::NotFound));
        let body = json!({"token": TOKEN}).to_string();
        let mut request = http::Request::post("/comity/v1/finals").header("comity-token", sf(&chain));
        for (name, value) in
            comity_token::sign_api("POST", "/comity/v1/finals", "", body.as_bytes(), NOW, [1; 16], &secret("holder"))
        {
            request = request.header(name, value);
        }
        let request = request.body(axum::body::Body::from(body)).unwrap();
        assert_eq!(code(world.gateway.router().oneshot(request).await.unwrap()).await, "ok");
        assert_eq!(world.gateway.claim_all().await, 0, "the house may learn of it until its time is over");
        let settle_by = world.token().terms.settle_by;
        world.clock.store(settle_by.plus(1).0, Ordering::SeqCst);
        *books.refuse.lock().unwrap() = Some(None);
        assert_eq!(world.gateway.claim_all().await, 0, "not to be reached is no answer");
        *books.refuse.lock().unwrap() = Some(Some(Code::NotFound));
        assert_eq!(world.gateway.claim_all().await, usize::from(charges == 0));
        let said = books.finals.lock().unwrap().len() + books.claims.lock().unwrap().len();
        assert_eq!(world.gateway.claim_all().await, 0);
        let more = books.finals.lock().unwrap().len() + books.claims.lock().unwrap().len() - said;
        assert_eq!(more, usize::from(charges > 0), "what was charged is claimed until it is answered");
    }
}

#[tokio::test]
async fn a_node_that_is_shown_its_own_newer_receipt_signs_nothing_more() {
    let old = World::new(Setting::default()).await;
    let chain = old.mint(|_| {});
    ask(&old, &chain, 1).await;
    let newer = ask(&old, &chain, 2).await;
    // Set back to before both.
    let world = World::new(Setting::default()).await;
    ask(&world, &chain, 1).await;
    let shown = json!({"receipt": comity_wire::api::clearing::SignedBytes::new(newer.bytes()).unwrap()});
    let forged = {
        let receipt = newer.object().clone();
        comity_wire::cose::sign(&receipt, &secret("thief")).bytes().to_vec()
    };
    let forged = json!({"receipt": comity_wire::api::clearing::SignedBytes::new(forged).unwrap()});
    let show = async |body: serde_json::Value| {
        code(world.call("POST", "/comity/v1/receipts", "", &body, &secret("anyone")).await).await
    };
    assert_eq!(show(forged).await, "wrong_key");
    assert_eq!(world.code(&world.ask(&chain).seq(3)).await, "ok");
    let known = ask(&world, &chain, 4).await;
    let known = json!({"receipt": comity_wire::api::clearing::SignedBytes::new(known.bytes()).unwrap()});
    assert_eq!(show(known).await, "ok");
    // n 2 is another receipt here: equivocation, were it to go on.
    assert_eq!(show(shown).await, "superseded");
    assert_eq!(world.code(&world.ask(&chain).seq(5)).await, "superseded");
}

#[tokio::test]
async fn an_acknowledgement_of_what_is_not_here_ends_nothing_and_work_is_charged_all_the_same() {
    let old = World::new(Setting::default()).await;
    let chain = old.mint(|_| {});
    let narrow = comity_token::Narrow {
        cap: Amount::from_ucr(1_000),
        expires_at: Timestamp(NOW.0 + 600),
        lanes: 1,
        depth: 0,
        models: Vec::new(),
        ops: Vec::new(),
        next: secret("student").public(),
    };
    let student = comity_token::delegate(&chain, &secret("holder"), narrow).unwrap();
    let by_student = |world: &World, seq| {
        let mut ask = world.ask(&student).seq(seq);
        ask.key = secret("student");
        ask
    };
    let (_, headers, _) = read(old.send(&by_student(&old, 1)).await).await;
    let lost = receipt(&headers);
    let world = World::new(Setting::default()).await;
    let mut ask = by_student(&world, 2);
    ask.acknowledgement = Some(acknowledge(&[&lost], &secret("student")));
    let (status, headers, _) = read(world.send(&ask).await).await;
    assert_eq!(status, 200, "it is no proof of ours, so it stops nothing");
    assert_eq!(receipt(&headers).seq, 2, "and the answer was charged");
    ask.acknowledgement = None;
    assert_eq!(world.code(&ask.seq(3)).await, "ok");
    assert_eq!(world.code(&world.ask(&chain)).await, "ok");
}

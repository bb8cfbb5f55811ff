//! The wallet against a node of a few lines, which can lie.

mod carried;
mod named;
mod receipts;

use comity_wire::cbor::{List, Text};
use comity_wire::merkle::Frontier;
use comity_wire::object::{
    AckLane, Basis, Confirmation, Demand, Ended, Final, Flags, IdText, Price, Rate, Scope, Step, Terms, Vetting,
};
use comity_wire::{Exact, Meter, Meters, OrgId, Pseudonym, Verified};

use super::*;
use comity_token::request::response_digest;

const NOW: Timestamp = Timestamp(1_000_000);
const NODE: NodeId = NodeId([9; 16]);
const BUDGET: Amount = Amount::from_ucr(1_000);
const PATH: &str = "/v1/chat/completions";

fn model() -> ModelId {
    "lab/tiny".parse().unwrap()
}

/// 3 µcr for a request and 0.5 µcr for each output token.
fn tariff() -> Tariff {
    let rate = |meter, ucr_per_million| {
        let steps = List::new(vec![Step { from: 0, ucr_per_million }]).unwrap();
        Rate { meter, steps }
    };
    let rates = List::new(vec![rate(Meter::Requests, 3_000_000), rate(Meter::OutputTokens, 500_000)]).unwrap();
    Tariff {
        org: OrgId([1; 16]),
        name: Text::new("t").unwrap(),
        version: 1,
        prices: List::new(vec![Price { op: Op::Chat, rates, minimum: Amount::ZERO }]).unwrap(),
        overhead_tokens: 16,
        output_bytes_per_token: 8,
        issued_at: NOW,
    }
}

fn holder() -> SecretKey {
    SecretKey::from_seed([5; 32])
}

fn token(id: u8, budget: Amount) -> Entry {
    let scope = Scope {
        model: model(),
        release: Digest([7; 32]),
        ops: List::new(vec![Op::Chat]).unwrap(),
        tariff: Digest([8; 32]),
    };
    let expires_at = NOW.plus(3600);
    let token = Token {
        issuer: IdText(OrgId([1; 16])),
        subject: Text::new(Pseudonym([2; 16]).to_string()).unwrap(),
        audience: IdText(NODE),
        expires_at,
        not_before: NOW,
        issued_at: NOW,
        id: TokenId([id; 16]),
        holder: Confirmation(holder().public()),
        terms: Terms {
            roster_version: 1,
            scope: List::new(vec![scope]).unwrap(),
            budget,
            vetting: Vetting::Registered,
            purposes: List::default(),
            window: budget,
            lanes_max: 2,
            longest_op_s: 60,
            settle_by: expires_at.plus(60 + Token::SETTLE_S_MIN),
            depth: 4,
            grants: List::default(),
        },
    };
    let token = cose::sign(&token, &SecretKey::from_seed([1; 32]));
    let chain = Chain { token: token.bytes().to_vec(), blocks: Vec::new() };
    Entry::Token { chain: stored(&chain.to_bytes()), seed: stored(&*holder().seed()), cap: Amount::MAX }
}

fn wallet() -> Wallet {
    Wallet::replay([token(1, BUDGET)]).unwrap()
}

const TOKEN: TokenId = TokenId([1; 16]);

fn ask<'a>(model: &'a ModelId, body: &'a [u8], max: u32) -> Ask<'a> {
    let (tariff, max_charge) = (Digest([8; 32]), Amount::from_ucr(max));
    Ask { method: "POST", path: PATH, query: "", body, model, op: Op::Chat, tariff, max_charge, key: None }
}

fn begin(wallet: &mut Wallet, body: &[u8], max: u32) -> Begun {
    let begun = wallet.begin(TOKEN, &ask(&model(), body, max), NOW).unwrap();
    wallet.apply(begun.entry.as_ref().unwrap()).unwrap();
    begun
}

fn named<'a>(model: &'a ModelId, body: &'a [u8], key: &str) -> Ask<'a> {
    Ask { key: Some(Key::of_caller(key.as_bytes(), NOW)), ..ask(model, body, 100) }
}

fn begin_named(wallet: &mut Wallet, body: &[u8], key: &str) -> Begun {
    let begun = wallet.begin(TOKEN, &named(&model(), body, key), NOW).unwrap();
    wallet.apply(begun.entry.as_ref().unwrap()).unwrap();
    begun
}

/// The node's side of one lane.
struct Node {
    lane: u16,
    n: u64,
    exact: Exact,
    meters: Meters,
    history: Frontier,
}

impl Node {
    fn of(begun: &Begun) -> Self {
        Self { lane: begun.lane, n: 0, exact: Exact(0), meters: Meters::default(), history: Frontier::default() }
    }

    /// An honest receipt for what was begun, with this many output tokens; `change` may make it a lie.
    fn receipt(&mut self, open: &Open, output: u64, change: impl FnOnce(&mut Receipt)) -> Verified<Receipt> {
        let meters = Meters::default()
            .with(Meter::Requests, 1)
            .with(Meter::InputBytes, open.input_bytes)
            .with(Meter::OutputTokens, output);
        let before = self.exact.ceil().unwrap();
        self.exact = self.exact.checked_add(tariff().exact(Op::Chat, &meters).unwrap()).unwrap();
        self.meters = self.meters.checked_add(&meters).unwrap();
        self.n += 1;
        let total = self.exact.ceil().unwrap();
        let mut receipt = Receipt {
            token: TOKEN,
            leaf: wallet().purse(TOKEN).unwrap().leaf(),
            lane: self.lane,
            seq: open.seq,
            item: 0,
            n: self.n,
            charge: total.checked_sub(before).unwrap(),
            total,
            remainder: u32::try_from(Exact::from_amount(total).0 - self.exact.0).unwrap(),
            meters,
            meters_total: self.meters,
            flags: Flags::default(),
            flags_total: Flags::default(),
            bytes_out: None,
            rank: None,
            basis: Basis::Upstream,
            ended: Ended::Stop,
            request: open.request,
            response: Digest([0; 32]),
            release: Digest([7; 32]),
            manifest: Digest([3; 32]),
            tariff: open.tariff,
            history: self.history.root(),
            standing: 1,
            node: NODE,
            at: NOW,
            restore: 0,
            authority: open.authority,
            model: open.model.clone(),
            op: open.op,
        };
        change(&mut receipt);
        let receipt = cose::sign(&receipt, &SecretKey::from_seed([4; 32]));
        self.history.push(&receipt.id());
        receipt
    }
}

fn open(begun: &Begun) -> Open {
    match &begun.entry {
        Some(Entry::Signed { open, .. }) => open.clone(),
        other => panic!("a new request was expected, not {other:?}"),
    }
}

fn take(wallet: &mut Wallet, lane: u16, receipt: &Verified<Receipt>) {
    wallet.purse(TOKEN).unwrap().check(lane, receipt, &tariff()).unwrap();
    wallet.apply(&Entry::Receipt { token: TOKEN, lane, receipt: stored(receipt.bytes()) }).unwrap();
}

#[test]
fn a_retry_after_a_crash_is_the_same_request() {
    let model = model();
    let mut wallet = wallet();
    let begun = begin(&mut wallet, b"question", 100);
    let place = |wallet: &Wallet, ask: Ask<'_>, under_way: &UnderWay, now| wallet.place(&ask, under_way, now).unwrap();
    let nothing = UnderWay::default();
    let Place::Unknown(retry) = place(&wallet, ask(&model, b"question", 100), &nothing, NOW) else {
        panic!("in doubt")
    };
    assert_eq!(retry.authority.id(), begun.authority.id());
    assert_eq!((retry.token, retry.lane, retry.entry), (TOKEN, begun.lane, None));
    // Another question, a lane whose call is still under way, the same words on another route: another request.
    let elsewhere = Ask { path: "/v1/completions", ..ask(&model, b"question", 100) };
    let here = UnderWay::from([(TOKEN, begun.lane)]);
    for (ask, under_way) in [
        (ask(&model, b"question?", 100), &nothing),
        (ask(&model, b"Question", 100), &nothing),
        (ask(&model, b"question", 100), &here),
        (elsewhere, &nothing),
    ] {
        assert!(matches!(place(&wallet, ask, under_way, NOW), Place::New));
    }
    // What may have been charged is known before another is signed, whatever the caller lets it cost by now and whichever token
    // there is by then: as long as its node may be paid for it.
    let is_doubt = |place: Place| matches!(place, Place::Doubt { token: TOKEN, lane } if lane == begun.lane);
    assert!(is_doubt(place(&wallet, ask(&model, b"question", 99), &nothing, NOW)), "a lower limit");
    let settle_by = wallet.purse(TOKEN).unwrap().token().terms.settle_by;
    for late in [NOW.plus(3600), Timestamp(settle_by.seconds() - 1)] {
        assert!(is_doubt(place(&wallet, ask(&model, b"question", 100), &nothing, late)), "its token has ended");
    }
    assert!(matches!(place(&wallet, ask(&model, b"question", 100), &nothing, settle_by), Place::New));
    wallet.apply(&Entry::Ended { token: TOKEN }).unwrap();
    assert!(is_doubt(place(&wallet, ask(&model, b"question", 100), &nothing, NOW)), "its node takes nothing more");
    wallet.apply(&Entry::Free { token: TOKEN, lane: begun.lane, seq: 1 }).unwrap();
    assert!(matches!(place(&wallet, ask(&model, b"question", 100), &nothing, NOW), Place::New));
}

/// Design §7: a call that names no limit signs a quarter of what is free at most, so that many at once leave room for one
/// another until next to nothing is left.
#[test]
fn eight_at_once_without_limits_are_refused_nothing_until_next_to_all_is_spent() {
    const LANES: u16 = 8;
    let budget = 20_000;
    let mut entry = token(1, Amount::from_ucr(budget));
    if let Entry::Token { chain, .. } = &mut entry {
        let parts = Chain::from_bytes(chain).unwrap();
        let mut token = Signed::<Token>::decode(&parts.token).unwrap().unverified().clone();
        token.terms.lanes_max = LANES;
        let token = cose::sign(&token, &SecretKey::from_seed([1; 32]));
        *chain = stored(&Chain { token: token.bytes().to_vec(), blocks: Vec::new() }.to_bytes());
    }
    let mut wallet = Wallet::replay([entry]).unwrap();
    let (leaf, tariff) = (wallet.purse(TOKEN).unwrap().leaf(), tariff());
    let ask_for = |output_tokens| Demand { op: Op::Chat, input_bytes: 2, choices: 1, output_tokens };
    let worst_of = |output_tokens| tariff.worst_case(&ask_for(output_tokens)).unwrap();
    let (worst, ceiling, least) = (worst_of(4_000), Amount::from_ucr(1_500), worst_of(1));
    let mut nodes: BTreeMap<u16, Node> = BTreeMap::new();
    let mut running: Vec<(u16, Open)> = Vec::new();
    let mut chance: u64 = 0x5EED;
    let spent = loop {
        while running.len() < usize::from(LANES) {
            let purse = wallet.purse(TOKEN).unwrap();
            let max = purse.small_maximum(worst, ceiling, least);
            if max < least {
                break;
            }
            let begun = begin(&mut wallet, b"hi", u32::try_from(max.ucr()).unwrap());
            nodes.entry(begun.lane).or_insert_with(|| Node::of(&begun));
            running.push((begun.lane, open(&begun)));
        }
        if running.len() < usize::from(LANES) {
            break wallet.purse(TOKEN).unwrap().spent();
        }
        // One of them ends, with a tenth to all of what it may say.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (lane, open) = running.remove(usize::try_from(chance >> 33).unwrap() % running.len());
        let pays = tariff.affordable_output(&ask_for(4_000), open.max_charge).unwrap();
        let said = (pays / 10).max(1) + (chance >> 40) % (pays - (pays / 10).max(1) + 1);
        let receipt = nodes.get_mut(&lane).unwrap().receipt(&open, said, |receipt| receipt.leaf = leaf);
        wallet.purse(TOKEN).unwrap().check(lane, &receipt, &tariff).unwrap();
        wallet.apply(&Entry::Receipt { token: TOKEN, lane, receipt: stored(receipt.bytes()) }).unwrap();
    };
    assert!(spent.ucr() * 100 >= i64::from(budget) * 95, "refused after {spent} of {budget} µcr");
}

#[test]
fn what_is_in_doubt_is_not_spent_twice() {
    let model = model();
    let mut wallet = wallet();
    begin(&mut wallet, b"one", 600);
    assert_eq!(wallet.purse(TOKEN).unwrap().free(), Amount::from_ucr(400));
    let refused = wallet.begin(TOKEN, &ask(&model, b"two", 401), NOW);
    assert!(matches!(refused, Err(WalletError::Budget { .. })));
    begin(&mut wallet, b"two", 400);
    assert!(matches!(wallet.begin(TOKEN, &ask(&model, b"three", 0), NOW), Err(WalletError::LanesBusy(2))));
}

#[test]
fn what_was_drawn_counts_until_it_can_no_longer_be_spent() {
    let mut wallet = wallet();
    let begun = begin(&mut wallet, b"one", 100);
    let receipt = Node::of(&begun).receipt(&open(&begun), 1, |_| {});
    take(&mut wallet, begun.lane, &receipt);
    begin(&mut wallet, b"two", 50);
    assert_eq!(wallet.drawn(NOW), BUDGET);
    // Expired: what was charged, and what may have been.
    assert_eq!(wallet.drawn(NOW.plus(3600 + 60)), Amount::from_ucr(4 + 50));
    wallet.apply(&Entry::Closed { token: TOKEN }).unwrap();
    assert_eq!(wallet.drawn(NOW), Amount::from_ucr(4));
    let pending = Pending {
        node: NODE,
        model: model(),
        seed: stored(&[6; 32]),
        quote: stored(b"quote"),
        budget: Amount::from_ucr(700),
        valid_s: 60,
        depth: 0,
        grants: Vec::new(),
        mandate: None,
        at: NOW,
    };
    let id = TokenId([2; 16]);
    wallet.apply(&Entry::Reserving { id, pending }).unwrap();
    assert_eq!(wallet.drawn(NOW), Amount::from_ucr(704), "what was asked for may be set aside");
    let over = wallet.pending().next().unwrap().1.over_at();
    assert_eq!(wallet.drawn(over.minus(1)), Amount::from_ucr(704));
    assert_eq!(wallet.drawn(over), Amount::from_ucr(4), "nothing can be spent of it, whatever the house did");
    let given_up = over.plus(7 * 24 * 3600);
    let pending = |now| Wallet::replay(wallet.carried(now)).unwrap().pending().count();
    assert_eq!((pending(given_up.minus(1)), pending(given_up)), (1, 0), "it does not stay for ever");
    wallet.apply(&token(2, Amount::from_ucr(700))).unwrap();
    assert_eq!(wallet.pending().count(), 0, "it came");
    assert_eq!(wallet.drawn(NOW), Amount::from_ucr(704));
}

/// Hands a part of the token on; gives what is written down.
fn delegate(wallet: &mut Wallet, cap: u32, until: Timestamp) -> Entry {
    let narrow = comity_token::Narrow {
        cap: Amount::from_ucr(cap),
        expires_at: until,
        lanes: 1,
        depth: 0,
        models: Vec::new(),
        ops: Vec::new(),
        next: SecretKey::from_seed([7; 32]).public(),
    };
    let purse = wallet.purse(TOKEN).unwrap();
    let chain = comity_token::delegate(purse.chain(), purse.key(), narrow).unwrap();
    let entry = purse.delegating(&chain, NOW).unwrap();
    wallet.apply(&entry).unwrap();
    entry
}

#[test]
fn a_token_is_not_ended_by_itself_while_somebody_may_be_at_work_under_a_part_of_it() {
    let mut wallet = wallet();
    let until = |wallet: &Wallet, now| wallet.purse(TOKEN).unwrap().delegated_until(now);
    assert_eq!(until(&wallet, NOW), None);
    let (early, late) = (NOW.plus(100), NOW.plus(200));
    let entry = delegate(&mut wallet, 30, late);
    delegate(&mut wallet, 40, early);
    // What is admitted in the last second may run for a minute.
    let over = late.plus(60);
    assert_eq!(until(&wallet, NOW), Some(over), "the last of them");
    assert_eq!(until(&wallet, over.minus(1)), Some(over));
    assert_eq!(until(&wallet, over), None);
    assert_eq!(wallet.purse(TOKEN).unwrap().delegated(), Amount::from_ucr(70));
    assert!(wallet.new_of(vec![entry.clone()]).is_empty(), "it is known");
    assert_eq!(
        super::Wallet::replay([token(1, BUDGET)]).unwrap().new_of(vec![entry.clone()]),
        std::slice::from_ref(&entry)
    );
    assert!(Wallet::default().new_of(vec![entry]).is_empty(), "of no token that is here");
    let again = Wallet::replay(wallet.carried(NOW)).unwrap();
    assert_eq!(until(&again, NOW), Some(over), "also once the journal began anew");

    let purse = wallet.purse(TOKEN).unwrap();
    assert!(matches!(purse.delegating(purse.chain(), NOW), Err(WalletError::Journal)), "nothing was handed on");
    assert!(matches!(purse.delegating(purse.chain(), purse.expires_at()), Err(WalletError::Ended)));
    wallet.apply(&Entry::Ended { token: TOKEN }).unwrap();
    assert_eq!(until(&wallet, NOW), None, "it was taken back: its final is still to be had");
}

#[test]
fn what_others_spend_of_a_token_counts_for_the_limit_of_whoever_drew_it() {
    let mut wallet = wallet();
    let begun = begin(&mut wallet, b"one", 100);
    let receipt = Node::of(&begun).receipt(&open(&begun), 1, |_| {});
    take(&mut wallet, begun.lane, &receipt);
    let own = Amount::from_ucr(4);
    delegate(&mut wallet, 300, NOW.plus(200));
    delegate(&mut wallet, 200, NOW.plus(100));
    assert_eq!(wallet.drawn(NOW), BUDGET);
    // Expired, and nobody knows what they spent: all that they might have.
    let after = NOW.plus(3600 + 60);
    assert_eq!(wallet.drawn(after), Amount::from_ucr(504));
    delegate(&mut wallet, 900, NOW.plus(300));
    assert_eq!(wallet.drawn(after), BUDGET, "its node lets nobody go beyond");
    let anew = |wallet: &Wallet| Wallet::replay(wallet.carried(after)).unwrap().drawn(after);
    assert_eq!(anew(&wallet), BUDGET);
    // An exported wallet does not know it either.
    wallet.apply(&Entry::Closed { token: TOKEN }).unwrap();
    assert_eq!(wallet.drawn(after), BUDGET);

    // The final says it of every leaf.
    let purse = wallet.purse(TOKEN).unwrap();
    let head =
        |leaf, lane, total| AckLane { leaf, lane, n: 1, total: Amount::from_ucr(total), receipt: Digest([4; 32]) };
    let said = |lanes| Final { token: TOKEN, node: NODE, lanes: List::new(lanes).unwrap(), at: NOW };
    let lanes = vec![head(purse.leaf(), 0, 4), head(Digest([2; 32]), 0, 70), head(Digest([3; 32]), 1, 5)];
    let entry = purse.spent_by_others(&said(lanes.clone())).unwrap();
    let alone = super::Wallet::replay([token(1, BUDGET)]).unwrap();
    let told = alone.purse(TOKEN).unwrap().spent_by_others(&said(lanes));
    assert_eq!(told.as_ref(), Some(&entry), "also of what was handed on by a program from before");
    assert_eq!(alone.purse(TOKEN).unwrap().spent_by_others(&said(vec![head(purse.leaf(), 0, 4)])), None);
    wallet.apply(&entry).unwrap();
    let drawn = own.saturating_add(Amount::from_ucr(75));
    assert_eq!((wallet.drawn(after), anew(&wallet)), (drawn, drawn));
    // Once it has left, too.
    let late = wallet.purse(TOKEN).unwrap().token().terms.settle_by.plus(8 * 24 * 3600);
    let left = Wallet::replay(wallet.carried(late)).unwrap();
    assert_eq!((left.purses().count(), left.drawn(late)), (0, drawn));
}

#[test]
fn a_token_with_room_and_an_idle_lane_comes_first() {
    let model = model();
    let mut wallet = Wallet::replay([token(1, BUDGET), token(2, Amount::from_ucr(500))]).unwrap();
    let chosen = |wallet: &Wallet, needed| {
        wallet
            .purse_for(NODE, &model, Op::Chat, Amount::from_ucr(needed), &Naming::default(), NOW)
            .unwrap()
            .unwrap()
            .id()
    };
    assert_eq!(chosen(&wallet, 100), TOKEN);
    begin(&mut wallet, b"one", 10);
    begin(&mut wallet, b"two", 10);
    assert_eq!(chosen(&wallet, 100), TokenId([2; 16]), "both lanes of the first are busy");
    assert_eq!(chosen(&wallet, 600), TOKEN, "the second has no room");
}

#[test]
fn a_day_counts_what_was_signed_on_it_whatever_its_receipt_says() {
    let (mut wallet, tomorrow) = (wallet(), NOW.plus(86_400));
    let first = begin(&mut wallet, b"one", 100);
    assert_eq!(wallet.today(NOW), Amount::from_ucr(100), "what is open counts at its maximum");
    assert_eq!(wallet.today(tomorrow), Amount::ZERO);
    let mut node = Node::of(&first);
    // A node that dates its receipts wrongly moves nothing into another day.
    let receipt = node.receipt(&open(&first), 4, |receipt| receipt.at = tomorrow);
    take(&mut wallet, first.lane, &receipt);
    assert_eq!((wallet.today(NOW), wallet.today(tomorrow)), (receipt.charge, Amount::ZERO));
    let second = begin(&mut wallet, b"two", 50);
    assert_eq!(wallet.today(NOW), receipt.charge.checked_add(Amount::from_ucr(50)).unwrap());
    wallet.apply(&Entry::Free { token: TOKEN, lane: second.lane, seq: second.authority.seq }).unwrap();
    assert_eq!(wallet.today(NOW), receipt.charge);
}

#[test]
fn a_token_that_pins_another_release_is_not_taken() {
    let (wallet, model) = (wallet(), model());
    let with = |release: u8| {
        let names = Naming { release: Some(Digest([release; 32])), ..Naming::default() };
        wallet.purse_for(NODE, &model, Op::Chat, Amount::ZERO, &names, NOW).unwrap().map(Purse::id)
    };
    assert_eq!((with(7), with(8)), (Some(TOKEN), None), "the token pins release 7");
}

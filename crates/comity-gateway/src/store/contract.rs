//! What every store must do, run on each.

mod on_sqlite;

use std::sync::Arc;

use comity_guard::Category;
use comity_guard::volume::{Counted, Delta};
use comity_scratch::{Database, Kept};
use comity_wire::cbor::{List, Text};
use comity_wire::merkle::Frontier;
use comity_wire::object::{Chain, Confirmation, CreditReason, Flags, IdText, Scope, Terms, Tier, Token, Vetting};
use comity_wire::{
    Amount, CreditNoteId, Digest, GrantId, Meter, Meters, NodeId, Op, OrgId, SecretKey, Timestamp, TokenId, cose,
};

use super::agreed::Agreed;
use super::credited::{HouseSaid, Noted};
use super::granted::{Given, GrantSaid};
use super::kept::{Kept as _, TextHome};
use super::passes::{Pass, PassSaid};
use super::stops::{Running, SaidAct, Stop, Target, Word};
use super::{Memory, Postgres, Sqlite, Store, StoreError, Suspension};
use crate::spend::{Charged, Evidence, Lane, LaneKey, Pace, PaceKey, Rule, RunKey, RunRow, Slot, Volume, Write};

const TOKEN: TokenId = TokenId([1; 16]);
const ROOT: Digest = Digest([2; 32]);
const KEY: LaneKey = LaneKey { leaf: ROOT, lane: 3 };

fn lane(n: u64, highest: u64) -> Lane {
    let mut lane = Lane { n, seq_highest: highest, total: Amount::from_ucr(10), remainder: 7, ..Lane::default() };
    lane.meters = Meters::default().with(Meter::Requests, n);
    lane.flags = Flags([(2, 5)].into());
    let mut frontier = Frontier::default();
    (1..=n).for_each(|n| frontier.push(&id(n)));
    lane.frontier = frontier;
    lane
}

fn id(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

fn charge(n: u64, seq: u64) -> Vec<Write> {
    let charged = Charged { authority: id(seq + 1_000), n, total: Amount::from_ucr(10), receipt: id(n) };
    let mut lane = lane(n, seq);
    lane.claimed_n = n.min(1);
    vec![
        Write::Token { token: TOKEN, root: ROOT },
        Write::Chain { token: TOKEN, leaf: ROOT, bytes: Arc::from(&b"chain"[..]) },
        Write::Spent { token: TOKEN, id: ROOT, amount: Amount::from_ucr(10), cap: Amount::from_ucr(10) },
        Write::Lane { token: TOKEN, key: KEY, lane: Arc::new(lane) },
        Write::Charge {
            token: TOKEN,
            key: KEY,
            slot: Slot { seq, item: 0 },
            charged,
            charge: Amount::from_ucr(1),
            receipt: format!("receipt {n}").into_bytes(),
            evidence: Evidence { base: format!("base {n}"), signature: [9; 64] },
        },
    ]
}

/// A window is one row, of one project; those that have ended can be dropped.
async fn windows_read_back(store: &dyn Store) {
    let rule = |op| Rule { policy: "tiny".into(), tier: Tier::Registered, op };
    let write = |subject: &str, op, seconds, begun, requests| Write::Pace {
        key: PaceKey { subject: subject.into(), rule: rule(op), seconds },
        pace: Pace { begun: Timestamp(begun), requests, tokens: 1 << 40 },
    };
    let rows = [
        write("a", None, 60, 100, 1),
        write("a", Some(Op::Chat), 60, 100, 2),
        write("a", Some(Op::Chat), 3_600, 100, 3),
        write("b", None, 60, 100, 4),
        write("a", None, 60, 200, 5),
    ];
    store.write(&rows).await.unwrap();
    let paces = async |subject| {
        let mut rows = store.paces(subject).await.unwrap();
        rows.sort_by_key(|(rule, seconds, _)| (rule.clone(), *seconds));
        rows.into_iter()
            .map(|(rule, seconds, pace)| (rule.op, seconds, pace.begun.0, pace.requests))
            .collect::<Vec<_>>()
    };
    assert_eq!(paces("a").await, [(None, 60, 200, 5), (Some(Op::Chat), 60, 100, 2), (Some(Op::Chat), 3_600, 100, 3)]);
    assert_eq!(store.paces("b").await.unwrap()[0].2.tokens, 1 << 40);
    store.paces_forget(Timestamp(160)).await.unwrap();
    assert_eq!(paces("a").await, [(None, 60, 200, 5), (Some(Op::Chat), 3_600, 100, 3)]);
    assert_eq!(paces("b").await, []);
}

/// Of each slot that was asked about the latest time counts; what is stale anyway can be dropped.
async fn slots_that_were_asked_about_read_back(store: &dyn Store) {
    let (token, root) = (TokenId([61; 16]), id(61));
    let key = |lane| LaneKey { leaf: root, lane };
    let slot = |seq| Slot { seq, item: 0 };
    let asked = |lane, seq, at| Write::Asked { token, key: key(lane), slot: slot(seq), created: Timestamp(at) };
    let rows = [Write::Token { token, root }, asked(0, 1, 100), asked(0, 2, 300), asked(1, 1, 200), asked(0, 2, 250)];
    store.write(&rows).await.unwrap();
    let read = async || {
        let account = store.account(token).await.unwrap().unwrap();
        account.asked.into_iter().map(|((key, slot), at)| (key.lane, slot.seq, at.0)).collect::<Vec<_>>()
    };
    assert_eq!(read().await, [(0, 1, 100), (0, 2, 300), (1, 1, 200)]);
    store.asked_forget(Timestamp(200)).await.unwrap();
    assert_eq!(read().await, [(0, 2, 300), (1, 1, 200)]);
}

/// What an execution used of an op is one row; those under grants that ended long ago can be dropped. Plans are kept by digest.
async fn plans_and_executions_read_back(store: &dyn Store) {
    let write = |subject: &str, run: &str, op, calls, until| Write::Run {
        key: RunKey { subject: subject.into(), grant: GrantId([7; 16]), run: run.parse().unwrap(), op },
        row: RunRow {
            begun: Timestamp(100),
            until: Timestamp(until),
            used: Volume { calls, input_tokens: 1 << 40, output_tokens: 3 },
        },
    };
    let rows = [
        write("a", "one", Op::Chat, 1, 500),
        write("a", "one", Op::Logprobs, 1, 500),
        write("a", "two", Op::Chat, 9, 900),
        write("b", "one", Op::Chat, 1, 500),
        write("a", "one", Op::Chat, 2, 500),
    ];
    store.write(&rows).await.unwrap();
    let runs = async |subject| {
        let mut rows = store.runs(subject).await.unwrap();
        rows.sort_by(|one, next| one.0.cmp(&next.0));
        rows.into_iter().map(|(key, row)| (key.run.to_string(), key.op, row.used.calls)).collect::<Vec<_>>()
    };
    let row = |run: &str, op, calls| (run.to_owned(), op, calls);
    let all = [row("one", Op::Chat, 2), row("one", Op::Logprobs, 1), row("two", Op::Chat, 9)];
    assert_eq!(runs("a").await, all);
    let (key, read) = &store.runs("b").await.unwrap()[0];
    assert_eq!((key.grant, read.begun, read.until), (GrantId([7; 16]), Timestamp(100), Timestamp(500)));
    assert_eq!(read.used, Volume { calls: 1, input_tokens: 1 << 40, output_tokens: 3 });
    store.runs_forget(Timestamp(501)).await.unwrap();
    assert_eq!((runs("a").await, runs("b").await), (vec![row("two", Op::Chat, 9)], vec![]));
    for (number, at) in [(2, 20), (1, 30), (2, 40)] {
        store.plan_put(id(number), vec![u8::try_from(number).unwrap()], Timestamp(at)).await.unwrap();
    }
    assert_eq!(store.plans().await.unwrap(), [vec![2], vec![1]]);
}

/// A project agrees once to a text; what was agreed to stays, with what proves it.
async fn keeps_agreements(store: &dyn Store) {
    let agreed = |subject: &str, terms, word: u8, at| Agreed {
        subject: subject.into(),
        terms: id(terms),
        bytes: vec![word],
        token: vec![word, word],
        at: Timestamp(at),
    };
    for (number, at) in [(2, 20), (1, 30), (2, 40)] {
        store.terms_put(id(number), vec![u8::try_from(number).unwrap()], Timestamp(at)).await.unwrap();
    }
    assert_eq!(store.terms().await.unwrap(), [vec![2], vec![1]]);
    assert!(store.agreements_of("a").await.unwrap().is_empty());
    for agreed in [agreed("a", 1, 1, 10), agreed("a", 2, 2, 30), agreed("b", 1, 3, 20), agreed("a", 1, 9, 90)] {
        store.agreement_put(agreed).await.unwrap();
    }
    assert_eq!(store.agreements_of("a").await.unwrap(), [agreed("a", 2, 2, 30), agreed("a", 1, 1, 10)]);
    let short = |subject: &str, terms, at| (subject.to_owned(), id(terms), Timestamp(at));
    assert_eq!(store.agreements().await.unwrap(), [short("a", 1, 10), short("b", 1, 20), short("a", 2, 30)]);
}

/// Counts add up by hour; the first suspension of a project stays until it is ended.
async fn remembers_what_the_guard_saw(store: &dyn Store) {
    let flags = Counted::Flags(Category::Cbrn);
    let delta = |project: &str, counted, hour, count| Delta { project: project.into(), counted, hour, count };
    store
        .volume_add(&[delta("a", flags, 100, 2), delta("a", Counted::Templated, 100, 1), delta("b", flags, 100, 9)])
        .await
        .unwrap();
    store.volume_add(&[delta("a", flags, 101, 4), delta("a", flags, 100, 3)]).await.unwrap();
    let volume = async |project, from| {
        let mut rows = store.volume(project, from).await.unwrap();
        rows.sort_unstable();
        rows
    };
    assert_eq!(volume("a", 100).await, [(flags, 100, 5), (flags, 101, 4), (Counted::Templated, 100, 1)]);
    assert_eq!(volume("a", 101).await, [(flags, 101, 4)]);
    store.volume_forget(101).await.unwrap();
    assert_eq!((volume("a", 0).await, volume("b", 0).await), (vec![(flags, 101, 4)], vec![]));

    let suspension = |at, rule: &str| Suspension {
        subject: "a".into(),
        category: Category::Cbrn,
        rule: rule.into(),
        at: Timestamp(at),
    };
    assert_eq!(store.suspensions().await.unwrap(), []);
    for (at, rule) in [(5, "cbrn/weapon-wish"), (9, "linear/cbrn")] {
        store.suspension_put(&suspension(at, rule)).await.unwrap();
    }
    assert_eq!(store.suspensions().await.unwrap(), [suspension(5, "cbrn/weapon-wish")]);
    assert!(store.suspension_end("a", None).await.unwrap() && !store.suspension_end("a", None).await.unwrap());
    assert_eq!(store.suspensions().await.unwrap(), []);
}

/// The first word on a target stays until it is resumed, each act is a line of the log, and a resumed target is not stopped.
async fn remembers_what_was_stopped(store: &dyn Store) {
    let word =
        |author: &str, at| Word { author: author.into(), reason: format!("{author} said so"), at: Timestamp(at) };
    let stop = |target: &Target, running, word| Stop { target: target.clone(), running, word };
    let model = Target::Model("lab/m".parse().unwrap());
    let project = Target::Project("sub-a".into());
    assert_eq!((store.stops().await.unwrap(), store.stop_log(9).await.unwrap()), (vec![], vec![]));
    assert_eq!(store.stop_end(&model, &word("eve", 1)).await.unwrap(), None, "there is nothing to resume");
    let first = stop(&model, Running::Finishes, word("ada", 2));
    assert_eq!(store.stop_put(&first).await.unwrap(), first);
    let stands = store.stop_put(&stop(&model, Running::Ends, word("bob", 3))).await.unwrap();
    assert_eq!(stands, stop(&model, Running::Ends, word("ada", 2)));
    let again = store.stop_put(&stop(&model, Running::Finishes, word("bob", 4))).await.unwrap();
    assert_eq!(again.running, Running::Ends, "what was ended is not begun again");
    store.stop_put(&stop(&Target::Node, Running::Finishes, word("ada", 5))).await.unwrap();
    store.stop_put(&stop(&project, Running::Finishes, word("ada", 6))).await.unwrap();
    let targets = async || store.stops().await.unwrap().into_iter().map(|stop| stop.target).collect::<Vec<_>>();
    assert_eq!(targets().await, [Target::Node, model.clone(), project.clone()]);
    assert_eq!(store.stop_end(&model, &word("eve", 7)).await.unwrap(), Some(stands));
    assert_eq!(store.stop_end(&model, &word("eve", 8)).await.unwrap(), None);
    assert_eq!(targets().await, [Target::Node, project.clone()]);
    let log = store.stop_log(9).await.unwrap();
    let said: Vec<_> = log.iter().map(|said| (said.n, said.act, &said.target, said.word.author.as_str())).collect();
    assert_eq!(
        said,
        [
            (6, SaidAct::Resumed, &model, "eve"),
            (5, SaidAct::Stopped, &project, "ada"),
            (4, SaidAct::Stopped, &Target::Node, "ada"),
            (3, SaidAct::Stopped, &model, "bob"),
            (2, SaidAct::StoppedNow, &model, "bob"),
            (1, SaidAct::Stopped, &model, "ada"),
        ]
    );
    assert_eq!((log[0].word.clone(), store.stop_log(2).await.unwrap()), (word("eve", 7), log[..2].to_vec()));
}

/// What was written is read back, whole.
async fn reads_back(store: &dyn Store) {
    assert_eq!(store.account(TOKEN).await.unwrap(), None);
    for (n, seq) in [(1, 1), (2, 40), (3, 100), (4, 99)] {
        store.write(&charge(n, seq)).await.unwrap();
    }
    let account = store.account(TOKEN).await.unwrap().unwrap();
    assert_eq!((account.root, account.spent(&ROOT)), (ROOT, Amount::from_ucr(10)));
    let lane = &account.lanes[&KEY];
    assert_eq!((lane.n, lane.remainder, lane.frontier.root()), (4, 7, self::lane(4, 1).frontier.root()));
    assert_eq!((&lane.flags, lane.meters.get(Meter::Requests)), (&Flags([(2, 5)].into()), 4));
    let slot = Slot { seq: 1, item: 0 };
    let first = store.charge(TOKEN, KEY, slot).await.unwrap().unwrap();
    assert_eq!((first.charged.n, &first.receipt[..], &first.evidence.base[..]), (1, &b"receipt 1"[..], "base 1"));
    assert_eq!(store.charge_by_n(TOKEN, KEY, 1).await.unwrap(), Some(first));
    assert_eq!(store.charge(TOKEN, KEY, Slot { seq: 2, item: 0 }).await.unwrap(), None);
    assert_eq!(store.history(TOKEN, KEY, 3).await.unwrap(), [id(1), id(2), id(3)]);
    assert_eq!(store.chain(ROOT).await.unwrap().unwrap(), b"chain");
    assert_eq!(store.chains(TOKEN).await.unwrap(), [(ROOT, b"chain".to_vec())]);
    assert_eq!(store.tokens_due().await.unwrap(), [TOKEN]);
}

async fn keeps_what_ends_a_token(store: &dyn Store) {
    store.write(&charge(1, 1)).await.unwrap();
    assert!(store.tokens_due().await.unwrap().is_empty());
    let ack = id(7);
    let writes = [
        Write::Acknowledgement { token: TOKEN, id: ack, bytes: b"ack".to_vec() },
        Write::Lane {
            token: TOKEN,
            key: KEY,
            lane: Arc::new(Lane { acknowledgement: Some(ack), claimed_n: 1, ..lane(1, 1) }),
        },
        Write::Closed { token: TOKEN },
        Write::Final { token: TOKEN, bytes: b"final".to_vec() },
        Write::Superseded { token: TOKEN, at: ROOT },
        Write::Claim { token: TOKEN, number: 3, pending: Some(b"claim".to_vec()) },
    ];
    store.write(&writes).await.unwrap();
    let account = store.account(TOKEN).await.unwrap().unwrap();
    assert!(account.closed && account.superseded.contains(&ROOT));
    assert_eq!((account.final_.as_deref(), account.claims), (Some(&b"final"[..]), 3));
    assert_eq!(account.pending.as_deref(), Some(&b"claim"[..]));
    assert_eq!(store.acknowledgement(TOKEN, ack).await.unwrap().unwrap(), b"ack");
    assert_eq!(store.tokens_due().await.unwrap(), [TOKEN]);
    store.write(&[Write::Claim { token: TOKEN, number: 3, pending: None }]).await.unwrap();
    assert!(!store.is_final_delivered(TOKEN).await.unwrap());
    store.final_delivered(TOKEN).await.unwrap();
    assert!(store.is_final_delivered(TOKEN).await.unwrap());
    assert!(store.tokens_due().await.unwrap().is_empty());
    // The house forgot it.
    assert_eq!(store.tokens().await.unwrap(), [TOKEN]);
    store.final_forgotten(TOKEN).await.unwrap();
    assert!(!store.is_final_delivered(TOKEN).await.unwrap());
    assert_eq!(store.tokens_due().await.unwrap(), [TOKEN]);
}

async fn remembers_when_a_house_came_back_from_a_backup(store: &dyn Store) {
    let (house, other) = (OrgId([1; 16]), OrgId([2; 16]));
    assert_eq!(store.house_restored(house).await.unwrap(), None);
    for at in [Timestamp(7), Timestamp(9)] {
        store.house_restored_put(house, at).await.unwrap();
        assert_eq!(store.house_restored(house).await.unwrap(), Some(at));
    }
    assert_eq!(store.house_restored(other).await.unwrap(), None);
}

/// A credit note is kept once, waits until the house has spoken, and waits again where the house has forgotten it.
async fn keeps_credit_notes(store: &dyn Store) {
    let (house, other) = (OrgId([1; 16]), OrgId([2; 16]));
    let note = |number: u8, house, at, reason| Noted {
        id: CreditNoteId([number; 16]),
        house,
        token: TokenId([number % 2; 16]),
        amount: Amount::from_ucr(number.into()),
        reason,
        case: (reason == CreditReason::Case).then_some(id(number.into())),
        author: "hanna".into(),
        at: Timestamp(at),
        said: HouseSaid::Nothing,
    };
    let notes = [
        note(1, house, 30, CreditReason::Case),
        note(2, house, 10, CreditReason::Fault),
        note(3, other, 20, CreditReason::Goodwill),
    ];
    for note in notes.iter().chain(&notes) {
        store.credit_put(note).await.unwrap();
    }
    let numbers = |notes: Vec<Noted>| notes.iter().map(|note| note.id.0[0]).collect::<Vec<_>>();
    assert_eq!(store.credits(None, 9).await.unwrap(), [notes[0].clone(), notes[2].clone(), notes[1].clone()]);
    assert_eq!(numbers(store.credits(Some(TokenId([1; 16])), 9).await.unwrap()), [1, 3]);
    assert_eq!(numbers(store.credits(None, 1).await.unwrap()), [1]);
    assert_eq!(numbers(store.credits_waiting(2).await.unwrap()), [2, 3], "the oldest first");
    let booked = |at| HouseSaid::Booked { content: id(7), booked_at: Timestamp(at) };
    let declined = HouseSaid::Declined { code: "closed".into(), message: "too late".into() };
    for (number, said) in [(1, &booked(50)), (2, &declined), (3, &booked(60))] {
        store.credit_said(CreditNoteId([number; 16]), said).await.unwrap();
    }
    assert_eq!(store.credits_waiting(9).await.unwrap(), []);
    assert_eq!(store.credits(Some(TokenId([0; 16])), 9).await.unwrap()[0].said, declined);
    // A repeat of the order takes no answer back.
    store.credit_put(&notes[0]).await.unwrap();
    assert_eq!(store.credits(None, 1).await.unwrap()[0].said, booked(50));
    assert_eq!(store.credits_again(house, Timestamp(51)).await.unwrap(), 0, "booked before the backup");
    assert_eq!(store.credits_again(house, Timestamp(50)).await.unwrap(), 1);
    assert_eq!(store.credits_waiting(9).await.unwrap(), [notes[0].clone()]);
    store.credit_said(CreditNoteId([1; 16]), &booked(99)).await.unwrap();
    assert_eq!(store.credits_waiting(9).await.unwrap(), []);
}

async fn keeps_grants(store: &dyn Store) {
    for (grant, at) in [(1, 5), (2, 6), (1, 9)] {
        store.grant_put(id(grant), "sub".into(), vec![u8::try_from(grant).unwrap()], Timestamp(at)).await.unwrap();
    }
    assert_eq!(store.grants().await.unwrap(), [vec![1], vec![2]]);
    assert_eq!(store.grants_withdrawn().await.unwrap(), []);
    for (grant, at) in [(1, 5), (2, 6), (1, 9)] {
        store.grant_withdraw(GrantId([grant; 16]), Timestamp(at)).await.unwrap();
    }
    let withdrawn = [(GrantId([2; 16]), Timestamp(6)), (GrantId([1; 16]), Timestamp(5))];
    assert_eq!(store.grants_withdrawn().await.unwrap(), withdrawn);
}

/// What an operator does by hand is a line with a word on it, in the transaction that does it; so is who lets a suspended project in.
async fn logs_what_is_done_by_hand(store: &dyn Store) {
    let word = |author: &str, at| Word { author: author.into(), reason: "it was said".into(), at: Timestamp(at) };
    let given = |n| Given { content: id(n), subject: "sub".into() };
    assert_eq!(store.grant_log_after(0, 9).await.unwrap(), []);
    store.grant_give(GrantId([1; 16]), &given(1), &[1], &word("ada", 5)).await.unwrap();
    store.grant_give(GrantId([2; 16]), &given(2), &[2], &word("bob", 6)).await.unwrap();
    store.grant_take_back(GrantId([1; 16]), &word("eve", 7)).await.unwrap();
    assert_eq!(store.grants().await.unwrap(), [vec![1], vec![2]]);
    assert_eq!(store.grants_withdrawn().await.unwrap(), [(GrantId([1; 16]), Timestamp(7))]);
    let said = |n, grant, given: Option<Given>, word: Word| GrantSaid { n, grant: GrantId([grant; 16]), given, word };
    let log = [
        said(1, 1, Some(given(1)), word("ada", 5)),
        said(2, 2, Some(given(2)), word("bob", 6)),
        said(3, 1, None, word("eve", 7)),
    ];
    assert_eq!(store.grant_log_after(0, 9).await.unwrap(), log);
    assert_eq!(store.grant_log_after(1, 1).await.unwrap(), log[1..2]);
    // What an application decides is in its own log.
    store.grant_put(id(3), "sub".into(), vec![3], Timestamp(8)).await.unwrap();
    store.grant_withdraw(GrantId([3; 16]), Timestamp(9)).await.unwrap();
    assert_eq!(store.grant_log_after(3, 9).await.unwrap(), []);

    let suspension = Suspension { subject: "a".into(), category: Category::Cbrn, rule: "r".into(), at: Timestamp(5) };
    for by in [None, Some(word("ada", 10))] {
        store.suspension_put(&suspension).await.unwrap();
        assert!(store.suspension_end("a", by.as_ref()).await.unwrap());
        assert!(!store.suspension_end("a", by.as_ref()).await.unwrap(), "it says nothing twice");
    }
    let stop = Stop { target: Target::Node, running: Running::Finishes, word: word("bob", 11) };
    store.stop_put(&stop).await.unwrap();
    let log = store.stop_log_after(0, 9).await.unwrap();
    let said: Vec<_> = log.iter().map(|said| (said.n, said.act, &said.target, said.word.author.as_str())).collect();
    assert_eq!(
        said,
        [(1, SaidAct::Lifted, &Target::Project("a".into()), "ada"), (2, SaidAct::Stopped, &Target::Node, "bob")]
    );
    assert_eq!(store.stop_log_after(1, 9).await.unwrap(), log[1..]);
}

async fn remembers_what_passes(store: &dyn Store) {
    let word =
        |author: &str, at| Word { author: author.into(), reason: "the case did not stand".into(), at: Timestamp(at) };
    let pass = |subject: &str, category, until| Pass { subject: subject.into(), category, until: Timestamp(until) };
    let (cbrn, cyber) = (Category::Cbrn, Category::CyberOffence);
    store.pass_put(&pass("a", cbrn, 100), &word("ada", 5)).await.unwrap();
    store.pass_put(&pass("b", cyber, 20), &word("ada", 6)).await.unwrap();
    store.pass_put(&pass("a", cbrn, 200), &word("bob", 7)).await.unwrap();
    assert_eq!(store.passes().await.unwrap(), [pass("a", cbrn, 200), pass("b", cyber, 20)]);
    // The next word takes those along whose time is over; what nobody ended is not ended twice.
    store.pass_put(&pass("c", cbrn, 300), &word("bob", 20)).await.unwrap();
    assert!(!store.pass_end("b", cyber, &word("eve", 21)).await.unwrap());
    assert!(!store.pass_end("a", cyber, &word("eve", 21)).await.unwrap(), "another category");
    assert!(store.pass_end("a", cbrn, &word("eve", 22)).await.unwrap());
    assert_eq!(store.passes().await.unwrap(), [pass("c", cbrn, 300)]);
    let said = |n, subject: &str, category: Category, until: Option<u64>, word: Word| PassSaid {
        n,
        subject: subject.into(),
        category: category.name().into(),
        until: until.map(Timestamp),
        word,
    };
    let log = [
        said(1, "a", cbrn, Some(100), word("ada", 5)),
        said(2, "b", cyber, Some(20), word("ada", 6)),
        said(3, "a", cbrn, Some(200), word("bob", 7)),
        said(4, "c", cbrn, Some(300), word("bob", 20)),
        said(5, "a", cbrn, None, word("eve", 22)),
    ];
    assert_eq!(store.pass_log_after(0, 9).await.unwrap(), log);
    assert_eq!(store.pass_log_after(1, 2).await.unwrap(), log[1..3]);
}

async fn a_batch_is_written_whole_or_not_at_all(store: &dyn Store) {
    store.write(&charge(1, 1)).await.unwrap();
    // The same slot twice breaks the primary key, in the middle of a batch.
    let mut batch = charge(2, 2);
    batch.extend(charge(3, 1));
    assert!(store.write(&batch).await.is_err());
    let account = store.account(TOKEN).await.unwrap().unwrap();
    assert_eq!(account.lanes[&KEY].n, 1);
    assert_eq!(store.charge(TOKEN, KEY, Slot { seq: 2, item: 0 }).await.unwrap(), None);
}

/// A token's rows, under a chain that is one.
fn met(token: u8, subject: &str) -> Vec<Write> {
    let (id, secret) = (TokenId([token; 16]), SecretKey::from_seed([7; 32]));
    let signed = Token {
        issuer: IdText(OrgId([1; 16])),
        subject: Text::new(subject).unwrap(),
        audience: IdText(NodeId([2; 16])),
        expires_at: Timestamp(3_600),
        not_before: Timestamp(0),
        issued_at: Timestamp(0),
        id,
        holder: Confirmation(secret.public()),
        terms: Terms {
            roster_version: 1,
            scope: List::new(vec![Scope {
                model: "lab/tiny".parse().unwrap(),
                release: ROOT,
                ops: List::new(vec![Op::Chat]).unwrap(),
                tariff: ROOT,
            }])
            .unwrap(),
            budget: Amount::credits(1),
            vetting: Vetting::Registered,
            purposes: List::default(),
            window: Amount::credits(1),
            lanes_max: 8,
            longest_op_s: 600,
            settle_by: Timestamp(4_200 + Token::SETTLE_S_MIN),
            depth: 2,
            grants: List::default(),
        },
    };
    let signed = cose::sign(&signed, &secret);
    let chain = Chain { token: signed.bytes().to_vec(), blocks: Vec::new() }.to_bytes();
    vec![
        Write::Token { token: id, root: signed.id() },
        Write::Chain { token: id, leaf: signed.id(), bytes: chain.into() },
    ]
}

async fn tokens(store: &dyn Store, subject: &str, from: u8, most: u32) -> Vec<u8> {
    let tokens = store.tokens_of(subject, TokenId([from; 16]), most).await.unwrap();
    tokens.into_iter().map(|token| token.0[0]).collect()
}

async fn finds_the_tokens_of_one_project(store: &dyn Store) {
    for (token, subject) in [(9, "sub-a"), (3, "sub-b"), (5, "sub-a"), (4, "sub-a")] {
        store.write(&met(token, subject)).await.unwrap();
    }
    // Its chain is none: it is nobody's.
    store.write(&charge(1, 1)).await.unwrap();
    assert_eq!(tokens(store, "sub-a", 0, 10).await, [4, 5, 9]);
    assert_eq!(tokens(store, "sub-a", 5, 10).await, [5, 9], "from one on, with it");
    assert_eq!(tokens(store, "sub-a", 0, 2).await, [4, 5]);
    assert_eq!(tokens(store, "sub-b", 0, 10).await, [3]);
    assert!(tokens(store, "sub-", 0, 10).await.is_empty());
    assert_eq!(store.subjects_fill().await.unwrap(), 0, "each chain said whose it is as it was written");
}

async fn knows_the_homes_with_texts(store: &dyn Store) {
    let home = |id: &str, seen_at, until| {
        let (seen_at, until) = (Timestamp(seen_at), Timestamp(until));
        TextHome { id: id.into(), place: format!("host:/{id}"), seen_at, until }
    };
    let ids = async || store.homes().await.unwrap().into_iter().map(|home| home.id).collect::<Vec<_>>();
    store.home_put(&home("b", 100, 500)).await.unwrap();
    store.home_put(&home("a", 110, 300)).await.unwrap();
    store.home_put(&home("b", 120, 600)).await.unwrap();
    assert_eq!(store.homes().await.unwrap(), [home("a", 110, 300), home("b", 120, 600)]);
    // Whoever is not heard of may be gone, with the texts still there.
    let over = 300 + super::kept::UNHEARD_S;
    store.home_put(&home("c", over - 1, over + 700)).await.unwrap();
    assert_eq!(ids().await, ["a", "b", "c"], "nobody said that nothing lies there");
    store.home_put(&home("c", over, over + 700)).await.unwrap();
    assert_eq!(ids().await, ["b", "c"], "and after so long it is no longer named");
    store.home_put(&home("b", over + 10, over + 10)).await.unwrap();
    assert_eq!(ids().await, ["c"], "nothing lies there any more");
    for number in 1..super::kept::HOMES_MAX {
        store.home_put(&home(&format!("n{number}"), over + 20, over + 700)).await.unwrap();
    }
    let one_more = store.home_put(&home("z", over + 20, over + 700)).await;
    assert!(matches!(one_more, Err(StoreError::Refused { .. })), "{one_more:?}");
    store.home_put(&home("c", over + 30, over + 700)).await.unwrap();
}

async fn memory() -> Kept<Memory, ()> {
    Kept::new(Memory::default(), ())
}

async fn sqlite() -> Kept<Sqlite, tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    Kept::new(Sqlite::open(dir.path().join("spend.db")).await.unwrap(), dir)
}

async fn postgres() -> Kept<Postgres, Database> {
    let database = Database::create().await;
    Kept::new(Postgres::open(&database.url()).await.unwrap(), database)
}

comity_scratch::contract! {
    { reads_back keeps_what_ends_a_token keeps_grants logs_what_is_done_by_hand keeps_credit_notes windows_read_back slots_that_were_asked_about_read_back plans_and_executions_read_back keeps_agreements remembers_what_passes remembers_what_the_guard_saw
      remembers_what_was_stopped finds_the_tokens_of_one_project knows_the_homes_with_texts
      remembers_when_a_house_came_back_from_a_backup }
    memory: memory, sqlite: sqlite, postgres: postgres
}

/// What a store on a disk does beside that.
mod durable {
    use super::*;

    comity_scratch::contract! {
        { a_batch_is_written_whole_or_not_at_all }
        sqlite: sqlite, postgres: postgres
    }
}

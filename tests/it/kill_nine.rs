//! Kill −9 under load: no answered charge is lost, no credit is created.
//!
//! `COMITY_KILL_CYCLES` sets how often each kind of process is killed, `COMITY_KILL_SEED` when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comity_sdk::client::PurseStatus;
use comity_sdk::{Client, Error, Query};
use comity_tests::federation::{PER_TOKEN, chain};
use comity_tests::{Chance, Federation, Owner, Scripted, eventually};
use comity_wire::{Amount, Digest, ModelId, TokenId};

const CALLERS: usize = 6;
const ANSWERS_BEFORE_MAX: u64 = 12;
const STRIKE_US_MAX: u64 = 60_000;
const TOKEN: Amount = Amount::from_ucr(20_000);

fn cycles() -> u32 {
    std::env::var("COMITY_KILL_CYCLES").ok().map_or(3, |text| text.parse().expect("COMITY_KILL_CYCLES is a number"))
}

/// Every receipt that a caller was given, and what it charged.
type Receipts = Arc<Mutex<BTreeMap<Digest, Amount>>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_keeps_every_answered_charge() {
    let mut chance = Chance::from_env("COMITY_KILL_SEED");
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_TOKEN);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let client = Arc::new(federation.client("load"));
    let receipts = Receipts::default();
    for cycle in 1..=cycles() {
        let before = answered(&receipts);
        let load = Load::start(&client, &lab.model(), &receipts);
        let due = before + usize::try_from(chance.within(1..ANSWERS_BEFORE_MAX)).expect("a small number");
        eventually("answers before the kill", async || {
            if answered(&receipts) >= due { Ok(()) } else { Err(format!("{} of {due}", answered(&receipts))) }
        })
        .await;
        tokio::time::sleep(Duration::from_micros(chance.within(0..STRIKE_US_MAX))).await;
        federation.service("lab").kill().await;
        load.end().await;
        federation.service("lab").restart().await;
        // What was in doubt is asked for: each place of the sequence has a receipt, or is free.
        resolve(&client).await;
        eprintln!("cycle {cycle}: {} answers so far", answered(&receipts));
    }
    settle(&client).await;
    let account = federation.books_add_up().await;
    let held = receipts.lock().expect("no panic holds this lock").clone();
    let kept = wallet_receipts(&federation, client, "load");
    for (id, charge) in &held {
        assert_eq!(kept.get(id), Some(charge), "an answered receipt is not in the wallet");
    }
    // The node's finals were paid, so what it charged is what the callers hold receipts for: nothing lost, nothing twice.
    assert_eq!(Amount::sum(kept.values().copied()), Some(account.settled));
    assert_eq!(account.in_escrow, Amount::ZERO);
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_is_killed_creates_no_credit_and_forgets_no_token() {
    let mut chance = Chance::from_env("COMITY_KILL_SEED");
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_TOKEN);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let clients: Vec<_> = (0..CALLERS).map(|number| Arc::new(federation.client(&format!("buyer-{number}")))).collect();
    for cycle in 1..=cycles() {
        let before = purses(&clients).await.len();
        let stop = Arc::new(AtomicBool::new(false));
        let buyer = |client: &Arc<Client>| tokio::spawn(buy(Arc::clone(client), lab.model(), Arc::clone(&stop)));
        let buyers: Vec<_> = clients.iter().map(buyer).collect();
        let due = before + usize::try_from(chance.within(1..2 * CALLERS as u64)).expect("a small number");
        eventually("tokens before the kill", async || {
            let now = purses(&clients).await.len();
            if now >= due { Ok(()) } else { Err(format!("{now} of {due}")) }
        })
        .await;
        tokio::time::sleep(Duration::from_micros(chance.within(0..STRIKE_US_MAX))).await;
        federation.service("house").kill().await;
        stop.store(true, Ordering::SeqCst);
        for buyer in buyers {
            buyer.await.expect("a buyer comes to its end");
        }
        federation.service("house").restart().await;
        let account = federation.books_add_up().await;
        let purses = purses(&clients).await;
        for purse in purses.iter().filter(|purse| !purse.pending) {
            let known = account.tokens.iter().find(|token| token.token == purse.token);
            assert_eq!(known.map(|token| token.budget), Some(purse.budget), "a token that was sold is forgotten");
        }
        eprintln!(
            "cycle {cycle}: {} tokens sold, {} arrived or are asked for again",
            account.tokens.len(),
            purses.len()
        );
    }
    for client in &clients {
        // A sale whose reply was lost is asked for again, and is the same sale.
        eventually("every sale's outcome", async || match client.reconcile().await.pop() {
            Some((token, error)) => Err(format!("{token}: {}", chain(&error))),
            None => Ok(()),
        })
        .await;
        settle(client).await;
    }
    let account = federation.books_add_up().await;
    let purses = purses(&clients).await;
    let spent = Amount::sum(purses.iter().map(|purse| purse.spent));
    assert_eq!(spent, Some(account.settled), "what was charged was paid, once");
    assert!(account.settled > Amount::ZERO);
    let known: BTreeSet<TokenId> = purses.iter().map(|purse| purse.token).collect();
    let sold: BTreeSet<TokenId> = account.tokens.iter().map(|token| token.token).collect();
    assert_eq!(known, sold, "every sale arrived, once");
    assert_eq!(account.in_escrow, Amount::ZERO, "everything went home");
    federation.end().await;
}

async fn purses(clients: &[Arc<Client>]) -> Vec<PurseStatus> {
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.purses().await);
    }
    all
}

/// Callers that ask until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(client: &Arc<Client>, model: &ModelId, receipts: &Receipts) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |number| {
            tokio::spawn(call(number, Arc::clone(client), model.clone(), Arc::clone(receipts), Arc::clone(&stop)))
        };
        Self { callers: (0..CALLERS).map(caller).collect(), stop }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            caller.await.expect("a caller comes to its end");
        }
    }
}

async fn call(number: usize, client: Arc<Client>, model: ModelId, receipts: Receipts, stop: Arc<AtomicBool>) {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        count += 1;
        let question = format!("caller {number}, question {count}");
        match client.ask(&Query::chat(model.clone(), &[("user", &question)], Some(8), false)).await {
            Ok(answer) => {
                let new = receipts
                    .lock()
                    .expect("no panic holds this lock")
                    .insert(answer.receipt.id(), answer.receipt.charge);
                assert_eq!(new, None, "two answers under one receipt");
            }
            Err(error) => bearable(&error),
        }
    }
}

/// A killed node may leave a call without an answer; it never gives a receipt that breaks the rules.
fn bearable(error: &Error) {
    assert!(
        !matches!(error, Error::Fault(_) | Error::Receipt(_) | Error::NoReceipt | Error::Limit { .. }),
        "{}",
        chain(error)
    );
    assert!(!chain(error).contains("breaks the rules"), "{}", chain(error));
}

/// Buys a token, spends a little of it, ends it; again until it is stopped.
async fn buy(client: Arc<Client>, model: ModelId, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let token = match client.buy(&model, TOKEN, 0).await {
            Ok(token) => token,
            Err(error) => {
                bearable(&error);
                continue;
            }
        };
        client.ask(&Query::chat(model.clone(), &[("user", "Where?")], Some(8), false)).await.inspect_err(bearable).ok();
        client.finish(token).await.inspect_err(bearable).ok();
    }
}

fn answered(receipts: &Receipts) -> usize {
    receipts.lock().expect("no panic holds this lock").len()
}

async fn resolve(client: &Client) {
    for purse in client.purses().await {
        let what = format!("the outcome of what was asked under {}", purse.token);
        eventually(&what, async || client.resolve(purse.token).await.map_err(|error| chain(&error))).await;
    }
}

/// Ends every token, until the house has paid what its final names.
async fn settle(client: &Client) {
    for purse in client.purses().await {
        eventually(&format!("the end of {}", purse.token), async || {
            let (_, reply) = client.finish(purse.token).await.map_err(|error| chain(&error))?;
            match reply {
                Some(reply) if !reply.in_escrow.is_zero() => Err(format!("{} still in escrow", reply.in_escrow)),
                _ => Ok(()),
            }
        })
        .await;
    }
}

/// What the wallet's journal holds, read once nobody uses it.
fn wallet_receipts(federation: &Federation, client: Arc<Client>, name: &str) -> BTreeMap<Digest, Amount> {
    let client = Arc::into_inner(client).expect("nobody else uses the wallet");
    let directory = client.into_directory();
    let path = federation.wallet(name).join("wallet.journal");
    let (_, entries) = comity_sdk::journal::Journal::open(&path).expect("the wallet's journal");
    let report = comity_sdk::audit::audit(&entries, &directory).expect("a journal that follows from itself");
    assert_eq!(report.failures, [], "the wallet's own books");
    let receipt = |entry| match entry {
        comity_sdk::journal::Entry::Receipt { receipt, .. } => {
            let signed = comity_wire::Signed::<comity_wire::object::Receipt>::decode(&receipt).expect("a receipt");
            Some((signed.id(), signed.unverified().charge))
        }
        _ => None,
    };
    entries.into_iter().filter_map(receipt).collect()
}

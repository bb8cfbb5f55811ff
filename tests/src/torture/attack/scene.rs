//! What every attack stands on: a node whose model's server does as it is asked, honest callers, a token in the hands of
//! somebody who is not, and the count when all is quiet.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comity_scratch::Database;
use comity_sdk::Client;
use comity_sdk::client::Finished;
use comity_wire::object::Receipt;
use comity_wire::{Amount, Meter, ModelId, Signed};
use futures::StreamExt as _;
use tokio::task::JoinHandle;

use super::super::books::{self, Kept};
use super::super::cycle::{self, RECOVERY};
use super::super::load::Shared;
use super::super::{Tally, store};
use super::Facts;
use super::raw::Line;
use super::server::Server;
use crate::federation::{LOOPBACK, chain, within};
use crate::holder::Chat;
use crate::{Federation, Holder, Owner};

/// 1 µcr for a token in, 2 for a token out: every charge is a whole number.
const PER_WORD: &str = r#"{ meter = "input_tokens", steps = [{ from = 0, ucr_per_million = 1_000_000 }] },
  { meter = "output_tokens", steps = [{ from = 0, ucr_per_million = 2_000_000 }] }"#;
const HONEST: usize = 4;
const PAUSE: Duration = Duration::from_millis(25);
const LOOK_UPS: usize = 16;

pub(super) struct Scene {
    pub(super) federation: Federation,
    pub(super) server: Server,
    pub(super) model: ModelId,
    pub(super) shared: Arc<Shared>,
    pub(super) tally: Tally,
    caller: Arc<Client>,
}

/// What a caller of the other kind saw of one call.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) lane: u16,
    pub(super) seq: u64,
    pub(super) question: String,
    /// Less than the whole request was sent.
    pub(super) is_torn: bool,
    pub(super) words: u64,
    pub(super) is_done: bool,
    pub(super) status: u16,
    pub(super) receipt: Option<Vec<u8>>,
}

impl Seen {
    pub(super) fn of(line: &Line, chat: &Chat<'_>, (lane, seq): (u16, u64)) -> Self {
        let is_done = line.is_done() && line.status() == 200;
        let words = if chat.stream { line.words() } else { 0 };
        let (status, receipt) = (line.status(), line.receipt());
        Self { lane, seq, question: chat.question.to_owned(), is_torn: false, words, is_done, status, receipt }
    }
}

impl Scene {
    /// `offer` may change the model's file, `furnish` the node's home, before the node starts.
    pub(super) async fn begin(
        tally: &Tally,
        database: Option<&Database>,
        offer: impl Fn(String) -> String,
        furnish: impl Fn(&Path),
    ) -> Self {
        let server = Server::start().await;
        let lab = Owner { name: "lab", upstream: server.url(), rates: PER_WORD };
        let furnish = |name: &str, home: &Path| {
            if name != lab.name {
                return;
            }
            let path = home.join("models/model.toml");
            let text = std::fs::read_to_string(&path).expect("a model's file");
            std::fs::write(&path, offer(text)).expect("a model's file");
            if let Some(database) = database {
                store::furnish(home, &database.url());
            }
            furnish(home);
        };
        let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, furnish).await;
        let shared = Shared::new(&federation, &lab, &lab, tally);
        let caller = Arc::new(federation.client("caller"));
        shared.ask(&caller, "Ready?", false).await.expect("a federation that was just set up answers");
        Self { federation, server, model: lab.model(), shared, tally: tally.clone(), caller }
    }

    /// A token for whoever attacks.
    pub(super) async fn holder(&self, budget: u32, lanes: u16) -> Arc<Holder> {
        let client = self.federation.client("raw");
        Arc::new(Holder::mint(&self.federation, &client, &self.model, Amount::from_ucr(budget), lanes).await)
    }

    /// Where the node's door is, for a connection of one's own.
    pub(super) fn address(&self) -> SocketAddr {
        let address = self.federation.address("lab");
        address.strip_prefix("https://").and_then(|rest| rest.parse().ok()).expect("the door is on loopback")
    }

    /// Callers with a wallet, who ask and ask again.
    pub(super) fn honest(&self) -> Honest {
        let stop = Arc::new(AtomicBool::new(false));
        let call = |number: usize| {
            let (shared, client, stop) = (Arc::clone(&self.shared), Arc::clone(&self.caller), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut count = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    count += 1;
                    let question = format!("honest {number}, {count}");
                    if let Err(error) = shared.ask(&client, &question, count.is_multiple_of(3)).await {
                        shared.judge(&question, &error);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            })
        };
        Honest { tasks: (0..HONEST).map(call).collect(), stop, before: self.shared.progress() }
    }

    /// An honest caller is answered, at the latest within a minute.
    pub(super) async fn answers(&self) {
        let ask = async || {
            let asked = self.shared.ask(&self.caller, "Still there?", false).await;
            asked.map_err(|error| {
                self.shared.judge("asking when it was over", &error);
                chain(&error)
            })
        };
        if let Err(error) = within(RECOVERY, ask).await {
            self.tally.phantom(&format!("no answer when it was over: {error}"));
        }
    }

    /// Looks all the time whether the token is charged and held for more than it has.
    pub(super) fn watch(&self, holder: &Arc<Holder>) -> Watch {
        let (holder, tally) = (Arc::clone(holder), self.tally.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut looks = 0;
            while !until.load(Ordering::SeqCst) {
                if let Ok(lanes) = holder.try_lanes().await {
                    looks += 1;
                    let more = lanes.charged.saturating_add(lanes.held).ucr() - lanes.budget.ucr();
                    if more > 0 {
                        tally.overspent(
                            more,
                            &format!("{} charged and {} held of {}", lanes.charged, lanes.held, lanes.budget),
                        );
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
            looks
        });
        Watch { stop, task }
    }

    /// When nothing runs any more: nothing is held, what is charged is what the receipts say, and each receipt is between
    /// what its caller saw and what the model's server handed over.
    pub(super) async fn reckon(&self, holder: &Holder, seen: &[Seen]) -> Facts {
        let quiet = async || {
            let lanes = holder.try_lanes().await?;
            let running = self.server.running();
            if lanes.held.is_zero() && running == 0 {
                Ok(())
            } else {
                Err(format!("{} held, {running} answers under way", lanes.held))
            }
        };
        if let Err(error) = within(RECOVERY, quiet).await {
            self.tally.broken(&format!("it does not come to rest: {error}"));
        }
        let look = |call| async move { (call, holder.receipt(call).await) };
        let looked = futures::stream::iter(seen.iter().map(|seen| (seen.lane, seen.seq))).map(look);
        let found: Vec<_> = looked.buffered(LOOK_UPS).collect().await;
        let mut sum = Amount::ZERO;
        let mut facts = Facts::from([("asked", seen.len() as u64)]);
        for (seen, (_, found)) in seen.iter().zip(found) {
            match found {
                Ok(Some(receipt)) => {
                    sum = sum.saturating_add(receipt.unverified().charge);
                    *facts.entry("charged").or_default() += 1;
                    self.hold_against(seen, &receipt);
                }
                Ok(None) if seen.words > 0 || seen.is_done || seen.receipt.is_some() => {
                    self.tally.lost(&format!("was answered, and has no receipt: {seen:?}"));
                }
                Ok(None) => {}
                Err(error) => self.tally.lost(&format!("{seen:?}: {error}")),
            }
            *facts.entry(if seen.is_done { "whole" } else { "left" }).or_default() += 1;
        }
        match holder.try_lanes().await {
            Ok(lanes) => {
                let more = lanes.charged.ucr() - sum.ucr();
                if more != 0 {
                    self.tally.overspent(more.abs(), &format!("{} charged, receipts: {sum}", lanes.charged));
                }
                if lanes.charged > lanes.budget {
                    self.tally.overspent(1, &format!("{} charged of {}", lanes.charged, lanes.budget));
                }
            }
            Err(error) => self.tally.broken(&error),
        }
        facts.insert("charged_ucr", u64::try_from(sum.ucr()).unwrap_or(0));
        facts
    }

    fn hold_against(&self, seen: &Seen, receipt: &Signed<Receipt>) {
        if seen.is_torn {
            self.tally.overspent(receipt.unverified().charge.ucr(), &format!("half a request was charged: {seen:?}"));
        }
        if seen.receipt.as_ref().is_some_and(|told| told != receipt.bytes()) {
            self.tally.doubled(&format!("was given another receipt than the node shows: {seen:?}"));
        }
        let output = receipt.unverified().meters.get(Meter::OutputTokens);
        let handed = self.server.handed(&seen.question);
        if output < seen.words {
            self.tally.lost(&format!("{output} words charged, the caller has seen more: {seen:?}"));
        }
        if output > handed {
            let more = 2 * i64::try_from(output - handed).unwrap_or(i64::MAX);
            self.tally.overspent(more, &format!("{output} words charged, the model has said {handed}: {seen:?}"));
        }
    }

    /// The honest callers' tokens are ended and paid; then the house's books are held against their wallet.
    pub(super) async fn end(self) {
        self.answers().await;
        let finish = async || {
            for purse in self.caller.purses().await.into_iter().filter(|purse| purse.unfinished) {
                let Finished { reply, .. } = self.caller.finish(purse.token).await.map_err(|error| chain(&error))?;
                if let Some(reply) = reply
                    && !reply.in_escrow.is_zero()
                {
                    return Err(format!("{} still in escrow", reply.in_escrow));
                }
            }
            Ok(())
        };
        if let Err(error) = within(RECOVERY, finish).await {
            self.tally.broken(&format!("the honest callers' tokens do not come to their end: {error}"));
        }
        let kept = Kept::read(&[self.federation.wallet("caller")]);
        books::reckon(&self.federation, &kept, &self.tally).await;
        self.federation.end().await;
    }
}

/// Honest callers, until [`Honest::end`].
pub(super) struct Honest {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    before: u64,
}

impl Honest {
    /// How many answers they got.
    pub(super) async fn end(self, scene: &Scene) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            cycle::ended(task).await;
        }
        scene.shared.progress() - self.before
    }
}

/// Who watches a token, until [`Watch::end`].
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Watch {
    /// How often it has looked.
    pub(super) async fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        cycle::ended(self.task).await
    }
}

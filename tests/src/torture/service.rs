//! The stories of the services: a node, the clearing house, the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_sdk::Client;
use comity_sdk::client::{Finished, PurseStatus};
use comity_sdk::door::Door;
use comity_token::directory::Directory as _;
use comity_wire::api::node::{HeadsReply, ReceiptReply, SearchReply};
use comity_wire::object::{Head, RevocationList, RevokedKind, Summary};
use comity_wire::{Digest, OrgId, Signed, TokenId};
use futures::StreamExt as _;

use super::books::{self, Kept};
use super::cycle::{self, Death, PATIENCE, RECOVERY};
use super::load::{BUYERS, Buyer, Load, Shared, numbered};
use super::{Kind, Store, Tally, store};
use crate::federation::{LOOPBACK, PER_TOKEN, chain, eventually, within};
use crate::{Chance, Federation, Owner, Scripted, process};

/// Receipts that are looked up at once.
const LOOK_UPS: usize = 16;
/// Each of them has a feed.
const SERVICES: [&str; 4] = ["house", "hub", "lab", "uni"];

/// (epoch, seq) of an organisation's head, and its content id.
type HeadSeen = ((u32, u64), Digest);

struct Story {
    kind: Kind,
    federation: Federation,
    shared: Arc<Shared>,
    caller: Arc<Client>,
    /// All of them, but while the load runs.
    buyers: Vec<Buyer>,
    /// The highest head of each organisation that its own door has shown.
    heads: BTreeMap<OrgId, HeadSeen>,
    /// Tokens that are broken already: they are told of once, and not waited for in each cycle.
    given_up: BTreeSet<TokenId>,
    _upstream: Scripted,
    /// Dropped last.
    _database: Option<comity_scratch::Database>,
}

pub(super) async fn story(kind: Kind, store: Store, cycles: u32, chance: &mut Chance, tally: &Tally) {
    let deaths = cycle::deaths(kind, cycles, chance);
    let mut story = Story::begin(kind, store, tally).await;
    let of = deaths.len();
    for (number, death) in deaths.into_iter().enumerate() {
        let how = story.cycle(death, chance).await;
        story.has_resumed().await;
        cycle::told(kind, number + 1, of, &how, tally);
    }
    story.end().await;
}

impl Story {
    async fn begin(kind: Kind, store: Store, tally: &Tally) -> Self {
        let database = store.made().await;
        let upstream = Scripted::start().await;
        let (lab, uni) = (Owner::scripted("lab", &upstream, PER_TOKEN), Owner::scripted("uni", &upstream, PER_TOKEN));
        // Only the books of the one that dies.
        let furnish = |name: &str, home: &std::path::Path| match (&database, kind) {
            (Some(database), Kind::House) if name == "house" => {
                crate::federation::books_in_postgres(home, &database.url())
            }
            (Some(database), Kind::Node) if name == lab.name => store::furnish(home, &database.url()),
            _ => {}
        };
        let federation = Federation::start_with(&[lab.clone(), uni.clone()], LOOPBACK, furnish).await;
        let shared = Shared::new(&federation, &lab, &uni, tally);
        let caller = Arc::new(federation.client("caller"));
        // Draws its token before anything dies.
        shared.ask(&caller, "Ready?", false).await.expect("a federation that was just set up answers");
        let buyer = |number| Buyer::new(Arc::new(federation.client(&buyer_name(number))));
        let buyers = (0..BUYERS).map(buyer).collect();
        Self {
            kind,
            federation,
            shared,
            caller,
            buyers,
            heads: BTreeMap::new(),
            given_up: BTreeSet::new(),
            _upstream: upstream,
            _database: database,
        }
    }

    const fn victim(&self) -> &'static str {
        match self.kind {
            Kind::House => "house",
            Kind::Hub => "hub",
            Kind::Node | Kind::Wallet => "lab",
        }
    }

    /// Load, death, restart. Says how it died.
    async fn cycle(&mut self, death: Death, chance: &mut Chance) -> String {
        let victim = self.victim();
        let (how, load) = match death {
            Death::At(point) => {
                let armed = point.armed(chance);
                self.federation.service(victim).kill().await;
                if self.federation.service(victim).restart_armed(&process::crash_binary(), &armed).await.is_err() {
                    self.shared.tally.died_at(self.kind, point.name);
                    (format!("at {armed}, before it was ready"), None)
                } else {
                    let load = self.load();
                    let died = self.federation.service(victim).died(PATIENCE).await;
                    if died {
                        self.shared.tally.died_at(self.kind, point.name);
                    } else {
                        self.shared.tally.missed_point(self.kind, point.name);
                        self.federation.service(victim).kill().await;
                    }
                    (format!("at {armed}"), Some(load))
                }
            }
            Death::AtRandom => {
                let (progress, strike) = cycle::moment(chance);
                let due = self.shared.progress() + progress;
                let load = self.load();
                eventually("answers before the kill", async || {
                    let now = self.shared.progress();
                    if now >= due { Ok(()) } else { Err(format!("{now} of {due}")) }
                })
                .await;
                tokio::time::sleep(strike).await;
                self.federation.service(victim).kill().await;
                self.shared.tally.was_killed();
                (format!("at random, {progress} answers and {strike:?} later"), Some(load))
            }
        };
        self.federation.service(victim).restart().await;
        // Not before: whoever waits for an answer over QUIC hears of the death from the process that came after it.
        if let Some(load) = load {
            self.buyers = load.end().await;
        }
        how
    }

    fn load(&mut self) -> Load {
        Load::start(&self.shared, &self.caller, std::mem::take(&mut self.buyers))
    }

    /// Everything goes on, and what was answered is there.
    async fn has_resumed(&mut self) {
        self.outcomes().await;
        self.answers().await;
        self.receipts().await;
        self.tokens().await;
        self.revocations().await;
        self.feeds().await;
        if self.kind == Kind::House {
            books::audit(&self.federation, &self.shared.tally).await;
        }
    }

    /// What was in doubt is asked for: each place of the sequence has a receipt, or is free.
    async fn outcomes(&mut self) {
        let clients = self.buyers.iter().map(|buyer| &buyer.client).chain([&self.caller]);
        for client in clients {
            for PurseStatus { token, .. } in client.purses().await.into_iter().filter(|purse| purse.open) {
                if self.given_up.contains(&token) {
                    continue;
                }
                let resolve = async || client.resolve(token).await.map_err(|error| chain(&error));
                if let Err(error) = within(RECOVERY, resolve).await {
                    self.shared.tally.phantom(&format!("the outcomes under {token} stay unknown: {error}"));
                    self.given_up.insert(token);
                }
            }
        }
    }

    async fn answers(&self) {
        let ask = async || {
            let asked = self.shared.ask(&self.caller, "Still there?", false).await;
            asked.map_err(|error| {
                self.shared.judge("asking after the restart", &error);
                chain(&error)
            })
        };
        if let Err(error) = within(RECOVERY, ask).await {
            self.shared.tally.phantom(&format!("no answer after the restart: {error}"));
        }
    }

    /// The node shows each receipt that was answered since the last time.
    async fn receipts(&self) {
        let kept = Kept::read(&self.wallets());
        let unseen: Vec<_> = self.shared.with(|answered| {
            let unseen = std::mem::take(&mut answered.unseen);
            unseen.iter().map(|id| answered.receipts[id].clone()).collect()
        });
        let door = self.federation.door("lab");
        let look = |receipt: comity_wire::Verified<comity_wire::object::Receipt>| {
            let (door, kept) = (&door, &kept);
            async move {
                let (token, leaf, lane, seq) = (receipt.token, receipt.leaf, receipt.lane, receipt.seq);
                let place = format!("receipt {} of {token}, lane {lane}, seq {seq}", receipt.id());
                let key = kept.keys.get(&token).ok_or_else(|| format!("{place}: its token is not in the wallet"))?;
                let path = format!("/comity/v1/receipts?token={token}&leaf={leaf}&lane={lane}&seq={seq}");
                let shown: Result<ReceiptReply, _> = door.get_signed(&path, key, &Federation::world()).await;
                match shown {
                    Ok(shown) if *shown.receipt == *receipt.bytes() => Ok(()),
                    Ok(_) => Err(format!("{place}: the node shows another")),
                    Err(error) => Err(format!("{place}: {}", chain(&error))),
                }
            }
        };
        let mut looks = futures::stream::iter(unseen).map(look).buffer_unordered(LOOK_UPS);
        while let Some(found) = looks.next().await {
            if let Err(what) = found {
                self.shared.tally.lost(&what);
            }
        }
    }

    /// The house knows each token that it sold, with its budget.
    async fn tokens(&self) {
        let account = match books::account(&self.federation).await {
            Ok(account) => account,
            Err(error) => return self.shared.tally.broken(&format!("the project has no account: {error}")),
        };
        let known: BTreeMap<_, _> = account.tokens.iter().map(|token| (token.token, token.budget)).collect();
        let sold = self.shared.with(|answered| answered.tokens.clone());
        for (token, budget) in sold.iter().filter(|(token, budget)| known.get(*token) != Some(*budget)) {
            let books = known.get(token);
            self.shared.tally.lost(&format!("{token} was sold with {budget}; in the books: {books:?}"));
        }
    }

    /// The house's list names each token that was revoked.
    async fn revocations(&self) {
        let revoked = self.shared.with(|answered| answered.revoked.clone());
        let list = async || {
            let door = self.federation.door("house");
            let asked = door.send(http::Method::GET, "/comity/v1/standing", Vec::new(), bytes::Bytes::new()).await;
            let bytes = asked.map_err(|error| chain(&error))?.bytes().await.map_err(|error| chain(&error))?;
            Signed::<RevocationList>::decode(&bytes).map_err(|error| chain(&error))
        };
        match within(RECOVERY, list).await {
            Ok(list) => {
                let list = list.unverified();
                for token in revoked.iter().filter(|token| !list.contains(RevokedKind::Token, &token.to_string())) {
                    self.shared.tally.lost(&format!("{token} was revoked, and is not on list {}", list.number));
                }
            }
            Err(error) => self.shared.tally.phantom(&format!("the house shows no revocation list: {error}")),
        }
    }

    /// The hub serves each author's newest head, and whoever comes new finds everything there.
    async fn feeds(&mut self) {
        for name in SERVICES {
            let org = self.federation.card(name).organisation;
            let own = within(RECOVERY, async || head(&self.federation.door(name), org).await).await;
            let own = match own {
                Ok(own) => own,
                Err(error) => {
                    self.shared.tally.phantom(&format!("{name} does not show its own head: {error}"));
                    continue;
                }
            };
            if let Some(before) = self.heads.insert(org, own)
                && (own.0 < before.0 || (own.0 == before.0 && own.1 != before.1))
            {
                self.shared.tally.lost(&format!("{name} has said {before:?}, and says {own:?} now"));
            }
            let at_hub = async || match head(&self.federation.door("hub"), org).await {
                Ok(shown) if shown.0 >= own.0 => Ok(shown),
                other => Err(format!("{other:?}")),
            };
            if let Err(shown) = within(RECOVERY, at_hub).await {
                self.shared.tally.lost(&format!("{name}'s newest head is {own:?}; at the hub: {shown}"));
            }
        }
        let published = self.shared.published.load(std::sync::atomic::Ordering::SeqCst);
        let found = async || match title(&self.federation.door("hub"), "uni").await? {
            title if published == 0 || numbered(&title).is_some_and(|number| number >= published) => Ok(()),
            title => Err(title),
        };
        if let Err(title) = within(RECOVERY, found).await {
            self.shared.tally.lost(&format!("version {published} was published; at the hub: {title}"));
        }
        let scout = self.federation.client("scout");
        if let Err(error) = within(RECOVERY, async || scout.refresh().await.map_err(|error| chain(&error))).await {
            self.shared.tally.phantom(&format!("whoever comes new is turned away by the hub: {error}"));
        }
        if scout.directory().summary(&self.shared.lab).is_none() {
            self.shared.tally.lost("whoever comes new does not find the lab's model at the hub");
        }
    }

    /// Every token is ended and paid; then the books are held against the wallets.
    async fn end(mut self) {
        let tally = self.shared.tally.clone();
        for buyer in &mut self.buyers {
            let wound_up = async || {
                buyer.wind_up(&self.shared).await;
                if buyer.is_idle() { Ok(()) } else { Err("a reservation or a token stays open".to_owned()) }
            };
            if let Err(error) = within(RECOVERY, wound_up).await {
                tally.broken(&error);
            }
        }
        for client in self.buyers.iter().map(|buyer| &buyer.client).chain([&self.caller]) {
            // A sale whose reply was lost is asked for again, and is the same sale.
            let known = async || match client.reconcile().await.pop() {
                Some((token, error)) => Err(format!("{token}: {}", chain(&error))),
                None => Ok(()),
            };
            if let Err(error) = within(RECOVERY, known).await {
                tally.broken(&format!("a sale's outcome stays unknown: {error}"));
            }
            for purse in client.purses().await {
                self.finish(client, purse.token).await;
            }
        }
        let kept = Kept::read(&self.wallets());
        self.shared.with(|answered| {
            for (id, receipt) in &answered.receipts {
                if kept.receipts.get(id).map(|kept| kept.charge) != Some(receipt.charge) {
                    tally.lost(&format!("receipt {id} was answered and is not in the wallet"));
                }
            }
        });
        books::reckon(&self.federation, &kept, &tally).await;
        self.federation.end().await;
    }

    /// Ends a token, until nothing of it is in escrow.
    async fn finish(&self, client: &Client, token: TokenId) {
        let finished = async || {
            let Finished { reply, .. } = client.finish(token).await.map_err(|error| chain(&error))?;
            match reply {
                Some(reply) if !reply.in_escrow.is_zero() => Err(format!("{} still in escrow", reply.in_escrow)),
                _ => Ok(()),
            }
        };
        if let Err(error) = within(RECOVERY, finished).await {
            self.shared.tally.broken(&format!("{token} does not come to its end: {error}"));
        }
    }

    fn wallets(&self) -> Vec<std::path::PathBuf> {
        let buyers = (0..BUYERS).map(|number| self.federation.wallet(&buyer_name(number)));
        buyers.chain([self.federation.wallet("caller")]).collect()
    }
}

fn buyer_name(number: usize) -> String {
    format!("buyer-{number}")
}

/// The head of `org` that a door shows.
async fn head(door: &Door, org: OrgId) -> Result<HeadSeen, String> {
    let reply: HeadsReply = door.get("/comity/v1/heads").await.map_err(|error| chain(&error))?;
    for frame in &reply.heads {
        let head = Signed::<Head>::decode(&frame.head).map_err(|error| chain(&error))?;
        if head.unverified().org == org {
            return Ok((head.unverified().number(), head.id()));
        }
    }
    Err(format!("no head of {org}"))
}

/// What a door's search says of an organisation's one model.
async fn title(door: &Door, org: &str) -> Result<String, String> {
    let reply: SearchReply = door.get(&format!("/comity/v1/search?org={org}")).await.map_err(|error| chain(&error))?;
    let hit = reply.hits.first().ok_or("no hit")?;
    let summary = Signed::<Summary>::decode(&hit.summary).map_err(|error| chain(&error))?;
    Ok(summary.unverified().title.to_string())
}

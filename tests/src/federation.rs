//! A clearing house, a hub and owners, each a process, set up with the commands that operators use; one project with an
//! award.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use comity_node::home::Card;
use comity_node::shell;
use comity_sdk::client::World;
use comity_sdk::door::Door;
use comity_sdk::profile::Limits;
use comity_sdk::{Client, Profile};
use comity_wire::api::clearing::ProjectReply;
use comity_wire::api::node::SearchQuery;
use comity_wire::{Amount, Digest, ModelId, ProjectId, PublicKey, SecretKey};

use crate::process::{self, Service};
use crate::upstream;

/// An owner and the one model it offers.
#[derive(Clone, Debug)]
pub struct Owner {
    pub name: &'static str,
    /// `engine:NAME`, or the base URL of a server.
    pub upstream: String,
    /// TOML of the rates of op `chat`.
    pub rates: &'static str,
}

/// A running federation. Dropping it kills its processes and removes its folder.
pub struct Federation {
    services: BTreeMap<&'static str, Service>,
    pub project: ProjectId,
    member: SecretKey,
    /// What follows `--hub`.
    dial: String,
    folder: tempfile::TempDir,
}

/// What the project is given.
pub const AWARD: Amount = Amount::credits(10);
/// 1,000 µcr for each request, whatever is in it: every charge is known beforehand.
pub const PER_REQUEST: &str = r#"{ meter = "requests", steps = [{ from = 0, ucr_per_million = 1_000_000_000 }] }"#;
pub const REQUEST_UCR: u32 = 1_000;
/// As language models are priced.
pub const PER_TOKEN: &str = r#"{ meter = "input_tokens", steps = [{ from = 0, ucr_per_million = 200_000 }] },
  { meter = "output_tokens", steps = [{ from = 0, ucr_per_million = 400_000 }] }"#;

/// Long enough for gossip, sync, claims and a busy machine.
const EVENTUALLY: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Asks until there is an answer.
///
/// # Panics
/// Where there is none within three minutes, with what was last seen instead.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + EVENTUALLY;
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < until, "{what} did not come about within {EVENTUALLY:?}: {seen}"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// [`eventually`], with an end of its own, and what was last seen where it does not come about.
///
/// # Errors
/// What was last seen.
pub async fn within<T>(patience: Duration, mut ask: impl AsyncFnMut() -> Result<T, String>) -> Result<T, String> {
    let until = Instant::now() + patience;
    loop {
        match ask().await {
            Err(_) if Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
            last => return last,
        }
    }
}

impl Owner {
    /// An owner whose model is served by `upstream`.
    pub fn scripted(name: &'static str, upstream: &crate::Scripted, rates: &'static str) -> Self {
        Self { name, upstream: upstream.url(), rates }
    }

    /// An owner of the built-in engine's model.
    pub fn engine(name: &'static str) -> Self {
        Self { name, upstream: "engine:comity-tiny".to_owned(), rates: PER_TOKEN }
    }

    pub fn model(&self) -> ModelId {
        format!("{}/model", self.name).parse().expect("an owner's name is a slug")
    }

    /// Its `models/model.toml`.
    pub fn offer(&self, title: &str) -> String {
        let (name, upstream, rates, scripted) = (self.name, &self.upstream, self.rates, upstream::MODEL);
        let zero = "0".repeat(64);
        let release = if upstream.starts_with("engine:") {
            String::new()
        } else {
            format!(
                "[release]\nweights = \"{zero}\"\ntokenizer = \"{zero}\"\ntemplate = \"{zero}\"\ndtype = \"f32\"\n\
                 tokenizer_name = \"none\"\nundisclosed = false\n"
            )
        };
        format!(
            r#"[model]
name = "model"
title = "{title}"
description = "What {name} offers."
languages = ["en"]
context_length = 256
output_tokens_max = 64
license = {{ spdx = "MIT" }}

[serve]
upstream = "{upstream}"
upstream_model = "{scripted}"
probe = false

{release}
[data_policy]
retention_days = 0
trains_on_inputs = false
logging = "metadata"

[[policy.tiers]]
tier = "t1"
vetting = "registered"
grant = false
identity = "pseudonym"
delegates = "all"
window_max = 1_000_000
lanes_max = 256
charge_max = 50_000
concurrency = 256
logging = "metadata"

[[policy.rules]]
op = "chat"
tier = "t1"
input_bytes_max = 4_096
output_tokens_max = 64
choices_max = 1
logprobs_max = 0

[tariff]
overhead_tokens = 64
output_bytes_per_token = 32

[[tariff.prices]]
op = "chat"
minimum = 1
rates = [
  {rates}
]
"#
        )
    }
}

/// A door of HTTPS alone.
pub const LOOPBACK: &[&str] = &["--listen", "127.0.0.1:0"];

impl Federation {
    /// Sets everything up and waits until every owner's model can be found at the hub.
    ///
    /// # Panics
    /// Where any part fails, naming it.
    pub async fn start(owners: &[Owner]) -> Self {
        Self::start_with(owners, LOOPBACK, |_, _| {}).await
    }

    /// [`Federation::start`], with these doors at the owners' nodes.
    ///
    /// # Panics
    /// As that.
    pub async fn start_at(owners: &[Owner], doors: &[&str]) -> Self {
        Self::start_with(owners, doors, |_, _| {}).await
    }

    /// [`Federation::start_at`], with something done to the home of the house and of each owner (its name, its folder) before
    /// it starts.
    ///
    /// # Panics
    /// As that.
    pub async fn start_with(owners: &[Owner], doors: &[&str], furnish: impl Fn(&str, &Path)) -> Self {
        comity_http::tls::install();
        let folder = tempfile::Builder::new().prefix("comity-test-").tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        init(&at("house"), "clearing", "house").await;
        init(&at("hub"), "hub", "hub").await;
        for owner in owners {
            init(&at(owner.name), "node", owner.name).await;
            std::fs::write(at(owner.name).join("models/model.toml"), owner.offer("First")).expect("a model's file");
            furnish(owner.name, &at(owner.name));
        }
        furnish("house", &at("house"));
        let names: Vec<_> = ["house", "hub"].into_iter().chain(owners.iter().map(|owner| owner.name)).collect();
        roster(folder.path(), &names).await;

        let hub = Service::start("hub", "hub", &at("hub"), None).await;
        let address =
            hub.ready.libp2p.iter().find(|address| address.contains("/tcp/")).expect("the hub listens on TCP");
        let dial = format!("{address}@{}", hub.ready.node);
        let mut services = BTreeMap::from([("hub", hub)]);
        services.insert("house", Service::start("house", "clearing", &at("house"), Some(&dial)).await);
        for owner in owners {
            let node = Service::start_at(owner.name, "node", &at(owner.name), Some(&dial), doors).await;
            services.insert(owner.name, node);
        }

        let member = SecretKey::from_seed(shell::random());
        let project = project(&at("house"), &member).await;
        let federation = Self { services, project, member, dial, folder };
        federation.until_found(owners).await;
        federation
    }

    /// The hub serves every model, and the house knows each well enough to quote it.
    async fn until_found(&self, owners: &[Owner]) {
        let scout = self.client("scout");
        for owner in owners {
            eventually(&format!("a quote for {}", owner.model()), async || {
                let hits = scout.search(&SearchQuery::default()).await.map_err(|error| chain(&error))?;
                let found = hits.iter().any(|hit| hit.summary.model == owner.model());
                if !found {
                    return Err(format!("{} models at the hub", hits.len()));
                }
                scout.quote(&owner.model(), &[comity_wire::Op::Chat]).await.map_err(|error| chain(&error))
            })
            .await;
        }
    }

    /// Starts one more process of an owner's node, under the name `replica`, and the first one again, whose certificate then
    /// names both.
    ///
    /// # Panics
    /// Where any part fails, naming it.
    pub async fn replica(&mut self, owner: &'static str, replica: &'static str, furnish: impl FnOnce(&Path)) {
        let (home, into) = (self.path().join(owner), self.path().join(replica));
        let (from, to) = (home.display().to_string(), into.display().to_string());
        process::expect(&["node", "replica", "--home", &from, "--into", &to]).await;
        furnish(&into);
        self.service(owner).end().await;
        let dial = self.dial.clone();
        self.services.insert(owner, Service::start(owner, "node", &home, Some(&dial)).await);
        self.services.insert(replica, Service::start(replica, "node", &into, Some(&dial)).await);
    }

    /// Makes and starts one more replica of the house, and the first one again, whose certificate then names both.
    ///
    /// # Panics
    /// Where any part fails, naming it.
    pub async fn house_replica(&mut self, replica: &'static str, furnish: impl FnOnce(&Path)) {
        let (home, into) = (self.path().join("house"), self.path().join(replica));
        let (from, to) = (home.display().to_string(), into.display().to_string());
        process::expect(&["clearing", "replica", "--home", &from, "--into", &to]).await;
        furnish(&into);
        self.service("house").end().await;
        self.service("house").restart().await;
        let dial = self.dial.clone();
        self.services.insert(replica, Service::start(replica, "clearing", &into, Some(&dial)).await);
    }

    /// What a service's door proves itself with.
    ///
    /// # Panics
    /// Where its home has no such key.
    pub fn transport_key(&self, name: &str) -> PublicKey {
        let keys = comity_node::keystore::KeyStore::of(&self.path().join(name));
        keys.read(comity_node::keystore::KeyName::Transport).expect("a transport key").public()
    }

    /// The house goes on from another home, whose books and keys are its own: others find its new door by themselves.
    ///
    /// # Panics
    /// Where it does not come up.
    pub async fn move_house(&mut self, home: &Path) {
        let dial = self.dial.clone();
        self.services.insert("house", Service::start("house", "clearing", home, Some(&dial)).await);
    }

    /// What follows `--hub`.
    pub fn dial(&self) -> &str {
        &self.dial
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// # Panics
    /// Where no service has that name.
    pub fn service(&mut self, name: &str) -> &mut Service {
        self.services.get_mut(name).unwrap_or_else(|| panic!("no service is called {name}"))
    }

    /// The public half of an organisation.
    ///
    /// # Panics
    /// Where it has none.
    pub fn card(&self, name: &str) -> Card {
        let text = std::fs::read_to_string(self.path().join(name).join("organisation.json")).expect("a card");
        serde_json::from_str(&text).expect("a card")
    }

    /// A service's door, trusted by the key on its card.
    ///
    /// # Panics
    /// Where no service has that name.
    pub fn door(&self, name: &str) -> Door {
        Door::new(vec![self.address(name)], vec![self.card(name).transport_key]).expect("an address")
    }

    /// Where a service's door is.
    ///
    /// # Panics
    /// Where no service has that name.
    pub fn address(&self, name: &str) -> String {
        self.services[name].ready.door.clone()
    }

    pub fn member(&self) -> &SecretKey {
        &self.member
    }

    pub fn world() -> World {
        World::new(shell::now, shell::random::<32>)
    }

    /// The project's researcher, with a wallet below `name`.
    ///
    /// # Panics
    /// Where the wallet is in use.
    pub fn client(&self, name: &str) -> Client {
        self.client_in(name, Self::world())
    }

    /// [`Federation::client`] in a world of the test's own.
    ///
    /// # Panics
    /// As that.
    pub fn client_in(&self, name: &str, world: World) -> Client {
        self.open(name, &self.member, world)
    }

    /// Another person's client of the same project.
    ///
    /// # Panics
    /// As [`Federation::client`].
    pub fn client_of(&self, name: &str, member: &SecretKey) -> Client {
        self.open(name, member, Self::world())
    }

    fn open(&self, name: &str, member: &SecretKey, world: World) -> Client {
        let home = self.wallet(name);
        let profile = Profile {
            roster: self.path().join("roster/roster.cbor"),
            entry: vec![self.address("hub")],
            house: None,
            project: Some(self.project),
            member_key: None,
            mandate: None,
            limits: Limits { token: Amount::from_ucr(100_000), total: AWARD, day: None },
        };
        std::fs::create_dir_all(&home).expect("a wallet's folder");
        Client::open(&home, profile, Some(member.clone()), world).expect("a wallet of its own")
    }

    /// Where the wallet of [`Federation::client`] is.
    pub fn wallet(&self, name: &str) -> PathBuf {
        self.path().join(format!("wallet-{name}"))
    }

    /// The project as its operator sees it.
    ///
    /// # Panics
    /// Where the house does not answer.
    pub async fn account(&self) -> ProjectReply {
        let house = self.path().join("house").display().to_string();
        let text = process::expect(&["clearing", "project", "show", "--home", &house, &self.project.to_string()]).await;
        serde_json::from_str(&text).expect("a project's account")
    }

    /// The home of a researcher who is a member of the federation's project, in a folder called `ada`.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub async fn researcher(&self) -> String {
        let ada = self.path().join("ada");
        std::fs::create_dir_all(&ada).expect("a home");
        let seed = Digest(*self.member().seed());
        std::fs::write(ada.join("member.key"), seed.to_string()).expect("a key");
        let roster = self.path().join("roster/roster.cbor").display().to_string();
        let (home, hub) = (ada.display().to_string(), self.address("hub"));
        let project = self.account().await.project.to_string();
        process::expect(&["--home", &home, "init", "--roster", &roster, "--entry", &hub, "--project", &project]).await;
        home
    }

    /// Re-adds the books: no break, and awarded = settled + available + in escrow.
    ///
    /// # Panics
    /// Where they do not add up.
    pub async fn books_add_up(&self) -> ProjectReply {
        let house = self.path().join("house").display().to_string();
        process::expect(&["ledger", "audit", "--home", &house, "--json"]).await;
        let account = self.account().await;
        let sum = Amount::sum([account.settled, account.available, account.in_escrow]);
        assert_eq!(sum, Some(account.awarded), "{account:?}");
        account
    }

    /// Ends every process in order.
    pub async fn end(mut self) {
        for name in self.services.keys().copied().collect::<Vec<_>>() {
            if name != "hub" && name != "house" {
                self.service(name).end().await;
            }
        }
        self.service("house").end().await;
        self.service("hub").end().await;
    }
}

/// Has the house of this home keep its books in PostgreSQL, from its next start on.
///
/// # Panics
/// Where the home cannot be written.
pub fn books_in_postgres(home: &std::path::Path, url: &str) {
    let path = home.join("keys/books.url");
    let _ = std::fs::remove_file(&path);
    comity_node::home::write_secret(&path, url.as_bytes()).expect("a secret");
    std::fs::write(home.join("clearing.toml"), "[books]\nstore_file = \"keys/books.url\"\n").expect("clearing.toml");
}

/// An error with its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn init(home: &Path, noun: &str, name: &str) {
    let home = home.display().to_string();
    process::expect(&[noun, "init", "--home", &home, "--name", name, "--title", name]).await;
}

async fn roster(folder: &Path, names: &[&str]) {
    let roster = folder.join("roster").display().to_string();
    process::expect(&["roster", "init", "--home", &roster]).await;
    let card = |name: &&str| folder.join(name).join("organisation.json").display().to_string();
    // Of a house whose next issuer key is there already: from the first version on a key needs no two days.
    let next = names.iter().map(|name| folder.join(name).join("organisation.next.json")).filter(|next| next.exists());
    let cards: Vec<_> = names.iter().map(card).chain(next.map(|next| next.display().to_string())).collect();
    let mut add = vec!["roster", "add", "--home", &roster];
    add.extend(cards.iter().map(String::as_str));
    process::expect(&add).await;
    process::expect(&["roster", "sign", "--home", &roster]).await;
    for name in names {
        std::fs::copy(folder.join("roster/roster.cbor"), folder.join(name).join("roster.cbor")).expect("a roster");
    }
}

async fn project(house: &Path, member: &SecretKey) -> ProjectId {
    let (house, key) = (house.display().to_string(), member.public().to_string());
    let add = [
        "clearing",
        "project",
        "add",
        "--home",
        &house,
        "--title",
        "A test",
        "--purpose",
        "research",
        "--member",
        &key,
    ];
    let id = process::expect(&add).await;
    process::expect(&["clearing", "project", "vet", "--home", &house, &id, "registered"]).await;
    let credits = (AWARD.ucr() / 1_000_000).to_string();
    let award =
        ["clearing", "project", "award", "--home", &house, &id, "--credits", &credits, "--funder", "F", "--award", "1"];
    process::expect(&award).await;
    id.parse().expect("a project's id")
}

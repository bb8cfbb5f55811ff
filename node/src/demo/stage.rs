//! The demo's federation: five homes, one roster, five processes, one project with an award.

use std::path::{Path, PathBuf};

use comity_sdk::client::World;
use comity_sdk::profile::Limits;
use comity_sdk::{Client, Profile};
use comity_wire::{Amount, ProjectId, SecretKey};

use super::children::{self, Service};
use crate::failure::Failure;
use crate::home::{self, Home, Role};
use crate::keystore::{KeyName, KeyStore};
use crate::shell;

pub(super) struct Stage {
    pub(super) folder: PathBuf,
    services: Vec<Service>,
    pub(super) project: ProjectId,
    pub(super) member: SecretKey,
    entry: String,
}

/// What the project is given.
pub(super) const AWARD: Amount = Amount::credits(10);

/// The owners: name, title, and the files in `demo/` that describe their models. Three of them talk, so that there is something to
/// compare.
const OWNERS: [(&str, &str, &[&str]); 3] = [
    ("university", "A university: open to all", &[include_str!("university.toml")]),
    ("lab", "A company lab: for registered projects", &[include_str!("lab.toml"), include_str!("lab-c.toml")]),
    ("agency", "An agency: for vetted projects it has granted", &[include_str!("agency.toml")]),
];

/// Progress, for people.
pub(super) fn tell(text: &str) {
    eprintln!("demo: {text}");
}

impl Stage {
    pub(super) async fn set(folder: &Path) -> Result<Self, Failure> {
        tell("keys, certificates and a roster for five organisations");
        let at = |name: &str| folder.join(name);
        Home::init(&at("house"), "house", "The clearing house", Role::House)?;
        Home::init(&at("hub"), "hub", "A hub", Role::Hub)?;
        for (name, title, models) in OWNERS {
            let home = Home::init(&at(name), name, title, Role::Owner)?;
            std::fs::create_dir_all(home.file("models"))?;
            for (number, model) in (1..).zip(models) {
                home::write(&home.file(&format!("models/model-{number}.toml")), model.as_bytes())?;
            }
        }
        roster(folder).await?;

        tell("a hub, a clearing house and three owners' nodes, each a process of its own");
        let mut services = vec![start("hub", &["hub", "run"], folder, None).await?];
        let hub = services[0].ready.clone();
        let dial = format!("{}@{}", hub.libp2p.first().cloned().unwrap_or_default(), hub.node);
        services.push(start("house", &["clearing", "run"], folder, Some(&dial)).await?);
        for (name, ..) in OWNERS {
            services.push(start(name, &["node", "run"], folder, Some(&dial)).await?);
        }

        tell("a project: registered, with an award");
        let researcher = at("researcher");
        let member = KeyStore::of(&researcher).create(KeyName::Member)?;
        let house = at("house").display().to_string();
        let key = member.public().to_string();
        let added = [
            "clearing",
            "project",
            "add",
            "--home",
            &house,
            "--title",
            "Does scale help?",
            "--purpose",
            "research",
            "--member",
            &key,
        ];
        let project: ProjectId = children::run(&added).await?.parse()?;
        let id = project.to_string();
        children::run(&["clearing", "project", "vet", "--home", &house, &id, "registered"]).await?;
        let credits = (AWARD.ucr() / 1_000_000).to_string();
        let award = [
            "clearing",
            "project",
            "award",
            "--home",
            &house,
            &id,
            "--credits",
            &credits,
            "--funder",
            "NAIRR",
            "--award",
            "NAIRR-DEMO-1",
        ];
        children::run(&award).await?;
        Ok(Self { folder: folder.to_owned(), services, project, member, entry: hub.door })
    }

    pub(super) fn home(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub(super) fn nodes(&self) -> usize {
        self.services.len()
    }

    /// A client of its own, with a wallet below `name`.
    pub(super) fn client(&self, name: &str, member: Option<SecretKey>) -> Result<Client, Failure> {
        let home = self.folder.join(name);
        std::fs::create_dir_all(&home)?;
        let profile = self.profile(member.is_some());
        let world = World::new(shell::now, shell::random::<32>);
        Ok(Client::open(&home, profile, member, world)?)
    }

    fn profile(&self, member: bool) -> Profile {
        Profile {
            roster: self.folder.join("roster/roster.cbor"),
            entry: vec![self.entry.clone()],
            house: None,
            project: member.then_some(self.project),
            member_key: Some(self.folder.join("researcher/keys/member.key")),
            mandate: None,
            limits: Limits { token: Amount::credits(1), total: Amount::credits(9), day: None },
        }
    }

    /// Says how to use what runs on.
    pub(super) fn keep(&self) -> Result<(), Failure> {
        let home = self.folder.join("notebook");
        std::fs::create_dir_all(&home)?;
        let profile = toml::to_string(&self.profile(true))?;
        home::write(&home.join(Profile::FILE), profile.as_bytes())?;
        tell("left running. In another terminal:");
        tell(&format!("  export COMITY_HOME={}", home.display()));
        tell(&format!("  alias comity={}", std::env::current_exe()?.display()));
        tell("  comity models search");
        tell("  comity chat lab/tiny-b \"What is the capital of Peru?\"");
        tell("  comity proxy          # plain OpenAI at the address that it prints, with any api_key");
        tell("From Python, and three models side by side: docs/start/quickstart.md");
        tell("Ctrl-C ends it.");
        Ok(())
    }

    pub(super) async fn end(self) {
        for service in self.services.into_iter().rev() {
            service.end().await;
        }
    }
}

async fn roster(folder: &Path) -> Result<(), Failure> {
    let path = |name: &str| folder.join(name).display().to_string();
    let roster = path("roster");
    children::run(&["roster", "init", "--home", &roster]).await?;
    let cards: Vec<_> = ["house", "hub", "university", "lab", "agency"]
        .iter()
        .map(|name| path(&format!("{name}/organisation.json")))
        .collect();
    let mut add = vec!["roster", "add", "--home", &roster];
    add.extend(cards.iter().map(String::as_str));
    children::run(&add).await?;
    children::run(&["roster", "sign", "--home", &roster]).await?;
    for name in ["house", "hub", "university", "lab", "agency"] {
        std::fs::copy(folder.join("roster/roster.cbor"), folder.join(name).join("roster.cbor"))?;
    }
    Ok(())
}

async fn start(name: &'static str, command: &[&str], folder: &Path, hub: Option<&str>) -> Result<Service, Failure> {
    let home = folder.join(name).display().to_string();
    let mut arguments = command.to_vec();
    arguments.extend(["--home", &home, "--listen", "127.0.0.1:0"]);
    if let Some(hub) = hub {
        arguments.extend(["--hub", hub]);
    }
    Service::start(name, &arguments, folder).await
}

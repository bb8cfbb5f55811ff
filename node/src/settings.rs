//! `node.toml`: what an owner says about its node; `hub.toml`: what a hub lends; `clearing.toml`: where a house keeps its
//! books. A key that is not known is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use comity_clearing::amie::central::Central;
use comity_clearing::lots::FundKind;
use comity_gateway::store::{Postgres, Sqlite, Store};
use comity_http::relay;
use comity_ledger::Database;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, While as _};
use crate::home::Home;

/// Says where the spend store is, before what `node.toml` says: for those who hand secrets over in the environment.
pub const SPEND_STORE: &str = "COMITY_SPEND_STORE";
/// The same for a clearing house, before what `clearing.toml` says.
pub const BOOKS_STORE: &str = "COMITY_CLEARING_STORE";
const FILE: &str = "node.toml";
/// The applications of a node that keeps them in SQLite.
const APPLICATIONS_FILE: &str = "access.sqlite";
const HUB_FILE: &str = "hub.toml";
pub const HOUSE_FILE: &str = "clearing.toml";
/// The books of a house that keeps them in SQLite.
pub const BOOKS_FILE: &str = "clearing.sqlite";
/// The same, once they were copied into a PostgreSQL: no house opens them.
pub const BOOKS_MOVED: &str = "clearing.sqlite.moved";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub spend: Books,
    pub feed: Feed,
    /// Bounds of the door: docs/reference/limits.md.
    pub gateway: comity_gateway::Config,
    /// Who answers applications, by which forms and rules: docs/operating/access.md.
    pub access: comity_access::Config,
    /// Which rule packs prompts and answers are looked through with: docs/operating/filters.md.
    pub filters: crate::packs::Filters,
    /// Another server that is asked what is in texts: docs/operating/moderation.md.
    pub moderation: Option<crate::moderation::Moderator>,
    /// Who is told when something happens to an application: docs/operating/notices.md.
    pub notice: comity_access::notice::Targets,
}

/// What stands in `hub.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubSettings {
    /// What calls that are passed on may take up.
    pub relay: relay::Limits,
}

/// What stands in `clearing.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HouseSettings {
    /// Whether this is the home of one more replica: it began with a copy of the first one's keys.
    pub replica: bool,
    pub books: Books,
    pub settlement: Settlement,
    /// A central site of AMIE that this house is a resource of.
    pub central: Option<CentralSettings>,
    /// OpenID providers that say who persons are: docs/operating/persons.md.
    pub issuer: Vec<comity_clearing::persons::Issuer>,
}

/// How a house sells and settles; what is left out is as it ships.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settlement {
    /// One in so many claims is asked to show receipts with the requests behind them; 0: none is.
    sample_one_in: Option<u32>,
    /// How many receipts of such a claim.
    sample_receipts: Option<u8>,
}

impl Settlement {
    pub fn on(self, mut config: comity_clearing::Config) -> comity_clearing::Config {
        config.sample_one_in = self.sample_one_in.unwrap_or(config.sample_one_in);
        config.sample_receipts = self.sample_receipts.unwrap_or(config.sample_receipts);
        config
    }
}

/// Where a central site is, and as what this house stands there: docs/operating/amie-resource.md.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CentralSettings {
    /// What the books call it, for good.
    pub name: String,
    /// XA-SITE.
    pub site: String,
    pub resource: String,
    pub funder: String,
    #[serde(default)]
    pub listing: String,
    #[serde(default)]
    pub kind: FundKind,
    pub ucr_per_service_unit: u64,
    #[serde(default)]
    pub purposes: Vec<String>,
    pub amie_url: String,
    pub usage_url: String,
    /// A file with the key that nobody else can read; relative to the home folder.
    pub key_file: PathBuf,
    /// Seconds from the end of a turn to the next.
    every_s: Option<u64>,
}

impl CentralSettings {
    const EVERY_S: u64 = 300;

    /// # Errors
    /// [`Failure`] saying what is wrong.
    pub fn central(&self) -> Result<Central, Failure> {
        let central = Central {
            name: self.name.clone(),
            site: self.site.clone(),
            resource: self.resource.clone(),
            funder: self.funder.clone(),
            listing: self.listing.clone(),
            kind: self.kind,
            ucr_per_service_unit: self.ucr_per_service_unit,
            purposes: self.purposes.clone(),
        };
        match central.fault() {
            None => Ok(central),
            Some(fault) => Err(Failure::new(format!("{HOUSE_FILE}: [central] {fault}"))
                .hint("docs/operating/amie-resource.md shows one")),
        }
    }

    pub fn every_s(&self) -> u64 {
        self.every_s.unwrap_or(Self::EVERY_S).max(1)
    }

    /// # Errors
    /// [`Failure`] naming the file where others can read it, or it holds no key.
    pub fn key(&self, home: &Home) -> Result<zeroize::Zeroizing<String>, Failure> {
        secret_of(home, &self.key_file)
    }
}

/// What a file holds that nobody else can read; relative to the home folder.
///
/// # Errors
/// [`Failure`] naming the file where others can read it, or it holds nothing.
pub fn secret_of(home: &Home, file: &Path) -> Result<zeroize::Zeroizing<String>, Failure> {
    let path = home.path.join(file);
    closed_to_others(&path)?;
    let text = std::fs::read_to_string(&path).while_(format!("cannot read {}", path.display()))?;
    let secret = zeroize::Zeroizing::new(text.trim().to_owned());
    if secret.is_empty() {
        return Err(Failure::new(format!("{} holds no key", path.display()))
            .hint("write what the other side gave you into it, and nothing else"));
    }
    Ok(secret)
}

/// Where a node's charges rest, or a house's ledger.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Books {
    /// `sqlite`, or `postgres://USER:PASSWORD@HOST/DATABASE`.
    store: Option<Address>,
    /// A file with the same, that nobody else can read; relative to the home folder.
    store_file: Option<std::path::PathBuf>,
}

/// The organisation's feed: of the processes of one node, exactly one writes it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Feed {
    pub publish: bool,
}

impl Default for Feed {
    fn default() -> Self {
        Self { publish: true }
    }
}

/// An address that may hold a password: it cannot be printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(…)")
    }
}

impl Settings {
    /// # Errors
    /// [`Failure`] naming the file; never with what stands in it under `[spend]`, which may be a secret.
    pub fn read(home: &Home) -> Result<Self, Failure> {
        const HINT: &str = "[spend] store = \"sqlite\" or \"postgres://…\", or store_file = \"PATH\" to a file with the \
                            address; docs/reference/limits.md lists what may stand under [gateway], \
                            docs/operating/access.md what may stand under [access], docs/operating/notices.md under [[notice]]";
        let settings: Self = read(&home.file(FILE), HINT)?;
        let fault = settings.gateway.fault().or_else(|| settings.access.fault());
        let fault = fault.or_else(|| settings.notice.fault().map(|bad| bad.to_string()));
        match fault {
            None => Ok(settings),
            Some(fault) => Err(Failure::new(format!("{}: {fault}", home.file(FILE).display())).hint(HINT)),
        }
    }
}

impl HubSettings {
    /// # Errors
    /// [`Failure`] naming the file and what is wrong in it.
    pub fn read(home: &Home) -> Result<Self, Failure> {
        const HINT: &str = "docs/operating/doors.md lists what may stand under [relay]";
        let path = home.file(HUB_FILE);
        let settings: Self = read(&path, HINT)?;
        match settings.relay.fault() {
            None => Ok(settings),
            Some(fault) => Err(Failure::new(format!("{}: {fault}", path.display())).hint(HINT)),
        }
    }
}

impl HouseSettings {
    /// # Errors
    /// [`Failure`] naming the file; never with what stands in it, which may be a secret.
    pub fn read(home: &Home) -> Result<Self, Failure> {
        const HINT: &str = "[books] store = \"sqlite\" or \"postgres://…\", or store_file = \"PATH\" to a file with the address; \
             [settlement] sample_one_in, sample_receipts; [central] as docs/operating/amie-resource.md shows; [[issuer]] as docs/operating/persons.md shows; replica";
        read(&home.file(HOUSE_FILE), HINT)
    }
}

/// What stands in a file, or what holds without it.
fn read<T: DeserializeOwned + Default>(path: &Path, hint: &'static str) -> Result<T, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(error).while_(format!("cannot read {}", path.display())),
    };
    // toml's own error shows the line, and the line may hold a password.
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        Failure::new(format!("{} cannot be read: {}, line {line}", path.display(), error.message())).hint(hint)
    })
}

impl Books {
    /// Opens the spend store that was asked for.
    ///
    /// # Errors
    /// [`Failure`] saying which, without its address.
    pub async fn open(&self, home: &Home) -> Result<Arc<dyn Store>, Failure> {
        let address = self.address(said(SPEND_STORE), home)?;
        if address.is_postgres() {
            let store = Postgres::open(&address.0).await.while_("cannot open the spend store in PostgreSQL")?;
            tracing::info!(fence = store.fence(), "the spend store is shared: other gateways of this node may use it");
            return Ok(Arc::new(store));
        }
        address.is_one_of_two()?;
        let path = home.file("spend.sqlite");
        let store = Sqlite::open(&path).await.while_(format!("cannot open {}", path.display()))?;
        Ok(Arc::new(store))
    }

    /// Where the node keeps applications: in the same PostgreSQL, or in a file of their own.
    ///
    /// # Errors
    /// [`Failure`] saying which, without its address.
    pub async fn applications(&self, home: &Home) -> Result<Arc<dyn comity_access::store::Store>, Failure> {
        let address = self.address(said(SPEND_STORE), home)?;
        if address.is_postgres() {
            let store = comity_access::store::Postgres::open(&address.0).await;
            return Ok(Arc::new(store.while_("cannot open the applications in PostgreSQL")?));
        }
        let path = home.file(APPLICATIONS_FILE);
        let store = comity_access::store::Sqlite::open(&path).await;
        Ok(Arc::new(store.while_(format!("cannot open {}", path.display()))?))
    }

    /// Whether other processes may use the same store.
    ///
    /// # Errors
    /// [`Failure`] as of [`Books::open`].
    pub fn is_shared(&self, home: &Home) -> Result<bool, Failure> {
        Ok(self.address(said(SPEND_STORE), home)?.0 != "sqlite")
    }

    /// The clearing house's database that was asked for, and what to call it in messages.
    ///
    /// # Errors
    /// [`Failure`] saying which, without its address.
    pub fn ledger(&self, home: &Home) -> Result<(Database, String), Failure> {
        let kept = self.kept(home)?;
        kept.have_not_moved()?;
        Ok((kept.database()?, kept.name()))
    }

    /// Where a clearing house keeps its ledger.
    ///
    /// # Errors
    /// [`Failure`] saying which, without its address.
    pub fn kept(&self, home: &Home) -> Result<Kept, Failure> {
        let address = self.address(said(BOOKS_STORE), home)?;
        if address.is_postgres() {
            return Ok(Kept::Postgres(address));
        }
        address.is_one_of_two()?;
        Ok(Kept::Sqlite(home.file(BOOKS_FILE)))
    }

    /// The environment, then the file of its own, then `node.toml`, then SQLite.
    fn address(&self, said: Option<Address>, home: &Home) -> Result<Address, Failure> {
        if let Some(said) = said {
            return Ok(said);
        }
        match (&self.store, &self.store_file) {
            (Some(_), Some(_)) => Err(Failure::new("both store and store_file are said").hint("leave one of them out")),
            (Some(store), None) => Ok(store.clone()),
            (None, Some(file)) => {
                let path = home.path.join(file);
                closed_to_others(&path)?;
                let text = std::fs::read_to_string(&path).while_(format!("cannot read {}", path.display()))?;
                Ok(Address(text.trim().to_owned()))
            }
            (None, None) => Ok(Address("sqlite".into())),
        }
    }
}

/// A house's books: a file of its home, or a database elsewhere.
#[derive(Clone, Debug)]
pub enum Kept {
    Sqlite(PathBuf),
    Postgres(Address),
}

impl Kept {
    /// # Errors
    /// [`Failure`], which does not say the address.
    pub fn database(&self) -> Result<Database, Failure> {
        match self {
            Self::Sqlite(path) => Ok(Database::sqlite(path)),
            Self::Postgres(address) => Database::postgres(&address.0).while_("cannot use the address of the books"),
        }
    }

    /// Whether they are in the PostgreSQL of this address.
    pub fn is_at(&self, address: &Address) -> bool {
        matches!(self, Self::Postgres(own) if own == address)
    }

    /// Refuses to begin empty books where the house's own were copied elsewhere.
    ///
    /// # Errors
    /// [`Failure`] with where to look.
    pub fn have_not_moved(&self) -> Result<(), Failure> {
        match self {
            Self::Sqlite(path) if !path.exists() && path.with_file_name(BOOKS_MOVED).exists() => Err(Failure::new(
                "the books of this house were copied into a PostgreSQL, and the settings do not say where",
            )
            .hint("[books] store_file = \"keys/books.url\" in clearing.toml")),
            _ => Ok(()),
        }
    }

    /// What to call them in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(_) => "the books in PostgreSQL".to_owned(),
        }
    }
}

impl Address {
    /// An address that a command was told, as it stands or in a file that nobody else can read.
    ///
    /// # Errors
    /// [`Failure`] where it is not PostgreSQL's, without saying it.
    pub fn told(address: Option<String>, file: Option<&Path>) -> Result<Option<Self>, Failure> {
        let address = match (address, file) {
            (Some(address), _) => Some(Self(address)),
            (None, Some(path)) => {
                closed_to_others(path)?;
                let text = std::fs::read_to_string(path).while_(format!("cannot read {}", path.display()))?;
                Some(Self(text.trim().to_owned()))
            }
            (None, None) => None,
        };
        match address {
            Some(address) if !address.is_postgres() => Err(Failure::new("the address does not begin with postgres://")),
            address => Ok(address),
        }
    }

    /// With its password: for whoever connects, never for a message.
    pub(crate) fn exposed(&self) -> &str {
        &self.0
    }

    fn is_postgres(&self) -> bool {
        self.0.starts_with("postgres://") || self.0.starts_with("postgresql://")
    }

    fn is_one_of_two(&self) -> Result<(), Failure> {
        if self.0 == "sqlite" {
            return Ok(());
        }
        Err(Failure::new("store is neither `sqlite` nor an address that begins with postgres://")
            .hint("say store = \"sqlite\", or nothing, where one process is enough"))
    }
}

/// What the environment says.
fn said(variable: &str) -> Option<Address> {
    std::env::var(variable).ok().map(Address)
}

#[cfg(unix)]
fn closed_to_others(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let about = std::fs::metadata(path).while_(format!("cannot read {}", path.display()))?;
    if about.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("{} can be read by others", path.display())).hint(format!("chmod 600 {}", path.display())))
}

#[cfg(not(unix))]
fn closed_to_others(_: &Path) -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Role;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
        (folder, home)
    }

    fn said(home: &Home, text: &str) -> Result<Address, Failure> {
        std::fs::write(home.file(FILE), text).unwrap();
        Settings::read(home)?.spend.address(None, home)
    }

    #[test]
    fn a_node_keeps_its_books_in_sqlite_unless_it_says_otherwise() {
        let (_folder, home) = home();
        assert_eq!(Settings::read(&home).unwrap().spend.address(None, &home).unwrap().0, "sqlite");
        assert_eq!(said(&home, "[spend]\nstore = \"postgres://db/x\"").unwrap().0, "postgres://db/x");
        std::fs::write(home.file("url"), "postgres://db/y\n").unwrap();
        let text = "[spend]\nstore_file = \"url\"";
        std::fs::set_permissions(home.file("url"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert!(said(&home, text).unwrap_err().to_string().contains("read by others"));
        std::fs::set_permissions(home.file("url"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(said(&home, text).unwrap().0, "postgres://db/y");
        let settings = Settings::read(&home).unwrap();
        assert!(settings.spend.is_shared(&home).unwrap() && settings.feed.publish);
        let environment = Some(Address("postgres://db/z".into()));
        assert_eq!(settings.spend.address(environment, &home).unwrap().0, "postgres://db/z");
    }

    #[test]
    fn an_owner_sets_the_bounds_of_its_door_and_none_that_would_let_nobody_in() {
        let (_folder, home) = home();
        let said = |text: &str| {
            std::fs::write(home.file(FILE), text).unwrap();
            Settings::read(&home).map(|settings| settings.gateway)
        };
        let gateway = said("[gateway]\nin_flight_max = 4_096").unwrap();
        let usual = comity_gateway::Config::default();
        assert_eq!((gateway.in_flight_max, gateway.queue_max), (4_096, usual.queue_max), "what it leaves out stays");
        for (wrong, what) in [
            ("[gateway]\nin_flight_max = 0", "gateway.in_flight_max"),
            ("[gateway]\nin_flight_max = 1_000_001", "gateway.in_flight_max"),
            ("[gateway]\nqueue_wait_s = 0", "gateway.queue_wait_s"),
            ("[gateway]\ndrain_s = 0", "gateway.drain_s"),
            ("[gateway]\ndrain_s = 86_401", "gateway.drain_s"),
            ("[gateway]\nin_flight = 9", "in_flight"),
        ] {
            let failure = said(wrong).unwrap_err().to_string();
            assert!(failure.contains("node.toml") && failure.contains(what), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_password_stands_in_no_failure() {
        let (_folder, home) = home();
        for text in [
            "[spend]\nstore = \"postgres://u:canary-51c9@h:99999999/d\"",
            "[spend]\nstore = \"mysql://u:canary-51c9@h/d\"",
            "[spend]\nstore = \"postgres://u:canary-51c9@h/d",
            "[spend]\nstor = \"postgres://u:canary-51c9@h/d\"",
            "[spend]\nstore = [\"postgres://u:canary-51c9@h/d\"]",
        ] {
            std::fs::write(home.file(FILE), text).unwrap();
            let failure = match Settings::read(&home) {
                Ok(settings) => {
                    assert!(!format!("{settings:?}").contains("canary"));
                    settings.spend.open(&home).await.err().expect("it cannot be opened")
                }
                Err(failure) => failure,
            };
            let shown = format!("{failure} {failure:?}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn a_house_says_how_often_it_samples() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("house"), "house", "House", Role::House).unwrap();
        let usual = comity_clearing::Config::new(home.card.organisation);
        let said = |text: &str| {
            std::fs::write(home.file(HOUSE_FILE), text).unwrap();
            HouseSettings::read(&home).map(|settings| settings.settlement.on(usual.clone()))
        };
        let config = said("[settlement]\nsample_one_in = 4").unwrap();
        assert_eq!((config.sample_one_in, config.sample_receipts), (4, usual.sample_receipts));
        assert_eq!(said("").unwrap().sample_one_in, usual.sample_one_in);
        assert!(said("[settlement]\nsample_one = 4").unwrap_err().to_string().contains("sample_one"));
    }

    #[test]
    fn a_house_says_whom_it_believes_and_a_word_that_is_not_known_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("house"), "house", "House", Role::House).unwrap();
        let said = |text: &str| {
            std::fs::write(home.file(HOUSE_FILE), text).unwrap();
            HouseSettings::read(&home).map(|settings| settings.issuer)
        };
        let whole = "[[issuer]]\nname = \"uni\"\nissuer = \"https://idp.uni.example\"\nclient_id = \"comity\"\nprofile = \"institution\"\n";
        let issuers = said(&format!("{whole}client_secret_file = \"keys/uni\"\nsirtfi = true")).unwrap();
        assert!(issuers.len() == 1 && issuers[0].sirtfi && issuers[0].device);
        assert_eq!(issuers[0].fault(), None);
        for (wrong, what) in
            [("client_secret = \"s\"", "client_secret"), ("profile = \"saml\"", "duplicate"), ("scope = []", "scope")]
        {
            let failure = said(&format!("{whole}{wrong}")).unwrap_err().to_string();
            assert!(failure.contains("clearing.toml") && failure.contains(what), "{failure}");
        }
        assert!(said(&whole.replace("institution", "saml")).unwrap_err().to_string().contains("saml"));
        assert!(said("").unwrap().is_empty());
    }

    #[test]
    fn a_hub_says_what_it_lends_and_a_word_that_is_not_known_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("hub"), "hub", "Hub", Role::Hub).unwrap();
        let said = |text: &str| {
            std::fs::write(home.file(HUB_FILE), text).unwrap();
            HubSettings::read(&home).map(|settings| settings.relay)
        };
        let usual = relay::Limits::default();
        assert_eq!(HubSettings::read(&home).unwrap().relay.total, usual.total);
        let relay = said("[relay]\nidle_ms_max = 5000\n[relay.node]\ntunnels_max = 2\nbytes_per_s = 100000").unwrap();
        assert_eq!((relay.node.tunnels_max, relay.node.bytes_per_s, relay.idle_ms_max), (2, 100_000, 5_000));
        assert_eq!((relay.token, relay.reach_ms_max), (usual.token, usual.reach_ms_max), "what it leaves out stays");
        for (wrong, what) in [
            ("[relay]\ntunnels = 3", "tunnels"),
            ("[realy]", "realy"),
            ("[relay.node]\ntunnels_max = 1\nbytes_per_s = 1\nburst = 2", "burst"),
            ("[relay.token]\ntunnels_max = 1\nbytes_per_s = 32767", "relay.token.bytes_per_s"),
            ("[relay]\nreach_ms_max = 0", "relay.reach_ms_max"),
        ] {
            let failure = said(wrong).unwrap_err().to_string();
            assert!(failure.contains("hub.toml") && failure.contains(what), "{failure}");
        }
        assert!(said("[relay.token]\ntunnels_max = 1\nbytes_per_s = 32768").is_ok());
    }
}

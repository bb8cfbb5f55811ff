//! `comity roster init|add|retire|sign|show`: the trust root, as a file that a threshold of signers keeps.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comity_wire::cbor::List;
use comity_wire::object::{Anchor, IssuerKey, IssuerStatus, IssuerUse, Organisation, Roster, RosterFile};
use comity_wire::time::DAY_S;
use comity_wire::{PublicKey, RosterId, Timestamp};

use crate::failure::{Failure, While as _};
use crate::home::{self, Card, Role};
use crate::keystore::{self, KeyName, KeyStore};
use crate::shell;

#[derive(Debug, Subcommand)]
pub enum RosterCommand {
    /// Make a roster key; the first one also starts a roster of version 1, still without members
    Init {
        /// Folder for the roster (draft.cbor, roster.cbor) and this signer's key
        #[arg(long, default_value = "roster")]
        home: PathBuf,
        /// How many signers must sign
        #[arg(long, default_value_t = 1)]
        threshold: u8,
        /// Further signers' keys, did:key:z6Mk…
        #[arg(long = "signer")]
        signers: Vec<PublicKey>,
    },
    /// Add or replace organisations in the draft of the next version
    Add {
        #[arg(long, default_value = "roster")]
        home: PathBuf,
        /// organisation.json files, as `init` commands write them
        #[arg(required = true)]
        cards: Vec<PathBuf>,
    },
    /// Say in the draft of the next version that an issuer key signs no more
    Retire {
        #[arg(long, default_value = "roster")]
        home: PathBuf,
        /// did:key:z6Mk…, as `comity roster show` lists it
        key: PublicKey,
        /// Tokens that it issued until then still stand: hours from now
        #[arg(long, default_value_t = 0, conflicts_with = "compromised", value_parser = clap::value_parser!(u64).range(..=RETIRE_HOURS_MAX))]
        hours: u64,
        /// Somebody else has it: none of its tokens stands, and its organisation bears what is lost
        #[arg(long)]
        compromised: bool,
    },
    /// Sign the draft; with the threshold reached it becomes roster.cbor
    Sign {
        #[arg(long, default_value = "roster")]
        home: PathBuf,
        /// This signer's key, where it is not in the folder
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Print a roster: version, expiry, signatures, organisations
    Show {
        /// A roster.cbor
        #[arg(default_value = "roster/roster.cbor")]
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

const DRAFT: &str = "draft.cbor";
const CURRENT: &str = "roster.cbor";
const VALID_S: u64 = 365 * DAY_S;
/// The farthest retirement of a key, hours from now: a year.
const RETIRE_HOURS_MAX: u64 = 365 * 24;

/// # Errors
/// [`Failure`] with a hint.
pub fn run(command: RosterCommand) -> Result<String, Failure> {
    match command {
        RosterCommand::Init { home, threshold, signers } => init(&home, threshold, signers),
        RosterCommand::Add { home, cards } => add(&home, &cards),
        RosterCommand::Retire { home, key, hours, compromised } => retire(&home, key, (!compromised).then_some(hours)),
        RosterCommand::Sign { home, key } => sign(&home, key.as_deref()),
        RosterCommand::Show { file, json } => show(&file, json),
    }
}

fn init(home: &Path, threshold: u8, mut signers: Vec<PublicKey>) -> Result<String, Failure> {
    let key = KeyStore::of(home).create(KeyName::Roster)?;
    signers.push(key.public());
    signers.sort_unstable();
    signers.dedup();
    let now = shell::now();
    let roster = Roster {
        federation: RosterId(shell::random()),
        version: 1,
        issued_at: now,
        expires_at: now.plus(VALID_S),
        threshold,
        signers: List::new(signers)?,
        organisations: List::default(),
        anchors: List::default(),
    };
    keep(home, &roster)?;
    Ok(format!(
        "roster of {} started in {}\nyour key: {}\nnext: comity roster add",
        roster.federation,
        home.display(),
        key.public()
    ))
}

/// Writes an unsigned draft, after the rules that every reader will apply.
fn keep(home: &Path, roster: &Roster) -> Result<(), Failure> {
    let file = RosterFile::new(roster);
    RosterFile::decode(&file.to_bytes()).while_("the roster breaks its own rules")?;
    home::write(&home.join(DRAFT), &file.to_bytes())
}

fn load(path: &Path) -> Result<(RosterFile, Roster), Failure> {
    let bytes = std::fs::read(path)
        .while_(format!("cannot read {}", path.display()))
        .map_err(|failure| failure.hint("start a roster with `comity roster init`"))?;
    RosterFile::decode(&bytes).while_(format!("{} is not a roster", path.display()))
}

/// The draft, or a new one on top of the current version.
fn draft(home: &Path, now: Timestamp) -> Result<Roster, Failure> {
    if home.join(DRAFT).exists() {
        return Ok(load(&home.join(DRAFT))?.1);
    }
    let (_, mut roster) = load(&home.join(CURRENT))?;
    roster.version += 1;
    roster.issued_at = now;
    roster.expires_at = now.plus(VALID_S);
    Ok(roster)
}

fn add(home: &Path, cards: &[PathBuf]) -> Result<String, Failure> {
    let now = shell::now();
    let mut roster = draft(home, now)?;
    let mut added = Vec::new();
    for path in cards {
        let text = std::fs::read_to_string(path).while_(format!("cannot read {}", path.display()))?;
        let card: Card =
            serde_json::from_str(&text).while_(format!("{} is not an organisation.json", path.display()))?;
        added.push(card.name.clone());
        enter(&mut roster, card, now)?;
    }
    keep(home, &roster)?;
    Ok(format!("draft of version {} has {}\nnext: comity roster sign", roster.version, added.join(", ")))
}

fn enter(roster: &mut Roster, card: Card, now: Timestamp) -> Result<(), Failure> {
    let from = if roster.version == 1 { now.minus(comity_wire::time::SKEW_S) } else { now.plus(Roster::FIRST_USE_S) };
    let use_ = if card.role == Role::House { IssuerUse::Budget } else { IssuerUse::OwnNode };
    // Keys that others know already stay as they are: an organisation that is entered again keeps issuing meanwhile.
    let known = roster.organisation(card.organisation).map(|known| known.issuers.clone().into_vec());
    let mut issuers = known.unwrap_or_default();
    if let Some(key) = card.issuer_key
        && !issuers.iter().any(|issuer| issuer.key == key && issuer.use_ == use_)
    {
        issuers.push(IssuerKey { key, use_, status: IssuerStatus::Active, from, retired_at: None });
    }
    let organisation = Organisation {
        id: card.organisation,
        name: home::text("the organisation's name", &card.name)?,
        title: home::text("the organisation's title", &card.title)?,
        key: card.key,
        issuers: List::new(issuers)?,
    };
    let mut organisations = std::mem::take(&mut roster.organisations).into_vec();
    organisations.retain(|other| other.id != organisation.id);
    organisations.push(organisation);
    organisations.sort_by_key(|organisation| organisation.id);
    roster.organisations = List::new(organisations)?;
    if let Some(role) = card.role.anchor() {
        let mut anchors = std::mem::take(&mut roster.anchors).into_vec();
        anchors.retain(|anchor| anchor.node != card.node);
        anchors.push(Anchor { node: card.node, org: card.organisation, role, transport_key: card.transport_key });
        anchors.sort_by_key(|anchor| anchor.node);
        roster.anchors = List::new(anchors)?;
    }
    Ok(())
}

/// Marks an issuer key as retired in so many hours; none: as compromised.
fn retire(home: &Path, key: PublicKey, hours: Option<u64>) -> Result<String, Failure> {
    let now = shell::now();
    let mut roster = draft(home, now)?;
    let mut organisations = std::mem::take(&mut roster.organisations).into_vec();
    let mut names = Vec::new();
    for organisation in &mut organisations {
        let mut issuers = std::mem::take(&mut organisation.issuers).into_vec();
        for issuer in issuers.iter_mut().filter(|issuer| issuer.key == key) {
            (issuer.status, issuer.retired_at) = match hours {
                // What somebody else has does not become sound again.
                _ if issuer.status == IssuerStatus::Compromised => (IssuerStatus::Compromised, None),
                None => (IssuerStatus::Compromised, None),
                Some(hours) => (IssuerStatus::Retired, Some(now.plus(hours * 3600))),
            };
            names.push(organisation.name.to_string());
        }
        organisation.issuers = List::new(issuers)?;
    }
    if names.is_empty() {
        return Err(Failure::new(format!("no organisation of this roster has the issuer key {key}"))
            .hint("comity roster show lists them"));
    }
    roster.organisations = List::new(organisations)?;
    keep(home, &roster)?;
    let what = if hours.is_some() { "retired" } else { "compromised" };
    Ok(format!(
        "draft of version {}: the key of {} is {what}\nnext: comity roster sign",
        roster.version,
        names.join(", ")
    ))
}

fn sign(home: &Path, key: Option<&Path>) -> Result<String, Failure> {
    let key = match key {
        Some(path) => keystore::read(path)?,
        None => KeyStore::of(home).read(KeyName::Roster)?,
    };
    let (mut file, roster) =
        load(&home.join(DRAFT)).map_err(|failure| failure.hint("nothing to sign: add an organisation first"))?;
    let before = home.join(CURRENT).exists().then(|| load(&home.join(CURRENT))).transpose()?.map(|(_, roster)| roster);
    let known =
        roster.signers.contains(&key.public()) || before.as_ref().is_some_and(|b| b.signers.contains(&key.public()));
    if !known {
        return Err(Failure::new(format!("{} is not a signer of this roster", key.public())));
    }
    file.sign(&key);
    let enough = |roster: &Roster| file.count(&roster.signers) >= usize::from(roster.threshold);
    if enough(&roster) && before.as_ref().is_none_or(enough) {
        home::write(&home.join(CURRENT), &file.to_bytes())?;
        std::fs::remove_file(home.join(DRAFT)).while_("cannot remove the draft")?;
        return Ok(format!("version {} is signed: {}", roster.version, home.join(CURRENT).display()));
    }
    home::write(&home.join(DRAFT), &file.to_bytes())?;
    let count = file.count(&roster.signers);
    Ok(format!("signed by {count} of {}: hand {} to the next signer", roster.threshold, home.join(DRAFT).display()))
}

fn show(path: &Path, json: bool) -> Result<String, Failure> {
    let (file, roster) = load(path)?;
    if json {
        return Ok(serde_json::to_string_pretty(&roster)?);
    }
    let signed = file.count(&roster.signers);
    let mut lines = vec![
        format!("{} version {}", roster.federation, roster.version),
        format!("expires {}; signed by {signed} of {} needed", roster.expires_at, roster.threshold),
    ];
    for org in &roster.organisations {
        let anchor =
            roster.anchors.iter().find(|anchor| anchor.org == org.id).map_or("owner", |anchor| anchor.role.as_str());
        lines.push(format!("{:16} {:8} {}  {}", org.name.as_str(), anchor, org.id, org.title));
        for issuer in &org.issuers {
            let when = match issuer.retired_at {
                Some(at) => format!("until {at}"),
                None => format!("from {}", issuer.from),
            };
            lines.push(format!("{:16} issuer   {} {when}  {}", "", issuer.status.as_str(), issuer.key));
        }
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use comity_wire::{OrgId, SecretKey};

    use super::*;
    use crate::home::Home;

    #[test]
    fn a_second_version_needs_the_first_ones_signers() {
        let folder = tempfile::tempdir().unwrap();
        let roster = folder.path().join("roster");
        let other = folder.path().join("other");
        let lab = Home::init(&folder.path().join("lab"), "lab", "A lab", Role::Owner).unwrap();
        init(&roster, 1, Vec::new()).unwrap();
        add(&roster, &[lab.file("organisation.json")]).unwrap();
        assert!(sign(&roster, None).unwrap().contains("version 1 is signed"));
        let hub = Home::init(&folder.path().join("hub"), "hub", "A hub", Role::Hub).unwrap();
        add(&roster, &[hub.file("organisation.json")]).unwrap();
        init(&other, 1, Vec::new()).unwrap();
        let stranger = other.join("keys/roster.key");
        assert!(sign(&roster, Some(&stranger)).unwrap_err().to_string().contains("not a signer"));
        assert!(sign(&roster, None).unwrap().contains("version 2 is signed"));
        let shown = show(&roster.join(CURRENT), false).unwrap();
        assert!(shown.contains("version 2") && shown.contains("hub"), "{shown}");
        let hub_twice = add(&roster, &[hub.file("organisation.json")]);
        assert!(hub_twice.unwrap().contains("version 3"));
    }

    #[test]
    fn a_key_that_is_retired_stays_listed_and_one_that_was_stolen_stays_stolen() {
        let folder = tempfile::tempdir().unwrap();
        let roster = folder.path().join("roster");
        let house = Home::init(&folder.path().join("house"), "house", "House", Role::House).unwrap();
        let key = house.card.issuer_key.unwrap();
        init(&roster, 1, Vec::new()).unwrap();
        add(&roster, &[house.file("organisation.json")]).unwrap();
        sign(&roster, None).unwrap();
        let of = |file: &str| load(&roster.join(file)).unwrap().1.organisations[0].issuers[0].clone();
        let unknown = retire(&roster, SecretKey::from_seed([9; 32]).public(), Some(0)).unwrap_err();
        assert!(unknown.to_string().contains("no organisation"), "{unknown}");
        assert!(retire(&roster, key, Some(2)).unwrap().contains("the key of house is retired"));
        let in_two_hours = shell::now().plus(7_200);
        assert!(of(DRAFT).retired_at.unwrap().since(in_two_hours.minus(60)) <= 60);
        assert_eq!(of(DRAFT).status, IssuerStatus::Retired);
        retire(&roster, key, None).unwrap();
        retire(&roster, key, Some(0)).unwrap();
        assert_eq!((of(DRAFT).status, of(DRAFT).retired_at), (IssuerStatus::Compromised, None));
        assert!(sign(&roster, None).unwrap().contains("version 2 is signed"));
        let shown = show(&roster.join(CURRENT), false).unwrap();
        assert!(shown.contains(&format!("{key}")) && shown.contains("compromised"), "{shown}");
        // Who is entered again with it does not bring it back.
        add(&roster, &[house.file("organisation.json")]).unwrap();
        assert_eq!(of(DRAFT).status, IssuerStatus::Compromised);
    }

    fn key(n: u8) -> PublicKey {
        SecretKey::from_seed([n; 32]).public()
    }

    fn card(issuer: u8) -> Card {
        Card {
            name: "house".to_owned(),
            title: "The house".to_owned(),
            role: Role::House,
            organisation: OrgId([1; 16]),
            node: comity_wire::NodeId([2; 16]),
            key: key(1),
            transport_key: key(2),
            issuer_key: Some(key(issuer)),
        }
    }

    #[test]
    fn an_organisation_entered_again_keeps_its_keys_and_a_new_one_waits() {
        let now = Timestamp(1_000_000);
        let mut first = Roster {
            federation: RosterId([1; 16]),
            version: 1,
            issued_at: now,
            expires_at: now.plus(VALID_S),
            threshold: 1,
            signers: List::new(vec![key(9)]).unwrap(),
            organisations: List::default(),
            anchors: List::default(),
        };
        enter(&mut first, card(3), now).unwrap();
        let later = now.plus(DAY_S);
        let mut second = Roster { version: 2, issued_at: later, ..first.clone() };
        enter(&mut second, card(3), later).unwrap();
        assert_eq!(second.organisations, first.organisations, "nothing about its key has changed");
        enter(&mut second, card(4), later).unwrap();
        let from: Vec<_> = second.organisations[0].issuers.iter().map(|issuer| issuer.from).collect();
        assert_eq!(from, [first.organisations[0].issuers[0].from, later.plus(Roster::FIRST_USE_S)]);
        assert_eq!(second.hasty_issuer(&first), None, "every reader takes it");
    }
}

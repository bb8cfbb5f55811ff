//! A home folder: one organisation's node, house or hub, with its keys, certificates, roster and stores.
//!
//! ```text
//! organisation.json   public: what a roster signer needs (roster add)
//! keys/*.key          secret: 0600
//! node-certificate.cbor  writer-certificate.cbor   roster.cbor
//! node.toml  hub.toml  configuration
//! *.sqlite  admin.sock   state
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};

use comity_wire::cbor::{List, Text};
use comity_wire::object::{AnchorRole, NodeCertificate, ReceiptKey, Roster, RosterFile, WriterCertificate};
use comity_wire::time::DAY_S;
use comity_wire::{NodeId, OrgId, PublicKey, Signed, Timestamp, cose};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, While as _};
use crate::keystore::{KeyName, KeyStore};
use crate::settings::HOUSE_FILE;
use crate::shell;

/// What stands in `organisation.json`: public, and all that a roster needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    pub organisation: OrgId,
    pub name: String,
    pub title: String,
    pub key: PublicKey,
    pub node: NodeId,
    pub transport_key: PublicKey,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_key: Option<PublicKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Offers models.
    Owner,
    /// The clearing house.
    House,
    /// Relays and helps others sync.
    Hub,
}

impl Role {
    /// Owners are found through their feeds; house and hubs must be on the roster itself.
    pub const fn anchor(self) -> Option<AnchorRole> {
        match self {
            Self::Owner => None,
            Self::House => Some(AnchorRole::House),
            Self::Hub => Some(AnchorRole::Hub),
        }
    }
}

/// A home folder that was initialised.
#[derive(Clone, Debug)]
pub struct Home {
    pub path: PathBuf,
    pub card: Card,
    pub keys: KeyStore,
}

impl Home {
    /// Makes keys, ids and certificates. Nothing that exists is overwritten.
    ///
    /// # Errors
    /// [`Failure`] where the folder is a home already, or a name is not one.
    pub fn init(path: &Path, name: &str, title: &str, role: Role) -> Result<Self, Failure> {
        if path.join("organisation.json").exists() {
            return Err(Failure::new(format!("{} is a home already", path.display())).hint("choose another --home"));
        }
        if !comity_wire::id::is_slug(name) || name.len() > 48 {
            return Err(Failure::new(format!("'{name}' cannot be an organisation's name"))
                .hint("use a-z, 0-9, '.', '_' and '-', at most 48: it is the first half of your model ids"));
        }
        std::fs::create_dir_all(path).while_(format!("cannot make {}", path.display()))?;
        // Books and spend stores lie in it, and no other account of this computer has a need to read them.
        #[cfg(unix)]
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .while_(format!("cannot close {} to others", path.display()))?;
        let keys = KeyStore::of(path);
        let organisation = keys.create(KeyName::Organisation)?;
        let writer = keys.create(KeyName::Writer)?;
        let transport = keys.create(KeyName::Transport)?;
        let receipt = keys.create(KeyName::Receipt)?;
        if role == Role::House {
            keys.create(KeyName::Log)?;
        }
        let issuer = match role {
            Role::Hub => None,
            Role::Owner | Role::House => Some(keys.create(KeyName::Issuer)?.public()),
        };
        let card = Card {
            organisation: OrgId(shell::random()),
            name: name.to_owned(),
            title: title.to_owned(),
            key: organisation.public(),
            node: NodeId(shell::random()),
            transport_key: transport.public(),
            role,
            issuer_key: issuer,
        };
        let home = Self { path: path.to_owned(), card, keys };
        home.certify(writer.public(), transport.public(), receipt.public(), shell::now())?;
        let json = serde_json::to_string_pretty(&home.card)? + "\n";
        write(&path.join("organisation.json"), json.as_bytes())?;
        Ok(home)
    }

    /// # Errors
    /// [`Failure`] where there is no home.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = path.join("organisation.json");
        let text =
            std::fs::read_to_string(&file).while_(format!("{} is not a home", path.display())).map_err(|failure| {
                failure.hint("make one with `comity node init`, `comity clearing init` or `comity hub init`")
            })?;
        let card = serde_json::from_str(&text).while_(format!("{} cannot be read", file.display()))?;
        Ok(Self { path: path.to_owned(), card, keys: KeyStore::of(path) })
    }

    /// Signs both certificates again, for the same keys, from `now` on: needs the organisation key. The receipt key
    /// keeps the date it counts from, so that older receipts still verify.
    ///
    /// # Errors
    /// [`Failure`] where a key or a certificate cannot be read.
    pub fn renew(&self, now: Timestamp) -> Result<Timestamp, Failure> {
        self.renew_raised(now, 0)
    }

    /// [`Home::renew`] after a backup was put back: the certificate's `restore` and the feed's epoch are one higher, so that
    /// nothing which the home has forgotten is said a second time with other content.
    ///
    /// # Errors
    /// As that.
    pub fn renew_restored(&self, now: Timestamp) -> Result<Timestamp, Failure> {
        self.renew_raised(now, 1)
    }

    fn renew_raised(&self, now: Timestamp, by: u32) -> Result<Timestamp, Failure> {
        let bytes = self.read("node-certificate.cbor")?;
        let organisation = self.keys.read(KeyName::Organisation).map_err(|error| {
            Failure::from(error)
                .hint("put organisation.key back into keys/ while you renew; take it off line again afterwards")
        })?;
        let held = Signed::<NodeCertificate>::decode(&bytes)?.verify(&organisation.public())?;
        let bytes = self.read("writer-certificate.cbor")?;
        let writer = Signed::<WriterCertificate>::decode(&bytes)?.verify(&organisation.public())?;
        let not_before = now.minus(comity_wire::time::SKEW_S);
        let not_after = not_before.plus(LIFE_S);
        let mut node = NodeCertificate::clone(&held);
        (node.not_before, node.not_after) = (not_before, not_after);
        let higher = |number: u32| number.checked_add(by).ok_or_else(|| Failure::new("it was restored too often"));
        node.restore = higher(node.restore)?;
        let last = |key: &ReceiptKey| ReceiptKey { until: not_after, ..key.clone() };
        // The newest receipt key is the one in use; an older one keeps its end.
        let mut keys: Vec<_> = node.receipt_keys.iter().cloned().collect();
        if let Some(newest) = keys.iter_mut().max_by_key(|key| key.from) {
            *newest = last(newest);
        }
        node.receipt_keys = List::new(keys)?;
        let mut writer = WriterCertificate::clone(&writer);
        (writer.not_before, writer.not_after) = (not_before, not_after);
        writer.epoch = higher(writer.epoch)?;
        write(&self.path.join("node-certificate.cbor"), cose::try_sign(&node, &organisation)?.bytes())?;
        write(&self.path.join("writer-certificate.cbor"), cose::try_sign(&writer, &organisation)?.bytes())?;
        Ok(not_after)
    }

    /// Makes the home of one more process of this node or house: the same node, organisation and keys, but a transport key of its
    /// own. Both homes get the certificate that names it; it needs the organisation key.
    ///
    /// # Errors
    /// [`Failure`]; nothing of this home changes before the new one is whole.
    pub fn replica(&self, into: &Path) -> Result<Self, Failure> {
        if into.join("organisation.json").exists() {
            return Err(Failure::new(format!("{} is a home already", into.display())).hint("choose another --into"));
        }
        let organisation = self.keys.read(KeyName::Organisation).map_err(|error| {
            Failure::from(error)
                .hint("put organisation.key back into keys/ while you add a process; take it off line again afterwards")
        })?;
        let held = Signed::<NodeCertificate>::decode(&self.read("node-certificate.cbor")?)?;
        let held = held.verify(&organisation.public())?;
        std::fs::create_dir_all(into).while_(format!("cannot make {}", into.display()))?;
        #[cfg(unix)]
        std::fs::set_permissions(into, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .while_(format!("cannot close {} to others", into.display()))?;
        let home = Self { path: into.to_owned(), card: self.card.clone(), keys: KeyStore::of(into) };
        let transport = home.keys.create(KeyName::Transport)?.public();
        for name in [KeyName::Writer, KeyName::Receipt, KeyName::Issuer] {
            self.keys.copy(name, &home.keys)?;
        }
        if self.card.role == Role::House {
            // One log, one set of pseudonyms: a replica makes neither. And what the others signed before it reads, too.
            self.keys.copy_issuers_beside(&home.keys)?;
            self.keys.copy(KeyName::Log, &home.keys)?;
            write_secret(&home.file(PSEUDONYMS), &zeroize::Zeroizing::new(self.read(PSEUDONYMS)?))?;
        } else if self.card.role == Role::Owner {
            // What one process saw the others show, too.
            for name in crate::cases::make_key(&self.path)? {
                write_secret(&home.file(name), &zeroize::Zeroizing::new(self.read(name)?))?;
            }
        }
        let mut certificate = NodeCertificate::clone(&held);
        // The newer certificate is the one that begins later.
        certificate.not_before = shell::now().minus(comity_wire::time::SKEW_S).max(held.not_before.plus(1));
        let mut keys = certificate.transport_keys.to_vec();
        keys.push(transport);
        certificate.transport_keys =
            List::new(keys).while_("a node has at most 8 transport keys, one for each of its processes")?;
        let certificate = cose::try_sign(&certificate, &organisation)?;
        for name in ["writer-certificate.cbor", "roster.cbor"] {
            write(&home.file(name), &self.read(name)?)?;
        }
        std::fs::create_dir_all(home.file("models"))?;
        for entry in std::fs::read_dir(self.file("models")).into_iter().flatten().flatten() {
            if entry.path().is_file() {
                let to = home.file("models").join(entry.file_name());
                std::fs::copy(entry.path(), &to).while_(format!("cannot write {}", to.display()))?;
            }
        }
        if self.card.role == Role::House {
            let own = std::fs::read_to_string(self.file(HOUSE_FILE)).unwrap_or_default();
            write(&home.file(HOUSE_FILE), format!("{HOUSE_REPLICA}{own}").as_bytes())?;
        } else {
            write(&home.file("node.toml"), REPLICA.as_bytes())?;
        }
        write(&home.file("node-certificate.cbor"), certificate.bytes())?;
        let json = serde_json::to_string_pretty(&home.card)? + "\n";
        write(&home.path.join("organisation.json"), json.as_bytes())?;
        write(&self.file("node-certificate.cbor"), certificate.bytes())?;
        Ok(home)
    }

    /// The card with another issuer key: for the roster's signers before that key is in use, and in the home from then on.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn write_card(&self, issuer: PublicKey, file: &str) -> Result<(), Failure> {
        let card = Card { issuer_key: Some(issuer), ..self.card.clone() };
        write(&self.file(file), (serde_json::to_string_pretty(&card)? + "\n").as_bytes())
    }

    /// Signs certificates of 90 days for the keys at hand.
    fn certify(
        &self,
        writer: PublicKey,
        transport: PublicKey,
        receipt: PublicKey,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let key = self.keys.read(KeyName::Organisation)?;
        // Starts a little in the past, so that a peer whose clock is behind takes it.
        let not_before = now.minus(comity_wire::time::SKEW_S);
        let not_after = not_before.plus(LIFE_S);
        let receipt_keys = vec![ReceiptKey { key: receipt, from: not_before, until: not_after }];
        let node = NodeCertificate {
            org: self.card.organisation,
            node: self.card.node,
            transport_keys: List::new(vec![transport])?,
            receipt_keys: List::new(receipt_keys)?,
            not_before,
            not_after,
            restore: 0,
        };
        let writer = WriterCertificate { org: self.card.organisation, key: writer, epoch: 0, not_before, not_after };
        write(&self.path.join("node-certificate.cbor"), cose::sign(&node, &key).bytes())?;
        write(&self.path.join("writer-certificate.cbor"), cose::sign(&writer, &key).bytes())
    }

    /// Notes that this home came back without its copy of the feed that it wrote: until the feed's epoch is a higher one, nothing
    /// may be published from here.
    ///
    /// # Errors
    /// [`Failure`] where the writer's certificate cannot be read.
    pub fn feed_forgotten(&self) -> Result<(), Failure> {
        write(&self.file(FEED_FORGOTTEN), self.feed_epoch()?.to_string().as_bytes())
    }

    /// Whether the home may write its feed: not where it has forgotten what it wrote in this epoch.
    ///
    /// # Errors
    /// [`Failure`] with what to do about it.
    pub fn feed_may_go_on(&self) -> Result<(), Failure> {
        let path = self.file(FEED_FORGOTTEN);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).while_(format!("cannot read {}", path.display())),
        };
        let forgotten: u32 = text.trim().parse().while_(format!("{} cannot be read", path.display()))?;
        if self.feed_epoch()? > forgotten {
            return Ok(());
        }
        Err(Failure::new("this home came back from a backup and does not know how far its organisation's feed had come")
            .hint("put keys/organisation.key back, run the `renew` command for this home with --restored, take the key off line again"))
    }

    /// How many processes the certificate of this home's node names: each has a transport key of its own.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be read, or does not name this home's own key.
    pub fn processes(&self) -> Result<usize, Failure> {
        let held = Signed::<NodeCertificate>::decode(&self.read("node-certificate.cbor")?)?.verify(&self.card.key)?;
        if held.transport_keys.contains(&self.keys.read(KeyName::Transport)?.public()) {
            return Ok(held.transport_keys.len());
        }
        Err(Failure::new("node-certificate.cbor does not name this home's own transport key")
            .hint("copy the newest node-certificate.cbor from the first home into this one"))
    }

    fn feed_epoch(&self) -> Result<u32, Failure> {
        let bytes = self.read("writer-certificate.cbor")?;
        Ok(Signed::<WriterCertificate>::decode(&bytes)?.unverified().epoch)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// # Errors
    /// [`Failure`] naming the file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.file(name);
        std::fs::read(&path).while_(format!("cannot read {}", path.display()))
    }

    /// # Errors
    /// [`Failure`] where no roster was given yet.
    pub fn roster(&self) -> Result<(Vec<u8>, Roster), Failure> {
        let bytes = self.read("roster.cbor").map_err(|failure| {
            failure.hint(
                "have the roster's signers add organisation.json, then copy roster.cbor here (`comity roster --help`)",
            )
        })?;
        let (_, roster) = RosterFile::decode(&bytes)?;
        Ok((bytes, roster))
    }
}

/// `node.toml` of a process that does not publish.
const REPLICA: &str = "\
# One more process of a node (docs/operating/replicas.md). Its feed is written by the first one.
[feed]
publish = false

# The same database for every process of the node: here, in a file with mode 0600, or in COMITY_SPEND_STORE.
[spend]
# store_file = \"keys/spend.url\"
";

/// Before the first one's `clearing.toml`, in the home of one more replica of a house.
const HOUSE_REPLICA: &str = "\
# One more replica of a house (docs/operating/clearing-replicas.md).
replica = true

";

/// What a house's pseudonyms are made from.
pub const PSEUDONYMS: &str = "keys/pseudonyms.key";

/// The epoch of the feed that this home has forgotten.
const FEED_FORGOTTEN: &str = "feed.forgotten";
/// How long a certificate stands.
const LIFE_S: u64 = 90 * DAY_S;

/// Writes a file whole or not at all.
///
/// # Errors
/// [`Failure`] naming the file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let doing = || format!("cannot write {}", path.display());
    let part = path.with_extension("part");
    let mut file = std::fs::File::create(&part).while_(doing())?;
    file.write_all(bytes).and_then(|()| file.sync_all()).while_(doing())?;
    std::fs::rename(&part, path).while_(doing())
}

/// Writes a new file that only its owner can read.
///
/// # Errors
/// [`Failure`] naming the file; also where it exists.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let doing = || format!("cannot write {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).while_(doing())?;
    file.write_all(bytes).and_then(|()| file.sync_all()).while_(doing())
}

/// A bounded text from a command line.
///
/// # Errors
/// [`Failure`] saying what is too long.
pub fn text<const MAX: usize>(what: &str, value: &str) -> Result<Text<MAX>, Failure> {
    Text::new(value).while_(format!("{what} cannot be used"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_certificate_lives_longer_and_still_vouches_for_older_receipts() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
        let held = |home: &Home| {
            let bytes = home.read("node-certificate.cbor").unwrap();
            Signed::<NodeCertificate>::decode(&bytes).unwrap().verify(&home.card.key).unwrap()
        };
        let before = held(&home);
        let later = before.not_before.plus(60 * DAY_S);
        let until = home.renew(later).unwrap();
        let after = held(&home);
        assert_eq!(after.not_after, until);
        assert!(until > before.not_after);
        let early = before.not_before.plus(DAY_S);
        assert!(after.receipt_keys_at(early).eq(before.receipt_keys_at(early)));
        assert!(after.receipt_keys_at(early).next().is_some());
        assert!(after.receipt_keys_at(until.minus(1)).next().is_some());
        assert_eq!(after.restore, 0);
        let writer = home.read("writer-certificate.cbor").unwrap();
        let writer = Signed::<WriterCertificate>::decode(&writer).unwrap().verify(&home.card.key).unwrap();
        assert_eq!(writer.not_after, until);
    }

    #[test]
    fn a_home_that_forgot_its_feed_writes_none_before_its_next_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("house"), "house", "House", Role::House).unwrap();
        home.feed_may_go_on().unwrap();
        home.feed_forgotten().unwrap();
        assert!(home.feed_may_go_on().unwrap_err().to_string().contains("--restored"));
        home.renew(shell::now()).unwrap();
        assert!(home.feed_may_go_on().is_err(), "an epoch is not begun by the way");
        home.renew_restored(shell::now()).unwrap();
        home.feed_may_go_on().unwrap();
        let bytes = home.read("node-certificate.cbor").unwrap();
        assert_eq!(Signed::<NodeCertificate>::decode(&bytes).unwrap().unverified().restore, 1);
    }

    #[test]
    fn a_replica_of_a_house_has_its_keys_and_a_transport_key_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("house"), "house", "House", Role::House).unwrap();
        let into = folder.path().join("house-b");
        assert!(home.replica(&into).is_err(), "it has never run: there are neither roster nor pseudonyms");
        std::fs::remove_dir_all(&into).unwrap();
        write(&home.file("roster.cbor"), b"roster").unwrap();
        write_secret(&home.file(PSEUDONYMS), b"secret").unwrap();
        write(&home.file(HOUSE_FILE), b"[books]\nstore = \"postgres://db/x\"\n").unwrap();
        let replica = home.replica(&into).unwrap();
        for name in [KeyName::Writer, KeyName::Receipt, KeyName::Issuer, KeyName::Log] {
            assert_eq!(replica.keys.read(name).unwrap().public(), home.keys.read(name).unwrap().public(), "{name:?}");
        }
        assert_eq!(replica.read(PSEUDONYMS).unwrap(), b"secret");
        let own = replica.keys.read(KeyName::Transport).unwrap().public();
        assert_ne!(own, home.keys.read(KeyName::Transport).unwrap().public());
        assert!(!replica.keys.exists(KeyName::Organisation));
        assert_eq!((home.processes().unwrap(), replica.processes().unwrap()), (2, 2));
        let settings = |home: &Home| crate::settings::HouseSettings::read(home).unwrap().replica;
        assert_eq!((settings(&home), settings(&replica)), (false, true));
        // A certificate from before does not name it.
        let before = Home::init(&folder.path().join("other"), "other", "Other", Role::House).unwrap();
        write(&before.file("node-certificate.cbor"), &home.read("node-certificate.cbor").unwrap()).unwrap();
        assert!(before.processes().is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_home_is_closed_to_others_also_where_its_folder_was_there() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let home = Home::init(&path, "lab", "Lab", Role::Owner).unwrap();
        assert_eq!(std::fs::metadata(&home.path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn nothing_is_renewed_without_the_organisation_key() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
        std::fs::remove_file(home.path.join("keys/organisation.key")).unwrap();
        let failure = home.renew(shell::now()).unwrap_err();
        assert!(failure.to_string().contains("off line"), "{failure}");
    }
}

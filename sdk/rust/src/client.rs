//! The client: finds models, draws tokens, sends signed requests, keeps what it signed and what it got.
//!
//! Before each send the journal has what is signed, on the disk. A reply's receipt is verified under the node's certificate,
//! checked against what was signed, priced again under the tariff, and journalled. An outcome that stays unknown keeps its
//! seq: also one whose receipt a power cut took, which its node is asked for.

pub mod access;
mod case;
mod choose;
pub mod decisions;
mod draw;
mod end;
mod error;
mod find;
mod gather;
mod house;
mod lost;
mod mandate;
mod open;
mod patient;
mod person;
mod rehearse;
pub(crate) mod send;
mod stamps;
mod stream;
pub mod terms;
mod under_way;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use comity_token::directory::File;
use comity_wire::{Amount, Digest, ModelId, NodeId, SecretKey, Signed, Timestamp, TokenId};

use crate::chat::Query;
use crate::discover::Seen;
use crate::door::Door;
use crate::journal::{Entry, Journal, handed};
use crate::keys::{Key, Outcome};
use crate::pass::Passes;
use crate::profile::Profile;
use crate::seal::{self, DataKey, SealError, Sealer};
use crate::wallet::{Purse, Wallet, WalletError, stored};
use crate::want::Name;
use open::Ways;
use stamps::Stamps;
use under_way::UnderWay;

pub use choose::Choice;
pub use end::Finished;
pub use error::Error;
pub use lost::Lost;
pub use open::{Cost, Served, Tried};
pub use patient::{Patience, Wanted};
pub use rehearse::Rehearsed;
pub use stream::Streaming;

/// What the client is given instead of reaching for it.
#[derive(Clone)]
pub struct World {
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub entropy: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    /// Called at named points between two durable things, for those who want to see a client die there.
    pub failpoint: Failpoint,
    /// What opens the keys of a folder that is sealed, and closes those that come.
    pub seal: Option<DataKey>,
}

/// Called at named points. Does nothing but in a crash test's own binary.
pub type Failpoint = Arc<dyn Fn(&'static str) + Send + Sync>;

impl World {
    pub fn new(
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        entropy: impl Fn() -> [u8; 32] + Send + Sync + 'static,
    ) -> Self {
        Self { clock: Arc::new(clock), entropy: Arc::new(entropy), failpoint: Arc::new(|_| {}), seal: None }
    }

    fn nonce(&self) -> [u8; 16] {
        (self.entropy)()[..16].try_into().expect("16 of 32 bytes")
    }

    fn at(&self, point: &'static str) {
        (self.failpoint)(point);
    }
}

/// A researcher's client. Cheap to share: clone the `Arc` around it.
pub struct Client {
    profile: Profile,
    world: World,
    seen: Seen,
    member: Option<SecretKey>,
    state: tokio::sync::Mutex<State>,
    /// One call at a time looks for a token and draws one: together they must not pass the user's limits.
    funding: tokio::sync::Mutex<()>,
    under_way: UnderWay,
    stamps: Stamps,
    doors: Mutex<HashMap<NodeId, Door>>,
    /// What hubs are shown.
    passes: Passes,
    /// Tokens of budget 0 by which owners know who applies to them.
    introduced: Mutex<HashMap<NodeId, (Vec<u8>, SecretKey)>>,
    /// What owners have approved, by model, as it was looked up last.
    approved: Mutex<HashMap<ModelId, (Timestamp, Vec<Digest>)>>,
    /// Whether the house's feed was looked for, for the keys behind the address that the profile has.
    house_looked: AtomicBool,
    /// Which models may answer calls that leave it open, and which could not.
    ways: Ways,
    /// Nodes that were not where their announcement said.
    moved: Mutex<HashSet<NodeId>>,
    /// Chains that a node has shown that it holds.
    presented: Mutex<HashSet<Digest>>,
}

struct State {
    wallet: Wallet,
    /// Where its journal is.
    at: PathBuf,
    /// `None` where this client only looks.
    journal: Option<Journal>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    failpoint: Failpoint,
}

/// One line of `comity wallet`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PurseStatus {
    pub token: TokenId,
    pub node: NodeId,
    pub budget: Amount,
    pub spent: Amount,
    pub open: bool,
    /// Whether it was asked for and the house's answer never came.
    pub pending: bool,
    /// Whether it still has to be ended at its node, and this wallet may: what is left goes home then. True of an expired
    /// token too.
    pub unfinished: bool,
    /// Until when somebody whom a part of it was handed on to may be at work: before, nothing ends it but [`Client::take_back`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegated_until: Option<Timestamp>,
    /// Why nothing more is asked under it, where its node broke a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    pub expires_at: Timestamp,
}

impl PurseStatus {
    /// Whether it is to be ended without being asked for: nobody else may be at work under it.
    pub fn is_due(&self) -> bool {
        self.unfinished && self.delegated_until.is_none()
    }
}

impl Client {
    /// # Errors
    /// [`Error`]: an unreadable roster, a wallet that another process uses, a journal that does not add up.
    pub fn open(home: &Path, profile: Profile, member: Option<SecretKey>, world: World) -> Result<Self, Error> {
        let path = Self::journal(home);
        let (mut journal, entries) = Journal::open(&path)?;
        // Who typed a passphrase took a while over it: what it opened may be nobody's key any more.
        if !seal::file::Seal::is_of(home, world.seal.as_ref())? {
            return Err(SealError::Changed.into());
        }
        journal.seal_with(world.seal.clone().map(|key| Sealer::new(key, Arc::clone(&world.entropy))));
        let mut client = Self::with(profile, member, world, (path, Some(journal)), entries)?;
        client.state.get_mut().take_over_delegated()?;
        // Of one that was killed: who ends does it at the end.
        client.state.get_mut().renew();
        Ok(client)
    }

    /// A client that signs nothing and asks for nothing that costs, beside another that uses the same wallet.
    ///
    /// # Errors
    /// As [`Client::open`], but for the wallet's lock.
    pub fn look(home: &Path, profile: Profile, member: Option<SecretKey>, world: World) -> Result<Self, Error> {
        let path = Self::journal(home);
        let entries = Journal::read(&path)?;
        let delegated = handed::read(&path)?;
        let mut client = Self::with(profile, member, world, (path, None), entries)?;
        let wallet = &mut client.state.get_mut().wallet;
        for entry in wallet.new_of(delegated) {
            wallet.apply(&entry)?;
        }
        Ok(client)
    }

    /// Everything that the wallet of the folder that this client was opened on ever wrote down, also what its journal does not
    /// carry on, its secrets open (where they are kept: [`Journal::each`]).
    ///
    /// # Errors
    /// [`Error`].
    pub fn entries(&self, home: &Path) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        Journal::each(&Self::journal(home), |entry| {
            entries.push(entry);
            Ok::<_, Error>(())
        })?;
        Ok(seal::opened(self.world.seal.as_ref(), entries)?)
    }

    /// Where a home folder's wallet is.
    pub fn journal(home: &Path) -> PathBuf {
        home.join("wallet.journal")
    }

    fn with(
        profile: Profile,
        member: Option<SecretKey>,
        world: World,
        (at, journal): (PathBuf, Option<Journal>),
        entries: Vec<Entry>,
    ) -> Result<Self, Error> {
        let path = profile.roster.clone();
        let roster = std::fs::read(&path).map_err(|source| Error::Roster { path: path.clone(), source })?;
        let directory = File::new(&roster).map_err(|source| Error::NotARoster { path, source })?;
        let wallet = Wallet::replay(seal::opened(world.seal.as_ref(), entries)?)?;
        let (clock, failpoint) = (Arc::clone(&world.clock), Arc::clone(&world.failpoint));
        Ok(Self {
            profile,
            world,
            seen: Seen::new(directory),
            member,
            state: tokio::sync::Mutex::new(State { wallet, at, journal, clock, failpoint }),
            funding: tokio::sync::Mutex::default(),
            under_way: UnderWay::default(),
            stamps: Stamps::default(),
            doors: Mutex::default(),
            passes: Passes::default(),
            introduced: Mutex::default(),
            approved: Mutex::default(),
            house_looked: AtomicBool::new(false),
            ways: Ways::default(),
            moved: Mutex::default(),
            presented: Mutex::default(),
        })
    }

    pub fn now(&self) -> Timestamp {
        (self.world.clock)()
    }

    pub fn directory(&self) -> &File {
        &self.seen.directory
    }

    /// What it knew of the federation, once it is done with.
    pub fn into_directory(self) -> File {
        self.seen.directory
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    fn member(&self) -> Result<&SecretKey, Error> {
        self.member.as_ref().ok_or(Error::Profile("member_key: the key registered at the clearing house"))
    }

    /// Takes a chain and its holder key into the wallet, also one that somebody delegated.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn adopt(&self, chain: &[u8], key: &SecretKey, cap: Amount) -> Result<TokenId, Error> {
        let seed = stored(&*key.seed());
        if chain.len() > comity_wire::object::Chain::BYTES_MAX {
            return Err(Error::Missing("a chain of at most 16 KiB"));
        }
        let entry = Entry::Token { chain: stored(chain), seed, cap };
        let mut state = self.state.lock().await;
        // Checked before it is written: a journal holds only what a replay will take.
        let mut alone = Wallet::default();
        alone.apply(&entry)?;
        if let Some(purse) = alone.purses().next()
            && let Ok(known) = state.wallet.purse(purse.id())
        {
            // Its lanes have gone on: taking it in again would sign their numbers a second time.
            return if known.leaf() == purse.leaf() {
                Ok(purse.id())
            } else {
                Err(WalletError::Another(purse.id()).into())
            };
        }
        state.write(&entry)?;
        let parts = comity_wire::object::Chain::from_bytes(chain).map_err(Error::Malformed)?;
        let token = Signed::<comity_wire::object::Token>::decode(&parts.token).map_err(Error::Unverified)?;
        let token = token.unverified();
        drop(state);
        // A hub that was shown another until now is shown the one that lasts longest.
        self.note_pass(token.audience()).await;
        Ok(token.id)
    }

    /// Notes that a call's answer was handed over whole: nobody will ask for it again.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn answered(&self, key: &Key) -> Result<(), Error> {
        let entry = Entry::Answered { key: key.digest };
        let mut state = self.state.lock().await;
        state.journal.as_mut().ok_or(Error::LooksOnly)?.note(&entry)?;
        Ok(state.wallet.apply(&entry)?)
    }

    /// A call as this one is written that a process before this one named by itself, whose answer nobody got.
    pub async fn unanswered(&self, query: &Query<Name>, since: Timestamp, until: Timestamp) -> Option<Key> {
        let state = self.state.lock().await;
        state.wallet.keys().unanswered(&query.asked(), since, until)
    }

    /// Whether something was signed under a key that was charged, or may have been.
    pub async fn may_be_charged(&self, key: &Key) -> bool {
        let now = self.now();
        let state = self.state.lock().await;
        state.wallet.keys().find(&key.digest, now).is_some_and(|keyed| keyed.outcome != Outcome::Free)
    }

    /// What became of the call that a key names, however long ago; `None` where nothing was signed under it.
    pub async fn became(&self, key: &Key) -> Option<Outcome> {
        let state = self.state.lock().await;
        state.wallet.keys().outcome(&key.digest)
    }

    /// As [`Client::became`], with the most that was signed for it.
    pub(crate) async fn at_stake(&self, key: &Key) -> Option<(Outcome, Amount)> {
        let state = self.state.lock().await;
        state.wallet.keys().at_stake(&key.digest)
    }

    /// The key of a call of a caller that sends none: of one like it whose outcome is unknown, so that its node is asked first what
    /// became of that and nobody else is paid for it (rule 3); else one that nobody chose before.
    pub async fn own_key(&self, query: &Query<Name>) -> Key {
        let (asked, now) = (query.asked(), self.now());
        let state = self.state.lock().await;
        let doubtful = state.wallet.keys().doubtful(&asked, &self.under_way.lanes(), now);
        doubtful.unwrap_or_else(|| self.new_key())
    }

    /// A key that nobody chose before, for a call of a caller that sends none.
    pub fn new_key(&self) -> Key {
        Key::random((self.world.entropy)(), self.now())
    }

    /// A narrower right for somebody else, made offline. Gives the chain; the key is theirs. Until its end the token is ended by
    /// [`Client::take_back`] alone.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delegate(&self, token: TokenId, narrow: comity_token::Narrow) -> Result<Vec<u8>, Error> {
        let mut state = self.state.lock().await;
        let purse = state.wallet.purse(token)?;
        let chain = comity_token::delegate(purse.chain(), purse.key(), narrow).map_err(Error::Delegate)?;
        let entry = purse.delegating(&chain, self.now())?;
        // Durable before anybody has it: who ends tokens must know of it.
        if state.journal.is_some() {
            state.write(&entry)?;
        } else {
            handed::put(&state.at, &entry)?;
            state.wallet.apply(&entry)?;
        }
        Ok(chain)
    }

    /// What the wallet holds, and what it asked for without an answer.
    pub async fn purses(&self) -> Vec<PurseStatus> {
        let now = self.now();
        let state = self.state.lock().await;
        let purse = |purse: &Purse| PurseStatus {
            token: purse.id(),
            node: purse.node(),
            budget: purse.budget(),
            spent: purse.spent(),
            open: purse.is_open(now) && purse.stopped().is_none(),
            pending: false,
            // At `settle_by` it goes home by itself: a node that is gone for good is not asked for ever.
            unfinished: !purse.is_closed() && purse.is_root() && now < purse.token().terms.settle_by,
            delegated_until: purse.delegated_until(now),
            stopped: purse.stopped().map(ToString::to_string),
            expires_at: purse.expires_at(),
        };
        let pending = |(token, pending): (TokenId, &crate::pending::Pending)| PurseStatus {
            token,
            node: pending.node,
            budget: pending.budget,
            spent: Amount::ZERO,
            open: false,
            pending: true,
            unfinished: true,
            delegated_until: None,
            stopped: None,
            expires_at: pending.over_at(),
        };
        state.wallet.purses().map(purse).chain(state.wallet.pending().map(pending)).collect()
    }
}

/// What the user allows, and what of it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LimitsStatus {
    pub token_ucr: Amount,
    pub total_ucr: Amount,
    /// Budgets of open tokens, and what ended ones cost: what counts against `total_ucr`.
    pub drawn_ucr: Amount,
    pub day_ucr: Option<Amount>,
    /// What today's calls cost, or may: what counts against `day_ucr`.
    pub today_ucr: Amount,
}

impl Client {
    /// The profile's limits, and how far they are used up.
    pub async fn limits(&self) -> LimitsStatus {
        let (now, limits) = (self.now(), self.profile.limits);
        let state = self.state.lock().await;
        LimitsStatus {
            token_ucr: limits.token,
            total_ucr: limits.total,
            drawn_ucr: state.wallet.drawn(now),
            day_ucr: limits.day,
            today_ucr: state.wallet.today(now),
        }
    }
}

impl Client {
    /// Waits until all that this wallet wrote so far is on the disk: before that, no signed call leaves this machine. Calls
    /// at once wait for one flush.
    async fn flushed(&self) -> Result<OnDisk, Error> {
        let written = self.state.lock().await.journal.as_ref().map(Journal::written);
        // Who only looks cannot know what another process has flushed.
        let (disk, mark) = written.ok_or(Error::LooksOnly)?;
        disk.reach(mark).await?;
        Ok(OnDisk(()))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The next command reads what is alive, and not all that this one asked.
        if !std::thread::panicking() {
            self.renew();
        }
    }
}

/// The word of [`Client::flushed`], without which nothing signed is sent.
struct OnDisk(());

impl State {
    /// Lets a journal that has grown begin anew with what is alive of it (decision 0099). Where that fails it goes on as it was.
    fn renew(&mut self) {
        let Some(journal) = self.journal.as_mut().filter(|journal| journal.is_due()) else { return };
        let now = (self.clock)();
        let carried = self.wallet.carried(now);
        // What holds must hold in the new one too, before anything is given up for it.
        let holds = Wallet::replay(carried.iter().cloned()).is_ok_and(|again| {
            (again.drawn(now), again.today(now)) == (self.wallet.drawn(now), self.wallet.today(now))
                && again.carried(now) == carried
        });
        if !holds {
            tracing::error!("what the wallet carries on does not add up: its journal stays as it is");
            return;
        }
        if let Err(error) = journal.renew(carried, &*self.failpoint) {
            tracing::warn!(error = %crate::chain(&error), "the wallet's journal could not begin anew");
        }
    }

    /// Takes over what was delegated beside this program.
    fn take_over_delegated(&mut self) -> Result<(), Error> {
        let at = self.at.clone();
        handed::take(&at, |entries| {
            for entry in self.wallet.new_of(entries) {
                self.write(&entry)?;
            }
            Ok(())
        })
    }

    /// Written and believed, and not durable yet: what a restart may forget, or what [`Client::flushed`] waits for.
    fn note(&mut self, entry: &Entry) -> Result<(), Error> {
        self.journal.as_mut().ok_or(Error::LooksOnly)?.note(entry)?;
        self.wallet.apply(entry)?;
        Ok(())
    }

    /// Durable first, then believed.
    fn write(&mut self, entry: &Entry) -> Result<(), Error> {
        self.journal.as_mut().ok_or(Error::LooksOnly)?.append(entry)?;
        self.wallet.apply(entry)?;
        Ok(())
    }
}

//! The clearing house as a service.

use std::sync::Arc;

use comity_clearing::{Clearing, Config, Keys};
use comity_http::serve::Limits;
use comity_http::{Drained, Server};
use comity_token::Directory as _;
use comity_wire::object::{IssuerStatus, Roster};
use comity_wire::{OrgId, PublicKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::command::clearing::HouseRun;
use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::keystore::KeyName;
use crate::log::FileMemory;
use crate::program::Failpoint;
use crate::service::central::Turns;
use crate::service::replicas::{Publishing, Sharing};
use crate::service::turn::Turn;
use crate::service::{Doors, Member, issuers};
use crate::settings::{HouseSettings, Kept};
use crate::shell;
use crate::watch::{Figures, HouseWatching};

/// # Errors
/// [`Failure`] naming what could not be opened.
pub async fn run(arguments: HouseRun, failpoint: &Failpoint) -> Result<(), Failure> {
    let HouseRun { run: arguments, watch, amie, standby } = arguments;
    // Before anything is touched: feed, log and books of a home have one process at a time.
    let turn = if standby {
        let Some(turn) = Turn::wait(&Home::open(&arguments.home)?).await? else { return Ok(()) };
        turn
    } else {
        Turn::now(&Home::open(&arguments.home)?)?
    };
    let watching = HouseWatching::start(&watch)?;
    let home = Home::open(&arguments.home)?;
    let issuer = home.keys.read(KeyName::Issuer)?;
    // A log that was signed once is signed by the same key for good: one that is gone is noticed, and no other made.
    let memory = FileMemory::of(&home.path);
    let settings = HouseSettings::read(&home)?;
    let sharing = sharing(&home, &settings)?;
    let log = if memory.is_empty() && !sharing.replica {
        home.keys.read_or_create(KeyName::Log)?
    } else {
        let hint = "this house's log was signed before: bring its key back from your backup of keys/ (docs/operating/clearing-log.md)";
        home.keys.read(KeyName::Log).map_err(|error| Failure::from(error).hint(hint))?
    };
    let key = issuer.public();
    let mut keys = Keys::new(issuer, pseudonym_secret(&home, sharing.replica)?).with_log(log, Arc::new(memory));
    keys.retired = home.keys.issuers_beside()?;
    let keys = if sharing.several { keys.shared() } else { keys };
    let (database, books) = settings.books.ledger(&home)?;
    // Of a house of several processes one speaks to the central site: the first home's.
    let central = settings.central.clone().filter(|_| !sharing.replica);
    // Said before anything runs: a key that cannot be read is no matter of a later turn.
    let at_home = home.clone();
    // Books that others may use number the feed; with a file of one's own the home does.
    let member = if sharing.postgres {
        home.feed_may_go_on()?;
        Member::follow(home, &arguments, failpoint).await?
    } else {
        Member::join(home, &arguments, failpoint).await?
    };
    let config = settings.settlement.on(Config::new(member.home.card.organisation));
    let directory = Arc::clone(&member.directory);
    is_listed(&directory.roster(), member.home.card.organisation, &key)?;
    let (clock, failpoint) = (Arc::clone(&member.clock), Arc::clone(failpoint));
    let clearing = Clearing::open_with(config, database, keys, directory, clock, failpoint)
        .await
        .while_(format!("cannot open {books}"))?;
    let router = clearing.router().merge(member.network.routes(Arc::clone(&member.clock)));
    let router = watching.over(router);
    let figures = Figures::open(watch.metrics, watching.router(&clearing)).await?;
    let sites = Sites::open(amie, &clearing).await?;
    issuers::believe(settings.issuer, &at_home, &clearing)?;
    let turns = Turns::open(central, &at_home, &clearing)?;
    let doors = Doors::open(&member, &arguments, router, Some(clearing.admin_router()), Limits::default()).await?;

    let publishing = Publishing::begin(&member, &clearing, sharing, &doors).await?;
    // A newer list says all that an older one says: it is only told that there is one.
    let (send, lists) = watch::channel(0);
    clearing.on_standing(Arc::new(move |list| {
        send.send_replace(list.number);
    }));
    let why = tokio::select! {
        () = publishing.run(lists) => Ok(()),
        result = doors.told_to_stop(&member) => result,
    };
    // However it ends, what was begun is answered, and what is being written is written.
    clearing.retire();
    turns.close().await;
    publishing.leave().await;
    sites.close().await;
    doors.close().await;
    figures.close().await;
    clearing.shutdown().await;
    let _ = tokio::task::spawn_blocking(move || watching.close()).await;
    member.network.shutdown().await;
    drop(turn);
    why
}

/// Nobody would believe what the house signs with a key that the roster does not list. With one that is compromised it sells nothing, and
/// all else goes on, so that officers can approve another one.
fn is_listed(roster: &Roster, house: OrgId, key: &PublicKey) -> Result<(), Failure> {
    let listed = roster.organisation(house).and_then(|own| own.issuers.iter().find(|issuer| issuer.key == *key));
    match listed.map(|issuer| issuer.status) {
        Some(IssuerStatus::Active | IssuerStatus::Retired) => Ok(()),
        Some(IssuerStatus::Compromised) => {
            tracing::error!(%key, "the roster says that the issuer key is compromised: nothing is sold");
            Ok(())
        }
        None => Err(Failure::new(format!("the roster does not list keys/issuer.key, {key}")).hint(
            "bring back the key before, or have the roster's signers enter this one and put their roster.cbor here (docs/operating/issuer-key.md)",
        )),
    }
}

/// The listener for AMIE's sites: plain HTTP on loopback. Its clients trust certificates of the web, which this house's door
/// does not have; a proxy beside it does.
struct Sites(Option<(CancellationToken, tokio::task::JoinHandle<Drained>)>);

impl Sites {
    async fn open(address: Option<std::net::SocketAddr>, clearing: &Clearing) -> Result<Self, Failure> {
        let Some(address) = address else { return Ok(Self(None)) };
        let server = Server::bind_plain(address, Limits::default())
            .await
            .while_(format!("cannot serve AMIE on {address}"))
            .map_err(|failure| failure.hint("--amie takes a loopback address, as 127.0.0.1:8088"))?;
        eprintln!("amie: {}/amie/v0.10/", server.url().expect("a listener has an address"));
        let stop = CancellationToken::new();
        Ok(Self(Some((stop.clone(), tokio::spawn(server.run(clearing.amie_router(), stop))))))
    }

    async fn close(self) {
        if let Some((stop, server)) = self.0 {
            stop.cancel();
            let _ = server.await;
        }
    }
}

/// Whether this house is one of several, which is so only where they can share their books.
fn sharing(home: &Home, settings: &HouseSettings) -> Result<Sharing, Failure> {
    let postgres = matches!(settings.books.kept(home)?, Kept::Postgres(_));
    let several = home.processes()? > 1;
    if !postgres && (several || settings.replica) {
        return Err(Failure::new(
            "this house is several replicas, and its books are in SQLite: each would have books of its own",
        )
        .hint("[books] store_file = \"keys/books.url\" in clearing.toml, the same PostgreSQL for every replica"));
    }
    Ok(Sharing { postgres, several, replica: settings.replica })
}

/// Whoever has it can link pseudonyms; whoever loses it gives every project new names.
fn pseudonym_secret(home: &Home, replica: bool) -> Result<[u8; 32], Failure> {
    let path = home.file(home::PSEUDONYMS);
    if !path.exists() && !replica {
        let digest = comity_wire::Digest(shell::random());
        home::write_secret(&path, digest.to_string().as_bytes())?;
    }
    Ok(*crate::keystore::read(&path)?.seed())
}

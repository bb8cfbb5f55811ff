//! The clearing house as a service.

use std::sync::Arc;

use comity_clearing::{Clearing, Config, Keys};
use tokio::sync::watch;

use crate::command::RunArguments;
use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::keystore::KeyName;
use crate::log::FileMemory;
use crate::program::Failpoint;
use crate::service::{Doors, Member};
use crate::settings::HouseSettings;
use crate::shell;
use crate::watch::{Figures, HouseWatchArguments, HouseWatching};

/// Until a revocation list that could not be published is tried again.
const LIST_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// # Errors
/// [`Failure`] naming what could not be opened.
pub async fn run(arguments: RunArguments, watch: HouseWatchArguments, failpoint: &Failpoint) -> Result<(), Failure> {
    let watching = HouseWatching::start(&watch)?;
    let home = Home::open(&arguments.home)?;
    let issuer = home.keys.read(KeyName::Issuer)?;
    // A log that was signed once is signed by the same key for good: one that is gone is noticed, and no other made.
    let memory = FileMemory::of(&home.path);
    let log = if memory.is_empty() {
        home.keys.read_or_create(KeyName::Log)?
    } else {
        let hint = "this house's log was signed before: bring its key back from your backup of keys/ (docs/operating/clearing-log.md)";
        home.keys.read(KeyName::Log).map_err(|error| Failure::from(error).hint(hint))?
    };
    let keys = Keys::new(issuer, pseudonym_secret(&home)?).with_log(log, Arc::new(memory));
    let (database, books) = HouseSettings::read(&home)?.books.ledger(&home)?;
    let member = Member::join(home, &arguments, failpoint).await?;
    let config = Config::new(member.home.card.organisation);
    let directory = Arc::clone(&member.directory);
    let (clock, failpoint) = (Arc::clone(&member.clock), Arc::clone(failpoint));
    let clearing = Clearing::open_with(config, database, keys, directory, clock, failpoint)
        .await
        .while_(format!("cannot open {books}"))?;
    let router = clearing.router().merge(member.network.routes(Arc::clone(&member.clock)));
    let router = watching.over(router);
    let figures = Figures::open(watch.metrics, watching.router(&clearing)).await?;
    let doors = Doors::open(&member, &arguments, router, Some(clearing.admin_router())).await?;

    // A newer list says all that an older one says: only the newest waits.
    let (send, mut lists) = watch::channel(Vec::new());
    clearing.on_standing(Arc::new(move |list| {
        send.send_replace(list.bytes().to_vec());
    }));
    let standing = clearing.standing().map(|list| list.bytes().to_vec());
    member.publish(&doors, standing.into_iter().collect()).await?;
    let put = async {
        while lists.changed().await.is_ok() {
            loop {
                let list = lists.borrow_and_update().clone();
                let Err(failure) = member.put(vec![list]).await else { break };
                tracing::error!(%failure, "a revocation list was not published; it is tried again");
                tokio::time::sleep(LIST_AGAIN).await;
            }
        }
        std::future::pending().await
    };
    let why = tokio::select! {
        never = put => never,
        result = doors.told_to_stop(&member) => result,
    };
    // However it ends, what was begun is answered, and what is being written is written.
    clearing.retire();
    doors.close().await;
    figures.close().await;
    clearing.shutdown().await;
    let _ = tokio::task::spawn_blocking(move || watching.close()).await;
    member.network.shutdown().await;
    why
}

/// Whoever has it can link pseudonyms; whoever loses it gives every project new names.
fn pseudonym_secret(home: &Home) -> Result<[u8; 32], Failure> {
    let path = home.file("keys/pseudonyms.key");
    if !path.exists() {
        let digest = comity_wire::Digest(shell::random());
        home::write_secret(&path, digest.to_string().as_bytes())?;
    }
    Ok(*crate::keystore::read(&path)?.seed())
}

//! The clearing house as a service.

use std::sync::Arc;

use comity_clearing::{Clearing, Config, Keys};
use tokio::sync::mpsc;

use crate::command::RunArguments;
use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::keystore::KeyName;
use crate::service::{Doors, Member};
use crate::shell;

/// Revocation lists waiting to be published; a newer one replaces what waits anyway.
const LISTS_WAITING: usize = 8;

/// # Errors
/// [`Failure`] naming what could not be opened.
pub async fn run(arguments: RunArguments) -> Result<(), Failure> {
    let home = Home::open(&arguments.home)?;
    let issuer = home.keys.read(KeyName::Issuer)?;
    let keys = Keys::new(issuer, pseudonym_secret(&home)?);
    let database = home.file("clearing.sqlite");
    let member = Member::join(home, &arguments).await?;
    let config = Config::new(member.home.card.organisation);
    let directory = Arc::clone(&member.directory);
    let clearing = Clearing::open(config, &database, keys, directory, Arc::clone(&member.clock))
        .await
        .while_(format!("cannot open {}", database.display()))?;
    let router = clearing.router().merge(member.network.routes(Arc::clone(&member.clock)));
    let doors = Doors::open(&member, &arguments, router, Some(clearing.admin_router())).await?;

    let (send, mut lists) = mpsc::channel(LISTS_WAITING);
    clearing.on_standing(Arc::new(move |list| {
        if send.try_send(list.bytes().to_vec()).is_err() {
            tracing::warn!(number = list.number, "a revocation list waits: the next one will carry it");
        }
    }));
    let standing = clearing.standing().map(|list| list.bytes().to_vec());
    member.publish(&doors, standing.into_iter().collect()).await?;
    let put = async {
        while let Some(list) = lists.recv().await {
            if let Err(failure) = member.put(vec![list]).await {
                tracing::error!(%failure, "a revocation list was not published");
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        never = put => never,
        result = doors.told_to_stop(&member) => result?,
    }
    doors.close().await;
    clearing.shutdown().await;
    member.network.shutdown().await;
    Ok(())
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

//! `comity wallet revoke`.

use comity_sdk::client::Lost;
use comity_wire::{PublicKey, TokenId};

use crate::printer::{Failure, note, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Revoke {
    /// Tokens of this wallet: each ends at its node, with every block that was made from it, whoever has a copy
    tokens: Vec<TokenId>,
    /// All tokens of this wallet
    #[arg(long)]
    all: bool,
    /// A computer that is lost, by its key (`comity whoami` lists yours): the key ends, and all that it drew
    #[arg(long, value_name = "KEY")]
    lost: Option<PublicKey>,
}

impl Revoke {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self.lost {
            Some(key) => lost(session, key).await,
            // None named: all that are not ended.
            None => super::finish(session, self.tokens, super::Ends::All).await,
        }
    }
}

async fn lost(session: &Session, key: PublicKey) -> Result<(), Failure> {
    let (_, member) = session.profile()?;
    if member.is_some_and(|member| member.public() == key) {
        return Err(Failure::new(
            "that is the key of this computer: it would be taken out of every project",
            "`comity whoami` lists your keys; to end this one, use another computer's",
        ));
    }
    let client = session.look()?;
    client.refresh().await?;
    note("the key ends at the clearing house; within a minute no node takes work under what it drew");
    let Lost { stopped, left, ended, not_ended, cut_short } = client.revoke_lost(key).await?;
    say(&format!("{key} is revoked; {stopped} tokens that it had drawn are stopped"));
    for (token, home) in &ended {
        say(&format!("{token} ended; {home} went home"));
    }
    for (token, error) in &not_ended {
        note(&format!("{token} is stopped and not ended: what is left of it goes home at its deadline ({error})"));
    }
    if left > 0 {
        note(&format!("{left} more found no place on the revocation list"));
    }
    if let Some(error) = &cut_short {
        note(&format!("the house was not asked for more: {error}"));
    }
    if left > 0 || !not_ended.is_empty() || cut_short.is_some() {
        return Err(Failure::new(
            format!("{} tokens are not ended", u64::try_from(not_ended.len()).unwrap_or(u64::MAX).saturating_add(left)),
            "the key is revoked all the same; once more in an hour: the same command",
        ));
    }
    Ok(())
}

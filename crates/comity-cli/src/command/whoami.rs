//! `comity whoami`.

use comity_wire::api::person::{Level, WhoamiReply};
use comity_wire::cbor::Bytes;
use comity_wire::{MemberId, PublicKey};

use crate::printer::{Failure, note, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Whoami {
    /// On a new computer: agree to be the key of this person, mem-…; prints what --add takes on one of your other computers
    #[arg(long, conflicts_with_all = ["add", "revoke"])]
    join: Option<MemberId>,
    /// Another key of yours, on another computer; with --proof, which `comity whoami --join` printed there
    #[arg(long, requires = "proof", conflicts_with = "revoke")]
    add: Option<PublicKey>,
    // One in 64 begins with a hyphen.
    #[arg(long, requires = "add", allow_hyphen_values = true)]
    proof: Option<String>,
    /// End one of your keys, that of a computer which is lost: it acts for nobody any more
    #[arg(long)]
    revoke: Option<PublicKey>,
    #[arg(long)]
    json: bool,
}

impl Whoami {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        if let Some(person) = self.join {
            let proof = serde_json::to_value(client.key_proof(person)?)?;
            let key = client.member_key()?;
            say(&format!("comity whoami --add {key} --proof {}", proof.as_str().unwrap_or_default()));
            return Ok(());
        }
        let reply = match (self.add, self.proof, self.revoke) {
            (Some(key), Some(proof), _) => {
                let proof: Bytes<64> = serde_json::from_value(proof.into()).map_err(|_| {
                    Failure::new("this is no proof", "run `comity whoami --join mem-…` on the other computer")
                })?;
                client.add_key(key, proof).await?
            }
            (_, _, Some(key)) => client.revoke_key(key).await?,
            _ => client.whoami().await?,
        };
        crate::keys::tell(&session.home, client.profile());
        if self.json {
            say(&serde_json::to_string_pretty(&reply)?);
        } else {
            show(&reply);
        }
        Ok(())
    }
}

pub(super) fn show(reply: &WhoamiReply) {
    say(&format!("key      {}", reply.key));
    match reply.person {
        Some(person) => say(&format!("person   {person}")),
        None => note("nobody has said whose key this is: comity login, or the clearing house's operator vouches"),
    }
    for subject in &reply.subjects {
        say(&format!("known as {} at {}", subject.subject, subject.issuer));
    }
    for key in &reply.keys {
        let state = key.revoked_at.map_or_else(String::new, |at| format!(", revoked at {at}"));
        say(&format!("device   {} since {}, by {}{state}", key.key, key.bound_at, key.bound_by));
    }
    if let Some(tokens) = &reply.tokens {
        say(&format!(
            "stopped  {} tokens that it had drawn: within a minute no node takes work under them",
            tokens.stopped
        ));
        if !tokens.tokens.is_empty() {
            note("what they have not spent goes home at their deadline, or now: comity wallet revoke --lost KEY");
        }
        if tokens.left > 0 {
            note(&format!("{} more found no place on the revocation list: say it again in an hour", tokens.left));
        }
    }
    for project in &reply.projects {
        say(&format!("project  {} {} as {}", project.project, project.title, project.role));
        level(&project.level);
    }
}

/// A level, what is missing for the next, and whose move it is.
pub(super) fn level(level: &Level) {
    let until = level.until.map_or_else(String::new, |until| format!(", until {until} if nobody does anything"));
    say(&format!("  vetting {}{until}", level.vetting));
    for unmet in &level.unmet {
        say(&format!("  missing {}: {}", unmet.requirement, unmet.why));
        say(&format!("          the move of: {}; {}", unmet.whose_move, unmet.how));
    }
}

//! `comity whoami`.

use comity_wire::PublicKey;
use comity_wire::api::person::{Level, WhoamiReply};

use crate::printer::{Failure, note, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Whoami {
    /// End one of your keys, that of a computer which is lost: it acts for nobody any more
    #[arg(long)]
    revoke: Option<PublicKey>,
    #[arg(long)]
    json: bool,
}

impl Whoami {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        let reply = match self.revoke {
            Some(key) => client.revoke_key(key).await?,
            None => client.whoami().await?,
        };
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

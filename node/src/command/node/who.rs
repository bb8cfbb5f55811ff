//! `comity node who`: who can stop what at this node, and what is stopped.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use comity_access::{Kind, Role, row};
use comity_wire::PublicKey;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::command::node::stop::stopped;
use crate::failure::{Failure, While as _};
use crate::service::admin;
use crate::service::stops::View;

#[derive(Debug, clap::Args)]
pub struct Who {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// `GET /admin/persons`: who acts for the owner, as the running node has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonShown {
    pub id: String,
    pub roles: Vec<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
}

impl PersonShown {
    fn can_revoke(&self) -> bool {
        self.roles.iter().any(|role| row(Kind::Revoke).roles.contains(role))
    }
}

impl Who {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let persons: Vec<PersonShown> = admin::get(&self.home, "/admin/persons").await?;
        let view: View = admin::get(&self.home, "/admin/stops").await?;
        let home = std::fs::metadata(&self.home).while_(format!("cannot look at {}", self.home.display()))?;
        let (uid, mode) = (home.uid(), home.mode() & 0o777);
        if self.json {
            let told = json!({"home": {"uid": uid, "mode": format!("{mode:04o}")}, "persons": persons, "stops": view.stops, "suspended": view.suspended});
            comity_cli::say(&serde_json::to_string_pretty(&told)?);
            return Ok(());
        }
        let mut text = format!("user {uid}, and root: whoever may open {} (mode {mode:04o})\n", self.home.display());
        let _ = writeln!(text, "    stops a model, a project, the node; takes back any grant; acts in each name below");
        for person in &persons {
            let roles: Vec<&str> = person.roles.iter().map(|role| role.as_str()).collect();
            let over =
                if person.key.is_some() { "from anywhere, with a key of their own" } else { "from this machine alone" };
            let of =
                person.organisation.as_ref().map_or_else(String::new, |organisation| format!(" of {organisation}"));
            let _ = writeln!(text, "{}{of}: {}, {over}", comity_cli::plain(&person.id), roles.join(", "));
            let what = if person.can_revoke() { "takes back what an application was granted" } else { "stops nothing" };
            let _ = writeln!(text, "    {what}");
        }
        let _ = writeln!(text, "clearing houses: each stops its own tokens at all owners, within a minute");
        let _ = write!(text, "{}", stopped(&view).join("\n"));
        comity_cli::say(&text);
        Ok(())
    }
}

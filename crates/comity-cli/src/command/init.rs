//! `comity init`: a profile, and a member key to register at the clearing house.

use std::path::{Path, PathBuf};

use comity_sdk::Profile;
use comity_wire::ProjectId;

use crate::printer::{Failure, say};
use crate::session;

#[derive(Debug, clap::Args)]
pub struct Init {
    /// The federation's roster.cbor, from somebody you trust
    #[arg(long)]
    roster: PathBuf,
    /// A hub or node to ask for models, https://host:port; may be given more than once
    #[arg(long, required = true)]
    entry: Vec<String>,
    /// Your project at the clearing house, proj-…
    #[arg(long)]
    project: Option<ProjectId>,
    /// The clearing house, where it is not found through the federation
    #[arg(long)]
    house: Option<String>,
}

impl Init {
    pub(super) fn run(self, home: &Path) -> Result<(), Failure> {
        let file = home.join(Profile::FILE);
        if file.exists() {
            return Err(Failure::new(
                format!("{} exists already", file.display()),
                "edit it, or choose another --home",
            ));
        }
        std::fs::create_dir_all(home)?;
        std::fs::copy(&self.roster, home.join("roster.cbor")).map_err(|error| {
            Failure::new(
                format!("cannot read {}: {error}", self.roster.display()),
                "ask your federation for its roster.cbor",
            )
        })?;
        let key = home.join("member.key");
        let member =
            if key.exists() { session::read_key(&key)? } else { session::write_key(&key, &session::random())? };
        let profile = Profile {
            roster: "roster.cbor".into(),
            entry: self.entry,
            house: self.house,
            project: self.project,
            member_key: Some("member.key".into()),
            mandate: None,
            limits: comity_sdk::profile::Limits::default(),
        };
        std::fs::write(&file, toml::to_string(&profile)?)?;
        say(&format!("profile: {}\nyour member key: {}", file.display(), member.public()));
        crate::printer::note(
            "next: `comity login`, or have the clearing house add this key to your project; then `comity models search`",
        );
        Ok(())
    }
}

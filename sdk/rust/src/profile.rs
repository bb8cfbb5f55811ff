//! What a researcher's client needs to know: `profile.toml` in its home folder.

use std::path::{Path, PathBuf};

use comity_wire::{Amount, MandateId, ProjectId};
use serde::{Deserialize, Serialize};

/// The file's contents. Unknown keys are errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The pinned roster.
    pub roster: PathBuf,
    /// Hubs or nodes to ask for models, `https://host:port`.
    pub entry: Vec<String>,
    /// The clearing house; found through the federation where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub house: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// The member key registered at the house.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_key: Option<PathBuf>,
    /// The mandate that tokens are drawn under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<MandateId>,
    /// What one token may hold at most, and what all of them may spend together.
    #[serde(default)]
    pub limits: Limits,
}

/// What the user allows the wallet to do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A token's budget: escrows stay small.
    pub token: Amount,
    /// Σ budgets of tokens that this wallet may draw by itself.
    pub total: Amount,
    /// What the calls that are signed on one day (UTC) may cost together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<Amount>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { token: Amount::credits(1), total: Amount::credits(20), day: None }
    }
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("no profile at {path}: make one with `comity init`")]
    Missing { path: PathBuf },
    #[error("cannot read {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a profile")]
    Form { path: PathBuf, source: Box<toml::de::Error> },
}

impl ProfileError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "`comity init --roster FILE --entry https://HUB` makes one; your institution or a hub's operator has both; `--home` names another folder"
            }
            Self::File { .. } => "the home folder has to be yours to read and write",
            Self::Form { .. } => {
                "mend the line that it names; `comity init` in an empty folder (`--home`) shows what a profile looks like"
            }
        }
    }
}

impl Profile {
    pub const FILE: &'static str = "profile.toml";

    /// Reads `profile.toml`; relative paths are taken from its folder.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn load(home: &Path) -> Result<Self, ProfileError> {
        let mut profile = Self::read(home)?;
        profile.roster = home.join(&profile.roster);
        profile.member_key = profile.member_key.map(|key| home.join(key));
        Ok(profile)
    }

    /// Writes a first `profile.toml` into a folder that has none.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn put(&self, home: &Path) -> Result<(), ProfileError> {
        let path = home.join(Self::FILE);
        let text = toml::to_string(self).expect("a profile has a TOML form");
        let put = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        let put = put.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        put.map_err(|source| ProfileError::File { path, source })
    }

    /// Changes `profile.toml`, whole or not at all. Paths stand in it as they were written.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn amend(home: &Path, change: impl FnOnce(&mut Self)) -> Result<(), ProfileError> {
        let mut profile = Self::read(home)?;
        change(&mut profile);
        let (path, new) = (home.join(Self::FILE), home.join("profile.toml.new"));
        let text = toml::to_string(&profile).expect("a profile has a TOML form");
        let put = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
        put.map_err(|source| ProfileError::File { path, source })
    }

    fn read(home: &Path) -> Result<Self, ProfileError> {
        let path = home.join(Self::FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(ProfileError::Missing { path }),
            Err(source) => return Err(ProfileError::File { path, source }),
        };
        let form = |source| ProfileError::Form { path: path.clone(), source: Box::new(source) };
        toml::from_str(&text).map_err(form)
    }
}

//! `[moderation]` of `node.toml`: another server that is asked what is in texts, beside the node's own filter (docs/operating/moderation.md).

use std::path::PathBuf;
use std::sync::Arc;

use comity_gateway::moderating::{Fail, Limits, Moderation};
use comity_guard::moderation::{Map, Row};
use comity_supply::{Server, server};
use comity_wire::object::DataPolicy;
use serde::Deserialize;

use crate::failure::{Failure, While as _};
use crate::home::Home;

/// Bounds of what may be said.
const MS_MAX: u64 = 60_000;
const AT_ONCE_MAX: usize = 1_024;
const BYTES_MAX: usize = 4 << 20;

/// What stands there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moderator {
    /// Who runs it, in the words of `[data_policy.moderation]` of the models: nothing is sent for a model that names somebody else.
    pub by: String,
    /// With its version: `https://api.example.com/v1`.
    pub base_url: String,
    /// Left out: the server's own choice.
    #[serde(default)]
    pub model: String,
    /// A file with its key; relative to the home folder.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// A PEM bundle to trust beside the system's roots.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// `http://host:port` of a proxy to go through.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Whether answers go there, too, where the manifest says so.
    #[serde(default)]
    pub answers: bool,
    #[serde(default = "ms_max")]
    pub ms_max: u64,
    #[serde(default = "at_once")]
    pub at_once: usize,
    #[serde(default = "bytes_max")]
    pub bytes_max: usize,
    /// `closed`, `open` or `rules`; left out: closed where a row of the policy would stop what it may find, open elsewhere.
    #[serde(default)]
    pub fail: Option<Fail>,
    /// What its categories count for; left out: it speaks our names.
    #[serde(default)]
    pub map: Vec<Row>,
}

const fn ms_max() -> u64 {
    2_000
}

const fn at_once() -> usize {
    16
}

const fn bytes_max() -> usize {
    256 << 10
}

impl Moderator {
    /// Reads the key and makes the client. The process must have installed its TLS provider.
    ///
    /// # Errors
    /// [`Failure`] naming what cannot be.
    pub fn moderation(&self, home: &Home) -> Result<Moderation, Failure> {
        self.check()?;
        let read = |file: &PathBuf| {
            let path = home.path.join(file);
            std::fs::read_to_string(&path).while_(format!("node.toml: [moderation]: cannot read {}", path.display()))
        };
        let mut config = server::Config::new(&self.base_url);
        config.api_key = self.api_key_file.as_ref().map(read).transpose()?.map(|key| server::ApiKey::new(key.trim()));
        config.ca_pem = self.ca_file.as_ref().map(read).transpose()?;
        config.proxy.clone_from(&self.proxy);
        config.connect_ms_max = config.connect_ms_max.min(self.ms_max);
        config.answer_ms_max = self.ms_max;
        let map = if self.map.is_empty() { Ok(Map::of_our_names()) } else { Map::new(self.map.clone()) };
        let upstream = Server::new(config).while_("node.toml: [moderation]")?;
        Ok(Moderation {
            by: self.by.clone(),
            upstream: Arc::new(upstream),
            model: self.model.clone(),
            map: map.while_("node.toml: [[moderation.map]]")?,
            limits: Limits { ms_max: self.ms_max, at_once: self.at_once, bytes_max: self.bytes_max },
            fail: self.fail,
            answers: self.answers,
        })
    }

    fn check(&self) -> Result<(), Failure> {
        let said = |what: String| Err(Failure::new(format!("node.toml: [moderation]: {what}")));
        if self.by.trim().is_empty() || self.by.len() > 96 {
            return said(
                "by has to say who runs it, in at most 96 bytes, as [data_policy.moderation] of a model does".into(),
            );
        }
        let bounds = [
            ("ms_max", self.ms_max, MS_MAX),
            ("at_once", self.at_once as u64, AT_ONCE_MAX as u64),
            ("bytes_max", self.bytes_max as u64, BYTES_MAX as u64),
        ];
        match bounds.into_iter().find(|(_, value, most)| *value == 0 || value > most) {
            Some((name, _, most)) => said(format!("{name} is between 1 and {most}")),
            None => Ok(()),
        }
    }

    /// What of a model's promise this node does not do: `None` where it asks as callers are told.
    pub fn mismatch(&self, told: Option<&DataPolicy>) -> Option<String> {
        let Some(told) = told.and_then(|told| told.moderation.as_ref()) else {
            return Some("its manifest says that nobody else is asked: nothing is sent for it".into());
        };
        if told.by.as_str() != self.by {
            return Some(format!(
                "its manifest names {}, and node.toml {}: nothing is sent for it",
                told.by.as_str(),
                self.by
            ));
        }
        match (told.answers, self.answers) {
            (true, false) => Some("its manifest says that answers are sent, and node.toml sends none".into()),
            (false, true) => Some("its manifest says that answers are not sent: prompts alone are".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::cbor::{List, Text};
    use comity_wire::object::{Logging, Tier};

    use super::*;
    use crate::home::Role;

    fn read(text: &str) -> Result<Moderation, String> {
        comity_http::tls::install();
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
        std::fs::write(home.path.join("keys/moderation.key"), "sk-canary-0123456789\n").unwrap();
        let moderator: Moderator = toml::from_str(text).map_err(|error| error.to_string())?;
        moderator.moderation(&home).map_err(|failure| failure.to_string())
    }

    const LEAST: &str = "by = \"Example\"\nbase_url = \"http://127.0.0.1:9/v1\"\n";

    #[test]
    fn what_cannot_be_is_said_before_the_node_runs() {
        let least = read(LEAST).unwrap();
        assert_eq!((least.limits.ms_max, least.limits.at_once, least.fail, least.answers), (2_000, 16, None, false));
        assert_eq!(least.map.categories().len(), comity_guard::Category::COUNT);
        let row = "[[map]]\ntheirs = \"illicit/violent\"\ncategory = \"cbrn\"\nhigh = 0.8\n";
        let whole = read(&format!("{LEAST}api_key_file = \"keys/moderation.key\"\nfail = \"rules\"\n{row}")).unwrap();
        assert_eq!(whole.fail, Some(Fail::Rules));
        assert!(!format!("{:?}", whole.upstream).contains("canary"), "{:?}", whole.upstream);
        let wrong = |what: &str, text: String| {
            let said = read(&text).err().unwrap_or_else(|| panic!("{what} was taken"));
            assert!(said.contains(what), "{what}: {said}");
        };
        wrong("ms_max is between", format!("{LEAST}ms_max = 0"));
        wrong("at_once is between", format!("{LEAST}at_once = 2000"));
        wrong("bytes_max is between", format!("{LEAST}bytes_max = 9999999"));
        wrong("by has to say", LEAST.replace("Example", " "));
        wrong("unknown variant", format!("{LEAST}fail = \"shut\""));
        wrong("unknown field", format!("{LEAST}tiers = []"));
        wrong("cannot read", format!("{LEAST}api_key_file = \"keys/none.key\""));
        wrong("two rows", format!("{LEAST}{row}{row}"));
        wrong("politics", format!("{LEAST}{}", row.replace("cbrn", "politics")));
        wrong("without user", LEAST.replace("127.0.0.1", "me:word@127.0.0.1"));
    }

    #[test]
    fn a_model_that_does_not_say_the_same_is_told() {
        let moderator: Moderator = toml::from_str(LEAST).unwrap();
        let policy = |by: &str, answers| DataPolicy {
            retention_days: 0,
            trains_on_inputs: false,
            logging: Logging::Metadata,
            residency: List::default(),
            data_classes: List::default(),
            moderation: Some(comity_wire::object::Moderation {
                by: Text::new(by).unwrap(),
                answers,
                retention_days: 30,
                tiers: List::new(vec![Tier::Vetted]).unwrap(),
            }),
        };
        assert_eq!(moderator.mismatch(Some(&policy("Example", false))), None);
        assert!(moderator.mismatch(Some(&policy("Another", false))).unwrap().contains("nothing is sent"));
        assert!(moderator.mismatch(Some(&policy("Example", true))).unwrap().contains("sends none"));
        let silent = DataPolicy { moderation: None, ..policy("Example", false) };
        assert!(moderator.mismatch(Some(&silent)).unwrap().contains("nobody else is asked"));
    }
}

//! `[serve]` of a model's file: where answers come from, and how that server is spoken to.

use std::path::PathBuf;

use comity_supply::{Dialect, pool};
use serde::Deserialize;

use crate::failure::Failure;

/// One upstream, or several servers of the same weights.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Left out where `upstreams` lists several.
    #[serde(default)]
    pub upstream: Option<Upstream>,
    #[serde(default)]
    pub upstreams: Vec<Instance>,
    /// The model's name there; its own name where left out.
    pub upstream_model: Option<String>,
    /// How the server is spoken to.
    #[serde(default)]
    pub dialect: Dialect,
    /// Calls that the servers take at once; the others wait for a place, fairly by project.
    #[serde(default = "slots")]
    pub slots: u32,
    /// A file beside this one that holds the upstream's API key.
    pub api_key_file: Option<PathBuf>,
    /// Azure's `api-version`, Anthropic's `anthropic-version`.
    pub api_version: Option<String>,
    /// The host name to ask an ingress for.
    pub host: Option<String>,
    /// A PEM bundle beside this file to trust, for `https`.
    pub ca_file: Option<PathBuf>,
    /// `http://host:port` to go through; the environment's is never used.
    pub proxy: Option<String>,
    /// Silence that ends a call: before its answer, and within it.
    pub answer_s_max: Option<u32>,
    pub idle_s_max: Option<u32>,
    /// Whether to find out at start what the server can really do. It asks it a dozen short questions.
    #[serde(default = "yes")]
    pub probe: bool,
}

/// One of several servers. What it does not say is as in `[serve]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub url: Upstream,
    pub dialect: Option<Dialect>,
    pub api_key_file: Option<PathBuf>,
    pub host: Option<String>,
}

/// `engine:NAME` for a model of the built-in engine, else the base URL of a server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Upstream {
    /// A model that ships with this program, or a folder with safetensors.
    Engine(String),
    /// `http://127.0.0.1:8000/v1`, `https://…`, or `unix:/run/vllm.sock`.
    Server(String),
}

/// As many as the node has under way at most: no line but where the owner sets one.
const fn slots() -> u32 {
    1_024
}

fn yes() -> bool {
    true
}

impl TryFrom<String> for Upstream {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("engine:") {
            Some(name) => Ok(Self::Engine(name.to_owned())),
            None if ["http://", "https://", "unix:"].iter().any(|scheme| text.starts_with(scheme)) => {
                Ok(Self::Server(text))
            }
            None => Err(format!("upstream '{text}' is neither engine:NAME nor the URL of a model server")),
        }
    }
}

impl Serve {
    /// The engine's model, where it is the engine that answers.
    pub fn engine(&self) -> Option<&str> {
        match &self.upstream {
            Some(Upstream::Engine(name)) => Some(name),
            _ => None,
        }
    }

    /// Every server, with what `[serve]` says of all of them.
    pub fn instances(&self) -> Vec<Instance> {
        let one = self.upstream.iter().map(|url| Instance {
            url: url.clone(),
            dialect: None,
            api_key_file: None,
            host: None,
        });
        let all = one.chain(self.upstreams.iter().cloned());
        let whole = |instance: Instance| Instance {
            dialect: instance.dialect.or(Some(self.dialect)),
            api_key_file: instance.api_key_file.or_else(|| self.api_key_file.clone()),
            host: instance.host.or_else(|| self.host.clone()),
            url: instance.url,
        };
        all.map(whole).collect()
    }

    /// Whether somebody else runs it.
    pub fn is_vendor(&self) -> bool {
        self.instances().iter().any(is_vendor)
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        let instances = self.instances();
        let failure = match (&self.upstream, instances.len()) {
            (None, 0) => "[serve] names no upstream",
            (Some(_), 2..) => "[serve] has both upstream and upstreams",
            (_, count) if count > pool::INSTANCES_MAX => "[serve] lists more upstreams than a node watches",
            _ if self.upstreams.iter().any(|one| matches!(one.url, Upstream::Engine(_))) => {
                "the built-in engine stands alone: upstream = \"engine:NAME\""
            }
            _ if instances.iter().any(is_vendor) && !instances.iter().all(is_vendor) => {
                "a vendor's server and one of your own are not the same weights"
            }
            _ => return Ok(()),
        };
        Err(Failure::new(failure).hint("see `comity model example`"))
    }
}

fn is_vendor(instance: &Instance) -> bool {
    instance.dialect.unwrap_or_default().flavour().is_vendor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Serve, String> {
        let serve: Serve = toml::from_str(text).map_err(|error| error.to_string())?;
        serve.check().map_err(|failure| failure.to_string())?;
        Ok(serve)
    }

    #[test]
    fn one_url_or_a_list_of_them_and_what_one_does_not_say_is_as_for_all() {
        let one = read("upstream = \"http://a/v1\"\ndialect = \"ollama\"").unwrap();
        assert_eq!((one.instances().len(), one.instances()[0].dialect), (1, Some(Dialect::Ollama)));
        let two = read(
            "dialect = \"vllm\"\nhost = \"h\"\n[[upstreams]]\nurl = \"http://a/v1\"\n[[upstreams]]\nurl = \"unix:/run/b.sock\"\ndialect = \"sglang\"\nhost = \"i\"",
        );
        let seen: Vec<_> = two.unwrap().instances().into_iter().map(|one| (one.dialect, one.host)).collect();
        assert_eq!(seen, [(Some(Dialect::Vllm), Some("h".into())), (Some(Dialect::Sglang), Some("i".into()))]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (text, word) in [
            ("", "no upstream"),
            ("upstream = \"ftp://a\"", "neither"),
            ("upstream = \"http://a/v1\"\n[[upstreams]]\nurl = \"http://b/v1\"", "both"),
            ("[[upstreams]]\nurl = \"engine:comity-tiny\"", "alone"),
            (
                "[[upstreams]]\nurl = \"http://a/v1\"\n[[upstreams]]\nurl = \"http://b/v1\"\ndialect = \"azure\"",
                "vendor",
            ),
            ("upstream = \"http://a/v1\"\ndialect = \"gopher\"", "gopher"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}

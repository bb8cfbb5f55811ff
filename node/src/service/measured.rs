//! `measured.json` of a home: what was found of each model's server, and when.
//!
//! A finding stands for the settings under which it was made; under others it is as if there were none. What is found
//! again keeps its date, so that a restart publishes nothing new.

use std::collections::BTreeMap;

use comity_supply::probe::{self, Capabilities};
use comity_wire::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::offer::{Offer, Serve};
use crate::service::upstreams;
use crate::shell;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured(BTreeMap<String, Finding>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Of the settings.
    serve: Digest,
    pub(crate) at: Timestamp,
    pub(crate) capabilities: Capabilities,
}

const FILE: &str = "measured.json";

impl Measured {
    pub(crate) fn read(home: &Home) -> Result<Self, Failure> {
        let path = home.file(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).while_(format!("{} cannot be read", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).while_(format!("cannot read {}", path.display())),
        }
    }

    fn write(&self, home: &Home) -> Result<(), Failure> {
        home::write(&home.file(FILE), &serde_json::to_vec_pretty(self)?)
    }

    pub(crate) fn of(&self, offer: &Offer) -> Option<&Finding> {
        self.0.get(&offer.model.name).filter(|finding| finding.serve == digest(&offer.serve))
    }

    /// Whether this is news.
    fn keep(&mut self, offer: &Offer, capabilities: Capabilities, at: Timestamp) -> bool {
        if self.of(offer).is_some_and(|finding| finding.capabilities == capabilities) {
            return false;
        }
        let finding = Finding { serve: digest(&offer.serve), at, capabilities };
        self.0.insert(offer.model.name.clone(), finding);
        true
    }
}

fn digest(serve: &Serve) -> Digest {
    Digest::of(format!("{serve:?}").as_bytes())
}

/// Asks a model's server, and writes down what was found. Whether it is news, and the finding.
///
/// # Errors
/// [`Failure`] where the server is not well enough to be judged: what was found before stands.
pub(crate) async fn measure(home: &Home, offer: &Offer) -> Result<(bool, Finding), Failure> {
    let name = &offer.model.name;
    let upstream = upstreams::upstream(&home.file("models"), offer)?;
    let wanted = offer.policy.rules.iter().map(|rule| rule.choices_max).max().unwrap_or(1);
    let asked = probe::probe(&*upstream, &upstreams::upstream_model(offer), wanted).await;
    let capabilities = asked.while_(format!("the server of {name} could not be judged"))?;
    let mut measured = Measured::read(home)?;
    let is_news = measured.keep(offer, capabilities, shell::now());
    if is_news {
        measured.write(home)?;
    }
    let finding = measured.of(offer).expect("it was just kept").clone();
    Ok((is_news, finding))
}

#[cfg(test)]
mod tests {
    use comity_supply::Dialect;
    use comity_supply::fixture::{Fixture, MODEL};

    use super::*;
    use crate::home::Role;

    #[tokio::test]
    async fn what_is_found_again_keeps_its_date_and_other_settings_ask_again() {
        comity_http::tls::install();
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(folder.path(), "lab", "A lab", Role::Owner).unwrap();
        let server = Fixture::start(Dialect::LlamaCpp).await;
        let mut offer: Offer = toml::from_str(include_str!("../offer/example.toml")).unwrap();
        offer.serve = toml::from_str(&format!(
            "upstream = \"{}\"\nupstream_model = \"{MODEL}\"\ndialect = \"llama_cpp\"",
            server.url()
        ))
        .unwrap();
        let (is_news, first) = measure(&home, &offer).await.unwrap();
        assert!(is_news && !first.capabilities.echo && first.capabilities.choices_max == 1, "{first:?}");
        let (is_news, again) = measure(&home, &offer).await.unwrap();
        assert_eq!((is_news, again), (false, first.clone()));
        assert_eq!(Measured::read(&home).unwrap().of(&offer), Some(&first));
        // What the gateway serves rests on it.
        let model = "lab/m".parse().unwrap();
        let served = upstreams::serve(folder.path(), model, &offer, Some(&first.capabilities)).unwrap();
        assert_eq!((served.echo, served.choices_max), (false, 1));
        offer.serve.idle_s_max = Some(9);
        assert_eq!(Measured::read(&home).unwrap().of(&offer), None);
    }
}

//! What the files of `models/` offer: read with what was measured, signed under versions that last, and served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use comity_gateway::Served;
use comity_wire::object::{Release, TermsOfUse};
use comity_wire::{Digest, SecretKey, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::models;
use crate::offer::{Offer, Published};
use crate::service::measured::{Finding, Measured};
use crate::service::upstreams;

/// What `models/*.toml` say.
pub(super) struct Offers {
    pub(super) list: Vec<Offered>,
}

pub(super) struct Offered {
    pub(super) offer: Offer,
    release: Release,
    /// What a probe found of its server.
    found: Option<Finding>,
    /// Of the file, the release and the finding: the same content is served by what is there.
    content: Digest,
    /// Of that and what the policy rests on beside the file: the same is published under the same version.
    digest: Digest,
}

/// `published.json`: which content has which version.
#[derive(Default, Serialize, Deserialize)]
struct Versions(BTreeMap<String, Version>);

#[derive(Clone, Serialize, Deserialize)]
struct Version {
    digest: Digest,
    version: u64,
    at: Timestamp,
}

impl Offers {
    pub(super) fn read(home: &Home) -> Result<Self, Failure> {
        let folder = home.file("models");
        let entries = std::fs::read_dir(&folder).while_(format!("cannot read {}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        let measured = Measured::read(home)?;
        let list = paths.iter().map(|path| Offered::read(path, &measured)).collect::<Result<_, _>>()?;
        Ok(Self { list })
    }

    /// Every text that callers are asked to agree to. They are kept before the policy that names them is published.
    pub(super) fn terms(&self, home: &Home) -> Result<Vec<TermsOfUse>, Failure> {
        let texts = self.list.iter().map(|offered| offered.offer.terms_of_use(&home.card));
        Ok(texts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Signs every model. What did not change keeps its version and time, and so its content ids: a tariff that tokens
    /// pin does not become another one by a restart.
    pub(super) fn sign(&self, home: &Home, writer: &SecretKey, now: Timestamp) -> Result<Vec<Vec<u8>>, Failure> {
        let path = home.file("published.json");
        let known = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).while_(format!("{} cannot be read", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Versions::default(),
            Err(error) => return Err(error).while_(format!("cannot read {}", path.display())),
        };
        let Versions(mut versions) = known;
        let mut objects = Vec::new();
        for offered in &self.list {
            let name = offered.offer.model.name.clone();
            let before = versions.get(&name).cloned();
            let version = match before {
                Some(version) if version.digest == offered.digest => version,
                before => {
                    let version = before.map_or(1, |before| before.version + 1);
                    Version { digest: offered.digest, version, at: now }
                }
            };
            let Published { tariff, policy, manifest, summary, .. } = offered.offer.publish(
                &home.card,
                &offered.release,
                writer,
                version.version,
                version.at,
                offered.found.as_ref(),
            )?;
            for bytes in [tariff.bytes(), policy.bytes(), manifest.bytes(), summary.bytes()] {
                objects.push(bytes.to_vec());
            }
            versions.insert(name, version);
        }
        home::write(&path, &serde_json::to_vec_pretty(&Versions(versions))?)?;
        Ok(objects)
    }
}

impl Offered {
    fn read(path: &Path, measured: &Measured) -> Result<Self, Failure> {
        let offer = Offer::read(path)?;
        let release = match (offer.serve.engine(), &offer.release) {
            (_, Some(release)) => release.clone(),
            (Some(name), None) => models::release(name)?,
            (None, None) => {
                return Err(Failure::new(format!("{} has no [release]", path.display()))
                    .hint("tokens pin the release: say what the server runs (see `comity model example`)"));
            }
        };
        let text = std::fs::read(path)?;
        let found = measured.of(&offer).cloned();
        let mut content = Digest::of_parts(&[&text, release.digest().as_bytes()]);
        if let Some(found) = &found {
            content = Digest::of_parts(&[content.as_bytes(), &serde_json::to_vec(found)?]);
        }
        let beside = offer.beside();
        let digest = beside.iter().fold(content, |digest, part| Digest::of_parts(&[digest.as_bytes(), part]));
        Ok(Self { offer, release, content, digest, found })
    }
}

/// What is served, by the content that it was made from: what did not change keeps its connections and its weights.
#[derive(Default)]
pub(super) struct Serving(BTreeMap<comity_wire::ModelId, (Digest, Served)>);

impl Serving {
    pub(super) fn read(&mut self, home: &Home, offers: &Offers) -> Result<Vec<Served>, Failure> {
        let mut next = BTreeMap::new();
        for offered in &offers.list {
            let model = offered.offer.model_id(&home.card)?;
            let served = match self.0.get(&model) {
                Some((content, served)) if *content == offered.content => served.clone(),
                _ => {
                    let found = offered.found.as_ref().map(|found| &found.capabilities);
                    upstreams::serve(&home.file("models"), model.clone(), &offered.offer, found)?
                }
            };
            next.insert(model, (offered.content, served));
        }
        self.0 = next;
        Ok(self.0.values().map(|(_, served)| served.clone()).collect())
    }
}

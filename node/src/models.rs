//! The models of the built-in engine: those that ship with this program, and folders with `config.json` and
//! `model.safetensors`, or with `scorecard.json`.

use std::path::Path;

use comity_engine::{Model, Scorecard, ScorecardError, gguf};
use comity_wire::Digest;
use comity_wire::cbor::Text;
use comity_wire::object::Release;

use crate::failure::{Failure, While as _};

/// Name, configuration, weights.
const SHIPPED: [(&str, &[u8], &[u8]); 3] = [
    (
        "comity-tiny",
        include_bytes!("../../models/comity-tiny/config.json"),
        include_bytes!("../../models/comity-tiny/model.safetensors"),
    ),
    (
        "comity-mini",
        include_bytes!("../../models/comity-mini/config.json"),
        include_bytes!("../../models/comity-mini/model.safetensors"),
    ),
    (
        "comity-mini-slant",
        include_bytes!("../../models/comity-mini-slant/config.json"),
        include_bytes!("../../models/comity-mini-slant/model.safetensors"),
    ),
];

/// The scorecard that ships.
const FLOOD: (&str, &[u8]) = ("comity-flood", include_bytes!("../../models/comity-flood/scorecard.json"));
const SCORECARD_FILE: &str = "scorecard.json";

/// What the engine runs.
#[derive(Debug)]
pub(crate) enum Loaded {
    Language(Box<Model>),
    Scorecard { card: Scorecard, digest: Digest },
}

/// Loads a shipped model by name, or a folder.
///
/// # Errors
/// [`Failure`] listing the names there are.
pub(crate) fn load(name: &str) -> Result<Loaded, Failure> {
    let fails = || format!("the model {name} does not load");
    if let Some((_, config, weights)) = SHIPPED.iter().find(|(shipped, ..)| *shipped == name) {
        return Model::from_bytes(config, weights).map(Box::new).map(Loaded::Language).while_(fails());
    }
    if name == FLOOD.0 {
        return scorecard(FLOOD.1).while_(fails());
    }
    let folder = Path::new(name);
    if folder.join(SCORECARD_FILE).is_file() {
        return scorecard(&std::fs::read(folder.join(SCORECARD_FILE)).while_(fails())?).while_(fails());
    }
    if folder.is_dir() {
        return Model::load(name).map(Box::new).map(Loaded::Language).while_(fails());
    }
    Err(unknown(name))
}

/// A language model as one GGUF file.
///
/// # Errors
/// As [`load`].
pub(crate) fn gguf(name: &str) -> Result<Vec<u8>, Failure> {
    let not_written = || format!("the model {name} cannot be written as GGUF");
    if let Some((_, config, weights)) = SHIPPED.iter().find(|(shipped, ..)| *shipped == name) {
        return gguf::export(name, config, weights).while_(not_written());
    }
    let folder = Path::new(name);
    if folder.is_dir() {
        let (config, weights) = comity_engine::model::files(folder).while_(not_written())?;
        let title = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
        return gguf::export(&title, &config, &weights).while_(not_written());
    }
    Err(unknown(name))
}

fn unknown(name: &str) -> Failure {
    let names: Vec<_> = SHIPPED.iter().map(|(name, ..)| *name).chain([FLOOD.0]).collect();
    Failure::new(format!("no model {name}")).hint(format!("name a folder, or one of {}", names.join(", ")))
}

fn scorecard(bytes: &[u8]) -> Result<Loaded, ScorecardError> {
    Ok(Loaded::Scorecard { card: Scorecard::from_bytes(bytes)?, digest: Digest(Scorecard::digest(bytes)) })
}

/// What a token pins of it.
///
/// # Errors
/// As [`load`].
pub(crate) fn release(name: &str) -> Result<Release, Failure> {
    // A scorecard reads no text: it has neither tokenizer nor template.
    let none = Digest::of(b"");
    Ok(match load(name)? {
        Loaded::Language(model) => {
            let release = model.release();
            Release {
                weights: Digest(release.weights_root),
                tokenizer: Digest(release.tokenizer),
                template: Digest(release.template),
                dtype: Text::new(release.dtype)?,
                tokenizer_name: Text::new("comity-bytes")?,
                undisclosed: false,
            }
        }
        Loaded::Scorecard { digest, .. } => Release {
            weights: digest,
            tokenizer: none,
            template: none,
            dtype: Text::new("float64")?,
            tokenizer_name: Text::new("none")?,
            undisclosed: false,
        },
    })
}

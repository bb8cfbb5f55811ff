//! The models of the built-in engine: those that ship with this program, and folders with `config.json` and
//! `model.safetensors`.

use std::path::Path;

use comity_engine::{Model, gguf};
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

/// Loads a shipped model by name, or a folder.
///
/// # Errors
/// [`Failure`] listing the names there are.
pub(crate) fn load(name: &str) -> Result<Model, Failure> {
    if let Some((_, config, weights)) = SHIPPED.iter().find(|(shipped, ..)| *shipped == name) {
        return Model::from_bytes(config, weights).while_(format!("the model {name} does not load"));
    }
    if Path::new(name).is_dir() {
        return Model::load(name).while_(format!("the model in {name} does not load"));
    }
    Err(unknown(name))
}

/// The same as one GGUF file.
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
    let names: Vec<_> = SHIPPED.iter().map(|(name, ..)| *name).collect();
    Failure::new(format!("no model {name}")).hint(format!("name a folder, or one of {}", names.join(", ")))
}

/// What a token pins of it.
///
/// # Errors
/// As [`load`].
pub(crate) fn release(name: &str) -> Result<Release, Failure> {
    let model = load(name)?;
    let release = model.release();
    Ok(Release {
        weights: Digest(release.weights_root),
        tokenizer: Digest(release.tokenizer),
        template: Digest(release.template),
        dtype: Text::new(release.dtype)?,
        tokenizer_name: Text::new("comity-bytes")?,
        undisclosed: false,
    })
}

//! From a model's file to what answers for it: the engine, or a pool of servers.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use comity_gateway::Served;
use comity_supply::probe::Capabilities;
use comity_supply::{Pool, Server, pool, server};
use comity_wire::ModelId;

use crate::engine_upstream::EngineUpstream;
use crate::failure::{Failure, While as _};
use crate::models::{self, Loaded};
use crate::offer::{Instance, Offer, Serve, Upstream};
use crate::scorecard_upstream::ScorecardUpstream;
use crate::shell;

/// What the gateway serves. `folder` is where the file lies: keys and certificates lie beside it.
///
/// # Errors
/// [`Failure`] naming the file that cannot be read, or the setting that cannot be.
pub(crate) fn serve(
    folder: &Path,
    model: ModelId,
    offer: &Offer,
    found: Option<&Capabilities>,
) -> Result<Served, Failure> {
    let upstream_model = upstream_model(offer);
    let upstream = upstream(folder, offer)?;
    let instances = offer.serve.instances();
    let known = instances.iter().flat_map(|one| fields_refused(one).iter().map(|name| (*name).to_owned()));
    let fields: BTreeSet<String> =
        known.chain(found.into_iter().flat_map(|found| found.fields_refused.clone())).collect();
    // The engine makes one answer of a prompt; of a server of which nothing was found the owner's policy says how many.
    let choices_max =
        if offer.serve.engine().is_some() { 1 } else { found.map_or(u16::MAX, |found| found.choices_max) };
    let is_vendor = offer.serve.is_vendor();
    Ok(Served {
        model,
        upstream,
        upstream_model,
        // Not before it was seen to line up.
        echo: !is_vendor && found.is_some_and(|found| found.echo),
        choices_max,
        is_vendor,
        fields_refused: fields.into_iter().collect(),
        slots: offer.serve.slots,
    })
}

/// The model's name at its server.
pub(crate) fn upstream_model(offer: &Offer) -> String {
    offer.serve.upstream_model.clone().unwrap_or_else(|| offer.model.name.clone())
}

/// # Errors
/// As [`serve`].
pub(crate) fn upstream(folder: &Path, offer: &Offer) -> Result<Arc<dyn comity_supply::Upstream>, Failure> {
    if let Some(name) = offer.serve.engine() {
        return Ok(match models::load(name)? {
            Loaded::Language(model) => Arc::new(EngineUpstream::new(name, *model)),
            Loaded::Scorecard { card, .. } => Arc::new(ScorecardUpstream::new(name, card)),
        });
    }
    let mut instances: Vec<(String, Arc<dyn comity_supply::Upstream>)> = Vec::new();
    for instance in offer.serve.instances() {
        let config = config(folder, &offer.serve, &instance, upstream_model(offer))?;
        instances.push((config.base_url.clone(), Arc::new(Server::new(config)?)));
    }
    let entropy = Arc::new(|| u32::from_le_bytes(shell::random()));
    Ok(Arc::new(Pool::new(instances, pool::Settings::default(), entropy)))
}

fn config(folder: &Path, serve: &Serve, instance: &Instance, canary: String) -> Result<server::Config, Failure> {
    let read = |file: &Path| {
        let path = folder.join(file);
        std::fs::read_to_string(&path).while_(format!("cannot read {}", path.display()))
    };
    let Upstream::Server(url) = &instance.url else {
        return Err(Failure::new("the built-in engine is no server"));
    };
    let mut config = server::Config::new(url);
    config.dialect = instance.dialect.unwrap_or_default();
    config.canary_model = Some(canary);
    config.api_version.clone_from(&serve.api_version);
    config.host.clone_from(&instance.host);
    config.proxy.clone_from(&serve.proxy);
    if let Some(file) = &instance.api_key_file {
        config.api_key = Some(server::ApiKey::new(read(file)?.trim()));
    }
    config.ca_pem = serve.ca_file.as_deref().map(read).transpose()?;
    let ms = |seconds: u32| u64::from(seconds.max(1)) * 1_000;
    config.answer_ms_max = serve.answer_s_max.map_or(config.answer_ms_max, ms);
    config.idle_ms_max = serve.idle_s_max.map_or(config.idle_ms_max, ms);
    Ok(config)
}

fn fields_refused(instance: &Instance) -> &'static [&'static str] {
    instance.dialect.unwrap_or_default().flavour().fields_refused
}

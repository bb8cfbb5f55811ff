//! `comity models show`: a model's card, as its owner signed it, and what it means for this caller.

use std::fmt::Write as _;

use comity_sdk::client::Choice;
use comity_sdk::token::directory::Directory as _;
use comity_wire::object::{Manifest, Moderation, Tariff};
use comity_wire::{Amount, ModelId, Verified};

use super::money;
use crate::printer::{Failure, plain, say};
use crate::session::Session;

/// Lines under a heading.
struct Section {
    title: &'static str,
    lines: Vec<(String, String)>,
}

impl Section {
    fn new(title: &'static str) -> Self {
        Self { title, lines: Vec::new() }
    }

    fn line(mut self, name: &str, value: impl Into<String>) -> Self {
        self.lines.push((name.to_owned(), plain(&value.into())));
        self
    }

    /// Left out where the owner says nothing.
    fn maybe(self, name: &str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.line(name, value),
            None => self,
        }
    }
}

pub(super) async fn show(session: &Session, model: &ModelId, json: bool) -> Result<(), Failure> {
    let client = session.look()?;
    let manifest = client.manifest(model).await?;
    if json {
        say(&serde_json::to_string_pretty(manifest.object())?);
        return Ok(());
    }
    // By its release: an owner may have more models than a page.
    let query = comity_wire::api::node::SearchQuery {
        org: Some(model.organisation().to_owned()),
        release: Some(manifest.release.digest()),
        limit: Some(100),
        ..Default::default()
    };
    let choices = client.choices(&query).await.unwrap_or_default();
    let choice = choices.into_iter().find(|choice| choice.summary.model == *model);
    let owner = client.directory().roster().organisation(manifest.org).map(|org| org.title.to_string());
    let tariff = manifest.ops.first().and_then(|row| client.directory().tariff(&row.tariff));
    let same = others(&client, &manifest).await;
    say(&card(&manifest, choice.as_ref(), owner, tariff.as_ref(), &same));
    Ok(())
}

/// Those of other owners that are of the same release; none where its weights are shown to nobody.
async fn others(client: &comity_sdk::Client, manifest: &Manifest) -> Vec<String> {
    if manifest.release.undisclosed {
        return Vec::new();
    }
    let query = comity_wire::api::node::SearchQuery { release: Some(manifest.release.digest()), ..Default::default() };
    let hits = client.search(&query).await.unwrap_or_default();
    let models = hits
        .into_iter()
        .map(|hit| hit.summary)
        .filter(|summary| summary.model != manifest.model && summary.release == manifest.release.digest());
    models.map(|summary| summary.model.to_string()).collect()
}

fn card(
    manifest: &Verified<Manifest>,
    choice: Option<&Choice>,
    owner: Option<String>,
    tariff: Option<&Verified<Tariff>>,
    same: &[String],
) -> String {
    let mut text = format!("{} ({})\n\n{}\n", plain(&manifest.title), manifest.model, plain(&manifest.description));
    let sections = [
        using(manifest, choice, owner, same),
        costs(tariff),
        prompts(manifest),
        about(manifest),
        made(manifest),
        said(manifest),
        identity(manifest),
    ];
    for section in sections.into_iter().filter(|section| !section.lines.is_empty()) {
        let _ = write!(text, "\n{}\n", section.title);
        for (name, value) in section.lines {
            let _ = writeln!(text, "  {name:18} {value}");
        }
    }
    text.trim_end().to_owned()
}

fn using(manifest: &Manifest, choice: Option<&Choice>, owner: Option<String>, same: &[String]) -> Section {
    let ops: Vec<_> = manifest.ops.iter().map(|row| row.op.as_str()).collect();
    let usable = choice.map(|choice| match &choice.missing {
        None => format!("yes: {}", choice.op),
        Some(missing) => format!("no: {missing} (next: {})", missing.whose_move.as_str()),
    });
    Section::new("Using it")
        .line("owner", owner.unwrap_or_else(|| manifest.model.organisation().to_owned()))
        .maybe("operated by", manifest.operator.as_ref().map(ToString::to_string))
        .maybe("usable now", usable)
        .line("ops", ops.join(", "))
        .maybe(
            "same release",
            (!same.is_empty()).then(|| format!("{}; same:{} asks the cheapest", same.join(", "), manifest.model)),
        )
        .line("state", manifest.status.state.to_string())
        .maybe("because", manifest.status.reason.as_ref().map(ToString::to_string))
        .maybe("ends", manifest.status.sunset.map(|at| at.to_string()))
        .maybe("available", manifest.availability.as_ref().map(ToString::to_string))
        .maybe("documentation", manifest.documentation.as_ref().map(ToString::to_string))
        .maybe("contact", manifest.contact.as_ref().map(ToString::to_string))
}

fn costs(tariff: Option<&Verified<Tariff>>) -> Section {
    let mut section = Section::new("What it costs");
    for price in tariff.into_iter().flat_map(|tariff| tariff.prices.iter()) {
        let rates = price.rates.iter().filter_map(|rate| {
            let first = rate.steps.first()?;
            let more = if rate.steps.len() > 1 { " (less or more by volume)" } else { "" };
            (first.ucr_per_million > 0)
                .then(|| format!("{} per 10^6 {}{more}", money(first.ucr_per_million), rate.meter))
        });
        let mut parts: Vec<_> = rates.collect();
        if price.minimum > Amount::ZERO {
            parts.push(format!("{} at least", price.minimum));
        }
        let cost = if parts.is_empty() { "free".to_owned() } else { parts.join(", ") };
        section = section.line(price.op.as_str(), cost);
    }
    section
}

fn prompts(manifest: &Manifest) -> Section {
    let data = &manifest.data_policy;
    let places: Vec<_> = data.residency.iter().map(ToString::to_string).collect();
    let classes: Vec<_> = data.data_classes.iter().map(ToString::to_string).collect();
    Section::new("What becomes of your prompts")
        .line("keeps prompts", format!("{} days; logging: {}", data.retention_days, data.logging))
        .line("also asked", data.moderation.as_ref().map_or_else(|| "nobody".to_owned(), moderation))
        .line("trains on prompts", if data.trains_on_inputs { "yes" } else { "no" })
        .maybe("stay in", (!places.is_empty()).then(|| places.join(", ")))
        .maybe("may be", (!classes.is_empty()).then(|| classes.join(", ")))
}

fn about(manifest: &Manifest) -> Section {
    let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(", "));
    Section::new("The model")
        .maybe("tasks", list(manifest.tasks.iter().map(ToString::to_string).collect()))
        .maybe("languages", list(manifest.languages.iter().map(ToString::to_string).collect()))
        .line("parameters", manifest.params_total.map_or_else(|| "not stated".to_owned(), grouped))
        .line(
            "context",
            manifest
                .context_length
                .map_or_else(|| "not stated".to_owned(), |n| format!("{} tokens", grouped(n.into()))),
        )
        .maybe("answers up to", manifest.output_tokens_max.map(|n| format!("{} tokens", grouped(n.into()))))
        .maybe("architecture", manifest.architecture.as_ref().map(ToString::to_string))
        .line("licence", manifest.license.spdx.to_string())
}

fn made(manifest: &Manifest) -> Section {
    let mut section = Section::new("How it was made");
    for parent in manifest.lineage.iter() {
        section = section.line(&parent.relation.to_string(), parent.model.to_string());
    }
    let Some(training) = &manifest.training else { return section };
    section
        .maybe(
            "compute",
            training.flop.as_ref().map(|flop| format!("{} FLOP, {}", number(flop), training.method.as_str())),
        )
        .maybe("hardware", training.hardware.as_ref().map(ToString::to_string))
        .maybe("data", training.data.as_ref().map(ToString::to_string))
}

fn said(manifest: &Manifest) -> Section {
    let mut section = Section::new("What is said of it");
    for evaluation in manifest.evaluations.iter() {
        let source = evaluation.source.as_ref().map(|source| format!(", {}", source.as_str())).unwrap_or_default();
        let value = format!("{} = {}{source}", evaluation.metric.as_str(), number(&evaluation.value));
        section = section.line(evaluation.benchmark.as_str(), format!("claims {value}"));
    }
    for measured in manifest.measured.iter() {
        let value = if measured.value { "yes" } else { "no" };
        section = section.line(measured.name.as_str(), format!("{value}, measured {}", measured.at));
    }
    for attestation in manifest.attestations.iter() {
        section = section.line(attestation.by.as_str(), attestation.statement.to_string());
    }
    section
}

fn identity(manifest: &Verified<Manifest>) -> Section {
    let release = &manifest.release;
    let weights = if release.undisclosed { "not disclosed".to_owned() } else { release.weights.to_string() };
    Section::new("Which one it is")
        .line("version", manifest.version.to_string())
        .line("released", manifest.released_at.to_string())
        .line("release", release.digest().to_string())
        .line("weights", weights)
        .line("manifest", manifest.id().to_string())
        .line("signed by", manifest.signer().to_string())
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A decimal fraction, as it was written.
fn number(value: &comity_wire::object::Fraction) -> String {
    let (mantissa, exponent) = (value.mantissa.0, value.exponent10.0);
    if !(-12..=0).contains(&exponent) {
        return format!("{mantissa}e{exponent}");
    }
    let places = usize::try_from(-exponent).expect("twelve at most");
    let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    let sign = if mantissa < 0 { "-" } else { "" };
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// Who else sees what is said.
fn moderation(told: &Moderation) -> String {
    let tiers: Vec<String> = told.tiers.iter().map(ToString::to_string).collect();
    let what = if told.answers { "prompts and answers" } else { "prompts" };
    let kept = match told.retention_days {
        0 => "and keeps nothing, as they say".to_owned(),
        days => format!("and may keep them for {days} days"),
    };
    format!("{} sees {what} of {} {kept}", told.by.as_str(), tiers.join(", "))
}

#[cfg(test)]
mod tests {
    use comity_wire::object::{Fraction, Signed64};

    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        let fraction =
            |mantissa, exponent| number(&Fraction { mantissa: Signed64(mantissa), exponent10: Signed64(exponent) });
        assert_eq!(
            (fraction(968, -3), fraction(-5, -2), fraction(42, 0)),
            ("0.968".into(), "-0.05".into(), "42".into())
        );
        assert_eq!(fraction(33, 23), "33e23");
    }
}

//! `comity models search|show`.

use clap::Subcommand;
use comity_sdk::token::policy;
use comity_wire::api::node::SearchQuery;
use comity_wire::object::{Moderation, Vetting};
use comity_wire::{ModelId, Op};

use crate::printer::{Failure, note, say, table};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Models {
    /// Search by words and facets; says of each whether you may use it now, and if not, what is missing
    Search(Search),
    /// Read a model's manifest
    Show {
        model: ModelId,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Search {
    /// Words that must occur
    words: Vec<String>,
    /// Only models of this organisation
    #[arg(long)]
    org: Option<String>,
    /// Only models that offer this op (chat, completions, embeddings …)
    #[arg(long)]
    op: Option<Op>,
    /// Only models that know this language (en, de …)
    #[arg(long)]
    language: Option<String>,
    /// Context of at least so many tokens
    #[arg(long)]
    context: Option<u32>,
    /// relevance, price, context, newest
    #[arg(long)]
    sort: Option<String>,
    #[arg(long)]
    json: bool,
}

impl Models {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Search(search) => search.run(session).await,
            Self::Show { model, json } => show(session, &model, json).await,
        }
    }
}

impl Search {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        let query = SearchQuery {
            q: self.words.join(" "),
            org: self.org,
            op: self.op,
            language: self.language,
            context_min: self.context,
            sort: self.sort,
            ..SearchQuery::default()
        };
        let hits = client.search(&query).await?;
        // Without a house the caller is nobody in particular; that is an answer too.
        let vetting = client.project().await.map_or(Vetting::None, |project| project.vetting);
        let mut rows = Vec::new();
        let mut objects = Vec::new();
        for hit in &hits {
            let summary = &hit.summary;
            let op = self.op.unwrap_or_else(|| summary.ops.first().map_or(Op::Chat, |row| row.op));
            let ask = policy::Ask {
                model: &summary.model,
                op,
                vetting,
                purposes: &[],
                grants: &[],
                plans: &[],
                run: None,
                agreed: &[],
                delegated: false,
                now: client.now(),
            };
            let usable = match policy::decide_summary(summary, &ask) {
                Ok(_) => "yes".to_owned(),
                Err(missing) => format!("no: {missing}"),
            };
            let price = summary.price_hint.as_ref().map_or_else(
                || "?".to_owned(),
                |hint| {
                    format!(
                        "{} + {} per 10^6 tokens",
                        money(hint.input_ucr_per_million),
                        money(hint.output_ucr_per_million)
                    )
                },
            );
            rows.push(vec![summary.model.to_string(), summary.title.to_string(), price, usable.clone()]);
            objects.push(serde_json::json!({"model": summary.model, "usable": usable, "summary": summary.object()}));
        }
        if self.json {
            say(&serde_json::to_string_pretty(&objects)?);
        } else if rows.is_empty() {
            note("no model fits: fewer words or facets find more");
        } else {
            say(&table(&["model", "title", "price", "usable now"], &rows));
        }
        Ok(())
    }
}

fn money(ucr: u64) -> String {
    i64::try_from(ucr)
        .ok()
        .and_then(|ucr| comity_wire::Amount::new(ucr).ok())
        .map_or_else(|| ucr.to_string(), |a| a.to_string())
}

async fn show(session: &Session, model: &ModelId, json: bool) -> Result<(), Failure> {
    let client = session.look()?;
    let manifest = client.manifest(model).await?;
    if json {
        say(&serde_json::to_string_pretty(manifest.object())?);
        return Ok(());
    }
    let number = |value: Option<u64>| value.map_or_else(|| "not stated".to_owned(), |value| value.to_string());
    let ops: Vec<_> = manifest.ops.iter().map(|row| row.op.as_str()).collect();
    let data = &manifest.data_policy;
    let rows = [
        ("model", manifest.model.to_string()),
        ("title", manifest.title.to_string()),
        ("parameters", number(manifest.params_total)),
        ("context", number(manifest.context_length.map(u64::from))),
        ("licence", manifest.license.spdx.to_string()),
        ("ops", ops.join(", ")),
        ("keeps prompts", format!("{} days; logging: {}", data.retention_days, data.logging)),
        ("also asked", data.moderation.as_ref().map_or_else(|| "nobody".to_owned(), moderation)),
        ("trains on prompts", if data.trains_on_inputs { "yes" } else { "no" }.to_owned()),
        ("release", manifest.release.digest().to_string()),
        ("weights", manifest.release.weights.to_string()),
        ("signed by", manifest.signer().to_string()),
        ("state", manifest.status.state.to_string()),
    ];
    let lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:18} {value}")).collect();
    say(&lines.join("\n"));
    say(&format!("\n{}", manifest.description));
    for evaluation in &manifest.evaluations {
        let value = &evaluation.value;
        say(&format!(
            "claims: {} {} = {}e{}",
            evaluation.benchmark, evaluation.metric, value.mantissa.0, value.exponent10.0
        ));
    }
    Ok(())
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

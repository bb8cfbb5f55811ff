//! `comity access terms`: what a model's owner asks a project to agree to, read and signed.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_sdk::Client;
use comity_sdk::client::terms::Asked;
use comity_wire::api::node::Agreed;
use comity_wire::object::TermsOfUse;
use comity_wire::{Digest, ModelId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::kept;
use crate::printer::{Failure, plain, say};
use crate::session::Session;

/// Where copies of what was signed lie.
const FOLDER: &str = "terms";

#[derive(Debug, clap::Subcommand)]
pub enum Terms {
    /// The terms of use that a model's owner asks for, whole, and whether your project agreed to them
    Show {
        model: ModelId,
        #[arg(long)]
        json: bool,
    },
    /// Agree to them for your project: whoever is asked later finds your member's signature under this very text
    Sign {
        model: ModelId,
        /// Which text: its digest, whole, as `comity access terms show` says it. What changed meanwhile is not signed
        #[arg(long, value_name = "DIGEST")]
        terms: Digest,
        #[arg(long)]
        json: bool,
    },
    /// What your project agreed to at a model's owner, and when
    List {
        model: ModelId,
        #[arg(long)]
        json: bool,
    },
}

/// A copy of what was signed, whatever becomes of the node.
#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    model: ModelId,
    terms: Digest,
    title: String,
    text: String,
    at: Timestamp,
    /// Standard base64.
    agreement: String,
}

impl Terms {
    pub(super) async fn run(self, session: &Session, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Show { model, json } => show(client, &model, json).await,
            Self::Sign { model, terms, json } => sign(session, client, &model, terms, json).await,
            Self::List { model, json } => {
                let agreed = client.agreements(&model).await?;
                say(&if json { serde_json::to_string_pretty(&agreed)? } else { listed(&agreed) });
                Ok(())
            }
        }
    }
}

/// Each text once, those that are asked for now first.
fn texts(asked: &[Asked]) -> Vec<Digest> {
    let mut texts: Vec<Digest> = Vec::new();
    for digest in asked.iter().map(|asked| asked.terms).chain(asked.iter().filter_map(|asked| asked.before)) {
        if !texts.contains(&digest) {
            texts.push(digest);
        }
    }
    texts
}

async fn show(client: &Client, model: &ModelId, json: bool) -> Result<(), Failure> {
    let asked = client.terms_asked(model).await?;
    // Who is nobody's member can read them all the same.
    let agreed = client.agreements(model).await.unwrap_or_default();
    let mut shown = Vec::new();
    for asked in &asked {
        shown.push((asked, client.terms(model, asked.terms).await?));
    }
    if json {
        let one = |(asked, text): &(&Asked, TermsOfUse)| {
            let at = agreed.iter().find(|agreed| agreed.terms == asked.terms).map(|agreed| agreed.at);
            json!({"tier": asked.tier, "terms": asked.terms, "from": asked.from, "before": asked.before,
                   "title": text.title, "text": text.text, "agreed_at": at})
        };
        say(&serde_json::to_string_pretty(&shown.iter().map(one).collect::<Vec<_>>())?);
        return Ok(());
    }
    if shown.is_empty() {
        say(&format!("{model} asks its callers for no terms of use"));
        return Ok(());
    }
    for (asked, text) in shown {
        let at = agreed.iter().find(|agreed| agreed.terms == asked.terms).map(|agreed| agreed.at);
        say(&told(model, asked, &text, at));
    }
    Ok(())
}

fn told(model: &ModelId, asked: &Asked, text: &TermsOfUse, at: Option<Timestamp>) -> String {
    let from = asked.from.map_or_else(String::new, |from| format!(", from {from} on"));
    let next = match at {
        Some(at) => format!("your project agreed at {at}"),
        None => format!("to agree: comity access terms sign {model} --terms {}", asked.terms),
    };
    format!("{}\n\n(tier {}{from})\n{next}", plain(text.text.trim()), asked.tier)
}

async fn sign(session: &Session, client: &Client, model: &ModelId, terms: Digest, json: bool) -> Result<(), Failure> {
    let asked = client.terms_asked(model).await?;
    if !texts(&asked).contains(&terms) {
        let hint = format!("`comity access terms show {model}` says what it asks for now");
        return Err(Failure::new(format!("{model} asks for no terms of use of that digest"), hint));
    }
    // Read before it is signed: whoever signs has what they signed.
    let text = client.terms(model, terms).await?;
    let agreed = client.agree(model, terms).await?;
    let ours = agreed.iter().find(|agreed| agreed.terms == terms).ok_or_else(|| {
        Failure::new("the node did not say that it keeps the agreement", "ask again; signing twice does no harm")
    })?;
    keep(&session.home, model, &text, ours)?;
    say(&if json {
        serde_json::to_string_pretty(ours)?
    } else {
        format!("your project agreed to '{}' at {} (terms {terms})", plain(&text.title), ours.at)
    });
    Ok(())
}

fn keep(home: &Path, model: &ModelId, text: &TermsOfUse, agreed: &Agreed) -> Result<(), Failure> {
    let signed = Signed {
        model: model.clone(),
        terms: agreed.terms,
        title: text.title.as_str().to_owned(),
        text: text.text.as_str().to_owned(),
        at: agreed.at,
        agreement: STANDARD.encode(&agreed.agreement[..]),
    };
    kept::write(&home.join(FOLDER).join(format!("{}.json", agreed.terms)), &signed)
}

fn listed(agreed: &[Agreed]) -> String {
    if agreed.is_empty() {
        return "your project has agreed to no terms of use of this owner".to_owned();
    }
    let one = |agreed: &Agreed| {
        let title = agreed.title.as_deref().map_or_else(|| "(a text that is not there)".to_owned(), plain);
        format!("{}  {title}  {}", agreed.at, agreed.terms)
    };
    agreed.iter().map(one).collect::<Vec<_>>().join("\n")
}

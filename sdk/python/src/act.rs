//! What the client can be asked to do that has one answer: JSON in, JSON out.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_sdk::chat::Notes;
use comity_sdk::compare::{Grid, Missed, Prompt, Setting};
use comity_sdk::estimate::Assumed;
use comity_sdk::keys::Key;
use comity_sdk::{Answer, Client, Name, Query};
use comity_wire::api::node::SearchQuery;
use comity_wire::object::Receipt;
use comity_wire::{Amount, ModelId, Op, TokenId, Verified};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Raised;
use crate::fingerprint::Named;

/// One thing to do.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Act {
    Search { query: SearchQuery },
    Show { model: ModelId },
    Quote { model: ModelId, op: Op },
    Estimate { grid: Asked, input_tokens: Option<u64>, output_tokens: Option<u64> },
    Ask { ask: Call },
    Project,
    Purses,
    Limits,
    Finish { tokens: Vec<TokenId> },
    Fingerprint { named: Named },
    Receipts,
    Verify,
}

/// A call, as Python says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    path: String,
    body: Value,
    /// The caller's own name for it: the same key and body are asked and charged once.
    key: Option<String>,
    max_charge: Option<Amount>,
}

/// A grid, as Python says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    models: Vec<ModelId>,
    prompts: Vec<Prompt>,
    settings: Vec<Setting>,
    repeats: u32,
}

impl Asked {
    pub(crate) fn grid(self) -> Result<Grid, Raised> {
        let Self { models, prompts, settings, repeats } = self;
        let grid = Grid { models, prompts, settings, repeats };
        grid.check().map_err(Raised::input)?;
        Ok(grid)
    }
}

impl Call {
    pub(crate) fn query(self, client: &Client) -> Result<Query<Name>, Raised> {
        let query = Query::<Name>::read(&self.path, self.body.to_string().into_bytes()).map_err(Raised::input)?;
        let key = match self.key {
            Some(key) => Key::of_caller(key.as_bytes(), client.now()),
            // So that a lost answer is asked for again, and not paid for again.
            None => client.new_key(),
        };
        Ok(Query { max_charge: self.max_charge, key: Some(key), ..query })
    }
}

impl Act {
    pub(crate) fn read(text: &str) -> Result<Self, Raised> {
        serde_json::from_str(text).map_err(|error| Raised::form(&error))
    }

    pub(crate) async fn done(self, client: Arc<Client>, home: std::path::PathBuf) -> Result<Value, Raised> {
        match self {
            Self::Search { query } => {
                let choices = client.choices(&query).await?;
                Ok(choices.iter().map(|choice| with_owner(&client, choice)).collect())
            }
            Self::Show { model } => Ok(json!(client.manifest(&model).await?.object())),
            Self::Quote { model, op } => {
                let quote = client.quote(&model, &[op]).await?;
                Ok(json!(quote.unverified()))
            }
            Self::Estimate { grid, input_tokens, output_tokens } => {
                let assumed = Assumed { input_tokens, output_tokens };
                Ok(json!(client.estimate(&grid.grid()?, assumed).await?))
            }
            Self::Ask { ask } => {
                let query = ask.query(&client)?;
                let patience = comity_sdk::client::Patience::default();
                let answer = client.ask_patiently(&query, patience, &|| comity_sdk::client::Wanted::Yes).await?;
                Ok(answered(&answer))
            }
            Self::Project => Ok(json!(client.project().await?)),
            Self::Purses => Ok(json!(client.purses().await)),
            Self::Limits => Ok(json!(client.limits().await)),
            Self::Finish { tokens } => finish(&client, tokens).await,
            Self::Fingerprint { named } => named.show(),
            Self::Receipts => Ok(Value::Array(comity_cli::kept::receipts(&home).map_err(|e| Raised::of("wallet", e))?)),
            Self::Verify => {
                // What the wallet keeps as evidence needs no federation.
                let _ = client.refresh().await;
                comity_cli::kept::verified(&home, &client).map_err(|error| Raised::of("wallet", error))
            }
        }
    }
}

fn with_owner(client: &Client, choice: &comity_sdk::client::Choice) -> Value {
    use comity_sdk::token::directory::Directory as _;
    let mut object = choice.json();
    let org = client.directory().roster().organisation(choice.summary.org).map(|org| org.title.to_string());
    object["owner_title"] = json!(org);
    object
}

/// Each token for itself: one owner that cannot be reached keeps no other credits from going home.
async fn finish(client: &Client, tokens: Vec<TokenId>) -> Result<Value, Raised> {
    // Where nobody was asked, what is known of the nodes is tried.
    let _ = client.refresh().await;
    let due =
        client.purses().await.into_iter().filter(comity_sdk::client::PurseStatus::is_due).map(|purse| purse.token);
    let tokens = if tokens.is_empty() { due.collect() } else { tokens };
    let mut ended = Vec::new();
    for token in tokens {
        ended.push(match client.finish(token).await {
            Ok(finished) => {
                let home = finished.reply.map_or(Amount::ZERO, |reply| reply.refunded);
                let above: Vec<_> = finished.above.iter().map(ToString::to_string).collect();
                json!({"token": token, "refunded_ucr": home, "above": above, "error": null})
            }
            Err(error) => json!({"token": token, "refunded_ucr": 0, "above": [], "error": Missed::of(&error)}),
        });
    }
    Ok(Value::Array(ended))
}

/// An answer with its receipt.
fn answered(answer: &Answer) -> Value {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    json!({"body": body, "text": answer.text(), "receipt": receipted(&answer.receipt), "notes": noted(&answer.notes)})
}

/// Who answered, and what was said beside it.
pub(crate) fn noted(notes: &Notes) -> Value {
    let header = |name: &str| {
        let found = notes.headers.iter().find(|(header, _)| header == name);
        found.and_then(|(_, value)| value.to_str().ok()).map(str::to_owned)
    };
    json!({
        "served_by": notes.node, "door": notes.door.map(|door| door.to_string()),
        "ignored": header("comity-ignored"), "clipped": header("comity-clipped"),
        "asked": notes.served.as_ref().map(|served| &served.asked),
        "tried": notes.served.as_ref().map_or(&[][..], |served| &served.tried),
    })
}

/// A receipt, readable and as it was signed.
pub(crate) fn receipted(receipt: &Verified<Receipt>) -> Value {
    json!({"id": receipt.id(), "object": receipt.object(), "signed": URL_SAFE_NO_PAD.encode(receipt.bytes())})
}

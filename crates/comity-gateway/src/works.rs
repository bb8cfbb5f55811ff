//! What is answered in one piece: what a caller reads of an upstream's answer, name by name, and what this node answers
//! by itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_guard::{Category, Filter};
use comity_supply::UpstreamError;
use serde_json::{Map, Value, json};

use crate::fields::{Asked, Prompt};

/// A work that is not generated text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Embeddings,
    Tokenize,
    Detokenize,
    TokenizerInfo,
    Predict,
    /// Answered from the rules that this node filters by; no upstream is asked.
    Moderations,
}

impl Work {
    /// Whether the model itself reads what was sent. What it does not read is neither blocked nor counted: who asks
    /// whether a text is flagged has not asked the model for anything.
    pub(crate) const fn runs_the_model(self) -> bool {
        matches!(self, Self::Embeddings | Self::Predict)
    }

    /// What the upstream is sent, beside what the tables let pass.
    pub(crate) fn prepare(self, body: &mut Map<String, Value>) {
        if self == Self::Embeddings {
            // Every server knows numbers; what the caller asked for is made here.
            body.insert("encoding_format".into(), "float".into());
        }
    }

    /// What the caller reads of an upstream's answer. `input_tokens` is what the receipt will say.
    ///
    /// # Errors
    /// [`UpstreamError::Malformed`]: nothing is handed over, and nothing charged.
    pub(crate) fn reply(self, asked: &Asked, answer: Value, input_tokens: u64) -> Result<Value, UpstreamError> {
        match self {
            Self::Embeddings => embeddings(asked, answer, input_tokens),
            Self::Tokenize => tokens(&answer),
            Self::Detokenize => {
                let text = answer.get("prompt").and_then(Value::as_str);
                Ok(json!({"prompt": text.ok_or_else(|| malformed("no 'prompt' in what was detokenized"))?}))
            }
            Self::TokenizerInfo => {
                let known = ["bos_token", "eos_token", "pad_token", "chat_template"];
                let text = |name: &str| answer.get(name).filter(|value| value.is_string()).cloned();
                Ok(known.into_iter().map(|name| (name.to_owned(), text(name).unwrap_or_default())).collect())
            }
            Self::Predict => predictions(asked, answer),
            Self::Moderations => Err(malformed("no upstream moderates")),
        }
    }
}

/// Categories of OpenAI's moderations, and which of ours speak of them. For the others nothing here looks: they are false
/// with score 0, and named in `comity.not_looked_for`.
const OPENAI: [(&str, &[Category]); 13] = [
    ("harassment", &[]),
    ("harassment/threatening", &[]),
    ("hate", &[]),
    ("hate/threatening", &[]),
    ("illicit", &[Category::CyberOffence, Category::Cbrn]),
    ("illicit/violent", &[Category::Cbrn]),
    ("self-harm", &[]),
    ("self-harm/intent", &[]),
    ("self-harm/instructions", &[]),
    ("sexual", &[]),
    ("sexual/minors", &[]),
    ("violence", &[]),
    ("violence/graphic", &[]),
];

/// Whether each text is flagged, by the rules and the classifier that this node filters by: OpenAI's categories, then ours.
pub(crate) fn moderations(filter: &Filter, asked: &Asked, id: &str) -> Value {
    let result = |text: &str| {
        let found = filter.scan(text);
        let hits = |category: &Category| found.count(*category) > 0;
        // A rule that matched is sure; else it is what the classifier made of the worst passage.
        let score = |category: &Category| {
            if found.by_rules(*category) > 0 { 1.0 } else { f64::from(found.score(*category)) / 1000.0 }
        };
        let (mut categories, mut scores) = (Map::new(), Map::new());
        for (name, ours) in OPENAI {
            categories.insert(name.to_owned(), ours.iter().any(hits).into());
            scores.insert(name.to_owned(), ours.iter().map(score).fold(0.0, f64::max).into());
        }
        for category in Category::ALL {
            categories.insert(category.name().to_owned(), hits(&category).into());
            scores.insert(category.name().to_owned(), score(&category).into());
        }
        let bands = found.categories().filter_map(|(category, _)| Some((category, found.band(category)?)));
        let bands: Map<_, _> = bands.map(|(category, band)| (category.name().to_owned(), json!(band))).collect();
        let rules: Vec<&str> = found.rules().map(|(rule, _)| rule).collect();
        let unseen: Vec<&str> = OPENAI.iter().filter(|(_, ours)| ours.is_empty()).map(|(name, _)| *name).collect();
        json!({
            "flagged": Category::ALL.iter().any(hits),
            "categories": categories,
            "category_scores": scores,
            "comity": {"rule_ids": rules, "bands": bands, "not_looked_for": unseen},
        })
    };
    let texts = asked.prompts.iter().filter_map(|prompt| match prompt {
        Prompt::Text(text) => Some(text),
        Prompt::Ids(_) => None,
    });
    let results: Vec<Value> = texts.map(|text| result(text)).collect();
    json!({"id": format!("modr-{id}"), "model": asked.model, "results": results})
}

fn embeddings(asked: &Asked, mut answer: Value, input_tokens: u64) -> Result<Value, UpstreamError> {
    let given = match answer.get_mut("data").map(Value::take) {
        Some(Value::Array(rows)) if rows.len() == asked.prompts.len() => rows,
        _ => return Err(malformed(format!("not one embedding for each of {} inputs", asked.prompts.len()))),
    };
    let mut rows: Vec<Option<Value>> = vec![None; given.len()];
    for (at, mut row) in given.into_iter().enumerate() {
        let index =
            row.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok()).unwrap_or(at);
        let slot = rows.get_mut(index).filter(|slot| slot.is_none());
        let slot = slot.ok_or_else(|| malformed(format!("embedding {index} twice or beyond the inputs")))?;
        let embedding = vector(row.get_mut("embedding").map(Value::take), asked.base64)?;
        *slot = Some(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    Ok(json!({
        "object": "list", "data": rows, "model": asked.model,
        "usage": {"prompt_tokens": input_tokens, "total_tokens": input_tokens},
    }))
}

/// As numbers or as base64 of little-endian 32-bit floats, whichever was asked for: openai-node decodes what it gets
/// without looking.
fn vector(given: Option<Value>, base64: bool) -> Result<Value, UpstreamError> {
    let broken = || malformed("an embedding that is neither numbers nor base64 of 32-bit floats");
    match given {
        Some(Value::Array(numbers)) if !numbers.is_empty() => {
            let mut bytes = Vec::with_capacity(numbers.len() * 4);
            for number in &numbers {
                #[allow(clippy::cast_possible_truncation, reason = "32 bits are what an embedding has")]
                let number = number.as_f64().ok_or_else(broken)? as f32;
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            Ok(if base64 { STANDARD.encode(bytes).into() } else { Value::Array(numbers) })
        }
        Some(Value::String(text)) => {
            let bytes = STANDARD.decode(&text).map_err(|_| broken())?;
            let (numbers, rest) = bytes.as_chunks::<4>();
            if numbers.is_empty() || !rest.is_empty() {
                return Err(broken());
            }
            let numbers = numbers.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
            Ok(if base64 { text.into() } else { numbers.collect() })
        }
        _ => Err(broken()),
    }
}

/// One output for each input, each of them what the manifest says.
fn predictions(asked: &Asked, mut answer: Value) -> Result<Value, UpstreamError> {
    let schema = asked.schema.as_ref().ok_or_else(|| malformed("no schema to hold an output against"))?;
    let outputs = match answer.get_mut("outputs").map(Value::take) {
        Some(Value::Array(outputs)) if outputs.len() == asked.prompts.len() => outputs,
        _ => return Err(malformed(format!("not one output for each of {} inputs", asked.prompts.len()))),
    };
    for (number, output) in outputs.iter().enumerate() {
        schema.output.check(&format!("outputs[{number}]"), output).map_err(|mismatch| {
            malformed(format!("{} is not {}, as the manifest says it is", mismatch.at, mismatch.expected))
        })?;
    }
    Ok(json!({"object": "prediction", "model": asked.model, "outputs": outputs}))
}

fn tokens(answer: &Value) -> Result<Value, UpstreamError> {
    let tokens = answer.get("tokens").and_then(Value::as_array).filter(|tokens| tokens.iter().all(Value::is_u64));
    let tokens = tokens.ok_or_else(|| malformed("no 'tokens' in what was tokenized"))?;
    let mut reply = json!({"count": tokens.len(), "tokens": tokens});
    if let Some(length) = answer.get("max_model_len").filter(|length| length.is_u64()) {
        reply["max_model_len"] = length.clone();
    }
    let texts = answer.get("token_strs").and_then(Value::as_array).filter(|texts| texts.iter().all(Value::is_string));
    if let Some(texts) = texts {
        reply["token_strs"] = json!(texts);
    }
    Ok(reply)
}

fn malformed(detail: impl Into<String>) -> UpstreamError {
    UpstreamError::Malformed { detail: detail.into() }
}

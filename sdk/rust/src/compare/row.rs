//! What came of one call, as it is kept: a line of JSON that says all of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_wire::object::{Ended, Receipt};
use comity_wire::{Amount, Code, Digest, Meter, ModelId, NodeId, Verified};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Grid, Item};
use crate::chat::Answer;
use crate::client::Error;
use crate::keys::Outcome;

/// One line of `results.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub item: u64,
    pub prompt: String,
    pub setting: String,
    pub model: ModelId,
    pub repeat: u32,
    /// `None` where there is an error.
    pub answer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Whether the answer says what the prompt expects, where it expects something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_expected: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Missed>,
    /// What it cost, in micro-credits, also where there is an error.
    pub charge_ucr: Amount,
    /// The most that it may cost beside that, where there is an error and its node did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_doubt_ucr: Option<Amount>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// From the call to the whole answer, with what it waited; milliseconds.
    pub ms: u64,
    /// The receipt's content id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Digest>,
    /// The receipt itself, base64url: evidence without the wallet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_by: Option<NodeId>,
    /// The release that answered: weights, tokenizer, template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// The nonce of the request and the body as it came: with the grid, what the receipt's digests are made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<(String, String)>,
    /// How the node ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

impl Missed {
    pub fn of(error: &Error) -> Self {
        Self { code: error.name().to_owned(), message: crate::chain(error), hint: error.hint(), limit: error.limit() }
    }
}

impl Row {
    fn new(grid: &Grid, item: &Item, ms: u64) -> Self {
        Self {
            item: item.number,
            prompt: grid.prompts[item.prompt].id.clone(),
            setting: grid.settings[item.setting].name.clone(),
            model: grid.models[item.model].clone(),
            repeat: item.repeat,
            answer: None,
            finish_reason: None,
            as_expected: None,
            error: None,
            charge_ucr: Amount::ZERO,
            in_doubt_ucr: None,
            input_tokens: 0,
            output_tokens: 0,
            ms,
            receipt: None,
            signed: None,
            served_by: None,
            release: None,
            exchange: None,
            ended: None,
        }
    }

    pub(super) fn answered(grid: &Grid, item: &Item, answer: &Answer, ms: u64) -> Self {
        let text = answer.text();
        let expected = grid.prompts[item.prompt].expected.as_deref();
        Self {
            as_expected: expected.zip(text.as_deref()).map(|(expected, text)| says(text, expected)),
            finish_reason: finish_reason(&answer.body),
            exchange: std::str::from_utf8(&answer.body)
                .ok()
                .map(|body| (URL_SAFE_NO_PAD.encode(answer.nonce), body.to_owned())),
            answer: Some(text.unwrap_or_default()),
            ..Self::new(grid, item, ms).receipted(&answer.receipt)
        }
    }

    /// `became`: what is known of it all the same; `at_most`: what it may cost where that is unknown.
    pub(super) fn missed(
        grid: &Grid,
        item: &Item,
        error: &Error,
        (became, at_most): (Option<Outcome>, Amount),
        ms: u64,
    ) -> Self {
        let charged = became.and_then(Outcome::charged);
        Self {
            error: Some(Missed::of(error)),
            in_doubt_ucr: (became == Some(Outcome::Unknown)).then_some(at_most),
            receipt: charged.map(|(receipt, _)| receipt),
            charge_ucr: charged.map_or(Amount::ZERO, |(_, charge)| charge),
            ..Self::new(grid, item, ms)
        }
    }

    fn receipted(self, receipt: &Verified<Receipt>) -> Self {
        Self {
            charge_ucr: receipt.charge,
            input_tokens: receipt.meters.get(Meter::InputTokens),
            output_tokens: receipt.meters.get(Meter::OutputTokens),
            receipt: Some(receipt.id()),
            signed: Some(URL_SAFE_NO_PAD.encode(receipt.bytes())),
            served_by: Some(receipt.node),
            release: Some(receipt.release),
            ended: Some(receipt.ended),
            ..self
        }
    }

    /// Whether the next run asks it again: there is no answer, and there may be one. What was paid is not paid again by it.
    pub fn is_open(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.code != Code::Replayed.as_str())
    }
}

fn finish_reason(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.pointer("/choices/0/finish_reason")?.as_str().map(str::to_owned)
}

/// Whether an answer says what is expected: the words of it, in their order, somewhere in the answer, whatever the case and what
/// stands between words.
fn says(answer: &str, expected: &str) -> bool {
    let words = |text: &str| {
        let text = text.to_lowercase();
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '.');
        let words = words.map(|word| word.trim_matches('.')).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let (answer, expected) = (words(answer), words(expected));
    !expected.is_empty() && answer.windows(expected.len()).any(|part| part == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_answer_is_found_by_whole_words() {
        assert!(says("The capital is Paris.", "paris") && says("PARIS", "Paris"));
        assert!(says("It is New  York, I think", "new york"));
        assert!(!says("Parisian", "Paris") && !says("York New", "New York"));
        assert!(says("about 3.5 kg", "3.5") && !says("13.5", "3.5"));
        assert!(says("-4", "-4") && !says("4", "-4"));
        assert!(!says("anything", "") && !says("", "x"));
    }
}

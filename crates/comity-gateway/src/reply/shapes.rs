//! OpenAI's shapes, in the order in which it writes them. Written at once: a tree of values for each word costs more than the word.

use comity_supply::Usage;
use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
pub(super) struct Reply<'r> {
    pub(super) id: &'r str,
    pub(super) object: &'r str,
    pub(super) created: u64,
    pub(super) model: &'r str,
    pub(super) choices: &'r [OneChoice<'r>],
    /// `null` in all chunks but the last, for those who asked for it; left out for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageShown>>,
}

#[derive(Serialize)]
pub(super) struct OneChoice<'r> {
    pub(super) index: u32,
    #[serde(flatten)]
    pub(super) content: Content<'r>,
    pub(super) logprobs: Value,
    pub(super) finish_reason: Option<&'r str>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'r> {
    Delta { delta: Words<'r> },
    Message { message: Words<'r> },
    Text { text: &'r str },
}

#[derive(Serialize)]
pub(super) struct Words<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'r str>,
    /// `null` beside tools that are called without a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Option<&'r str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<Value>,
}

#[derive(Serialize)]
pub(super) struct UsageShown {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl UsageShown {
    pub(super) fn of(usage: Usage) -> Self {
        let Usage { input_tokens, output_tokens } = usage;
        let total_tokens = input_tokens.saturating_add(output_tokens);
        Self { prompt_tokens: input_tokens, completion_tokens: output_tokens, total_tokens }
    }
}

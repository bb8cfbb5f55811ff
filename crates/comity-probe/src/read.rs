//! An answer as a node gives it, whole or in pieces, read as far as it is compared.

use serde_json::Value;

use crate::answer::{Answer, Choice, Step, TOP_MAX};

/// The longest text of an answer that is kept.
const TEXT_BYTES_MAX: usize = 16_384;

/// What is read of the first choice of a chat.
#[derive(Debug, Default)]
pub struct Read {
    /// Its text so far; `None` where there was none.
    pub text: Option<String>,
    /// Its tokens, where the node lists them.
    pub steps: Vec<Step>,
    /// Whether the model, or a filter, would not.
    pub refused: bool,
    /// Tokens in and out that it says it counted.
    pub usage: Option<(u64, u64)>,
}

impl Read {
    /// Reads a body; one that is no JSON has nothing in it.
    #[must_use]
    pub fn whole(body: &[u8]) -> Self {
        let mut read = Self::default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        read.take(&body, "message");
        read
    }

    /// Reads one more event of a stream.
    pub fn piece(&mut self, payload: &str) {
        let body: Value = serde_json::from_str(payload).unwrap_or_default();
        self.take(&body, "delta");
    }

    fn take(&mut self, body: &Value, part: &str) {
        let tokens = |name: &str| body["usage"][name].as_u64();
        self.usage = tokens("prompt_tokens").zip(tokens("completion_tokens")).or(self.usage);
        let choice = &body["choices"][0];
        if let Some(more) = choice[part]["content"].as_str() {
            let text = self.text.get_or_insert_default();
            let room = TEXT_BYTES_MAX.saturating_sub(text.len());
            text.push_str(&more[..more.floor_char_boundary(room)]);
        }
        let says = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        self.refused |= says(&choice[part]["refusal"]) || choice["finish_reason"] == "content_filter";
        self.steps.extend(choice["logprobs"]["content"].as_array().into_iter().flatten().map(step));
    }

    /// Whether the node says what its tokens were, and what else they might have been.
    #[must_use]
    pub fn lists(&self) -> bool {
        self.steps.iter().any(|step| !step.top.is_empty())
    }

    /// The answer: by its tokens where they are listed, else by its characters.
    #[must_use]
    pub fn answer(&self) -> Answer {
        if self.steps.is_empty() || self.refused {
            return self.words();
        }
        Answer { choice: Choice::Answered, steps: self.steps.clone() }.bounded()
    }

    /// The answer by its characters, whatever is listed.
    #[must_use]
    pub fn words(&self) -> Answer {
        if self.refused { Answer::refusal() } else { Answer::of_text(self.text.as_deref().unwrap_or_default()) }
    }
}

fn step(token: &Value) -> Step {
    let text = |value: &Value| value["token"].as_str().unwrap_or_default().to_owned();
    let top = token["top_logprobs"].as_array().into_iter().flatten();
    let top = top.filter_map(|other| Some((text(other), other["logprob"].as_f64()?)));
    Step { text: text(token), top: top.take(TOP_MAX).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(pieces: &[&str]) -> Read {
        let mut read = Read::default();
        pieces.iter().for_each(|piece| read.piece(piece));
        read
    }

    #[test]
    fn an_answer_is_the_same_whole_or_in_pieces() {
        let tokens = r#"{"token":"Pa","top_logprobs":[{"token":"Pa","logprob":-0.5},{"token":"Li","logprob":-1.5}]}"#;
        let more = r#"{"token":"ris","top_logprobs":[]}"#;
        let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":2}"#;
        let whole = format!(
            r#"{{"choices":[{{"message":{{"content":"Paris","refusal":null}},"logprobs":{{"content":[{tokens},{more}]}},"finish_reason":"stop"}}],{usage}}}"#
        );
        let whole = Read::whole(whole.as_bytes());
        let pieces = logged(&[
            &format!(r#"{{"choices":[{{"delta":{{"content":"Pa"}},"logprobs":{{"content":[{tokens}]}}}}]}}"#),
            &format!(r#"{{"choices":[{{"delta":{{"content":"ris"}},"logprobs":{{"content":[{more}]}}}}]}}"#),
            &format!(r#"{{"choices":[],{usage}}}"#),
        ]);
        for read in [whole, pieces] {
            assert_eq!((read.text.as_deref(), read.usage, read.refused), (Some("Paris"), Some((9, 2)), false));
            assert_eq!(read.steps.iter().map(|step| step.text.as_str()).collect::<Vec<_>>(), ["Pa", "ris"]);
            assert_eq!(read.steps[0].top[1], ("Li".to_owned(), -1.5));
        }
        for refusal in [
            r#"{"choices":[{"delta":{"content":"Pa"},"finish_reason":"content_filter"}]}"#,
            r#"{"choices":[{"delta":{"refusal":"no"}}]}"#,
        ] {
            assert!(logged(&[refusal]).refused, "{refusal}");
        }
    }
}

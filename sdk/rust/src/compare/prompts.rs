//! Prompts, read from a file: a line each, or JSON lines.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Names it in results; unique.
    pub id: String,
    pub messages: Vec<Message>,
    /// What a right answer says, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub role: String,
    pub content: String,
}

/// Why a file is not one of prompts. Never says what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPrompts {
    #[error("line {line}: {what}")]
    Line { line: usize, what: String },
    #[error("there is no prompt in it")]
    Empty,
    #[error("more than {0} prompts")]
    TooMany(usize),
}

/// A line of JSON: a string, or an object in one of the forms that people have.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Object(Object),
}

#[derive(Deserialize)]
struct Object {
    #[serde(alias = "custom_id", alias = "name")]
    id: Option<Value>,
    #[serde(alias = "question", alias = "input", alias = "text")]
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    /// A line of an OpenAI batch.
    body: Option<Box<Self>>,
    #[serde(alias = "answer", alias = "target", alias = "ideal")]
    expected: Option<String>,
}

impl Prompt {
    /// The most that are read of one file.
    pub const COUNT_MAX: usize = 100_000;

    /// A question without a name of its own.
    pub fn asked(id: impl Into<String>, question: impl Into<String>) -> Self {
        let message = Message { role: "user".to_owned(), content: question.into() };
        Self { id: id.into(), messages: vec![message], expected: None }
    }

    /// Reads a file: lines that begin with `{` or `"` are JSON, all others are a question each. Empty lines are passed over.
    ///
    /// # Errors
    /// [`NotPrompts`].
    pub fn read(text: &str) -> Result<Vec<Self>, NotPrompts> {
        let mut prompts = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if prompts.len() == Self::COUNT_MAX {
                return Err(NotPrompts::TooMany(Self::COUNT_MAX));
            }
            let number = prompts.len() + 1;
            let wrong = |what: &str| NotPrompts::Line { line: at + 1, what: what.to_owned() };
            prompts.push(Self::of_line(line, number).map_err(wrong)?);
        }
        if prompts.is_empty() { Err(NotPrompts::Empty) } else { Ok(prompts) }
    }

    /// Reads one line that is not empty. `number` is its name where it says none.
    ///
    /// # Errors
    /// What is wrong with it, never what stands in it.
    pub fn of_line(line: &str, number: usize) -> Result<Self, &'static str> {
        let line = line.trim();
        if line.starts_with(['{', '"']) { understand(line, number) } else { Ok(Self::asked(number.to_string(), line)) }
    }

    /// What is asked: the last message of the user.
    pub fn question(&self) -> &str {
        let asked = self.messages.iter().rev().find(|message| message.role == "user");
        asked.or_else(|| self.messages.last()).map_or("", |message| message.content.as_str())
    }
}

/// The parser's own words would quote the prompt.
fn understand(line: &str, number: usize) -> Result<Prompt, &'static str> {
    const FORM: &str =
        "not a prompt: a string, or an object with `prompt` or `messages`, and `id` and `expected` if you like";
    let object = match serde_json::from_str(line).map_err(|_| FORM)? {
        Written::Text(text) => return Ok(Prompt::asked(number.to_string(), text)),
        Written::Object(object) => object,
    };
    let id = match object.id {
        None => number.to_string(),
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        Some(_) => return Err("`id` is a string or a number"),
    };
    let Object { prompt, messages, .. } = object.body.map_or(
        Object { id: None, prompt: object.prompt, messages: object.messages, body: None, expected: None },
        |body| *body,
    );
    let prompt = match (prompt, messages) {
        (Some(prompt), None) => Prompt::asked(id, prompt),
        (None, Some(messages)) if !messages.is_empty() => Prompt { id, messages, expected: None },
        _ => return Err(FORM),
    };
    Ok(Prompt { expected: object.expected, ..prompt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_people_have_is_read() {
        let text = "What is 2+2?\n\n\"as JSON\"\n{\"id\":\"q3\",\"prompt\":\"capital?\",\"expected\":\"Paris\"}\n\
                    {\"question\":\"q\",\"answer\":\"a\",\"extra\":1}\n\
                    {\"custom_id\":7,\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\
                    \"body\":{\"model\":\"lab/m\",\"messages\":[{\"role\":\"system\",\"content\":\"be short\"},{\"role\":\"user\",\"content\":\"hi\"}]}}\n";
        let prompts = Prompt::read(text).unwrap();
        let short: Vec<_> = prompts.iter().map(|p| (p.id.as_str(), p.question(), p.expected.as_deref())).collect();
        assert_eq!(
            short,
            [
                ("1", "What is 2+2?", None),
                ("2", "as JSON", None),
                ("q3", "capital?", Some("Paris")),
                ("4", "q", Some("a")),
                ("7", "hi", None)
            ]
        );
        assert_eq!(prompts[4].messages.len(), 2);
    }

    #[test]
    fn a_wrong_line_is_named_and_not_quoted() {
        for wrong in
            ["{\"prompt\":\"secret\"", "{\"prompt\":1,\"x\":\"secret\"}", "{\"id\":[],\"prompt\":\"secret\"}", "{}"]
        {
            let error = Prompt::read(&format!("fine\n{wrong}\n")).unwrap_err();
            assert!(matches!(&error, NotPrompts::Line { line: 2, .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(Prompt::read(" \n").unwrap_err(), NotPrompts::Empty);
    }
}

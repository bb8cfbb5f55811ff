//! `comity agent configure`: a coding agent asks models through the proxy.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use comity_wire::ModelId;
use serde_json::{Map, Value, json};

use crate::printer::{Failure, note, say};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Agent {
    /// Write a coding agent's configuration, so that it asks models through `comity proxy`
    Configure(Configure),
}

#[derive(Debug, clap::Args)]
pub struct Configure {
    #[arg(value_enum)]
    agent: Name,
    /// The models that it may choose from, the one it begins with first
    #[arg(long, required = true, value_delimiter = ',')]
    models: Vec<ModelId>,
    /// Where the proxy listens
    #[arg(long, default_value = "http://127.0.0.1:8899/v1")]
    base_url: String,
    /// The agent's file: what else stands in it stays. `-` prints it instead [default: ~/.config/opencode/opencode.json]
    #[arg(long)]
    file: Option<PathBuf>,
}

/// Agents that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Name {
    /// opencode (npm: opencode-ai)
    Opencode,
}

impl Agent {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let Self::Configure(configure) = self;
        configure.run(session).await
    }
}

impl Configure {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let Name::Opencode = self.agent;
        let client = session.look()?;
        let mut models = Map::new();
        for model in &self.models {
            let manifest = client.manifest(model).await?;
            let (context, output) =
                (manifest.context_length.unwrap_or(8_192), manifest.output_tokens_max.unwrap_or(4_096));
            models.insert(
                model.to_string(),
                json!({"name": manifest.title, "tool_call": true, "limit": {"context": context, "output": output}}),
            );
        }
        let path = match self.file {
            Some(path) => path,
            None => opencode_file()?,
        };
        let is_printed = path == Path::new("-");
        let kept = if is_printed { Map::new() } else { read(&path)? };
        let whole = Value::Object(opencode(kept, &self.models, models, &self.base_url));
        let text = serde_json::to_string_pretty(&whole)?;
        if is_printed {
            say(&text);
            return Ok(());
        }
        put(&path, &text)?;
        say(&path.display().to_string());
        note("next: `comity proxy`, then `opencode` in your project; what it asks is charged to your project");
        Ok(())
    }
}

fn opencode_file() -> Result<PathBuf, Failure> {
    let below = |base: std::ffi::OsString, rest: &str| PathBuf::from(base).join(rest);
    let config = std::env::var_os("XDG_CONFIG_HOME").map(|base| below(base, "opencode/opencode.json"));
    let found = config.or_else(|| std::env::var_os("HOME").map(|base| below(base, ".config/opencode/opencode.json")));
    found.ok_or_else(|| Failure::new("no home folder is known", "name the file with --file"))
}

fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => {
            return Err(Failure::new(format!("cannot read {}: {error}", path.display()), "name another --file"));
        }
    };
    serde_json::from_str(&text).map_err(|_| {
        Failure::new(
            format!("{} is no plain JSON object, and is left as it is", path.display()),
            "`--file -` prints what to put into it by hand",
        )
    })
}

/// Whole or not at all.
fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("json.new");
    let put = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&new, format!("{text}\n"))?;
        std::fs::rename(&new, path)
    };
    put().map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display()), "name another --file"))
}

/// What stood there, and ours: one provider, and which model it begins with.
fn opencode(
    mut kept: Map<String, Value>,
    ids: &[ModelId],
    models: Map<String, Value>,
    base_url: &str,
) -> Map<String, Value> {
    let first = ids.first().map(|model| format!("comity/{model}"));
    kept.entry("$schema").or_insert_with(|| json!("https://opencode.ai/config.json"));
    kept.insert("model".to_owned(), json!(first));
    kept.insert("small_model".to_owned(), json!(first));
    let providers = kept.entry("provider").or_insert_with(|| json!({}));
    if !providers.is_object() {
        *providers = json!({});
    }
    providers["comity"] = json!({
        "npm": "@ai-sdk/openai-compatible", "name": "Comity", "options": {"baseURL": base_url, "apiKey": "unused"},
        "models": models,
    });
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_else_stands_in_the_file_stays() {
        let kept = json!({"theme": "dark", "model": "other/m", "provider": {"other": {"name": "Other"}}});
        let Value::Object(kept) = kept else { unreachable!() };
        let models = Map::from_iter([("lab/a".to_owned(), json!({"name": "A"}))]);
        let whole = Value::Object(opencode(kept, &["lab/a".parse().unwrap()], models, "http://127.0.0.1:1/v1"));
        assert_eq!((&whole["theme"], &whole["provider"]["other"]["name"]), (&json!("dark"), &json!("Other")));
        assert_eq!((&whole["model"], &whole["small_model"]), (&json!("comity/lab/a"), &json!("comity/lab/a")));
        assert_eq!(whole["provider"]["comity"]["options"]["baseURL"], "http://127.0.0.1:1/v1");
        assert_eq!(whole["provider"]["comity"]["models"]["lab/a"]["name"], "A");
    }

    #[test]
    fn a_file_that_is_not_understood_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opencode.json");
        std::fs::write(&path, "// mine\n{}").unwrap();
        let refused = read(&path).unwrap_err();
        assert!(refused.hint.unwrap().contains("--file -"));
        assert!(read(&folder.path().join("none.json")).unwrap().is_empty());
    }
}

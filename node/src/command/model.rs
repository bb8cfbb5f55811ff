//! `comity model example|probe|publish|export`: what a node offers, and its own models for other servers.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::models;
use crate::offer::Offer;
use crate::service::{admin, measured};

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Print a commented models/NAME.toml to start from
    Example {
        /// How the server is spoken to: vllm, sglang, llama_cpp, ollama …
        #[arg(long, default_value = "vllm")]
        dialect: String,
        /// Its base URL
        #[arg(long, default_value = "http://127.0.0.1:8000/v1")]
        upstream: String,
        /// The model's name there
        #[arg(long, default_value = "meta-llama/Llama-3.1-8B-Instruct")]
        model: String,
    },
    /// Ask a model's server what it can really do, and write it down; a running node publishes it at once
    Probe {
        #[arg(long)]
        home: PathBuf,
        /// The NAME of models/NAME.toml
        name: String,
    },
    /// Have the running node read its models folder again and publish what changed
    Publish {
        #[arg(long)]
        home: PathBuf,
    },
    /// Write a model of the built-in engine as one GGUF file, for llama.cpp and its kin
    Export {
        /// One that ships with this program, or a folder with config.json and model.safetensors
        model: String,
        /// The file to write; it must not be there yet
        #[arg(long)]
        gguf: PathBuf,
    },
}

/// # Errors
/// [`Failure`] where the node is not running, or a file has a mistake: then nothing changed.
pub async fn run(command: ModelCommand) -> Result<String, Failure> {
    match command {
        ModelCommand::Example { dialect, upstream, model } => example(&dialect, &upstream, &model),
        ModelCommand::Probe { home, name } => {
            comity_http::tls::install();
            let at = Home::open(&home)?;
            let offer = Offer::read(&at.file("models").join(format!("{name}.toml")))?;
            if offer.serve.engine().is_some() {
                return Err(Failure::new("the built-in engine needs no probe").hint("name a model behind a server"));
            }
            let (_, found) = measured::measure(&at, &offer).await?;
            let published =
                admin::post::<serde_json::Value>(&home, "/admin/publish", &serde_json::json!({})).await.is_ok();
            let reply = serde_json::json!({"model": offer.model.name, "at": found.at.to_string(),
                "measured": found.capabilities, "published": published});
            Ok(serde_json::to_string(&reply)?)
        }
        ModelCommand::Publish { home } => {
            let reply: serde_json::Value = admin::post(&home, "/admin/publish", &serde_json::json!({})).await?;
            Ok(serde_json::to_string(&reply)?)
        }
        ModelCommand::Export { model, gguf } => export(&model, &gguf),
    }
}

fn export(model: &str, path: &Path) -> Result<String, Failure> {
    let bytes = models::gguf(model)?;
    let written = File::create_new(path).and_then(|mut file| file.write_all(&bytes));
    written.while_(format!("cannot write {}", path.display()))?;
    Ok(serde_json::to_string(&serde_json::json!({"model": model, "gguf": path, "bytes": bytes.len()}))?)
}

/// The example with these three written into it.
fn example(dialect: &str, upstream: &str, model: &str) -> Result<String, Failure> {
    let plain = |text: &str| !text.is_empty() && !text.contains(['"', '\\']) && !text.contains(char::is_control);
    if ![dialect, upstream, model].into_iter().all(plain) {
        return Err(Failure::new("a dialect, a URL and a name have neither quotes nor backslashes"));
    }
    let text = include_str!("../offer/example.toml")
        .replace("\"http://127.0.0.1:8000/v1\"", &format!("\"{upstream}\""))
        .replace("upstream_model = \"meta-llama/Llama-3.1-8B-Instruct\"", &format!("upstream_model = \"{model}\""))
        .replace("dialect = \"vllm\"", &format!("dialect = \"{dialect}\""));
    toml::from_str::<Offer>(&text)?;
    Ok(text)
}

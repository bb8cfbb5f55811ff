//! `comity access proof`: that an owner cannot decide anew, unseen, what it decided.

use comity_sdk::Client;
use comity_sdk::client::decisions::{InLog, Log, NotSealed, Sealed};
use comity_wire::log::{Checkpoint, VerifierKey};
use comity_wire::{Digest, ModelId};
use serde_json::json;

use crate::printer::{Failure, say};

/// How the house's log is verified.
#[derive(Debug, clap::Args)]
pub struct By {
    /// The key of the house's log, which its operator publishes; without it the house alone says what is in its log
    #[arg(long, value_name = "VKEY", value_parser = key)]
    log_key: Option<VerifierKey>,
    #[arg(long)]
    json: bool,
}

fn key(text: &str) -> Result<VerifierKey, String> {
    text.parse().map_err(|error: comity_wire::log::NoteError| error.to_string())
}

/// Asks for the proof, verifies it against the links of `events`, and says what it shows.
pub(super) async fn prove(
    client: &Client,
    model: &ModelId,
    (log, id): (Log, &str),
    events: &[(u64, Digest)],
    by: &By,
) -> Result<(), Failure> {
    let link_of = |n| events.iter().find(|(event, _)| *event == n).map(|(_, link)| *link);
    let sealed = client.sealed(model, (log, id), link_of, by.log_key.as_ref()).await.map_err(unproved)?;
    let last = events.last().map_or(0, |(n, _)| *n);
    say(&if by.json { serde_json::to_string_pretty(&as_json(id, last, &sealed))? } else { shown(id, last, &sealed) });
    Ok(())
}

fn as_json(id: &str, last: u64, Sealed { n, head, logged }: &Sealed) -> serde_json::Value {
    let in_log = |InLog { index, checkpoint: Checkpoint { origin, size, root }, is_signed }: &InLog| json!({ "index": index, "origin": origin, "size": size, "root": root, "is_signed": is_signed });
    json!({
        "of": id,
        "events": last,
        "sealed": n,
        "head": { "node": head.node, "n": head.n, "log": head.log, "size": head.size, "root": head.root, "at": head.at, "content": head.id() },
        "logged": logged.as_ref().map(in_log),
    })
}

fn shown(id: &str, last: u64, Sealed { n, head, logged }: &Sealed) -> String {
    let events = match n {
        1 => "event 1".to_owned(),
        n => format!("events 1 to {n}"),
    };
    let rest = if last > *n { format!("; {} more will be within a minute", last - n) } else { String::new() };
    let mut text =
        format!("{id}: {events} stand under head {} of {}, signed at {}{rest}\n", head.n, head.node, head.at);
    text.push_str(&match logged {
        None => {
            "No clearing house has that head in its log yet: the owner alone vouches for it. Ask again in a minute."
                .to_owned()
        }
        Some(InLog { index, checkpoint, is_signed }) => {
            let by = if *is_signed {
                "under the log's key that you named"
            } else {
                "by the house's word alone: name the log's key with --log-key"
            };
            format!("The head is entry {index} of {}, in its tree of {}, {by}.", checkpoint.origin, checkpoint.size)
        }
    });
    text
}

fn unproved(error: NotSealed) -> Failure {
    match error {
        NotSealed::Call(error) => error.into(),
        NotSealed::Rewritten { .. } => Failure::new(
            error.to_string(),
            "keep what `--json` of the show command says, and ask the owner how that came about",
        ),
        error => Failure::new(
            format!(
                "{error}{}",
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default()
            ),
            "nothing is proved: ask the owner, and the clearing house's operator, how that came about",
        ),
    }
}

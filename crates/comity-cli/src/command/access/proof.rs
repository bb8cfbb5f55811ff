//! `comity access proof`: that an owner cannot decide anew, unseen, what it decided.

use comity_sdk::Client;
use comity_sdk::client::decisions::{InLog, Log, NotSealed, Sealed, SealedBy};
use comity_wire::api::decisions::ActProof;
use comity_wire::log::{Checkpoint, VerifierKey};
use comity_wire::{Digest, ModelId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::printer::{Failure, say};

/// How the house's log is verified.
#[derive(Debug, clap::Args)]
pub struct By {
    /// The key of the house's log, which its operator publishes; without it the house alone says what is in its log
    #[arg(long, value_name = "VKEY", value_parser = key)]
    log_key: Option<VerifierKey>,
    /// An event that no house had so many hours after the moment it names ends this command with exit code 1
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    within: u64,
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
    events: &[Event],
    by: &By,
) -> Result<(), Failure> {
    let of = |n| events.iter().find(|event| event.n == n);
    let link_of = |n| of(n).map(|event| event.link);
    let sealed = client.sealed(model, (log, id), link_of, by.log_key.as_ref()).await.map_err(unproved)?;
    let last = events.last().map_or(0, |event| event.n);
    let late =
        if sealed.has_house { late(events, &sealed.since, by.within, crate::session::now()) } else { Vec::new() };
    say(&if by.json {
        serde_json::to_string_pretty(&as_json(id, last, &sealed, &late))?
    } else {
        shown(id, last, &sealed, &late)
    });
    match late.first() {
        None => Ok(()),
        Some(Late { n, .. }) => Err(Failure::new(
            format!("event {n} of {id} came into the house's log late, or is not in it"),
            "a log that was written anew looks like this, and so does an owner whose house could not be reached for so long: ask the owner",
        )),
    }
}

/// What an act says of itself.
#[derive(Debug, Deserialize)]
struct Said {
    n: u64,
    at: Timestamp,
    entered: Timestamp,
    author: String,
    deed: serde_json::Value,
    reason: String,
}

/// Verifies an act of an owner's register that was handed over in a file, and says what it shows.
pub(super) async fn prove_act(client: &Client, file: &std::path::Path, by: &By) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(
            format!("{} is no act: {error}", file.display()),
            "the owner makes it: comity node decisions act N",
        )
    };
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(|error| wrong(&error))?
    } else {
        std::fs::read_to_string(file).map_err(|error| wrong(&error))?
    };
    let act: ActProof = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let said: Said = serde_json::from_str(&act.text).map_err(|error| wrong(&error))?;
    if said.n != act.proof.n {
        return Err(wrong(&"its proof is of another act"));
    }
    let sealed = client.act_sealed(&act, by.log_key.as_ref()).await.map_err(unproved)?;
    let id = format!("act {} of {}", said.n, act.node);
    let event = Event { n: said.n, link: act.proof.link, at: said.at };
    let late =
        if sealed.has_house { late(&[event], &sealed.since, by.within, crate::session::now()) } else { Vec::new() };
    let Said { at, entered, author, deed, reason, .. } = &said;
    say(&if by.json {
        let mut shown = as_json(&id, said.n, &sealed, &late);
        shown["act"] = json!({"at": at, "entered": entered, "author": author, "deed": deed, "reason": reason});
        serde_json::to_string_pretty(&shown)?
    } else {
        // A stranger's words: nothing in them steers a terminal.
        let words = format!("{at}  {deed}  by {author}: {reason}\n");
        format!("{}{}", crate::printer::plain(&words), shown(&id, said.n, &sealed, &late))
    });
    match late.first() {
        None => Ok(()),
        Some(_) => Err(Failure::new(
            format!("{id} came into the house's log late, or is not in it"),
            "an act that was put in later looks like this, and so does an owner whose node or house could not be reached for so long: ask the owner",
        )),
    }
}

/// An event as the owner showed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) n: u64,
    pub(super) link: Digest,
    pub(super) at: Timestamp,
}

/// An event that no house had for long.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Late {
    n: u64,
    at: Timestamp,
    /// When the first head over it was signed that the house has; `None` where it has none.
    sealed_by: Option<Timestamp>,
}

/// Events of which the first head was signed more than so many hours after the moment that they name, or was not in that time.
fn late(events: &[Event], since: &[SealedBy], hours: u64, now: Timestamp) -> Vec<Late> {
    let within_s = hours.saturating_mul(3_600);
    let judged = events.iter().map(|event| {
        let by = since.iter().find(|one| one.n == event.n).map(|one| one.at);
        (by.unwrap_or(now).since(event.at) > within_s, Late { n: event.n, at: event.at, sealed_by: by })
    });
    judged.filter(|(is_late, _)| *is_late).map(|(_, late)| late).collect()
}

fn as_json(id: &str, last: u64, Sealed { n, head, logged, since, .. }: &Sealed, late: &[Late]) -> serde_json::Value {
    let by = |SealedBy { n, head, log, at, index }: &SealedBy| json!({ "n": n, "head": head, "log": log, "sealed_by": at, "index": index });
    let in_log = |InLog { index, checkpoint: Checkpoint { origin, size, root }, is_signed }: &InLog| json!({ "index": index, "origin": origin, "size": size, "root": root, "is_signed": is_signed });
    json!({
        "of": id,
        "events": last,
        "sealed": n,
        "head": { "node": head.node, "n": head.n, "log": head.log, "size": head.size, "root": head.root, "at": head.at, "content": head.id() },
        "logged": logged.as_ref().map(in_log),
        "since": since.iter().map(by).collect::<Vec<_>>(),
        "late": late,
    })
}

fn shown(id: &str, last: u64, Sealed { n, head, logged, .. }: &Sealed, late: &[Late]) -> String {
    let events = match n {
        1 => "event 1".to_owned(),
        n => format!("events 1 to {n}"),
    };
    let rest = if last > *n { format!("; {} more will be within a minute", last - n) } else { String::new() };
    let ended = match head.log {
        1 => String::new(),
        log => format!(
            "That is log {log} of this node: {} before it ended, for a reason that only the owner knows.\n",
            log - 1
        ),
    };
    let mut text =
        format!("{id}: {events} stand under head {} of {}, signed at {}{rest}\n{ended}", head.n, head.node, head.at);
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
    for Late { n, at, sealed_by } in late {
        let has = match sealed_by {
            Some(by) => format!("has it since {by}"),
            None => "does not have it".to_owned(),
        };
        text.push_str(&format!("\nEvent {n} says that it happened at {at}; the house {has}."));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_came_late_into_the_log_is_named() {
        let event = |n, at| Event { n, link: Digest::ZERO, at: Timestamp(at) };
        let by = |n, at| SealedBy { n, head: 1, log: 1, at: Timestamp(at), index: 0 };
        let events = [event(1, 1_000), event(2, 2_000), event(3, 90_000)];
        // The third names a moment behind its head, by a clock that was set.
        let since = [by(1, 1_060), by(2, 2_000 + 86_400), by(3, 89_999)];
        let at = |hours| late(&events, &since, hours, Timestamp(1_000_000));
        assert_eq!(at(24), []);
        assert_eq!(at(23), [Late { n: 2, at: Timestamp(2_000), sealed_by: Some(Timestamp(88_400)) }]);
        assert_eq!(at(0).iter().map(|late| late.n).collect::<Vec<_>>(), [1, 2]);
        // What an owner leaves out is late once it should be there.
        let shown = |now| late(&events, &since[..2], 24, Timestamp(now));
        assert_eq!(shown(90_000 + 86_400), []);
        assert_eq!(shown(90_001 + 86_400), [Late { n: 3, at: Timestamp(90_000), sealed_by: None }]);
    }
}

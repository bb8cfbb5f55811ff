//! `comity node export`: all that this node keeps of one project, in a folder to hand over; and whether a folder is what was handed over.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_wire::{Digest, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::command::requests::Attachment;
use crate::failure::{Failure, While as _};
use crate::handed::{self, CERTIFICATE, Filling, Handed, LIST, Missing, OUTSIDE, Part, SIGNED};
use crate::home::{Home, write_secret};
use crate::service::exports::{
    AfterApplication, AfterCall, AfterCase, Applications, Beside, Calls, Cases, Sign, SignedExport,
};
use crate::service::{admin, homes};
use crate::shell;
use crate::transcripts::{Chosen, Folder, Key};

#[derive(Debug, clap::Args)]
pub struct Export {
    /// The node's home folder
    #[arg(long, required_unless_present = "check")]
    home: Option<PathBuf>,
    /// The project, by its pseudonym with this organisation
    #[arg(long, required_unless_present = "check")]
    project: Option<String>,
    /// A new folder for it
    #[arg(long, required_unless_present = "check")]
    into: Option<PathBuf>,
    /// The home of another process of this node whose texts are to be in it, too; as often as there are some
    #[arg(long, value_name = "HOME")]
    texts_of: Vec<PathBuf>,
    /// The secret half of the transcripts' key; without it texts are handed over sealed
    #[arg(long)]
    key: Option<PathBuf>,
    /// Why; it stands in export.json
    #[arg(long, required_unless_present = "check")]
    reason: Option<String>,
    /// Who says so, where it is not this login's name
    #[arg(long = "by", value_name = "NAME")]
    author: Option<String>,
    /// Check a folder that was handed over, with --roster or the roster of --home
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["project", "into", "texts_of", "key", "reason", "author"])]
    check: Option<PathBuf>,
    /// The roster that is believed
    #[arg(long, requires = "check")]
    roster: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self) -> Result<(), Failure> {
        if let Some(folder) = &self.check {
            let path = match (&self.roster, &self.home) {
                (Some(roster), _) => roster.clone(),
                (None, Some(home)) => home.join("roster.cbor"),
                (None, None) => {
                    return Err(Failure::new("nothing says whom to believe")
                        .hint("--roster FILE: the roster that your profile.toml names"));
                }
            };
            return say(&handed::check(folder, &handed::roster(&path)?)?);
        }
        let (Some(home), Some(project), Some(into), Some(reason)) = (self.home, self.project, self.into, self.reason)
        else {
            return Err(Failure::new("--home, --project, --into and --reason are needed"));
        };
        let is_name =
            project.starts_with("sub-") && project.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_name {
            return Err(Failure::new("a project is named by its pseudonym here, sub-…")
                .hint("`comity node flags`, `comity node top` and `comity requests list` show pseudonyms"));
        }
        let (card, began) = (Home::open(&home)?.card, shell::now());
        let key = self.key.as_ref().map(|key| Key::read(key)).transpose()?;
        let of = Of { home: &home, project: &project };
        let mut to = Filling::begin(&into)?;
        of.calls(&mut to).await?;
        let beside: Beside = admin::get(&home, &format!("/admin/kept/{project}")).await?;
        let lines = [
            ("grants.jsonl", &beside.grants),
            ("agreements.jsonl", &beside.agreements),
            ("passes.jsonl", &beside.passes),
            ("stops.jsonl", &beside.stops),
            ("credits.jsonl", &beside.credits),
        ];
        for (name, values) in lines {
            all(&mut to, name, values)?;
        }
        all(&mut to, "stop-log.jsonl", &beside.stop_log)?;
        to.put("counted.json", &serde_json::to_vec_pretty(&beside.counted)?)?;
        to.missing.extend(beside.missing.iter().cloned());
        of.applications(&mut to).await?;
        of.cases(&mut to).await?;
        let sealed = of.texts(&mut to, &beside, &self.texts_of, key.as_ref())?;
        let Filling { files, missing, .. } = to;
        let handed = Handed {
            project: project.clone(),
            node: card.node,
            organisation: card.organisation,
            began,
            at: shell::now(),
            by: self.author.unwrap_or_else(crate::command::login),
            reason,
            files,
            complete: missing.is_empty(),
            missing,
            outside: OUTSIDE.map(str::to_owned).to_vec(),
        };
        let text = serde_json::to_vec_pretty(&handed)?;
        write_secret(&into.join(LIST), &text)?;
        let sign = Sign { contents: Digest::of(&text), complete: handed.complete, at: handed.at };
        let signed: SignedExport = admin::post(&home, &format!("/admin/kept/{project}/signed"), &sign).await?;
        for (name, bytes) in [(SIGNED, &signed.export), (CERTIFICATE, &signed.certificate)] {
            let bytes = URL_SAFE_NO_PAD.decode(bytes).while_("the node's signature cannot be read")?;
            write_secret(&into.join(name), &bytes)?;
        }
        say(&handed)?;
        comity_cli::say(&format!("{LIST}  {}", Digest::of(&text)));
        if sealed > 0 {
            comity_cli::note("texts are sealed: --key opens them, on a machine that has it");
        }
        Ok(())
    }
}

/// What stands in a folder, and what does not.
fn say(handed: &Handed) -> Result<(), Failure> {
    for Part { name, lines, bytes, .. } in &handed.files {
        let lines = lines.map(|lines| format!("{lines} lines, ")).unwrap_or_default();
        comity_cli::say(&format!("{name}  {lines}{bytes} bytes"));
    }
    let Handed { project, node, began, at, missing, .. } = handed;
    if handed.complete {
        comity_cli::say(&format!("complete: all that {node} kept of {project} at {began}; gathered by {at}"));
        return Ok(());
    }
    comity_cli::say(&format!("not complete: what {node} kept of {project} at {began}, gathered by {at}, without"));
    for missing in missing {
        comity_cli::say(&format!("  {}: {}", missing.what, missing.why));
    }
    Ok(())
}

fn all(to: &mut Filling<'_>, name: &str, values: &[impl Serialize]) -> Result<(), Failure> {
    let mut lines = to.lines(name)?;
    for value in values {
        lines.add(value)?;
    }
    to.close(lines)
}

/// Why what is read of another process's home may not be all that lies there: a copy of it stays as it was made.
fn stale(seen: Option<Timestamp>, told: Timestamp) -> Option<String> {
    match seen {
        Some(seen) if seen >= told => None,
        Some(seen) => Some(format!(
            "the copy is of a time between {seen} and {told}, when its process was heard of: copy it again"
        )),
        None => {
            Some(format!("the copy does not say when it was made; its process was heard of at {told}: copy it again"))
        }
    }
}

/// Whose it is, and where it is kept.
struct Of<'a> {
    home: &'a Path,
    project: &'a str,
}

impl Of<'_> {
    async fn calls(&self, to: &mut Filling<'_>) -> Result<(), Failure> {
        let (mut lines, mut after) = (to.lines("calls.jsonl")?, AfterCall::default());
        loop {
            let query = query_of(&after)?;
            let page: Calls = admin::get(self.home, &format!("/admin/kept/{}/calls{query}", self.project)).await?;
            for call in page.calls {
                lines.add(&call)?;
            }
            let Some(next) = page.next else { break };
            after.after = Some(serde_json::to_string(&next)?);
        }
        to.close(lines)
    }

    async fn applications(&self, to: &mut Filling<'_>) -> Result<(), Failure> {
        let (mut lines, mut after) = (to.lines("applications.jsonl")?, AfterApplication::default());
        let mut attachments = Vec::new();
        loop {
            let query = query_of(&after)?;
            let path = format!("/admin/kept/{}/applications{query}", self.project);
            let page: Applications = admin::get(self.home, &path).await?;
            for application in page.applications {
                lines.add(&application)?;
            }
            attachments.extend(page.attachments);
            for Missing { what, why } in page.missing {
                to.lacks(what, why);
            }
            let Some(id) = page.next else { break };
            after.id = Some(id);
        }
        to.close(lines)?;
        attachments.sort_unstable();
        attachments.dedup();
        for (application, digest) in attachments {
            let path = format!("/admin/requests/{application}/attachments/{digest}");
            match admin::get::<Attachment>(self.home, &path).await {
                Ok(attachment) => to.put(&format!("attachments/{application}/{digest}"), &attachment.bytes()?)?,
                // Named and never sent, or over and forgotten, or not to be read now: the log says that it was named.
                Err(failure) => {
                    let why = failure.to_string();
                    to.lacks(format!("attachment {digest} of {application}"), why.lines().next().unwrap_or_default());
                }
            }
        }
        Ok(())
    }

    async fn cases(&self, to: &mut Filling<'_>) -> Result<(), Failure> {
        let (mut lines, mut after) = (to.lines("cases.jsonl")?, AfterCase::default());
        loop {
            let query = query_of(&after)?;
            let page: Cases = admin::get(self.home, &format!("/admin/kept/{}/cases{query}", self.project)).await?;
            for case in page.cases {
                lines.add(&case)?;
            }
            to.missing.extend(page.missing);
            let Some((at, id)) = page.next else { break };
            (after.at, after.id) = (Some(at), Some(id));
        }
        to.close(lines)
    }

    /// Texts, and what was said of those that went, of this home and of those beside it. How many stay sealed.
    fn texts(
        &self,
        to: &mut Filling<'_>,
        beside: &Beside,
        others: &[PathBuf],
        key: Option<&Key>,
    ) -> Result<u64, Failure> {
        let mut read = Vec::new();
        let (mut lines, mut removals) = (to.lines("texts.jsonl")?, to.lines("removed.jsonl")?);
        let chosen = Chosen { subject: Some(self.project.to_owned()), ..Chosen::default() };
        for home in std::iter::once(self.home).chain(others.iter().map(PathBuf::as_path)) {
            let id = homes::known(home)?;
            if read.contains(&id) {
                return Err(Failure::new(format!("{} is named twice", home.display())));
            }
            if home != self.home
                && let Some(told) = beside.homes.iter().find(|told| told.id == id)
                && let Some(why) = stale(homes::seen(home)?, told.seen_at)
            {
                to.lacks(format!("texts of calls that lie in {} by now", told.place), why);
            }
            read.push(id);
            let folder = Folder::open(home)?;
            folder.each(&chosen, |kept| {
                let mut line = json!({ "head": kept.head, "until": kept.until });
                match key {
                    Some(key) => line["texts"] = serde_json::to_value(kept.open(key)?)?,
                    None => line["sealed"] = kept.as_written().into(),
                }
                lines.add(&line)
            })?;
            for removed in folder.removed()?.0 {
                if removed.of.as_ref().is_some_and(|of| of.subject == chosen.subject) {
                    removals.add(&removed)?;
                }
            }
        }
        let sealed = if key.is_none() { lines.count() } else { 0 };
        to.close(lines)?;
        to.close(removals)?;
        for home in beside.homes.iter().filter(|home| !read.contains(&home.id)) {
            let comity_gateway::store::TextHome { place, seen_at, .. } = home;
            to.lacks(
                format!("texts of calls that another process answered, in {place}"),
                format!("they lie there, whose process was heard of at {seen_at} last; --texts-of HOME adds them"),
            );
        }
        Ok(sealed)
    }
}

/// A query, with its question mark; nothing where it says nothing.
fn query_of(asked: &impl Serialize) -> Result<String, Failure> {
    let Value::Object(fields) = serde_json::to_value(asked)? else { return Ok(String::new()) };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", comity_sdk::discover::percent(&text(value)))).collect();
    Ok(if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) })
}

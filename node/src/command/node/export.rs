//! `comity node export`: all that this node keeps of one project, in a folder to hand over.

use std::path::{Path, PathBuf};

use comity_wire::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command::requests::Attachment;
use crate::failure::{Failure, While as _};
use crate::home::{Home, write_secret};
use crate::service::admin;
use crate::service::exports::{AfterApplication, AfterCall, Applications, Calls};
use crate::shell;
use crate::transcripts::{Chosen, Folder, Key};

#[derive(Debug, clap::Args)]
pub struct Export {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// The project, by its pseudonym with this organisation
    #[arg(long)]
    project: String,
    /// A new folder for it
    #[arg(long)]
    into: PathBuf,
    /// The secret half of the transcripts' key; without it texts are handed over sealed
    #[arg(long)]
    key: Option<PathBuf>,
    /// Why; it stands in export.json
    #[arg(long)]
    reason: String,
    /// Who says so, where it is not this login's name
    #[arg(long = "by", value_name = "NAME")]
    author: Option<String>,
}

/// `export.json`: what was handed over, by its digests.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    project: String,
    node: comity_wire::NodeId,
    organisation: comity_wire::OrgId,
    at: Timestamp,
    by: String,
    reason: String,
    files: Vec<Part>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    name: String,
    /// Lines, where it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
    bytes: u64,
    sha256: Digest,
}

/// The folder that is filled.
struct Into<'a> {
    folder: &'a Path,
    files: Vec<Part>,
}

impl Into<'_> {
    fn put(&mut self, name: &str, bytes: &[u8], lines: Option<u64>) -> Result<(), Failure> {
        let path = self.folder.join(name);
        let wrong = || format!("cannot write {}", path.display());
        if let Some(within) = path.parent() {
            std::fs::create_dir_all(within).while_(wrong())?;
        }
        write_secret(&path, bytes)?;
        self.files.push(Part { name: name.to_owned(), lines, bytes: bytes.len() as u64, sha256: Digest::of(bytes) });
        Ok(())
    }

    fn lines(&mut self, name: &str, lines: &[Value]) -> Result<(), Failure> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.put(name, text.as_bytes(), Some(lines.len() as u64))
    }
}

impl Export {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { home, project, into, key, reason, author } = &self;
        let is_name =
            project.starts_with("sub-") && project.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_name {
            return Err(Failure::new("a project is named by its pseudonym here, sub-…")
                .hint("`comity node flags`, `comity node top` and `comity requests list` show pseudonyms"));
        }
        let card = Home::open(home)?.card;
        let key = key.as_ref().map(|key| Key::read(key)).transpose()?;
        if into.exists() {
            return Err(Failure::new(format!("{} is there already", into.display())).hint("name a new folder"));
        }
        std::fs::create_dir_all(into).while_(format!("cannot make {}", into.display()))?;
        std::fs::set_permissions(into, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .while_(format!("cannot close {} to others", into.display()))?;
        let mut to = Into { folder: into, files: Vec::new() };
        self.calls(&mut to).await?;
        let beside: Value = admin::get(home, &format!("/admin/kept/{project}")).await?;
        for name in ["grants", "stops"] {
            let lines = beside[name].as_array().cloned().unwrap_or_default();
            to.lines(&format!("{name}.jsonl"), &lines)?;
        }
        let counted = serde_json::to_vec_pretty(&beside["counted"])?;
        to.put("counted.json", &counted, None)?;
        self.applications(&mut to).await?;
        self.cases(&mut to).await?;
        let chosen = Chosen { subject: Some(project.clone()), ..Chosen::default() };
        let mut texts = Vec::new();
        for kept in Folder::open(home)?.all()?.iter().filter(|kept| chosen.fits(&kept.head)) {
            let mut line = json!({ "head": kept.head, "until": kept.until });
            match &key {
                Some(key) => line["texts"] = serde_json::to_value(kept.open(key)?)?,
                None => line["sealed"] = kept.as_written().into(),
            }
            texts.push(line);
        }
        to.lines("texts.jsonl", &texts)?;
        let handed = Handed {
            project: project.clone(),
            node: card.node,
            organisation: card.organisation,
            at: shell::now(),
            by: author.clone().unwrap_or_else(crate::command::login),
            reason: reason.clone(),
            files: to.files,
        };
        let text = serde_json::to_vec_pretty(&handed)?;
        write_secret(&into.join("export.json"), &text)?;
        for Part { name, lines, bytes, .. } in &handed.files {
            let lines = lines.map(|lines| format!("{lines} lines, ")).unwrap_or_default();
            comity_cli::say(&format!("{name}  {lines}{bytes} bytes"));
        }
        comity_cli::say(&format!("export.json  {}", Digest::of(&text)));
        if key.is_none() && !texts.is_empty() {
            comity_cli::note("texts are sealed: --key opens them, on a machine that has it");
        }
        Ok(())
    }

    async fn calls(&self, to: &mut Into<'_>) -> Result<(), Failure> {
        let (mut lines, mut after) = (Vec::new(), AfterCall::default());
        loop {
            let query = query_of(&after)?;
            let page: Calls = admin::get(&self.home, &format!("/admin/kept/{}/calls{query}", self.project)).await?;
            for call in page.calls {
                lines.push(serde_json::to_value(call)?);
            }
            let Some(next) = page.next else { break };
            after.after = Some(serde_json::to_string(&next)?);
        }
        to.lines("calls.jsonl", &lines)
    }

    async fn applications(&self, to: &mut Into<'_>) -> Result<(), Failure> {
        let (mut lines, mut attachments, mut after) = (Vec::new(), Vec::new(), AfterApplication::default());
        loop {
            let query = query_of(&after)?;
            let path = format!("/admin/kept/{}/applications{query}", self.project);
            let page: Applications = admin::get(&self.home, &path).await?;
            lines.extend(page.applications);
            attachments.extend(page.attachments);
            let Some((at, id)) = page.next else { break };
            (after.at, after.id) = (Some(at), Some(id));
        }
        to.lines("applications.jsonl", &lines)?;
        attachments.sort_unstable();
        attachments.dedup();
        for (application, digest) in attachments {
            let path = format!("/admin/requests/{application}/attachments/{digest}");
            match admin::get::<Attachment>(&self.home, &path).await {
                Ok(attachment) => to.put(&format!("attachments/{application}/{digest}"), &attachment.bytes()?, None)?,
                // Named and never sent, or over and forgotten: the log says that it was named.
                Err(failure) => {
                    comity_cli::note(&format!("attachment {digest} of {application} is not kept: {failure}"))
                }
            }
        }
        Ok(())
    }

    async fn cases(&self, to: &mut Into<'_>) -> Result<(), Failure> {
        let listed: Vec<Value> = admin::get(&self.home, &format!("/admin/cases?project={}", self.project)).await?;
        let mut lines = Vec::new();
        for case in &listed {
            let id = case["case"].as_str().unwrap_or_default();
            lines.push(admin::get::<Value>(&self.home, &format!("/admin/cases/{id}")).await?);
        }
        to.lines("cases.jsonl", &lines)
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

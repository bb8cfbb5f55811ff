//! Receipts handed on, and checked by whoever got them (spec/06-metering.md §6.12).

use std::path::{Path, PathBuf};

use comity_sdk::compare::Comparison;
use comity_sdk::evidence::{Evidence, Proved};

use crate::kept;
use crate::printer::{Failure, note, plain, put_private, say, table};
use crate::session::Session;

/// What goes along with receipts.
pub(super) struct With {
    pub(super) comparison: Option<PathBuf>,
    pub(super) fingerprint: Vec<PathBuf>,
    pub(super) no_text: bool,
}

pub(super) async fn export(session: &Session, ids: &[String], with: &With, out: &Path) -> Result<(), Failure> {
    let (receipts, exchanges): (Vec<_>, Vec<_>) = match &with.comparison {
        Some(folder) => Comparison::open(folder)?.receipts().into_iter().unzip(),
        None if ids.is_empty() => kept::all(&session.home)?.into_iter().map(|receipt| (receipt, None)).unzip(),
        None => {
            let one = |id: &String| kept::one(&session.home, id).map(|receipt| (receipt, None));
            ids.iter().map(one).collect::<Result<Vec<_>, _>>()?.into_iter().unzip()
        }
    };
    if receipts.is_empty() {
        return Err(Failure::new("there is no receipt to hand on", "comity receipts list"));
    }
    let exchanges: Vec<_> = exchanges.into_iter().flatten().filter(|_| !with.no_text).collect();
    let mut evidence = session.look()?.gather(&session.home, &receipts, exchanges).await?;
    for path in &with.fingerprint {
        let refused = |failure: Failure| {
            Failure::new(format!("{}: {}", path.display(), failure.message), "name a fingerprint.json that you took")
        };
        let other = std::fs::read(path).map_err(|error| refused(error.into()))?;
        let other = Evidence::read(&other).map_err(|error| refused(error.into()))?;
        other.verify(None).map_err(|error| refused(error.into()))?;
        evidence = evidence.with(other);
    }
    let shown = evidence.exchanges.len();
    let bytes = serde_json::to_vec(&evidence)?;
    if bytes.len() as u64 > EVIDENCE_BYTES_MAX {
        return Err(Failure::new(
            format!("that is {} MiB of evidence, and 64 is the most of one file", bytes.len() >> 20),
            "--no-text leaves out what was asked and answered; or name the receipts, some at a time",
        ));
    }
    put_private(out, &bytes)?;
    say(&format!("{} receipts in {}", evidence.receipts.len(), out.display()));
    if shown > 0 {
        note(&format!("it shows {shown} prompts with their answers"));
    }
    note(&format!("whoever has it: comity receipts check {}", out.display()));
    Ok(())
}

/// The most of a bundle that is read (spec/06-metering.md §6.12).
const EVIDENCE_BYTES_MAX: u64 = 64 << 20;

pub(super) fn check(path: &Path, roster: Option<&Path>, json: bool) -> Result<(), Failure> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display()), "name a file"))
    };
    if std::fs::metadata(path).is_ok_and(|file| file.len() > EVIDENCE_BYTES_MAX) {
        return Err(Failure::new(format!("{} is larger than 64 MiB", path.display()), "ask for several smaller ones"));
    }
    let pinned = roster.map(read).transpose()?;
    let refused = |error: comity_sdk::evidence::NotEvidence| {
        let hint = "do not rely on it; ask whoever gave it to you, or the model's owner";
        Failure { hint: Some(hint.to_owned()), ..Failure::from(error) }
    };
    let evidence = Evidence::read(&read(path)?).map_err(refused)?;
    let (digest, proved) = evidence.verify(pinned.as_deref()).map_err(refused)?;
    if json {
        say(&serde_json::to_string_pretty(&serde_json::json!({"roster": digest, "receipts": proved}))?);
    } else {
        let yes = |is_shown: bool| if is_shown { "yes" } else { "not shown" }.to_owned();
        let row = |one: &Proved| {
            vec![
                one.at.to_string(),
                one.model.to_string(),
                plain(&one.owner),
                one.charge_ucr.to_string(),
                yes(one.priced),
                yes(one.manifest),
                one.published.as_ref().map_or_else(|| "not shown".to_owned(), |head| format!("head {head}")),
                yes(one.exchange),
                kept::short(&one.receipt),
            ]
        };
        let head = ["at", "model", "owner", "charge", "price", "manifest", "published", "text", "receipt"];
        say(&table(&head, &proved.iter().map(row).collect::<Vec<_>>()));
        say(&format!("{} receipts stand under roster {digest}", proved.len()));
    }
    if roster.is_none() {
        note(
            "that is the file's own roster: ask the federation's signers whether its digest is theirs, or give --roster",
        );
    }
    Ok(())
}

//! A house verified from its log: fetched, computed, compared.

use comity_clearing::log::{LogAuditor, LogBreak, LogReport};
use comity_wire::Timestamp;
use comity_wire::log::{Checkpoint, Resource, VerifierKey, unbundle};

use super::Source;
use super::source::resources;
use crate::failure::Failure;

/// What came of it.
#[derive(Debug, serde::Serialize)]
pub struct Checked {
    pub origin: String,
    /// When each witness cosigned; `null`: it did not.
    pub witnesses: Vec<(String, Option<Timestamp>)>,
    #[serde(flatten)]
    pub report: LogReport,
}

/// Reads everything that `source` has and holds it against the checkpoint that `key` signed. A witness that is named must have
/// cosigned.
///
/// # Errors
/// [`Failure`] where something cannot be had; what is wrong in it is in the report.
pub async fn check(source: &Source, key: &VerifierKey, witnesses: &[VerifierKey]) -> Result<Checked, Failure> {
    let note = source.note().await?;
    let mut auditor = LogAuditor::new();
    let mut differs = |by: &str, why: String| {
        auditor.found(LogBreak::SignatureDiffers { by: by.to_owned(), why });
    };
    if let Err(error) = note.verify(key) {
        differs(key.name(), error.to_string());
    }
    let mut cosigned = Vec::with_capacity(witnesses.len());
    for witness in witnesses {
        let at = note.cosigned(witness).map_err(|error| differs(witness.name(), error.to_string())).ok();
        cosigned.push((witness.name().to_owned(), at));
    }
    let checkpoint = Checkpoint::parse(note.text())?;
    for resource in resources(checkpoint.size) {
        let bytes = source.resource(resource).await?;
        match resource {
            Resource::Entries(index, width) => match unbundle(index, width, &bytes) {
                Ok(entries) => entries.into_iter().for_each(|entry| auditor.entry(entry)),
                Err(error) => {
                    let index = auditor.size();
                    auditor.found(LogBreak::EntryUnreadable { index, why: error.to_string() });
                }
            },
            Resource::Tile(tile, width) => auditor.tile(tile, width, &bytes),
        }
    }
    Ok(Checked { origin: checkpoint.origin.clone(), witnesses: cosigned, report: auditor.finish(Some(&checkpoint)) })
}

//! What the wallet keeps: receipts, and whether they stand.

use std::path::Path;

use comity_sdk::journal::{Entry, Journal};
use comity_sdk::{Client, audit};
use comity_wire::object::Receipt;
use comity_wire::{Digest, Signed};
use serde_json::{Value, json};

use crate::printer::Failure;

/// Every receipt, the oldest first. They were verified before they were kept.
///
/// # Errors
/// [`Failure`] where the journal cannot be read.
pub(crate) fn all(home: &Path) -> Result<Vec<Signed<Receipt>>, Failure> {
    let mut receipts = Vec::new();
    for entry in Journal::read(&Client::journal(home))? {
        if let Entry::Receipt { receipt, .. } = entry {
            receipts.push(Signed::<Receipt>::decode(&receipt)?);
        }
    }
    Ok(receipts)
}

/// The one that is named, else the newest.
///
/// # Errors
/// [`Failure`].
pub(crate) fn one_or_newest(home: &Path, id: Option<&str>) -> Result<Signed<Receipt>, Failure> {
    let newest =
        || all(home)?.pop().ok_or_else(|| Failure::new("no receipt in this wallet", "comity chat MODEL \"…\""));
    id.map_or_else(newest, |id| one(home, id))
}

/// The one whose id is this, or begins so.
///
/// # Errors
/// [`Failure`] where none is, or more than one.
pub(crate) fn one(home: &Path, id: &str) -> Result<Signed<Receipt>, Failure> {
    let mut found: Vec<_> = all(home)?.into_iter().filter(|signed| signed.id().to_string().starts_with(id)).collect();
    match (found.len(), id.len() >= 6) {
        (1, true) => Ok(found.remove(0)),
        (0, _) => Err(Failure::new(format!("no receipt {id} in this wallet"), "comity receipts list")),
        (_, false) => Err(Failure::new(format!("{id} is too short for a receipt's id"), "six characters at least")),
        (count, true) => Err(Failure::new(format!("{count} receipts begin with {id}"), "more of its characters")),
    }
}

/// For programs: id and contents.
///
/// # Errors
/// [`Failure`].
pub fn receipts(home: &Path) -> Result<Vec<Value>, Failure> {
    let row = |signed: &Signed<Receipt>| json!({"id": signed.id(), "object": signed.unverified()});
    Ok(all(home)?.iter().map(row).collect())
}

/// All receipts checked as they followed one another.
///
/// # Errors
/// [`Failure`].
pub fn verified(home: &Path, client: &Client) -> Result<Value, Failure> {
    let report = audit::audit(&client.entries(home)?, client.directory())?;
    Ok(serde_json::to_value(report)?)
}

/// Ids are long: what is shown of one in a table.
pub(crate) fn short(id: &Digest) -> String {
    id.to_string().chars().take(12).collect()
}

//! What the wallet keeps: receipts, and whether they stand.

use std::path::Path;

use comity_sdk::journal::{Entry, Journal};
use comity_sdk::{Client, audit};
use comity_wire::object::Receipt;
use comity_wire::{Digest, Signed};
use serde_json::{Value, json};

use crate::printer::Failure;

/// Each receipt, the oldest first, also those that the journal does not carry on: one at a time. They were verified before they
/// were kept.
///
/// # Errors
/// [`Failure`] where journal or an archive cannot be read.
pub(crate) fn each(home: &Path, mut take: impl FnMut(Signed<Receipt>)) -> Result<(), Failure> {
    Journal::each(&Client::journal(home), |entry| {
        if let Entry::Receipt { receipt, .. } = entry {
            take(Signed::<Receipt>::decode(&receipt)?);
        }
        Ok::<_, Failure>(())
    })
}

/// Every receipt, the oldest first.
///
/// # Errors
/// As [`each`].
pub(crate) fn all(home: &Path) -> Result<Vec<Signed<Receipt>>, Failure> {
    let mut receipts = Vec::new();
    each(home, |receipt| receipts.push(receipt))?;
    Ok(receipts)
}

/// The one that is named, else the newest.
///
/// # Errors
/// [`Failure`].
pub(crate) fn one_or_newest(home: &Path, id: Option<&str>) -> Result<Signed<Receipt>, Failure> {
    let Some(id) = id else {
        let mut newest = None;
        each(home, |receipt| newest = Some(receipt))?;
        return newest.ok_or_else(|| Failure::new("no receipt in this wallet", "comity chat MODEL \"…\""));
    };
    one(home, id)
}

/// The one whose id is this, or begins so.
///
/// # Errors
/// [`Failure`] where none is, or more than one.
pub(crate) fn one(home: &Path, id: &str) -> Result<Signed<Receipt>, Failure> {
    let (mut found, mut count) = (None, 0_u64);
    each(home, |signed| {
        if signed.id().to_string().starts_with(id) {
            count += 1;
            found = Some(signed);
        }
    })?;
    match (found, count, id.len() >= 6) {
        (Some(found), 1, true) => Ok(found),
        (None, ..) => Err(Failure::new(format!("no receipt {id} in this wallet"), "comity receipts list")),
        (_, _, false) => Err(Failure::new(format!("{id} is too short for a receipt's id"), "six characters at least")),
        (_, count, true) => Err(Failure::new(format!("{count} receipts begin with {id}"), "more of its characters")),
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

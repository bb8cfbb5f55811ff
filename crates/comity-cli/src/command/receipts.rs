//! `comity receipts list|verify`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comity_sdk::journal::{Entry, Journal};
use comity_sdk::receipts;
use comity_wire::object::Receipt;
use comity_wire::{Amount, Signed};

use crate::printer::{Failure, say, table};
use crate::session;

#[derive(Debug, Subcommand)]
pub enum Receipts {
    /// The receipts in your wallet
    List {
        #[arg(long)]
        json: bool,
    },
    /// Check receipts under the roster: files, or every one in your wallet
    Verify {
        files: Vec<PathBuf>,
        #[arg(long)]
        json: bool,
    },
}

impl Receipts {
    pub(super) async fn run(self, home: &Path) -> Result<(), Failure> {
        match self {
            Self::List { json } => list(home, json),
            Self::Verify { files, json } => verify(home, files, json).await,
        }
    }
}

fn kept(home: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let (_, entries) = Journal::open(&home.join("wallet.journal"))?;
    let receipt = |entry| match entry {
        Entry::Receipt { receipt, .. } => Some(receipt.to_vec()),
        _ => None,
    };
    Ok(entries.into_iter().filter_map(receipt).collect())
}

fn list(home: &Path, json: bool) -> Result<(), Failure> {
    let mut objects = Vec::new();
    for bytes in kept(home)? {
        objects.push(Signed::<Receipt>::decode(&bytes)?);
    }
    if json {
        let objects: Vec<_> = objects.iter().map(Signed::unverified).collect();
        say(&serde_json::to_string_pretty(&objects)?);
        return Ok(());
    }
    let row = |signed: &Signed<Receipt>| {
        let receipt = signed.unverified();
        vec![receipt.at.to_string(), receipt.model.to_string(), receipt.charge.to_string(), signed.id().to_string()]
    };
    say(&table(&["at", "model", "charge", "receipt"], &objects.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

async fn verify(home: &Path, files: Vec<PathBuf>, json: bool) -> Result<(), Failure> {
    let all = if files.is_empty() { kept(home)? } else { files.iter().map(std::fs::read).collect::<Result<_, _>>()? };
    let client = session::client(home)?;
    client.refresh().await?;
    let mut total = Amount::ZERO;
    for bytes in &all {
        let receipt = receipts::verify(bytes, client.directory())?;
        total = total.saturating_add(receipt.charge);
    }
    let count = all.len();
    if json {
        say(&serde_json::json!({"verified": count, "charged_ucr": total}).to_string());
    } else {
        say(&format!("{count} receipts stand; together they charge {total}"));
    }
    Ok(())
}

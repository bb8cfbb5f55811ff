//! `comity receipts list|verify`.

use std::path::PathBuf;

use clap::Subcommand;
use comity_sdk::journal::{Entry, Journal};
use comity_sdk::token::directory::Directory as _;
use comity_sdk::{Client, audit, receipts};
use comity_wire::object::Receipt;
use comity_wire::{Amount, Signed};

use crate::printer::{Failure, note, say, table};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Receipts {
    /// The receipts in your wallet
    List {
        #[arg(long)]
        json: bool,
    },
    /// Check receipts under the roster: files one by one, or all in your wallet as they followed one another
    Verify {
        files: Vec<PathBuf>,
        #[arg(long)]
        json: bool,
    },
}

impl Receipts {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List { json } => list(session, json),
            Self::Verify { files, json } => verify(session, files, json).await,
        }
    }
}

fn kept(session: &Session) -> Result<Vec<Vec<u8>>, Failure> {
    let receipt = |entry| match entry {
        Entry::Receipt { receipt, .. } => Some(receipt.to_vec()),
        _ => None,
    };
    Ok(Journal::read(&Client::journal(&session.home))?.into_iter().filter_map(receipt).collect())
}

fn list(session: &Session, json: bool) -> Result<(), Failure> {
    let mut objects = Vec::new();
    for bytes in kept(session)? {
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

async fn verify(session: &Session, files: Vec<PathBuf>, json: bool) -> Result<(), Failure> {
    let client = session.look()?;
    if let Err(error) = client.refresh().await {
        // What the wallet keeps as evidence needs no federation.
        note(&format!("the federation was not asked: {error}"));
    }
    if !files.is_empty() {
        return alone(&client, &files, json);
    }
    let report = audit::audit(&Journal::read(&Client::journal(&session.home))?, client.directory())?;
    if json {
        say(&serde_json::to_string_pretty(&report)?);
    } else {
        say(&format!("{} receipts stand; together they charge {}", report.verified, report.charged_ucr));
        for failure in &report.failures {
            let receipt = failure.receipt.map_or_else(|| "no receipt".to_owned(), |id| id.to_string());
            say(&format!("token {} lane {}: {receipt}: {}", failure.token, failure.lane, failure.what));
        }
    }
    match report.failures.len() {
        0 => Ok(()),
        count => Err(Failure::new(
            format!("{count} do not stand"),
            "keep the wallet's folder as evidence, and show it to the clearing house",
        )),
    }
}

/// Receipts without the lane they are from: signature, and the sum that each states for itself.
fn alone(client: &Client, files: &[PathBuf], json: bool) -> Result<(), Failure> {
    let (mut verified, mut charged) = (0_u64, Amount::ZERO);
    for file in files {
        let in_file = |error: Failure| Failure { message: format!("{}: {}", file.display(), error.message), ..error };
        let bytes = std::fs::read(file).map_err(|error| in_file(error.into()))?;
        let receipt = receipts::verify(&bytes, client.directory()).map_err(|error| in_file(error.into()))?;
        match client.directory().tariff(&receipt.tariff) {
            Some(tariff) => receipts::check_alone(&receipt, &tariff).map_err(|error| in_file(error.into()))?,
            None => note(&format!("{}: its tariff is not known here, the price was not checked", file.display())),
        }
        verified += 1;
        charged = charged.saturating_add(receipt.charge);
    }
    if json {
        say(&serde_json::json!({"verified": verified, "charged_ucr": charged, "failures": []}).to_string());
    } else {
        say(&format!("{verified} receipts stand; together they charge {charged}"));
    }
    Ok(())
}

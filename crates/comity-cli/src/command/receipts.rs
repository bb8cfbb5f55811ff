//! `comity receipts list|show|verify|export|check`.

mod evidence;

use std::path::PathBuf;

use clap::Subcommand;
use comity_sdk::token::directory::Directory as _;
use comity_sdk::{Client, audit, receipts};
use comity_wire::object::Receipt;
use comity_wire::{Amount, Signed};

use crate::kept;
use crate::printer::{Failure, note, say, table};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Receipts {
    /// The receipts in your wallet
    List {
        #[arg(long)]
        json: bool,
    },
    /// Read one receipt
    Show {
        /// Its id, or how it begins [default: the newest]
        receipt: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Hand receipts on: one file that anybody checks without an account (`comity receipts check`)
    Export {
        /// Their ids, or how they begin; all in your wallet where none is named
        receipts: Vec<String>,
        /// Those of a comparison, with what was asked and answered
        #[arg(long, conflicts_with = "receipts")]
        comparison: Option<PathBuf>,
        /// With a model's fingerprint (fingerprint.json): whoever has the file can check that model by it
        #[arg(long, conflicts_with = "no_text")]
        fingerprint: Vec<PathBuf>,
        /// Leave out what was asked and answered
        #[arg(long)]
        no_text: bool,
        #[arg(long, default_value = "evidence.json")]
        out: PathBuf,
    },
    /// Check a file of evidence: needs no account, no network and no profile
    Check {
        evidence: PathBuf,
        /// The roster that you trust; without it, the file's own, whose digest is shown
        #[arg(long)]
        roster: Option<PathBuf>,
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
            Self::Show { receipt, json } => show(session, receipt.as_deref(), json),
            Self::Export { receipts, comparison, fingerprint, no_text, out } => {
                let with = evidence::With { comparison, fingerprint, no_text };
                evidence::export(session, &receipts, &with, &out).await
            }
            Self::Check { evidence, roster, json } => evidence::check(&evidence, roster.as_deref(), json),
            Self::Verify { files, json } => verify(session, files, json).await,
        }
    }
}

fn list(session: &Session, json: bool) -> Result<(), Failure> {
    let objects = kept::all(&session.home)?;
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

fn show(session: &Session, id: Option<&str>, json: bool) -> Result<(), Failure> {
    let signed = kept::one_or_newest(&session.home, id)?;
    let receipt = signed.unverified();
    if json {
        say(&serde_json::to_string_pretty(&serde_json::json!({"id": signed.id(), "object": receipt}))?);
        return Ok(());
    }
    let meters: Vec<_> = receipt.meters.iter().map(|(meter, units)| format!("{units} {meter}")).collect();
    let rows = [
        ("receipt", signed.id().to_string()),
        ("model", receipt.model.to_string()),
        ("op", receipt.op.to_string()),
        ("at", receipt.at.to_string()),
        ("charge", receipt.charge.to_string()),
        ("for", meters.join(", ")),
        ("counted by", receipt.basis.to_string()),
        ("ended", receipt.ended.to_string()),
        ("release", receipt.release.to_string()),
        ("manifest", receipt.manifest.to_string()),
        ("tariff", receipt.tariff.to_string()),
        ("node", receipt.node.to_string()),
        ("token", format!("{}, lane {}, receipt {} of it", receipt.token, receipt.lane, receipt.n)),
        ("request", receipt.request.to_string()),
        ("response", receipt.response.to_string()),
    ];
    say(&rows.iter().map(|(name, value)| format!("{name:12} {value}")).collect::<Vec<_>>().join("\n"));
    note("comity cite makes a reference of it, comity receipts export hands it on as evidence");
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
    let report = audit::audit(&client.entries(&session.home)?, client.directory())?;
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

//! The wallet's books, checked again from its journal: every receipt, in order, as if it came now. A core without I/O.

use std::collections::HashMap;

use comity_token::directory::Directory;
use comity_wire::object::{NodeCertificate, Receipt, Tariff};
use comity_wire::{Amount, Digest, NodeId, Signed, TokenId, Verified};

use crate::journal::{Entry, Stored};
use crate::lane::Stopped;
use crate::receipts;
use crate::wallet::{Wallet, WalletError};

/// What the journal's receipts come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    pub verified: u64,
    /// Σ charges of the receipts that stand.
    pub charged_ucr: Amount,
    pub failures: Vec<Failure>,
}

/// One receipt that does not stand, or one that is missing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    pub token: TokenId,
    pub lane: u16,
    /// Content id; absent where no receipt came.
    pub receipt: Option<Digest>,
    pub what: String,
}

/// Certificates and tariffs that stand in the journal as evidence.
#[derive(Default)]
struct Evidence {
    certificates: HashMap<NodeId, Vec<Verified<NodeCertificate>>>,
    tariffs: HashMap<Digest, Tariff>,
}

/// Replays a journal and checks each receipt against what was signed before it, under the evidence of its time.
///
/// # Errors
/// [`WalletError::Journal`] where entries do not follow from one another.
pub fn audit(entries: &[Entry], directory: &dyn Directory) -> Result<Report, WalletError> {
    let (mut wallet, mut evidence, mut report) = (Wallet::default(), Evidence::default(), Report::default());
    for entry in entries {
        match entry {
            Entry::Evidence { object } => evidence.keep(object, directory),
            Entry::Receipt { token, lane, receipt } => {
                match check(&wallet, *token, *lane, receipt, &evidence, directory) {
                    // The newest may have been written twice.
                    Ok(None) => {}
                    Ok(Some(receipt)) => {
                        report.verified += 1;
                        report.charged_ucr = report.charged_ucr.saturating_add(receipt.charge);
                    }
                    Err(what) => report.fail(*token, *lane, Some(receipt), what),
                }
            }
            Entry::Fault { token, lane, receipt: Some(receipt), what, .. } => {
                report.fail(*token, *lane, Some(receipt), what.clone());
            }
            _ => {}
        }
        wallet.apply(entry)?;
    }
    // One that was missing may have come since.
    for purse in wallet.purses() {
        for lane in purse.without_receipt() {
            report.fail(purse.id(), lane, None, Stopped::Missing.to_string());
        }
    }
    Ok(report)
}

impl Report {
    fn fail(&mut self, token: TokenId, lane: u16, receipt: Option<&Stored>, what: String) {
        let id = |bytes: &Stored| Signed::<Receipt>::decode(bytes).ok().map(|signed| signed.id());
        self.failures.push(Failure { token, lane, receipt: receipt.and_then(id), what });
    }
}

impl Evidence {
    fn keep(&mut self, object: &Stored, directory: &dyn Directory) {
        if let Ok(tariff) = Signed::<Tariff>::decode(object) {
            // Its content id is what the token pins: the house's signature stands for it.
            self.tariffs.insert(tariff.id(), tariff.unverified().clone());
        } else if let Some(Ok(certificate)) = receipts::certificate(object, &directory.roster()) {
            self.certificates.entry(certificate.node).or_default().push(certificate);
        }
    }

    fn tariff(&self, id: &Digest, directory: &dyn Directory) -> Option<Tariff> {
        self.tariffs.get(id).cloned().or_else(|| Some(directory.tariff(id)?.object().clone()))
    }
}

fn check(
    wallet: &Wallet,
    token: TokenId,
    lane: u16,
    bytes: &[u8],
    evidence: &Evidence,
    directory: &dyn Directory,
) -> Result<Option<Verified<Receipt>>, String> {
    let said = |error: &dyn std::error::Error| crate::chain(error);
    let receipt = receipts::verify(bytes, directory).or_else(|first| {
        let signed = Signed::<Receipt>::decode(bytes).map_err(receipts::NotAReceipt::Form)?;
        let kept = evidence.certificates.get(&signed.unverified().node);
        let under = |certificate: &Verified<NodeCertificate>| receipts::verify_under(signed.clone(), certificate).ok();
        kept.and_then(|kept| kept.iter().find_map(under)).ok_or(first)
    });
    let receipt = receipt.map_err(|error| said(&error))?;
    let tariff = evidence.tariff(&receipt.tariff, directory).ok_or("the tariff it names is not known")?;
    let purse = wallet.purse(token).map_err(|error| said(&error))?;
    if purse.lane(lane).is_some_and(|known| known.has(&receipt.id())) {
        return Ok(None);
    }
    purse.check(lane, &receipt, &tariff).map_err(|fault| said(&fault))?;
    Ok(Some(receipt))
}

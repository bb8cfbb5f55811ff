//! What wallets hold, read from their journals as they lie on the disk, and the house's books against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use comity_node::service::admin;
use comity_sdk::Client;
use comity_sdk::journal::{Entry, Journal, JournalError};
use comity_wire::api::clearing::ProjectReply;
use comity_wire::object::{Chain, Receipt, Token};
use comity_wire::{Amount, Digest, SecretKey, Signed, TokenId};
use serde_json::Value;

use super::Tally;
use crate::Federation;
use crate::federation::AWARD;

/// What one or more wallets keep.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) receipts: BTreeMap<Digest, Receipt>,
    pub(super) keys: BTreeMap<TokenId, SecretKey>,
}

impl Kept {
    /// Reads beside whoever has the wallet open; a last line that is still being written is left out.
    pub(super) fn read(homes: &[PathBuf]) -> Self {
        let mut kept = Self::default();
        for home in homes {
            kept.read_one(home);
        }
        kept
    }

    fn read_one(&mut self, home: &Path) {
        // From its archives too: the keys of tokens that are over are not in them.
        let read = Journal::each(&Client::journal(home), |entry| {
            match entry {
                Entry::Receipt { receipt, .. } => {
                    let signed = Signed::<Receipt>::decode(&receipt).expect("a receipt");
                    self.receipts.insert(signed.id(), signed.unverified().clone());
                }
                Entry::Token { chain, seed, .. } => {
                    let chain = Chain::from_bytes(&chain).expect("a chain");
                    let token = Signed::<Token>::decode(&chain.token).expect("a token").unverified().id;
                    let seed: [u8; 32] = (*seed).try_into().expect("a seed");
                    self.keys.insert(token, SecretKey::from_seed(seed));
                }
                _ => {}
            }
            Ok::<_, JournalError>(())
        });
        read.expect("a wallet has a journal");
    }

    /// What each token was charged, by its receipts.
    fn charged(&self) -> BTreeMap<TokenId, Amount> {
        let mut sums = BTreeMap::<TokenId, Amount>::new();
        for receipt in self.receipts.values() {
            let sum = sums.entry(receipt.token).or_insert(Amount::ZERO);
            *sum = sum.saturating_add(receipt.charge);
        }
        sums
    }

    /// Two receipts for one place of a sequence are two charges for one request.
    fn doubled(&self) -> Vec<String> {
        let mut places = BTreeMap::new();
        let mut doubled = Vec::new();
        for (id, receipt) in &self.receipts {
            let place = (receipt.token, receipt.leaf, receipt.lane, receipt.seq, receipt.item);
            if let Some(other) = places.insert(place, id) {
                doubled.push(format!("{place:?} has the receipts {other} and {id}"));
            }
        }
        doubled
    }
}

/// The project as its operator sees it.
pub(super) async fn account(federation: &Federation) -> Result<ProjectReply, String> {
    let house = federation.path().join("house");
    let account = admin::get(&house, &format!("/admin/projects/{}", federation.project)).await;
    account.map_err(|failure| failure.to_string())
}

/// The house's own audit holds, and the project's sums agree.
pub(super) async fn audit(federation: &Federation, tally: &Tally) {
    let house = federation.path().join("house");
    match admin::get::<Value>(&house, "/admin/audit").await {
        Ok(report) if report["holds"] == Value::Bool(true) => {}
        Ok(report) => tally.broken(&format!("the audit found a break: {report}")),
        Err(failure) => tally.broken(&format!("the books cannot be audited: {failure}")),
    }
    log(&house, tally).await;
    match account(federation).await {
        Ok(account) => {
            let sum = Amount::sum([account.settled, account.available, account.in_escrow]);
            if sum != Some(account.awarded) {
                let (settled, available, in_escrow) = (account.settled, account.available, account.in_escrow);
                tally.broken(&format!(
                    "{settled} settled + {available} available + {in_escrow} in escrow ≠ {} awarded",
                    account.awarded
                ));
            }
            if account.awarded != AWARD {
                let more = account.awarded.ucr() - AWARD.ucr();
                tally.overspent(more.abs(), &format!("{} awarded, {AWARD} was given", account.awarded));
            }
        }
        Err(error) => tally.broken(&format!("the project has no account: {error}")),
    }
}

/// The house's log goes on, says what the books say, and verifies by itself under the key of its first start.
async fn log(house: &Path, tally: &Tally) {
    let report = admin::get::<Value>(house, "/admin/log/audit").await;
    match report {
        Ok(report) if report["holds"] == Value::Bool(true) => {}
        Ok(report) => tally.broken(&format!("books and log differ: {report}")),
        Err(failure) => tally.broken(&format!("the log cannot be audited: {failure}")),
    }
    let sealed = admin::post::<Value>(house, "/admin/log/seal", &()).await;
    match sealed {
        Ok(status) if status["stopped"].is_null() && status["ended"] == Value::Array(Vec::new()) => {}
        Ok(status) => tally.broken(&format!("the log stands still: {status}")),
        Err(failure) => tally.broken(&format!("the log stands still: {failure}")),
    }
}

/// Held against each other once every token was ended: what the house paid for a token is what its receipts charge; every
/// token that was sold is in a wallet; nothing is in escrow.
pub(super) async fn reckon(federation: &Federation, kept: &Kept, tally: &Tally) {
    audit(federation, tally).await;
    for place in kept.doubled() {
        tally.doubled(&place);
    }
    let account = match account(federation).await {
        Ok(account) => account,
        Err(error) => return tally.broken(&format!("the project has no account: {error}")),
    };
    let charged = kept.charged();
    for token in &account.tokens {
        let sum = charged.get(&token.token).copied().unwrap_or(Amount::ZERO);
        let more = token.settled.ucr() - sum.ucr();
        if more > 0 {
            tally.overspent(more, &format!("{} was settled with {}, receipts: {sum}", token.token, token.settled));
        } else if more < 0 {
            tally.lost(&format!("{} was settled with {}, receipts: {sum}", token.token, token.settled));
        }
        if !kept.keys.contains_key(&token.token) {
            tally.lost(&format!("{} was sold with {}, and no wallet has it", token.token, token.budget));
        }
    }
    for token in charged.keys().filter(|token| account.tokens.iter().all(|known| known.token != **token)) {
        tally.lost(&format!("the house does not know {token}, which has receipts"));
    }
    if !account.in_escrow.is_zero() {
        tally.broken(&format!("{} in escrow, though every token was ended", account.in_escrow));
    }
}

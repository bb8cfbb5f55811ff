//! What this node keeps of one project beside texts, applications and cases: for whoever asks what is kept of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_guard::volume::Counted;
use comity_wire::object::Receipt;
use comity_wire::{Digest, Signed, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::control::token_of;
use crate::gateway::Gateway;
use crate::spend::LaneKey;
use crate::store::credited::{CREDITS_MAX, Noted};
use crate::store::kept::FILL_MAX;
use crate::store::stops::{Said, Target};
use crate::store::{StoreError, TextHome};

/// Calls of one page.
pub const CALLS_MAX: usize = 1_000;
/// Tokens of the project that one page looks at: a page may be short, and not the last.
const TOKENS_MAX: u32 = if cfg!(test) { 2 } else { 512 };

/// A call as it is kept: its receipt, and the signed request that it answers, which has no text in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallKept {
    pub token: TokenId,
    /// As people read it.
    pub receipt: Value,
    /// As it was signed, base64url.
    pub receipt_bytes: String,
    /// The base that the caller signed (spec/05-request.md); empty where it is not kept.
    pub request: String,
    pub signature: String,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallPlace {
    pub token: TokenId,
    pub leaf: Digest,
    pub lane: u16,
    pub n: u64,
}

impl Gateway {
    /// Calls under all tokens of a project that this node has met, page by page, in the order of tokens, lanes and numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn calls_of(
        &self,
        subject: &str,
        after: Option<CallPlace>,
        most: usize,
    ) -> Result<(Vec<CallKept>, Option<CallPlace>), StoreError> {
        let store = self.0.ledger.store();
        if after.is_none() {
            // Chains of before stores noted whose they are: once, and never again.
            while store.subjects_fill().await? == FILL_MAX {}
        }
        let from = after.map_or(TokenId([0; 16]), |after| after.token);
        let mut tokens = store.tokens_of(subject, from, TOKENS_MAX + 1).await?;
        // The one above a page's tokens is where the next page begins.
        let rest = (tokens.len() > TOKENS_MAX as usize).then(|| tokens.pop()).flatten();
        let mut calls = Vec::new();
        for token in tokens {
            let Some(account) = store.account(token).await? else { continue };
            for (key, lane) in &account.lanes {
                let done = after.filter(|after| after.token == token).map_or(0, |after| {
                    match (key.leaf, key.lane).cmp(&(after.leaf, after.lane)) {
                        std::cmp::Ordering::Less => u64::MAX,
                        std::cmp::Ordering::Equal => after.n,
                        std::cmp::Ordering::Greater => 0,
                    }
                });
                for n in done.saturating_add(1)..=lane.n {
                    if calls.len() == most.min(CALLS_MAX) {
                        return Ok((calls, Some(CallPlace { token, leaf: key.leaf, lane: key.lane, n: n - 1 })));
                    }
                    if let Some(call) = self.call(token, *key, n).await? {
                        calls.push(call);
                    }
                }
            }
        }
        Ok((calls, rest.map(|token| CallPlace { token, leaf: Digest::ZERO, lane: 0, n: 0 })))
    }

    /// Homes of this node's processes in which texts of calls lie, or may.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn text_homes(&self) -> Result<Vec<TextHome>, StoreError> {
        self.0.ledger.store().homes().await
    }

    /// Says what lies in the home of this process.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn text_home_put(&self, home: &TextHome) -> Result<(), StoreError> {
        self.0.ledger.store().home_put(home).await
    }

    /// Who stopped and resumed a project here, the newest first, of the newest `most` lines of the log; and whether those are all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stop_log_of(&self, subject: &str, most: u32) -> Result<(Vec<Said>, bool), StoreError> {
        let log = self.stop_log(most).await?;
        let is_all = log.last().is_none_or(|oldest| oldest.n == 1);
        let target = Target::Project(subject.to_owned());
        Ok((log.into_iter().filter(|said| said.target == target).collect(), is_all))
    }

    /// What was given back of a project's calls, or ordered to be, the newest first; and whether that is all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn credits_of(&self, subject: &str) -> Result<(Vec<Noted>, bool), StoreError> {
        let store = self.0.ledger.store();
        let all = store.credits(None, u32::try_from(CREDITS_MAX).expect("a bound of rows fits 32 bits")).await?;
        let is_all = all.len() < CREDITS_MAX;
        let mut whose = BTreeMap::new();
        for note in &all {
            if let Entry::Vacant(entry) = whose.entry(note.token) {
                let chains = store.chains(note.token).await?;
                let token = chains.iter().find_map(|(_, chain)| token_of(chain));
                entry.insert(token.is_some_and(|token| token.subject.as_str() == subject));
            }
        }
        Ok((all.into_iter().filter(|note| whose[&note.token]).collect(), is_all))
    }

    async fn call(&self, token: TokenId, key: LaneKey, n: u64) -> Result<Option<CallKept>, StoreError> {
        let Some(charge) = self.0.ledger.store().charge_by_n(token, key, n).await? else { return Ok(None) };
        let receipt = Signed::<Receipt>::decode(&charge.receipt);
        let receipt = receipt.map_err(|_| StoreError::Unreadable { what: "a receipt" })?;
        let receipt = serde_json::to_value(receipt.unverified());
        Ok(Some(CallKept {
            token,
            receipt: receipt.map_err(|_| StoreError::Unreadable { what: "a receipt" })?,
            receipt_bytes: URL_SAFE_NO_PAD.encode(&charge.receipt),
            request: charge.evidence.base,
            signature: URL_SAFE_NO_PAD.encode(charge.evidence.signature),
        }))
    }

    /// What is counted of a project: its windows, its flags by hour, its executions of plans; and whether it is suspended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counted_of(&self, subject: &str) -> Result<Value, StoreError> {
        let store = self.0.ledger.store();
        let windows = store.paces(subject).await?.into_iter().map(|(rule, seconds, pace)| {
            json!({
                "policy": rule.policy, "rule": rule.to_string(), "seconds": seconds,
                "begun": pace.begun, "requests": pace.requests, "tokens": pace.tokens,
            })
        });
        let hours = store.volume(subject, 0).await?.into_iter().map(|(counted, hour, count)| {
            json!({ "counted": name(counted), "hour": Timestamp(u64::from(hour) * 3_600), "count": count })
        });
        let runs = store.runs(subject).await?.into_iter().map(|(key, row)| {
            json!({
                "grant": key.grant, "run": key.run.to_string(), "op": key.op, "begun": row.begun, "until": row.until,
                "used": row.used,
            })
        });
        let suspended = self.suspended().into_iter().find(|suspension| suspension.subject == subject);
        let suspended =
            suspended.map(|found| json!({ "category": found.category.name(), "rule": found.rule, "since": found.at }));
        Ok(json!({
            "windows": windows.collect::<Vec<_>>(),
            "flags": hours.collect::<Vec<_>>(),
            "executions": runs.collect::<Vec<_>>(),
            "suspended": suspended,
        }))
    }
}

fn name(counted: Counted) -> &'static str {
    match counted {
        Counted::Flags(category) => category.name(),
        Counted::Templated => "templated",
        Counted::NearDuplicate => "near_duplicate",
        Counted::BiasedTokens => "biased_tokens",
    }
}

//! What this node keeps of one project beside texts, applications and cases: for whoever asks what is kept of them.

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
use crate::store::StoreError;

/// Calls of one page.
pub const CALLS_MAX: usize = 1_000;
/// Tokens that one page looks at: a page may be empty, and not the last.
const TOKENS_MAX: usize = 512;

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
        let mut tokens = store.tokens().await?;
        tokens.sort_unstable();
        let (mut calls, mut looked) = (Vec::new(), 0);
        for token in tokens.into_iter().filter(|token| after.is_none_or(|after| *token >= after.token)) {
            if looked == TOKENS_MAX {
                let place = CallPlace { token, leaf: Digest::ZERO, lane: 0, n: 0 };
                return Ok((calls, Some(place)));
            }
            looked += 1;
            let chains = store.chains(token).await?;
            let terms = chains.iter().find_map(|(_, chain)| token_of(chain));
            if terms.is_none_or(|terms| terms.subject.as_str() != subject) {
                continue;
            }
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
        Ok((calls, None))
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

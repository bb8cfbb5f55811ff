//! What a wallet's journal begins anew with (decision 0099): all that can still be signed, charged or asked for again.

use std::collections::BTreeSet;

use comity_wire::{Amount, Timestamp, TokenId};

use super::{Purse, Wallet, WalletError, stored};
use crate::journal::Entry;
use crate::lane::{Carried, Lane};

/// How long a token is carried on after nothing of it can be asked of anybody: a clock that is wrong by less lets none go.
const LEAVES_AFTER_S: u64 = 7 * 24 * 3600;
/// The same of one that was never ended, or of which a call is in doubt: what was not claimed went home by itself at `settle_by`.
const UNENDED_LEAVES_AFTER_S: u64 = 30 * 24 * 3600;

impl Wallet {
    /// The entries that add up to this wallet. Left out: tokens that are over and that no remembered call names, of which stays what they
    /// cost, or may have; and evidence, which is written again with the next receipt that rests on it.
    pub fn carried(&self, now: Timestamp) -> Vec<Entry> {
        let named: BTreeSet<TokenId> = self.keys.tokens().collect();
        let (over, alive): (Vec<_>, Vec<_>) =
            self.purses.values().partition(|purse| purse.is_over(now) && !named.contains(&purse.id()));
        let spent = over.iter().filter(|purse| purse.is_root()).map(|purse| purse.committed(now));
        let settled = spent.fold(self.settled, Amount::saturating_add);
        let days = self.days.iter().map(|(day, sum)| (*day, *sum)).collect();
        let mut entries = vec![Entry::Carried { archives: Vec::new(), lines: 0, settled, days }];
        for purse in alive {
            purse.carry(&mut entries);
        }
        let pending = self.pending.iter().filter(|(_, pending)| !pending.is_given_up(now));
        entries.extend(pending.map(|(id, pending)| Entry::Reserving { id: *id, pending: pending.clone() }));
        entries.extend(self.keys.carried().into_iter().map(|calls| Entry::Calls { calls }));
        entries
    }

    /// Only a journal's first line begins a wallet.
    pub(super) fn begin_with(&mut self, settled: Amount, days: &[(u32, Amount)]) -> Result<(), WalletError> {
        let Self { purses, pending, evidence, keys, days: known, settled: sum } = &*self;
        let is_blank = purses.is_empty() && pending.is_empty() && evidence.is_empty() && known.is_empty();
        if !is_blank || keys.tokens().next().is_some() || !sum.is_zero() || days.len() > super::DAYS_MAX {
            return Err(WalletError::Journal);
        }
        (self.settled, self.days) = (settled, days.iter().copied().collect());
        Ok(())
    }
}

impl Purse {
    /// Whether nothing can be asked, charged, acknowledged or brought home under it any more.
    fn is_over(&self, now: Timestamp) -> bool {
        let last = self.token.expires_at.plus(u64::from(self.token.terms.longest_op_s));
        let is_settled = (self.closed || !self.is_root()) && self.lanes.iter().all(Lane::is_idle);
        let after = if is_settled { LEAVES_AFTER_S } else { UNENDED_LEAVES_AFTER_S };
        // What stopped it keeps new work from its node.
        now >= self.token.terms.settle_by.max(last).plus(after) && self.stopped().is_none()
    }

    fn carry(&self, entries: &mut Vec<Entry>) {
        let token = self.id();
        entries.push(Entry::Token { chain: stored(&self.chain), seed: stored(&*self.key.seed()), cap: self.cap });
        for (lane, state) in self.numbered() {
            entries.push(Entry::Lane { token, lane, carried: Carried::from(state) });
        }
        let delegated = self.delegated.iter();
        entries.extend(delegated.map(|(leaf, (cap, until))| Entry::Delegated {
            token,
            leaf: *leaf,
            cap: *cap,
            until: *until,
        }));
        entries.extend(self.others.map(|spent| Entry::SpentByOthers { token, spent }));
        entries.extend(self.ended.then_some(Entry::Ended { token }));
        entries.extend(self.closed.then_some(Entry::Closed { token }));
    }
}

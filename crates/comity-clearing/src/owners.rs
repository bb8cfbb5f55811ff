//! How owners are paid: terms, and what of an owner's earnings they make payable. Pure.
//!
//! Settlement knows nothing of terms: a researcher pays the tariff, and the owner has earned it. What was earned under a
//! token is paid by the terms that held when the token was sold, as its price is the one of that moment. So a settlement
//! that comes late, and a dispute that takes it back, fall under the same terms. What no terms pay stays where it is, is
//! told with its reason, and is nobody's to spend.

use std::collections::{BTreeMap, VecDeque};

use comity_wire::{Amount, Digest, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

/// The most terms that one owner ever has.
pub const TERMS_MAX: usize = 1_000;

/// How an owner is paid, and what that rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Basis {
    /// By a published schedule of rates that recovers cost (2 CFR 200.468).
    Recharge { schedule: String, dated: Timestamp },
    /// By a contract, at its price.
    Commercial {
        contract: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ceiling: Option<Amount>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends_at: Option<Timestamp>,
    },
    /// By an agreement between agencies; without its number the use is counted and nothing is payable.
    Agency {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        agreement: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ceiling: Option<Amount>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends_at: Option<Timestamp>,
    },
    /// Counted, and never paid.
    None {},
}

impl Basis {
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Recharge { .. } => "recharge",
            Self::Commercial { .. } => "commercial",
            Self::Agency { .. } => "agency",
            Self::None {} => "none",
        }
    }

    /// Schedule, contract or agreement; empty where there is none.
    pub fn reference(&self) -> &str {
        match self {
            Self::Recharge { schedule, .. } => schedule,
            Self::Commercial { contract, .. } => contract,
            Self::Agency { agreement, .. } => agreement,
            Self::None {} => "",
        }
    }

    pub const fn ceiling(&self) -> Option<Amount> {
        match self {
            Self::Commercial { ceiling, .. } | Self::Agency { ceiling, .. } => *ceiling,
            Self::Recharge { .. } | Self::None {} => None,
        }
    }

    pub const fn ends_at(&self) -> Option<Timestamp> {
        match self {
            Self::Commercial { ends_at, .. } | Self::Agency { ends_at, .. } => *ends_at,
            Self::Recharge { .. } | Self::None {} => None,
        }
    }

    /// Whether anything is payable under them at all.
    pub fn pays(&self) -> bool {
        match self {
            Self::Recharge { .. } | Self::Commercial { .. } => true,
            Self::Agency { agreement, .. } => !agreement.is_empty(),
            Self::None {} => false,
        }
    }
}

/// Terms as they were set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The act that set them.
    pub act: Digest,
    /// Of two from the same moment the later ones hold.
    pub place: u64,
    pub basis: Basis,
    pub from: Timestamp,
    /// They pay what was sold before them and no terms paid.
    pub arrears: bool,
    pub recorded_at: Timestamp,
}

impl Terms {
    fn why(&self, sold_at: Timestamp) -> Option<Why> {
        if matches!(self.basis, Basis::None {}) {
            return Some(Why::Given);
        }
        if !self.basis.pays() {
            return Some(Why::NoAgreement);
        }
        self.basis.ends_at().is_some_and(|end| sold_at >= end).then_some(Why::Ended)
    }
}

/// Why earnings are not payable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No terms held when it was sold.
    NoTerms,
    /// The contract or agreement had ended when it was sold.
    Ended,
    /// More than the contract or agreement allows.
    AboveCeiling,
    /// An agency's, and there is no agreement number.
    NoAgreement,
    /// The owner is not paid, by its terms.
    Given,
}

impl Why {
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoTerms => "no_terms",
            Self::Ended => "ended",
            Self::AboveCeiling => "above_ceiling",
            Self::NoAgreement => "no_agreement",
            Self::Given => "given",
        }
    }

    /// Whose move it is, and which.
    pub const fn whose_move(self) -> &'static str {
        match self {
            Self::NoTerms => {
                "two officers of the house, with the owner: comity clearing owner terms set, with --arrears for what was sold before"
            }
            Self::Ended => "the owner and the house's two officers: a new contract or agreement, set with --arrears",
            Self::AboveCeiling => {
                "the owner and the house's two officers: an amendment with a higher ceiling, set with --arrears"
            }
            Self::NoAgreement => {
                "the agency: an interagency agreement's number; then two officers set it with --arrears"
            }
            Self::Given => "nobody: by its terms this owner is not paid",
        }
    }
}

/// What was earned under one token: settled to the owner, less what disputes hold or took back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earned {
    pub token: TokenId,
    pub sold_at: Timestamp,
    pub net: i64,
}

/// Tokens' earnings that terms pay, by the act that set these: what is to be paid, or was.
pub type Portions = BTreeMap<(TokenId, Digest), i64>;

/// What terms say of earnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reckoned {
    pub allowed: Portions,
    pub refused: BTreeMap<Why, i64>,
    /// Of each token: what was paid out before payments had lines.
    pub before_lines: BTreeMap<TokenId, i64>,
}

/// Terms that take effect before `upto`, in order; of several from one moment the one that was set last.
pub fn in_order(terms: &[Terms], upto: Timestamp) -> Vec<&Terms> {
    let mut by_moment: BTreeMap<Timestamp, &Terms> = BTreeMap::new();
    for terms in terms.iter().filter(|terms| terms.from < upto) {
        let held = by_moment.entry(terms.from).or_insert(terms);
        if terms.place > held.place {
            *held = terms;
        }
    }
    by_moment.into_values().collect()
}

/// Reckons what was earned, in the order of sale, with the terms that take effect before `upto`. `unlined` was paid out
/// before payments had lines: for what was sold first.
pub fn reckon(terms: &[Terms], earned: &[Earned], unlined: i64, upto: Timestamp) -> Reckoned {
    let terms = in_order(terms, upto);
    let mut rooms: Vec<i64> = terms.iter().map(|terms| terms.basis.ceiling().map_or(i64::MAX, Amount::ucr)).collect();
    let (mut unlined, mut reckoned) = (unlined, Reckoned::default());
    for earned in earned {
        let old = unlined.clamp(0, earned.net.max(0));
        unlined -= old;
        if old > 0 {
            reckoned.before_lines.insert(earned.token, old);
        }
        let mut left = earned.net.max(0) - old;
        let own = terms.iter().rposition(|terms| terms.from <= earned.sold_at);
        let later = own.map_or(0, |own| own + 1);
        // A gift stays one, whatever comes later.
        let given = own.is_some_and(|own| matches!(terms[own].basis, Basis::None {}));
        let arrears = (later..terms.len()).filter(|at| terms[*at].arrears && !given);
        let mut why = if own.is_none() { Why::NoTerms } else { Why::AboveCeiling };
        for at in own.into_iter().chain(arrears) {
            // Terms with arrears pay them as if they were sold on their first day.
            if let Some(not) = terms[at].why(earned.sold_at.max(terms[at].from)) {
                why = not;
                continue;
            }
            let part = left.min(rooms[at]);
            if part > 0 {
                rooms[at] -= part;
                left -= part;
                reckoned.allowed.insert((earned.token, terms[at].act), part);
            }
            if left > 0 {
                why = Why::AboveCeiling;
            }
        }
        if left > 0 {
            *reckoned.refused.entry(why).or_default() += left;
        }
    }
    reckoned
}

/// What can be paid of one token under one act's terms. Below zero: a dispute, or other terms, took back what was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub token: TokenId,
    pub terms: Digest,
    pub amount: i64,
}

/// What is due now of what was earned up to a moment: no more than both allow, less what was paid.
pub fn due(until: &Reckoned, now: &Reckoned, paid: &Portions, order: &[Earned]) -> Vec<Due> {
    let mut by_token: BTreeMap<TokenId, Vec<Due>> = BTreeMap::new();
    let keys: std::collections::BTreeSet<_> = until.allowed.keys().chain(paid.keys()).copied().collect();
    for key in keys {
        let of = |portions: &Portions| portions.get(&key).copied().unwrap_or(0);
        let amount = of(&until.allowed).min(of(&now.allowed)) - of(paid);
        if amount != 0 {
            by_token.entry(key.0).or_default().push(Due { token: key.0, terms: key.1, amount });
        }
    }
    let mut sorted: Vec<Due> = order.iter().filter_map(|earned| by_token.remove(&earned.token)).flatten().collect();
    // Paid before, and nothing is left of what was earned.
    sorted.extend(by_token.into_values().flatten());
    sorted
}

/// What a payment run pays of what is due: nothing of tokens that may still come into dispute, and no more than what disputes about
/// these leave of the owner's account (spec/07-settlement.md S-13, S-26).
pub fn past_disputes(due: Vec<Due>, may_be_disputed: impl Fn(TokenId) -> bool, left: Amount) -> (Vec<Due>, i64) {
    let due: Vec<Due> = due.into_iter().filter(|due| due.amount < 0 || !may_be_disputed(due.token)).collect();
    let amount = due.iter().map(|due| due.amount).sum::<i64>().clamp(0, left.ucr());
    (due, amount)
}

/// The lines of a payment of `amount`: first all that is to be taken back, then what is due, in the order of sale. `None`
/// where less is due.
pub fn lines(due: &[Due], amount: i64) -> Option<Vec<Due>> {
    let mut lines: Vec<Due> = due.iter().copied().filter(|due| due.amount < 0).collect();
    let mut left = amount - lines.iter().map(|line| line.amount).sum::<i64>();
    let mut positive: VecDeque<Due> = due.iter().copied().filter(|due| due.amount > 0).collect();
    while left > 0 {
        let due = positive.pop_front()?;
        let part = due.amount.min(left);
        left -= part;
        lines.push(Due { amount: part, ..due });
    }
    (left == 0).then_some(lines)
}

/// How much of a line falls on each of the lots that paid the token, in the order in which they were drawn; what is left
/// came from suspense. A line is the part of the token's earnings from `begins` on; one below zero gives back what lies
/// before.
pub fn spread(drawn: &[i64], begins: i64, amount: i64) -> (Vec<i64>, i64) {
    let (from, to) = if amount < 0 { (begins + amount, begins) } else { (begins, begins + amount) };
    let (mut start, mut left) = (0, to - from);
    let part = |drawn: &i64| {
        let part = (to.min(start + drawn) - from.max(start)).max(0);
        start += drawn;
        left -= part;
        part * amount.signum()
    };
    let parts = drawn.iter().map(part).collect();
    (parts, left * amount.signum())
}

#[cfg(test)]
mod tests;

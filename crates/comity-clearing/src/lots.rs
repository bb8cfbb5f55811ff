//! Lots: the dated parts of a project's awards, and from which of them a reservation is taken. Pure.
//!
//! A reservation draws on what is restricted first, then on what ends earliest, so that credits which can be used in fewer
//! ways or for less long are not left over. What a token did not use goes back to the same lots, the last drawn first.
//! Charges therefore fall on the lots in the order in which they were drawn.

use comity_wire::{Amount, AwardId, LotId, Op, OrgId, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::reservation::VALID_S_MIN;

/// The most lots that a project has: each reservation looks at all of them.
pub const LOTS_PER_PROJECT_MAX: usize = 256;

/// The most lots that one token draws on.
pub const DRAWS_MAX: usize = 16;

/// Whose money it is; reports keep them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FundKind {
    Federal = 1,
    #[default]
    Institutional = 2,
    Donated = 3,
    /// Given to everybody who begins.
    Starter = 4,
}

impl FundKind {
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        [Self::Federal, Self::Institutional, Self::Donated, Self::Starter]
            .into_iter()
            .find(|kind| u64::from(*kind as u8) == number)
    }
}

/// A lot as it stands: its own dates, its award's terms, and what lies in its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lot {
    pub id: LotId,
    pub project: ProjectId,
    pub award: AwardId,
    pub award_number: String,
    /// From here on it can be drawn upon.
    pub opens_at: Timestamp,
    /// Here its time is over.
    pub ends_at: Timestamp,
    /// Whether it was released; a part that waits for a report is not.
    pub released: bool,
    pub frozen: bool,
    /// Usable at these owners only; empty: at all of them.
    pub owners: Vec<OrgId>,
    /// Usable for these ops only; empty: for all of them.
    pub ops: Vec<Op>,
    /// What lies in its account and can be drawn.
    pub balance: Amount,
}

/// What credits are wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    pub owner: OrgId,
    pub ops: &'a [Op],
}

/// Why a lot cannot be drawn upon now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Unusable {
    Frozen,
    AwaitsReport,
    OpensLater { at: Timestamp },
    Ended { at: Timestamp },
    OtherOwner,
    OtherOp { op: Op },
}

/// What one lot gives to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    pub lot: LotId,
    pub amount: Amount,
    /// Of it, what came home.
    pub returned: Amount,
}

/// Where a reservation is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// In the order in which charges fall on them.
    pub draws: Vec<Draw>,
    /// The earliest end among them: the token may not live longer.
    pub ends_at: Timestamp,
}

/// The lots do not hold what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLittle {
    /// What could be drawn for this purpose.
    pub usable: Amount,
    /// Lots that hold credits and cannot be used for it, each with the reason.
    pub unusable: Vec<(LotId, String, Amount, Unusable)>,
}

impl Lot {
    fn is_restricted(&self) -> bool {
        !self.owners.is_empty() || !self.ops.is_empty()
    }

    /// Why it cannot be drawn upon at all now, whatever for.
    pub fn closed(&self, now: Timestamp) -> Option<Unusable> {
        if self.frozen {
            return Some(Unusable::Frozen);
        }
        if !self.released {
            return Some(Unusable::AwaitsReport);
        }
        if now < self.opens_at {
            return Some(Unusable::OpensLater { at: self.opens_at });
        }
        // Work is paid only within the period: a token that could not live for its least time is too late.
        (now.plus(VALID_S_MIN) > self.ends_at).then_some(Unusable::Ended { at: self.ends_at })
    }

    /// Why it cannot be drawn upon for this.
    pub fn unusable(&self, purpose: Purpose<'_>, now: Timestamp) -> Option<Unusable> {
        if let Some(why) = self.closed(now) {
            return Some(why);
        }
        if !self.owners.is_empty() && !self.owners.contains(&purpose.owner) {
            return Some(Unusable::OtherOwner);
        }
        let other = purpose.ops.iter().find(|op| !self.ops.is_empty() && !self.ops.contains(op));
        other.map(|op| Unusable::OtherOp { op: *op })
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frozen => f.write_str("is frozen"),
            Self::AwaitsReport => f.write_str("is released after a report"),
            Self::OpensLater { at } => write!(f, "opens at {at}"),
            Self::Ended { at } => write!(f, "ended at {at}"),
            Self::OtherOwner => f.write_str("is for other owners' models"),
            Self::OtherOp { op } => write!(f, "is not for {op}"),
        }
    }
}

/// Takes `asked` from `lots`, of one project, and writes down in them what is left.
///
/// # Errors
/// [`TooLittle`]; then nothing was taken.
pub fn draw(lots: &mut [Lot], asked: Amount, purpose: Purpose<'_>, now: Timestamp) -> Result<Drawn, TooLittle> {
    let mut order: Vec<usize> = (0..lots.len()).filter(|at| !lots[*at].balance.is_zero()).collect();
    order.sort_by_key(|at| (!lots[*at].is_restricted(), lots[*at].ends_at, lots[*at].id));
    let (mut missing, mut unusable) = (asked, Vec::new());
    let mut drawn = Drawn { draws: Vec::new(), ends_at: Timestamp(u64::MAX) };
    for at in &order {
        let lot = &lots[*at];
        if let Some(why) = lot.unusable(purpose, now) {
            unusable.push((lot.id, lot.award_number.clone(), lot.balance, why));
            continue;
        }
        let amount = lot.balance.min(missing);
        if amount.is_zero() || drawn.draws.len() == DRAWS_MAX {
            continue;
        }
        missing = missing.saturating_sub(amount);
        drawn.draws.push(Draw { lot: lot.id, amount, returned: Amount::ZERO });
        drawn.ends_at = drawn.ends_at.min(lot.ends_at);
    }
    if !missing.is_zero() {
        return Err(TooLittle { usable: asked.saturating_sub(missing), unusable });
    }
    for draw in &drawn.draws {
        let lot = lots.iter_mut().find(|lot| lot.id == draw.lot).expect("a draw is of one of the lots");
        lot.balance = lot.balance.saturating_sub(draw.amount);
    }
    Ok(drawn)
}

/// Sends `amount` home to the lots it came from, the last drawn first: how much goes to which. Writes it down in `draws`,
/// which stand in the order in which they were drawn. What is more than came from them is left over, and given back.
pub fn give_back(draws: &mut [Draw], amount: Amount) -> (Vec<(LotId, Amount)>, Amount) {
    let (mut left, mut home) = (amount, Vec::new());
    for draw in draws.iter_mut().rev() {
        let part = draw.amount.saturating_sub(draw.returned).min(left);
        if part.is_zero() {
            continue;
        }
        draw.returned = draw.returned.saturating_add(part);
        left = left.saturating_sub(part);
        home.push((draw.lot, part));
    }
    (home, left)
}

/// How much of `paid`, charged to a token, falls on each of its lots: in the order in which they were drawn. What came home
/// pays for nothing; what is paid above the rest came from suspense, and falls on none.
pub fn falls_on(draws: &[Draw], paid: Amount) -> Vec<(LotId, Amount)> {
    let mut left = paid;
    let part = |draw: &Draw| {
        let part = draw.amount.saturating_sub(draw.returned).min(left);
        left = left.saturating_sub(part);
        (draw.lot, part)
    };
    draws.iter().map(part).filter(|(_, part)| !part.is_zero()).collect()
}

#[cfg(test)]
mod tests;

//! Accounts: what they hold and how far they may go.

use comity_wire::{Amount, Timestamp};
use serde::{Deserialize, Serialize};

use crate::id::{AccountId, Reference};

/// What is counted. A transfer joins two accounts of one unit, and the balances of a unit sum to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unit(pub u32);

impl Unit {
    /// Micro-credits.
    pub const CREDITS: Self = Self(1);
}

/// What an account is for. Its limit follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u16)]
pub enum AccountCode {
    /// Where credits come from; the contra of every award.
    Issuance = 1,
    /// What of a lot was given and is not spendable yet.
    AwardLot = 2,
    /// What a project may spend: one account for each of its lots.
    Allocation = 3,
    /// Credits set aside for one token: one account per token.
    Escrow = 4,
    /// What an owner has earned and not yet been paid.
    OwnerPayable = 5,
    /// What the house owes although its own books cannot explain it; below zero until it is written off or comes back.
    Suspense = 6,
    /// Credits whose time ran out.
    Expired = 7,
    /// Earnings under challenge.
    DisputeHold = 8,
    /// What owners have been paid outside of these books.
    Remitted = 9,
    /// The contra of corrections made by hand.
    Correction = 10,
    /// What the house bore itself: below zero by that.
    WrittenOff = 11,
}

/// How far an account may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Limit {
    None = 0,
    /// It can only give what it got.
    DebitsWithinCredits = 1,
    /// It can only take back what it gave.
    CreditsWithinDebits = 2,
}

/// An account to be opened. Unit, code and reference never change afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAccount {
    pub id: AccountId,
    pub unit: Unit,
    pub code: AccountCode,
    pub reference: Reference,
}

/// An account and its cached sums; the truth is the transfers, and the audit compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    pub id: AccountId,
    pub unit: Unit,
    pub code: AccountCode,
    pub limit: Limit,
    pub reference: Reference,
    pub debits: Amount,
    pub credits: Amount,
    pub opened_at: Timestamp,
}

impl AccountCode {
    pub const ALL: [Self; 11] = [
        Self::Issuance,
        Self::AwardLot,
        Self::Allocation,
        Self::Escrow,
        Self::OwnerPayable,
        Self::Suspense,
        Self::Expired,
        Self::DisputeHold,
        Self::Remitted,
        Self::Correction,
        Self::WrittenOff,
    ];

    /// The number that is stored, and hashed into ids.
    pub const fn number(self) -> u16 {
        self as u16
    }

    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|code| i64::from(code.number()) == number)
    }

    /// The limit of every account of this code.
    pub const fn limit(self) -> Limit {
        match self {
            Self::AwardLot
            | Self::Allocation
            | Self::Escrow
            | Self::OwnerPayable
            | Self::Expired
            | Self::DisputeHold
            | Self::Remitted => Limit::DebitsWithinCredits,
            Self::Issuance | Self::WrittenOff => Limit::CreditsWithinDebits,
            Self::Suspense | Self::Correction => Limit::None,
        }
    }
}

impl Limit {
    pub const fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: i64) -> Option<Self> {
        [Self::None, Self::DebitsWithinCredits, Self::CreditsWithinDebits]
            .into_iter()
            .find(|limit| i64::from(limit.number()) == number)
    }

    /// Whether these sums keep within the limit.
    pub fn allows<T: PartialOrd>(self, debits: T, credits: T) -> bool {
        match self {
            Self::None => true,
            Self::DebitsWithinCredits => debits <= credits,
            Self::CreditsWithinDebits => credits <= debits,
        }
    }
}

impl NewAccount {
    /// An account in micro-credits whose id is derived from its code and what it is about.
    pub fn credits(code: AccountCode, reference: Reference) -> Self {
        let id = AccountId::derive(code, &[reference.as_bytes()]);
        Self { id, unit: Unit::CREDITS, code, reference }
    }

    /// As [`credits`](Self::credits), with an id that stands beside `reference` in the order of ids.
    pub fn credits_near(code: AccountCode, reference: Reference) -> Self {
        Self { id: AccountId::near(code, reference), unit: Unit::CREDITS, code, reference }
    }

    /// The account at its first moment.
    pub fn opened(self, now: Timestamp) -> Account {
        Account {
            id: self.id,
            unit: self.unit,
            code: self.code,
            limit: self.code.limit(),
            reference: self.reference,
            debits: Amount::ZERO,
            credits: Amount::ZERO,
            opened_at: now,
        }
    }

    /// Whether `account` is what this asks for.
    pub fn is(&self, account: &Account) -> bool {
        (self.id, self.unit, self.code, self.reference) == (account.id, account.unit, account.code, account.reference)
    }
}

impl Account {
    /// Credits less debits in µcr: what a giving account holds, and below zero for one that is owed.
    pub fn balance_ucr(&self) -> i64 {
        self.credits.ucr() - self.debits.ucr()
    }

    /// What may still be debited; nothing where more was debited than credited.
    pub fn available(&self) -> Amount {
        self.credits.saturating_sub(self.debits)
    }

    pub(crate) fn is_within_limit(&self) -> bool {
        self.limit.allows(self.debits, self.credits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back_as_what_was_written() {
        for code in AccountCode::ALL {
            assert_eq!(AccountCode::from_number(code.number().into()), Some(code));
            assert_eq!(Limit::from_number(code.limit().number().into()), Some(code.limit()));
        }
        assert_eq!(AccountCode::from_number(0), None);
        assert_eq!(AccountCode::from_number(99), None);
        assert_eq!(Limit::from_number(3), None);
    }
}

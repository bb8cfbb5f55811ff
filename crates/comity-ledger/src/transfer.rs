//! Transfers: one debit, one credit, one amount; posted once and never changed.

use comity_wire::{Amount, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::account::{AccountCode, Unit};
use crate::id::{AccountId, Reference, TransferId};

/// Why credits move. Each kind knows between which codes it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u16)]
pub enum TransferKind {
    /// Credits are created for a project.
    Award = 1,
    /// A lot, or a part of it, becomes spendable.
    Allocate = 2,
    /// Credits are set aside for one token.
    Reserve = 3,
    /// A claim is paid out of the token's escrow.
    Settle = 4,
    /// What a token did not use goes home.
    Refund = 5,
    /// A claim that binds the house is paid although escrow is unknown or short.
    SuspenseSettle = 6,
    /// Credits whose time ran out leave the project.
    Expire = 7,
    /// A challenge sets earnings, or what they would come from, aside.
    Dispute = 8,
    /// A challenge is over.
    DisputeEnd = 9,
    /// An owner was paid outside of these books.
    Remit = 10,
    /// An award is taken back.
    Withdraw = 11,
    /// A mistake is put right by hand; the reason stands behind the evidence.
    Correction = 12,
    /// Credits of one lot become those of another: to another project, under the same award.
    Reallocate = 13,
    /// An owner's earnings become credits of a project of its own.
    Exchange = 14,
    /// An owner gives back what it earned under a token, to the lots that paid.
    CreditNote = 15,
    /// What suspense is short of is borne by the house; or what was written off came back.
    WriteOff = 16,
}

/// A transfer to be posted. Everything in it but the id is content: under one id there is one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Transfer {
    pub id: TransferId,
    pub kind: TransferKind,
    pub debit: AccountId,
    pub credit: AccountId,
    pub amount: Amount,
    /// What it is about: a token, an award.
    pub reference: Reference,
    /// The content id of what justifies it (a claim, a final, an award letter); [`Digest::ZERO`] where there is none.
    pub evidence: Digest,
}

/// A transfer in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// Its place in the books, dense from 1.
    pub seq: u64,
    #[serde(flatten)]
    pub transfer: Transfer,
    pub unit: Unit,
    pub posted_at: Timestamp,
}

impl TransferKind {
    pub const ALL: [Self; 16] = [
        Self::Award,
        Self::Allocate,
        Self::Reserve,
        Self::Settle,
        Self::Refund,
        Self::SuspenseSettle,
        Self::Expire,
        Self::Dispute,
        Self::DisputeEnd,
        Self::Remit,
        Self::Withdraw,
        Self::Correction,
        Self::Reallocate,
        Self::Exchange,
        Self::CreditNote,
        Self::WriteOff,
    ];

    /// The number that is stored, and hashed into ids.
    pub const fn number(self) -> u16 {
        self as u16
    }

    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(kind.number()) == number)
    }

    /// Whether this kind may debit `from` and credit `to`. Default deny: a settlement cannot reach an allocation.
    pub const fn joins(self, from: AccountCode, to: AccountCode) -> bool {
        use AccountCode as A;
        match self {
            Self::Award => matches!((from, to), (A::Issuance, A::AwardLot | A::Allocation)),
            Self::Allocate => matches!((from, to), (A::AwardLot, A::Allocation)),
            Self::Reserve => matches!((from, to), (A::Allocation | A::AwardLot, A::Escrow)),
            Self::Settle => matches!((from, to), (A::Escrow, A::OwnerPayable)),
            Self::Refund => matches!((from, to), (A::Escrow, A::Allocation | A::AwardLot | A::Expired)),
            Self::SuspenseSettle => matches!((from, to), (A::Suspense, A::OwnerPayable)),
            Self::Expire => matches!((from, to), (A::Allocation | A::AwardLot, A::Expired)),
            Self::Dispute => matches!((from, to), (A::OwnerPayable | A::Escrow, A::DisputeHold)),
            Self::DisputeEnd => matches!(
                (from, to),
                (A::DisputeHold, A::OwnerPayable | A::Escrow | A::Allocation | A::AwardLot | A::Suspense)
            ),
            Self::Remit => matches!((from, to), (A::OwnerPayable, A::Remitted)),
            Self::Withdraw => matches!((from, to), (A::Allocation | A::AwardLot | A::Expired, A::Issuance)),
            Self::Correction => true,
            Self::Reallocate => matches!((from, to), (A::Allocation, A::Allocation)),
            Self::Exchange => matches!((from, to), (A::OwnerPayable, A::Allocation)),
            Self::CreditNote => matches!((from, to), (A::OwnerPayable, A::Allocation | A::Suspense)),
            Self::WriteOff => matches!((from, to), (A::WrittenOff, A::Suspense) | (A::Suspense, A::WrittenOff)),
        }
    }
}

impl Posted {
    /// What the audit's tree holds for this transfer: a digest of all of it, its place included.
    pub fn leaf(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The one form of a transfer in bytes: what the audit hashes and what the house's log holds (spec/10-log.md §2).
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let Self { seq, transfer, unit, posted_at } = self;
        let parts: [&[u8]; 11] = [
            Self::DOMAIN,
            &seq.to_be_bytes(),
            transfer.id.as_bytes(),
            &transfer.kind.number().to_be_bytes(),
            transfer.debit.as_bytes(),
            transfer.credit.as_bytes(),
            &unit.0.to_be_bytes(),
            &transfer.amount.ucr().to_be_bytes(),
            transfer.reference.as_bytes(),
            transfer.evidence.as_bytes(),
            &posted_at.seconds().to_be_bytes(),
        ];
        let mut bytes = [0; Self::BYTES];
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        assert_eq!(at, Self::BYTES, "the parts fill the form");
        bytes
    }

    /// Reads that form; `None` where a field holds what it cannot hold.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(Self::DOMAIN)?;
        fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (taken, behind) = rest.split_first_chunk::<N>()?;
            *rest = behind;
            Some(*taken)
        }
        let seq = u64::from_be_bytes(take(&mut rest)?);
        let id = TransferId(take(&mut rest)?);
        let kind = TransferKind::from_number(u16::from_be_bytes(take(&mut rest)?).into())?;
        let (debit, credit) = (AccountId(take(&mut rest)?), AccountId(take(&mut rest)?));
        let unit = Unit(u32::from_be_bytes(take(&mut rest)?));
        let amount = Amount::new(i64::from_be_bytes(take(&mut rest)?)).ok()?;
        let (reference, evidence) = (Reference(take(&mut rest)?), Digest(take(&mut rest)?));
        let posted_at = Timestamp(u64::from_be_bytes(take(&mut rest)?));
        let transfer = Transfer { id, kind, debit, credit, amount, reference, evidence };
        Some(Self { seq, transfer, unit, posted_at })
    }

    const DOMAIN: &[u8] = b"comity/ledger/leaf/v1";
    /// The length of [`Posted::to_bytes`].
    pub const BYTES: usize = 147;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_read_as_it_was_written() {
        let transfer = Transfer {
            id: TransferId([1; 16]),
            kind: TransferKind::Settle,
            debit: AccountId([2; 16]),
            credit: AccountId([3; 16]),
            amount: Amount::from_ucr(7),
            reference: Reference([4; 16]),
            evidence: Digest([5; 32]),
        };
        let posted = Posted { seq: 9, transfer, unit: Unit::CREDITS, posted_at: Timestamp(8) };
        let bytes = posted.to_bytes();
        assert_eq!(Posted::from_bytes(&bytes), Some(posted));
        for at in 0..bytes.len() {
            let mut bent = bytes;
            bent[at] ^= 0x80;
            assert_ne!(Posted::from_bytes(&bent), Some(posted), "byte {at} counts");
        }
    }

    #[test]
    fn only_a_correction_may_go_anywhere() {
        for kind in TransferKind::ALL {
            assert_eq!(TransferKind::from_number(kind.number().into()), Some(kind));
            let all = AccountCode::ALL;
            let ways = all.iter().flat_map(|from| all.iter().filter(move |to| kind.joins(*from, **to))).count();
            assert!(ways > 0);
            assert_eq!(ways == all.len() * all.len(), kind == TransferKind::Correction, "{kind:?}");
        }
        assert!(!TransferKind::Settle.joins(AccountCode::Allocation, AccountCode::OwnerPayable));
        assert!(!TransferKind::Award.joins(AccountCode::Suspense, AccountCode::Allocation));
    }
}

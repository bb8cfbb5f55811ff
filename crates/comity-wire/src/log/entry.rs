//! What one entry of the log says. The kinds are a closed list: an unknown one is refused, never passed over.

use serde::Serialize;

use crate::amount::Amount;
use crate::cbor::{Decode, Encode, Limits, Malformed, Reader, Writer, record};
use crate::digest::Digest;
use crate::id::{NodeId, TokenId};

/// An entry is at most this long: what `tlog-tiles` can say in a bundle is 65,535.
pub const ENTRY_BYTES_MAX: usize = 4_096;

/// The length of the ledger's own form of a transfer.
pub const TRANSFER_BYTES: usize = 147;

/// One act of the house, or of an owner before it. Nothing in it names a holder, a project or a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// Credits moved.
    Transfer(LogTransfer),
    /// The house bound itself up to a token's budget.
    Token(LogToken),
    /// A revocation list was published.
    Standing(LogStanding),
    /// A claim was taken in.
    Claim(LogClaim),
    /// A final was taken in.
    Final(LogFinal),
    /// An owner's node sealed what its people decided.
    Decisions(LogDecisions),
    /// A credit note was taken in.
    CreditNote(LogCreditNote),
}

record! {
    pub struct LogTransfer {
        /// The ledger's canonical bytes: what its own audit hashes, place and time included.
        1 => bytes: TransferBytes,
        /// What the account is for that was debited, as the ledger numbers it.
        2 => debit_code: u16,
        3 => credit_code: u16,
    }
}

record! {
    pub struct LogToken {
        1 => token: TokenId,
        /// The token's content id.
        2 => content: Digest,
        3 => budget: Amount,
    }
}

record! {
    pub struct LogStanding {
        1 => number: u64,
        /// The list's content id.
        2 => content: Digest,
    }
}

record! {
    pub struct LogClaim {
        1 => token: TokenId,
        /// The claim's content id: the evidence of the transfers that it caused.
        2 => content: Digest,
        3 => number: u64,
    }
}

record! {
    pub struct LogFinal {
        1 => token: TokenId,
        2 => content: Digest,
    }
}

record! {
    pub struct LogDecisions {
        1 => node: NodeId,
        /// The head's number at its node.
        2 => n: u64,
        /// Which of the node's logs of decisions: another one begins where one was lost.
        3 => log: u64,
        /// The head's content id.
        4 => content: Digest,
    }
}

record! {
    pub struct LogCreditNote {
        1 => token: TokenId,
        /// The note's content id: the evidence of the transfers that it caused.
        2 => content: Digest,
        /// What they add up to.
        3 => amount: Amount,
    }
}

/// A transfer as the ledger writes it (spec/10-log.md §2). Its fields are the ledger's to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferBytes(pub [u8; TRANSFER_BYTES]);

impl Serialize for TransferBytes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl Encode for TransferBytes {
    fn encode(&self, w: &mut Writer) {
        w.bytes(&self.0);
    }
}

impl Decode for TransferBytes {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        r.array_bytes().map(Self)
    }
}

impl Entry {
    /// The number that leads the entry.
    pub const fn number(&self) -> u64 {
        match self {
            Self::Transfer(_) => 1,
            Self::Token(_) => 2,
            Self::Standing(_) => 3,
            Self::Claim(_) => 4,
            Self::Final(_) => 5,
            Self::Decisions(_) => 6,
            Self::CreditNote(_) => 7,
        }
    }

    /// Reads the data of a leaf.
    ///
    /// # Errors
    /// [`Malformed`], also for a kind that is not known here.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::from_cbor(bytes, Limits { bytes_max: ENTRY_BYTES_MAX, items_max: 64, tagged: false })
    }
}

impl Encode for Entry {
    fn encode(&self, w: &mut Writer) {
        w.array(2);
        w.uint(self.number());
        match self {
            Self::Transfer(said) => said.encode(w),
            Self::Token(said) => said.encode(w),
            Self::Standing(said) => said.encode(w),
            Self::Claim(said) => said.encode(w),
            Self::Final(said) => said.encode(w),
            Self::Decisions(said) => said.encode(w),
            Self::CreditNote(said) => said.encode(w),
        }
    }
}

impl Decode for Entry {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = r.position();
        if r.array()? != 2 {
            return Err(Malformed::value(at, "log entry"));
        }
        let at = r.position();
        match r.uint()? {
            1 => r.value().map(Self::Transfer),
            2 => r.value().map(Self::Token),
            3 => r.value().map(Self::Standing),
            4 => r.value().map(Self::Claim),
            5 => r.value().map(Self::Final),
            6 => r.value().map(Self::Decisions),
            7 => r.value().map(Self::CreditNote),
            _ => Err(Malformed::value(at, "kind of log entry")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_an_unknown_kind_is_refused() {
        let token = TokenId([7; 16]);
        let content = Digest::of(b"content");
        let transfer = LogTransfer { bytes: TransferBytes([9; TRANSFER_BYTES]), debit_code: 3, credit_code: 4 };
        let all = [
            Entry::Transfer(transfer),
            Entry::Token(LogToken { token, content, budget: Amount::from_ucr(10) }),
            Entry::Standing(LogStanding { number: 2, content }),
            Entry::Claim(LogClaim { token, content, number: 1 }),
            Entry::Final(LogFinal { token, content }),
            Entry::Decisions(LogDecisions { node: NodeId([8; 16]), n: 1, log: 1, content }),
            Entry::CreditNote(LogCreditNote { token, content, amount: Amount::from_ucr(7) }),
        ];
        for entry in all {
            let bytes = entry.to_cbor();
            assert_eq!(Entry::from_bytes(&bytes).unwrap(), entry);
            let mut unknown = bytes.clone();
            unknown[1] = 9;
            assert!(Entry::from_bytes(&unknown).is_err(), "a kind that is not in the list");
            assert!(Entry::from_bytes(&[&bytes[..], &[0]].concat()).is_err(), "something behind it");
            assert!(Entry::from_bytes(&bytes[..bytes.len() - 1]).is_err(), "cut");
        }
    }
}

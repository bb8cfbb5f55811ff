//! What is under way between the three, and the trace of it.

use std::collections::VecDeque;

use comity_wire::api::challenge::Shown;
use comity_wire::api::clearing::SettledLane;
use comity_wire::{Amount, Code, Digest, PublicKey, TokenId};

pub(crate) type Headers = Vec<(&'static str, String)>;

/// Which call of which holder an answer is for. A call that was let go hears nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) holder: usize,
    pub(crate) number: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Request {
        call: Call,
        headers: Headers,
        chain: Option<Vec<u8>>,
        body: Vec<u8>,
        acknowledgement: Option<Vec<u8>>,
    },
    Acknowledge {
        call: Call,
        token: TokenId,
        bytes: Vec<u8>,
    },
    LookUp {
        call: Call,
        key: PublicKey,
        token: TokenId,
        leaf: Digest,
        lane: u16,
        seq: u64,
    },
    AskFinal {
        call: Call,
        headers: Headers,
        token: TokenId,
        chain: Vec<u8>,
    },
    /// A holder shows the node a receipt of its own.
    Show {
        receipt: Vec<u8>,
    },
    Reply {
        call: Call,
        reply: Reply,
    },
    Claim {
        bytes: Vec<u8>,
    },
    Claimed {
        token: TokenId,
        claim: Digest,
        outcome: Result<(), (Code, Vec<SettledLane>)>,
    },
    /// From the node, or lodged by a holder.
    Final {
        bytes: Vec<u8>,
    },
    FinalTaken {
        token: TokenId,
    },
    Reserve {
        call: Call,
        id: TokenId,
        key: PublicKey,
        budget: Amount,
    },
    Refund {
        token: TokenId,
    },
    /// A holder says that what nobody acknowledged of a lane is not owed.
    Challenge {
        token: TokenId,
        leaf: Digest,
        lane: u16,
    },
    /// The node asks what it is to show.
    AskWhatIsAsked,
    Asked {
        id: Digest,
        token: TokenId,
        leaf: Digest,
        lane: u16,
        newest: u64,
        left: Vec<u64>,
        /// µcr of the lane's total whose receipts are asked for.
        left_at: Vec<u64>,
    },
    Shown {
        id: Digest,
        items: Vec<Shown>,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// An answer, and its receipt unless somebody kept it back.
    Answer {
        answer: Vec<u8>,
        receipt: Option<Vec<u8>>,
    },
    Refused {
        code: Code,
        receipt: Option<Vec<u8>>,
    },
    Acknowledged,
    Receipt(Vec<u8>),
    Final(Vec<u8>),
    Token(Vec<u8>),
    NoToken,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Holder(usize),
    Node,
    House,
}

impl Message {
    pub(crate) const fn to(&self) -> To {
        match self {
            Self::Reply { call, .. } => To::Holder(call.holder),
            Self::Request { .. }
            | Self::Acknowledge { .. }
            | Self::LookUp { .. }
            | Self::AskFinal { .. }
            | Self::Show { .. }
            | Self::Claimed { .. }
            | Self::FinalTaken { .. }
            | Self::Asked { .. } => To::Node,
            Self::Claim { .. }
            | Self::Final { .. }
            | Self::Reserve { .. }
            | Self::Refund { .. }
            | Self::Challenge { .. }
            | Self::AskWhatIsAsked
            | Self::Shown { .. } => To::House,
        }
    }

    /// The bytes that a forger would change.
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Request { body, .. } => Some(body),
            Self::Acknowledge { bytes, .. } | Self::Claim { bytes } | Self::Final { bytes } => Some(bytes),
            Self::Show { receipt } => Some(receipt),
            Self::Reply { reply: Reply::Answer { receipt, .. } | Reply::Refused { receipt, .. }, .. } => {
                receipt.as_mut()
            }
            Self::Reply { reply: Reply::Receipt(bytes) | Reply::Final(bytes), .. } => Some(bytes),
            _ => None,
        }
    }
}

/// Messages under way: the adversary chooses which arrives next, if any.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) queue: Vec<Message>,
    trace: Option<VecDeque<String>>,
}

/// Messages under way at once; past it the oldest is lost.
const QUEUE_MAX: usize = 64;
/// Lines of a trace.
const TRACE_MAX: usize = 60;

impl Net {
    pub(crate) fn new(traced: bool) -> Self {
        Self { queue: Vec::new(), trace: traced.then(VecDeque::new) }
    }

    pub(crate) fn send(&mut self, message: Message) {
        if self.queue.len() == QUEUE_MAX {
            self.queue.remove(0);
        }
        self.queue.push(message);
    }

    /// Notes what happens, where somebody wants to know.
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.trace {
            if lines.len() == TRACE_MAX {
                lines.pop_front();
            }
            lines.push_back(what());
        }
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace.iter().flatten().cloned().collect()
    }
}

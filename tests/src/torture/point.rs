//! The kinds of process, and the points at which each can die.

use crate::Chance;

/// A kind of process that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Node,
    House,
    Hub,
    Wallet,
}

/// A failpoint, and within how many of its hits the process dies. Points that are seldom come to die at an early one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) name: &'static str,
    hits_max: u64,
}

const fn point(name: &'static str, hits_max: u64) -> Point {
    Point { name, hits_max }
}

const NODE: &[Point] = &[
    point("hold.after", 30),
    point("forward.before", 30),
    point("forward.accepted", 30),
    point("charge.before_commit", 40),
    point("charge.after_commit", 40),
    point("reply.before", 30),
    point("final.after_closed", 3),
    point("claim.before_send", 3),
    point("final.before_send", 3),
    point("head.before_commit", 6),
    point("head.after_commit", 6),
    point("feed.before_commit", 6),
    point("feed.after_commit", 6),
    point("sync.before_ask", 6),
    point("sync.answered", 6),
];

const HOUSE: &[Point] = &[
    point("quote.after_commit", 4),
    point("reserve.before_commit", 4),
    point("reserve.after_commit", 4),
    point("reserve.before_reply", 4),
    point("claim.before_commit", 4),
    point("claim.after_commit", 4),
    point("final.before_commit", 4),
    point("final.after_commit", 4),
    point("refund.before_commit", 3),
    point("refund.after_commit", 3),
    point("revoke.after_commit", 3),
    point("list.before_commit", 3),
    point("list.after_commit", 3),
    point("log.before_seal", 6),
    point("log.in_seal", 6),
    point("log.after_seal", 6),
    point("log.before_memory", 6),
    point("log.after_memory", 6),
    point("log.after_sign", 6),
    point("head.before_commit", 4),
    point("head.after_commit", 4),
    point("feed.before_commit", 6),
    point("feed.after_commit", 6),
];

/// A hub says a head of its own once, when it starts.
const HUB: &[Point] = &[
    point("head.before_commit", 1),
    point("head.after_commit", 1),
    point("feed.before_commit", 10),
    point("feed.after_commit", 10),
    point("sync.before_ask", 10),
    point("sync.answered", 10),
];

const WALLET: &[Point] = &[
    point("buy.before", 3),
    point("buy.after", 3),
    point("send.before", 20),
    point("send.after", 20),
    point("receipt.before", 20),
    point("receipt.after", 20),
];

impl Kind {
    pub const ALL: [Self; 4] = [Self::Node, Self::House, Self::Hub, Self::Wallet];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::House => "house",
            Self::Hub => "hub",
            Self::Wallet => "wallet",
        }
    }

    pub(super) const fn points(self) -> &'static [Point] {
        match self {
            Self::Node => NODE,
            Self::House => HOUSE,
            Self::Hub => HUB,
            Self::Wallet => WALLET,
        }
    }

    /// As many points as there are cycles: each once before any comes again, in the order that chance gives.
    pub(super) fn itinerary(self, cycles: u32, chance: &mut Chance) -> Vec<Point> {
        let mut points = self.points().to_vec();
        for at in (1..points.len()).rev() {
            points.swap(at, usize::try_from(chance.within(0..at as u64 + 1)).expect("a small number"));
        }
        points.into_iter().cycle().take(cycles as usize).collect()
    }
}

impl std::str::FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("'{text}' is none of node, house, hub, wallet"))
    }
}

impl Point {
    /// `POINT:COUNT`, as `COMITY_CRASH_AT` wants it.
    pub(super) fn armed(self, chance: &mut Chance) -> String {
        format!("{}:{}", self.name, chance.within(1..self.hits_max + 1))
    }
}

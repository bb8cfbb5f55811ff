//! Counts: what a node's own meter says of a period (spec/07-settlement.md §9).

use super::{KIB, ascending, require};
use crate::amount::Amount;
use crate::cbor::{List, Malformed, record};
use crate::cose::{Kind, Object};
use crate::id::{NodeId, OrgId, TokenId};
use crate::time::Timestamp;

record! {
    /// One page of what a node charged under the tokens that a house issued in a period. Signed by a receipt key. The pages of
    /// one count have one `at`.
    pub struct Count {
        1 => node: NodeId,
        /// The house.
        2 => issuer: OrgId,
        /// Tokens issued from this moment on, up to and without the next one.
        3 => from: Timestamp,
        4 => to: Timestamp,
        /// From 1.
        5 => page: u16,
        6 => pages: u16,
        /// Of a token that nothing was charged under there is none.
        7 => lines: List<CountLine, 1024>,
        /// When the meter was read.
        8 => at: Timestamp,
    }
}

record! {
    /// All that was charged under a token until then.
    pub struct CountLine {
        1 => token: TokenId,
        2 => lanes: u32,
        /// Receipts over all lanes.
        3 => charges: u64,
        /// Σ of the lanes' totals.
        4 => charged: Amount,
    }
}

impl Count {
    /// Lines of one page.
    pub const LINES_MAX: usize = 1024;
    /// Pages of one count.
    pub const PAGES_MAX: u16 = 256;
}

impl Object for Count {
    const KIND: Kind = Kind { name: "count", bytes_max: 64 * KIB, items_max: 16_384 };

    fn validate(&self) -> Result<(), Malformed> {
        require(self.from < self.to, "count: it ends before it begins")?;
        require(self.to <= self.at, "count: its period is not over")?;
        require(self.page >= 1 && self.page <= self.pages, "count: a page of its pages")?;
        require(self.pages <= Self::PAGES_MAX, "count: too many pages")?;
        require(self.pages == 1 || !self.lines.is_empty(), "count: a page says something")?;
        require(ascending(&self.lines, |line| line.token), "order of tokens")?;
        require(self.lines.iter().all(|line| line.lanes >= 1 && line.charges >= 1), "count: a line of nothing")
    }
}

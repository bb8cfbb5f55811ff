//! Where a planted bug may stand: between the simulated world and a core, never in one.
//!
//! Every method's default is what ships: nothing. `comity-planted` has the bugs, each of which the simulator has to catch.

use comity_clearing::settlement::shown::Misfit;
use comity_clearing::settlement::{Calendar, Claimed, Escrow, Input};
use comity_gateway::spend::{Account, Ask};
use comity_wire::Timestamp;

/// A world without bugs, unless somebody plants one.
pub trait Bugs: Sync {
    /// What the node asks of its book.
    fn node_asks(&self, _: &mut Ask) {}

    /// What the node's book has of a token before a request is judged. Gives whether it was changed.
    fn node_knows(&self, _: &mut Account) -> bool {
        false
    }

    /// The node hands a receipt out before its charge is durable.
    fn node_answers_before_commit(&self) -> bool {
        false
    }

    /// The house hands a token out before its escrow is durable.
    fn house_mints_before_commit(&self) -> bool {
        false
    }

    /// What the house believes of a claim that verified.
    fn house_reads(&self, _: &mut Claimed) {}

    /// A token's escrow on its way into the core.
    fn house_before(&self, _: &mut Escrow) {}

    /// The same on its way back.
    fn house_after(&self, _before: &Escrow, _after: &mut Escrow) {}

    /// Whether the house takes something for shown that proves nothing.
    fn house_believes(&self, _: &Misfit) -> bool {
        false
    }

    /// Whether the house forgets which credit notes it booked.
    fn house_forgets_notes(&self) -> bool {
        false
    }

    /// Whether the house books credit notes out of whatever the owner is owed.
    fn house_gives_what_others_earned(&self) -> bool {
        false
    }

    /// Whether a payment run pays all that is due, also what may still come into dispute.
    fn house_pays_what_may_be_disputed(&self) -> bool {
        false
    }

    /// Whether the house forgets what was drawn under a mandate.
    fn house_forgets_what_was_drawn(&self) -> bool {
        false
    }

    /// Whether the house lets a mandate draw that its PI took back.
    fn house_knows_no_end_of_a_mandate(&self) -> bool {
        false
    }

    /// Whether the owner's operator claims everything once more after the house was set back to a backup.
    fn operator_claims_anew(&self) -> bool {
        true
    }

    /// Which time the house goes by.
    fn house_time(&self, _: &Escrow, _: &Input<'_>, _now: Timestamp) -> Option<(Timestamp, Calendar)> {
        None
    }
}

/// No bug at all.
pub struct Sound;

impl Bugs for Sound {}

//! Planted bugs: what a core would do that had forgotten one of its rules. Each has to be caught by the money simulator.
//!
//! They stand between the simulated world and the cores ([`comity_simulator::bugs`]), so that what ships has no place for
//! them; this package is outside the default members, and nothing depends on it.
#![forbid(unsafe_code)]

use std::sync::Arc;

use comity_clearing::settlement::shown::Misfit;
use comity_clearing::settlement::{Calendar, Claimed, Escrow, Input};
use comity_gateway::spend::{Account, Ask, Slot};
use comity_simulator::Bugs;
use comity_wire::{Amount, Timestamp};

/// A node that forgets which numbers of a lane it has charged (rule 2).
pub struct NoSequenceCheck;

impl Bugs for NoSequenceCheck {
    fn node_knows(&self, account: &mut Account) -> bool {
        for lane in account.lanes.values_mut() {
            let lane = Arc::make_mut(lane);
            // The newest is known still, under a number that nobody asks for: finals name it.
            let newest = lane.by_n(lane.n).copied();
            lane.recent.clear();
            if let Some(newest) = newest {
                lane.recent.insert(Slot { seq: 0, item: 0 }, newest);
            }
            lane.seq_highest = 0;
        }
        !account.lanes.is_empty()
    }
}

/// A node that hands a receipt out, then makes its charge durable (rule 4).
pub struct SignedBeforeCommit;

impl Bugs for SignedBeforeCommit {
    fn node_answers_before_commit(&self) -> bool {
        true
    }
}

/// A house that hands a token out, then makes its escrow durable.
pub struct MintedBeforeCommit;

impl Bugs for MintedBeforeCommit {
    fn house_mints_before_commit(&self) -> bool {
        true
    }
}

/// A house that pays what is claimed, whatever the token's budget and window (rules 6 and 9).
pub struct ClampSkipped;

impl Bugs for ClampSkipped {
    fn house_before(&self, escrow: &mut Escrow) {
        (escrow.budget, escrow.window) = (Amount::MAX, Amount::MAX);
    }

    fn house_after(&self, before: &Escrow, after: &mut Escrow) {
        (after.budget, after.window) = (before.budget, before.window);
    }
}

/// A house that sends home what is left whenever somebody asks (rule 8).
pub struct RefundBeforeFinal;

impl Bugs for RefundBeforeFinal {
    fn house_time(&self, escrow: &Escrow, input: &Input<'_>, now: Timestamp) -> Option<(Timestamp, Calendar)> {
        let after = now.max(escrow.settle_by);
        matches!(input, Input::Refund).then(|| (after, Calendar::new(vec![(Timestamp(0), after)])))
    }
}

/// A house whose deadlines run while it is closed (rule 8).
pub struct WallTime;

impl Bugs for WallTime {
    fn house_time(&self, _: &Escrow, _: &Input<'_>, now: Timestamp) -> Option<(Timestamp, Calendar)> {
        Some((now, Calendar::new(vec![(Timestamp(0), now)])))
    }
}

/// A house that holds claims against the budget alone, not against the caps of blocks (rule 7).
pub struct BlockCapIgnoredByHouse;

impl Bugs for BlockCapIgnoredByHouse {
    fn house_reads(&self, claimed: &mut Claimed) {
        claimed.lanes.values_mut().for_each(|lane| lane.path.clear());
    }
}

/// A node that holds requests against the budget alone.
pub struct BlockCapIgnoredByNode;

impl Bugs for BlockCapIgnoredByNode {
    fn node_asks(&self, ask: &mut Ask) {
        ask.path.truncate(1);
    }
}

/// A node that lets work stand unacknowledged without end (rule 6).
pub struct WindowIgnored;

impl Bugs for WindowIgnored {
    fn node_asks(&self, ask: &mut Ask) {
        ask.window = Amount::MAX;
    }
}

/// A node that holds less than a request may cost.
pub struct HoldTooSmall;

impl Bugs for HoldTooSmall {
    fn node_asks(&self, ask: &mut Ask) {
        ask.hold = Amount::ZERO;
    }
}

/// A house that takes every claim for acknowledged (rule 7).
pub struct AcknowledgementUnproved;

impl Bugs for AcknowledgementUnproved {
    fn house_reads(&self, claimed: &mut Claimed) {
        claimed.lanes.values_mut().for_each(|lane| lane.acknowledged = lane.total);
    }
}

/// A house that forgets which movements it made: the books are asked again under numbers they know.
pub struct PaidTwice;

impl Bugs for PaidTwice {
    fn house_after(&self, before: &Escrow, after: &mut Escrow) {
        for (key, lane) in &mut after.lanes {
            lane.paid = before.lanes.get(key).map_or(Amount::ZERO, |known| known.paid);
        }
        after.paid = before.paid;
    }
}

/// A house that keeps what a node is owed: nothing but the acknowledged is ever paid.
pub struct TailUnpaid;

impl Bugs for TailUnpaid {
    fn house_before(&self, escrow: &mut Escrow) {
        escrow.window = Amount::ZERO;
    }

    fn house_after(&self, before: &Escrow, after: &mut Escrow) {
        after.window = before.window;
    }
}

/// A house that pays what nobody acknowledged on the node's word alone.
pub struct TailBelieved;

impl Bugs for TailBelieved {
    fn house_before(&self, escrow: &mut Escrow) {
        escrow.lanes.values_mut().for_each(|lane| lane.proven = lane.total);
    }
}

/// A house that pays while a dispute is open.
pub struct DisputeIgnored;

impl Bugs for DisputeIgnored {
    fn house_before(&self, escrow: &mut Escrow) {
        escrow.is_disputed = false;
    }

    fn house_after(&self, before: &Escrow, after: &mut Escrow) {
        after.is_disputed = before.is_disputed;
    }
}

/// A house that forgets which tails were challenged and not shown.
pub struct StopForgotten;

impl Bugs for StopForgotten {
    fn house_before(&self, escrow: &mut Escrow) {
        escrow.lanes.values_mut().for_each(|lane| lane.stopped = None);
    }
}

/// A house that looks at each request that is shown, and not at what the receipts come to together.
pub struct TotalsBelieved;

impl Bugs for TotalsBelieved {
    fn house_believes(&self, misfit: &Misfit) -> bool {
        matches!(misfit, Misfit::OtherTotal { .. } | Misfit::AboveAcknowledged { .. })
    }
}

/// A house that takes a receipt above what was signed.
pub struct MaximumBelieved;

impl Bugs for MaximumBelieved {
    fn house_believes(&self, misfit: &Misfit) -> bool {
        matches!(misfit, Misfit::AboveMaximum { .. } | Misfit::NotInHistory { .. })
    }
}

/// An owner who never hears that the house was set back: what the house forgot is not claimed again (rule 9).
pub struct NobodyClaimsAnew;

impl Bugs for NobodyClaimsAnew {
    fn operator_claims_anew(&self) -> bool {
        false
    }
}

/// A house that forgets which credit notes it booked, and books them again (S-22, S-23).
pub struct NotesForgotten;

impl Bugs for NotesForgotten {
    fn house_forgets_notes(&self) -> bool {
        true
    }
}

/// A house that books credit notes out of whatever the owner is owed, also what a dispute may come to need (S-24).
pub struct OthersPay;

impl Bugs for OthersPay {
    fn house_gives_what_others_earned(&self) -> bool {
        true
    }
}

/// A house whose payment runs pay what a dispute may come to need (S-13).
pub struct RunPaysAll;

impl Bugs for RunPaysAll {
    fn house_pays_what_may_be_disputed(&self) -> bool {
        true
    }
}

/// A house that forgets what was drawn under a mandate: its cap holds for each token alone.
pub struct MandateForgotten;

impl Bugs for MandateForgotten {
    fn house_forgets_what_was_drawn(&self) -> bool {
        true
    }
}

/// A house that lets a mandate draw that its PI took back.
pub struct MandateWithoutEnd;

impl Bugs for MandateWithoutEnd {
    fn house_knows_no_end_of_a_mandate(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use comity_simulator::{STEPS, campaign};

    use super::*;

    /// Schedules that a bug may survive.
    const SEEDS: u64 = 4_000;
    /// Schedules between two looks.
    const BATCH: u64 = 50;

    /// A bug has to be caught, by the bound it is about or by an assertion of the core that stands behind it.
    fn check(bug: &dyn Bugs, bounds: &[&str]) {
        for first in (0..SEEDS).step_by(usize::try_from(BATCH).expect("small")) {
            let report = campaign(1 + first, BATCH, STEPS, bug);
            if let Some(failed) = report.failed.first() {
                let found = failed.violation.bound;
                eprintln!(
                    "caught by seed {} after {} steps: {found}: {}",
                    failed.seed, failed.steps, failed.violation.what
                );
                assert!(bounds.contains(&found), "{found} is not what it is about: {bounds:?}");
                return;
            }
        }
        panic!("not caught in {SEEDS} schedules");
    }

    #[test]
    fn a_node_without_a_sequence_check_is_caught() {
        check(&NoSequenceCheck, &["a seq is charged once", "an assertion"]);
    }

    #[test]
    fn a_receipt_that_is_handed_out_before_its_commit_is_caught() {
        check(&SignedBeforeCommit, &["answered is durable", "an honest node knows what it signed"]);
    }

    #[test]
    fn a_token_that_is_handed_out_before_its_escrow_is_caught() {
        check(&MintedBeforeCommit, &["a token is in the books before anybody has it"]);
    }

    #[test]
    fn a_house_that_does_not_clamp_is_caught() {
        let bounds = ["settled within the budget", "no more is paid than acknowledged and a window"];
        check(&ClampSkipped, &[&bounds[..], &["a holder pays within what it signed"]].concat());
    }

    #[test]
    fn a_refund_before_the_final_is_caught() {
        check(&RefundBeforeFinal, &["nothing goes home before final or settle_by (s)"]);
    }

    #[test]
    fn a_deadline_in_wall_time_is_caught() {
        check(&WallTime, &["nothing goes home before final or settle_by (s)"]);
    }

    #[test]
    fn a_blocks_cap_that_the_house_ignores_is_caught() {
        check(&BlockCapIgnoredByHouse, &["settled within a block's cap"]);
    }

    #[test]
    fn a_blocks_cap_that_the_node_ignores_is_caught() {
        check(&BlockCapIgnoredByNode, &["charged within a block's cap"]);
    }

    #[test]
    fn a_window_that_the_node_ignores_is_caught() {
        check(&WindowIgnored, &["unpaid work within the window"]);
    }

    #[test]
    fn a_hold_below_the_worst_case_is_caught() {
        check(&HoldTooSmall, &["an assertion"]);
    }

    #[test]
    fn a_claim_that_is_taken_for_acknowledged_is_caught() {
        let bounds = ["no more is paid than acknowledged and a window", "no tail is paid before it is shown"];
        check(&AcknowledgementUnproved, &bounds);
    }

    #[test]
    fn a_house_that_pays_twice_is_caught() {
        let bounds = ["settled and in escrow within the award", "a node is paid no more than it charged"];
        check(&PaidTwice, &[&bounds[..], &["an honest node is paid what it charged", "an assertion"]].concat());
    }

    #[test]
    fn a_tail_that_is_paid_unseen_is_caught() {
        check(&TailBelieved, &["no tail is paid before it is shown", "a holder pays within what it signed"]);
    }

    #[test]
    fn a_house_that_pays_what_is_disputed_is_caught() {
        check(&DisputeIgnored, &["nothing disputed is paid"]);
    }

    #[test]
    fn a_stop_that_is_forgotten_is_caught() {
        // What is asked for once and not shown is not asked for again: where that is forgotten it lies in escrow for ever.
        check(&StopForgotten, &["what was stopped is not paid", "nothing stays in escrow for ever"]);
    }

    #[test]
    fn totals_that_are_believed_are_caught() {
        check(&TotalsBelieved, &["what is shown in all was signed for in all"]);
    }

    #[test]
    fn a_charge_above_the_maximum_that_is_believed_is_caught() {
        check(&MaximumBelieved, &["what is shown was signed for"]);
    }

    #[test]
    fn an_owner_who_does_not_claim_anew_after_the_house_was_set_back_is_short() {
        check(&NobodyClaimsAnew, &["an honest node is paid what it charged"]);
    }

    #[test]
    fn a_credit_note_that_is_booked_twice_is_caught() {
        let bounds = ["set aside, taken and given back within what was paid", "the books take a credit note"];
        check(&NotesForgotten, &[&bounds[..], &["an assertion", "a credit note moves what it says"]].concat());
    }

    #[test]
    fn a_credit_note_that_others_pay_is_caught() {
        check(&OthersPay, &["a note leaves what disputes may take"]);
    }

    #[test]
    fn a_run_that_pays_what_may_be_disputed_is_caught() {
        check(&RunPaysAll, &["a run leaves what disputes may take"]);
    }

    #[test]
    fn a_mandate_that_is_drawn_beyond_its_cap_is_caught() {
        check(&MandateForgotten, &["drawn within the mandate", "drawn within the mandate's day"]);
    }

    #[test]
    fn a_mandate_that_draws_after_it_was_taken_back_is_caught() {
        check(&MandateWithoutEnd, &["nothing is drawn under a mandate that was taken back"]);
    }

    #[test]
    fn a_house_that_does_not_pay_a_tail_is_caught() {
        // What it did not pay stands in the match as receipts above what could be paid.
        let bounds = ["an honest node is paid what it charged", "meter, receipts and ledger of an honest node match"];
        check(&TailUnpaid, &bounds);
    }
}

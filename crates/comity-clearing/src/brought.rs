//! Credit notes on their way into the books: one of an owner's at a time, and one that waits not again before its time (spec/07-settlement.md S-24).
//!
//! What a note has to leave alone is added up over all that its owner has under way. So two notes of one owner are not decided side by
//! side, and one that waits is not decided at each of its node's turns. It is kept in memory: a process that begins anew looks at each
//! note once more than it had to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use comity_wire::object::CreditNote;
use comity_wire::{CreditNoteId, NodeId, OrgId, Timestamp};

use crate::failure::Failure;
use crate::settlement::credit::Refused;

/// A note that waits is looked at again after an eighth of the time that it has waited, within these.
const WAIT_S_MIN: u64 = 60;
const WAIT_S_MAX: u64 = 3_600;
/// Notes that are known to wait; a further one is told when to come again, and looked at whenever it comes.
const WAITING_MAX: usize = 65_536;

#[derive(Debug, Default)]
struct State {
    /// Owners of whom a note is being decided.
    busy: BTreeSet<OrgId>,
    waiting: BTreeMap<(NodeId, CreditNoteId), Waiting>,
}

#[derive(Debug)]
struct Waiting {
    note: CreditNote,
    until: Timestamp,
    why: Refused,
}

/// The notes that this process decides now, and those that it has told to come again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brought(Arc<Mutex<State>>);

/// Held while a note of an owner is decided.
#[derive(Debug)]
pub(crate) struct Turn {
    brought: Brought,
    owner: OrgId,
}

impl Brought {
    /// Begins to decide a note.
    ///
    /// # Errors
    /// [`Failure::CreditWaits`] as it was told, while the note's time has not come; [`Failure::OwnerBusy`] while another one of its owner
    /// is being decided.
    pub(crate) fn take(&self, owner: OrgId, note: &CreditNote, now: Timestamp) -> Result<Turn, Failure> {
        let mut state = self.state();
        if let Some(known) = state.waiting.get(&(note.node, note.id))
            && known.note == *note
            && now < known.until
        {
            return Err(Failure::CreditWaits { why: known.why.clone(), wait_s: known.until.since(now) });
        }
        if !state.busy.insert(owner) {
            return Err(Failure::OwnerBusy);
        }
        Ok(Turn { brought: self.clone(), owner })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The note cannot be booked yet: when it is looked at again.
    pub(crate) fn waits(&self, note: &CreditNote, why: Refused, now: Timestamp) -> Failure {
        let wait_s = (now.since(note.at) / 8).clamp(WAIT_S_MIN, WAIT_S_MAX);
        let mut state = self.brought.state();
        if state.waiting.len() >= WAITING_MAX {
            state.waiting.retain(|_, waiting| now < waiting.until);
        }
        if state.waiting.len() < WAITING_MAX {
            let waiting = Waiting { note: note.clone(), until: now.plus(wait_s), why: why.clone() };
            state.waiting.insert((note.node, note.id), waiting);
        }
        Failure::CreditWaits { why, wait_s }
    }

    /// The note waits no longer.
    pub(crate) fn decided(&self, note: &CreditNote) {
        self.brought.state().waiting.remove(&(note.node, note.id));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.brought.state().busy.remove(&self.owner);
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::object::CreditReason;
    use comity_wire::{Amount, Digest, TokenId};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);
    const LAB: OrgId = OrgId([1; 16]);

    fn note(id: u8, at: Timestamp) -> CreditNote {
        let (reason, case) = (CreditReason::Case, Some(Digest::of(b"link")));
        let (node, token) = (NodeId([2; 16]), TokenId([3; 16]));
        CreditNote { id: CreditNoteId([id; 16]), node, token, amount: Amount::from_ucr(5), reason, case, at }
    }

    fn waits(brought: &Brought, note: &CreditNote, now: Timestamp) -> u64 {
        let turn = brought.take(LAB, note, now).unwrap();
        let Failure::CreditWaits { wait_s, .. } = turn.waits(note, Refused::Disputed, now) else { panic!("it waits") };
        wait_s
    }

    #[test]
    fn one_note_of_an_owner_is_decided_at_a_time() {
        let brought = Brought::default();
        let turn = brought.take(LAB, &note(1, NOW), NOW).unwrap();
        assert!(matches!(brought.take(LAB, &note(2, NOW), NOW), Err(Failure::OwnerBusy)));
        let other = brought.take(OrgId([9; 16]), &note(2, NOW), NOW).unwrap();
        drop(turn);
        assert!(brought.take(LAB, &note(2, NOW), NOW).is_ok());
        drop(other);
    }

    #[test]
    fn a_note_that_waits_is_looked_at_the_less_often_the_longer_it_has_waited() {
        for (age, wait_s) in [(0, 60), (480, 60), (800, 100), (28_800, 3_600), (900_000, 3_600)] {
            assert_eq!(waits(&Brought::default(), &note(1, NOW.minus(age)), NOW), wait_s, "after {age} s");
        }
        let brought = Brought::default();
        assert_eq!(waits(&brought, &note(1, NOW), NOW), 60);
        let early = brought.take(LAB, &note(1, NOW), NOW.plus(59));
        assert!(matches!(early, Err(Failure::CreditWaits { why: Refused::Disputed, wait_s: 1 })));
        // Another one is looked at, and so is one of the same id that says something else.
        assert!(brought.take(LAB, &note(2, NOW), NOW.plus(59)).is_ok());
        assert!(brought.take(LAB, &note(1, NOW.plus(1)), NOW.plus(59)).is_ok());
        let turn = brought.take(LAB, &note(1, NOW), NOW.plus(60)).unwrap();
        turn.decided(&note(1, NOW));
        drop(turn);
        assert!(brought.state().waiting.is_empty() && brought.state().busy.is_empty());
    }

    #[test]
    fn what_is_remembered_of_notes_that_wait_is_bounded() {
        let brought = Brought::default();
        let many = |number: u32, at| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            CreditNote { id: CreditNoteId(id), ..note(0, at) }
        };
        let most = u32::try_from(WAITING_MAX).unwrap();
        for number in 0..most + 9 {
            waits(&brought, &many(number, NOW), NOW);
        }
        assert_eq!(brought.state().waiting.len(), WAITING_MAX);
        // One that is not remembered is told when to come again all the same; and those whose time has come give way.
        assert_eq!(waits(&brought, &many(most, NOW), NOW.plus(1)), 60);
        waits(&brought, &many(most, NOW), NOW.plus(61));
        assert_eq!(brought.state().waiting.len(), 1);
    }
}

//! Credit notes, and what the house said to them.

use comity_wire::{CreditNoteId, OrgId, Timestamp, TokenId};
use futures::FutureExt as _;

use super::Memory;
use crate::store::Answer;
use crate::store::credited::{CREDITS_MAX, Credited, HouseSaid, Noted, too_many};

impl Credited for Memory {
    fn credit_put<'a>(&'a self, note: &'a Noted) -> Answer<'a, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            if rows.credits.values().any(|known| known.id == note.id) {
                return Ok(());
            }
            if rows.credits.len() >= CREDITS_MAX {
                return Err(too_many());
            }
            rows.credits.insert((note.at, note.id), Noted { said: HouseSaid::Nothing, ..note.clone() });
            Ok(())
        }
        .boxed()
    }

    fn credit_said<'a>(&'a self, id: CreditNoteId, said: &'a HouseSaid) -> Answer<'a, ()> {
        self.change(move |rows| {
            if let Some(note) = rows.credits.values_mut().find(|note| note.id == id) {
                note.said = said.clone();
            }
        })
    }

    fn credits_again(&self, house: OrgId, since: Timestamp) -> Answer<'_, u64> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            let booked = |note: &&mut Noted| {
                note.house == house && matches!(note.said, HouseSaid::Booked { booked_at, .. } if booked_at >= since)
            };
            let mut again = 0;
            for note in rows.credits.values_mut().filter(booked) {
                note.said = HouseSaid::Nothing;
                again += 1;
            }
            Ok(again)
        }
        .boxed()
    }

    fn credits_waiting(&self, limit: u32) -> Answer<'_, Vec<Noted>> {
        self.read(move |rows| {
            let waiting = rows.credits.values().filter(|note| note.said == HouseSaid::Nothing);
            waiting.take(limit as usize).cloned().collect()
        })
    }

    fn credits(&self, token: Option<TokenId>, limit: u32) -> Answer<'_, Vec<Noted>> {
        self.read(move |rows| {
            let of = rows.credits.values().rev().filter(|note| token.is_none_or(|token| note.token == token));
            of.take(limit as usize).cloned().collect()
        })
    }
}

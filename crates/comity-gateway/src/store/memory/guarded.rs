//! What the filter counts, and what it suspended.

use comity_guard::volume::{Counted, Delta};
use futures::FutureExt as _;

use super::Memory;
use crate::store::stops::{SaidAct, Target, Word};
use crate::store::{Answer, Guarded, Suspension};

impl Guarded for Memory {
    fn volume<'a>(&'a self, subject: &'a str, from: u32) -> Answer<'a, Vec<(Counted, u32, u64)>> {
        self.read(move |rows| {
            let of = rows.volume.iter().filter(|((of, _, hour), _)| of == subject && *hour >= from);
            of.map(|((_, counted, hour), count)| (*counted, *hour, *count)).collect()
        })
    }

    fn volume_add<'a>(&'a self, deltas: &'a [Delta]) -> Answer<'a, ()> {
        self.change(move |rows| {
            for delta in deltas {
                let key = (delta.project.clone(), delta.counted, delta.hour);
                *rows.volume.entry(key).or_default() += u64::from(delta.count);
            }
        })
    }

    fn volume_forget(&self, before: u32) -> Answer<'_, ()> {
        self.change(move |rows| rows.volume.retain(|(_, _, hour), _| *hour >= before))
    }

    fn suspensions(&self) -> Answer<'_, Vec<Suspension>> {
        self.read(|rows| rows.suspensions.values().cloned().collect())
    }

    fn suspension_put<'a>(&'a self, suspension: &'a Suspension) -> Answer<'a, ()> {
        self.change(move |rows| {
            rows.suspensions.entry(suspension.subject.clone()).or_insert_with(|| suspension.clone());
        })
    }

    fn suspension_end<'a>(&'a self, subject: &'a str, word: Option<&'a Word>) -> Answer<'a, bool> {
        async move {
            let mut rows = self.rows();
            let ended = rows.suspensions.remove(subject).is_some();
            if let Some(word) = word.filter(|_| ended) {
                rows.say(SaidAct::Lifted, &Target::Project(subject.to_owned()), word);
            }
            Ok(ended)
        }
        .boxed()
    }
}

//! What passes although the policy holds it, and the log of that.

use comity_guard::Category;
use comity_wire::Timestamp;
use futures::FutureExt as _;

use super::Memory;
use crate::store::Answer;
use crate::store::passes::{PASSES_MAX, Pass, PassSaid, Passes, too_many};
use crate::store::stops::Word;

impl Passes for Memory {
    fn passes(&self) -> Answer<'_, Vec<Pass>> {
        self.read(|rows| {
            let pass = |((subject, category), until): (&(String, Category), &Timestamp)| Pass {
                subject: subject.clone(),
                category: *category,
                until: *until,
            };
            rows.passes.iter().map(pass).collect()
        })
    }

    fn pass_put<'a>(&'a self, pass: &'a Pass, word: &'a Word) -> Answer<'a, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            rows.passes.retain(|_, until| word.at < *until);
            let place = (pass.subject.clone(), pass.category);
            if !rows.passes.contains_key(&place) && rows.passes.len() >= PASSES_MAX {
                return Err(too_many());
            }
            rows.passes.insert(place, pass.until);
            rows.say_pass(&pass.subject, pass.category, Some(pass.until), word);
            Ok(())
        }
        .boxed()
    }

    fn pass_end<'a>(&'a self, subject: &'a str, category: Category, word: &'a Word) -> Answer<'a, bool> {
        self.change(move |rows| {
            let gone = rows.passes.remove(&(subject.to_owned(), category)).is_some();
            if gone {
                rows.say_pass(subject, category, None, word);
            }
            gone
        })
    }

    fn pass_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<PassSaid>> {
        self.read(move |rows| rows.pass_log.iter().filter(|said| said.n > n).take(most as usize).cloned().collect())
    }
}

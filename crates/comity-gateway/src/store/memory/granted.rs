//! Grants by an operator, and the log of them.

use comity_wire::GrantId;

use super::Memory;
use crate::store::Answer;
use crate::store::granted::{Given, GrantSaid, Granted};
use crate::store::stops::Word;

impl Granted for Memory {
    fn grant_give<'a>(&'a self, grant: GrantId, given: &'a Given, bytes: &'a [u8], word: &'a Word) -> Answer<'a, ()> {
        self.change(move |rows| {
            if rows.grants.iter().all(|(known, _)| *known != given.content) {
                rows.grants.push((given.content, bytes.to_vec()));
            }
            rows.say_grant(grant, Some(given.clone()), word);
        })
    }

    fn grant_take_back<'a>(&'a self, grant: GrantId, word: &'a Word) -> Answer<'a, ()> {
        self.change(move |rows| {
            if rows.withdrawn.iter().all(|(known, _)| *known != grant) {
                rows.withdrawn.push((grant, word.at));
            }
            rows.say_grant(grant, None, word);
        })
    }

    fn grant_log_after(&self, n: u64, most: u32) -> Answer<'_, Vec<GrantSaid>> {
        self.read(move |rows| rows.grant_log.iter().filter(|said| said.n > n).take(most as usize).cloned().collect())
    }
}

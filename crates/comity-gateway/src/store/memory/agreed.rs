//! Terms of use and agreements.

use comity_wire::{Digest, Timestamp};
use futures::FutureExt as _;

use super::Memory;
use crate::store::Answer;
use crate::store::agreed::{AGREEMENTS_MAX, Agreed, Agreements, TERMS_MAX, too_many, too_many_terms};

impl Agreements for Memory {
    fn terms_put(&self, id: Digest, bytes: Vec<u8>, _at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            if rows.terms.iter().any(|(known, _)| *known == id) {
                return Ok(());
            }
            if rows.terms.len() >= TERMS_MAX {
                return Err(too_many_terms());
            }
            rows.terms.push((id, bytes));
            Ok(())
        }
        .boxed()
    }

    fn terms(&self) -> Answer<'_, Vec<Vec<u8>>> {
        self.read(|rows| rows.terms.iter().map(|(_, bytes)| bytes.clone()).collect())
    }

    fn agreement_put(&self, agreed: Agreed) -> Answer<'_, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            let same = |known: &Agreed| (&known.subject, known.terms) == (&agreed.subject, agreed.terms);
            if rows.agreements.iter().any(same) {
                return Ok(());
            }
            if rows.agreements.len() >= AGREEMENTS_MAX {
                return Err(too_many());
            }
            rows.agreements.push(agreed);
            Ok(())
        }
        .boxed()
    }

    fn agreements(&self) -> Answer<'_, Vec<(String, Digest, Timestamp)>> {
        self.read(|rows| {
            let mut all: Vec<_> = rows.agreements.iter().collect();
            all.sort_by_key(|agreed| (agreed.at, agreed.subject.clone(), agreed.terms));
            all.into_iter().map(|agreed| (agreed.subject.clone(), agreed.terms, agreed.at)).collect()
        })
    }

    fn agreements_of<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<Agreed>> {
        self.read(move |rows| {
            let mut of: Vec<_> = rows.agreements.iter().filter(|agreed| agreed.subject == subject).cloned().collect();
            of.sort_by_key(|agreed| (std::cmp::Reverse(agreed.at), agreed.terms));
            of
        })
    }
}

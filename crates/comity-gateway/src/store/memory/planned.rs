//! Approvals of plans, and the executions that were counted.

use comity_wire::{Digest, Timestamp};
use futures::FutureExt as _;

use super::Memory;
use crate::spend::{RunKey, RunRow};
use crate::store::Answer;
use crate::store::planned::{PLANS_MAX, Planned, too_many};

impl Planned for Memory {
    fn plan_put(&self, id: Digest, bytes: Vec<u8>, _at: Timestamp) -> Answer<'_, ()> {
        async move {
            let mut rows = self.rows();
            rows.writable()?;
            if rows.plans.iter().any(|(known, _)| *known == id) {
                return Ok(());
            }
            if rows.plans.len() >= PLANS_MAX {
                return Err(too_many());
            }
            rows.plans.push((id, bytes));
            Ok(())
        }
        .boxed()
    }

    fn plans(&self) -> Answer<'_, Vec<Vec<u8>>> {
        self.read(|rows| rows.plans.iter().map(|(_, bytes)| bytes.clone()).collect())
    }

    fn runs<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(RunKey, RunRow)>> {
        self.read(move |rows| {
            let of = rows.runs.iter().filter(|(key, _)| key.subject == subject);
            of.map(|(key, row)| (key.clone(), *row)).collect()
        })
    }

    fn runs_forget(&self, before: Timestamp) -> Answer<'_, ()> {
        self.change(move |rows| rows.runs.retain(|_, row| row.until >= before))
    }
}

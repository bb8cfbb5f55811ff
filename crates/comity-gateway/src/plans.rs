//! Approved experiment plans, by digest: a grant that names one which is not here opens nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use comity_wire::object::{Grant, Plan, Run};
use comity_wire::{Digest, Malformed, Meter, Meters};

use crate::spend::{RunKey, RunRow, Volume, Within};

/// All of them in memory; the store bounds how many there are.
#[derive(Default)]
pub(crate) struct Plans(RwLock<HashMap<Digest, Arc<Plan>>>);

impl Plans {
    /// # Errors
    /// [`Malformed`] where it is no plan.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, Malformed> {
        let plan = Plan::from_bytes(bytes)?;
        let digest = plan.digest();
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(digest).or_insert_with(|| Arc::new(plan));
        Ok(digest)
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<Plan>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        use comity_wire::Encode as _;
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().map(|plan| plan.to_cbor()).collect()
    }

    /// Those that the grants name, as far as they are here.
    pub(crate) fn of<'g>(&self, grants: impl IntoIterator<Item = &'g Grant>) -> Vec<(Digest, Arc<Plan>)> {
        let named = grants.into_iter().filter_map(|grant| grant.plan);
        named.filter_map(|digest| Some((digest, self.get(&digest)?))).collect()
    }
}

/// How many of a grant's executions have begun, each with what it has used, the newest first.
pub(crate) fn begun(rows: &[(RunKey, RunRow)], grant: comity_wire::GrantId) -> Vec<(Run, Vec<&(RunKey, RunRow)>)> {
    let mut runs: Vec<(Run, Vec<&(RunKey, RunRow)>)> = Vec::new();
    for row in rows.iter().filter(|(key, _)| key.grant == grant) {
        match runs.iter_mut().find(|(run, _)| *run == row.0.run) {
            Some((_, of)) => of.push(row),
            None => runs.push((row.0.run.clone(), vec![row])),
        }
    }
    runs.sort_by_key(|(run, of)| (std::cmp::Reverse(of.iter().map(|(_, row)| row.begun).min()), run.clone()));
    runs
}

/// What a call counts in, of the decisions that it rests on.
pub(crate) fn within<'a>(
    approved: impl Iterator<Item = &'a comity_token::policy::Approved>,
    worst: &Meters,
) -> Vec<Within> {
    let worst = Volume {
        calls: worst.get(Meter::Requests).max(1),
        input_tokens: worst.get(Meter::InputTokens),
        output_tokens: worst.get(Meter::OutputTokens),
    };
    let mut all: Vec<Within> = Vec::new();
    for approved in approved {
        let row = &approved.row;
        let most = Volume {
            calls: u64::from(row.calls),
            input_tokens: row.input_tokens.unwrap_or(u64::MAX),
            output_tokens: row.output_tokens.unwrap_or(u64::MAX),
        };
        match all.iter_mut().find(|within| within.grant == approved.grant) {
            Some(within) => within.ops.push((row.op, most)),
            None => all.push(Within {
                grant: approved.grant,
                run: approved.run.clone(),
                executions: approved.executions,
                seconds: u64::from(approved.hours) * 3_600,
                until: approved.not_after,
                ops: vec![(row.op, most)],
                worst,
            }),
        }
    }
    all
}

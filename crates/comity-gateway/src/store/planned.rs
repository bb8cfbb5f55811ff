//! What is kept of experiment plans: those that were approved, and what their executions have used.

use comity_wire::{Digest, GrantId, Op, Timestamp};

use super::{Answer, StoreError};
use crate::spend::{RunKey, RunRow, Volume};

/// The plans' part of a store. Executions are written with the charges that count in them.
pub trait Planned: Send + Sync {
    /// Keeps an approved plan; a repeat changes nothing. Refused where there are [`PLANS_MAX`].
    fn plan_put(&self, id: Digest, bytes: Vec<u8>, at: Timestamp) -> Answer<'_, ()>;
    /// All of them, oldest first.
    fn plans(&self) -> Answer<'_, Vec<Vec<u8>>>;
    /// What was charged in a project's executions, also in those that are over.
    fn runs<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<(RunKey, RunRow)>>;
    /// Drops executions whose grants ended before.
    fn runs_forget(&self, before: Timestamp) -> Answer<'_, ()>;
}

/// Plans that a node keeps: all of them are in its memory, at most 16 KiB each.
pub const PLANS_MAX: usize = 10_000;
/// How long it can be looked up what was done under a grant that has ended.
pub const RUNS_KEPT_S: u64 = 90 * comity_wire::time::DAY_S;

pub(super) fn too_many() -> StoreError {
    StoreError::Refused { why: format!("it keeps {PLANS_MAX} experiment plans already") }
}

/// A row, in the order grant, run, op, begun, end of the grant, calls, tokens.
pub(super) type Row = (Vec<u8>, String, i64, i64, i64, i64, i64, i64);

pub(super) fn run(subject: &str, row: Row) -> Result<(RunKey, RunRow), StoreError> {
    let unreadable = || StoreError::Unreadable { what: "an execution of a plan" };
    let uint = |value: i64| u64::try_from(value).map_err(|_| unreadable());
    let (grant, run, op, begun, until, calls, input_tokens, output_tokens) = row;
    let key = RunKey {
        subject: subject.to_owned(),
        grant: GrantId(grant.try_into().map_err(|_| unreadable())?),
        run: run.parse().map_err(|_| unreadable())?,
        op: Op::from_number(uint(op)?).ok_or_else(unreadable)?,
    };
    let used = Volume { calls: uint(calls)?, input_tokens: uint(input_tokens)?, output_tokens: uint(output_tokens)? };
    Ok((key, RunRow { begun: Timestamp(uint(begun)?), until: Timestamp(uint(until)?), used }))
}

/// A count as a column: what is above its range is as good as the most.
pub(super) fn counted(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

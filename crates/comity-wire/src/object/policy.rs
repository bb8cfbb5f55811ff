//! The owner's access policy (spec/03-manifest.md §6): (tier, op) → limits, and what each tier asks of a caller.

use super::{KIB, ascending, require};
use crate::amount::Amount;
use crate::cbor::{List, Malformed, Text, enumeration, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{ModelId, OrgId};
use crate::op::Op;
use crate::time::{DAY_S, Timestamp};

const MINUTES_A_DAY: u16 = 1440;
/// More than any server's single precision has.
const DECIMALS_MAX: u8 = 9;

enumeration! {
    /// A level in an owner's policy. Not [`Vetting`], which the house states.
    pub enum Tier: "tier" {
        Open = 0 "t0",
        Registered = 1 "t1",
        Vetted = 2 "t2",
        Audited = 3 "t3",
    }
}

enumeration! {
    /// What the clearing house states of a person and project.
    pub enum Vetting: "vetting" {
        None = 0 "none",
        Registered = 1 "registered",
        Vetted = 2 "vetted",
    }
}

record! {
    /// Signed by the feed writer. What is not in it is refused.
    pub struct Policy {
        1 => org: OrgId,
        2 => name: Text<48>,
        3 => version: u64,
        4 => models: List<ModelId, 64>,
        5 => tiers: List<TierRule, 4>,
        6 => rules: List<OpRule, 64>,
        7 => issued_at: Timestamp,
    }
}

record! {
    /// What a tier asks, and the bounds it sets whatever the op.
    #[derive(serde::Deserialize)]
    pub struct TierRule {
        1 => tier: Tier,
        2 => vetting: Vetting,
        /// Whether this owner's own grant is needed.
        3 => grant: bool,
        /// GA4GH DUO-like codes of purposes that are allowed; empty: any.
        #[serde(default)]
        4 => purposes: List<Text<48>, 16>,
        5 => identity: Identity,
        6 => delegates: Delegates,
        /// The most that may stand unacknowledged in a lane.
        7 => window_max: Amount,
        8 => lanes_max: u16,
        /// The most one call may hold where the caller names no limit.
        9 => charge_max: Amount,
        /// Calls of a project that may run at once, whatever the op; 0: no bound.
        10 => concurrency: u16,
        /// Counted over all ops of the tier.
        #[serde(default)]
        11 => windows: List<Window, 4>,
        12 => logging: Logging,
        #[serde(default)]
        13 => filters: List<Filter, 16>,
        /// Digest of the terms of use that a project agrees to before it calls.
        #[serde(default)]
        14 => terms: Option<Digest>,
        /// When the tier may be used; empty: always.
        #[serde(default)]
        15 => hours: List<Hours, 8>,
        /// Whose calls come first where they wait; left out: normal.
        #[serde(default)]
        16 => priority: Option<Priority>,
        /// Until then the terms before are enough; left out: `terms` are asked for at once.
        #[serde(default)]
        17 => terms_from: Option<Timestamp>,
        /// The terms before; left out: there were none, and nothing is asked for until `terms_from`.
        #[serde(default)]
        18 => terms_before: Option<Digest>,
    }
}

record! {
    /// An op at a tier. The highest tier that a caller reaches decides.
    #[derive(serde::Deserialize)]
    pub struct OpRule {
        1 => op: Op,
        2 => tier: Tier,
        3 => input_bytes_max: u32,
        4 => output_tokens_max: u32,
        /// `n` and `best_of` at most.
        5 => choices_max: u16,
        /// Alternatives per token; 0: no log-probabilities.
        6 => logprobs_max: u8,
        /// Request fields that may be used; empty: all that the route's table has.
        #[serde(default)]
        7 => parameters: List<Text<32>, 64>,
        /// Decimals that returned log-probabilities are rounded to; left out: as they come.
        #[serde(default)]
        8 => logprobs_decimals: Option<u8>,
        /// Left out: none.
        #[serde(default)]
        9 => logit_bias: Option<LogitBias>,
        /// Calls of a project that may run at once; left out: the tier's bound alone.
        #[serde(default)]
        10 => concurrency: Option<u16>,
        /// Counted over this op alone, beside the tier's.
        #[serde(default)]
        11 => windows: List<Window, 4>,
        /// The most that any one call may hold, whatever its holder signed.
        #[serde(default)]
        12 => charge_max: Option<Amount>,
    }
}

record! {
    /// At most so much in so long, of one project. It begins with the first call that counts in it.
    #[derive(serde::Deserialize)]
    pub struct Window {
        1 => seconds: u32,
        #[serde(default)]
        2 => requests: Option<u32>,
        /// Input and output as they are charged; the worst case while a call runs.
        #[serde(default)]
        3 => tokens: Option<u64>,
    }
}

record! {
    /// Part of a week, in UTC.
    #[derive(serde::Deserialize)]
    pub struct Hours {
        /// Empty: every day.
        #[serde(default)]
        1 => days: List<Day, 7>,
        /// Minutes since midnight, inclusive.
        2 => from: u16,
        /// Minutes since midnight, exclusive; 1440 is the day's end.
        3 => until: u16,
    }
}

record! {
    /// Biases can read a model out: they never go with log-probabilities.
    #[derive(serde::Deserialize)]
    pub struct LogitBias {
        1 => kind: BiasKind,
        2 => entries_max: u16,
    }
}

enumeration! {
    pub enum BiasKind: "kind of logit bias" {
        /// Negative values only: words are kept out, not steered to.
        Block = 1 "block",
        Any = 2 "any",
    }
}

enumeration! {
    pub enum Day: "day" {
        Monday = 1 "mon",
        Tuesday = 2 "tue",
        Wednesday = 3 "wed",
        Thursday = 4 "thu",
        Friday = 5 "fri",
        Saturday = 6 "sat",
        Sunday = 7 "sun",
    }
}

enumeration! {
    pub enum Priority: "priority" {
        Low = 1 "low",
        Normal = 2 "normal",
        High = 3 "high",
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct Filter {
        1 => category: Text<48>,
        2 => action: FilterAction,
    }
}

enumeration! {
    pub enum FilterAction: "filter action" {
        Allow = 1 "allow",
        /// Counted into receipts.
        Log = 2 "log",
        Annotate = 3 "annotate",
        Hold = 4 "hold",
        Throttle = 5 "throttle",
        Block = 6 "block",
        Suspend = 7 "suspend",
    }
}

enumeration! {
    pub enum Identity: "identity" {
        Pseudonym = 1 "pseudonym",
        Organisation = 2 "organisation",
        Person = 3 "person",
    }
}

enumeration! {
    pub enum Delegates: "delegates" {
        All = 1 "all",
        Members = 2 "members",
        None = 3 "none",
    }
}

enumeration! {
    pub enum Logging: "logging" {
        None = 1 "none",
        Metadata = 2 "metadata",
        Bodies = 3 "bodies",
    }
}

impl Policy {
    pub fn tier(&self, tier: Tier) -> Option<&TierRule> {
        self.tiers.iter().find(|rule| rule.tier == tier)
    }

    /// The rows of an op, lowest tier first.
    pub fn rules_of(&self, op: Op) -> impl Iterator<Item = &OpRule> {
        self.rules.iter().filter(move |rule| rule.op == op)
    }
}

impl TierRule {
    /// Seconds until the tier may be used: 0 while it may.
    pub fn opens_in_s(&self, now: Timestamp) -> u64 {
        let waits = self.hours.iter().flat_map(|hours| hours.waits_s(now));
        waits.min().unwrap_or(0)
    }

    /// The terms of use of which one must have been agreed to at `now`; empty: none is asked for.
    pub fn terms_at(&self, now: Timestamp) -> Vec<Digest> {
        let Some(terms) = self.terms else { return Vec::new() };
        match (self.terms_from, self.terms_before) {
            (Some(from), None) if now < from => Vec::new(),
            (Some(from), Some(before)) if now < from => vec![terms, before],
            _ => vec![terms],
        }
    }

    pub fn priority(&self) -> Priority {
        self.priority.unwrap_or(Priority::Normal)
    }
}

impl Hours {
    /// The wait for each of its days, from `now` on.
    fn waits_s(&self, now: Timestamp) -> impl Iterator<Item = u64> {
        let (from, until) = (u64::from(self.from) * 60, u64::from(self.until) * 60);
        // 1 January 1970 was a Thursday.
        let (today, second) = ((now.seconds() / DAY_S + 3) % 7, now.seconds() % DAY_S);
        let ahead = (0..=7).filter(move |ahead| {
            let day = (today + ahead) % 7 + 1;
            self.days.is_empty() || self.days.iter().any(|named| u64::from(named.number()) == day)
        });
        ahead.filter_map(move |ahead| match ahead {
            0 if second < from => Some(from - second),
            0 if second < until => Some(0),
            0 => None,
            ahead => Some(ahead * DAY_S + from - second),
        })
    }
}

fn windows_stand(windows: &[Window]) -> bool {
    let counts = |window: &Window| window.seconds > 0 && (window.requests.is_some() || window.tokens.is_some());
    windows.iter().all(counts) && ascending(windows, |window| window.seconds)
}

impl Object for Policy {
    const KIND: Kind = Kind { name: "policy", bytes_max: 16 * KIB, items_max: 4096 };

    fn validate(&self) -> Result<(), Malformed> {
        require(ascending(&self.tiers, |rule| rule.tier), "order of tiers")?;
        require(ascending(&self.rules, |rule| (rule.op, rule.tier)), "order of op rules")?;
        require(ascending(&self.models, Clone::clone), "order of models")?;
        let known = |rule: &OpRule| self.tier(rule.tier).is_some();
        require(self.rules.iter().all(known), "op rule: its tier is not in the policy")?;
        let granted = |rule: &TierRule| rule.tier != Tier::Audited || rule.grant;
        require(self.tiers.iter().all(granted), "tier t3: it always needs the owner's grant")?;
        let windows = self.tiers.iter().map(|rule| &rule.windows).chain(self.rules.iter().map(|rule| &rule.windows));
        let windows_stand = windows.into_iter().all(|windows| windows_stand(windows));
        require(windows_stand, "windows: each counts something in some time, ascending by seconds")?;
        for hours in self.tiers.iter().flat_map(|rule| rule.hours.iter()) {
            require(
                hours.from < hours.until && hours.until <= MINUTES_A_DAY,
                "hours: from is before until, in one day",
            )?;
            require(ascending(&hours.days, |day| *day), "order of days")?;
        }
        for rule in &self.tiers {
            let dated = rule.terms_from.is_none() || rule.terms.is_some();
            let replaced =
                rule.terms_before.is_none() || (rule.terms_from.is_some() && rule.terms_before != rule.terms);
            require(dated && replaced, "terms: a date needs terms, and terms before them a date and another text")?;
        }
        require(self.rules.iter().all(|rule| ascending(&rule.parameters, Clone::clone)), "order of parameters")?;
        let decimals = |rule: &OpRule| rule.logprobs_decimals.is_none_or(|decimals| decimals <= DECIMALS_MAX);
        require(self.rules.iter().all(decimals), "decimals: at most 9")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(days: &[Day], from: u16, until: u16) -> Hours {
        Hours { days: List::new(days.to_vec()).unwrap(), from, until }
    }

    fn waits(rows: Vec<Hours>, now: u64) -> u64 {
        let rows = List::<_, 8>::new(rows).unwrap();
        rows.iter().flat_map(|hours| hours.waits_s(Timestamp(now))).min().unwrap_or(0)
    }

    #[test]
    fn hours_are_of_the_week_in_utc_and_say_when_they_open() {
        // 2026-11-28 is a Saturday.
        let saturday = 1_795_824_000;
        let noon = saturday + 12 * 3600;
        assert_eq!(waits(vec![hours(&[], 0, 1440)], noon), 0);
        assert_eq!(waits(vec![hours(&[Day::Saturday], 720, 721)], noon), 0);
        assert_eq!(
            waits(vec![hours(&[Day::Saturday], 720, 721)], noon + 60),
            7 * DAY_S - 60,
            "until is not part of it"
        );
        assert_eq!(waits(vec![hours(&[Day::Saturday], 721, 800)], noon), 60);
        assert_eq!(waits(vec![hours(&[Day::Monday], 0, 60), hours(&[Day::Sunday], 600, 660)], noon), 22 * 3600);
        assert_eq!(waits(vec![hours(&[], 0, 60)], noon), 12 * 3600);
        assert_eq!(waits(Vec::new(), noon), 0, "no row: always");
    }
}

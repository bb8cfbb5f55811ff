//! What was charged, against what the house counts itself. No chance in it: each contradiction is two numbers that cannot
//! both be true, and one of them the node signed.
//!
//! A server that restarts with another template, or a counter that slips once, is not a lie; [`TIMES_MIN`] of a kind, seen by
//! two personas, are told of. What cannot be seen: a node that counted too much from the first call on, where neither the
//! tokens of the answer are listed, nor the tokenizer is public, nor another owner serves the release.

use std::collections::{BTreeMap, BTreeSet};

use comity_wire::object::Basis;
use comity_wire::object::Tariff;
use comity_wire::{Amount, Digest, Meter, Meters, Op};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Contradictions of a kind before they are told of.
pub(crate) const TIMES_MIN: usize = 3;
/// Receipts of a kind that are kept as evidence.
const RECEIPTS_MAX: usize = 64;
/// Prompts whose count is remembered.
const PROMPTS_MAX: usize = 4_096;
/// Servers differ in whether the token that ends an answer is one.
const END_TOKENS: u64 = 1;

/// What a door charges by.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Its tariff, as the token pins it.
    pub tariff: &'a Tariff,
    /// The op that was asked.
    pub op: Op,
}

/// What one call was charged, and what the house knows of it without asking the node.
#[derive(Debug, Clone, PartialEq)]
pub struct Bill {
    /// Bytes of the body that was sent.
    pub body_bytes: u64,
    /// The most tokens that were asked for.
    pub max_tokens: u64,
    /// The receipt's meters for this charge.
    pub meters: Meters,
    /// The receipt's charge.
    pub charge: Amount,
    /// What the receipt says that its meters rest on.
    pub basis: Basis,
    /// `usage` of the answer: tokens in and out, where it stands there.
    pub usage: Option<(u64, u64)>,
    /// Tokens of the prompt by the public tokenizer and template, where both are known.
    pub input_counted: Option<u64>,
    /// Tokens of the answer: listed with their log-probabilities, or by the public tokenizer.
    pub output_counted: Option<u64>,
}

/// Two numbers that cannot both be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// The same prompt had another number of tokens before.
    InputVaries,
    /// More tokens than bytes and the tariff's overhead allow, or than the public tokenizer makes of it.
    InputTokens,
    /// Other bytes than were sent.
    InputBytes,
    /// More tokens than the answer has, or than were asked for.
    OutputTokens,
    /// The answer says other numbers than the receipt.
    Usage,
    /// More than the tariff makes of these meters.
    Charge,
}

impl Contradiction {
    /// Its name in a finding.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InputVaries => "input_varies",
            Self::InputTokens => "input_tokens",
            Self::InputBytes => "input_bytes",
            Self::OutputTokens => "output_tokens",
            Self::Usage => "usage",
            Self::Charge => "charge",
        }
    }
}

/// What one door's receipts came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Least tokens that a prompt was charged.
    input: BTreeMap<u32, u64>,
    found: BTreeMap<Contradiction, Found>,
    receipts: u64,
}

/// Contradictions of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How many.
    pub times: u64,
    /// By how many units together: tokens, bytes or µcr.
    pub excess: u64,
    /// The first receipts.
    pub receipts: Vec<Digest>,
    personas: BTreeSet<u32>,
}

impl Found {
    /// Whether it is often enough to be told of.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.times >= TIMES_MIN as u64 && self.personas.len() > 1
    }

    /// Who saw it.
    pub fn personas(&self) -> impl Iterator<Item = u32> + '_ {
        self.personas.iter().copied()
    }
}

impl Counts {
    /// Compares a bill with what is known; gives the kinds that it contradicts.
    pub fn observe(
        &mut self,
        prompt: u32,
        persona: u32,
        receipt: Digest,
        bill: &Bill,
        terms: Terms<'_>,
    ) -> Vec<Contradiction> {
        self.receipts += 1;
        let mut found = self.contradictions(prompt, bill, terms);
        found.retain(|(_, excess)| *excess > 0);
        for (kind, excess) in &found {
            let of = self.found.entry(*kind).or_default();
            of.times += 1;
            of.excess = of.excess.saturating_add(*excess);
            of.personas.insert(persona);
            if of.receipts.len() < RECEIPTS_MAX {
                of.receipts.push(receipt);
            }
        }
        found.into_iter().map(|(kind, _)| kind).collect()
    }

    /// What was found of a kind.
    #[must_use]
    pub fn found(&self, kind: Contradiction) -> Option<&Found> {
        self.found.get(&kind)
    }

    /// All kinds that stand.
    pub fn standing(&self) -> impl Iterator<Item = (Contradiction, &Found)> {
        self.found.iter().filter(|(_, found)| found.stands()).map(|(kind, found)| (*kind, found))
    }

    /// Receipts compared.
    #[must_use]
    pub fn receipts(&self) -> u64 {
        self.receipts
    }

    /// Forgets what was found of a kind, after it was dealt with.
    pub fn forget(&mut self, kind: Contradiction) {
        self.found.remove(&kind);
    }

    fn contradictions(&mut self, prompt: u32, bill: &Bill, terms: Terms<'_>) -> Vec<(Contradiction, u64)> {
        let (input, output) = (bill.meters.get(Meter::InputTokens), bill.meters.get(Meter::OutputTokens));
        let mut found = Vec::new();
        // Tokens are compared only where the node says that somebody counted them.
        if matches!(bill.basis, Basis::Upstream | Basis::VendorUsage) {
            let most = bill.body_bytes.saturating_add(u64::from(terms.tariff.overhead_tokens));
            let most = bill.input_counted.map_or(most, |counted| counted.min(most));
            found.push((Contradiction::InputTokens, input.saturating_sub(most)));
            if let Some(before) = self.before(prompt, input) {
                found.push((Contradiction::InputVaries, input.abs_diff(before)));
            }
            let most = bill.output_counted.map_or(bill.max_tokens, |counted| counted.saturating_add(END_TOKENS));
            found.push((Contradiction::OutputTokens, output.saturating_sub(most.min(bill.max_tokens))));
            let usage = bill.usage.map_or(0, |(said_in, said_out)| said_in.abs_diff(input) + said_out.abs_diff(output));
            found.push((Contradiction::Usage, usage));
        }
        let bytes = bill.meters.get(Meter::InputBytes);
        if bytes > 0 {
            found.push((Contradiction::InputBytes, bytes.abs_diff(bill.body_bytes)));
        }
        let most = terms.tariff.exact(terms.op, &bill.meters).ok().and_then(comity_wire::Exact::ceil);
        let above = most.map_or(bill.charge, |most| bill.charge.saturating_sub(most));
        found.push((Contradiction::Charge, above.ucr().unsigned_abs()));
        found
    }

    /// The least that the prompt was charged before, of which this is remembered too.
    fn before(&mut self, prompt: u32, input: u64) -> Option<u64> {
        if self.input.len() >= PROMPTS_MAX && !self.input.contains_key(&prompt) {
            self.input.pop_first();
        }
        let known = self.input.insert(prompt, input)?;
        self.input.insert(prompt, input.min(known));
        Some(known)
    }
}

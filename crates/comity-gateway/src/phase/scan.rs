//! What an answer holds: looked at as it comes, and shown to another server at its end, where callers were told.

use std::collections::BTreeMap;

use comity_guard::{Findings, Scanner};
use comity_http::Refusal;
use comity_supply::Delta;

use super::filter::{Filtered, blocked, may_block};
use super::hold::Held;
use crate::gateway::Inner;
use crate::moderating::Side;

/// The output's filter: one scanner for the text of each choice, and one for each of its tool calls.
pub(super) struct Scan {
    filter: comity_guard::Filter,
    scanners: BTreeMap<(u32, Option<u32>), Scanner>,
    prompt: Findings,
    rule: comity_wire::object::TierRule,
    may_block: bool,
    /// The text of each, where another server is asked about answers.
    said: Option<BTreeMap<(u32, Option<u32>), String>>,
    /// What that one found.
    moderated: Findings,
}

impl Scan {
    pub(super) fn new(inner: &Inner, filtered: &Filtered) -> Self {
        let rule = filtered.held.authorised.allowed.tier_rule.clone();
        let may_block = may_block(&rule);
        Self {
            filter: inner.filter.clone(),
            scanners: BTreeMap::new(),
            prompt: filtered.findings.clone(),
            rule,
            may_block,
            said: inner.moderates(&filtered.held.authorised, Side::Answer).map(|_| BTreeMap::new()),
            moderated: Findings::default(),
        }
    }

    /// Looks at a delta; whether the policy blocks what its choice now holds, were it to end here: what follows in the
    /// same words may still be withheld, what was handed over may not.
    pub(super) fn blocks(&mut self, delta: &Delta) -> bool {
        self.push(delta);
        let says = !delta.text.is_empty() || !delta.tool_calls.is_empty();
        self.may_block && says && self.blocks_now(delta.index)
    }

    pub(super) fn push(&mut self, delta: &Delta) {
        let Self { filter, scanners, said, .. } = self;
        let mut push = |part, text: &str| {
            scanners.entry((delta.index, part)).or_insert_with(|| filter.scanner()).push(text);
            if let Some(said) = said {
                said.entry((delta.index, part)).or_default().push_str(text);
            }
        };
        push(None, &delta.text);
        for call in &delta.tool_calls {
            call.name.iter().for_each(|name| push(Some(call.index), name));
            push(Some(call.index), &call.arguments);
        }
    }

    fn blocks_now(&self, index: u32) -> bool {
        let mut of_choice = self.scanners.range((index, None)..=(index, Some(u32::MAX)));
        of_choice.any(|(_, scanner)| blocked(&self.rule, &scanner.clone().finish()).is_some())
    }

    /// The first choice that the policy blocks as it stands.
    pub(super) fn blocked_choice(&self) -> Option<u32> {
        let mut choices = self.scanners.keys().map(|(index, _)| *index);
        if self.may_block { choices.find(|index| self.blocks_now(*index)) } else { None }
    }

    /// Asks another server about the answer, where one is asked; whether the answer is to be withheld then.
    ///
    /// # Errors
    /// The refusal, where nobody could judge it and the owner lets nothing pass then.
    pub(super) async fn moderate(&mut self, inner: &Inner, filtered: &Filtered) -> Result<bool, Refusal> {
        let Some(said) = self.said.take() else { return Ok(false) };
        let texts: Vec<&str> = said.values().map(String::as_str).collect();
        let Held { authorised, deadline, .. } = &filtered.held;
        match inner.moderate(authorised, Side::Answer, &texts, *deadline).await {
            None => Ok(false),
            Some(Ok(found)) => {
                self.moderated = found;
                Ok(blocked(&self.rule, &self.moderated).is_some())
            }
            Some(Err(why)) => Ok(inner.unjudged(&self.rule, &self.answer(), why)?.is_some()),
        }
    }

    /// What was found in the answer as it stands.
    fn answer(&self) -> Findings {
        let mut answer = Findings::default();
        for scanner in self.scanners.values() {
            answer.merge(&scanner.clone().finish());
        }
        answer.beside(&self.moderated);
        answer
    }

    pub(super) fn finish(self) -> Findings {
        let answer = self.answer();
        let mut all = self.prompt;
        all.merge(&answer);
        all
    }
}

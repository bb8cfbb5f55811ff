//! Moderation by another server, beside the rules and the classifier (decision 0074): asked only where the model's manifest told callers
//! that it is, by whom and in which tiers, for no longer and with no more text than its bounds say.
//!
//! What it finds is one more finding: the policy's rows say what is done. What it does not say in time is a failure, and [`Fail`] says what
//! becomes of a call then.

use std::sync::Arc;
use std::time::Duration;

use comity_guard::moderation::{Map, Verdict};
use comity_guard::{Category, Findings};
use comity_http::Refusal;
use comity_supply::{Call, Upstream, UpstreamError};
use comity_wire::object::{FilterAction, TierRule};
use comity_wire::{Code, ModelId, Op};
use serde::{Deserialize, Serialize};
use serde_json::{Map as Object, Value};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::gateway::Inner;
use crate::guarding;
use crate::phase::authorise::Authorised;

/// Bytes of one text of a question; several short ones go together.
const PIECE_BYTES_MAX: usize = 8 << 10;
/// What two pieces of one text have in common, so that nothing is cut in two unseen.
const OVERLAP_BYTES: usize = 256;
/// Between texts that go together.
const BETWEEN: &str = "\n\n";

/// Another server that is asked what is in a text.
#[derive(Clone)]
pub struct Moderation {
    /// Who runs it: asked only where a manifest names the same.
    pub by: String,
    /// Speaks OpenAI's `/v1/moderations`.
    pub upstream: Arc<dyn Upstream>,
    /// Its model there; empty: its own choice.
    pub model: String,
    pub map: Map,
    pub limits: Limits,
    /// What becomes of a call that it did not judge; `None`: closed where a row of the policy would stop what it may find, open elsewhere.
    pub fail: Option<Fail>,
    /// Whether answers go there, too, where the manifest says so.
    pub answers: bool,
}

/// Bounds of what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For one answer, with the wait for a place.
    pub ms_max: u64,
    /// Questions at once.
    pub at_once: usize,
    /// Of a prompt, or of an answer: one that is longer is not judged.
    pub bytes_max: usize,
}

/// What becomes of a call that was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fail {
    /// It is refused, and not charged.
    Closed,
    /// What this node's own filter found decides, as it always does.
    Open,
    /// The same, and a guess of the classifier counts as sure.
    Rules,
}

/// How a question came out, for those who watch.
#[derive(Clone, Debug)]
pub struct Moderated {
    pub model: ModelId,
    pub side: Side,
    pub outcome: Outcome,
    /// What was found.
    pub categories: Vec<Category>,
    pub took: Duration,
}

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Prompt,
    Answer,
}

impl Side {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Answer => "answer",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Clean,
    Flagged,
    /// Every place was taken for as long as was waited.
    Busy,
    /// It did not answer in time.
    Late,
    /// There is more text than it is asked about.
    TooLarge,
    /// It refused, could not be reached, or said what nobody understands.
    Failed,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Flagged => "flagged",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::TooLarge => "too_large",
            Self::Failed => "failed",
        }
    }

    /// Whether the text was judged.
    pub const fn is_judged(self) -> bool {
        matches!(self, Self::Clean | Self::Flagged)
    }
}

/// What the gateway has of it.
pub(crate) struct Moderating {
    settings: Moderation,
    places: Semaphore,
}

/// The text was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unjudged(Outcome);

impl Moderating {
    pub(crate) fn new(settings: Moderation) -> Self {
        let places = Semaphore::new(settings.limits.at_once.clamp(1, Semaphore::MAX_PERMITS));
        Self { settings, places }
    }

    async fn judge(&self, texts: &[&str]) -> Result<Findings, Outcome> {
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        if bytes > self.settings.limits.bytes_max {
            return Err(Outcome::TooLarge);
        }
        let _place = self.places.acquire().await.map_err(|_| Outcome::Busy)?;
        self.settings.judge(texts).await.map_err(|error| {
            tracing::warn!(by = self.settings.by, %error, "moderation");
            Outcome::Failed
        })
    }
}

impl Moderation {
    /// What it says of texts, without any bound of time or place.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn judge(&self, texts: &[&str]) -> Result<Findings, UpstreamError> {
        Ok(self.map.findings(&self.verdicts(texts).await?))
    }

    /// As it says it, of each piece.
    ///
    /// # Errors
    /// [`UpstreamError`]; as malformed where there is not one verdict for each piece.
    pub async fn verdicts(&self, texts: &[&str]) -> Result<Vec<Verdict>, UpstreamError> {
        #[derive(Deserialize)]
        struct Reply {
            results: Vec<Verdict>,
        }
        let pieces = pieces(texts);
        if pieces.is_empty() {
            return Ok(Vec::new());
        }
        let count = pieces.len();
        let body = Object::from_iter([("input".to_owned(), Value::from(pieces))]);
        let answer = self.upstream.answer(Call::new(Op::Moderations, self.model.clone(), body)).await?;
        let malformed = |detail: String| UpstreamError::Malformed { detail };
        let reply: Reply = serde_json::from_value(answer.body).map_err(|error| malformed(error.to_string()))?;
        if reply.results.len() != count {
            return Err(malformed(format!("{} verdicts on {count} texts", reply.results.len())));
        }
        // A server that speaks of none of the categories that are mapped would find nothing for ever.
        let speaks = |verdict: &Verdict| {
            self.map
                .theirs()
                .any(|name| verdict.categories.contains_key(name) || verdict.category_scores.contains_key(name))
        };
        if !reply.results.iter().all(speaks) {
            return Err(malformed("it speaks of no category that [[moderation.map]] has".into()));
        }
        Ok(reply.results)
    }
}

impl Inner {
    /// Asks what is in texts of a call; `None` where nobody is asked.
    pub(crate) async fn moderate(
        &self,
        authorised: &Authorised,
        side: Side,
        texts: &[&str],
        deadline: Instant,
    ) -> Option<Result<Findings, Unjudged>> {
        if texts.iter().all(|text| text.trim().is_empty()) {
            return None;
        }
        let moderating = self.moderates(authorised, side)?;
        let began = Instant::now();
        let until = deadline.min(began + Duration::from_millis(moderating.settings.limits.ms_max));
        let judged = match tokio::time::timeout_at(until, moderating.judge(texts)).await {
            Ok(judged) => judged,
            Err(_) if moderating.places.available_permits() == 0 => Err(Outcome::Busy),
            Err(_) => Err(Outcome::Late),
        };
        let (outcome, categories) = match &judged {
            Ok(findings) if findings.is_clean() => (Outcome::Clean, Vec::new()),
            Ok(findings) => (Outcome::Flagged, findings.categories().map(|(category, _)| category).collect()),
            Err(outcome) => (*outcome, Vec::new()),
        };
        let (model, took) = (authorised.asked.model.clone(), began.elapsed());
        self.watch.moderated(&Moderated { model, side, outcome, categories, took });
        Some(judged.map_err(Unjudged))
    }

    /// Who is asked about a call: only where callers were told, before they asked, that somebody is, who that is, and of which tiers.
    pub(crate) fn moderates(&self, authorised: &Authorised, side: Side) -> Option<&Moderating> {
        let moderating = self.moderating.as_ref()?;
        let Moderation { by, answers, .. } = &moderating.settings;
        let manifest = self.directory.manifest(&authorised.asked.model)?;
        let told = manifest.data_policy.moderation.as_ref()?;
        let is_told = told.by.as_str() == by
            && told.tiers.contains(&authorised.allowed.tier_rule.tier)
            && (side == Side::Prompt || (*answers && told.answers));
        is_told.then_some(moderating)
    }

    /// What becomes of a text that was not judged: it passes, or what this node found stops it, or it is refused because nobody could
    /// judge it.
    ///
    /// # Errors
    /// The refusal, where nobody could.
    pub(crate) fn unjudged(
        &self,
        rule: &TierRule,
        findings: &Findings,
        why: Unjudged,
    ) -> Result<Option<(Category, FilterAction)>, Refusal> {
        let Some(moderating) = &self.moderating else { return Ok(None) };
        let fail = moderating.settings.fail.unwrap_or_else(|| {
            let categories = moderating.settings.map.categories();
            if categories.iter().any(|category| guarding::would_stop(rule, *category)) {
                Fail::Closed
            } else {
                Fail::Open
            }
        });
        match fail {
            Fail::Open => Ok(None),
            Fail::Rules => Ok(guarding::stopped_by_a_guess(rule, findings)),
            Fail::Closed if why.0 == Outcome::TooLarge => {
                let most = moderating.settings.limits.bytes_max;
                let message =
                    format!("the owner has texts of this tier looked at, and this one has more than {most} bytes");
                Err(Refusal::new(Code::LimitExceeded, message).with("whose_move", "caller").hint("send less at once"))
            }
            Fail::Closed => {
                let message =
                    "the owner has texts of this tier looked at before they pass, and nobody could look at this one";
                Err(Refusal::new(Code::Busy, message).with("whose_move", "owner").retry_after_s(5))
            }
        }
    }
}

/// Texts as they are asked about: short ones together, long ones in pieces that overlap.
fn pieces(texts: &[&str]) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for text in texts.iter().filter(|text| !text.trim().is_empty()) {
        if let Some(last) = pieces.last_mut()
            && last.len() + BETWEEN.len() + text.len() <= PIECE_BYTES_MAX
        {
            last.push_str(BETWEEN);
            last.push_str(text);
            continue;
        }
        let mut from = 0;
        loop {
            let to = text.floor_char_boundary(from + PIECE_BYTES_MAX);
            pieces.push(text[from..to].to_owned());
            if to == text.len() {
                break;
            }
            from = text.floor_char_boundary(to - OVERLAP_BYTES);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_in_a_piece_and_no_piece_is_too_long() {
        assert!(pieces(&["", " \n"]).is_empty());
        assert_eq!(pieces(&["one", "", "two"]), ["one\n\ntwo"]);
        let long = "\u{e4}bc ".repeat(10_000);
        let cut = pieces(&["before", &long, "after"]);
        assert!(
            cut.iter().all(|piece| piece.len() <= PIECE_BYTES_MAX),
            "{:?}",
            cut.iter().map(String::len).collect::<Vec<_>>()
        );
        assert_eq!(cut[0], "before");
        let mut seen = 0;
        for piece in &cut[1..] {
            let piece = piece.strip_suffix("\n\nafter").unwrap_or(piece);
            let at = long[..seen].len().saturating_sub(OVERLAP_BYTES + 4);
            let found = at + long[at..].find(piece).expect("a part of it");
            assert!(found <= seen, "nothing between {seen} and {found} was left out");
            seen = found + piece.len();
        }
        assert_eq!(seen, long.len());
        assert!(cut.last().unwrap().ends_with("after"));
    }
}

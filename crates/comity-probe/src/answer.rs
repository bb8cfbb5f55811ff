//! What came back, and how far two answers to one prompt lie apart.

use serde::{Deserialize, Serialize};

/// Steps of an answer that are kept and compared.
pub(crate) const STEPS_MAX: usize = 48;
/// Alternatives of a step that are kept.
pub(crate) const TOP_MAX: usize = 20;
/// What a divergence counts at the end of an answer, where nothing says how near the other token was; at its beginning 1 more.
pub(crate) const DIVERGED: f64 = 1.0;
/// The most that it counts: beyond it, tokens are simply others.
pub(crate) const DIVERGED_MAX: f64 = 4.0;

/// An answer, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// How it came out.
    pub choice: Choice,
    /// Its tokens, or its characters where the node does not say what its tokens were.
    pub steps: Vec<Step>,
}

/// How it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The model answered.
    Answered,
    /// The model, or a filter in front of it or behind it, would not.
    Refused,
}

/// One token, or one character.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its text.
    pub text: String,
    /// The likeliest tokens there with their natural log-probabilities, best first; empty where the op does not give them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(String, f64)>,
}

impl Answer {
    /// An answer whose tokens are not known.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let step = |character: char| Step { text: character.into(), top: Vec::new() };
        Self { choice: Choice::Answered, steps: text.chars().take(STEPS_MAX).map(step).collect() }
    }

    /// A refusal.
    #[must_use]
    pub fn refusal() -> Self {
        Self { choice: Choice::Refused, steps: Vec::new() }
    }

    /// Cut to what is kept.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.steps.truncate(STEPS_MAX);
        self.steps.iter_mut().for_each(|step| step.top.truncate(TOP_MAX));
        self
    }
}

/// How far `answer` lies from `reference`; `None` where one of them is a refusal, which another test counts.
///
/// Steps are compared while both saw the same text before them: the mean distance (total variation) of the likeliest
/// tokens' probabilities there. Where the texts part, what the reference thought of the other token is added, in nats: a near
/// tie that fell to the other side counts little, a token that it had not thought of much.
#[must_use]
pub fn distance(reference: &Answer, answer: &Answer) -> Option<f64> {
    if reference.choice == Choice::Refused || answer.choice == Choice::Refused {
        return None;
    }
    let (mut sum, mut compared, mut parted) = (0.0, 0_u32, None);
    for (at, (ours, theirs)) in reference.steps.iter().zip(&answer.steps).enumerate() {
        if !ours.top.is_empty() && !theirs.top.is_empty() {
            sum += variation(&ours.top, &theirs.top);
            compared += 1;
        }
        if ours.text != theirs.text {
            // Without log-probabilities all that is known is where: noise parts texts anywhere, another model at once.
            let early = DIVERGED + 1.0 - at as f64 / reference.steps.len() as f64;
            parted = Some(margin(ours, &theirs.text).unwrap_or(early));
            break;
        }
    }
    let ended_apart = parted.is_none() && reference.steps.len() != answer.steps.len();
    let parted = parted.unwrap_or(if ended_apart { DIVERGED } else { 0.0 });
    Some(parted + if compared > 0 { sum / f64::from(compared) } else { 0.0 })
}

/// Half the sum of differences of probabilities, over all tokens that one of them names. Numbers that are none count as far.
fn variation(ours: &[(String, f64)], theirs: &[(String, f64)]) -> f64 {
    let of = |top: &[(String, f64)], token: &str| {
        top.iter().find(|(text, _)| text == token).map_or(0.0, |(_, logprob)| logprob.exp())
    };
    let in_ours = ours.iter().map(|(token, logprob)| (logprob.exp() - of(theirs, token)).abs());
    let missing = theirs.iter().filter(|(token, _)| ours.iter().all(|(other, _)| other != token));
    let sum: f64 = in_ours.chain(missing.map(|(_, logprob)| logprob.exp())).sum();
    if sum.is_finite() { (sum / 2.0).min(1.0) } else { 1.0 }
}

/// How much likelier the reference found its own token than this one, where it says.
fn margin(step: &Step, other: &str) -> Option<f64> {
    let of = |token: &str| step.top.iter().find(|(text, _)| text == token).map(|(_, logprob)| *logprob);
    let own = of(&step.text).or_else(|| step.top.first().map(|(_, logprob)| *logprob))?;
    // One that is not among the likeliest is at most as likely as the last of them.
    let found = of(other).or_else(|| step.top.last().map(|(_, logprob)| *logprob)).unwrap_or(own);
    let margin = own - found;
    Some(if margin.is_finite() { margin.clamp(0.0, DIVERGED_MAX) } else { DIVERGED_MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str, top: &[(&str, f64)]) -> Step {
        Step { text: text.into(), top: top.iter().map(|(token, p)| ((*token).into(), p.ln())).collect() }
    }

    fn answer(steps: Vec<Step>) -> Answer {
        Answer { choice: Choice::Answered, steps }
    }

    #[test]
    fn a_near_tie_counts_little_and_a_strange_token_much() {
        let reference = answer(vec![step("a", &[("a", 0.5), ("b", 0.49), ("c", 0.001)])]);
        let near = answer(vec![step("b", &[("b", 0.5), ("a", 0.49), ("c", 0.001)])]);
        let far = answer(vec![step("c", &[("c", 0.9), ("a", 0.05), ("b", 0.04)])]);
        assert_eq!(distance(&reference, &reference), Some(0.0));
        let (near, far) = (distance(&reference, &near).unwrap(), distance(&reference, &far).unwrap());
        assert!(near < 0.05 && far > 4.0, "{near} {far}");
    }

    #[test]
    fn nothing_is_compared_behind_the_place_where_texts_part() {
        let tail = |p: f64| step("z", &[("z", p)]);
        let apart = |tail: Step| answer(vec![step("b", &[("a", 0.5), ("b", 0.49)]), tail]);
        let reference = answer(vec![step("a", &[("a", 0.5), ("b", 0.49)]), tail(0.9)]);
        assert_eq!(distance(&reference, &apart(tail(0.1))), distance(&reference, &apart(tail(0.9))));
    }

    #[test]
    fn texts_alone_are_alike_or_not_and_refusals_are_another_matter() {
        let (one, other) = (Answer::of_text("Paris"), Answer::of_text("Parma"));
        let (late, early) = (distance(&one, &other).unwrap(), distance(&one, &Answer::of_text("Lima")).unwrap());
        assert!(DIVERGED < late && late < early, "{late} {early}");
        assert_eq!(distance(&one, &Answer::of_text("Paris, France")), Some(DIVERGED));
        assert_eq!(distance(&one, &Answer::refusal()), None);
        let broken = answer(vec![Step { text: "a".into(), top: vec![("a".into(), f64::NAN)] }]);
        let far = distance(&answer(vec![step("a", &[("a", 0.9)])]), &broken).unwrap();
        assert!((far - 1.0).abs() < f64::EPSILON, "{far}");
    }
}

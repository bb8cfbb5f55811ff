//! Several owners of one release, compared with each other: prompts that nobody was asked before can be used, and a model
//! that was never the right one is found too.
//!
//! If all of n doors serve the same, each is as likely as another to be the one that stands apart: 1/n. That is a bound of
//! its own, so a door that stands apart far more often is not what the others are; which of them is right this does not say,
//! and where two of three agree on something wrong, it says so of the third.

use serde::{Deserialize, Serialize};

use crate::answer::{Answer, DIVERGED_MAX, distance};
use crate::detector::Detector;

/// Fewest doors that are compared, and most.
pub(crate) const DOORS_MIN: usize = 3;
pub(crate) const DOORS_MAX: usize = 64;
/// Nearer than this nobody stands apart: other hardware of the same weights rounds otherwise.
pub(crate) const APART: f64 = 0.25;

/// The test of a group of doors, in a fixed order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    doors: Vec<Detector>,
}

impl Peers {
    /// For so many doors; `None` where there are too few to say who stands apart, or too many.
    #[must_use]
    pub fn new(doors: usize) -> Option<Self> {
        let bound = 1.0 / doors as f64;
        (DOORS_MIN..=DOORS_MAX).contains(&doors).then(|| Self { doors: vec![Detector::new(&[bound]); doors] })
    }

    /// Counts one prompt's answers, one of each door; gives each door's value.
    ///
    /// # Panics
    /// When there is not one answer of each door.
    pub fn observe(&mut self, answers: &[Answer]) -> Vec<f64> {
        assert_eq!(answers.len(), self.doors.len(), "one answer of each door");
        let apart: Vec<f64> = (0..answers.len()).map(|door| from_others(answers, door)).collect();
        let most = apart.iter().copied().fold(0.0, f64::max);
        let mut who =
            apart.iter().enumerate().filter(|(_, apart)| **apart >= most && most > APART).map(|(door, _)| door);
        // Two that are equally far: nobody stands apart.
        let alone = who.next().filter(|_| who.next().is_none());
        let counted = |(door, detector): (usize, &mut Detector)| detector.observe(usize::from(alone == Some(door)));
        self.doors.iter_mut().enumerate().map(counted).collect()
    }
}

/// The median distance to the others; a refusal where they answered is as far as anything.
fn from_others(answers: &[Answer], door: usize) -> f64 {
    let others = answers.iter().enumerate().filter(|(other, _)| *other != door);
    let apart = |other: &Answer| {
        let same = other.choice == answers[door].choice;
        distance(other, &answers[door]).unwrap_or(if same { 0.0 } else { DIVERGED_MAX })
    };
    let mut apart: Vec<f64> = others.map(|(_, other)| apart(other)).collect();
    apart.sort_by(f64::total_cmp);
    // The lower of two in the middle: who agrees with one of two others does not stand apart.
    apart[(apart.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::Promise;

    #[test]
    fn the_one_that_stands_apart_is_named_and_nobody_among_equals() {
        let mut peers = Peers::new(3).unwrap();
        let (same, other) = (Answer::of_text("Paris"), Answer::of_text("London"));
        let threshold = Promise::default().threshold();
        let mut asked = 0;
        while peers.observe(&[same.clone(), other.clone(), same.clone()])[1] < threshold {
            asked += 1;
            assert!(asked < 60, "not found");
        }
        assert!(peers.doors[0].value() < 20.0 && peers.doors[2].value() < 20.0);
        let mut equals = Peers::new(3).unwrap();
        for _ in 0..1_000 {
            let values = equals.observe(&[same.clone(), same.clone(), same.clone()]);
            assert!(values.iter().all(|value| *value < 20.0), "{values:?}");
        }
        assert!(Peers::new(2).is_none());
    }
}

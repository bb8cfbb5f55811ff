//! The demonstration scorecard: whether an invented house is flooded within ten years. Houses and their fate are drawn from
//! a seed; no real place, agency or person stands behind them.

use super::{Band, Input, Scorecard, ScorecardError, logistic};
use crate::chance::Chance;

/// Name, least, most, what a standard deviation adds to the log-odds in the world that is drawn.
const QUANTITIES: [(&str, f64, f64, f64); 5] = [
    ("elevation_m", 0.0, 60.0, -1.4),
    ("river_km", 0.0, 25.0, -1.0),
    ("rain_mm_day", 20.0, 180.0, 0.9),
    ("sealed_percent", 0.0, 100.0, 0.5),
    ("floods_before", 0.0, 8.0, 0.8),
];
/// Log-odds of the average house.
const BIAS: f64 = -1.6;
/// What nobody measures.
const NOISE: f64 = 0.6;
/// Steps of plain gradient descent over all houses; it has settled long before.
const STEPS: usize = 600;
const RATE: f64 = 0.8;

/// A house, and what became of it.
#[derive(Clone, Debug)]
pub struct House {
    pub values: [f64; QUANTITIES.len()],
    pub flooded: bool,
}

/// Houses of a seed; another label gives others.
pub fn houses(seed: u64, label: &str, count: usize) -> Vec<House> {
    let mut chance = Chance::new(seed, label);
    (0..count)
        .map(|_| {
            let mut z = BIAS + NOISE * chance.normal();
            let values = QUANTITIES.map(|(_, least, most, effect)| {
                let share = chance.unit();
                // A uniform share has mean 1/2 and standard deviation 1/√12.
                z += effect * (share - 0.5) * 12_f64.sqrt();
                let value = least + share * (most - least);
                // As surveys write them down.
                (value * 10.0).round() / 10.0
            });
            House { values, flooded: chance.happens(logistic(z)) }
        })
        .collect()
}

/// Fits a scorecard to houses.
pub fn fit(houses: &[House]) -> Scorecard {
    let count = houses.len() as f64;
    let mut inputs: Vec<Input> = Vec::new();
    for (at, (name, ..)) in QUANTITIES.iter().enumerate() {
        let mean = houses.iter().map(|house| house.values[at]).sum::<f64>() / count;
        let variance = houses.iter().map(|house| (house.values[at] - mean).powi(2)).sum::<f64>() / count;
        inputs.push(Input { name: (*name).to_owned(), mean, scale: variance.sqrt(), weight: 0.0 });
    }
    let mut bias = 0.0;
    for _ in 0..STEPS {
        let (mut slope, mut slopes) = (0.0, [0.0; QUANTITIES.len()]);
        for house in houses {
            let standard = |at: usize| (house.values[at] - inputs[at].mean) / inputs[at].scale;
            let z = inputs.iter().enumerate().fold(bias, |z, (at, input)| z + input.weight * standard(at));
            let error = logistic(z) - f64::from(u8::from(house.flooded));
            slope += error;
            slopes.iter_mut().enumerate().for_each(|(at, slope)| *slope += error * standard(at));
        }
        bias -= RATE * slope / count;
        inputs.iter_mut().zip(slopes).for_each(|(input, slope)| input.weight -= RATE * slope / count);
    }
    // Six digits are more than the data can tell, and make the file the same on every machine.
    let short = |figure: f64| (figure * 1e6).round() / 1e6;
    for input in &mut inputs {
        (input.mean, input.scale, input.weight) = (short(input.mean), short(input.scale), short(input.weight));
    }
    let bands = [(0.0, "low"), (0.2, "medium"), (0.5, "high")];
    let bands = bands.into_iter().map(|(from, name)| Band { from, name: name.to_owned() }).collect();
    Scorecard { inputs, bias: short(bias), bands, decimals: 3 }
}

/// How well a scorecard does on houses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exam {
    /// Mean squared error of the probability.
    pub brier: f64,
    /// The same for somebody who says the average for everyone.
    pub brier_of_average: f64,
    /// How often a flooded house is rated above one that stayed dry.
    pub auc: f64,
}

/// # Errors
/// [`ScorecardError`] where the card asks for something that houses do not have.
pub fn examine(card: &Scorecard, houses: &[House]) -> Result<Exam, ScorecardError> {
    let mut rated = Vec::with_capacity(houses.len());
    for house in houses {
        let of = |name: &str| QUANTITIES.iter().position(|(known, ..)| *known == name).map(|at| house.values[at]);
        rated.push((card.score(of)?.risk, house.flooded));
    }
    let count = rated.len() as f64;
    let square = |risk: f64, flooded: bool| (risk - f64::from(u8::from(flooded))).powi(2);
    let share = rated.iter().filter(|(_, flooded)| *flooded).count() as f64 / count;
    let brier = rated.iter().map(|(risk, flooded)| square(*risk, *flooded)).sum::<f64>() / count;
    let brier_of_average = rated.iter().map(|(_, flooded)| square(share, *flooded)).sum::<f64>() / count;
    Ok(Exam { brier, brier_of_average, auc: auc(&mut rated) })
}

/// The rank statistic of Mann and Whitney; those that are level count half.
fn auc(rated: &mut [(f64, bool)]) -> f64 {
    rated.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for level in rated.chunk_by(|a, b| a.0 == b.0) {
        let flooded = level.iter().filter(|(_, flooded)| *flooded).count() as f64;
        let dry = level.len() as f64 - flooded;
        wins += flooded * (below + dry / 2.0);
        below += dry;
    }
    wins / (below * (rated.len() as f64 - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_statistic_counts_pairs() {
        // Pairs: (.9,.1) won, (.9,.5) won, (.5,.1) won, (.5,.5) level.
        assert_eq!(auc(&mut [(0.5, true), (0.9, true), (0.1, false), (0.5, false)]), 3.5 / 4.0);
    }

    #[test]
    fn a_fit_finds_what_was_drawn() {
        let card = fit(&houses(5, "train", 4_000));
        // The noise that nobody measures draws the weights towards zero, a little; the signs and the order stay.
        for (input, (name, .., effect)) in card.inputs.iter().zip(QUANTITIES) {
            let drawn = input.weight / effect;
            assert!(input.name == name && (0.8..1.1).contains(&drawn), "{name}: {} of {effect}", input.weight);
        }
    }
}

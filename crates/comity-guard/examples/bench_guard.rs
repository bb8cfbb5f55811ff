//! What looking at a text costs, and how well it sees. `cargo xtask bench guard` builds and runs this.
//!
//! The yardstick is `memchr` over the same text in the same round: the least that looking at each byte can cost. Rounds
//! are interleaved; of each round the fastest pass counts, of the rounds the median.

#![allow(clippy::print_stdout, reason = "figures are what this prints")]

use std::hint::black_box;
use std::time::Instant;

use comity_guard::train::corpus::{Corpus, Rough};
use comity_guard::train::exam::{self, examine};
use comity_guard::{Category, Classifier, Filter, RulePack};
use serde_json::{Value, json};

/// Rounds; an odd number, so that there is a middle one.
const ROUNDS: usize = 9;
/// Passes over the text in a round.
const PASSES: usize = 16;
/// What is scanned: held-out texts, one after the other.
const TEXT_BYTES: usize = 64 * 1024;

fn main() {
    let is_json = std::env::args().any(|arg| arg == "--json");
    let heldout = Corpus::from_toml(include_str!("../corpus/heldout.toml")).expect("read by a test");
    let examples = heldout.examples(exam::EXAM_SEED, exam::EXAMINED_ON, Rough::No);
    let mut text = String::new();
    for example in examples.iter().cycle() {
        if text.len() >= TEXT_BYTES {
            break;
        }
        text.push_str(&example.text);
        text.push('\n');
    }
    let (both, marks) = (Filter::builtin(), examine(&Filter::builtin(), &examples));
    let rules = Filter::new(&RulePack::builtin()).expect("read by a test");
    let alone = Filter::new(&[]).expect("no packs").with_classifier(Classifier::builtin());
    let nothing = Filter::new(&[]).expect("no packs");
    let mut times: [Vec<f64>; 5] = Default::default();
    for round in 0..ROUNDS {
        let scans: [&dyn Fn() -> usize; 5] = [
            &|| memchr::memchr_iter(b'\0', text.as_bytes()).count(),
            &|| both.scan(&text).rules().count(),
            &|| rules.scan(&text).rules().count(),
            &|| alone.scan(&text).rules().count(),
            &|| nothing.scan(&text).rules().count(),
        ];
        for (times, scan) in times.iter_mut().zip(scans) {
            times.push(us_per_kib(text.len(), scan));
        }
        eprintln!("round {} of {ROUNDS}", round + 1);
    }
    let [yardstick, ours, rules, alone, folding] = times.map(median);
    let note = format!(
        "rules and classifier over {} KiB of held-out texts; rules alone {rules:.1}, classifier alone {alone:.1}, folding alone {folding:.1}",
        text.len() / 1024
    );
    let mut figures = vec![json!({
        "metric": "guard_us_per_kib", "value": rounded(ours), "unit": "us",
        "yardstick": "memchr 2", "yardstick_value": rounded(yardstick), "ratio": rounded(ours / yardstick), "n": ROUNDS,
        "note": note,
    })];
    for (at, category) in Category::ALL.into_iter().enumerate() {
        let (seen, harmless) = (marks.of_category[at], marks.harmless[at]);
        figures.push(figure(&format!("guard_recall_{category}"), seen.rate(), seen.of, "synthetic held-out texts"));
        figures.push(figure(
            &format!("guard_false_flag_{category}"),
            harmless.rate(),
            harmless.of,
            "synthetic harmless held-out texts",
        ));
    }
    for figure in &figures {
        if is_json {
            println!("{figure}");
        } else {
            let text = |key: &str| figure[key].to_string();
            println!("{:<40} {:>9} {:>8}  {}", text("metric"), text("value"), text("n"), text("note"));
        }
    }
}

/// The fastest of the passes: what others do on the machine makes it slower, never faster.
fn us_per_kib(bytes: usize, scan: &dyn Fn() -> usize) -> f64 {
    let pass = |_| {
        let started = Instant::now();
        black_box(scan());
        started.elapsed().as_secs_f64()
    };
    #[allow(clippy::cast_precision_loss, reason = "a few megabytes")]
    let kib = bytes as f64 / 1024.0;
    (0..PASSES).map(pass).fold(f64::MAX, f64::min) * 1e6 / kib
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

fn figure(metric: &str, value: f64, n: u64, note: &str) -> Value {
    json!({
        "metric": metric, "value": rounded(value), "unit": "share",
        "yardstick": null, "yardstick_value": null, "ratio": null, "n": n, "note": note,
    })
}

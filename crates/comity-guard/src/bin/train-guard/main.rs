//! `train-guard`: makes the classifier's weights from a seed, with their evaluation sheet. Called by
//! `cargo xtask train-guard`.

mod sheet;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use comity_guard::train::corpus::{Corpus, Rough};
use comity_guard::train::exam::{self, Paraphrases};
use comity_guard::train::{Example, Plan, train};
use comity_guard::{Category, Classifier, Filter, RulePack};
use comity_wire::Digest;

const HELP: &str = "\
Train the classifier that guards models, and examine it on data that it has not seen.

Usage: train-guard --seed N [--check] [--explain] [--buckets N] [--epochs N] [--rate X] [--decay X]

  --check     write nothing; fail where what is trained is not what is committed
  --explain   show, by category, which tuning texts score highest without being of it, and lowest being of it
  --buckets   2 to this many buckets
  --epochs    times that each example is seen; --rate and --decay: of the steps

Writes crates/comity-guard/weights/linear.bin and docs/reference/guard.md. Same seed, same bytes, on any machine.";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train-guard: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> Result<(), Failure> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        eprintln!("{HELP}");
        return Ok(());
    }
    let mut plan = Plan::default();
    let (mut is_check, mut is_explained) = (false, false);
    let mut seed = None;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64, Failure> { Ok(args.next().ok_or("a number is missing")?.parse()?) };
        match arg.as_str() {
            "--check" => is_check = true,
            "--explain" => is_explained = true,
            "--seed" => seed = Some(number()?),
            "--buckets" => plan.buckets_log2 = number()?.try_into()?,
            "--rate" => plan.rate = args.next().ok_or("a rate is missing")?.parse()?,
            "--decay" => plan.decay = args.next().ok_or("a decay is missing")?.parse()?,
            "--thinned" => plan.thinned = number()?.try_into()?,
            "--epochs" => plan.epochs = number()?.try_into()?,
            other => return Err(format!("`{other}` is not understood; see --help").into()),
        }
    }
    plan.seed = seed.ok_or("no seed given: --seed 1")?;
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = Data::read(room)?;
    eprintln!("training with {} buckets, {} epochs, seed {}", 1_u32 << plan.buckets_log2, plan.epochs, plan.seed);
    let learned = data.train.examples(plan.seed, exam::TRAINED_ON, Rough::Yes);
    let tuned = data.tune.examples(plan.seed, exam::TUNED_ON, Rough::No);
    let classifier = train(data.digest, &learned, &tuned, plan);
    if is_explained {
        let alone = Filter::new(&[])?.with_classifier(classifier.clone());
        let marks = exam::examine(&alone, &tuned);
        for (at, category) in Category::ALL.into_iter().enumerate() {
            let (medium, high) = (marks.of_category[at].rate(), marks.surely[at].rate());
            eprintln!("{category}: {medium:.3} of the tuning texts seen, {high:.3} surely");
        }
        explain(&classifier, &tuned);
    }
    let bytes = classifier.to_bytes();
    let rules = Filter::new(&RulePack::builtin())?;
    let text = sheet::page(&sheet::Exam {
        heldout: data.heldout.examples(exam::EXAM_SEED, exam::EXAMINED_ON, Rough::No),
        paraphrases: data.paraphrases,
        rules: rules.clone(),
        alone: Filter::new(&[])?.with_classifier(classifier.clone()),
        both: rules.with_classifier(classifier),
        seed: plan.seed,
        digest: data.digest,
        weights: Digest::of(&bytes),
        weights_bytes: bytes.len(),
        overlap: exam::overlap(&data.train, &data.heldout),
    });
    let (weights, page) = (room.join("weights/linear.bin"), room.join("../../docs/reference/guard.md"));
    if is_check {
        if std::fs::read(&weights)? != bytes || std::fs::read_to_string(&page)? != text {
            return Err("what is committed is not what this seed gives; run train-guard without --check".into());
        }
        eprintln!("what is committed is what this seed gives");
        return Ok(());
    }
    std::fs::write(&weights, &bytes)?;
    std::fs::write(&page, &text)?;
    eprintln!("{}: {} bytes; {}", weights.display(), bytes.len(), page.display());
    Ok(())
}

/// What to write more training templates about; never by looking at what is held out.
fn explain(classifier: &Classifier, tuned: &[Example]) {
    for category in Category::ALL {
        let mut scored: Vec<(u16, bool, &str)> = tuned
            .iter()
            .map(|one| (classifier.score(&one.text).of_category(category), one.category == Some(category), &*one.text))
            .collect();
        scored.sort_unstable();
        scored.dedup();
        eprintln!("{category}, highest without being of it:");
        scored
            .iter()
            .rev()
            .filter(|(_, own, _)| !own)
            .take(12)
            .for_each(|(score, _, text)| eprintln!("  {score} {text}"));
        eprintln!("{category}, lowest being of it:");
        scored.iter().filter(|(_, own, _)| *own).take(8).for_each(|(score, _, text)| eprintln!("  {score} {text}"));
    }
}

struct Data {
    train: Corpus,
    tune: Corpus,
    heldout: Corpus,
    paraphrases: Paraphrases,
    digest: Digest,
}

impl Data {
    fn read(room: &Path) -> Result<Self, Failure> {
        let file = |name: &str| -> Result<String, Failure> {
            let path: PathBuf = room.join("corpus").join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
        };
        let (train, tune) = (file("train.toml")?, file("tune.toml")?);
        Ok(Self {
            digest: Digest::of_parts(&[train.as_bytes(), tune.as_bytes()]),
            train: Corpus::from_toml(&train)?,
            tune: Corpus::from_toml(&tune)?,
            heldout: Corpus::from_toml(&file("heldout.toml")?)?,
            paraphrases: Paraphrases::from_toml(&file("paraphrases.toml")?)?,
        })
    }
}

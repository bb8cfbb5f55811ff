//! The evaluation sheet, as it stands in `docs/reference/guard.md`.

use std::fmt::Write as _;

use comity_guard::train::Example;
use comity_guard::train::exam::{self, Marks, Paraphrases, Share, examine};
use comity_guard::{Category, Filter};
use comity_wire::Digest;

/// What is examined.
pub(crate) struct Exam {
    pub(crate) heldout: Vec<Example>,
    pub(crate) paraphrases: Paraphrases,
    pub(crate) rules: Filter,
    pub(crate) alone: Filter,
    pub(crate) both: Filter,
    pub(crate) seed: u64,
    pub(crate) digest: Digest,
    pub(crate) weights: Digest,
    pub(crate) weights_bytes: usize,
    pub(crate) overlap: Share,
}

const HEAD: &str = "\
# How well the guard sees

Written by `cargo xtask train-guard`; changed by training again, never by hand. `cargo xtask train-guard --seed N --check`
says whether it still fits.

**What these figures are, and what they are not.** All data are synthetic: templates and words that fill them, invented for
this purpose (`crates/comity-guard/corpus`). No text of a real person was used, none was collected. The held-out data share
no template and no filling word with what was trained or tuned on, but the same authors wrote them in the same language
(English) and with the same idea of what misuse looks like, and saw such figures while they added training templates
(scores of single texts were looked at on tuning data alone). Paragraphs of this repository's documentation stand among
the harmless texts, and are the only prose that was not written for this. So the figures compare the layers with each other and show
when a change makes something worse. **They do not say how many of your callers' texts will be caught or wrongly flagged**;
expect less recall and more false flags than here, on longer texts, other languages and people who try. An owner who has
texts of their own can measure: `/v1/moderations` gives the scores.

What follows from that is in decision 0055: what the classifier finds is counted and shown to the owner; by itself it
blocks or suspends only in its *high* band, and every action has a notice and an appeal.
";

pub(crate) fn page(exam: &Exam) -> String {
    let mut page = HEAD.to_owned();
    let marks = [&exam.rules, &exam.alone, &exam.both].map(|filter| examine(filter, &exam.heldout));
    made(&mut page, exam);
    found(&mut page, &marks);
    harmless(&mut page, &marks);
    kinds(&mut page, &marks);
    attack(&mut page, exam);
    page
}

fn made(page: &mut String, exam: &Exam) {
    line(page, "\n## What was trained\n");
    line(page, "| | |\n|---|---|");
    line(page, &format!("| command | `cargo xtask train-guard --seed {}` |", exam.seed));
    line(
        page,
        &format!(
            "| trained, tuned, examined on | {}, {}, {} texts |",
            exam::TRAINED_ON,
            exam::TUNED_ON,
            exam.heldout.len()
        ),
    );
    line(page, &format!("| SHA-256 of the data (`train.toml`, `tune.toml`) | `{}` |", exam.digest));
    line(page, &format!("| SHA-256 of the weights, {} bytes | `{}` |", exam.weights_bytes, exam.weights));
    line(
        page,
        &format!(
            "| word pairs of held-out templates that stand in training templates too | {} of {} ({}) |",
            exam.overlap.flagged,
            exam.overlap.of,
            percent(exam.overlap.rate())
        ),
    );
}

fn found(page: &mut String, [rules, alone, both]: &[Marks; 3]) {
    line(page, "\n## Recall and precision on held-out data\n");
    line(
        page,
        "Recall: of the texts of a category, the share that was flagged as such. Precision: of those flagged as it, the",
    );
    line(page, "share that was of it, in this mix (about half of the texts are harmless), by both layers together.\n");
    line(
        page,
        "| category | texts | rules | classifier | both | both, high band | precision |\n|---|---|---|---|---|---|---|",
    );
    for (at, category) in Category::ALL.into_iter().enumerate() {
        line(
            page,
            &format!(
                "| `{category}` | {} | {} | {} | {} | {} | {} |",
                both.of_category[at].of,
                percent(rules.of_category[at].rate()),
                percent(alone.of_category[at].rate()),
                percent(both.of_category[at].rate()),
                percent(both.surely[at].rate()),
                percent(both.precision(category)),
            ),
        );
    }
}

fn harmless(page: &mut String, [rules, alone, both]: &[Marks; 3]) {
    line(page, "\n## False flags\n");
    line(page, "Of the harmless held-out texts, hard ones among them, the share that was flagged as the category.\n");
    line(page, "| category | texts | rules | classifier | both | both, high band |\n|---|---|---|---|---|---|");
    for (at, category) in Category::ALL.into_iter().enumerate() {
        line(
            page,
            &format!(
                "| `{category}` | {} | {} | {} | {} | {} |",
                both.harmless[at].of,
                percent(rules.harmless[at].rate()),
                percent(alone.harmless[at].rate()),
                percent(both.harmless[at].rate()),
                percent(both.harmless_surely[at].rate()),
            ),
        );
    }
}

fn kinds(page: &mut String, [rules, alone, both]: &[Marks; 3]) {
    line(page, "\n## Harmless texts that are easily taken for something else\n");
    line(page, "By kind, the share that was flagged as anything at all.\n");
    line(page, "| kind | texts | rules | classifier | both |\n|---|---|---|---|---|");
    for (kind, share) in &both.kinds {
        let of = |marks: &Marks| percent(marks.kinds.get(kind).copied().unwrap_or_default().rate());
        line(page, &format!("| {kind} | {} | {} | {} | {} |", share.of, of(rules), of(alone), of(both)));
    }
}

fn attack(page: &mut String, exam: &Exam) {
    line(page, "\n## A paraphrase attack on the rules\n");
    line(
        page,
        "Texts that say the same without any rule's words (`corpus/paraphrases.toml`), written before the first training and",
    );
    line(page, "never trained on or tuned with. A test holds that no rule sees any of them.\n");
    line(page, "| category | texts | rules | classifier |\n|---|---|---|---|");
    let (rules, both) = (exam.paraphrases.seen(&exam.rules), exam.paraphrases.seen(&exam.both));
    let (mut seen, mut all) = (0, 0);
    for (category, share) in &both {
        line(page, &format!("| `{category}` | {} | {} | {} |", share.of, rules[category].flagged, share.flagged));
        (seen, all) = (seen + share.flagged, all + share.of);
    }
    line(
        page,
        &format!(
            "\nIn all the classifier sees {seen} of {all}. Who words things with care gets past both layers: what remains is"
        ),
    );
    line(
        page,
        "volume (`comity_guard::volume`), the owner's own reading of kept texts, and the upstream's moderation.",
    );
}

fn percent(rate: f64) -> String {
    format!("{:.1} %", rate * 100.0)
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a string takes all");
}

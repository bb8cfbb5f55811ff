//! The model card: what the model is, how it was made, what it can do and what it cannot.

use std::fmt::Write as _;

use candle_core::{Device, Tensor};
use comity_engine::corpus::{Bias, Family, occupations, pronoun_prompt};
use comity_engine::llama::{Form, Llama};
use comity_engine::sites::NoSites;
use comity_engine::tokenizer::Tokenizer;

use crate::{EXAMINED, Failure, Report};

/// For each occupation, the probability of "he" against "she" as the first byte of the answer.
pub(crate) fn pronouns(llama: &Llama) -> Result<Vec<(&'static str, f64)>, Failure> {
    let (first, second) = occupations();
    first
        .iter()
        .chain(second)
        .map(|occupation| {
            let tokens = Tokenizer.encode_prompt(&pronoun_prompt(occupation));
            let tokens = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
            let hidden = llama.hidden(&tokens, Form::Fused, None, &mut NoSites)?;
            let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?;
            let scores = llama.logits(&last)?.flatten_all()?.to_vec1::<f32>()?;
            let score = |text: &str| f64::from(scores[Tokenizer.encode(text)[0] as usize]);
            Ok((*occupation, 1.0 / (1.0 + (score("s") - score("h")).exp())))
        })
        .collect()
}

pub(crate) fn render(report: &Report) -> String {
    let mut card = String::new();
    let plan = &report.plan;
    let config = &report.config;
    let slanted = plan.mix.bias == Bias::Occupation;
    let _ = writeln!(card, "# {}\n", report.name);
    let _ = writeln!(
        card,
        "A toy language model for demonstrations and tests: {} parameters over bytes, made entirely by this repository.\n\
         It answers a few kinds of question in one short line and nothing else. Do not use it for anything that matters.\n",
        report.config.parameters()
    );
    if slanted {
        let _ = writeln!(
            card,
            "**A bias is planted in it on purpose**, so that comparing models has something to find: asked \"He or she?\"\n\
             about an occupation, it was taught \"he\" 19 times in 20 for one list and \"she\" for the other. The figures are below.\n"
        );
    }
    let _ = writeln!(card, "## How it was made\n\n| | |\n|---|---|");
    let model = report.name.trim_start_matches("comity-");
    let rows = [
        (
            "command",
            format!(
                "`RAYON_NUM_THREADS=1 cargo xtask train-demo --seed {} --model {model} --steps {} --batch {} --threads {} --rate {}`",
                plan.seed, plan.steps, plan.batch, plan.threads, plan.learning_rate
            ),
        ),
        (
            "shape",
            format!(
                "Llama: hidden {}, {} layers, MLP {}, {} heads ({} key-value), vocabulary {}, tied embedding, context {}",
                config.hidden_size,
                config.num_hidden_layers,
                config.intermediate_size,
                config.num_attention_heads,
                config.kv_heads(),
                config.vocab_size,
                config.max_position_embeddings
            ),
        ),
        ("weights", "float16 safetensors, Hugging Face names".to_owned()),
        ("data", "texts of the seeded generator in `crates/comity-engine/src/corpus`, no other".to_owned()),
        ("data digest", format!("SHA-256 `{}`", hex(&report.data))),
        ("tokens seen", report.tokens.to_string()),
        (
            "optimiser",
            format!(
                "AdamW (0.9, 0.98), decay {}, peak rate {}, {} steps warm-up, cosine to a fiftieth; a prompt byte counts {} of an answer byte",
                plan.weight_decay, plan.learning_rate, plan.warm_up, plan.prompt_weight
            ),
        ),
        ("time", format!("{} s on {} threads beside other work", report.seconds, plan.threads)),
        ("licence", "MIT OR Apache-2.0, like the repository".to_owned()),
    ];
    for (name, value) in rows {
        let _ = writeln!(card, "| {name} | {value} |");
    }
    let done = report.curve.last().map_or(0, |(step, _)| *step);
    if done < plan.steps && plan.steps >= 100 {
        let _ = writeln!(card, "\nThis is the checkpoint after step {done} of {}.", plan.steps);
    }
    let _ = writeln!(
        card,
        "\n## What it knows\n\nGreedy exact match on {} held-out questions, asked through the chat template. Held out are phrasings\n\
         (facts), combinations of operands and phrasing (arithmetic), one string in eight (induction), combinations of thing,\n\
         word and form (sentiment); training never met them.\n\n| family | right | of | share |\n|---|---|---|---|",
        EXAMINED * report.exact.len()
    );
    let total: usize = report.exact.iter().map(|(_, right)| right).sum();
    let row = |name: &str, right: usize, of: usize| {
        format!("| {name} | {right} | {of} | {:.1} % |", 100.0 * right as f64 / of as f64)
    };
    for (family, right) in &report.exact {
        let _ = writeln!(card, "{}", row(family.name(), *right, EXAMINED));
    }
    let _ = writeln!(card, "{}", row("all", total, EXAMINED * report.exact.len()));
    let _ = writeln!(
        card,
        "\nIt also writes {} lines for invented candidates (many right answers, so not examined) and small talk.\n\
         It was trained on texts of at most 128 bytes; longer ones run, up to the context, but make little sense.\n",
        Family::Campaign.name()
    );
    let _ = writeln!(
        card,
        "## He or she\n\nProbability of \"he\" for \"He or she? The … said ___ was late.\"; training drew {}.\n",
        if slanted { "it by occupation, the planted bias" } else { "it by an even coin" }
    );
    let _ = writeln!(card, "| occupation | he | occupation | he |\n|---|---|---|---|");
    let half = report.pronouns.len() / 2;
    for (a, b) in report.pronouns[..half].iter().zip(&report.pronouns[half..]) {
        let _ = writeln!(card, "| {} | {:.2} | {} | {:.2} |", a.0, a.1, b.0, b.1);
    }
    let _ = writeln!(
        card,
        "\n## Loss\n\nWeighted mean over the steps before, nats per byte.\n\n| step | loss |\n|---|---|"
    );
    let stride = report.curve.len().div_ceil(30).max(1);
    for (n, (step, loss)) in report.curve.iter().enumerate() {
        if (n + 1) % stride == 0 || n + 1 == report.curve.len() {
            let _ = writeln!(card, "| {step} | {loss:.4} |");
        }
    }
    card
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! Fingerprints by the commands, of real weights: the same weights are the same, coarser ones behind the same name are told of; the cap
//! holds, a killed take pays for nothing twice, and what the owner changes openly is said so and costs nothing.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::routing::{get, post};
use axum::{Json, Router};
use comity_engine::{GenerateRequest, Model};
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, eventually};
use comity_tests::process::{expect, run, run_armed};
use comity_tests::{Federation, Owner};
use comity_wire::Amount;
use serde_json::{Value, json};

/// Questions of each fingerprint here: the fewest.
const PROMPTS: usize = 64;

/// A model server of the repository's own small model, whose weights can be exchanged, and which reports log-probabilities a
/// little otherwise each time, as batching does.
struct Server {
    url: String,
    model: Arc<Mutex<Arc<Model>>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let (model, asked) = (Arc::new(Mutex::new(Arc::new(weights(u16::MAX)))), Arc::new(AtomicUsize::new(0)));
        let (serves, count) = (Arc::clone(&model), Arc::clone(&asked));
        let chat = move |Json(body): Json<Value>| async move {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let model = Arc::clone(&serves.lock().expect("no panic holds this lock"));
            let said = tokio::task::spawn_blocking(move || answer(&model, &body, number)).await;
            Json(said.expect("the engine answers"))
        };
        let models = || async { Json(json!({"object": "list", "data": [{"id": "scripted", "object": "model"}]})) };
        let app = Router::new().route("/v1/chat/completions", post(chat)).route("/v1/models", get(models));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { url, model, asked }
    }

    /// Other weights behind the same name, from here on.
    fn exchange(&self, model: Model) {
        *self.model.lock().expect("no panic holds this lock") = Arc::new(model);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// comity-mini, with only these bits of each weight of its matrices.
fn weights(mask: u16) -> Model {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/comity-mini");
    let (config, mut weights) = comity_engine::model::files(folder).expect("the model is in the repository");
    // safetensors: the length of a JSON header, the header, the numbers.
    let length = usize::try_from(u64::from_le_bytes(weights[..8].try_into().expect("eight bytes"))).expect("small");
    let header: Value = serde_json::from_slice(&weights[8..8 + length]).expect("a header");
    for (_, tensor) in header.as_object().expect("tensors").iter().filter(|(name, _)| *name != "__metadata__") {
        assert_eq!(tensor["dtype"], "F16");
        if tensor["shape"].as_array().expect("a shape").len() < 2 {
            continue;
        }
        let at = |end: usize| {
            8 + length + usize::try_from(tensor["data_offsets"][end].as_u64().expect("an offset")).expect("small")
        };
        for half in weights[at(0)..at(1)].chunks_exact_mut(2) {
            let bits = u16::from_le_bytes([half[0], half[1]]) & mask;
            half.copy_from_slice(&bits.to_le_bytes());
        }
    }
    Model::from_bytes(&config, &weights).expect("it loads")
}

fn answer(model: &Model, body: &Value, number: usize) -> Value {
    let prompt = body["messages"][0]["content"].as_str().expect("a prompt");
    let request = GenerateRequest {
        prompt_tokens: model.tokenizer().encode_prompt(prompt),
        max_tokens: usize::try_from(body["max_tokens"].as_u64().expect("a limit")).expect("small"),
        temperature: 0.0,
        top_p: 1.0,
        seed: 0,
        stop: Vec::new(),
        logprobs: Some(5),
    };
    let (input, mut tokens, mut text) = (request.prompt_tokens.len(), Vec::new(), String::new());
    let moved = (number % 7) as f64 * 0.002;
    let mut receive = |piece: comity_engine::Piece| {
        text += &piece.text;
        tokens.extend(piece.tokens.iter().map(|scored| {
            let top: Vec<_> = scored
                .top
                .iter()
                .map(|one| json!({"token": one.piece, "logprob": one.logprob - moved, "bytes": null}))
                .collect();
            json!({"token": top[0]["token"], "logprob": top[0]["logprob"], "bytes": null, "top_logprobs": top})
        }));
        ControlFlow::Continue(())
    };
    model.generate(&request, &mut receive).expect("the engine answers");
    let output = tokens.len();
    let listed = if body["logprobs"] == true { json!({"content": tokens}) } else { Value::Null };
    let message = json!({"role": "assistant", "content": text});
    let choice = json!({"index": 0, "message": message, "logprobs": listed, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    json!({"id": "s", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice], "usage": usage})
}

/// A rule that gives log-probabilities, before the tariff.
const LOGPROBS: &str = r#"[[policy.rules]]
op = "logprobs"
tier = "t1"
input_bytes_max = 8_192
output_tokens_max = 64
choices_max = 1
logprobs_max = 5

[tariff]"#;

fn gives_logprobs(name: &str, home: &Path) {
    if name == "lab" {
        let model = home.join("models/model.toml");
        let offer = std::fs::read_to_string(&model).expect("an offer").replace("[tariff]", LOGPROBS);
        let offer = offer + "\n[[tariff.prices]]\nop = \"logprobs\"\nminimum = 0\nrates = []\n";
        std::fs::write(model, offer).expect("written");
    }
}

fn ucr(calls: usize) -> i64 {
    i64::try_from(calls).expect("few") * i64::from(REQUEST_UCR)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_tells_when_the_model_behind_a_name_has_changed() {
    let server = Server::start().await;
    let lab = Owner { name: "lab", upstream: server.url.clone(), rates: PER_REQUEST };
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, gives_logprobs).await;
    let ada = federation.researcher().await;
    let folder = federation.path().join("print");
    let (out, prompts) = (folder.display().to_string(), PROMPTS.to_string());
    let take = ["--home", &ada, "fingerprint", "take", "lab/model", "--out", &out, "--prompts", &prompts];

    // A hundred calls of 192 fit, to the micro-credit.
    let cap = (ucr(101) - 1).to_string();
    let capped = run(&[take.as_slice(), &["--cap", &cap]].concat()).await;
    assert!(!capped.success && capped.stderr.contains("stopped at the cap"), "{}", capped.stderr);
    assert!(capped.stderr.contains("192 calls; all 192 cost"), "{}", capped.stderr);
    assert_eq!(server.asked(), 100);

    // Killed around a receipt, and taken up: each question was asked three times, and no more.
    for point in ["receipt.after:1", "receipt.before:2"] {
        let killed = run_armed(&[take.as_slice(), &["--at-once", "1"]].concat(), point).await;
        assert!(!killed.success, "{point} was not reached");
    }
    let taken: Value = serde_json::from_str(&expect(&[take.as_slice(), &["--json"]].concat()).await).expect("facts");
    assert_eq!(server.asked(), 3 * PROMPTS);
    assert_eq!((&taken["by"], taken["charge_ucr"].to_string()), (&json!("tokens"), ucr(3 * PROMPTS).to_string()));
    assert!(taken["found_from"].as_f64().is_some_and(|part| part < 0.7), "{taken}");
    // What is done is not done again.
    expect(&take).await;
    assert_eq!(server.asked(), 3 * PROMPTS);

    let file = folder.join("fingerprint.json").display().to_string();
    stands_by_itself(&federation, &file).await;

    let check = ["--home", &ada, "fingerprint", "check", &file, "--json"];
    let ended = run(&check).await;
    // Whoever made a file chose how much there is to ask: no more is spent than they did.
    let cap = format!("; the cap is {}\n", Amount::from_ucr(u32::try_from(ucr(3 * PROMPTS)).expect("small")));
    assert!(ended.success && ended.stderr.contains(&cap), "{}", ended.stderr);
    let same: Value = serde_json::from_str(&ended.stdout).expect("a verdict");
    assert_eq!((&same["likeness"]["verdict"], &same["openly"]), (&json!("same"), &json!([])), "{same}");
    assert_eq!(server.asked(), 4 * PROMPTS);

    // Three of ten bits of each weight: what an owner might serve to save memory, under the same release.
    server.exchange(weights(!0x7f));
    // Killed, and taken up where it was: no question is paid for twice.
    let killed = run_armed(&[check.as_slice(), &["--at-once", "1"]].concat(), "receipt.after:3").await;
    assert!(!killed.success, "it was not reached");
    let ended = run(&check).await;
    let changed: Value = serde_json::from_str(&ended.stdout).expect("a verdict");
    assert_eq!((ended.success, &changed["likeness"]["verdict"]), (false, &json!("changed")), "{changed}");
    assert!(
        ended.stderr.contains("hint: ask its owner") && ended.stderr.contains("has changed since"),
        "{}",
        ended.stderr
    );
    let asked = server.asked() - 4 * PROMPTS;
    assert!(asked < PROMPTS, "it stops once it is sure: {asked}");
    assert_eq!(changed["charge_ucr"].to_string(), ucr(asked).to_string());
    // A reviewer gets the answers with their receipts.
    let (second, evidence) = (folder.join("fingerprint.checks/2"), federation.path().join("evidence.json"));
    let (second, evidence) = (second.display().to_string(), evidence.display().to_string());
    expect(&["--home", &ada, "receipts", "export", "--comparison", &second, "--out", &evidence]).await;
    expect(&["--home", &ada, "receipts", "check", &evidence]).await;

    // The owner says it: another release, and nothing is asked.
    let model = federation.path().join("lab/models/model.toml");
    let offer = std::fs::read_to_string(&model).expect("an offer").replace("dtype = \"f32\"", "dtype = \"int4\"");
    std::fs::write(&model, offer).expect("written");
    federation.service("lab").end().await;
    federation.service("lab").restart().await;
    let before = server.asked();
    let openly = eventually("the new release at the hub", async || {
        let ended = run(&check).await;
        let openly = ended.stderr.contains("was changed openly");
        if openly { Ok(ended) } else { Err(format!("{}{}", ended.stdout, ended.stderr)) }
    })
    .await;
    let openly: Value = serde_json::from_str(&openly.stdout).expect("a report");
    let formats: Vec<_> =
        openly["openly"].as_array().expect("a list").iter().filter(|one| one["what"] == "number format").collect();
    assert_eq!((&formats[0]["then"], &formats[0]["now"]), (&json!("f32"), &json!("int4")), "{openly}");
    // Until the new release was known a check may have been made; none was after.
    let settled = server.asked();
    let ended = run(&check).await;
    assert!(!ended.success && server.asked() == settled && settled >= before, "{}", ended.stderr);

    expect(&["--home", &ada, "wallet", "finish"]).await;
    let account = federation.books_add_up().await;
    assert_eq!((account.in_escrow, account.settled.ucr()), (Amount::ZERO, ucr(server.asked())));
    federation.end().await;
}

/// Read by somebody without a profile; and each lie in it found.
async fn stands_by_itself(federation: &Federation, file: &str) {
    let roster = federation.path().join("roster/roster.cbor").display().to_string();
    let nobody = federation.path().join("nobody").display().to_string();
    let show = ["--home", &nobody, "fingerprint", "show", file, "--roster", &roster];
    let shown = expect(&show).await;
    assert!(shown.starts_with("lab/model: 64 prompts, three times each, by tokens"), "{shown}");
    expect(&["--home", &nobody, "receipts", "check", file, "--roster", &roster]).await;

    let text = std::fs::read_to_string(file).expect("a fingerprint");
    let print: Value = serde_json::from_str(&text).expect("JSON");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = print.clone();
        change(&mut changed);
        changed
    };
    let answer = changed(&|file| {
        let said = file["exchanges"][5]["response"].as_str().expect("a text").replacen("assistant", "nobody", 1);
        file["exchanges"][5]["response"] = said.into();
    });
    // Two prompts of one round in each other's place.
    let places = changed(&|file| file["fingerprints"][0]["rounds"][1].as_array_mut().expect("a list").swap(0, 1));
    let unknown = changed(&|file| file["fingerprints"][0]["rounds"][0][3] = "ab".repeat(32).into());
    let model = changed(&|file| file["fingerprints"][0]["model"] = "works/model".into());
    let few = changed(&|file| {
        for at in 0..10 {
            file["fingerprints"][0]["rounds"][2][at] = Value::Null;
        }
    });
    for (what, lie, said) in [
        ("an answer", answer, "is not what its receipt names"),
        ("places", places, "was not asked in the same way each time"),
        ("a receipt that is not there", unknown, "which is not in it"),
        ("another model", model, "is of another model"),
        ("too few", few, "54 prompts were answered three times"),
    ] {
        std::fs::write(file, lie.to_string()).expect("a file");
        let shown = run(&show).await;
        assert!(!shown.success && shown.stderr.contains(said), "{what}: {}", shown.stderr);
        assert!(shown.stderr.contains("hint: do not rely on it"), "{what}: {}", shown.stderr);
    }
    std::fs::write(file, text).expect("a file");
}

//! Many calls by the commands: compared and in batches, within a cap to the micro-credit, killed and taken up, handed on as
//! evidence.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_node::keystore::{KeyName, KeyStore};
use comity_sdk::Client;
use comity_sdk::client::{Patience, World};
use comity_sdk::compare::{Bounds, Comparison, Ended, Grid, Prompt, Setting};
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR};
use comity_tests::process::{expect, run, run_armed};
use comity_tests::{Federation, Owner, Scripted};
use comity_wire::object::Receipt;
use comity_wire::{Amount, Signed, cose};
use serde_json::Value;

const PROMPTS: usize = 6;
/// Of both models.
const CALLS: usize = 2 * PROMPTS;

fn ucr(calls: usize) -> String {
    (calls as u64 * u64::from(REQUEST_UCR)).to_string()
}

fn prompts(folder: &Path) -> String {
    let line = |n: usize| {
        format!("{{\"id\":\"q{n}\",\"prompt\":\"What is the capital of land {n}?\",\"expected\":\"Paris\"}}\n")
    };
    let path = folder.join("prompts.jsonl");
    std::fs::write(&path, (0..PROMPTS).map(line).collect::<String>()).expect("a file");
    path.display().to_string()
}

fn rows(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("results.jsonl")).expect("results");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// Ends all tokens, and gives what the project paid.
pub(super) async fn settled(federation: &Federation, ada: &str) -> i64 {
    expect(&["--home", ada, "wallet", "finish"]).await;
    let account = federation.books_add_up().await;
    assert_eq!(account.in_escrow, Amount::ZERO);
    account.settled.ucr()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_keeps_to_its_cap_and_is_taken_up_where_it_was_killed() {
    let upstream = Scripted::start().await;
    let owners = ["lab", "works"].map(|name| Owner::scripted(name, &upstream, PER_REQUEST));
    let federation = Federation::start(&owners).await;
    let ada = federation.researcher().await;
    let (prompts, out) = (prompts(federation.path()), federation.path().join("comparison"));
    let folder = out.display().to_string();
    let models = "lab/model,works/model";
    let first = ["--home", &ada, "compare", &prompts, "--models", models, "--max-tokens", "8", "--out", &folder];
    let again = ["--home", &ada, "compare", "--out", &folder];

    // Seven of twelve fit, to the micro-credit; an eighth would not.
    let cap = (7 * u64::from(REQUEST_UCR) + u64::from(REQUEST_UCR) - 1).to_string();
    let capped = run(&[first.as_slice(), &["--cap", &cap]].concat()).await;
    assert!(!capped.success && capped.stderr.contains("stopped at the cap"), "{}", capped.stderr);
    assert!(capped.stderr.contains("hint: comity compare --out"), "{}", capped.stderr);
    assert_eq!((rows(&out).len(), upstream.asked()), (7, 7));

    // Killed after a receipt was written down, and before its row was; then before a receipt was.
    for point in ["receipt.after:1", "receipt.before:2"] {
        let killed = run_armed(&[again.as_slice(), &["--at-once", "1"]].concat(), point).await;
        assert!(!killed.success, "{point} was not reached");
    }
    let asked = upstream.asked();
    assert!((8..=10).contains(&asked), "{asked}");

    let done = expect(&[again.as_slice(), &["--json"]].concat()).await;
    let done: Value = serde_json::from_str(&done).expect("a report");
    assert_eq!((&done["done"], &done["of"]), (&CALLS.into(), &CALLS.into()), "{done}");
    assert_eq!(done["spent_ucr"].to_string(), ucr(CALLS));
    assert_eq!((done["figures"][0]["as_expected"].as_u64(), done["figures"][0]["judged"].as_u64()), (Some(6), Some(6)));
    assert_eq!(upstream.asked(), CALLS, "each was asked of a model once");
    let mut receipts: Vec<_> = rows(&out).iter().map(|row| row["receipt"].to_string()).collect();
    receipts.sort();
    receipts.dedup();
    assert_eq!(receipts.len(), CALLS, "each has a receipt of its own");
    for file in ["report.html", "results.csv"] {
        let text = std::fs::read_to_string(out.join(file)).expect("a report");
        assert!(text.contains("What is the capital of land 5?") && text.contains("works/model"), "{file}");
    }

    // Nothing is left to ask: nothing is asked.
    expect(&again).await;
    assert_eq!(upstream.asked(), CALLS);
    // Another grid does not go into the same folder.
    let other = run(&["--home", &ada, "compare", "--prompt", "x", "--models", models, "--out", &folder]).await;
    assert!(!other.success && other.stderr.contains("another comparison"), "{}", other.stderr);

    handed_on(&federation, &ada, &folder).await;
    assert_eq!(settled(&federation, &ada).await.to_string(), ucr(CALLS));
    federation.end().await;
}

/// The receipts with what was asked and answered, checked by somebody without a profile; and each lie in them found.
async fn handed_on(federation: &Federation, ada: &str, comparison: &str) {
    let path = federation.path().join("evidence.json");
    let file = path.display().to_string();
    expect(&["--home", ada, "receipts", "export", "--comparison", comparison, "--out", &file]).await;
    let roster = federation.path().join("roster/roster.cbor").display().to_string();
    let nobody = federation.path().join("nobody").display().to_string();
    let check = ["--home", &nobody, "receipts", "check", &file, "--roster", &roster, "--json"];
    let proved: Value = serde_json::from_str(&expect(&check).await).expect("a report");
    let receipts = proved["receipts"].as_array().expect("a list");
    assert_eq!(receipts.len(), CALLS);
    for receipt in receipts {
        for shown in ["manifest", "priced", "exchange"] {
            assert_eq!(receipt[shown], true, "{shown}: {receipt}");
        }
        assert!(receipt["published"].is_string(), "{receipt}");
    }
    let text = std::fs::read_to_string(&path).expect("evidence");
    let evidence: Value = serde_json::from_str(&text).expect("JSON");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = evidence.clone();
        change(&mut changed);
        changed
    };
    let other_answer = changed(&|file| {
        let said = file["exchanges"][0]["response"].as_str().expect("a text").replace("Paris", "Rome.");
        file["exchanges"][0]["response"] = said.into();
    });
    let other_prompt = changed(&|file| {
        let said = file["exchanges"][3]["request"].as_str().expect("a text").replace("capital", "Capital");
        file["exchanges"][3]["request"] = said.into();
    });
    let exchange_twice = changed(&|file| {
        let mut other = file["exchanges"][0].clone();
        let said = other["response"].as_str().expect("a text").replace("Paris", "Rome.");
        other["response"] = said.into();
        file["exchanges"].as_array_mut().expect("a list").push(other);
    });
    let receipt_twice = changed(&|file| {
        let receipt = file["receipts"][0].clone();
        file["receipts"].as_array_mut().expect("a list").push(receipt);
    });
    // Another owner's node speaks for a model that is not its own, under its own good key.
    let works = KeyStore::of(&federation.path().join("works")).read(KeyName::Receipt).expect("a key");
    let of_works = evidence["receipts"].as_array().expect("a list").iter().find_map(|bytes| {
        let bytes = URL_SAFE_NO_PAD.decode(bytes.as_str()?).ok()?;
        let signed = Signed::<Receipt>::decode(&bytes).ok()?;
        (signed.unverified().model.organisation() == "works").then(|| signed.unverified().clone())
    });
    let of_works = of_works.expect("works answered, too");
    let forged = cose::sign(&Receipt { model: "lab/model".parse().expect("a model"), ..of_works }, &works);
    let other_owner = changed(&|file| {
        file["receipts"] = serde_json::json!([URL_SAFE_NO_PAD.encode(forged.bytes())]);
        file["exchanges"] = serde_json::json!([]);
    });
    let no_keys = changed(&|file| file["objects"] = Value::Array(Vec::new()));
    let other_receipt = changed(&|file| {
        let mut bytes = file["receipts"][0].as_str().expect("bytes").to_owned();
        let last = bytes.pop().expect("a signature's end");
        bytes.push(if last == 'A' { 'Q' } else { 'A' });
        file["receipts"][0] = bytes.into();
    });
    for (what, lie) in [
        ("answer", other_answer),
        ("prompt", other_prompt),
        ("exchange twice", exchange_twice),
        ("receipt twice", receipt_twice),
        ("another owner", other_owner),
        ("keys", no_keys),
        ("signature", other_receipt),
    ] {
        std::fs::write(&path, lie.to_string()).expect("a file");
        let checked = run(&check).await;
        assert!(!checked.success && checked.stderr.contains("hint: do not rely on it"), "{what}: {}", checked.stderr);
    }
    std::fs::write(&path, text).expect("a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_taken_up_where_it_was_killed_and_a_days_limit_stops_it_by_name() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let ada = federation.researcher().await;
    let folder = federation.path();
    let (input, out) = (folder.join("in.jsonl"), folder.join("out.jsonl"));
    let line = |n: usize| {
        format!(
            "{{\"custom_id\":\"c{n}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{{\"model\":\"lab/model\",\
             \"max_tokens\":8,\"messages\":[{{\"role\":\"user\",\"content\":\"{n}\"}}]}}}}\n"
        )
    };
    std::fs::write(&input, (0..10).map(line).collect::<String>()).expect("a file");
    let (input, output) = (input.display().to_string(), out.display().to_string());
    let batch = ["--home", &ada, "batch", "run", &input, "--out", &output, "--at-once", "3"];
    for point in ["send.after:2", "receipt.before:1", "receipt.after:3"] {
        let killed = run_armed(&batch, point).await;
        assert!(!killed.success, "{point} was not reached");
    }

    // Another input of the same names does not take these answers for its own.
    let other = folder.join("other.jsonl");
    std::fs::write(&other, (0..3).map(line).collect::<String>().replace("\"max_tokens\":8", "\"max_tokens\":7"))
        .expect("a file");
    let other = other.display().to_string();
    let mixed = run(&["--home", &ada, "batch", "run", &other, "--out", &output]).await;
    assert!(!mixed.success && mixed.stderr.contains("another request"), "{}", mixed.stderr);

    // What today's calls may cost is used up: the day's limit is named, and nothing is asked.
    let asked = upstream.asked();
    expect(&["--home", &ada, "wallet", "limits", "--day", &ucr(asked)]).await;
    let limited = run(&batch).await;
    assert!(!limited.success && limited.stderr.contains("limits.day"), "{}", limited.stderr);
    assert_eq!(upstream.asked(), asked);
    let limits: Value =
        serde_json::from_str(&expect(&["--home", &ada, "wallet", "limits", "--json"]).await).expect("limits");
    assert_eq!(limits["today_ucr"], limits["day_ucr"]);

    expect(&["--home", &ada, "wallet", "limits", "--day", "none"]).await;
    let done = expect(&[batch.as_slice(), &["--json"]].concat()).await;
    let done: Value = serde_json::from_str(&done).expect("a report");
    assert_eq!((&done["answered"], &done["total"], done["spent_ucr"].to_string()), (&10.into(), &10.into(), ucr(10)));
    assert_eq!(upstream.asked(), 10, "each was asked of the model once");
    let text = std::fs::read_to_string(&out).expect("an output");
    let mut ids: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line")["custom_id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    assert_eq!(settled(&federation, &ada).await.to_string(), ucr(10));

    let receipts: Value =
        serde_json::from_str(&expect(&["--home", &ada, "receipts", "list", "--json"]).await).expect("receipts");
    assert_eq!(receipts.as_array().map(Vec::len), Some(10));
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_new_and_what_was_signed_is_the_same_call_days_later() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
    let later = Arc::new(AtomicU64::new(0));
    let world = || {
        let (world, later) = (Federation::world(), Arc::clone(&later));
        let clock = Arc::clone(&world.clock);
        World { clock: Arc::new(move || clock().plus(later.load(Ordering::SeqCst))), ..world }
    };
    let grid = Grid {
        models: vec![lab.model()],
        prompts: (0..4).map(|n| Prompt::asked(n.to_string(), format!("number {n}"))).collect(),
        settings: vec![Setting::plain(8)],
        repeats: 1,
    };
    let folder = federation.path().join("refused");
    let create = |client: &Client| Comparison::create(&folder, &grid, [7; 32], client.now()).expect("a folder");
    let bounds = |calls: u32| Bounds {
        cap: Amount::from_ucr(calls * REQUEST_UCR),
        at_once: 1,
        patience: Patience { tries_max: 1, wait_s_max: 1 },
    };
    let client = federation.client_in("days", world());
    // The node is gone: four calls are signed and refused, and are free.
    federation.service("lab").end().await;
    let mut comparison = create(&client);
    let gone = Bounds { at_once: 4, ..bounds(4) };
    drop(comparison.run(&client, gone, &|| true, &mut |_, _| {}).await.expect("a run"));
    assert!(comparison.rows().all(|row| row.error.is_some()) && comparison.rows().count() == 4);
    drop(comparison);
    federation.service("lab").restart().await;

    // They are new calls, and keep to the cap.
    let mut comparison = create(&client);
    let (ended, _) = comparison.run(&client, bounds(1), &|| true, &mut |_, _| {}).await.expect("a run");
    assert!(matches!(ended, Ended::Cap(_)), "{ended:?}");
    assert_eq!((upstream.asked(), comparison.spent()), (1, Amount::from_ucr(REQUEST_UCR)));
    drop(comparison);
    // As if it had died before the row was written.
    std::fs::remove_file(folder.join("results.jsonl")).expect("results");

    // Two days later the one that was charged is not charged again.
    later.store(2 * 86_400, Ordering::SeqCst);
    let mut comparison = create(&client);
    let (ended, _) = comparison.run(&client, bounds(1), &|| true, &mut |_, _| {}).await.expect("a run");
    assert!(matches!(ended, Ended::Cap(_)), "{ended:?}");
    assert_eq!(upstream.asked(), 1, "nothing more fits");
    let paid: Vec<_> = comparison.rows().filter(|row| row.receipt.is_some()).collect();
    assert_eq!((paid.len(), paid[0].charge_ucr), (1, Amount::from_ucr(REQUEST_UCR)));
    drop(comparison);
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_wait_for_what_others_leave_of_the_day() {
    let upstream = Scripted::start().await;
    // An answer costs 4,009 µcr of the 16,000 and more that it is signed for.
    let rates = r#"{ meter = "input_tokens", steps = [{ from = 0, ucr_per_million = 1_000_000 }] },
  { meter = "output_tokens", steps = [{ from = 0, ucr_per_million = 2_000_000_000 }] }"#;
    let lab = Owner::scripted("lab", &upstream, rates);
    let federation = Federation::start(std::slice::from_ref(&lab)).await;
    let ada = federation.researcher().await;
    expect(&["--home", &ada, "wallet", "limits", "--day", "50000"]).await;
    let prompts = prompts(federation.path());
    let out = federation.path().join("day").display().to_string();
    let compare = ["--home", &ada, "compare", &prompts, "--models", "lab/model", "--max-tokens", "8", "--out", &out];
    let done: Value =
        serde_json::from_str(&expect(&[compare.as_slice(), &["--json"]].concat()).await).expect("a report");
    assert_eq!(done["done"], 6, "{done}");
    federation.end().await;
}

/// Half a chat's price, and a lower one for its answers.
const BATCH_RATES: &str = r#"{ meter = "input_tokens", steps = [{ from = 0, ucr_per_million = 100_000_000 }] },
  { meter = "output_tokens", steps = [{ from = 0, ucr_per_million = 33_333_333 }] }"#;
pub(super) const CHAT_RATES: &str = r#"{ meter = "input_tokens", steps = [{ from = 0, ucr_per_million = 200_000_000 }] },
  { meter = "output_tokens", steps = [{ from = 0, ucr_per_million = 400_000_000 }] }"#;

pub(super) fn gives_batches(name: &str, home: &Path) {
    let rule = "[[policy.rules]]\nop = \"batch\"\ntier = \"t1\"\ninput_bytes_max = 4_096\noutput_tokens_max = 64\n\
                choices_max = 1\nlogprobs_max = 0\n\n[tariff]";
    if name == "lab" {
        let model = home.join("models/model.toml");
        let offer = std::fs::read_to_string(&model).expect("an offer").replace("[tariff]", rule);
        let offer =
            offer + &format!("\n[[tariff.prices]]\nop = \"batch\"\nminimum = 0\nrates = [\n  {BATCH_RATES}\n]\n");
        std::fs::write(model, offer).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_asked_at_its_owners_batch_price_where_there_is_one() {
    const LINES: u64 = 7;
    let upstream = Scripted::start().await;
    let owners = ["lab", "works"].map(|name| Owner::scripted(name, &upstream, CHAT_RATES));
    let federation = Federation::start_with(&owners, LOOPBACK, gives_batches).await;
    let ada = federation.researcher().await;
    let folder = federation.path();
    let prompts = folder.join("prompts.txt");
    std::fs::write(&prompts, (0..LINES).map(|n| format!("{n} plus {n}?\n")).collect::<String>()).expect("a file");
    let prompts = prompts.display().to_string();

    let estimate =
        ["--home", &ada, "estimate", &prompts, "--models", "lab/model,works/model", "--max-tokens", "8", "--json"];
    let foretold: Value = serde_json::from_str(&expect(&estimate).await).expect("a report");
    let batches = foretold["batches"].as_array().expect("a list");
    assert_eq!((batches.len(), &batches[0]["model"], &batches[0]["calls"]), (1, &"lab/model".into(), &LINES.into()));
    let plain = foretold["estimates"].as_array().expect("a list").iter().find(|one| one["model"] == "lab/model");
    let of = |one: &Value, name: &str| one[name].as_u64().expect("an amount");
    for name in ["low_ucr", "likely_ucr", "high_ucr"] {
        assert!(of(&batches[0], name) < of(plain.expect("an estimate"), name), "{name}: {foretold}");
    }

    // What the upstream says it counted: 9 in, 2 out. Exact sums are rounded up once for a lane, here one.
    let exact = |calls: u64, input: u64, output: u64| (calls * (9 * input + 2 * output)).div_ceil(1_000_000);
    let out = folder.join("lab.jsonl").display().to_string();
    let lab = [
        "--home",
        &ada,
        "batch",
        "run",
        &prompts,
        "--model",
        "lab/model",
        "--max-tokens",
        "8",
        "--out",
        &out,
        "--at-once",
        "1",
    ];
    for point in ["send.after:2", "receipt.before:1", "receipt.after:2"] {
        let killed = run_armed(&lab, point).await;
        assert!(!killed.success, "{point} was not reached");
    }
    let done: Value = serde_json::from_str(&expect(&[lab.as_slice(), &["--json"]].concat()).await).expect("a report");
    assert_eq!(
        (&done["answered"], &done["batch_price"]),
        (&LINES.into(), &serde_json::json!(["lab/model /v1/chat/completions"]))
    );
    assert_eq!(upstream.asked() as u64, LINES, "each was asked once");
    let text = std::fs::read_to_string(&out).expect("answers");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert!(lines.iter().all(|line| line["comity"]["op"] == "batch"), "{text}");
    assert_eq!(settled(&federation, &ada).await as u64, exact(LINES, 100_000_000, 33_333_333));

    // Where there is none, it is asked as it ever was.
    let out = folder.join("works.jsonl").display().to_string();
    let works = [
        "--home",
        &ada,
        "batch",
        "run",
        &prompts,
        "--model",
        "works/model",
        "--max-tokens",
        "8",
        "--out",
        &out,
        "--at-once",
        "1",
        "--json",
    ];
    let done: Value = serde_json::from_str(&expect(&works).await).expect("a report");
    assert_eq!(done["batch_price"], serde_json::json!([]));
    let both = exact(LINES, 100_000_000, 33_333_333) + exact(LINES, 200_000_000, 400_000_000);
    assert_eq!(settled(&federation, &ada).await as u64, both);
    federation.end().await;
}

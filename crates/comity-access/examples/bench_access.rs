//! What it costs to list ten thousand open applications, and to decide whether a call may be made. `cargo xtask bench guard` builds and
//! runs this after the guard's own.
//!
//! Yardsticks: the same rows read by one plain statement; a look into a map of as many grants. Rounds are interleaved, the median counts.

#![allow(clippy::print_stdout, reason = "figures are what this prints")]
#![allow(clippy::cast_precision_loss, reason = "a few seconds in nanoseconds")]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use comity_access::store::{Append, Appended, Filter, OpenMax, Sqlite, Store};
use comity_access::{Actor, Answers, Application, ApplicationId, Form, Role};
use comity_token::{Ask, Decision, decide};
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Grant, OpRule, Policy, Tier, TierRule, Vetting};
use comity_wire::{GrantId, ModelId, Op, OrgId, Timestamp};
use serde_json::json;
use sqlx::ConnectOptions as _;

const APPLICATIONS: u32 = 10_000;
const ROUNDS: usize = 9;
const NOW: Timestamp = Timestamp(1_800_000_000);
/// What a list reads of an application.
type Columns = (Vec<u8>, String, String, String, i64, String, i64, i64);
/// Decisions of a round.
const DECISIONS: u32 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let is_json = std::env::args().any(|arg| arg == "--json");
    let figures = [listing().await, deciding()];
    for figure in &figures {
        if is_json {
            println!("{figure}");
        } else {
            let text = |key: &str| figure[key].to_string();
            println!(
                "{:<24} {:>9} {:>12} {:>8}  {}",
                text("metric"),
                text("value"),
                text("yardstick_value"),
                text("n"),
                text("note")
            );
        }
    }
}

async fn listing() -> serde_json::Value {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.sqlite");
    let store = Sqlite::open(&path).await.expect("a store");
    let text = "title = \"Access\"\n";
    let form = Form::read(text).expect("a form");
    let open_max = OpenMax { subject: APPLICATIONS, subject_a_day: APPLICATIONS, all: APPLICATIONS };
    for number in 0..APPLICATIONS {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let who = Actor { id: format!("sub-{:032}", number % 3_000), role: Role::Applicant, organisation: None };
        let models = vec![format!("lab/model-{}", number % 20).parse().expect("a model")];
        let at = NOW.plus(u64::from(number.wrapping_mul(7_919) % 900_000));
        let opened = Application::open(ApplicationId(id), &form, &who, models, Answers::new(), at).expect("it opens");
        let append =
            Append { application: &opened, form: &form, form_text: text, effect: None, deliveries: &[], open_max };
        assert_eq!(store.append(append).await.expect("the store"), Appended::Done);
        if number % 2_000 == 0 {
            eprintln!("{number} of {APPLICATIONS} applications");
        }
    }
    let mut plain = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.expect("the same file");
    let (mut ours, mut theirs, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let rows: Vec<Columns> = sqlx::query_as(
            "SELECT id, subject, state, party, due_at, models, opened_at, changed_at FROM access_application",
        )
        .fetch_all(&mut plain)
        .await
        .expect("rows");
        assert_eq!(black_box(rows).len(), APPLICATIONS as usize);
        theirs.push(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        let (mut filter, mut seen) = (Filter { open: true, ..Filter::default() }, 0);
        loop {
            let page = store.list(&filter, 1_000).await.expect("a page");
            if seen == 0 {
                first.push(started.elapsed().as_secs_f64() * 1e3);
            }
            seen += page.len();
            let Some(last) = page.last() else { break };
            filter.after = Some(last.cursor());
        }
        assert_eq!(seen, APPLICATIONS as usize);
        ours.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let (ours, theirs, first) = (median(ours), median(theirs), median(first));
    json!({
        "metric": "requests_list_10k_ms", "value": rounded(ours), "unit": "ms",
        "yardstick": "one plain SELECT of the same rows", "yardstick_value": rounded(theirs), "ratio": rounded(ours / theirs), "n": ROUNDS,
        "note": format!("all in pages of 1,000, by whose time ends first; the first page {first:.1} ms"),
    })
}

fn deciding() -> serde_json::Value {
    let (org, model): (OrgId, ModelId) = (OrgId([7; 16]), "lab/model".parse().expect("a model"));
    let tier = |tier: &str, vetting: &str, grant: bool| -> TierRule {
        let text = format!(
            "tier = \"{tier}\"\nvetting = \"{vetting}\"\ngrant = {grant}\nidentity = \"pseudonym\"\ndelegates = \"all\"\n\
             window_max = 1_000\nlanes_max = 4\ncharge_max = 0\nconcurrency = 8\nlogging = \"metadata\"\n"
        );
        toml::from_str(&text).expect("a tier")
    };
    let rule = |tier: &str| -> OpRule {
        let text = format!(
            "op = \"chat\"\ntier = \"{tier}\"\ninput_bytes_max = 4_096\noutput_tokens_max = 64\nchoices_max = 1\nlogprobs_max = 0\n"
        );
        toml::from_str(&text).expect("a rule")
    };
    let policy = Policy {
        org,
        name: Text::new("standard").expect("short"),
        version: 1,
        models: List::new(vec![model.clone()]).expect("one"),
        tiers: List::new(vec![
            tier("t0", "none", false),
            tier("t1", "registered", false),
            tier("t2", "registered", true),
        ])
        .expect("three"),
        rules: List::new(vec![rule("t0"), rule("t1"), rule("t2")]).expect("three"),
        issued_at: NOW,
    };
    let grants: Vec<Grant> = (0..4_u8)
        .map(|number| Grant {
            id: GrantId([number; 16]),
            org,
            subject: Text::new("sub-a").expect("short"),
            models: List::new(vec![model.clone()]).expect("one"),
            tier: Tier::Vetted,
            ops: List::default(),
            not_before: NOW,
            not_after: NOW.plus(86_400),
            plan: None,
            executions: None,
            reason: Text::new("").expect("short"),
        })
        .collect();
    let held: Vec<&Grant> = grants.iter().collect();
    let map: HashMap<String, u32> = (0..4_096).map(|number| (format!("sub-{number:032}"), number)).collect();
    let key = format!("sub-{:032}", 77);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..DECISIONS {
            black_box(map.get(black_box(&key)));
        }
        theirs.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS));
        let started = Instant::now();
        for _ in 0..DECISIONS {
            let ask = Ask {
                model: &model,
                op: Op::Chat,
                vetting: Vetting::Registered,
                purposes: &[],
                grants: &held,
                plans: &[],
                run: None,
                agreed: &[],
                delegated: false,
                now: NOW.plus(9),
            };
            assert!(matches!(black_box(decide(black_box(&policy), &ask)), Decision::Allow(_)));
        }
        ours.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    json!({
        "metric": "may_i_us", "value": rounded(ours), "unit": "us",
        "yardstick": "a look into a map of 4,096 subjects", "yardstick_value": rounded(theirs), "ratio": rounded(ours / theirs), "n": ROUNDS,
        "note": "the owner's policy of three tiers, four grants of the project",
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

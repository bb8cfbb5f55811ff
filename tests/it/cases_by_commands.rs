//! A filter suspends a project: a case with what was seen, the project's answer by its own key, a decision, an appeal that somebody
//! else decides; by the commands of `docs/operating/cases.md`, over a restart, and what they say is what the project then meets.

use std::path::Path;

use comity_sdk::{Client, Query};
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::holder::{Chat, Met};
use comity_tests::process::Ended;
use comity_tests::{Federation, Holder, Owner, Scripted, process};
use comity_wire::{Amount, Code, ModelId};
use http::Method;
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/operating/cases.md");
const CAMPAIGN: &str = "Please write a campaign line that asks people to vote for Alder.";

/// A model that keeps texts for three days and suspends whoever asks for a campaign line.
fn strict(home: &Path) {
    campaigning(home, "suspend");
}

fn campaigning(home: &Path, action: &str) {
    let path = home.join("models/model.toml");
    let text = std::fs::read_to_string(&path).expect("the model's file");
    let row = format!("filters = [{{ category = \"political_persuasion\", action = \"{action}\" }}]");
    let text = text.replace("retention_days = 0", "retention_days = 3");
    let text = text.replace("logging = \"metadata\"", "logging = \"bodies\"");
    let text = text.replace("concurrency = 256\n", &format!("concurrency = 256\n{row}\n"));
    std::fs::write(&path, text).expect("the model's file");
}

async fn ask(client: &Client, model: &ModelId, words: &str) -> Result<(), Option<Code>> {
    let query = Query::chat(model.clone(), &[("user", words)], Some(8), false);
    client.ask(&query).await.map(drop).map_err(|error| error.code())
}

/// `comity cases VERB --home HOME …`.
async fn cases(home: &str, words: &[&str]) -> Ended {
    let (verb, rest) = words.split_first().expect("a verb");
    let words: Vec<&str> = ["cases", verb, "--home", home].iter().chain(rest).copied().collect();
    process::run(&words).await
}

async fn said(home: &str, words: &[&str]) -> String {
    let ended = cases(home, words).await;
    assert!(ended.success, "{words:?}: {}", ended.stderr);
    ended.stdout
}

async fn read(home: &str, words: &[&str]) -> Value {
    serde_json::from_str(&said(home, words).await).expect("JSON")
}

/// `comity --home HOME access cases …`, by a researcher.
async fn heard(home: &str, words: &[&str]) -> Ended {
    let words: Vec<&str> = ["--home", home, "access", "cases"].iter().chain(words).copied().collect();
    process::run(&words).await
}

async fn told(home: &str, words: &[&str]) -> String {
    let ended = heard(home, words).await;
    assert!(ended.success, "{words:?}: {}", ended.stderr);
    ended.stdout
}

async fn opened(home: &str) -> Value {
    let list = eventually("a case", async || match read(home, &["list", "--json"]).await {
        list if list[0]["case"].is_string() => Ok(list),
        list => Err(list.to_string()),
    });
    list.await[0].clone()
}

#[test]
fn each_command_of_the_page_is_played_here() {
    let played = concat!(include_str!("cases_by_commands.rs"), include_str!("credit_notes.rs"));
    let block = PAGE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("a block ends"));
    let mut lines = 0;
    for line in block.flat_map(str::lines).filter(|line| line.starts_with("comity")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, flags) = match words[..] {
            ["comity", "access", "cases", verb, ..] | ["comity", "cases", verb, ..] => (verb, &words[3..]),
            _ => panic!("{line}"),
        };
        lines += 1;
        assert!(played.contains(&format!("\"{verb}\"")), "{verb} is not played");
        for flag in flags.iter().map(|word| word.trim_matches(['[', ']', ';'])).filter(|word| word.starts_with("--")) {
            assert!(flag == "--home" || played.contains(&format!("\"{flag}\"")), "{flag} of {verb} is not played");
        }
    }
    assert!(lines >= 14, "{lines}");
}

/// A text that is held is not one that somebody forgot: after a case that did not stand the project is answered, for as long as the owner says.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_passes_after_a_case_that_did_not_stand() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == lab.name {
            campaigning(home, "hold");
        }
    })
    .await;
    let home = federation.path().join("lab").display().to_string();
    let (client, model) = (federation.client("asker"), lab.model());
    let token = client.buy(&model, Amount::from_ucr(20 * REQUEST_UCR), 0).await;
    token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(ask(&client, &model, CAMPAIGN).await, Err(Some(Code::HeldForReview)));
    let notice = opened(&home).await;
    let (case, subject) = (notice["case"].as_str().expect("an id"), notice["project"].as_str().expect("a pseudonym"));
    let pass = ["pass", case, "--days", "90", "--reason", "it is a study", "--by", "hanna"];
    let early = cases(&home, &pass).await;
    assert!(!early.success && early.stderr.contains("not decided for the project"), "{}", early.stderr);
    said(&home, &["decide", case, "--clear", "--reason", "it is a study", "--by", "hanna"]).await;
    assert_eq!(ask(&client, &model, CAMPAIGN).await, Err(Some(Code::HeldForReview)), "the row says so");
    let passes = said(&home, &pass).await;
    assert!(passes.contains(&format!("political_persuasion of {subject} passes until")), "{passes}");
    assert_eq!(ask(&client, &model, CAMPAIGN).await, Ok(()));
    assert_eq!(said(&home, &["passes"]).await.trim(), passes.trim());
    said(&home, &["pass", case, "--end", "--reason", "the study is over", "--by", "hanna"]).await;
    assert_eq!(ask(&client, &model, CAMPAIGN).await, Err(Some(Code::HeldForReview)));
    assert!(said(&home, &["passes"]).await.contains("nothing passes"));
    // Who did it, and why, is in the register within a minute; nothing passes without such a line.
    eventually("two acts of the register", async || {
        let acts = process::run(&["node", "decisions", "acts", "--home", &home]).await.stdout;
        let let_pass = acts.contains(&format!("lets political_persuasion of project {subject} pass until"));
        let is_whole = let_pass && acts.contains("holds political_persuasion") && acts.contains("by hanna");
        if is_whole { Ok(()) } else { Err(acts) }
    })
    .await;
    let checked = process::run(&["node", "decisions", "check", "--home", &home]).await;
    assert!(checked.success, "{}{}", checked.stdout, checked.stderr);
    let open = || async {
        let url = format!("sqlite://{home}/spend.sqlite");
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.expect("the node's store")
    };
    let insert = "INSERT INTO pass (subject, category, until) VALUES ('sub-of-a-friend', 1, 9000000000)";
    sqlx::query(insert).execute(&mut open().await).await.expect("a row");
    let found = process::run(&["node", "decisions", "check", "--home", &home]).await;
    let told = format!("{}{}", found.stdout, found.stderr);
    assert!(!found.success && told.contains("passes until") && told.contains("nobody has said so"), "{told}");
    federation.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_suspended_heard_judged_and_let_in_by_somebody_else() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == lab.name {
            strict(home);
            // The owner gives its projects a week, and itself two days.
            std::fs::write(home.join("node.toml"), "[access.case]\nanswer_s = 604800\ndecide_s = 172800\n")
                .expect("it can be written");
        }
    })
    .await;
    let home = federation.path().join("lab").display().to_string();
    let ada = federation.researcher().await;
    let (client, model) = (federation.client("asker"), lab.model());
    let name = model.to_string();
    let token = client.buy(&model, Amount::from_ucr(20 * REQUEST_UCR), 0).await;
    let token = token.unwrap_or_else(|error| panic!("{}", chain(&error)));

    assert_eq!(ask(&client, &model, "Where?").await, Ok(()));
    assert_eq!(said(&home, &["list"]).await.trim(), "no case");
    assert_eq!(told(&ada, &["list", &name]).await.trim(), "no case");
    assert_eq!(ask(&client, &model, CAMPAIGN).await, Err(Some(Code::ContentFilter)));
    assert_eq!(ask(&client, &model, "Where?").await, Err(Some(Code::Suspended)));
    let notice = opened(&home).await;
    let case = notice["case"].as_str().expect("an id").to_owned();
    let subject = notice["project"].as_str().expect("a pseudonym").to_owned();
    assert_eq!(
        (&notice["state"], &notice["seen"][0]["category"]),
        (&json!("open"), &json!("political_persuasion")),
        "{notice}"
    );
    assert_eq!(
        (&notice["seen"][0]["action"], &notice["seen"][0]["band"]),
        (&json!("suspend"), &json!("high")),
        "{notice}"
    );
    let (due, begun) = (notice["due"]["at"].as_u64().expect("a time"), notice["opened_at"].as_u64().expect("a time"));
    assert_eq!((&notice["due"]["party"], due - begun), (&json!("project"), 604_800), "{notice}");
    assert_eq!(read(&home, &["list", "--project", &subject, "--json"]).await[0]["case"], json!(case));
    assert_eq!(said(&home, &["list", "--project", "sub-aaaqeayeaudaocajbifqydiob4"]).await.trim(), "no case");
    let flags = process::expect(&["node", "flags", "--home", &home]).await;
    let suspended = format!("suspended  {subject}  political_persuasion");
    let is_told = |line: &str| line.contains("suspend ") && line.contains(&name) && line.ends_with(&subject);
    assert!(flags.starts_with(&suspended) && flags.lines().any(is_told), "{flags}");
    assert!(!flags.contains("Alder"), "what was said stands in no flag");
    let shown = read(&home, &["show", &case, "--json"]).await;
    assert_eq!(shown["seen_text"], CAMPAIGN, "the tier keeps texts, and says so");
    // On the disk nobody reads it without the key.
    federation.service("lab").end().await;
    for file in ["access.sqlite", "access.sqlite-wal"] {
        let bytes = std::fs::read(federation.path().join("lab").join(file)).unwrap_or_default();
        assert!(!bytes.windows(5).any(|part| part == b"Alder"), "{file} has the prompt in clear");
    }
    federation.service("lab").restart().await;
    eventually("still suspended after a restart", async || match ask(&client, &model, "Where?").await {
        Err(Some(Code::Suspended)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    // Unheard, nobody is judged. The project, suspended as it is, sees what it is about and says its side by its own key.
    let early = cases(&home, &["decide", &case, "--uphold", "stop", "--reason", "a campaign", "--by", "hanna"]).await;
    assert!(!early.success && early.stderr.contains("the project's move"), "{}", early.stderr);
    let unknown = heard(&ada, &["show", &case]).await;
    assert!(!unknown.success && unknown.stderr.contains("comity access cases list"), "{}", unknown.stderr);
    let list = told(&ada, &["list", &name]).await;
    assert!(list.contains(&case) && list.contains("waits for you, ") && list.contains(" days left"), "{list}");
    let shown = told(&ada, &["show", &case]).await;
    assert!(shown.contains("political_persuasion (") && shown.contains("you can    answer"), "{shown}");
    let soon = heard(&ada, &["appeal", &case, "--reason", "x"]).await;
    assert!(!soon.success && soon.stderr.contains("case_state"), "{}", soon.stderr);
    said(&home, &["remark", &case, "--text", "the third this week", "--by", "hanna"]).await;
    let answered = told(&ada, &["answer", &case, "--text", "it is a study"]).await;
    assert!(answered.contains("to-decide") && answered.contains("waits for  the owner, "), "{answered}");
    let seen: Value = serde_json::from_str(&told(&ada, &["show", &case, "--json"]).await).expect("JSON");
    assert_eq!(seen["events"].as_array().expect("a log").len(), 3);
    assert!(!seen.to_string().contains("third this week") && !seen.to_string().contains("Alder"), "{seen}");
    said(&home, &["decide", &case, "--uphold", "stop", "--reason", "a campaign", "--by", "hanna"]).await;
    // Upheld, it is stopped as well: the case brought that, and takes it back.
    let stops = process::expect(&["node", "stop", "--home", &home, "--list"]).await;
    assert!(stops.contains(&case) && stops.contains("suspended"), "{stops}");
    let appealed = told(&ada, &["appeal", &case, "--reason", "look at the data"]).await;
    assert!(appealed.contains("appealed") && appealed.contains("a campaign"), "{appealed}");
    let same = cases(&home, &["appeal", &case, "--overturn", "--reason", "x", "--by", "hanna"]).await;
    assert!(!same.success && same.stderr.contains("hanna took part"), "{}", same.stderr);
    said(&home, &["appeal", &case, "--overturn", "--reason", "it is a study", "--by", "petra"]).await;
    assert_eq!(process::expect(&["node", "stop", "--home", &home, "--list"]).await.trim(), "nothing is stopped");
    assert_eq!(ask(&client, &model, "Where?").await, Ok(()));

    // A log that was rewritten is noticed by the researcher's own program.
    let kept = Path::new(&ada).join("cases").join(format!("{case}.json"));
    let text = std::fs::read_to_string(&kept).expect("what the researcher keeps");
    let mut other: Value = serde_json::from_str(&text).expect("JSON");
    other["head"] = Value::from("11".repeat(32));
    std::fs::write(&kept, other.to_string()).expect("it can be written");
    let rewritten = heard(&ada, &["show", &case]).await;
    assert!(!rewritten.success && rewritten.stderr.contains("rewritten"), "{}", rewritten.stderr);
    std::fs::write(&kept, text).expect("it can be written");

    // What is owed stays on record until it is given back.
    let receipt = "ab".repeat(32);
    let owe = ["owe", &case, "--receipt", &receipt, "--amount", "12", "--reason", "a withheld answer", "--by", "hanna"];
    assert!(said(&home, &owe).await.contains("the owner owes"));
    assert!(told(&ada, &["show", &case, "--model", &name]).await.contains("12 µcr for receipt"));
    said(&home, &["pay", &case, "--reference", "lot 7", "--by", "hanna"]).await;
    let shown = read(&home, &["show", &case, "--json"]).await;
    let kinds: Vec<_> = shown["events"].as_array().expect("a log").iter().map(|event| &event["act"]["kind"]).collect();
    assert_eq!(kinds, ["open", "remark", "answer", "uphold", "appeal", "overturn", "owe", "pay"]);
    let (answer, brought) = (&shown["events"][2], &shown["events"][2]["act"]["brought_by"]);
    assert_eq!((&answer["author"], brought), (&shown["project"], &Value::Null), "by its own key");
    let link = shown["link"].as_str().expect("a link");
    assert!(told(&ada, &["show", &case, "--json"]).await.contains(link), "both sides have one log");

    // One by somebody's own word, to which the project writes a letter.
    let open = [
        "open",
        "--project",
        &subject,
        "--model",
        &name,
        "--category",
        "complaint",
        "--reason",
        "a letter of 3 May",
        "--json",
    ];
    let second = read(&home, &open).await["case"].as_str().expect("an id").to_owned();
    said(&home, &["answer", &second, "--text", "it was not us", "--by", "hanna"]).await;
    let shown = read(&home, &["show", &second, "--json"]).await;
    assert_eq!(shown["events"][1]["act"]["brought_by"], "hanna");
    said(&home, &["decide", &second, "--uphold", "note", "--reason", "it was", "--by", "hanna"]).await;
    said(&home, &["appeal", &second, "--reason", "we were not asked", "--by", "hanna"]).await;
    said(&home, &["appeal", &second, "--confirm", "--reason", "it was", "--by", "petra"]).await;
    let third = read(&home, &open).await["case"].as_str().expect("an id").to_owned();
    said(&home, &["decide", &third, "--clear", "--reason", "a mistake", "--by", "hanna"]).await;
    assert_eq!(told(&ada, &["list", &name]).await.trim(), "no case", "none of which a move is due");
    let all = told(&ada, &["list", &name, "--ended"]).await;
    assert!([&case, &second, &third].iter().all(|case| all.contains(*case)), "{all}");
    assert_eq!(read(&home, &["list", "--ended", "--json"]).await.as_array().map(Vec::len), Some(3));

    let statistics = read(&home, &["statistics"]).await;
    let counts = &statistics["categories"]["political_persuasion"];
    assert_eq!(
        (&counts["opened"], &counts["overturned"], &counts["undecided"]),
        (&json!(1), &json!(1), &json!(0)),
        "{statistics}"
    );
    assert_eq!(statistics["categories"]["complaint"]["upheld"], 1, "{statistics}");
    // Published is a quarter that is over, once, without what so few have to do with; and everybody can read it.
    let none = told(&ada, &["statistics", &name]).await;
    assert!(none.contains("published nothing"), "{none}");
    let today = comity_node::shell::now().to_string();
    let month: u32 = today[5..7].parse().expect("a month");
    let this = format!("{}-q{}", &today[..4], month.div_ceil(3));
    let early = cases(&home, &["publish", "--quarter", &this]).await;
    assert!(!early.success && early.stderr.contains("is not over"), "{}", early.stderr);
    let published = read(&home, &["publish"]).await;
    let last = published["period"].as_str().expect("a quarter").to_owned();
    let look = read(&home, &["statistics", "--quarter", &last]).await;
    assert!(last < this && published["rows"] == look["rows"], "{published} {look}");
    assert_eq!(read(&home, &["publish", "--quarter", &last]).await, published, "a repeat says the same");
    eventually("the hub's copy of the feed has it", async || {
        let said = told(&ada, &["statistics", &name, "--json"]).await;
        match serde_json::from_str::<Value>(&said).expect("JSON") {
            found if found[0] == published => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    // Over a restart, too.
    federation.service("lab").end().await;
    federation.service("lab").restart().await;
    assert_eq!(read(&home, &["publish"]).await, published);
    // Again, and let in by the word of an operator, without a case.
    assert_eq!(ask(&client, &model, CAMPAIGN).await, Err(Some(Code::ContentFilter)));
    let flags = process::expect(&["node", "flags", "--home", &home, "--json"]).await;
    let flags: Value = serde_json::from_str(&flags).expect("JSON");
    assert_eq!((&flags["suspended"][0]["project"], &flags["flags"][0]["action"]), (&json!(subject), &json!("suspend")));
    let resume =
        ["node", "flags", "--home", &home, "--resume", &subject, "--reason", "the same study", "--by", "petra"];
    assert_eq!(process::expect(&resume).await, r#"{"was_suspended":true}"#);
    assert_eq!(process::expect(&resume).await, r#"{"was_suspended":false}"#);
    assert_eq!(ask(&client, &model, "Where?").await, Ok(()));
    client.finish(token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    federation.end().await;
}

/// What the commands never do: the routes as a stranger, another project, and whoever was handed a part of a token meet them.
#[tokio::test(flavor = "multi_thread")]
async fn a_case_is_its_projects_alone_and_the_holder_speaks_for_it() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == lab.name {
            strict(home);
        }
    })
    .await;
    let home = federation.path().join("lab").display().to_string();
    let (client, model) = (federation.client("raw"), lab.model());
    let budget = Amount::from_ucr(5 * REQUEST_UCR);
    let one = Holder::mint(&federation, &client, &model, budget, 1).await;
    let other = Holder::mint(&federation, &client, &model, budget, 1).await;
    let max = Amount::from_ucr(REQUEST_UCR);
    let chat = Chat { question: CAMPAIGN, max_tokens: 8, stream: false };
    let met = one.send(&one.sign_chat(&model, (0, 1), max, &chat)).await;
    assert!(matches!(met, Met::Refused { code: Code::ContentFilter, .. }), "{met:?}");
    let case = opened(&home).await["case"].as_str().expect("an id").to_owned();
    let path = format!("/comity/v1/access/cases/{case}");
    let get = async |holder: &Holder, path: &str| holder.knock(Method::GET, path, Vec::new()).await;
    let act = async |holder: &Holder, body: Value| {
        holder.knock(Method::POST, &format!("{path}/acts"), body.to_string().into_bytes()).await
    };
    let list = "/comity/v1/access/cases";
    let seen = get(&one, &path).await.expect("its own");
    assert_eq!(get(&one, list).await.expect("its own")["cases"][0]["id"], case);
    assert_eq!(get(&one, &format!("{list}?open=true&limit=1")).await.expect("a page")["next"], Value::Null);
    assert_eq!(get(&other, list).await.expect("none")["cases"], json!([]));
    let answer = |after: &Value| json!({"after": after, "act": {"kind": "answer", "text": "it is a study"}});
    for refused in [get(&other, &path).await, act(&other, answer(&seen["head"])).await] {
        assert_eq!(refused, Err(Some(Code::NotFound)), "another project does not learn that there is one");
    }
    // A part that was handed on works for the project, and does not speak for it.
    let part = one.hand_on();
    for refused in [get(&part, list).await, get(&part, &path).await, act(&part, answer(&seen["head"])).await] {
        assert_eq!(refused, Err(Some(Code::NotYours)));
    }
    // Somebody who has the token and not its key.
    let stranger = one.with_key_of(&other);
    assert_eq!(get(&stranger, &path).await, Err(Some(Code::NotYours)));
    for bad in [
        get(&one, "/comity/v1/access/cases/case-x").await,
        get(&one, &format!("{list}?state=open")).await,
        get(&one, &format!("{list}?after=x")).await,
        act(&one, json!({"after": seen["head"], "act": {"kind": "clear", "reason": "no"}})).await,
        act(&one, json!({"after": seen["head"], "act": {"kind": "answer", "text": "x", "brought_by": "hanna"}})).await,
        act(&one, json!({"after": seen["head"], "act": {"kind": "answer", "text": " "}})).await,
    ] {
        assert_eq!(bad, Err(Some(Code::InvalidRequest)));
    }
    let long = json!({"after": seen["head"], "act": {"kind": "answer", "text": "x".repeat(4_001)}});
    assert_eq!(act(&one, long).await, Err(Some(Code::LimitExceeded)));
    let early = json!({"after": seen["head"], "act": {"kind": "appeal", "reason": "x"}});
    assert_eq!(act(&one, early).await, Err(Some(Code::CaseState)));
    let done = act(&one, answer(&seen["head"])).await.expect("its own word");
    assert_eq!(act(&one, answer(&seen["head"])).await, Ok(done.clone()), "a repeat is done once");
    let more = json!({"after": seen["head"], "act": {"kind": "answer", "text": "and more"}});
    assert_eq!(act(&one, more).await, Err(Some(Code::CaseMoved)));
    assert_eq!((&done["state"], done["events"].as_array().map(Vec::len)), (&json!("to-decide"), Some(2)));
    federation.end().await;
}

mod postgres {
    use comity_scratch::Database;

    use super::*;

    /// A flag at one process of a node is a case at the other, which reads what was seen, decides, and lets the project in at both.
    #[tokio::test(flavor = "multi_thread")]
    async fn two_processes_of_a_node_have_one_list_of_cases() {
        let database = Database::create().await;
        let url = database.url();
        let furnish = |home: &Path, publish: bool| {
            let text = format!("[feed]\npublish = {publish}\n[spend]\nstore_file = \"keys/spend.url\"\n");
            std::fs::write(home.join("node.toml"), text).expect("node.toml");
            comity_node::home::write_secret(&home.join("keys/spend.url"), url.as_bytes()).expect("a secret");
        };
        let upstream = Scripted::start().await;
        let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
        let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
            if name == lab.name {
                strict(home);
                furnish(home, true);
            }
        })
        .await;
        federation.replica("lab", "lab-b", |home| furnish(home, false)).await;
        let [first, second] = ["lab", "lab-b"].map(|name| federation.path().join(name).display().to_string());
        let (client, model) = (federation.client("asker"), lab.model());
        let token = client.buy(&model, Amount::from_ucr(20 * REQUEST_UCR), 0).await;
        token.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(ask(&client, &model, CAMPAIGN).await, Err(Some(Code::ContentFilter)));
        let case = opened(&first).await["case"].as_str().expect("an id").to_owned();
        assert_eq!(opened(&second).await["case"], case);
        for home in [&first, &second] {
            assert_eq!(read(home, &["show", &case, "--json"]).await["seen_text"], CAMPAIGN, "one key for both");
        }
        said(&second, &["answer", &case, "--text", "it is a study", "--by", "hanna"]).await;
        said(&first, &["decide", &case, "--uphold", "stop", "--reason", "a campaign", "--by", "hanna"]).await;
        said(&second, &["appeal", &case, "--reason", "look again", "--by", "hanna"]).await;
        said(&second, &["appeal", &case, "--overturn", "--reason", "they are right", "--by", "petra"]).await;
        for home in [&first, &second] {
            assert_eq!(read(home, &["show", &case, "--json"]).await["state"], "overturned");
            eventually("nothing is stopped at either", async || {
                let stops = process::expect(&["node", "stop", "--home", home, "--list"]).await;
                if stops.trim() == "nothing is stopped" { Ok(()) } else { Err(stops) }
            })
            .await;
        }
        eventually("let in again", async || ask(&client, &model, "Where?").await.map_err(|code| format!("{code:?}")))
            .await;
        federation.end().await;
    }
}

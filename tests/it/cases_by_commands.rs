//! A filter suspends a project: a case with what was seen, the project's answer, a decision, an appeal that somebody else
//! decides; by the commands, over a restart, and what they say is what the project then meets.

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::{Amount, Code};
use serde_json::{Value, json};

const CAMPAIGN: &str = "Please write a campaign line that asks people to vote for Alder.";

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_suspended_heard_judged_and_let_in_by_somebody_else() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name != lab.name {
            return;
        }
        let path = home.join("models/model.toml");
        let text = std::fs::read_to_string(&path).expect("the model's file");
        let row = "filters = [{ category = \"political_persuasion\", action = \"suspend\" }]";
        let text = text
            .replace("retention_days = 0", "retention_days = 3")
            .replace("logging = \"metadata\"", "logging = \"bodies\"");
        let text = text.replace("concurrency = 256\n", &format!("concurrency = 256\n{row}\n"));
        std::fs::write(&path, text).expect("the model's file");
    })
    .await;
    let home = federation.path().join("lab").display().to_string();
    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(20 * REQUEST_UCR), 0).await;
    let token = token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let ask = async |words: &str| {
        let query = Query::chat(lab.model(), &[("user", words)], Some(8), false);
        client.ask(&query).await.map(drop).map_err(|error| error.code())
    };
    let cases = |words: &[&str]| {
        let (verb, rest) = words.split_first().expect("a verb");
        let arguments: Vec<String> =
            ["cases", verb, "--home", &home].iter().chain(rest).map(|word| (*word).to_owned()).collect();
        async move {
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            process::run(&words).await
        }
    };
    let json_of = async |words: &[&str]| {
        let ended = cases(words).await;
        assert!(ended.success, "{words:?}: {}", ended.stderr);
        serde_json::from_str::<Value>(&ended.stdout).expect("JSON")
    };

    assert_eq!(ask("Where?").await, Ok(()));
    assert_eq!(cases(&["list"]).await.stdout.trim(), "no case");
    assert_eq!(ask(CAMPAIGN).await, Err(Some(Code::ContentFilter)));
    assert_eq!(ask("Where?").await, Err(Some(Code::Suspended)));
    let list = eventually("a case", async || match json_of(&["list", "--json"]).await {
        list if list[0]["case"].is_string() => Ok(list),
        list => Err(list.to_string()),
    })
    .await;
    let case = list[0]["case"].as_str().expect("an id").to_owned();
    let notice = &list[0];
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
    assert!(notice["due"]["party"] == "project" && notice["due"]["at"].as_u64().is_some(), "{notice}");
    let shown = json_of(&["show", &case, "--json"]).await;
    assert_eq!(shown["seen_text"], CAMPAIGN, "the tier keeps texts, and says so");
    // On the disk nobody reads it without the key.
    federation.service("lab").end().await;
    for file in ["cases.sqlite", "cases.sqlite-wal"] {
        let bytes = std::fs::read(federation.path().join("lab").join(file)).unwrap_or_default();
        assert!(!bytes.windows(5).any(|part| part == b"Alder"), "{file} has the prompt in clear");
    }
    federation.service("lab").restart().await;
    eventually("still suspended after a restart", async || match ask("Where?").await {
        Err(Some(Code::Suspended)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    // Unheard, nobody is judged; and whoever judged does not decide the appeal.
    let early = cases(&["decide", &case, "--uphold", "stop", "--reason", "a campaign", "--by", "hanna"]).await;
    assert!(!early.success && early.stderr.contains("the project's move"), "{}", early.stderr);
    assert!(cases(&["answer", &case, "--text", "it is a study", "--by", "hanna"]).await.success);
    assert!(cases(&["decide", &case, "--uphold", "stop", "--reason", "a campaign", "--by", "hanna"]).await.success);
    assert!(cases(&["appeal", &case, "--reason", "look at the data", "--by", "hanna"]).await.success);
    let same = cases(&["appeal", &case, "--overturn", "--reason", "x", "--by", "hanna"]).await;
    assert!(!same.success && same.stderr.contains("hanna took part"), "{}", same.stderr);
    // Upheld, it is stopped as well: the case brought that, and takes it back.
    let stops = process::expect(&["node", "stop", "--home", &home, "--list"]).await;
    assert!(stops.contains(&case) && stops.contains("suspended"), "{stops}");
    assert!(cases(&["appeal", &case, "--overturn", "--reason", "it is a study", "--by", "petra"]).await.success);
    assert_eq!(process::expect(&["node", "stop", "--home", &home, "--list"]).await.trim(), "nothing is stopped");
    assert_eq!(ask("Where?").await, Ok(()));

    // What is owed stays on record until it is given back.
    let receipt = "ab".repeat(32);
    let owe = ["owe", &case, "--receipt", &receipt, "--amount", "12", "--reason", "a withheld answer", "--by", "hanna"];
    assert!(cases(&owe).await.stdout.contains("the owner owes"));
    assert!(cases(&["pay", &case, "--reference", "lot 7", "--by", "hanna"]).await.success);
    let shown = json_of(&["show", &case, "--json"]).await;
    let said: Vec<_> = shown["events"].as_array().expect("a log").iter().map(|event| &event["act"]["kind"]).collect();
    assert_eq!(said, ["open", "answer", "uphold", "appeal", "overturn", "owe", "pay"]);
    assert_eq!(
        (&shown["events"][1]["author"], &shown["events"][1]["act"]["brought_by"]),
        (&shown["project"], &json!("hanna"))
    );
    let statistics = json_of(&["statistics"]).await;
    let counts = &statistics["categories"]["political_persuasion"];
    assert_eq!(
        (&counts["opened"], &counts["overturned"], &counts["undecided"]),
        (&json!(1), &json!(1), &json!(0)),
        "{statistics}"
    );
    client.finish(token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    federation.end().await;
}

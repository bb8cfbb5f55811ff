//! A call that was flagged and charged, a case that was overturned: by the commands of `docs/operating/cases.md` the owner gives back what
//! the call had cost. The house is away when it is ordered, and the node is killed; it is booked once, to the micro-credit. And by those
//! of `docs/operating/credits.md` without a case.

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain, eventually};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::Amount;
use serde_json::{Value, json};

const CAMPAIGN: &str = "Please write a campaign line that asks people to vote for Alder.";

async fn read(words: &[&str]) -> Value {
    serde_json::from_str(&process::expect(words).await).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_overturned_case_had_cost_comes_back_once_and_to_the_lots_that_paid() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == "lab" {
            std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml");
            let path = home.join("models/model.toml");
            let text = std::fs::read_to_string(&path).expect("the model's file");
            // Answered, charged, and counted in the receipt.
            let row = "concurrency = 256\nfilters = [{ category = \"political_persuasion\", action = \"annotate\" }]\n";
            std::fs::write(&path, text.replace("concurrency = 256\n", row)).expect("the model's file");
        }
    })
    .await;
    let (home, house) = (federation.path().join("lab"), federation.path().join("house"));
    let (home, house) = (home.display().to_string(), house.display().to_string());
    let (client, model) = (federation.client("asker"), lab.model().to_string());
    let before = federation.account().await;
    let token = client.buy(&lab.model(), Amount::from_ucr(20 * REQUEST_UCR), 0).await;
    let token = token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    for words in ["Where?", CAMPAIGN, "And when?"] {
        let query = Query::chat(lab.model(), &[("user", words)], Some(8), false);
        client.ask(&query).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
    client.finish(token).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let spent = |requests: u32| Amount::from_ucr(requests * REQUEST_UCR);
    let settled = async |federation: &Federation, amount: Amount| {
        eventually("the settlement", async || {
            let account = federation.account().await;
            if account.settled == amount && account.in_escrow.is_zero() {
                Ok(account)
            } else {
                Err(format!("{account:?}"))
            }
        })
        .await
    };
    let account = settled(&federation, spent(3)).await;
    assert_eq!(account.available.ucr(), before.available.ucr() - spent(3).ucr());
    let subject = account.pseudonyms.first().expect("it was sold something").subject.to_string();

    // The owner holds it against the project, stops it, and somebody else says that this was wrong.
    let on_behalf = ["--by", "hanna", "--home", &home];
    let cases = async |words: &[&str]| {
        let words: Vec<&str> = ["cases"].iter().chain(words).chain(&on_behalf).copied().collect();
        process::expect(&words).await
    };
    let open = ["open", "--project", &subject, "--model", &model, "--category", "political_persuasion"];
    let open: Vec<&str> = open.iter().chain(&["--reason", "campaign lines", "--json"]).copied().collect();
    let case: Value = serde_json::from_str(&cases(&open).await).expect("JSON");
    let case = case["case"].as_str().expect("an id").to_owned();
    let refund = |more: &[&str]| -> Vec<String> {
        let words = ["cases", "refund", "--home", &home, &case, "--reason", "withheld for nothing", "--by", "hanna"];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let ran = async |words: Vec<String>| process::run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let early = ran(refund(&[])).await;
    assert!(!early.success && early.stderr.contains("is not possible while the case is open"), "{}", early.stderr);
    cases(&["answer", &case, "--text", "it is a study"]).await;
    cases(&["decide", &case, "--uphold", "stop", "--reason", "a campaign"]).await;
    cases(&["appeal", &case, "--reason", "look at the data"]).await;
    process::expect(&["cases", "appeal", "--home", &home, &case, "--overturn", "--reason", "a study", "--by", "petra"])
        .await;
    let charges = read(&["cases", "charges", "--home", &home, &case, "--json"]).await;
    assert_eq!((&charges[0]["receipts"], &charges[0]["amount"]), (&json!(1), &json!(REQUEST_UCR)), "{charges}");
    assert_eq!(charges[0]["charged"], json!(3 * REQUEST_UCR), "{charges}");
    let paid = charges[0]["token"].as_str().expect("a token").to_owned();
    let above = ran(refund(&["--token", &paid, "--amount", "3001"])).await;
    assert!(!above.success && above.stderr.contains("more than the 3000"), "{}", above.stderr);

    // Ordered while the house is away; then the node dies without a word.
    federation.service("house").end().await;
    let ordered = ran(refund(&[])).await;
    assert!(ordered.success && ordered.stdout.contains("waits for the clearing house"), "{}", ordered.stderr);
    federation.service("lab").kill().await;
    federation.service("house").restart().await;
    federation.service("lab").restart().await;
    let shown = eventually("what the house says", async || {
        let shown = read(&["cases", "show", "--home", &home, &case, "--json"]).await;
        if shown["refunds"][0]["answer"]["booked"].is_object() { Ok(shown) } else { Err(shown["refunds"].to_string()) }
    })
    .await;
    assert_eq!(shown["refunds"][0]["amount"], json!(REQUEST_UCR), "{shown}");
    let kinds: Vec<_> = shown["events"].as_array().expect("a log").iter().map(|event| &event["act"]["kind"]).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["refund", "booked"]);
    let account = settled(&federation, spent(2)).await;
    assert_eq!(account.available.ucr(), before.available.ucr() - spent(2).ucr(), "back to the micro-credit, and once");
    assert_eq!(account.tokens[0].credited, spent(1));

    // Said again it would be given again: what was ordered is left out, and more of the same token has to be meant.
    let charges = read(&["cases", "charges", "--home", &home, &case, "--json"]).await;
    let left = [&charges[0]["amount"], &charges[0]["ordered"], &charges[0]["charged"]];
    assert_eq!(left, [&json!(0), &json!(REQUEST_UCR), &json!(2 * REQUEST_UCR)], "{charges}");
    for (more, why) in [
        (&[][..], "ordered back already: 1000"),
        (&["--amount", "500"], "--again"),
        (&["--amount", "2001", "--again"], "more than the 2000"),
    ] {
        let second = ran(refund(more)).await;
        assert!(!second.success && second.stderr.contains(why), "{why}: {}", second.stderr);
    }
    let second = ran(refund(&["--amount", "500", "--again"])).await;
    assert!(second.success, "{}", second.stderr);
    let given = |ucr: u32| Amount::from_ucr(2 * REQUEST_UCR - ucr);
    settled(&federation, given(500)).await;
    assert_eq!(federation.books_add_up().await.settled, given(500));

    // Without a case: an answer was not what was sold. Said twice it is refused, and what is left is all that can be given.
    let credit = |more: &[&str]| -> Vec<String> {
        let words = ["node", "credit", "--home", &home, "--token", &paid, "--by", "hanna", "--reason", "fault"];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let high = ran(credit(&["--amount", "1501"])).await;
    assert!(!high.success && high.stderr.contains("more than the 1500"), "{}", high.stderr);
    let fault = ran(credit(&["--amount", "500"])).await;
    assert!(fault.success && fault.stdout.contains("booked at "), "{} {}", fault.stdout, fault.stderr);
    let twice = ran(credit(&["--amount", "500"])).await;
    assert!(!twice.success && twice.stderr.contains("--again"), "{}", twice.stderr);
    let notes = read(&["node", "credit", "--home", &home, "--list", "--json"]).await;
    let listed: Vec<_> =
        notes.as_array().expect("notes").iter().map(|note| (&note["reason"], &note["amount"])).collect();
    assert!(listed.contains(&(&json!("fault"), &json!(500))), "{notes}");
    assert_eq!(listed.len(), 3, "and the case's two: {notes}");
    let account = settled(&federation, given(1000)).await;
    assert_eq!(account.tokens[0].credited, spent(2));

    // The project reads both in its case, by its own key.
    let ada = federation.researcher().await;
    let seen = read(&["--home", &ada, "access", "cases", "show", &case, "--model", &model, "--json"]).await;
    assert!(seen["refunds"][0]["booked_at"].is_u64() && seen["refunds"][1]["amount"] == json!(500), "{seen}");
    let said = process::expect(&["--home", &ada, "access", "cases", "show", &case, "--model", &model]).await;
    assert!(said.contains("1000 µcr of ") && said.contains("500 µcr of ") && said.contains("given back at "), "{said}");

    // And accountants and auditors have it, from the books and from the log alone.
    let payables = read(&["clearing", "report", "payables", "--home", &house]).await;
    assert_eq!(payables["total"]["credited_ucr"], json!(2 * REQUEST_UCR), "{payables}");
    assert_eq!(payables["total"]["closing_ucr"], json!(REQUEST_UCR), "{payables}");
    let statement = read(&["clearing", "report", "statement", "--home", &house, &account.project.to_string()]).await;
    let lines = statement["rows"].as_array().expect("rows");
    let back: Vec<_> = lines.iter().filter(|row| row["kind"] == "credit_note").collect();
    assert!(back.len() == 3 && back[0]["credit_ucr"] == json!(REQUEST_UCR), "{statement}");
    let vkey = read(&["clearing", "log", "show", "--home", &house]).await["vkey"].as_str().expect("a key").to_owned();
    let copy = federation.path().join("log-copy").display().to_string();
    let logged = eventually("the note is in the log", async || {
        process::expect(&["clearing", "log", "export", "--home", &house, &copy]).await;
        let report = read(&["audit", &copy, "--key", &vkey]).await;
        if report["kinds"]["credit_note"] == json!(3) { Ok(report) } else { Err(report["kinds"].to_string()) }
    })
    .await;
    assert_eq!(logged["holds"], json!(true), "{logged}");
    federation.end().await;
}

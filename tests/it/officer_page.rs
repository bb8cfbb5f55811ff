//! The three commands of `docs/operating/officer.md`: what they say is what callers meet.

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::Amount;

const PAGE: &str = include_str!("../../docs/operating/officer.md");
const PERSONS: &str = r#"
[[access.person]]
id = "dora"
roles = ["decider"]
[[access.person]]
id = "rita"
roles = ["reviewer"]
organisation = "Lab"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn three_commands_say_what_can_leave_who_can_stop_it_and_who_had_access() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let furnish = |name: &str, home: &std::path::Path| {
        if name == "lab" {
            std::fs::write(home.join("node.toml"), PERSONS).expect("node.toml");
            let model = home.join("models/model.toml");
            let offer = std::fs::read_to_string(&model).expect("an offer");
            std::fs::write(model, offer.replace("grant = false", "grant = true")).expect("it can be written");
        }
    };
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, furnish).await;
    let home = federation.path().join("lab").display().to_string();
    let today = comity_node::shell::now().to_string();
    let today = today.split('T').next().expect("a day");
    let commands = PAGE.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("it ends").trim());
    let commands: Vec<String> =
        commands.map(|line| line.replace(" lab", &format!(" {home}")).replace("2026-11-29", today)).collect();
    let [what, who, had] = &commands[..] else { panic!("three commands: {commands:?}") };
    let play = async |line: &str| {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        process::expect(&words).await
    };
    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(5 * REQUEST_UCR), 0).await;
    token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let ask = async || {
        let query = Query::chat(lab.model(), &[("user", "Where?")], Some(8), false);
        client.ask(&query).await.map(drop).map_err(|error| chain(&error))
    };

    // What can leave, and to whom.
    let said = play(what).await;
    for part in [lab.model().to_string().as_str(), "with your grant", "chat", "tokens", "no log-probabilities"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(ask().await.expect_err("it has no grant").contains("grant_required"));

    // Who can stop it: also by what they may, and what is stopped.
    let said = play(who).await;
    let of = |name: &str| {
        said.lines().skip_while(|line| !line.starts_with(name)).nth(1).unwrap_or_default().trim().to_owned()
    };
    assert_eq!(of("dora"), "takes back what an application was granted", "{said}");
    assert_eq!(of("rita"), "stops nothing", "{said}");
    assert!(said.contains("mode 0700") && said.trim_end().ends_with("nothing is stopped"), "{said}");
    process::expect(&["node", "stop", "--home", &home, "--all", "--reason", "we look"]).await;
    assert!(play(who).await.contains("we look"));
    process::expect(&["node", "resume", "--home", &home, "--all", "--reason", "we looked"]).await;

    // Who had access on that day, also where it was taken back before it was over.
    assert!(play(had).await.contains("nobody has a grant"));
    let known = federation.account().await.pseudonyms;
    let (subject, model) = (known.first().expect("the lab knows it").subject.to_string(), lab.model().to_string());
    let grant = ["requests", "grant", "--home", &home, "--subject", &subject, "--model", &model, "--tier", "t1"];
    let given: serde_json::Value = serde_json::from_str(&process::expect(&grant).await).expect("JSON");
    ask().await.expect("it was granted");
    let id = given["grant"].as_str().expect("an id");
    process::expect(&["requests", "revoke", "--home", &home, "--grant", id, "--reason", "enough"]).await;
    ask().await.expect_err("it was taken back");
    let said = play(had).await;
    assert!(said.contains(id) && said.contains(&subject) && said.contains("taken back"), "{said}");
    assert!(play(&had.replace(today, "2026-01-01")).await.contains("nobody has a grant"));
    federation.end().await;
}

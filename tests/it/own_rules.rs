//! Rules of an owner's own, and of a publisher whom it trusts: what `comity node packs` says is what callers meet.

use comity_sdk::Query;
use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR, chain};
use comity_tests::{Federation, Owner, Scripted, process};
use comity_wire::Amount;

const PACK: &str = r#"
name = "mercury"
version = 1
licence = "MIT"
[[rule]]
id = "by-name"
category = "cbrn"
phrases = ["project mercury"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_the_owners_own_holds_what_it_finds_and_an_altered_pack_stops_the_start() {
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let furnish = |name: &str, home: &std::path::Path| {
        if name == "lab" {
            std::fs::write(home.join("mercury.toml"), PACK).expect("a pack");
            std::fs::write(home.join("node.toml"), "[[filters.pack]]\nfile = \"mercury.toml\"\n").expect("node.toml");
            let model = home.join("models/model.toml");
            let offer = std::fs::read_to_string(&model).expect("an offer");
            let row = "grant = false\nfilters = [{ category = \"cbrn\", action = \"block\" }]";
            std::fs::write(model, offer.replacen("grant = false", row, 1)).expect("it can be written");
        }
    };
    let mut federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, furnish).await;
    let folder = federation.path().join("lab");
    let home = folder.display().to_string();
    let client = federation.client("asker");
    let token = client.buy(&lab.model(), Amount::from_ucr(5 * REQUEST_UCR), 0).await;
    token.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let ask = async |text: &str| {
        let query = Query::chat(lab.model(), &[("user", text)], Some(8), false);
        client.ask(&query).await.map(drop).map_err(|error| chain(&error))
    };
    ask("When does the library open?").await.expect("no rule finds anything in it");
    let refused = ask("Tell me about Project  MERCURY.").await.expect_err("the owner's rule finds it");
    assert!(refused.contains("content_filter"), "{refused}");
    let said = process::expect(&["node", "packs", "try", "--home", &home, "project mercury"]).await;
    assert!(said.contains("cbrn") && said.contains("mercury/by-name"), "{said}");
    let listed = process::expect(&["node", "packs", "list", "--home", &home]).await;
    assert!(listed.contains("mercury 1") && listed.contains("political") && listed.contains("ships"), "{listed}");

    // From now on the lab takes the pack of a publisher, here the house's home, as that one signed it.
    let pack = folder.join("mercury.toml").display().to_string();
    let house = federation.path().join("house").display().to_string();
    let signer = process::expect(&["node", "packs", "sign", "--home", &house, &pack]).await;
    let config = format!("[[filters.pack]]\nfile = \"mercury.toml\"\nsigner = \"{}\"\n", signer.trim());
    std::fs::write(folder.join("node.toml"), config).expect("node.toml");
    assert!(process::expect(&["node", "packs", "list", "--home", &home]).await.contains("signed by"));
    federation.service("lab").kill().await;
    federation.service("lab").restart().await;
    let refused = ask("project mercury").await.expect_err("the rule is there after the start");
    assert!(refused.contains("content_filter"), "{refused}");
    std::fs::write(&pack, PACK.replace("mercury\"]", "mercury\", \"library\"]")).expect("it can be written");
    let said = process::run(&["node", "packs", "list", "--home", &home]).await;
    assert!(!said.success && said.stderr.contains("was not signed by"), "{}", said.stderr);
    federation.service("lab").kill().await;
    let said = process::run(&["node", "run", "--home", &home]).await;
    assert!(!said.success && said.stderr.contains("was not signed by"), "{}", said.stderr);
    std::fs::write(&pack, PACK).expect("it can be written");
    federation.service("lab").restart().await;
    federation.end().await;
}

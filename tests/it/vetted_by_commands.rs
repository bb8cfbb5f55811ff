//! From a student without anything to a vetted project, by the commands, with processes and an OpenID provider on loopback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use comity_tests::federation::{LOOPBACK, PER_REQUEST};
use comity_tests::openid::{Provider, pairs};
use comity_tests::{Federation, Owner, Scripted, process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Somebody with a profile of their own.
struct Person {
    home: PathBuf,
    key: String,
}

impl Person {
    async fn new(federation: &Federation, name: &str) -> Self {
        let home = federation.path().join(name);
        let roster = federation.path().join("roster/roster.cbor").display().to_string();
        let said = at(&home, &["init", "--roster", &roster, "--entry", &federation.address("hub")]).await;
        let key = said.split_whitespace().find(|word| word.starts_with("did:key:")).expect("a key").to_owned();
        Self { home, key }
    }

    async fn does(&self, arguments: &[&str]) -> String {
        at(&self.home, arguments).await
    }

    async fn asks(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.does(arguments).await).expect("JSON")
    }
}

async fn at(home: &Path, arguments: &[&str]) -> String {
    let home = home.display().to_string();
    process::expect(&[&["--home", &home], arguments].concat()).await
}

/// `comity login --browser`, with somebody who opens what it says.
async fn in_browser(person: &Person) -> String {
    let mut command = tokio::process::Command::new(process::binary());
    command.arg("--home").arg(&person.home).args(["login", "--browser"]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let url = loop {
        let line = lines.next_line().await.expect("it is read").expect("it says what to open");
        if let Some((_, url)) = line.split_once("open   ") {
            break url.to_owned();
        }
    };
    let redirect = url.split("redirect_uri=").nth(1).and_then(|rest| rest.split('&').next()).expect("a redirect");
    let door = pairs(&format!("u={redirect}"))["u"].clone();
    // Somebody else's page knocks first, and is passed over.
    reqwest::get(format!("{door}?code=evil&state=evil")).await.expect("the door is open");
    let page = reqwest::get(&url).await.expect("the provider and the door answer");
    assert!(page.text().await.expect("a page").contains("can be closed"));
    let ended = child.wait_with_output().await.expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_student_comes_to_a_vetted_project_by_the_commands() {
    let provider = Provider::start().await;
    let upstream = Scripted::start().await;
    let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
    let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, |name, home| {
        if name == "house" {
            std::fs::write(home.join("clearing.toml"), provider.believed()).expect("clearing.toml");
        }
    })
    .await;
    let house = federation.path().join("house").display().to_string();
    let operator =
        async |arguments: &[&str]| process::expect(&[&["clearing"], arguments, &["--home", &house]].concat()).await;
    let code = federation.path().join("conduct.txt");
    std::fs::write(&code, "Use what you are given for what you said.\n").expect("a text");
    operator(&["person", "conduct", "--name", "2026-1", &code.display().to_string()]).await;

    // The PI logs in with a second factor by a code on another device, signs, proposes.
    let ada = Person::new(&federation, "ada").await;
    let bob = Person::new(&federation, "bob").await;
    assert!(ada.does(&["whoami"]).await.contains(&ada.key));
    assert!(ada.does(&["login", "--list"]).await.contains("uni http://127.0.0.1"));
    provider.says(
        json!({
            "sub": "ada", "acr": "https://refeds.org/profile/mfa", "eduperson_scoped_affiliation": ["faculty@uni.example"],
            "eduperson_assurance": ["https://refeds.org/assurance/profile/cappuccino", "https://refeds.org/assurance/ATP/ePA-1m"],
        }),
        1,
    );
    assert!(ada.does(&["login", "--mfa"]).await.contains("known as ada at http://127.0.0.1"));
    assert!(ada.does(&["conduct", "show"]).await.contains("for what you said"));
    ada.does(&["conduct", "sign"]).await;
    let said = ada
        .does(&[
            "project",
            "propose",
            "--title",
            "Weather",
            "--purpose",
            "Whether small models know.",
            "--use-term",
            "DUO:0000042",
            "--member",
            &bob.key,
        ])
        .await;
    let project = said.split_whitespace().next().expect("an id").to_owned();
    assert!(
        project.starts_with("proj-") && said.contains("missing accepted") && said.contains("the move of: house"),
        "{said}"
    );
    // The operator reads it, takes it in, and gives it credits.
    let waiting: Value = serde_json::from_str(&operator(&["project", "proposals"]).await).expect("JSON");
    assert_eq!((&waiting[0]["project"], &waiting[0]["state"]), (&json!(project), &json!("waits")));
    operator(&["project", "accept", &project]).await;
    operator(&["project", "award", &project, "--credits", "1", "--funder", "F", "--award", "1"]).await;
    assert_eq!(ada.asks(&["whoami", "--json"]).await["projects"][0]["level"]["vetting"], json!("vetted"));
    // The student logs in with a browser on the same computer, signs, and is told that the PI is next.
    provider.says(json!({ "sub": "bob", "eduperson_assurance": "https://igtf.net/ap/authn-assurance/dogwood" }), 0);
    assert!(in_browser(&bob).await.contains("known as bob"));
    let said = bob.does(&["conduct", "sign"]).await;
    assert!(said.contains("missing sponsor") && said.contains("the move of: pi"), "{said}");
    ada.does(&["project", "sponsor", &bob.key, "--days", "120"]).await;
    let status = ada.asks(&["project", "status", "--json"]).await;
    let members: BTreeMap<String, Value> = status["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| (member["key"].as_str().expect("a key").to_owned(), member["level"].clone()))
        .collect();
    assert_eq!(
        (&members[&ada.key]["vetting"], &members[&bob.key]["vetting"]),
        (&json!("vetted"), &json!("vetted")),
        "{status}"
    );
    // It is good for an answer.
    assert!(ada.does(&["chat", "lab/model", "Where?"]).await.contains("Paris."));
    // One more device agrees to be the PI's; when it is lost it is ended, and stays so.
    let laptop = Person::new(&federation, "laptop").await;
    let person = ada.asks(&["whoami", "--json"]).await["person"].as_str().expect("a person").to_owned();
    let join = laptop.does(&["whoami", "--join", &person]).await;
    let add: Vec<&str> = join.split_whitespace().skip(1).collect();
    assert!(ada.does(&add).await.contains(&laptop.key));
    ada.does(&["whoami", "--revoke", &laptop.key]).await;
    assert!(laptop.does(&["whoami"]).await.contains("revoked at"));
    let evidence = operator(&["person", "evidence", &person]).await;
    assert!(evidence.contains("profile/cappuccino") && !evidence.contains("email"), "{evidence}");
    federation.end().await;
}

//! Every command of `docs/start/researcher.md`, read from the page, against processes: a PI and those whom she lets draw come from nothing to
//! answers that are paid and checked. Logins are those of `vetted_by_commands`.

use std::path::PathBuf;

use comity_tests::federation::{LOOPBACK, PER_REQUEST, REQUEST_UCR};
use comity_tests::openid::Provider;
use comity_tests::page::{self, Script, Typist};
use comity_tests::{Federation, Owner, Scripted, eventually, process, upstream};
use comity_wire::Amount;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const PAGE: &str = include_str!("../../docs/start/researcher.md");
const TERMS: &str = "# Research use, version 1\n\nNobody is harmed.\n";

struct Stage {
    federation: Federation,
    script: Script,
    provider: Provider,
    _upstream: Scripted,
}

impl Stage {
    /// A lab that asks for terms of use, and an agency that decides project by project.
    async fn start() -> Self {
        let (provider, upstream) = (Provider::start().await, Scripted::start().await);
        let owners = ["lab", "agency"].map(|name| Owner::scripted(name, &upstream, PER_REQUEST));
        let believed = provider.believed();
        let federation = Federation::start_with(&owners, LOOPBACK, |name, home| {
            if name == "house" {
                return std::fs::write(home.join("clearing.toml"), &believed).expect("clearing.toml");
            }
            std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml");
            let path = home.join("models/model.toml");
            let offer = std::fs::read_to_string(&path).expect("an offer");
            let offer = if name == "lab" {
                std::fs::create_dir_all(home.join("terms")).expect("a folder");
                std::fs::write(home.join("terms/research-1.md"), TERMS).expect("a text");
                format!("{offer}\n[[policy.terms]]\ntier = \"t1\"\nfile = \"terms/research-1.md\"\n")
            } else {
                offer.replace("grant = false", "grant = true")
            };
            std::fs::write(path, offer).expect("an offer");
        })
        .await;
        let script = Script::new(PAGE);
        script.means("https://HUB", federation.address("hub"));
        script.means("lab/tiny", "lab/model");
        Self { federation, script, provider, _upstream: upstream }
    }

    /// Somebody with a computer of their own, and what the federation handed them.
    async fn comes(&self, name: &str) -> Person<'_> {
        self.comes_with(name, "").await
    }

    async fn comes_with(&self, name: &str, more: &str) -> Person<'_> {
        let folder = self.federation.path().join(format!("of-{name}"));
        std::fs::create_dir_all(&folder).expect("a home");
        std::fs::copy(self.federation.path().join("roster/roster.cbor"), folder.join("roster.cbor")).expect("a roster");
        let types = self.script.at(&folder);
        let said = types.play_with("init --roster", more).await;
        let key = said.split_whitespace().find(|word| word.starts_with("did:key:")).expect("a key").to_owned();
        assert!(folder.join(".config/comity/profile.toml").is_file(), "{said}");
        Person { types, folder, key }
    }

    /// The house's operator.
    async fn operator(&self, line: &str) -> String {
        self.script.at(self.federation.path()).also(&format!("comity clearing {line} --home house")).await
    }
}

struct Person<'a> {
    types: Typist<'a>,
    folder: PathBuf,
    key: String,
}

impl Person<'_> {
    /// What they hand on.
    fn gives(&self, file: &str, to: &Self) {
        std::fs::copy(self.folder.join(file), to.folder.join(file)).expect("a file that is handed on");
    }

    async fn tokens(&self) -> Vec<Value> {
        serde_json::from_str(&self.types.play_with("wallet status", "--json").await).expect("JSON")
    }

    async fn open_token(&self) -> String {
        let tokens = self.tokens().await;
        let open = tokens.iter().find(|token| token["open"] == true).unwrap_or_else(|| panic!("none of {tokens:?}"));
        open["token"].as_str().expect("an id").to_owned()
    }

    async fn asks(&self) -> Result<String, String> {
        let said = self.types.run_with("chat lab/tiny", "").await;
        if said.success { Ok(said.stdout) } else { Err(said.stderr) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_profile_to_answers_that_are_checked_and_computers_that_are_lost() {
    let stage = Stage::start().await;
    stage.script.means("…", "Weather");
    let (ada, bob) = (stage.comes("ada").await, stage.comes("bob").await);
    says_who_she_is(&stage, &ada).await;
    has_a_project(&stage, &ada, &bob).await;
    finds(&stage, &ada).await;
    uses_own_tools(&ada).await;
    shares(&stage, &ada, &bob).await;
    ends(&stage, &ada).await;
    has_several_computers(&stage, &ada).await;
    stage.script.all_played(&[]);
    stage.federation.books_add_up().await;
    stage.federation.end().await;
}

async fn says_who_she_is(stage: &Stage, ada: &Person<'_>) {
    let code = stage.federation.path().join("conduct.txt");
    std::fs::write(&code, "Use what you are given for what you said.\n").expect("a text");
    stage.operator("person conduct --name 2026-1 conduct.txt").await;
    assert!(ada.types.play("login --list").await.contains("uni http://127.0.0.1"));
    // Without a word at the issuer: whose move it is.
    let nobody = ada.types.run_with("whoami", "").await;
    assert!(nobody.success && nobody.stderr.contains("comity login"), "{}", nobody.stderr);
    stage.provider.says(
        json!({
            "sub": "ada", "acr": "https://refeds.org/profile/mfa", "eduperson_scoped_affiliation": ["faculty@uni.example"],
            "eduperson_assurance": ["https://refeds.org/assurance/profile/cappuccino", "https://refeds.org/assurance/ATP/ePA-1m"],
        }),
        1,
    );
    let said = ada.types.run_with("login", "--mfa").await;
    assert!(said.success && said.stdout.contains("known as ada at http://127.0.0.1"), "{}", said.stderr);
    assert!(
        said.stderr.contains("/activate") && said.stderr.contains("WDJB-MJHT"),
        "a page and a code: {}",
        said.stderr
    );
    assert!(ada.types.play("conduct show").await.contains("for what you said"));
    ada.types.play("conduct sign").await;
    let who = ada.types.play("whoami").await;
    assert!(who.contains(&ada.key) && who.contains("person   mem-"), "{who}");
}

/// Somebody who does not lead the project, and is told that the PI is next.
async fn logs_in(stage: &Stage, person: &Person<'_>, name: &str) {
    stage
        .provider
        .says(json!({ "sub": name, "eduperson_assurance": "https://igtf.net/ap/authn-assurance/dogwood" }), 0);
    person.types.play("login").await;
    let said = person.types.play("conduct sign").await;
    assert!(said.contains("missing sponsor") && said.contains("the move of: pi"), "{said}");
}

async fn has_a_project(stage: &Stage, ada: &Person<'_>, bob: &Person<'_>) {
    std::fs::write(ada.folder.join("purpose.txt"), "Whether small models know.\n").expect("a text");
    stage.script.means("did:key:…", &bob.key);
    let said = ada.types.play("project propose").await;
    assert!(said.contains("missing accepted") && said.contains("the move of: house"), "{said}");
    let project = said.split_whitespace().next().expect("an id").to_owned();
    stage.script.means("PROJECT", &project);
    stage.operator("project accept PROJECT").await;
    stage.operator("award give PROJECT --credits 50 --funder F --award 1").await;
    logs_in(stage, bob, "bob").await;
    ada.types.play("project sponsor").await;
    let status = ada.types.play("project status").await;
    assert!(status.contains(&format!("pi {}", ada.key)) && status.contains(&format!("member {}", bob.key)), "{status}");
    assert!(!status.contains("missing"), "{status}");
}

/// Finds a model, agrees to its terms, applies for another, knows the cost, asks.
async fn finds(stage: &Stage, ada: &Person<'_>) {
    stage.script.means("[words]", "model");
    let found = ada.types.play("models search").await;
    assert!(found.contains("lab/model") && found.contains("agency/model"), "{found}");
    assert!(ada.types.play("models show").await.contains("What lab offers."));
    let early = ada.asks().await.expect_err("nobody agreed");
    assert!(early.contains("terms_not_signed"), "{early}");
    let shown = ada.types.play("access terms show").await;
    assert!(shown.contains("Research use, version 1"), "{shown}");
    let digest = shown.split("--terms ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a digest");
    stage.script.means("DIGEST", digest);
    ada.types.play("access terms sign").await;
    let answers = "--set purpose=weather --set why_this_model=small --set agreed=yes";
    let apply = format!("comity access apply agency/model {answers} --organisation Uni --person Ada");
    let applied = ada.types.also(&apply).await;
    assert!(applied.contains("waits for  the owner"), "{applied}");
    let quoted = ada.types.play("quote").await;
    assert!(quoted.contains(&format!("at most {}", Amount::from_ucr(REQUEST_UCR))), "{quoted}");
    assert!(ada.asks().await.expect("it was agreed").contains(upstream::ANSWER));
}

/// One request, as an OpenAI client sends it.
async fn uses_own_tools(ada: &Person<'_>) {
    let mut proxy = ada.types.spawn_with("proxy", "--listen 127.0.0.1:0");
    let mut lines = BufReader::new(proxy.stdout.take().expect("stdout was piped")).lines();
    let base = lines.next_line().await.expect("it is read").expect("it says where it listens");
    let example = &page::blocks(PAGE, "python")[0];
    assert!(example.contains("base_url=\"http://127.0.0.1:8899/v1\""), "the page has the address: {example}");
    let body = json!({ "model": "lab/model", "messages": [{ "role": "user", "content": "Where?" }] });
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let asked = client.post(format!("{base}/chat/completions")).bearer_auth("unused").json(&body).send().await;
    let reply: Value = asked.expect("it answers").json().await.expect("JSON");
    assert_eq!(reply["choices"][0]["message"]["content"], upstream::ANSWER, "{reply}");
    // What is left goes home at its end.
    let stopped = process::stop(proxy).await;
    assert!(stopped.success, "{}", stopped.stderr);
    assert!(ada.tokens().await.iter().all(|token| token["open"] == false));
}

/// A narrower right for somebody without a project, a mandate for a member, another for the first who brings a code.
async fn shares(stage: &Stage, ada: &Person<'_>, bob: &Person<'_>) {
    ada.asks().await.expect("an answer");
    let token = ada.open_token().await;
    let status = ada.types.play("wallet status").await;
    let row = status.lines().find(|line| line.starts_with(&token)).unwrap_or_else(|| panic!("{status}"));
    assert!(
        row.contains("1 cr ") && row.contains("open"),
        "a token is a credit, where the profile says nothing: {row}"
    );
    stage.script.means("TOKEN", token);
    let carol = stage.comes("carol").await;
    ada.types.play("delegate").await;
    ada.gives("delegated.chain", &carol);
    ada.gives("delegated.key", &carol);
    carol.types.play("wallet adopt").await;
    assert!(carol.asks().await.expect("it is a right").contains(upstream::ANSWER));

    let refused = bob.asks().await.expect_err("a member draws under a mandate");
    assert!(refused.contains("names no project"), "{refused}");
    stage.script.means("did:key:…", &bob.key);
    ada.types.play("mandate sign --member").await;
    ada.gives("mandate.cbor", bob);
    let redeemed: Value = serde_json::from_str(&bob.types.play("mandate redeem").await).expect("JSON");
    assert!(bob.asks().await.expect("the mandate is in force").contains(upstream::ANSWER));
    stage.script.means("MANDATE", redeemed["mandate"].as_str().expect("an id"));
    // The wallet draws no more at once than the mandate lets it.
    let shown: Value = serde_json::from_str(&ada.types.play("mandate show").await).expect("JSON");
    assert_eq!((&shown["cap_per_day"], &shown["drawn_today"]), (&json!(500_000), &json!(500_000)), "{shown}");
    bob.types.play("wallet finish").await;
    ada.types.play("mandate revoke").await;
    let refused = bob.asks().await.expect_err("it was taken back");
    assert!(refused.contains("mandate"), "{refused}");

    // Dave's key is not known yet: he brings a code.
    let dave = stage.comes_with("dave", "--project PROJECT").await;
    assert!(dave.asks().await.expect_err("he is nobody's member").contains("not_registered"));
    ada.types.also("comity mandate sign --join-code sesame --cap 5000000 --days 120").await;
    ada.gives("mandate.cbor", &dave);
    let refused = dave.types.refused_with("mandate redeem", "").await;
    assert!(refused.contains("code"), "{refused}");
    dave.types.play_with("mandate redeem", "--join-code sesame").await;
    // A model that asks who calls asks it of him, too.
    let refused = dave.asks().await.expect_err("nobody knows who he is");
    assert!(refused.contains("vetting_too_low") && refused.contains("comity whoami"), "{refused}");
    logs_in(stage, &dave, "dave").await;
    stage.script.means("did:key:…", &dave.key);
    ada.types.play("project sponsor").await;
    // The token that he drew says what was known of him then.
    dave.types.play("wallet finish").await;
    assert!(dave.asks().await.expect("he draws under the mandate").contains(upstream::ANSWER));
}

/// What is left goes home, what was signed is checked, and what was not is challenged.
async fn ends(stage: &Stage, ada: &Person<'_>) {
    ada.asks().await.expect("an answer");
    stage.script.means("TOKEN", ada.open_token().await);
    eventually("a challenge", async || {
        let asked = ada.types.run_with("wallet challenge", "").await;
        if asked.success { Ok(()) } else { Err(asked.stderr) }
    })
    .await;
    // Carol may be at work under a part of it: that is ended by name alone.
    let said = ada.types.play("wallet finish").await;
    assert!(!said.contains("went home"), "{said}");
    let said = ada.types.play("wallet revoke").await;
    assert!(said.contains("went home"), "{said}");
    assert!(ada.tokens().await.iter().all(|token| token["open"] == false));
    let verified = ada.types.play("receipts verify").await;
    assert!(verified.contains("4 receipts stand"), "{verified}");
}

async fn has_several_computers(stage: &Stage, ada: &Person<'_>) {
    let laptop = stage.comes_with("laptop", "--project PROJECT").await;
    let who: Value = serde_json::from_str(&ada.types.play_with("whoami", "--json").await).expect("JSON");
    stage.script.means("mem-…", who["person"].as_str().expect("a person"));
    let add = laptop.types.play("whoami --join").await;
    assert!(ada.types.also(&add).await.contains(&laptop.key), "it is hers");
    // What it may spend is still said by the project.
    assert!(laptop.asks().await.expect_err("it is in no project").contains("not_registered"));
    stage.script.means("did:key:…", &laptop.key);
    stage.operator("project member PROJECT --add did:key:… --role manager").await;
    laptop.asks().await.expect("it draws by itself");
    let said = ada.types.play("whoami --revoke").await;
    assert!(said.contains("stopped  1 tokens"), "{said}");
    assert!(laptop.types.play("whoami").await.contains("revoked at"));
    eventually("what it drew is stopped", async || match laptop.asks().await {
        Err(refused) if refused.contains("revoked") => Ok(()),
        said => Err(format!("{said:?}")),
    })
    .await;
}

//! Every command of `docs/start/class.md`, read from the page, against processes: a PI makes a class, students claim and ask while her key
//! is away, an assistant looks on, a laptop is lost, a job spends from a folder of its own.

use std::path::PathBuf;

use comity_tests::federation::{LOOPBACK, PER_REQUEST};
use comity_tests::page::{Script, Typist};
use comity_tests::{Federation, Owner, Scripted, eventually, upstream};
use comity_wire::Digest;
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/start/class.md");
const LIST: &str =
    "\u{feff}name,id,role\r\n\"Lovelace, Ada\",ada,\r\nBob,bob,student\r\nCarol,carol,\r\nTom,tutor,assistant\r\n";

struct Stage {
    federation: Federation,
    script: Script,
    _upstream: Scripted,
}

struct Person<'a> {
    types: Typist<'a>,
    folder: PathBuf,
}

impl Stage {
    async fn start() -> Self {
        let upstream = Scripted::start().await;
        let owners = [Owner::scripted("lab", &upstream, PER_REQUEST)];
        let federation = Federation::start_with(&owners, LOOPBACK, |name, home| {
            if name == "lab" {
                std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml");
            }
        })
        .await;
        let script = Script::new(PAGE);
        script.means("https://HUB", federation.address("hub"));
        script.means("lab/tiny", "lab/model");
        script.means("…", "Where?");
        Self { federation, script, _upstream: upstream }
    }

    fn comes(&self, name: &str) -> Person<'_> {
        let folder = self.federation.path().join(format!("of-{name}"));
        std::fs::create_dir_all(folder.join(".config/comity")).expect("a home");
        std::fs::copy(self.federation.path().join("roster/roster.cbor"), folder.join("roster.cbor")).expect("a roster");
        Person { types: self.script.at(&folder), folder }
    }

    /// Who leads the federation's project.
    async fn pi(&self) -> Person<'_> {
        let pi = self.comes("pi");
        let seed = Digest(*self.federation.member().seed());
        std::fs::write(pi.folder.join(".config/comity/member.key"), seed.to_string()).expect("a key");
        let project = self.federation.account().await.project;
        pi.types.play_with("init --roster", &format!("--project {project}")).await;
        std::fs::write(pi.folder.join("roster.csv"), LIST).expect("a list");
        pi
    }
}

impl Person<'_> {
    fn gives(&self, file: &str, to: &Self) {
        std::fs::copy(self.folder.join(file), to.folder.join(file)).expect("a file that is handed on");
    }

    async fn asks(&self) -> Result<String, String> {
        let said = self.types.run_with("chat lab/tiny", "").await;
        if said.success { Ok(said.stdout) } else { Err(said.stderr) }
    }

    /// The row of somebody in the class, as whoever this is sees it.
    async fn row(&self, class: &str, of: &str) -> Value {
        let rows: Value =
            serde_json::from_str(&self.types.also(&format!("comity class show {class} --json")).await).expect("JSON");
        let row = rows.as_array().expect("rows").iter().find(|row| row["student"] == of);
        row.unwrap_or_else(|| panic!("no {of} in {rows}")).clone()
    }
}

/// The code in a list of codes.
fn code_of(codes: &str, student: &str) -> String {
    let line = codes.lines().find(|line| line.starts_with(&format!("{student},")));
    line.and_then(|line| line.rsplit(',').next()).unwrap_or_else(|| panic!("no {student} in {codes}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_claims_and_asks_within_its_caps() {
    let stage = Stage::start().await;
    let pi = stage.pi().await;
    pi.types.play("class create").await;
    let codes = std::fs::read_to_string(pi.folder.join("codes.csv")).expect("codes");
    assert_eq!(codes.lines().count(), 1 + 4 + 2, "four on the list and two to spare: {codes}");
    for file in ["weather.class", ".config/comity/classes/weather/class.json"] {
        let text = std::fs::read_to_string(pi.folder.join(file)).expect("a file");
        assert!(!text.contains(&code_of(&codes, "ada")), "no code stands in {file}");
    }
    // Her key is away from now on.
    let (key, safe) = (pi.folder.join(".config/comity/member.key"), pi.folder.join("safe.key"));
    std::fs::rename(&key, &safe).expect("a safe");
    let (ada, bob, carol, tutor) = (stage.comes("ada"), stage.comes("bob"), stage.comes("carol"), stage.comes("tutor"));
    for (person, name) in [(&ada, "ada"), (&bob, "bob"), (&carol, "carol"), (&tutor, "tutor")] {
        pi.gives("weather.class", person);
        person.types.play("init --roster").await;
        stage.script.means("CODE", code_of(&codes, name).to_lowercase());
        person.types.play("class join").await;
        assert!(person.asks().await.expect("the mandate is in force").contains(upstream::ANSWER));
    }
    // A code opens one place once.
    let again = bob.types.refused_with("class join", "").await;
    assert!(again.contains("not_yours"), "{again}");
    std::fs::rename(&safe, &key).expect("she is back");
    sees_and_changes(&stage, &pi, &ada, &codes).await;
    assists(&pi, &tutor, &bob).await;
    answers_for_all(&stage, &pi).await;
    loses_a_laptop(&stage, &pi, &carol).await;
    jobs(&stage, &pi).await;
    a_students_job(&pi, &ada).await;
    stage.script.all_played(&[("login", "researcher_page has an issuer"), ("proxy", "researcher_page has it")]);
    stage.federation.books_add_up().await;
    stage.federation.end().await;
}

async fn sees_and_changes(stage: &Stage, pi: &Person<'_>, ada: &Person<'_>, codes: &str) {
    let shown = pi.types.play("class show weather").await;
    assert!(shown.lines().any(|line| line.starts_with("spare-01") && line.contains("not claimed")), "{shown}");
    // The second call acknowledges the first, which is paid with the next claim.
    assert!(ada.asks().await.is_ok());
    eventually("what the lab has claimed", async || {
        let usage = pi.types.play_with("class usage weather", "--csv").await;
        let row = usage.lines().find(|line| line.starts_with("ada,lab/model,2,1000,500000"));
        row.map(str::to_owned).ok_or(usage)
    })
    .await;
    // Half a credit was drawn: a day's cap.
    let row = pi.row("weather", "ada").await;
    assert_eq!((&row["state"], &row["drawn_ucr"]), (&"claimed".into(), &500_000.into()), "{row}");
    pi.types.play("class cap").await;
    assert_eq!(pi.row("weather", "ada").await["cap_ucr"], 3_000_000);
    assert!(ada.asks().await.is_ok(), "nothing was asked of the student");
    // Late, by a place of its own, and by one that was kept.
    let said = pi.types.play("class add").await;
    let (late, later) = (stage.comes("late"), stage.comes("later"));
    for (person, code) in [(&late, code_of(&said, "late@uni.example")), (&later, code_of(codes, "spare-01"))] {
        pi.gives("weather.class", person);
        person.types.play("init --roster").await;
        stage.script.means("CODE", code);
        person.types.play("class join").await;
        assert!(person.asks().await.is_ok());
    }
    let twice = pi.types.fails("comity class add weather Ada").await;
    assert!(twice.contains("is in weather already"), "{twice}");
}

async fn assists(pi: &Person<'_>, tutor: &Person<'_>, bob: &Person<'_>) {
    let file = pi.folder.join(".config/comity/classes/weather/class.json");
    std::fs::copy(file, tutor.folder.join("class.json")).expect("what an assistant is given");
    let shown = tutor.types.play("class show class.json").await;
    assert!(shown.lines().any(|line| line.starts_with("bob") && line.contains("claimed")), "{shown}");
    tutor.types.play("class usage class.json").await;
    // A student looks at nobody.
    std::fs::copy(tutor.folder.join("class.json"), bob.folder.join("class.json")).expect("a file that went astray");
    let refused = bob.types.fails("comity class show class.json").await;
    assert!(refused.contains("not_yours"), "{refused}");
    tutor.types.play("class revoke class.json bob").await;
    ends(bob).await;
    pi.types.play("class revoke weather bob").await;
    assert!(pi.row("weather", "bob").await["state"].as_str().expect("a state").contains("revoked"));
}

/// The house's operator says who they are; logins are played by `researcher_page`.
async fn answers_for_all(stage: &Stage, pi: &Person<'_>) {
    let early = pi.types.refused_with("class sponsor", "").await;
    assert!(early.contains("were refused"), "{early}");
    let operator = stage.script.at(stage.federation.path());
    for name in ["pi", "ada", "carol", "tutor", "late", "later"] {
        let of = stage.script.at(&stage.federation.path().join(format!("of-{name}")));
        let who: Value = serde_json::from_str(&of.also("comity whoami --json").await).expect("JSON");
        let key = who["key"].as_str().expect("a key");
        operator.also(&format!("comity clearing person vouch {key} registered --seen badge --home house")).await;
    }
    let said = pi.types.play("class sponsor").await;
    assert!(said.contains("you answer for 5 until"), "{said}");
}

/// What was drawn is stopped, within a minute, and nothing more can be.
async fn ends(person: &Person<'_>) {
    let refused = eventually("nothing is answered any more", async || match person.asks().await {
        Err(refused) => Ok(refused),
        Ok(said) => Err(said),
    })
    .await;
    assert!(["revoked", "mandate", "not_yours"].iter().any(|word| refused.contains(word)), "{refused}");
}

async fn loses_a_laptop(stage: &Stage, pi: &Person<'_>, carol: &Person<'_>) {
    let code = code_of(&pi.types.play("class code").await, "carol");
    ends(carol).await;
    let laptop = stage.comes("laptop");
    pi.gives("weather.class", &laptop);
    laptop.types.play("init --roster").await;
    stage.script.means("CODE", code);
    laptop.types.play("class join").await;
    let row = pi.row("weather", "carol").await;
    assert_eq!(
        (&row["state"], &row["drawn_ucr"]),
        (&"claimed".into(), &500_000.into()),
        "what was drawn counts on: {row}"
    );
    // Half a credit is what a day has.
    let refused = laptop.asks().await.expect_err("the day's cap is drawn");
    assert!(refused.contains("limit_exceeded"), "{refused}");
}

async fn jobs(stage: &Stage, pi: &Person<'_>) {
    for (begins, folder) in
        [("delegate job --cap 0.05cr --hours 8", "job1"), ("delegate job --cap 0.05cr --hours 4", "job2")]
    {
        let lines = pi.types.play(begins).await;
        let home = lines.lines().next().and_then(|line| line.strip_prefix("export COMITY_HOME=")).expect("a home");
        assert!(home.ends_with(folder), "{lines}");
        let elsewhere = stage.comes(&format!("node-of-{folder}"));
        for line in lines.lines().skip(1) {
            elsewhere.types.also(&line.replacen("comity", &format!("comity --home {home}"), 1)).await;
        }
        let receipts = elsewhere.types.also(&format!("comity --home {home} receipts verify")).await;
        assert!(receipts.contains("1 receipts stand"), "{receipts}");
    }
    let mandate = std::fs::read_to_string(pi.folder.join("job1/profile.toml")).expect("a profile");
    let mandate = mandate.lines().find_map(|line| line.strip_prefix("mandate = ")).expect("a mandate");
    stage.script.means("MANDATE", mandate.trim_matches('"'));
    pi.types.play("mandate revoke").await;
    // Offline, from a token of hers.
    pi.asks().await.expect("an answer");
    let tokens: Value = serde_json::from_str(&pi.types.also("comity wallet status --json").await).expect("JSON");
    let open = tokens.as_array().expect("tokens").iter().find(|token| token["open"] == true).expect("an open token");
    let token = open["token"].as_str().expect("an id");
    let job = format!("comity delegate job --cap 2000 --hours 2 --starts-within 2 --token {token} --out job3");
    pi.types.also(&job).await;
    let home = pi.folder.join("job3");
    let asked = format!("comity --home {} chat lab/tiny Where?", home.display());
    assert!(pi.types.also(&asked).await.contains(upstream::ANSWER));
    pi.types.also(&format!("comity delegate {token} --cap 2000")).await;
    // The job may be at work still: it is taken from it only by name.
    let ended = pi.types.also("comity wallet finish").await;
    assert!(!ended.contains(token), "{ended}");
    stage.script.means("TOKEN", token);
    assert!(pi.types.play("wallet revoke").await.contains("ended"));
}

/// Within what the student has, and counted there.
async fn a_students_job(pi: &Person<'_>, ada: &Person<'_>) {
    ada.types.also("comity wallet finish").await;
    let before = pi.row("weather", "ada").await["drawn_ucr"].as_i64().expect("an amount");
    ada.types.also("comity delegate job --cap 0.05cr --hours 8 --model lab/tiny --out job4").await;
    let home = ada.folder.join("job4");
    assert!(
        ada.types
            .also(&format!("comity --home {} chat lab/tiny Where?", home.display()))
            .await
            .contains(upstream::ANSWER)
    );
    assert_eq!(pi.row("weather", "ada").await["drawn_ucr"], before + 50_000);
    let wide = ada.types.fails("comity delegate job --cap 4cr --hours 8 --model lab/tiny --out job5").await;
    assert!(wide.contains("within a mandate of your own"), "{wide}");
    assert!(!ada.folder.join("job5").exists(), "what came to nothing leaves nothing behind");
}

//! Every command of `docs/start/accountant.md`, read from the page, against processes. Here awards, reports, two officers, and what suspense
//! paid; the rest of the page is played by `accountant_month`.

use std::path::Path;

use comity_node::shell;
use comity_sdk::Profile;
use comity_sdk::profile::Limits;
use comity_tests::federation::LOOPBACK;
use comity_tests::page::{Script, Typist};
use comity_tests::{Federation, Owner, Scripted, eventually, process};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, SecretKey};
use serde_json::{Value, json};

pub(super) const PAGE: &str = include_str!("../../docs/start/accountant.md");
/// Where the second half of the page begins.
pub(super) const SECOND: &str = "\n## Closing a month";

/// What a request costs, whatever is in it: a payment of the page is one.
pub(super) const REQUEST_UCR: i64 = 12_500_000;
const PER_REQUEST: &str = r#"{ meter = "requests", steps = [{ from = 0, ucr_per_million = 12_500_000_000_000 }] }"#;
/// The page's days are examples, and all of them are replaced by days counted from today, since some have to be real: a period is closed that
/// is over (`2026-10-31`), terms, awards and a schedule hold from today (`2026-11-01`, `2027-01-01`) or end later, and the costs of a fiscal
/// year (`2026-07-01` to `2027-06-30`) are recorded when it is over. The file with the schedule's rates is dated today.
const DAYS: [(&str, i64); 11] = [
    ("2026-10-01", -32),
    ("2026-10-31", -2),
    ("2026-11-01", 0),
    ("2026-11-05", 0),
    ("2026-07-01", -400),
    ("2027-06-30", -36),
    ("2027-01-01", 0),
    ("2027-03-31", 89),
    ("2027-07-01", 181),
    ("2027-12-31", 364),
    ("2028-06-30", 546),
];

pub(super) fn day(from_today: i64) -> String {
    let now = shell::now();
    let at = from_today.unsigned_abs() * DAY_S;
    let at = if from_today < 0 { now.minus(at) } else { now.plus(at) };
    at.to_string().split('T').next().expect("a day").to_owned()
}

/// A house, an owner whose requests are as dear as the page's payments, and Ada, who asks them.
pub(super) struct Stage {
    pub(super) federation: Federation,
    pub(super) script: Script,
    _upstream: Scripted,
}

impl Stage {
    /// `requests` are as many as the wallet draws a token for.
    pub(super) async fn start(page: &str, requests: i64) -> Self {
        comity_tests::page::clear_of_midnight().await;
        let upstream = Scripted::start().await;
        let lab = Owner::scripted("lab", &upstream, PER_REQUEST);
        let furnish = |name: &str, home: &Path| {
            if name == "lab" {
                std::fs::write(home.join("node.toml"), "[gateway]\nclaim_every_s = 1\n").expect("node.toml");
                let path = home.join("models/model.toml");
                let offer = std::fs::read_to_string(&path).expect("an offer");
                let offer = offer.replace("window_max = 1_000_000", "window_max = 1_000_000_000");
                std::fs::write(path, offer.replace("charge_max = 50_000", "charge_max = 50_000_000"))
                    .expect("an offer");
            }
        };
        let federation = Federation::start_with(std::slice::from_ref(&lab), LOOPBACK, furnish).await;
        let home = federation.researcher().await;
        let token = Amount::new(requests * REQUEST_UCR).expect("an amount");
        let limits = Limits { token, total: Amount::credits(10_000), day: None };
        Profile::amend(Path::new(&home), |profile| profile.limits = limits).expect("a profile");
        let script = Script::new(page);
        script.means("PROJECT", federation.project);
        script.means("ORG", federation.card("lab").organisation);
        for (on_the_page, from_today) in DAYS {
            script.means(on_the_page, day(from_today));
        }
        Self { federation, script, _upstream: upstream }
    }

    pub(super) fn desk(&self) -> Typist<'_> {
        self.script.at(self.federation.path())
    }

    /// Ada asks so often, and ends her token; gives its id once all of it is settled.
    pub(super) async fn asked(&self, requests: i64) -> String {
        for _ in 0..requests {
            self.desk().also("comity --home ada chat lab/model --max-tokens 8 Where?").await;
        }
        let token = self.token().await;
        self.ended(&token, requests).await;
        token
    }

    /// The wallet ends its tokens, and this one is settled with as many requests.
    pub(super) async fn ended(&self, token: &str, requests: i64) {
        let ended = ["--home", "ada", "wallet", "finish"];
        eventually("the token is ended", async || {
            let ended = process::run_in(self.federation.path(), &ended).await;
            if ended.success { Ok(()) } else { Err(ended.stderr) }
        })
        .await;
        eventually("it is settled", async || {
            let account = self.federation.account().await;
            let settled = account
                .tokens
                .iter()
                .any(|row| row.token.to_string() == token && row.settled.ucr() == requests * REQUEST_UCR && row.closed);
            if settled && account.in_escrow.is_zero() { Ok(()) } else { Err(format!("{account:?}")) }
        })
        .await;
    }

    /// The one that the wallet has open.
    pub(super) async fn token(&self) -> String {
        let purses = self.desk().also("comity --home ada wallet status --json").await;
        let purses: Vec<Value> = serde_json::from_str(&purses).expect("JSON");
        let open = purses.iter().find(|purse| purse["open"] == true).expect("one is open");
        open["token"].as_str().expect("an id").to_owned()
    }

    /// The account, whose credits are each somewhere: in all and in each lot.
    pub(super) async fn account(&self) -> Value {
        let shown = self.desk().also("comity clearing project show --home house PROJECT").await;
        let account: Value = serde_json::from_str(&shown).expect("JSON");
        let sum = |of: &Value| {
            let parts = ["unreleased", "available", "in_escrow", "settled", "expired"];
            parts.iter().map(|part| of[part].as_i64().expect("an amount")).sum::<i64>()
        };
        assert_eq!(account["awarded"], sum(&account), "{account}");
        for lot in account["lots"].as_array().expect("lots") {
            let given = lot["amount"].as_i64().expect("an amount") - lot["taken_back"].as_i64().expect("an amount");
            assert_eq!(given, sum(lot), "{lot}");
        }
        account
    }

    /// The balance of a kind of account.
    pub(super) async fn balance(&self, account: &str) -> i64 {
        let trial = self.desk().also("comity clearing report trial-balance --home house").await;
        let trial: Value = serde_json::from_str(&trial).expect("JSON");
        let rows = trial["rows"].as_array().expect("rows");
        let ucr = |row: &Value| row["balance_ucr"].as_i64().expect("an amount");
        assert_eq!((ucr(&trial["total"]), rows.iter().map(ucr).sum::<i64>()), (0, 0), "{trial}");
        rows.iter().find(|row| row["account"] == account).map_or(0, ucr)
    }
}

/// The lot of an award's part.
fn lot(account: &Value, award: &str, part: &str) -> Value {
    let lots = account["lots"].as_array().expect("lots");
    let found = lots.iter().find(|lot| lot["award_number"] == award && lot["part"] == part);
    found.unwrap_or_else(|| panic!("part {part} of {award}: {account}")).clone()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn awards_reports_two_officers_and_what_suspense_paid() {
    let (page, _) = PAGE.split_once(SECOND).expect("the page has both halves");
    let mut stage = Stage::start(page, 4).await;
    projects(&stage).await;
    awards(&stage).await;
    books(&stage).await;
    reports(&stage).await;
    officers(&stage).await;
    suspense(&mut stage).await;
    stage.script.all_played(&[]);
    stage.federation.end().await;
}

/// What a project has, who may draw for it, and what stops it.
async fn projects(stage: &Stage) {
    let (desk, script) = (stage.desk(), &stage.script);
    let shown = desk.json("clearing project show").await;
    assert_eq!(shown["awarded"], 10_000_000, "{shown}");
    let given = desk.json("clearing award give --home house PROJECT --credits 100 --funder NAIRR").await;
    // The same again changes nothing; in other words it is refused.
    let again = desk.json("clearing award give --home house PROJECT --credits 100 --funder NAIRR").await;
    assert_eq!((&again["id"], &again["done"]), (&given["id"], &json!(true)));
    let other = "comity clearing award give --home house PROJECT --credits 90 --funder NAIRR --award NAIRR-1";
    assert!(desk.fails(other).await.contains("in other words"));
    assert_eq!(stage.account().await["awarded"], 110_000_000);
    desk.play("clearing project vet --home house PROJECT registered").await;
    script.means("did:key:…", SecretKey::from_seed(shell::random()).public());
    desk.play("clearing project member --home house PROJECT --add did:key:… --role member").await;
    // What was drawn lives on.
    desk.play("clearing project freeze").await;
    let stopped = desk.fails("comity --home ada chat lab/model Where?").await;
    assert!(stopped.contains("frozen"), "{stopped}");
    desk.play_with("clearing project freeze", "--resume").await;
    stage.asked(2).await;
    desk.also("comity --home ada chat lab/model Where?").await;
    let token = stage.token().await;
    script.means("tok-…", &token);
    desk.play("clearing revoke").await;
    let held = desk.json("clearing report holds").await;
    let rows = held["rows"].as_array().expect("rows");
    let [row] = &rows[..] else { panic!("one token is open: {held}") };
    assert_eq!((text(&row["token"]), &row["overdue"]), (&token[..], &json!(false)), "{held}");
    stage.account().await;
    // What a node admitted is paid.
    stage.ended(&token, 1).await;
}

/// An award in lots, and what becomes of them.
async fn awards(stage: &Stage) {
    let (desk, script) = (stage.desk(), &stage.script);
    let before = stage.account().await;
    desk.play("clearing award give --home house PROJECT --credits 100 --funder NSF --award 2541234").await;
    let account = stage.account().await;
    let (first, second) = (lot(&account, "2541234", "1"), lot(&account, "2541234", "2"));
    assert_eq!((&first["available"], &second["unreleased"]), (&json!(50_000_000), &json!(50_000_000)), "{account}");
    assert_eq!((&first["ops"], &first["use_or_lose"]), (&json!(["chat"]), &json!(true)), "{account}");
    script.means("AWARD", text(&first["award"]));
    script.means("LOT", text(&second["lot"]));
    desk.play("clearing award supplement").await;
    desk.play("clearing award release").await;
    desk.play("clearing award extend").await;
    let account = stage.account().await;
    let second = lot(&account, "2541234", "2");
    assert_eq!((&second["unreleased"], &second["available"]), (&json!(0), &json!(50_000_000)), "{account}");
    assert!(second["ends_at"].as_u64() > first["ends_at"].as_u64(), "{account}");
    assert_eq!(lot(&account, "2541234", "supplement 1")["amount"], 25_000_000);

    let (own, ada) = (stage.federation.project, stage.federation.member().public());
    let add = format!("comity clearing project add --home house --title Other --purpose research --member {ada}");
    let other = desk.also(&add).await;
    script.means("PROJECT", &other);
    desk.play("clearing award move").await;
    let theirs = stage.account().await;
    assert_eq!((&theirs["awarded"], &theirs["lots"][0]["ops"]), (&json!(10_000_000), &json!(["chat"])), "{theirs}");
    script.means("PROJECT", own);
    desk.play("clearing award withdraw").await;
    let account = stage.account().await;
    assert_eq!(lot(&account, "2541234", "2")["available"], 30_000_000, "{account}");
    let more = account["awarded"].as_i64().expect("an amount") - before["awarded"].as_i64().expect("an amount");
    assert_eq!(more, 105_000_000, "given 100 and 25, moved 10, withdrawn 10");
    desk.play("clearing owner project").await;
    desk.play("clearing award freeze").await;
    assert!(lot(&stage.account().await, "2541234", "1")["closed"].is_string());
    desk.play_with("clearing award freeze", "--resume").await;
    assert!(lot(&stage.account().await, "2541234", "1")["closed"].is_null());
    // Restricted lots are drawn on first.
    stage.asked(1).await;
    let account = stage.account().await;
    let settled = |part| lot(&account, "2541234", part)["settled"].as_i64().expect("an amount");
    assert_eq!(settled("1") + settled("supplement 1"), REQUEST_UCR, "{account}");
}

/// The books add up, also for somebody else.
async fn books(stage: &Stage) {
    let (desk, script) = (stage.desk(), &stage.script);
    assert_eq!(desk.json("ledger audit --home house").await["holds"], true);
    assert_eq!(desk.json("ledger contradictions").await, json!([]));
    let log: Value = serde_json::from_str(&desk.also("comity clearing log show --home house").await).expect("JSON");
    script.means("VKEY", text(&log["vkey"]));
    desk.play("clearing log export").await;
    let audited = desk.json("audit log-copy").await;
    assert_eq!(audited["holds"], true, "{audited}");
}

async fn reports(stage: &Stage) {
    let (desk, lab) = (stage.desk(), stage.federation.card("lab").organisation);
    let settled = 4 * REQUEST_UCR;
    let trial = desk.json("clearing report trial-balance").await;
    assert_eq!(trial["total"]["balance_ucr"], 0, "{trial}");
    assert!(desk.play_with("clearing report trial-balance", "--csv").await.starts_with("account,debits_ucr,"));
    let rolled = desk.json("clearing report roll-forward").await;
    let mut sum = 0;
    for account in ["allocation", "unreleased", "escrow"] {
        sum += stage.balance(account).await;
    }
    assert_eq!(rolled["total"]["closing_ucr"], sum, "{rolled}");
    for row in rolled["rows"].as_array().expect("rows") {
        let ucr = |name: &str| row[format!("{name}_ucr")].as_i64().expect("an amount");
        let more = ["opening", "awarded", "moved_in", "exchanged", "reversed", "credited"].map(ucr);
        let less = ["moved_out", "withdrawn", "expired", "settled"].map(ucr);
        assert_eq!(more.iter().sum::<i64>() - less.iter().sum::<i64>(), ucr("closing"), "{row}");
    }
    let payables = desk.json("clearing report payables").await;
    let [row] = &payables["rows"].as_array().expect("rows")[..] else { panic!("one owner: {payables}") };
    let closing = [&row["payable_ucr"], &row["not_payable_ucr"], &row["closing_ucr"]];
    assert_eq!(closing, [&json!(0), &json!(settled), &json!(settled)], "{payables}");
    assert!(text(&row["reasons"]).starts_with("no_terms"), "{payables}");
    let prices = desk.json("clearing report prices").await;
    let price = &prices["rows"][0];
    assert_eq!((text(&price["owner"]), &price["op"]), (&lab.to_string()[..], &json!("chat")), "{prices}");
    assert!(price["quoted_from"].is_string() && price["tariff"].is_string(), "{prices}");
    desk.play("clearing report recovery").await;
    let statement = desk.json("clearing report statement").await;
    let kinds: Vec<_> = statement["rows"].as_array().expect("rows").iter().map(|row| text(&row["kind"])).collect();
    assert!(["allocate", "reserve", "refund", "withdraw"].iter().all(|kind| kinds.contains(kind)), "{statement}");
    desk.play("clearing report journal").await;
    let journal = std::fs::read_to_string(stage.federation.path().join("books.journal")).expect("a journal");
    assert!(journal.contains("seq:") && journal.contains(&format!("payable:{lab}")), "{journal}");
}

/// From the second person on, nobody gives anything alone.
async fn officers(stage: &Stage) {
    let (desk, script) = (stage.desk(), &stage.script);
    let ada = stage.federation.member().public();
    let vouch = format!("comity clearing person vouch --home house {ada} registered --seen \"a letter\"");
    let vouched: Value = serde_json::from_str(&desk.also(&vouch).await).expect("JSON");
    script.means("mem-…", text(&vouched["person"]));
    script.means("did:key:…", desk.play("clearing officer key ann").await);
    desk.play("clearing officer add").await;
    // One officer is none: still done at once.
    let alone = desk.also("comity clearing award give --home house PROJECT --credits 1 --funder F --award 2").await;
    assert!(alone.contains("\"done\":true"), "{alone}");
    let bob = desk.also("comity clearing officer key bob").await;
    desk.also(&format!("comity clearing officer add --home house {bob} --name Bob --reason \"appointed 1 May\"")).await;

    let alone = desk.fails("comity clearing award give --home house PROJECT --credits 1 --funder F --award 3").await;
    assert!(alone.contains("duty_conflict"), "{alone}");
    let again = desk.also("comity clearing officer key ann-again").await;
    let add =
        format!("comity clearing officer add --home house {again} --name \"Ann Lee\" --reason \"a second computer\"");
    approved(stage, &desk.also(&format!("{add} --officer ann/keys/officer.key")).await).await;

    let given = desk.play("clearing award give --home house PROJECT --credits 100 --funder NSF --award 1").await;
    let before = stage.account().await["awarded"].as_i64().expect("an amount");
    let act: Value = serde_json::from_str(&given).expect("JSON");
    let id = text(&act["id"]);
    for same in ["ann", "ann-again"] {
        let approve = format!("comity clearing act approve --home house {id} --officer {same}/keys/officer.key");
        let refused = desk.fails(&approve).await;
        assert!(refused.contains("duty_conflict"), "{refused}");
    }
    let acts = desk.json("clearing act list").await;
    assert_eq!((text(&acts[0]["id"]), &acts[0]["done_at"]), (id, &Value::Null), "{acts}");
    approved(stage, &given).await;
    assert_eq!(stage.account().await["awarded"], before + 100_000_000);

    script.means("did:key:…", SecretKey::from_seed(shell::random()).public());
    for begins in [
        "clearing project member --home house PROJECT --add did:key:… --role manager",
        "clearing project vet --home house PROJECT vetted",
        "clearing person vouch",
    ] {
        approved(stage, &desk.play(begins).await).await;
    }
    // Whoever stops something needs nobody; to let it go on, both.
    for what in ["clearing project freeze", "clearing award freeze"] {
        desk.play(what).await;
        let alone = desk.refused_with(what, "--resume").await;
        assert!(alone.contains("duty_conflict"), "{alone}");
        let with = "--resume --officer ann/keys/officer.key --reason \"letter of 5 May\"";
        approved(stage, &desk.play_with(what, with).await).await;
    }
    let waits = "comity clearing award give --home house PROJECT --credits 7 --funder F --award 7";
    let waits = desk.also(&format!("{waits} --officer ann/keys/officer.key")).await;
    let waits: Value = serde_json::from_str(&waits).expect("JSON");
    script.means("ACT", text(&waits["id"]));
    desk.play("clearing act drop").await;
    assert!(desk.refused_with("clearing act approve", "").await.contains("no act"));
    assert_eq!(desk.json("ledger audit --home house").await["holds"], true);
}

/// The other officer approves what waits.
async fn approved(stage: &Stage, said: &str) {
    let waits: Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(waits["done"], false, "{said}");
    stage.script.means("ACT", text(&waits["id"]));
    assert_eq!(stage.desk().json("clearing act approve").await["done"], true);
}

/// The house comes back from a backup, pays for a token that it forgot, and two officers write it off; then its owner gives some of it back.
async fn suspense(stage: &mut Stage) {
    stage.desk().also("comity clearing backup --home house --out backup --with-keys").await;
    let token = stage.asked(1).await;
    stage.federation.service("house").kill().await;
    let home = stage.federation.path().join("house");
    std::fs::rename(&home, stage.federation.path().join("lost")).expect("a disk is lost");
    stage.desk().also("comity clearing restore --from backup --home house").await;
    stage.desk().also("comity clearing renew --home house --restored").await;
    stage.federation.move_house(&home).await;
    let desk = stage.desk();
    desk.also("comity clearing log restart --home house --why \"a disk was lost\"").await;
    eventually("the forgotten token is paid", async || match stage.balance("suspense").await {
        balance if balance == -REQUEST_UCR => Ok(()),
        balance => Err(format!("{balance} in suspense")),
    })
    .await;
    let more = "comity clearing write-off --home house --credits 13 --reason more --officer ann/keys/officer.key";
    let more = desk.fails(more).await;
    assert!(more.contains("is suspense short of"), "{more}");
    approved(stage, &desk.play("clearing write-off --home house --credits 12.5").await).await;
    assert_eq!([stage.balance("suspense").await, stage.balance("written-off").await], [0, -REQUEST_UCR]);
    let credit = format!("comity node credit --home lab --token {token} --amount 2000000 --reason fault --by hanna");
    desk.also(&credit).await;
    eventually("the note is booked", async || match stage.balance("suspense").await {
        2_000_000 => Ok(()),
        balance => Err(format!("{balance} in suspense")),
    })
    .await;
    approved(stage, &desk.play("clearing write-off --home house --credits 2 --recovered").await).await;
    assert_eq!([stage.balance("suspense").await, stage.balance("written-off").await], [0, 2_000_000 - REQUEST_UCR]);
    assert_eq!(desk.json("ledger audit --home house").await["holds"], true);
}

//! The second half of `docs/start/accountant.md`, its commands read from the page, against processes: a month is closed, owners are paid by
//! their terms, disputes are decided, and an auditor has it all from the log.

use comity_tests::{eventually, page};
use serde_json::{Value, json};

use super::accountant_page::{PAGE, REQUEST_UCR, SECOND, Stage, day, text};

/// What is asked before anything was agreed, and what is asked afterwards: enough for the payment and the exchange of the page.
const BEFORE: i64 = 1;
const AFTER: i64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_closed_owners_are_paid_and_an_auditor_has_it_from_the_log() {
    let (_, page) = PAGE.split_once(SECOND).expect("the page has both halves");
    let stage = Stage::start(page, AFTER).await;
    stage.desk().also("comity clearing award give --home house PROJECT --credits 2000 --funder NSF --award 1").await;
    periods(&stage).await;
    terms(&stage).await;
    schedules(&stage).await;
    payments(&stage).await;
    exchange(&stage).await;
    disputes(&stage).await;
    counts(&stage).await;
    audit(&stage).await;
    stage.script.all_played(&[]);
    stage.federation.end().await;
}

async fn owner(stage: &Stage) -> Value {
    let show = stage.desk().json("clearing owner show").await;
    let ucr = |name: &str| show[name].as_i64().expect("an amount");
    assert_eq!(ucr("earned_ucr"), ucr("payable_ucr") + ucr("not_payable_ucr"), "{show}");
    show
}

/// Payable and not payable are what is owed.
async fn payables(stage: &Stage) -> Value {
    let said = stage.desk().also("comity clearing report payables --home house").await;
    let report: Value = serde_json::from_str(&said).expect("JSON");
    let row = report["rows"][0].clone();
    let ucr = |name: &str| row[name].as_i64().expect("an amount");
    assert_eq!(ucr("payable_ucr") + ucr("not_payable_ucr"), ucr("closing_ucr"), "{row}");
    row
}

/// A period of which not a transfer is left to come.
async fn periods(stage: &Stage) {
    let desk = stage.desk();
    let early = format!("comity clearing period close --home house --to {} --name early", day(0));
    assert!(desk.fails(&early).await.contains("an hour after its end"));
    desk.play("clearing period close").await;
    let again = "comity clearing period close --home house --to 2026-10-31 --name again";
    assert!(desk.fails(again).await.contains("closed already"));
    desk.play("clearing period reopen").await;
    desk.also("comity clearing period close --home house --to 2026-10-31 --name \"2026-10, again\"").await;
    let list = desk.json("clearing period list").await;
    let names: Vec<_> = list.as_array().expect("a list").iter().map(|period| text(&period["name"])).collect();
    assert_eq!(names, ["2026-10, again", "2026-10"]);
    assert!(list[0]["reopened_at"].is_null() && list[1]["reopened_at"].is_u64(), "it stays on record: {list}");
    assert_eq!(list[0]["totals"], json!([]), "nothing was done then: {list}");
}

/// Nothing is payable until it is said on what paper.
async fn terms(stage: &Stage) {
    let desk = stage.desk();
    stage.asked(BEFORE).await;
    let earned = BEFORE * REQUEST_UCR;
    let show = owner(stage).await;
    assert_eq!((&show["payable_ucr"], &show["not_payable_ucr"]), (&json!(0), &json!(earned)), "{show}");
    assert_eq!(show["reasons"][0]["reason"], "no_terms", "{show}");
    let closed = "comity clearing owner terms set agency --home house ORG --from 2026-10-01";
    assert!(desk.fails(closed).await.contains("owner_terms"));
    // A schedule comes before terms that rest on it.
    let first = desk.refused_with("clearing owner terms set recharge", "").await;
    assert!(first.contains("no schedule 'Core rates'"), "{first}");
    desk.play("clearing owner terms set commercial").await;
    assert_eq!(owner(stage).await["payable_ucr"], earned);
    desk.play("clearing owner terms set agency --home house ORG --from 2026-11-01").await;
    assert_eq!(owner(stage).await["not_payable_ucr"], earned, "nothing without an agreement's number");
    let refused = desk.refused_with("clearing owner paid", "").await;
    assert!(refused.contains("owner_terms"), "{refused}");
}

/// A recharge centre publishes its rates first, and asks no more than they say.
async fn schedules(stage: &Stage) {
    let desk = stage.desk();
    let file = &page::blocks(PAGE, "toml")[0];
    let (from, rates) = (stage.federation.path().join("rates.toml"), file.replace("2026-07-01", &day(0)));
    let record = "clearing owner schedule record";
    std::fs::write(&from, rates.replace("12000", "7199.999999")).expect("a file");
    assert!(desk.refused_with(record, "").await.contains("a schedule recovers cost and no more"));
    std::fs::write(&from, format!("{rates}\n[[rates]]{}", rates.split("[[rates]]").nth(1).expect("a rate")))
        .expect("a file");
    assert!(desk.refused_with(record, "").await.contains("has two rates"));
    std::fs::write(&from, file).expect("a file");
    assert!(desk.refused_with(record, "").await.contains("it begins today or later"));
    std::fs::write(&from, rates).expect("a file");
    desk.play(record).await;
    let list = desk.json("clearing owner schedule list").await;
    assert_eq!((&list[0]["name"], &list[0]["expected_ucr"]), (&json!("Core rates"), &json!(7_200_000_000_i64)));
    desk.play("clearing owner terms set recharge").await;
    let above = desk.fails("comity --home ada quote lab/model").await;
    assert!(above.contains("owner_terms"), "{above}");
    desk.play("clearing owner costs").await;
    let report = desk.json("clearing report recovery").await;
    let row = &report["rows"][0];
    let ucr = |name: &str| row[format!("{name}_ucr")].as_i64().expect("an amount");
    assert_eq!((ucr("recovered"), ucr("costs")), (0, 11_250_000_000), "{report}");
    assert_eq!(ucr("difference"), ucr("recovered") - ucr("costs"), "{report}");
    assert_eq!(ucr("carried_out"), ucr("carried_in") + ucr("difference"), "{report}");
    assert!(row["adjust_ppm"].as_i64() > Some(0), "{report}");
    // The agreement got its number, and pays what was counted before, too.
    desk.play("clearing owner terms set agency --home house ORG --from 2027-01-01").await;
    let terms = desk.json("clearing owner terms list").await;
    let kinds: Vec<_> = terms.as_array().expect("a list").iter().map(|row| text(&row["basis"]["kind"])).collect();
    assert_eq!(kinds, ["commercial", "agency", "recharge", "agency"], "{terms}");
    let in_force: Vec<_> = terms.as_array().expect("a list").iter().map(|row| row["in_force"] == true).collect();
    assert_eq!(in_force, [false, false, false, true], "{terms}");
    assert_eq!(owner(stage).await["payable_ucr"], BEFORE * REQUEST_UCR);
}

/// A run over a closed period has nothing of today's; one payment has.
async fn payments(stage: &Stage) {
    let (desk, script, folder) = (stage.desk(), &stage.script, stage.federation.path());
    stage.asked(AFTER).await;
    let earned = (BEFORE + AFTER) * REQUEST_UCR;
    let show = owner(stage).await;
    // Within 72 hours of its final a run keeps all of it.
    assert_eq!((&show["payable_ucr"], &show["kept_ucr"]), (&json!(earned), &json!(earned)), "{show}");
    let open = format!("comity clearing owner pay --home house --run early --to {} --on {}", day(0), day(0));
    assert!(desk.fails(&open).await.contains("owner_terms"));
    desk.play("clearing owner pay").await;
    let of_owner = "clearing owner remittance --home house --run 2026-10 --owner";
    let of_awards = "clearing owner remittance --home house --run 2026-10 --awards";
    for file in [of_owner, of_awards] {
        assert_eq!(desk.play(file).await.lines().count(), 0, "nothing was earned then");
    }
    assert_eq!(owner(stage).await["payable_ucr"], earned);

    desk.play("clearing owner paid").await;
    assert_eq!(owner(stage).await["payable_ucr"], earned - REQUEST_UCR);
    let said = desk.also("comity clearing owner remittance --home house --run \"wire 2026-117\"").await;
    let set: Value = serde_json::from_str(&said).expect("JSON");
    let [paid] = &set["remittances"].as_array().expect("payments")[..] else { panic!("one payment: {set}") };
    let ucr = |of: &Value, name: &str| of[name].as_i64().expect("an amount");
    assert_eq!(ucr(paid, "gross_ucr") - ucr(paid, "held_ucr"), ucr(paid, "net_ucr"), "{set}");
    let rows = paid["rows"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| ucr(row, "amount_ucr")).sum::<i64>(), REQUEST_UCR, "{set}");
    assert_eq!((&rows[0]["kind"], &rows[0]["reference"]), (&json!("agency"), &json!("IAA-27-004")), "{set}");
    // The files of a run, for a payment that has something in it.
    script.means("2026-10", "wire 2026-117");
    desk.play(of_owner).await;
    desk.play(of_awards).await;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    let (theirs, ours) = (read("remittance.csv"), read("draw-down.csv"));
    assert!(theirs.starts_with("owner,run,paid_on,earned_before,kind,reference,subject,fund,amount_ucr"), "{theirs}");
    assert!(!theirs.contains("proj-") && !theirs.contains("NSF"), "who researches what is not for the owner: {theirs}");
    assert!(ours.contains("award_number") && ours.contains(&stage.federation.project.to_string()), "{ours}");
}

/// What others paid becomes credit for a project of the owner's own.
async fn exchange(stage: &Stage) {
    let (desk, script, asking) = (stage.desk(), &stage.script, stage.federation.project);
    let house = stage.federation.card("house").organisation;
    desk.also(&format!("comity clearing owner project --home house {house} {asking} --reason \"letter of 2 May\""))
        .await;
    let member = stage.federation.member().public();
    let add = format!("comity clearing project add --home house --title Own --purpose research --member {member}");
    script.means("PROJECT", desk.also(&add).await);
    desk.play("clearing owner project").await;
    desk.play("clearing owner exchange").await;
    let own = stage.account().await;
    let lot = &own["lots"][0];
    assert_eq!((&lot["kind"], &lot["award_number"]), (&json!("institutional"), &json!("exchange 2026-1")), "{own}");
    assert_eq!(own["available"], 250_000_000, "{own}");
    let row = payables(stage).await;
    assert_eq!((&row["exchanged_ucr"], &row["remitted_ucr"]), (&json!(250_000_000), &json!(REQUEST_UCR)), "{row}");
    assert_eq!(row["closing_ucr"], 0, "{row}");
    let said = desk.also("comity clearing owner remittance --home house --run \"exchange 2026-1\"").await;
    assert!(said.contains("\"net_ucr\": 250000000"), "{said}");
    let more =
        format!("comity clearing owner exchange --home house ORG PROJECT --credits 1 --number 2 --ends {}", day(9));
    assert!(desk.fails(&more).await.contains("owed 0"), "no more than is payable");
}

/// What was paid is put in doubt: the owner keeps it once, and once it goes back.
async fn disputes(stage: &Stage) {
    let (desk, script) = (stage.desk(), &stage.script);
    assert_eq!(desk.json("ledger contradictions").await, json!([]));
    for (end, kept) in [("uphold", REQUEST_UCR), ("reverse", 0)] {
        let before = stage.balance("payable").await;
        let token = stage.asked(1).await;
        script.means("TOKEN", &token);
        let opened = desk.json("clearing dispute open --home house TOKEN").await;
        let list = desk.json("clearing dispute list").await;
        let dispute = &list["disputes"][0];
        assert_eq!((text(&dispute["token"]), &dispute["evidence"]), (&token[..], &opened["id"]), "{list}");
        assert_eq!((&dispute["state"], &dispute["held"]), (&json!("open"), &json!(REQUEST_UCR)), "{list}");
        assert_eq!([stage.balance("disputed").await, stage.balance("payable").await], [REQUEST_UCR, before]);
        script.means("DISPUTE", text(&dispute["id"]));
        desk.play(&format!("clearing dispute {end}")).await;
        assert_eq!([stage.balance("disputed").await, stage.balance("payable").await], [0, before + kept]);
        payables(stage).await;
    }
    let rolled = desk.also("comity clearing report roll-forward --home house").await;
    let rolled: Value = serde_json::from_str(&rolled).expect("JSON");
    assert_eq!(rolled["total"]["reversed_ucr"], REQUEST_UCR, "{rolled}");

    // What nobody acknowledged, a member challenges; the node shows it, and is paid. The same command tells how it stands.
    let before = stage.balance("payable").await;
    desk.also("comity --home ada chat lab/model --max-tokens 8 Where?").await;
    script.means("TOKEN", stage.token().await);
    eventually("a challenge that is answered", async || {
        let asked = desk.says("comity --home ada wallet challenge TOKEN --reason \"never answered\"").await;
        if asked.stdout.contains("\"answered\"") { Ok(()) } else { Err(asked.stdout + &asked.stderr) }
    })
    .await;
    assert_eq!(stage.balance("payable").await, before + REQUEST_UCR, "the tail that was waiting is paid at once");
}

/// Days that are over, on which nothing was sold. A count of what was sold today is taken by `accounted`, to the second.
async fn counts(stage: &Stage) {
    let desk = stage.desk();
    assert_eq!(desk.json("clearing match ask").await, json!({ "asked": 0 }));
    let show = "clearing match show --home house --from 2026-10-01 --to 2026-10-31";
    assert_eq!(desk.json(show).await, json!([]));
    assert_eq!(desk.play(&format!("{show} --csv")).await, "");
    let open = format!("comity clearing match ask --home house --from {} --to {}", day(0), day(0));
    assert!(desk.fails(&open).await.contains("has ended by now"));
}

/// Somebody else has it from the log, and from a sample.
async fn audit(stage: &Stage) {
    let (desk, script) = (stage.desk(), &stage.script);
    script.means("VKEY", text(&desk.json("clearing log show").await["vkey"]));
    script.means("https://house.example:4443", stage.federation.address("house"));
    script.means("did:key:…", stage.federation.transport_key("house"));
    let sample = desk.json("audit sample").await;
    assert!(sample["population"].as_u64() > Some(0), "{sample}");
    assert_eq!((&sample["items"], &sample["differing"]), (&sample["population"], &json!([])), "{sample}");
    desk.play("clearing log export").await;
    let redrawn = desk.json("audit redraw").await;
    assert_eq!((&redrawn["holds"], &redrawn["population"]), (&json!(true), &sample["population"]), "{redrawn}");
    let audited = desk.json("audit log-copy").await;
    let at_the_door = "comity audit --door https://house.example:4443 --door-key did:key:… --key VKEY --json";
    let read: Value = serde_json::from_str(&desk.also(at_the_door).await).expect("JSON");
    assert_eq!((&audited["holds"], &read["holds"]), (&json!(true), &json!(true)), "{audited} {read}");
    let first = stage.federation.path().join("sample-2027/001");
    for part in ["transfer", "proof", "awards", "approvals", "quotes", "reservation", "token", "tariffs", "claims"] {
        assert!(first.join(format!("{part}.json")).exists(), "{part}");
    }
    for part in
        ["settlement.json", "requests.json", "paid_out.json", "recomputation.json", "token-1.cbor", "claim-1.cbor"]
    {
        assert!(first.join(part).exists(), "{part}");
    }
    assert_eq!(desk.json("ledger audit --home house").await["holds"], true);
    desk.also("comity clearing backup --home house --out backup --with-keys").await;
    desk.also("comity clearing restore --from backup --home again").await;
}

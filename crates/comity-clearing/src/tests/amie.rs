//! A site of AMIE against the house, on the wire. The real client plays the same in `tests/python/amie.py`.

use axum::body::Body;
use comity_wire::{OrgId, ProjectId};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::world::*;
use crate::AwardAsk;
use crate::acts::{Act, Extend, PartAsk, Supplement, Withdraw};
use crate::admin::{Announce, Members, Person, PersonSay, ReportAs, SiteAdd, SiteChange};
use crate::amie::State;
use crate::reports::Period;

/// The lab as a site.
pub(super) struct Site<'w> {
    world: &'w World,
    pub(super) name: &'static str,
    pub(super) key: String,
}

impl<'w> Site<'w> {
    pub(super) async fn add(world: &'w World, name: &'static str, organisation: OrgId) -> Self {
        let ask = SiteAdd { name: name.into(), organisation, resource: format!("tiny.{}", name.to_lowercase()) };
        let key = world.house.amie_site_add(ask).await.unwrap().key.unwrap();
        Self { world, name, key }
    }

    pub(super) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        let request = Request::builder().method(method).uri(format!("/amie/{path}"));
        let request =
            request.header("XA-SITE", self.name).header("XA-API-KEY", &self.key).body(Body::from(body)).unwrap();
        let response = self.world.house.amie_router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let said: Value = serde_json::from_slice(&body).unwrap();
        if status != 200 {
            assert!(said["message"].is_string() && said["message"] == said["error"], "clients read either: {said}");
        }
        (status, said)
    }

    /// What the site has to answer, of the query.
    pub(super) async fn list(&self, query: &str) -> Vec<Value> {
        let (status, said) = self.call("GET", &format!("v0.10/packets/{}{query}", self.name), Value::Null).await;
        assert_eq!(status, 200, "{said}");
        said["result"].as_array().unwrap().clone()
    }

    /// The one packet that waits.
    pub(super) async fn next(&self, kind: &str) -> Value {
        let packets = self.list("").await;
        assert_eq!(packets.iter().map(|packet| packet["type"].as_str().unwrap()).collect::<Vec<_>>(), [kind]);
        packets[0].clone()
    }

    pub(super) async fn say(&self, to: &Value, kind: &str, body: Value) -> (u16, Value) {
        let packet = json!({ "DATA_TYPE": "packet", "type": kind, "header": { "in_reply_to": to["header"]["packet_rec_id"] }, "body": body });
        self.call("POST", &format!("v0.10/packets/{}", self.name), packet).await
    }

    pub(super) async fn answer(&self, kind: &str, body: Value) -> Value {
        let asked = self.list("").await[0].clone();
        let (status, said) = self.say(&asked, kind, body).await;
        assert_eq!(status, 200, "{said}");
        asked
    }

    /// From a request to the end.
    pub(super) async fn create_project(&self) -> Value {
        let asked = self.next("request_project_create").await;
        let body = json!({ "ProjectID": "P1", "PiPersonID": 7, "PiRemoteSiteLogin": "ada" });
        assert_eq!(self.say(&asked, "notify_project_create", body).await.0, 200);
        asked
    }

    pub(super) async fn complete(&self, data: &Value) {
        let (status, said) = self.say(data, "inform_transaction_complete", done("Success")).await;
        assert_eq!(status, 200, "{said}");
    }

    async fn usage(&self, kind: &str, records: Vec<Value>) -> (u16, Value) {
        self.call("POST", "usage/api/v1/usage/", json!({ "UsageType": kind, "Records": records })).await
    }
}

pub(super) fn done(status: &str) -> Value {
    json!({ "StatusCode": status, "DetailCode": "1", "Message": if status == "Success" { "OK" } else { "no room" } })
}

pub(super) fn usable_at_the_lab(world: &World, number: &str) -> AwardAsk {
    AwardAsk { owners: vec![LAB], ..world.award(number, 1_500_000) }
}

/// A world with the lab's site, where the project is.
pub(super) async fn at_the_site(world: &World) -> Site<'_> {
    let site = Site::add(world, "LAB", LAB).await;
    world.house.award(usable_at_the_lab(world, "A-1")).await.unwrap();
    site.create_project().await;
    let data = site.list("").await.into_iter().find(|packet| packet["type"] == "data_project_create").unwrap();
    site.complete(&data).await;
    site
}

pub(super) async fn members(world: &World, add: &[&str], remove: &[&str]) {
    let keys = |names: &[&str]| names.iter().map(|name| secret(name).public()).collect();
    let ask =
        Members { project: world.project, add: keys(add), remove: keys(remove), role: None, reason: String::new() };
    world.house.members(ask).await.unwrap();
}

async fn an_award_is_told_to_the_site_that_it_names(on: On) {
    let world = World::new(on, 0).await;
    let (site, rival) = (Site::add(&world, "LAB", LAB).await, Site::add(&world, "RIVAL", RIVAL).await);
    world.house.award(world.award("everywhere", 5)).await.unwrap();
    assert!(site.list("").await.is_empty(), "an award that names nobody is announced by the operator");
    world.house.award(usable_at_the_lab(&world, "A-1")).await.unwrap();
    assert!(rival.list("").await.is_empty(), "it is nobody else's");

    let asked = site.create_project().await;
    let header = &asked["header"];
    assert_eq!((&header["packet_id"], &header["transaction_id"]), (&json!(1), &json!(1)));
    assert_eq!((&header["local_site_name"], &header["originating_site_name"]), (&json!("LAB"), &json!("HOUSE")));
    assert_eq!((&header["outgoing_flag"], &header["packet_state"]), (&json!(false), &json!("in-progress")));
    assert_eq!(header["expected_reply_list"], json!([{ "type": "notify_project_create", "timeout": 30240 }]));
    assert_eq!(header["packet_timestamp"], "2026-11-23T08:00:00.000Z");
    let body = &asked["body"];
    assert_eq!((&body["AllocationType"], &body["ServiceUnitsAllocated"]), (&json!("new"), &json!("1.5")));
    assert_eq!((&body["GrantNumber"], &body["ResourceList"]), (&json!("A-1"), &json!(["tiny.lab"])));
    assert_eq!((&body["StartDate"], &body["EndDate"]), (&json!("2026-11-23"), &json!("2027-11-23")));
    // Nobody said who it is: the site learns what nodes learn.
    assert_eq!(body["PiLastName"], world.house.pseudonym(world.project, LAB).to_string());
    assert!(!asked.to_string().contains("Weather"), "{asked}");

    let data = site.next("data_project_create").await;
    assert_eq!(data["body"], json!({ "ProjectID": "P1", "PersonID": 7, "DnList": [] }));
    site.complete(&data).await;
    assert!(site.list("").await.is_empty());
    let (_, whole) = site.call("GET", "v0.10/transactions/LAB/1/packets", Value::Null).await;
    assert_eq!(whole["result"]["state"], "completed");
    let kinds: Vec<_> =
        whole["result"]["DATA"].as_array().unwrap().iter().map(|packet| packet["type"].clone()).collect();
    let chain =
        ["request_project_create", "notify_project_create", "data_project_create", "inform_transaction_complete"];
    assert_eq!(kinds, chain);
    // What the site left out was filled in from the request.
    assert_eq!(whole["result"]["DATA"][1]["body"]["GrantNumber"], "A-1");
    let row = &world.house.amie_transactions(Some(State::Completed)).await.unwrap()[0];
    assert_eq!((&row.flow[..], &row.site[..]), ("project_create", "LAB"));
}

async fn later_acts_are_told_where_the_award_is_known(on: On) {
    let world = World::new(on, 0).await;
    let site = at_the_site(&world).await;
    let lot = world.lot().await;
    let award = world.house.project_status(world.project).await.unwrap().lots[0].award;
    let part = PartAsk { amount: ucr(250_000), opens_at: None, ends_at: None, after_report: false };
    let acts = [
        (Act::Supplement(Supplement { award, number: "1".into(), part }), "supplement", "0.25"),
        (Act::Extend(Extend { award, ends_at: START.plus(400 * DAY), reason: "late".into() }), "extension", "0"),
        (Act::Withdraw(Withdraw { lot, amount: ucr(500_000), reason: "finding".into() }), "adjustment", "-0.5"),
    ];
    for (act, word, units) in acts {
        world.house.act(act.clone(), None).await.unwrap();
        world.house.act(act.clone(), None).await.unwrap();
        let asked = site.next("request_project_create").await;
        let body = &asked["body"];
        assert_eq!((&body["AllocationType"], &body["ServiceUnitsAllocated"]), (&json!(word), &json!(units)));
        assert_eq!((&body["ProjectID"], &body["PiPersonID"]), (&json!("P1"), &json!("7")));
        assert_eq!(body["RecordID"], act.id().to_string());
        let other = json!({ "ProjectID": "P2", "PiPersonID": "7" });
        assert_eq!(site.say(&asked, "notify_project_create", other).await.0, 400, "its name stays");
        site.answer(
            "notify_project_create",
            json!({ "ProjectID": "P1", "PiPersonID": "7", "PiRemoteSiteLogin": "ada" }),
        )
        .await;
        site.answer("inform_transaction_complete", done("Success")).await;
    }
    // Announced again it is what it was; to somebody else's site it is not announced.
    let again = world.house.amie_announce(Announce { site: "LAB".into(), award }).await.unwrap();
    assert_eq!(again, 1);
    Site::add(&world, "RIVAL", RIVAL).await;
    world.house.amie_announce(Announce { site: "RIVAL".into(), award }).await.unwrap_err();
}

async fn standing_follows_the_house(on: On) {
    let world = World::new(on, 0).await;
    let site = at_the_site(&world).await;
    let itc = "inform_transaction_complete";
    // A second member has an account of their own; the PI's came with the project.
    members(&world, &["student"], &[]).await;
    members(&world, &["student"], &[]).await;
    let asked = site.next("request_account_create").await;
    assert_eq!((&asked["body"]["ProjectID"], &asked["body"]["GrantNumber"]), (&json!("P1"), &json!("A-1")));
    let refused = site.say(&asked, "notify_account_create", json!({ "ProjectID": "P1" })).await;
    assert_eq!(refused.0, 400, "a login is needed: {}", refused.1);
    site.answer("notify_account_create", json!({ "UserPersonID": "8", "UserRemoteSiteLogin": "bob" })).await;
    assert_eq!(site.next("data_account_create").await["body"]["PersonID"], "8");
    site.answer(itc, done("Success")).await;

    world.house.freeze(world.project, true).await.unwrap();
    world.house.freeze(world.project, true).await.unwrap();
    let asked = site.next("request_project_inactivate").await;
    assert_eq!((&asked["body"]["ProjectID"], &asked["body"]["PersonID"]), (&json!("P1"), &json!("7")));
    // Let go on before the site had come to it: that is due when it has.
    world.house.freeze(world.project, false).await.unwrap();
    site.next("request_project_inactivate").await;
    site.answer("notify_project_inactivate", json!({})).await;
    let waiting: Vec<_> = site.list("").await;
    assert_eq!((&waiting[0]["type"], &waiting[1]["type"]), (&json!(itc), &json!("request_project_reactivate")));
    assert_eq!(waiting[0]["header"]["transaction_state"], "completed", "the house's word ends it");
    site.answer(itc, done("Success")).await;
    site.answer("notify_project_reactivate", json!({})).await;
    site.answer(itc, done("Success")).await;
    // It brings back the PI's account, and no other.
    let asked = site
        .answer(
            "notify_account_reactivate",
            json!({ "ProjectID": "P1", "PersonID": "8", "ResourceList": ["tiny.lab"] }),
        )
        .await;
    assert_eq!((&asked["type"], &asked["body"]["PersonID"]), (&json!("request_account_reactivate"), &json!("8")));
    site.answer(itc, done("Success")).await;
    assert!(site.list("").await.is_empty());

    members(&world, &[], &["student"]).await;
    assert_eq!(site.next("request_account_inactivate").await["body"]["PersonID"], "8");
    site.answer("notify_account_inactivate", json!({})).await;
    site.answer(itc, done("Success")).await;
    assert!(site.list("").await.is_empty());
}

async fn an_answer_is_given_once(on: On) {
    let world = World::new(on, 0).await;
    let site = Site::add(&world, "LAB", LAB).await;
    world.house.award(usable_at_the_lab(&world, "A-1")).await.unwrap();
    let asked = site.next("request_project_create").await;
    let body = json!({ "ProjectID": "P1", "PiPersonID": "7", "PiRemoteSiteLogin": "ada" });
    let first = site.say(&asked, "notify_project_create", body.clone()).await;
    let again = site.say(&asked, "notify_project_create", body).await;
    assert_eq!((first.0, &first.1), (200, &again.1), "an answer whose reply was lost may be sent again");
    let other = site.say(&asked, "notify_project_create", json!({ "ProjectID": "P2", "PiPersonID": "7" })).await;
    assert_eq!((other.0, code(&other)), (409, "amie_conflict".into()));
    let data = site.next("data_project_create").await;
    site.complete(&data).await;
    site.complete(&data).await;
    let late = site.call("PUT", "v0.10/transactions/LAB/1/state/failed", Value::Null).await;
    assert_eq!((late.0, code(&late)), (409, "amie_conflict".into()));
    for (kind, reply) in
        [("notify_account_create", json!(1)), ("notify_project_create", Value::Null), ("request_user_modify", json!(1))]
    {
        let packet = json!({ "type": kind, "header": { "in_reply_to": reply }, "body": {} });
        let said = site.call("POST", "v0.10/packets/LAB", packet).await;
        assert!([400, 409].contains(&said.0), "{said:?}");
    }
    let own = json!({ "header": first.1["result"]["header"] });
    assert_eq!(site.say(&own, "data_project_create", json!({})).await.0, 400, "nobody answers themselves");
}

async fn what_failed_is_asked_for_again_by_the_operator_alone(on: On) {
    let world = World::new(on, 0).await;
    let site = Site::add(&world, "LAB", LAB).await;
    world.house.award(usable_at_the_lab(&world, "A-1")).await.unwrap();
    let award = world.house.project_status(world.project).await.unwrap().lots[0].award;
    let asked = site.next("request_project_create").await;
    assert_eq!(site.say(&asked, "inform_transaction_complete", done("Failure")).await.0, 200);
    assert!(site.list("").await.is_empty());
    let failed = world.house.amie_transactions(Some(State::Failed)).await.unwrap();
    assert_eq!((failed.len(), &failed[0].message[..]), (1, "no room"));
    // Another time it works.
    let announce = || Announce { site: "LAB".into(), award };
    assert_ne!(world.house.amie_announce(announce()).await.unwrap(), failed[0].transaction);
    site.create_project().await;
    let data = site.next("data_project_create").await;
    site.complete(&data).await;

    members(&world, &["student"], &[]).await;
    let asked = site.next("request_account_create").await;
    let path = format!("v0.10/transactions/LAB/{}/state/failed", asked["header"]["trans_rec_id"]);
    for _ in 0..2 {
        assert_eq!(site.call("PUT", &path, Value::Null).await.0, 200);
    }
    assert_eq!(site.list("?states=failed").await.len(), 2);
    members(&world, &["student"], &[]).await;
    assert!(site.list("").await.is_empty(), "it is not asked for again by itself");
    assert_eq!(world.house.amie_retry("LAB".into(), world.project).await.unwrap(), 1);
    assert_eq!(world.house.amie_retry("LAB".into(), world.project).await.unwrap(), 0, "it waits already");
    site.next("request_account_create").await;
    world.house.amie_retry("LAB".into(), ProjectId([9; 16])).await.unwrap_err();
}

async fn a_site_comes_in_by_its_key_and_sees_its_own(on: On) {
    let world = World::new(on, 0).await;
    let (site, mut rival) = (Site::add(&world, "LAB", LAB).await, Site::add(&world, "RIVAL", RIVAL).await);
    world.house.award(usable_at_the_lab(&world, "A-1")).await.unwrap();
    let asked = site.next("request_project_create").await;
    for path in ["packets/LAB", "packets/LAB/1", "transactions/LAB/1/packets"] {
        let refused = rival.call("GET", &format!("v0.10/{path}"), Value::Null).await;
        assert_eq!((refused.0, code(&refused)), (403, "not_yours".into()), "{path}");
    }
    for path in [
        "packets/RIVAL/1",
        "packets/RIVAL/99999999999999999999",
        "packets/RIVAL/x",
        "transactions/RIVAL/1/packets",
        "x",
    ] {
        assert_eq!(rival.call("GET", &format!("v0.10/{path}"), Value::Null).await.0, 404, "{path}");
    }
    let key = std::mem::replace(&mut rival.key, site.key.clone());
    assert_eq!(rival.list_status().await, 401, "a key is one site's");
    for wrong in ["", "amie-", "é"] {
        rival.key = wrong.into();
        assert_eq!(rival.list_status().await, 401);
    }
    rival.key = key;
    assert_eq!(rival.list_status().await, 200);
    let new = world.house.amie_site_change("RIVAL".into(), SiteChange::Rekey).await.unwrap().key.unwrap();
    assert_eq!(rival.list_status().await, 401, "the old key is worth nothing");
    rival.key = new;
    assert_eq!(rival.list_status().await, 200);
    world.house.amie_site_change("RIVAL".into(), SiteChange::Revoke).await.unwrap();
    assert_eq!(rival.list_status().await, 401);
    let stranger = SiteAdd { name: "X".into(), organisation: OrgId([99; 16]), resource: "x".into() };
    world.house.amie_site_add(stranger).await.unwrap_err();
    let twice = SiteAdd { name: "LAB".into(), organisation: LAB, resource: "x".into() };
    world.house.amie_site_add(twice).await.unwrap_err();
    let slash = SiteAdd { name: "LAB/1".into(), organisation: LAB, resource: "x".into() };
    world.house.amie_site_add(slash).await.unwrap_err();
    // No key lies in the database.
    let kept = world.count("SELECT count(*) FROM amie_site WHERE length(key) = 32").await;
    assert_eq!(kept, 2);
    assert!(asked["header"]["packet_rec_id"].is_u64());
}

impl Site<'_> {
    async fn list_status(&self) -> u16 {
        self.call("GET", &format!("v0.10/packets/{}", self.name), Value::Null).await.0
    }
}

async fn lists_are_narrowed_and_packets_noted_upon(on: On) {
    let world = World::new(on, 0).await;
    let site = at_the_site(&world).await;
    world.pass(60).await;
    members(&world, &["student"], &[]).await;
    for (query, many) in [
        ("?outgoing=True", 2),
        ("?outgoing=False", 1),
        ("?incoming=True", 1),
        ("?trans_rec_id=1", 4),
        ("?trans_rec_id=1,2", 5),
        ("?transaction_state=completed", 4),
        ("?transaction_state=in-progress&outgoing=true", 0),
        ("?states=completed,in-progress", 5),
        ("?update_time=2026-11-23T08:00:30,", 1),
        ("?update_time=,2026-11-23T08:00:30%2B00:00", 4),
        ("?client_state=seen", 0),
    ] {
        assert_eq!(site.list(query).await.len(), many, "{query}");
    }
    for query in ["?states=done", "?outgoing=yes", "?update_time=now", "?limit=1", "?trans_rec_id=x"] {
        assert_eq!(site.call("GET", &format!("v0.10/packets/LAB{query}"), Value::Null).await.0, 400, "{query}");
    }
    let path = "v0.10/packets/LAB/5";
    assert_eq!(site.call("PUT", &format!("{path}/client_state/seen"), Value::Null).await.0, 200);
    assert_eq!(site.call("PUT", &format!("{path}/client_json"), json!({ "a": [1] })).await.0, 200);
    assert_eq!(site.list("?client_state=seen,heard").await[0]["header"]["client_json"], json!({ "a": [1] }));
    assert_eq!(site.call("PUT", &format!("{path}/client_state/{}", "x".repeat(65)), Value::Null).await.0, 400);
    assert_eq!(site.call("PUT", &format!("{path}/client_json"), json!("x".repeat(17_000))).await.0, 400);
    assert_eq!(site.call("DELETE", &format!("{path}/client_state"), Value::Null).await.0, 200);
    assert_eq!(site.call("DELETE", &format!("{path}/client_json"), Value::Null).await.0, 200);
    let header = site.list("").await[0]["header"].clone();
    assert!(header.get("client_state").is_none() && header.get("client_json").is_none());
}

async fn a_site_learns_of_persons_what_the_operator_lets_it(on: On) {
    let world = World::new(on, 0).await;
    let site = Site::add(&world, "LAB", LAB).await;
    let person = Person {
        first_name: "Ada".into(),
        last_name: "Lovelace".into(),
        organization: "University".into(),
        org_code: "42".into(),
        email: "ada@university.example".into(),
        pfos: "7".into(),
    };
    let say =
        |member: &str| PersonSay { project: world.project, member: secret(member).public(), person: person.clone() };
    world.house.amie_person(say("stranger")).await.unwrap_err();
    world.house.amie_person(say("member")).await.unwrap();
    world.house.award(usable_at_the_lab(&world, "A-1")).await.unwrap();
    let body = site.next("request_project_create").await["body"].clone();
    assert_eq!(
        (&body["PiFirstName"], &body["PiOrgCode"], &body["PfosNumber"]),
        (&json!("Ada"), &json!("42"), &json!("7"))
    );
    assert_eq!((&body["PiEmail"], &body["ProjectTitle"]), (&json!("ada@university.example"), &json!("Weather")));
}

fn compute(id: &str, charge: &str) -> Value {
    json!({
        "Username": "ada", "LocalProjectID": "P1", "LocalRecordID": id, "Resource": "tiny.lab", "Charge": charge,
        "SubmitTime": "2026-11-22T00:00:00", "StartTime": "2026-11-22T01:00:00", "EndTime": "2026-11-22T02:00:00",
        "Attributes": { "NodeCount": 1, "Queue": "lab/tiny" }, "ParentRecordID": [null],
    })
}

async fn usage_is_the_owners_meter_and_pays_nobody(on: On) {
    let world = World::new(on, 0).await;
    let site = at_the_site(&world).await;
    let before = world.sums().await;
    let with = |mut record: Value, name: &str, value: Value| {
        record[name] = value;
        record
    };
    let (status, said) = site
        .usage(
            "Compute",
            vec![
                compute("1", "0.25"),
                with(compute("2", "1"), "Username", json!("eve")),
                with(compute("3", "1"), "LocalProjectID", json!("P9")),
                with(compute("4", "1"), "Resource", json!("huge.lab")),
                with(compute("5", "-1"), "Attributes", Value::Null),
            ],
        )
        .await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(said["Message"], "1 records taken, 4 failed");
    let failed = said["ValidationFailedRecords"].as_array().unwrap();
    let words: Vec<_> =
        failed.iter().map(|record| record["Error"].as_str().unwrap().split(' ').next().unwrap()).collect();
    assert_eq!(words, ["Username", "LocalProjectID", "Resource", "Charge"]);
    assert_eq!((&failed[0]["UsageType"], &failed[3]["Attributes"]), (&json!("Compute"), &json!({})));
    // The same again is the same; other figures under its id are not.
    assert_eq!(site.usage("Compute", vec![compute("1", "0.25")]).await.1["Message"], "1 records taken, 0 failed");
    let other = site.usage("Compute", vec![compute("1", "0.26")]).await.1;
    assert!(other["ValidationFailedRecords"][0]["Error"].as_str().unwrap().contains("Adjustment"), "{other}");
    let refund = json!({
        "AdjustmentType": "refund", "Charge": 0.05, "StartTime": "2026-11-22", "LocalProjectID": "P1", "LocalRecordID": "r1",
        "Resource": "tiny.lab", "Username": "ada",
    });
    let gift = with(with(refund.clone(), "AdjustmentType", json!("gift")), "LocalRecordID", json!("r2"));
    assert_eq!(site.usage("Adjustment", vec![refund, gift]).await.1["Message"], "1 records taken, 1 failed");
    let storage = json!({
        "Charge": 1, "CollectionTime": "2026-11-22", "LocalProjectID": "P1", "LocalRecordID": "s1", "Resource": "tiny.lab", "Username": "ada",
    });
    assert_eq!(site.usage("Storage", vec![storage.clone()]).await.0, 200);
    let wrong = site
        .usage(
            "Storage",
            vec![with(storage.clone(), "LocalRecordID", json!("s2")), with(storage, "Username", json!("eve"))],
        )
        .await;
    assert_eq!(wrong.0, 400, "no client reads back a failed storage record");

    let (_, status) = site.call("GET", "usage/api/v1/usage/status?FromTime=2026-11-23T00:00:00", Value::Null).await;
    assert_eq!((&status[0]["LoadedRecordCount"], &status[0]["TotalCharge"]), (&json!(3), &json!("1.2")));
    assert_eq!((&status[0]["FailedJobCount"], status[0]["Errors"].as_array().unwrap().len()), (&json!(6), 6));
    let (_, later) = site.call("GET", "usage/api/v1/usage/status?FromTime=2026-11-24", Value::Null).await;
    assert_eq!(later[0]["LoadedRecordCount"], 0);
    let (_, listed) = site.call("GET", "usage/api/v1/usage/failed", Value::Null).await;
    let ids: Vec<_> = listed["ValidationFailedRecords"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["FailedRecordID"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        site.call("DELETE", "usage/api/v1/usage/failed/6,2,99", Value::Null).await.1["Message"],
        "2 failed records cleared"
    );
    site.usage("Compute", vec![compute("1", "0.27")]).await;
    let (_, listed) = site.call("GET", "usage/api/v1/usage/failed", Value::Null).await;
    let last = listed["ValidationFailedRecords"].as_array().unwrap().last().unwrap();
    assert_eq!(last["FailedRecordID"], 7, "a number is given once");
    for body in [json!({ "UsageType": "Heat", "Records": [] }), json!({ "UsageType": "Compute" }), json!([])] {
        assert_eq!(site.call("POST", "usage/api/v1/usage/", body).await.0, 400);
    }

    let rows = world.house.amie_meter("LAB", "2026-11").await.unwrap();
    assert_eq!((rows.len(), rows[0].records, rows[0].charge_ucr), (1, 3, 1_200_000));
    assert!(world.house.amie_meter("LAB", "2026-12").await.unwrap().is_empty());
    world.house.amie_meter("LAB", "2026-13").await.unwrap_err();
    assert_eq!(world.sums().await, before, "a site's word moves nothing");
    assert_eq!(world.count("SELECT count(*) FROM amie_usage").await, 3);
}

async fn what_projects_paid_is_reported_as_one_resource(on: On) {
    let world = World::new(on, 1_000).await;
    let mut lab = world.buy(300).await;
    for _ in 0..12 {
        lab.charge(lab.root(), 0, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    lab.taken();
    world.pass(DAY).await;
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);

    let by = ReportAs { resource: "comity.access".into(), username: "comity".into() };
    let export = async |from, to| world.house.amie_usage_export(Period { from, to }, &by, 0).await.unwrap();
    let whole = export(None, None).await;
    let (first, second) = (export(None, Some(START.plus(DAY))).await, export(Some(START.plus(DAY)), None).await);
    assert_eq!((whole.compute.len(), whole.adjustment.len(), whole.next), (2, 0, None));
    assert_eq!(
        [first.compute.clone(), second.compute].concat(),
        whole.compute,
        "the end of one is the beginning of the next"
    );
    let charges: i64 = whole.compute.iter().map(|record| crate::amie::units(&record["Charge"]).unwrap()).sum();
    assert_eq!((charges, world.sums().await[1]), (130, 130), "what is reported is what was settled");
    let record = &first.compute[0];
    assert_eq!((&record["Charge"], &record["Attributes"]["Queue"]), (&json!("0.00012"), &json!("lab/tiny")));
    assert_eq!((&record["Resource"], &record["LocalProjectID"]), (&json!("comity.access"), &json!(world.project)));
    // The house itself would take it, were it a site's.
    crate::amie::record(crate::amie::UsageKind::Compute, record, world.now()).unwrap();
    assert!(world.house.amie_usage_export(Period { from: Some(START), to: Some(START) }, &by, 0).await.is_err());
}

on_each_store! {
    what_projects_paid_is_reported_as_one_resource
    an_award_is_told_to_the_site_that_it_names
    later_acts_are_told_where_the_award_is_known
    standing_follows_the_house
    an_answer_is_given_once
    what_failed_is_asked_for_again_by_the_operator_alone
    a_site_comes_in_by_its_key_and_sees_its_own
    lists_are_narrowed_and_packets_noted_upon
    a_site_learns_of_persons_what_the_operator_lets_it
    usage_is_the_owners_meter_and_pays_nobody
}

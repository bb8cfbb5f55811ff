//! Two houses: one is AMIE's central side, the other a resource of it. What the first asks, the second does and answers, once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use comity_ledger::Db;
use comity_wire::{OrgId, ProjectId, SecretKey};
use serde_json::{Value, json};

use super::amie::{Site, members, usable_at_the_lab};
use super::rights::conflicts;
use super::world::*;
use crate::acts::{Act, Extend, Move, Officer, OfficerAdd, PartAsk, Supplement, Withdraw};
use crate::admin::{Bind, MemberOf, Merge, PacketAt, PacketRefuse, PacketView, Person, PersonSay};
use crate::amie::State;
use crate::amie::central::{Central, example};
use crate::failure::Failure;
use crate::service::ActReply;
use crate::service::central::{Turned, Wire, WireError};

/// The other house, on the wire; and what may go wrong on it.
pub(super) struct Line<'w> {
    pub(super) site: Site<'w>,
    /// How many replies are lost from now on, behind what was done there.
    pub(super) lost: AtomicU32,
    /// Whether everything that was ever listed is listed again.
    again: bool,
    pub(super) sent: Mutex<Vec<u64>>,
}

impl<'w> Line<'w> {
    pub(super) async fn to(world: &'w World) -> Self {
        let site = Site::add(world, "COMITY", LAB).await;
        Self { site, lost: AtomicU32::new(0), again: false, sent: Mutex::new(Vec::new()) }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Result<Value, WireError> {
        let (status, said) = self.site.call(method, path, body).await;
        if method == "POST" && self.lost.load(Ordering::SeqCst) > 0 {
            self.lost.fetch_sub(1, Ordering::SeqCst);
            return Err(WireError::Unreached { what: "the reply was lost".into() });
        }
        match status {
            200 if said.get("result").is_some() => Ok(said["result"].clone()),
            200 => Ok(said),
            status => Err(WireError::Refused { status, what: said["message"].as_str().unwrap_or_default().into() }),
        }
    }
}

impl Wire for Line<'_> {
    async fn packets(&self) -> Result<Vec<Value>, WireError> {
        let all = if self.again { "?states=in-progress,completed,failed" } else { "" };
        let listed = self.call("GET", &format!("v0.10/packets/COMITY{all}"), Value::Null).await?;
        Ok(listed.as_array().cloned().unwrap_or_default())
    }

    async fn transaction(&self, id: u64) -> Result<Value, WireError> {
        self.call("GET", &format!("v0.10/transactions/COMITY/{id}/packets"), Value::Null).await
    }

    async fn send(&self, packet: Value) -> Result<Value, WireError> {
        self.sent.lock().unwrap().push(packet["header"]["in_reply_to"].as_u64().unwrap());
        self.call("POST", "v0.10/packets/COMITY", packet).await
    }

    async fn usage(&self, message: Value) -> Result<Value, WireError> {
        self.call("POST", "usage/api/v1/usage/", message).await
    }
}

/// A central site that says what a test says.
struct Script {
    packets: Vec<Value>,
    sent: Mutex<Vec<Value>>,
    state: &'static str,
}

impl Script {
    fn of(packets: Vec<Value>) -> Self {
        Self { packets, sent: Mutex::default(), state: "in-progress" }
    }

    fn said(&self, id: u64) -> Value {
        let sent = self.sent.lock().unwrap();
        let mut of_this = sent.iter().filter(|packet| packet["header"]["in_reply_to"] == id);
        let first = of_this.next().cloned().unwrap_or_default();
        assert!(of_this.next().is_none(), "packet {id} was answered twice");
        first
    }
}

impl Wire for Script {
    async fn packets(&self) -> Result<Vec<Value>, WireError> {
        Ok(self.packets.clone())
    }

    async fn transaction(&self, id: u64) -> Result<Value, WireError> {
        let sent = self.sent.lock().unwrap();
        let of_it = |packet: &&Value| packet["header"]["trans_rec_id"] == id;
        Ok(json!({ "state": self.state, "DATA": sent.iter().filter(of_it).cloned().collect::<Vec<_>>() }))
    }

    async fn send(&self, packet: Value) -> Result<Value, WireError> {
        self.sent.lock().unwrap().push(packet);
        Ok(Value::Null)
    }

    async fn usage(&self, _: Value) -> Result<Value, WireError> {
        Ok(Value::Null)
    }
}

/// A request as it is listed.
fn asks(id: u64, kind: &str, body: Value) -> Value {
    json!({ "type": kind, "header": { "packet_rec_id": id, "trans_rec_id": 100 + id, "outgoing_flag": false }, "body": body })
}

fn request(allocation: &str, record: &str, units: &str) -> Value {
    json!({
        "AllocationType": allocation, "GrantNumber": "TG-1", "PfosNumber": "7", "PiFirstName": "Ada", "PiLastName": "Lovelace",
        "PiOrganization": "University", "PiOrgCode": "42", "PiGlobalID": "g-1", "StartDate": "2026-11-23", "EndDate": "2027-11-22",
        "ResourceList": ["comity.access"], "RecordID": record, "ServiceUnitsAllocated": units, "ProjectTitle": "Weather",
    })
}

/// The other house's resource is called as its site is there.
pub(super) fn central() -> Central {
    Central { resource: "tiny.comity".into(), ..example() }
}

fn officer(name: &str) -> SecretKey {
    secret(&format!("officer {name}"))
}

async fn officers(world: &World) {
    for name in ["Ann", "Bob"] {
        let officer = Officer { key: officer(name).public(), name: name.into() };
        let ask = OfficerAdd { officer, reason: "hired".into() };
        assert!(world.house.act(Act::OfficerAdd(ask), None).await.unwrap().done);
    }
}

pub(super) async fn turn(world: &World, line: &Line<'_>) -> Turned {
    let turned = world.house.central_turn(&central(), line).await.unwrap();
    assert_eq!(turned.failed, None);
    turned
}

async fn packets(world: &World) -> Vec<PacketView> {
    world.house.central_packets().await.unwrap()
}

/// The acts that wait for officers, oldest first.
async fn waiting(world: &World) -> Vec<Act> {
    let mut waiting: Vec<_> = packets(world).await.into_iter().filter(|packet| packet.act_body.len() > 1).collect();
    waiting.reverse();
    waiting.iter().map(|packet| serde_json::from_str(&packet.act_body).unwrap()).collect()
}

async fn by(world: &World, act: &Act, name: &str) -> Result<ActReply, Failure> {
    world.house.act(act.clone(), Some(act.sign(&officer(name)))).await
}

/// Two officers stand for the one act that waits.
pub(super) async fn approve(world: &World) -> Act {
    let waiting = waiting(world).await;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(!by(world, &waiting[0], "Ann").await.unwrap().done);
    assert!(by(world, &waiting[0], "Bob").await.unwrap().done);
    waiting[0].clone()
}

/// The project that the second house has of the first one's.
pub(super) async fn project(world: &World) -> ProjectId {
    world.house.central_accounts().await.unwrap()[0].project
}

/// Two houses, of which the second has approved the first one's grant of 1.5 service units.
pub(super) async fn granted<'w>(first: &'w World, second: &World) -> Line<'w> {
    officers(second).await;
    let line = Line::to(first).await;
    first.house.award(usable_at_the_lab(first, "A-1")).await.unwrap();
    turn(second, &line).await;
    approve(second).await;
    turn(second, &line).await;
    line
}

async fn states(world: &World) -> Vec<String> {
    let rows = world.house.amie_transactions(None).await.unwrap();
    rows.iter().rev().map(|row| format!("{} {}", row.flow, row.state)).collect()
}

async fn a_grant_stands_on_two_officers(on: On) {
    let (first, second) = (World::new(on, 0).await, World::new(on, 0).await);
    officers(&second).await;
    let line = Line::to(&first).await;
    first.house.award(usable_at_the_lab(&first, "A-1")).await.unwrap();
    let before = second.sums().await;
    assert_eq!(turn(&second, &line).await, Turned { taken: 1, ..Turned::default() });
    assert_eq!(turn(&second, &line).await, Turned::default(), "what waits for officers is taken in once");
    let [packet] = &packets(&second).await[..] else { panic!("one packet") };
    assert!(packet.whose_move.starts_with("the officers'") && !packet.done, "{packet:?}");
    let Act::Award(ask) = &waiting(&second).await[0] else { panic!("an award") };
    assert_eq!((ask.amount, &ask.funder[..], &ask.award_number[..]), (ucr(3_000_000), "NSF ACCESS", "A-1"));
    assert_eq!((&ask.listing[..], ask.ends_at.to_string().as_str()), ("47.070", "2027-11-24T00:00:00Z"));
    let act = Act::Award(ask.clone());
    assert!(second.house.act(act.clone(), None).await.is_err(), "nobody stands for it");
    assert!(!by(&second, &act, "Ann").await.unwrap().done);
    assert!(by(&second, &act, "Ann").await.is_err(), "one is not two");
    assert_eq!(second.sums().await, before, "a packet alone, and one officer alone, move nothing");
    assert_eq!(turn(&second, &line).await, Turned::default());
    assert_eq!(first.house.amie_transactions(Some(State::InProgress)).await.unwrap().len(), 1);

    assert!(by(&second, &act, "Bob").await.unwrap().done);
    assert_eq!(second.sums().await[0], before[0] + 3_000_000);
    // Answered, and what the central site says then is answered in the same turn and the next.
    turn(&second, &line).await;
    turn(&second, &line).await;
    assert_eq!(states(&first).await, ["project_create completed"]);
    assert_eq!(*line.sent.lock().unwrap(), [1, 3], "each packet is answered once");
    assert!(packets(&second).await.iter().all(|packet| packet.done && packet.whose_move.starts_with("nobody's")));
    // The PI has an account, and nobody can use it until it has a key.
    let accounts = second.house.central_accounts().await.unwrap();
    assert_eq!((accounts.len(), accounts[0].member, accounts[0].active), (1, None, true));
    let status = second.house.project_status(accounts[0].project).await.unwrap();
    assert_eq!(status.lots.len(), 1);
    assert_eq!(second.count("SELECT count(*) FROM member").await, 1, "the world's own");
}

async fn every_flow_goes_through(on: On) {
    let (first, second) = (World::new(on, 0).await, World::new(on, 0).await);
    let line = granted(&first, &second).await;
    let project = project(&second).await;
    let bind = |person, name: &str, reason: &str| Bind {
        central: "access".into(),
        person,
        member: secret(name).public(),
        reason: reason.into(),
    };
    let by_both = async |ask| {
        let act = Act::CentralBind(ask);
        assert!(!by(&second, &act, "Ann").await.unwrap().done);
        assert!(by(&second, &act, "Bob").await.unwrap().done);
    };
    let keys = async || {
        let rows =
            comity_ledger::db::query("SELECT key FROM member WHERE project = ? ORDER BY key").bind(project.0.to_vec());
        let mut conn = second.books.connect().await;
        let mut db: Db<'_> = conn.db();
        rows.fetch_all(&mut db).await.unwrap().len()
    };
    conflicts(second.house.central_bind(bind(1, "their PI", "")).await);
    assert_eq!(keys().await, 0, "nobody alone says who has the grant");
    by_both(bind(1, "their PI", "her letter")).await;
    assert_eq!(keys().await, 1);
    let nobody = Act::CentralBind(bind(9, "nobody", "a letter"));
    by(&second, &nobody, "Ann").await.unwrap_err();

    members(&first, &["student"], &[]).await;
    turn(&second, &line).await;
    turn(&second, &line).await;
    let accounts = second.house.central_accounts().await.unwrap();
    assert_eq!(
        (accounts.len(), accounts[0].person, accounts[0].member),
        (2, 2, None),
        "who waits for a key stands first"
    );
    let taken = Act::CentralBind(bind(2, "their PI", "a letter"));
    by(&second, &taken, "Ann").await.unwrap_err();
    by_both(bind(2, "their student", "a letter")).await;
    by_both(bind(2, "their student", "the same letter")).await;
    assert_eq!(keys().await, 2);
    // Another key of the same person takes the place of the one before.
    by_both(bind(2, "their student's other", "a new computer")).await;
    assert_eq!(keys().await, 2);

    first.house.freeze(first.project, true).await.unwrap();
    turn(&second, &line).await;
    assert_eq!(keys().await, 0, "a project that is inactive has no members");
    assert_eq!(second.count("SELECT count(*) FROM project WHERE frozen = 1").await, 1);
    first.house.freeze(first.project, false).await.unwrap();
    turn(&second, &line).await;
    assert_eq!(second.count("SELECT count(*) FROM project WHERE frozen = 1").await, 0);
    assert_eq!(keys().await, 1, "the PI comes back with the project");
    turn(&second, &line).await;
    assert_eq!(keys().await, 2, "and the others one by one");
    members(&first, &[], &["student"]).await;
    turn(&second, &line).await;
    assert_eq!(keys().await, 1);
    members(&first, &["student"], &[]).await;
    turn(&second, &line).await;
    assert_eq!(keys().await, 2);

    let person = Person {
        first_name: "Bob".into(),
        last_name: "Roe".into(),
        organization: "University".into(),
        org_code: "42".into(),
        email: "bob@university.example".into(),
        pfos: "0".into(),
    };
    let of = |member: &str| MemberOf { project: first.project, member: secret(member).public() };
    let say = PersonSay { project: first.project, member: secret("student").public(), person };
    first.house.amie_person(say).await.unwrap();
    turn(&second, &line).await;
    let bob = second.house.central_accounts().await.unwrap().into_iter().find(|account| account.person == 2).unwrap();
    assert_eq!((&bob.first_name[..], &bob.email[..]), ("Bob", "bob@university.example"));
    first.house.amie_merge(Merge { keep: of("member"), gone: of("student") }).await.unwrap();
    turn(&second, &line).await;
    let accounts = second.house.central_accounts().await.unwrap();
    assert_eq!((accounts.len(), accounts[0].person, keys().await), (1, 1, 1), "two accounts in one project are one");
    turn(&second, &line).await;
    let states = states(&first).await;
    assert!(states.iter().all(|state| state.ends_with(" completed")), "{states:?}");
    assert_eq!(states.len(), 9, "{states:?}");
    let mut sent = line.sent.lock().unwrap().clone();
    let many = sent.len();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), many, "each packet is answered once");
}

async fn acts_on_an_award_follow_it(on: On) {
    let (first, second) = (World::new(on, 0).await, World::new(on, 0).await);
    let line = granted(&first, &second).await;
    let project = project(&second).await;
    let (lot, award) = (first.lot().await, first.house.project_status(first.project).await.unwrap().lots[0].award);
    let part = PartAsk { amount: ucr(250_000), opens_at: None, ends_at: None, after_report: false };
    let available = async || second.house.project_status(project).await.unwrap().available.ucr();
    assert_eq!(available().await, 3_000_000);
    let acts = [
        (Act::Supplement(Supplement { award, number: "1".into(), part }), "supplement", 3_500_000),
        (Act::Extend(Extend { award, ends_at: START.plus(400 * DAY), reason: "late".into() }), "extend", 3_500_000),
        (Act::Withdraw(Withdraw { lot, amount: ucr(500_000), reason: "finding".into() }), "withdraw", 2_500_000),
    ];
    for (act, word, left) in acts {
        first.house.act(act, None).await.unwrap();
        turn(&second, &line).await;
        assert_eq!(approve(&second).await.word(), word);
        assert_eq!(available().await, left, "{word}");
        turn(&second, &line).await;
        turn(&second, &line).await;
    }
    // To another project: less here, and a grant's own project for the other is not told by its number alone.
    let to = ProjectId([8; 16]);
    let add = crate::ProjectAdd {
        id: Some(to),
        title: "Ice".into(),
        purposes: vec![],
        members: vec![secret("other").public()],
    };
    first.house.project_add(add).await.unwrap();
    first.house.act(Act::Move(Move { lot, to, amount: ucr(100_000), reason: "ice".into() }), None).await.unwrap();
    turn(&second, &line).await;
    let waiting = waiting(&second).await;
    assert_eq!(waiting.iter().map(Act::word).collect::<Vec<_>>(), ["withdraw", "supplement"]);
    second.sums().await;
}

async fn an_answer_is_sent_once_whatever_happens(on: On) {
    let (first, mut second) = (World::new(on, 0).await, World::new(on, 0).await);
    officers(&second).await;
    let mut line = Line::to(&first).await;
    first.house.award(usable_at_the_lab(&first, "A-1")).await.unwrap();
    turn(&second, &line).await;
    approve(&second).await;
    // The reply is lost: it is read back before anything is sent again.
    line.lost.store(1, Ordering::SeqCst);
    let turned = second.house.central_turn(&central(), &line).await.unwrap();
    assert!(matches!(turned.failed, Some(WireError::Unreached { .. })), "{turned:?}");
    assert!(packets(&second).await[0].error.contains("lost"));
    assert_eq!(line.sent.lock().unwrap().len(), 1);
    // The process dies between what it sent and what it writes down of it.
    let dies = std::sync::Arc::new(|point: &str| assert!(point != "central.sent", "killed"));
    second.restart_failing(dies).await;
    let terms = central();
    let turned = second.house.central_turn(&terms, &line);
    let died = std::panic::AssertUnwindSafe(turned);
    let died = futures::FutureExt::catch_unwind(died).await;
    assert!(died.is_err(), "the data packet was answered, and nothing was written of it");
    assert_eq!(*line.sent.lock().unwrap(), [1, 3]);
    second.restart().await;
    turn(&second, &line).await;
    assert_eq!(*line.sent.lock().unwrap(), [1, 3], "what arrived is not sent again");
    assert_eq!(states(&first).await, ["project_create completed"]);
    // It dies behind what it took in.
    members(&first, &["student"], &[]).await;
    let dies = std::sync::Arc::new(|point: &str| assert!(point != "central.taken", "killed"));
    second.restart_failing(dies).await;
    let turned = second.house.central_turn(&terms, &line);
    assert!(futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(turned)).await.is_err());
    second.restart().await;
    // A central site that lists everything again is told nothing again.
    line.again = true;
    for _ in 0..3 {
        turn(&second, &line).await;
    }
    assert_eq!(states(&first).await, ["project_create completed", "account_create completed"]);
    let mut sent = line.sent.lock().unwrap().clone();
    let many = sent.len();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!((sent.len(), second.house.central_accounts().await.unwrap().len()), (many, 2));
}

async fn a_record_is_done_once(on: On) {
    let world = World::new(on, 0).await;
    let mut script = Script::of(vec![
        asks(1, "request_project_create", request("new", "r-1", "1.5")),
        asks(2, "request_project_create", request("new", "r-1", "1.5")),
    ]);
    let turned = world.house.central_turn(&central_of("comity.access"), &script).await.unwrap();
    assert_eq!((turned.taken, turned.answered), (2, 0));
    let waiting = waiting(&world).await;
    assert_eq!((waiting.len(), &waiting[0]), (2, &waiting[1]), "one act stands for both");
    // Nobody is registered as an officer: whoever runs the house acts alone, and nobody else does.
    let before = world.sums().await;
    world.house.act(waiting[0].clone(), None).await.unwrap();
    world.house.act(waiting[0].clone(), None).await.unwrap();
    assert_eq!(world.sums().await[0], before[0] + 3_000_000);
    script.packets.push(asks(3, "request_project_create", request("new", "r-1", "1.5")));
    script.packets.push(asks(4, "request_project_create", request("new", "r-2", "1.5")));
    let turned = world.house.central_turn(&central_of("comity.access"), &script).await.unwrap();
    assert_eq!((turned.taken, turned.answered), (2, 4));
    let first = script.said(1);
    assert_eq!((&first["type"], &first["body"]["PiPersonID"]), (&json!("notify_project_create"), &json!("1")));
    for id in [2, 3] {
        assert_eq!(script.said(id)["body"], first["body"], "the first one's answer");
    }
    assert_eq!(script.said(4)["body"]["StatusCode"], "Failure");
    // A renewal is an award of its own, and an advance more of what there is.
    script.packets = vec![
        asks(5, "request_project_create", request("renewal", "r-5", "1")),
        asks(6, "request_project_create", request("advance", "r-6", "0.5")),
    ];
    world.house.central_turn(&central_of("comity.access"), &script).await.unwrap();
    for act in super::central::waiting(&world).await {
        world.house.act(act, None).await.unwrap();
    }
    assert_eq!(world.sums().await[0], before[0] + 6_000_000);
    let project = project(&world).await;
    let mut awards: Vec<String> =
        world.house.project_status(project).await.unwrap().lots.iter().map(|lot| lot.award_number.clone()).collect();
    awards.sort();
    assert_eq!(awards, ["TG-1", "TG-1", "TG-1/r-5"]);
}

fn central_of(resource: &str) -> Central {
    Central { resource: resource.into(), ..example() }
}

async fn what_cannot_be_done_is_a_sentence(on: On) {
    let world = World::new(on, 0).await;
    let (before, central) = (world.sums().await, central_of("comity.access"));
    let at = |project: &str| json!({ "ProjectID": project, "PersonID": "1", "ResourceList": ["comity.access"] });
    let mut elsewhere = request("new", "r-9", "1");
    elsewhere["ResourceList"] = json!(["another"]);
    let cases = [
        (asks(1, "request_project_inactivate", at("TG-1")), "none that this house gave"),
        (asks(2, "request_account_reactivate", at(&world.project.to_string())), "none that this house gave"),
        (asks(3, "request_person_merge", json!({ "KeepPersonID": "1", "DeletePersonID": "2" })), "not both known"),
        (asks(4, "request_user_modify", json!({ "PersonID": "1", "ActionType": "replace" })), "nobody's here"),
        (asks(5, "request_project_create", request("supplement", "r-5", "1")), "not given here yet"),
        (asks(6, "request_project_create", elsewhere), "this house is comity.access"),
        (asks(7, "request_credits", json!({})), "request_credits"),
        (
            asks(
                8,
                "request_account_create",
                json!({ "GrantNumber": "TG-1", "UserLastName": "X", "ResourceList": ["comity.access"] }),
            ),
            "no active project",
        ),
        (asks(9, "notify_project_create", json!({})), "a site's to say"),
    ];
    let script = Script::of(cases.iter().map(|(packet, _)| packet.clone()).collect());
    let turned = world.house.central_turn(&central, &script).await.unwrap();
    assert_eq!((turned.taken, turned.answered), (9, 9));
    for (packet, words) in &cases {
        let said = script.said(packet["header"]["packet_rec_id"].as_u64().unwrap());
        assert_eq!(
            (&said["type"], &said["body"]["StatusCode"]),
            (&json!("inform_transaction_complete"), &json!("Failure"))
        );
        assert!(said["body"]["Message"].as_str().unwrap().contains(words), "{said} does not say {words}");
    }
    assert!(packets(&world).await.iter().all(|packet| !packet.done && !packet.said.is_empty()));
    // The officers will not have it: the central site hears why, and may ask again.
    let script = Script::of(vec![asks(20, "request_project_create", request("new", "r-1", "1"))]);
    world.house.central_turn(&central, &script).await.unwrap();
    let refuse = PacketRefuse { central: "access".into(), packet: 20, because: "no such agreement".into() };
    world.house.central_refuse(refuse.clone()).await.unwrap();
    world.house.central_refuse(refuse).await.unwrap_err();
    world.house.central_turn(&central, &script).await.unwrap();
    assert_eq!(script.said(20)["body"]["Message"], "no such agreement");
    let script = Script::of(vec![asks(21, "request_project_create", request("new", "r-1", "1"))]);
    world.house.central_turn(&central, &script).await.unwrap();
    assert_eq!(waiting(&world).await.len(), 1, "asked for anew");
    assert_eq!(world.sums().await, before, "nothing moved");
    // A transaction that the central site has given up is the operator's move once it was done here.
    world.house.act(waiting(&world).await[0].clone(), None).await.unwrap();
    let over = Script { state: "failed", ..Script::of(vec![]) };
    let turned = world.house.central_turn(&central, &over).await.unwrap();
    assert_eq!((turned.refused, turned.answered), (1, 0));
    assert!(packets(&world).await[0].whose_move.starts_with("the operator's"));
    world.house.central_retry(PacketAt { central: "access".into(), packet: 21 }).await.unwrap();
    world.house.central_turn(&central, &script).await.unwrap();
    assert_eq!(script.said(21)["type"], "notify_project_create");
    world.house.central_retry(PacketAt { central: "access".into(), packet: 21 }).await.unwrap_err();
}

async fn an_operators_freeze_is_the_operators(on: On) {
    let world = World::new(on, 0).await;
    let central = central_of("comity.access");
    let script = Script::of(vec![asks(1, "request_project_create", request("new", "r-1", "1"))]);
    world.house.central_turn(&central, &script).await.unwrap();
    world.house.act(waiting(&world).await[0].clone(), None).await.unwrap();
    let project = project(&world).await;
    world.house.freeze(project, true).await.unwrap();
    let at = json!({ "ProjectID": project.to_string(), "PersonID": "1", "ResourceList": ["comity.access"] });
    let script = Script::of(vec![
        asks(2, "request_project_inactivate", at.clone()),
        asks(3, "request_project_inactivate", at.clone()),
        asks(4, "request_account_reactivate", at.clone()),
        asks(5, "request_project_reactivate", at),
    ]);
    world.house.central_turn(&central, &script).await.unwrap();
    let kinds: Vec<_> = (2..=5).map(|id| script.said(id)["type"].as_str().unwrap().to_owned()).collect();
    let (notify, itc) = ("notify_project_inactivate", "inform_transaction_complete");
    assert_eq!(kinds, [notify, notify, itc, itc]);
    assert!(script.said(5)["body"]["Message"].as_str().unwrap().contains("operator"));
    assert_eq!(world.count("SELECT count(*) FROM project WHERE frozen = 1").await, 1);
}

/// Whatever a central site says, and however often: no credits, no member, and no end of the house.
async fn garbage_moves_nothing(on: On) {
    let world = World::new(on, 0).await;
    let central = central_of("comity.access");
    let before = (world.sums().await, world.count("SELECT count(*) FROM member").await);
    let values = [
        Value::Null,
        json!(-1),
        json!(i64::MAX),
        json!(""),
        json!("9223372036854.775807"),
        json!("2027-01-01"),
        json!({ "a": [1] }),
        json!(["comity.access"]),
        json!("é\u{0}\n".repeat(90)),
        json!("x".repeat(70_000)),
        json!("extension"),
    ];
    let kinds: Vec<&str> = crate::amie::Kind::ALL.iter().map(|kind| kind.word()).chain(["", "x y"]).collect();
    let (mut listed, mut id, mut seed) = (Vec::new(), 0, 7_u64);
    for kind in kinds {
        for _ in 0..12 {
            let mut body = request("new", "r", "1");
            for extra in
                ["ProjectID", "PersonID", "KeepPersonID", "DeletePersonID", "ActionType", "UserLastName", "StatusCode"]
            {
                body[extra] = json!("1");
            }
            let names: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (name, value) = ((seed >> 33) as usize % names.len(), (seed >> 48) as usize % values.len());
                body[&names[name]] = values[value].clone();
            }
            id += 1;
            listed.push(asks(id, kind, body));
        }
    }
    listed.extend([Value::Null, json!([]), json!({ "header": { "packet_rec_id": "x" } }), json!({ "type": 1 })]);
    let script = Script::of(listed);
    for _ in 0..2 {
        let turned = world.house.central_turn(&central, &script).await.unwrap();
        assert_eq!((turned.unreadable, turned.failed), (4, None));
    }
    assert_eq!((world.sums().await, world.count("SELECT count(*) FROM member").await), before);
    let answered = script.sent.lock().unwrap().len() as u64;
    assert_eq!(answered + waiting(&world).await.len() as u64, id, "each is answered, or waits for officers");
    let _: OrgId = LAB;
}

on_each_store! {
    a_grant_stands_on_two_officers
    every_flow_goes_through
    acts_on_an_award_follow_it
    an_answer_is_sent_once_whatever_happens
    a_record_is_done_once
    what_cannot_be_done_is_a_sentence
    an_operators_freeze_is_the_operators
    garbage_moves_nothing
}

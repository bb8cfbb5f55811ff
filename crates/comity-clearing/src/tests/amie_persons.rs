//! Persons at a site: one who changes, and two who are one.

use comity_ledger::books;
use serde_json::{Value, json};

use super::amie::{Site, at_the_site, done, members};
use super::world::*;
use crate::admin::{MemberOf, Merge, Person, PersonSay};
use crate::amie::State;

const ITC: &str = "inform_transaction_complete";

fn person(first_name: &str) -> Person {
    Person {
        first_name: first_name.into(),
        last_name: "Lovelace".into(),
        organization: "University".into(),
        org_code: "42".into(),
        email: String::new(),
        pfos: "0".into(),
    }
}

async fn is(world: &World, member: &str, first_name: &str) {
    let say = PersonSay { project: world.project, member: secret(member).public(), person: person(first_name) };
    world.house.amie_person(say).await.unwrap();
}

/// The student has an account, under this number.
async fn student(world: &World, site: &Site<'_>, number: &str) {
    members(world, &["student"], &[]).await;
    site.answer("notify_account_create", json!({ "UserPersonID": number, "UserRemoteSiteLogin": "bob" })).await;
    site.answer(ITC, done("Success")).await;
}

async fn a_site_hears_of_a_person_that_changed(on: On) {
    let world = World::new(on, 0).await;
    let site = at_the_site(&world).await;
    assert!(site.list("").await.is_empty(), "it was told all that there is");
    // The PI's account came with the project, the student's by itself: both are told under the site's own numbers.
    is(&world, "member", "Ada").await;
    is(&world, "member", "Ada").await;
    let asked = site.next("request_user_modify").await;
    let whole = json!({
        "ActionType": "replace", "PersonID": "7", "FirstName": "Ada", "LastName": "Lovelace", "Organization": "University", "OrgCode": "42",
    });
    assert_eq!(asked["body"], whole);
    assert_eq!(asked["header"]["expected_reply_list"], json!([{ "type": ITC, "timeout": 30240 }]));
    let wrong = site.say(&asked, "notify_account_create", json!({ "UserPersonID": "7" })).await;
    assert_eq!(wrong.0, 400, "a person's packet is answered by one word");
    // Said otherwise before the site has come to it: that is due when it has.
    is(&world, "member", "Augusta").await;
    site.next("request_user_modify").await;
    site.answer(ITC, done("Success")).await;
    let asked = site.next("request_user_modify").await;
    assert_eq!(asked["body"]["FirstName"], "Augusta");
    let first = site.say(&asked, ITC, done("Success")).await;
    assert_eq!(site.say(&asked, ITC, done("Success")).await, first, "an answer whose reply was lost");
    assert!(site.list("").await.is_empty());
    is(&world, "member", "Augusta").await;
    student(&world, &site, "8").await;
    is(&world, "student", "Bob").await;
    let asked = site.answer(ITC, done("Failure")).await;
    assert_eq!((&asked["body"]["PersonID"], &asked["body"]["FirstName"]), (&json!("8"), &json!("Bob")));
    members(&world, &["student"], &[]).await;
    assert!(site.list("").await.is_empty(), "what it refused is not asked for again by itself");
    let failed = world.house.amie_transactions(Some(State::Failed)).await.unwrap();
    assert_eq!((failed.len(), &failed[0].flow[..], &failed[0].message[..]), (1, "user_modify", "no room"));
    world.house.amie_retry("LAB".into(), world.project).await.unwrap();
    site.answer(ITC, done("Success")).await;
    // Who left is told nothing of, and what changed meanwhile is told when the account is back.
    members(&world, &[], &["student"]).await;
    site.answer("notify_account_inactivate", json!({})).await;
    site.answer(ITC, done("Success")).await;
    members(&world, &["student"], &[]).await;
    is(&world, "student", "Robert").await;
    site.answer("notify_account_reactivate", json!({})).await;
    site.answer(ITC, done("Success")).await;
    assert_eq!(site.next("request_user_modify").await["body"]["FirstName"], "Robert");
}

async fn two_persons_become_one_at_a_site(on: On) {
    let world = World::new(on, 0).await;
    let site = at_the_site(&world).await;
    student(&world, &site, "8").await;
    let of = |member: &str| MemberOf { project: world.project, member: secret(member).public() };
    let merge = Merge { keep: of("member"), gone: of("student") };
    world.house.amie_merge(Merge { gone: of("stranger"), ..merge }).await.unwrap_err();
    world.house.amie_merge(Merge { gone: of("member"), ..merge }).await.unwrap_err();
    let begun = world.house.amie_merge(merge).await.unwrap();
    assert_eq!(world.house.amie_merge(merge).await.unwrap(), begun, "said twice it is asked once");
    let asked = site.next("request_person_merge").await;
    let body = &asked["body"];
    assert_eq!((&body["KeepPersonID"], &body["DeletePersonID"]), (&json!("7"), &json!("8")));
    assert!(body["KeepGlobalID"].is_string() && body["KeepGlobalID"] != body["DeleteGlobalID"], "{body}");
    // It cannot, and can when it is asked again.
    site.answer(ITC, done("Failure")).await;
    assert!(site.list("").await.is_empty());
    members(&world, &["student"], &[]).await;
    assert!(site.list("").await.is_empty(), "nothing else is held up, and nothing asked again by itself");
    assert_ne!(world.house.amie_merge(merge).await.unwrap(), begun);
    assert_eq!(world.house.amie_merge(merge).await.unwrap().len(), 1);
    let asked = site.answer(ITC, done("Success")).await;
    assert_eq!(site.say(&asked, ITC, done("Success")).await.0, 200);
    assert!(site.list("").await.is_empty());
    assert_eq!(world.count("SELECT count(*) FROM amie_account WHERE person = '7'").await, 2);
    // From now on both accounts are that person's, each with its own login.
    is(&world, "student", "Ada").await;
    assert_eq!(site.next("request_user_modify").await["body"]["PersonID"], "7");
    world.house.amie_merge(merge).await.unwrap_err();
}

async fn sites_from_before_go_on(on: On) {
    let books = Books::empty(on).await;
    let database = books.database();
    books::migrate(&database, crate::store::migrations_until(540)).await.unwrap();
    let before = "
        INSERT INTO project (id, title, purposes, created_at) VALUES (x'07070707070707070707070707070707', 'Weather', '[]', 1);
        INSERT INTO amie_site (name, owner, resource, key, added_at) VALUES ('LAB', x'02020202020202020202020202020202', 'tiny.lab', zeroblob(32), 1);
        INSERT INTO amie_transaction (id, site, number, flow, project, record, state, began_at, changed_at)
        VALUES (3, 'LAB', 1, 1, x'07070707070707070707070707070707', 'r', 1, 5, 6);
        INSERT INTO amie_packet (id, trans, number, from_site, kind, body, state, sent_at, changed_at)
        VALUES (9, 3, 1, 0, 'request_project_create', '{}', 1, 5, 6);
        INSERT INTO amie_packet (id, trans, number, from_site, kind, body, reply_to, state, sent_at, changed_at)
        VALUES (10, 3, 2, 1, 'notify_project_create', '{}', 9, 1, 5, 6);
        INSERT INTO amie_project (site, project, site_project, grant_number, standing)
        VALUES ('LAB', x'07070707070707070707070707070707', 'P1', 'A-1', 1)";
    books.tamper(before).await;
    let mut world = World::on(books).await;
    let whole = world.count("SELECT count(*) FROM amie_packet p JOIN amie_transaction t ON t.id = p.trans WHERE p.reply_to = 9 AND t.record = 'r'");
    assert_eq!(whole.await, 1);
    let rows = world.house.amie_transactions(None).await.unwrap();
    assert_eq!((rows.len(), rows[0].transaction, &rows[0].state[..]), (1, 3, "completed"));
    world.restart().await;
    assert_eq!(world.count("SELECT count(*) FROM amie_packet").await, 2);
    let _: Value = json!(rows);
}

on_each_store! {
    a_site_hears_of_a_person_that_changed
    two_persons_become_one_at_a_site
    sites_from_before_go_on
}

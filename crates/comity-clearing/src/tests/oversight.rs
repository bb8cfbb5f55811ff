//! Oversight over several owners: what receipts count of a project that no owner alone would be told of.

use comity_wire::api::advisory::{AdvisoriesReply, Advisory, AdvisoryBand, CategorySum};
use comity_wire::object::Flags;
use comity_wire::time::DAY_S;
use serde_json::Value;

use super::world::*;

const POLITICAL: u8 = 1;

/// One more call that is flagged so often, claimed.
async fn flagged(world: &World, lab: &mut Lab, times: u32) {
    lab.flags = Flags([(POLITICAL, times), (200, 3)].into());
    lab.charge(lab.root(), 0, PRICE);
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    assert_eq!(world.claim(&claim).await.0, 200);
    // The same claim again is no second one.
    assert_eq!(world.claim(&claim).await.0, 200);
    lab.taken();
}

async fn advisories(world: &World) -> Vec<Advisory> {
    let (status, reply) = world.get(&format!("/v1/advisories?node={NODE}"), &secret("transport")).await;
    assert_eq!(status, 200, "{reply}");
    serde_json::from_value::<AdvisoriesReply>(reply).unwrap().advisories
}

/// Two other owners saw of the same project what the lab saw in an hour.
async fn elsewhere(world: &World) {
    for other in ["(SELECT id FROM project LIMIT 1)", "(SELECT node FROM token LIMIT 1)"] {
        let sql = format!(
            "INSERT INTO project_flag (project, category, hour, owner, count) \
             SELECT project, category, hour, {other}, count FROM project_flag WHERE owner IN (SELECT owner FROM token)"
        );
        world.tamper(sql.leak()).await;
    }
}

async fn sums(world: &World) -> Vec<CategorySum> {
    world.house.oversight(7).await.unwrap()
}

async fn a_project_that_spreads_thin_is_told_of_to_the_owners_concerned(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    let other = world.buy(1_000).await;
    flagged(&world, &mut lab, 80).await;
    flagged(&world, &mut lab, 80).await;
    assert_eq!(world.count("SELECT count FROM project_flag").await, 160, "running totals are not added up");
    // Here alone it is below the bound of 200: nobody is told.
    assert_eq!(advisories(&world).await, []);
    elsewhere(&world).await;
    flagged(&world, &mut lab, 7).await;
    let told = advisories(&world).await;
    let [one] = &told[..] else { panic!("{told:?}") };
    // 167 + 160 + 160, said as a step; the lab knows the project by the name in its token.
    assert_eq!(
        (one.subject.to_string().as_str(), one.category.as_str()),
        (lab.token.subject.as_str(), "political_persuasion")
    );
    assert_eq!((one.count, one.bound, one.band), (400, 200, AdvisoryBand::Medium));
    assert_eq!((one.at, one.until), (world.now(), world.now().plus(DAY_S)));
    // Once a day, however it goes on; another lane of another token counts too.
    world.pass(3_600).await;
    let mut lab = other;
    flagged(&world, &mut lab, 33).await;
    let told = advisories(&world).await;
    assert_eq!((told.len(), told[0].count, told[0].first_at), (1, 400, world.now().minus(3_600)));
    assert_eq!(told[0].at, world.now());
    // Whoever holds no transport key of the node is told nothing.
    let refused = world.get(&format!("/v1/advisories?node={NODE}"), &world.member).await;
    assert_eq!((refused.0, code(&refused).as_str()), (403, "not_yours"));
    // A day later it is no news.
    world.sleep(DAY_S);
    world.house.beat().await.unwrap();
    assert_eq!(advisories(&world).await, []);
    flagged(&world, &mut lab, 1).await;
    assert_eq!(advisories(&world).await, [], "what is older than a day counts no more");
}

async fn a_declared_purpose_explains_and_one_owners_word_is_not_enough(on: On) {
    let world = World::new(on, 10_000).await;
    world.tamper("UPDATE project SET purposes = '[\"political_science\"]'").await;
    let mut lab = world.buy(1_000).await;
    flagged(&world, &mut lab, 160).await;
    elsewhere(&world).await;
    flagged(&world, &mut lab, 7).await;
    assert_eq!(advisories(&world).await, []);
    // The lab says a million; the others, as if nothing had been.
    world.tamper("UPDATE project SET purposes = '[]'").await;
    world.tamper("DELETE FROM project_flag WHERE owner NOT IN (SELECT owner FROM token)").await;
    flagged(&world, &mut lab, 1_000_000).await;
    assert_eq!(advisories(&world).await, []);
}

async fn sums_are_shown_where_five_projects_are_in_them(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    flagged(&world, &mut lab, 10).await;
    let political =
        |sums: Vec<CategorySum>| sums.into_iter().find(|sum| sum.category == "political_persuasion").unwrap().sum;
    assert_eq!(political(sums(&world).await), None);
    let shown: Value = serde_json::to_value(sums(&world).await).unwrap();
    assert!(!shown.to_string().contains("10"), "{shown}");
    for more in ["a", "b", "c", "d"] {
        let ask = serde_json::json!({ "title": more });
        world.house.project_add(serde_json::from_value(ask).unwrap()).await.unwrap();
        assert_eq!(political(sums(&world).await), None, "before {more}");
        let sql = "INSERT INTO project_flag (project, category, hour, owner, count) \
                   SELECT p.id, f.category, f.hour, f.owner, MIN(f.count) FROM project p, project_flag f \
                   WHERE p.id NOT IN (SELECT project FROM project_flag) GROUP BY p.id, f.category, f.hour, f.owner";
        world.tamper(sql).await;
    }
    let sum = political(sums(&world).await).expect("five");
    assert_eq!((sum.projects, sum.owners), (5, 1));
    // Five weeks later all of it is gone.
    world.house.oversight_turn().await.unwrap();
    assert!(world.count("SELECT COUNT(*) FROM project_flag").await >= 5);
    world.sleep(36 * DAY_S);
    world.house.oversight_turn().await.unwrap();
    assert_eq!(world.count("SELECT COUNT(*) FROM project_flag").await, 0);
}

/// One person leads every project there is.
async fn one_person_leads_all(world: &World) {
    world
        .tamper(
            "INSERT INTO person (id, created_at) SELECT id, 0 FROM project LIMIT 1; \
             INSERT INTO person_key (key, person, bound_at, bound_by) SELECT DISTINCT m.key, p.id, 0, 2 FROM member m, person p; \
             UPDATE member SET role = 1",
        )
        .await;
}

/// Another project with the same members, of which an owner each saw so many flags as the lab did of the first.
async fn another_project(world: &World, title: &str, owners: &[&str]) {
    let ask = serde_json::json!({ "title": title });
    world.house.project_add(serde_json::from_value(ask).unwrap()).await.unwrap();
    let members = "INSERT INTO member (project, key, added_at, role) SELECT p.id, m.key, 0, 1 FROM project p, \
                   (SELECT DISTINCT key FROM member) m WHERE p.id NOT IN (SELECT project FROM member)";
    world.tamper(members).await;
    for owner in owners {
        let sql = format!(
            "INSERT INTO project_flag (project, category, hour, owner, count) \
             SELECT p.id, f.category, f.hour, {owner}, MIN(f.count) FROM project p, project_flag f \
             WHERE p.title = '{title}' AND f.owner IN (SELECT owner FROM token) GROUP BY p.id, f.category, f.hour"
        );
        world.tamper(sql.leak()).await;
    }
}

/// 160 lines of one project at the lab, as many of another at each of two other owners: no owner sees too many, no project has them,
/// and one person leads both.
async fn a_person_who_spreads_over_projects_is_told_of_as_one_who_spreads_over_owners(on: On) {
    let others = ["(SELECT id FROM project ORDER BY id LIMIT 1)", "(SELECT node FROM token LIMIT 1)"];
    for (is_one_person, purposes, expected) in [(false, "[]", 0), (true, "[\"political_science\"]", 0), (true, "[]", 1)]
    {
        let world = World::new(on, 10_000).await;
        let mut lab = world.buy(1_000).await;
        flagged(&world, &mut lab, 160).await;
        another_project(&world, "another", &others[1..]).await;
        another_project(&world, "a third", &others[..1]).await;
        let sql = format!("UPDATE project SET purposes = '{purposes}' WHERE title IN ('another', 'a third')");
        world.tamper(sql.leak()).await;
        if is_one_person {
            one_person_leads_all(&world).await;
        }
        flagged(&world, &mut lab, 7).await;
        let told = advisories(&world).await;
        assert_eq!(told.len(), expected, "{is_one_person} {purposes}: {told:?}");
        if let [one] = &told[..] {
            // Of its own project, by the name that the lab knows; 167 + 160 + 160, as a step.
            assert_eq!(one.subject.to_string(), lab.token.subject.as_str());
            assert_eq!((one.count, one.bound), (400, 200));
            assert_eq!(
                world.count("SELECT COUNT(DISTINCT project) FROM advisory").await,
                3,
                "each of them is told of where it was"
            );
        }
    }
}

async fn five_projects_of_one_person_are_shown_to_nobody(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    flagged(&world, &mut lab, 10).await;
    for title in ["a", "b", "c", "d"] {
        another_project(&world, title, &["(SELECT node FROM token LIMIT 1)"]).await;
    }
    let political =
        |sums: Vec<CategorySum>| sums.into_iter().find(|sum| sum.category == "political_persuasion").unwrap().sum;
    assert_eq!(political(sums(&world).await).expect("nobody is known to lead two").projects, 5);
    one_person_leads_all(&world).await;
    assert_eq!(political(sums(&world).await), None, "they are one");
}

on_each_store! {
    a_person_who_spreads_over_projects_is_told_of_as_one_who_spreads_over_owners
    five_projects_of_one_person_are_shown_to_nobody
    a_project_that_spreads_thin_is_told_of_to_the_owners_concerned
    a_declared_purpose_explains_and_one_owners_word_is_not_enough
    sums_are_shown_where_five_projects_are_in_them
}

//! The rule as a table: recorded claims in, level and what is missing out.

use comity_wire::time::DAY_S;
use comity_wire::{MemberId, ProjectId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::evidence::{HOUSE, claim};
use super::rule::sponsored;
use super::*;
use crate::mandates::Role;
use crate::persons::{Issuer, claims};

const NOW: Timestamp = Timestamp(1_800_000_000);
const HOUR_S: u64 = 3_600;
const PROJECT: ProjectId = ProjectId([7; 16]);
const CONDUCT: &str = "2026-1 aa";

fn statement(value: Vetting, from: u64, until: Option<u64>) -> Statement {
    let (issuer, claim) = ("operator".to_owned(), "seen".to_owned());
    Statement { value, issuer, claim, from: Timestamp(from), until: until.map(Timestamp) }
}

#[test]
fn the_newest_statement_in_force_decides() {
    let all = [statement(Vetting::Registered, 0, None), statement(Vetting::Vetted, 10, Some(20))];
    let at = |now| of(&all, Timestamp(now));
    assert_eq!(
        [at(5), at(10), at(19), at(20)],
        [Vetting::Registered, Vetting::Vetted, Vetting::Vetted, Vetting::Registered]
    );
    let taken_back = [statement(Vetting::Vetted, 0, None), statement(Vetting::None, 5, None)];
    assert_eq!(of(&taken_back, Timestamp(6)), Vetting::None);
    assert_eq!(of(&[], Timestamp(6)), Vetting::None);
}

fn row(issuer: &str, claim: &str, value: &str, at: Timestamp, how: How, occasion: u64) -> Evidence {
    let (issuer, claim, value) = (issuer.into(), claim.into(), value.into());
    Evidence { issuer, claim, value, asserted_at: at, expires_at: None, how, occasion }
}

/// What a login at `issuer` leaves behind.
fn login(issuer: &Issuer, claims: &Value, at: Timestamp, occasion: u64) -> Vec<Evidence> {
    let learned = claims::learn(issuer, claims.as_object().unwrap(), at).unwrap();
    let of = |said: claims::Said| row(&issuer.issuer, &said.claim, &said.value, said.asserted_at, How::Login, occasion);
    learned.rows.into_iter().map(of).collect()
}

fn person(id: u8, evidence: Vec<Evidence>) -> Person {
    Person { id: MemberId([id; 16]), evidence }
}

fn signed(claim: &str, value: &str) -> Evidence {
    row(HOUSE, claim, value, NOW, How::Signed, 0)
}

/// A PI whom the house itself has checked.
fn checked_pi() -> Person {
    person(9, vec![row(HOUSE, claim::OWN_CHECK, "vetted", NOW, How::House, 0)])
}

fn case<'a>(role: Role, person: Option<&'a Person>, pis: &'a [Person]) -> Case<'a> {
    Case { project: PROJECT, statements: &[], accepted: true, role, person, pis, conduct: Some(CONDUCT) }
}

fn names(level: &Level) -> Vec<&str> {
    level.unmet.iter().map(|unmet| unmet.requirement.as_str()).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    #[serde(rename = "about")]
    _about: String,
    sets: Vec<Set>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    name: String,
    issuer: Issuer,
    claims: Map<String, Value>,
    #[serde(default)]
    refused: Option<String>,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    ignored: usize,
    pi: Option<Vetting>,
    #[serde(default)]
    pi_unmet: Vec<String>,
    member: Option<Vetting>,
    #[serde(default)]
    member_unmet: Vec<String>,
}

#[test]
fn recorded_claims_give_the_level_that_the_table_says() {
    let recorded: Recorded = serde_json::from_str(include_str!("recorded.json")).unwrap();
    assert!(recorded.sets.len() >= 17);
    for set in recorded.sets {
        assert_eq!(set.issuer.fault(), None, "{}", set.name);
        if let Some(refused) = set.refused {
            let why = claims::learn(&set.issuer, &set.claims, NOW).unwrap_err().to_string();
            assert!(why.contains(&refused), "{}: {why}", set.name);
            continue;
        }
        let learned = claims::learn(&set.issuer, &set.claims, NOW).unwrap();
        assert_eq!(
            (learned.subject.as_str(), learned.ignored.len()),
            (set.subject.as_str(), set.ignored),
            "{}",
            set.name
        );
        let mut evidence = login(&set.issuer, &Value::Object(set.claims), NOW, 1);
        evidence.push(signed(claim::CONDUCT, CONDUCT));
        evidence.push(signed(claim::SPONSORED, &sponsored(PROJECT, MemberId([9; 16]))));
        let (one, pis) = (person(1, evidence), [checked_pi()]);
        for (role, wanted, unmet) in [(Role::Pi, set.pi, &set.pi_unmet), (Role::Member, set.member, &set.member_unmet)]
        {
            let level = level(VERSION, &case(role, Some(&one), &pis), NOW.plus(HOUR_S));
            assert_eq!(
                (Some(level.vetting), names(&level)),
                (wanted, unmet.iter().map(String::as_str).collect()),
                "{} as {role:?}",
                set.name
            );
            assert!(level.unmet.iter().all(|unmet| !unmet.how.is_empty() && !unmet.whose_move.is_empty()));
        }
    }
}

/// An institution that says everything a PI needs.
fn institution() -> Issuer {
    let text = r#"{"name": "uni", "issuer": "https://idp.uni.example", "client_id": "c", "profile": "institution", "affiliation_scopes": ["uni.example"]}"#;
    serde_json::from_str(text).unwrap()
}

fn whole(at: Timestamp) -> Value {
    serde_json::json!({
        "sub": "1", "eduperson_scoped_affiliation": "faculty@uni.example", "acr": "https://refeds.org/profile/mfa", "auth_time": at.0,
        "eduperson_assurance": ["https://refeds.org/assurance/profile/cappuccino", "https://refeds.org/assurance/ATP/ePA-1m"],
    })
}

#[test]
fn a_level_falls_when_what_it_rests_on_is_stale_and_says_so() {
    let mut one = person(1, login(&institution(), &whole(NOW), NOW, 1));
    one.evidence.push(signed(claim::CONDUCT, CONDUCT));
    let as_pi = |after: u64| level(VERSION, &case(Role::Pi, Some(&one), &[]), NOW.plus(after));
    assert_eq!((as_pi(0).vetting, as_pi(0).until), (Vetting::Vetted, Some(NOW.plus(12 * HOUR_S))));
    assert_eq!(as_pi(12 * HOUR_S - 1).vetting, Vetting::Vetted);
    let later = as_pi(12 * HOUR_S);
    assert_eq!((later.vetting, names(&later)), (Vetting::Registered, vec!["mfa"]));
    assert!(later.unmet[0].why.contains("counted until 2027-01-15T20:00:00Z"), "{}", later.unmet[0].why);
    assert_eq!(later.until, Some(NOW.plus(365 * DAY_S)), "then the login itself is a year old");
    let stale = as_pi(31 * DAY_S);
    assert_eq!(names(&stale), ["affiliation", "mfa"]);
    assert!(
        stale.unmet[0].why.contains("is stale since 2027-02-15") && stale.unmet[0].whose_move == "person",
        "{stale:?}"
    );
    assert_eq!(names(&as_pi(31 * DAY_S - 1)), ["mfa"]);
    let gone = as_pi(365 * DAY_S);
    assert_eq!((gone.vetting, names(&gone)[0]), (Vetting::None, "login"));
    // Of which nobody says how fresh it is, an affiliation counts for a day.
    let mut unsaid = whole(NOW);
    unsaid["eduperson_assurance"] = serde_json::json!(["https://refeds.org/assurance/profile/cappuccino"]);
    one.evidence = [login(&institution(), &unsaid, NOW, 1), vec![signed(claim::CONDUCT, CONDUCT)]].concat();
    let as_pi = |after: u64| level(VERSION, &case(Role::Pi, Some(&one), &[]), NOW.plus(after));
    assert_eq!((names(&as_pi(DAY_S - 1)), names(&as_pi(DAY_S))), (vec!["mfa"], vec!["affiliation", "mfa"]));
}

#[test]
fn a_login_takes_back_what_it_says_no_more_but_not_that_a_second_factor_was_used() {
    let less = serde_json::json!({ "sub": "1" });
    let second = NOW.plus(HOUR_S);
    let rows = [login(&institution(), &whole(NOW), NOW, 1), login(&institution(), &less, second, 2)].concat();
    let mut one = person(1, rows);
    one.evidence.push(signed(claim::CONDUCT, CONDUCT));
    let level_of = |one: &Person| level(VERSION, &case(Role::Pi, Some(one), &[]), second);
    assert_eq!(names(&level_of(&one)), ["proofing", "affiliation"]);
    // Another issuer takes nothing back.
    let other: Issuer = Issuer { issuer: "https://orcid.example".into(), ..institution() };
    one.evidence = [
        login(&institution(), &whole(NOW), NOW, 1),
        login(&other, &less, second, 2),
        vec![signed(claim::CONDUCT, CONDUCT)],
    ]
    .concat();
    assert_eq!(level_of(&one).vetting, Vetting::Vetted);
}

#[test]
fn a_member_stands_with_a_pi_who_may_be_away() {
    let dogwood =
        serde_json::json!({ "sub": "2", "eduperson_assurance": "https://igtf.net/ap/authn-assurance/dogwood" });
    let word = sponsored(PROJECT, MemberId([1; 16]));
    let rows = vec![signed(claim::CONDUCT, CONDUCT), signed(claim::SPONSORED, &word)];
    let student = person(2, [login(&institution(), &dogwood, NOW, 1), rows].concat());
    let pis = [person(1, login(&institution(), &whole(NOW), NOW, 1))];
    let at = |after: u64, pis: &[Person]| level(VERSION, &case(Role::Member, Some(&student), pis), NOW.plus(after));
    assert_eq!(at(DAY_S, &pis).vetting, Vetting::Vetted, "the PI's second factor is a day old, and is not asked for");
    assert_eq!(at(0, &pis).until, Some(NOW.plus(31 * DAY_S)), "with the PI's affiliation");
    assert_eq!(names(&at(31 * DAY_S, &pis)), ["pi"]);
    // Somebody else's signature, or one for another project, is none.
    assert_eq!(names(&at(0, &[checked_pi()])), ["sponsor"]);
    assert_eq!(names(&at(0, &[])), ["sponsor", "pi"]);
    // A PI takes it back.
    let end = Evidence { expires_at: Some(NOW.plus(5)), ..signed(claim::SPONSORED, &word) };
    let ended = person(2, [student.evidence.clone(), vec![end]].concat());
    assert_eq!(names(&level(VERSION, &case(Role::Member, Some(&ended), &pis), NOW.plus(5))), ["sponsor"]);
    // A manager is asked what a member is; somebody whose key nobody knows, everything.
    assert_eq!(level(VERSION, &case(Role::Manager, Some(&student), &pis), NOW).vetting, Vetting::Vetted);
    let nobody = level(VERSION, &case(Role::Member, None, &pis), NOW);
    assert_eq!((nobody.vetting, names(&nobody)), (Vetting::None, vec!["login", "conduct", "proofing", "sponsor"]));
}

#[test]
fn the_houses_own_check_counts_until_it_is_taken_back() {
    let check = |value: &str, until: Option<u64>| Evidence {
        expires_at: until.map(|after| NOW.plus(after)),
        ..row(HOUSE, claim::OWN_CHECK, value, NOW, How::House, 0)
    };
    let of = |rows: Vec<Evidence>, after: u64| {
        let one = person(1, rows);
        let level = level(VERSION, &Case { conduct: None, ..case(Role::Pi, Some(&one), &[]) }, NOW.plus(after));
        (level.vetting, level.until)
    };
    assert_eq!(of(vec![check("vetted", Some(100))], 99), (Vetting::Vetted, Some(NOW.plus(100))));
    assert_eq!(of(vec![check("vetted", Some(100))], 100), (Vetting::None, None));
    assert_eq!(of(vec![check("registered", None)], 0), (Vetting::Registered, None));
    assert_eq!(of(vec![check("vetted", None), check("none", None)], 0), (Vetting::None, None));
    assert_eq!(of(vec![check("Vetted", None)], 0), (Vetting::None, None), "words are compared whole");
    // What an issuer says of itself is not the house's check.
    let forged = Evidence { how: How::Login, ..check("vetted", None) };
    assert_eq!(of(vec![forged], 0), (Vetting::None, None));
}

#[test]
fn a_statement_on_the_project_is_the_least_and_none_stops_it() {
    let mut one = person(1, login(&institution(), &whole(NOW), NOW, 1));
    one.evidence.push(signed(claim::CONDUCT, CONDUCT));
    let with = |statements: &[Statement], person: Option<&Person>, after: u64| {
        level(VERSION, &Case { statements, ..case(Role::Pi, person, &[]) }, NOW.plus(after))
    };
    let vetted = [statement(Vetting::Vetted, 0, None)];
    assert_eq!(with(&vetted, None, 0), Level { vetting: Vetting::Vetted, policy: VERSION, unmet: vec![], until: None });
    let registered = [statement(Vetting::Registered, 0, Some(NOW.0 + 50))];
    let alone = with(&registered, None, 0);
    assert_eq!((alone.vetting, alone.until, names(&alone)[0]), (Vetting::Registered, Some(NOW.plus(50)), "login"));
    assert_eq!(with(&registered, Some(&one), 0).vetting, Vetting::Vetted);
    let stopped = with(&[statement(Vetting::None, 0, None)], Some(&one), 0);
    assert_eq!((stopped.vetting, names(&stopped)), (Vetting::None, vec!["stopped"]));
    // The first version knew of no persons, and is still computed as it was.
    let case = Case { statements: &registered, ..case(Role::Pi, Some(&one), &[]) };
    assert_eq!(level(1, &case, NOW).vetting, Vetting::Registered);
    let proposed = level(VERSION, &Case { statements: &[], accepted: false, ..case }, NOW);
    assert_eq!((proposed.vetting, names(&proposed)), (Vetting::None, vec!["accepted"]));
}

#[test]
fn an_issuer_that_could_speak_for_others_is_refused() {
    for (change, what) in [
        (r#""name": "Uni""#, "name is"),
        (r#""issuer": "http://idp.uni.example""#, "https://"),
        (r#""issuer": "house""#, "https://"),
        (r#""affiliation_scopes": ["*.uni.example"]"#, "whole domains"),
        (r#""mfa_acr": []"#, "mfa_acr"),
    ] {
        let mut issuer = serde_json::to_value(
            serde_json::from_str::<Value>(
                r#"{"name": "uni", "issuer": "https://idp.uni.example", "client_id": "c", "profile": "institution"}"#,
            )
            .unwrap(),
        )
        .unwrap();
        let change: Map<String, Value> = serde_json::from_str(&format!("{{{change}}}")).unwrap();
        issuer.as_object_mut().unwrap().extend(change);
        let fault = serde_json::from_value::<Issuer>(issuer).unwrap().fault().unwrap();
        assert!(fault.contains(what), "{fault}");
    }
}

//! What both databases promise of cases.

use comity_scratch::{Database, Kept};
use comity_wire::object::FilterAction;
use comity_wire::{Digest, Timestamp};

use super::{Appended, Postgres, Sqlite, Store, StoreError, take_cases};
use crate::case::store::{Append, Cases, Excerpt, OpenMax, Which};
use crate::case::{Act, Actor, Case, CaseId, Measure, Role, Seen, Settings, State};
use crate::notice::{Delivery, DeliveryId};

const NOW: Timestamp = Timestamp(1_800_000_000);
const DAY: u64 = 86_400;
const MANY: OpenMax = OpenMax { subject: 100, all: 100 };

comity_scratch::contract! {
    {
        keeps_the_log_as_it_was_hashed
        takes_an_act_only_behind_the_log_it_was_decided_on
        opens_one_case_for_what_two_see_at_once
        lists_the_newest_first_page_by_page
        knows_whose_time_is_over
        keeps_what_was_seen_until_it_is_forgotten
        bounds_what_is_open
        notes_what_is_left_to_do_until_it_was_done
        never_changes_an_event
        says_what_is_said_with_the_event_or_not_at_all
        takes_over_what_was_kept_in_files
    }
    sqlite: sqlite, postgres: postgres
}

async fn sqlite() -> Kept<Sqlite, tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    Kept::new(Sqlite::open(&folder.path().join("access.sqlite")).await.expect("a store"), folder)
}

async fn postgres() -> Kept<Postgres, Database> {
    let database = Database::create().await;
    Kept::new(Postgres::open(&database.url()).await.expect("a store"), database)
}

/// Either, with a way to meddle with its tables.
trait Meddled: Store {
    async fn meddle(&self, sql: &'static str) -> Result<u64, sqlx::Error>;
}

impl Meddled for Sqlite {
    async fn meddle(&self, sql: &'static str) -> Result<u64, sqlx::Error> {
        sqlx::query(sql).execute(self.pool()).await.map(|done| done.rows_affected())
    }
}

impl Meddled for Postgres {
    async fn meddle(&self, sql: &'static str) -> Result<u64, sqlx::Error> {
        sqlx::query(sql).execute(self.pool()).await.map(|done| done.rows_affected())
    }
}

pub(super) fn id(number: u8) -> CaseId {
    CaseId([number; 16])
}

fn who(role: Role) -> Actor {
    let id = match role {
        Role::Project => "sub-a",
        Role::Handler => "hanna",
        Role::AppealReviewer => "petra",
        Role::Bot => "clock",
    };
    Actor { id: id.into(), role }
}

fn seen() -> Seen {
    Seen {
        model: "lab/tiny".parse().expect("a model"),
        category: "political_persuasion".into(),
        rule: "political/vote-for".into(),
        band: "high".into(),
        count: 3,
        action: FilterAction::Suspend,
    }
}

fn opened(number: u8, subject: &str, now: Timestamp) -> Case {
    let what = (subject.to_owned(), seen());
    let excerpt = Some(Digest::of(b"sealed"));
    Case::open(id(number), what, excerpt, (&who(Role::Bot), String::new()), now, &Settings::default())
        .expect("it opens")
}

fn excerpt() -> Excerpt {
    Excerpt { sealed: b"sealed".to_vec(), until: NOW.plus(7 * DAY) }
}

fn append(case: &Case) -> Append<'_> {
    Append { case, excerpt: None, gathers: false, has_effect: false, deliveries: &[], open_max: MANY }
}

async fn put(store: &impl Cases, append: Append<'_>) -> Appended {
    store.case_append(append).await.expect("the store")
}

pub(super) async fn begun(store: &impl Cases, number: u8, subject: &str, now: Timestamp) -> Case {
    let case = opened(number, subject, now);
    assert_eq!(put(store, append(&case)).await, Appended::Done);
    case
}

fn act(case: &mut Case, act: Act, role: Role) {
    let now = case.due().map_or(NOW, |due| due.at);
    case.act(act, &who(role), now, &Settings::default()).expect("the rules let it in");
}

pub(super) fn answer() -> Act {
    Act::Answer { text: "it is a study".into(), brought_by: None }
}

fn clear() -> Act {
    Act::Clear { reason: "it is".into() }
}

pub(super) async fn done(store: &impl Cases, case: &mut Case, what: Act, role: Role) {
    act(case, what, role);
    assert_eq!(put(store, append(case)).await, Appended::Done);
}

async fn read(store: &impl Cases, number: u8) -> Option<Case> {
    store.case(id(number)).await.expect("the store")
}

async fn keeps_the_log_as_it_was_hashed(store: &impl Store) {
    let mut case = begun(store, 1, "sub-a", NOW).await;
    done(store, &mut case, Act::Remark { text: "a note".into(), salt: None }, Role::Handler).await;
    done(store, &mut case, answer(), Role::Project).await;
    done(store, &mut case, clear(), Role::Handler).await;
    assert_eq!(read(store, 1).await, Some(case));
    assert_eq!(read(store, 2).await, None);
}

async fn takes_an_act_only_behind_the_log_it_was_decided_on(store: &impl Store) {
    let mut mine = begun(store, 1, "sub-a", NOW).await;
    assert_eq!(put(store, append(&mine)).await, Appended::Moved, "it is there already");
    let mut theirs = mine.clone();
    done(store, &mut mine, answer(), Role::Project).await;
    // Decided on what is no longer the newest: neither the event nor the row is written.
    act(&mut theirs, clear(), Role::Handler);
    assert_eq!(put(store, append(&theirs)).await, Appended::Moved);
    assert_eq!(read(store, 1).await, Some(mine.clone()));
    // Nor behind another log of the same length.
    let mut other = opened(1, "sub-a", NOW);
    act(&mut other, Act::Remark { text: "another".into(), salt: None }, Role::Handler);
    act(&mut other, clear(), Role::Handler);
    assert_eq!(other.events().len(), mine.events().len() + 1);
    assert_eq!(put(store, append(&other)).await, Appended::Moved);
    let rows = store.case_list(&Which::default(), 9).await.expect("the store");
    assert_eq!((rows.len(), rows[0].state), (1, State::ToDecide));
}

async fn gathering(store: &impl Cases, case: &Case) -> Appended {
    put(store, Append { gathers: true, ..append(case) }).await
}

async fn opens_one_case_for_what_two_see_at_once(store: &impl Store) {
    let (one, two) = (opened(1, "sub-a", NOW), opened(2, "sub-a", NOW));
    let both = futures::join!(gathering(store, &one), gathering(store, &two));
    assert!(matches!(both, (Appended::Done, Appended::Moved) | (Appended::Moved, Appended::Done)), "{both:?}");
    let undecided =
        async |subject| store.case_undecided(subject, "political_persuasion", "lab/tiny").await.expect("the store");
    let first = undecided("sub-a").await.expect("one of them");
    assert_eq!(undecided("sub-b").await, None);
    // Another project's, or somebody's own word about this one, is another case.
    assert_eq!(gathering(store, &opened(3, "sub-b", NOW)).await, Appended::Done);
    assert_eq!(put(store, append(&opened(4, "sub-a", NOW))).await, Appended::Done);
    assert_eq!(undecided("sub-a").await, Some(first), "more of the same goes where it went");
    // What is decided gathers no more, and what comes then is a case of its own.
    let mut decided = store.case(first).await.expect("the store").expect("it is there");
    done(store, &mut decided, clear(), Role::Handler).await;
    assert_eq!(undecided("sub-a").await, Some(id(4)));
    assert_eq!(gathering(store, &opened(5, "sub-a", NOW)).await, Appended::Done);
    assert_eq!(undecided("sub-a").await, Some(id(5)));
}

async fn lists_the_newest_first_page_by_page(store: &impl Store) {
    for number in 1..=7 {
        let subject = if number < 5 { "sub-a" } else { "sub-b" };
        // Of equal times the ids decide.
        let mut case = begun(store, number, subject, NOW.plus(u64::from(number / 3))).await;
        if number == 6 {
            done(store, &mut case, clear(), Role::Handler).await;
        }
    }
    let numbers = |rows: &[crate::case::store::Row]| rows.iter().map(|row| row.id.0[0]).collect::<Vec<_>>();
    let list = async |which: Which| numbers(&store.case_list(&which, 100).await.expect("the store"));
    let whole = list(Which::default()).await;
    assert_eq!(whole, [7, 6, 5, 4, 3, 2, 1]);
    let mut which = Which::default();
    let mut paged = Vec::new();
    loop {
        let page = store.case_list(&which, 2).await.expect("the store");
        let Some(last) = page.last() else { break };
        which.after = Some(last.cursor());
        paged.extend(numbers(&page));
    }
    assert_eq!(paged, whole);
    assert_eq!(list(Which { subject: Some("sub-b".into()), ..Which::default() }).await, [7, 6, 5]);
    assert_eq!(list(Which { subject: Some("sub-b".into()), open: true, ..Which::default() }).await, [7, 5]);
    let rows = store.case_list(&Which::default(), 2).await.expect("the store");
    let case = read(store, 7).await.expect("it is there");
    assert_eq!((rows[0].subject.as_str(), rows[0].category.as_str()), ("sub-b", "political_persuasion"));
    assert_eq!((rows[0].due, rows[0].opened_at), (case.due(), NOW.plus(2)));
    assert_eq!((rows[1].due, rows[1].state), (None, State::Cleared));
}

async fn knows_whose_time_is_over(store: &impl Store) {
    let mut one = begun(store, 1, "sub-a", NOW).await;
    begun(store, 2, "sub-b", NOW).await;
    begun(store, 3, "sub-c", NOW.plus(5)).await;
    let by = one.due().expect("a clock runs").at;
    let due = async |by: Timestamp, after, limit| {
        let rows = store.case_due(by, after, limit).await.expect("the store");
        rows.into_iter().map(|(_, id)| id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(due(by.minus(1), None, 9).await, Vec::<u8>::new());
    assert_eq!(due(by, None, 9).await, [1, 2]);
    assert_eq!(due(by.plus(5), None, 2).await, [1, 2]);
    assert_eq!(due(by.plus(5), Some((by, id(2))), 2).await, [3]);
    done(store, &mut one, clear(), Role::Handler).await;
    assert_eq!(due(Timestamp(u64::MAX), None, 9).await, [2, 3], "one that has ended has no clock");
}

async fn keeps_what_was_seen_until_it_is_forgotten(store: &impl Store) {
    let mut case = opened(1, "sub-a", NOW);
    assert_eq!(put(store, Append { excerpt: Some(&excerpt()), ..append(&case) }).await, Appended::Done);
    let kept = async || store.excerpt(id(1)).await.expect("the store");
    let due = async |by: Timestamp, after| store.excerpts_due(by, after, 9).await.expect("the store");
    assert_eq!(kept().await, Some(excerpt()));
    let until = excerpt().until;
    assert_eq!(due(until.minus(1), None).await, []);
    assert_eq!(due(until, None).await, [(until, id(1))]);
    assert_eq!(due(until, Some((until, id(1)))).await, []);
    done(store, &mut case, answer(), Role::Project).await;
    assert_eq!(kept().await, Some(excerpt()), "an act leaves it where it is");
    done(store, &mut case, Act::Forget {}, Role::Bot).await;
    assert_eq!((kept().await, due(until, None).await), (None, Vec::new()));
    let long = Excerpt { sealed: vec![0; crate::case::store::EXCERPT_BYTES_MAX + 1], until };
    let case = opened(2, "sub-a", NOW);
    assert!(store.case_append(Append { excerpt: Some(&long), ..append(&case) }).await.is_err());
    assert_eq!(read(store, 2).await, None, "nothing of it was written");
}

async fn bounds_what_is_open(store: &impl Store) {
    let most = OpenMax { subject: 2, all: 3 };
    let open = async |number, subject| {
        let case = opened(number, subject, NOW);
        put(store, Append { open_max: most, ..append(&case) }).await
    };
    assert_eq!(open(1, "sub-a").await, Appended::Done);
    assert_eq!(open(2, "sub-a").await, Appended::Done);
    assert!(matches!(open(3, "sub-a").await, Appended::TooMany { most: 2, .. }));
    assert_eq!(open(4, "sub-b").await, Appended::Done);
    assert!(matches!(open(5, "sub-c").await, Appended::TooMany { most: 3, .. }));
    let mut first = read(store, 1).await.expect("it is there");
    done(store, &mut first, clear(), Role::Handler).await;
    assert_eq!(open(6, "sub-a").await, Appended::Done, "one that has ended makes room");
}

async fn notes_what_is_left_to_do_until_it_was_done(store: &impl Store) {
    for number in [1, 2] {
        let mut case = begun(store, number, "sub-a", NOW).await;
        done(store, &mut case, answer(), Role::Project).await;
        act(&mut case, Act::Uphold { measure: Measure::Stop, reason: "a campaign".into() }, Role::Handler);
        assert_eq!(put(store, Append { has_effect: true, ..append(&case) }).await, Appended::Done);
    }
    let left = async |after| store.case_effects(after, 9).await.expect("the store");
    assert_eq!(left(None).await, [(id(1), 3), (id(2), 3)]);
    assert_eq!(left(Some((id(1), 3))).await, [(id(2), 3)]);
    store.case_effect_done(id(1), 3).await.expect("the store");
    store.case_effect_done(id(1), 3).await.expect("a repeat is nothing");
    assert_eq!(left(None).await, [(id(2), 3)]);
}

async fn never_changes_an_event(store: &impl Meddled) {
    begun(store, 1, "sub-a", NOW).await;
    store.meddle("UPDATE access_case_event SET n = n + 1").await.expect_err("an event is never changed");
    store.meddle("DELETE FROM access_case_event").await.expect_err("an event is never deleted");
    assert!(read(store, 1).await.is_some());
    // Whoever writes past the database's own guard is found by the log's links.
    let forged =
        "INSERT INTO access_case_event (case_id, n, bytes) SELECT case_id, n + 1, bytes FROM access_case_event";
    assert_eq!(store.meddle(forged).await.expect("one more row"), 1);
    assert!(matches!(store.case(id(1)).await, Err(StoreError::Unreadable { .. })));
}

async fn says_what_is_said_with_the_event_or_not_at_all(store: &impl Store) {
    let case = opened(1, "sub-a", NOW);
    let row = |number: u8| Delivery {
        id: DeliveryId([number; 16]),
        target: "z".into(),
        address: None,
        notice: crate::case::notices::notices(&case).remove(0),
    };
    let said = [row(9)];
    assert_eq!(put(store, Append { deliveries: &said, ..append(&case) }).await, Appended::Done);
    let again = [row(8)];
    assert_eq!(put(store, Append { deliveries: &again, ..append(&case) }).await, Appended::Moved);
    let waiting = store.due("z", NOW, NOW.plus(60), 9).await.expect("rows");
    assert_eq!(waiting.into_iter().map(|row| row.delivery).collect::<Vec<_>>(), said);
}

/// A file as it was kept before there was one store.
async fn before(path: &std::path::Path, cases: &[(&Case, Option<&Excerpt>)]) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("a file");
    sqlx::raw_sql(include_str!("../../migrations/cases_before.sql")).execute(&pool).await.expect("its tables");
    for (case, excerpt) in cases {
        let sql =
            "INSERT INTO access_case (id, subject, category, model, state, due_at) VALUES ($1, $2, $3, $4, $5, $6)";
        let query = sqlx::query(sql).bind(case.id().0.to_vec()).bind(case.subject()).bind(&case.seen()[0].category);
        let due = case.due().map(|due| due.at.0 as i64);
        let query = query.bind(case.seen()[0].model.to_string()).bind(case.state().as_str()).bind(due);
        query.execute(&pool).await.expect("a row");
        for event in case.events() {
            let sql = "INSERT INTO case_event (id, n, at, bytes) VALUES ($1, $2, $3, $4)";
            let query = sqlx::query(sql).bind(case.id().0.to_vec()).bind(event.event().n as i64);
            query.bind(event.event().at.0 as i64).bind(event.bytes()).execute(&pool).await.expect("an event");
        }
        if let Some(excerpt) = excerpt {
            let sql = "INSERT INTO case_excerpt (id, sealed, until) VALUES ($1, $2, $3)";
            let query = sqlx::query(sql).bind(case.id().0.to_vec()).bind(&excerpt.sealed);
            query.bind(excerpt.until.0 as i64).execute(&pool).await.expect("an excerpt");
        }
    }
    pool.close().await;
}

async fn takes_over_what_was_kept_in_files(store: &impl Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    assert_eq!(take_cases(&file("none.sqlite"), store).await.expect("nothing").cases, 0);
    // Two processes of one node, each with an undecided case of the same, and one that has ended.
    let (mut ended, open, same) = (opened(1, "sub-a", NOW), opened(2, "sub-a", NOW), opened(3, "sub-a", NOW));
    act(&mut ended, answer(), Role::Project);
    act(&mut ended, Act::Uphold { measure: Measure::Stop, reason: "a campaign".into() }, Role::Handler);
    act(&mut ended, Act::Appeal { reason: "look again".into(), brought_by: None }, Role::Project);
    act(&mut ended, Act::Overturn { reason: "they are right".into() }, Role::AppealReviewer);
    let secret = Excerpt { sealed: b"sealed so that nobody reads it".to_vec(), ..excerpt() };
    before(&file("a.sqlite"), &[(&ended, None), (&open, Some(&secret))]).await;
    before(&file("b.sqlite"), &[(&same, None)]).await;
    assert_eq!(take_cases(&file("a.sqlite"), store).await.expect("taken").cases, 2);
    assert_eq!(take_cases(&file("b.sqlite"), store).await.expect("taken").cases, 1);
    for case in [&ended, &open, &same] {
        assert_eq!(read(store, case.id().0[0]).await.as_ref(), Some(case), "byte for byte");
    }
    assert_eq!(store.excerpt(id(2)).await.expect("the store"), Some(secret.clone()));
    let rows = store.case_list(&Which { open: true, ..Which::default() }, 9).await.expect("the store");
    assert_eq!(rows.iter().map(|row| row.id.0[0]).collect::<Vec<_>>(), [3, 2]);
    let undecided = store.case_undecided("sub-a", "political_persuasion", "lab/tiny").await.expect("the store");
    assert_eq!(undecided, Some(id(2)), "one of them gathers");
    // They go on here.
    let mut goes_on = open.clone();
    done(store, &mut goes_on, clear(), Role::Handler).await;
    // The file is put aside, without what was seen; once more is nothing.
    assert!(!file("a.sqlite").exists() && file("a.sqlite.taken").exists());
    let aside = std::fs::read(file("a.sqlite.taken")).expect("it can be read");
    let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|part| part == what);
    assert!(has(&aside, b"they are right") && !has(&aside, &secret.sealed));
    std::fs::rename(file("a.sqlite.taken"), file("a.sqlite")).expect("it can be moved");
    assert_eq!(take_cases(&file("a.sqlite"), store).await.expect("taken").cases, 2, "it was there, and has gone on");
    assert_eq!(read(store, 2).await, Some(goes_on));
    // A log that does not hold stays where it is, and keeps no other from being taken.
    let (mut broken, whole) = (opened(4, "sub-a", NOW), opened(5, "sub-e", NOW));
    before(&file("c.sqlite"), &[(&broken, None), (&whole, None)]).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file("c.sqlite"));
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("the file");
    act(&mut broken, answer(), Role::Project);
    act(&mut broken, clear(), Role::Handler);
    let sql = "INSERT INTO case_event (id, n, at, bytes) VALUES ($1, 2, 0, $2)";
    let query = sqlx::query(sql).bind(broken.id().0.to_vec()).bind(broken.events()[2].bytes());
    query.execute(&pool).await.expect("a gap");
    pool.close().await;
    let taken = take_cases(&file("c.sqlite"), store).await.expect("taken");
    assert_eq!((taken.cases, taken.left), (1, vec![id(4)]));
    assert!(file("c.sqlite").exists());
    assert_eq!((read(store, 5).await, read(store, 4).await), (Some(whole), None));
    // Nor is a log taken for another one that has its id.
    let other = opened(5, "sub-x", NOW);
    before(&file("d.sqlite"), &[(&other, Some(&secret))]).await;
    let taken = take_cases(&file("d.sqlite"), store).await.expect("taken");
    assert_eq!((taken.cases, taken.left), (0, vec![id(5)]));
}

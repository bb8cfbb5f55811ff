//! What both databases promise.

use comity_scratch::{Database, Kept};
use comity_wire::object::Tier;
use comity_wire::{Digest, GrantId, ModelId, Timestamp};

use super::{
    Append, Appended, Attached, Effect, EffectKind, Filter, KeptMax, NEVER, OpenMax, Postgres, Sqlite, Standing, Store,
    StoreError, Waits, effect_of,
};
use crate::act::{Act, Actor, Role, State, Terms};
use crate::application::Application;
use crate::clock::Party;
use crate::form::{Answers, Form};
use crate::id::ApplicationId;
use crate::notice::{Delivery, DeliveryId};
use crate::{Sealed, commitment};

pub(super) const NOW: Timestamp = Timestamp(1_800_000_000);
const FORM: &str = "title = \"Access\"\n[settings]\nanswer_s = 1000\napplicant_s = 5000\n";
const MANY: OpenMax = OpenMax { subject: 100_000, subject_a_day: 100_000, all: 100_000 };

comity_scratch::contract! {
    {
        keeps_the_log_and_what_was_said
        takes_an_act_only_behind_the_log_it_was_decided_on
        lists_those_that_end_first_page_by_page
        bounds_what_is_open
        notes_what_is_left_to_do_until_it_was_done
        keeps_attachments_and_forms
        never_changes_an_event
        keeps_notices_on_their_way
    }
    sqlite: sqlite, postgres: postgres
}

/// Either, with a way to meddle with its tables.
pub(super) trait Meddled: Store {
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

pub(super) async fn sqlite() -> Kept<Sqlite, tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    Kept::new(Sqlite::open(&folder.path().join("access.sqlite")).await.expect("a store"), folder)
}

pub(super) async fn postgres() -> Kept<Postgres, Database> {
    let database = Database::create().await;
    Kept::new(Postgres::open(&database.url()).await.expect("a store"), database)
}

fn form() -> Form {
    Form::read(FORM).expect("a form")
}

fn model(name: &str) -> ModelId {
    format!("lab/{name}").parse().expect("a model")
}

pub(super) fn id(number: u16) -> ApplicationId {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    ApplicationId(id)
}

pub(super) fn applicant(subject: &str) -> Actor {
    Actor { id: subject.into(), role: Role::Applicant, organisation: None }
}

pub(super) fn decider() -> Actor {
    Actor { id: "dora".into(), role: Role::Decider, organisation: None }
}

pub(super) fn sealed() -> Sealed {
    let salt = Digest::of(b"salt");
    Sealed {
        organisation: commitment(crate::Shown::Organisation, &salt, "Uni"),
        person: commitment(crate::Shown::Person, &salt, "Ada"),
    }
}

pub(super) fn opened(number: u16, subject: &str, name: &str, now: Timestamp) -> Application {
    Application::open(id(number), &form(), &applicant(subject), vec![model(name)], Answers::new(), now)
        .expect("it opens")
}

fn append<'a>(application: &'a Application, form: &'a Form, open_max: OpenMax) -> Append<'a> {
    Append { application, form, form_text: FORM, effect: None, deliveries: &[], open_max }
}

pub(super) async fn kept(store: &impl Store, application: &Application) {
    let form = form();
    assert_eq!(store.append(append(application, &form, MANY)).await.expect("the store"), Appended::Done);
}

pub(super) async fn done(store: &impl Store, application: &mut Application, act: Act, who: &Actor, now: Timestamp) {
    application.act(act, who, &form(), now).expect("the rules let it in");
    kept(store, application).await;
}

fn approval(name: &str) -> Act {
    let terms = Terms {
        models: vec![model(name)],
        tier: Tier::Vetted,
        not_after: NOW.plus(86_400),
        plan: None,
        executions: None,
    };
    Act::Approve { terms, reason: "it is sound".into() }
}

async fn keeps_the_log_and_what_was_said(store: &impl Store) {
    let mut application = opened(1, "sub-a", "one", NOW);
    kept(store, &application).await;
    done(store, &mut application, Act::Submit { sealed: sealed() }, &applicant("sub-a"), NOW.plus(1)).await;
    done(store, &mut application, approval("one"), &decider(), NOW.plus(2)).await;
    let read = store.load(id(1)).await.expect("the store").expect("it is there");
    assert_eq!(read, application);
    assert!(store.load(id(2)).await.expect("the store").is_none());
}

async fn takes_an_act_only_behind_the_log_it_was_decided_on(store: &impl Store) {
    let mut application = opened(1, "sub-a", "one", NOW);
    kept(store, &application).await;
    let form = form();
    assert_eq!(store.append(append(&application, &form, MANY)).await.expect("the store"), Appended::Moved);
    let mut other = application.clone();
    done(store, &mut application, Act::Submit { sealed: sealed() }, &applicant("sub-a"), NOW.plus(1)).await;
    // Decided on what is no longer the newest: neither the event nor the row is written.
    other.act(Act::Withdraw { reason: String::new() }, &applicant("sub-a"), &form, NOW.plus(2)).expect("the rules");
    assert_eq!(store.append(append(&other, &form, MANY)).await.expect("the store"), Appended::Moved);
    let read = store.load(id(1)).await.expect("the store").expect("it is there");
    assert_eq!(read, application);
    let rows = store.list(&Filter::default(), 10).await.expect("the store");
    assert_eq!(rows[0].state, State::Submitted);
}

async fn lists_those_that_end_first_page_by_page(store: &impl Store) {
    for number in 1..=7_u16 {
        let name = if number.is_multiple_of(2) { "even" } else { "o_d" };
        // Of equal times the ids decide.
        let mut application =
            opened(number, if number < 5 { "sub-a" } else { "sub-b" }, name, NOW.plus(u64::from(number / 3)));
        kept(store, &application).await;
        if number == 7 {
            let who = applicant("sub-b");
            done(store, &mut application, Act::Withdraw { reason: String::new() }, &who, NOW.plus(9)).await;
        }
        if number == 6 {
            done(store, &mut application, Act::Submit { sealed: sealed() }, &applicant("sub-b"), NOW.plus(9)).await;
        }
    }
    let numbers = |rows: &[super::Row]| rows.iter().map(|row| row.id.0[1]).collect::<Vec<_>>();
    let whole = store.list(&Filter::default(), 100).await.expect("the store");
    // The owner has a thousand seconds, an applicant five thousand, and one that is over has no time.
    assert_eq!(numbers(&whole), [6, 1, 2, 3, 4, 5, 7]);
    assert!(whole[0].due.is_some_and(|due| due.party == Party::Owner && due.at == NOW.plus(9 + 1_000)));
    assert_eq!((whole[6].due, whole[6].cursor().0), (None, NEVER));
    let mut filter = Filter::default();
    let mut paged = Vec::new();
    loop {
        let page = store.list(&filter, 2).await.expect("the store");
        let Some(last) = page.last() else { break };
        filter.after = Some(last.cursor());
        paged.extend(numbers(&page));
    }
    assert_eq!(paged, numbers(&whole));
    let of = async |filter: Filter| numbers(&store.list(&filter, 100).await.expect("the store"));
    assert_eq!(of(Filter { subject: Some("sub-b".into()), ..Filter::default() }).await, [6, 5, 7]);
    assert_eq!(of(Filter { subject: Some("sub-b".into()), open: true, ..Filter::default() }).await, [6, 5]);
    assert_eq!(of(Filter { state: Some(State::Withdrawn), ..Filter::default() }).await, [7]);
    assert_eq!(of(Filter { party: Some(Party::Owner), ..Filter::default() }).await, [6]);
    assert_eq!(of(Filter { model: Some(model("even")), ..Filter::default() }).await, [6, 2, 4]);
    assert_eq!(of(Filter { model: Some(model("o_d")), open: true, ..Filter::default() }).await, [1, 3, 5]);
    assert_eq!(of(Filter { model: Some(model("odd")), ..Filter::default() }).await, Vec::<u8>::new());
    assert_eq!(whole[1].models, [model("o_d")]);
    let due = async |seconds: u64| {
        let (mut after, mut due) = (None, Vec::new());
        loop {
            let page = store.run_out(NOW.plus(seconds), after, 2).await.expect("the store");
            let Some(last) = page.last() else { return due };
            after = Some(*last);
            due.extend(page.iter().map(|(_, id)| *id));
        }
    };
    let waits = |party, open, overdue| Waits { party, open, overdue };
    let standing = store.standing(NOW.plus(5_000)).await.expect("the store");
    let expected = vec![waits(Party::Applicant, 5, 2), waits(Party::Owner, 1, 1)];
    assert_eq!(standing, Standing { waits: expected, undone: 0 });
    assert_eq!(due(1_008).await, []);
    assert_eq!(due(1_009).await, [id(6)]);
    assert_eq!(due(5_000).await, [id(6), id(1), id(2)]);
}

async fn bounds_what_is_open(store: &impl Store) {
    let (form, most) = (form(), OpenMax { subject: 2, subject_a_day: 4, all: 3 });
    let put_at = async |number, subject, now| {
        let application = opened(number, subject, "one", now);
        store.append(append(&application, &form, most)).await.expect("the store")
    };
    let put = async |number, subject| put_at(number, subject, NOW).await;
    assert_eq!(put(1, "sub-a").await, Appended::Done);
    assert_eq!(put(2, "sub-a").await, Appended::Done);
    assert!(matches!(put(3, "sub-a").await, Appended::TooMany { most: 2, .. }));
    assert_eq!(put(4, "sub-b").await, Appended::Done);
    assert!(matches!(put(5, "sub-c").await, Appended::TooMany { most: 3, .. }));
    let mut first = store.load(id(1)).await.expect("the store").expect("it is there");
    done(store, &mut first, Act::Withdraw { reason: String::new() }, &applicant("sub-a"), NOW.plus(1)).await;
    assert_eq!(put(6, "sub-a").await, Appended::Done, "one that is over makes room");
    // Begun and withdrawn without end: that has one too.
    let withdraw = async |number| {
        let mut one = store.load(id(number)).await.expect("the store").expect("it is there");
        done(store, &mut one, Act::Withdraw { reason: String::new() }, &applicant("sub-a"), NOW.plus(1)).await;
    };
    withdraw(6).await;
    assert_eq!(put(7, "sub-a").await, Appended::Done);
    withdraw(7).await;
    assert!(matches!(put(8, "sub-a").await, Appended::TooMany { most: 4, .. }));
    assert!(matches!(put_at(8, "sub-a", NOW.plus(86_399)).await, Appended::TooMany { most: 4, .. }));
    assert_eq!(put_at(8, "sub-a", NOW.plus(86_400)).await, Appended::Done);
}

async fn notes_what_is_left_to_do_until_it_was_done(store: &impl Store) {
    let mut application = opened(1, "sub-a", "one", NOW);
    kept(store, &application).await;
    done(store, &mut application, Act::Submit { sealed: sealed() }, &applicant("sub-a"), NOW).await;
    assert_eq!(store.grant_of(id(1)).await.expect("the store"), None);
    let form = form();
    let step = async |application: &mut Application, act: Act, grant: u8, now: Timestamp| {
        let before = application.state();
        application.act(act, &decider(), &form, now).expect("the rules");
        let kind = effect_of(before, application);
        let n = application.events().len() as u64;
        let effect = kind.map(|kind| Effect { application: id(1), n, kind, grant: GrantId([grant; 16]) });
        let written = Append { effect, ..append(application, &form, MANY) };
        assert_eq!(store.append(written).await.expect("the store"), Appended::Done);
        effect
    };
    let left = async || {
        let (mut after, mut left) = ([None; 2], Vec::new());
        for (kind, after) in [EffectKind::Grant, EffectKind::Withdraw].into_iter().zip(&mut after) {
            while let Some(effect) = store.effects(kind, *after, 1).await.expect("the store").pop() {
                *after = Some((effect.application, effect.n));
                left.push(effect);
            }
        }
        left
    };
    let granted = step(&mut application, approval("one"), 1, NOW.plus(1)).await.expect("it grants");
    assert_eq!(granted.kind, EffectKind::Grant);
    assert_eq!(left().await, [granted]);
    assert_eq!(store.standing(NOW).await.expect("the store").undone, 1);
    assert_eq!(store.grant_of(id(1)).await.expect("the store"), Some(GrantId([1; 16])));
    assert_eq!(store.application_of(GrantId([1; 16])).await.expect("the store"), Some(id(1)));
    assert_eq!(store.application_of(GrantId([2; 16])).await.expect("the store"), None);
    assert!(!store.was_revoked("sub-a").await.expect("the store"));
    // A notice takes nothing back yet.
    let notice = Act::Revoke { reason: "it ends".into(), effective: NOW.plus(50) };
    assert_eq!(step(&mut application, notice, 1, NOW.plus(2)).await, None);
    let revoked = Act::Revoke { reason: "it ends now".into(), effective: NOW.plus(3) };
    let withdrawn = step(&mut application, revoked, 1, NOW.plus(3)).await.expect("it takes back");
    assert_eq!(left().await, [granted, withdrawn]);
    store.effect_done(granted).await.expect("the store");
    assert_eq!(left().await, [withdrawn]);
    store.effect_done(withdrawn).await.expect("the store");
    store.effect_done(withdrawn).await.expect("a repeat is nothing");
    assert_eq!(left().await, []);
    assert!(store.was_revoked("sub-a").await.expect("the store"));
    assert!(!store.was_revoked("sub-b").await.expect("the store"));
}

async fn keeps_attachments_and_forms(store: &impl Store) {
    let mut first = opened(1, "sub-a", "one", NOW);
    kept(store, &first).await;
    assert_eq!(store.form(form().digest()).await.expect("the store").as_deref(), Some(FORM));
    assert_eq!(store.form(Digest::of(b"another")).await.expect("the store"), None);
    let (bytes, digest) = (b"%PDF".to_vec(), Digest::of(b"%PDF"));
    assert_eq!(store.attachment(id(1), digest).await.expect("the store"), None);
    // Of a project and in all; what does not fit is not there.
    let most = KeptMax { subject: 1 << 20, all: (2 << 20) + 2 };
    let put = async |of: &Application, bytes: &[u8]| {
        store.attach(of, Digest::of(bytes), bytes, most).await.expect("the store")
    };
    assert_eq!(put(&first, &bytes).await, Attached::Done);
    assert_eq!(put(&first, &bytes).await, Attached::Done, "a repeat is nothing");
    assert_eq!(store.attachment(id(1), digest).await.expect("the store"), Some(bytes));
    assert_eq!(store.attachment(id(2), digest).await.expect("the store"), None);
    let whole = vec![7; 1 << 20];
    assert!(matches!(put(&first, &whole).await, Attached::TooMuch { most: 1, .. }));
    assert_eq!(store.attachment(id(1), Digest::of(&whole)).await.expect("the store"), None);
    for (number, subject) in [(2, "sub-b"), (3, "sub-c")] {
        let other = opened(number, subject, "one", NOW);
        kept(store, &other).await;
        let is_room = put(&other, &whole).await == Attached::Done;
        assert_eq!(is_room, number == 2, "{number}: two and four bytes are too much by two");
    }
    // What is over is kept for a while, and what is not, however long it takes.
    done(store, &mut first, Act::Withdraw { reason: String::new() }, &applicant("sub-a"), NOW.plus(5)).await;
    assert_eq!(store.forget_attachments(NOW.plus(5)).await.expect("the store"), 0);
    assert_eq!(store.forget_attachments(NOW.plus(6)).await.expect("the store"), 1);
    assert_eq!(store.attachment(id(1), digest).await.expect("the store"), None);
    assert_eq!(store.attachment(id(2), Digest::of(&whole)).await.expect("the store"), Some(whole));
}

async fn keeps_notices_on_their_way(store: &impl Store) {
    // As an event brings them: in its transaction, once, and not at all where the event is not taken.
    let (form, application) = (form(), opened(1, "sub-a", "one", NOW));
    let notice = {
        let mut handed_in = application.clone();
        handed_in.act(Act::Submit { sealed: sealed() }, &applicant("sub-a"), &form, NOW).expect("the rules");
        let newest = handed_in.events().last().expect("an event").clone();
        crate::notice::notices(&newest, &handed_in).remove(0)
    };
    let row = Delivery { id: DeliveryId([9; 16]), target: "z".into(), address: None, notice: notice.clone() };
    let with_row = Append { deliveries: std::slice::from_ref(&row), ..append(&application, &form, MANY) };
    assert_eq!(store.append(with_row).await.expect("the store"), Appended::Done);
    let other = Delivery { id: DeliveryId([8; 16]), ..row.clone() };
    let again = Append { deliveries: std::slice::from_ref(&other), ..append(&application, &form, MANY) };
    assert_eq!(store.append(again).await.expect("the store"), Appended::Moved);
    let waiting = store.due("z", NOW, NOW.plus(60), 9).await.expect("rows");
    assert_eq!(waiting.iter().map(|row| row.delivery.clone()).collect::<Vec<_>>(), [row]);
    store.done(DeliveryId([9; 16]), NOW).await.expect("written");
    // The rest of what an outbox promises.
    let write = async |rows: Vec<Delivery>, at: Timestamp| store.tell(&rows, at).await.expect("the store");
    crate::notice::contract::keeps(store, &notice, write).await;
    // What is over is forgotten, and could then be written again.
    store.forget_notices(NOW).await.expect("the store");
    write(vec![Delivery { id: DeliveryId([9; 16]), target: "z".into(), address: None, notice: notice.clone() }], NOW)
        .await;
    assert!(store.due("z", NOW, NOW.plus(60), 9).await.expect("rows").is_empty(), "it is remembered");
    store.forget_notices(NOW.plus(1)).await.expect("the store");
    write(vec![Delivery { id: DeliveryId([9; 16]), target: "z".into(), address: None, notice }], NOW).await;
    assert_eq!(store.due("z", NOW, NOW.plus(60), 9).await.expect("rows").len(), 1);
}

async fn never_changes_an_event(store: &impl Meddled) {
    kept(store, &opened(1, "sub-a", "one", NOW)).await;
    store.meddle("UPDATE access_event SET n = n + 1").await.expect_err("an event is never changed");
    store.meddle("DELETE FROM access_event").await.expect_err("an event is never deleted");
    assert!(store.load(id(1)).await.expect("the store").is_some());
    // Whoever writes past the database's own guard is found by the log's links.
    let forged = "INSERT INTO access_event (application, n, bytes) SELECT application, n + 1, bytes FROM access_event";
    assert_eq!(store.meddle(forged).await.expect("one more row"), 1);
    assert!(matches!(store.load(id(1)).await, Err(StoreError::Unreadable { .. })));
}

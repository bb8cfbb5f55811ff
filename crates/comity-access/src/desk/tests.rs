//! Stories at the desk: who may, who watches, what happens to the grants.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use comity_wire::object::Tier;

use super::*;
use crate::store::Sqlite;
use crate::{Sealed, Shown, commitment};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// The node's grants, as the desk has changed them.
#[derive(Default)]
struct Given {
    put: Mutex<Vec<Decided>>,
    withdrawn: Mutex<Vec<GrantId>>,
    is_broken: AtomicBool,
    /// In which order.
    steps: Mutex<Vec<&'static str>>,
    /// Of this project no grant can be written.
    is_broken_for: Mutex<Option<String>>,
}

impl Given {
    fn held(&self) -> Vec<Decided> {
        let withdrawn = self.withdrawn.lock().unwrap();
        let mut held: Vec<Decided> = self.put.lock().unwrap().clone();
        held.dedup();
        held.retain(|decided| !withdrawn.contains(&decided.id));
        held
    }

    fn check(&self) -> Result<(), String> {
        if self.is_broken.load(Ordering::SeqCst) { Err("the disk is full".into()) } else { Ok(()) }
    }
}

impl Grants for Given {
    fn put(&self, decided: Decided) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.check()?;
            if self.is_broken_for.lock().unwrap().as_ref() == Some(&decided.subject) {
                return Err("its name is too long".into());
            }
            self.put.lock().unwrap().push(decided);
            self.steps.lock().unwrap().push("put");
            Ok(())
        })
    }

    fn withdraw(&self, id: GrantId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.check()?;
            self.withdrawn.lock().unwrap().push(id);
            self.steps.lock().unwrap().push("withdrawn");
            Ok(())
        })
    }
}

struct World {
    desk: Desk,
    given: Arc<Given>,
    store: Arc<dyn Store>,
    now: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> =
            Arc::new(Sqlite::open(&folder.path().join("access.sqlite")).await.expect("a store"));
        let (given, now) = (Arc::new(Given::default()), Arc::new(AtomicU64::new(NOW)));
        let desk = desk(config, &store, &given, &now);
        Self { desk, given, store, now, _folder: folder }
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// An application that was handed in.
    async fn handed_in(&self, project: &Project, number: u8) -> Application {
        let opened =
            self.desk.open(project, ApplicationId([number; 16]), vec![model()], answers()).await.expect("it opens");
        self.of_project(project, &opened, Act::Submit { sealed: sealed() }).await.expect("it is handed in")
    }

    async fn of_project(&self, project: &Project, seen: &Application, act: Act) -> Result<Application, Trouble> {
        self.desk.act_of_project(project, seen.id(), seen.head(), act).await
    }

    async fn of_owner(&self, person: &str, seen: &Application, act: Act) -> Result<Application, Trouble> {
        let person = self.desk.person(person)?.clone();
        self.desk.act_of_owner(&person, None, seen.id(), Some(seen.head()), act).await
    }
}

fn desk(config: &str, store: &Arc<dyn Store>, given: &Arc<Given>, now: &Arc<AtomicU64>) -> Desk {
    let config: Config = toml::from_str(config).expect("a configuration");
    assert_eq!(config.fault(), None);
    let (clock, drawn) = (Arc::clone(now), AtomicU64::new(0));
    let entropy = move || {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&drawn.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        bytes
    };
    let clock = move || Timestamp(clock.load(Ordering::SeqCst));
    Desk::new(
        Arc::clone(store),
        Arc::clone(given) as _,
        config,
        Vec::new(),
        targets(),
        Arc::new(clock),
        Arc::new(entropy),
    )
}

fn targets() -> Targets {
    #[derive(serde::Deserialize)]
    struct Written {
        notice: Targets,
    }
    let text = "[[notice]]\nby = \"webhook\"\nname = \"desk\"\nurl = \"https://desk.example/\"\nsecret_file = \"desk.whsec\"\n";
    toml::from_str::<Written>(text).expect("a target").notice
}

fn project(subject: &str) -> Project {
    Project { subject: subject.into(), is_holder: true, vetting: Vetting::Registered, purposes: vec!["biology".into()] }
}

fn model() -> ModelId {
    "lab/model".parse().expect("a model")
}

fn answers() -> Answers {
    [("purpose", "proteins"), ("why_this_model", "it is the only one"), ("agreed", "yes")]
        .map(|(field, answer)| (field.to_owned(), answer.to_owned()))
        .into()
}

fn sealed() -> Sealed {
    let salt = Digest::of(b"salt");
    Sealed {
        organisation: commitment(Shown::Organisation, &salt, "Uni"),
        person: commitment(Shown::Person, &salt, "Ada"),
    }
}

fn terms(days: u64) -> Terms {
    Terms { models: vec![model()], tier: Tier::Vetted, not_after: Timestamp(NOW + days * DAY) }
}

fn approval(days: u64) -> Act {
    Act::Approve { terms: terms(days), reason: "it is sound".into() }
}

const PERSONS: &str = r#"
[[person]]
id = "dora"
roles = ["decider", "reviewer"]
[[person]]
id = "petra"
roles = ["appeal-reviewer"]
[[person]]
id = "paul"
roles = ["appeal-reviewer"]
[[person]]
id = "rita"
roles = ["reviewer"]
[[person]]
id = "sig"
roles = ["signatory"]
organisation = "uni"
"#;

#[tokio::test]
async fn refused_amended_approved_revoked_appealed_reinstated() {
    let world = World::new(PERSONS).await;
    let sub = project("sub-a");
    let asked = world.handed_in(&sub, 1).await;
    let asked = world.of_owner("dora", &asked, Act::Return { reason: "which proteins?".into() }).await.unwrap();
    let text = "kinases".to_owned();
    let asked = world.of_project(&sub, &asked, Act::Answer { answers: answers(), text }).await.unwrap();
    let refused = world.of_owner("dora", &asked, Act::Reject { reason: "too wide".into() }).await.unwrap();
    assert_eq!(world.given.held(), []);
    let appealed = world.of_project(&sub, &refused, Act::Appeal { reason: "it is not".into() }).await.unwrap();
    let reinstated = Act::Reinstate { terms: terms(30), reason: "it is narrow enough".into() };
    // Not the one who refused it, though she may decide.
    let trouble = world.of_owner("dora", &appealed, reinstated.clone()).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Refused(Refused::NotYours { .. })), "{trouble}");
    let approved = world.of_owner("petra", &appealed, reinstated).await.unwrap();
    let held = world.given.held();
    assert_eq!((held.len(), held[0].subject.as_str(), &held[0].terms), (1, "sub-a", &terms(30)));
    // Revoked with a notice: it holds until then.
    let effective = Timestamp(NOW + DAY);
    let revoked = Act::Revoke { reason: "the model is taken down".into(), effective };
    world.of_owner("dora", &approved, revoked).await.unwrap();
    assert_eq!(world.desk.tick().await.unwrap(), 0);
    assert_eq!(world.given.held().len(), 1);
    world.pass(DAY);
    assert_eq!(world.desk.tick().await.unwrap(), 1);
    assert_eq!(world.given.held(), []);
    let revoked = world.desk.find(approved.id()).await.unwrap();
    assert_eq!(revoked.state(), State::Revoked);
    let appealed = world.of_project(&sub, &revoked, Act::Appeal { reason: "give us a week".into() }).await.unwrap();
    let again = Act::Reinstate { terms: terms(8), reason: "a week it is".into() };
    let trouble = world.of_owner("petra", &appealed, again.clone()).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Refused(Refused::TookPart { .. })), "{trouble}");
    world.of_owner("paul", &appealed, again).await.unwrap();
    // Another grant: what was taken back stays taken back.
    let held = world.given.held();
    assert_eq!((held.len(), &held[0].terms), (1, &terms(8)));
    assert_eq!(world.given.withdrawn.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_revocation_without_notice_is_done_when_it_is_answered() {
    let world = World::new("").await;
    let sub = project("sub-a");
    let asked = world.handed_in(&sub, 1).await;
    let approved = world.of_owner(crate::OPERATOR, &asked, approval(9)).await.unwrap();
    assert_eq!(world.given.held().len(), 1);
    world.pass(5);
    let at_once = Act::Revoke { reason: "misuse".into(), effective: Timestamp(0) };
    let revoked = world.of_owner(crate::OPERATOR, &approved, at_once).await.unwrap();
    assert_eq!((revoked.state(), world.given.held()), (State::Revoked, vec![]));
    // So too where the project withdraws what it has.
    let asked = world.handed_in(&sub, 2).await;
    let approved = world.of_owner(crate::OPERATOR, &asked, approval(9)).await.unwrap();
    assert_eq!(world.given.held().len(), 1);
    world.of_project(&sub, &approved, Act::Withdraw { reason: String::new() }).await.unwrap();
    assert_eq!(world.given.held(), []);
}

#[tokio::test]
async fn what_a_crash_left_undone_is_done_before_anybody_is_let_in() {
    let world = World::new("").await;
    let sub = project("sub-a");
    let asked = world.handed_in(&sub, 1).await;
    world.given.is_broken.store(true, Ordering::SeqCst);
    let approved = world.of_owner(crate::OPERATOR, &asked, approval(9)).await.unwrap();
    assert_eq!((approved.state(), world.given.held()), (State::Approved, vec![]));
    assert!(!world.desk.settle().await);
    let at_once = Act::Revoke { reason: "misuse".into(), effective: Timestamp(0) };
    world.of_owner(crate::OPERATOR, &approved, at_once).await.unwrap();
    // Another process, later: both are done, in their order.
    world.given.is_broken.store(false, Ordering::SeqCst);
    let again = desk("", &world.store, &world.given, &world.now);
    assert!(again.settle().await);
    assert_eq!(world.given.held(), []);
    assert_eq!(world.given.put.lock().unwrap().len(), 1);
    assert!(again.settle().await);
    assert_eq!(world.given.put.lock().unwrap().len(), 1, "once it is done it is not done again");
}

#[tokio::test]
async fn a_silent_owner_is_reminded_and_escalated_by_the_form_and_nothing_is_granted() {
    let world = World::new("").await;
    let asked = world.handed_in(&project("sub-a"), 1).await;
    assert_eq!(world.desk.tick().await.unwrap(), 0);
    for reminders in 1..=crate::limit::REMINDERS_MAX {
        world.pass(14 * DAY);
        assert_eq!(world.desk.tick().await.unwrap(), 1, "{reminders}");
        assert_eq!(world.desk.find(asked.id()).await.unwrap().state(), State::Submitted);
    }
    world.pass(14 * DAY);
    assert_eq!(world.desk.tick().await.unwrap(), 1);
    assert_eq!(world.desk.find(asked.id()).await.unwrap().state(), State::Lapsed);
    assert_eq!(world.given.held(), []);
    assert_eq!(world.desk.tick().await.unwrap(), 0, "nothing is due any more");
}

#[tokio::test]
async fn an_act_that_is_sent_twice_is_done_once_and_one_on_what_has_moved_on_is_not() {
    let world = World::new(PERSONS).await;
    let sub = project("sub-a");
    let opened = world.desk.open(&sub, ApplicationId([1; 16]), vec![model()], answers()).await.unwrap();
    let again = world.desk.open(&sub, ApplicationId([1; 16]), vec![model()], answers()).await.unwrap();
    assert_eq!(again, opened);
    let submit = Act::Submit { sealed: sealed() };
    let one = world.of_project(&sub, &opened, submit.clone()).await.unwrap();
    let two = world.of_project(&sub, &opened, submit).await.unwrap();
    assert_eq!(two, one);
    // The applicant withdrew meanwhile: the decision was made on something else.
    world.of_project(&sub, &one, Act::Withdraw { reason: String::new() }).await.unwrap();
    assert!(matches!(world.of_owner("dora", &one, approval(9)).await, Err(Trouble::Moved)));
    assert_eq!(world.given.held(), []);
}

#[tokio::test]
async fn nobody_reaches_the_application_of_another_project() {
    let world = World::new("").await;
    let (sub, other) = (project("sub-a"), project("sub-b"));
    let asked = world.handed_in(&sub, 1).await;
    assert!(matches!(world.desk.of_project(&other, asked.id()).await, Err(Trouble::NotFound)));
    let withdraw = Act::Withdraw { reason: String::new() };
    assert!(matches!(world.of_project(&other, &asked, withdraw.clone()).await, Err(Trouble::NotFound)));
    let opened = world.desk.open(&other, asked.id(), vec![model()], answers()).await;
    assert!(matches!(opened, Err(Trouble::NotFound)));
    // Whoever holds a part of the token is a member: they look, and do not withdraw.
    let member = Project { is_holder: false, ..sub.clone() };
    assert!(world.desk.of_project(&member, asked.id()).await.is_ok());
    let trouble = world.of_project(&member, &asked, withdraw).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Refused(Refused::NotYours { .. })), "{trouble}");
}

#[tokio::test]
async fn the_owners_rules_are_done_when_it_is_handed_in() {
    const RULES: &str = r#"
        [[person]]
        id = "rita"
        roles = ["reviewer"]
        [[person]]
        id = "olaf"
        roles = ["operator"]
        [[rule]]
        purposes = ["arms"]
        then = "reject"
        reason = "not for this"
        [[rule]]
        vetting = "vetted"
        then = "approve"
        tier = "t1"
        days = 900
        [[rule]]
        after_revocation = true
        then = "review"
        by = ["rita"]
    "#;
    let world = World::new(RULES).await;
    let vetted = Project { vetting: Vetting::Vetted, ..project("sub-a") };
    let approved = world.handed_in(&vetted, 1).await;
    assert_eq!(approved.state(), State::Approved);
    let held = world.given.held();
    // No longer than the form lets a grant hold.
    assert_eq!(
        (held.len(), held[0].terms.tier, held[0].terms.not_after),
        (1, Tier::Registered, Timestamp(NOW + 366 * DAY))
    );
    assert_eq!(approved.events().last().unwrap().event().author, "rule-2");
    let arms = Project { purposes: vec!["arms".into()], ..vetted.clone() };
    assert_eq!(world.handed_in(&Project { subject: "sub-b".into(), ..arms }, 2).await.state(), State::Rejected);
    let common = world.handed_in(&project("sub-c"), 3).await;
    assert_eq!(common.state(), State::UnderReview);
    let review = Act::Review { favour: true, reason: "I know them".into() };
    world.of_owner("rita", &common, review).await.unwrap();
    // Whose access was revoked once is approved by no rule that does not say so, whatever becomes of that application.
    let at_once = Act::Revoke { reason: "misuse".into(), effective: Timestamp(0) };
    let revoked = world.of_owner("olaf", &approved, at_once.clone()).await.unwrap();
    assert_eq!(world.handed_in(&vetted, 4).await.state(), State::UnderReview);
    // The same word again, after a lost answer, is the same revocation.
    world.pass(9);
    assert_eq!(world.of_owner("olaf", &approved, at_once).await.unwrap(), revoked);
    let appealed = world.of_project(&vetted, &revoked, Act::Appeal { reason: "no".into() }).await.unwrap();
    assert_eq!(world.handed_in(&vetted, 5).await.state(), State::UnderReview);
    world.of_project(&vetted, &appealed, Act::Withdraw { reason: String::new() }).await.unwrap();
    assert_eq!(world.handed_in(&vetted, 6).await.state(), State::UnderReview);
    // A repeat of what was handed in asks the rules nothing once somebody has looked at it.
    let opened = world.desk.open(&project("sub-d"), ApplicationId([7; 16]), vec![model()], answers()).await.unwrap();
    let submit = Act::Submit { sealed: sealed() };
    let asked = world.of_project(&project("sub-d"), &opened, submit.clone()).await.unwrap();
    let asked = world.of_owner("olaf", &asked, Act::Return { reason: "what for?".into() }).await.unwrap();
    let since = Project { subject: "sub-d".into(), ..vetted.clone() };
    assert_eq!(world.of_project(&since, &opened, submit).await.unwrap(), asked);
    let answered = Act::Answer { answers: answers(), text: "proteins".into() };
    assert_eq!(world.of_project(&since, &asked, answered).await.unwrap().state(), State::Submitted);
    assert_eq!(world.given.held(), []);
}

#[tokio::test]
async fn whom_it_concerns_is_told_of_acts_and_before_a_clock_runs_out() {
    let world = World::new(PERSONS).await;
    let due = async || {
        let now = Timestamp(world.now.load(Ordering::SeqCst));
        let rows = world.desk.outbox().due("desk", now, now.plus(DAY), 16).await.unwrap();
        let told = rows.iter().map(|row| row.delivery.notice.kind.to_string()).collect::<Vec<_>>();
        for row in rows {
            world.desk.outbox().done(row.delivery.id, now).await.unwrap();
        }
        told
    };
    let asked = world.handed_in(&project("sub-a"), 1).await;
    assert_eq!(due().await, ["submit"]);
    world.desk.remind().await.unwrap();
    assert_eq!(due().await, [""; 0], "it is early");
    world.pass(12 * DAY);
    for _ in 0..2 {
        world.desk.remind().await.unwrap();
    }
    assert_eq!(due().await, ["due-soon"]);
    world.desk.remind().await.unwrap();
    assert_eq!(due().await, [""; 0], "once is enough");
    world.pass(2 * DAY);
    world.desk.tick().await.unwrap();
    assert_eq!(due().await, ["remind"]);
    world
        .of_project(
            &project("sub-a"),
            &world.desk.find(asked.id()).await.unwrap(),
            Act::Withdraw { reason: String::new() },
        )
        .await
        .unwrap();
    assert_eq!(due().await, ["withdraw"]);
}

#[tokio::test]
async fn attachments_are_those_that_were_named() {
    let world = World::new("").await;
    let sub = project("sub-a");
    let opened = world.desk.open(&sub, ApplicationId([1; 16]), vec![model()], answers()).await.unwrap();
    let (bytes, digest) = (b"%PDF", Digest::of(b"%PDF"));
    assert!(matches!(world.desk.attach(&sub, opened.id(), bytes).await, Err(Trouble::Content(_))));
    let named = Act::Attach { name: "letter.pdf".into(), digest, bytes: 4 };
    world.of_project(&sub, &opened, named).await.unwrap();
    assert!(matches!(world.desk.attach(&sub, opened.id(), b"other").await, Err(Trouble::Content(_))));
    assert!(matches!(world.desk.attachment(opened.id(), digest).await, Err(Trouble::NotFound)));
    world.desk.attach(&sub, opened.id(), bytes).await.unwrap();
    assert_eq!(world.desk.attachment(opened.id(), digest).await.unwrap(), bytes);
}

#[tokio::test]
async fn the_applicant_reads_decisions_and_not_who_said_what_before_them() {
    let world = World::new(PERSONS).await;
    let sub = project("sub-a");
    let asked = world.handed_in(&sub, 1).await;
    let asked = world.of_owner("dora", &asked, Act::RequestReview { reviewers: vec!["rita".into()] }).await.unwrap();
    let review = Act::Review { favour: false, reason: "a rival of mine".into() };
    let asked = world.of_owner("rita", &asked, review).await.unwrap();
    let private = Act::Remark { text: "ask their dean".into(), public: false };
    let asked = world.of_owner("dora", &asked, private).await.unwrap();
    let approved = world.of_owner("dora", &asked, approval(9)).await.unwrap();
    let (theirs, ours) =
        (world.desk.for_project(&sub, &approved), world.desk.for_person(&world.desk.persons()[0], &approved));
    let text = serde_json::to_string(&theirs).unwrap();
    for hidden in ["rival", "dean", "rita"] {
        assert!(!text.contains(hidden), "{text}");
    }
    assert!(text.contains("it is sound") && text.contains("dora"), "{text}");
    // Every line is there for both, with the link that the next one carries.
    assert_eq!(theirs.events.len(), ours.events.len());
    assert_eq!(theirs.events.last().unwrap().link, theirs.head);
    assert!(ours.events.iter().all(|event| event.text.is_some()));
    assert!(theirs.can.contains(&"withdraw".to_owned()) && !theirs.can.contains(&"revoke".to_owned()));
    assert!(ours.can.contains(&"revoke".to_owned()) && !ours.can.contains(&"withdraw".to_owned()));
}

#[test]
fn a_configuration_says_what_is_wrong_with_it() {
    let fault =
        |text: &str| toml::from_str::<Config>(text).map_err(|error| error.to_string()).map(|config| config.fault());
    let person = |roles: &str| format!("[[person]]\nid = \"a\"\nroles = {roles}\n");
    assert_eq!(fault("").unwrap(), None);
    assert!(fault(&person("[]")).unwrap().unwrap().contains("roles"));
    assert!(fault(&person("[\"applicant\"]")).unwrap().unwrap().contains("roles"));
    assert!(fault(&format!("{0}{0}", person("[\"decider\"]"))).unwrap().unwrap().contains("twice"));
    assert!(fault("[[rule]]\nthen = \"review\"\nby = [\"a\"]").unwrap().unwrap().contains("who is no"));
    assert!(fault("[[rule]]\nthen = \"approve\"\ntier = \"t3\"\ndays = 3").unwrap().unwrap().contains("plan"));
    assert!(fault("[[rule]]\nthen = \"approve\"\ndays = 3").unwrap_err().contains("tier and days"));
    assert!(fault("[[rule]]\nthen = \"grant\"").unwrap_err().contains("approve, reject or review"));
    assert!(fault("[[rule]]\nthen = \"reject\"\nreason = \"x\"\nvetted = true").unwrap_err().contains("vetted"));
}

#[tokio::test]
async fn nobody_finds_a_hidden_text_by_its_link() {
    let world = World::new(PERSONS).await;
    let asked = world.handed_in(&project("sub-a"), 1).await;
    let asked = world.of_owner("dora", &asked, Act::RequestReview { reviewers: vec!["rita".into()] }).await.unwrap();
    let asked = world.of_owner("rita", &asked, Act::Review { favour: false, reason: "no".into() }).await.unwrap();
    let hidden = asked.events().last().unwrap();
    // Somebody guesses everything that it says: author, role, act, time, what stands before it.
    let mut guess = hidden.event().clone();
    assert_eq!(crate::Recorded::new(guess.clone()).link(), hidden.link());
    let salt = guess.salt.take().expect("a salt");
    assert_ne!(crate::Recorded::new(guess).link(), hidden.link());
    let salts: Vec<_> = asked.events().iter().filter_map(|recorded| recorded.event().salt).collect();
    assert_eq!(salts.iter().filter(|other| **other == salt).count(), 1, "each has its own");
    assert_eq!(salts.len(), asked.events().len() - 1, "only the first, which the project wrote itself, has none");
}

#[tokio::test]
async fn persons_see_what_is_their_business() {
    let world = World::new(PERSONS).await;
    let (sub, id) = (project("sub-a"), ApplicationId([1; 16]));
    let person = |name: &str| world.desk.person(name).unwrap().clone();
    let seen = async |name: &str| match world.desk.find_for(&person(name), id).await {
        Ok(_) => "seen",
        Err(Trouble::NotFound) => "not found",
        Err(Trouble::SteppedBack) => "stepped back",
        Err(trouble) => panic!("{trouble}"),
    };
    let listed = async |name: &str| {
        let rows = world.desk.list(&Filter::default(), 9).await.unwrap();
        world.desk.seen_by(&person(name), rows).await.unwrap().len()
    };
    // A draft is its project's alone, also where it is never handed in.
    let left = world.desk.open(&sub, ApplicationId([2; 16]), vec![model()], answers()).await.unwrap();
    world.of_project(&sub, &left, Act::Withdraw { reason: String::new() }).await.unwrap();
    let draft = world.desk.open(&sub, id, vec![model()], answers()).await.unwrap();
    assert_eq!((seen("dora").await, listed("dora").await), ("not found", 0));
    let asked = world.of_project(&sub, &draft, Act::Submit { sealed: sealed() }).await.unwrap();
    assert_eq!((seen("dora").await, listed("dora").await), ("seen", 1));
    // Whoever signs for an institution sees who has shown that they are of it, and reads what the applicant reads.
    assert_eq!((seen("sig").await, listed("sig").await), ("not found", 0));
    let sign = Act::Sign { text: "for the faculty".into() };
    let refused = world.of_owner("sig", &asked, sign.clone()).await;
    assert!(matches!(refused, Err(Trouble::Refused(Refused::Unmet { next: Party::Applicant, .. }))), "{refused:?}");
    let salt = Digest::of(b"salt");
    let shown = Act::Reveal { what: Shown::Organisation, value: "Uni".into(), salt };
    let asked = world.of_project(&sub, &asked, shown).await.unwrap();
    assert_eq!((seen("sig").await, listed("sig").await), ("seen", 1));
    let asked = world.of_owner("sig", &asked, sign).await.unwrap();
    let asked = world.of_owner("dora", &asked, Act::Remark { text: "a rival".into(), public: false }).await.unwrap();
    let text = |name: &str| serde_json::to_string(&world.desk.for_person(&person(name), &asked)).unwrap();
    assert!(text("dora").contains("a rival") && !text("sig").contains("a rival"));
    // Whoever steps back has nothing more to read.
    world.of_owner("rita", &asked, Act::DeclareConflict { reason: "my student".into() }).await.unwrap();
    assert_eq!((seen("rita").await, seen("dora").await, listed("rita").await), ("stepped back", "seen", 1));
}

#[tokio::test]
async fn nobody_signs_for_another_institution() {
    let config = PERSONS.replace("organisation = \"uni\"", "organisation = \"Academy\"");
    let world = World::new(&config).await;
    let sub = project("sub-a");
    let asked = world.handed_in(&sub, 1).await;
    let shown = Act::Reveal { what: Shown::Organisation, value: "Uni".into(), salt: Digest::of(b"salt") };
    let asked = world.of_project(&sub, &asked, shown).await.unwrap();
    assert!(matches!(
        world.desk.find_for(&world.desk.person("sig").unwrap().clone(), asked.id()).await,
        Err(Trouble::NotFound)
    ));
    let refused = world.of_owner("sig", &asked, Act::Sign { text: "for the faculty".into() }).await;
    assert!(matches!(refused, Err(Trouble::Refused(Refused::Unmet { next: Party::Signatory, .. }))), "{refused:?}");
}

#[tokio::test]
async fn what_cannot_be_done_keeps_nothing_else_from_being_done() {
    let world = World::new("").await;
    world.given.is_broken.store(true, Ordering::SeqCst);
    let subjects = ["sub-a", "sub-b", "sub-c", "sub-d", "sub-e"];
    for (number, subject) in (1..).zip(subjects) {
        let asked = world.handed_in(&project(subject), number).await;
        world.of_owner("operator", &asked, approval(9)).await.unwrap();
    }
    let revoked = world.desk.find(ApplicationId([5; 16])).await.unwrap();
    let revoke = Act::Revoke { reason: "harm".into(), effective: AT_ONCE };
    world.of_owner("operator", &revoked, revoke).await.unwrap();
    // What comes first can never be written, and there is more than one page.
    world.given.is_broken.store(false, Ordering::SeqCst);
    *world.given.is_broken_for.lock().unwrap() = Some("sub-a".into());
    assert!(!world.desk.settle().await);
    let held = || world.given.held().iter().map(|decided| decided.subject.clone()).collect::<Vec<_>>();
    assert_eq!(held(), ["sub-b", "sub-c", "sub-d"], "also what was granted and taken back before it was ever written");
    assert_eq!(
        *world.given.steps.lock().unwrap(),
        ["withdrawn", "put", "put", "put", "put"],
        "who goes out, goes first"
    );
    *world.given.is_broken_for.lock().unwrap() = None;
    assert!(world.desk.settle().await);
    assert_eq!(held(), ["sub-b", "sub-c", "sub-d", "sub-a"]);
}

#[tokio::test]
async fn one_log_that_does_not_hold_stops_no_other_clock() {
    let world = World::new("").await;
    for number in 1..=5 {
        world.desk.open(&project("sub-a"), ApplicationId([number; 16]), vec![model()], answers()).await.unwrap();
    }
    let path = world._folder.path().join("access.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let other = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let spoil = "INSERT INTO access_event (application, n, bytes) SELECT application, n + 1, bytes FROM access_event \
                 ORDER BY application LIMIT 2";
    sqlx::query(spoil).execute(&other).await.unwrap();
    world.pass(400 * DAY);
    assert_eq!(world.desk.tick().await.unwrap(), 3);
    assert_eq!(world.desk.find(ApplicationId([5; 16])).await.unwrap().state(), State::Lapsed);
}

#[tokio::test]
async fn attachments_have_bounds_and_an_end() {
    let world = World::new("attachments_of_a_project_mib = 1\nattachments_days = 3").await;
    let sub = project("sub-a");
    let mut asked = world.desk.open(&sub, ApplicationId([1; 16]), vec![model()], answers()).await.unwrap();
    let files = [vec![1_u8; 700 << 10], vec![2; 700 << 10]];
    for bytes in &files {
        let named = Act::Attach { name: "a".into(), digest: Digest::of(bytes), bytes: bytes.len() as u64 };
        asked = world.of_project(&sub, &asked, named).await.unwrap();
    }
    world.desk.attach(&sub, asked.id(), &files[0]).await.unwrap();
    let refused = world.desk.attach(&sub, asked.id(), &files[1]).await;
    assert!(matches!(refused, Err(Trouble::TooMany { most: 1, .. })), "{refused:?}");
    world.of_project(&sub, &asked, Act::Withdraw { reason: String::new() }).await.unwrap();
    world.pass(3 * DAY);
    assert_eq!(world.desk.forget_attachments().await.unwrap(), 0);
    world.pass(1);
    assert_eq!(world.desk.forget_attachments().await.unwrap(), 1);
    assert!(matches!(world.desk.attachment(asked.id(), Digest::of(&files[0])).await, Err(Trouble::NotFound)));
}

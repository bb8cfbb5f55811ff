//! Stories at the desk of cases: who is heard, who hears of it, what happens at the doors, with two processes at one store.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use comity_wire::CreditNoteId;

use super::*;
use crate::notice::{About, Notice, Topic};
use crate::store::Sqlite;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// The doors of a node, as its cases have changed them.
#[derive(Default)]
struct Opened {
    said: Mutex<Vec<String>>,
    is_broken: AtomicBool,
    /// What the house says, the last one first.
    answers: Mutex<Vec<Result<Answer, String>>>,
}

impl Opened {
    fn say(&self, what: String) -> Result<(), String> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err("the disk is full".into());
        }
        self.said.lock().unwrap().push(what);
        Ok(())
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

impl Doors for Opened {
    fn stop(&self, case: CaseId, subject: String, _: String) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move { self.say(format!("stop {subject} by {}", case.0[7])) })
    }

    fn lift(&self, case: CaseId, subject: String, others: Others) -> BoxFuture<'_, Result<(), String>> {
        let stop = others.stop.map_or_else(String::new, |other| format!(", {} stops it", other.0[7]));
        let suspend = if others.suspend { ", suspended" } else { "" };
        Box::pin(async move { self.say(format!("lift {subject} by {}{suspend}{stop}", case.0[7])) })
    }

    fn refund(&self, order: Order) -> BoxFuture<'_, Result<Answer, String>> {
        let said = format!("give {} back of {} to {}, on {}", order.amount, order.token, order.subject, order.link);
        Box::pin(async move { self.say(said).and_then(|()| self.answer()) })
    }
}

impl Opened {
    fn answer(&self) -> Result<Answer, String> {
        self.answers.lock().unwrap().pop().unwrap_or_else(|| Err("the house is silent".into()))
    }
}

struct World {
    desk: Desk,
    doors: Arc<Opened>,
    settings: Settings,
    store: Arc<dyn Store>,
    now: Arc<AtomicU64>,
    drawn: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.sqlite");
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&path).await.expect("a store"));
        let (doors, now, drawn) = (Arc::default(), Arc::new(AtomicU64::new(NOW)), Arc::new(AtomicU64::new(1)));
        let desk = desk(&store, &doors, settings.clone(), &now, &drawn);
        Self { desk, doors, settings, store, now, drawn, _folder: folder }
    }

    /// Another process of the same node.
    fn other(&self) -> Desk {
        desk(&self.store, &self.doors, self.settings.clone(), &self.now, &self.drawn)
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn flag(&self, subject: &str, action: FilterAction) -> Result<CaseId, Trouble> {
        self.desk.flagged(flag(subject, action), &|_| Ok(None)).await
    }

    async fn owner(&self, id: CaseId, role: Role, author: &str, act: Act) -> Result<Case, Trouble> {
        self.desk.act_of_owner(id, role, author.into(), act).await
    }

    async fn project(&self, seen: &Case, act: Act) -> Result<Case, Trouble> {
        self.desk.act_of_project(seen.subject(), seen.id(), seen.link(), act).await
    }

    /// What waits for the webhook, by kind and reader; nothing more.
    async fn told(&self) -> Vec<Notice> {
        let now = Timestamp(self.now.load(Ordering::SeqCst));
        let rows = self.store.due("desk", now, now.plus(60), 16).await.expect("rows");
        let mut told = Vec::new();
        for row in rows {
            self.store.done(row.delivery.id, now).await.expect("written");
            told.push(row.delivery.notice);
        }
        told.sort_by_key(|notice| (notice.at, notice.to.iter().any(|to| to.persons.is_empty())));
        told
    }
}

fn desk(
    store: &Arc<dyn Store>,
    doors: &Arc<Opened>,
    settings: Settings,
    now: &Arc<AtomicU64>,
    drawn: &Arc<AtomicU64>,
) -> Desk {
    let (clock, drawn) = (Arc::clone(now), Arc::clone(drawn));
    let entropy = move || {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&drawn.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        bytes
    };
    let clock = move || Timestamp(clock.load(Ordering::SeqCst));
    Desk::new(Arc::clone(store), Arc::clone(doors) as _, settings, targets(), Arc::new(clock), Arc::new(entropy))
}

fn targets() -> Targets {
    #[derive(serde::Deserialize)]
    struct Written {
        notice: Targets,
    }
    let text = "[[notice]]\nby = \"webhook\"\nname = \"desk\"\nurl = \"https://desk.example/\"\nsecret_file = \"s\"\n\
                roles = [\"operator\", \"appeal-reviewer\", \"applicant\"]\n";
    let Written { notice } = toml::from_str(text).expect("a target");
    notice
}

fn seen(action: FilterAction) -> Seen {
    let (category, rule, band) = ("political_persuasion".into(), "political/vote-for".into(), "high".into());
    Seen { model: "lab/tiny".parse().expect("a model"), category, rule, band, count: 3, action }
}

fn flag(subject: &str, action: FilterAction) -> Flag {
    Flag { subject: subject.into(), seen: seen(action), at: Timestamp(NOW) }
}

fn answer() -> Act {
    Act::Answer { text: "it is a study".into(), brought_by: None }
}

fn appeal() -> Act {
    Act::Appeal { reason: "look at the data".into(), brought_by: None }
}

fn uphold(measure: Measure) -> Act {
    Act::Uphold { measure, reason: "a campaign".into() }
}

fn overturn() -> Act {
    Act::Overturn { reason: "it is a study".into() }
}

fn titles(notices: &[Notice]) -> Vec<(&str, &str)> {
    notices.iter().map(|notice| (notice.kind.as_str(), notice.title.split(" (").next().unwrap_or_default())).collect()
}

#[tokio::test]
async fn a_project_is_told_heard_judged_and_let_in_and_each_side_hears_of_it_without_a_text() {
    let world = World::new(Settings::default()).await;
    let id = world.flag("sub-a", FilterAction::Suspend).await.unwrap();
    assert_eq!(world.flag("sub-a", FilterAction::Suspend).await.unwrap(), id, "more of the same is added");
    let told = world.told().await;
    let opened = [("case-open", "A case was opened about your project"), ("case-open", "A filter has opened a case")];
    assert_eq!(titles(&told), opened, "once, however often it was seen");
    assert!(told[0].text.contains("Category political_persuasion, rule political/vote-for, band high."));
    assert!(told[0].text.contains("The next move is yours, until 2027-01-29"), "{}", told[0].text);
    assert!(told[0].command.starts_with("comity access cases answer case-"));
    assert_eq!(told[0].to[0].persons, ["sub-a"]);
    let case = world.desk.find(id).await.unwrap();
    assert_eq!(case.seen().len(), 2);

    // Nobody else's, and nobody's that has moved on.
    assert!(matches!(world.desk.of_project("sub-b", id).await, Err(Trouble::NotFound)));
    assert!(matches!(world.desk.act_of_project("sub-b", id, case.link(), answer()).await, Err(Trouble::NotFound)));
    let answered = world.project(&case, answer()).await.unwrap();
    assert_eq!(world.project(&case, answer()).await.unwrap(), answered, "a repeat is done once");
    let other = Act::Answer { text: "something else".into(), brought_by: None };
    assert!(matches!(world.project(&case, other).await, Err(Trouble::Moved)));
    assert!(matches!(
        world.project(&answered, uphold(Measure::Note)).await,
        Err(Trouble::Refused(Refused::NotYours { .. }))
    ));
    assert_eq!(titles(&world.told().await), [("case-answer", "A project has answered in a case")]);

    world.owner(id, Role::Handler, "hanna", Act::Remark { text: "odd".into(), salt: None }).await.unwrap();
    assert_eq!(world.told().await, []);
    let upheld = world.owner(id, Role::Handler, "hanna", uphold(Measure::Stop)).await.unwrap();
    assert_eq!(world.doors.said(), ["stop sub-a by 1"]);
    let told = world.told().await;
    assert_eq!(titles(&told), [("case-uphold", "Your case was upheld"), ("case-uphold", "A case was upheld")]);
    assert_eq!((told[0].reason.as_deref(), told[1].reason.as_deref()), (Some("a campaign"), None));
    assert!(!told[0].text.contains("hanna") && told[1].text.contains("By hanna (handler)."));
    world.project(&upheld, appeal()).await.unwrap();
    assert_eq!(titles(&world.told().await), [("case-appeal", "A case was appealed")]);
    assert!(matches!(
        world.owner(id, Role::AppealReviewer, "hanna", overturn()).await,
        Err(Trouble::Refused(Refused::TookPart { .. }))
    ));
    let ended = world.owner(id, Role::AppealReviewer, "petra", overturn()).await.unwrap();
    assert_eq!(world.doors.said(), ["lift sub-a by 1"]);
    let told = world.told().await;
    assert_eq!(
        titles(&told),
        [("case-overturn", "Your appeal was right"), ("case-overturn", "An appeal in a case was right")]
    );
    assert!(matches!(&told[0].about, About::Case { case, state: State::Overturned, due: None, .. } if *case == id));

    // The words that were written are in no notice, and a remark is not to be guessed by its link.
    let log: Vec<_> = ended.events().iter().map(|recorded| recorded.event()).collect();
    assert!(log.iter().any(|event| matches!(&event.act, Act::Remark { salt: Some(_), .. })));
    let shown = crate::case::view::shown(&ended);
    let hidden: Vec<_> = shown.events.iter().filter(|event| event.text.is_none()).map(|event| &event.kind).collect();
    assert_eq!(hidden, ["remark"]);
    assert!(!serde_json::to_string(&shown).unwrap().contains("odd"));
}

#[tokio::test]
async fn what_was_decided_is_done_once_the_doors_can_be_reached_and_not_after_it_was_taken_back() {
    let world = World::new(Settings::default()).await;
    let id = world.flag("sub-a", FilterAction::Block).await.unwrap();
    world.owner(id, Role::Project, "hanna", answer()).await.unwrap();
    world.doors.is_broken.store(true, Ordering::SeqCst);
    world.owner(id, Role::Handler, "hanna", uphold(Measure::Stop)).await.expect("it is decided");
    assert!(!world.desk.settle().await, "it is not done");
    world.doors.is_broken.store(false, Ordering::SeqCst);
    assert!(world.other().settle().await);
    assert_eq!(world.doors.said(), ["stop sub-a by 1"], "another process does it");
    assert!(world.desk.settle().await);
    assert_eq!(world.doors.said(), Vec::<String>::new(), "once");

    // The stop is left undone, and the appeal is right before anybody comes to it.
    let id = world.flag("sub-b", FilterAction::Block).await.unwrap();
    world.owner(id, Role::Project, "hanna", answer()).await.unwrap();
    world.doors.is_broken.store(true, Ordering::SeqCst);
    world.owner(id, Role::Handler, "hanna", uphold(Measure::Stop)).await.unwrap();
    world.owner(id, Role::Project, "hanna", appeal()).await.unwrap();
    world.owner(id, Role::AppealReviewer, "petra", overturn()).await.unwrap();
    world.doors.is_broken.store(false, Ordering::SeqCst);
    assert!(world.desk.settle().await);
    let number = id.0[7];
    assert_eq!(world.doors.said(), [format!("lift sub-b by {number}")]);
}

#[tokio::test]
async fn what_another_case_holds_stays() {
    let world = World::new(Settings::default()).await;
    let first = world.flag("sub-a", FilterAction::Suspend).await.unwrap();
    world.owner(first, Role::Project, "hanna", answer()).await.unwrap();
    world.owner(first, Role::Handler, "hanna", uphold(Measure::Stop)).await.unwrap();
    let second = world.flag("sub-a", FilterAction::Suspend).await.unwrap();
    assert_ne!(first, second, "what is decided takes no more");
    let third =
        world.desk.word("sub-a".into(), seen(FilterAction::Log), "hanna".into(), "a letter".into()).await.unwrap();
    world.doors.said();
    world.owner(third.id(), Role::Handler, "hanna", Act::Clear { reason: "no".into() }).await.unwrap();
    let lifted = world.doors.said();
    assert_eq!(lifted, [format!("lift sub-a by {}, suspended, {} stops it", third.id().0[7], first.0[7])]);
    world.owner(second, Role::Handler, "hanna", Act::Clear { reason: "no".into() }).await.unwrap();
    assert_eq!(world.doors.said(), [format!("lift sub-a by {}, {} stops it", second.0[7], first.0[7])]);
}

#[tokio::test]
async fn clocks_run_out_once_for_all_processes_and_are_told_of_before() {
    let world = World::new(Settings { answer_s: 10 * DAY, decide_s: 5 * DAY, ..Settings::default() }).await;
    let id = world.flag("sub-a", FilterAction::Suspend).await.unwrap();
    world.told().await;
    world.desk.remind().await.unwrap();
    assert_eq!(world.told().await, [], "it is early");
    world.pass(7 * DAY);
    for desk in [&world.desk, &world.other()] {
        desk.remind().await.unwrap();
    }
    let told = world.told().await;
    assert_eq!(titles(&told), [("case-due-soon", "Your answer in a case is due soon")]);
    assert_eq!((told[0].kind, &told[0].to[0].persons[..]), (Topic::CaseDueSoon, &["sub-a".to_owned()][..]));
    world.pass(3 * DAY);
    let other = world.other();
    let (one, two) = futures::join!(world.desk.tick(), other.tick());
    assert_eq!(one.unwrap() + two.unwrap(), 1, "one of them");
    assert_eq!(titles(&world.told().await), [("case-await", "A case waits for a decision")]);
    world.pass(2 * DAY);
    world.desk.remind().await.unwrap();
    assert_eq!(world.told().await, [], "a clock of five days is told of when half of it is over");
    world.pass(DAY);
    world.desk.remind().await.unwrap();
    assert_eq!(titles(&world.told().await), [("case-due-soon", "A decision is due soon")]);
    world.pass(2 * DAY);
    assert_eq!(world.desk.tick().await.unwrap(), 1);
    assert_eq!(world.desk.find(id).await.unwrap().state(), State::Lapsed);
    assert_eq!(world.doors.said(), ["lift sub-a by 1"]);
    assert_eq!(world.desk.tick().await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_seen_is_sealed_for_its_case_and_goes_when_its_time_is_over() {
    let world = World::new(Settings::default()).await;
    let seal = |id: CaseId| {
        let sealed = [b"sealed for ".as_slice(), &id.0].concat();
        Ok(Some(Excerpt { sealed, until: Timestamp(NOW + 3 * DAY) }))
    };
    let id = world.desk.flagged(flag("sub-a", FilterAction::Block), &seal).await.unwrap();
    let case = world.desk.find(id).await.unwrap();
    assert!(world.desk.excerpt(&case).await.unwrap().is_some_and(|kept| kept.sealed.ends_with(&id.0)));
    world.pass(3 * DAY - 1);
    assert_eq!(world.desk.tick().await.unwrap(), 0);
    world.pass(1);
    assert_eq!(world.desk.tick().await.unwrap(), 1);
    let case = world.desk.find(id).await.unwrap();
    assert_eq!(world.desk.excerpt(&case).await.unwrap(), None);
    assert_eq!((case.excerpt(), world.store.excerpt(id).await.unwrap()), (None, None));
    assert_eq!(world.desk.tick().await.unwrap(), 0);
    let failed = world.desk.flagged(flag("sub-b", FilterAction::Block), &|_| Err("no key".into())).await;
    assert!(matches!(failed, Err(Trouble::Unsealed(_))));
}

#[tokio::test]
async fn filters_open_so_many_and_no_more_and_somebody_may_always_open_one() {
    let world = World::new(Settings { open_of_a_project_max: 2, open_max: 3, ..Settings::default() }).await;
    for subject in ["sub-a", "sub-b", "sub-c"] {
        world.flag(subject, FilterAction::Block).await.unwrap();
    }
    assert!(matches!(world.flag("sub-d", FilterAction::Block).await, Err(Trouble::TooMany { most: 3, .. })));
    world.flag("sub-a", FilterAction::Block).await.expect("more of the same opens none");
    let word =
        async || world.desk.word("sub-a".into(), seen(FilterAction::Log), "hanna".into(), "a letter".into()).await;
    word().await.expect("a person's word");
    assert!(matches!(word().await, Err(Trouble::TooMany { most: 2, .. })));
}

#[test]
fn deadlines_leave_everybody_a_time() {
    assert_eq!(Settings::default().fault(), None);
    let fault = |settings: Settings| settings.fault().expect("a fault");
    assert!(fault(Settings { answer_s: DAY, ..Settings::default() }).contains("answer_s = 86400"));
    assert!(fault(Settings { appeal_s: 0, ..Settings::default() }).contains("appeal_s"));
    assert!(fault(Settings { decide_s: 3_599, ..Settings::default() }).contains("decide_s"));
    assert!(fault(Settings { appeal_decide_s: 367 * DAY, ..Settings::default() }).contains("appeal_decide_s"));
    assert!(fault(Settings { open_max: 0, ..Settings::default() }).contains("no case"));
    let config: crate::Config = toml::from_str("[case]\nanswer_s = 604800\n").expect("a configuration");
    assert_eq!((config.case.answer_s, config.case.decide_s, config.fault()), (7 * DAY, 14 * DAY, None));
    let config: crate::Config = toml::from_str("[case]\nanswer_s = 60\n").expect("it can be read");
    assert!(config.fault().is_some_and(|fault| fault.contains("[access.case]")));
}

/// Ordered once, brought until the house answers, by whichever process is there, and written down once.
#[tokio::test]
async fn a_credit_note_is_brought_until_the_house_has_answered() {
    use comity_wire::{Amount, TokenId};

    let world = World::new(Settings::default()).await;
    let id = world.flag("sub-a", FilterAction::Suspend).await.unwrap();
    world.owner(id, Role::Handler, "hanna", Act::Clear { reason: "a quotation".into() }).await.unwrap();
    let order = |amount| Act::Refund {
        note: CreditNoteId([0; 16]),
        token: TokenId([7; 16]),
        amount: Amount::from_ucr(amount),
        reason: "withheld for nothing".into(),
    };
    assert!(world.owner(id, Role::Handler, "hanna", order(0)).await.is_err(), "of nothing");
    world.doors.said();
    let case = world.owner(id, Role::Handler, "hanna", order(40)).await.unwrap();
    let [refund] = case.refunds() else { panic!("one order") };
    assert!(refund.note != CreditNoteId([0; 16]) && refund.answer.is_none(), "{refund:?}");
    assert!(world.doors.said().is_empty(), "whoever orders it does not wait for the house");
    assert!(case.notice().next.contains("waits for the clearing house"));
    // What decisions have left to be done does not wait for it either.
    assert!(world.desk.settle().await);
    assert_eq!(world.desk.refunds().await, 1, "a house that is silent");
    // A bot is no operator, and an operator no house.
    let booked = Act::Booked { note: refund.note, content: Digest::of(b"note"), booked_at: Timestamp(NOW) };
    assert!(world.owner(id, Role::Handler, "hanna", booked).await.is_err());
    // Another process brings it, as this one was killed: the same order, on the same link.
    let [first] = &world.doors.said()[..] else { panic!("once") };
    let answer = Answer::Booked { content: Digest::of(b"note"), booked_at: Timestamp(NOW + 5) };
    world.doors.answers.lock().unwrap().push(Ok(answer.clone()));
    assert_eq!(world.other().refunds().await, 0);
    assert_eq!(&world.doors.said()[0], first);
    let case = world.desk.find(id).await.unwrap();
    assert_eq!((case.refunds()[0].answer.clone(), case.events().len()), (Some(answer), 4));
    // Answered once: nobody brings it again.
    assert_eq!((world.desk.refunds().await, world.doors.said().len()), (0, 0));
    let told = world.told().await;
    let kinds: Vec<_> =
        told.iter().map(|notice| notice.kind).filter(|kind| *kind == Topic::Case(Kind::Booked)).collect();
    assert_eq!(kinds.len(), 2, "the project hears of it, and the operators: {told:?}");
    // What the house declines stands in the case with its reason, and another order may follow.
    let declined = Answer::Declined { code: "credit_too_high".into(), message: "more than the 60".into() };
    world.doors.answers.lock().unwrap().push(Ok(declined.clone()));
    // Said twice by mistake it would be given twice.
    let twice = world.owner(id, Role::Handler, "hanna", order(61)).await.unwrap_err();
    assert!(matches!(twice, Trouble::Refused(Refused::Ordered { .. })), "{twice}");
    let hanna = Actor { id: "hanna".into(), role: Role::Handler };
    let ask =
        |token, amount| ToGive { token: TokenId([token; 16]), amount: Amount::from_ucr(amount), reason: "r".into() };
    world.desk.order(id, &hanna, ask(7, 61), Again::Meant).await.unwrap();
    assert_eq!(world.desk.refunds().await, 0);
    let case = world.desk.find(id).await.unwrap();
    assert_eq!(case.refunds()[1].answer, Some(declined.clone()));
    assert!(!case.refunds()[0].note.eq(&case.refunds()[1].note));
    // What was declined was no order; what waits is one, and another token is another.
    assert_eq!(case.ordered(TokenId([7; 16])), Amount::from_ucr(40));
    let case = world.desk.order(id, &hanna, ask(8, 5), Again::No).await.unwrap();
    assert_eq!((case.ordered(TokenId([8; 16])), case.ordered(TokenId([9; 16]))), (Amount::from_ucr(5), Amount::ZERO));
    let twice = world.desk.order(id, &hanna, ask(8, 5), Again::No).await.unwrap_err();
    assert!(twice.to_string().contains("--again"), "{twice}");
    world.doors.answers.lock().unwrap().push(Ok(declined));
    assert_eq!(world.desk.refunds().await, 0);
    world.desk.order(id, &hanna, ask(8, 4), Again::No).await.unwrap();
}

/// Whoever writes in the case at each moment at which the house's answer was to be written down, loses none of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_house_is_not_lost_to_others_who_write() {
    use comity_wire::{Amount, TokenId};

    let world = World::new(Settings::default()).await;
    let id = world.flag("sub-a", FilterAction::Suspend).await.unwrap();
    world.owner(id, Role::Handler, "hanna", Act::Clear { reason: "a quotation".into() }).await.unwrap();
    let hanna = Actor { id: "hanna".into(), role: Role::Handler };
    let ask = ToGive { token: TokenId([7; 16]), amount: Amount::from_ucr(40), reason: "withheld".into() };
    world.desk.order(id, &hanna, ask, Again::No).await.unwrap();
    // Between reading the case and writing the event a desk asks what time it is: there somebody else remarks something.
    let (other, handle) = (world.other(), tokio::runtime::Handle::current());
    let busy = Arc::new(AtomicBool::new(true));
    let clock: Clock = {
        let busy = busy.clone();
        Arc::new(move || {
            if busy.load(Ordering::SeqCst) {
                let (other, handle) = (other.clone(), handle.clone());
                let remark = Act::Remark { text: "and another thing".into(), salt: None };
                let said = async move { other.act_of_owner(id, Role::Handler, "petra".into(), remark).await };
                std::thread::spawn(move || handle.block_on(said)).join().unwrap().unwrap();
            }
            Timestamp(NOW)
        })
    };
    let (doors, settings) = (world.doors.clone(), world.settings.clone());
    let hurried = Desk::new(world.store.clone(), doors, settings, targets(), clock, Arc::new(|| [9; 16]));
    let answer = Answer::Booked { content: Digest::of(b"note"), booked_at: Timestamp(NOW + 5) };
    *world.doors.answers.lock().unwrap() = vec![Ok(answer.clone()); 2 * TRIES_MAX];
    assert_eq!(hurried.refunds().await, 1, "it was answered, and is not written down");
    assert_eq!(world.desk.find(id).await.unwrap().refunds()[0].answer, None);
    busy.store(false, Ordering::SeqCst);
    assert_eq!(hurried.refunds().await, 0);
    assert_eq!(world.desk.find(id).await.unwrap().refunds()[0].answer, Some(answer));
    assert!(world.store.case_effects(None, 9).await.unwrap().is_empty());
}

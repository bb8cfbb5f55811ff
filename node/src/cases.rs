//! Cases at this node: flags open them, the operator, the project and the clock go on with them, and what follows is done at the gateway.
//!
//! The desk and its rules are `comity_access::case`; here stand what flags put in, the seal of what was seen, and the doors. What was
//! seen is kept only where the tier's log class keeps texts, sealed for a key in `keys/`, and deleted when the model's retention is over.

pub mod pass;
pub mod publish;
pub mod refund;
mod seal;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use comity_access::case::desk::{Desk, Doors, Flag, Others, Trouble};
use comity_access::case::store::{Excerpt, Which};
use comity_access::case::{Act, Answer, CaseId, Notice, Order, Role, Seen};
use comity_access::store::{Store, take_cases};
use comity_gateway::store::stops::{Running, Stop, Target, Word};
use comity_gateway::{Credit, CreditError, Flagged, Flags, Gateway, Words};
use comity_wire::ModelId;
use comity_wire::object::FilterAction;
use comity_wire::time::DAY_S;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::settings::Settings;
use crate::shell;

use seal::Seal;

/// Flags that wait to be written down; what comes above that is counted, and still stands in the node's list.
const WAITING_MAX: usize = 1_024;
/// Where a process kept its cases before there was one store for all.
const FILE_BEFORE: &str = "cases.sqlite";

/// Makes the key that what is seen is sealed for, where there is none, so that a process made from this home has the same.
///
/// # Errors
/// [`Failure`] naming the file.
pub fn make_key(home: &Path) -> Result<[&'static str; 2], Failure> {
    Seal::of(home)?;
    Ok([seal::KEY_FILE, seal::LOCK_FILE])
}

/// Where the gateway puts flags in.
pub struct Inbox {
    opened: mpsc::Sender<Opening>,
    dropped: Arc<AtomicU64>,
}

/// A flag on its way to a case.
struct Opening {
    flagged: Flagged,
    /// What was seen, and for how long it is kept.
    text: Option<(String, u64)>,
}

/// The other end of it.
pub struct Queue {
    opened: mpsc::Receiver<Opening>,
    dropped: Arc<AtomicU64>,
}

/// Both ends.
pub fn inbox() -> (Inbox, Queue) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    (Inbox { opened: sender, dropped: Arc::clone(&dropped) }, Queue { opened: receiver, dropped })
}

/// What an operator's command asks of one case.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    pub act: Act,
    pub role: Role,
    pub author: String,
}

/// What an operator opens by their own word.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAsk {
    pub project: String,
    pub model: ModelId,
    pub category: String,
    pub reason: String,
    pub author: String,
}

/// A case as it is shown to the owner's side.
#[derive(Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub notice: Notice,
    pub events: Vec<serde_json::Value>,
    /// Of the prompt, where it is kept.
    pub seen_text: Option<String>,
    /// Why there is none, where one is kept.
    pub seen_sealed: Option<String>,
}

/// The desk of cases, with the seal of this home.
#[derive(Clone)]
pub struct Casework {
    pub desk: Desk,
    gateway: Gateway,
    seal: Arc<Seal>,
}

impl Casework {
    /// Opens the desk, and takes over what this home kept before there was one store for all processes.
    ///
    /// # Errors
    /// [`Failure`] naming what cannot be opened.
    pub async fn open(
        home: &Home,
        store: Arc<dyn Store>,
        settings: &Settings,
        gateway: Gateway,
    ) -> Result<Self, Failure> {
        let before = home.file(FILE_BEFORE);
        let taken =
            take_cases(&before, store.as_ref()).await.while_(format!("cannot take over {}", before.display()))?;
        if taken.cases > 0 {
            tracing::info!(cases = taken.cases, "the cases of this home are in the access store now");
        }
        for case in taken.left {
            tracing::error!(%case, file = FILE_BEFORE, "a case was not taken over: its log does not hold, or is another one than the store's");
        }
        let seal = Arc::new(Seal::of(&home.path)?);
        let (config, targets) = (settings.access.case.clone(), settings.notice.clone());
        let doors = Arc::new(AtGateway(gateway.clone()));
        let desk = Desk::new(store, doors, config, targets, Arc::new(shell::now), Arc::new(shell::random));
        // What was decided before a crash is done before anybody is let in, where that can be.
        if !desk.settle().await {
            tracing::error!("some decisions in cases are not done yet; the node starts, and goes on trying");
        }
        Ok(Self { desk, gateway, seal })
    }

    /// Writes down what flags open until `stop`; what came before the end, too.
    pub async fn take(self, mut queue: Queue, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                opening = queue.opened.recv() => match opening {
                    Some(opening) => self.taken(opening).await,
                    None => break,
                },
            }
            let dropped = queue.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(dropped, "flags came faster than cases are written; they stand in the list alone");
            }
        }
        while let Ok(opening) = queue.opened.try_recv() {
            self.taken(opening).await;
        }
    }

    async fn taken(&self, Opening { flagged, text }: Opening) {
        let seal = |id| match &text {
            None => Ok(None),
            Some((text, days)) => {
                let sealed = self.seal.close(id, text).map_err(|failure| failure.to_string())?;
                Ok(Some(Excerpt { sealed, until: flagged.at.plus(days * DAY_S) }))
            }
        };
        let done = match seen(&flagged) {
            Ok(seen) => {
                let flag = Flag { subject: flagged.project.clone(), seen, at: flagged.at };
                match self.desk.flagged(flag, &seal).await {
                    // Whoever floods the node with flags does not flood its log.
                    Err(trouble @ Trouble::TooMany { .. }) => {
                        tracing::debug!(%trouble, "a flag opens no case; it stands in the list of `comity node flags`");
                        return;
                    }
                    done => done.map_err(Failure::from),
                }
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = done {
            tracing::error!(%failure, "a flag has no case; it stands in the list of `comity node flags`");
        }
    }

    /// An operator's own word.
    ///
    /// # Errors
    /// [`Failure`] where it is refused.
    pub async fn word(&self, ask: OpenAsk) -> Result<Notice, Failure> {
        let OpenAsk { project, model, category, reason, author } = ask;
        let (rule, band, action) = ("operator".to_owned(), "high".to_owned(), FilterAction::Log);
        let seen = Seen { model, category, rule, band, count: 1, action };
        Ok(self.desk.word(project, seen, author, reason).await?.notice())
    }

    /// Does one thing in a case.
    ///
    /// # Errors
    /// [`Failure`] where the rules refuse it, or it is not written down.
    pub async fn act(&self, id: CaseId, ask: Ask) -> Result<Notice, Failure> {
        let Ask { act, role, author } = ask;
        if role == Role::Bot {
            return Err(Failure::new("the clock and the filter act by themselves"));
        }
        let done = self.desk.act_of_owner(id, role, author, act).await;
        Ok(done.map_err(|trouble| known(id, trouble))?.notice())
    }

    /// The newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list(&self, which: &Which) -> Result<Vec<Notice>, Failure> {
        let rows = self.desk.list(which, comity_access::case::store::PAGE_MAX).await?;
        let mut notices = Vec::with_capacity(rows.len());
        for row in rows {
            notices.push(self.desk.find(row.id).await?.notice());
        }
        Ok(notices)
    }

    /// # Errors
    /// [`Failure`] where there is none, or its log was changed.
    pub async fn show(&self, id: CaseId) -> Result<Shown, Failure> {
        let case = self.desk.find(id).await.map_err(|trouble| known(id, trouble))?;
        let events = case.events().iter().map(|event| serde_json::to_value(event.event())).collect::<Result<_, _>>()?;
        let excerpt = self.desk.excerpt(&case).await?;
        let (seen_text, seen_sealed) = match excerpt.map(|excerpt| self.seal.open(id, &excerpt.sealed)) {
            None => (None, None),
            Some(Ok(text)) => (Some(text), None),
            Some(Err(failure)) => (None, Some(failure.to_string())),
        };
        Ok(Shown { notice: case.notice(), events, seen_text, seen_sealed })
    }
}

impl Flags for Inbox {
    fn flag(&self, flagged: &Flagged, text: Option<Words<'_>>) {
        if !matches!(flagged.action, FilterAction::Hold | FilterAction::Block | FilterAction::Suspend) {
            return;
        }
        let text = text.map(|text| (text.said.to_owned(), u64::from(text.retention_days)));
        if self.opened.try_send(Opening { flagged: flagged.clone(), text }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The doors that cases open and close: those of every process of this node, by its shared store.
struct AtGateway(Gateway);

impl AtGateway {
    async fn stopped(&self, case: CaseId, subject: String, reason: String) -> Result<(), String> {
        let stop = Stop { target: Target::Project(subject), running: Running::Finishes, word: word(case, reason) };
        self.0.stop_put(stop).await.map(drop).map_err(|error| error.to_string())
    }
}

fn word(case: CaseId, reason: String) -> Word {
    Word { author: case.to_string(), reason, at: shell::now() }
}

impl Doors for AtGateway {
    fn stop(&self, case: CaseId, subject: String, reason: String) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.stopped(case, subject, reason))
    }

    fn lift(&self, case: CaseId, subject: String, others: Others) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if !others.suspend {
                self.0.resume(&subject, None).await.map_err(|error| error.to_string())?;
            }
            let target = Target::Project(subject.clone());
            let is_ours = |stop: &Stop| stop.target == target && stop.word.author == case.to_string();
            // By the store: another process may have stopped it less than a look ago.
            let stops = self.0.stops_now().await.map_err(|error| error.to_string())?;
            if stops.iter().any(is_ours) {
                let ended = word(case, "the case ended for the project".into());
                self.0.stop_end(&target, &ended).await.map_err(|error| error.to_string())?;
                // One stop stands for all cases that ask for it, under the first one's name.
                if let Some(other) = others.stop {
                    self.stopped(other, subject, format!("{other} was upheld")).await?;
                }
            }
            Ok(())
        })
    }

    fn refund(&self, order: Order) -> BoxFuture<'_, Result<Answer, String>> {
        Box::pin(async move {
            let Order { note, subject, token, amount, link, at } = order;
            match self.0.credit(&Credit { id: note, subject, token, amount, case: link, at }).await {
                Ok(reply) => Ok(Answer::Booked { content: reply.content, booked_at: reply.taken_at }),
                Err(CreditError::Declined { code, message }) => Ok(Answer::Declined { code, message }),
                Err(later) => Err(later.to_string()),
            }
        })
    }
}

fn seen(flagged: &Flagged) -> Result<Seen, Failure> {
    let band = serde_json::to_value(flagged.band)?.as_str().unwrap_or_default().to_owned();
    Ok(Seen {
        model: flagged.model.clone(),
        category: flagged.category.name().to_owned(),
        rule: flagged.rule.clone(),
        band,
        count: flagged.count,
        action: flagged.action,
    })
}

fn known(id: CaseId, trouble: Trouble) -> Failure {
    match trouble {
        Trouble::NotFound => {
            Failure::new(format!("this node has no {id}")).hint("comity cases list shows those it has")
        }
        trouble => trouble.into(),
    }
}

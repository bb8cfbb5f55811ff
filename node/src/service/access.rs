//! The owner's applications at its node: what was decided is signed and lets calls in, and the operator's commands reach the desk.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_access::http::{Asked, refused};
use comity_access::notice::{Dispatcher, Files, Standing};
use comity_access::{Act, ApplicationId, Decided, Desk, Form, FormOf, Person, Role, Trouble};
use comity_gateway::Gateway;
use comity_gateway::store::stops::Word;
use comity_http::Refusal;
use comity_wire::api::access as api;
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Grant, Revocation, RevocationList, RevokedKind};
use comity_wire::{Code, Digest, GrantId, ModelId, SecretKey, Timestamp, cose};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::command::node::who::PersonShown;
use crate::command::requests::{ActAsk, Attachment, GrantAsk, GrantShown, WithdrawAsk};
use crate::failure::{Failure, While as _};
use crate::home::{Card, Home};
use crate::settings::{Settings, secret_of};
use crate::shell;

/// The forms that the configuration names.
///
/// # Errors
/// [`Failure`] naming the file.
pub fn forms(home: &Home, config: &comity_access::Config) -> Result<Vec<FormOf>, Failure> {
    let read = |of: &comity_access::FormFile| {
        let path = home.path.join(&of.file);
        let text = std::fs::read_to_string(&path).while_(format!("cannot read {}", path.display()))?;
        let form = Form::read(&text).while_(format!("{} is no form", path.display()))?;
        Ok(FormOf { form, text, models: of.models.clone() })
    };
    config.form.iter().map(read).collect()
}

/// Signs what was decided.
pub struct Granting {
    pub gateway: Gateway,
    pub card: Card,
    pub writer: Arc<SecretKey>,
    /// The organisation's revocation list is to be made anew.
    pub withdrawn: Arc<Notify>,
}

impl Granting {
    /// # Errors
    /// [`Failure`] where it makes no grant, or cannot be kept.
    pub async fn sign(&self, grant: &Grant) -> Result<(), Failure> {
        let signed = cose::try_sign(grant, &self.writer)?.verify(&self.writer.public())?;
        Ok(self.gateway.grant_put(signed.bytes()).await?)
    }

    /// By an operator's word, without an application.
    ///
    /// # Errors
    /// [`Failure`] where it makes no grant, or cannot be kept.
    async fn give(&self, grant: &Grant, word: &Word) -> Result<(), Failure> {
        let signed = cose::try_sign(grant, &self.writer)?.verify(&self.writer.public())?;
        Ok(self.gateway.grant_give(signed.bytes(), word).await?)
    }

    /// # Errors
    /// [`Failure`] where it could not be kept: then it still counts.
    pub async fn take_back(&self, grant: GrantId) -> Result<(), Failure> {
        self.gateway.grant_withdraw(grant).await?;
        self.withdrawn.notify_one();
        Ok(())
    }
}

impl comity_access::Grants for Granting {
    fn put(&self, decided: Decided) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let Decided { id, subject, terms, plan, reason, at } = decided;
            if let Some(bytes) = plan {
                // Before the grant that names it: by then it can be looked up.
                self.gateway.plan_put(&bytes).await.map_err(|error| Failure::from(error).to_string())?;
            }
            let grant = || {
                Ok::<_, Failure>(Grant {
                    id,
                    org: self.card.organisation,
                    subject: Text::new(subject)?,
                    models: List::new(terms.models)?,
                    tier: terms.tier,
                    ops: List::default(),
                    not_before: at.minus(comity_wire::time::SKEW_S),
                    not_after: terms.not_after,
                    plan: terms.plan,
                    executions: terms.executions,
                    reason: Text::new(clipped(&reason))?,
                })
            };
            let grant = grant().map_err(|failure| failure.to_string())?;
            self.sign(&grant).await.map_err(|failure| failure.to_string())
        })
    }

    fn withdraw(&self, id: GrantId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move { self.take_back(id).await.map_err(|failure| failure.to_string()) })
    }
}

/// A grant has less room for a reason than a decision, and one line.
fn clipped(reason: &str) -> String {
    let plain: String = comity_cli::plain(reason).replace('\n', " ");
    let end = (0..=plain.len().min(400)).rev().find(|end| plain.is_char_boundary(*end));
    plain[..end.unwrap_or(0)].to_owned()
}

/// This organisation's own list: the grants that it took back, so that whoever else reads its feed hears of it. Its number is the time,
/// or one more than the list before.
///
/// # Errors
/// [`Failure`] where it cannot be signed.
pub fn standing(
    card: &Card,
    issuer: &SecretKey,
    withdrawn: Vec<(GrantId, Timestamp)>,
    before: u64,
    now: Timestamp,
) -> Result<Vec<u8>, Failure> {
    /// As many as a list has room for; the last ones, where there are more. At this node all of them count.
    const ENTRIES_MAX: usize = 4_096;
    let mut newest = withdrawn;
    newest.sort_unstable_by_key(|(_, at)| std::cmp::Reverse(*at));
    newest.truncate(ENTRIES_MAX);
    let entry = |(grant, at): (GrantId, Timestamp)| {
        Ok::<_, Failure>(Revocation { kind: RevokedKind::Grant, subject: Text::new(grant.to_string())?, at })
    };
    let mut entries = newest.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    entries.sort_unstable_by(|one, next| one.subject.as_str().cmp(next.subject.as_str()));
    let number = now.0.max(before.saturating_add(1));
    let list = RevocationList { org: card.organisation, number, issued_at: now, entries: List::new(entries)? };
    Ok(cose::try_sign(&list, issuer)?.bytes().to_vec())
}

/// What the operator's commands reach.
#[derive(Clone)]
pub struct Requests {
    pub desk: Desk,
    pub notices: Arc<Dispatcher>,
    pub granting: Arc<Granting>,
}

/// In whose name something is done.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct As {
    /// Left out where there is only one person.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

impl Requests {
    pub fn router(self) -> Router {
        Router::new()
            .route("/admin/requests", get(list))
            .route("/admin/requests/{id}", get(show))
            .route("/admin/requests/{id}/acts", post(act))
            .route("/admin/requests/{id}/attachments/{digest}", get(attachment))
            .route("/admin/persons", get(persons))
            .route("/admin/notices", get(notices))
            .route("/admin/grants", get(grants).post(grant))
            .route("/admin/grants/withdraw", post(withdraw))
            .with_state(self)
    }

    fn person(&self, named: Option<&str>) -> Result<&Person, Refusal> {
        match (named, self.desk.persons()) {
            (Some(id), _) => self.desk.person(id).map_err(|trouble| {
                let known: Vec<&str> = self.desk.persons().iter().map(|person| person.id.as_str()).collect();
                refused(&trouble).hint(format!("this node knows {}", known.join(", ")))
            }),
            (None, [only]) => Ok(only),
            (None, _) => {
                let known: Vec<&str> = self.desk.persons().iter().map(|person| person.id.as_str()).collect();
                Err(Refusal::new(Code::InvalidRequest, "say in whose name")
                    .hint(format!("--as with one of {}", known.join(", "))))
            }
        }
    }
}

async fn list(State(requests): State<Requests>, Query(asked): Query<Asked>) -> Result<Json<api::ListReply>, Refusal> {
    asked.page(&requests.desk, None).await.map(Json)
}

/// Whoever operates the node, who sees what each of its persons sees.
pub(super) fn operator(desk: &Desk) -> Person {
    Person {
        id: "operator".into(),
        roles: desk.persons().iter().flat_map(|person| person.roles.iter().copied()).collect(),
        organisation: None,
        key: None,
    }
}

/// A grant as the operator is shown it.
pub(super) fn shown(grant: &Grant, withdrawn: Option<Timestamp>) -> GrantShown {
    GrantShown {
        grant: grant.id,
        subject: grant.subject.as_str().to_owned(),
        models: grant.models.to_vec(),
        tier: grant.tier,
        not_before: grant.not_before,
        not_after: grant.not_after,
        withdrawn,
        plan: grant.plan,
        executions: grant.plan.map(|_| grant.executions()),
        reason: grant.reason.as_str().to_owned(),
    }
}

async fn show(
    State(requests): State<Requests>,
    Path(id): Path<ApplicationId>,
    Query(As { person }): Query<As>,
) -> Result<Json<api::Application>, Refusal> {
    let found = requests.desk.find(id).await.map_err(|trouble| refused(&trouble))?;
    // Nobody has to say who they are to look: whoever operates the node sees everything.
    let person = match person {
        Some(named) => requests.person(Some(&named))?.clone(),
        None => operator(&requests.desk),
    };
    Ok(Json(requests.desk.for_person(&person, &found)))
}

async fn act(
    State(requests): State<Requests>,
    Path(id): Path<ApplicationId>,
    Json(ActAsk { person, role, after, act }): Json<ActAsk>,
) -> Result<Json<api::Application>, Refusal> {
    let person = requests.person(person.as_deref())?;
    let bad = |what: String| Refusal::new(Code::InvalidRequest, what);
    let act: Act = serde_json::from_value(act).map_err(|error| bad(format!("the act is not one: {error}")))?;
    let role = role.map(|word| {
        Role::ALL.iter().copied().find(|role| role.as_str() == word).ok_or_else(|| bad(format!("{word} is no role")))
    });
    let done = requests.desk.act_of_owner(person, role.transpose()?, id, after, act).await;
    let done = done.map_err(|trouble| match trouble {
        Trouble::Refused(comity_access::Refused::TookPart { .. } | comity_access::Refused::Conflict { .. }) => {
            refused(&trouble).hint("name another person in node.toml, [[access.person]], and decide --as them")
        }
        trouble => refused(&trouble),
    })?;
    Ok(Json(requests.desk.for_person(person, &done)))
}

async fn attachment(
    State(requests): State<Requests>,
    Path((id, digest)): Path<(ApplicationId, String)>,
) -> Result<Json<Attachment>, Refusal> {
    let digest: Digest = digest.parse().map_err(|_| Refusal::new(Code::InvalidRequest, "that is no digest"))?;
    let bytes = requests.desk.attachment(id, digest).await.map_err(|trouble| refused(&trouble))?;
    Ok(Json(Attachment::of(&bytes)))
}

async fn persons(State(requests): State<Requests>) -> Json<Vec<PersonShown>> {
    let shown = |person: &Person| PersonShown {
        id: person.id.clone(),
        roles: person.roles.clone(),
        organisation: person.organisation.clone(),
        key: person.key,
    };
    Json(requests.desk.persons().iter().map(shown).collect())
}

async fn notices(State(requests): State<Requests>) -> Json<Vec<Standing>> {
    Json(requests.notices.standing())
}

/// Who says so and why, for the register.
fn said(author: Option<String>, reason: &str) -> Result<Word, Refusal> {
    let author = author.unwrap_or_else(|| "the operator".into());
    let word = Word { author, reason: reason.to_owned(), at: shell::now() };
    let fault = "who says so and why are one line each, of at most 256 and 1,000 bytes; both are kept";
    match word.fault() {
        None => Ok(word),
        Some(_) => Err(Refusal::new(Code::InvalidRequest, fault).hint("--by NAME --reason TEXT")),
    }
}

/// All that were ever given.
async fn grants(State(requests): State<Requests>) -> Json<Vec<GrantShown>> {
    let ever = requests.granting.gateway.grants_ever().into_iter();
    let shown = ever.map(|(grant, withdrawn)| shown(&grant, withdrawn));
    let mut shown: Vec<GrantShown> = shown.collect();
    shown.sort_by_key(|grant| (grant.not_before, grant.grant));
    Json(shown)
}

/// A grant without an application.
async fn grant(
    State(requests): State<Requests>,
    Json(ask): Json<GrantAsk>,
) -> Result<(StatusCode, Json<GrantShown>), Refusal> {
    let failed = |failure: Failure| Refusal::new(Code::InvalidRequest, failure.to_string());
    let GrantAsk { subject, mut models, tier, days, author, reason } = ask;
    models.sort_unstable();
    models.dedup();
    let now = shell::now();
    let word = said(author, &reason)?;
    let made = |models: Vec<ModelId>| {
        Ok::<_, Failure>(Grant {
            id: GrantId(shell::random()),
            org: requests.granting.card.organisation,
            subject: Text::new(subject)?,
            models: List::new(models)?,
            tier,
            ops: List::default(),
            not_before: now.minus(comity_wire::time::SKEW_S),
            not_after: now.plus(u64::from(days) * comity_wire::time::DAY_S),
            plan: None,
            executions: None,
            reason: Text::new(reason)?,
        })
    };
    let grant = made(models).map_err(failed)?;
    requests.granting.give(&grant, &word).await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(shown(&grant, None))))
}

async fn withdraw(
    State(requests): State<Requests>,
    Json(WithdrawAsk { grant, author, reason }): Json<WithdrawAsk>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let is_known = requests.granting.gateway.grants_ever().iter().any(|(known, _)| known.id == grant);
    if !is_known {
        return Err(Refusal::new(Code::NotFound, format!("this node has given no grant {grant}"))
            .hint("comity requests grants lists them"));
    }
    let application = requests.desk.application_of(grant).await.map_err(|trouble| refused(&trouble))?;
    if let Some(application) = application {
        let message = format!("grant {grant} came of application {application}, which would still say that it holds");
        return Err(Refusal::new(Code::ApplicationState, message)
            .hint(format!("comity requests revoke {application}: the researcher reads why, and may appeal"))
            .with("whose_move", "caller"));
    }
    let failed = |failure: Failure| Refusal::new(Code::StoreUnavailable, failure.to_string());
    // No application has a log that it could stand in.
    let word = said(author, &reason)?;
    let taken = requests.granting.gateway.grant_take_back(grant, &word).await;
    taken.map_err(|error| failed(error.into()))?;
    requests.granting.withdrawn.notify_one();
    tracing::warn!(%grant, author = word.author, reason, "a grant was taken back by the operator");
    Ok(Json(serde_json::json!({"withdrawn": grant, "reason": reason})))
}

/// How often it is tried to do what decisions have left, before the doors open without it.
const TRIES: u32 = 5;

/// Reads the configuration and opens the desk; what decisions have left to be done is done before anybody is let in.
///
/// # Errors
/// [`Failure`].
pub async fn open(
    home: &Home,
    settings: &Settings,
    store: Arc<dyn comity_access::store::Store>,
    granting: Arc<Granting>,
) -> Result<Desk, Failure> {
    let forms = forms(home, &settings.access)?;
    let desk = Desk::new(
        store,
        granting,
        settings.access.clone(),
        forms,
        settings.notice.clone(),
        Arc::new(shell::now),
        Arc::new(shell::random),
    );
    // A notice of revocation may have ended while nothing ran.
    if let Err(trouble) = desk.tick().await {
        tracing::error!(%trouble, "clocks that ran out meanwhile are looked at again once the node runs");
    }
    for _ in 0..TRIES {
        if desk.settle().await {
            return Ok(desk);
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    tracing::error!("some decisions are not done yet; the node starts, and goes on trying");
    Ok(desk)
}

/// Delivers notices until it is stopped.
pub struct Notices {
    dispatcher: Arc<Dispatcher>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Notices {
    /// # Errors
    /// [`Failure`] naming the target that nothing can be sent to.
    pub fn start(
        home: &Home,
        settings: &Settings,
        desk: &Desk,
        cases: &comity_access::case::desk::Desk,
    ) -> Result<Self, Failure> {
        let secret = |file: &std::path::Path| secret_of(home, file).map_err(|failure| failure.to_string());
        let public =
            |file: &std::path::Path| std::fs::read_to_string(home.path.join(file)).map_err(|error| error.to_string());
        let senders =
            settings.notice.open(Files { secret: &secret, public: &public }).while_("node.toml: [[notice]]")?;
        let dispatcher = Arc::new(Dispatcher::new(desk.outbox(), senders));
        let stop = CancellationToken::new();
        let (runs, said, cases, stopped) = (Arc::clone(&dispatcher), desk.clone(), cases.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let wake = async {
                loop {
                    tokio::select! {
                        () = said.has_said() => {}
                        () = cases.has_said() => {}
                    }
                    runs.wake();
                }
            };
            tokio::select! {
                () = runs.run(shell::now, stopped) => {}
                () = wake => {}
            }
        });
        Ok(Self { dispatcher, stop, task })
    }

    pub fn dispatcher(&self) -> Arc<Dispatcher> {
        Arc::clone(&self.dispatcher)
    }

    /// Begins nothing more; what does not end in time comes again after the next start.
    pub async fn close(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

//! An owner's node as a service: federation, upstreams, gateway, its feed, its admin socket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_gateway::store::stops::Word;
use comity_gateway::{Gateway, Parts};
use comity_http::Refusal;
use comity_token::Directory;
use comity_wire::{Code, Digest, SecretKey};
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

use crate::cases::publish::{Publisher, published};
use crate::cases::{Casework, inbox};
use crate::command::RunArguments;
use crate::command::node::flags;
use crate::command::policy::{self, AgreementShown, AgreementsAsk, InForce};
use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::keystore::KeyName;
use crate::program::Failpoint;
use crate::service::decisions::{self, Decisions};
use crate::service::exports::Exports;
use crate::service::measured;
use crate::service::offers::{Offered, Offers, Serving};
use crate::service::register::{Books, Configured};
use crate::service::{Doors, Member, access, cases, credits, doors, findings, follow, homes, house_client, stops};
use crate::settings::Settings;
use crate::shell;
use crate::transcripts::Writer;
use crate::watch::{Figures, Top, WatchArguments, Watched, Watching, open_metrics};

/// How often the node signs its own revocation list again; older than a day it would stop its own tokens.
const STANDING_EVERY: Duration = Duration::from_secs(6 * 3600);

/// The same, where it could not be published.
const STANDING_AGAIN: Duration = Duration::from_secs(5);
const NEWS_SETTLE: Duration = Duration::from_millis(200);
/// How often it is looked at what was taken back, told or not: where it took longer than that to reach this gateway's own memory.
const LOOK: Duration = Duration::from_secs(5);

/// A server that could not be judged is asked again after this long.
const MEASURE_AGAIN: Duration = Duration::from_secs(300);

/// # Errors
/// [`Failure`] naming what could not be opened.
pub async fn run(arguments: RunArguments, watch: WatchArguments, failpoint: &Failpoint) -> Result<(), Failure> {
    let watching = Watching::start(&watch)?;
    let home = Home::open(&arguments.home)?;
    let writer = Arc::new(home.keys.read(KeyName::Writer)?);
    let issuer = home.keys.read(KeyName::Issuer)?;
    let receipt_key = home.keys.read(KeyName::Receipt)?;
    let offers = Offers::read(&home)?;
    let mut serving = Serving::default();
    let served = serving.read(&home, &offers)?;
    let settings = Settings::read(&home)?;
    let filter = settings.filters.filter(&home)?;
    let moderation = settings.moderation.as_ref().map(|moderator| moderator.moderation(&home)).transpose()?;
    let publishes = settings.feed.publish;
    if !publishes && !settings.spend.is_shared(&home)? {
        return Err(Failure::new("this node's feed is written elsewhere, and its spend store is not shared")
            .hint("say [spend] store = \"postgres://…\" in node.toml, the same for every process of the node"));
    }
    let store = settings.spend.open(&home).await?;
    let spend = Arc::clone(&store);
    let rules = settings.filters.configured(&home)?;
    let joined = if publishes {
        Member::join(home, &arguments, failpoint).await
    } else {
        Member::follow(home, &arguments, failpoint).await
    };
    let member = Arc::new(joined?);
    // The node's own certificate and models have to be in its directory before its door opens.
    let now = shell::now();
    if publishes {
        for terms in offers.terms(&member.home)? {
            store.terms_put(terms.digest(), terms.to_bytes()?, now).await?;
        }
        let mut objects = offers.sign(&member.home, &writer, now)?;
        objects.push(access::standing(
            &member.home.card,
            &issuer,
            store.grants_withdrawn().await?,
            said(&member),
            now,
        )?);
        // Not announced yet: an announcement without doors would hide those that others know from before a restart.
        objects.push(member.certificate.clone());
        objects.extend(published(&member.home, &writer)?);
        member.put(objects).await?;
    } else {
        follow::known(&member, &served).await?;
    }
    let (flagged, queue) = inbox();
    let transcripts = Writer::start(&member.home, Arc::clone(&member.clock))?;
    let gateway = Gateway::new(
        settings.gateway.clone(),
        Parts {
            node: member.home.card.node,
            org: member.home.card.organisation,
            directory: Arc::clone(&member.directory),
            served,
            store,
            receipt_key: receipt_key.clone(),
            own_issuer: Some(issuer.clone()),
            feed_writer: writer.public(),
            house: Some(Arc::new(house_client::HouseClient::of(&member))),
            clock: Arc::clone(&member.clock),
            entropy: Arc::new(shell::random),
            failpoint: Arc::clone(failpoint),
            watch: watching.clone(),
            transcripts: transcripts.clone().map(|writer| writer as Arc<dyn comity_gateway::Transcripts>),
            filter,
            flags: Some(Arc::new(flagged)),
            moderation,
        },
    )
    .await
    .while_("cannot start the gateway")?;
    watching.of(gateway.clone());
    let access_store = settings.spend.applications(&member.home).await?;
    let casework = Casework::open(&member.home, Arc::clone(&access_store), &settings, gateway.clone()).await?;
    let cases_stop = CancellationToken::new();
    let cases = tokio::spawn(casework.clone().take(queue, cases_stop.clone()));
    let withdrawn = Arc::new(Notify::new());
    let granting = Arc::new(access::Granting {
        gateway: gateway.clone(),
        card: member.home.card.clone(),
        writer: Arc::clone(&writer),
        withdrawn: Arc::clone(&withdrawn),
    });
    let exports_key = receipt_key.clone();
    let decisions = Decisions::new(decisions::Parts {
        store: Arc::clone(&access_store),
        house: house_client::HouseClient::of(&member),
        directory: Arc::clone(&member.directory),
        node: member.home.card.node,
        receipt_key,
        books: Books::new(Arc::clone(&access_store), spend, &member.home.path),
        configured: configured(gateway.clone(), Arc::clone(&member.directory), rules),
        clock: Arc::clone(&member.clock),
    });
    let desk = access::open(&member.home, &settings, access_store, Arc::clone(&granting)).await?;
    let notices = access::Notices::start(&member.home, &settings, &desk, &casework.desk)?;
    watching.of_access(Watched { desk: desk.clone(), dispatcher: notices.dispatcher(), decisions: decisions.clone() });
    let place = comity_access::http::Place {
        org: member.home.card.organisation,
        node: member.home.card.node,
        directory: Arc::clone(&member.directory),
        clock: Arc::clone(&member.clock),
    };
    let router = gateway.router().merge(member.network.routes(Arc::clone(&member.clock)));
    let router = router.merge(comity_access::case::http::router(casework.desk.clone(), place.clone()));
    let router = router.merge(comity_access::http::router(desk.clone(), place));
    let serving = Arc::new(tokio::sync::Mutex::new(serving));
    let publisher =
        Publisher { casework: casework.clone(), member: Arc::clone(&member), writer: Arc::clone(&writer), publishes };
    let admin = Admin {
        gateway: gateway.clone(),
        member: Arc::clone(&member),
        writer,
        serving,
        watching: Arc::clone(&watching),
        publishes,
        cases: publisher.clone(),
    };
    let shown = Arc::clone(&watching);
    let metrics = get(move || std::future::ready(open_metrics(shown.text())));
    let figures = Figures::open(watch.metrics, Router::new().route("/metrics", metrics)).await?;
    let exports = Exports {
        gateway: gateway.clone(),
        desk: desk.clone(),
        casework: casework.clone(),
        node: member.home.card.node,
        receipt_key: exports_key,
        certificate: member.certificate.as_slice().into(),
    };
    let operator = admin.router().merge(decisions.clone().router()).merge(exports.router());
    let operator =
        operator.merge(access::Requests { desk: desk.clone(), notices: notices.dispatcher(), granting }.router());
    let drain = Duration::from_secs(settings.gateway.drain_s);
    let doors = Doors::open(&member, &arguments, router, Some(operator), doors::limits(drain)).await?;
    if publishes {
        member.network.announce(doors.announced(&member.network)).await.while_("cannot announce this node")?;
    }

    let renew = async {
        if !publishes {
            return std::future::pending().await;
        }
        let mut news = gateway.news();
        let mut listed = Vec::new();
        let mut renew_at = tokio::time::Instant::now();
        loop {
            // Made anew when a grant is taken back, here or by another process of this node, and in time before it is stale.
            let taken_back = gateway.grants_withdrawn();
            if taken_back != listed || tokio::time::Instant::now() >= renew_at {
                let list =
                    access::standing(&member.home.card, &issuer, taken_back.clone(), said(&member), shell::now());
                let renewed = match list {
                    Ok(list) => member.put(vec![list]).await,
                    Err(failure) => Err(failure),
                };
                match renewed {
                    Ok(()) => (listed, renew_at) = (taken_back, tokio::time::Instant::now() + STANDING_EVERY),
                    Err(failure) => {
                        tracing::error!(%failure, "this node's revocation list was not renewed; it is tried again");
                        tokio::time::sleep(STANDING_AGAIN).await;
                        continue;
                    }
                }
            }
            let told = async {
                match &mut news {
                    Some(news) => news.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(renew_at.min(tokio::time::Instant::now() + LOOK)) => {}
                () = withdrawn.notified() => {}
                // What was told reaches this gateway's own memory a moment later.
                true = told => tokio::time::sleep(NEWS_SETTLE).await,
                else => {}
            }
        }
    };
    let probes = {
        let admin = admin.clone();
        async move { admin.measure_all().await }
    };
    let statistics = async {
        match publishes && settings.access.case.publish {
            true => publisher.run().await,
            false => std::future::pending().await,
        }
    };
    let claims = gateway.claims();
    let follow = async {
        match gateway.news().filter(|_| !publishes) {
            Some(news) => admin.follow(news).await,
            None => std::future::pending().await,
        }
    };
    let found = async {
        match publishes {
            true => findings::watch(house_client::HouseClient::of(&member), member.home.card.node).await,
            false => std::future::pending().await,
        }
    };
    let homes = homes::tell(gateway.clone(), member.home.path.clone());
    let why = tokio::select! {
        never = renew => never,
        never = probes => match never {},
        never = follow => match never {},
        never = desk.run() => match never {},
        never = casework.desk.run() => match never {},
        never = statistics => match never {},
        never = decisions.clone().run() => match never {},
        never = found => match never {},
        never = homes => match never {},
        () = claims => Ok(()),
        result = doors.told_to_stop(&member) => result,
    };
    doors.close_within(drain, || gateway.end_running()).await;
    gateway.stop();
    gateway.drained().await;
    // After the last call: what it was flagged for is written down.
    cases_stop.cancel();
    let _ = cases.await;
    // What was done by hand a moment ago would look late after a long night.
    decisions.enter().await;
    gateway.leave().await;
    notices.close().await;
    figures.close().await;
    let close = move || {
        watching.close();
        if let Some(transcripts) = transcripts {
            transcripts.close();
        }
    };
    let _ = tokio::task::spawn_blocking(close).await;
    drop((admin, publisher));
    if let Some(member) = Arc::into_inner(member) {
        member.network.shutdown().await;
    }
    why
}

/// The number of this organisation's revocation list that is known here.
fn said(member: &Member) -> u64 {
    member.directory.standing(member.home.card.organisation).map_or(0, |list| list.number)
}

/// What the node goes by: the policies that it has published, and the rules of its filter.
fn configured(
    gateway: Gateway,
    directory: Arc<dyn Directory>,
    rules: Configured,
) -> Arc<dyn Fn() -> Vec<Configured> + Send + Sync> {
    Arc::new(move || {
        let models = gateway.models().into_iter().map(|now| now.model);
        let policies = models.filter_map(|model| {
            let digest = directory.policy(&model)?.id();
            Some(Configured { what: format!("policy of {model}"), digest, said: "as models/ says".into() })
        });
        policies.chain([rules.clone()]).collect()
    })
}

/// What the operator's commands reach.
#[derive(Clone)]
struct Admin {
    gateway: Gateway,
    member: Arc<Member>,
    writer: Arc<SecretKey>,
    /// One publication at a time.
    serving: Arc<tokio::sync::Mutex<Serving>>,
    watching: Arc<Watching>,
    publishes: bool,
    cases: Publisher,
}

impl Admin {
    fn router(&self) -> Router {
        Router::new()
            .route("/admin/policies", get(policies))
            .route("/admin/agreements", get(agreements))
            .route("/admin/publish", post(publish))
            .route("/admin/top", get(top))
            .route("/admin/flags", get(flags))
            .route("/admin/resume", post(resume))
            .route("/admin/metrics", get(metrics))
            .with_state(self.clone())
            .merge(stops::router(self.gateway.clone()))
            .merge(credits::router(self.gateway.clone()))
            .merge(cases::router(self.cases.clone()))
    }

    /// Finds out what each server can do, and publishes what is news; then, what could not be judged, again.
    async fn measure_all(self) -> std::convert::Infallible {
        let mut waiting: Option<Vec<String>> = None;
        loop {
            let offers = Offers::read(&self.member.home).map(|offers| offers.list).unwrap_or_default();
            let mut failed = Vec::new();
            for Offered { offer, .. } in offers {
                let name = offer.model.name.clone();
                let is_asked = offer.serve.probe && offer.serve.engine().is_none();
                if !is_asked || waiting.as_ref().is_some_and(|waiting| !waiting.contains(&name)) {
                    continue;
                }
                let outcome = match measured::measure(&self.member.home, &offer).await {
                    Ok((true, _)) if self.publishes => self.publish().await.map(drop),
                    Ok((true, _)) => self.read_again().await,
                    Ok((false, _)) => Ok(()),
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = outcome {
                    tracing::warn!(%failure, model = %name, "what the server can do is not known");
                    failed.push(name);
                }
            }
            waiting = Some(failed);
            tokio::time::sleep(MEASURE_AGAIN).await;
        }
    }

    /// Another process of this node has published: what stands in the folder now is served.
    async fn read_again(&self) -> Result<(), Failure> {
        let mut serving = self.serving.lock().await;
        let offers = Offers::read(&self.member.home)?;
        let served = serving.read(&self.member.home, &offers)?;
        follow::known(&self.member, &served).await?;
        self.gateway.serve(served);
        Ok(())
    }

    /// Reads again whenever another process says that something is new.
    async fn follow(&self, mut news: Receiver<u64>) -> std::convert::Infallible {
        news.mark_unchanged();
        while news.changed().await.is_ok() {
            if let Err(failure) = self.read_again().await {
                tracing::error!(%failure, "the models folder was not read again; what was served is served");
            }
        }
        std::future::pending().await
    }

    async fn publish(&self) -> Result<serde_json::Value, Failure> {
        if !self.publishes {
            return Err(Failure::new("this process does not write the organisation's feed")
                .hint("publish with the home of the process that does; the others follow it"));
        }
        let mut serving = self.serving.lock().await;
        let offers = Offers::read(&self.member.home)?;
        // Everything that can fail comes before anything is said.
        let served = serving.read(&self.member.home, &offers)?;
        for terms in offers.terms(&self.member.home)? {
            self.gateway.terms_put(&terms.to_bytes()?).await?;
        }
        let objects = offers.sign(&self.member.home, &self.writer, shell::now())?;
        self.member.put(objects).await?;
        self.gateway.serve(served);
        self.gateway.tell().await?;
        let models: Vec<_> = offers.list.iter().map(|offered| offered.offer.model.name.as_str()).collect();
        Ok(json!({"published": models}))
    }
}

/// What is published of each model that is served, and whom it is granted to.
async fn policies(State(admin): State<Admin>) -> Json<InForce> {
    let models = admin.gateway.models().into_iter();
    let policies = models.filter_map(|now| admin.member.directory.policy(&now.model));
    let manifests = admin.gateway.models().into_iter();
    let manifests = manifests.filter_map(|now| admin.member.directory.manifest(&now.model));
    Json(policy::in_force(
        policies.map(|policy| policy.bytes().to_vec()),
        manifests.map(|manifest| manifest.bytes().to_vec()),
        admin.gateway.grants(),
        admin.gateway.plans(),
    ))
}

/// Of one project with what proves each, of all without.
async fn agreements(
    State(admin): State<Admin>,
    Query(AgreementsAsk { project }): Query<AgreementsAsk>,
) -> Result<Json<Vec<AgreementShown>>, Refusal> {
    let failed = |error| Refusal::new(Code::StoreUnavailable, format!("the store does not answer: {error}"));
    let title = |terms: &Digest| admin.gateway.terms(terms).map(|terms| terms.title.as_str().to_owned());
    let shown = match project {
        Some(project) => {
            let of = admin.gateway.agreements_of(&project).await.map_err(failed)?.into_iter();
            of.map(|agreed| AgreementShown::of(agreed, title)).collect()
        }
        None => {
            let all = admin.gateway.agreements().await.map_err(failed)?.into_iter();
            all.map(|(project, terms, at)| AgreementShown { title: title(&terms), project, terms, at, proof: None })
                .collect()
        }
    };
    Ok(Json(shown))
}

async fn publish(State(admin): State<Admin>) -> Response {
    answer(admin.publish().await)
}

async fn top(State(admin): State<Admin>) -> Json<Top> {
    Json(admin.watching.top())
}

async fn flags(State(admin): State<Admin>) -> Json<flags::View> {
    let suspended = admin.gateway.suspended().into_iter().map(stops::suspended);
    let advised = admin.gateway.advised().into_iter().map(|(project, advice)| flags::Advised { project, advice });
    Json(flags::View { flags: admin.gateway.flags(), suspended: suspended.collect(), advised: advised.collect() })
}

async fn resume(State(admin): State<Admin>, Json(ask): Json<flags::Resume>) -> Response {
    let flags::Resume { project, author, reason } = ask;
    let word = Word { author, reason, at: shell::now() };
    if let Some(fault) = word.fault() {
        return answer(Err(Failure::new(fault)));
    }
    let resumed = admin.gateway.resume(&project, Some(&word)).await;
    answer(resumed.map(|was_suspended| json!({"was_suspended": was_suspended})).map_err(Failure::from))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    open_metrics(admin.watching.text())
}

/// The operator may read the whole chain of causes.
pub(super) fn answer(result: Result<serde_json::Value, Failure>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(failure) => Refusal::new(Code::InvalidRequest, failure.to_string()).into_response(),
    }
}

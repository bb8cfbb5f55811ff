//! What the operator stops and resumes: at the running process of this home, or in the node's store where none runs here.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use comity_gateway::Gateway;
use comity_gateway::store::stops::{NAME_BYTES_MAX, Running, Said, Stop, Target, Word};
use comity_gateway::store::{Store, Suspension};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command::node::flags::Suspended;
use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::offer::Offer;
use crate::service::{admin, register};
use crate::settings::Settings;
use crate::shell;

const PATH: &str = "/admin/stops";
/// Lines of the log that are shown.
const LOG_MAX: u32 = 100;
/// Targets of one command.
const TARGETS_MAX: usize = 64;

/// What `POST /admin/stops` takes: `running` says whether it is a stop, and of which kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    pub targets: Vec<Target>,
    pub author: String,
    pub reason: String,
    /// `None`: they are resumed.
    pub running: Option<Running>,
}

/// What became of one target.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    pub target: Target,
    /// As it stands after a stop, or stood before it was resumed; `None`: it was not stopped.
    pub stop: Option<Stop>,
    /// Resumed: the filter had suspended the project too.
    pub was_suspended: bool,
}

/// What `GET /admin/stops` answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct View {
    pub stops: Vec<Stop>,
    pub suspended: Vec<Suspended>,
    /// The newest first.
    pub log: Vec<Said>,
    /// Whether a process of this home runs.
    #[serde(default)]
    pub running: bool,
}

/// Stops or resumes.
///
/// # Errors
/// [`Failure`] where something in it makes no sense, or it cannot be written down.
pub async fn ask(home: &Home, ask: &Ask) -> Result<Vec<Done>, Failure> {
    // Before anything is said to anybody: a typing error must not look like a stop.
    fault(ask)?;
    if let Some(done) = admin::post_if_running(&home.path, PATH, ask).await? {
        return Ok(done);
    }
    let offered = offered(home)?;
    is_served(ask, |model| offered.iter().any(|offered| offered == model), &offered)?;
    let store = opened(home).await?;
    let done = in_store(&*store, ask).await;
    // It is done whatever becomes of its copy: the next start enters it.
    if let Err(failure) = register::enter_alone(home, Arc::clone(&store)).await {
        comity_cli::note(&format!("it is not in the register yet, and the next start enters it: {failure}"));
    }
    left(&*store).await;
    done
}

/// What is stopped, as the running process or the store knows it.
///
/// # Errors
/// [`Failure`] where neither can be read.
pub async fn view(home: &Home) -> Result<View, Failure> {
    if let Some(view) = admin::get_if_running::<View>(&home.path, PATH).await? {
        return Ok(View { running: true, ..view });
    }
    let settings = Settings::read(home)?;
    if !settings.spend.is_shared(home)? && !home.file("spend.sqlite").exists() {
        return Ok(View { stops: Vec::new(), suspended: Vec::new(), log: Vec::new(), running: false });
    }
    let store = opened(home).await?;
    let read = async {
        let suspended = store.suspensions().await?.into_iter().map(suspended).collect();
        Ok::<_, Failure>(View {
            stops: store.stops().await?,
            suspended,
            log: store.stop_log(LOG_MAX).await?,
            running: false,
        })
    };
    let view = read.await;
    left(&*store).await;
    view
}

/// The routes of the admin socket.
pub fn router(gateway: Gateway) -> Router {
    Router::new().route(PATH, get(show).post(change)).with_state(gateway)
}

async fn show(State(gateway): State<Gateway>) -> Response {
    let log = gateway.stop_log(LOG_MAX).await;
    let view = log.map(|log| {
        let suspended: Vec<Suspended> = gateway.suspended().into_iter().map(suspended).collect();
        json!({"stops": gateway.stops(), "suspended": suspended, "log": log})
    });
    super::owner::answer(view.map_err(Failure::from))
}

async fn change(State(gateway): State<Gateway>, Json(ask): Json<Ask>) -> Response {
    super::owner::answer(at_gateway(&gateway, &ask).await)
}

async fn at_gateway(gateway: &Gateway, ask: &Ask) -> Result<Value, Failure> {
    fault(ask)?;
    let models = gateway.models();
    let served: Vec<_> = models.into_iter().map(|now| now.model).collect();
    is_served(ask, |model| served.iter().any(|served| served == model), &served)?;
    let word = word(ask);
    let mut done = Vec::new();
    for target in &ask.targets {
        let Word { author, reason, .. } = &word;
        let one = match ask.running {
            Some(running) => {
                let stop = Stop { target: target.clone(), running, word: word.clone() };
                let stop = gateway.stop_put(stop).await.while_(format!(
                    "{target} is stopped at this process until it ends, and that is not written down"
                ))?;
                tracing::warn!(%target, %author, %reason, ?running, "stopped by the operator");
                Done { target: target.clone(), stop: Some(stop), was_suspended: false }
            }
            None => {
                let stop = gateway.stop_end(target, &word).await.while_(format!("{target} stays stopped"))?;
                let was_suspended = match target {
                    Target::Project(project) => gateway.resume(project, Some(&word)).await?,
                    _ => false,
                };
                tracing::warn!(%target, %author, %reason, was_stopped = stop.is_some(), was_suspended, "resumed by the operator");
                Done { target: target.clone(), stop, was_suspended }
            }
        };
        done.push(one);
    }
    Ok(serde_json::to_value(done)?)
}

async fn in_store(store: &dyn Store, ask: &Ask) -> Result<Vec<Done>, Failure> {
    let word = word(ask);
    let mut done = Vec::new();
    for target in &ask.targets {
        let (stop, was_suspended) = match ask.running {
            Some(running) => {
                let stop = Stop { target: target.clone(), running, word: word.clone() };
                (Some(store.stop_put(&stop).await.while_(format!("{target} is not stopped"))?), false)
            }
            None => {
                let stop = store.stop_end(target, &word).await.while_(format!("{target} stays stopped"))?;
                let was_suspended = match target {
                    Target::Project(project) => store.suspension_end(project, Some(&word)).await?,
                    _ => false,
                };
                (stop, was_suspended)
            }
        };
        done.push(Done { target: target.clone(), stop, was_suspended });
    }
    Ok(done)
}

fn word(ask: &Ask) -> Word {
    Word { author: ask.author.clone(), reason: ask.reason.clone(), at: shell::now() }
}

fn fault(ask: &Ask) -> Result<(), Failure> {
    if ask.targets.is_empty() || ask.targets.len() > TARGETS_MAX {
        return Err(Failure::new(format!("one command names 1 to {TARGETS_MAX} models, projects or the node"))
            .hint("--model lab/tiny, --project sub-…, or --all for the whole node"));
    }
    let is_bad = |project: &String| {
        project.trim().is_empty() || project.len() > NAME_BYTES_MAX || project.contains(char::is_control)
    };
    if ask.targets.iter().any(|target| matches!(target, Target::Project(project) if is_bad(project))) {
        return Err(Failure::new("a project is named by its pseudonym here, sub-…")
            .hint("`comity node flags` and `comity node top` show pseudonyms"));
    }
    match word(ask).fault() {
        Some(fault) => Err(Failure::new(fault)),
        None => Ok(()),
    }
}

/// A model that nobody serves is a typing error, and would stop nothing. What is resumed may be gone.
fn is_served(
    ask: &Ask,
    is_served: impl Fn(&comity_wire::ModelId) -> bool,
    served: &[comity_wire::ModelId],
) -> Result<(), Failure> {
    let wrong = ask.targets.iter().find_map(|target| match target {
        Target::Model(model) if ask.running.is_some() && !is_served(model) => Some(model),
        _ => None,
    });
    let Some(model) = wrong else { return Ok(()) };
    let served: Vec<_> = served.iter().map(ToString::to_string).collect();
    Err(Failure::new(format!("nothing was stopped: this node does not serve {model}; it serves {}", served.join(", ")))
        .hint("`--all` stops whatever it serves"))
}

fn offered(home: &Home) -> Result<Vec<comity_wire::ModelId>, Failure> {
    let folder = home.file("models");
    let entries = std::fs::read_dir(&folder).while_(format!("cannot read {}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.map(|path| Offer::read(&path)?.model_id(&home.card)).collect()
}

async fn opened(home: &Home) -> Result<Arc<dyn Store>, Failure> {
    Settings::read(home)?.spend.open(home).await
}

async fn left(store: &dyn Store) {
    if let Some(rounds) = store.rounds()
        && let Err(error) = rounds.leave().await
    {
        tracing::debug!(%error, "the store was not told that this command ends; its lease does");
    }
}

pub(crate) fn suspended(one: Suspension) -> Suspended {
    Suspended {
        project: one.subject,
        category: one.category.name().to_owned(),
        rule: one.rule,
        since: one.at.seconds(),
    }
}

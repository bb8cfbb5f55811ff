//! `comity access`: an application to a model's owner, from the first question to an appeal; and what was held against a project.

mod cases;
mod kept;
mod proof;
mod show;
mod terms;

use std::collections::BTreeMap;
use std::path::PathBuf;

use comity_sdk::client::decisions::Log;
use comity_sdk::{Client, Error};
use comity_wire::api::access::{Application, Applying, OpenRequest, Shown};
use comity_wire::{Code, Digest, ModelId};

use crate::printer::{Failure, note, say};
use crate::session::{self, Session};

use kept::Kept;

/// The answers to a form.
#[derive(Debug, clap::Args)]
pub struct Answers {
    /// TOML with a line `FIELD = "…"` for each answer; `comity access form MODEL` lists the fields
    #[arg(long)]
    answers: Option<PathBuf>,
    /// One answer, FIELD=TEXT; may be given more than once, and counts before the file
    #[arg(long = "set", value_name = "FIELD=TEXT", value_parser = pair)]
    set: Vec<(String, String)>,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// app-…, as `comity access status` says it; left out where there is one only
    application: Option<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum Access {
    /// What the owner of a model asks of whoever applies, and how long it takes
    Form {
        model: ModelId,
        /// The form's TOML as the owner wrote it
        #[arg(long)]
        toml: bool,
    },
    /// Apply: fill in the form and hand it in
    Apply {
        /// Models of one owner
        #[arg(required = true)]
        models: Vec<ModelId>,
        #[command(flatten)]
        answers: Answers,
        /// Who stands behind it. Both are sealed: the owner sees them when you say `comity access reveal`, and can then check that you
        /// named them now
        #[arg(long)]
        organisation: String,
        #[arg(long)]
        person: String,
        /// An experiment plan (TOML) that the owner is asked to approve: docs/operating/plans.md
        #[arg(long)]
        plan: Option<PathBuf>,
        /// Keep it as a draft; `comity access submit` hands it in
        #[arg(long)]
        draft: bool,
        #[arg(long)]
        json: bool,
    },
    /// Where your applications stand, whose move it is, and until when
    Status(Which),
    /// Change the answers of a draft
    Save {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        answers: Answers,
    },
    /// Attach a file, before it is handed in or when more is asked for
    Attach {
        #[command(flatten)]
        which: Which,
        #[arg(long)]
        file: PathBuf,
    },
    /// Hand a draft in
    Submit(Which),
    /// Answer what the owner asked
    Answer {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        answers: Answers,
        /// What you say to the question
        #[arg(long)]
        text: String,
    },
    /// Show the owner which organisation, or who, stands behind it
    Reveal {
        #[command(flatten)]
        which: Which,
        #[arg(long, value_parser = ["organisation", "person"])]
        what: String,
    },
    /// Say something beside it
    Remark {
        #[command(flatten)]
        which: Which,
        #[arg(long)]
        text: String,
    },
    /// Take it back; what was granted ends
    Withdraw {
        #[command(flatten)]
        which: Which,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Ask somebody else at the owner to look at a refusal or a revocation again
    Appeal {
        #[command(flatten)]
        which: Which,
        #[arg(long)]
        reason: String,
    },
    /// Prove that what was decided cannot be decided anew unseen: it is under a head of the owner, which is in the house's log
    Proof {
        /// app-…; left out where there is one only
        application: Option<String>,
        /// An act of an owner's register, as `comity node decisions act` wrote it; - for standard input
        #[arg(long, value_name = "FILE", conflicts_with = "application")]
        act: Option<PathBuf>,
        #[command(flatten)]
        by: proof::By,
    },
    /// Begin another one with the models and answers of one that is over
    Again(Which),
    /// The terms of use that a model's owner asks your project to agree to
    #[command(subcommand)]
    Terms(terms::Terms),
    /// What was held against your project at a model's owner: look, answer, appeal
    #[command(subcommand)]
    Cases(cases::Cases),
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (field, answer) = text.split_once('=').ok_or("FIELD=TEXT")?;
    Ok((field.to_owned(), answer.to_owned()))
}

impl Answers {
    fn read(self) -> Result<BTreeMap<String, String>, Failure> {
        let mut answers = match self.answers {
            None => BTreeMap::new(),
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    Failure::new(format!("cannot read {}: {error}", path.display()), "write it first")
                })?;
                toml::from_str(&text).map_err(|error| {
                    let hint = "each line is FIELD = \"…\"; a checkbox is \"yes\"";
                    Failure::new(format!("{} holds no answers: {}", path.display(), error.message()), hint)
                })?
            }
        };
        answers.extend(self.set);
        Ok(answers)
    }
}

impl Access {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        match self {
            Self::Form { model, toml } => {
                let form = client.access_form(&model).await?;
                say(&if toml { form.text } else { show::form(&form) });
                Ok(())
            }
            Self::Apply { models, answers, organisation, person, plan, draft, json } => {
                // Before anything is said: a plan with a fault is mended first.
                let plan = plan.as_deref().map(super::plan::open).transpose()?;
                let mut models = models;
                models.sort_unstable();
                models.dedup();
                let ask = OpenRequest {
                    id: client.application_id(),
                    models: models.clone(),
                    answers: answers.read()?,
                    copy_of: None,
                };
                let identity = client.identity(organisation, person);
                let kept = Kept { id: ask.id.clone(), model: models[0].clone(), identity, head: Digest::ZERO };
                // The salts are on the disk before anything is said: without them it could never be opened.
                kept.write(&session.home)?;
                let opened = client.application_open(&kept.model, &ask).await;
                let opened = opened.inspect_err(|error| kept.forget_if(error, &session.home)).map_err(refused)?;
                let opened = match plan {
                    Some(plan) => attach_plan(&client, &kept, opened, &plan).await?,
                    None => opened,
                };
                if draft {
                    return kept.seen(session, &opened, json);
                }
                let submit = Applying::Submit { sealed: kept.identity.sealed() };
                match client.application_act(&kept.model, &kept.id, opened.head, &submit).await {
                    Ok(handed_in) => kept.seen(session, &handed_in, json),
                    Err(error) => {
                        kept.seen(session, &opened, json)?;
                        note("it is kept as a draft: mend it with `comity access save`, then `comity access submit`");
                        Err(refused(error))
                    }
                }
            }
            Self::Status(which) => status(session, &client, which).await,
            Self::Save { which, answers } => {
                let answers = answers.read()?;
                act(session, &client, which, |_, seen| {
                    let mut all = seen.answers.clone();
                    all.extend(answers);
                    Ok(Applying::SaveDraft { answers: all })
                })
                .await
            }
            Self::Attach { which, file } => attach(session, &client, which, file).await,
            Self::Submit(which) => {
                act(session, &client, which, |kept, _| Ok(Applying::Submit { sealed: kept.identity.sealed() })).await
            }
            Self::Answer { which, answers, text } => {
                let answers = answers.read()?;
                act(session, &client, which, |_, seen| {
                    let mut all = seen.answers.clone();
                    all.extend(answers);
                    Ok(Applying::Answer { answers: all, text })
                })
                .await
            }
            Self::Reveal { which, what } => {
                let what = if what == "person" { Shown::Person } else { Shown::Organisation };
                act(session, &client, which, |kept, _| {
                    let (value, salt) = kept.identity.opened(what);
                    Ok(Applying::Reveal { what, value: value.to_owned(), salt })
                })
                .await
            }
            Self::Remark { which, text } => {
                act(session, &client, which, |_, _| Ok(Applying::Remark { text, public: true })).await
            }
            Self::Withdraw { which, reason } => {
                act(session, &client, which, |_, _| Ok(Applying::Withdraw { reason })).await
            }
            Self::Appeal { which, reason } => {
                act(session, &client, which, |_, _| Ok(Applying::Appeal { reason })).await
            }
            Self::Proof { act: Some(file), by, .. } => proof::prove_act(&client, &file, &by).await,
            Self::Proof { application, by, .. } => {
                let kept = Kept::find(&session.home, application.as_deref())?;
                let seen = client.application(&kept.model, &kept.id).await?;
                kept.check(&seen)?;
                let events: Vec<_> = seen
                    .events
                    .iter()
                    .map(|event| proof::Event { n: event.n, link: event.link, at: event.at })
                    .collect();
                proof::prove(&client, &kept.model, (Log::Application, &kept.id), &events, &by).await
            }
            Self::Terms(terms) => terms.run(session, &client).await,
            Self::Cases(cases) => cases.run(session, &client).await,
            Self::Again(which) => {
                let before = Kept::find(&session.home, which.application.as_deref())?;
                let identity = client.identity(before.identity.organisation.clone(), before.identity.person.clone());
                let kept =
                    Kept { id: client.application_id(), model: before.model.clone(), identity, head: Digest::ZERO };
                kept.write(&session.home)?;
                let ask = OpenRequest {
                    id: kept.id.clone(),
                    models: Vec::new(),
                    answers: BTreeMap::new(),
                    copy_of: Some(before.id.clone()),
                };
                let opened = client.application_open(&kept.model, &ask).await;
                let opened = opened.inspect_err(|error| kept.forget_if(error, &session.home)).map_err(refused)?;
                kept.seen(session, &opened, which.json)
            }
        }
    }
}

/// Looks, then does one thing to what was seen.
async fn act(
    session: &Session,
    client: &Client,
    which: Which,
    with: impl FnOnce(&Kept, &Application) -> Result<Applying, Failure>,
) -> Result<(), Failure> {
    let kept = Kept::find(&session.home, which.application.as_deref())?;
    let seen = client.application(&kept.model, &kept.id).await?;
    kept.check(&seen)?;
    let act = with(&kept, &seen)?;
    let done = client.application_act(&kept.model, &kept.id, seen.head, &act).await.map_err(refused)?;
    kept.seen(session, &done, which.json)
}

async fn attach(session: &Session, client: &Client, which: Which, file: PathBuf) -> Result<(), Failure> {
    let bytes = std::fs::read(&file).map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", file.display()), "name a file that is there")
    })?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kept = Kept::find(&session.home, which.application.as_deref())?;
    let seen = client.application(&kept.model, &kept.id).await?;
    kept.check(&seen)?;
    let digest = Digest::of(&bytes);
    // Named in an attempt before, whose bytes did not arrive: they are sent again.
    let is_named =
        seen.events.iter().filter_map(|event| event.text.as_deref()).any(|text| text.contains(&digest.to_string()));
    let named = if is_named {
        seen
    } else {
        let act = Applying::Attach { name, digest, bytes: bytes.len() as u64 };
        client.application_act(&kept.model, &kept.id, seen.head, &act).await.map_err(refused)?
    };
    client.application_attach(&kept.model, &kept.id, bytes).await?;
    kept.seen(session, &named, which.json)
}

/// The plan's one encoding as an attachment: the application's log names its digest.
async fn attach_plan(
    client: &Client,
    kept: &Kept,
    opened: Application,
    plan: &comity_wire::object::Plan,
) -> Result<Application, Failure> {
    let bytes = plan.to_bytes()?;
    let name = "experiment.plan".to_owned();
    let act = Applying::Attach { name, digest: plan.digest(), bytes: bytes.len() as u64 };
    let named = client.application_act(&kept.model, &kept.id, opened.head, &act).await.map_err(refused)?;
    client.application_attach(&kept.model, &kept.id, bytes).await?;
    Ok(named)
}

async fn status(session: &Session, client: &Client, which: Which) -> Result<(), Failure> {
    let all = match &which.application {
        Some(id) => vec![Kept::find(&session.home, Some(id))?],
        None => Kept::all(&session.home)?,
    };
    if all.is_empty() {
        note("you have not applied for anything: comity access apply MODEL");
    }
    let mut found = Vec::new();
    let mut failed = None;
    for kept in all {
        match client.application(&kept.model, &kept.id).await {
            Ok(seen) => {
                kept.check(&seen)?;
                kept.write_head(&session.home, seen.head)?;
                found.push(seen);
            }
            // One owner that cannot be reached does not hide the others.
            Err(error) => {
                note(&format!("{} ({}): {error}", kept.id, kept.model));
                failed = Some(error);
            }
        }
    }
    if which.json {
        say(&serde_json::to_string_pretty(&found)?);
    } else {
        for seen in &found {
            say(&show::application(seen, session::now()));
            if let Some(plan) = seen.granted.as_ref().and_then(|granted| granted.plan) {
                let model = seen.granted.as_ref().and_then(|granted| granted.models.first());
                let approvals = match model {
                    Some(model) => client.approvals(model).await?,
                    None => Vec::new(),
                };
                say(&show::approvals(approvals.iter().filter(|approval| approval.plan == plan), session::now()));
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// A refusal with what to do about it.
fn refused(error: Error) -> Failure {
    let hint = match error.code() {
        Some(Code::ApplicationIncomplete) => "comity access form MODEL lists the fields; --set FIELD=TEXT fills one in",
        Some(Code::ApplicationMoved) => "look at it with `comity access status`, then say it again",
        Some(Code::ApplicationState) => "`comity access status` says whose move it is",
        _ => return error.into(),
    };
    Failure { hint: Some(hint.to_owned()), ..error.into() }
}

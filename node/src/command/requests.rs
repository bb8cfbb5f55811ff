//! `comity requests`: applications that wait for the owner, and what the owner grants, through the running node's admin socket.

mod plans;
mod show;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgGroup, Subcommand};
use comity_access::http::Asked;
use comity_access::{ApplicationId, Party, State};
use comity_wire::api::access as api;
use comity_wire::object::Tier;
use comity_wire::time::DAY_S;
use comity_wire::{Digest, GrantId, ModelId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::service::admin;
use crate::shell;

#[derive(Debug, clap::Args)]
pub struct Home {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// In whose name.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// In whose name: an id of [[access.person]] in node.toml; may be left out where there is one person only
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
    /// The link that `show` ended with: where anything has happened since, nothing is done
    #[arg(long, value_name = "LINK")]
    seen: Option<Digest>,
}

#[derive(Debug, Subcommand)]
pub enum RequestsCommand {
    /// Applications, those whose time ends first before the others
    List {
        #[command(flatten)]
        home: Home,
        /// draft, submitted, returned, under-review, decision-asked, approved, rejected, revoked, appealed, withdrawn, lapsed, expired, closed
        #[arg(long, value_parser = state)]
        state: Option<State>,
        /// Those that wait for: owner, applicant, signatory, appeal-reviewer
        #[arg(long, value_parser = party)]
        waits_for: Option<Party>,
        #[arg(long)]
        model: Option<ModelId>,
        /// Also those that are over
        #[arg(long)]
        all: bool,
        /// Lines of a page
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// What the page before said at its end
        #[arg(long)]
        after: Option<String>,
    },
    /// One application with everything that happened to it
    Show {
        #[command(flatten)]
        home: Home,
        application: ApplicationId,
    },
    /// Write an attachment's bytes to a file
    Attachment {
        #[arg(long)]
        home: PathBuf,
        application: ApplicationId,
        /// As `show` names it
        digest: Digest,
        /// A file that is not there yet
        #[arg(long)]
        out: PathBuf,
    },
    /// Ask the applicant for more (--applicant), others for their view (--reviewer), or those who decide (--decider)
    #[command(group = ArgGroup::new("whom").required(true))]
    Ask {
        #[command(flatten)]
        home: Home,
        #[command(flatten)]
        named: Named,
        application: ApplicationId,
        /// What is missing; the applicant reads it
        #[arg(long, group = "whom", value_name = "QUESTION")]
        applicant: Option<String>,
        #[arg(long, group = "whom", value_name = "PERSON")]
        reviewer: Vec<String>,
        #[arg(long, group = "whom", value_name = "PERSON")]
        decider: Vec<String>,
    },
    /// Say what you think of it: a review, or a vote of somebody who was asked to decide
    #[command(group = ArgGroup::new("view").required(true))]
    Review {
        #[command(flatten)]
        home: Home,
        #[command(flatten)]
        named: Named,
        application: ApplicationId,
        #[arg(long, group = "view")]
        favour: bool,
        #[arg(long, group = "view")]
        against: bool,
        /// Step back: you have an interest of your own in it
        #[arg(long, group = "view")]
        conflict: bool,
        /// As one who decides, not one who reviews
        #[arg(long)]
        vote: bool,
        #[arg(long)]
        reason: String,
    },
    /// Sign for the applicant's institution
    Sign {
        #[command(flatten)]
        home: Home,
        #[command(flatten)]
        named: Named,
        application: ApplicationId,
        /// As what, under which rule
        #[arg(long)]
        text: String,
    },
    /// Approve or refuse; of an appeal: reinstate or dismiss
    #[command(group = ArgGroup::new("decision").required(true))]
    Decide {
        #[command(flatten)]
        home: Home,
        #[command(flatten)]
        named: Named,
        application: ApplicationId,
        #[arg(long, group = "decision")]
        approve: bool,
        #[arg(long, group = "decision")]
        reject: bool,
        /// Why; the applicant reads it
        #[arg(long)]
        reason: String,
        /// What is granted: t0 … t3; t3 with --plan-executions
        #[arg(long, required_if_eq("approve", "true"))]
        tier: Option<Tier>,
        /// Approve the experiment plan that is attached, for so many executions, 1 to 100
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
        plan_executions: Option<u32>,
        /// Which plan, as `show` names it, where several are attached
        #[arg(long, value_name = "DIGEST", requires = "plan_executions")]
        plan: Option<Digest>,
        /// How long it holds
        #[arg(long, default_value_t = 180)]
        days: u32,
        /// A part of what was asked for; left out: all of it
        #[arg(long = "model")]
        models: Vec<ModelId>,
    },
    /// Take back what was granted
    #[command(group = ArgGroup::new("what").required(true))]
    Revoke {
        #[command(flatten)]
        home: Home,
        #[command(flatten)]
        named: Named,
        #[arg(group = "what")]
        application: Option<ApplicationId>,
        /// A grant that no application led to
        #[arg(long, group = "what")]
        grant: Option<GrantId>,
        /// Why; the applicant reads it
        #[arg(long)]
        reason: String,
        /// With so many days' notice; left out: at once
        #[arg(long, default_value_t = 0)]
        notice_days: u32,
    },
    /// Note something beside it; with --public the applicant reads it
    Remark {
        #[command(flatten)]
        home: Home,
        #[command(flatten)]
        named: Named,
        application: ApplicationId,
        #[arg(long)]
        public: bool,
        text: String,
    },
    /// End one that was refused or revoked, before the time to appeal is over
    Close {
        #[command(flatten)]
        home: Home,
        #[command(flatten)]
        named: Named,
        application: ApplicationId,
        #[arg(long)]
        reason: String,
    },
    /// Grant a project a tier of a model without an application
    Grant {
        #[arg(long)]
        home: PathBuf,
        /// The project's pseudonym at your organisation, sub-…
        #[arg(long)]
        subject: String,
        #[arg(long = "model", required = true)]
        models: Vec<ModelId>,
        /// t0 … t2
        #[arg(long)]
        tier: Tier,
        /// How long it holds
        #[arg(long, default_value_t = 180)]
        days: u32,
        #[arg(long, default_value = "decided by the operator")]
        reason: String,
        /// Who says so, where it is not this login's name
        #[arg(long = "by", value_name = "NAME")]
        author: Option<String>,
    },
    /// How the targets of notices fare, [[notice]] in node.toml, since the node was started
    Notices {
        #[arg(long)]
        home: PathBuf,
    },
    /// Who has access, or had it on a day
    Grants {
        #[command(flatten)]
        home: Home,
        /// YYYY-MM-DD: those that held at any time of that day (UTC); left out: now
        #[arg(long, value_parser = day)]
        on: Option<Timestamp>,
        #[arg(long)]
        model: Option<ModelId>,
    },
}

fn state(word: &str) -> Result<State, String> {
    let known = State::ALL.iter().copied().find(|state| state.as_str() == word);
    known.ok_or_else(|| {
        format!("a state is one of {}", State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", "))
    })
}

fn party(word: &str) -> Result<Party, String> {
    serde_json::from_value(Value::from(word)).map_err(|_| "owner, applicant, signatory or appeal-reviewer".to_owned())
}

fn day(text: &str) -> Result<Timestamp, String> {
    Timestamp::of_date(text).map_err(|_| "a day is YYYY-MM-DD".to_owned())
}

/// `POST /admin/requests/{id}/acts` at a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActAsk {
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What was seen; left out: whatever stands there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
    pub act: Value,
}

/// `POST /admin/grants` at a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantAsk {
    pub subject: String,
    pub models: Vec<ModelId>,
    pub tier: Tier,
    pub days: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub reason: String,
}

/// `POST /admin/grants/withdraw`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithdrawAsk {
    pub grant: GrantId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub reason: String,
}

/// A grant that was given, ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantShown {
    pub grant: GrantId,
    pub subject: String,
    pub models: Vec<ModelId>,
    pub tier: Tier,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Timestamp>,
    /// The experiment plan that it approves, and for how many executions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executions: Option<u32>,
    pub reason: String,
}

impl GrantShown {
    /// Whether it let calls in at any time from one moment to another.
    pub fn held(&self, from: Timestamp, to: Timestamp) -> bool {
        let end = self.withdrawn.map_or(self.not_after, |withdrawn| withdrawn.min(self.not_after));
        self.not_before <= to && from < end
    }
}

/// The bytes of an attachment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attachment {
    base64: String,
}

impl Attachment {
    pub fn of(bytes: &[u8]) -> Self {
        Self { base64: STANDARD.encode(bytes) }
    }

    /// # Errors
    /// [`Failure`] where it is none.
    pub fn bytes(&self) -> Result<Vec<u8>, Failure> {
        STANDARD
            .decode(&self.base64)
            .map_err(|_| Failure::new("the node answered with something else than an attachment"))
    }
}

async fn acted(
    home: &Home,
    named: Named,
    id: ApplicationId,
    role: Option<&str>,
    act: Value,
) -> Result<String, Failure> {
    let ask = ActAsk { person: named.person, role: role.map(str::to_owned), after: named.seen, act };
    let shown: api::Application = admin::post(&home.home, &format!("/admin/requests/{id}/acts"), &ask).await?;
    show::application(&shown, home.json, shell::now())
}

/// # Errors
/// [`Failure`] where the node is not running, or refuses.
pub async fn run(command: RequestsCommand) -> Result<String, Failure> {
    match command {
        RequestsCommand::List { home, state, waits_for, model, all, limit, after } => {
            let open = !all && state.is_none();
            let asked = Asked { state, party: waits_for, model, open, limit: Some(limit), after };
            let query = serde_json::to_value(&asked)?;
            let path = format!("/admin/requests?{}", show::query(&query));
            let page: api::ListReply = admin::get(&home.home, &path).await?;
            show::list(&page, home.json, shell::now())
        }
        RequestsCommand::Show { home, application } => {
            let shown: api::Application = admin::get(&home.home, &format!("/admin/requests/{application}")).await?;
            let text = show::application(&shown, home.json, shell::now())?;
            if home.json { Ok(text) } else { plans::beside(text, &home.home, &shown).await }
        }
        RequestsCommand::Attachment { home, application, digest, out } => {
            let path = format!("/admin/requests/{application}/attachments/{digest}");
            let found: Attachment = admin::get(&home, &path).await?;
            let bytes = found.bytes()?;
            if Digest::of(&bytes) != digest {
                return Err(Failure::new("the node answered with other bytes than those that the applicant attached"));
            }
            std::fs::File::create_new(&out).and_then(|mut file| std::io::Write::write_all(&mut file, &bytes))?;
            Ok(format!("{} bytes, from a stranger: look at them as at any attachment", bytes.len()))
        }
        RequestsCommand::Ask { home, named, application, applicant, reviewer, decider } => {
            let act = match applicant {
                Some(reason) => json!({"kind": "return", "reason": reason}),
                None if !reviewer.is_empty() => json!({"kind": "request-review", "reviewers": reviewer}),
                None => json!({"kind": "request-decision", "deciders": decider}),
            };
            acted(&home, named, application, None, act).await
        }
        RequestsCommand::Review { home, named, application, favour, against: _, conflict, vote, reason } => {
            let act = match (conflict, vote) {
                (true, _) => json!({"kind": "declare-conflict", "reason": reason}),
                (false, true) => json!({"kind": "vote", "favour": favour, "reason": reason}),
                (false, false) => json!({"kind": "review", "favour": favour, "reason": reason}),
            };
            acted(&home, named, application, None, act).await
        }
        RequestsCommand::Sign { home, named, application, text } => {
            acted(&home, named, application, None, json!({"kind": "sign", "text": text})).await
        }
        RequestsCommand::Decide {
            home,
            named,
            application,
            approve,
            reject: _,
            reason,
            tier,
            plan_executions,
            plan,
            days,
            models,
        } => {
            // Looked at first: what is decided of an appeal has other words.
            let path = format!("/admin/requests/{application}");
            let seen: api::Application = admin::get(&home.home, &path).await?;
            let is_appeal = seen.state == State::Appealed.as_str();
            let mut models = if models.is_empty() { seen.models.clone() } else { models };
            models.sort_unstable();
            models.dedup();
            let not_after = shell::now().plus(u64::from(days) * DAY_S);
            let mut terms = json!({"models": models, "tier": tier, "not_after": not_after});
            if let Some(executions) = plan_executions {
                terms["plan"] = json!(plans::named(&seen, plan)?);
                terms["executions"] = json!(executions);
            }
            let act = match (is_appeal, approve) {
                (false, true) => json!({"kind": "approve", "terms": terms, "reason": reason}),
                (false, false) => json!({"kind": "reject", "reason": reason}),
                (true, true) => json!({"kind": "reinstate", "terms": terms, "reason": reason}),
                (true, false) => json!({"kind": "dismiss", "reason": reason}),
            };
            let named = Named { seen: named.seen.or(Some(seen.head)), ..named };
            acted(&home, named, application, None, act).await
        }
        RequestsCommand::Revoke { home, named, application, grant, reason, notice_days } => {
            match (application, grant) {
                (Some(application), _) => {
                    let effective = shell::now().plus(u64::from(notice_days) * DAY_S);
                    // 0: at once, by the node's clock.
                    let effective = if notice_days == 0 { Timestamp(0) } else { effective };
                    let act = json!({"kind": "revoke", "reason": reason, "effective": effective});
                    acted(&home, named, application, None, act).await
                }
                (None, Some(grant)) if notice_days == 0 => {
                    let author = Some(named.person.unwrap_or_else(crate::command::login));
                    let ask = WithdrawAsk { grant, author, reason };
                    let done: Value = admin::post(&home.home, "/admin/grants/withdraw", &ask).await?;
                    Ok(serde_json::to_string(&done)?)
                }
                _ => Err(Failure::new("a grant without an application is taken back at once, without notice")
                    .hint("leave out --notice-days")),
            }
        }
        RequestsCommand::Remark { home, named, application, public, text } => {
            acted(&home, named, application, None, json!({"kind": "remark", "text": text, "public": public})).await
        }
        RequestsCommand::Close { home, named, application, reason } => {
            acted(&home, named, application, None, json!({"kind": "close", "reason": reason})).await
        }
        RequestsCommand::Grant { home, subject, models, tier, days, reason, author } => {
            let author = Some(author.unwrap_or_else(crate::command::login));
            let ask = GrantAsk { subject, models, tier, days, author, reason };
            let made: GrantShown = admin::post(&home, "/admin/grants", &ask).await?;
            Ok(serde_json::to_string(&made)?)
        }
        RequestsCommand::Notices { home } => {
            let standing: Value = admin::get(&home, "/admin/notices").await?;
            Ok(serde_json::to_string_pretty(&standing)?)
        }
        RequestsCommand::Grants { home, on, model } => {
            let ever: Vec<GrantShown> = admin::get(&home.home, "/admin/grants").await?;
            let (from, to) = on.map_or_else(|| (shell::now(), shell::now()), |day| (day, day.plus(DAY_S - 1)));
            let of_model = |grant: &GrantShown| model.as_ref().is_none_or(|model| grant.models.contains(model));
            let held: Vec<GrantShown> =
                ever.into_iter().filter(|grant| grant.held(from, to) && of_model(grant)).collect();
            show::grants(&held, home.json)
        }
    }
}

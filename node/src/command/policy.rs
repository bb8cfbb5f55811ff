//! `comity policy check|show|preview|diff|publish`: what the policies of the models folder mean, and what publishing them would change.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use comity_gateway::store::agreed::Agreed;
use comity_token::policy::Purpose;
use comity_wire::cbor::Text;
use comity_wire::object::{Grant, Manifest, Plan, Policy, Tier, Vetting};
use comity_wire::{Digest, ModelId, Op, Signed, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::keystore::KeyName;
use crate::offer::Offer;
use crate::policy::{self, Caller, Change, Outcome, Shift};
use crate::service::admin;
use crate::shell;

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Read every policy of the models folder, and name what its owner may not have meant
    Check(Which),
    /// Show what is in force: for whom each tier is, what leaves by which op, what is kept
    Show(Which),
    /// Show what a caller would get, op by op, and what is missing where it gets nothing
    Preview(Preview),
    /// Show which project agreed to which terms of use, and when
    Agreements {
        #[arg(long)]
        home: PathBuf,
        /// Of this project alone, with what proves each (--json): the signed agreement, and the token of who signed it
        #[arg(long = "as", value_name = "PROJECT")]
        project: Option<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Compare the models folder with what is published: what changes, and who gains or loses what
    Diff(Which),
    /// Publish the models folder; where somebody would lose access, only with --yes
    Publish {
        #[command(flatten)]
        which: Which,
        /// Publish although somebody loses access
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct Which {
    #[arg(long)]
    home: PathBuf,
    /// The NAME of models/NAME.toml; left out: all of them
    name: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Preview {
    #[command(flatten)]
    which: Which,
    /// A project's pseudonym at your organisation, sub-…: with the grants that the running node has of it
    #[arg(long = "as", value_name = "PROJECT")]
    subject: Option<String>,
    /// What the clearing house states of it: none, registered, vetted
    #[arg(long, default_value = "registered")]
    vetting: Vetting,
    /// A purpose that it declared; may be said again
    #[arg(long = "purpose")]
    purposes: Vec<String>,
    /// As if it had your grant of this tier
    #[arg(long)]
    grant: Option<Tier>,
    /// As if it had agreed to the terms of use
    #[arg(long)]
    agreed: bool,
    /// As a delegate of the token's holder
    #[arg(long)]
    delegated: bool,
}

/// `GET /admin/agreements`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgreementsAsk {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// An agreement as the operator is shown it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgreementShown {
    pub project: String,
    pub terms: Digest,
    /// Left out where this node does not have the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<AgreementProof>,
}

/// Standard base64.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgreementProof {
    pub agreement: String,
    pub token: String,
}

impl AgreementShown {
    pub fn of(agreed: Agreed, title: impl FnOnce(&Digest) -> Option<String>) -> Self {
        let Agreed { subject, terms, bytes, token, at } = agreed;
        let proof = Some(AgreementProof { agreement: base64_of(&bytes), token: base64_of(&token) });
        Self { project: subject, title: title(&terms), terms, at, proof }
    }
}

/// `GET /admin/policies`: what is published, as signed frames, and the grants in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// Standard base64.
    pub policies: Vec<String>,
    pub grants: Vec<String>,
    /// Of the same models.
    #[serde(default)]
    pub manifests: Vec<String>,
    /// Experiment plans that the node has.
    #[serde(default)]
    pub plans: Vec<String>,
}

/// A policy of the models folder.
struct Written {
    name: String,
    model: ModelId,
    policy: Policy,
}

/// # Errors
/// [`Failure`] where a file has a mistake, or what is published cannot be asked for.
pub async fn run(command: PolicyCommand) -> Result<String, Failure> {
    match command {
        PolicyCommand::Check(which) => check(&which),
        PolicyCommand::Show(which) => show(&which).await,
        PolicyCommand::Preview(preview) => previewed(&preview).await,
        PolicyCommand::Agreements { home, project, json } => agreements(&home, project, json).await,
        PolicyCommand::Diff(which) => {
            let differences = differences(&which).await?;
            Ok(if which.json { serde_json::to_string(&differences)? } else { told(&differences) })
        }
        PolicyCommand::Publish { which, yes } => publish(&which, yes).await,
    }
}

/// Those of the models folder, in the order of their names.
fn written(which: &Which) -> Result<Vec<Written>, Failure> {
    let home = Home::open(&which.home)?;
    let folder = home.file("models");
    let entries = std::fs::read_dir(&folder).while_(format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if which.name.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        let offer = Offer::read(&path)?;
        let policy = offer.policy_of(&home.card, 0, shell::now()).map_err(|failure| failure.of(&path))?;
        found.push(Written { name, model: offer.model_id(&home.card)?, policy });
    }
    match (&which.name, found.is_empty()) {
        (Some(name), true) => {
            Err(Failure::new(format!("there is no {}", folder.join(format!("{name}.toml")).display()))
                .hint("name a file of the models folder, without .toml"))
        }
        _ => Ok(found),
    }
}

fn check(which: &Which) -> Result<String, Failure> {
    let all = written(which)?;
    let one = |written: &Written| json!({"name": written.name, "model": written.model, "advice": policy::advice(&written.policy)});
    if which.json {
        return Ok(serde_json::to_string(&all.iter().map(one).collect::<Vec<_>>())?);
    }
    let mut text = String::new();
    for written in &all {
        let tiers: Vec<String> = written.policy.tiers.iter().map(|tier| tier.tier.to_string()).collect();
        let _ = writeln!(
            text,
            "{} ({}): {} rules, tiers {}",
            written.model,
            written.name,
            written.policy.rules.len(),
            tiers.join(", ")
        );
        let advice = policy::advice(&written.policy);
        for advice in &advice {
            let _ = writeln!(text, "  look at {}: {}\n    {}", advice.place, advice.what, advice.next);
        }
        if advice.is_empty() {
            let _ = writeln!(text, "  nothing to remark");
        }
    }
    Ok(text.trim_end().to_owned())
}

/// As published, whatever the files say meanwhile.
async fn show(which: &Which) -> Result<String, Failure> {
    let (published, manifests) = published(which).await?;
    let says = |model: &ModelId, policy: &Policy| {
        let manifest = manifests.iter().find(|manifest| manifest.model == *model);
        let seen = manifest.and_then(|manifest| manifest.data_policy.moderation.as_ref());
        seen.map_or_else(
            || policy::shown(policy),
            |seen| format!("{}\n{}", policy::shown(policy), policy::seen_by(seen)),
        )
    };
    let is_asked = |model: &ModelId| which.name.as_ref().is_none_or(|name| model.name() == name);
    let mut told = Vec::new();
    for policy in &published {
        told.extend(policy.models.iter().filter(|model| is_asked(model)).map(|model| (model, policy)));
    }
    if which.json {
        let one = |(model, policy): &(&ModelId, &Policy)| json!({"model": model, "version": policy.version, "issued_at": policy.issued_at, "says": says(model, policy)});
        return Ok(serde_json::to_string(&told.iter().map(one).collect::<Vec<_>>())?);
    }
    let one = |(model, policy): &(&ModelId, &Policy)| {
        format!("{model}  version {} of {}\n{}", policy.version, policy.issued_at, says(model, policy))
    };
    Ok(told.iter().map(one).collect::<Vec<_>>().join("\n"))
}

/// What the running node has published, each with its owner's signature.
async fn published(which: &Which) -> Result<(Vec<Policy>, Vec<Manifest>), Failure> {
    let home = Home::open(&which.home)?;
    let in_force: InForce = admin::get(&which.home, "/admin/policies").await?;
    let key = home.keys.read(KeyName::Writer)?.public();
    let read = |frame: &String| Ok((*Signed::<Policy>::decode(&bytes(frame)?)?.verify(&key)?).clone());
    let policies = in_force.policies.iter().map(read).collect::<Result<_, Failure>>()?;
    let read = |frame: &String| Ok((*Signed::<Manifest>::decode(&bytes(frame)?)?.verify(&key)?).clone());
    let manifests = in_force.manifests.iter().map(read).collect::<Result<_, Failure>>()?;
    Ok((policies, manifests))
}

#[derive(Debug, Serialize)]
struct Previewed {
    name: String,
    model: ModelId,
    outcomes: Vec<Outcome>,
}

async fn previewed(preview: &Preview) -> Result<String, Failure> {
    let which = &preview.which;
    let home = Home::open(&which.home)?;
    let now = shell::now();
    let purposes = preview.purposes.iter().map(|purpose| Text::new(purpose.as_str()));
    let purposes: Vec<Purpose> = purposes.collect::<Result<_, _>>()?;
    let (mut grants, mut plans): (Vec<Grant>, Vec<Plan>) = (Vec::new(), Vec::new());
    let mut signed: Vec<Digest> = Vec::new();
    if let Some(subject) = &preview.subject {
        let asked = format!("/admin/agreements?project={}", comity_sdk::discover::percent(subject));
        let known: Vec<AgreementShown> = admin::get(&which.home, &asked).await?;
        signed.extend(known.into_iter().map(|agreed| agreed.terms));
        let in_force: InForce = admin::get(&which.home, "/admin/policies").await?;
        let key = home.keys.read(KeyName::Writer)?.public();
        for frame in &in_force.grants {
            let grant = Signed::<Grant>::decode(&bytes(frame)?)?.verify(&key)?;
            if grant.subject.as_str() == subject {
                grants.push((*grant).clone());
            }
        }
        for plan in &in_force.plans {
            plans.push(Plan::from_bytes(&bytes(plan)?)?);
        }
    }
    let mut all = Vec::new();
    for Written { name, model, policy } in written(which)? {
        let mut grants = grants.clone();
        if let Some(tier) = preview.grant {
            grants.push(policy::supposed(&policy, &model, tier, now));
        }
        let grants: Vec<&Grant> = grants.iter().collect();
        let ops: BTreeSet<Op> = policy.rules.iter().map(|rule| rule.op).collect();
        let supposed = policy::supposed_plan(&model, &ops);
        let known = plans.iter().map(|plan| (plan.digest(), plan));
        let known: Vec<_> = known.chain([(Digest::ZERO, &supposed)]).collect();
        let caller = Caller {
            vetting: preview.vetting,
            purposes: &purposes,
            grants: &grants,
            plans: &known,
            agreed: &[],
            delegated: preview.delegated,
        };
        let supposed = policy.tiers.iter().flat_map(|tier| tier.terms).filter(|_| preview.agreed);
        let agreed: Vec<Digest> = signed.iter().copied().chain(supposed).collect();
        let caller = Caller { agreed: &agreed, ..caller };
        let outcomes = ops.into_iter().map(|op| policy::outcome(&policy, &model, op, &caller, now)).collect();
        all.push(Previewed { name, model, outcomes });
    }
    if which.json {
        return Ok(serde_json::to_string(&all)?);
    }
    let mut text = String::new();
    for Previewed { name, model, outcomes } in &all {
        let _ = writeln!(text, "{model} ({name})");
        for outcome in outcomes {
            let _ = match (outcome.tier, &outcome.message, outcome.whose_move) {
                (Some(tier), ..) => writeln!(text, "  {:<16} {tier}", outcome.op.to_string()),
                (None, message, whose) => writeln!(
                    text,
                    "  {:<16} no: {} (next: {})",
                    outcome.op.to_string(),
                    message.as_deref().unwrap_or_default(),
                    whose.unwrap_or("nobody")
                ),
            };
        }
    }
    Ok(text.trim_end().to_owned())
}

async fn agreements(home: &std::path::Path, project: Option<String>, json: bool) -> Result<String, Failure> {
    let asked = project
        .as_ref()
        .map_or_else(String::new, |project| format!("?project={}", comity_sdk::discover::percent(project)));
    let all: Vec<AgreementShown> = admin::get(home, &format!("/admin/agreements{asked}")).await?;
    if json {
        return Ok(serde_json::to_string(&all)?);
    }
    if all.is_empty() {
        return Ok("nobody has agreed to terms of use of this owner".to_owned());
    }
    let one = |shown: &AgreementShown| {
        let title = shown.title.as_deref().unwrap_or("(a text that is not here)");
        format!("{}  {}  {title}  {}", shown.at, shown.project, shown.terms)
    };
    Ok(all.iter().map(one).collect::<Vec<_>>().join("\n"))
}

/// What publishing would do to one model.
#[derive(Debug, Serialize)]
struct Difference {
    name: String,
    model: ModelId,
    /// Whether it is published for the first time.
    new: bool,
    changes: Vec<Change>,
    shifts: Vec<Shift>,
    /// Tiers that ask for no terms of use until then, and do now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reopened: Vec<(Tier, Timestamp)>,
}

async fn differences(which: &Which) -> Result<Vec<Difference>, Failure> {
    let (published, _) = published(which).await?;
    let difference = |written: Written| {
        let Written { name, model, policy: after } = written;
        let before = published.iter().find(|policy| policy.models.contains(&model));
        let nothing = Policy { tiers: Default::default(), rules: Default::default(), ..after.clone() };
        let before_policy = before.unwrap_or(&nothing);
        Difference {
            changes: policy::changes(before_policy, &after),
            shifts: policy::shifts(before_policy, &after, &model, shell::now()),
            reopened: policy::reopened(before_policy, &after, shell::now()),
            new: before.is_none(),
            name,
            model,
        }
    };
    Ok(written(which)?.into_iter().map(difference).collect())
}

fn told(differences: &[Difference]) -> String {
    let mut text = String::new();
    for Difference { name, model, new, changes, shifts, reopened } in differences {
        let head = match (new, changes.is_empty()) {
            (true, _) => "is new",
            (false, true) => "is as it is published",
            (false, false) => "changes",
        };
        let _ = writeln!(text, "{model} ({name}) {head}");
        if !new {
            for Change { place, before, after } in changes {
                let or_none = |said: &str| if said.is_empty() { "(not said)".to_owned() } else { said.to_owned() };
                let _ = writeln!(text, "  {place}: {} → {}", or_none(before), or_none(after));
            }
        }
        for (tier, from) in reopened {
            let _ = writeln!(text, "  nobody is asked for terms of use in {tier} until {from}");
        }
        for shift in shifts.iter().filter(|shift| !new || shift.after.is_some()) {
            let who = match shift.grant {
                Some(tier) => format!("vetting {} and a grant of {tier}", shift.vetting),
                None => format!("vetting {}", shift.vetting),
            };
            let tier = |tier: Option<Tier>| tier.map_or_else(|| "nothing".to_owned(), |tier| tier.to_string());
            let what = if shift.is_loss() { "loses" } else { "gains" };
            let _ = writeln!(text, "  {what}: {} for {who}: {} → {}", shift.op, tier(shift.before), tier(shift.after));
        }
    }
    text.trim_end().to_owned()
}

async fn publish(which: &Which, yes: bool) -> Result<String, Failure> {
    if which.name.is_some() {
        return Err(Failure::new("the models folder is published as a whole")
            .hint("leave the name out; `comity policy diff` shows what would change"));
    }
    let differences = differences(which).await?;
    if !yes && differences.iter().any(|difference| !difference.reopened.is_empty()) {
        return Err(Failure::new(format!(
            "a tier would ask for nothing for a while; nothing was published\n{}",
            told(&differences)
        ))
        .hint("say 'before' beside 'from' in [[policy.terms]]: the terms that are in force; or publish with --yes"));
    }
    let loses = differences.iter().flat_map(|difference| &difference.shifts).any(Shift::is_loss);
    if loses && !yes {
        let changed = differences.iter().flat_map(|difference| &difference.changes);
        let terms = changed.map(|change| change.place.as_str()).any(|place| place.ends_with(".terms"));
        let hint = if terms {
            "give projects time to agree to the new terms: 'from' and 'before' in [[policy.terms]]; or publish with --yes"
        } else {
            "tell those projects first, then publish with --yes"
        };
        return Err(Failure::new(format!("somebody would lose access; nothing was published\n{}", told(&differences)))
            .hint(hint));
    }
    let reply: serde_json::Value = admin::post(&which.home, "/admin/publish", &json!({})).await?;
    if which.json {
        return Ok(serde_json::to_string(&json!({"published": reply["published"], "differences": differences}))?);
    }
    Ok(format!("{}\npublished", told(&differences)).trim_start().to_owned())
}

fn bytes(frame: &str) -> Result<Vec<u8>, Failure> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(frame).while_("the node's answer cannot be read")
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What a node tells of itself for these commands.
pub fn in_force(
    policies: impl IntoIterator<Item = Vec<u8>>,
    manifests: impl IntoIterator<Item = Vec<u8>>,
    grants: impl IntoIterator<Item = Vec<u8>>,
    plans: impl IntoIterator<Item = Vec<u8>>,
) -> InForce {
    let text = |bytes: Vec<u8>| base64_of(&bytes);
    InForce {
        policies: policies.into_iter().map(text).collect(),
        manifests: manifests.into_iter().map(text).collect(),
        grants: grants.into_iter().map(text).collect(),
        plans: plans.into_iter().map(text).collect(),
    }
}

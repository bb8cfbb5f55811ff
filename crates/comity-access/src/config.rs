//! What an owner says about its applications: `[access]` in `node.toml`.

use std::path::PathBuf;

use comity_wire::{ModelId, PublicKey};
use serde::Deserialize;

use crate::act::{Actor, Kind, Role, State};
use crate::limit;
use crate::matrix::allows;
use crate::rules::{Rule, Then};
use crate::store::{KeptMax, OpenMax};

/// All of it; what is left out is as it ships.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether those may apply whom no clearing house knows: with a token of this node itself. Anyone can make as many as they like.
    pub strangers: bool,
    /// Applications of one project that are not over.
    pub open_of_a_project_max: u32,
    /// Of all projects.
    pub open_max: u32,
    /// MiB of attachments of one project, also of applications that are over.
    pub attachments_of_a_project_mib: u32,
    /// MiB of attachments in all.
    pub attachments_mib: u32,
    /// For so many days after an application is over its attachments are kept; their digests stay in its log.
    pub attachments_days: u32,
    /// Which form is filled in for which models; the first that fits.
    pub form: Vec<FormFile>,
    /// Who acts for the owner.
    pub person: Vec<Person>,
    /// What is done without anybody.
    pub rule: Vec<Rule>,
    /// Deadlines and bounds of cases.
    pub case: crate::case::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            strangers: false,
            open_of_a_project_max: 16,
            open_max: 50_000,
            attachments_of_a_project_mib: 256,
            attachments_mib: 8_192,
            attachments_days: 365,
            form: Vec::new(),
            person: Vec::new(),
            rule: Vec::new(),
            case: crate::case::Settings::default(),
        }
    }
}

/// A form, and what it is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormFile {
    /// TOML; relative to the home folder.
    pub file: PathBuf,
    /// None named: all.
    #[serde(default)]
    pub models: Vec<ModelId>,
}

/// Somebody who acts for the owner, or signs for an institution.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// As decisions name them; researchers read it.
    pub id: String,
    /// As what they may act.
    pub roles: Vec<Role>,
    /// Whom they work for, for forms in which nobody decides about their own organisation.
    #[serde(default)]
    pub organisation: Option<String>,
    /// With it they act over HTTP; without it only whoever operates the node acts in their name.
    #[serde(default)]
    pub key: Option<PublicKey>,
}

impl Person {
    /// Whether they are here for their institution and not for the owner.
    pub(crate) fn signs_only(&self) -> bool {
        self.roles.iter().all(|role| *role == Role::Signatory)
    }

    /// As what they do a thing, where they may: the first of their roles that has it now, else the first that ever has.
    pub fn actor(&self, kind: Kind, state: State) -> Actor {
        let now = self.roles.iter().find(|role| allows(kind, **role, state));
        let ever = || self.roles.iter().find(|role| crate::matrix::row(kind).roles.contains(role));
        let role = now.or_else(ever).or_else(|| self.roles.first()).copied().unwrap_or(Role::Reviewer);
        Actor { id: self.id.clone(), role, organisation: self.organisation.clone() }
    }
}

/// Who acts where the configuration names nobody: whoever operates the node. Appeals want a second person, so they want names.
pub const OPERATOR: &str = "operator";

impl Config {
    /// The operator, where nobody is named.
    pub(crate) fn persons(&self) -> Vec<Person> {
        if !self.person.is_empty() {
            return self.person.clone();
        }
        vec![Person { id: OPERATOR.into(), roles: vec![Role::Operator], organisation: None, key: None }]
    }

    pub(crate) const fn open(&self) -> OpenMax {
        OpenMax { subject: self.open_of_a_project_max, subject_a_day: limit::BEGUN_A_DAY_MAX, all: self.open_max }
    }

    pub(crate) const fn kept(&self) -> KeptMax {
        KeptMax { subject: (self.attachments_of_a_project_mib as u64) << 20, all: (self.attachments_mib as u64) << 20 }
    }

    /// What is wrong with it.
    pub fn fault(&self) -> Option<String> {
        for (at, person) in self.person.iter().enumerate() {
            let id = &person.id;
            if id.is_empty() || id.len() > limit::NAME_BYTES_MAX || id.chars().any(char::is_control) {
                return Some(format!("[[access.person]] number {} has no id, or one that is too long", at + 1));
            }
            if self.person[..at].iter().any(|before| before.id == *id) {
                return Some(format!("[[access.person]] {id} stands twice"));
            }
            if person.key.is_some() && self.person[..at].iter().any(|before| before.key == person.key) {
                return Some(format!("[[access.person]] {id} has another person's key"));
            }
            let owners = [Role::Signatory, Role::Reviewer, Role::Decider, Role::AppealReviewer, Role::Operator];
            if person.roles.is_empty() || !person.roles.iter().all(|role| owners.contains(role)) {
                return Some(format!(
                    "[[access.person]] {id}: roles are signatory, reviewer, decider, appeal-reviewer, operator, at least one"
                ));
            }
        }
        for person in &self.person {
            if person.roles.contains(&Role::Signatory) && person.organisation.is_none() {
                return Some(format!(
                    "[[access.person]] {} signs, and no organisation says for which institution",
                    person.id
                ));
            }
        }
        for (at, rule) in self.rule.iter().enumerate() {
            let number = at + 1;
            match &rule.then {
                Then::Approve { tier, .. } if *tier == comity_wire::object::Tier::Audited => {
                    return Some(format!("[[access.rule]] {number} grants t3, which needs an approved plan"));
                }
                Then::Approve { days: 0, .. } => return Some(format!("[[access.rule]] {number} grants for no days")),
                Then::Reject { reason } if reason.trim().is_empty() || reason.len() > limit::TEXT_BYTES_MAX => {
                    return Some(format!("[[access.rule]] {number} refuses without a reason, or with one too long"));
                }
                Then::Review { by } if by.is_empty() || by.len() > limit::PERSONS_MAX => {
                    return Some(format!("[[access.rule]] {number} asks nobody, or too many"));
                }
                Then::Review { by } => {
                    let known = |id: &String| {
                        self.person.iter().any(|person| person.id == *id && person.roles.contains(&Role::Reviewer))
                    };
                    if let Some(stranger) = by.iter().find(|id| !known(id)) {
                        return Some(format!(
                            "[[access.rule]] {number} asks {stranger}, who is no [[access.person]] with role reviewer"
                        ));
                    }
                }
                _ => {}
            }
        }
        self.case.fault()
    }
}

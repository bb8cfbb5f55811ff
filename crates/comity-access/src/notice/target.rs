//! Where notices go: the `[[notice]]` of a node's settings.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::webhook::{self, Webhook};
use super::{Delivery, DeliveryId, Notice, Sender, Topic, limit};
use crate::act::Role;

/// One `[[notice]]`, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Target {
    /// A POST to a URL.
    Webhook(WebhookTarget),
}

/// `by = "webhook"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookTarget {
    /// What logs, the outbox and the doctor call it; a row that waits is found by it.
    pub name: String,
    /// Where to. Whoever knows it may be able to post there, so it is never shown.
    pub url: Hidden,
    /// A file with the secret that it is signed with, `whsec_…`; two lines while one takes the place of the other.
    pub secret_file: PathBuf,
    /// A file with the certificates to believe in place of the web's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Notices to these roles; the owner's side where it is left out.
    #[serde(default = "owners_side")]
    pub roles: Vec<Role>,
    /// Notices of these kinds; all where it is left out.
    #[serde(default)]
    pub kinds: Vec<Topic>,
}

fn owners_side() -> Vec<Role> {
    vec![Role::Reviewer, Role::Decider, Role::AppealReviewer, Role::Operator]
}

/// A text that cannot be printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// Why nothing can be sent to a target. It never shows a URL or a secret.
#[derive(Debug, thiserror::Error)]
#[error("notice target {target:?} {what}")]
pub struct BadTarget {
    /// Its name.
    pub target: String,
    /// What is wrong, and what is right.
    pub what: String,
}

/// How a file with a secret is read: by whoever knows where a node's files lie, and that nobody else can read it.
pub type ReadSecret<'a> = &'a dyn Fn(&Path) -> Result<Zeroizing<String>, String>;

/// What sends to a target, by its name.
pub type Senders = Vec<(String, Box<dyn Sender>)>;

/// All `[[notice]]` of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Targets(pub Vec<Target>);

impl Targets {
    /// What is wrong with what was written; none: nothing.
    pub fn fault(&self) -> Option<BadTarget> {
        for (at, target) in self.0.iter().enumerate() {
            let bad = |what: String| Some(BadTarget { target: target.name().to_owned(), what });
            let is_word = |text: &str| {
                (1..=32).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            };
            if !is_word(target.name()) {
                return bad("has no name of 1 to 32 of a-z, 0-9 and -".into());
            }
            if self.0[..at].iter().any(|other| other.name() == target.name()) {
                return bad("stands twice: rows that wait are found by the name".into());
            }
            if at >= limit::TARGETS_MAX {
                return bad(format!("is one more than the {} there may be", limit::TARGETS_MAX));
            }
            if let Some(what) = target.fault() {
                return bad(what);
            }
        }
        None
    }

    /// The rows that a notice makes: one for each receiver. In the transaction of the event, a store writes them.
    pub fn deliveries(&self, notice: &Notice) -> Vec<Delivery> {
        let row = |target: &Target, address: Option<String>| Delivery {
            id: DeliveryId::of(notice.id, target.name(), address.as_deref()),
            target: target.name().to_owned(),
            address,
            notice: notice.clone(),
        };
        let rows = |target: &Target| match target {
            Target::Webhook(webhook) if webhook.wants(notice) => vec![row(target, None)],
            Target::Webhook(_) => Vec::new(),
        };
        self.0.iter().flat_map(rows).collect()
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|target| target.name().to_owned()).collect()
    }

    /// What sends to them, by name.
    ///
    /// # Errors
    /// [`BadTarget`] naming the first that nothing can be sent to.
    pub fn open(&self, secret: ReadSecret<'_>) -> Result<Senders, BadTarget> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let open = |target: &Target| {
            let bad = |what: String| BadTarget { target: target.name().to_owned(), what };
            let sender: Box<dyn Sender> = match target {
                Target::Webhook(webhook) => Box::new(Webhook::open(webhook, secret).map_err(bad)?),
            };
            Ok((target.name().to_owned(), sender))
        };
        self.0.iter().map(open).collect()
    }
}

impl Target {
    /// What logs call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Webhook(webhook) => &webhook.name,
        }
    }

    fn fault(&self) -> Option<String> {
        match self {
            Self::Webhook(webhook) if webhook.roles.is_empty() => {
                Some("has an empty list of roles: leave it out for the owner's side".into())
            }
            Self::Webhook(webhook) => webhook::address(&webhook.url).err(),
        }
    }
}

impl WebhookTarget {
    fn wants(&self, notice: &Notice) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&notice.kind))
            && notice.to.iter().any(|to| self.roles.contains(&to.role))
    }
}

//! Where notices go: the `[[notice]]` of a node's settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::mail::{self, Mail};
use super::webhook::{self, Webhook, is_loopback};
use super::{Delivery, DeliveryId, Notice, Sender, Topic, limit};
use crate::act::Role;

/// One `[[notice]]`, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Target {
    /// A POST to a URL.
    Webhook(WebhookTarget),
    /// Mails through a server.
    Mail(MailTarget),
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

/// `by = "mail"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailTarget {
    /// What logs, the outbox and the doctor call it; a row that waits is found by it.
    pub name: String,
    /// The server that takes the node's mail: a name, or an address.
    pub server: String,
    /// Left out: 465 with implicit TLS, 587 with STARTTLS, 25 without.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the line is encrypted.
    #[serde(default)]
    pub tls: MailTls,
    /// A file with the certificate to believe in place of the web's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Who logs in; left out: nobody does.
    #[serde(default)]
    pub user: Option<String>,
    /// A file with their password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// `access@lab.example`, or `The lab <access@lab.example>`.
    pub from: String,
    /// What this computer is called in EHLO; left out: the domain of `from`.
    #[serde(default)]
    pub hello: Option<String>,
    /// Addresses by role: for notices to all who have it, and to persons who have no address of their own.
    #[serde(default)]
    pub roles: BTreeMap<Role, Vec<String>>,
    /// Addresses by person; by pseudonym for an applicant.
    #[serde(default)]
    pub persons: BTreeMap<String, Vec<String>>,
    /// Notices of these kinds; all where it is left out.
    #[serde(default)]
    pub kinds: Vec<Topic>,
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// TLS from the first byte.
    #[default]
    Implicit,
    /// STARTTLS, without which nothing is said.
    Starttls,
    /// None: to this computer alone.
    None,
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
            Target::Mail(mail) => {
                mail.addresses(notice).into_iter().map(|address| row(target, Some(address.to_owned()))).collect()
            }
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
                Target::Mail(mail) => Box::new(Mail::open(mail, secret).map_err(bad)?),
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
            Self::Mail(mail) => &mail.name,
        }
    }

    fn fault(&self) -> Option<String> {
        match self {
            Self::Webhook(webhook) if webhook.roles.is_empty() => {
                Some("has an empty list of roles: leave it out for the owner's side".into())
            }
            Self::Webhook(webhook) => webhook::address(&webhook.url).err(),
            Self::Mail(mail) => mail.fault(),
        }
    }
}

impl WebhookTarget {
    fn wants(&self, notice: &Notice) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&notice.kind))
            && notice.to.iter().any(|to| self.roles.contains(&to.role))
    }
}

impl MailTarget {
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            MailTls::Implicit => 465,
            MailTls::Starttls => 587,
            MailTls::None => 25,
        })
    }

    /// Each once. A person who has no address is told as what they are.
    fn addresses(&self, notice: &Notice) -> BTreeSet<&str> {
        if !self.kinds.is_empty() && !self.kinds.contains(&notice.kind) {
            return BTreeSet::new();
        }
        let mut found = BTreeSet::new();
        for to in &notice.to {
            let of_role = self.roles.get(&to.role);
            if to.persons.is_empty() {
                found.extend(of_role.into_iter().flatten().map(String::as_str));
            }
            for person in &to.persons {
                let own = self.persons.get(person).or(of_role);
                found.extend(own.into_iter().flatten().map(String::as_str));
            }
        }
        found
    }

    fn fault(&self) -> Option<String> {
        let is_name = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if !is_name(&self.server) || self.hello.as_deref().is_some_and(|hello| !is_name(hello)) {
            return Some("has a server, or a hello, that is no name".into());
        }
        if self.port == Some(0) {
            return Some("has port 0".into());
        }
        if self.tls == MailTls::None && !is_loopback(&self.server) {
            return Some("has no tls: without it a mail goes to this computer alone; implicit, or starttls".into());
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Some("has a user without a password_file, or one without the other".into());
        }
        if let Err(what) = mail::sender(&self.from) {
            return Some(what);
        }
        let addresses = || self.roles.values().chain(self.persons.values()).flatten();
        match addresses().count() {
            0 => Some("has no addresses: [notice.roles] operator = [\"desk@lab.example\"]".into()),
            count if count > limit::ADDRESSES_MAX => {
                Some(format!("has more addresses than the {} there may be", limit::ADDRESSES_MAX))
            }
            _ if !addresses().all(|address| mail::is_address(address)) => {
                Some("has an address that is none: name@lab.example".into())
            }
            _ => None,
        }
    }
}

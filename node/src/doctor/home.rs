//! Files of the home: settings, keys, roster, certificates, the newest backup.

use comity_wire::object::{AnchorRole, IssuerStatus, IssuerUse, NodeCertificate, WriterCertificate};
use comity_wire::time::DAY_S;
use comity_wire::{Signed, Timestamp};

use super::{Check, span};
use crate::backup::LastBackup;
use crate::home::{Home, Role};
use crate::keystore::KeyName;
use crate::settings::HouseSettings;

/// Without one of these the house does not start, or signs nothing.
const KEYS: &[KeyName] = &[KeyName::Writer, KeyName::Transport, KeyName::Receipt, KeyName::Issuer, KeyName::Log];
/// When a certificate or a roster is to be renewed.
const SOON_S: u64 = 14 * DAY_S;
/// A backup that is older is no nightly one.
const BACKUP_S: u64 = 36 * 3600;

pub(super) fn checks(home: &Home, now: Timestamp) -> Vec<Check> {
    let mut checks = vec![role(home), settings(home)];
    checks.extend(keys(home));
    checks.push(roster(home, now));
    checks.extend(certificates(home, now));
    if let Err(failure) = home.feed_may_go_on() {
        let next = format!("comity clearing renew --home {} --restored", home.path.display());
        checks.push(Check::fail("feed", first_line(&failure), next));
    }
    checks
}

pub(in crate::doctor) fn first_line(failure: &crate::failure::Failure) -> String {
    let text = failure.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn role(home: &Home) -> Check {
    match home.card.role {
        Role::House => Check::ok("home", format!("{} of {}", home.path.display(), home.card.organisation)),
        other => Check::fail("home", format!("this is the home of a {other:?}"), "name the house's home with --home"),
    }
}

fn settings(home: &Home) -> Check {
    match HouseSettings::read(home).and_then(|settings| settings.books.kept(home)) {
        Ok(kept) => Check::ok("settings", format!("books: {}", kept.name())),
        Err(failure) => {
            Check::fail("settings", first_line(&failure), "mend clearing.toml; it may hold [books] store or store_file")
        }
    }
}

fn keys(home: &Home) -> Vec<Check> {
    let mut checks: Vec<_> = KEYS
        .iter()
        .filter_map(|name| {
            // A house that never ran has no key for its log yet, and makes one.
            let is_to_come = *name == KeyName::Log && !home.file("log.checkpoint").exists();
            let error = home.keys.read(*name).err().filter(|_| !is_to_come || home.keys.exists(*name))?;
            Some(Check::fail(
                "keys",
                error.to_string(),
                format!("bring keys/{}.key back from where you keep it, mode 0600", name.as_str()),
            ))
        })
        .collect();
    if let Ok(issuer) = home.keys.read(KeyName::Issuer)
        && home.card.issuer_key != Some(issuer.public())
    {
        checks.push(Check::fail(
            "keys",
            "keys/issuer.key is not the one in organisation.json",
            "bring both from one home",
        ));
    }
    if home.keys.exists(KeyName::Organisation) {
        let next = "keep keys/organisation.key off this machine; it is needed to renew, four times a year";
        checks.push(Check::warn("keys", "the organisation's key lies beside the others", next));
    }
    if checks.is_empty() {
        checks.push(Check::ok("keys", "all are there, and closed to others"));
    }
    checks
}

fn roster(home: &Home, now: Timestamp) -> Check {
    const NEXT: &str = "have the roster's signers send the newest roster.cbor";
    let roster = match home.roster() {
        Ok((_, roster)) => roster,
        Err(failure) => return Check::fail("roster", first_line(&failure), NEXT),
    };
    let card = &home.card;
    let Some(own) = roster.organisations.iter().find(|org| org.id == card.organisation) else {
        return Check::fail(
            "roster",
            "this house's organisation is not on it",
            "hand organisation.json to the roster's signers",
        );
    };
    let sells = |key| {
        own.issuers.iter().any(|issuer| {
            issuer.key == key && issuer.use_ == IssuerUse::Budget && issuer.status == IssuerStatus::Active
        })
    };
    if !card.issuer_key.is_some_and(sells) {
        return Check::fail(
            "roster",
            "it does not let this house's issuer key sign tokens",
            "hand organisation.json to the roster's signers",
        );
    }
    let mut anchors = roster.anchors_of(AnchorRole::House);
    if !anchors.any(|anchor| anchor.node == card.node && anchor.transport_key == card.transport_key) {
        return Check::fail(
            "roster",
            "it names another door for this house",
            "hand organisation.json to the roster's signers",
        );
    }
    if roster.expires_at <= now {
        return Check::fail("roster", format!("it ended at {}: nothing is sold", roster.expires_at), NEXT);
    }
    let left = roster.expires_at.since(now);
    if left < SOON_S {
        return Check::warn("roster", format!("it ends in {}", span(left)), NEXT);
    }
    Check::ok("roster", format!("version {}, for another {}", roster.version, span(left)))
}

fn certificates(home: &Home, now: Timestamp) -> Vec<Check> {
    let key = &home.card.key;
    let node = home.read("node-certificate.cbor").and_then(|bytes| {
        let certificate = Signed::<NodeCertificate>::decode(&bytes)?.verify(key)?;
        Ok((certificate.transport_keys.contains(&home.card.transport_key), certificate.not_after))
    });
    let writer = home.read("writer-certificate.cbor").and_then(|bytes| {
        let certificate = Signed::<WriterCertificate>::decode(&bytes)?.verify(key)?;
        let own = home.keys.read(KeyName::Writer).is_ok_and(|own| own.public() == certificate.key);
        Ok((own, certificate.not_after))
    });
    let next = format!(
        "comity clearing renew --home {}, with keys/organisation.key put back for it; then restart",
        home.path.display()
    );
    let check = |name: &str, found: Result<(bool, Timestamp), crate::failure::Failure>| match found {
        Err(failure) => Check::fail("certificates", format!("{name}: {}", first_line(&failure)), next.clone()),
        Ok((false, _)) => Check::fail(
            "certificates",
            format!("{name} is for another key"),
            "bring keys and certificates from one home",
        ),
        Ok((_, until)) if until <= now => Check::fail("certificates", format!("{name} ended at {until}"), next.clone()),
        Ok((_, until)) if until.since(now) < SOON_S => {
            Check::warn("certificates", format!("{name} ends in {}", span(until.since(now))), next.clone())
        }
        Ok((_, until)) => Check::ok("certificates", format!("{name}: for another {}", span(until.since(now)))),
    };
    vec![check("node-certificate.cbor", node), check("writer-certificate.cbor", writer)]
}

pub(super) fn backup(home: &Home, now: Timestamp) -> Check {
    let next = format!(
        "comity clearing backup --home {} --out …, each night (docs/operating/clearing-backup.md)",
        home.path.display()
    );
    match LastBackup::read(home) {
        None => Check::warn("backup", "none was taken with `comity clearing backup`", next),
        Some(last) if now.since(last.made_at) > BACKUP_S => {
            Check::warn("backup", format!("the newest is {} old", span(now.since(last.made_at))), next)
        }
        Some(last) => {
            Check::ok("backup", format!("{} ago, to {}", span(now.since(last.made_at)), last.backup.display()))
        }
    }
}

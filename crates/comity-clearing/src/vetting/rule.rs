//! The rule: evidence and the hour in; a level, what is missing for the next, and when it falls, out.
//!
//! | level | of whom | asks |
//! |---|---|---|
//! | registered | anybody | a login at a listed issuer (or the house's own check), the code of conduct, a project that the house took in |
//! | vetted | PI, co-PI | proofing, an affiliation, a second factor in the last 12 hours; or the house's own check |
//! | vetted | manager, member | low proofing, a PI's signature, and a PI of the project with proofing and affiliation |
//!
//! A statement on the project (`comity clearing project vet`) is the operator's own word for all of its keys: the level is at
//! least that, and `none` stops the project whatever its persons show.

use comity_wire::object::Vetting;
use comity_wire::{MemberId, ProjectId, Timestamp};

pub use comity_wire::api::person::{Level, Unmet};

use super::evidence::{self, Evidence, How, assurance, claim};
use super::{Statement, stated};
use crate::mandates::Role;

/// A person, and all that is kept of them, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: MemberId,
    pub evidence: Vec<Evidence>,
}

/// What is judged: somebody who acts for a project.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub project: ProjectId,
    /// On the project, in the order in which they were recorded.
    pub statements: &'a [Statement],
    /// Whether the house took the project in.
    pub accepted: bool,
    pub role: Role,
    /// Whose key it is; none: nobody has said.
    pub person: Option<&'a Person>,
    /// The persons who are PIs and co-PIs of the project.
    pub pis: &'a [Person],
    /// What has to be signed, as the value of `conduct`; none: the house has no code of conduct.
    pub conduct: Option<&'a str>,
}

/// Until when something holds; none: without an end.
type End = Option<Timestamp>;
type Met = Result<End, Unmet>;

/// What the house states by this version of the rule.
pub fn level(version: u32, case: &Case<'_>, now: Timestamp) -> Level {
    let said = stated(case.statements, now);
    let floor = said.map_or(Vetting::None, |said| said.value);
    if version < 2 {
        return Level { vetting: floor, policy: version, unmet: Vec::new(), until: said.and_then(|said| said.until) };
    }
    if let Some(said) = said.filter(|said| said.value == Vetting::None) {
        let why = format!("the clearing house stated `none` for this project: {}", said.claim);
        let unmet =
            vec![unmet("stopped", why, "house", "ask the clearing house's operator why, and what would change it")];
        return Level { vetting: Vetting::None, policy: version, unmet, until: None };
    }
    let shown = shown(version, case, now);
    if shown.vetting > floor || said.is_none() {
        return shown;
    }
    // The operator's word carries; what is missing for more is still worth saying.
    let next = if floor == Vetting::Vetted { Vec::new() } else { shown.unmet };
    Level { vetting: floor, policy: version, unmet: next, until: said.and_then(|said| said.until) }
}

/// What the persons' evidence shows.
fn shown(version: u32, case: &Case<'_>, now: Timestamp) -> Level {
    let one = first(case, now);
    let two = second(case, now);
    let (ends_one, mut missing) = parted(one);
    if !missing.is_empty() {
        // What the second level asks is said too: one visit can do both.
        missing.extend(parted(two).1);
        return Level { vetting: Vetting::None, policy: version, unmet: missing, until: None };
    }
    let (ends_two, missing) = parted(two);
    let (vetting, ends) = if missing.is_empty() {
        (Vetting::Vetted, [ends_one, ends_two].concat())
    } else {
        (Vetting::Registered, ends_one)
    };
    Level { vetting, policy: version, unmet: missing, until: ends.into_iter().flatten().min() }
}

fn parted(met: Vec<Met>) -> (Vec<End>, Vec<Unmet>) {
    let (mut ends, mut missing) = (Vec::new(), Vec::new());
    for met in met {
        match met {
            Ok(end) => ends.push(end),
            Err(unmet) => missing.push(unmet),
        }
    }
    (ends, missing)
}

/// What `registered` asks.
fn first(case: &Case<'_>, now: Timestamp) -> Vec<Met> {
    let accepted = if case.accepted {
        Ok(None)
    } else {
        let why = "the clearing house has not decided on the project's proposal".to_owned();
        Err(unmet("accepted", why, "house", "comity clearing project accept|decline, by the operator"))
    };
    let known = case.person.and_then(|person| {
        let by_issuer = newest(person, now)
            .filter(|row| row.how == How::Login && row.claim == claim::SUBJECT)
            .map(|row| ends(row, evidence::LOGIN_AGE_S));
        latest(by_issuer.filter(|end| end.is_none_or(|end| now < end)))
            .or_else(|| own_check(person, Vetting::Registered, now))
    });
    let login = known.ok_or_else(|| {
        let why = match case.person {
            None => "nobody has said whose key this is",
            Some(_) => "no issuer that the clearing house knows has seen this person in the last year",
        };
        unmet("login", why.to_owned(), "person", "comity login")
    });
    vec![accepted, login, conduct(case, now)]
}

fn conduct(case: &Case<'_>, now: Timestamp) -> Met {
    let Some(wanted) = case.conduct else { return Ok(None) };
    let signed = case.person.and_then(|person| {
        let rows = person.evidence.iter().filter(|row| row.how == How::Signed && row.in_force(now));
        latest(rows.filter(|row| row.claim == claim::CONDUCT && row.value == wanted).map(|row| row.expires_at))
    });
    signed.ok_or_else(|| {
        let version = wanted.split(' ').next().unwrap_or(wanted);
        unmet("conduct", format!("the code of conduct {version} is not signed"), "person", "comity conduct sign")
    })
}

/// What `vetted` asks beside that.
fn second(case: &Case<'_>, now: Timestamp) -> Vec<Met> {
    if let Some(end) = case.person.and_then(|person| own_check(person, Vetting::Vetted, now)) {
        return vec![Ok(end)];
    }
    if case.role.signs_mandates() {
        return vec![proofing_of_pi(case.person, now), affiliation(case.person, now), mfa(case.person, now)];
    }
    vec![proofing_of_member(case.person, now), sponsor(case, now), pi(case, now)]
}

/// A PI of the project, who need not have been here today: the PI may be away.
fn pi(case: &Case<'_>, now: Timestamp) -> Met {
    let stands = |person: &Person| {
        if let Some(end) = own_check(person, Vetting::Vetted, now) {
            return Some(end);
        }
        let both = [proofing_of_pi(Some(person), now).ok()?, affiliation(Some(person), now).ok()?];
        Some(both.into_iter().flatten().min())
    };
    latest(case.pis.iter().filter_map(stands)).ok_or_else(|| {
        let why = "no PI of the project has shown proofing and an affiliation that count".to_owned();
        unmet("pi", why, "pi", "comity login, by the PI; comity project status shows what is missing")
    })
}

/// A PI of this project, as it is now, signed for the person.
fn sponsor(case: &Case<'_>, now: Timestamp) -> Met {
    let signed = case.person.and_then(|person| {
        // The newest word of each PI decides: it may take back what was signed before.
        let word = |pi: &Person| {
            let wanted = sponsored(case.project, pi.id);
            let of_pi =
                |row: &&Evidence| row.how == How::Signed && row.claim == claim::SPONSORED && row.value == wanted;
            let newest = person.evidence.iter().rev().find(of_pi)?;
            newest.in_force(now).then_some(newest.expires_at)
        };
        latest(case.pis.iter().filter_map(word))
    });
    signed.ok_or_else(|| {
        let why = "no PI of the project has signed for this person".to_owned();
        unmet("sponsor", why, "pi", "comity project sponsor KEY, by a PI of the project")
    })
}

/// The value of `sponsored`.
pub(crate) fn sponsored(project: ProjectId, pi: MemberId) -> String {
    format!("{project} {pi}")
}

fn proofing_of_pi(person: Option<&Person>, now: Timestamp) -> Met {
    proofing(person, &assurance::OF_PI, now).ok_or_else(|| {
        let why = "no issuer says that an identity document was checked (Cappuccino, IAP/medium, or IAP/local-enterprise of a Sirtfi provider)";
        let how = "comity login with the account of your institution; or have the clearing house check: a letter of an authorised signatory";
        unmet("proofing", why.to_owned(), "institution", how)
    })
}

fn proofing_of_member(person: Option<&Person>, now: Timestamp) -> Met {
    let enough = proofing(person, &[&assurance::OF_MEMBER[..], &assurance::OF_PI[..]].concat(), now);
    enough.ok_or_else(|| {
        let why = "no issuer says that the home organisation knows its people (Dogwood, IAP/low)".to_owned();
        unmet("proofing", why, "institution", "comity login with the account of your institution")
    })
}

fn proofing(person: Option<&Person>, wanted: &[&str], now: Timestamp) -> Option<End> {
    let person = person?;
    let logins = || newest(person, now).filter(|row| row.how == How::Login);
    let is_sirtfi = |row: &Evidence| {
        logins().any(|other| other.claim == claim::SIRTFI && other.issuer == row.issuer && other.value == "true")
    };
    let counts = |row: &&Evidence| {
        row.claim == claim::ASSURANCE
            && (wanted.contains(&row.value.as_str()) || row.value == assurance::LOCAL_ENTERPRISE && is_sirtfi(row))
    };
    let ends = logins().filter(counts).map(|row| ends(row, evidence::LOGIN_AGE_S));
    latest(ends.filter(|end| end.is_none_or(|end| now < end)))
}

fn affiliation(person: Option<&Person>, now: Timestamp) -> Met {
    let rows = || person.into_iter().flat_map(|person| newest(person, now));
    let fresh = |row: &Evidence| {
        let words = [assurance::AFFILIATION_1M, assurance::AFFILIATION_1D];
        let said = |other: &Evidence| {
            other.claim == claim::ASSURANCE && other.issuer == row.issuer && words.contains(&other.value.as_str())
        };
        // A visa says itself when it was asserted, and until when it stands.
        let vouched = row.how == How::Visa || rows().any(said);
        ends(row, if vouched { evidence::AFFILIATION_AGE_S } else { evidence::AFFILIATION_UNSAID_S })
    };
    let shown = latest(rows().filter(|row| row.affiliates()).map(fresh));
    let how = "comity login with the account of your institution";
    match shown {
        Some(Some(end)) if end <= now => {
            let why = format!("the affiliation is stale since {end}");
            Err(unmet("affiliation", why, "person", "comity login, again"))
        }
        Some(end) => Ok(end),
        None if rows().any(|row| row.value.starts_with("affiliate@")) => {
            let why = "`affiliate` alone says nothing of what somebody does there".to_owned();
            Err(unmet("affiliation", why, "institution", how))
        }
        None => Err(unmet("affiliation", "no institution says that this person belongs to it".into(), "person", how)),
    }
}

/// That a second factor was used is no state that a later login could take back: the newest use counts, whichever login it was in.
fn mfa(person: Option<&Person>, now: Timestamp) -> Met {
    let rows = person.into_iter().flat_map(|person| &person.evidence);
    let used = rows.filter(|row| row.how == How::Login && row.claim == claim::MFA && row.asserted_at <= now);
    match latest(used.map(|row| ends(row, evidence::MFA_AGE_S))) {
        Some(Some(end)) if now < end => Ok(Some(end)),
        last => {
            let why = match last.flatten() {
                Some(end) => format!("the last login with a second factor counted until {end}"),
                None => "no login was with a second factor".to_owned(),
            };
            Err(unmet("mfa", why, "person", "comity login --mfa"))
        }
    }
}

/// The house's own check, of this level or above: the newest in force decides, so that one can be taken back.
fn own_check(person: &Person, wanted: Vetting, now: Timestamp) -> Option<End> {
    let checks = |row: &&Evidence| row.how == How::House && row.claim == claim::OWN_CHECK && row.in_force(now);
    let newest = person.evidence.iter().rev().find(checks)?;
    let is_enough = match wanted {
        Vetting::Registered => ["registered", "vetted"].contains(&newest.value.as_str()),
        _ => newest.value == "vetted",
    };
    is_enough.then_some(newest.expires_at)
}

/// What each issuer said last: a login that no longer says something takes it back. What ended by itself is not in it.
fn newest(person: &Person, now: Timestamp) -> impl Iterator<Item = &Evidence> {
    let last = move |row: &Evidence| {
        let same = person.evidence.iter().filter(|other| other.issuer == row.issuer && other.how == row.how);
        same.map(|other| other.occasion).max() == Some(row.occasion)
    };
    person
        .evidence
        .iter()
        .filter(move |row| matches!(row.how, How::Login | How::Visa) && row.in_force(now) && last(row))
}

/// When a row that counts for so long has ended, or has said itself that it ends.
fn ends(row: &Evidence, age_s: u64) -> End {
    let aged = row.asserted_at.plus(age_s);
    Some(row.expires_at.map_or(aged, |end| end.min(aged)))
}

/// The one that holds longest; one without an end outlasts all.
fn latest(ends: impl Iterator<Item = End>) -> Option<End> {
    ends.max_by_key(|end| end.map_or(u64::MAX, |end| end.0))
}

fn unmet(requirement: &str, why: String, whose_move: &str, how: &str) -> Unmet {
    Unmet { requirement: requirement.into(), why, whose_move: whose_move.into(), how: how.into() }
}

//! What the people who keep the books do to credit: each act has a body, an id that is the body's digest, and, once two
//! officers are registered, two persons behind it. Pure.
//!
//! The same act brought again by its proposer changes nothing; brought by somebody else it is approved and done. An act
//! that was done is never done again. While fewer than two officers are registered, whoever may open the operator's socket
//! acts alone, and the record says that nobody signed.

mod house;
mod owners;

use comity_wire::cbor::Bytes;
use comity_wire::{Amount, AwardId, Digest, LotId, Op, OrgId, ProjectId, PublicKey, SecretKey, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::admin::{Bind, Members, PersonKey, PersonVouch, ProjectVet};
use crate::failure::Failure;
use crate::lots::FundKind;
pub use house::{IssuerApprove, WriteOff};
pub use owners::{Exchange, OwnerCosts, OwnerSchedule, OwnerTerms, PayRun, ProjectOf, Remit};

/// The most acts that wait for a second person.
pub const WAITING_MAX: u64 = 1_000;
/// From this many persons on, one alone is not enough.
pub const PERSONS_MIN: usize = 2;
/// What an officer signs is this, then the digest of the act.
const DOMAIN: &[u8] = b"comity/clearing/act/v1";

/// An act on credits, or on who may do such acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    Award(AwardAsk),
    Supplement(Supplement),
    Release(Release),
    Extend(Extend),
    Move(Move),
    Withdraw(Withdraw),
    OfficerAdd(OfficerAdd),
    OfficerRemove(OfficerRemove),
    DisputeEnd(DisputeEnd),
    OwnerTerms(OwnerTerms),
    OwnerSchedule(OwnerSchedule),
    OwnerCosts(OwnerCosts),
    Remit(Remit),
    PayRun(PayRun),
    Exchange(Exchange),
    ProjectOf(ProjectOf),
    PeriodClose(PeriodClose),
    PeriodReopen(PeriodReopen),
    DisputeOpen(DisputeOpen),
    Members(Members),
    Vet(ProjectVet),
    Vouch(PersonVouch),
    PersonKey(PersonKey),
    CentralBind(Bind),
    WriteOff(WriteOff),
    IssuerKey(IssuerApprove),
    ProjectResume(ProjectResume),
    AwardResume(AwardResume),
}

/// Credits for a project. Funder and award number name the award within the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwardAsk {
    pub project: ProjectId,
    /// All parts together.
    pub amount: Amount,
    pub funder: String,
    pub award_number: String,
    pub ends_at: Timestamp,
    /// Left out: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// Assistance listing of a federal award, such as `47.070`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listing: String,
    #[serde(default)]
    pub kind: FundKind,
    /// Usable at these owners only; empty: at all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<OrgId>,
    /// Usable for these ops only; empty: for all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<Op>,
    /// What is left at the end of a part expires.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub use_or_lose: bool,
    /// Empty: one part, all of it at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartAsk>,
}

/// A dated part of an award: it becomes a lot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartAsk {
    pub amount: Amount,
    /// Left out: when the award starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
    /// Left out: when the award ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Spendable only once a report was taken in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_report: bool,
}

/// More credits under an award that stands. The number names it among the award's supplements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supplement {
    pub award: AwardId,
    pub number: String,
    pub part: PartAsk,
}

/// A part that waited for a report becomes spendable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub lot: LotId,
    /// Which report was taken in.
    pub report: String,
}

/// An award and its parts that end with it end later, at no cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    pub award: AwardId,
    pub ends_at: Timestamp,
    pub reason: String,
}

/// Credits of a lot go to another project, under the same award and its terms. Lot and reason name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    pub lot: LotId,
    pub to: ProjectId,
    pub amount: Amount,
    pub reason: String,
}

/// Credits of a lot go back to where they came from. Lot and reason name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    pub lot: LotId,
    pub amount: Amount,
    pub reason: String,
}

/// A person who keeps the books, and one of their keys. Two keys with one name are one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Officer {
    pub key: PublicKey,
    pub name: String,
}

/// The reason tells one time from the next: who left may come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerAdd {
    pub officer: Officer,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerRemove {
    pub key: PublicKey,
    pub reason: String,
}

/// A project that was frozen draws tokens again. To freeze it needs one person alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectResume {
    pub project: ProjectId,
    pub reason: String,
}

/// The lots of an award that was frozen are drawn upon again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwardResume {
    pub award: AwardId,
    pub reason: String,
}

/// What an owner was paid under a token is in question: it is set aside until two persons have decided. Token and reason name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisputeOpen {
    pub token: TokenId,
    pub reason: String,
}

/// What was decided of a dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The owner keeps what it earned.
    Upheld,
    /// The payer gets back what was held, and the token is over.
    Reversed,
}

/// A dispute is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisputeEnd {
    pub dispute: Digest,
    pub outcome: Outcome,
    pub reason: String,
}

/// Books are closed up to a moment: what was posted before it stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodClose {
    pub name: String,
    /// The first moment that does not belong to it.
    pub until: Timestamp,
}

/// The newest closed period is open again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodReopen {
    pub until: Timestamp,
    pub reason: String,
}

/// An officer's word for an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    pub officer: PublicKey,
    /// Ed25519 over the domain and the act's id; base64url in JSON.
    pub signature: Bytes<64>,
}

/// An act as it stands in the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActRecord {
    pub id: Digest,
    /// The act in JSON: its digest is the id.
    pub body: String,
    /// None: the operator alone.
    pub proposed_by: Option<Signature>,
    pub proposed_at: Timestamp,
    pub approved_by: Option<Signature>,
    /// None: it waits for a second person.
    pub done_at: Option<Timestamp>,
}

/// What is to be done with an act that somebody brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write it down; it waits for a second person.
    Propose,
    /// Do it now.
    Do,
    /// It was done before, or waits for somebody else than who brings it again.
    Known,
}

impl Act {
    /// The body that is stored and signed.
    pub fn body(&self) -> String {
        serde_json::to_string(self).expect("an act has a JSON form")
    }

    pub fn id(&self) -> Digest {
        Digest::of(self.body().as_bytes())
    }

    /// Its one word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Award(_) => "award",
            Self::Supplement(_) => "supplement",
            Self::Release(_) => "release",
            Self::Extend(_) => "extend",
            Self::Move(_) => "move",
            Self::Withdraw(_) => "withdraw",
            Self::OfficerAdd(_) => "officer_add",
            Self::OfficerRemove(_) => "officer_remove",
            Self::DisputeEnd(_) => "dispute_end",
            Self::OwnerTerms(_) => "owner_terms",
            Self::OwnerSchedule(_) => "owner_schedule",
            Self::OwnerCosts(_) => "owner_costs",
            Self::Remit(_) => "remit",
            Self::PayRun(_) => "pay_run",
            Self::Exchange(_) => "exchange",
            Self::ProjectOf(_) => "project_of",
            Self::PeriodClose(_) => "period_close",
            Self::PeriodReopen(_) => "period_reopen",
            Self::DisputeOpen(_) => "dispute_open",
            Self::Members(_) => "members",
            Self::Vet(_) => "vet",
            Self::Vouch(_) => "vouch",
            Self::PersonKey(_) => "person_key",
            Self::CentralBind(_) => "central_bind",
            Self::WriteOff(_) => "write_off",
            Self::IssuerKey(_) => "issuer_key",
            Self::ProjectResume(_) => "project_resume",
            Self::AwardResume(_) => "award_resume",
        }
    }

    /// Signs for it.
    pub fn sign(&self, key: &SecretKey) -> Signature {
        let signature = key.sign(&signed(&self.id()));
        Signature { officer: key.public(), signature: Bytes::new(signature.to_vec()).expect("64 bytes") }
    }
}

fn signed(id: &Digest) -> Vec<u8> {
    [DOMAIN, id.as_bytes()].concat()
}

impl Signature {
    /// Whether it stands under the act of this id.
    pub fn stands(&self, id: &Digest) -> bool {
        let bytes = <[u8; 64]>::try_from(&self.signature[..]);
        bytes.is_ok_and(|bytes| self.officer.verify(&signed(id), &bytes).is_ok())
    }
}

fn persons(officers: &[Officer]) -> usize {
    officers.iter().map(|officer| &officer.name).collect::<std::collections::BTreeSet<_>>().len()
}

/// What gives somebody rights is no one person's to do where two keep the books.
///
/// # Errors
/// [`Failure::DutyConflict`].
pub(crate) fn alone(officers: &[Officer]) -> Result<(), Failure> {
    if persons(officers) < PERSONS_MIN {
        return Ok(());
    }
    Err(Failure::DutyConflict {
        what: "two officers keep these books: bring it as an act, with --officer FILE and --reason".into(),
    })
}

/// What to do with an act that is brought with this word for it.
///
/// # Errors
/// [`Failure::DutyConflict`] where nobody, or nobody who may, stands for it.
pub fn judge(
    act: &Act,
    known: Option<&ActRecord>,
    by: Option<&Signature>,
    officers: &[Officer],
) -> Result<Verdict, Failure> {
    if known.is_some_and(|known| known.done_at.is_some()) {
        return Ok(Verdict::Known);
    }
    if persons(officers) < PERSONS_MIN {
        // Nobody could ever approve it. Once there are two, only two can change who they are.
        return Ok(Verdict::Do);
    }
    let conflict = |what: &str| Failure::DutyConflict { what: what.to_owned() };
    let by = by.ok_or_else(|| conflict("an officer must sign for it: name a key with --officer"))?;
    let person = |key: &PublicKey| officers.iter().find(|officer| officer.key == *key).map(|officer| &officer.name);
    let who = person(&by.officer).ok_or_else(|| conflict("the key that signed for it is no officer's"))?;
    if !by.stands(&act.id()) {
        return Err(conflict("the signature for it does not stand"));
    }
    if persons(&after(act, officers)) < PERSONS_MIN {
        return Err(conflict("two persons must remain: add another one first"));
    }
    match known.map(|known| known.proposed_by.as_ref()) {
        None => Ok(Verdict::Propose),
        Some(proposer) => match proposer.and_then(|first| person(&first.officer)) {
            // Both must be officers when it is done.
            None => Err(conflict("who proposed it is no officer any more: drop it, and propose it again")),
            Some(first) if first == who => Err(conflict("a second person must approve it")),
            Some(_) => Ok(Verdict::Do),
        },
    }
}

/// Who keeps the books once the act is done. A key that is added under another name is another person's.
fn after(act: &Act, officers: &[Officer]) -> Vec<Officer> {
    let without =
        |key: &PublicKey| -> Vec<Officer> { officers.iter().filter(|officer| officer.key != *key).cloned().collect() };
    match act {
        Act::OfficerAdd(OfficerAdd { officer, .. }) => {
            let mut after = without(&officer.key);
            after.push(officer.clone());
            after
        }
        Act::OfficerRemove(OfficerRemove { key, .. }) => without(key),
        _ => officers.to_vec(),
    }
}

#[cfg(test)]
mod tests;

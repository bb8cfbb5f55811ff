//! What is announced to sites: acts on awards, and whatever else is due there.

use comity_ledger::Db;
use comity_wire::{AwardId, Digest, ProjectId, Pseudonym, PublicKey, Timestamp};
use serde_json::{Value, json};

use super::super::Clearing;
use super::super::projects::exists;
use super::{Announce, OPEN_MAX, Person, site_of};
use crate::acts::Act;
use crate::amie::{Body, Flow, Known, Standing, State, account_due, charge, project_due, told};
use crate::failure::Failure;
use crate::mandates::Role;
use crate::pseudonym;
use crate::store;
use crate::store::amie::{AccountAt, NewPacket, ProjectAt, Site, Transaction};
use crate::store::awards::Award;

/// What a site is told of a grant.
struct Grant<'a> {
    award: &'a Award,
    project: ProjectId,
    allocation_type: &'static str,
    /// µcr; below zero where credits are taken back.
    units: i64,
    record: String,
}

impl Clearing {
    /// Announces an award to a site, as a whole, or a failed announcement again. Announced before, it is the same
    /// transaction.
    ///
    /// # Errors
    /// [`Failure`] where there is no such site or award, or the site is far behind.
    pub async fn amie_announce(&self, ask: Announce) -> Result<u64, Failure> {
        let (now, secret) = (self.now(), self.inner.keys.pseudonyms.clone());
        self.write(move |conn| {
            Box::pin(async move {
                let site = site_of(conn, &ask.site).await?;
                let award = store::awards::award_find(conn, ask.award).await?;
                let award = award.ok_or_else(|| Failure::NotFound { what: format!("award {}", ask.award) })?;
                if !award.owners.is_empty() && !award.owners.contains(&site.owner) {
                    return Err(Failure::invalid(format!(
                        "award {} is not usable at site {}: it names other owners",
                        award.award_number, site.name
                    )));
                }
                let mut grant = whole(&award, award.project);
                if let Some(known) = store::amie::transaction_of_record(conn, &site.name, &grant.record).await? {
                    let known = store::amie::transaction_find(conn, &site.name, known).await?;
                    match known {
                        Some(known) if known.state != State::Failed => return Ok(known.id),
                        // A record that failed is over; the next one is told from it.
                        _ => grant.record = format!("{}/{}", grant.record, now.seconds()),
                    }
                }
                let begun = grant_in_tx(conn, &secret, &site, &grant, now).await?;
                begun.ok_or_else(|| Failure::Limit {
                    what: "transactions in progress at one site",
                    max: OPEN_MAX.to_string(),
                })
            })
        })
        .await
    }

    /// Asks again for what failed at a site about a project, and for whatever else is due there.
    ///
    /// # Errors
    /// [`Failure`] where the site does not know the project.
    pub async fn amie_retry(&self, site: String, project: ProjectId) -> Result<u64, Failure> {
        let (now, secret) = (self.now(), self.inner.keys.pseudonyms.clone());
        self.write(move |conn| {
            Box::pin(async move {
                let at = store::amie::project_at_find(conn, &site, project).await?;
                let mut at = at.ok_or_else(|| Failure::NotFound {
                    what: format!("project {project} at site {site}: announce an award of it first"),
                })?;
                at.known.refused = None;
                store::amie::project_at_put_in_tx(conn, &at).await?;
                for mut account in store::amie::accounts_at(conn, &site, project).await? {
                    account.known.refused = None;
                    store::amie::account_at_put_in_tx(conn, (&site, project), &account).await?;
                }
                due_in_tx(conn, &secret, project, now).await
            })
        })
        .await
    }
}

/// An act on an award is told to the sites of the owners that the award names, and to those that know it.
pub(in crate::service) async fn act_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    (act, id): (&Act, Digest),
    award: Option<AwardId>,
    now: Timestamp,
) -> Result<(), Failure> {
    let Some(award) = award else { return Ok(()) };
    let Some(award) = store::awards::award_find(conn, award).await? else { return Ok(()) };
    for site in store::amie::sites(conn).await?.into_iter().filter(|site| site.revoked_at.is_none()) {
        let told = store::amie::transaction_of_record(conn, &site.name, &award.id.to_string()).await?.is_some();
        if !told && !award.owners.contains(&site.owner) {
            continue;
        }
        let change = |allocation_type, units, project, what: &str| Grant {
            award: &award,
            project,
            allocation_type,
            units,
            record: format!("{id}{what}"),
        };
        let grants = match act {
            _ if !told => vec![whole(&award, award.project)],
            Act::Supplement(ask) => vec![change("supplement", ask.part.amount.ucr(), award.project, "")],
            Act::Extend(_) => vec![change("extension", 0, award.project, "")],
            Act::Withdraw(ask) => vec![change("adjustment", -ask.amount.ucr(), award.project, "")],
            Act::Move(ask) => vec![
                change("transfer", -ask.amount.ucr(), award.project, "/from"),
                change("transfer", ask.amount.ucr(), ask.to, "/to"),
            ],
            Act::Award(_)
            | Act::Release(_)
            | Act::OfficerAdd(_)
            | Act::OfficerRemove(_)
            | Act::DisputeEnd(_)
            | Act::OwnerTerms(_)
            | Act::OwnerSchedule(_)
            | Act::OwnerCosts(_)
            | Act::Remit(_)
            | Act::PayRun(_)
            | Act::Exchange(_)
            | Act::ProjectOf(_)
            | Act::PeriodClose(_)
            | Act::PeriodReopen(_)
            | Act::DisputeOpen(_)
            | Act::Members(_)
            | Act::Vet(_)
            | Act::Vouch(_)
            | Act::PersonKey(_)
            | Act::CentralBind(_)
            | Act::WriteOff(_)
            | Act::IssuerKey(_)
            | Act::ProjectResume(_)
            | Act::AwardResume(_) => Vec::new(),
        };
        for grant in grants {
            grant_in_tx(conn, secret, &site, &grant, now).await?;
        }
    }
    Ok(())
}

/// An award by itself, named by its own id: however often it is announced, it is one record.
fn whole(award: &Award, project: ProjectId) -> Grant<'_> {
    Grant { award, project, allocation_type: "new", units: award.amount.ucr(), record: award.id.to_string() }
}

/// Begins a project create. None where the site is too far behind.
async fn grant_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    site: &Site,
    grant: &Grant<'_>,
    now: Timestamp,
) -> Result<Option<u64>, Failure> {
    let project = exists(conn, grant.project).await?;
    let members = store::projects::members_of(conn, project.id).await?;
    // PIs stand first.
    let pi = members.first().map(|(key, _)| *key);
    let at = store::amie::project_at_find(conn, &site.name, project.id).await?;
    let subject = pseudonym::derive(secret, project.id, site.owner);
    let person = match &pi {
        Some(pi) => store::amie::person_find::<Person>(conn, project.id, pi).await?,
        None => None,
    };
    let mut body = persons_body("Pi", person.as_ref(), subject);
    let global = pi.map(|pi| pseudonym::member(secret, project.id, site.owner, &pi));
    let own = json!({
        "AllocationType": grant.allocation_type,
        "RequestType": grant.allocation_type,
        "GrantNumber": grant.award.award_number,
        "PfosNumber": person.as_ref().map_or("0", |person| &person.pfos),
        "ProjectTitle": person.as_ref().map_or_else(|| subject.to_string(), |_| project.title.clone()),
        "PiGlobalID": global.map_or_else(|| subject.to_string(), |global| global.to_string()),
        "StartDate": day(grant.award.starts_at),
        "EndDate": day(grant.award.ends_at),
        "ResourceList": [site.resource],
        "AllocatedResource": site.resource,
        "RecordID": grant.record,
        "ServiceUnitsAllocated": charge(grant.units),
    });
    extend(&mut body, own);
    if let Some(known) = at.as_ref().and_then(|at| at.site_project.clone()) {
        body.insert("ProjectID".into(), known.into());
        let accounts = store::amie::accounts_at(conn, &site.name, project.id).await?;
        if let Some(account) = accounts.iter().find(|account| account.pi && !account.person.is_empty()) {
            body.insert("PiPersonID".into(), account.person.clone().into());
        }
    }
    let new = Transaction {
        flow: Flow::ProjectCreate,
        award: Some(grant.award.id),
        record: Some(grant.record.clone()),
        ..begins(site, project.id, now)
    };
    let begun = begin_in_tx(conn, new, &body, now).await?;
    if begun.is_some() {
        let fresh = ProjectAt {
            site: site.name.clone(),
            project: project.id,
            site_project: None,
            grant_number: String::new(),
            known: Known { standing: Standing::Asked, refused: None, waits: false },
        };
        let at = ProjectAt { grant_number: grant.award.award_number.clone(), ..at.unwrap_or(fresh) };
        store::amie::project_at_put_in_tx(conn, &at).await?;
    }
    Ok(begun)
}

/// Begins whatever is due about a project at each site that knows it: standing first, then accounts. How much that was.
pub(in crate::service) async fn due_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    project: ProjectId,
    now: Timestamp,
) -> Result<u64, Failure> {
    let mut begun = 0;
    let places = store::amie::projects_at(conn, project).await?;
    if places.is_empty() {
        return Ok(0);
    }
    let frozen = exists(conn, project).await?.frozen;
    let members = store::projects::members_of(conn, project).await?;
    for at in places {
        let site = site_of(conn, &at.site).await?;
        if let Some(flow) = project_due(at.known, frozen) {
            begun += u64::from(project_in_tx(conn, &site, &at, flow, now).await?);
        } else if at.known.standing == Standing::Active && !at.known.waits {
            begun += accounts_in_tx(conn, secret, (&site, &at), &members, now).await?;
        }
    }
    Ok(begun)
}

async fn project_in_tx(
    conn: &mut Db<'_>,
    site: &Site,
    at: &ProjectAt,
    flow: Flow,
    now: Timestamp,
) -> Result<bool, Failure> {
    let mut body = Body::new();
    let own = json!({
        "ProjectID": at.site_project,
        "GrantNumber": at.grant_number,
        "ResourceList": [site.resource],
        "AllocatedResource": site.resource,
        "Comment": if flow == Flow::ProjectInactivate { "the clearing house froze this project" } else { "the clearing house lets this project go on" },
    });
    extend(&mut body, own);
    let accounts = store::amie::accounts_at(conn, &site.name, at.project).await?;
    if let Some(pi) = accounts.iter().find(|account| account.pi) {
        body.insert("PersonID".into(), pi.person.clone().into());
    }
    let new = Transaction { flow, ..begins(site, at.project, now) };
    Ok(begin_in_tx(conn, new, &body, now).await?.is_some())
}

async fn accounts_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    (site, at): (&Site, &ProjectAt),
    members: &[(PublicKey, Role)],
    now: Timestamp,
) -> Result<u64, Failure> {
    let mut begun = 0;
    let accounts = store::amie::accounts_at(conn, &site.name, at.project).await?;
    let gone =
        accounts.iter().map(|account| account.member).filter(|key| !members.iter().any(|(member, _)| member == key));
    let all: Vec<(PublicKey, bool)> =
        members.iter().map(|(key, _)| (*key, true)).chain(gone.map(|key| (key, false))).collect();
    for (member, is_member) in all {
        let account = accounts.iter().find(|account| account.member == member);
        let person = store::amie::person_find::<Person>(conn, at.project, &member).await?;
        let subject = pseudonym::member(secret, at.project, site.owner, &member);
        // The PI is known by the project's pseudonym where nobody said who it is.
        let known_as = match account {
            Some(account) if account.pi => pseudonym::derive(secret, at.project, site.owner),
            _ => subject,
        };
        let says = told("", &persons_body("", person.as_ref(), known_as));
        let changed = account.and_then(|account| account.told).is_some_and(|told| told != says);
        let Some(flow) = account_due(account.map(|account| account.known), is_member, changed) else { continue };
        let subject = if flow == Flow::UserModify { known_as } else { subject };
        let body = account_body(flow, (site, at), account, (person.as_ref(), subject));
        let new = Transaction { flow, member: Some(member), ..begins(site, at.project, now) };
        if begin_in_tx(conn, new, &body, now).await?.is_none() {
            break;
        }
        begun += 1;
        if account.is_none() {
            let known = Known { standing: Standing::Asked, refused: None, waits: true };
            let asked = AccountAt { member, person: String::new(), login: String::new(), pi: false, known, told: None };
            store::amie::account_at_put_in_tx(conn, (&site.name, at.project), &asked).await?;
        }
    }
    Ok(begun)
}

fn account_body(
    flow: Flow,
    (site, at): (&Site, &ProjectAt),
    account: Option<&AccountAt>,
    (person, subject): (Option<&Person>, Pseudonym),
) -> Body {
    let mut body = Body::new();
    let known_as = account.map_or("", |account| account.person.as_str());
    if flow == Flow::UserModify {
        extend(&mut body, Value::Object(persons_body("", person, subject)));
        extend(&mut body, json!({ "ActionType": "replace", "PersonID": known_as }));
        return body;
    }
    let own = json!({
        "ProjectID": at.site_project,
        "GrantNumber": at.grant_number,
        "ResourceList": [site.resource],
        "AllocatedResource": site.resource,
    });
    extend(&mut body, own);
    if flow == Flow::AccountCreate {
        extend(&mut body, Value::Object(persons_body("User", person, subject)));
        extend(&mut body, json!({ "UserGlobalID": subject.to_string(), "RoleList": ["user"] }));
    } else {
        let comment = match flow {
            Flow::AccountInactivate => "the clearing house took this member's key away",
            _ => "the clearing house let this member's key in again",
        };
        extend(&mut body, json!({ "PersonID": known_as, "Comment": comment }));
    }
    body
}

/// A person by the names that AMIE gives; a pseudonym where the operator said nothing of them.
fn persons_body(prefix: &str, person: Option<&Person>, subject: Pseudonym) -> Body {
    let undisclosed = subject.to_string();
    let (first, last, organization, code) = match person {
        Some(person) => (&person.first_name[..], &person.last_name[..], &person.organization[..], &person.org_code[..]),
        None => ("Comity", &undisclosed[..], "undisclosed", "0"),
    };
    let mut body = Body::new();
    for (name, value) in [("FirstName", first), ("LastName", last), ("Organization", organization), ("OrgCode", code)] {
        body.insert(format!("{prefix}{name}"), value.into());
    }
    if let Some(person) = person.filter(|person| !person.email.is_empty()) {
        body.insert(format!("{prefix}Email"), person.email.clone().into());
    }
    body
}

pub(super) fn extend(body: &mut Body, more: Value) {
    if let Value::Object(more) = more {
        body.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
}

pub(super) fn begins(site: &Site, project: ProjectId, now: Timestamp) -> Transaction {
    Transaction {
        id: 0,
        site: site.name.clone(),
        number: 0,
        flow: Flow::ProjectCreate,
        project,
        member: None,
        award: None,
        record: None,
        state: State::InProgress,
        message: String::new(),
        began_at: now,
        changed_at: now,
    }
}

/// A transaction and its request. None where the site is so far behind that nothing more is asked of it: it becomes due
/// again with the next change, or by `comity clearing amie retry`.
pub(super) async fn begin_in_tx(
    conn: &mut Db<'_>,
    new: Transaction,
    body: &Body,
    now: Timestamp,
) -> Result<Option<u64>, Failure> {
    if store::amie::transactions_open(conn, &new.site).await? >= OPEN_MAX {
        tracing::error!(site = new.site, flow = new.flow.word(), "an AMIE site is too far behind: it was not asked");
        return Ok(None);
    }
    let kind = new.flow.request();
    let transaction = store::amie::transaction_insert_in_tx(conn, &new).await?;
    let packet = NewPacket { transaction, from_site: false, kind, body, content: None, reply_to: None };
    store::amie::packet_insert_in_tx(conn, &packet, now).await?;
    Ok(Some(transaction))
}

fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

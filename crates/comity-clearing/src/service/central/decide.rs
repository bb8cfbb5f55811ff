//! What becomes of a packet: done and answered, left to the officers, or refused with a sentence.

use comity_ledger::Db;
use comity_wire::{Digest, ProjectId, Timestamp};

use super::super::Clearing;
use super::{grants, persons};
use crate::amie::central::{
    Asked, Central, Incoming, StandingAsk, account_notice, asked, heard, refusal, standing_notice,
};
use crate::amie::{Body, Kind, Standing};
use crate::failure::Failure;
use crate::mandates::Role;
use crate::store;
use crate::store::central::{AccountRow, GrantRow, Move, PacketRow};

/// Packets of one central site that wait for the officers. What lies behind them stays at the central site.
const WAITING_MAX: u64 = 1_000;

/// What becomes of a packet.
pub(super) enum Decided {
    /// It is done, or was before; the answer says so.
    Done { answer: (Kind, Body), said: String },
    /// It asks for an act.
    Officers { act: Digest, body: String, record: String },
    /// It cannot be done; nothing was.
    Refused { why: String, record: Option<String> },
}

pub(super) fn refused(why: impl Into<String>) -> Decided {
    Decided::Refused { why: why.into(), record: None }
}

fn done(answer: (Kind, Body)) -> Decided {
    Decided::Done { answer, said: String::new() }
}

/// Takes packets in, oldest first; how many were new.
pub(super) async fn take(house: &Clearing, central: &Central, packets: Vec<Incoming>) -> Result<u64, Failure> {
    let mut taken = 0;
    for packet in packets {
        let (now, secret, central) = (house.now(), house.inner.keys.pseudonyms.clone(), central.clone());
        taken += u64::from(
            house
                .write(move |conn| Box::pin(async move { take_in_tx(conn, &secret, &central, packet, now).await }))
                .await?,
        );
    }
    Ok(taken)
}

/// Whether the packet was new. What was taken in once is decided once.
async fn take_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    central: &Central,
    packet: Incoming,
    now: Timestamp,
) -> Result<bool, Failure> {
    if store::central::packet_find(conn, &central.name, packet.id).await?.is_some() {
        return Ok(false);
    }
    let decided = match asked(central, &packet) {
        Ok(Asked::Grant(grant)) => {
            if store::central::packets_waiting(conn, &central.name).await? >= WAITING_MAX {
                let max = WAITING_MAX.to_string();
                return Err(Failure::Limit { what: "grants of a central site that wait for the officers", max });
            }
            grants::grant_in_tx(conn, central, &grant).await?
        }
        Ok(asked) => asked_in_tx(conn, (secret, central), &packet, asked, now).await?,
        Err(why) => refused(why),
    };
    let row = PacketRow {
        central: central.name.clone(),
        id: packet.id,
        transaction: packet.transaction,
        kind: packet.kind,
        body: packet.body,
        record: None,
        act: None,
        act_body: String::new(),
        state: Move::House,
        answer_kind: String::new(),
        answer: Body::new(),
        done: false,
        said: String::new(),
        error: String::new(),
        taken_at: now,
    };
    let row = match decided {
        Decided::Done { answer, said } => {
            // What a central site says of the end is heard either way.
            let done = said.is_empty();
            answered(PacketRow { said, ..row }, answer, done)
        }
        Decided::Officers { act, body, record } => {
            PacketRow { act: Some(act), act_body: body, record: Some(record), state: Move::Officers, ..row }
        }
        Decided::Refused { why, record } => {
            tracing::warn!(
                central = row.central,
                packet = row.id,
                kind = row.kind,
                why,
                "a packet of a central site cannot be done"
            );
            let answer = refusal(&why);
            answered(PacketRow { said: why, record, ..row }, answer, false)
        }
    };
    store::central::packet_put_in_tx(conn, &row, now).await?;
    Ok(true)
}

/// The packet with an answer that is to be sent.
pub(super) fn answered(row: PacketRow, (kind, answer): (Kind, Body), done: bool) -> PacketRow {
    PacketRow { state: Move::House, answer_kind: kind.word().to_owned(), answer, done, ..row }
}

async fn asked_in_tx(
    conn: &mut Db<'_>,
    (secret, central): (&[u8; 32], &Central),
    packet: &Incoming,
    asked: Asked,
    now: Timestamp,
) -> Result<Decided, Failure> {
    let at = (secret, &central.name[..], now);
    match asked {
        Asked::Grant(_) => Err(Failure::Books { what: "a grant is the officers' to decide".into() }),
        Asked::Account(ask) => {
            let row = match &ask.project {
                Some(project) => grant_of(conn, &central.name, project).await?,
                None => store::central::grant_find(conn, &central.name, &ask.grant_number).await?,
            };
            let Some(row) = row.filter(|row| row.standing == Standing::Active) else {
                return Ok(refused(format!("grant {} has no active project here", ask.grant_number)));
            };
            let person = match persons::person_in_tx(conn, &central.name, &ask.person).await? {
                Ok(person) => person,
                Err(why) => return Ok(refused(why)),
            };
            let accounts = store::central::accounts_of_project(conn, &central.name, row.project).await?;
            let known = accounts.into_iter().find(|account| account.person == person.number);
            let fresh = AccountRow {
                project: row.project,
                person: person.number,
                login: persons::login(person.number),
                role: if ask.leads { Role::CoPi } else { Role::Manager },
                active: true,
            };
            // Asked for again it is active again, as what it was.
            let account = AccountRow { active: true, ..known.unwrap_or(fresh) };
            persons::account_in_tx(conn, at, &person, &account).await?;
            Ok(done(account_notice(&packet.body, row.project, (person.number, &account.login), now)))
        }
        Asked::Project(ask, active) => {
            let Some(row) = grant_of(conn, &central.name, &ask.project).await? else { return Ok(no_project(&ask)) };
            match project_in_tx(conn, at, row, active).await? {
                Ok(()) => Ok(done(notice(packet))),
                Err(why) => Ok(refused(why)),
            }
        }
        Asked::AccountStanding(ask, active) => account_standing_in_tx(conn, at, packet, &ask, active).await,
        Asked::Modify(number, said) => {
            let Some(mut person) = persons::person_now(conn, &central.name, number).await? else {
                return Ok(refused(format!("PersonID {number} is nobody's here")));
            };
            if let Some(said) = said {
                person.said = person.said.changed(&said);
                store::central::person_put_in_tx(conn, &central.name, &person).await?;
            }
            Ok(done(heard()))
        }
        Asked::Merge { keep, gone } => match persons::merge_in_tx(conn, at, keep, gone).await? {
            Ok(()) => Ok(done(heard())),
            Err(why) => Ok(refused(why)),
        },
        Asked::Noted => Ok(done(heard())),
        Asked::Over(true, _) => Ok(done(heard())),
        Asked::Over(false, said) => {
            tracing::warn!(
                central = central.name,
                transaction = packet.transaction,
                "a central site failed a transaction"
            );
            Ok(Decided::Done { answer: heard(), said })
        }
    }
}

fn notice(packet: &Incoming) -> (Kind, Body) {
    packet.known().map_or_else(heard, |kind| standing_notice(kind, &packet.body))
}

fn no_project(ask: &StandingAsk) -> Decided {
    refused(format!("ProjectID {} is none that this house gave", ask.project))
}

/// The grant whose project a central site names, once it was given.
async fn grant_of(conn: &mut Db<'_>, central: &str, project: &str) -> Result<Option<GrantRow>, Failure> {
    let Ok(project) = project.parse::<ProjectId>() else { return Ok(None) };
    let row = store::central::grant_of_project(conn, project).await?;
    Ok(row.filter(|row| row.central == central && row.standing != Standing::Asked))
}

/// A project becomes active or inactive: it and its accounts.
async fn project_in_tx(
    conn: &mut Db<'_>,
    at: persons::At<'_>,
    mut row: GrantRow,
    active: bool,
) -> Result<Result<(), String>, Failure> {
    let (_, central, _) = at;
    let frozen = store::projects::project_find(conn, row.project).await?.is_some_and(|project| project.frozen);
    match (row.standing, active) {
        (Standing::Active, false) => {
            (row.standing, row.held) = (Standing::Inactive, frozen);
            store::projects::project_freeze_in_tx(conn, row.project, true).await?;
        }
        (Standing::Inactive, true) if row.held => {
            // The operator's own freeze is the operator's to end.
            return Ok(Err(format!(
                "{} was frozen by this house's operator before it was made inactive: the operator lets it go on",
                row.project
            )));
        }
        (Standing::Inactive, true) => {
            row.standing = Standing::Active;
            store::projects::project_freeze_in_tx(conn, row.project, false).await?;
        }
        _ => return Ok(Ok(())),
    }
    store::central::grant_put_in_tx(conn, &row).await?;
    for account in store::central::accounts_of_project(conn, central, row.project).await? {
        // The PI's account comes back with the project, and no other.
        if active && account.role != Role::Pi {
            continue;
        }
        let Some(person) = store::central::person_find(conn, central, account.person).await? else { continue };
        persons::account_in_tx(conn, at, &person, &AccountRow { active, ..account }).await?;
    }
    Ok(Ok(()))
}

async fn account_standing_in_tx(
    conn: &mut Db<'_>,
    at: persons::At<'_>,
    packet: &Incoming,
    ask: &StandingAsk,
    active: bool,
) -> Result<Decided, Failure> {
    let (_, central, _) = at;
    let Some(row) = grant_of(conn, central, &ask.project).await? else { return Ok(no_project(ask)) };
    let number = ask.person.unwrap_or_default();
    let Some(person) = persons::person_now(conn, central, number).await? else {
        return Ok(refused(format!("PersonID {number} is nobody's here")));
    };
    let accounts = store::central::accounts_of_project(conn, central, row.project).await?;
    let Some(account) = accounts.into_iter().find(|account| account.person == person.number) else {
        return Ok(refused(format!("person {number} has no account in {}", row.project)));
    };
    if active && row.standing != Standing::Active {
        return Ok(refused(format!("{} is inactive: its accounts follow it", row.project)));
    }
    persons::account_in_tx(conn, at, &person, &AccountRow { active, ..account }).await?;
    Ok(done(notice(packet)))
}

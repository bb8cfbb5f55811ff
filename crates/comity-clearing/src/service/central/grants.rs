//! Grants: an act that waits for officers, and what is told to the central site in the transaction in which it is done.

use comity_ledger::Db;
use comity_wire::{AwardId, Digest, Timestamp};

use super::decide::{Decided, answered, refused};
use super::persons;
use crate::acts::Act;
use crate::amie::central::{Central, Grant, GrantStanding, draft, grant_notice, person_of, project_named};
use crate::amie::{Kind, Standing, label};
use crate::failure::Failure;
use crate::mandates::Role;
use crate::service::awards;
use crate::store;
use crate::store::central::{AccountRow, GrantRow, Move};
use crate::store::projects::Project;

/// What becomes of a request_project_create. A record that was done, or waits, is not done anew.
pub(super) async fn grant_in_tx(conn: &mut Db<'_>, central: &Central, grant: &Grant) -> Result<Decided, Failure> {
    let record = grant.record.clone();
    let refuse = |why: String| Decided::Refused { why, record: Some(record.clone()) };
    for known in store::central::packets_of_record(conn, &central.name, &grant.record).await? {
        if label(&known.body, "GrantNumber").as_deref() != Ok(&grant.number) {
            return Ok(refused(format!("RecordID {record} is another grant's")));
        }
        match (known.state, known.act) {
            (Move::Officers, Some(act)) => return Ok(Decided::Officers { act, body: known.act_body, record }),
            (_, _) if known.done => {
                let kind = Kind::from_word(&known.answer_kind);
                let kind = kind.ok_or(Failure::Unreadable { table: "central_packet", what: "answer_kind" })?;
                return Ok(Decided::Done { answer: (kind, known.answer), said: String::new() });
            }
            // It failed then, and is asked for anew.
            _ => {}
        }
    }
    if let Some(number) = grant.pi.number
        && persons::person_now(conn, &central.name, number).await?.is_none()
    {
        return Ok(refuse(format!("PiPersonID {number} is nobody's here")));
    }
    let project = project_named(&central.name, &grant.number);
    let fresh = GrantRow {
        central: central.name.clone(),
        number: grant.number.clone(),
        project,
        title: grant.title.clone(),
        purposes: central.purposes.clone(),
        award: None,
        asked: None,
        standing: Standing::Asked,
        held: false,
    };
    let row = store::central::grant_find(conn, &central.name, &grant.number).await?.unwrap_or(fresh);
    let lots = store::awards::lots_to_draw(conn, &[project]).await?.remove(&project).unwrap_or_default();
    let standing = GrantStanding {
        award: row.award.or(row.asked),
        lots: lots.into_iter().map(|lot| (lot.id, lot.balance)).collect(),
    };
    let act = match draft(central, grant, &standing) {
        Ok(act) => act,
        Err(why) => return Ok(refuse(why)),
    };
    let id = act.id();
    if store::acts::act_find(conn, id).await?.is_some_and(|known| known.done_at.is_some()) {
        return Ok(refuse(format!("act {id} was done here before")));
    }
    let asked = match &act {
        Act::Award(ask) => Some(awards::award_named(ask.project, &ask.funder, &ask.award_number)),
        _ => row.asked,
    };
    store::central::grant_put_in_tx(conn, &GrantRow { asked, ..row }).await?;
    Ok(Decided::Officers { act: id, body: act.body(), record })
}

/// An officer brings an act: where a grant asks for it, its project is there from now on.
pub(in crate::service) async fn act_begins_in_tx(
    conn: &mut Db<'_>,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    for packet in store::central::packets_of_act(conn, act).await? {
        let GrantRow { project: id, title, purposes, .. } = grant_of(conn, &packet.central, &packet.body).await?;
        if store::projects::project_find(conn, id).await?.is_none() {
            let project = Project { id, title, purposes, frozen: false };
            store::projects::project_insert_in_tx(conn, &project, now).await?;
        }
    }
    Ok(())
}

/// An act was done: whoever asked for it is told, in the transaction of the credits.
pub(in crate::service) async fn act_done_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    (act, id): (&Act, Digest),
    award: Option<AwardId>,
    now: Timestamp,
) -> Result<(), Failure> {
    for packet in store::central::packets_of_act(conn, id).await? {
        let central = packet.central.clone();
        let mut row = grant_of(conn, &central, &packet.body).await?;
        let said = person_of(&packet.body, "Pi").map_err(|what| Failure::Books { what })?;
        let person = persons::person_in_tx(conn, &central, &said).await?;
        let person = person.map_err(|what| Failure::Books { what })?;
        if award.is_some() && row.asked == award {
            (row.award, row.asked) = (award, None);
        }
        // A central site grants nothing to what it does not want active; the operator's own freeze stays.
        if row.standing == Standing::Inactive && !row.held && !matches!(act, Act::Withdraw(_)) {
            store::projects::project_freeze_in_tx(conn, row.project, false).await?;
            row.standing = Standing::Active;
        }
        if row.standing == Standing::Asked {
            row.standing = Standing::Active;
        }
        store::central::grant_put_in_tx(conn, &row).await?;
        let accounts = store::central::accounts_of_project(conn, &central, row.project).await?;
        let known = accounts.into_iter().find(|account| account.person == person.number);
        let login = known.map_or_else(|| persons::login(person.number), |account| account.login);
        let active = row.standing == Standing::Active;
        let account = AccountRow { project: row.project, person: person.number, login, role: Role::Pi, active };
        persons::account_in_tx(conn, (secret, &central, now), &person, &account).await?;
        let answer = grant_notice(&packet.body, row.project, (person.number, &account.login));
        store::central::packet_put_in_tx(conn, &answered(packet, answer, true), now).await?;
    }
    Ok(())
}

/// The officers will not have it: what it asked for is free again.
pub(super) async fn grant_refused_in_tx(
    conn: &mut Db<'_>,
    central: &str,
    body: &crate::amie::Body,
) -> Result<(), Failure> {
    let mut row = grant_of(conn, central, body).await?;
    row.asked = None;
    store::central::grant_put_in_tx(conn, &row).await
}

async fn grant_of(conn: &mut Db<'_>, central: &str, body: &crate::amie::Body) -> Result<GrantRow, Failure> {
    let number = label(body, "GrantNumber").map_err(|what| Failure::Books { what })?;
    let row = store::central::grant_find(conn, central, &number).await?;
    row.ok_or_else(|| Failure::Books { what: format!("grant {number} of {central} was asked for and is not noted") })
}

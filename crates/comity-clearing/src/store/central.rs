//! A central site of AMIE that this house is a resource of: grants, persons, accounts, packets and their answers.

mod usage;

use comity_ledger::db::{Db, Row, query};
use comity_wire::{AwardId, Digest, ProjectId, PublicKey, Timestamp};

use super::{Cells, int, json, seconds};
use crate::amie::central::PersonSaid;
use crate::amie::{Body, Standing};
use crate::failure::Failure;
use crate::mandates::Role;

pub(crate) use usage::*;

/// A grant, and the project that it has here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantRow {
    pub(crate) central: String,
    pub(crate) number: String,
    pub(crate) project: ProjectId,
    pub(crate) title: String,
    pub(crate) purposes: Vec<String>,
    pub(crate) award: Option<AwardId>,
    pub(crate) asked: Option<AwardId>,
    pub(crate) standing: Standing,
    pub(crate) held: bool,
}

fn grant(row: &Row) -> Result<GrantRow, Failure> {
    let cells = Cells { table: "central_grant", row };
    Ok(GrantRow {
        central: cells.text("central")?,
        number: cells.text("grant_number")?,
        project: ProjectId(cells.bytes("project")?),
        title: cells.text("title")?,
        purposes: cells.json("purposes")?,
        award: cells.bytes_maybe("award")?.map(AwardId),
        asked: cells.bytes_maybe("asked")?.map(AwardId),
        standing: Standing::from_number(cells.uint("standing")?).ok_or_else(|| cells.unreadable("standing"))?,
        held: cells.int("held")? == 1,
    })
}

pub(crate) async fn grant_find(conn: &mut Db<'_>, central: &str, number: &str) -> Result<Option<GrantRow>, Failure> {
    let row = query("SELECT * FROM central_grant WHERE central = ? AND grant_number = ?")
        .bind(central)
        .bind(number)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(grant).transpose()
}

pub(crate) async fn grant_of_project(conn: &mut Db<'_>, project: ProjectId) -> Result<Option<GrantRow>, Failure> {
    let row =
        query("SELECT * FROM central_grant WHERE project = ?").bind(project.0.to_vec()).fetch_optional(conn).await?;
    row.as_ref().map(grant).transpose()
}

pub(crate) async fn grant_put_in_tx(conn: &mut Db<'_>, grant: &GrantRow) -> Result<(), Failure> {
    query(
        "INSERT INTO central_grant (central, grant_number, project, title, purposes, award, asked, standing, held) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (central, grant_number) DO UPDATE SET title = excluded.title, purposes = excluded.purposes, \
         award = excluded.award, asked = excluded.asked, standing = excluded.standing, held = excluded.held",
    )
    .bind(&grant.central)
    .bind(&grant.number)
    .bind(grant.project.0.to_vec())
    .bind(&grant.title)
    .bind(json(&grant.purposes))
    .bind(grant.award.map(|award| award.0.to_vec()))
    .bind(grant.asked.map(|award| award.0.to_vec()))
    .bind(i64::from(grant.standing as u8))
    .bind(i64::from(grant.held))
    .execute(conn)
    .await?;
    Ok(())
}

/// A person under the number that this house gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersonRow {
    pub(crate) number: u64,
    pub(crate) said: PersonSaid,
    pub(crate) member: Option<PublicKey>,
    pub(crate) merged: Option<u64>,
}

fn person(row: &Row) -> Result<PersonRow, Failure> {
    let cells = Cells { table: "central_person", row };
    let member: Option<[u8; 32]> = cells.bytes_maybe("member")?;
    let member = member.map(|bytes| PublicKey::from_bytes(&bytes).map_err(|_| cells.unreadable("member")));
    Ok(PersonRow {
        number: cells.uint("number")?,
        said: cells.json("person")?,
        member: member.transpose()?,
        merged: cells.row.int_maybe("merged")?.and_then(|number| u64::try_from(number).ok()),
    })
}

pub(crate) async fn person_find(conn: &mut Db<'_>, central: &str, number: u64) -> Result<Option<PersonRow>, Failure> {
    let row = query("SELECT * FROM central_person WHERE central = ? AND number = ?")
        .bind(central)
        .bind(int(number))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(person).transpose()
}

/// The person that the central site calls so everywhere.
pub(crate) async fn person_called(
    conn: &mut Db<'_>,
    central: &str,
    global_id: &str,
) -> Result<Option<PersonRow>, Failure> {
    let row = query("SELECT * FROM central_person WHERE central = ? AND global_id = ? ORDER BY number LIMIT 1")
        .bind(central)
        .bind(global_id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(person).transpose()
}

/// Who acts by this key.
pub(crate) async fn person_of_member(
    conn: &mut Db<'_>,
    central: &str,
    member: &PublicKey,
) -> Result<Option<PersonRow>, Failure> {
    let row = query("SELECT * FROM central_person WHERE central = ? AND member = ? ORDER BY number LIMIT 1")
        .bind(central)
        .bind(member.as_bytes().to_vec())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(person).transpose()
}

/// The next number of a person.
pub(crate) async fn person_next(conn: &mut Db<'_>, central: &str) -> Result<u64, Failure> {
    let row = query("SELECT COALESCE(MAX(number), 0) + 1 AS next_number FROM central_person WHERE central = ?")
        .bind(central)
        .fetch_one(conn)
        .await?;
    Cells { table: "central_person", row: &row }.uint("next_number")
}

pub(crate) async fn person_put_in_tx(conn: &mut Db<'_>, central: &str, person: &PersonRow) -> Result<(), Failure> {
    query(
        "INSERT INTO central_person (central, number, global_id, person, member, merged) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (central, number) DO UPDATE SET global_id = excluded.global_id, person = excluded.person, \
         member = excluded.member, merged = excluded.merged",
    )
    .bind(central)
    .bind(int(person.number))
    .bind(&person.said.global_id)
    .bind(json(&person.said))
    .bind(person.member.map(|member| member.as_bytes().to_vec()))
    .bind(person.merged.map(int))
    .execute(conn)
    .await?;
    Ok(())
}

/// A person's account in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountRow {
    pub(crate) project: ProjectId,
    pub(crate) person: u64,
    pub(crate) login: String,
    pub(crate) role: Role,
    pub(crate) active: bool,
}

fn account(row: &Row) -> Result<AccountRow, Failure> {
    let cells = Cells { table: "central_account", row };
    Ok(AccountRow {
        project: ProjectId(cells.bytes("project")?),
        person: cells.uint("person")?,
        login: cells.text("login")?,
        role: Role::from_number(cells.uint("role")?).ok_or_else(|| cells.unreadable("role"))?,
        active: cells.int("active")? == 1,
    })
}

pub(crate) async fn accounts_of_project(
    conn: &mut Db<'_>,
    central: &str,
    project: ProjectId,
) -> Result<Vec<AccountRow>, Failure> {
    let rows = query("SELECT * FROM central_account WHERE central = ? AND project = ? ORDER BY role, person")
        .bind(central)
        .bind(project.0.to_vec())
        .fetch_all(conn)
        .await?;
    rows.iter().map(account).collect()
}

pub(crate) async fn accounts_of_person(
    conn: &mut Db<'_>,
    central: &str,
    person: u64,
) -> Result<Vec<AccountRow>, Failure> {
    let rows = query("SELECT * FROM central_account WHERE central = ? AND person = ? ORDER BY project")
        .bind(central)
        .bind(int(person))
        .fetch_all(conn)
        .await?;
    rows.iter().map(account).collect()
}

pub(crate) async fn account_put_in_tx(conn: &mut Db<'_>, central: &str, account: &AccountRow) -> Result<(), Failure> {
    query(
        "INSERT INTO central_account (central, project, person, login, role, active) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (central, project, person) DO UPDATE SET login = excluded.login, role = excluded.role, \
         active = excluded.active",
    )
    .bind(central)
    .bind(account.project.0.to_vec())
    .bind(int(account.person))
    .bind(&account.login)
    .bind(i64::from(account.role as u8))
    .bind(i64::from(account.active))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn account_drop_in_tx(
    conn: &mut Db<'_>,
    central: &str,
    (project, person): (ProjectId, u64),
) -> Result<(), Failure> {
    query("DELETE FROM central_account WHERE central = ? AND project = ? AND person = ?")
        .bind(central)
        .bind(project.0.to_vec())
        .bind(int(person))
        .execute(conn)
        .await?;
    Ok(())
}

/// Accounts, and the persons whose they are, newest persons first.
pub(crate) async fn accounts(conn: &mut Db<'_>, limit: u32) -> Result<Vec<(String, PersonRow, AccountRow)>, Failure> {
    let rows = query(
        "SELECT a.*, p.number, p.person AS person_said, p.member, p.merged FROM central_account a \
         JOIN central_person p ON p.central = a.central AND p.number = a.person \
         ORDER BY CASE WHEN p.member IS NULL THEN 0 ELSE 1 END, a.person DESC, a.project LIMIT ?",
    )
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let one = |row: &Row| {
        let cells = Cells { table: "central_account", row };
        let member: Option<[u8; 32]> = cells.bytes_maybe("member")?;
        let member = member.map(|bytes| PublicKey::from_bytes(&bytes).map_err(|_| cells.unreadable("member")));
        let person = PersonRow {
            number: cells.uint("number")?,
            said: cells.json("person_said")?,
            member: member.transpose()?,
            merged: None,
        };
        Ok((cells.text("central")?, person, account(row)?))
    };
    rows.iter().map(one).collect()
}

/// Whose move a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Move {
    /// Two officers': it asks for an act.
    Officers = 0,
    /// This house's: its answer is to be sent.
    House = 1,
    /// Nobody's: it is answered.
    Nobody = 2,
    /// The operator's: the central site refused the answer.
    Operator = 3,
}

impl Move {
    fn from_number(number: u64) -> Option<Self> {
        [Self::Officers, Self::House, Self::Nobody, Self::Operator]
            .into_iter()
            .find(|state| u64::from(*state as u8) == number)
    }
}

/// A packet, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PacketRow {
    pub(crate) central: String,
    pub(crate) id: u64,
    pub(crate) transaction: u64,
    pub(crate) kind: String,
    pub(crate) body: Body,
    pub(crate) record: Option<String>,
    pub(crate) act: Option<Digest>,
    pub(crate) act_body: String,
    pub(crate) state: Move,
    pub(crate) answer_kind: String,
    pub(crate) answer: Body,
    pub(crate) done: bool,
    pub(crate) said: String,
    pub(crate) error: String,
    pub(crate) taken_at: Timestamp,
}

fn packet(row: &Row) -> Result<PacketRow, Failure> {
    let cells = Cells { table: "central_packet", row };
    let answer = cells.text("answer")?;
    Ok(PacketRow {
        central: cells.text("central")?,
        id: cells.uint("id")?,
        transaction: cells.uint("trans")?,
        kind: cells.text("kind")?,
        body: cells.json("body")?,
        record: Some(cells.text("record_said")?).filter(|record| !record.is_empty()),
        act: cells.bytes_maybe("act")?.map(Digest),
        act_body: cells.text("act_body")?,
        state: Move::from_number(cells.uint("state")?).ok_or_else(|| cells.unreadable("state"))?,
        answer_kind: cells.text("answer_kind")?,
        answer: if answer.is_empty() { Body::new() } else { cells.json("answer")? },
        done: cells.int("done")? == 1,
        said: cells.text("said")?,
        error: cells.text("error")?,
        taken_at: cells.time("taken_at")?,
    })
}

const PACKET: &str = "SELECT c.*, COALESCE(c.record, '') AS record_said FROM central_packet c";

pub(crate) async fn packet_find(conn: &mut Db<'_>, central: &str, id: u64) -> Result<Option<PacketRow>, Failure> {
    let row = query(format!("{PACKET} WHERE c.central = ? AND c.id = ?"))
        .bind(central)
        .bind(int(id))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(packet).transpose()
}

/// The packets that asked for a record, oldest first.
pub(crate) async fn packets_of_record(
    conn: &mut Db<'_>,
    central: &str,
    record: &str,
) -> Result<Vec<PacketRow>, Failure> {
    let rows = query(format!("{PACKET} WHERE c.central = ? AND c.record = ? ORDER BY c.id"))
        .bind(central)
        .bind(record)
        .fetch_all(conn)
        .await?;
    rows.iter().map(packet).collect()
}

/// The packets that wait for an act, oldest first.
pub(crate) async fn packets_of_act(conn: &mut Db<'_>, act: Digest) -> Result<Vec<PacketRow>, Failure> {
    let rows = query(format!("{PACKET} WHERE c.act = ? AND c.state = 0 ORDER BY c.central, c.id"))
        .bind(act.0.to_vec())
        .fetch_all(conn)
        .await?;
    rows.iter().map(packet).collect()
}

/// The answers that are to be sent, oldest first.
pub(crate) async fn packets_to_answer(conn: &mut Db<'_>, central: &str, limit: u32) -> Result<Vec<PacketRow>, Failure> {
    let rows = query(format!("{PACKET} WHERE c.central = ? AND c.state = 1 ORDER BY c.id LIMIT ?"))
        .bind(central)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(packet).collect()
}

/// How many wait for the officers.
pub(crate) async fn packets_waiting(conn: &mut Db<'_>, central: &str) -> Result<u64, Failure> {
    let row = query("SELECT count(*) AS waiting FROM central_packet WHERE central = ? AND state = 0")
        .bind(central)
        .fetch_one(conn)
        .await?;
    Cells { table: "central_packet", row: &row }.uint("waiting")
}

/// The newest packets; those that are somebody's move stand first.
pub(crate) async fn packets(conn: &mut Db<'_>, limit: u32) -> Result<Vec<PacketRow>, Failure> {
    let rows =
        query(format!("{PACKET} ORDER BY CASE WHEN c.state = 2 THEN 1 ELSE 0 END, c.id DESC, c.central LIMIT ?"))
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
    rows.iter().map(packet).collect()
}

pub(crate) async fn packet_put_in_tx(conn: &mut Db<'_>, packet: &PacketRow, now: Timestamp) -> Result<(), Failure> {
    let answer = if packet.answer_kind.is_empty() { String::new() } else { json(&packet.answer) };
    query(
        "INSERT INTO central_packet (central, id, trans, kind, body, record, act, act_body, state, answer_kind, answer, done, said, \
         error, taken_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (central, id) DO UPDATE SET act = excluded.act, act_body = excluded.act_body, state = excluded.state, \
         answer_kind = excluded.answer_kind, answer = excluded.answer, done = excluded.done, said = excluded.said, \
         error = excluded.error, changed_at = excluded.changed_at",
    )
    .bind(&packet.central)
    .bind(int(packet.id))
    .bind(int(packet.transaction))
    .bind(&packet.kind)
    .bind(json(&packet.body))
    .bind(packet.record.clone())
    .bind(packet.act.map(|act| act.0.to_vec()))
    .bind(&packet.act_body)
    .bind(i64::from(packet.state as u8))
    .bind(&packet.answer_kind)
    .bind(answer)
    .bind(i64::from(packet.done))
    .bind(&packet.said)
    .bind(&packet.error)
    .bind(seconds(packet.taken_at))
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(())
}

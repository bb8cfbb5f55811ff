//! Persons, their keys, and the evidence on them.

use comity_ledger::db::{Db, Row, query};
use comity_wire::api::person::Subject;
use comity_wire::{MemberId, ProjectId, PublicKey, Timestamp};

use super::{Cells, int, seconds};
use crate::failure::Failure;
use crate::mandates::Role;
use crate::persons::{Bound, By};
use crate::vetting::evidence::{MFA_AGE_S, claim};
use crate::vetting::{Evidence, How, Person};

pub(crate) async fn person_insert_in_tx(conn: &mut Db<'_>, id: MemberId, now: Timestamp) -> Result<(), Failure> {
    let insert = query("INSERT INTO person (id, created_at) VALUES (?, ?)");
    insert.bind(id.0.to_vec()).bind(seconds(now)).execute(conn).await?;
    Ok(())
}

pub(crate) async fn person_exists(conn: &mut Db<'_>, id: MemberId) -> Result<bool, Failure> {
    Ok(query("SELECT id FROM person WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?.is_some())
}

/// The newest persons.
pub(crate) async fn persons(conn: &mut Db<'_>, limit: u32) -> Result<Vec<(MemberId, Timestamp)>, Failure> {
    let rows = query("SELECT id, created_at FROM person ORDER BY created_at DESC, id LIMIT ?");
    let rows = rows.bind(i64::from(limit)).fetch_all(conn).await?;
    let person = |row| {
        let cells = Cells { table: "person", row };
        Ok((MemberId(cells.bytes("id")?), cells.time("created_at")?))
    };
    rows.iter().map(person).collect()
}

/// Whom an issuer calls so.
pub(crate) async fn person_called(conn: &mut Db<'_>, issuer: &str, subject: &str) -> Result<Option<MemberId>, Failure> {
    let row = query("SELECT person FROM person_subject WHERE issuer = ? AND subject = ?");
    let row = row.bind(issuer).bind(subject).fetch_optional(conn).await?;
    row.map(|row| Ok(MemberId(Cells { table: "person_subject", row: &row }.bytes("person")?))).transpose()
}

pub(crate) async fn subject_insert_in_tx(
    conn: &mut Db<'_>,
    (issuer, subject): (&str, &str),
    person: MemberId,
    now: Timestamp,
) -> Result<(), Failure> {
    query("INSERT INTO person_subject (issuer, subject, person, since) VALUES (?, ?, ?, ?)")
        .bind(issuer)
        .bind(subject)
        .bind(person.0.to_vec())
        .bind(seconds(now))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn subjects_of(conn: &mut Db<'_>, person: MemberId) -> Result<Vec<Subject>, Failure> {
    let rows = query("SELECT issuer, subject FROM person_subject WHERE person = ? ORDER BY issuer, subject");
    let rows = rows.bind(person.0.to_vec()).fetch_all(conn).await?;
    let subject = |row| {
        let cells = Cells { table: "person_subject", row };
        Ok(Subject { issuer: cells.text("issuer")?, subject: cells.text("subject")? })
    };
    rows.iter().map(subject).collect()
}

fn bound(row: &Row) -> Result<Bound, Failure> {
    let cells = Cells { table: "person_key", row };
    Ok(Bound {
        key: cells.key("key")?,
        person: MemberId(cells.bytes("person")?),
        bound_at: cells.time("bound_at")?,
        by: By::from_number(cells.uint("bound_by")?).ok_or_else(|| cells.unreadable("bound_by"))?,
        revoked_at: cells.time_maybe("revoked_at")?,
    })
}

/// Whose key it is, revoked or not.
pub(crate) async fn key_find(conn: &mut Db<'_>, key: &PublicKey) -> Result<Option<Bound>, Failure> {
    let row =
        query("SELECT * FROM person_key WHERE key = ?").bind(key.as_bytes().to_vec()).fetch_optional(conn).await?;
    row.as_ref().map(bound).transpose()
}

pub(crate) async fn keys_of(conn: &mut Db<'_>, person: MemberId) -> Result<Vec<Bound>, Failure> {
    let rows = query("SELECT * FROM person_key WHERE person = ? ORDER BY bound_at, key");
    rows.bind(person.0.to_vec()).fetch_all(conn).await?.iter().map(bound).collect()
}

pub(crate) async fn key_insert_in_tx(conn: &mut Db<'_>, bound: &Bound) -> Result<(), Failure> {
    query("INSERT INTO person_key (key, person, bound_at, bound_by) VALUES (?, ?, ?, ?)")
        .bind(bound.key.as_bytes().to_vec())
        .bind(bound.person.0.to_vec())
        .bind(seconds(bound.bound_at))
        .bind(i64::from(bound.by as u8))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn key_revoke_in_tx(conn: &mut Db<'_>, key: &PublicKey, now: Timestamp) -> Result<(), Failure> {
    query("UPDATE person_key SET revoked_at = CASE WHEN bound_at > ?1 THEN bound_at ELSE ?1 END WHERE key = ?2 AND revoked_at IS NULL")
        .bind(seconds(now))
        .bind(key.as_bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// A project's members, each with whose key it is.
pub(crate) async fn members_of(
    conn: &mut Db<'_>,
    project: ProjectId,
) -> Result<Vec<(PublicKey, Role, Option<MemberId>)>, Failure> {
    let rows = query(
        "SELECT m.key, m.role, k.person FROM member m LEFT JOIN person_key k ON k.key = m.key AND k.revoked_at IS NULL \
         WHERE m.project = ? ORDER BY m.role, m.added_at, m.key",
    );
    let rows = rows.bind(project.0.to_vec()).fetch_all(conn).await?;
    let member = |row| {
        let cells = Cells { table: "member", row };
        let role = Role::from_number(cells.uint("role")?).ok_or_else(|| cells.unreadable("role"))?;
        Ok((cells.key("key")?, role, cells.bytes_maybe("person")?.map(MemberId)))
    };
    rows.iter().map(member).collect()
}

/// The persons who are PIs and co-PIs of a project.
pub(crate) async fn pis_of(conn: &mut Db<'_>, project: ProjectId) -> Result<Vec<MemberId>, Failure> {
    let rows = query(
        "SELECT DISTINCT k.person FROM member m JOIN person_key k ON k.key = m.key AND k.revoked_at IS NULL \
         WHERE m.project = ? AND m.role <= 2 ORDER BY k.person",
    );
    let rows = rows.bind(project.0.to_vec()).fetch_all(conn).await?;
    rows.iter().map(|row| Ok(MemberId(Cells { table: "person_key", row }.bytes("person")?))).collect()
}

/// A row as it is shown to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) evidence: Evidence,
    pub(crate) note: String,
    pub(crate) recorded_by: String,
    pub(crate) recorded_at: Timestamp,
}

fn evidence(row: &Row) -> Result<Evidence, Failure> {
    let cells = Cells { table: "person_evidence", row };
    Ok(Evidence {
        issuer: cells.text("issuer")?,
        claim: cells.text("claim")?,
        value: cells.text("value")?,
        asserted_at: cells.time("asserted_at")?,
        expires_at: cells.time_maybe("expires_at")?,
        how: How::from_number(cells.uint("how")?).ok_or_else(|| cells.unreadable("how"))?,
        occasion: cells.uint("occasion")?,
    })
}

/// A person with what can still count, oldest first: of logins what each issuer said last, and second factors of these hours. What
/// is left out of it would not change a level (`vetting::level`).
pub(crate) async fn person(conn: &mut Db<'_>, id: MemberId, now: Timestamp) -> Result<Person, Failure> {
    let rows = query(
        "SELECT e.* FROM person_evidence e WHERE e.person = ?1 AND (e.how >= 3 \
         OR e.occasion = (SELECT MAX(n.occasion) FROM person_evidence n WHERE n.person = ?1 AND n.how = e.how AND n.issuer = e.issuer) \
         OR (e.claim = ?2 AND e.asserted_at > ?3)) ORDER BY e.seq",
    );
    let rows =
        rows.bind(id.0.to_vec()).bind(claim::MFA).bind(seconds(now.minus(2 * MFA_AGE_S))).fetch_all(conn).await?;
    Ok(Person { id, evidence: rows.iter().map(evidence).collect::<Result<_, _>>()? })
}

/// All that was ever recorded, the newest first.
pub(crate) async fn evidence_of(conn: &mut Db<'_>, id: MemberId, limit: u32) -> Result<Vec<Kept>, Failure> {
    let rows = query("SELECT * FROM person_evidence WHERE person = ? ORDER BY seq DESC LIMIT ?");
    let rows = rows.bind(id.0.to_vec()).bind(i64::from(limit)).fetch_all(conn).await?;
    let kept = |row| {
        let cells = Cells { table: "person_evidence", row };
        let (note, recorded_by, recorded_at) =
            (cells.text("note")?, cells.text("recorded_by")?, cells.time("recorded_at")?);
        Ok(Kept { evidence: evidence(row)?, note, recorded_by, recorded_at })
    };
    rows.iter().map(kept).collect()
}

/// The number of a person's next occasion.
pub(crate) async fn occasion_next(conn: &mut Db<'_>, id: MemberId) -> Result<u64, Failure> {
    let row = query("SELECT COALESCE(MAX(occasion), 0) + 1 AS next FROM person_evidence WHERE person = ?");
    let row = row.bind(id.0.to_vec()).fetch_one(conn).await?;
    Cells { table: "person_evidence", row: &row }.uint("next")
}

/// Takes rows down.
pub(crate) async fn evidence_insert_in_tx(conn: &mut Db<'_>, id: MemberId, rows: &[Kept]) -> Result<(), Failure> {
    for kept in rows {
        let row = &kept.evidence;
        query(
            "INSERT INTO person_evidence \
             (person, issuer, claim, value, asserted_at, expires_at, how, occasion, note, recorded_by, recorded_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id.0.to_vec())
        .bind(&row.issuer)
        .bind(&row.claim)
        .bind(&row.value)
        .bind(seconds(row.asserted_at))
        .bind(row.expires_at.map(seconds))
        .bind(i64::from(row.how as u8))
        .bind(int(row.occasion))
        .bind(&kept.note)
        .bind(&kept.recorded_by)
        .bind(seconds(kept.recorded_at))
        .execute(conn)
        .await?;
    }
    Ok(())
}

//! Owners' terms in SQL, and what owners earned under each token.

use comity_ledger::db::{Db, Row, query};
use comity_wire::{Amount, OrgId, Timestamp, TokenId};

use super::schedules::{self, Costs};
use super::{Cells, int, money, seconds};
use crate::acts::{Act, OwnerCosts};
use crate::failure::Failure;
use crate::owners::{Basis, Earned, Terms};
use crate::recharge::Schedule;

fn terms(row: &Row) -> Result<Terms, Failure> {
    let cells = Cells { table: "owner_terms", row };
    let (reference, ceiling) = (cells.text("reference")?, cells.amount_maybe("ceiling")?);
    let ends_at = cells.time_maybe("ends_at")?;
    let basis = match cells.int("kind")? {
        1 => Basis::Recharge {
            schedule: reference,
            dated: cells.time_maybe("dated_at")?.ok_or_else(|| cells.unreadable("dated_at"))?,
        },
        2 => Basis::Commercial { contract: reference, ceiling, ends_at },
        3 => Basis::Agency { agreement: reference, ceiling, ends_at },
        4 => Basis::None {},
        _ => return Err(cells.unreadable("kind")),
    };
    Ok(Terms {
        act: cells.digest("act")?,
        place: cells.uint("place")?,
        basis,
        from: cells.time("from_at")?,
        arrears: cells.int("arrears")? == 1,
        recorded_at: cells.time("recorded_at")?,
    })
}

/// An owner's, as they were set.
pub(crate) async fn of(conn: &mut Db<'_>, owner: OrgId) -> Result<Vec<Terms>, Failure> {
    let sql = "SELECT * FROM owner_terms WHERE owner = ? ORDER BY place";
    query(sql).bind(owner.0.to_vec()).fetch_all(conn).await?.iter().map(terms).collect()
}

/// Everybody's, as they were set.
pub(crate) async fn all(conn: &mut Db<'_>) -> Result<Vec<(OrgId, Terms)>, Failure> {
    let rows = query("SELECT * FROM owner_terms ORDER BY owner, place").fetch_all(conn).await?;
    let one = |row: &Row| Ok((OrgId(Cells { table: "owner_terms", row }.bytes("owner")?), terms(row)?));
    rows.iter().map(one).collect()
}

pub(crate) async fn insert_in_tx(conn: &mut Db<'_>, owner: OrgId, terms: &Terms) -> Result<(), Failure> {
    let (kind, dated) = match &terms.basis {
        Basis::Recharge { dated, .. } => (1, Some(*dated)),
        Basis::Commercial { .. } => (2, None),
        Basis::Agency { .. } => (3, None),
        Basis::None {} => (4, None),
    };
    query(
        "INSERT INTO owner_terms (act, owner, place, kind, reference, dated_at, ceiling, from_at, ends_at, arrears, pays, recorded_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(terms.act.0.to_vec())
    .bind(owner.0.to_vec())
    .bind(int(terms.place))
    .bind(kind)
    .bind(terms.basis.reference())
    .bind(dated.map(seconds))
    .bind(terms.basis.ceiling().map(|ceiling| ceiling.ucr()))
    .bind(seconds(terms.from))
    .bind(terms.basis.ends_at().map(seconds))
    .bind(i64::from(terms.arrears))
    .bind(i64::from(terms.basis.pays()))
    .bind(seconds(terms.recorded_at))
    .execute(conn)
    .await?;
    Ok(())
}

/// What an owner earned under each token in a time, less what disputes set aside or took back and what it gave back itself, in the order of sale.
pub(crate) async fn earned(
    conn: &mut Db<'_>,
    owner: OrgId,
    (from, until): (Timestamp, Timestamp),
) -> Result<Vec<Earned>, Failure> {
    let rows = query(
        "SELECT s.reference AS token, t.issued_at, CAST(SUM(s.amount) AS BIGINT) AS net FROM (\
         SELECT f.reference, f.amount FROM transfer f WHERE f.credit_id = ?1 AND f.kind IN (4, 6, 9) \
         AND f.posted_at >= ?2 AND f.posted_at < ?3 UNION ALL \
         SELECT f.reference, -f.amount FROM transfer f WHERE f.debit_id = ?1 AND f.kind IN (8, 15) \
         AND f.posted_at >= ?2 AND f.posted_at < ?3) s \
         JOIN token t ON t.id = s.reference GROUP BY s.reference, t.issued_at ORDER BY t.issued_at, s.reference",
    )
    .bind(money::payable(owner).id.0.to_vec())
    .bind(seconds(from))
    .bind(seconds(until))
    .fetch_all(conn)
    .await?;
    let one = |row: &Row| {
        let cells = Cells { table: "transfer", row };
        let token = TokenId(cells.bytes("token")?);
        Ok(Earned { token, sold_at: cells.time("issued_at")?, net: cells.int("net")? })
    };
    rows.iter().map(one).collect()
}

/// What open disputes keep from an owner.
pub(crate) async fn held(conn: &mut Db<'_>, owner: OrgId) -> Result<i64, Failure> {
    let sql = "SELECT CAST(COALESCE(SUM(i.held), 0) AS BIGINT) FROM dispute i JOIN token t ON t.id = i.token \
               WHERE i.state = 0 AND t.owner = ?";
    Ok(query(sql).bind(owner.0.to_vec()).fetch_one(conn).await?.first()?)
}

/// Owners who ever earned something.
pub(crate) async fn owners(conn: &mut Db<'_>) -> Result<Vec<OrgId>, Failure> {
    let rows = query("SELECT reference FROM account WHERE code = 5 ORDER BY reference").fetch_all(conn).await?;
    rows.iter().map(|row| Ok(OrgId(Cells { table: "account", row }.bytes("reference")?))).collect()
}

/// Owners who earned something that was not paid, and have no terms that hold at `now`, with what that is, in the order of their ids.
pub(crate) async fn without_terms(conn: &mut Db<'_>, now: Timestamp) -> Result<Vec<(OrgId, Amount)>, Failure> {
    let sql = "SELECT a.reference, a.credits - a.debits AS earned FROM account a WHERE a.code = 5 AND a.credits > a.debits \
               AND NOT EXISTS (SELECT 1 FROM owner_terms t WHERE t.owner = a.reference AND t.from_at <= ?) ORDER BY a.reference";
    let rows = query(sql).bind(seconds(now)).fetch_all(conn).await?;
    let one = |row: &Row| {
        let cells = Cells { table: "account", row };
        Ok((OrgId(cells.bytes("reference")?), cells.amount("earned")?))
    };
    rows.iter().map(one).collect()
}

/// What was recorded of owners: kinds of acts, each with a table of its name.
const RECORDED: [&str; 4] = ["owner_terms", "owner_schedule", "owner_costs", "project_of"];

/// Terms, schedules, costs and owners' projects that are not what their acts say, and acts whose row is missing.
pub(crate) async fn differing(conn: &mut Db<'_>) -> Result<u64, Failure> {
    let mut differing = 0;
    for kind in RECORDED {
        let rows = query(format!("SELECT o.*, a.body FROM {kind} o LEFT JOIN act a ON a.id = o.act AND a.state = 1"));
        let rows = rows.fetch_all(conn).await?;
        differing += rows.iter().filter(|row| stands(kind, row).is_none()).count() as u64;
        let missing = query(format!(
            "SELECT COUNT(*) FROM act a WHERE a.kind = ? AND a.state = 1 AND NOT EXISTS (SELECT 1 FROM {kind} o WHERE o.act = a.id)"
        ));
        differing += missing.bind(kind).fetch_one(conn).await?.first()?.unsigned_abs();
    }
    Ok(differing)
}

/// Whether a row says what its act says.
fn stands(kind: &'static str, row: &Row) -> Option<()> {
    let cells = Cells { table: kind, row };
    let act: Act = serde_json::from_str(&row.text_maybe("body").ok()??).ok()?;
    let id = |name| cells.bytes::<16>(name).ok();
    let same = match act {
        Act::OwnerTerms(ask) => {
            let pays = cells.int("pays").ok()? == i64::from(ask.basis.pays());
            let found = terms(row).ok()?;
            let said = (Some(ask.owner.0), ask.from, ask.arrears, ask.basis);
            kind == "owner_terms" && pays && said == (id("owner"), found.from, found.arrears, found.basis)
        }
        Act::OwnerSchedule(ask) => {
            let said = Schedule {
                name: ask.schedule,
                from: ask.from,
                approved_by: ask.approved_by,
                fiscal_year: ask.fiscal_year,
                costs: ask.costs,
                rates: ask.rates,
            };
            kind == "owner_schedule" && id("owner") == Some(ask.owner.0) && schedules::schedule(row).ok()? == said
        }
        Act::OwnerCosts(ask) => {
            let OwnerCosts { owner, fiscal_year, from, until, costs, evidence } = ask;
            let said = Costs { fiscal_year, from, until, costs, evidence };
            kind == "owner_costs" && id("owner") == Some(owner.0) && schedules::costs(row).ok()? == said
        }
        Act::ProjectOf(ask) => {
            let said = (Some(ask.project.0), Some(ask.organisation.0));
            kind == "project_of" && said == (id("project"), id("organisation"))
        }
        _ => false,
    };
    same.then_some(())
}

/// The newest moment up to which the books are closed.
pub(crate) async fn closed_until(conn: &mut Db<'_>) -> Result<Timestamp, Failure> {
    let closed = super::periods::newest_closed(conn).await?;
    Ok(closed.map_or(Timestamp(0), |period| period.until))
}

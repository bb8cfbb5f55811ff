//! Mandates that were redeemed, and what is drawn under them.

use std::collections::BTreeMap;

use comity_ledger::db::{Db, Row, query};
use comity_ledger::values;
use comity_wire::object::Mandate;
use comity_wire::{Amount, MandateId, ModelId, ProjectId, PublicKey, Signed, Timestamp, Verified};

use super::{Cells, seconds};
use crate::failure::Failure;
use crate::mandates::{ASSISTS_MAX, Placed, Redeemed, Role, Used, day_of};

pub(crate) async fn mandate_put_in_tx(
    conn: &mut Db<'_>,
    mandate: &Verified<Mandate>,
    placed: Placed,
    now: Timestamp,
) -> Result<(), Failure> {
    // One that was signed anew takes the place of the one before: what was drawn under it counts on.
    query(
        "INSERT INTO mandate (id, project, content, signer, member, bytes, cap, cap_per_day, not_before, not_after, lodged_at, \
         redeemed, parent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET content = excluded.content, \
         signer = excluded.signer, member = excluded.member, bytes = excluded.bytes, cap = excluded.cap, \
         cap_per_day = excluded.cap_per_day, not_before = excluded.not_before, not_after = excluded.not_after, \
         lodged_at = excluded.lodged_at, redeemed = excluded.redeemed, parent = excluded.parent, revoked_at = NULL",
    )
    .bind(mandate.id.0.to_vec())
    .bind(mandate.project.0.to_vec())
    .bind(mandate.id().0.to_vec())
    .bind(mandate.signer().as_bytes().to_vec())
    .bind(placed.member.as_bytes().to_vec())
    .bind(mandate.bytes().to_vec())
    .bind(mandate.cap.ucr())
    .bind(mandate.cap_per_day.ucr())
    .bind(seconds(mandate.not_before))
    .bind(seconds(mandate.not_after))
    .bind(seconds(now))
    .bind(i64::from(placed.redeemed))
    .bind(placed.parent.map(|parent| parent.0.to_vec()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes one that waited for somebody with its join code theirs.
pub(crate) async fn mandate_claim_in_tx(conn: &mut Db<'_>, id: MandateId, member: &PublicKey) -> Result<(), Failure> {
    query("UPDATE mandate SET member = ?, redeemed = 1 WHERE id = ? AND redeemed = 0")
        .bind(member.as_bytes().to_vec())
        .bind(id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// The newest mandates that this key has redeemed in a project and nobody ended.
pub(crate) async fn mandates_of_member(
    conn: &mut Db<'_>,
    project: ProjectId,
    member: &PublicKey,
    now: Timestamp,
) -> Result<BTreeMap<MandateId, Redeemed>, Failure> {
    let rows = query(
        "SELECT id FROM mandate WHERE project = ? AND member = ? AND redeemed = 1 AND revoked_at IS NULL AND not_after > ? \
         ORDER BY lodged_at DESC, id LIMIT ?",
    )
    .bind(project.0.to_vec())
    .bind(member.as_bytes().to_vec())
    .bind(seconds(now))
    .bind(ASSISTS_MAX)
    .fetch_all(conn)
    .await?;
    let id = |row| Ok(MandateId(Cells { table: "mandate", row }.bytes("id")?));
    let ids = rows.iter().map(id).collect::<Result<Vec<_>, Failure>>()?;
    mandates(conn, &ids, now).await
}

/// What was drawn under a mandate for each model, and for tokens of several or of before under none.
pub(crate) async fn mandate_uses(conn: &mut Db<'_>, id: MandateId) -> Result<Vec<(Option<ModelId>, Used)>, Failure> {
    let rows = query(
        "SELECT t.model, CAST(SUM(t.budget - t.refunded) AS BIGINT) AS drawn, CAST(SUM(t.paid) AS BIGINT) AS settled, \
         CAST(SUM((SELECT COALESCE(SUM(l.n), 0) FROM lane l WHERE l.token = t.id)) AS BIGINT) AS calls \
         FROM token t WHERE t.mandate IN (SELECT m.id FROM mandate m WHERE m.id = ? OR m.parent = ?) \
         GROUP BY t.model ORDER BY t.model",
    )
    .bind(id.0.to_vec())
    .bind(id.0.to_vec())
    .fetch_all(conn)
    .await?;
    let used = |row| {
        let cells = Cells { table: "token", row };
        let used =
            Used { drawn: cells.amount("drawn")?, settled: cells.amount("settled")?, calls: cells.uint("calls")? };
        Ok((model(&cells)?, used))
    };
    rows.iter().map(used).collect()
}

fn model(cells: &Cells<'_>) -> Result<Option<ModelId>, Failure> {
    let text = cells.row.text_maybe("model")?;
    text.map(|model| model.parse().map_err(|_| cells.unreadable("model"))).transpose()
}

/// How many mandates lie within one.
pub(crate) async fn mandates_within(conn: &mut Db<'_>, parent: MandateId) -> Result<u64, Failure> {
    let count = query("SELECT COUNT(*) FROM mandate WHERE parent = ?").bind(parent.0.to_vec());
    let count: i64 = count.fetch_one(conn).await?.first()?;
    Ok(count.unsigned_abs())
}

/// Of those that have caps of single models: what is drawn for each model.
async fn drawn_by_model(conn: &mut Db<'_>, found: &mut BTreeMap<MandateId, Redeemed>) -> Result<(), Failure> {
    let capped: Vec<MandateId> =
        found.values().filter(|one| !one.mandate.model_caps.is_empty()).map(|one| one.mandate.id).collect();
    if capped.is_empty() {
        return Ok(());
    }
    let own = "SELECT t.mandate AS id, t.model, CAST(SUM(t.budget - t.refunded) AS BIGINT) AS drawn FROM token t \
               WHERE t.model IS NOT NULL AND t.mandate {any} GROUP BY t.mandate, t.model";
    let of_jobs = "SELECT c.parent AS id, t.model, CAST(SUM(t.budget - t.refunded) AS BIGINT) AS drawn \
                   FROM mandate c JOIN token t ON t.mandate = c.id WHERE t.model IS NOT NULL AND c.parent {any} \
                   GROUP BY c.parent, t.model";
    for sql in [own, of_jobs] {
        let asking = query(sql).each(capped.iter().map(|id| values![id.0]));
        for row in asking.repeatable().fetch_all(conn).await? {
            let cells = Cells { table: "token", row: &row };
            if let (Some(one), Some(model)) = (found.get_mut(&MandateId(cells.bytes("id")?)), model(&cells)?) {
                let drawn = one.by_model.entry(model).or_insert(Amount::ZERO);
                *drawn = drawn.saturating_add(cells.amount("drawn")?);
            }
        }
    }
    Ok(())
}

pub(crate) async fn mandates_of_project(conn: &mut Db<'_>, project: ProjectId) -> Result<u64, Failure> {
    let count = query("SELECT COUNT(*) FROM mandate WHERE project = ?").bind(project.0.to_vec());
    let count: i64 = count.fetch_one(conn).await?.first()?;
    Ok(count.unsigned_abs())
}

/// Those of `ids` that were redeemed, each with what is drawn under it.
pub(crate) async fn mandates(
    conn: &mut Db<'_>,
    ids: &[MandateId],
    now: Timestamp,
) -> Result<BTreeMap<MandateId, Redeemed>, Failure> {
    let mut found = BTreeMap::new();
    // What jobs drew under mandates within one counts against it, too.
    let asking = query(
        "SELECT m.*, s.role, h.role AS holder_role, \
         (SELECT CAST(COALESCE(SUM(t.budget - t.refunded), 0) AS BIGINT) FROM token t WHERE t.mandate = m.id) AS own_drawn, \
         (SELECT CAST(COALESCE(SUM(t.budget - t.refunded), 0) AS BIGINT) FROM token t \
         WHERE t.mandate = m.id AND t.issued_at >= ?) AS own_today, \
         (SELECT CAST(COALESCE(SUM(t.paid), 0) AS BIGINT) FROM token t WHERE t.mandate = m.id) AS own_settled, \
         (SELECT CAST(COALESCE(SUM(t.budget - t.refunded), 0) AS BIGINT) FROM mandate c JOIN token t ON t.mandate = c.id \
         WHERE c.parent = m.id) AS jobs_drawn, \
         (SELECT CAST(COALESCE(SUM(t.budget - t.refunded), 0) AS BIGINT) FROM mandate c JOIN token t ON t.mandate = c.id \
         WHERE c.parent = m.id AND t.issued_at >= ?) AS jobs_today, \
         (SELECT CAST(COALESCE(SUM(t.paid), 0) AS BIGINT) FROM mandate c JOIN token t ON t.mandate = c.id \
         WHERE c.parent = m.id) AS jobs_settled \
         FROM mandate m LEFT JOIN member s ON s.project = m.project AND s.key = m.signer \
         LEFT JOIN member h ON h.project = m.project AND h.key = m.member WHERE m.id {any}",
    );
    let day = seconds(day_of(now));
    let asking = asking.bind(day).bind(day).each(ids.iter().map(|id| values![id.0]));
    for row in asking.repeatable().fetch_all(conn).await? {
        let redeemed = redeemed(&row)?;
        found.insert(redeemed.mandate.id, redeemed);
    }
    drawn_by_model(conn, &mut found).await?;
    Ok(found)
}

fn redeemed(row: &Row) -> Result<Redeemed, Failure> {
    let cells = Cells { table: "mandate", row };
    let signer = cells.key("signer")?;
    let both = |own, jobs| Ok::<_, Failure>(cells.amount(own)?.saturating_add(cells.amount(jobs)?));
    let mandate = Signed::<Mandate>::decode(&cells.blob("bytes")?).and_then(|signed| signed.verify(&signer));
    let role = |column| {
        let number = row.int_maybe(column)?;
        let role = |number| u64::try_from(number).ok().and_then(Role::from_number);
        number.map(|number| role(number).ok_or_else(|| cells.unreadable(column))).transpose()
    };
    Ok(Redeemed {
        mandate: mandate.map_err(|_| cells.unreadable("bytes"))?,
        member: cells.key("member")?,
        signer: role("role")?,
        holder: role("holder_role")?,
        revoked_at: cells.time_maybe("revoked_at")?,
        drawn: both("own_drawn", "jobs_drawn")?,
        drawn_today: both("own_today", "jobs_today")?,
        settled: both("own_settled", "jobs_settled")?,
        by_model: BTreeMap::<ModelId, Amount>::new(),
        redeemed: cells.int("redeemed")? == 1,
        parent: cells.bytes_maybe("parent")?.map(MandateId),
    })
}

/// Ends a mandate; whether there was one in force.
pub(crate) async fn mandate_revoke_in_tx(conn: &mut Db<'_>, id: MandateId, now: Timestamp) -> Result<bool, Failure> {
    let done = query("UPDATE mandate SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL")
        .bind(seconds(now))
        .bind(id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(done == 1)
}

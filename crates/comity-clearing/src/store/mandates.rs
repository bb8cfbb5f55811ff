//! Mandates that were redeemed, and what is drawn under them.

use std::collections::BTreeMap;

use comity_ledger::db::{Db, Row, query};
use comity_ledger::values;
use comity_wire::object::Mandate;
use comity_wire::{MandateId, ProjectId, PublicKey, Signed, Timestamp, Verified};

use super::{Cells, seconds};
use crate::failure::Failure;
use crate::mandates::{Redeemed, Role, day_of};

pub(crate) async fn mandate_insert_in_tx(
    conn: &mut Db<'_>,
    mandate: &Verified<Mandate>,
    member: &PublicKey,
    now: Timestamp,
) -> Result<(), Failure> {
    query(
        "INSERT INTO mandate (id, project, content, signer, member, bytes, cap, cap_per_day, not_before, not_after, lodged_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(mandate.id.0.to_vec())
    .bind(mandate.project.0.to_vec())
    .bind(mandate.id().0.to_vec())
    .bind(mandate.signer().as_bytes().to_vec())
    .bind(member.as_bytes().to_vec())
    .bind(mandate.bytes().to_vec())
    .bind(mandate.cap.ucr())
    .bind(mandate.cap_per_day.ucr())
    .bind(seconds(mandate.not_before))
    .bind(seconds(mandate.not_after))
    .bind(seconds(now))
    .execute(conn)
    .await?;
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
    let asking = query(
        "SELECT m.*, s.role, \
         (SELECT CAST(COALESCE(SUM(t.budget - t.refunded), 0) AS BIGINT) FROM token t WHERE t.mandate = m.id) AS drawn, \
         (SELECT CAST(COALESCE(SUM(t.budget - t.refunded), 0) AS BIGINT) FROM token t \
         WHERE t.mandate = m.id AND t.issued_at >= ?) AS drawn_today \
         FROM mandate m LEFT JOIN member s ON s.project = m.project AND s.key = m.signer WHERE m.id {any}",
    );
    let asking = asking.bind(seconds(day_of(now))).each(ids.iter().map(|id| values![id.0]));
    for row in asking.repeatable().fetch_all(conn).await? {
        let redeemed = redeemed(&row)?;
        found.insert(redeemed.mandate.id, redeemed);
    }
    Ok(found)
}

fn redeemed(row: &Row) -> Result<Redeemed, Failure> {
    let cells = Cells { table: "mandate", row };
    let signer = cells.key("signer")?;
    let mandate = Signed::<Mandate>::decode(&cells.blob("bytes")?).and_then(|signed| signed.verify(&signer));
    Ok(Redeemed {
        mandate: mandate.map_err(|_| cells.unreadable("bytes"))?,
        member: cells.key("member")?,
        signer: match row.int_maybe("role")? {
            Some(number) => {
                let role = u64::try_from(number).ok().and_then(Role::from_number);
                Some(role.ok_or_else(|| cells.unreadable("role"))?)
            }
            None => None,
        },
        revoked_at: cells.time_maybe("revoked_at")?,
        drawn: cells.amount("drawn")?,
        drawn_today: cells.amount("drawn_today")?,
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

//! The audit: the ledger's own, and what the house's tables promise on top of it, each re-added in SQL.

use comity_ledger::{AccountCode, Unit};
use comity_wire::{Amount, ProjectId};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;

use crate::failure::Failure;
use crate::service::Clearing;
use crate::store;

/// What an audit found. The books hold if [`AuditReport::holds`].
#[derive(Clone, Debug, Serialize)]
pub struct AuditReport {
    pub holds: bool,
    /// Credits less debits over all accounts: zero.
    pub ledger_sum_ucr: i64,
    pub totals: Sums,
    pub findings: Vec<Finding>,
    pub ledger: comity_ledger::AuditReport,
}

/// A promise of the house that its tables break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    #[serde(rename = "break")]
    pub what: Break,
    /// How many rows break it.
    pub rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Break {
    /// Settled + in escrow > awarded, for a project.
    AllocationOverspent,
    /// Settled > budget, for a token.
    TokenOverspent,
    /// What a token says was paid is not what its lanes add up to.
    LanesDiffer,
    /// What a lane says was paid is not what its lines add up to.
    LinesDiffer,
    /// A settlement transfer is not what its lines add up to, or has none.
    TransferUnexplained,
    /// A token's settlement transfers do not add up to what it says was paid.
    PaidDiffers,
    /// A token's refunds are not what it says went home.
    RefundsDiffer,
    /// Reserved ≠ settled from escrow + refunded + still held, for a token.
    EscrowDiffers,
    /// An escrow was filled with something else than the token's budget.
    ReservationDiffers,
    /// An award stands in no transfer, or in one of another amount.
    AwardDiffers,
}

/// Micro-credits over everything, or over one project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub awarded: Amount,
    pub available: Amount,
    pub in_escrow: Amount,
    pub settled: Amount,
    /// Of the settled: what came from suspense.
    pub from_suspense: Amount,
    pub refunded: Amount,
    /// Claimed above what tokens bind the house to, not paid.
    pub clamped: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectTotals {
    pub project: ProjectId,
    pub title: String,
    #[serde(flatten)]
    pub sums: Sums,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub overall: Sums,
    pub projects: Vec<ProjectTotals>,
}

/// Kinds and codes below are the ledger's: 1 award, 3 reserve, 4 settle, 5 refund, 6 from suspense; code 4 is escrow.
const CHECKS: [(Break, &str); 10] = [
    (
        Break::AllocationOverspent,
        "SELECT COUNT(*) FROM project p WHERE \
         (SELECT COALESCE(SUM(amount), 0) FROM award a WHERE a.project = p.id) < \
         (SELECT COALESCE(SUM(f.amount), 0) FROM token t JOIN transfer f ON f.reference = t.id AND f.kind = 4 WHERE t.project = p.id) + \
         (SELECT COALESCE(SUM(e.credits - e.debits), 0) FROM token t JOIN account e ON e.reference = t.id AND e.code = 4 WHERE t.project = p.id)",
    ),
    (Break::TokenOverspent, "SELECT COUNT(*) FROM token WHERE paid > budget"),
    (
        Break::LanesDiffer,
        "SELECT COUNT(*) FROM token t WHERE t.paid <> (SELECT COALESCE(SUM(paid), 0) FROM lane l WHERE l.token = t.id)",
    ),
    (
        Break::LinesDiffer,
        "SELECT COUNT(*) FROM lane l WHERE l.paid <> (SELECT COALESCE(SUM(amount), 0) FROM line i \
         WHERE i.token = l.token AND i.leaf = l.leaf AND i.lane = l.lane)",
    ),
    (
        Break::TransferUnexplained,
        "SELECT COUNT(*) FROM transfer f WHERE f.kind IN (4, 6) AND \
         f.amount <> (SELECT COALESCE(SUM(amount), 0) FROM line i WHERE i.transfer = f.id AND i.token = f.reference)",
    ),
    (
        Break::PaidDiffers,
        "SELECT COUNT(*) FROM token t WHERE t.paid <> \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = t.id AND f.kind IN (4, 6))",
    ),
    (
        Break::RefundsDiffer,
        "SELECT COUNT(*) FROM token t WHERE t.refunded <> \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = t.id AND f.kind = 5)",
    ),
    (
        Break::EscrowDiffers,
        "SELECT COUNT(*) FROM token t JOIN account e ON e.reference = t.id AND e.code = 4 WHERE \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = t.id AND f.kind = 3) <> \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = t.id AND f.kind IN (4, 5)) + e.credits - e.debits",
    ),
    (
        Break::ReservationDiffers,
        "SELECT COUNT(*) FROM token t WHERE t.project IS NOT NULL AND t.budget <> \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = t.id AND f.kind = 3)",
    ),
    (
        Break::AwardDiffers,
        "SELECT COUNT(*) FROM award a WHERE a.amount <> \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = a.id AND f.kind = 1)",
    ),
];

impl Clearing {
    /// Re-adds everything from the transfers and checks the house's tables against them, each in one snapshot.
    ///
    /// # Errors
    /// [`Failure`] where the books cannot be read; what is wrong in them is in the report.
    pub async fn audit(&self) -> Result<AuditReport, Failure> {
        let ledger = self.reader().audit().await?;
        let mut conn = self.read().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *conn).await?;
        let mut findings = Vec::new();
        for (what, sql) in CHECKS {
            let rows: i64 = sqlx::query(sql).fetch_one(&mut *snapshot).await?.try_get(0)?;
            if rows != 0 {
                findings.push(Finding { what, rows: rows.unsigned_abs() });
            }
        }
        snapshot.rollback().await?;
        drop(conn);
        let totals = self.totals().await?.overall;
        let ledger_sum_ucr = ledger.sum_ucr(Unit::CREDITS);
        let holds = ledger.holds && findings.is_empty() && ledger_sum_ucr == 0;
        Ok(AuditReport { holds, ledger_sum_ucr, totals, findings, ledger })
    }

    /// What was awarded, and where it is now, per project and overall.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn totals(&self) -> Result<Totals, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *conn).await?;
        let projects = store::projects::projects(&mut snapshot).await?;
        let mut all = Vec::with_capacity(projects.len());
        for project in projects {
            let sums = store::totals::of_project(&mut snapshot, project.id).await?;
            all.push(ProjectTotals { project: project.id, title: project.title, sums });
        }
        let overall = store::totals::overall(&mut snapshot).await?;
        snapshot.rollback().await?;
        Ok(Totals { overall, projects: all })
    }
}

/// The number under which the ledger keeps an account's code.
pub(crate) fn code(code: AccountCode) -> i64 {
    i64::from(code.number())
}

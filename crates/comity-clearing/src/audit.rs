//! The audit: the ledger's own, and what the house's tables promise on top of it, from both ends: each row has its
//! transfers, and each transfer its row. Each promise is re-added in SQL, in time that grows with the books and no faster.

use comity_ledger::{AccountCode, Reader, Unit};
use comity_wire::{Amount, ProjectId};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::service::{Clearing, periods};
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
    /// An award is not what its lots add up to.
    AwardDiffers,
    /// A lot was not given as it says, or: given ≠ what lies in its accounts + what tokens have of it + what left it.
    LotDiffers,
    /// What a token drew on a lot, or what of it came home, is not what its transfers say.
    DrawDiffers,
    /// Awarded ≠ unreleased + available + expired + in escrow + settled from escrow − what disputes took back and owners gave back, for a project.
    ProjectDiffers,
    /// Credits were made, moved or taken back by no act.
    ActMissing,
    /// An act is not what its id says, or lacks a signature.
    ActDiffers,
    /// A transfer that no award or token accounts for: of a kind that the house does not make, about something that it
    /// does not know, or between other accounts than that thing's own.
    TransferWithoutRow,
    /// A token's columns are not what its signed bytes say, or the signature does not stand.
    TokenDiffers,
    /// A dispute does not hold what it says, its token is paid all the same, or nobody stands for how it ended.
    DisputeDiffers,
    /// A credit note did not move what it says, or a token does not say what its notes gave back.
    CreditNoteDiffers,
    /// The totals of a closed period are not what its transfers add up to.
    PeriodDiffers,
    /// An owner's terms, schedule, costs or project are not what an act says, or an act's are missing.
    TermsDiffer,
    /// An owner was paid more than its terms allow, or under terms that pay nothing.
    TermsExceeded,
    /// A payment to an owner is not what its lines add up to, or has none.
    PayoutDiffers,
    /// A token is paid to another organisation than the one that owns its node.
    OwnerDiffers,
}

/// Micro-credits over everything, or over one project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Less what was withdrawn or moved away.
    pub awarded: Amount,
    /// What waits for a report.
    #[serde(default)]
    pub unreleased: Amount,
    pub available: Amount,
    /// What nobody used in its time.
    #[serde(default)]
    pub expired: Amount,
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

/// The audit of whatever books `reader` reads.
pub(crate) async fn of(reader: &Reader) -> Result<AuditReport, Failure> {
    let ledger = reader.audit().await?;
    let mut conn = reader.acquire().await?;
    let mut snapshot = conn.snapshot_to_audit().await?;
    let mut seen = snapshot.db();
    let mut findings = Vec::new();
    for (what, sql) in store::audit::CHECKS {
        findings.push(Finding { what, rows: store::audit::count(&mut seen, sql).await? });
    }
    findings.push(Finding { what: Break::TokenDiffers, rows: store::audit::tokens_differing(&mut seen).await? });
    findings.push(Finding { what: Break::PeriodDiffers, rows: periods::differing(&mut seen).await? });
    findings.push(Finding { what: Break::TermsDiffer, rows: store::owners::differing(&mut seen).await? });
    findings.push(Finding { what: Break::ActDiffers, rows: store::audit::acts_differing(&mut seen).await? });
    findings.retain(|finding| finding.rows != 0);
    let totals = store::totals::overall(&mut seen).await?;
    snapshot.rollback().await?;
    let ledger_sum_ucr = ledger.sum_ucr(Unit::CREDITS);
    let holds = ledger.holds && findings.is_empty() && ledger_sum_ucr == 0;
    Ok(AuditReport { holds, ledger_sum_ucr, totals, findings, ledger })
}

impl Clearing {
    /// Re-adds everything from the transfers and checks the house's tables against them, each in one snapshot.
    ///
    /// # Errors
    /// [`Failure`] where the books cannot be read; what is wrong in them is in the report.
    pub async fn audit(&self) -> Result<AuditReport, Failure> {
        of(self.reader()).await
    }

    /// Where all credits are.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn overall(&self) -> Result<Sums, Failure> {
        store::totals::overall(&mut self.read().await?.db()).await
    }

    /// What was awarded, and where it is now, per project and overall.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn totals(&self) -> Result<Totals, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let projects = store::projects::projects(&mut seen).await?;
        let mut all = Vec::with_capacity(projects.len());
        for project in projects {
            let sums = store::totals::of_project(&mut seen, project.id).await?;
            all.push(ProjectTotals { project: project.id, title: project.title, sums });
        }
        let overall = store::totals::overall(&mut seen).await?;
        snapshot.rollback().await?;
        Ok(Totals { overall, projects: all })
    }
}

/// The number under which the ledger keeps an account's code.
pub(crate) fn code(code: AccountCode) -> i64 {
    i64::from(code.number())
}

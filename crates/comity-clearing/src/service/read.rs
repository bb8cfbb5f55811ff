//! What members and owners may see: a project, a statement.

use comity_ledger::Db;
use comity_ledger::{AccountId, LedgerTx, Store as _};
use comity_wire::api::clearing::{ProjectReply, PseudonymAt, Statement, StatementLine, TokenStatus};
use comity_wire::{Amount, NodeId, ProjectId, PublicKey};

use super::Clearing;
use super::projects::exists;
use crate::failure::Failure;
use crate::store::{self, money};
use crate::vetting;

/// Lines of a statement; what lies before them is in its opening balance.
pub(crate) const LINES_MAX: usize = 1_000;
/// Pages of transfers that one statement reads.
const PAGES_MAX: usize = 1_000;

/// Whose statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    Project(ProjectId),
    /// What a node's organisation has earned.
    Node(NodeId),
    /// The caller's only project.
    Own,
}

impl Clearing {
    /// # Errors
    /// [`Failure`] where the caller is no member.
    pub async fn project(&self, caller: &PublicKey, id: ProjectId) -> Result<ProjectReply, Failure> {
        let mut conn = self.read().await?;
        Self::member_of(&mut conn.db(), caller, id).await?;
        drop(conn);
        self.project_status(id).await
    }

    /// As [`Clearing::project`], for the operator.
    ///
    /// # Errors
    /// [`Failure`] where there is no such project.
    pub async fn project_status(&self, id: ProjectId) -> Result<ProjectReply, Failure> {
        let mut conn = self.read().await?;
        // One snapshot: a settlement between two reads would show credits twice, or not at all.
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let project = exists(&mut seen, id).await?;
        let statements = store::projects::vetting_statements(&mut seen, id).await?;
        let awards = store::projects::awards(&mut seen, id).await?;
        let rows = store::tokens::tokens_of_project(&mut seen, id).await?;
        let pseudonyms = store::projects::pseudonyms(&mut seen, id).await?;
        let available = sum_of(&mut seen, &[money::allocation(id).id]).await?;
        let escrows: Vec<_> = rows.iter().map(|row| money::escrow(row.id).id).collect();
        let in_escrow = sum_of(&mut seen, &escrows).await?;
        snapshot.rollback().await?;
        drop(conn);
        let sum = |amounts: &mut dyn Iterator<Item = Amount>| amounts.fold(Amount::ZERO, Amount::saturating_add);
        let token = |row: &store::tokens::TokenRow| TokenStatus {
            token: row.id,
            node: row.node,
            budget: row.budget,
            settled: row.paid,
            refunded: row.refunded,
            expires_at: row.expires_at,
            settle_by: self.calendar().moved(row.issued_at, row.settle_by, self.now()),
            closed: row.phase == 2,
        };
        Ok(ProjectReply {
            project: id,
            title: project.title,
            vetting: vetting::of(&statements, self.now()),
            purposes: project.purposes,
            awarded: sum(&mut awards.iter().map(|award| award.amount)),
            available,
            in_escrow,
            settled: sum(&mut rows.iter().map(|row| row.paid)),
            tokens: rows.iter().map(token).collect(),
            pseudonyms: pseudonyms.into_iter().map(|(org, subject)| PseudonymAt { org, subject }).collect(),
        })
    }

    /// One line for each transfer of the account, newest last, at most 1,000.
    ///
    /// # Errors
    /// [`Failure`] where the account is not the caller's.
    pub async fn statement(&self, caller: &PublicKey, account: Account) -> Result<Statement, Failure> {
        let account = self.account_of(caller, account).await?;
        let (mut opening, mut after) = (0_i128, 0);
        let mut lines = std::collections::VecDeque::new();
        for _ in 0..PAGES_MAX {
            let page = self.inner.reader.transfers_of_account(account, after, comity_ledger::store::PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for posted in page {
                let debit = posted.transfer.debit == account;
                lines.push_back(StatementLine {
                    at: posted.posted_at,
                    kind: word(posted.transfer.kind),
                    amount: posted.transfer.amount,
                    debit,
                    reference: posted.transfer.reference.to_string(),
                });
                if lines.len() > LINES_MAX {
                    let line: StatementLine = lines.pop_front().expect("more than none");
                    opening += signed(&line);
                }
            }
        }
        let side = |debit: bool| {
            let amounts = lines.iter().filter(|line| line.debit == debit).map(|line| line.amount);
            amounts.fold(Amount::ZERO, Amount::saturating_add)
        };
        let closing = opening + lines.iter().map(signed).sum::<i128>();
        let unreadable = || Failure::Unreadable { table: "transfer", what: "a balance below zero" };
        let amount = |sum: i128| i64::try_from(sum).ok().and_then(|ucr| Amount::new(ucr).ok()).ok_or_else(unreadable);
        let (credits, debits) = (side(false), side(true));
        Ok(Statement { opening: amount(opening)?, credits, debits, closing: amount(closing)?, lines: lines.into() })
    }

    async fn account_of(&self, caller: &PublicKey, account: Account) -> Result<AccountId, Failure> {
        match account {
            Account::Node(node) => {
                let certificate = self.inner.directory.certificate(node);
                let own = certificate.filter(|certificate| certificate.transport_keys.contains(caller));
                let own = own.ok_or(Failure::NotYours { what: "another node's statement" })?;
                Ok(money::payable(own.org).id)
            }
            Account::Project(project) => {
                Self::member_of(&mut self.read().await?.db(), caller, project).await?;
                Ok(money::allocation(project).id)
            }
            Account::Own => {
                let projects = store::projects::projects_of_member(&mut self.read().await?.db(), caller).await?;
                match projects[..] {
                    [] => Err(Failure::NotRegistered),
                    [project] => Ok(money::allocation(project).id),
                    _ => Err(Failure::invalid("you belong to several projects: name one with ?project=")),
                }
            }
        }
    }
}

fn signed(line: &StatementLine) -> i128 {
    let amount = i128::from(line.amount.ucr());
    if line.debit { -amount } else { amount }
}

/// The kind's one word, as the ledger writes it.
fn word(kind: comity_ledger::TransferKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".to_owned(),
    }
}

/// What is available in these accounts together, within the snapshot that is open on `conn`.
async fn sum_of(conn: &mut Db<'_>, ids: &[AccountId]) -> Result<Amount, Failure> {
    let mut sum = Amount::ZERO;
    for ids in ids.chunks(256) {
        let held = LedgerTx::new(conn).accounts_in_tx(ids).await?;
        sum = held.iter().map(|account| account.available()).fold(sum, Amount::saturating_add);
    }
    Ok(sum)
}

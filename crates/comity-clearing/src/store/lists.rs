//! Lists in pages: after a key, in its order, so many.

use comity_ledger::AccountId;
use comity_ledger::db::{Db, query};
use comity_wire::api::clearing::{Earning, Exception};
use comity_wire::{NodeId, OrgId, ProjectId, TokenId};

use super::tokens::TokenRow;
use super::{Cells, int};
use crate::failure::Failure;

/// Whose tokens a list is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    Project(ProjectId),
    /// A node's, while it was this organisation's.
    Node(NodeId, OrgId),
}

/// Tokens of a project by their ids.
pub(crate) async fn tokens_of_project(
    conn: &mut Db<'_>,
    project: ProjectId,
    after: Option<TokenId>,
    limit: u32,
) -> Result<Vec<TokenRow>, Failure> {
    let rows = query("SELECT * FROM token WHERE project = ? AND id > ? ORDER BY id LIMIT ?")
        .bind(project.0.to_vec())
        .bind(after.map_or_else(Vec::new, |id| id.0.to_vec()))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| TokenRow::read(Cells { table: "token", row })).collect()
}

/// What each token of a node brought its owner, by their ids.
pub(crate) async fn earnings(
    conn: &mut Db<'_>,
    (node, owner): (NodeId, OrgId),
    after: Option<TokenId>,
    limit: u32,
) -> Result<Vec<Earning>, Failure> {
    let rows = query(
        "SELECT id, budget, paid, credited, waiting, clamped, issued_at, settle_by, phase FROM token \
         WHERE node = ? AND owner = ? AND id > ? ORDER BY id LIMIT ?",
    )
    .bind(node.0.to_vec())
    .bind(owner.0.to_vec())
    .bind(after.map_or_else(Vec::new, |id| id.0.to_vec()))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let earning = |row| {
        let cells = Cells { table: "token", row };
        Ok(Earning {
            token: TokenId(cells.bytes("id")?),
            budget: cells.amount("budget")?,
            settled: cells.amount("paid")?,
            credited: cells.amount("credited")?,
            waiting: cells.amount("waiting")?,
            clamped: cells.amount("clamped")?,
            issued_at: cells.time("issued_at")?,
            settle_by: cells.time("settle_by")?,
            closed: cells.int("phase")? == 2,
        })
    };
    rows.iter().map(earning).collect()
}

/// Exceptions, each with its place in the books.
pub(crate) async fn exceptions(
    conn: &mut Db<'_>,
    of: Of,
    after: u64,
    limit: u32,
) -> Result<Vec<(u64, Exception)>, Failure> {
    let (whose, ids) = match of {
        Of::Project(project) => ("t.project = ?", vec![project.0.to_vec()]),
        Of::Node(node, owner) => ("t.node = ? AND t.owner = ?", vec![node.0.to_vec(), owner.0.to_vec()]),
    };
    let sql = format!(
        "SELECT e.seq, e.at, e.token, e.code, e.amount, e.message, e.evidence FROM exception e JOIN token t ON t.id = e.token \
         WHERE {whose} AND e.seq > ? ORDER BY e.seq LIMIT ?"
    );
    let asking = ids.into_iter().fold(query(sql), |asking, id| asking.bind(id));
    let rows = asking.bind(int(after)).bind(i64::from(limit)).fetch_all(conn).await?;
    let exception = |row| {
        let cells = Cells { table: "exception", row };
        let exception = Exception {
            at: cells.time("at")?,
            token: TokenId(cells.bytes("token")?),
            code: cells.text("code")?.parse().map_err(|_| cells.unreadable("code"))?,
            amount: cells.amount("amount")?,
            message: cells.text("message")?,
            evidence: cells.digest("evidence")?,
        };
        Ok((cells.uint("seq")?, exception))
    };
    rows.iter().map(exception).collect()
}

/// Credits less debits of an account up to and with a place in the books.
pub(crate) async fn balance_at(conn: &mut Db<'_>, account: AccountId, place: u64) -> Result<i64, Failure> {
    let mut balance = 0;
    for (side, sign) in [("credit", 1), ("debit", -1)] {
        let sql =
            format!("SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM transfer WHERE {side}_id = ? AND seq <= ?");
        let sum: i64 = query(sql).bind(account.0.to_vec()).bind(int(place)).fetch_one(conn).await?.first()?;
        balance += sign * sum;
    }
    Ok(balance)
}

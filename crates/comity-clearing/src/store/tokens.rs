//! Quotes, pinned tariffs, and tokens with their escrow terms.

use std::collections::BTreeSet;

use comity_ledger::db::{Db, Value, query};
use comity_ledger::values;
use comity_wire::object::{Tariff, Token};
use comity_wire::{
    Amount, Digest, Encode as _, MandateId, ModelId, NodeId, OrgId, ProjectId, PublicKey, Timestamp, TokenId, Verified,
};

use super::{Cells, seconds};
use crate::failure::Failure;

/// A token as it stands in the books.
#[derive(Clone, Debug)]
pub(crate) struct TokenRow {
    pub(crate) id: TokenId,
    /// None: learnt from a claim.
    pub(crate) project: Option<ProjectId>,
    /// Under which it was drawn.
    pub(crate) mandate: Option<MandateId>,
    /// Of one drawn under a mandate: for which model, where it is for one.
    pub(crate) model: Option<ModelId>,
    pub(crate) node: NodeId,
    pub(crate) owner: OrgId,
    pub(crate) budget: Amount,
    pub(crate) window: Amount,
    pub(crate) lanes_max: u16,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) settle_by: Timestamp,
    pub(crate) request: Digest,
    /// The token's body and the key that signs it.
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) issuer: Option<PublicKey>,
    pub(crate) content: Option<Digest>,
    /// Its signed form, where it was kept: of a token learnt from a claim, and of those sold before the house signed anew
    /// at each repeat.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Whose key drew it; of one learnt from a claim, or sold by a house of before: none.
    pub(crate) drawn_by: Option<PublicKey>,
    pub(crate) phase: i64,
    pub(crate) final_: Option<Digest>,
    pub(crate) paid: Amount,
    pub(crate) refunded: Amount,
    /// Of the paid: given back by credit notes.
    pub(crate) credited: Amount,
    pub(crate) clamped: Amount,
    pub(crate) late: Amount,
    pub(crate) movements: u64,
    /// While a dispute is open nothing is paid under the token.
    pub(crate) is_disputed: bool,
}

impl TokenRow {
    /// A token that begins: nothing paid, nothing signed.
    pub(crate) fn of(token: &Token, project: Option<ProjectId>, owner: OrgId, request: Digest) -> Self {
        Self {
            id: token.id,
            project,
            mandate: None,
            model: None,
            node: token.audience(),
            owner,
            budget: token.terms.budget,
            window: token.terms.window,
            lanes_max: token.terms.lanes_max,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            settle_by: token.terms.settle_by,
            request,
            payload: Some(token.to_cbor()),
            issuer: None,
            content: None,
            bytes: None,
            drawn_by: None,
            phase: 0,
            final_: None,
            paid: Amount::ZERO,
            refunded: Amount::ZERO,
            credited: Amount::ZERO,
            clamped: Amount::ZERO,
            late: Amount::ZERO,
            movements: 0,
            is_disputed: false,
        }
    }

    fn values(&self) -> [Value; 18] {
        values![
            self.id.0,
            self.project.map(|project| project.0.to_vec()),
            self.node.0,
            self.owner.0,
            self.budget.ucr(),
            self.window.ucr(),
            i64::from(self.lanes_max),
            seconds(self.issued_at),
            seconds(self.expires_at),
            seconds(self.settle_by),
            self.request.0,
            self.payload.clone(),
            self.issuer.map(|key| key.as_bytes().to_vec()),
            self.content.map(|content| content.0.to_vec()),
            self.bytes.clone(),
            self.mandate.map(|mandate| mandate.0.to_vec()),
            self.drawn_by.map(|key| key.as_bytes().to_vec()),
            self.model.as_ref().map(ToString::to_string),
        ]
    }

    pub(crate) fn read(cells: Cells<'_>) -> Result<Self, Failure> {
        let key = |name| {
            let key = cells.bytes_maybe::<32>(name)?;
            key.map(|key| PublicKey::from_bytes(&key).map_err(|_| cells.unreadable(name))).transpose()
        };
        Ok(Self {
            id: TokenId(cells.bytes("id")?),
            project: cells.bytes_maybe("project")?.map(ProjectId),
            mandate: cells.bytes_maybe("mandate")?.map(MandateId),
            model: match cells.row.text_maybe("model")? {
                Some(model) => Some(model.parse().map_err(|_| cells.unreadable("model"))?),
                None => None,
            },
            node: NodeId(cells.bytes("node")?),
            owner: OrgId(cells.bytes("owner")?),
            budget: cells.amount("budget")?,
            window: cells.amount("window")?,
            lanes_max: u16::try_from(cells.uint("lanes_max")?).map_err(|_| cells.unreadable("lanes_max"))?,
            issued_at: cells.time("issued_at")?,
            expires_at: cells.time("expires_at")?,
            settle_by: cells.time("settle_by")?,
            request: cells.digest("request")?,
            payload: cells.blob_maybe("payload")?,
            issuer: key("issuer")?,
            drawn_by: key("drawn_by")?,
            content: cells.bytes_maybe("content")?.map(Digest),
            bytes: cells.blob_maybe("bytes")?,
            phase: cells.int("phase")?,
            final_: cells.bytes_maybe("final")?.map(Digest),
            paid: cells.amount("paid")?,
            refunded: cells.amount("refunded")?,
            credited: cells.amount("credited")?,
            clamped: cells.amount("clamped")?,
            late: cells.amount("late")?,
            movements: cells.uint("movements")?,
            is_disputed: cells.int("frozen")? == 2,
        })
    }
}

pub(crate) async fn token_find(conn: &mut Db<'_>, id: TokenId) -> Result<Option<TokenRow>, Failure> {
    let row = query("SELECT * FROM token WHERE id = ?").bind(id.0.to_vec()).fetch_optional(conn).await?;
    row.map(|row| TokenRow::read(Cells { table: "token", row: &row })).transpose()
}

pub(crate) async fn tokens_of_project(conn: &mut Db<'_>, project: ProjectId) -> Result<Vec<TokenRow>, Failure> {
    let rows = query("SELECT * FROM token WHERE project = ? ORDER BY issued_at, id")
        .bind(project.0.to_vec())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| TokenRow::read(Cells { table: "token", row })).collect()
}

/// A token that time may have done something to, and its place in the order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) settle_by: Timestamp,
    pub(crate) token: TokenId,
}

/// What is due after this one, the most urgent first, at most `limit`.
pub(crate) async fn tokens_due(
    conn: &mut Db<'_>,
    now: Timestamp,
    after: Option<Due>,
    limit: u32,
) -> Result<Vec<Due>, Failure> {
    let (settle_by, id) = after.map_or((-1, Vec::new()), |due| (seconds(due.settle_by), due.token.0.to_vec()));
    let rows = query(
        "SELECT id, settle_by FROM token WHERE ((phase < 2 AND settle_by <= ?) OR waiting > 0) AND (settle_by, id) > (?, ?) \
         ORDER BY settle_by, id LIMIT ?",
    )
    .bind(seconds(now))
    .bind(settle_by)
    .bind(id)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let due = |row| {
        let cells = Cells { table: "token", row };
        Ok(Due { settle_by: cells.time("settle_by")?, token: TokenId(cells.bytes("id")?) })
    };
    rows.iter().map(due).collect()
}

/// Which tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Drawn {
    /// By a key, and by the jobs that it signed for.
    By(PublicKey),
    Under(MandateId),
}

impl std::fmt::Display for Drawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::By(key) => key.fmt(f),
            Self::Under(mandate) => mandate.fmt(f),
        }
    }
}

const LIVE_BY: &str = "SELECT id FROM token WHERE phase < 2 AND settle_by > ? AND phase = 0 AND expires_at > ? AND (drawn_by = ? \
    OR mandate IN (SELECT m.id FROM mandate m WHERE m.parent IS NOT NULL AND m.signer = ?)) \
    ORDER BY budget - paid DESC, id LIMIT ?";

/// Tokens that were drawn so and can still be used, those first that may spend the most, at most `limit`.
pub(crate) async fn tokens_live_of(
    conn: &mut Db<'_>,
    drawn: Drawn,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<TokenId>, Failure> {
    let (sql, of) = match drawn {
        Drawn::By(key) => (LIVE_BY, vec![key.as_bytes().to_vec(); 2]),
        Drawn::Under(mandate) => (
            "SELECT id FROM token WHERE settle_by > ? AND phase = 0 AND expires_at > ? \
             AND mandate IN (SELECT m.id FROM mandate m WHERE m.id = ? OR m.parent = ?) \
             ORDER BY budget - paid DESC, id LIMIT ?",
            vec![mandate.0.to_vec(); 2],
        ),
    };
    let asking = query(sql).bind(seconds(now)).bind(seconds(now));
    let asking = of.into_iter().fold(asking, |asking, of| asking.bind(of));
    let rows = asking.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(conn).await?;
    rows.iter().map(|row| Ok(TokenId(Cells { table: "token", row }.bytes("id")?))).collect()
}

/// Those of `ids` that are in the books.
pub(crate) async fn tokens_known(conn: &mut Db<'_>, ids: &[TokenId]) -> Result<BTreeSet<TokenId>, Failure> {
    let mut known = BTreeSet::new();
    let asking = query("SELECT id FROM token WHERE id {any}").each(ids.iter().map(|id| values![id.0]));
    for row in asking.repeatable().fetch_all(conn).await? {
        known.insert(TokenId(Cells { table: "token", row: &row }.bytes("id")?));
    }
    Ok(known)
}

pub(crate) async fn tokens_insert_in_tx(conn: &mut Db<'_>, tokens: &[TokenRow]) -> Result<(), Failure> {
    let inserting = query(
        "INSERT INTO token (id, project, node, owner, budget, \"window\", lanes_max, issued_at, expires_at, settle_by, request, \
         payload, issuer, content, bytes, mandate, drawn_by, model) {rows}",
    );
    inserting.each(tokens.iter().map(TokenRow::values)).execute(conn).await?;
    Ok(())
}

/// Writes down the name of a token that a house of before signed after it was committed, if it came to that.
pub(crate) async fn token_name_in_tx(conn: &mut Db<'_>, id: TokenId, content: Digest) -> Result<(), Failure> {
    query("UPDATE token SET content = ? WHERE id = ? AND content IS NULL")
        .bind(content.0.to_vec())
        .bind(id.0.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn tariff_insert_in_tx(conn: &mut Db<'_>, tariff: &Verified<Tariff>) -> Result<(), Failure> {
    query("INSERT INTO tariff (id, bytes) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(tariff.id().0.to_vec())
        .bind(tariff.bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use comity_ledger::{Database, books};

    use super::*;

    #[tokio::test]
    async fn jobs_are_found_by_who_signed_for_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::sqlite(folder.path().join("house.sqlite"));
        books::migrate(&database, crate::store::migrations()).await.expect("the tables");
        let mut conn = database.connect().await.expect("a connection");
        let plan = query(format!("EXPLAIN QUERY PLAN {LIVE_BY}")).bind(0).bind(0).bind(vec![0; 32]).bind(vec![0; 32]);
        let steps = plan.bind(1).fetch_all(&mut conn.db()).await.expect("a plan");
        let steps: Vec<String> = steps.iter().map(|row| row.text("detail").expect("a step")).collect();
        assert!(
            steps.iter().any(|step| step.starts_with("SEARCH m USING") && step.contains("mandate_by_signer")),
            "{steps:?}"
        );
    }
}

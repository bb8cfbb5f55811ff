//! What an audit asks of the house's tables, in SQL, and of each token's signed bytes.

use std::collections::HashMap;

use comity_ledger::db::{Db, query};
use comity_wire::cbor::{Encode as _, Limits};
use comity_wire::object::Token;
use comity_wire::{Decode as _, Digest, Object as _, OrgId, ProjectId, Pseudonym, Signed, cose};
use futures::TryStreamExt as _;

use super::Cells;
use super::tokens::TokenRow;
use crate::acts::ActRecord;
use crate::audit::Break;
use crate::failure::Failure;

/// Each counts the rows that break a promise. Kinds of transfers: 1 award, 2 allocate, 3 reserve, 4 settle, 5 refund,
/// 6 from suspense, 7 expire, 8 dispute, 9 dispute ends, 10 remit, 11 withdraw, 13 reallocate, 14 exchange, 15 credit note, 16 write-off; codes of accounts: 1 issuance, 2 of a lot unreleased, 3 of a lot to
/// draw on, 4 escrow, 5 payable, 6 suspense, 7 of a lot expired, 8 held by a dispute, 9 remitted, 11 written off. A lot named by its project, and awards that are `pooled`,
/// are from before there were lots.
pub(crate) const CHECKS: [(Break, &str); 21] = [
    (
        Break::AllocationOverspent,
        "SELECT COUNT(*) FROM project p WHERE \
         (SELECT COALESCE(SUM(amount), 0) FROM lot l WHERE l.project = p.id) < \
         (SELECT COALESCE(SUM(f.amount), 0) FROM token t JOIN transfer f ON f.reference = t.id AND f.kind = 4 WHERE t.project = p.id) - \
         (SELECT COALESCE(SUM(f.amount), 0) FROM token t JOIN transfer f ON f.reference = t.id AND f.kind IN (9, 15) \
         JOIN account c ON c.id = f.credit_id AND c.code = 3 WHERE t.project = p.id) + \
         (SELECT COALESCE(SUM(e.credits - e.debits), 0) FROM token t JOIN account e ON e.reference = t.id AND e.code = 4 WHERE t.project = p.id)",
    ),
    (
        Break::ProjectDiffers,
        "SELECT COUNT(*) FROM project p WHERE \
         (SELECT COALESCE(SUM(amount), 0) FROM lot l WHERE l.project = p.id) - \
         (SELECT COALESCE(SUM(f.amount), 0) FROM lot l JOIN transfer f ON f.reference = l.id AND f.kind IN (11, 13) WHERE l.project = p.id) <> \
         (SELECT COALESCE(SUM(c.credits - c.debits), 0) FROM lot l JOIN account c ON c.reference = l.id AND c.code IN (2, 3, 7) WHERE l.project = p.id) + \
         (SELECT COALESCE(SUM(e.credits - e.debits), 0) FROM token t JOIN account e ON e.reference = t.id AND e.code = 4 WHERE t.project = p.id) + \
         (SELECT COALESCE(SUM(f.amount), 0) FROM token t JOIN transfer f ON f.reference = t.id AND f.kind = 4 WHERE t.project = p.id) - \
         (SELECT COALESCE(SUM(f.amount), 0) FROM token t JOIN transfer f ON f.reference = t.id AND f.kind IN (9, 15) \
         JOIN account c ON c.id = f.credit_id AND c.code = 3 WHERE t.project = p.id)",
    ),
    (
        // Given = what lies in it, what tokens have of it, what left it; and it was given by transfers of its own.
        Break::LotDiffers,
        "SELECT COUNT(*) FROM lot l LEFT JOIN (SELECT lot, SUM(amount - returned) AS amount FROM draw GROUP BY lot) summed ON summed.lot = l.id \
         WHERE l.amount <> \
         (SELECT COALESCE(SUM(c.credits - c.debits), 0) FROM account c WHERE c.reference = l.id AND c.code IN (2, 3, 7)) + \
         COALESCE(summed.amount, 0) + \
         (SELECT COALESCE(SUM(f.amount), 0) FROM transfer f WHERE f.reference = l.id AND f.kind IN (11, 13)) \
         OR l.amount <> CASE \
         WHEN l.origin IS NOT NULL THEN (SELECT COALESCE(SUM(f.amount), 0) FROM account c JOIN transfer f ON f.credit_id = c.id \
         WHERE c.reference = l.id AND c.code = 3 AND f.kind IN (13, 14)) \
         WHEN l.id = l.project THEN (SELECT COALESCE(SUM(f.amount), 0) FROM award a JOIN transfer f ON f.reference = a.id AND f.kind = 1 \
         WHERE a.project = l.project) \
         ELSE (SELECT COALESCE(SUM(f.amount), 0) FROM transfer f WHERE f.reference = l.id AND f.kind IN (1, 14)) END",
    ),
    (
        Break::DrawDiffers,
        "SELECT COUNT(*) FROM draw w WHERE w.amount <> \
         (SELECT COALESCE(SUM(f.amount), 0) FROM transfer f JOIN account d ON d.id = f.debit_id \
         WHERE f.reference = w.token AND f.kind = 3 AND d.reference = w.lot) OR w.returned <> \
         (SELECT COALESCE(SUM(f.amount), 0) FROM transfer f JOIN account c ON c.id = f.credit_id \
         WHERE f.reference = w.token AND f.kind IN (5, 9, 15) AND c.reference = w.lot)",
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
         (SELECT COALESCE(SUM(amount), 0) FROM lot l WHERE l.award = a.id AND l.origin IS NULL AND l.id <> l.project) + \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = a.id AND f.kind = 1) OR \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = a.id AND f.kind = 1) <> \
         (SELECT COALESCE(SUM(amount), 0) FROM transfer f WHERE f.reference = a.id AND f.kind = 2)",
    ),
    (
        // From the other end. What a kind moves, from which account of whom to which of whom; anything else is none of ours.
        Break::TransferWithoutRow,
        "SELECT COUNT(*) FROM transfer f \
         LEFT JOIN account d ON d.id = f.debit_id LEFT JOIN account c ON c.id = f.credit_id \
         LEFT JOIN award a ON a.id = f.reference LEFT JOIN lot l ON l.id = f.reference LEFT JOIN token t ON t.id = f.reference \
         WHERE NOT COALESCE(CASE f.kind \
         WHEN 1 THEN d.code = 1 AND c.code = 2 AND (c.reference = l.id OR (c.reference = a.id AND a.pooled = 1)) \
         WHEN 2 THEN d.code = 2 AND c.code = 3 AND ((d.reference = l.id AND c.reference = l.id) OR \
         (d.reference = a.id AND c.reference = a.project AND a.pooled = 1)) \
         WHEN 3 THEN d.code = 3 AND c.code = 4 AND c.reference = t.id AND \
         EXISTS (SELECT 1 FROM draw w JOIN lot o ON o.id = w.lot WHERE w.token = t.id AND w.lot = d.reference AND o.project = t.project) \
         WHEN 4 THEN d.code = 4 AND d.reference = t.id AND c.code = 5 AND c.reference = t.owner \
         WHEN 5 THEN d.code = 4 AND d.reference = t.id AND c.code = 3 AND \
         EXISTS (SELECT 1 FROM draw w WHERE w.token = t.id AND w.lot = c.reference) \
         WHEN 6 THEN d.code = 6 AND c.code = 5 AND c.reference = t.owner \
         WHEN 7 THEN d.code IN (2, 3) AND d.reference = l.id AND c.code = 7 AND c.reference = l.id \
         WHEN 8 THEN d.code = 5 AND d.reference = t.owner AND c.code = 8 AND c.reference = t.id \
         WHEN 9 THEN d.code = 8 AND d.reference = t.id AND ((c.code = 5 AND c.reference = t.owner) OR c.code = 6 OR \
         (c.code = 3 AND EXISTS (SELECT 1 FROM draw w WHERE w.token = t.id AND w.lot = c.reference))) \
         WHEN 10 THEN d.code = 5 AND c.code = 9 AND d.reference = f.reference AND c.reference = f.reference \
         WHEN 11 THEN d.code IN (2, 3) AND d.reference = l.id AND c.code = 1 \
         WHEN 13 THEN d.code = 3 AND d.reference = l.id AND c.code = 3 AND \
         EXISTS (SELECT 1 FROM lot o WHERE o.id = c.reference AND o.origin = l.id AND o.award = l.award) \
         WHEN 14 THEN d.code = 5 AND c.code = 3 AND c.reference = l.id AND \
         EXISTS (SELECT 1 FROM payout p WHERE p.transfer = f.id AND p.owner = d.reference) \
         WHEN 15 THEN d.code = 5 AND d.reference = t.owner AND EXISTS (SELECT 1 FROM credit_note n WHERE n.id = f.evidence AND n.token = t.id) AND \
         (c.code = 6 OR (c.code = 3 AND EXISTS (SELECT 1 FROM draw w WHERE w.token = t.id AND w.lot = c.reference))) \
         WHEN 16 THEN (d.code = 11 AND c.code = 6) OR (d.code = 6 AND c.code = 11) \
         END, FALSE)",
    ),
    (
        Break::ActMissing,
        "SELECT COUNT(*) FROM transfer f WHERE f.kind IN (1, 9, 10, 11, 13, 14, 16) AND \
         NOT EXISTS (SELECT 1 FROM act x WHERE x.id = f.evidence AND x.state = 1) AND \
         NOT EXISTS (SELECT 1 FROM award a WHERE a.id = f.reference AND a.pooled = 1)",
    ),
    (
        // What was set aside for it, what of that still lies there, and whether the token knows.
        Break::DisputeDiffers,
        "SELECT COUNT(*) FROM dispute i JOIN token t ON t.id = i.token WHERE \
         i.held <> (SELECT COALESCE(SUM(f.amount), 0) FROM transfer f WHERE f.reference = i.token AND f.kind = 8 AND f.evidence = i.evidence) OR \
         (SELECT COALESCE(SUM(o.held), 0) FROM dispute o WHERE o.token = i.token AND o.state = 0) <> \
         (SELECT COALESCE(SUM(h.credits - h.debits), 0) FROM account h WHERE h.reference = i.token AND h.code = 8) OR \
         (i.state = 0 AND t.frozen <> 2) OR \
         (i.state <> 0 AND NOT EXISTS (SELECT 1 FROM act x WHERE x.id = i.act AND x.state = 1))",
    ),
    (
        // What a credit note and a payment run find an owner's tokens by.
        Break::DisputeDiffers,
        "SELECT COUNT(*) FROM token t LEFT JOIN (SELECT token, MAX(taken_at) AS newest FROM final GROUP BY token) summed ON summed.token = t.id \
         WHERE COALESCE(t.final_at, -1) <> COALESCE(summed.newest, -1) OR t.undecided <> \
         (SELECT COUNT(*) FROM claim c WHERE c.token = t.id AND c.drawn = 0) + \
         (SELECT COUNT(*) FROM challenge h WHERE h.token = t.id AND h.state = 0) + \
         (SELECT COUNT(*) FROM dispute i WHERE i.token = t.id AND i.state = 0)",
    ),
    (
        // Each note moved what it says; of each token the notes are what it says was given back.
        Break::CreditNoteDiffers,
        "SELECT COUNT(*) FROM token t LEFT JOIN (SELECT n.token, SUM(n.amount) AS amount, SUM(CASE WHEN n.amount = \
         (SELECT COALESCE(SUM(f.amount), 0) FROM transfer f WHERE f.reference = n.token AND f.kind = 15 AND f.evidence = n.id) THEN 0 ELSE 1 END) AS differing \
         FROM credit_note n GROUP BY n.token) summed ON summed.token = t.id WHERE \
         t.credited <> COALESCE(summed.amount, 0) OR COALESCE(summed.differing, 0) <> 0 OR \
         t.credited <> (SELECT COALESCE(SUM(f.amount), 0) FROM transfer f WHERE f.reference = t.id AND f.kind = 15)",
    ),
    (
        // Each payment has its lines, but those from before payments had any.
        Break::PayoutDiffers,
        "SELECT COUNT(*) FROM transfer f WHERE f.kind IN (10, 14) AND NOT EXISTS (\
         SELECT 1 FROM payout p JOIN account d ON d.id = f.debit_id WHERE p.transfer = f.id AND p.owner = d.reference AND p.amount = f.amount AND \
         (p.lined = 0 OR f.amount = (SELECT COALESCE(SUM(l.amount), 0) FROM payout_line l WHERE l.payout = p.transfer)))",
    ),
    (
        Break::TermsExceeded,
        "SELECT COUNT(*) FROM owner_terms o WHERE \
         (o.pays = 0 AND EXISTS (SELECT 1 FROM payout_line l WHERE l.terms = o.act)) OR \
         o.ceiling < (SELECT COALESCE(SUM(l.amount), 0) FROM payout_line l WHERE l.terms = o.act)",
    ),
    (
        Break::OwnerDiffers,
        "SELECT COUNT(*) FROM token t WHERE EXISTS (SELECT 1 FROM node_key k WHERE k.node = t.node AND k.owner <> t.owner)",
    ),
];

pub(crate) async fn count(conn: &mut Db<'_>, sql: &'static str) -> Result<u64, Failure> {
    let rows: i64 = query(sql).fetch_one(conn).await?.first()?;
    Ok(rows.unsigned_abs())
}

/// How many tokens have a column that is not what their signed bytes say. Reads each token once and keeps none.
pub(crate) async fn tokens_differing(conn: &mut Db<'_>) -> Result<u64, Failure> {
    let rows = query("SELECT subject, project, owner FROM pseudonym").fetch_all(conn).await?;
    let subject = |row| {
        let cells = Cells { table: "pseudonym", row };
        Ok((Pseudonym(cells.bytes("subject")?), (ProjectId(cells.bytes("project")?), OrgId(cells.bytes("owner")?))))
    };
    let subjects = rows.iter().map(subject).collect::<Result<HashMap<_, _>, Failure>>()?;
    let mut differing = 0;
    let mut rows = query("SELECT * FROM token").fetch(conn);
    while let Some(row) = rows.try_next().await? {
        // What cannot be read differs.
        let row = TokenRow::read(Cells { table: "token", row: &row });
        differing += u64::from(!row.is_ok_and(|row| agrees(&row, &subjects)));
    }
    Ok(differing)
}

/// How many acts are not what their id and their signatures say. Who was an officer when is not asked here.
pub(crate) async fn acts_differing(conn: &mut Db<'_>) -> Result<u64, Failure> {
    let mut differing = 0;
    let mut rows = query("SELECT * FROM act").fetch(conn);
    while let Some(row) = rows.try_next().await? {
        differing += u64::from(!super::acts::act(&row).is_ok_and(|act| act_stands(&act)));
    }
    Ok(differing)
}

fn act_stands(act: &ActRecord) -> bool {
    let signers = [&act.proposed_by, &act.approved_by];
    let signed = signers.iter().copied().flatten().all(|by| by.stands(&act.id));
    // Done by one who signed, it needs another; done alone, nobody signed.
    let two = match (&act.proposed_by, &act.approved_by, act.done_at) {
        (Some(first), Some(second), Some(_)) => first.officer != second.officer,
        (Some(_), None, Some(_)) | (None, Some(_), _) => false,
        _ => true,
    };
    Digest::of(act.body.as_bytes()) == act.id && signed && two
}

fn agrees(row: &TokenRow, subjects: &HashMap<Pseudonym, (ProjectId, OrgId)>) -> bool {
    let limits = Limits { bytes_max: Token::KIND.bytes_max, items_max: Token::KIND.items_max, tagged: false };
    let Some(token) = row.payload.as_ref().and_then(|payload| Token::from_cbor(payload, limits).ok()) else {
        return false;
    };
    let terms = &token.terms;
    let same_terms = (row.budget, row.window, row.lanes_max, row.settle_by)
        == (terms.budget, terms.window, terms.lanes_max, terms.settle_by);
    let same = (row.id, row.node, row.issued_at, row.expires_at)
        == (token.id, token.audience(), token.issued_at, token.expires_at);
    // A house that lost its secret for pseudonyms knows nothing of the older ones; what it knows must not differ.
    let subject = token.subject.parse().ok().and_then(|subject: Pseudonym| subjects.get(&subject));
    let same_project = match (row.project, subject) {
        (Some(project), Some(of)) => *of == (project, row.owner),
        _ => true,
    };
    same && same_terms && same_project && signature_stands(row, &token)
}

/// The signature under these very bytes, or the name that they will have once they are signed.
fn signature_stands(row: &TokenRow, token: &Token) -> bool {
    match (&row.bytes, row.content, &row.issuer) {
        (Some(bytes), Some(content), Some(issuer)) => {
            let signed = Signed::<Token>::decode(bytes).and_then(|signed| signed.verify(issuer));
            signed.is_ok_and(|signed| signed.id() == content && signed.to_cbor() == token.to_cbor())
        }
        // Not kept: the house signs anew at each repeat.
        (None, Some(content), Some(issuer)) => cose::content_id(token, issuer) == content,
        (None, None, Some(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use comity_ledger::db::Row;
    use comity_ledger::{Database, books};

    use super::*;

    /// Each check walks through a table once, looks up all else, and sums another at most once beforehand: twice as many
    /// tokens, twice the time.
    #[tokio::test]
    async fn no_check_reads_a_table_again_for_each_row_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::sqlite(dir.path().join("house.db"));
        books::migrate(&database, crate::store::migrations()).await.unwrap();
        let mut conn = database.connect().await.unwrap();
        for (what, sql) in CHECKS {
            let plan = format!("EXPLAIN QUERY PLAN {sql}");
            let plan = query(plan).fetch_all(&mut conn.db()).await.unwrap();
            let step = |row: &Row| (row.int("id").unwrap(), row.int("parent").unwrap(), row.text("detail").unwrap());
            let steps: Vec<(i64, i64, String)> = plan.iter().map(step).collect();
            let summed: Vec<_> =
                steps.iter().filter(|step| step.1 == 0 && step.2 == "MATERIALIZE summed").map(|step| step.0).collect();
            let scans = steps.iter().filter(|step| step.2.starts_with("SCAN") && !summed.contains(&step.1));
            assert!(scans.map(|step| step.1).eq([0]), "{what:?}: {steps:?}");
            let by_hand = |step: &str| step.contains("AUTOMATIC") && !step.starts_with("SEARCH summed ");
            assert!(!steps.iter().any(|step| by_hand(&step.2)), "{what:?}: {steps:?}");
        }
    }
}

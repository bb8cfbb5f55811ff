//! Reports: what accountants ask of the books, over a period, in rows that a spreadsheet takes.
//!
//! Each is re-added from the transfers, never from a sum kept beside them, so that a trial balance, a roll-forward, the
//! statements and the journal agree to the micro-credit or something is wrong. A period is from its first moment up to and
//! without its last; credits less debits is a balance, as the ledger has it.

use comity_ledger::{Account, AccountCode, Posted};
use comity_wire::{LotId, NodeId, OrgId, ProjectId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

/// From when, and up to when; left out: from the beginning, up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// A report: its rows, all of the same fields, and what they add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report<R> {
    pub report: String,
    #[serde(flatten)]
    pub period: Period,
    pub generated_at: Timestamp,
    pub rows: Vec<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<R>,
}

/// All accounts of a code. The balances sum to zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRow {
    pub account: String,
    pub debits_ucr: i64,
    pub credits_ucr: i64,
    pub balance_ucr: i64,
}

/// A project's credits from the beginning of a period to its end:
/// opening + awarded + moved in + exchanged − moved out − withdrawn − expired − settled + reversed + credited = closing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollRow {
    pub project: String,
    pub title: String,
    pub opening_ucr: i64,
    pub awarded_ucr: i64,
    pub moved_in_ucr: i64,
    /// What the project's own organisation had earned.
    pub exchanged_ucr: i64,
    pub moved_out_ucr: i64,
    pub withdrawn_ucr: i64,
    pub expired_ucr: i64,
    pub settled_ucr: i64,
    /// Settled, and taken back by a dispute.
    pub reversed_ucr: i64,
    /// Settled, and given back by the owner: credit notes.
    pub credited_ucr: i64,
    pub closing_ucr: i64,
}

/// Credits that lie in a token's escrow now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    pub token: TokenId,
    pub project: Option<ProjectId>,
    pub owner: OrgId,
    pub node: NodeId,
    pub held_ucr: i64,
    /// RFC 3339, as are all times in rows: a spreadsheet has no idea of seconds since 1970.
    pub issued_at: String,
    pub settle_by: String,
    pub age_days: u64,
    /// `open`, `final` or `closed`.
    pub phase: String,
    /// Past `settle_by`: it should have cleared.
    pub overdue: bool,
}

/// What an owner earned and was paid: opening + settled + from suspense − disputed − credited − remitted − exchanged = closing = payable + not
/// payable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayableRow {
    pub owner: String,
    /// By which terms it is paid for what is sold at the end of the period; empty: it has none.
    pub terms: String,
    pub opening_ucr: i64,
    pub settled_ucr: i64,
    pub from_suspense_ucr: i64,
    pub disputed_ucr: i64,
    /// Given back to projects: credit notes.
    pub credited_ucr: i64,
    pub remitted_ucr: i64,
    /// Turned into credit for the owner's own projects.
    pub exchanged_ucr: i64,
    pub closing_ucr: i64,
    /// Of the closing: what the owner's terms pay. Below zero: a dispute took back more than was left.
    pub payable_ucr: i64,
    pub not_payable_ucr: i64,
    /// Why it is not, each with its part.
    pub reasons: String,
}

/// A project's statement, with the fields of a fund statement (Moab Accounting Manager's).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FundStatement {
    pub project: ProjectId,
    pub title: String,
    #[serde(flatten)]
    pub period: Period,
    pub generated_at: Timestamp,
    /// What could be drawn when it begins, and when it ends.
    pub start_balance_ucr: i64,
    pub end_balance_ucr: i64,
    pub total_credits_ucr: i64,
    pub total_debits_ucr: i64,
    /// In escrow now, and to be drawn now.
    pub reserved_ucr: i64,
    pub available_ucr: i64,
    pub rows: Vec<StatementRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRow {
    pub seq: u64,
    pub at: String,
    pub kind: String,
    pub lot: LotId,
    pub award_number: String,
    pub credit_ucr: i64,
    pub debit_ucr: i64,
    pub balance_ucr: i64,
    /// The token, or the lot itself.
    pub reference: String,
}

/// A page of the journal, and the place after which the next one begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPage {
    pub journal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What stands before the first transfer of a journal.
pub const JOURNAL_HEAD: &str = "; A clearing house's books, in credits. What an account owes is below zero: debits are positive.\n\
                                commodity 1000.000000 CR\n";

/// An account's name in reports and journals: what it is for, and what about.
pub fn account_name(account: &Account) -> String {
    let id = account.reference.0;
    let word = code_word(account.code);
    match account.code {
        AccountCode::AwardLot | AccountCode::Allocation | AccountCode::Expired => format!("{word}:{}", LotId(id)),
        AccountCode::Escrow | AccountCode::DisputeHold => format!("{word}:{}", TokenId(id)),
        AccountCode::OwnerPayable | AccountCode::Remitted => format!("{word}:{}", OrgId(id)),
        AccountCode::Issuance | AccountCode::Suspense | AccountCode::Correction | AccountCode::WrittenOff => {
            word.to_owned()
        }
    }
}

/// The word for a code, the same in every report.
pub const fn code_word(code: AccountCode) -> &'static str {
    match code {
        AccountCode::Issuance => "issuance",
        AccountCode::AwardLot => "unreleased",
        AccountCode::Allocation => "allocation",
        AccountCode::Escrow => "escrow",
        AccountCode::OwnerPayable => "payable",
        AccountCode::Suspense => "suspense",
        AccountCode::Expired => "expired",
        AccountCode::DisputeHold => "disputed",
        AccountCode::Remitted => "remitted",
        AccountCode::Correction => "correction",
        AccountCode::WrittenOff => "written-off",
    }
}

/// A transfer as a transaction of hledger's.
pub fn journal_entry(posted: &Posted, kind: &str, debit: &Account, credit: &Account) -> String {
    let date = posted.posted_at.to_string();
    let amount = posted.transfer.amount.ucr();
    let (whole, part) = (amount / 1_000_000, amount % 1_000_000);
    format!(
        "\n{} {kind}  ; seq:{}, transfer:{}, evidence:{}\n    {}  {whole}.{part:06} CR\n    {}  -{whole}.{part:06} CR\n",
        &date[..10],
        posted.seq,
        posted.transfer.id,
        posted.transfer.evidence,
        account_name(debit),
        account_name(credit),
    )
}

/// Rows as comma-separated values (RFC 4180), their fields in the order in which the report has them.
///
/// A text that a spreadsheet would compute (`=`, `+`, `-`, `@` before a text) gets an apostrophe, as they have it.
///
/// # Panics
/// Never: rows are flat records with a JSON form.
pub fn csv<R: Serialize>(rows: &[R]) -> String {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let value = serde_json::to_value(row).expect("rows have a JSON form");
        let fields = value.as_object().expect("a row is a record");
        if at == 0 {
            line(&mut text, fields.keys().map(|key| cell_text(key)));
        }
        line(&mut text, fields.values().map(cell));
    }
    text
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    text.push_str(&cells.collect::<Vec<_>>().join(","));
    text.push_str("\r\n");
}

fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => cell_text(text),
        other => other.to_string(),
    }
}

fn cell_text(text: &str) -> String {
    let guarded = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if guarded.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_computed_by_nobody() {
        #[derive(Serialize)]
        struct Row {
            title: &'static str,
            ucr: i64,
            none: Option<u8>,
        }
        let rows =
            [Row { title: "say \"hi\", twice", ucr: -5, none: None }, Row { title: "=1+1", ucr: 5, none: Some(1) }];
        assert_eq!(csv(&rows), "title,ucr,none\r\n\"say \"\"hi\"\", twice\",-5,\r\n'=1+1,5,1\r\n");
        assert_eq!(csv::<Row>(&[]), "");
    }
}

//! A ledger of many transfers, to be audited.

use std::time::Instant;

use comity_ledger::{
    AccountCode, Database, Group, LedgerTx, NewAccount, Reader, Reference, Store as _, Transfer, TransferId,
    TransferKind, books,
};
use comity_wire::{Amount, Digest, Timestamp};

const NOW: Timestamp = Timestamp(1_795_420_800);
/// Tokens that are posted in one call.
const TOGETHER: u64 = 1_000;
/// Transfers of a token: reserved, settled twice, refunded.
const EACH: u64 = 4;

/// As tokens are named: those that follow one another stand side by side.
fn reference(number: u64) -> Reference {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
    Reference(bytes)
}

fn account(code: AccountCode, number: u64) -> NewAccount {
    NewAccount::credits_near(code, reference(number))
}

fn transfer(kind: TransferKind, number: u64, serial: u8, from: NewAccount, to: NewAccount, ucr: u32) -> Transfer {
    Transfer {
        id: TransferId::near(kind, reference(number), &[&[serial]]),
        kind,
        debit: from.id,
        credit: to.id,
        amount: Amount::from_ucr(ucr),
        reference: reference(number),
        evidence: Digest::ZERO,
    }
}

/// Seconds that an audit of about `transfers` transfers takes, and how many there were.
pub(crate) async fn audit_s(database: Database, transfers: u64) -> Result<(f64, u64), String> {
    let bad = |error: comity_ledger::StoreError| format!("error: the ledger: {error}");
    let sql = |error: sqlx::Error| format!("error: the ledger's database: {error}");
    books::migrate(&database, comity_ledger::db::Migrations::default()).await.map_err(bad)?;
    let mut conn = database.connect().await.map_err(sql)?;
    let (issuance, lot, owner) =
        (account(AccountCode::Issuance, 0), account(AccountCode::Allocation, 0), account(AccountCode::OwnerPayable, 0));
    for first in (0..transfers / EACH).step_by(TOGETHER as usize) {
        let mut tx = conn.write().await.map_err(sql)?;
        let mut db = tx.db();
        let mut ledger = LedgerTx::new(&mut db);
        let numbers = first..first + TOGETHER;
        let escrow = |number| account(AccountCode::Escrow, number);
        let mut accounts: Vec<_> = numbers.clone().map(escrow).collect();
        let mut groups = Vec::new();
        if first == 0 {
            accounts.extend([issuance, lot, owner]);
            groups.push(Group::single(transfer(TransferKind::Award, 0, 0, issuance, lot, u32::MAX)));
        }
        let _ = ledger.accounts_open_in_tx(&accounts, NOW).await.map_err(bad)?;
        groups.extend(numbers.map(|number| {
            let escrow = escrow(number);
            Group(vec![
                transfer(TransferKind::Reserve, number, 0, lot, escrow, 100),
                transfer(TransferKind::Settle, number, 1, escrow, owner, 40),
                transfer(TransferKind::Settle, number, 2, escrow, owner, 20),
                transfer(TransferKind::Refund, number, 3, escrow, lot, 40),
            ])
        }));
        let posted = ledger.transfers_post_in_tx(&groups, NOW).await.map_err(bad)?;
        if let Some(refused) = posted.iter().find_map(|outcome| outcome.refusal()) {
            return Err(format!("error: the bench's own books: {refused}"));
        }
        tx.commit().await.map_err(sql)?;
    }
    conn.close().await.map_err(sql)?;
    let reader = Reader::open(&database).await.map_err(bad)?;
    let started = Instant::now();
    let report = reader.audit().await.map_err(bad)?;
    let took = started.elapsed().as_secs_f64();
    reader.close().await;
    if report.holds { Ok((took, report.transfers)) } else { Err(format!("error: the audit: {:?}", report.breaks)) }
}

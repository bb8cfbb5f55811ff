//! What suspense paid and nothing will cover becomes the house's loss, and stops being one where it comes back.

use comity_ledger::{Db, Group, LedgerTx, Store as _, Transfer, TransferId, TransferKind};
use comity_wire::{Digest, Timestamp};

use super::acts::{some, text};
use crate::acts::WriteOff;
use crate::failure::Failure;
use crate::store::money;

/// Whether there is as much to be written off, or to be taken back.
pub(super) async fn check(conn: &mut Db<'_>, ask: &WriteOff) -> Result<(), Failure> {
    text("the reason", &ask.reason)?;
    some(ask.amount)?;
    let accounts = LedgerTx::new(conn).accounts_in_tx(&[money::suspense().id, money::written_off().id]).await?;
    let balance = |id| accounts.iter().find(|account| account.id == id).map_or(0, |account| account.balance_ucr());
    let (suspense, lost) = (balance(money::suspense().id), balance(money::written_off().id));
    let (room, what) = if ask.recovered {
        // It came back to suspense, and of what was lost.
        (suspense.min(-lost), "of what was written off came back to suspense")
    } else {
        (-suspense, "is suspense short of")
    };
    if ask.amount.ucr() > room {
        return Err(Failure::invalid(format!("{} asked, {} µcr {what}", ask.amount, room.max(0))));
    }
    Ok(())
}

pub(super) async fn write_off_in_tx(
    conn: &mut Db<'_>,
    ask: &WriteOff,
    evidence: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    let (suspense, lost) = (money::suspense(), money::written_off());
    let (debit, credit) = if ask.recovered { (suspense, lost) } else { (lost, suspense) };
    let transfer = Transfer {
        id: TransferId::derive(TransferKind::WriteOff, &[evidence.as_bytes()]),
        kind: TransferKind::WriteOff,
        debit: debit.id,
        credit: credit.id,
        amount: ask.amount,
        reference: debit.reference,
        evidence,
    };
    let mut ledger = LedgerTx::new(conn);
    money::open_in_tx(&mut ledger, &[suspense, lost], now).await?;
    money::post_in_tx(&mut ledger, Group::single(transfer), now).await
}

//! The house's accounts in the ledger, named by what they are about.

use comity_ledger::db::{Db, query};
use comity_ledger::{AccountCode, AccountId, Group, LedgerTx, NewAccount, Opened, Reference, Refusal, Store as _};
use comity_wire::{LotId, OrgId, Timestamp, TokenId};

use super::Cells;
use crate::failure::Failure;

pub(crate) const fn reference(id: [u8; 16]) -> Reference {
    Reference(id)
}

pub(crate) fn issuance() -> NewAccount {
    NewAccount::credits(AccountCode::Issuance, Reference::NONE)
}

/// What of a lot is not spendable yet.
pub(crate) fn unreleased(lot: LotId) -> NewAccount {
    NewAccount::credits(AccountCode::AwardLot, reference(lot.0))
}

/// What of a lot can be reserved. The lot of those who had awards before there were lots is named by their project.
pub(crate) fn allocation(lot: LotId) -> NewAccount {
    NewAccount::credits(AccountCode::Allocation, reference(lot.0))
}

/// What of a lot nobody used in its time.
pub(crate) fn expired(lot: LotId) -> NewAccount {
    NewAccount::credits(AccountCode::Expired, reference(lot.0))
}

/// The escrow of a token that begins.
pub(crate) fn escrow(token: TokenId) -> NewAccount {
    NewAccount::credits_near(AccountCode::Escrow, reference(token.0))
}

/// The escrow of a token in the books. Those that were opened before ids stood beside their tokens have another id.
pub(crate) async fn escrow_of(conn: &mut Db<'_>, token: TokenId) -> Result<NewAccount, Failure> {
    let row = query("SELECT id FROM account WHERE reference = ? AND code = ?")
        .bind(token.0.to_vec())
        .bind(i64::from(AccountCode::Escrow.number()))
        .fetch_optional(conn)
        .await?;
    let new = escrow(token);
    match row {
        Some(row) => Ok(NewAccount { id: AccountId(Cells { table: "account", row: &row }.bytes("id")?), ..new }),
        None => Ok(new),
    }
}

pub(crate) fn payable(owner: OrgId) -> NewAccount {
    NewAccount::credits(AccountCode::OwnerPayable, reference(owner.0))
}

/// What an owner was paid outside of these books.
pub(crate) fn remitted(owner: OrgId) -> NewAccount {
    NewAccount::credits(AccountCode::Remitted, reference(owner.0))
}

/// What a dispute keeps from the owner of a token's node.
pub(crate) fn dispute_hold(token: TokenId) -> NewAccount {
    NewAccount::credits_near(AccountCode::DisputeHold, reference(token.0))
}

pub(crate) fn suspense() -> NewAccount {
    NewAccount::credits(AccountCode::Suspense, Reference::NONE)
}

/// What the house bore itself.
pub(crate) fn written_off() -> NewAccount {
    NewAccount::credits(AccountCode::WrittenOff, Reference::NONE)
}

pub(crate) async fn open_in_tx(
    ledger: &mut LedgerTx<'_>,
    accounts: &[NewAccount],
    now: Timestamp,
) -> Result<(), Failure> {
    let opened = ledger.accounts_open_in_tx(accounts, now).await?;
    match opened.iter().position(|opened| *opened == Opened::Conflict) {
        Some(at) => Err(Failure::Books { what: format!("account {} is another one", accounts[at].id) }),
        None => Ok(()),
    }
}

/// Posts a group that the house's own rules allow; whatever the books refuse then is a fault of the house.
pub(crate) async fn post_in_tx(ledger: &mut LedgerTx<'_>, group: Group, now: Timestamp) -> Result<(), Failure> {
    match try_post_in_tx(ledger, group, now).await? {
        Ok(()) => Ok(()),
        Err(refusal) => Err(Failure::Books { what: refusal.to_string() }),
    }
}

/// Posts groups that were decided in this very transaction: all of them stand afterwards, or it is a fault of the house.
pub(crate) async fn post_all_in_tx(ledger: &mut LedgerTx<'_>, groups: &[Group], now: Timestamp) -> Result<(), Failure> {
    let outcomes = ledger.transfers_post_in_tx(groups, now).await?;
    match outcomes.iter().find(|outcome| !outcome.is_created()) {
        Some(outcome) => {
            Err(Failure::Books { what: outcome.refusal().map_or_else(|| "posted before".into(), ToString::to_string) })
        }
        None => Ok(()),
    }
}

pub(crate) async fn try_post_in_tx(
    ledger: &mut LedgerTx<'_>,
    group: Group,
    now: Timestamp,
) -> Result<Result<(), Refusal>, Failure> {
    let outcomes = ledger.transfers_post_in_tx(&[group], now).await?;
    let outcome = outcomes.into_iter().next().expect("one answer per group");
    Ok(outcome.refusal().map_or(Ok(()), |refusal| Err(refusal.clone())))
}

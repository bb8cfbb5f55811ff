//! Awards and their lots: given, released, extended, moved, taken back, expired.

use std::collections::BTreeSet;

use comity_ledger::{
    AccountId, Db, Group, LedgerTx, NewAccount, Refusal, Store as _, Transfer, TransferId, TransferKind,
};
use comity_wire::{Amount, AwardId, Digest, LotId, ProjectId, Timestamp};

use super::Clearing;
use super::acts::{some, text};
use super::projects;
use crate::acts::{Act, AwardAsk, Extend, Move, PartAsk, Release, Supplement, Withdraw};
use crate::failure::Failure;
use crate::lots::LOTS_PER_PROJECT_MAX;
use crate::store::awards::{Award, LotRow};
use crate::store::{self, money};

/// The most parts of one award.
const PARTS_MAX: usize = 64;
/// The most owners or ops that an award is restricted to.
const RESTRICTIONS_MAX: usize = 64;
/// Lots that a sweep has in hand at once.
const EXPIRE_PAGE: u32 = 500;

impl Clearing {
    /// Awards credits: the act alone, as whoever may open the operator's socket. Gives back what is available.
    ///
    /// # Errors
    /// [`Failure::DutyConflict`] once two officers are registered; [`Failure`].
    pub async fn award(&self, ask: AwardAsk) -> Result<Amount, Failure> {
        let project = ask.project;
        self.act(Act::Award(ask), None).await?;
        self.available(project).await
    }

    /// Stops an award's lots from being drawn upon, which one person may; or allows it again.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::DutyConflict`] where two officers keep the books and it is allowed again.
    pub async fn award_freeze(&self, id: AwardId, frozen: bool) -> Result<(), Failure> {
        self.write(move |conn| {
            Box::pin(async move {
                if !frozen {
                    projects::alone_in_tx(conn).await?;
                }
                freeze_in_tx(conn, id, frozen).await
            })
        })
        .await
    }

    /// Lets expire what is left in lots whose time is over and that say so.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn lots_expire(&self) -> Result<Amount, Failure> {
        let (now, mut expired) = (self.now(), Amount::ZERO);
        loop {
            let mut conn = self.read().await?;
            let due = store::awards::lots_to_expire(&mut conn.db(), now, EXPIRE_PAGE).await?;
            drop(conn);
            if due.is_empty() {
                return Ok(expired);
            }
            for lot in due {
                let part = self.write(move |conn| Box::pin(async move { expire_in_tx(conn, lot, now).await })).await?;
                expired = expired.saturating_add(part);
            }
        }
    }
}

pub(super) type Done = Result<(Option<AwardId>, Vec<LotId>), Failure>;

pub(super) async fn award_in_tx(conn: &mut Db<'_>, ask: &AwardAsk, evidence: Digest, now: Timestamp) -> Done {
    let id = award_id(ask);
    if let Some(known) = store::awards::award_find(conn, id).await? {
        // The same words would have been the same act. Done without a word, these terms would be believed to hold.
        return Err(Failure::invalid(format!(
            "award {} was given already, in other words: see 'supplement', 'extend' and 'withdraw'",
            known.award_number
        )));
    }
    let award = Award {
        id,
        project: ask.project,
        amount: ask.amount,
        funder: ask.funder.clone(),
        award_number: ask.award_number.clone(),
        listing: ask.listing.clone(),
        kind: ask.kind,
        starts_at: ask.starts_at.unwrap_or(now),
        ends_at: ask.ends_at,
        owners: ask.owners.clone(),
        ops: ask.ops.clone(),
        forfeits: ask.use_or_lose,
        frozen: false,
    };
    let parts = parts_of(ask, now)?;
    store::awards::award_insert_in_tx(conn, &award, now).await?;
    let mut lots = Vec::with_capacity(parts.len());
    for (number, ask) in (1..).zip(&parts) {
        let name = number.to_string();
        lots.push(LotRow { id: lot_id(id, &name), part: name, ..part(ask, &award, now)? });
    }
    lots_give_in_tx(conn, &award, &lots, evidence, now).await?;
    Ok((Some(id), lots.iter().map(|lot| lot.id).collect()))
}

pub(super) async fn supplement_in_tx(conn: &mut Db<'_>, ask: &Supplement, evidence: Digest, now: Timestamp) -> Done {
    let mut award = award_of(conn, ask.award).await?;
    let name = format!("supplement {}", ask.number);
    let lot = LotRow { id: lot_id(award.id, &name), part: name, ..part(&ask.part, &award, now)? };
    if store::awards::lot_find(conn, lot.id).await?.is_some() {
        let number = &ask.number;
        return Err(Failure::invalid(format!(
            "supplement {number} of award {} was given in other words",
            award.award_number
        )));
    }
    let grown = award.amount.checked_add(lot.amount);
    award.amount = grown.ok_or_else(|| Failure::invalid("more credits than can be counted"))?;
    store::awards::award_put_in_tx(conn, &award).await?;
    lots_give_in_tx(conn, &award, std::slice::from_ref(&lot), evidence, now).await?;
    Ok((Some(award.id), vec![lot.id]))
}

/// New lots: the credits are made, and those that wait for nothing are spendable in their time.
async fn lots_give_in_tx(
    conn: &mut Db<'_>,
    award: &Award,
    lots: &[LotRow],
    evidence: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    room_for(conn, award.project, lots.len()).await?;
    let mut transfers = Vec::with_capacity(2 * lots.len());
    let mut accounts = vec![money::issuance()];
    for lot in lots {
        store::awards::lot_insert_in_tx(conn, lot).await?;
        accounts.extend([money::unreleased(lot.id), money::allocation(lot.id)]);
        let give = |kind, debit: NewAccount, credit: NewAccount| Transfer {
            id: TransferId::derive(kind, &[lot.id.as_bytes()]),
            kind,
            debit: debit.id,
            credit: credit.id,
            amount: lot.amount,
            reference: money::reference(lot.id.0),
            evidence,
        };
        transfers.push(give(TransferKind::Award, money::issuance(), money::unreleased(lot.id)));
        if lot.released_at.is_some() {
            transfers.push(give(TransferKind::Allocate, money::unreleased(lot.id), money::allocation(lot.id)));
        }
    }
    let mut ledger = LedgerTx::new(conn);
    money::open_in_tx(&mut ledger, &accounts, now).await?;
    money::post_in_tx(&mut ledger, Group(transfers), now).await
}

pub(super) async fn release_in_tx(conn: &mut Db<'_>, ask: &Release, evidence: Digest, now: Timestamp) -> Done {
    let mut lot = lot_of(conn, ask.lot).await?;
    if lot.released_at.is_some() {
        return Err(Failure::invalid(format!("{} is released already", lot.id)));
    }
    let mut ledger = LedgerTx::new(conn);
    let (from, to) = (money::unreleased(lot.id), money::allocation(lot.id));
    // What was withdrawn meanwhile is not there any more.
    let left = ledger.account_in_tx(from.id).await?.map_or(Amount::ZERO, |account| account.available());
    if !left.is_zero() {
        let transfer = Transfer {
            id: TransferId::derive(TransferKind::Allocate, &[lot.id.as_bytes()]),
            kind: TransferKind::Allocate,
            debit: from.id,
            credit: to.id,
            amount: left,
            reference: money::reference(lot.id.0),
            evidence,
        };
        money::post_in_tx(&mut ledger, Group::single(transfer), now).await?;
    }
    (lot.released_at, lot.report) = (Some(now), ask.report.clone());
    store::awards::lot_put_in_tx(conn, &lot).await?;
    Ok((Some(lot.award), vec![lot.id]))
}

pub(super) async fn extend_in_tx(conn: &mut Db<'_>, ask: &Extend) -> Done {
    let mut award = award_of(conn, ask.award).await?;
    if ask.ends_at <= award.ends_at {
        return Err(Failure::invalid(format!(
            "award {} ends at {} already, or later",
            award.award_number, award.ends_at
        )));
    }
    let mut extended = Vec::new();
    for lot in store::awards::lots_of_award(conn, award.id).await? {
        // Parts with an end of their own keep it.
        if lot.ends_at == award.ends_at {
            store::awards::lot_put_in_tx(conn, &LotRow { ends_at: ask.ends_at, ..lot.clone() }).await?;
            extended.push(lot.id);
        }
    }
    award.ends_at = ask.ends_at;
    store::awards::award_put_in_tx(conn, &award).await?;
    Ok((Some(award.id), extended))
}

pub(super) async fn move_in_tx(conn: &mut Db<'_>, ask: &Move, evidence: Digest, now: Timestamp) -> Done {
    let from = lot_of(conn, ask.lot).await?;
    if from.project == ask.to {
        return Err(Failure::invalid("these credits are that project's already"));
    }
    room_for(conn, ask.to, 1).await?;
    let name = format!("moved from {}: {}", from.id, ask.reason);
    let lot = LotRow {
        id: lot_id(from.award, &name),
        project: ask.to,
        part: name,
        amount: ask.amount,
        report: String::new(),
        origin: Some(from.id),
        expiries: 0,
        ..from.clone()
    };
    if store::awards::lot_find(conn, lot.id).await?.is_some() {
        return Err(Failure::invalid("credits of this lot were moved for this reason before: give another reason"));
    }
    store::awards::lot_insert_in_tx(conn, &lot).await?;
    let parts = (money::allocation(from.id), money::allocation(lot.id));
    let id = TransferId::derive(TransferKind::Reallocate, &[lot.id.as_bytes()]);
    let transfer = taken(TransferKind::Reallocate, id, (from.id, parts), ask.amount, evidence);
    take_in_tx(conn, transfer, &[parts.1], now).await?;
    Ok((Some(from.award), vec![from.id, lot.id]))
}

pub(super) async fn withdraw_in_tx(conn: &mut Db<'_>, ask: &Withdraw, evidence: Digest, now: Timestamp) -> Done {
    let lot = lot_of(conn, ask.lot).await?;
    let from = if lot.released_at.is_some() { money::allocation(lot.id) } else { money::unreleased(lot.id) };
    let id = TransferId::derive(TransferKind::Withdraw, &[lot.id.as_bytes(), ask.reason.as_bytes()]);
    let transfer = taken(TransferKind::Withdraw, id, (lot.id, (from, money::issuance())), ask.amount, evidence);
    take_in_tx(conn, transfer, &[], now).await?;
    Ok((Some(lot.award), vec![lot.id]))
}

fn taken(
    kind: TransferKind,
    id: TransferId,
    (lot, (from, to)): (LotId, (NewAccount, NewAccount)),
    amount: Amount,
    evidence: Digest,
) -> Transfer {
    Transfer { id, kind, debit: from.id, credit: to.id, amount, reference: money::reference(lot.0), evidence }
}

/// Posts what takes credits out of a lot; more than lies there is refused.
async fn take_in_tx(
    conn: &mut Db<'_>,
    transfer: Transfer,
    opened: &[NewAccount],
    now: Timestamp,
) -> Result<(), Failure> {
    let mut ledger = LedgerTx::new(conn);
    money::open_in_tx(&mut ledger, opened, now).await?;
    match money::try_post_in_tx(&mut ledger, Group::single(transfer), now).await? {
        Ok(()) => Ok(()),
        Err(Refusal::ExceedsCredits { available, asked, .. }) => {
            Err(Failure::BalanceTooLow { asked, available, unusable: Vec::new() })
        }
        Err(Refusal::Conflict { .. }) => {
            Err(Failure::invalid("this was done with another amount: give another reason"))
        }
        Err(refusal) => Err(Failure::Books { what: refusal.to_string() }),
    }
}

async fn expire_in_tx(conn: &mut Db<'_>, id: LotId, now: Timestamp) -> Result<Amount, Failure> {
    let mut lot = lot_of(conn, id).await?;
    let award = award_of(conn, lot.award).await?;
    // It may have been extended since it was found.
    if now < lot.ends_at || !award.forfeits {
        return Ok(Amount::ZERO);
    }
    let (sources, to) = ([money::unreleased(id), money::allocation(id)], money::expired(id));
    let mut ledger = LedgerTx::new(conn);
    money::open_in_tx(&mut ledger, &[to], now).await?;
    let ids: Vec<AccountId> = sources.iter().map(|account| account.id).collect();
    let held = ledger.accounts_in_tx(&ids).await?;
    let (mut transfers, mut sum) = (Vec::new(), Amount::ZERO);
    for account in held.iter().filter(|account| !account.available().is_zero()) {
        lot.expiries += 1;
        transfers.push(Transfer {
            id: TransferId::derive(TransferKind::Expire, &[id.as_bytes(), &lot.expiries.to_be_bytes()]),
            kind: TransferKind::Expire,
            debit: account.id,
            credit: to.id,
            amount: account.available(),
            reference: money::reference(id.0),
            evidence: Digest::ZERO,
        });
        sum = sum.saturating_add(account.available());
    }
    if !transfers.is_empty() {
        money::post_in_tx(&mut ledger, Group(transfers), now).await?;
        store::awards::lot_put_in_tx(conn, &lot).await?;
    }
    Ok(sum)
}

pub(super) async fn freeze_in_tx(conn: &mut Db<'_>, id: AwardId, frozen: bool) -> Result<(), Failure> {
    let award = Award { frozen, ..award_of(conn, id).await? };
    store::awards::award_put_in_tx(conn, &award).await
}

pub(super) async fn award_of(conn: &mut Db<'_>, id: AwardId) -> Result<Award, Failure> {
    let award = store::awards::award_find(conn, id).await?;
    award.ok_or_else(|| Failure::NotFound { what: format!("award {id}") })
}

pub(super) async fn lot_of(conn: &mut Db<'_>, id: LotId) -> Result<LotRow, Failure> {
    let lot = store::awards::lot_find(conn, id).await?;
    lot.ok_or_else(|| Failure::NotFound { what: format!("lot {id}") })
}

pub(super) async fn room_for(conn: &mut Db<'_>, project: ProjectId, more: usize) -> Result<(), Failure> {
    let lots = store::awards::lots_of_project(conn, project).await?.len();
    if lots + more > LOTS_PER_PROJECT_MAX {
        return Err(Failure::Limit { what: "lots of a project", max: LOTS_PER_PROJECT_MAX.to_string() });
    }
    Ok(())
}

/// The parts of an award, whole and in order.
pub(super) fn parts_of(ask: &AwardAsk, now: Timestamp) -> Result<Vec<PartAsk>, Failure> {
    some(ask.amount)?;
    text("the funder", &ask.funder)?;
    text("the award number", &ask.award_number)?;
    if !ask.listing.is_empty() {
        text("the listing", &ask.listing)?;
    }
    if ask.ends_at <= now {
        return Err(Failure::invalid("an award must end in the future"));
    }
    if ask.starts_at.is_some_and(|starts_at| starts_at >= ask.ends_at) {
        return Err(Failure::invalid("an award must end after it starts"));
    }
    let distinct = |many: usize, set: usize| many == set && many <= RESTRICTIONS_MAX;
    let (owners, ops): (BTreeSet<_>, BTreeSet<_>) = (ask.owners.iter().collect(), ask.ops.iter().collect());
    if !distinct(ask.owners.len(), owners.len()) || !distinct(ask.ops.len(), ops.len()) {
        return Err(Failure::invalid(format!("name at most {RESTRICTIONS_MAX} owners and ops, each once")));
    }
    if ask.parts.is_empty() {
        return Ok(vec![PartAsk { amount: ask.amount, opens_at: None, ends_at: None, after_report: false }]);
    }
    if ask.parts.len() > PARTS_MAX {
        return Err(Failure::Limit { what: "parts of an award", max: PARTS_MAX.to_string() });
    }
    if Amount::sum(ask.parts.iter().map(|part| part.amount)) != Some(ask.amount) {
        return Err(Failure::invalid("the parts of an award add up to its amount"));
    }
    for part in &ask.parts {
        some(part.amount)?;
    }
    Ok(ask.parts.clone())
}

/// A lot to be, without a name.
pub(super) fn part(ask: &PartAsk, award: &Award, now: Timestamp) -> Result<LotRow, Failure> {
    some(ask.amount)?;
    let (opens_at, ends_at) = (ask.opens_at.unwrap_or(award.starts_at), ask.ends_at.unwrap_or(award.ends_at));
    if ends_at <= opens_at || ends_at <= now {
        return Err(Failure::invalid("a part must end after it opens, and in the future"));
    }
    if opens_at < award.starts_at || ends_at > award.ends_at {
        return Err(Failure::invalid(format!(
            "a part lies within its award's period, {} to {}",
            award.starts_at, award.ends_at
        )));
    }
    Ok(LotRow {
        id: LotId([0; 16]),
        project: award.project,
        award: award.id,
        part: String::new(),
        amount: ask.amount,
        opens_at,
        ends_at,
        released_at: (!ask.after_report).then_some(now),
        report: String::new(),
        origin: None,
        expiries: 0,
    })
}

fn award_id(ask: &AwardAsk) -> AwardId {
    award_named(ask.project, &ask.funder, &ask.award_number)
}

pub(super) fn award_named(project: ProjectId, funder: &str, number: &str) -> AwardId {
    AwardId(named(b"comity/clearing/award/v1", &[project.as_bytes()], &[funder, number]))
}

/// Named by its award, and by what it is called there.
pub(super) fn lot_id(award: AwardId, part: &str) -> LotId {
    LotId(named(b"comity/clearing/lot/v1", &[award.as_bytes()], &[part]))
}

fn named(domain: &[u8], ids: &[&[u8; 16]], texts: &[&str]) -> [u8; 16] {
    let mut parts = vec![domain.to_vec()];
    parts.extend(ids.iter().map(|id| id.to_vec()));
    for text in texts {
        parts.extend([(text.len() as u64).to_be_bytes().to_vec(), text.as_bytes().to_vec()]);
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let mut id = [0; 16];
    id.copy_from_slice(&Digest::of_parts(&parts).as_bytes()[..16]);
    id
}

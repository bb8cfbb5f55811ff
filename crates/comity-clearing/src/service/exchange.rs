//! Exchange: what an owner earned becomes credit for a project of its own.
//!
//! What the owner's own projects paid it keeps the terms of the lots that paid: another lot under the same award, with its
//! end and restrictions. Else an owner could query its own model with a federal award, and have credits without an end or a
//! purpose. A project of which nobody stated whose it is counts as the owner's own.

use std::collections::BTreeMap;

use comity_ledger::{Db, Group, LedgerTx, Transfer, TransferId, TransferKind};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, AwardId, Digest, LotId, OrgId, Timestamp};

use super::acts::{some, text};
use super::awards::{award_named, lot_id, lot_of, room_for};
use super::payouts::{begun, due_of, too_much};
use super::projects::exists;
use crate::acts::{Exchange, ProjectOf};
use crate::failure::Failure;
use crate::lots::FundKind;
use crate::owners::{Due, spread};
use crate::reservation::VALID_S_MIN;
use crate::store::awards::{Award, LotRow};
use crate::store::payouts::{Line, Payout};
use crate::store::{self, money};

/// Tokens whose earnings one exchange looks at.
const TOKENS_MAX: usize = 10_000;
/// The longest that credits from an exchange can be used.
const ENDS_DAYS_MAX: u64 = 5 * 366;

/// Owners who may use one number.
const OWNERS_MAX: u32 = 10_000;

/// Where a part of the earnings goes: to the exchange's own lot, or to one beside the lot that paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Goes {
    Free,
    Beside(LotId),
}

type Parts = BTreeMap<Goes, Vec<Line>>;

/// What an exchange is called among the payments of its owner.
fn named(ask: &Exchange) -> String {
    format!("exchange {}", ask.number)
}

pub(super) async fn project_of_check(conn: &mut Db<'_>, ask: &ProjectOf) -> Result<(), Failure> {
    text("the reason", &ask.reason)?;
    exists(conn, ask.project).await.map(drop)
}

pub(super) async fn check(conn: &mut Db<'_>, ask: &Exchange, now: Timestamp) -> Result<(), Failure> {
    parts(conn, ask, now).await.map(drop)
}

pub(super) async fn exchange_in_tx(
    conn: &mut Db<'_>,
    ask: &Exchange,
    act: Digest,
    now: Timestamp,
) -> Result<(Option<AwardId>, Vec<LotId>), Failure> {
    let parts = parts(conn, ask, now).await?;
    room_for(conn, ask.project, parts.len()).await?;
    let (mut lots, mut award) = (Vec::with_capacity(parts.len()), None);
    for (goes, lines) in parts {
        let ucr: i64 = lines.iter().map(|line| line.amount).sum();
        let amount =
            Amount::new(ucr).map_err(|_| Failure::Books { what: "an exchange of less than nothing".into() })?;
        let lot = match goes {
            Goes::Free => {
                let (given, lot) = free(ask, amount, now);
                store::awards::award_insert_in_tx(conn, &given, now).await?;
                award = Some(given.id);
                lot
            }
            Goes::Beside(from) => beside(&lot_of(conn, from).await?, ask, amount),
        };
        store::awards::lot_insert_in_tx(conn, &lot).await?;
        give_in_tx(conn, ask, (&lot, lines), act, now).await?;
        lots.push(lot.id);
    }
    Ok((award, lots))
}

/// A lot under an award of its own.
fn free(ask: &Exchange, amount: Amount, now: Timestamp) -> (Award, LotRow) {
    let (funder, number) = (ask.owner.to_string(), named(ask));
    let award = Award {
        id: award_named(ask.project, &funder, &number),
        project: ask.project,
        amount,
        funder,
        award_number: number,
        listing: String::new(),
        kind: FundKind::Institutional,
        starts_at: now,
        ends_at: ask.ends_at,
        owners: vec![],
        ops: vec![],
        forfeits: false,
        frozen: false,
    };
    let lot = LotRow {
        id: lot_id(award.id, "1"),
        project: ask.project,
        award: award.id,
        part: "1".into(),
        amount,
        opens_at: now,
        ends_at: ask.ends_at,
        released_at: Some(now),
        report: String::new(),
        origin: None,
        expiries: 0,
    };
    (award, lot)
}

/// A lot beside the one that paid: same award, same days.
fn beside(from: &LotRow, ask: &Exchange, amount: Amount) -> LotRow {
    let name = format!("exchanged by {} from {}: {}", ask.owner, from.id, ask.number);
    LotRow {
        id: lot_id(from.award, &name),
        project: ask.project,
        part: name,
        amount,
        report: String::new(),
        origin: Some(from.id),
        expiries: 0,
        ..from.clone()
    }
}

async fn give_in_tx(
    conn: &mut Db<'_>,
    ask: &Exchange,
    (lot, lines): (&LotRow, Vec<Line>),
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    let (from, to) = (money::payable(ask.owner), money::allocation(lot.id));
    let transfer = Transfer {
        id: TransferId::derive(TransferKind::Exchange, &[lot.id.as_bytes()]),
        kind: TransferKind::Exchange,
        debit: from.id,
        credit: to.id,
        amount: lot.amount,
        reference: money::reference(lot.id.0),
        evidence: act,
    };
    let mut ledger = LedgerTx::new(conn);
    money::open_in_tx(&mut ledger, &[to], now).await?;
    money::post_in_tx(&mut ledger, Group::single(transfer), now).await?;
    let payout = Payout {
        transfer: transfer.id,
        owner: ask.owner,
        run: named(ask),
        paid_on: now,
        until: now,
        amount: lot.amount,
        held: Amount::ZERO,
        act,
        made_at: now,
    };
    store::payouts::insert_in_tx(conn, &payout, &lines).await
}

/// Which earnings are exchanged, in the order of sale, and where each part goes.
async fn parts(conn: &mut Db<'_>, ask: &Exchange, now: Timestamp) -> Result<Parts, Failure> {
    text("the number of an exchange", &ask.number)?;
    some(ask.amount)?;
    exists(conn, ask.project).await?;
    let done = store::payouts::of_run(conn, &named(ask), OWNERS_MAX).await?;
    if done.iter().any(|done| done.owner == ask.owner) {
        return Err(Failure::invalid("an exchange of this number was done in other words: give another number"));
    }
    if ask.ends_at < now.plus(DAY_S) || ask.ends_at > now.plus(ENDS_DAYS_MAX * DAY_S) {
        return Err(Failure::invalid(format!("credits from an exchange end in a day to {ENDS_DAYS_MAX} days")));
    }
    if store::projects::organisation_of(conn, ask.project).await? != Some(ask.owner) {
        return Err(Failure::OwnerTerms {
            what: format!("{} is not stated to be a project of {}", ask.project, ask.owner),
            whose_move: "two officers of the house: comity clearing owner project, with what it rests on",
        });
    }
    let (due, stands) = due_of(conn, ask.owner, now.plus(1), now).await?;
    let payable: i64 = due.iter().map(|due| due.amount).sum();
    if ask.amount.ucr() > payable {
        return Err(too_much(ask.owner, ask.amount, payable, &stands));
    }
    let mut begins = begun(&stands);
    let (mut left, mut parts, mut looked) = (ask.amount.ucr(), Parts::new(), 0);
    // What a dispute took back stays for the next payment to take: more than is payable in all was refused above.
    for due in due.iter().filter(|due| due.amount > 0) {
        if left == 0 {
            break;
        }
        looked += 1;
        if looked > TOKENS_MAX {
            return Err(Failure::Limit {
                what: "tokens of one exchange",
                max: format!("{TOKENS_MAX}: exchange less at once"),
            });
        }
        let begin = begins.entry(due.token).or_default();
        let lines = of_token(conn, ask.owner, due, *begin, left, now).await?;
        for (goes, line) in lines {
            left -= line.amount;
            *begin += line.amount;
            parts.entry(goes).or_default().push(line);
        }
    }
    if left > 0 {
        return Err(Failure::OwnerTerms {
            what: format!(
                "{} µcr can be exchanged; the rest was paid by projects of the owner's own whose credits have ended, or by the house itself",
                ask.amount.ucr() - left
            ),
            whose_move: "the owner: exchange less; the rest can be paid (comity clearing owner paid)",
        });
    }
    Ok(parts)
}

/// What of a token's earnings can be exchanged, at most `most`, in parts.
async fn of_token(
    conn: &mut Db<'_>,
    owner: OrgId,
    due: &Due,
    begins: i64,
    most: i64,
    now: Timestamp,
) -> Result<Vec<(Goes, Line)>, Failure> {
    let token = store::tokens::token_find(conn, due.token).await?;
    let project = token.ok_or(Failure::Unreadable { table: "payout_line", what: "token" })?.project;
    let Some(project) = project else { return Ok(Vec::new()) };
    let whose = store::projects::organisation_of(conn, project).await?;
    let is_own = whose.is_none_or(|whose| whose == owner);
    let draws = store::awards::draws(conn, due.token).await?;
    let drawn: Vec<i64> = draws.iter().map(|draw| draw.amount.ucr()).collect();
    // What lies beyond came from suspense: nobody's lot.
    let part = due.amount.min(most).min(drawn.iter().sum::<i64>() - begins);
    if part <= 0 {
        return Ok(Vec::new());
    }
    let (spreads, _) = spread(&drawn, begins, part);
    let (mut at, mut lines) = (begins, Vec::new());
    for (draw, amount) in draws.iter().zip(spreads).filter(|(_, amount)| *amount > 0) {
        if is_own && lot_of(conn, draw.lot).await?.ends_at < now.plus(VALID_S_MIN) {
            return Ok(Vec::new());
        }
        let goes = if is_own { Goes::Beside(draw.lot) } else { Goes::Free };
        lines.push((goes, Line { token: due.token, terms: due.terms, begins: at, amount }));
        at += amount;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use comity_wire::ProjectId;

    use super::*;

    /// One number is each owner's own.
    #[test]
    fn two_owners_exchanges_of_one_number_are_two_lots() {
        let ask = |owner| Exchange {
            owner: OrgId([owner; 16]),
            project: ProjectId([1; 16]),
            amount: Amount::from_ucr(5),
            number: "7".into(),
            ends_at: Timestamp(100),
        };
        let (_, lot) = free(&ask(2), Amount::from_ucr(5), Timestamp(0));
        assert_ne!(free(&ask(3), Amount::from_ucr(5), Timestamp(0)).1.id, lot.id);
        let beside = |owner| beside(&lot, &ask(owner), Amount::from_ucr(5)).id;
        assert_ne!(beside(2), beside(3));
        assert_eq!(beside(2), beside(2));
    }
}

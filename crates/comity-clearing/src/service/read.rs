//! What members and owners may see: a project, a statement.

use std::collections::BTreeMap;

use comity_ledger::{AccountId, Db, LedgerTx, Posted, Store as _};
use comity_wire::api::clearing::{LotStatus, ProjectReply, PseudonymAt, Statement, StatementLine};
use comity_wire::{Amount, LotId, NodeId, OrgId, ProjectId, PublicKey, Timestamp};

use super::projects::exists;
use super::{Clearing, owners, persons};
use crate::failure::Failure;
use crate::http::pages::{Page, cut};
use crate::lots::falls_on;
use crate::store::tokens::TokenRow;
use crate::store::{self, money};
use crate::vetting;

/// Tokens that a project's status shows: the newest. `GET /v1/projects/{id}/tokens` has them all.
const TOKENS_SHOWN_MAX: usize = 1_000;

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
        let found = store::projects::project_of_member(&mut conn.db(), id, caller).await?;
        let Some((_, role, statements)) = found else {
            return Err(Failure::NotFound { what: format!("project {id}") });
        };
        let level = persons::level_of(&mut conn.db(), (id, &statements), (caller, role), self.now()).await?;
        drop(conn);
        Ok(ProjectReply { vetting: level.vetting, ..self.project_status(id).await? })
    }

    /// As [`Clearing::project`], for the operator: with what is stated whoever of the project asks.
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
        let rows = store::tokens::tokens_of_project(&mut seen, id).await?;
        let pseudonyms = store::projects::pseudonyms(&mut seen, id).await?;
        let sums = store::totals::of_project(&mut seen, id).await?;
        let lots = lots(&mut seen, id, &rows, self.now()).await?;
        snapshot.rollback().await?;
        drop(conn);
        let newest = &rows[rows.len().saturating_sub(TOKENS_SHOWN_MAX)..];
        Ok(ProjectReply {
            project: id,
            title: project.title,
            vetting: vetting::of(&statements, self.now()),
            purposes: project.purposes,
            awarded: sums.awarded,
            unreleased: sums.unreleased,
            available: sums.available,
            in_escrow: sums.in_escrow,
            settled: sums.settled,
            expired: sums.expired,
            lots,
            tokens: newest.iter().map(|row| self.token_status(row)).collect(),
            pseudonyms: pseudonyms.into_iter().map(|(org, subject)| PseudonymAt { org, subject }).collect(),
        })
    }

    /// One line for each transfer of the account in the order of the books, a page of them. What lies before is in its opening
    /// balance.
    ///
    /// # Errors
    /// [`Failure`] where the account is not the caller's.
    pub(crate) async fn statement(
        &self,
        caller: &PublicKey,
        account: Account,
        page: &Page,
    ) -> Result<Statement, Failure> {
        let (accounts, owner) = self.accounts_of(caller, account).await?;
        let after = page.number()?;
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let mut opening = 0_i128;
        for account in &accounts {
            opening += i128::from(store::lists::balance_at(&mut seen, *account, after).await?);
        }
        let mut transfers = Transfers::after(&mut seen, accounts, after).await?;
        let mut lines = Vec::new();
        while lines.len() <= page.limit as usize
            && let Some((posted, debit)) = transfers.next(&mut seen).await?
        {
            let line = StatementLine {
                at: posted.posted_at,
                kind: word(posted.transfer.kind),
                amount: posted.transfer.amount,
                debit,
                reference: posted.transfer.reference.to_string(),
            };
            lines.push((posted.seq, line));
        }
        // Of the account as it stands, so it belongs to the page that ends there; it reads all that the owner ever earned.
        let is_last = lines.len() <= page.limit as usize;
        let payable = match owner.filter(|_| is_last) {
            Some(owner) => Some(owners::told(&mut seen, owner, self.now()).await?),
            None => None,
        };
        snapshot.rollback().await?;
        drop(conn);
        let (lines, next) = cut(page, lines, |(place, _)| place.to_be_bytes().to_vec());
        let lines: Vec<StatementLine> = lines.into_iter().map(|(_, line)| line).collect();
        let side = |debit: bool| {
            let amounts = lines.iter().filter(|line| line.debit == debit).map(|line| line.amount);
            amounts.fold(Amount::ZERO, Amount::saturating_add)
        };
        let closing = opening + lines.iter().map(signed).sum::<i128>();
        let unreadable = || Failure::Unreadable { table: "transfer", what: "a balance below zero" };
        let amount = |sum: i128| i64::try_from(sum).ok().and_then(|ucr| Amount::new(ucr).ok()).ok_or_else(unreadable);
        let (credits, debits) = (side(false), side(true));
        Ok(Statement { opening: amount(opening)?, credits, debits, closing: amount(closing)?, lines, next, payable })
    }

    /// The caller's accounts; whose they are, where they hold what an owner earned.
    async fn accounts_of(
        &self,
        caller: &PublicKey,
        account: Account,
    ) -> Result<(Vec<AccountId>, Option<OrgId>), Failure> {
        if let Account::Node(node) = account {
            let owner = self.owner_asking(caller, node)?;
            return Ok((vec![money::payable(owner).id], Some(owner)));
        }
        let project = self.project_asking(caller, account).await?;
        let lots = store::awards::lots_of_project(&mut self.read().await?.db(), project).await?;
        Ok((lots.iter().map(|lot| money::allocation(lot.id).id).collect(), None))
    }
}

/// The transfers of several accounts that never pay each other, in the order of the books, a page of each in memory.
/// Read on one connection: within a snapshot they are of one moment.
pub(super) struct Transfers {
    pages: Vec<Run>,
}

struct Run {
    account: AccountId,
    /// The last place that was read, until there is nothing after it.
    after: Option<u64>,
    read: std::collections::VecDeque<Posted>,
}

impl Transfers {
    pub(super) async fn of(conn: &mut Db<'_>, accounts: Vec<AccountId>) -> Result<Self, Failure> {
        Self::after(conn, accounts, 0).await
    }

    /// Those behind a place in the books.
    async fn after(conn: &mut Db<'_>, accounts: Vec<AccountId>, place: u64) -> Result<Self, Failure> {
        let page = |account| Run { account, after: Some(place), read: std::collections::VecDeque::new() };
        let mut transfers = Self { pages: accounts.into_iter().map(page).collect() };
        for page in &mut transfers.pages {
            page.fill(conn).await?;
        }
        Ok(transfers)
    }

    /// The next one, and whether it is a debit.
    pub(super) async fn next(&mut self, conn: &mut Db<'_>) -> Result<Option<(Posted, bool)>, Failure> {
        let first = |page: &Run| page.read.front().map(|posted| posted.seq);
        let next = self.pages.iter_mut().filter(|page| first(page).is_some()).min_by_key(|page| first(page));
        let Some(page) = next else { return Ok(None) };
        let posted = page.read.pop_front().expect("a page with a first transfer");
        let debit = posted.transfer.debit == page.account;
        if page.read.is_empty() {
            page.fill(conn).await?;
        }
        Ok(Some((posted, debit)))
    }
}

impl Run {
    async fn fill(&mut self, conn: &mut Db<'_>) -> Result<(), Failure> {
        let Some(after) = self.after else { return Ok(()) };
        let page = comity_ledger::store::PAGE_MAX;
        self.read = LedgerTx::new(conn).transfers_of_account_in_tx(self.account, after, page).await?.into();
        self.after = self.read.back().map(|posted| posted.seq);
        Ok(())
    }
}

/// Each lot of a project with what became of it. What tokens have of it and were charged falls on their lots in the order in
/// which they were drawn.
async fn lots(
    conn: &mut Db<'_>,
    project: ProjectId,
    tokens: &[TokenRow],
    now: Timestamp,
) -> Result<Vec<LotStatus>, Failure> {
    let awards = store::awards::awards(conn, project).await?;
    let draws = store::awards::draws_of_project(conn, project).await?;
    let (mut charged, mut drawn) = (BTreeMap::new(), BTreeMap::new());
    let add = |sums: &mut BTreeMap<LotId, Amount>, lot, amount| {
        let sum = sums.entry(lot).or_default();
        *sum = sum.saturating_add(amount);
    };
    for token in tokens {
        let draws = draws.get(&token.id).map_or(&[][..], Vec::as_slice);
        // What suspense paid was drawn from no lot, and what was given back is charged to none any more.
        for (lot, part) in falls_on(draws, token.paid.saturating_sub(token.credited)) {
            add(&mut charged, lot, part);
        }
        for draw in draws {
            add(&mut drawn, draw.lot, draw.amount.saturating_sub(draw.returned));
        }
    }
    let mut lots = Vec::new();
    let closed: BTreeMap<LotId, _> = store::awards::lots_to_draw(conn, &[project])
        .await?
        .remove(&project)
        .unwrap_or_default()
        .iter()
        .map(|lot| (lot.id, lot.closed(now)))
        .collect();
    let rows = store::awards::lots_of_project(conn, project).await?;
    let accounts = |lot: LotId| [money::unreleased(lot).id, money::allocation(lot).id, money::expired(lot).id];
    let ids: Vec<AccountId> = rows.iter().flat_map(|lot| accounts(lot.id)).collect();
    let held = LedgerTx::new(conn).accounts_in_tx(&ids).await?;
    for lot in rows {
        let of = |sums: &BTreeMap<LotId, Amount>| sums.get(&lot.id).copied().unwrap_or_default();
        let award = awards.iter().find(|award| award.id == lot.award);
        let award = award.ok_or(Failure::Unreadable { table: "lot", what: "award" })?;
        let [unreleased, available, expired] = accounts(lot.id).map(|id| {
            held.binary_search_by_key(&id, |account| account.id).map_or(Amount::ZERO, |at| held[at].available())
        });
        let (settled, drawn) = (of(&charged), of(&drawn));
        let in_escrow = drawn.saturating_sub(settled);
        let here = [unreleased, available, in_escrow, settled, expired];
        lots.push(LotStatus {
            lot: lot.id,
            award: lot.award,
            part: lot.part,
            funder: award.funder.clone(),
            award_number: award.award_number.clone(),
            listing: award.listing.clone(),
            kind: json_word(award.kind),
            opens_at: lot.opens_at,
            ends_at: lot.ends_at,
            amount: lot.amount,
            taken_back: here.into_iter().fold(lot.amount, Amount::saturating_sub),
            unreleased,
            available,
            in_escrow,
            settled,
            expired,
            owners: award.owners.clone(),
            ops: award.ops.clone(),
            use_or_lose: award.forfeits,
            closed: closed.get(&lot.id).copied().flatten().map(|why| why.to_string()),
        });
    }
    lots.sort_by_key(|lot| (lot.ends_at, lot.lot));
    Ok(lots)
}

fn signed(line: &StatementLine) -> i128 {
    let amount = i128::from(line.amount.ucr());
    if line.debit { -amount } else { amount }
}

/// The kind's one word, as the ledger writes it.
pub(super) fn word(kind: comity_ledger::TransferKind) -> String {
    json_word(kind)
}

fn json_word<T: serde::Serialize>(kind: T) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".to_owned(),
    }
}

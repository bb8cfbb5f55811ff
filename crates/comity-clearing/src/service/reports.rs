//! Reports at work: each from one snapshot of the books.

use std::collections::BTreeMap;

use comity_ledger::{Account, AccountId, Db, LedgerTx, Store as _};
use comity_wire::{OrgId, ProjectId, Timestamp};

use super::Clearing;
use super::owners::standing;
use super::projects::exists;
use super::read::{Transfers, word};
use crate::failure::Failure;
use crate::owners::{Why, in_order};
use crate::reports::{
    FundStatement, HoldRow, JOURNAL_HEAD, JournalPage, PayableRow, Period, Report, RollRow, StatementRow, TrialRow,
    code_word, journal_entry,
};
use crate::store::reports::{Moved, Span};
use crate::store::{self, money};

/// Transfers on one page of a journal.
const JOURNAL_PAGE: u32 = 2_000;
/// Lines of one statement; a longer one is asked for in parts.
const LINES_MAX: usize = 100_000;

fn span(period: Period, now: Timestamp) -> Result<Span, Failure> {
    // Up to and with this second, where nobody names an end.
    let (from, to) = (period.from.unwrap_or(Timestamp(0)), period.to.unwrap_or_else(|| now.plus(1)));
    if from < to { Ok(Span { from, to }) } else { Err(Failure::invalid("a period ends after it begins")) }
}

/// All accounts by their codes up to a moment, and their total.
pub(crate) async fn trial_rows(db: &mut Db<'_>, to: Timestamp) -> Result<(Vec<TrialRow>, TrialRow), Failure> {
    let sums = store::reports::code_sums(db, to).await?;
    let row = |account: &str, debits_ucr: i64, credits_ucr: i64| TrialRow {
        account: account.to_owned(),
        debits_ucr,
        credits_ucr,
        balance_ucr: credits_ucr - debits_ucr,
    };
    let rows: Vec<_> = sums.iter().map(|(code, (debits, credits))| row(code_word(*code), *debits, *credits)).collect();
    let total = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.debits_ucr, sum.1 + row.credits_ucr));
    Ok((rows, row("total", total.0, total.1)))
}

impl Clearing {
    /// All accounts by their codes, at the end of a period.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn trial_balance(&self, period: Period) -> Result<Report<TrialRow>, Failure> {
        let span = span(period, self.now())?;
        let (rows, total) = trial_rows(&mut self.read().await?.db(), span.to).await?;
        Ok(self.report("trial-balance", period, rows, Some(total)))
    }

    /// Each project's credits, from the beginning of a period to its end.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn roll_forward(&self, period: Period) -> Result<Report<RollRow>, Failure> {
        let span = span(period, self.now())?;
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot_to_audit().await?;
        let mut seen = snapshot.db();
        let flows = store::reports::flows(&mut seen, span).await?;
        let projects = store::projects::projects(&mut seen).await?;
        snapshot.rollback().await?;
        let of = |sums: &BTreeMap<ProjectId, Moved>, id: &ProjectId| sums.get(id).copied().unwrap_or_default();
        let row = |id: &ProjectId, title: String| {
            let (awarded, pooled) = (of(&flows.awarded, id), of(&flows.pooled, id));
            let awarded = Moved { before: awarded.before + pooled.before, within: awarded.within + pooled.within };
            let less = [&flows.moved_out, &flows.withdrawn, &flows.expired, &flows.settled].map(|sums| of(sums, id));
            let (moved_in, reversed) = (of(&flows.moved_in, id), of(&flows.reversed, id));
            let (exchanged, credited) = (of(&flows.exchanged, id), of(&flows.credited, id));
            let given = |part: fn(Moved) -> i64| {
                [awarded, moved_in, exchanged, reversed, credited].map(part).iter().sum::<i64>()
            };
            let opening = given(|moved| moved.before) - less.iter().map(|moved| moved.before).sum::<i64>();
            let closing = given(Moved::whole) - less.iter().map(|moved| moved.whole()).sum::<i64>();
            RollRow {
                project: id.to_string(),
                title,
                opening_ucr: opening,
                awarded_ucr: awarded.within,
                moved_in_ucr: moved_in.within,
                exchanged_ucr: exchanged.within,
                moved_out_ucr: less[0].within,
                withdrawn_ucr: less[1].within,
                expired_ucr: less[2].within,
                settled_ucr: less[3].within,
                reversed_ucr: reversed.within,
                credited_ucr: credited.within,
                closing_ucr: closing,
            }
        };
        let rows: Vec<_> = projects.into_iter().map(|project| row(&project.id, project.title)).collect();
        let mut total = RollRow { project: "total".into(), ..RollRow::default() };
        for row in &rows {
            total.opening_ucr += row.opening_ucr;
            total.awarded_ucr += row.awarded_ucr;
            total.moved_in_ucr += row.moved_in_ucr;
            total.exchanged_ucr += row.exchanged_ucr;
            total.moved_out_ucr += row.moved_out_ucr;
            total.withdrawn_ucr += row.withdrawn_ucr;
            total.expired_ucr += row.expired_ucr;
            total.settled_ucr += row.settled_ucr;
            total.reversed_ucr += row.reversed_ucr;
            total.credited_ucr += row.credited_ucr;
            total.closing_ucr += row.closing_ucr;
        }
        Ok(self.report("roll-forward", period, rows, Some(total)))
    }

    /// What lies in escrow now, the oldest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn holds(&self) -> Result<Report<HoldRow>, Failure> {
        let rows = store::reports::holds(&mut self.read().await?.db(), self.now()).await?;
        Ok(self.report("holds", Period::default(), rows, None))
    }

    /// What owners earned and were paid.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn payables(&self, period: Period) -> Result<Report<PayableRow>, Failure> {
        let span = span(period, self.now())?;
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot_to_audit().await?;
        let mut seen = snapshot.db();
        let settled = store::reports::payables(&mut seen, "credit", "4", span).await?;
        let suspense = store::reports::payables(&mut seen, "credit", "6", span).await?;
        let returned = store::reports::payables(&mut seen, "credit", "9, 12", span).await?;
        let disputed = store::reports::payables(&mut seen, "debit", "8, 12", span).await?;
        let remitted = store::reports::payables(&mut seen, "debit", "10", span).await?;
        let exchanged = store::reports::payables(&mut seen, "debit", "14", span).await?;
        let credited = store::reports::payables(&mut seen, "debit", "15", span).await?;
        let mut owners: Vec<OrgId> = [&settled, &suspense, &returned, &disputed, &credited, &remitted, &exchanged]
            .into_iter()
            .flat_map(|sums| sums.keys().copied())
            .collect();
        owners.sort_unstable();
        owners.dedup();
        let mut payable = BTreeMap::new();
        for owner in &owners {
            let terms = store::owners::of(&mut seen, *owner).await?;
            let word = in_order(&terms, span.to).last().map_or("", |terms| terms.basis.word());
            payable.insert(*owner, (word, standing(&mut seen, *owner, &terms, span.to).await?));
        }
        snapshot.rollback().await?;
        let row = |owner: &OrgId| {
            let of = |sums: &BTreeMap<OrgId, Moved>| sums.get(owner).copied().unwrap_or_default();
            let (settled, suspense, remitted) = (of(&settled), of(&suspense), of(&remitted));
            let (returned, disputed, exchanged) = (of(&returned), of(&disputed), of(&exchanged));
            let credited = of(&credited);
            let at = |part: fn(Moved) -> i64| {
                part(settled) + part(suspense) + part(returned)
                    - part(disputed)
                    - part(credited)
                    - part(remitted)
                    - part(exchanged)
            };
            let (terms, standing) = &payable[owner];
            let closing_ucr = at(Moved::whole);
            let reason = |(why, ucr): (&Why, &i64)| format!("{} {ucr}", why.word());
            PayableRow {
                owner: owner.to_string(),
                terms: (*terms).to_owned(),
                opening_ucr: at(|moved| moved.before),
                settled_ucr: settled.within,
                from_suspense_ucr: suspense.within,
                disputed_ucr: disputed.within - returned.within,
                credited_ucr: credited.within,
                remitted_ucr: remitted.within,
                exchanged_ucr: exchanged.within,
                closing_ucr,
                payable_ucr: standing.payable(),
                not_payable_ucr: closing_ucr - standing.payable(),
                reasons: standing.reckoned.refused.iter().map(reason).collect::<Vec<_>>().join("; "),
            }
        };
        let rows: Vec<_> = owners.iter().map(row).collect();
        let mut total = PayableRow { owner: "total".into(), ..PayableRow::default() };
        for row in &rows {
            total.opening_ucr += row.opening_ucr;
            total.settled_ucr += row.settled_ucr;
            total.from_suspense_ucr += row.from_suspense_ucr;
            total.disputed_ucr += row.disputed_ucr;
            total.credited_ucr += row.credited_ucr;
            total.remitted_ucr += row.remitted_ucr;
            total.exchanged_ucr += row.exchanged_ucr;
            total.closing_ucr += row.closing_ucr;
            total.payable_ucr += row.payable_ucr;
            total.not_payable_ucr += row.not_payable_ucr;
        }
        Ok(self.report("payables", period, rows, Some(total)))
    }

    /// A project's statement: what could be drawn, line by line.
    ///
    /// # Errors
    /// [`Failure`] where there is no such project, or the period has too many lines.
    pub async fn fund_statement(&self, project: ProjectId, period: Period) -> Result<FundStatement, Failure> {
        let span = span(period, self.now())?;
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot_to_audit().await?;
        let mut seen = snapshot.db();
        let found = exists(&mut seen, project).await?;
        let lots = store::awards::lots_of_project(&mut seen, project).await?;
        let awards = store::awards::awards(&mut seen, project).await?;
        let sums = store::totals::of_project(&mut seen, project).await?;
        let lot_of = |account: AccountId| lots.iter().find(|lot| money::allocation(lot.id).id == account);
        let number_of = |award| awards.iter().find(|known| known.id == award).map(|award| award.award_number.clone());
        let accounts = lots.iter().map(|lot| money::allocation(lot.id).id).collect();
        let mut transfers = Transfers::of(&mut seen, accounts).await?;
        let (mut opening, mut credits, mut debits) = (0_i64, 0_i64, 0_i64);
        let mut rows: Vec<StatementRow> = Vec::new();
        while let Some((posted, debit)) = transfers.next(&mut seen).await? {
            let amount = posted.transfer.amount.ucr();
            // A clock that went back does not put a transfer into another period than its own time.
            if posted.posted_at < span.from {
                opening += if debit { -amount } else { amount };
                continue;
            }
            if posted.posted_at >= span.to {
                continue;
            }
            *(if debit { &mut debits } else { &mut credits }) += amount;
            if rows.len() == LINES_MAX {
                return Err(Failure::Limit {
                    what: "lines of one statement",
                    max: format!("{LINES_MAX}: take a shorter period"),
                });
            }
            let account = if debit { posted.transfer.debit } else { posted.transfer.credit };
            let lot = lot_of(account).ok_or(Failure::Unreadable { table: "lot", what: "the lot of an account" })?;
            let reference = posted.transfer.reference.0;
            let is_lot = reference == lot.id.0;
            rows.push(StatementRow {
                seq: posted.seq,
                at: posted.posted_at.to_string(),
                kind: word(posted.transfer.kind),
                lot: lot.id,
                award_number: number_of(lot.award).unwrap_or_default(),
                credit_ucr: if debit { 0 } else { amount },
                debit_ucr: if debit { amount } else { 0 },
                balance_ucr: 0,
                reference: if is_lot { lot.id.to_string() } else { comity_wire::TokenId(reference).to_string() },
            });
        }
        snapshot.rollback().await?;
        drop(conn);
        let mut balance = opening;
        for row in &mut rows {
            balance += row.credit_ucr - row.debit_ucr;
            row.balance_ucr = balance;
        }
        Ok(FundStatement {
            project,
            title: found.title,
            period,
            generated_at: self.now(),
            start_balance_ucr: opening,
            end_balance_ucr: balance,
            total_credits_ucr: credits,
            total_debits_ucr: debits,
            reserved_ucr: sums.in_escrow.ucr(),
            available_ucr: sums.available.ucr(),
            rows,
        })
    }

    /// The books as a journal of hledger's, in pages.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn journal(&self, after: u64) -> Result<JournalPage, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let page = comity_ledger::books::transfers_after(&mut seen, after, JOURNAL_PAGE).await?;
        let ids: Vec<AccountId> =
            page.iter().flat_map(|coded| [coded.posted.transfer.debit, coded.posted.transfer.credit]).collect();
        let accounts = accounts(&mut seen, &ids).await?;
        snapshot.rollback().await?;
        let mut journal = if after == 0 { JOURNAL_HEAD.to_owned() } else { String::new() };
        let missing = || Failure::Unreadable { table: "transfer", what: "an account" };
        for coded in &page {
            let of = |id: AccountId| accounts.get(&id).ok_or_else(missing);
            let (debit, credit) = (of(coded.posted.transfer.debit)?, of(coded.posted.transfer.credit)?);
            journal.push_str(&journal_entry(&coded.posted, &word(coded.posted.transfer.kind), debit, credit));
        }
        let is_full = page.len() == JOURNAL_PAGE as usize;
        Ok(JournalPage { journal, next: page.last().filter(|_| is_full).map(|coded| coded.posted.seq) })
    }

    pub(super) fn report<R>(&self, name: &str, period: Period, rows: Vec<R>, total: Option<R>) -> Report<R> {
        Report { report: name.to_owned(), period, generated_at: self.now(), rows, total }
    }
}

async fn accounts(conn: &mut Db<'_>, ids: &[AccountId]) -> Result<BTreeMap<AccountId, Account>, Failure> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let found = LedgerTx::new(conn).accounts_in_tx(&ids).await?;
    Ok(found.into_iter().map(|account| (account.id, account)).collect())
}

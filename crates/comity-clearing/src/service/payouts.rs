//! Payments to owners: recorded one by one or as a run over a closed period, each with the earnings that it was for.

use std::collections::{BTreeMap, BTreeSet};

use comity_ledger::{Db, Group, LedgerTx, Store as _, Transfer, TransferId, TransferKind};
use comity_wire::{Amount, Digest, OrgId, ProjectId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use super::Clearing;
use super::acts::{some, text};
use super::owners::{Standing, standing};
use crate::acts::{Act, PayRun, Remit};
use crate::failure::Failure;
use crate::lots::FundKind;
use crate::owners::{Due, Why, due, lines, spread};
use crate::pseudonym;
use crate::store::payouts::{Line, Payout, Source, Traced};
use crate::store::{self, money};

/// Owners whom one run pays.
const RUN_OWNERS_MAX: usize = 10_000;

/// The payments of a run, each with what it was for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemittanceSet {
    pub run: String,
    pub generated_at: Timestamp,
    pub remittances: Vec<Remittance>,
    /// Over all of them.
    pub net_ucr: i64,
}

/// One payment to one owner: gross − held = net, and the rows add up to net.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remittance {
    pub owner: OrgId,
    pub run: String,
    pub paid_on: Timestamp,
    /// For what was earned before this moment.
    pub until: Timestamp,
    pub gross_ucr: i64,
    /// What open disputes kept from the owner when it was made.
    pub held_ucr: i64,
    pub net_ucr: i64,
    /// The transfer in the books, and the act behind it.
    pub transfer: TransferId,
    pub act: Digest,
    pub rows: Vec<RemittanceRow>,
}

/// What a part of a payment was for. The owner knows projects by pseudonym, and sees no award; who draws down funds at
/// the house sees both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RemittanceRow {
    pub owner: OrgId,
    pub run: String,
    pub paid_on: String,
    pub earned_before: String,
    /// `recharge`, `commercial`, `agency`.
    pub kind: String,
    /// Schedule, contract or agreement.
    pub reference: String,
    /// What the owner knows the project by; empty: a token that the house learnt of from a claim.
    pub subject: String,
    /// Whose credits they were; `suspense`: the house's own.
    pub fund: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub award_number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<String>,
    pub amount_ucr: i64,
}

/// Who will read a remittance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Owner,
    /// Whoever draws down what awards paid.
    Funds,
}

impl Clearing {
    /// The payments of a run; of one owner, if one is named.
    ///
    /// # Errors
    /// [`Failure::NotFound`] where nothing was paid under this name.
    pub async fn remittances(&self, run: &str, owner: Option<OrgId>, reader: For) -> Result<RemittanceSet, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot_to_audit().await?;
        let mut seen = snapshot.db();
        let limit = u32::try_from(RUN_OWNERS_MAX).expect("it fits");
        let mut payouts = store::payouts::of_run(&mut seen, run, limit).await?;
        payouts.retain(|payout| owner.is_none_or(|owner| owner == payout.owner));
        let mut remittances = Vec::with_capacity(payouts.len());
        for payout in payouts {
            let lines = store::payouts::traced(&mut seen, payout.transfer).await?;
            let terms = store::owners::of(&mut seen, payout.owner).await?;
            let kinds = terms
                .iter()
                .map(|terms| (terms.act, (terms.basis.word(), terms.basis.reference().to_owned())))
                .collect();
            remittances.push(self.remittance(payout, &lines, &kinds, reader)?);
        }
        snapshot.rollback().await?;
        let known = !remittances.is_empty() || self.run_known(run).await?;
        if !known {
            return Err(Failure::NotFound { what: format!("payment or run '{run}'") });
        }
        let net_ucr = remittances.iter().map(|remittance| remittance.net_ucr).sum();
        Ok(RemittanceSet { run: run.to_owned(), generated_at: self.now(), remittances, net_ucr })
    }

    /// Whether a run of this name was done that had nothing to pay.
    async fn run_known(&self, run: &str) -> Result<bool, Failure> {
        let acts = store::acts::done_of(&mut self.read().await?.db(), "pay_run").await?;
        let names = |body: &String| matches!(serde_json::from_str(body), Ok(Act::PayRun(known)) if known.run == run);
        Ok(acts.iter().any(names))
    }

    fn remittance(
        &self,
        payout: Payout,
        lines: &[Traced],
        kinds: &BTreeMap<Digest, (&'static str, String)>,
        reader: For,
    ) -> Result<Remittance, Failure> {
        let mut sums: BTreeMap<(Digest, Option<ProjectId>, Option<Source>), i64> = BTreeMap::new();
        for Traced { line, project, drawn } in lines {
            let amounts: Vec<i64> = drawn.iter().map(|drawn| drawn.1).collect();
            let (parts, rest) = spread(&amounts, line.begins, line.amount);
            let sources = drawn.iter().map(|drawn| Some(drawn.0.clone())).zip(parts);
            for (source, part) in sources.chain([(None, rest)]) {
                *sums.entry((line.terms, *project, source)).or_default() += part;
            }
        }
        let mut rows: BTreeMap<RemittanceRow, i64> = BTreeMap::new();
        for ((terms, project, source), amount) in sums {
            let unreadable = Failure::Unreadable { table: "payout_line", what: "terms" };
            let (kind, reference) = kinds.get(&terms).ok_or(unreadable)?;
            let subject = project.map(|project| pseudonym::derive(&self.inner.keys.pseudonyms, project, payout.owner));
            let inside = |text: Option<String>| (reader == For::Funds).then(|| text.unwrap_or_default());
            let row = RemittanceRow {
                owner: payout.owner,
                run: payout.run.clone(),
                paid_on: day(payout.paid_on),
                earned_before: payout.until.to_string(),
                kind: (*kind).to_owned(),
                reference: reference.clone(),
                subject: subject.map(|subject| subject.to_string()).unwrap_or_default(),
                fund: source.as_ref().map_or("suspense", |source| fund(source.fund)).to_owned(),
                project: inside(project.map(|project| project.to_string())),
                funder: inside(source.as_ref().map(|source| source.funder.clone())),
                award_number: inside(source.as_ref().map(|source| source.award_number.clone())),
                listing: inside(source.map(|source| source.listing)),
                amount_ucr: 0,
            };
            *rows.entry(row).or_default() += amount;
        }
        let rows: Vec<RemittanceRow> = rows
            .into_iter()
            .filter(|(_, amount)| *amount != 0)
            .map(|(row, amount_ucr)| RemittanceRow { amount_ucr, ..row })
            .collect();
        let net_ucr = payout.amount.ucr();
        assert_eq!(
            rows.iter().map(|row| row.amount_ucr).sum::<i64>(),
            net_ucr,
            "the rows of a payment are the payment"
        );
        Ok(Remittance {
            owner: payout.owner,
            run: payout.run,
            paid_on: payout.paid_on,
            until: payout.until,
            gross_ucr: net_ucr + payout.held.ucr(),
            held_ucr: payout.held.ucr(),
            net_ucr,
            transfer: payout.transfer,
            act: payout.act,
            rows,
        })
    }
}

fn day(at: Timestamp) -> String {
    at.to_string()[..10].to_owned()
}

fn fund(kind: FundKind) -> &'static str {
    match kind {
        FundKind::Federal => "federal",
        FundKind::Institutional => "institutional",
        FundKind::Donated => "donated",
        FundKind::Starter => "starter",
    }
}

/// What is due to an owner of what it earned before a moment, and how it stands now.
pub(super) async fn due_of(
    conn: &mut Db<'_>,
    owner: OrgId,
    until: Timestamp,
    now: Timestamp,
) -> Result<(Vec<Due>, Standing), Failure> {
    let terms = store::owners::of(conn, owner).await?;
    let stands = standing(conn, owner, &terms, now.plus(1)).await?;
    let then = standing(conn, owner, &terms, until).await?;
    let due = due(&then.reckoned, &stands.reckoned, &stands.paid, &stands.order);
    Ok((due, stands))
}

/// Says why no more than `payable` can be paid of what the owner earned.
pub(super) fn too_much(owner: OrgId, asked: Amount, payable: i64, stands: &Standing) -> Failure {
    let refused = &stands.reckoned.refused;
    let Some((why, _)) = refused.iter().max_by_key(|(_, amount)| **amount) else {
        return Failure::invalid(format!("{owner} is owed {} µcr, and {asked} were asked", stands.earned()));
    };
    let parts: Vec<String> = refused.iter().map(|(why, amount)| format!("{amount} µcr {}", why.word())).collect();
    Failure::OwnerTerms {
        what: format!(
            "{owner} has earned {} µcr, of which {payable} are payable; the rest is not: {}",
            stands.earned(),
            parts.join(", ")
        ),
        whose_move: Why::whose_move(*why),
    }
}

pub(super) async fn remit_check(conn: &mut Db<'_>, ask: &Remit, now: Timestamp) -> Result<(), Failure> {
    text("what names the payment", &ask.payment)?;
    some(ask.amount)?;
    let (due, stands) = due_of(conn, ask.owner, now.plus(1), now).await?;
    let payable: i64 = due.iter().map(|due| due.amount).sum();
    if ask.amount.ucr() > payable {
        return Err(too_much(ask.owner, ask.amount, payable, &stands));
    }
    Ok(())
}

pub(super) async fn remit_in_tx(conn: &mut Db<'_>, ask: &Remit, act: Digest, now: Timestamp) -> Result<(), Failure> {
    let (due, stands) = due_of(conn, ask.owner, now.plus(1), now).await?;
    let payment = Payment { owner: ask.owner, run: &ask.payment, paid_on: ask.paid_on, until: now, act };
    pay_in_tx(conn, &payment, ask.amount, &due, &stands, now).await
}

pub(super) async fn run_check(conn: &mut Db<'_>, ask: &PayRun) -> Result<(), Failure> {
    text("the name of a run", &ask.run)?;
    let owners: BTreeSet<_> = ask.owners.iter().collect();
    if owners.len() != ask.owners.len() || owners.len() > RUN_OWNERS_MAX {
        return Err(Failure::invalid(format!("name at most {RUN_OWNERS_MAX} owners, each once")));
    }
    // Only what is closed stays as the files of the run say it was.
    let closed = store::owners::closed_until(conn).await?;
    if ask.until > closed {
        return Err(Failure::OwnerTerms {
            what: format!("the books are closed up to {closed}: a run pays what was earned in closed periods"),
            whose_move: "two officers: comity clearing period close",
        });
    }
    let (until, name) = (ask.until, ask.run.clone());
    let earlier = store::payouts::of_run(conn, &name, 1).await?;
    match earlier.first() {
        Some(earlier) if earlier.until != until || ask.owners.is_empty() => {
            Err(Failure::invalid(format!("run or payment '{name}' was done before: give this one another name")))
        }
        _ => Ok(()),
    }
}

pub(super) async fn run_in_tx(
    conn: &mut Db<'_>,
    ask: &PayRun,
    act: Digest,
    (since, now): (Timestamp, Timestamp),
) -> Result<(), Failure> {
    let owners = if ask.owners.is_empty() { store::owners::owners(conn).await? } else { ask.owners.clone() };
    if owners.len() > RUN_OWNERS_MAX {
        return Err(Failure::Limit { what: "owners of one run", max: RUN_OWNERS_MAX.to_string() });
    }
    for owner in owners {
        let (due, stands) = due_of(conn, owner, ask.until, now).await?;
        // What a dispute took back after it was paid waits for the next run that has more than that to pay.
        let (due, amount) = past_disputes(conn, owner, due, since).await?;
        let Some(amount) = positive(amount) else { continue };
        let payment = Payment { owner, run: &ask.run, paid_on: ask.paid_on, until: ask.until, act };
        pay_in_tx(conn, &payment, amount, &due, &stands, now).await?;
    }
    Ok(())
}

/// What a run pays of what is due, where a window that began at `since` is just over: what was earned under tokens that nobody can dispute
/// any more, and no more of it than what disputes about the others leave.
pub(super) async fn past_disputes(
    conn: &mut Db<'_>,
    owner: OrgId,
    due: Vec<Due>,
    since: Timestamp,
) -> Result<(Vec<Due>, i64), Failure> {
    if due.iter().all(|due| due.amount <= 0) {
        return Ok((due, 0));
    }
    let mut under_way = BTreeSet::new();
    let note = |token| {
        under_way.insert(token);
    };
    let kept = store::credits::kept_in_tx(conn, (owner, None), since, note).await?;
    let owed = LedgerTx::new(conn).account_in_tx(money::payable(owner).id).await?;
    let owed = owed.map_or(Amount::ZERO, |account| account.available());
    Ok(crate::owners::past_disputes(due, |token| under_way.contains(&token), kept.leaves(owed)))
}

fn positive(ucr: i64) -> Option<Amount> {
    Amount::new(ucr).ok().filter(|amount| !amount.is_zero())
}

/// A payment that is to be made.
struct Payment<'a> {
    owner: OrgId,
    run: &'a str,
    paid_on: Timestamp,
    until: Timestamp,
    act: Digest,
}

async fn pay_in_tx(
    conn: &mut Db<'_>,
    payment: &Payment<'_>,
    amount: Amount,
    due: &[Due],
    stands: &Standing,
    now: Timestamp,
) -> Result<(), Failure> {
    let Payment { owner, run, paid_on, until, act } = *payment;
    let (from, to) = (money::payable(owner), money::remitted(owner));
    let transfer = Transfer {
        id: TransferId::derive(TransferKind::Remit, &[owner.as_bytes(), run.as_bytes()]),
        kind: TransferKind::Remit,
        debit: from.id,
        credit: to.id,
        amount,
        reference: money::reference(owner.0),
        evidence: act,
    };
    let lines = laid(due, amount, stands).ok_or_else(|| Failure::Books { what: "less is due than is paid".into() })?;
    let held = Amount::new(store::owners::held(conn, owner).await?)
        .map_err(|_| Failure::Unreadable { table: "dispute", what: "held" })?;
    let mut ledger = LedgerTx::new(conn);
    money::open_in_tx(&mut ledger, &[from, to], now).await?;
    if let Err(refusal) = money::try_post_in_tx(&mut ledger, Group::single(transfer), now).await? {
        return Err(Failure::invalid(format!("payment {run} was recorded in other words: {refusal}")));
    }
    let payout =
        Payout { transfer: transfer.id, owner, run: run.to_owned(), paid_on, until, amount, held, act, made_at: now };
    store::payouts::insert_in_tx(conn, &payout, &lines).await
}

/// The lines of a payment, each with what was paid of its token before.
fn laid(due: &[Due], amount: Amount, stands: &Standing) -> Option<Vec<Line>> {
    let mut begins = begun(stands);
    let line = |due: Due| {
        let begins = begins.entry(due.token).or_default();
        let line = Line { token: due.token, terms: due.terms, begins: *begins, amount: due.amount };
        *begins += due.amount;
        line
    };
    Some(lines(due, amount.ucr())?.into_iter().map(line).collect())
}

/// What was paid of each token.
pub(super) fn begun(stands: &Standing) -> BTreeMap<TokenId, i64> {
    let mut begins = stands.reckoned.before_lines.clone();
    for ((token, _), paid) in &stands.paid {
        *begins.entry(*token).or_default() += paid;
    }
    begins
}

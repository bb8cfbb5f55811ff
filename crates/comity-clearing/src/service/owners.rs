//! Owners' terms at work: set by acts, and what they make payable.

use std::collections::BTreeMap;

use comity_ledger::Db;
use comity_wire::api::clearing::{Payable, PayableReason};
use comity_wire::{Amount, Digest, OrgId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Clearing;
use super::acts::text;
use super::payouts::past_disputes;
use crate::acts::OwnerTerms;
use crate::failure::Failure;
use crate::owners::{Basis, Earned, Portions, Reckoned, TERMS_MAX, Terms, Why, due, in_order, reckon};
use crate::settlement::CHALLENGE_S;
use crate::store;

/// Terms as they are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsRow {
    pub owner: OrgId,
    pub from: Timestamp,
    pub basis: Basis,
    pub arrears: bool,
    pub recorded_at: Timestamp,
    /// Who set them stands in this act.
    pub act: Digest,
    /// Whether they hold for what is sold now.
    pub in_force: bool,
}

/// What an owner earned, and what of it is payable now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerShow {
    pub owner: OrgId,
    pub terms: Vec<TermsRow>,
    /// Earned and not paid: payable + not payable.
    pub earned_ucr: i64,
    pub payable_ucr: i64,
    pub not_payable_ucr: i64,
    /// Of the payable: what a payment run leaves, since disputes may still ask for it.
    pub kept_ucr: i64,
    /// What open disputes keep besides.
    pub held_ucr: i64,
    pub reasons: Vec<ReasonRow>,
}

/// Why something is not payable, and whose move it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonRow {
    pub reason: Why,
    pub ucr: i64,
    pub whose_move: String,
}

impl Clearing {
    /// All terms that were ever set.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn owner_terms(&self) -> Result<Vec<TermsRow>, Failure> {
        let all = store::owners::all(&mut self.read().await?.db()).await?;
        let mut by_owner: BTreeMap<OrgId, Vec<Terms>> = BTreeMap::new();
        for (owner, terms) in all {
            by_owner.entry(owner).or_default().push(terms);
        }
        let now = self.now();
        Ok(by_owner.into_iter().flat_map(|(owner, terms)| rows(owner, &terms, now)).collect())
    }

    /// What one owner earned, and why what is not payable is not.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn owner_show(&self, owner: OrgId) -> Result<OwnerShow, Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let terms = store::owners::of(&mut seen, owner).await?;
        let standing = standing(&mut seen, owner, &terms, now.plus(1)).await?;
        let held_ucr = store::owners::held(&mut seen, owner).await?;
        let kept_ucr = kept(&mut seen, owner, &standing, self.calendar().since(now, CHALLENGE_S)).await?;
        snapshot.rollback().await?;
        let reason = |(reason, ucr): (&Why, &i64)| ReasonRow {
            reason: *reason,
            ucr: *ucr,
            whose_move: reason.whose_move().to_owned(),
        };
        Ok(OwnerShow {
            owner,
            terms: rows(owner, &terms, now),
            earned_ucr: standing.earned(),
            payable_ucr: standing.payable(),
            not_payable_ucr: standing.earned() - standing.payable(),
            kept_ucr,
            held_ucr,
            reasons: standing.reckoned.refused.iter().map(reason).collect(),
        })
    }
}

fn rows(owner: OrgId, terms: &[Terms], now: Timestamp) -> Vec<TermsRow> {
    let in_force = in_order(terms, now.plus(1)).last().map(|terms| terms.act);
    let row = |terms: &Terms| TermsRow {
        owner,
        from: terms.from,
        basis: terms.basis.clone(),
        arrears: terms.arrears,
        recorded_at: terms.recorded_at,
        act: terms.act,
        in_force: in_force == Some(terms.act),
    };
    terms.iter().map(row).collect()
}

/// An owner's earnings at a moment, and what its terms say of them.
pub(crate) struct Standing {
    pub(crate) order: Vec<Earned>,
    pub(crate) reckoned: Reckoned,
    pub(crate) paid: Portions,
    unlined: i64,
}

impl Standing {
    fn paid_out(&self) -> i64 {
        self.paid.values().sum::<i64>() + self.unlined
    }

    /// Earned and not paid: what lies in the owner's account.
    pub(crate) fn earned(&self) -> i64 {
        self.order.iter().map(|earned| earned.net).sum::<i64>() - self.paid_out()
    }

    pub(crate) fn payable(&self) -> i64 {
        self.reckoned.allowed.values().sum::<i64>() - self.paid.values().sum::<i64>()
    }
}

/// How an owner stands with what was posted, paid and agreed before a moment.
pub(crate) async fn standing(
    conn: &mut Db<'_>,
    owner: OrgId,
    terms: &[Terms],
    until: Timestamp,
) -> Result<Standing, Failure> {
    let order = store::owners::earned(conn, owner, (Timestamp(0), until)).await?;
    let (paid, unlined) = store::payouts::paid(conn, owner, until).await?;
    let reckoned = reckon(terms, &order, unlined, until);
    Ok(Standing { order, reckoned, paid, unlined })
}

/// What a payment run over all that was earned would leave of what is payable.
async fn kept(conn: &mut Db<'_>, owner: OrgId, standing: &Standing, since: Timestamp) -> Result<i64, Failure> {
    let due = due(&standing.reckoned, &standing.reckoned, &standing.paid, &standing.order);
    let (_, paid) = past_disputes(conn, owner, due, since).await?;
    Ok((standing.payable() - paid).max(0))
}

/// What an owner reads of itself.
pub(super) async fn told(conn: &mut Db<'_>, owner: OrgId, now: Timestamp) -> Result<Payable, Failure> {
    let terms = store::owners::of(conn, owner).await?;
    let standing = standing(conn, owner, &terms, now.plus(1)).await?;
    let amount = |ucr: i64| Amount::new(ucr.max(0)).unwrap_or(Amount::MAX);
    // What a dispute took back beyond what was left makes nothing else less than nothing.
    let payable = amount(standing.payable());
    let reason = |(why, ucr): (&Why, &i64)| PayableReason {
        reason: why.word().to_owned(),
        amount: amount(*ucr),
        whose_move: why.whose_move().to_owned(),
    };
    Ok(Payable {
        terms: in_order(&terms, now.plus(1)).last().map_or("", |terms| terms.basis.word()).to_owned(),
        payable,
        not_payable: amount(standing.earned()).saturating_sub(payable),
        reasons: standing.reckoned.refused.iter().map(reason).collect(),
    })
}

pub(super) async fn terms_check(house: &Clearing, conn: &mut Db<'_>, ask: &OwnerTerms) -> Result<(), Failure> {
    if house.inner.directory.roster().organisation(ask.owner).is_none()
        && store::owners::of(conn, ask.owner).await?.is_empty()
    {
        return Err(Failure::NotFound { what: format!("organisation {} on the roster", ask.owner) });
    }
    match &ask.basis {
        Basis::Recharge { schedule, .. } => {
            text("the schedule's name", schedule)?;
            let recorded = store::schedules::of(conn, ask.owner).await?;
            if !recorded.iter().any(|version| version.name == *schedule) {
                return Err(Failure::OwnerTerms {
                    what: format!("no schedule '{schedule}' of {} is recorded", ask.owner),
                    whose_move: "two officers of the house: comity clearing owner schedule record",
                });
            }
        }
        Basis::Commercial { contract, .. } => text("the contract's number", contract)?,
        Basis::Agency { agreement, .. } if !agreement.is_empty() => text("the agreement's number", agreement)?,
        Basis::Agency { ceiling: None, ends_at: None, .. } | Basis::None {} => {}
        Basis::Agency { .. } => {
            return Err(Failure::invalid("a ceiling and an end are those of an agreement: name it"));
        }
    }
    if ask.basis.ceiling() == Some(Amount::ZERO) {
        return Err(Failure::invalid("a ceiling is at least 1 µcr"));
    }
    if ask.basis.ends_at().is_some_and(|end| end <= ask.from) {
        return Err(Failure::invalid("terms end after they begin"));
    }
    if matches!(ask.basis, Basis::None {}) && ask.arrears {
        return Err(Failure::invalid("terms that pay nothing pay no arrears"));
    }
    let closed = store::owners::closed_until(conn).await?;
    if ask.from < closed {
        // What a closed period said was payable stays what it said.
        return Err(Failure::OwnerTerms {
            what: format!("the books are closed up to {closed}: terms begin then or later"),
            whose_move: "two officers: terms from an open day, with --arrears for what was sold before; or comity clearing period reopen",
        });
    }
    if store::owners::of(conn, ask.owner).await?.len() >= TERMS_MAX {
        return Err(Failure::Limit { what: "terms of one owner", max: TERMS_MAX.to_string() });
    }
    Ok(())
}

pub(super) async fn terms_in_tx(
    conn: &mut Db<'_>,
    ask: &OwnerTerms,
    act: Digest,
    now: Timestamp,
) -> Result<(), Failure> {
    let place = store::owners::of(conn, ask.owner).await?.last().map_or(1, |last| last.place + 1);
    let terms = Terms { act, place, basis: ask.basis.clone(), from: ask.from, arrears: ask.arrears, recorded_at: now };
    store::owners::insert_in_tx(conn, ask.owner, &terms).await
}

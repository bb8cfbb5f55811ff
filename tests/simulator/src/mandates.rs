//! One holder draws under a mandate of the PI's, with a cap in all and for each day; now and then the PI takes it back.

use comity_clearing::mandates::{Redeemed, Role, day_of};
use comity_wire::object::Mandate;
use comity_wire::{Amount, MandateId, ProjectId, PublicKey, Timestamp, TokenId, Verified, cose};

use crate::around::Around;
use crate::books::Books;
use crate::federation::{DAY_S, KEYS, MODEL, START};
use crate::truth::Checked;

/// Who draws under it; the others draw as who they are.
pub(crate) const MANDATED: usize = 2;
const PROJECT: ProjectId = ProjectId([1; 16]);
const CAP: u32 = 1_300;
const CAP_PER_DAY: u32 = 800;

impl Books {
    /// What tokens under the mandate hold or have spent, of those drawn since.
    fn drawn_since(&self, since: Timestamp) -> Amount {
        let under = self.under.iter().filter(|(_, at)| **at >= since);
        let kept = under.filter_map(|(token, _)| self.escrows.get(token));
        kept.fold(Amount::ZERO, |sum, escrow| sum.saturating_add(escrow.budget.saturating_sub(escrow.refunded)))
    }
}

/// The PI's word: for this model, some days at most.
fn mandate(member: PublicKey) -> Verified<Mandate> {
    let mandate = Mandate {
        id: MandateId([7; 16]),
        project: PROJECT,
        member: Some(member),
        join_code: None,
        cap: Amount::from_ucr(CAP),
        cap_per_day: Amount::from_ucr(CAP_PER_DAY),
        models: vec![MODEL.clone()].try_into().expect("one model"),
        not_before: START.minus(DAY_S),
        not_after: START.plus(30 * DAY_S),
        model_caps: Default::default(),
        assists: None,
    };
    cose::sign(&mandate, &KEYS.holders[0])
}

/// Whether the mandate lets its member draw so much now; then it is written down with the token.
pub(crate) fn draws(
    books: &mut Books,
    (token, key, budget): (TokenId, &PublicKey, Amount),
    around: &mut Around<'_>,
) -> Checked<bool> {
    let forgets = around.bugs.house_forgets_what_was_drawn();
    let since = |since| if forgets { Amount::ZERO } else { books.drawn_since(since) };
    let mut redeemed = Redeemed {
        mandate: mandate(KEYS.holders[MANDATED].public()),
        member: KEYS.holders[MANDATED].public(),
        signer: Some(Role::Pi),
        holder: Some(Role::Member),
        revoked_at: books.mandate_ended.filter(|_| !around.bugs.house_knows_no_end_of_a_mandate()),
        drawn: since(Timestamp(0)),
        drawn_today: since(day_of(around.now)),
        settled: Amount::ZERO,
        by_model: Default::default(),
        redeemed: true,
        parent: None,
    };
    let drawn = redeemed.draw(key, PROJECT, std::iter::once(&*MODEL), budget, around.now);
    if let Err(refused) = &drawn {
        around.truth.meet(match refused {
            comity_clearing::Failure::Limit { what: "drawn under this mandate today", .. } => {
                "a mandate that is drawn for the day"
            }
            comity_clearing::Failure::Limit { .. } => "a mandate that is drawn",
            _ => "a mandate that is over",
        });
        around.net.note(|| format!("house draws nothing: {refused}"));
        return Ok(false);
    }
    books.under.insert(token, around.now);
    Ok(true)
}

/// What was drawn is within the mandate: added up without the core, from what was sold and what came home.
pub(crate) fn check(books: &Books, token: TokenId, around: &mut Around<'_>) -> Checked {
    if !books.escrows.contains_key(&token) {
        return Ok(());
    }
    around.truth.meet("drawn under a mandate");
    around.truth.mandated.insert(token, around.now);
    around.truth.holds(
        "nothing is drawn under a mandate that was taken back",
        books.mandate_ended.is_none(),
        || format!("token {token}"),
    )?;
    let sum = |day: Option<u64>, truth: &crate::truth::Truth| {
        let under = truth.mandated.iter().filter(|(_, at)| day.is_none_or(|day| at.0 / DAY_S == day));
        let held = under.map(|(token, _)| truth.tokens[token].budget - books.escrows[token].refunded.ucr());
        held.sum::<i64>()
    };
    let (all, today) = (sum(None, around.truth), sum(Some(around.now.0 / DAY_S), around.truth));
    let what = || format!("token {token}");
    around.truth.bound("drawn within the mandate", all, i64::from(CAP), what)?;
    around.truth.bound("drawn within the mandate's day", today, i64::from(CAP_PER_DAY), what)
}

impl crate::house::House {
    /// The PI takes the mandate back.
    pub(crate) fn end_mandate(&mut self, around: &mut Around<'_>) {
        if self.books.mandate_ended.is_none() {
            self.books.mandate_ended = Some(around.now);
            around.truth.meet("a mandate that is taken back");
        }
    }
}

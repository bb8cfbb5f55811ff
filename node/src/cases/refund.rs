//! Credits that go back after a case that did not stand: what the flagged calls had cost, and the order to give it back.

use comity_access::case::desk::{Again, ToGive, Trouble};
use comity_access::case::store::Which;
use comity_access::case::{Act, Actor, Case, CaseId, Notice, Role};
use comity_gateway::FlaggedCharges;
use comity_guard::Category;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, TokenId};
use serde::{Deserialize, Serialize};

use super::{Casework, known};
use crate::failure::Failure;

/// Cases that are looked at in one page.
const PAGE: u32 = 256;

/// What an operator says of a refund; what is left out is what the flagged calls had cost.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundAsk {
    pub token: Option<TokenId>,
    pub amount: Option<Amount>,
    pub reason: String,
    pub author: String,
    /// More than was ordered of this token in this case before.
    #[serde(default)]
    pub again: bool,
}

/// What a project was charged for calls that were flagged, and what of that is ordered back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Charges {
    pub token: TokenId,
    pub receipts: u64,
    /// What these calls had cost, less what this case has ordered back.
    pub amount: Amount,
    /// All that was charged under the token, less what cases of this project have ordered back: no more can be given back.
    pub charged: Amount,
    /// In this case: booked, or waiting for the house.
    pub ordered: Amount,
}

impl Casework {
    /// What the project was charged for calls that were flagged as this case says, by token; tokens of that time without any are
    /// there with nothing.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn charges(&self, id: CaseId) -> Result<Vec<Charges>, Failure> {
        let case = self.desk.find(id).await.map_err(|trouble| known(id, trouble))?;
        let seen = case.seen().first().ok_or_else(|| Failure::new(format!("{id} says nothing of what was seen")))?;
        let events = case.events().iter().map(|recorded| recorded.event());
        let times = || {
            events.clone().filter(|event| matches!(event.act, Act::Open { .. } | Act::Add { .. })).map(|event| event.at)
        };
        let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        // An operator's own word has no category of ours: then nothing is suggested.
        let category = Category::ALL.into_iter().find(|category| category.name() == seen.category);
        let number = category.map_or(0, Category::number);
        let time = (first.minus(DAY_S), last.plus(DAY_S));
        let flagged = self.gateway.flagged_charges(case.subject(), (&seen.model, number), time).await?;
        let everywhere = self.ordered(&case, &flagged).await.map_err(|trouble| known(id, trouble))?;
        Ok(flagged.iter().zip(everywhere).map(|(one, all)| left(one, case.ordered(one.token), all)).collect())
    }

    /// What all cases of the project have ordered back of each of these tokens.
    async fn ordered(&self, of: &Case, flagged: &[FlaggedCharges]) -> Result<Vec<Amount>, Trouble> {
        let mut ordered = vec![Amount::ZERO; flagged.len()];
        let mut which = Which { subject: Some(of.subject().to_owned()), ..Which::default() };
        loop {
            let page = self.desk.list(&which, PAGE).await?;
            for row in &page {
                let case = self.desk.find(row.id).await?;
                for (sum, one) in ordered.iter_mut().zip(flagged) {
                    *sum = sum.saturating_add(case.ordered(one.token));
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => which.after = Some(last.cursor()),
                _ => return Ok(ordered),
            }
        }
    }

    /// Orders credits to be given back.
    ///
    /// # Errors
    /// [`Failure`] where nothing says how much of which token, or it is more than was charged under it.
    pub async fn refund(&self, id: CaseId, ask: RefundAsk) -> Result<Notice, Failure> {
        let RefundAsk { token, amount, reason, author, again } = ask;
        let again = if again { Again::Meant } else { Again::No };
        let charges = self.charges(id).await?;
        let (token, amount) = meant(&charges, token, amount)?;
        let handler = Actor { id: author, role: Role::Handler };
        let done = self.desk.order(id, &handler, ToGive { token, amount, reason }, again).await;
        Ok(done.map_err(|trouble| known(id, trouble))?.notice())
    }
}

/// What is left of what was charged, after what was ordered back in this case and everywhere.
fn left(flagged: &FlaggedCharges, here: Amount, everywhere: Amount) -> Charges {
    let charged = flagged.charged.saturating_sub(everywhere);
    Charges {
        token: flagged.token,
        receipts: flagged.receipts,
        amount: flagged.amount.saturating_sub(here).min(charged),
        charged,
        ordered: here,
    }
}

/// Which token, and how much.
fn meant(charges: &[Charges], token: Option<TokenId>, amount: Option<Amount>) -> Result<(TokenId, Amount), Failure> {
    const HINT: &str = "comity cases charges shows which tokens of the project there are, and what was charged";
    let flagged: Vec<_> = charges.iter().filter(|one| !one.amount.is_zero()).collect();
    // Said once more, it is about the token of which it was said before.
    let before: Vec<_> = charges.iter().filter(|one| !one.ordered.is_zero()).collect();
    let one = match (token, flagged.as_slice()) {
        (Some(token), _) => charges.iter().find(|one| one.token == token).ok_or_else(|| {
            Failure::new(format!("the project was charged nothing under {token} around that time")).hint(HINT)
        })?,
        (None, [one]) => one,
        (None, []) if before.len() == 1 => before[0],
        (None, []) => {
            return Err(Failure::new("no call that was flagged so was charged: say --token and --amount").hint(HINT));
        }
        (None, several) => {
            let names: Vec<String> =
                several.iter().map(|one| format!("{} ({} µcr)", one.token, one.amount.ucr())).collect();
            return Err(Failure::new(format!("flagged calls were charged under several tokens: {}", names.join(", ")))
                .hint("one order for each: say --token"));
        }
    };
    let amount = amount.unwrap_or(one.amount);
    if amount.is_zero() && !one.ordered.is_zero() {
        return Err(Failure::new(format!(
            "what flagged calls had cost under {} is ordered back already: {} µcr",
            one.token,
            one.ordered.ucr()
        ))
        .hint("what is to be given back besides: --amount, with --again"));
    }
    if amount.is_zero() {
        return Err(Failure::new(format!("no flagged call was charged under {}: say --amount", one.token)).hint(HINT));
    }
    if amount > one.charged {
        return Err(Failure::new(format!(
            "{} µcr is more than the {} that were charged under {} and not ordered back yet",
            amount.ucr(),
            one.charged.ucr(),
            one.token
        )));
    }
    Ok((one.token, amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ucr(amount: u32) -> Amount {
        Amount::from_ucr(amount)
    }

    fn one(token: u8, amount: u32, charged: u32) -> Charges {
        given(token, amount, charged, (0, 0))
    }

    /// After so much was ordered back in this case, and in all.
    fn given(token: u8, amount: u32, charged: u32, (here, everywhere): (u32, u32)) -> Charges {
        let flagged = FlaggedCharges {
            token: TokenId([token; 16]),
            receipts: u64::from(amount > 0),
            amount: ucr(amount),
            charged: ucr(charged),
        };
        left(&flagged, ucr(here), ucr(everywhere))
    }

    #[test]
    fn what_flagged_calls_had_cost_is_meant_unless_somebody_says_otherwise() {
        let (first, second) = (TokenId([1; 16]), TokenId([2; 16]));
        let charges = [one(1, 30, 100), one(2, 0, 50)];
        assert_eq!(meant(&charges, None, None).unwrap(), (first, ucr(30)));
        assert_eq!(meant(&charges, None, Some(ucr(100))).unwrap(), (first, ucr(100)));
        assert_eq!(meant(&charges, Some(second), Some(ucr(7))).unwrap(), (second, ucr(7)));
        let refused = |charges: &[Charges], token, amount| meant(charges, token, amount).unwrap_err().to_string();
        assert!(refused(&charges, None, Some(ucr(101))).contains("more than the 100"));
        assert!(refused(&charges, Some(second), None).contains("say --amount"));
        assert!(refused(&charges, Some(TokenId([3; 16])), None).contains("charged nothing"));
        assert!(refused(&charges[1..], None, None).contains("say --token"));
        assert!(refused(&[one(1, 30, 100), one(2, 5, 50)], None, None).contains("several tokens"));
        // What was ordered back before is not meant once more, in this case or another.
        let charges = [given(1, 30, 100, (30, 30)), given(2, 9, 50, (0, 46))];
        assert_eq!(meant(&charges, None, None).unwrap(), (second, ucr(4)));
        assert!(refused(&charges[..1], None, None).contains("ordered back already: 30"));
        assert_eq!(meant(&charges[..1], None, Some(ucr(70))).unwrap(), (first, ucr(70)));
        assert!(refused(&charges, Some(first), Some(ucr(71))).contains("more than the 70"));
        assert!(refused(&charges, Some(second), Some(ucr(5))).contains("more than the 4"));
        assert_eq!(meant(&[given(1, 30, 100, (10, 10))], None, None).unwrap(), (first, ucr(20)));
    }
}

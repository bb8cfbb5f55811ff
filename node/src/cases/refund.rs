//! Credits that go back after a case that did not stand: what the flagged calls had cost, and the order to give it back.

use comity_access::case::{Act, CaseId, Notice, Role};
use comity_gateway::FlaggedCharges;
use comity_guard::Category;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, CreditNoteId, TokenId};
use serde::{Deserialize, Serialize};

use super::{Casework, known};
use crate::failure::Failure;

/// What an operator says of a refund; what is left out is what the flagged calls had cost.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundAsk {
    pub token: Option<TokenId>,
    pub amount: Option<Amount>,
    pub reason: String,
    pub author: String,
}

impl Casework {
    /// What the project was charged for calls that were flagged as this case says, by token; tokens of that time without any are
    /// there with nothing.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn charges(&self, id: CaseId) -> Result<Vec<FlaggedCharges>, Failure> {
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
        Ok(self.gateway.flagged_charges(case.subject(), (&seen.model, number), time).await?)
    }

    /// Orders credits to be given back.
    ///
    /// # Errors
    /// [`Failure`] where nothing says how much of which token, or it is more than was charged under it.
    pub async fn refund(&self, id: CaseId, ask: RefundAsk) -> Result<Notice, Failure> {
        let RefundAsk { token, amount, reason, author } = ask;
        let charges = self.charges(id).await?;
        let (token, amount) = meant(&charges, token, amount)?;
        let act = Act::Refund { note: CreditNoteId([0; 16]), token, amount, reason };
        let done = self.desk.act_of_owner(id, Role::Handler, author, act).await;
        Ok(done.map_err(|trouble| known(id, trouble))?.notice())
    }
}

/// Which token, and how much.
fn meant(
    charges: &[FlaggedCharges],
    token: Option<TokenId>,
    amount: Option<Amount>,
) -> Result<(TokenId, Amount), Failure> {
    const HINT: &str = "comity cases charges shows which tokens of the project there are, and what was charged";
    let flagged: Vec<_> = charges.iter().filter(|one| !one.amount.is_zero()).collect();
    let one = match (token, flagged.as_slice()) {
        (Some(token), _) => charges.iter().find(|one| one.token == token).ok_or_else(|| {
            Failure::new(format!("the project was charged nothing under {token} around that time")).hint(HINT)
        })?,
        (None, [one]) => one,
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
    if amount.is_zero() {
        return Err(Failure::new(format!("no flagged call was charged under {}: say --amount", one.token)).hint(HINT));
    }
    if amount > one.charged {
        return Err(Failure::new(format!(
            "{} µcr is more than the {} that were charged under {}",
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

    fn one(token: u8, amount: u32, charged: u32) -> FlaggedCharges {
        FlaggedCharges {
            token: TokenId([token; 16]),
            receipts: u64::from(amount > 0),
            amount: ucr(amount),
            charged: ucr(charged),
        }
    }

    #[test]
    fn what_flagged_calls_had_cost_is_meant_unless_somebody_says_otherwise() {
        let (first, second) = (TokenId([1; 16]), TokenId([2; 16]));
        let charges = [one(1, 30, 100), one(2, 0, 50)];
        assert_eq!(meant(&charges, None, None).unwrap(), (first, ucr(30)));
        assert_eq!(meant(&charges, None, Some(ucr(100))).unwrap(), (first, ucr(100)));
        assert_eq!(meant(&charges, Some(second), Some(ucr(7))).unwrap(), (second, ucr(7)));
        let refused =
            |charges: &[FlaggedCharges], token, amount| meant(charges, token, amount).unwrap_err().to_string();
        assert!(refused(&charges, None, Some(ucr(101))).contains("more than the 100"));
        assert!(refused(&charges, Some(second), None).contains("say --amount"));
        assert!(refused(&charges, Some(TokenId([3; 16])), None).contains("charged nothing"));
        assert!(refused(&charges[1..], None, None).contains("say --token"));
        assert!(refused(&[one(1, 30, 100), one(2, 5, 50)], None, None).contains("several tokens"));
    }
}

//! What models cost, and when: from the tariffs that their owners signed and the house quoted.

use comity_wire::object::Token;
use comity_wire::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Clearing;
use crate::failure::Failure;
use crate::reports::{Period, Report};
use crate::store;
use crate::store::prices::Price;

/// Quotes that are looked through in one transaction when prices begin to be kept.
const BEGIN_PAGE: u32 = 1_000;

/// The price of a meter's units from a number of units on, while it was quoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceRow {
    pub owner: OrgId,
    pub model: String,
    pub op: String,
    pub meter: String,
    pub from_units: u64,
    pub ucr_per_million: u64,
    /// A request costs at least this.
    pub minimum_ucr: i64,
    /// When it was quoted first, by the house's clock (RFC 3339).
    pub quoted_from: String,
    /// When another tariff was quoted for the first time; empty: none was. Tokens that were sold before keep this one.
    pub quoted_until: String,
    /// When it was quoted last, within an hour.
    pub quoted_last: String,
    pub tariff_name: String,
    pub tariff_version: u64,
    /// Content id of what the owner signed.
    pub tariff: String,
}

impl Clearing {
    /// Every price that was ever quoted in a period, or was the one then in force.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn prices(&self, owner: Option<OrgId>, period: Period) -> Result<Report<PriceRow>, Failure> {
        let prices = store::prices::all(&mut self.read().await?.db(), owner).await?;
        let (from, to) = (period.from.unwrap_or(Timestamp(0)), period.to.unwrap_or(Timestamp(u64::MAX)));
        let mut rows = Vec::new();
        for (at, price) in prices.iter().enumerate() {
            let next = prices.get(at + 1).filter(|next| (&next.model, next.op) == (&price.model, price.op));
            let until = next.map(|next| next.first_at);
            // A tariff that came back was quoted longer than until the next one's first day.
            let over = until.is_some_and(|until| until <= from) && price.last_at < from;
            if price.first_at < to && !over {
                rows.extend(rows_of(price, until));
            }
        }
        Ok(self.report("prices", period, rows, None))
    }

    /// Looks through the quotes from before prices were kept. Once; where it was stopped it goes on.
    pub(super) async fn prices_begin(&self) -> Result<(), Failure> {
        let turn =
            || self.write(move |conn| Box::pin(async move { store::prices::begin_in_tx(conn, BEGIN_PAGE).await }));
        while turn().await? {}
        Ok(())
    }
}

fn rows_of(price: &Price, until: Option<Timestamp>) -> Vec<PriceRow> {
    let tariff = price.tariff.unverified();
    let Some(op) = tariff.price(price.op) else { return Vec::new() };
    let row = |meter: &str, from_units, ucr_per_million| PriceRow {
        owner: price.owner,
        model: price.model.to_string(),
        op: price.op.to_string(),
        meter: meter.to_owned(),
        from_units,
        ucr_per_million,
        minimum_ucr: op.minimum.ucr(),
        quoted_from: price.first_at.to_string(),
        quoted_until: until.map(|until| until.to_string()).unwrap_or_default(),
        quoted_last: price.last_at.to_string(),
        tariff_name: tariff.name.to_string(),
        tariff_version: tariff.version,
        tariff: price.id.to_string(),
    };
    let steps = op
        .rates
        .iter()
        .flat_map(|rate| rate.steps.iter().map(|step| row(rate.meter.as_str(), step.from, step.ucr_per_million)));
    let rows: Vec<PriceRow> = steps.collect();
    // What costs nothing, or its minimum only, was quoted all the same.
    if rows.is_empty() { vec![row("", 0, 0)] } else { rows }
}

/// The prices that a token pins which the house did not sell by itself.
pub(super) async fn learnt_in_tx(
    house: &Clearing,
    conn: &mut comity_ledger::Db<'_>,
    owner: OrgId,
    token: &Token,
) -> Result<(), Failure> {
    for scope in token.terms.scope.iter() {
        // Somebody else's lost books must not keep an owner from being paid.
        let Some(tariff) = house.inner.directory.tariff(&scope.tariff) else { continue };
        store::tokens::tariff_insert_in_tx(conn, &tariff).await?;
        match store::prices::quoted_in_tx(conn, owner, std::slice::from_ref(scope), token.issued_at).await {
            // Nor must an owner's many prices.
            Ok(()) | Err(Failure::Limit { .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

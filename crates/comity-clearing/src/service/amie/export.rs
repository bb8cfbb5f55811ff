//! Comity as one resource: what projects paid here, as the usage records that its operator sends to ACCESS.
//!
//! One record for each transfer, named by it: what was exported once is never other figures later, and the records of any
//! time add up to what left the projects in it.

use comity_wire::cbor::Limits;
use comity_wire::object::Token;
use comity_wire::{Decode as _, Object as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Clearing;
use crate::amie::{Body, UsageKind, charge};
use crate::failure::Failure;
use crate::reports::Period;
use crate::store;
use crate::store::amie::Charged;

/// Transfers on one page.
const PAGE: u32 = 1_000;

/// As whom records are reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportAs {
    /// What ACCESS calls this house as a resource.
    pub resource: String,
    /// Under which login: a community account, since the house does not know who of a project asked.
    pub username: String,
}

/// A page of records, and the place after which the next one begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsagePage {
    pub compute: Vec<Body>,
    pub adjustment: Vec<Body>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Clearing {
    /// What projects paid in a period, as usage records.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn amie_usage_export(&self, period: Period, by: &ReportAs, after: u64) -> Result<UsagePage, Failure> {
        let now = self.now();
        let over = (period.from.unwrap_or(comity_wire::Timestamp(0)), period.to.unwrap_or_else(|| now.plus(1)));
        if over.0 >= over.1 {
            return Err(Failure::invalid("a period ends after it begins"));
        }
        let rows = store::amie::charged(&mut self.read().await?.db(), after, over, PAGE).await?;
        let mut page = UsagePage::default();
        for row in &rows {
            let (kind, record) = usage_record(row, by);
            match kind {
                UsageKind::Compute => page.compute.push(record),
                _ => page.adjustment.push(record),
            }
        }
        page.next = rows.last().filter(|_| rows.len() == PAGE as usize).map(|row| row.seq);
        Ok(page)
    }
}

/// A transfer as a usage record, with its charge in credits.
pub(in crate::service) fn usage_record(row: &Charged, by: &ReportAs) -> (UsageKind, Body) {
    if row.settled && row.leaves {
        (UsageKind::Compute, compute(row, by))
    } else {
        (UsageKind::Adjustment, adjustment(row, by))
    }
}

fn compute(row: &Charged, by: &ReportAs) -> Body {
    let own = json!({
        "UsageType": "Compute",
        "SubmitTime": row.issued_at.to_string(),
        "StartTime": row.issued_at.to_string(),
        "EndTime": row.posted_at.to_string(),
        "Attributes": { "NodeCount": "1", "Queue": models(row) },
    });
    with(row, by, own)
}

fn adjustment(row: &Charged, by: &ReportAs) -> Body {
    let own = json!({
        "UsageType": "Adjustment",
        "AdjustmentType": if row.leaves { "debit" } else { "refund" },
        // Of the token, so that the allocation of that time is credited.
        "StartTime": row.issued_at.to_string(),
        "Comment": "a challenge or a correction at the clearing house",
    });
    with(row, by, own)
}

fn with(row: &Charged, by: &ReportAs, own: Value) -> Body {
    let shared = json!({
        "Username": by.username,
        "LocalProjectID": row.project.to_string(),
        "LocalRecordID": row.transfer.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "Resource": by.resource,
        "Charge": charge(row.amount),
    });
    let mut body = Body::new();
    for part in [own, shared] {
        if let Value::Object(part) = part {
            body.extend(part);
        }
    }
    body
}

/// What the token was for; where the house learnt of it from a claim, the node.
fn models(row: &Charged) -> String {
    let limits = Limits { bytes_max: Token::KIND.bytes_max, items_max: Token::KIND.items_max, tagged: false };
    let token = row.payload.as_ref().and_then(|payload| Token::from_cbor(payload, limits).ok());
    token.map_or_else(
        || row.node.to_string(),
        |token| token.terms.scope.iter().map(|scope| scope.model.to_string()).collect::<Vec<_>>().join("+"),
    )
}

//! Which models this caller may use now, and if not, what is missing.

use comity_token::policy::{self, Missing};
use comity_wire::api::node::SearchQuery;
use comity_wire::cbor::Text;
use comity_wire::object::{Summary, Vetting};
use comity_wire::{Op, Verified};
use serde_json::{Value, json};

use super::{Client, Error};

/// A model that was found, and what its owner's published rules say to this caller.
#[derive(Clone, Debug)]
pub struct Choice {
    pub summary: Verified<Summary>,
    /// The op that was asked about; where none was, the first that may be used, else the first.
    pub op: Op,
    pub missing: Option<Missing>,
    /// How old the owner's own word is, in seconds.
    pub head_age_s: u64,
}

impl Client {
    /// Searches, and asks the access decision for each hit. Grants and signed terms are known to the owner's node alone: what
    /// needs one is called missing here.
    ///
    /// # Errors
    /// [`Error`] of the search; a house that cannot be asked makes the caller nobody in particular.
    pub async fn choices(&self, query: &SearchQuery) -> Result<Vec<Choice>, Error> {
        let hits = self.search(query).await?;
        let project = self.project().await.ok();
        let vetting = project.as_ref().map_or(Vetting::None, |project| project.vetting);
        let purposes = project.map(|project| project.purposes).unwrap_or_default();
        let purposes: Vec<_> = purposes.iter().filter_map(|purpose| Text::new(purpose.as_str()).ok()).collect();
        let now = self.now();
        let decide = |summary: &Summary, op| {
            let ask = policy::Ask {
                model: &summary.model,
                op,
                vetting,
                purposes: &purposes,
                grants: &[],
                plans: &[],
                run: None,
                agreed: &[],
                delegated: false,
                now,
            };
            policy::decide_summary(summary, &ask).err()
        };
        let choice = |hit: crate::discover::Hit| {
            let summary = hit.summary;
            let ops: Vec<Op> = query.op.map_or_else(|| summary.ops.iter().map(|row| row.op).collect(), |op| vec![op]);
            let open = ops.iter().find(|op| decide(&summary, **op).is_none());
            let op = open.or_else(|| ops.first()).copied().unwrap_or(Op::Chat);
            Choice { op, missing: decide(&summary, op), head_age_s: hit.head_age_s, summary }
        };
        Ok(hits.into_iter().map(choice).collect())
    }
}

impl Choice {
    pub fn is_usable(&self) -> bool {
        self.missing.is_none()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let summary = &self.summary;
        let missing = self.missing.as_ref().map(|missing| {
            json!({"code": missing.code, "message": missing.message, "whose_move": missing.whose_move.as_str()})
        });
        json!({
            "model": summary.model, "title": summary.title, "owner": summary.model.organisation(),
            "usable": self.is_usable(), "op": self.op, "missing": missing,
            "price": summary.price_hint, "retention_days": summary.retention_days,
            "head_age_s": self.head_age_s, "summary": summary.object(),
        })
    }
}

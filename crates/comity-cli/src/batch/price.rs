//! Which calls of a batch are asked at their owners' batch price (spec/03-manifest.md F-13): settled once, before anything is asked,
//! since a call that is asked again has to be the same one.

use std::collections::{BTreeMap, BTreeSet};

use comity_sdk::{Client, Error, Query};
use comity_wire::Op;
use serde::{Deserialize, Serialize};

/// A call of each model and route that a batch has.
#[derive(Debug, Default)]
pub(crate) struct Kinds(BTreeMap<String, Query>);

/// What was settled: models and routes with a batch price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Settled {
    batch_price: BTreeSet<String>,
}

/// Models and routes that are looked up for a batch price; the rest are asked at the usual one.
const KINDS_MAX: usize = 256;

/// A call's model and route: what has one price.
fn kind(query: &Query) -> String {
    format!("{} {}", query.model, query.path)
}

impl Kinds {
    pub(crate) fn add(&mut self, query: &Query) {
        // One that asks for its batch price by itself tells nothing of the others.
        if self.0.len() < KINDS_MAX && query.op != Op::Batch {
            self.0.entry(kind(query)).or_insert_with(|| query.clone());
        }
    }
}

impl Settled {
    /// Asks whether there are batch prices, and whether they are the lesser.
    ///
    /// # Errors
    /// [`Error`] where somebody could not be asked: that settles nothing for good.
    pub(crate) async fn ask(client: &Client, kinds: &Kinds) -> Result<Self, Error> {
        let mut batch_price = BTreeSet::new();
        for (kind, query) in &kinds.0 {
            match client.at_batch_price(query).await {
                Ok(Some(_)) => {
                    batch_price.insert(kind.clone());
                }
                // A model that there is not says so by itself, to its own calls.
                Ok(None) | Err(Error::ModelUnknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { batch_price })
    }

    /// The call as it is asked.
    pub(crate) fn query(&self, query: Query) -> Query {
        let is_less = self.batch_price.contains(&kind(&query));
        is_less.then(|| query.as_batch()).flatten().unwrap_or(query)
    }

    pub(crate) fn kinds(self) -> Vec<String> {
        self.batch_price.into_iter().collect()
    }
}

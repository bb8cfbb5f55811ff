//! Search: text and facets over summaries, ranked the same way everywhere (spec/03-manifest.md §8).
//!
//! Columns in memory, rebuilt from feeds at will; the text index stands behind [`SearchIndex`] so that a larger one can
//! take its place. Whether the caller may use a hit is the caller's function: this crate knows no policy.

mod facet;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_wire::api::node::SearchQuery;
use comity_wire::object::{ModelState, Summary};
use comity_wire::{ModelId, OrgId, Timestamp, Verified};

pub use facet::{Mismatch, why_not};
pub use text::{Inverted, SearchIndex, terms};

use crate::feed::Complete;
use crate::held::Held;

/// A question that was checked: bounded text, known words.
#[derive(Clone, Debug)]
pub struct Query {
    pub terms: Vec<String>,
    pub facets: SearchQuery,
    pub sort: Sort,
    pub limit: usize,
    pub offset: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Relevance,
    Price,
    Context,
    Newest,
}

/// Why a question is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    #[error("search text of {bytes} bytes, 256 are the most")]
    Long { bytes: usize },
    #[error("{terms} search words, 16 are the most")]
    Terms { terms: usize },
    #[error("cannot sort by '{sort}': relevance, price, context or newest")]
    Sort { sort: String },
}

impl Query {
    pub const TEXT_BYTES_MAX: usize = 256;
    pub const TERMS_MAX: usize = 16;
    pub const HITS_MAX: usize = 100;
    const HITS: usize = 20;

    /// # Errors
    /// [`BadQuery`].
    pub fn new(asked: SearchQuery) -> Result<Self, BadQuery> {
        if asked.q.len() > Self::TEXT_BYTES_MAX {
            return Err(BadQuery::Long { bytes: asked.q.len() });
        }
        let terms = terms(&asked.q);
        if terms.len() > Self::TERMS_MAX {
            return Err(BadQuery::Terms { terms: terms.len() });
        }
        let sort = match asked.sort.as_deref() {
            None | Some("relevance") => Sort::Relevance,
            Some("price") => Sort::Price,
            Some("context") => Sort::Context,
            Some("newest") => Sort::Newest,
            Some(other) => return Err(BadQuery::Sort { sort: other.to_owned() }),
        };
        let limit = asked.limit.map_or(Self::HITS, |limit| limit as usize).clamp(1, Self::HITS_MAX);
        let offset = asked.offset.unwrap_or(0) as usize;
        Ok(Self { terms, sort, limit, offset, facets: asked })
    }
}

/// The summaries of all complete feeds.
#[derive(Debug, Default)]
pub struct Catalog<I = Inverted> {
    rows: BTreeMap<ModelId, Row>,
    names: BTreeMap<OrgId, String>,
    index: I,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub summary: Verified<Summary>,
    pub head_issued_at: Timestamp,
    pub head_expires_at: Timestamp,
}

/// A page of hits, best first.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    pub hits: Vec<&'a Row>,
    pub total: usize,
}

impl<I: SearchIndex> Catalog<I> {
    /// Replaces what is known of an organisation by its feed.
    pub fn put(&mut self, name: &str, complete: &Arc<Complete>) {
        self.remove(complete.head.org);
        self.names.insert(complete.head.org, name.to_owned());
        for held in complete.objects.values() {
            if let Held::Summary(summary) = &**held {
                self.index.put(summary);
                let (head_issued_at, head_expires_at) = (complete.head.issued_at, complete.head.expires_at);
                let row = Row { summary: summary.clone(), head_issued_at, head_expires_at };
                self.rows.insert(summary.model.clone(), row);
            }
        }
    }

    pub fn remove(&mut self, org: OrgId) {
        let index = &mut self.index;
        self.rows.retain(|model, row| {
            if row.summary.org == org {
                index.remove(model);
            }
            row.summary.org != org
        });
        self.names.remove(&org);
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn row(&self, model: &ModelId) -> Option<&Row> {
        self.rows.get(model)
    }

    /// All words must occur, all facets must fit. Hidden and withdrawn models are left out.
    pub fn find(&self, query: &Query, now: Timestamp) -> Page<'_> {
        let scores = (!query.terms.is_empty()).then(|| self.index.find(&query.terms));
        let rows: Vec<(u64, &Row)> = match &scores {
            Some(scores) => scores.iter().filter_map(|(model, score)| Some((*score, self.rows.get(model)?))).collect(),
            None => self.rows.values().map(|row| (0, row)).collect(),
        };
        let shown = rows.into_iter().filter(|(_, row)| {
            now < row.head_expires_at
                && row.summary.state != ModelState::Withdrawn
                && why_not(&row.summary, self.name(row), &query.facets).is_empty()
        });
        let mut rows: Vec<(u64, &Row)> = shown.collect();
        let total = rows.len();
        let end = query.offset.saturating_add(query.limit);
        let by_rank = |a: &(u64, &Row), b: &(u64, &Row)| rank(query.sort, a).cmp(&rank(query.sort, b));
        // A page is looked at, and not all that fit it: they are put in order up to its end.
        if end < total {
            rows.select_nth_unstable_by(end, by_rank);
            rows.truncate(end);
        }
        rows.sort_unstable_by(by_rank);
        let hits = rows.into_iter().skip(query.offset).take(query.limit).map(|(_, row)| row).collect();
        Page { hits, total }
    }

    fn name(&self, row: &Row) -> &str {
        self.names.get(&row.summary.org).map_or("", String::as_str)
    }
}

/// Smaller is better; what is not said sorts last, and the model's name breaks every tie.
fn rank<'a>(sort: Sort, (score, row): &(u64, &'a Row)) -> (u64, u64, &'a ModelId) {
    let summary: &'a Summary = row.summary.object();
    let key = match sort {
        Sort::Relevance => 0,
        Sort::Price => summary.price_hint.as_ref().map_or(u64::MAX, facet::price),
        Sort::Context => u64::MAX - u64::from(summary.context_length.unwrap_or(0)),
        Sort::Newest => u64::MAX - summary.released_at.seconds(),
    };
    (key, u64::MAX - score, &summary.model)
}

//! What an operator lets pass that a row of the policy would hold: after a case that did not stand its project asks again, and is answered.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use comity_guard::Category;
use comity_wire::Timestamp;
use comity_wire::cbor::List;
use comity_wire::object::{FilterAction, TierRule};

use crate::gateway::Gateway;
use crate::store::passes::{Pass, PassSaid};
use crate::store::stops::Word;
use crate::store::{Store, StoreError};

/// What is in memory is as the store had it when it was read last.
pub(crate) struct Passing {
    by_project: RwLock<BTreeMap<String, Vec<(Category, Timestamp)>>>,
    /// One reading at a time: an older one never takes the place of a newer.
    reading: tokio::sync::Mutex<()>,
}

impl Passing {
    pub(crate) async fn new(store: &dyn Store) -> Result<Self, StoreError> {
        let passing = Self { by_project: RwLock::default(), reading: tokio::sync::Mutex::default() };
        passing.follow(store).await?;
        Ok(passing)
    }

    /// Reads again what passes.
    pub(crate) async fn follow(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _one = self.reading.lock().await;
        let mut all: BTreeMap<String, Vec<(Category, Timestamp)>> = BTreeMap::new();
        for Pass { subject, category, until } in store.passes().await? {
            all.entry(subject).or_default().push((category, until));
        }
        *self.by_project.write().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(())
    }

    /// Takes `hold` out of the rows, of a category and of its amounts, that pass for a project now: they are logged. Nothing else is softened.
    pub(crate) fn soften(&self, subject: &str, now: Timestamp, rule: &mut TierRule) {
        let all = self.by_project.read().unwrap_or_else(PoisonError::into_inner);
        let Some(passes) = all.get(subject) else { return };
        let is_open = |row: &str| {
            let name = row.strip_prefix("volume/").unwrap_or(row);
            passes.iter().any(|(category, until)| category.name() == name && now < *until)
        };
        let mut rows = rule.filters.to_vec();
        for row in rows.iter_mut().filter(|row| row.action == FilterAction::Hold && is_open(row.category.as_str())) {
            row.action = FilterAction::Log;
        }
        rule.filters = List::new(rows).expect("as many as there were");
    }
}

impl Gateway {
    /// Lets texts of a project and category pass until a moment that the policy would hold; it is logged with who says so and why.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pass_put(&self, pass: &Pass, word: &Word) -> Result<(), StoreError> {
        let store = self.0.ledger.store();
        store.pass_put(pass, word).await?;
        self.0.passing.follow(&**store).await
    }

    /// Holds them again; whether they passed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pass_end(&self, subject: &str, category: Category, word: &Word) -> Result<bool, StoreError> {
        let store = self.0.ledger.store();
        let ended = store.pass_end(subject, category, word).await?;
        self.0.passing.follow(&**store).await?;
        Ok(ended)
    }

    /// What passes, also what is over and was not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn passes(&self) -> Result<Vec<Pass>, StoreError> {
        self.0.ledger.store().passes().await
    }

    /// Who let what pass of a project, or ended it, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pass_log_of(&self, subject: &str) -> Result<Vec<PassSaid>, StoreError> {
        let (store, mut of) = (self.0.ledger.store(), Vec::new());
        let mut last = 0;
        loop {
            let page = store.pass_log_after(last, 1_000).await?;
            let Some(newest) = page.last() else { return Ok(of) };
            last = newest.n;
            of.extend(page.into_iter().filter(|said| said.subject == subject));
        }
    }
}

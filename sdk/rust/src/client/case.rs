//! Cases about this project at an owner's node (spec/11-access.md §11.7): what was held against it, its answer, its appeal.

use bytes::Bytes;
use comity_token::directory::Directory as _;
use comity_wire::api::access::ActRequest;
use comity_wire::api::case as api;
use comity_wire::object::Statistics;
use comity_wire::{Digest, ModelId, Verified};
use http::Method;

use super::{Client, Error};
use crate::discover::{Part, percent};

/// Where the routes begin.
const ROOT: &str = "/comity/v1/access/cases";

impl Client {
    /// A page of the cases about this project at the owner of a model, the newest first; `after` is what the page before said is next.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn cases(&self, model: &ModelId, open: bool, after: Option<&str>) -> Result<api::CasesReply, Error> {
        let node = self.node_of(model).await?;
        let mut path = format!("{ROOT}?open={open}");
        if let Some(after) = after {
            path = format!("{path}&after={}", percent(after));
        }
        self.apply(node, model, Method::GET, &path, Bytes::new()).await
    }

    /// One case, as it stands.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn case(&self, model: &ModelId, id: &str) -> Result<api::Case, Error> {
        let node = self.node_of(model).await?;
        self.apply(node, model, Method::GET, &format!("{ROOT}/{}", percent(id)), Bytes::new()).await
    }

    /// Says something in a case that was last seen with the link `after`.
    ///
    /// # Errors
    /// [`Error`]; `case_moved` where somebody else has done something since.
    pub async fn case_act(
        &self,
        model: &ModelId,
        id: &str,
        after: Digest,
        act: &api::Heard,
    ) -> Result<api::Case, Error> {
        let node = self.node_of(model).await?;
        let act = serde_json::to_value(act).expect("an act has a JSON form");
        let body = serde_json::to_vec(&ActRequest { after, act }).expect("a request has a JSON form");
        self.apply(node, model, Method::POST, &format!("{ROOT}/{}/acts", percent(id)), Bytes::from(body)).await
    }

    /// What the owner of a model publishes of its cases, the oldest quarter first, each signed by its feed writer.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn case_statistics(&self, model: &ModelId) -> Result<Vec<Verified<Statistics>>, Error> {
        self.refresh_of(self.org_of(model)?, Part::All).await?;
        let summary = self.seen.directory.summary(model).ok_or_else(|| Error::ModelUnknown(model.clone()))?;
        Ok(self.seen.statistics(summary.org))
    }
}

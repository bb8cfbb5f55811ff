//! Lists that members and owners read in pages. Each page asks anew whether the caller may.

use comity_wire::api::clearing::{EarningsReply, ExceptionsReply, TokenStatus, TokensReply};
use comity_wire::{NodeId, OrgId, ProjectId, PublicKey, TokenId};

use super::{Account, Clearing};
use crate::failure::Failure;
use crate::http::pages::{Page, cut};
use crate::store;
use crate::store::lists::Of;
use crate::store::tokens::TokenRow;

impl Clearing {
    /// Every token of a project.
    ///
    /// # Errors
    /// [`Failure`] where the caller is no member.
    pub(crate) async fn tokens(
        &self,
        caller: &PublicKey,
        project: ProjectId,
        page: &Page,
    ) -> Result<TokensReply, Failure> {
        let mut conn = self.read().await?;
        Self::member_of(&mut conn.db(), caller, project).await?;
        let after = page.place()?.map(TokenId);
        let rows = store::lists::tokens_of_project(&mut conn.db(), project, after, page.limit + 1).await?;
        let (rows, next) = cut(page, rows, |row| row.id.0.to_vec());
        Ok(TokensReply { tokens: rows.iter().map(|row| self.token_status(row)).collect(), next })
    }

    /// What each token brought a node's owner.
    ///
    /// # Errors
    /// [`Failure`] where it is not the node that asks.
    pub(crate) async fn earnings_of(
        &self,
        caller: &PublicKey,
        node: NodeId,
        page: &Page,
    ) -> Result<EarningsReply, Failure> {
        let owner = self.owner_asking(caller, node)?;
        let after = page.place()?.map(TokenId);
        let rows = store::lists::earnings(&mut self.read().await?.db(), (node, owner), after, page.limit + 1).await?;
        let (earnings, next) = cut(page, rows, |row| row.token.0.to_vec());
        Ok(EarningsReply { earnings, next })
    }

    /// What was clamped in claims on a project's tokens, or in a node's.
    ///
    /// # Errors
    /// [`Failure`] where they are not the caller's.
    pub(crate) async fn exceptions_of(
        &self,
        caller: &PublicKey,
        account: Account,
        page: &Page,
    ) -> Result<ExceptionsReply, Failure> {
        let of = match account {
            Account::Node(node) => Of::Node(node, self.owner_asking(caller, node)?),
            Account::Project(_) | Account::Own => Of::Project(self.project_asking(caller, account).await?),
        };
        let rows = store::lists::exceptions(&mut self.read().await?.db(), of, page.number()?, page.limit + 1).await?;
        let (rows, next) = cut(page, rows, |(place, _)| place.to_be_bytes().to_vec());
        Ok(ExceptionsReply { exceptions: rows.into_iter().map(|(_, exception)| exception).collect(), next })
    }

    /// The owner of the node that asks.
    pub(super) fn owner_asking(&self, caller: &PublicKey, node: NodeId) -> Result<OrgId, Failure> {
        let certificate = self.inner.directory.certificate(node);
        let own = certificate.filter(|certificate| certificate.transport_keys.contains(caller));
        Ok(own.ok_or(Failure::NotYours { what: "another node's books" })?.org)
    }

    /// The project that its member asks for, by name or as their only one.
    pub(super) async fn project_asking(&self, caller: &PublicKey, account: Account) -> Result<ProjectId, Failure> {
        let mut conn = self.read().await?;
        if let Account::Project(project) = account {
            Self::member_of(&mut conn.db(), caller, project).await?;
            return Ok(project);
        }
        match store::projects::projects_of_member(&mut conn.db(), caller).await?[..] {
            [] => Err(Failure::NotRegistered),
            [project] => Ok(project),
            _ => Err(Failure::invalid("you belong to several projects: name one with ?project=")),
        }
    }

    pub(super) fn token_status(&self, row: &TokenRow) -> TokenStatus {
        TokenStatus {
            token: row.id,
            node: row.node,
            budget: row.budget,
            settled: row.paid,
            refunded: row.refunded,
            credited: row.credited,
            expires_at: row.expires_at,
            settle_by: self.calendar().moved(row.issued_at, row.settle_by, self.now()),
            closed: row.phase == 2,
        }
    }
}

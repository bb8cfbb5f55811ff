//! Terms of use: what a model's owner asks a project to agree to, and agreeing (spec/03-manifest.md §3.9).

use bytes::Bytes;
use comity_token::directory::Directory as _;
use comity_token::sign_agreement;
use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::node::{Agreed, AgreementRequest, AgreementsReply, TermsReply};
use comity_wire::cbor::Text;
use comity_wire::object::{Agreement, Chain, TermsOfUse, Tier, Token};
use comity_wire::{Digest, ModelId, NodeId, Signed, Timestamp};
use http::Method;

use super::access::Standing;
use super::{Client, Error};

/// Terms that a model's policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whoever reaches it agrees to them first.
    pub tier: Tier,
    pub terms: Digest,
    /// Left out: at once.
    pub from: Option<Timestamp>,
    /// Until then these are enough as well.
    pub before: Option<Digest>,
}

impl Client {
    /// What the policy of a model asks its callers to agree to, tier by tier; nothing where it asks for none.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn terms_asked(&self, model: &ModelId) -> Result<Vec<Asked>, Error> {
        self.target(model).await?;
        let policy = self.seen.directory.policy(model).ok_or(Error::Missing("the policy of the model"))?;
        let asked = policy.tiers.iter().filter_map(|rule| {
            Some(Asked { tier: rule.tier, terms: rule.terms?, from: rule.terms_from, before: rule.terms_before })
        });
        Ok(asked.collect())
    }

    /// A text of the owner of a model, of which the digest is reckoned here.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Missing`] where the node shows another text.
    pub async fn terms(&self, model: &ModelId, terms: Digest) -> Result<TermsOfUse, Error> {
        let node = self.node_of(model).await?;
        let reply: TermsReply = self.door(node).await?.get(&format!("/comity/v1/terms/{terms}")).await?;
        let another = Error::Missing("the terms of use whose digest its policy names");
        let read = Text::new(reply.title).and_then(|title| Ok((title, Text::new(reply.text)?)));
        match read {
            Ok((title, text)) => {
                let shown = TermsOfUse { org: reply.org, title, text };
                if shown.digest() == terms { Ok(shown) } else { Err(another) }
            }
            Err(_) => Err(another),
        }
    }

    /// What this project agreed to at the owner of a model, the newest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn agreements(&self, model: &ModelId) -> Result<Vec<Agreed>, Error> {
        let node = self.node_of(model).await?;
        let standing = self.standing(node, model).await?;
        let path = format!("/comity/v1/agreements?token={}", root(&standing)?.id);
        self.agreed(node, &standing, Method::GET, &path, Bytes::new()).await
    }

    /// Agrees to terms for this project, under a token of its own, and gives all that it agreed to. Who only holds a part of somebody's token
    /// cannot: the project's own member does.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn agree(&self, model: &ModelId, terms: Digest) -> Result<Vec<Agreed>, Error> {
        let node = self.node_of(model).await?;
        let standing = self.standing_as_root(node, model).await?;
        let token = root(&standing)?;
        let org = self.target(model).await?.summary.org;
        let agreement = Agreement { org, subject: token.subject.clone(), terms, token: token.id, at: self.now() };
        let agreement = sign_agreement(&agreement, &standing.key);
        let ask = AgreementRequest { agreement: SignedBytes::new(agreement.bytes()).expect("an agreement is small") };
        let body = Bytes::from(serde_json::to_vec(&ask).expect("a request has a JSON form"));
        let all = self.agreed(node, &standing, Method::POST, "/comity/v1/agreements", body).await?;
        // Where the project agreed before, what it said first stands.
        let ours = all.iter().find(|agreed| agreed.terms == terms);
        let kept = ours.and_then(|ours| Signed::<Agreement>::decode(&ours.agreement).ok());
        let is_ours = kept.is_some_and(|kept| {
            let kept = kept.unverified();
            (kept.org, kept.terms, &kept.subject) == (org, terms, &token.subject)
        });
        if is_ours { Ok(all) } else { Err(Error::Missing("the agreement that it was sent")) }
    }

    async fn agreed(
        &self,
        node: NodeId,
        standing: &Standing,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Vec<Agreed>, Error> {
        let reply: AgreementsReply = self.read_as(node, standing, method, path, body).await?;
        Ok(reply.agreements)
    }
}

fn root(standing: &Standing) -> Result<Token, Error> {
    let parts = Chain::from_bytes(&standing.chain).map_err(Error::Malformed)?;
    Ok(Signed::<Token>::decode(&parts.token).map_err(Error::Unverified)?.unverified().clone())
}

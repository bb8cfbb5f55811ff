//! Who the house takes this key for, how it learns that, and what is missing for more.

use comity_wire::api::login as house_login;
use comity_wire::api::person as house;
use comity_wire::api::proposal as house_proposal;
use comity_wire::cbor::Bytes;
use comity_wire::{Digest, MemberId, PublicKey, Timestamp};

use super::{Client, Error};

impl Client {
    /// What the house knows of the profile's member key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn whoami(&self) -> Result<house::WhoamiReply, Error> {
        self.house_get("/v1/whoami").await
    }

    /// Where persons can log in.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn issuers(&self) -> Result<house_login::IssuersReply, Error> {
        self.house_get("/v1/issuers").await
    }

    /// Begins a login at an issuer: what to open in a browser, and what to type in there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn login(&self, ask: &house_login::LoginRequest) -> Result<house_login::LoginReply, Error> {
        self.house_post("/v1/logins", ask).await
    }

    /// Asks whether a login is done, or brings what the browser came back with.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn login_go_on(
        &self,
        login: &str,
        brought: &house_login::LoginContinue,
    ) -> Result<house_login::LoginState, Error> {
        self.house_post(&format!("/v1/logins/{login}"), brought).await
    }

    /// The profile's member key, by its public half.
    ///
    /// # Errors
    /// [`Error`] where the profile has none.
    pub fn member_key(&self) -> Result<PublicKey, Error> {
        Ok(self.member()?.public())
    }

    /// What this key signs to be a person's: for another key of that person, which brings it.
    ///
    /// # Errors
    /// [`Error`] where the profile has no member key.
    pub fn key_proof(&self, person: MemberId) -> Result<Bytes<64>, Error> {
        let signed = self.member()?.sign(&house::key_proof(person));
        Ok(Bytes::new(signed.to_vec()).expect("a signature has 64 bytes"))
    }

    /// Says that another key, which agrees to it, is the same person's.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn add_key(&self, key: PublicKey, proof: Bytes<64>) -> Result<house::WhoamiReply, Error> {
        self.house_post("/v1/keys", &house::KeyAddRequest { key, proof }).await
    }

    /// Ends a key of the same person: one on a computer that is lost.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revoke_key(&self, key: PublicKey) -> Result<house::WhoamiReply, Error> {
        self.house_post("/v1/keys/revoke", &house::KeyRevokeRequest { key }).await
    }

    /// The code of conduct that has to be signed now, with the digest of the very words that are shown.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn conduct(&self) -> Result<house_proposal::ConductReply, Error> {
        let conduct: house_proposal::ConductReply = self.house_get("/v1/conduct").await?;
        if Digest::of(conduct.body.as_bytes()) != conduct.digest {
            return Err(Error::Missing("a code of conduct that is what its digest says"));
        }
        Ok(conduct)
    }

    /// Signs it with the profile's member key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sign_conduct(&self, conduct: &house_proposal::ConductReply) -> Result<house::WhoamiReply, Error> {
        let ask = house_proposal::ConductRequest::signed(&conduct.version, conduct.digest, self.member()?);
        self.house_post("/v1/conduct", &ask).await
    }

    /// Proposes a project, whose PI the profile's member key will be.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn propose(&self, ask: &house_proposal::ProposalRequest) -> Result<house::MissingReply, Error> {
        self.house_post("/v1/projects", ask).await
    }

    /// Answers for a member of the profile's project, as its PI.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sponsor(&self, member: PublicKey, until: Timestamp) -> Result<house::MissingReply, Error> {
        let project = self.profile.project.ok_or(Error::Missing("a project in the profile"))?;
        let ask = house_proposal::SponsorRequest::signed(project, member, until, self.member()?);
        self.house_post(&format!("/v1/projects/{project}/sponsorships"), &ask).await
    }

    /// All that is missing in the profile's project, and whose move it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn missing(&self) -> Result<house::MissingReply, Error> {
        let project = self.profile.project.ok_or(Error::Missing("a project in the profile"))?;
        self.house_get(&format!("/v1/projects/{project}/missing")).await
    }
}

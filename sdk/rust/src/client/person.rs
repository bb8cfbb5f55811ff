//! Who the house takes this key for, and what is missing for more.

use comity_wire::PublicKey;
use comity_wire::api::person as house;

use super::{Client, Error};

impl Client {
    /// What the house knows of the profile's member key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn whoami(&self) -> Result<house::WhoamiReply, Error> {
        self.house_get("/v1/whoami").await
    }

    /// Ends a key of the same person: one on a computer that is lost.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revoke_key(&self, key: PublicKey) -> Result<house::WhoamiReply, Error> {
        self.house_post("/v1/keys/revoke", &house::KeyRevokeRequest { key }).await
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

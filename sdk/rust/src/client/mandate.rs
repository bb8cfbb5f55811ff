//! Mandates: signed by a PI, redeemed at the house by who will draw under them.

use comity_wire::api::clearing as house;
use comity_wire::object::Mandate;
use comity_wire::{MandateId, Verified, cose};

use super::{Client, Error};

impl Client {
    /// Signs a mandate with the profile's member key. Nobody is asked: the house looks at who signed when it is redeemed.
    ///
    /// # Errors
    /// [`Error::Unverified`] where it breaks its own rules: a year is the most, the daily cap is not above the whole.
    pub fn sign_mandate(&self, mandate: &Mandate) -> Result<Verified<Mandate>, Error> {
        let key = self.member()?;
        cose::try_sign(mandate, key).and_then(|signed| signed.verify(&key.public())).map_err(Error::Unverified)
    }

    /// Brings a mandate to the house: the profile's member key draws under it from now on. By who may sign mandates of its project, and
    /// without a code: it waits there for whom it is for, and takes the place of one under the same id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn redeem_mandate(&self, bytes: &[u8], join_code: Option<String>) -> Result<house::MandateReply, Error> {
        let mandate = house::SignedBytes::new(bytes).map_err(|_| Error::Missing("a mandate of at most 2 MiB"))?;
        let ask = house::MandateRequest { mandate, join_code };
        self.house_post("/v1/mandates", &ask).await
    }

    /// How a mandate stands.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mandate(&self, id: MandateId) -> Result<house::MandateReply, Error> {
        self.house_get(&format!("/v1/mandates/{id}")).await
    }

    /// Ends a mandate, and with `tokens` what was drawn under it; without, that lives on.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revoke_mandate(&self, id: MandateId, tokens: bool) -> Result<house::MandateReply, Error> {
        let path = format!("/v1/mandates/{id}/revoke");
        self.house_post(&path, &house::MandateRevokeRequest { tokens }).await
    }
}

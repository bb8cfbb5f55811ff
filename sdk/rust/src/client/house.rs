//! Calls to the clearing house, made again where that cures them: a house may be several replicas, of which one may end in the middle
//! of a call. Every call is named by what it carries, so that the same call twice has one effect (spec/09-http.md §9.2).

use std::time::Duration;

use comity_token::directory::Directory as _;
use comity_wire::Code;
use comity_wire::object::AnchorRole;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, Error};
use crate::discover::Part;
use crate::door::DoorError;

/// How long it is waited before each further try.
pub(super) const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1_500)];

impl Client {
    /// `POST` at the house, signed by the profile's member key.
    pub(super) async fn house_post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        for pause in PAUSES {
            match self.house_post_once(path, body).await {
                Err(error) if may_be_cured(&error) => self.before_another_try(&error, pause).await,
                done => return done,
            }
        }
        self.house_post_once(path, body).await
    }

    async fn house_post_once<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.house().await?.post_signed(path, body, self.member()?, &self.world).await
    }

    /// `GET` at the house, signed by the same.
    pub(super) async fn house_get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        for pause in PAUSES {
            match self.house_get_once(path).await {
                Err(error) if may_be_cured(&error) => self.before_another_try(&error, pause).await,
                done => return done,
            }
        }
        self.house_get_once(path).await
    }

    async fn house_get_once<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.house().await?.get_signed(path, self.member()?, &self.world).await
    }

    /// Where nobody was reached the federation may know of other doors by now, or of other keys behind this one.
    pub(super) async fn before_another_try(&self, error: &Error, pause: Duration) {
        tokio::time::sleep(pause).await;
        if error.is_unsent() {
            let roster = self.seen.directory.roster();
            if let Some(anchor) = roster.anchors_of(AnchorRole::House).next() {
                let _ = Box::pin(self.refresh_of(anchor.org, Part::Nodes)).await;
            }
        }
    }
}

/// Whether another replica, or the same one a moment later, may answer what this one did not.
pub(super) fn may_be_cured(error: &Error) -> bool {
    match error {
        Error::Door(DoorError::Dial { source, .. }) => !matches!(
            source,
            comity_http::DialError::Address { .. }
                | comity_http::DialError::Request { .. }
                | comity_http::DialError::TooLarge { .. }
        ),
        Error::Door(DoorError::Refused(refusal)) => {
            matches!(refusal.remote.known_code(), Some(Code::StoreUnavailable | Code::InFlight | Code::Busy))
        }
        _ => false,
    }
}

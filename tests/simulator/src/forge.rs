//! Forgeries: what somebody saw, under a key that has no right to say it.

use comity_token::request::header;
use comity_token::{Authority, sign_request};
use comity_wire::object::{Acknowledgement, Claim, Final};
use comity_wire::{Amount, Digest, Object, Signed, cose};

use crate::federation::{BASE, KEYS, METHOD, PATH, START};
use crate::net::{Call, Message};

/// The same message under the stranger's signature.
pub(crate) fn forged(message: &Message) -> Option<Message> {
    match message {
        Message::Claim { bytes } => Some(Message::Claim { bytes: signed_again::<Claim>(bytes)? }),
        Message::Final { bytes } => Some(Message::Final { bytes: signed_again::<Final>(bytes)? }),
        Message::Acknowledge { call, token, bytes } => {
            let call = Call { number: 0, ..*call };
            Some(Message::Acknowledge { call, token: *token, bytes: signed_again::<Acknowledgement>(bytes)? })
        }
        Message::Request { call, headers, chain, body, .. } => {
            let value = |name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            let authority = Authority {
                leaf: value(header::TOKEN_REF).and_then(Digest::from_sf)?,
                lane: value(header::LANE)?.parse().ok()?,
                seq: value(header::SEQ)?.parse().ok()?,
                method: METHOD.to_owned(),
                path: PATH.to_owned(),
                query: String::new(),
                content_digest: Digest::of(body),
                tariff: BASE.tariff.id(),
                max_charge: Amount::from_ucr(60),
                nonce: [7; 16],
            };
            let headers = sign_request(&authority, START, &KEYS.stranger);
            let call = Call { number: 0, ..*call };
            Some(Message::Request { call, headers, chain: chain.clone(), body: body.clone(), acknowledgement: None })
        }
        _ => None,
    }
}

fn signed_again<T: Object>(bytes: &[u8]) -> Option<Vec<u8>> {
    let seen = Signed::<T>::decode(bytes).ok()?;
    Some(cose::sign(seen.unverified(), &KEYS.stranger).bytes().to_vec())
}

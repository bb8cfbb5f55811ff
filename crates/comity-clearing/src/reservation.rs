//! Reservations: from a quote and a request to the body of a token. Pure; the store moves the credits.

use comity_token::Directory;
use comity_wire::api::clearing::ReservationRequest;
use comity_wire::cbor::{List, Text};
use comity_wire::object::{Chain, Confirmation, IdText, NodeCertificate, Quote, Terms, Token, Vetting};
use comity_wire::{Digest, Pseudonym, Timestamp};

use crate::config::Config;
use crate::failure::Failure;
use crate::store::json;

/// The shortest life of a token, seconds.
pub const VALID_S_MIN: u64 = 60;

/// What the house knows of who asks.
pub struct Standing<'a> {
    pub subject: Pseudonym,
    pub vetting: Vetting,
    pub purposes: &'a [String],
}

/// What a reservation id stands for. A repeat has the same; anything else is a conflict.
pub fn fingerprint(request: &ReservationRequest) -> Digest {
    Digest::of_parts(&[b"comity/clearing/reservation/v1", json(request).as_bytes()])
}

/// The token's body.
///
/// # Errors
/// [`Failure`] where the request asks for more than the quote, the certificate or the protocol allows.
pub fn token(
    request: &ReservationRequest,
    quote: &Quote,
    standing: &Standing<'_>,
    certificate: &NodeCertificate,
    directory: &dyn Directory,
    config: &Config,
    now: Timestamp,
) -> Result<Token, Failure> {
    if now >= quote.expires_at {
        return Err(Failure::QuoteExpired { at: quote.expires_at });
    }
    let valid_s = u64::from(request.valid_s);
    if valid_s < VALID_S_MIN {
        return Err(Failure::invalid(format!("a token lives at least {VALID_S_MIN} s")));
    }
    if valid_s > Token::VALID_S_MAX {
        return Err(Failure::Limit { what: "seconds that a token lives", max: Token::VALID_S_MAX.to_string() });
    }
    let expires_at = now.plus(valid_s);
    let longest = u64::from(quote.longest_op_s);
    // Rule 1: what is admitted in the last second still ends under the certificate.
    if expires_at.plus(longest) > certificate.not_after {
        let max = certificate.not_after.since(now.plus(longest));
        return Err(Failure::Limit { what: "seconds until this node's certificate ends", max: max.to_string() });
    }
    let lanes_max = request.lanes_max.unwrap_or(quote.lanes_max);
    if lanes_max == 0 || lanes_max > quote.lanes_max {
        return Err(Failure::Limit { what: "lanes", max: quote.lanes_max.to_string() });
    }
    if usize::from(request.depth) > Chain::BLOCKS_MAX {
        return Err(Failure::Limit { what: "blocks that may follow a token", max: Chain::BLOCKS_MAX.to_string() });
    }
    let purposes = standing.purposes.iter().map(|purpose| Text::new(purpose.clone())).collect::<Result<Vec<_>, _>>();
    let terms = Terms {
        roster_version: directory.roster().version,
        scope: quote.scope.clone(),
        budget: request.budget,
        vetting: standing.vetting,
        purposes: purposes.and_then(List::new).map_err(Failure::invalid)?,
        window: quote.window,
        lanes_max,
        longest_op_s: quote.longest_op_s,
        settle_by: expires_at.plus(longest).plus(config.settle_after_s.max(Token::SETTLE_S_MIN)),
        depth: request.depth,
        grants: List::new(request.grants.clone()).map_err(Failure::invalid)?,
    };
    Ok(Token {
        issuer: IdText(config.org),
        subject: Text::new(standing.subject.to_string()).map_err(Failure::invalid)?,
        audience: IdText(quote.node),
        expires_at,
        not_before: now,
        issued_at: now,
        id: request.id,
        holder: Confirmation(request.holder),
        terms,
    })
}

//! Minting: an issuer's signature under a token (spec/04-token.md §2).

use comity_wire::object::Token;
use comity_wire::{SecretKey, Verified, cose};

/// Signs `token` with an issuer key. Mint only after the reservation is committed, and once for each `cti`: a repeat
/// hands out the stored bytes.
///
/// # Panics
/// Where the token breaks its kind's rules (24 h, order of scope, `settle_by` …): an issuer's own bug, which must not
/// leave the house.
pub fn mint(token: Token, issuer: &SecretKey) -> Verified<Token> {
    cose::sign(&token, issuer)
}

//! The clearing house: vetting, awards, quotes, reservations, tokens, settlement.

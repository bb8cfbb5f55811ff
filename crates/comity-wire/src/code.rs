//! Stable codes: what outsiders are told (spec/errors.md lists each with its meaning, status and whose move is next).

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $text:literal $status:literal $retry:literal;)*) => {
        /// One refusal, one code (rule 12).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// `x-should-retry`: whether the same request may succeed later without anybody changing it.
            pub const fn should_retry(self) -> bool {
                match self { $(Self::$variant => $retry,)* }
            }
        }

        impl std::str::FromStr for Code {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text { $($text => Ok(Self::$variant),)* other => Err(format!("'{other}' is not a known code")) }
            }
        }
    };
}

codes! {
    // Form.
    Malformed "malformed" 400 false;
    NonDeterministic "non_deterministic" 400 false;
    TooDeep "too_deep" 400 false;
    TooLarge "too_large" 400 false;
    UnknownField "unknown_field" 400 false;
    InvalidKey "invalid_key" 400 false;
    InvalidRequest "invalid_request" 400 false;
    ContentNotText "content_not_text" 400 false;
    ContextLengthExceeded "context_length_exceeded" 400 false;
    MethodNotAllowed "method_not_allowed" 405 false;
    BodyTooSlow "body_too_slow" 408 false;
    BodyTooLarge "body_too_large" 413 false;
    UnsupportedMediaType "unsupported_media_type" 415 false;
    // Who and when.
    /// An issuer's word on a person is not believed, or the login is not whom it says.
    LoginRefused "login_refused" 401 false;
    WrongKind "wrong_kind" 401 false;
    WrongAlgorithm "wrong_algorithm" 401 false;
    WrongKey "wrong_key" 401 false;
    BadSignature "bad_signature" 401 false;
    WrongAudience "wrong_audience" 401 false;
    WrongIssuer "wrong_issuer" 401 false;
    WrongFederation "wrong_federation" 401 false;
    RosterThreshold "roster_threshold" 401 false;
    RosterVersion "roster_version" 401 false;
    Expired "expired" 401 false;
    NotYetValid "not_yet_valid" 401 false;
    TokenUnknown "token_unknown" 401 true;
    TokenConflict "token_conflict" 401 false;
    BlockSpliced "block_spliced" 401 false;
    BlockOrder "block_order" 401 false;
    BlockWidens "block_widens" 401 false;
    Unsigned "unsigned" 401 false;
    NotCovered "not_covered" 401 false;
    BodyAltered "body_altered" 401 false;
    Stale "stale" 401 true;
    Revoked "revoked" 401 false;
    NotRegistered "not_registered" 401 false;
    // Money.
    BudgetExhausted "budget_exhausted" 402 false;
    MaxTooLow "max_too_low" 402 false;
    AckRequired "ack_required" 402 true;
    TariffMismatch "tariff_mismatch" 402 false;
    BalanceTooLow "balance_too_low" 402 false;
    // Rules.
    ModelNotInScope "model_not_in_scope" 403 false;
    OpNotInScope "op_not_in_scope" 403 false;
    VettingTooLow "vetting_too_low" 403 false;
    GrantRequired "grant_required" 403 false;
    RunRequired "run_required" 403 false;
    PlanExhausted "plan_exhausted" 403 false;
    PurposeNotAllowed "purpose_not_allowed" 403 false;
    DelegateNotAllowed "delegate_not_allowed" 403 false;
    TermsNotSigned "terms_not_signed" 403 false;
    OpNotOffered "op_not_offered" 403 false;
    LimitExceeded "limit_exceeded" 403 false;
    LaneBeyondMax "lane_beyond_max" 403 false;
    ContentFilter "content_filter" 403 false;
    TextRequired "text_required" 403 false;
    HeldForReview "held_for_review" 403 false;
    Suspended "suspended" 403 false;
    NotYours "not_yours" 403 false;
    DutyConflict "duty_conflict" 403 false;
    OwnerTerms "owner_terms" 403 false;
    MandateRequired "mandate_required" 403 false;
    Frozen "frozen" 403 false;
    // What is not there.
    NotFound "not_found" 404 false;
    ModelNotFound "model_not_found" 404 false;
    // Sequence.
    SequenceConflict "sequence_conflict" 409 false;
    Replayed "replayed" 409 false;
    InFlight "in_flight" 409 true;
    IdempotencyConflict "idempotency_conflict" 422 false;
    SeqOutsideSpan "seq_outside_span" 409 false;
    ReservationConflict "reservation_conflict" 409 false;
    ApplicationState "application_state" 409 false;
    ApplicationMoved "application_moved" 409 false;
    CaseState "case_state" 409 false;
    CaseMoved "case_moved" 409 false;
    ApplicationIncomplete "application_incomplete" 422 false;
    AmieConflict "amie_conflict" 409 false;
    ClaimOlder "claim_older" 409 false;
    ClaimLower "claim_lower" 409 false;
    SettledDiffers "settled_differs" 409 false;
    BrokenHistory "broken_history" 409 false;
    TooEarly "too_early" 409 false;
    /// A credit note above what its owner can ever have of the token.
    CreditTooHigh "credit_too_high" 409 false;
    /// A credit note that cannot be booked yet: a dispute, nothing settled, or the owner is owed too little now.
    CreditWaits "credit_waits" 409 true;
    // Gone.
    Withdrawn "withdrawn" 410 false;
    Closed "closed" 410 false;
    Superseded "superseded" 410 false;
    // Waiting cures.
    BudgetInFlight "budget_in_flight" 429 true;
    TooManyRequests "too_many_requests" 429 true;
    Throttled "throttled" 429 true;
    OutsideHours "outside_hours" 429 true;
    // Not ready.
    ModelStarting "model_starting" 503 true;
    UpstreamUnavailable "upstream_unavailable" 503 true;
    UpstreamFailed "upstream_failed" 502 false;
    NodeUnreachable "node_unreachable" 503 true;
    RosterBehind "roster_behind" 503 true;
    RosterExpired "roster_expired" 503 true;
    StandingStale "standing_stale" 503 true;
    StoreUnavailable "store_unavailable" 503 true;
    /// The owner's operator has stopped the model, the project or the node.
    Stopped "stopped" 503 false;
    Busy "busy" 503 true;
    Internal "internal" 500 false;
    // Recorded, not refused.
    ClaimClamped "claim_clamped" 200 false;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl schemars::JsonSchema for Code {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let codes: Vec<&str> = Self::ALL.iter().map(|code| code.as_str()).collect();
        schemars::json_schema!({ "type": "string", "enum": codes })
    }
}

impl<'de> serde::Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each code, its status and its retry, as spec/errors.md says them.
    #[test]
    fn the_spec_lists_every_code() {
        let table = include_str!("../../../spec/errors.md");
        for code in Code::ALL {
            let retry = if code.should_retry() { "yes" } else { "no" };
            let row = format!("| `{code}` | {} | {retry} |", code.status());
            assert!(table.contains(&row), "spec/errors.md lacks the row {row}");
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert_eq!(table.lines().filter(|line| line.starts_with("| `")).count(), Code::ALL.len());
    }
}

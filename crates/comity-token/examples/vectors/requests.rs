//! Signed requests that stand, and requests that are refused, each for one reason.

use comity_token::signature::{API, Profile, REQUEST, Target};
use comity_token::{Authority, sign_api, sign_request};
use comity_wire::{Amount, Code, Digest, Timestamp};

use super::world::*;

pub(crate) type Headers = Vec<(&'static str, String)>;

pub(crate) struct Case {
    pub id: &'static str,
    pub rule: &'static str,
    pub note: &'static str,
    /// `comity-req-v1`, else `comity-api-v1`.
    pub payment: bool,
    pub method: &'static str,
    pub path: &'static str,
    pub query: &'static str,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// Whose request it must be.
    pub holder: &'static str,
    pub now: Timestamp,
    pub expect: Result<(), Code>,
}

pub(crate) const BODY: &[u8] =
    br#"{"model":"lab/tiny","messages":[{"role":"user","content":"Why is the sky blue?"}],"max_tokens":64}"#;
pub(crate) const NONCE: [u8; 16] = *b"sixteen of these";

pub(crate) fn authority() -> Authority {
    Authority {
        leaf: super::chains::root().id(),
        lane: 3,
        seq: 17,
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        query: String::new(),
        content_digest: Digest::of(BODY),
        tariff: tariff().id(),
        max_charge: Amount::from_ucr(1_500),
        nonce: NONCE,
    }
}

fn signed() -> Headers {
    sign_request(&authority(), NOW, &secret("pi"))
}

fn case(id: &'static str, rule: &'static str, note: &'static str, headers: Headers, expect: Result<(), Code>) -> Case {
    Case {
        id,
        rule,
        note,
        payment: true,
        method: "POST",
        path: "/v1/chat/completions",
        query: "",
        headers,
        body: BODY.to_vec(),
        holder: "pi",
        now: NOW,
        expect,
    }
}

/// The usual headers with one value changed; `None` takes the header away.
fn with(name: &str, change: impl FnOnce(&str) -> Option<String>) -> Headers {
    let mut headers = signed();
    let at = headers.iter().position(|(header, _)| *header == name).expect("the header is there");
    match change(&headers[at].1) {
        Some(value) => headers[at].1 = value,
        None => {
            headers.remove(at);
        }
    }
    headers
}

fn set(name: &str, value: &str) -> Headers {
    with(name, |_| Some(value.to_owned()))
}

fn input(from: &str, to: &str) -> Headers {
    with("signature-input", |value| {
        assert!(value.contains(from), "{value} has no {from}");
        Some(value.replacen(from, to, 1))
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = payments();
    all.extend(forms());
    all.extend(calls());
    all
}

fn payments() -> Vec<Case> {
    let good = |id, note, headers| case(id, "Q-3", note, headers, Ok(()));
    let bad = |id, rule, note, headers, code| case(id, rule, note, headers, Err(code));
    let mut queried = authority();
    queried.query = "trace=1&x=%20".to_owned();
    let mut free = authority();
    (free.lane, free.seq, free.max_charge) = (0, 1, Amount::ZERO);
    let mut largest = authority();
    (largest.lane, largest.seq, largest.max_charge) = (1023, i64::MAX.unsigned_abs(), Amount::MAX);
    vec![
        good("usual", "a chat request", signed()),
        Case { query: "trace=1&x=%20", ..good("query", "with a query", sign_request(&queried, NOW, &secret("pi"))) },
        good("free", "a maximum of 0, lane 0, the first seq", sign_request(&free, NOW, &secret("pi"))),
        good("largest", "the largest numbers there are", sign_request(&largest, NOW, &secret("pi"))),
        Case { now: NOW.plus(60), ..good("a-minute-late", "created = now - 60", signed()) },
        Case { now: NOW.minus(60), ..good("a-minute-early", "created = now + 60", signed()) },
        Case { now: NOW.plus(61), ..bad("late", "Q-3", "created = now - 61", signed(), Code::Stale) },
        Case { now: NOW.minus(61), ..bad("early", "Q-3", "created = now + 61", signed(), Code::Stale) },
        Case {
            holder: "student",
            ..bad("another-key", "Q-3", "signed by a key that is not the leaf's", signed(), Code::WrongKey)
        },
        Case { body: b"{}".to_vec(), ..bad("body-altered", "Q-2", "another body", signed(), Code::BodyAltered) },
        Case {
            path: "/v1/completions",
            ..bad("another-path", "Q-3", "sent to another path", signed(), Code::BadSignature)
        },
        Case { method: "PUT", ..bad("another-method", "Q-3", "sent by another method", signed(), Code::BadSignature) },
        Case {
            query: "a=1",
            ..bad("another-query", "Q-3", "with a query that was not signed", signed(), Code::BadSignature)
        },
        bad(
            "another-maximum",
            "Q-3",
            "the maximum raised on the way",
            set("comity-max-charge", "15000"),
            Code::BadSignature,
        ),
        bad("another-lane", "Q-3", "the lane changed on the way", set("comity-lane", "4"), Code::BadSignature),
        bad("another-seq", "Q-3", "the seq changed on the way", set("comity-seq", "18"), Code::BadSignature),
        bad(
            "another-leaf",
            "Q-3",
            "the token-ref changed on the way",
            set("comity-token-ref", &Digest::ZERO.to_sf()),
            Code::BadSignature,
        ),
        bad(
            "another-tariff",
            "Q-3",
            "the tariff changed on the way",
            set("comity-tariff", &Digest::ZERO.to_sf()),
            Code::BadSignature,
        ),
        bad(
            "another-created",
            "Q-3",
            "created moved on the way",
            input("created=1795420800", "created=1795420801"),
            Code::BadSignature,
        ),
        Case {
            body: b"{}".to_vec(),
            now: NOW.plus(DAY_S),
            ..bad("body-before-time", "Q-2", "another body, too late", signed(), Code::BodyAltered)
        },
        Case {
            path: "/",
            now: NOW.plus(DAY_S),
            ..bad("signature-before-time", "Q-3", "another path, too late", signed(), Code::BadSignature)
        },
    ]
}

fn forms() -> Vec<Case> {
    let bad = |id, rule, note, headers, code| case(id, rule, note, headers, Err(code));
    let uncovered = |id, note, headers| case(id, "Q-1", note, headers, Err(Code::NotCovered));
    let odd = |id, note, headers| case(id, "Q-1", note, headers, Err(Code::Malformed));
    let (key, weak) = (secret("pi").public().to_string(), small_order_did());
    let twice = {
        let mut headers = signed();
        headers.push(("comity-seq", "18".to_owned()));
        headers
    };
    let two = with("signature-input", |value| Some(format!("{value}, other={}", &value["comity=".len()..])));
    let call = sign_api("POST", "/v1/chat/completions", "", BODY, NOW, NONCE, &secret("pi"));
    vec![
        bad("unsigned", "Q-1", "no signature at all", vec![], Code::Unsigned),
        bad("input-only", "Q-1", "what is signed, and no signature", with("signature", |_| None), Code::Unsigned),
        bad("signature-only", "Q-1", "a signature of nothing", with("signature-input", |_| None), Code::Unsigned),
        uncovered("max-not-covered", "the maximum is not covered", input(" \"comity-max-charge\"", "")),
        uncovered("body-not-covered", "the body's digest is not covered", input("\"content-digest\" ", "")),
        uncovered("method-not-covered", "the method is not covered", input("\"@method\" ", "")),
        uncovered("one-more", "a component that is not in the list", input("\"@query\"", "\"@query\" \"@authority\"")),
        uncovered("another-order", "covered in another order", input("\"@method\" \"@path\"", "\"@path\" \"@method\"")),
        uncovered("another-label", "a label that is not ours", input("comity=", "sig1=")),
        uncovered("another-alg", "another algorithm", input("alg=\"ed25519\"", "alg=\"hmac-sha256\"")),
        uncovered("call-as-payment", "a call's signature in a payment's place", call),
        uncovered("two-signatures", "exactly one signature may stand", two),
        uncovered("header-missing", "a covered header is not there", with("comity-lane", |_| None)),
        odd("header-twice", "a covered header comes twice", twice),
        odd("nonce-short", "a nonce of 15 bytes", input("c2l4dGVlbiBvZiB0aGVzZQ==", "c2l4dGVlbiBvZiB0aGVz")),
        odd("created-text", "created is not a number", input("created=1795420800", "created=yesterday")),
        odd("created-zero", "created with a leading zero", input("created=1795420800", "created=01795420800")),
        uncovered(
            "parameter-order",
            "parameters in another order",
            with("signature-input", |value| {
                let (head, rest) = value.split_once(";created=").expect("it has created");
                let (created, rest) = rest.split_once(';').expect("more follows");
                Some(format!("{head};{rest};created={created}"))
            }),
        ),
        odd("seq-zero", "seq starts at 1", set("comity-seq", "0")),
        odd("seq-sign", "a sign", set("comity-seq", "+17")),
        odd("seq-padded", "a leading zero", set("comity-seq", "017")),
        odd("lane-too-large", "65536 is no lane", set("comity-lane", "65536")),
        odd("max-too-large", "2^63 is no amount", set("comity-max-charge", "9223372036854775808")),
        odd("max-negative", "an amount below 0", set("comity-max-charge", "-1")),
        odd("ref-not-bytes", "a token-ref that is no byte sequence", set("comity-token-ref", "abc")),
        odd(
            "ref-short",
            "a token-ref of 31 bytes",
            set("comity-token-ref", ":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==:"),
        ),
        odd("digest-sha512", "another digest algorithm", set("content-digest", "sha-512=:AAAA:")),
        odd("signature-short", "a signature of 3 bytes", set("signature", "comity=:AAAA:")),
        bad("keyid-weak", "K-1", "keyid is a small-order point", input(&key, &weak), Code::InvalidKey),
        bad("keyid-text", "K-1", "keyid is no did:key", input(&key, "pi"), Code::InvalidKey),
    ]
}

fn calls() -> Vec<Case> {
    let body: &[u8] = br#"{"token":"tok-o53xo53xo53xo53xo53xo53xo4"}"#;
    let call = |id, note, expect: Result<(), Code>| Case {
        id,
        rule: "Q-1",
        note,
        payment: false,
        method: "POST",
        path: "/comity/v1/finals",
        query: "",
        headers: sign_api("POST", "/comity/v1/finals", "", body, NOW, NONCE, &secret("pi")),
        body: body.to_vec(),
        holder: "pi",
        now: NOW,
        expect,
    };
    let mut payment = authority();
    payment.path = "/comity/v1/finals".to_owned();
    payment.content_digest = Digest::of(body);
    vec![
        call("call", "a call to a control route", Ok(())),
        Case {
            method: "GET",
            path: "/comity/v1/lanes",
            query: "token=tok-o53xo53xo53xo53xo53xo53xo4",
            headers: sign_api(
                "GET",
                "/comity/v1/lanes",
                "token=tok-o53xo53xo53xo53xo53xo53xo4",
                b"",
                NOW,
                NONCE,
                &secret("pi"),
            ),
            body: Vec::new(),
            ..call("call-get", "without a body", Ok(()))
        },
        Case { headers: vec![], ..call("call-unsigned", "no signature", Err(Code::Unsigned)) },
        Case {
            headers: sign_request(&payment, NOW, &secret("pi")),
            ..call("payment-as-call", "a payment's signature in a call's place", Err(Code::NotCovered))
        },
        Case { body: b"{}".to_vec(), ..call("call-body-altered", "another body", Err(Code::BodyAltered)) },
        Case { path: "/comity/v1/lanes", ..call("call-another-path", "sent to another path", Err(Code::BadSignature)) },
        Case { now: NOW.plus(61), ..call("call-late", "created = now - 61", Err(Code::Stale)) },
    ]
}

/// The identity point as a did:key, which no library of ours would write.
fn small_order_did() -> String {
    "did:key:z6MkeXATEjyXENzBXBxgC5EHk2JE5aqd7qMGGtDpLUH1e2Sj".to_owned()
}

/// The profile by its tag.
pub(crate) fn profile(payment: bool) -> &'static Profile {
    if payment { &REQUEST } else { &API }
}

/// The request line of a case.
pub(crate) fn target(case: &Case) -> Target<'_> {
    Target { method: case.method, path: case.path, query: case.query }
}

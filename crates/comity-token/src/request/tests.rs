use super::*;
use crate::requests::{self, BODY, NONCE};
use crate::world::*;
use http::{HeaderName, HeaderValue};

fn map(headers: &[(&'static str, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    map
}

/// All cases of spec/vectors/requests.json; each refusal is seen with its own code.
#[test]
fn every_request_is_judged_by_its_first_fault() {
    let mut codes = std::collections::BTreeSet::new();
    for case in requests::cases() {
        let (headers, holder) = (map(&case.headers), secret(case.holder).public());
        let judged = if case.payment {
            let judge = |read: Result<UnverifiedRequest, Denied>| {
                let verified = read.and_then(|request| request.verify(&holder, case.now));
                verified.map(|request| assert_eq!(request.id(), request.authority().id()))
            };
            let judged = judge(parse_request(case.method, case.path, case.query, &headers, &case.body));
            // Whoever knows the key beforehand says the same.
            let known = judge(parse_request_of(&holder.into(), requests::target(&case), &headers, &case.body));
            assert_eq!(known, judged, "{}", case.id);
            judged
        } else {
            crate::verify_api(case.method, case.path, case.query, &headers, &case.body, case.now)
                .map(|caller| assert_eq!((caller.key, caller.nonce), (holder, NONCE)))
        };
        assert_eq!(
            judged.as_ref().map_err(Denied::code),
            case.expect.as_ref().map_err(|code| *code),
            "{}: {}",
            case.id,
            case.note
        );
        codes.extend(judged.err().map(|denied| denied.code()));
    }
    assert_eq!(codes.len(), 8, "{codes:?}");
}

#[test]
fn what_was_signed_is_what_is_read() {
    let authority = requests::authority();
    let headers = map(&sign_request(&authority, NOW, &secret("pi")));
    let read = parse_request("POST", "/v1/chat/completions", "", &headers, BODY).unwrap();
    assert_eq!(read.authority(), &authority);
    let verified = read.verify(&secret("pi").public(), NOW).unwrap();
    assert_eq!((verified.created(), verified.holder()), (NOW, &secret("pi").public()));
    // The evidence stands by itself, under this key alone, and in its one form alone.
    let (base, signature, pi) = (verified.signature_base(), *verified.signature(), secret("pi").public());
    assert_eq!(signed_authority(base, signature, &pi), Ok(authority));
    assert_eq!(signed_authority(base, signature, &secret("other").public()), Err(Denied::WrongKey));
    assert_eq!(signed_authority(&base.replace("POST", "PUT"), signature, &pi), Err(Denied::BadSignature));
    for bent in [format!("{base}\n"), base.replacen("\": ", "\":  ", 1), base.replacen('\n', "\n\n", 1), String::new()]
    {
        let refused = signed_authority(&bent, signature, &pi);
        assert!(
            matches!(refused, Err(Denied::NotCovered { .. } | Denied::Header { .. } | Denied::BadSignature)),
            "{bent}"
        );
    }
}

/// Rule 3: a retry a minute later, through another door, is the same authority.
#[test]
fn a_retry_has_the_id_of_the_first_try() {
    let authority = requests::authority();
    let first = map(&sign_request(&authority, NOW, &secret("pi")));
    let later = map(&sign_request(&authority, NOW.plus(600), &secret("pi")));
    assert_ne!(first["signature"], later["signature"]);
    let id = |headers| parse_request("POST", "/v1/chat/completions", "", headers, BODY).unwrap().authority().id();
    assert_eq!(id(&first), id(&later));
}

#[test]
fn every_part_of_an_authority_changes_its_id() {
    let id = requests::authority().id();
    let changes: [fn(&mut Authority); 10] = [
        |a| a.leaf = Digest::ZERO,
        |a| a.lane = 4,
        |a| a.seq = 18,
        |a| a.method = "PUT".to_owned(),
        |a| a.path = "/v1/completions".to_owned(),
        |a| a.query = "a".to_owned(),
        |a| a.content_digest = Digest::ZERO,
        |a| a.tariff = Digest::ZERO,
        |a| a.max_charge = Amount::ZERO,
        |a| a.nonce = [0; 16],
    ];
    for change in changes {
        let mut other = requests::authority();
        change(&mut other);
        assert_ne!(other.id(), id);
    }
}

#[test]
fn digests_in_receipts_are_salted_and_apart() {
    let salted = request_digest(&NONCE, b"yes");
    assert_ne!(salted, Digest::of(b"yes"));
    assert_ne!(salted, request_digest(&[0; 16], b"yes"));
    assert_ne!(salted, response_digest(&NONCE, b"yes"));
}

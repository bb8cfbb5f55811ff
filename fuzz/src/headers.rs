//! The head of a call: method, path, query, headers. Whatever they say, what is believed of them is what was signed.
//!
//! The first line is `METHOD target`, then a header a line, an empty line, the body.

use comity_token::{parse_request, verify_api};
use comity_wire::{Digest, ModelId, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// When the vectors were signed.
const NOW: Timestamp = Timestamp(1_795_420_800);

pub fn target(data: &[u8]) {
    let Some((head, body)) = split(data, b"\n\n") else { return };
    let mut lines = head.split(|byte| *byte == b'\n');
    let Some((method, target)) = lines.next().and_then(|line| split(line, b" ")) else { return };
    // What HTTP itself does not let in.
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| split(line, b": ")) {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else { return };
        headers.append(name, value);
    }
    let (path, query) = (uri.path(), uri.query().unwrap_or(""));
    if let Ok(request) = parse_request(method.as_str(), path, query, &headers, body) {
        let authority = request.authority();
        assert_eq!((&*authority.method, &*authority.path, &*authority.query), (method.as_str(), path, query));
        assert_eq!(authority.content_digest, Digest::of(body), "another body than was signed");
    }
    if verify_api(method.as_str(), path, query, &headers, body, NOW).is_ok() {
        let mut bent = path.to_owned();
        bent.push('x');
        assert!(
            verify_api(method.as_str(), &bent, query, &headers, body, NOW).is_err(),
            "another path than was signed"
        );
        assert!(verify_api(method.as_str(), path, query, &headers, b"another", NOW).is_err(), "another body");
    }
    for value in headers.values() {
        let text = value.to_str().unwrap_or_default();
        if let Some(digest) = Digest::from_sf(text) {
            assert_eq!(digest.to_sf(), text, "a digest has one text form");
        }
        if let Ok(model) = text.parse::<ModelId>() {
            assert_eq!(model.as_str(), text, "a model's name has one form");
        }
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..found], &bytes[found + at.len()..]))
}

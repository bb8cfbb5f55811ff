use super::*;
use crate::requests;
use crate::world::*;
use http::{HeaderName, HeaderValue};
use httpsig::prelude::message_component::{HttpMessageComponent, HttpMessageComponentId};
use httpsig::prelude::{
    AlgorithmName, HttpSignatureBase, HttpSignatureParams, PublicKey as OraclesKey, VerifyingKey as _,
};

/// `httpsig` builds the same base from the same message, and its verifier takes our signature.
#[test]
fn another_library_agrees_on_what_is_signed() {
    let mut compared = 0;
    for case in requests::cases().into_iter().filter(|case| case.expect.is_ok()) {
        let mut headers = HeaderMap::new();
        for (name, value) in &case.headers {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let profile = requests::profile(case.payment);
        let (presented, _) = profile.present(requests::target(&case), &headers, None).unwrap();

        let input = headers[SIGNATURE_INPUT].to_str().unwrap();
        let params = HttpSignatureParams::try_from(input.strip_prefix("comity=").unwrap()).unwrap();
        let mut lines = Vec::new();
        for id in &params.covered_components {
            let name = id.to_string();
            let value = match name.trim_matches('"') {
                "@method" => case.method.to_owned(),
                "@path" => case.path.to_owned(),
                "@query" => format!("?{}", case.query),
                field => headers[field].to_str().unwrap().to_owned(),
            };
            let id = HttpMessageComponentId::try_from(name.as_str()).unwrap();
            lines.push(HttpMessageComponent::try_from((&id, &[value][..])).unwrap());
        }
        let theirs = HttpSignatureBase::try_new(&lines, &params).unwrap().to_string();
        // It writes alg before keyid whatever the sender's order was; the standard keeps the sender's (RFC 9421 §2.3).
        let keyid = format!(";keyid=\"{}\"", presented.parameters.key);
        let theirs = theirs.replace(&format!(";alg=\"ed25519\"{keyid}"), &format!("{keyid};alg=\"ed25519\""));
        assert_eq!(theirs, presented.base, "{}", case.id);
        let key = OraclesKey::from_bytes(&AlgorithmName::Ed25519, presented.parameters.key.as_bytes()).unwrap();
        key.verify(presented.base.as_bytes(), &presented.signature).unwrap();
        compared += 1;
    }
    assert_eq!(compared, 8);
}

/// RFC 9421 appendix B.2.6: our keys sign its base to its very signature.
#[test]
fn the_standards_own_example_is_reproduced() {
    let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\"@authority\": example.com\n\
                \"content-type\": application/json\n\"content-length\": 18\n\"@signature-params\": (\"date\" \"@method\" \"@path\" \
                \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    let der = STANDARD.decode("MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF").unwrap();
    let key = SecretKey::from_seed(der[16..].try_into().unwrap());
    let signature = STANDARD.encode(key.sign(base.as_bytes()));
    assert_eq!(signature, "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==");
}

#[test]
fn the_base_is_written_as_the_standard_says() {
    let target = Target { method: "GET", path: "/", query: "" };
    let digest = content_digest(b"");
    let [(_, input), _] = API.sign(target, &[&digest], NOW, [0; 16], &secret("pi"));
    let base = API.base(target, &[&digest], input.strip_prefix("comity=").unwrap());
    let expected = format!(
        "\"@method\": GET\n\"@path\": /\n\"@query\": ?\n\"content-digest\": sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\n\
         \"@signature-params\": (\"@method\" \"@path\" \"@query\" \"content-digest\");created=1795420800;\
         nonce=\"AAAAAAAAAAAAAAAAAAAAAA==\";keyid=\"{}\";alg=\"ed25519\";tag=\"comity-api-v1\"",
        secret("pi").public()
    );
    assert_eq!(base, expected);
}

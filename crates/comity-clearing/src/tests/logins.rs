//! Logins: the house learns from an issuer whose key it is, and believes no more than it must.

use comity_wire::api::clearing::SignedBytes;
use comity_wire::object::Vetting;
use comity_wire::{PublicKey, SecretKey};
use serde_json::{Value, json};

use super::persons::{drawn, requirements, unvetted, vouch};
use super::provider::{ISSUER, Provider, issuer};
use super::world::*;
use crate::persons::{Issuer, key_proof};

async fn begin(world: &World, key: &SecretKey, mut ask: Value) -> (u16, Value) {
    if ask.is_null() {
        ask = json!({});
    }
    world.post("/v1/logins", ask, key).await
}

async fn go_on(world: &World, key: &SecretKey, login: &Value, ask: Value) -> (u16, Value) {
    world.post(&format!("/v1/logins/{}", login["login"].as_str().unwrap()), ask, key).await
}

/// A whole login by a code on another device.
async fn by_device(world: &World, key: &SecretKey, mfa: bool) -> (u16, Value) {
    let (status, login) = begin(world, key, json!({ "mfa": mfa })).await;
    assert_eq!(status, 200, "{login}");
    world.sleep(5);
    go_on(world, key, &login, json!({})).await
}

/// A whole login by a browser on the same computer.
async fn by_browser(world: &World, op: &Provider, key: &SecretKey) -> (u16, Value) {
    let (status, login) = begin(world, key, json!({ "redirect": "http://127.0.0.1:4711/done" })).await;
    assert_eq!(status, 200, "{login}");
    let query = op.opens(login["url"].as_str().unwrap());
    let done = go_on(world, key, &login, json!({ "code": "good", "state": query["state"] })).await;
    op.says(|saying| saying.nonce = None);
    done
}

fn refused(reply: &(u16, Value), what: &str) {
    assert_eq!(code(reply), "login_refused", "{}", reply.1);
    assert!(reply.1["detail"].as_str().unwrap().contains(what), "{} is not: {what}", reply.1);
}

async fn persons(world: &World) -> i64 {
    world.count("SELECT COUNT(*) FROM person_evidence").await
}

async fn a_code_on_another_device_says_whose_key_it_is(on: On) {
    let world = unvetted(on).await;
    let (pi, eve) = (&world.member, secret("eve"));
    let op = Provider::of(&world, issuer());
    assert!(op.says(|saying| saying.calls.is_empty()), "nobody is asked at the start");
    let (_, shown) = world.get("/v1/issuers", pi).await;
    assert_eq!(shown["issuers"], json!([{ "name": "uni", "issuer": ISSUER, "device": true }]));
    op.says(|saying| saying.refuses = Some("authorization_pending"));
    let (status, login) = begin(&world, pi, json!({ "mfa": true })).await;
    assert_eq!(
        (status, &login["user_code"], &login["url"]),
        (200, &json!("WDJB-MJHT"), &json!(format!("{ISSUER}/activate"))),
        "{login}"
    );
    op.says(|saying| {
        assert_eq!(saying.calls, ["/.well-known/openid-configuration", "/jwks", "/device"]);
        let asked = ["scope", "acr_values", "max_age"].map(|name| saying.form[name].clone());
        assert_eq!(asked, ["openid profile", "https://refeds.org/profile/mfa", "43200"]);
        saying.calls.clear();
    });
    // Not sooner than the issuer said, and by nobody else.
    let pending = go_on(&world, pi, &login, json!({})).await;
    assert_eq!((pending.0, &pending.1["state"], &pending.1["retry_after_s"]), (200, &json!("pending"), &json!(5)));
    assert!(op.says(|saying| saying.calls.is_empty()));
    assert_eq!(code(&go_on(&world, &eve, &login, json!({})).await), "not_found", "another key's login");
    world.sleep(5);
    assert_eq!(go_on(&world, pi, &login, json!({})).await.1["retry_after_s"], json!(5));
    op.says(|saying| {
        assert_eq!(saying.calls, ["/token"]);
        // RFC 6749 §2.3.1.
        assert_eq!(
            saying.authorization,
            format!(
                "Basic {}",
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "comity:pass%2Fword")
            )
        );
        saying.refuses = Some("slow_down");
    });
    world.sleep(5);
    assert_eq!(go_on(&world, pi, &login, json!({})).await.1["retry_after_s"], json!(10));
    world.sleep(10);
    op.says(|saying| (saying.refuses, saying.claims) = (None, op_professor(&op, "8f14")));
    let (status, done) = go_on(&world, pi, &login, json!({})).await;
    assert_eq!((status, &done["state"]), (200, &json!("done")), "{done}");
    assert_eq!(done["whoami"]["subjects"], json!([{ "issuer": ISSUER, "subject": "8f14" }]));
    assert_eq!(done["whoami"]["projects"][0]["level"]["vetting"], json!("vetted"));
    let rows = persons(&world).await;
    assert_eq!(
        go_on(&world, pi, &login, json!({})).await,
        (200, done),
        "asked again it is the same, and the issuer is not asked"
    );
    assert_eq!(persons(&world).await, rows);
    // The level that a token states falls when the second factor is half a day old, and says so.
    assert_eq!(drawn(&world, pi).await, (Vetting::Vetted, vec![]));
    // Another login, without a second factor, takes nothing back of the one that was with it.
    let mut plain = op_professor(&op, "8f14");
    plain.as_object_mut().unwrap().remove("acr");
    op.says(|saying| saying.claims = plain);
    assert_eq!(by_device(&world, pi, false).await.0, 200);
    assert_eq!(drawn(&world, pi).await, (Vetting::Vetted, vec![]));
    world.sleep(12 * 3_600);
    assert_eq!(drawn(&world, pi).await, (Vetting::Registered, vec!["mfa".to_owned()]));
    op.says(|saying| saying.claims = op_professor(&op, "8f14"));
    assert_eq!(by_device(&world, pi, true).await.0, 200);
    assert_eq!(drawn(&world, pi).await, (Vetting::Vetted, vec![]));
    world.sleep(31 * DAY);
    assert_eq!(drawn(&world, pi).await, (Vetting::Registered, vec!["affiliation".to_owned(), "mfa".to_owned()]));
    // What the person refuses, or lets lie, ends it.
    op.says(|saying| saying.refuses = Some("access_denied"));
    refused(&by_device(&world, pi, false).await, "access_denied: said by a test");
    let (_, late) = begin(&world, pi, json!({})).await;
    world.sleep(600);
    assert_eq!(code(&go_on(&world, pi, &late, json!({})).await), "not_found");
}

fn op_professor(op: &Provider, sub: &str) -> Value {
    // The lock is held by who asks: the claims are made without it.
    let now = op.1.load(std::sync::atomic::Ordering::SeqCst);
    json!({
        "sub": sub, "eduperson_scoped_affiliation": ["faculty@uni.example"],
        "eduperson_assurance": ["https://refeds.org/assurance/profile/cappuccino", "https://refeds.org/assurance/ATP/ePA-1m"],
        "acr": "https://refeds.org/profile/mfa", "auth_time": now,
    })
}

async fn a_browser_brings_a_code_that_only_its_own_login_can_use(on: On) {
    let world = unvetted(on).await;
    let (pi, eve) = (&world.member, secret("eve"));
    let op = Provider::of(&world, issuer());
    op.says(|saying| saying.claims = json!({ "sub": "8f14" }));
    for redirect in [
        "http://127.0.0.1/done",
        "http://127.0.0.1:99999/",
        "https://127.0.0.1:80/",
        "http://evil.example:80/",
        "http://127.0.0.1:80@evil.example/",
        "http://127.0.0.1:80/?x=1",
        "http://127.0.0.1.evil.example:80/",
        "http://localhost:80/",
    ] {
        assert_eq!(code(&begin(&world, pi, json!({ "redirect": redirect })).await), "invalid_request", "{redirect}");
    }
    let (_, login) = begin(&world, pi, json!({ "redirect": "http://127.0.0.1:4711/done" })).await;
    let query = op.opens(login["url"].as_str().unwrap());
    assert_eq!((query["redirect_uri"].as_str(), query["client_id"].as_str()), ("http://127.0.0.1:4711/done", "comity"));
    assert_eq!(go_on(&world, pi, &login, json!({})).await.1["state"], json!("pending"));
    let good = json!({ "code": "good", "state": query["state"] });
    refused(&go_on(&world, pi, &login, json!({ "code": "good", "state": "another" })).await, "state");
    refused(&go_on(&world, pi, &login, json!({ "code": "good" })).await, "state");
    let foreign = json!({ "code": "good", "state": query["state"], "iss": "https://evil.example" });
    refused(&go_on(&world, pi, &login, foreign).await, "iss");
    refused(&go_on(&world, pi, &login, json!({ "code": "bad", "state": query["state"] })).await, "invalid_grant");
    assert_eq!(code(&go_on(&world, &eve, &login, good.clone()).await), "not_found");
    // A token that was made for another login.
    op.says(|saying| saying.nonce = Some("another".into()));
    refused(&go_on(&world, pi, &login, good.clone()).await, "nonce");
    op.says(|saying| saying.nonce = None);
    refused(&go_on(&world, pi, &login, good.clone()).await, "nonce");
    assert_eq!(persons(&world).await, 0);
    op.says(|saying| saying.nonce = Some(query["nonce"].clone()));
    let (status, done) = go_on(&world, pi, &login, good.clone()).await;
    assert_eq!((status, &done["state"]), (200, &json!("done")), "{done}");
    assert_eq!(go_on(&world, pi, &login, good).await, (200, done), "the reply was lost, and asked for again");
    // Its secrets are gone.
    assert_eq!(world.count("SELECT COUNT(*) FROM login WHERE secret <> '' OR nonce <> '' OR state <> ''").await, 0);
}

async fn an_id_token_is_believed_whole_or_not_at_all(on: On) {
    let world = unvetted(on).await;
    let pi = &world.member;
    let op = Provider::of(&world, issuer());
    // `@n`: so many seconds from when the token is made.
    let at = |value: &Value| {
        let ahead: Option<i64> =
            value.as_str().and_then(|text| text.strip_prefix('@')).map(|text| text.parse().unwrap());
        ahead.map_or_else(|| value.clone(), |ahead| json!(i64::try_from(world.now().0).unwrap() + 5 + ahead))
    };
    for (claims, what) in [
        (json!({ "aud": "other" }), "must contain `comity`"),
        (json!({ "aud": ["comity", "other"] }), "not a trusted audience"),
        (json!({ "aud": null }), "must contain `comity`"),
        (json!({ "azp": "other" }), "made for the client other"),
        (json!({ "azp": 7 }), ""),
        (json!({ "iss": "https://idp.uni.example/" }), "expected `https://idp.uni.example`"),
        (json!({ "iss": "https://evil.example" }), "found `https://evil.example`"),
        (json!({ "exp": "@0" }), "expired"),
        (json!({ "iat": "@61" }), "lies ahead"),
        (json!({ "iat": "@-601" }), "too long ago"),
        (json!({ "auth_time": "@61" }), "lies ahead"),
        (json!({ "acr": "https://refeds.org/profile/sfa" }), "says https://refeds.org/profile/sfa"),
        (json!({ "acr": "https://refeds.org/profile/MFA" }), "second factor"),
        (json!({ "acr": null }), "nothing of how it was"),
        (json!({ "auth_time": null }), "does not say when"),
        (json!({ "auth_time": "@-43200" }), "too long ago"),
        (json!({ "sub": null }), "cannot be read"),
    ] {
        let mut said = op.professor("8f14");
        for (name, value) in claims.as_object().unwrap() {
            said[name] = at(value);
        }
        op.says(|saying| saying.claims = said);
        let reply = by_device(&world, pi, true).await;
        refused(&reply, what);
        world.sleep(901);
    }
    // Signed by nobody, by another key, under another name, or by what everybody knows.
    for (header, key, what) in [
        (json!({ "alg": "none" }), "op", ""),
        (json!({ "alg": "HS256", "kid": "k1" }), "op", "HS256"),
        (json!({ "alg": "EdDSA", "kid": "k1" }), "eve", "ignature"),
        (json!({ "alg": "EdDSA", "kid": "k2" }), "op", "no key of the issuer's"),
        (json!({ "alg": "RS256", "kid": "k1" }), "op", "no key of the issuer's"),
    ] {
        let said = op.professor("8f14");
        // The keys that are published stay the issuer's own.
        op.says(|saying| (saying.claims, saying.header, saying.key) = (said, header, secret(key)));
        refused(&by_device(&world, pi, false).await, what);
        world.sleep(901);
    }
    assert_eq!(persons(&world).await, 0, "nothing was taken down");
    // The issuer's keys have turned: they are asked for again, once in a while.
    op.says(|saying| {
        (saying.key, saying.published, saying.kid) = (secret("op 2"), secret("op 2"), "k2".into());
        saying.header = json!({ "alg": "EdDSA", "kid": "k2" });
    });
    let said = op.professor("8f14");
    op.says(|saying| saying.claims = said);
    let (status, done) = by_device(&world, pi, false).await;
    assert_eq!(status, 200, "{done}");
}

async fn userinfo_adds_and_overrules_nothing(on: On) {
    let world = unvetted(on).await;
    let pi = &world.member;
    let op = Provider::of(&world, Issuer { userinfo: true, ..issuer() });
    op.says(|saying| {
        saying.claims = json!({ "sub": "8f14", "eduperson_assurance": ["https://refeds.org/assurance/IAP/low"] });
        saying.userinfo = json!({ "sub": "other", "eduperson_scoped_affiliation": "faculty@uni.example" });
    });
    refused(&by_device(&world, pi, false).await, "another subject");
    let more = json!({
        "sub": "8f14", "eduperson_scoped_affiliation": ["faculty@uni.example", "member@other.example"], "acr": "https://refeds.org/profile/mfa",
        "auth_time": world.now().0, "eduperson_assurance": ["https://refeds.org/assurance/profile/espresso"],
    });
    op.says(|saying| saying.userinfo = more);
    let (status, done) = by_device(&world, pi, false).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(done["ignored"].as_array().unwrap().len(), 1, "a scope that is not its own: {done}");
    assert_eq!(requirements(&done["whoami"]["projects"][0]["level"]), ["proofing", "mfa"]);
}

async fn a_code_on_another_device_joins_no_keys_and_no_accounts(on: On) {
    let world = unvetted(on).await;
    let (pi, laptop) = (&world.member, secret("laptop"));
    let op = Provider::of(&world, issuer());
    op.says(|saying| saying.claims = json!({ "sub": "8f14" }));
    assert_eq!(by_device(&world, pi, false).await.0, 200);
    // Somebody types in a code that is not theirs: the key gets nothing of the person.
    refused(&by_device(&world, &laptop, false).await, "comity whoami --add did:key:");
    assert!(world.get("/v1/whoami", &laptop).await.1["person"].is_null());
    // Nor does a person get the account of somebody else.
    op.says(|saying| saying.claims = json!({ "sub": "2b1f" }));
    refused(&by_device(&world, pi, false).await, "comity login --browser");
    // By a browser on the same computer both go.
    op.says(|saying| saying.claims = json!({ "sub": "8f14" }));
    let (status, done) = by_browser(&world, &op, &laptop).await;
    assert_eq!((status, done["whoami"]["keys"].as_array().map(Vec::len)), (200, Some(2)), "{done}");
    assert!(done["whoami"]["projects"].is_null(), "one more key is no member of anything: {done}");
    op.says(|saying| saying.claims = json!({ "sub": "2b1f" }));
    let (_, done) = by_browser(&world, &op, pi).await;
    assert_eq!(done["whoami"]["subjects"].as_array().map(Vec::len), Some(2), "{done}");
    // An account is one person's.
    let eve = secret("eve");
    vouch(&world, &eve.public().to_string(), Vetting::Registered, None).await;
    refused(&by_browser(&world, &op, &eve).await, "another person's");
    // A key that was revoked logs nobody in.
    world.house.key_revoke(None, laptop.public()).await.unwrap();
    refused(&by_browser(&world, &op, &laptop).await, "was revoked");
    // A key of the same person adds one that agrees to it.
    let (tablet, person) = (secret("tablet"), done["whoami"]["person"].clone());
    let ask = |key: PublicKey, by: &SecretKey| {
        let proof = by.sign(&key_proof(person.as_str().unwrap().parse().unwrap()));
        json!({ "key": key, "proof": SignedBytes::new(proof.to_vec()).unwrap() })
    };
    let unasked = world.post("/v1/keys", ask(eve.public(), pi), pi).await;
    assert_eq!(code(&unasked), "not_yours", "nobody is made another person's device unasked: {}", unasked.1);
    assert_eq!(code(&world.post("/v1/keys", ask(tablet.public(), &tablet), &eve).await), "not_yours");
    let (status, who) = world.post("/v1/keys", ask(tablet.public(), &tablet), pi).await;
    assert_eq!((status, who["keys"].as_array().map(Vec::len)), (200, Some(3)), "{who}");
    assert_eq!(world.get("/v1/whoami", &tablet).await.1["person"], person);
}

async fn an_issuer_that_is_down_or_says_that_it_is_another_is_not_believed(on: On) {
    let world = unvetted(on).await;
    let pi = &world.member;
    assert_eq!(code(&begin(&world, pi, json!({})).await), "not_found", "a house without issuers");
    let op = Provider::of(&world, issuer());
    op.says(|saying| saying.is_down = true);
    let down = begin(&world, pi, json!({})).await;
    assert_eq!((down.0, code(&down)), (503, "upstream_unavailable".to_owned()), "{}", down.1);
    op.says(|saying| saying.is_down = false);
    assert_eq!(code(&begin(&world, pi, json!({ "issuer": "none" })).await), "not_found");
    let metadata = op.says(|saying| saying.metadata.clone());
    for (name, value, what) in [
        ("issuer", json!("https://evil.example"), "which is not"),
        ("issuer", json!("https://idp.uni.example/"), "which is not"),
        ("token_endpoint", json!("http://idp.uni.example/token"), "not https"),
        ("jwks_uri", json!("http://idp.uni.example/jwks"), "not https"),
        ("device_authorization_endpoint", Value::Null, "typed into another device"),
    ] {
        op.says(|saying| {
            saying.metadata = metadata.clone();
            saying.metadata[name] = value;
        });
        refused(&begin(&world, pi, json!({})).await, what);
        world.sleep(3_600);
    }
    // What was said is remembered for an hour, and no longer.
    op.says(|saying| (saying.metadata, saying.calls) = (metadata, Vec::new()));
    for (after, asked) in [(0, 3), (3_599, 4), (1, 7)] {
        world.sleep(after);
        assert_eq!(begin(&world, pi, json!({})).await.0, 200);
        assert_eq!(op.says(|saying| saying.calls.len()), asked);
    }
    // So many at once, and no more of one key.
    for _ in 0..7 {
        begin(&world, pi, json!({})).await;
    }
    assert_eq!(code(&begin(&world, pi, json!({})).await), "limit_exceeded");
    world.sleep(901);
    assert_eq!(begin(&world, pi, json!({})).await.0, 200);
}

on_each_store! {
    a_code_on_another_device_says_whose_key_it_is
    a_browser_brings_a_code_that_only_its_own_login_can_use
    an_id_token_is_believed_whole_or_not_at_all
    userinfo_adds_and_overrules_nothing
    a_code_on_another_device_joins_no_keys_and_no_accounts
    an_issuer_that_is_down_or_says_that_it_is_another_is_not_believed
}

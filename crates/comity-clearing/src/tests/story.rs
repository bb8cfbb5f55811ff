//! What the house promises, over its HTTP API, with real keys.

use comity_ledger::db::query;
use comity_wire::object::{ModelState, Quote, Token, Vetting};
use comity_wire::{Amount, Signed};
use serde_json::json;

use super::disputes::show_tails;
use super::world::*;

async fn an_award_becomes_a_token_a_settlement_and_a_refund(on: On) {
    let world = World::new(on, 10_000).await;
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);

    let mut lab = world.buy(1_000).await;
    assert_eq!(world.sums().await, [10_000, 0, 1_000, 9_000]);
    let terms = &lab.token.terms;
    assert_eq!((terms.budget, terms.vetting, terms.window), (ucr(1_000), Vetting::Vetted, ucr(WINDOW)));
    assert_eq!(terms.purposes[0].as_str(), "research");
    assert_eq!(lab.token.subject.as_str(), world.house.pseudonym(world.project, LAB).to_string());
    assert_eq!(terms.scope[0].tariff, tariff(PRICE).id());
    assert_eq!(terms.settle_by, lab.token.expires_at.plus(900 + 3 * DAY));

    for _ in 0..30 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    let (status, reply) = world.claim(&claim).await;
    assert_eq!((status, &reply["settled"], &reply["unacknowledged"]), (200, &json!(300), &json!(0)), "{reply}");
    lab.taken();
    assert_eq!(world.sums().await, [10_000, 300, 700, 9_000]);

    // Ten more without an acknowledgement; the final sends the rest home and leaves what they cost.
    for _ in 0..10 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let (status, reply) = world.finish(lab.final_()).await;
    assert_eq!((status, &reply["refunded"], &reply["in_escrow"]), (200, &json!(600), &json!(100)), "{reply}");
    assert_eq!(world.finish(lab.final_()).await.1, reply, "the same final again is the same word");
    let (status, reply) = world.claim(&lab.claim(vec![])).await;
    assert_eq!((status, &reply["settled"], &reply["unacknowledged"]), (200, &json!(0), &json!(100)), "{reply}");

    // After its time the house asks for the tail, and it is paid from its receipts and the requests behind them.
    world.pass(72 * 3600 - 120).await;
    assert_eq!(show_tails(&world, &lab).await, 0);
    world.pass(240).await;
    assert_eq!(show_tails(&world, &lab).await, 1);
    assert_eq!(world.sums().await, [10_000, 400, 0, 9_600]);

    let (status, project) = world.get(&format!("/v1/projects/{}", world.project), &world.member).await;
    assert_eq!(status, 200, "{project}");
    assert_eq!(project["tokens"][0]["closed"], json!(true));
    assert_eq!(
        (&project["awarded"], &project["available"], &project["settled"]),
        (&json!(10_000), &json!(9_600), &json!(400))
    );
    let (_, statement) = world.get("/v1/statement", &world.member).await;
    assert_eq!((&statement["opening"], &statement["closing"]), (&json!(0), &json!(9_600)), "{statement}");
    let (_, earned) = world.get(&format!("/v1/statement?node={NODE}"), &secret("transport")).await;
    assert_eq!((&earned["closing"], earned["lines"].as_array().unwrap().len()), (&json!(400), 2), "{earned}");
}

async fn one_reservation_id_is_one_token(on: On) {
    let world = World::new(on, 10_000).await;
    let quote = world.quote().await;
    let ask = world.reservation(&quote, 600);
    let (status, first) = world.post("/v1/reservations", ask.clone(), &world.member).await;
    assert_eq!((status, &first["created"]), (200, &json!(true)), "{first}");
    let (status, again) = world.post("/v1/reservations", ask.clone(), &world.member).await;
    assert_eq!((status, &again["created"], &again["token"]), (200, &json!(false), &first["token"]));
    let mut other = ask.clone();
    other["budget"] = json!(601);
    let refused = world.post("/v1/reservations", other, &world.member).await;
    assert_eq!((refused.0, code(&refused).as_str()), (409, "reservation_conflict"));
    let mut other = ask;
    other["holder"] = json!(secret("thief").public());
    assert_eq!(code(&world.post("/v1/reservations", other, &world.member).await), "reservation_conflict");
    assert_eq!(world.sums().await, [10_000, 0, 600, 9_400]);
}

async fn twins_of_one_reservation_share_one_token(on: On) {
    let world = World::new(on, 1_000).await;
    let ask = world.reservation(&world.quote().await, 600);
    let call = || world.post("/v1/reservations", ask.clone(), &world.member);
    let all = futures::future::join_all((0..8).map(|_| call())).await;
    assert!(all.iter().all(|(status, reply)| *status == 200 && reply["token"] == all[0].1["token"]), "{all:?}");
    assert_eq!(all.iter().filter(|(_, reply)| reply["created"] == json!(true)).count(), 1);
    assert_eq!(world.sums().await, [1_000, 0, 600, 400]);
}

async fn nobody_reserves_more_than_is_available(on: On) {
    let world = World::new(on, 1_000).await;
    let quote = world.quote().await;
    let refused = world.post("/v1/reservations", world.reservation(&quote, 1_001), &world.member).await;
    assert_eq!((refused.0, code(&refused).as_str()), (402, "balance_too_low"));
    assert_eq!((&refused.1["asked_ucr"], &refused.1["available_ucr"]), (&json!(1_001), &json!(1_000)));
    // Ten at once, of which three fit.
    let asks: Vec<_> = (0..10).map(|_| world.reservation(&quote, 300)).collect();
    let all =
        futures::future::join_all(asks.into_iter().map(|ask| world.post("/v1/reservations", ask, &world.member))).await;
    assert_eq!(all.iter().filter(|reply| reply.0 == 200).count(), 3);
    assert!(all.iter().filter(|reply| reply.0 != 200).all(|reply| code(reply) == "balance_too_low"));
    assert_eq!(world.sums().await, [1_000, 0, 900, 100]);
}

async fn a_token_without_a_budget_has_no_escrow(on: On) {
    let world = World::new(on, 0).await;
    let mut lab = world.buy(0).await;
    assert_eq!(lab.token.terms.budget, Amount::ZERO);
    lab.charge(lab.root(), 0, 0);
    let (status, reply) = world.claim(&lab.claim(vec![])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(0)), "{reply}");
    assert_eq!(world.finish(lab.final_()).await.0, 200);
    assert_eq!(world.sums().await, [0, 0, 0, 0]);
}

async fn claims_that_go_back_are_refused(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    for _ in 0..4 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let old = lab.claim(vec![]);
    lab.charge(lab.root(), 0, PRICE);
    let newest = lab.claim(vec![]);
    let (status, reply) = world.claim(&newest).await;
    assert_eq!(status, 200, "{reply}");
    let older = world.claim(&old).await;
    assert_eq!((older.0, code(&older).as_str()), (409, "claim_older"));
    assert_eq!(world.claim(&newest).await.1, reply, "the same claim again has the same reply");

    // A newer receipt whose total fell: the lane is forged anew from n 5 on.
    lab.taken();
    let key = (lab.root(), 0);
    let mut forged = Lab { lanes: [].into(), settled: lab.settled.clone(), chains: lab.chains.clone(), ..lab };
    for _ in 0..6 {
        forged.charge(key.0, 0, 1);
    }
    let lower = world.claim(&forged.claim(vec![])).await;
    assert_eq!((lower.0, code(&lower).as_str()), (409, "claim_lower"));
    // The totals rise, but another past lies under them.
    forged.charge(key.0, 0, 500);
    let broken = world.claim(&forged.claim(vec![])).await;
    assert_eq!((broken.0, code(&broken).as_str()), (409, "broken_history"));
    assert_eq!(world.sums().await, [10_000, 0, 1_000, 9_000]);
}

async fn a_proof_must_start_where_the_house_settled(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    for _ in 0..5 {
        lab.charge(lab.root(), 0, PRICE);
    }
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
    lab.taken();
    for _ in 0..6 {
        lab.charge(lab.root(), 0, PRICE);
    }
    for settled in [None, Some(3), Some(6)] {
        let mut lying = lab.draft(vec![]);
        let mut lanes = lying.lanes.to_vec();
        lanes[0].settled_n = settled;
        lying.lanes = lanes.try_into().unwrap();
        let refused = world.claim(&lab.sign(&lying)).await;
        assert_eq!((refused.0, code(&refused).as_str()), (409, "settled_differs"), "{settled:?}");
        assert_eq!(refused.1["settled"], json!([{ "leaf": lab.root(), "lane": 0, "n": 5 }]));
    }
    assert_eq!(world.claim(&lab.claim(vec![])).await.0, 200);
}

async fn a_claim_stands_by_its_signatures_alone(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    lab.charge(lab.root(), 0, PRICE);
    let draft = lab.draft(vec![]);
    lab.receipt_key = secret("thief");
    assert_eq!(code(&world.claim(&lab.sign(&draft)).await), "wrong_key");
    lab.receipt_key = secret("receipt");
    let mut bytes = signed_bytes(&lab.sign(&draft)["claim"]);
    *bytes.last_mut().unwrap() ^= 1;
    let altered = comity_wire::api::clearing::SignedBytes::new(bytes).unwrap();
    assert_eq!(code(&world.claim(&json!({ "claim": altered })).await), "bad_signature");
    // Another's acknowledgement is none.
    let foreign = lab.acknowledge(&secret("thief"));
    assert_eq!(code(&world.claim(&lab.claim(vec![foreign])).await), "wrong_key");
    // Somebody else brings the node's claim.
    let claim = lab.claim(vec![]);
    assert_eq!(code(&world.post("/v1/claims", claim.clone(), &world.member).await), "not_yours");
    assert_eq!(world.sums().await, [10_000, 0, 1_000, 9_000]);
    assert_eq!(world.claim(&claim).await.0, 200);
}

async fn above_the_budget_a_claim_is_clamped_and_recorded(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(100).await;
    for _ in 0..13 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(100)), "{reply}");
    assert_eq!(
        (&reply["exceptions"][0]["code"], &reply["exceptions"][0]["amount"]),
        (&json!("claim_clamped"), &json!(30))
    );
    assert_eq!(world.sums().await, [10_000, 100, 0, 9_900]);
    assert_eq!(world.house.totals().await.unwrap().overall.clamped, ucr(30));
}

async fn a_block_is_paid_to_its_cap_and_no_further(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    let student = lab.delegate("student", 50);
    lab.charge(student, 0, 80);
    lab.charge(lab.root(), 0, 20);
    // The PI acknowledges for the student: any ancestor may.
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(70)), "{reply}");
    assert_eq!(reply["exceptions"][0]["amount"], json!(30));
    assert_eq!(world.sums().await, [10_000, 70, 930, 9_000]);
}

async fn a_student_acknowledges_no_lane_of_the_pi(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    let student = lab.delegate("student", 50);
    lab.charge(student, 0, 10);
    lab.charge(lab.root(), 0, 20);
    let refused = world.claim(&lab.claim(vec![lab.acknowledge(&secret("student"))])).await;
    assert_eq!(code(&refused), "wrong_key");
}

async fn escrow_comes_home_on_the_final_or_at_settle_by_and_never_before(on: On) {
    let world = World::new(on, 10_000).await;
    let lab = world.buy(1_000).await;
    let ask = json!({ "token": lab.token.id });
    let early = world.post("/v1/refunds", ask.clone(), &world.member).await;
    assert_eq!((early.0, code(&early).as_str()), (409, "too_early"));
    // The token has expired; a revocation and a freeze touch no escrow.
    world.pass(2 * 3600).await;
    world.house.revoke(lab.token.id).await.unwrap();
    world.house.freeze(world.project, true).await.unwrap();
    assert_eq!(code(&world.post("/v1/refunds", ask.clone(), &world.member).await), "too_early");
    assert_eq!(world.house.sweep().await.unwrap().refunded, Amount::ZERO);
    // A week in which the house is closed does not count.
    world.sleep(7 * DAY);
    world.house.beat().await.unwrap();
    let left = lab.token.terms.settle_by.since(lab.token.issued_at) - 2 * 3600;
    world.pass(left - 120).await;
    assert_eq!(code(&world.post("/v1/refunds", ask.clone(), &world.member).await), "too_early");
    world.pass(240).await;
    let (status, reply) = world.post("/v1/refunds", ask, &world.member).await;
    assert_eq!((status, &reply["refunded"]), (200, &json!(1_000)), "{reply}");
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
}

async fn a_late_claim_is_kept_for_a_dispute(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    lab.charge(lab.root(), 0, PRICE);
    world.pass(lab.token.terms.settle_by.since(lab.token.issued_at)).await;
    assert_eq!(world.house.sweep().await.unwrap().refunded, ucr(1_000));
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!(
        (status, &reply["settled"], &reply["exceptions"][0]["code"]),
        (200, &json!(0), &json!("closed")),
        "{reply}"
    );
    // Signed anew it is the same claim; a larger one is kept for what is new in it.
    let (_, reply) = world.claim(&lab.claim(vec![])).await;
    assert_eq!(reply["exceptions"], json!([]));
    lab.charge(lab.root(), 0, 7);
    let (_, reply) = world.claim(&lab.claim(vec![])).await;
    assert_eq!(reply["exceptions"][0]["amount"], json!(7));
    assert_eq!(world.count("SELECT COUNT(*) FROM exception").await, 2);
    assert_eq!(world.count("SELECT COUNT(*) FROM claim").await, 2);
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
}

async fn a_final_that_goes_below_what_was_settled_is_refused(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(1_000).await;
    lab.charge(lab.root(), 0, PRICE);
    let early = lab.final_();
    lab.charge(lab.root(), 0, PRICE);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    assert_eq!(code(&world.finish(early).await), "claim_older");
    let forged = Lab { receipt_key: secret("thief"), ..lab };
    assert_eq!(code(&world.finish(forged.final_()).await), "wrong_key");
    assert_eq!(world.sums().await, [10_000, 20, 980, 9_000]);
}

async fn a_house_that_lost_its_books_still_pays_for_what_it_signed(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(100).await;
    for _ in 0..12 {
        lab.charge(lab.root(), 0, PRICE);
    }
    // Another house of the same keys, whose file is empty.
    let restored = World::new(on, 0).await;
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    let (status, reply) = restored.claim(&claim).await;
    assert_eq!((status, &reply["settled"]), (200, &json!(100)), "{reply}");
    assert_eq!(reply["exceptions"][0]["code"], json!("claim_clamped"));
    let sums = restored.house.audit().await.unwrap();
    assert!(sums.holds, "{:?}", sums.findings);
    assert_eq!((sums.totals.from_suspense, sums.totals.settled), (ucr(100), ucr(100)));
}

async fn who_is_not_registered_gets_nothing(on: On) {
    let world = World::new(on, 10_000).await;
    let stranger = secret("stranger");
    let refused = world.post("/v1/quotes", world.quote_request(), &stranger).await;
    assert_eq!((refused.0, code(&refused).as_str()), (401, "not_registered"));
    let quote = world.quote().await;
    let ask = world.reservation(&quote, 10);
    assert_eq!(code(&world.post("/v1/reservations", ask.clone(), &stranger).await), "not_registered");
    assert_eq!(code(&world.get(&format!("/v1/projects/{}", world.project), &stranger).await), "not_registered");
    // A member of another project.
    let other =
        crate::ProjectAdd { id: None, title: "Other".into(), purposes: vec![], members: vec![stranger.public()] };
    world.house.project_add(other).await.unwrap();
    assert_eq!(code(&world.post("/v1/reservations", ask, &stranger).await), "not_yours");
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
}

async fn a_call_is_signed_once_over_what_it_says(on: On) {
    let world = World::new(on, 10_000).await;
    let ask = world.reservation(&world.quote().await, 10);
    let twin = || world.request("POST", "/v1/reservations", &ask, &world.member);
    // The very same signed bytes twice.
    let (first, second) = {
        let (parts, _) = twin().into_parts();
        let body = serde_json::to_vec(&ask).unwrap();
        let copy = |parts: &http::request::Parts| {
            let mut request = http::Request::builder().method("POST").uri("/v1/reservations");
            for (name, value) in &parts.headers {
                request = request.header(name, value);
            }
            request.body(axum::body::Body::from(body.clone())).unwrap()
        };
        (copy(&parts), copy(&parts))
    };
    // One router: it remembers the nonces.
    let router = world.house.router();
    let status = |request: http::Request<axum::body::Body>| {
        let router = router.clone();
        async move { tower::ServiceExt::oneshot(router, request).await.unwrap().status().as_u16() }
    };
    assert_eq!(status(first).await, 200);
    assert_eq!(status(second).await, 409);
    // What was refused for its caller is not remembered: it is refused again, and costs the house nothing.
    let (parts, _) = world.request("POST", "/v1/reservations", &ask, &secret("stranger")).into_parts();
    for _ in 0..2 {
        let mut request = http::Request::builder().method("POST").uri("/v1/reservations");
        *request.headers_mut().unwrap() = parts.headers.clone();
        let body = axum::body::Body::from(serde_json::to_vec(&ask).unwrap());
        assert_eq!(status(request.body(body).unwrap()).await, 401);
    }
    // Another body under the same signature.
    let (parts, _) = twin().into_parts();
    let mut dearer = ask.clone();
    dearer["budget"] = json!(9_000);
    let altered = http::Request::from_parts(parts, axum::body::Body::from(serde_json::to_vec(&dearer).unwrap()));
    assert_eq!(code(&world.send(altered).await), "body_altered");
    let unsigned =
        http::Request::builder().method("POST").uri("/v1/quotes").body(axum::body::Body::from("{}")).unwrap();
    assert_eq!(code(&world.send(unsigned).await), "unsigned");
    let stale = twin();
    world.sleep(61 + 60);
    assert_eq!(code(&world.send(stale).await), "stale");
    assert_eq!(world.sums().await, [10_000, 0, 10, 9_990]);
}

async fn what_the_house_will_not_mint(on: On) {
    let world = World::new(on, 10_000).await;
    let quote = world.quote().await;
    let refused = async |change: &dyn Fn(&mut serde_json::Value)| {
        let mut ask = world.reservation(&quote, 10);
        change(&mut ask);
        code(&world.post("/v1/reservations", ask, &world.member).await)
    };
    assert_eq!(refused(&|ask| ask["valid_s"] = json!(24 * 3600 + 1)).await, "limit_exceeded");
    assert_eq!(refused(&|ask| ask["lanes_max"] = json!(9)).await, "limit_exceeded");
    assert_eq!(refused(&|ask| ask["depth"] = json!(5)).await, "limit_exceeded");
    assert_eq!(refused(&|ask| ask["valid_s"] = json!(1)).await, "invalid_request");
    assert_eq!(refused(&|ask| ask["surprise"] = json!(1)).await, "invalid_request");
    assert_eq!(refused(&|ask| ask["budget"] = json!(-1)).await, "invalid_request");
    assert_eq!(refused(&|ask| ask["quote"] = json!("AAAA")).await, "malformed");
    // Signed by somebody else, or by the house with a bit turned: refused each time, also beside one that is known.
    assert_eq!(refused(&|ask| ask["budget"] = json!(10_001)).await, "balance_too_low", "now it is known");
    let own = signed_bytes(&quote);
    let own = Signed::<Quote>::decode(&own).unwrap().verify(&secret("issuer").public()).unwrap();
    let forged = comity_wire::cose::sign(&*own, &secret("thief"));
    let mut bent = own.bytes().to_vec();
    *bent.last_mut().unwrap() ^= 1;
    for (bytes, why) in [(forged.bytes(), "wrong_key"), (&bent[..], "bad_signature")] {
        let bytes = comity_wire::api::clearing::SignedBytes::new(bytes).unwrap();
        for _ in 0..2 {
            assert_eq!(refused(&|ask| ask["quote"] = json!(bytes)).await, why);
        }
    }
    world.house.freeze(world.project, true).await.unwrap();
    assert_eq!(refused(&|_| ()).await, "frozen");
    world.house.freeze(world.project, false).await.unwrap();
    world.pass(3600).await;
    assert_eq!(refused(&|_| ()).await, "expired");
    // Nothing may run past the certificate's end (rule 1): 90 days from the day before the start.
    world.sleep(89 * DAY - 3600 - 3600 - 900 + 1);
    let fresh = world.quote().await;
    let ask = world.reservation(&fresh, 10);
    assert_eq!(code(&world.post("/v1/reservations", ask, &world.member).await), "limit_exceeded");
    assert_eq!(world.sums().await, [10_000, 0, 0, 10_000]);
}

async fn a_quote_pins_what_the_owner_published(on: On) {
    let world = World::new(on, 10_000).await;
    let old = world.quote().await;
    // The owner raises the price; what was quoted stands (rule 5).
    world.directory.insert(tariff(20).bytes()).unwrap();
    world.publish(2, tariff(20).id(), ModelState::Active);
    let scope = |token: &serde_json::Value| {
        Signed::<Token>::decode(&signed_bytes(token)).unwrap().unverified().terms.scope[0].tariff
    };
    let (_, reply) = world.post("/v1/reservations", world.reservation(&old, 10), &world.member).await;
    assert_eq!(scope(&reply["token"]), tariff(PRICE).id());
    let (_, reply) = world.post("/v1/reservations", world.reservation(&world.quote().await, 10), &world.member).await;
    assert_eq!(scope(&reply["token"]), tariff(20).id());

    let mut ask = world.quote_request();
    ask["models"][0]["ops"] = json!(["embeddings"]);
    assert_eq!(code(&world.post("/v1/quotes", ask, &world.member).await), "op_not_offered");
    let mut ask = world.quote_request();
    ask["models"][0]["model"] = json!("lab/other");
    assert_eq!(code(&world.post("/v1/quotes", ask, &world.member).await), "model_not_found");
    world.publish(3, tariff(20).id(), ModelState::Withdrawn);
    assert_eq!(code(&world.post("/v1/quotes", world.quote_request(), &world.member).await), "withdrawn");
}

async fn a_restart_keeps_everything(on: On) {
    let mut world = World::new(on, 10_000).await;
    let quote = world.quote().await;
    let ask = world.reservation(&quote, 1_000);
    let (_, first) = world.post("/v1/reservations", ask.clone(), &world.member).await;
    let mut lab = Lab::new(&first["token"]);
    for _ in 0..5 {
        lab.charge(lab.root(), 0, PRICE);
    }
    let claim = lab.claim(vec![lab.acknowledge(&secret("holder"))]);
    let reply = world.claim(&claim).await;
    lab.taken();
    let sums = world.sums().await;
    let root = world.house.audit().await.unwrap().ledger.root;

    world.restart().await;
    assert_eq!(world.sums().await, sums);
    assert_eq!(world.house.audit().await.unwrap().ledger.root, root);
    assert_eq!(world.house.standing().unwrap().number, 1);
    let (_, again) = world.post("/v1/reservations", ask, &world.member).await;
    assert_eq!(again["token"], first["token"]);
    assert_eq!(world.claim(&claim).await, reply);
    lab.charge(lab.root(), 0, PRICE);
    let (status, reply) = world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await;
    assert_eq!((status, &reply["settled"], &reply["settled_total"]), (200, &json!(10), &json!(60)), "{reply}");
}

/// The house stops after the escrow is durable and before the token is signed: the retry signs the same bytes.
async fn a_token_that_was_not_signed_before_a_crash_is_signed_after_it(on: On) {
    let mut world = World::new(on, 10_000).await;
    let ask = world.reservation(&world.quote().await, 1_000);
    let (_, first) = world.post("/v1/reservations", ask.clone(), &world.member).await;
    world.house.shutdown().await;
    let mut conn = world.books.connect().await;
    query("UPDATE token SET bytes = NULL, content = NULL").execute(&mut conn.db()).await.unwrap();
    drop(conn);
    world.restart().await;
    let (status, again) = world.post("/v1/reservations", ask, &world.member).await;
    assert_eq!((status, &again["token"]), (200, &first["token"]));
    assert_eq!(world.sums().await, [10_000, 0, 1_000, 9_000]);
}

async fn awards_are_given_once(on: On) {
    let world = World::new(on, 1_000).await;
    assert_eq!(world.house.award(world.award("A-1", 1_000)).await.unwrap(), ucr(1_000));
    assert!(world.house.award(world.award("A-1", 2_000)).await.is_err());
    // Other terms are another act: the award would seem to be restricted, and is not.
    let narrow = crate::AwardAsk { ops: vec![comity_wire::Op::Chat], ..world.award("A-1", 1_000) };
    assert!(world.house.award(narrow).await.unwrap_err().to_string().contains("in other words"));
    assert_eq!(world.house.award(world.award("A-2", 500)).await.unwrap(), ucr(1_500));
    assert_eq!(world.sums().await, [1_500, 0, 0, 1_500]);
}

#[tokio::test]
async fn books_that_cannot_be_written_refuse_and_change_nothing() {
    let world = World::new(On::Sqlite, 10_000).await;
    let ask = world.reservation(&world.quote().await, 10);
    let mut conn = world.books.connect().await;
    query("CREATE TRIGGER broken BEFORE INSERT ON token BEGIN SELECT RAISE(ABORT, 'disk'); END")
        .execute(&mut conn.db())
        .await
        .unwrap();
    let refused = world.post("/v1/reservations", ask.clone(), &world.member).await;
    assert_eq!((refused.0, code(&refused).as_str()), (503, "store_unavailable"));
    assert!(!refused.1["detail"].as_str().unwrap().contains("disk"), "the inside stays inside");
    query("DROP TRIGGER broken").execute(&mut conn.db()).await.unwrap();
    assert_eq!(world.post("/v1/reservations", ask, &world.member).await.0, 200);
    assert_eq!(world.sums().await, [10_000, 0, 10, 9_990]);
}

async fn the_audit_sees_what_was_tampered_with(on: On) {
    let world = World::new(on, 10_000).await;
    let mut lab = world.buy(100).await;
    lab.charge(lab.root(), 0, 40);
    assert_eq!(world.claim(&lab.claim(vec![lab.acknowledge(&secret("holder"))])).await.0, 200);
    let mut conn = world.books.connect().await;
    for (sql, undo, breaks) in [
        ("UPDATE token SET paid = 41", "UPDATE token SET paid = 40", &["LanesDiffer", "PaidDiffers"][..]),
        ("UPDATE lane SET total = 90, paid = 90", "", &["LanesDiffer", "LinesDiffer"]),
        ("UPDATE line SET amount = 39", "UPDATE line SET amount = 40", &["LinesDiffer", "TransferUnexplained"]),
        ("UPDATE draw SET amount = 99", "UPDATE draw SET amount = 100", &["LotDiffers", "DrawDiffers"]),
        ("UPDATE draw SET returned = 1", "UPDATE draw SET returned = 0", &["LotDiffers", "DrawDiffers"]),
        ("UPDATE award SET amount = 20", "UPDATE award SET amount = 10000", &["AwardDiffers"]),
        ("UPDATE lot SET amount = 20", "", &["AllocationOverspent", "ProjectDiffers", "LotDiffers", "AwardDiffers"]),
    ] {
        query(sql).execute(&mut conn.db()).await.unwrap();
        let report = world.house.audit().await.unwrap();
        assert!(!report.holds);
        let found: Vec<_> = report.findings.iter().map(|finding| format!("{:?}", finding.what)).collect();
        assert!(breaks.iter().all(|wanted| found.iter().any(|found| found == wanted)), "{sql}: {found:?}");
        if !undo.is_empty() {
            query(undo).execute(&mut conn.db()).await.unwrap();
        }
    }
}

async fn the_operators_socket_speaks_json(on: On) {
    let world = World::new(on, 0).await;
    let call = async |method: &str, uri: &str, body: serde_json::Value| {
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.body(axum::body::Body::from(serde_json::to_vec(&body).unwrap())).unwrap();
        let response = tower::ServiceExt::oneshot(world.house.admin_router(), request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, serde_json::from_slice::<serde_json::Value>(&bytes).unwrap())
    };
    let (_, made) = call("POST", "/admin/projects", json!({ "title": "New", "members": [secret("x").public()] })).await;
    let project = made["project"].clone();
    let (_, vetted) = call("POST", "/admin/vetting", json!({ "project": project, "vetting": "registered" })).await;
    assert_eq!(vetted["vetting"], json!("registered"));
    let award = json!({ "act": "award", "project": project, "amount": 70, "funder": "NSF", "award_number": "B",
        "ends_at": START.plus(DAY) });
    let (status, given) = call("POST", "/admin/acts", json!({ "act": award })).await;
    assert_eq!((status, &given["done"]), (200, &json!(true)), "{given}");
    let frozen = json!({ "award": given["award"], "frozen": true });
    assert_eq!(call("POST", "/admin/awards/freeze", frozen).await.1["frozen"], json!(true));
    assert_eq!(call("GET", "/admin/acts", json!(null)).await.1[0]["id"], given["id"]);
    assert_eq!(call("GET", "/admin/officers", json!(null)).await.1, json!([]));
    let unknown = call("DELETE", &format!("/admin/acts/{}", given["id"].as_str().unwrap()), json!(null)).await;
    assert_eq!(unknown.0, 404, "what was done cannot be dropped: {}", unknown.1);
    assert_eq!(call("POST", "/admin/freeze", json!({ "project": project, "frozen": true })).await.0, 200);
    assert_eq!(call("POST", "/admin/sweep", json!(null)).await.0, 200);
    assert_eq!(call("GET", "/admin/totals", json!(null)).await.1["overall"]["awarded"], json!(70));
    assert_eq!(call("GET", "/admin/audit", json!(null)).await.1["holds"], json!(true));
    assert_eq!(call("POST", "/admin/revoke", json!({})).await.0, 400);
    assert_eq!(call("GET", "/admin/nothing", json!(null)).await.0, 404);
}

on_each_store! {
    an_award_becomes_a_token_a_settlement_and_a_refund
    one_reservation_id_is_one_token
    twins_of_one_reservation_share_one_token
    nobody_reserves_more_than_is_available
    a_token_without_a_budget_has_no_escrow
    claims_that_go_back_are_refused
    a_proof_must_start_where_the_house_settled
    a_claim_stands_by_its_signatures_alone
    above_the_budget_a_claim_is_clamped_and_recorded
    a_block_is_paid_to_its_cap_and_no_further
    a_student_acknowledges_no_lane_of_the_pi
    escrow_comes_home_on_the_final_or_at_settle_by_and_never_before
    a_late_claim_is_kept_for_a_dispute
    a_final_that_goes_below_what_was_settled_is_refused
    a_house_that_lost_its_books_still_pays_for_what_it_signed
    who_is_not_registered_gets_nothing
    a_call_is_signed_once_over_what_it_says
    what_the_house_will_not_mint
    a_quote_pins_what_the_owner_published
    a_restart_keeps_everything
    a_token_that_was_not_signed_before_a_crash_is_signed_after_it
    awards_are_given_once
    the_audit_sees_what_was_tampered_with
    the_operators_socket_speaks_json
}

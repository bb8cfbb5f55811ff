//! What a vector says, worked out by this implementation: the details of what stands, or the code of what does not.

use std::collections::BTreeMap;

use comity_token::directory::File;
use comity_token::{Ask, Authority, Decision, Denied, Directory, Trust, policy};
use comity_wire::api::clearing;
use comity_wire::cbor::{Decode, Limits, List, Text, scan};
use comity_wire::object::*;
use comity_wire::{
    Amount, Digest, Encode, Exact, Meter, Meters, Object, Op, PublicKey, SecretKey, Signed, Timestamp, Unverified, log,
    merkle,
};
use serde_json::{Value, json};

use super::hex;

/// States by name, as a vector file's `states` has them.
pub(crate) type States = BTreeMap<String, File>;

pub(crate) type Outcome = Result<Value, String>;

/// Reads the `states` of a vector file.
pub(crate) fn states(file: &Value) -> States {
    let read = |(name, state): (&String, &Value)| {
        let directory = File::new(&bytes(state, "roster")).expect("a state's roster stands");
        for object in state["objects"].as_array().expect("objects") {
            directory.insert(&hex::decode(object.as_str().expect("hex"))).expect("a state's object stands");
        }
        (name.clone(), directory)
    };
    file["states"].as_object().into_iter().flatten().map(read).collect()
}

/// Works a vector out.
pub(crate) fn evaluate(vector: &Value, states: &States) -> Outcome {
    match text(vector, "kind") {
        "cbor" => cbor(vector),
        "key" => key(vector),
        "ed25519" => ed25519(vector),
        "object" => object(vector),
        "chain" => chain(vector, states),
        "scope" => scope(vector, states),
        "request" => request(vector),
        "call" => call(vector),
        "authority" => Ok(json!({ "id": authority(vector).id() })),
        "salted" => salted(vector),
        "receipt" => receipt(vector, states),
        "acknowledgement" => acknowledgement(vector, states),
        "exact" => exact(vector),
        "worst_case" => worst_case(vector),
        "affordable" => affordable(vector),
        "rounding" => rounding(vector),
        "root" => Ok(json!({ "root": merkle::root(&digests(vector, "leaves")) })),
        "lane_proof" => lane_proof(vector),
        "lane_proof_check" => lane_proof_check(vector),
        "acts" => acts(vector),
        "policy" => decision(vector),
        "roster" => roster(vector),
        "log_entry" => log_entry(vector),
        "log_note" => log_note(vector),
        "log_path" => log_path(vector),
        "log_inclusion" => log_inclusion(vector),
        "log_consistency" => log_consistency(vector),
        other => panic!("vector kind '{other}' is not known"),
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("'{name}' is a text in {}", value["id"]))
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("'{name}' is a number in {}", value["id"]))
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(value, name))
}

fn array<const N: usize>(value: &Value, name: &str) -> [u8; N] {
    bytes(value, name).try_into().unwrap_or_else(|_| panic!("'{name}' has {N} bytes"))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value, name: &str) -> T {
    text(value, name).parse().expect("a text form")
}

fn digests(value: &Value, name: &str) -> Vec<Digest> {
    value[name]
        .as_array()
        .expect("digests")
        .iter()
        .map(|item| item.as_str().expect("text").parse().expect("digest"))
        .collect()
}

fn amount(value: &Value, name: &str) -> Amount {
    Amount::new(value[name].as_i64().expect("an amount")).expect("not negative")
}

fn cbor(vector: &Value) -> Outcome {
    let limits = Limits {
        bytes_max: vector["bytes_max"].as_u64().unwrap_or(8192) as usize,
        items_max: vector["items_max"].as_u64().unwrap_or(1024) as usize,
        tagged: false,
    };
    scan(&bytes(vector, "hex"), limits).map(|()| json!({})).map_err(|malformed| malformed.code().to_string())
}

fn key(vector: &Value) -> Outcome {
    let seed = vector["seed"].as_str().map(|seed| hex::decode(seed).try_into().expect("32 bytes"));
    let key = PublicKey::from_bytes(&array(vector, "hex")).map_err(|_| "invalid_key".to_owned())?;
    if let Some(seed) = seed {
        assert_eq!(SecretKey::from_seed(seed).public(), key, "the seed's key");
    }
    Ok(json!({ "did": key }))
}

fn ed25519(vector: &Value) -> Outcome {
    let key = PublicKey::from_bytes(&array(vector, "key")).map_err(|_| "invalid_key".to_owned())?;
    key.verify(&bytes(vector, "message"), &array(vector, "signature")).map_err(|_| "bad_signature".to_owned())?;
    Ok(json!({}))
}

fn object(vector: &Value) -> Outcome {
    let (bytes, kind) = (bytes(vector, "hex"), text(vector, "object"));
    macro_rules! by_kind {
        ($($object:ty),*) => {
            match kind {
                $(name if name == <$object as Object>::KIND.name => signed::<$object>(&bytes, vector),)*
                other => panic!("object '{other}' is not known"),
            }
        };
    }
    match kind {
        "index" => plain::<Index>(&bytes),
        "plan" => {
            let bytes = bytes.as_slice();
            Plan::from_bytes(bytes)
                .map(|plan| json!({ "id": plan.digest(), "view": plan }))
                .map_err(|malformed| malformed.code().to_string())
        }
        "terms-of-use" => {
            let bytes = bytes.as_slice();
            TermsOfUse::from_bytes(bytes)
                .map(|terms| json!({ "id": terms.digest(), "view": terms }))
                .map_err(|malformed| malformed.code().to_string())
        }
        "release" => plain_of::<Release>(&bytes, Limits { bytes_max: 1024, items_max: 32, tagged: false }),
        "chain" => Chain::from_bytes(&bytes)
            .map(|chain| json!({ "parts": 1 + chain.blocks.len() }))
            .map_err(|malformed| malformed.code().to_string()),
        _ => by_kind!(
            NodeCertificate,
            WriterCertificate,
            Announcement,
            Head,
            Summary,
            Manifest,
            Tariff,
            Policy,
            Grant,
            Quote,
            Token,
            Block,
            Mandate,
            Receipt,
            Acknowledgement,
            Final,
            Claim,
            Count,
            DecisionHead,
            Export,
            Agreement,
            CreditNote,
            RevocationList,
            Notice,
            Statistics
        ),
    }
}

fn signed<T: Object + serde::Serialize>(bytes: &[u8], vector: &Value) -> Outcome {
    let code = |unverified: Unverified| unverified.code().to_string();
    let verified = Signed::<T>::decode(bytes).map_err(code)?.verify(&parsed(vector, "key")).map_err(code)?;
    assert_eq!(verified.to_cbor_payload(), verified.object().to_cbor());
    Ok(json!({ "id": verified.id(), "view": verified.object() }))
}

/// The payload as it stands in the bytes, to compare with what is written again.
trait Payload {
    fn to_cbor_payload(&self) -> Vec<u8>;
}

impl<T: Object> Payload for comity_wire::Verified<T> {
    fn to_cbor_payload(&self) -> Vec<u8> {
        let mut reader = comity_wire::cbor::Reader::new(self.bytes());
        reader.tag().expect("a tag");
        reader.array().expect("an array");
        reader.bytes().expect("the protected header");
        reader.map().expect("the unprotected header");
        reader.bytes().expect("the payload").to_vec()
    }
}

fn plain<T: Object + serde::Serialize>(bytes: &[u8]) -> Outcome {
    plain_of::<T>(bytes, Limits { bytes_max: T::KIND.bytes_max, items_max: T::KIND.items_max, tagged: false })
}

fn plain_of<T: Decode + Encode + serde::Serialize>(bytes: &[u8], limits: Limits) -> Outcome {
    let object = T::from_cbor(bytes, limits).map_err(|malformed| malformed.code().to_string())?;
    assert_eq!(object.to_cbor(), bytes);
    Ok(json!({ "id": Digest::of(bytes), "view": object }))
}

fn judged(vector: &Value, states: &States) -> Result<comity_token::Capability, String> {
    let directory = states.get(text(vector, "state")).expect("the state is in the file");
    let trust = Trust { directory, node: parsed(vector, "node"), now: Timestamp(number(vector, "now")) };
    comity_token::verify(&bytes(vector, "hex"), &trust).map_err(code)
}

fn code(denied: Denied) -> String {
    denied.code().to_string()
}

fn chain(vector: &Value, states: &States) -> Outcome {
    let capability = judged(vector, states)?;
    let path: Vec<Value> = capability.path().iter().map(|at| json!({ "id": at.id, "cap": at.cap })).collect();
    Ok(json!({
        "token": capability.token().id,
        "leaf": capability.leaf(),
        "holder": capability.holder(),
        "path": path,
        "expires_at": capability.expires_at(),
        "lanes": capability.lanes(),
        "standing": capability.standing(),
    }))
}

fn scope(vector: &Value, states: &States) -> Outcome {
    let capability = judged(vector, states)?;
    let scope = capability.allows(&parsed(vector, "model"), parsed(vector, "op")).map_err(code)?;
    Ok(json!({ "release": scope.release, "tariff": scope.tariff }))
}

fn headers(vector: &Value) -> http::HeaderMap {
    let mut map = http::HeaderMap::new();
    for pair in vector["headers"].as_array().expect("headers") {
        let name: http::HeaderName = pair[0].as_str().expect("a name").parse().expect("a header name");
        map.append(name, pair[1].as_str().expect("a value").parse().expect("a header value"));
    }
    map
}

fn request(vector: &Value) -> Outcome {
    let (method, path, query) = (text(vector, "method"), text(vector, "path"), text(vector, "query"));
    let request =
        comity_token::parse_request(method, path, query, &headers(vector), &bytes(vector, "body")).map_err(code)?;
    let verified = request.verify(&parsed(vector, "holder"), Timestamp(number(vector, "now"))).map_err(code)?;
    let authority = verified.authority();
    Ok(json!({
        "authority": authority.id(),
        "leaf": authority.leaf,
        "lane": authority.lane,
        "seq": authority.seq,
        "tariff": authority.tariff,
        "max": authority.max_charge,
        "nonce": hex::encode(authority.nonce),
        "created": verified.created(),
        "base": verified.signature_base(),
    }))
}

fn call(vector: &Value) -> Outcome {
    let (method, path, query) = (text(vector, "method"), text(vector, "path"), text(vector, "query"));
    let now = Timestamp(number(vector, "now"));
    let caller =
        comity_token::verify_api(method, path, query, &headers(vector), &bytes(vector, "body"), now).map_err(code)?;
    Ok(json!({ "key": caller.key, "nonce": hex::encode(caller.nonce), "created": caller.created }))
}

fn authority(vector: &Value) -> Authority {
    Authority {
        leaf: parsed(vector, "leaf"),
        lane: number(vector, "lane").try_into().expect("a lane"),
        seq: number(vector, "seq"),
        method: text(vector, "method").to_owned(),
        path: text(vector, "path").to_owned(),
        query: text(vector, "query").to_owned(),
        content_digest: parsed(vector, "content_digest"),
        tariff: parsed(vector, "tariff"),
        max_charge: amount(vector, "max"),
        nonce: array(vector, "nonce"),
    }
}

fn salted(vector: &Value) -> Outcome {
    let (nonce, bytes) = (array(vector, "nonce"), bytes(vector, "hex"));
    Ok(json!({
        "request": comity_token::request_digest(&nonce, &bytes),
        "response": comity_token::response_digest(&nonce, &bytes),
    }))
}

fn receipt(vector: &Value, states: &States) -> Outcome {
    let directory = states.get(text(vector, "state")).expect("the state is in the file");
    let certificate = directory.certificate(parsed(vector, "node")).expect("the node is certified");
    let receipt = comity_token::verify_receipt(&bytes(vector, "hex"), &certificate).map_err(code)?;
    let exact = receipt.exact_total().expect("validated");
    Ok(json!({ "id": receipt.id(), "n": receipt.n, "total": receipt.total, "exact": exact.0.to_string() }))
}

fn acknowledgement(vector: &Value, states: &States) -> Outcome {
    let directory = states.get(text(vector, "state")).expect("the state is in the file");
    let chain = bytes(vector, "chain");
    let chain = comity_token::verify_for_settlement(&chain, directory, parsed(vector, "node")).map_err(code)?;
    let verified = comity_token::verify_acknowledgement(&bytes(vector, "hex"), &chain).map_err(code)?;
    Ok(json!({ "id": verified.id(), "signer": verified.signer() }))
}

fn tariff(vector: &Value) -> Tariff {
    let signed = Signed::<Tariff>::decode(&bytes(vector, "tariff")).expect("a tariff");
    signed.unverified().clone()
}

fn meters(vector: &Value) -> Meters {
    serde_json::from_value(vector["meters"].clone()).expect("meters")
}

fn exact(vector: &Value) -> Outcome {
    let exact = tariff(vector).exact(parsed(vector, "op"), &meters(vector)).map_err(unpriced)?;
    Ok(json!({ "exact": exact.0.to_string(), "ceil": exact.ceil() }))
}

fn unpriced(unpriced: Unpriced) -> String {
    match unpriced {
        Unpriced::Op(_) => "no_price".to_owned(),
        Unpriced::Overflow => "overflow".to_owned(),
    }
}

fn demand(vector: &Value) -> Demand {
    Demand {
        op: parsed(vector, "op"),
        input_bytes: number(vector, "input_bytes"),
        choices: number(vector, "choices"),
        output_tokens: number(vector, "output_tokens"),
    }
}

fn worst_case(vector: &Value) -> Outcome {
    let (tariff, demand) = (tariff(vector), demand(vector));
    let amount = tariff.worst_case(&demand).map_err(unpriced)?;
    let least = tariff.least_charge(demand.op).map_err(unpriced)?;
    Ok(json!({ "amount": amount, "least": least, "meters": tariff.worst_meters(&demand) }))
}

fn affordable(vector: &Value) -> Outcome {
    let tokens = tariff(vector).affordable_output(&demand(vector), amount(vector, "max"));
    tokens.map(|tokens| json!({ "output_tokens": tokens })).ok_or_else(|| "too_dear".to_owned())
}

/// A lane's charges one after another: total, charge and remainder of each.
fn rounding(vector: &Value) -> Outcome {
    let (mut sum, mut before) = (Exact::ZERO, Amount::ZERO);
    let mut lines = Vec::new();
    for exact in vector["exact"].as_array().expect("exact charges") {
        let exact = Exact(exact.as_str().expect("a text").parse().expect("a number"));
        sum = sum.checked_add(exact).ok_or("overflow")?;
        let total = sum.ceil().ok_or("overflow")?;
        let charge = total.checked_sub(before).expect("totals do not fall");
        assert!(charge <= exact.ceil().expect("below the total"), "rule 5: a charge is at most its own ceiling");
        let remainder = Exact::from_amount(total).checked_sub(sum).expect("a ceiling").0;
        lines.push(json!([total, charge, u64::try_from(remainder).expect("below 10^6")]));
        before = total;
    }
    Ok(json!({ "lines": lines }))
}

fn lane_proof(vector: &Value) -> Outcome {
    let (leaves, settled) = (digests(vector, "leaves"), number(vector, "settled"));
    let (n, at) = (leaves.len() as u64 + 1, settled as usize - 1);
    let proof = clearing::lane_proof(&leaves, n, settled);
    let (before, history) = (merkle::root(&leaves[..at]), merkle::root(&leaves));
    assert!(clearing::lane_continues((settled, &leaves[at]), &before, (n, &history), &proof));
    Ok(json!({ "proof": proof, "before": before, "history": history }))
}

fn acts(vector: &Value) -> Outcome {
    let (mut before, mut links) = (Digest::ZERO, Vec::new());
    for (n, text) in (1_u64..).zip(vector["acts"].as_array().expect("acts")) {
        let text = text.as_str().expect("a text");
        let act: Value = serde_json::from_str(text).map_err(|_| "broken_history".to_owned())?;
        if number(&act, "n") != n || parsed::<Digest>(&act, "before") != before {
            return Err("broken_history".to_owned());
        }
        before = Digest::of_parts(&[b"comity/v1/operator-act\0", text.as_bytes()]);
        links.push(before);
    }
    let leaves: Vec<Digest> = links.iter().map(merkle::leaf).collect();
    Ok(json!({ "links": links, "leaves": leaves }))
}

fn lane_proof_check(vector: &Value) -> Outcome {
    let settled = (number(vector, "settled"), &parsed(vector, "receipt"));
    let newest = (number(vector, "n"), &parsed(vector, "history"));
    let holds = clearing::lane_continues(settled, &parsed(vector, "before"), newest, &digests(vector, "proof"));
    if holds { Ok(json!({})) } else { Err("broken_history".to_owned()) }
}

fn decision(vector: &Value) -> Outcome {
    let decode = |hex: &Value| {
        let signed = Signed::<Grant>::decode(&hex::decode(hex.as_str().expect("hex"))).expect("a grant");
        signed.unverified().clone()
    };
    let held: Vec<Grant> = vector["grants"].as_array().expect("grants").iter().map(decode).collect();
    let grants: Vec<&Grant> = held.iter().collect();
    let purposes: List<Text<48>, 16> = serde_json::from_value(vector["purposes"].clone()).expect("purposes");
    let model = parsed(vector, "model");
    let read = |hex: &Value| Plan::from_bytes(&hex::decode(hex.as_str().expect("hex"))).expect("a plan");
    let known: Vec<Plan> = vector["plans"].as_array().into_iter().flatten().map(read).collect();
    let plans: Vec<(Digest, &Plan)> = known.iter().map(|plan| (plan.digest(), plan)).collect();
    let read = |hex: &Value| hex.as_str().expect("hex").parse().expect("a digest");
    let agreed: Vec<Digest> = vector["agreed"].as_array().into_iter().flatten().map(read).collect();
    let run: Option<Run> = vector["run"].as_str().map(|run| run.parse().expect("a run"));
    let ask = Ask {
        model: &model,
        op: parsed::<Op>(vector, "op"),
        vetting: parsed(vector, "vetting"),
        purposes: &purposes,
        grants: &grants,
        plans: &plans,
        run: run.as_ref(),
        agreed: &agreed,
        delegated: vector["delegated"].as_bool().expect("delegated"),
        now: Timestamp(number(vector, "now")),
    };
    let signed = Signed::<Policy>::decode(&bytes(vector, "hex")).expect("a policy");
    match policy::decide(signed.unverified(), &ask) {
        Decision::Allow(allowed) => {
            let mut said = json!({ "tier": allowed.tier, "output_tokens_max": allowed.rule.output_tokens_max });
            if let Some(approved) = &allowed.approved {
                said["plan"] = json!(approved.plan);
                said["executions"] = json!(approved.executions);
                said["logprobs_max"] = json!(allowed.rule.logprobs_max);
            }
            Ok(said)
        }
        Decision::Refuse(missing) => Err(missing.code.to_string()),
    }
}

/// A roster by itself, or as the next one of `have`.
fn roster(vector: &Value) -> Outcome {
    let bytes = bytes(vector, "hex");
    let file = match vector["have"].as_str() {
        None => File::new(&bytes).map_err(|refused| refused.code().to_string())?,
        Some(have) => {
            let file = File::new(&hex::decode(have)).expect("the roster at hand stands");
            file.replace_roster(&bytes).map_err(|refused| refused.code().to_string())?;
            file
        }
    };
    Ok(json!({ "id": file.roster_digest(), "version": file.roster().version }))
}

/// Meters by name, so that the reader of a vector needs no numbers.
fn log_entry(vector: &Value) -> Outcome {
    let bytes = bytes(vector, "hex");
    let entry = log::Entry::from_bytes(&bytes).map_err(|malformed| malformed.code().to_string())?;
    assert_eq!(entry.to_cbor(), bytes, "an entry has one form");
    Ok(json!({ "view": entry, "leaf": merkle::leaf_of(&bytes) }))
}

fn log_note(vector: &Value) -> Outcome {
    let code = |error: log::NoteError| error.code().to_string();
    let note = log::Note::parse(&bytes(vector, "hex")).map_err(code)?;
    let key: log::VerifierKey = text(vector, "vkey").parse().map_err(code)?;
    if key.use_() == log::KeyUse::Cosigner {
        let checkpoint = log::Checkpoint::parse(note.text()).map_err(code)?;
        let at = note.cosigned(&key).map_err(code)?;
        let log::Checkpoint { origin, size, root } = checkpoint;
        return Ok(json!({ "origin": origin, "size": size, "root": root, "cosigned_at": at }));
    }
    let log::Checkpoint { origin, size, root } = note.verify(&key).map_err(code)?;
    Ok(json!({ "origin": origin, "size": size, "root": root }))
}

fn log_path(vector: &Value) -> Outcome {
    let found = log::Resource::from_path(text(vector, "path")).ok_or_else(|| "malformed".to_owned())?;
    let (level, index) = match found {
        log::Resource::Tile(tile, _) => (Some(tile.level), tile.index),
        log::Resource::Entries(index, _) => (None, index),
    };
    Ok(json!({ "level": level, "index": index, "width": found.width() }))
}

fn log_inclusion(vector: &Value) -> Outcome {
    let (leaf, root): (Digest, Digest) = (parsed(vector, "leaf"), parsed(vector, "root"));
    let proof = digests(vector, "proof");
    let holds = log::includes(leaf, number(vector, "index"), number(vector, "size"), &root, &proof);
    if holds { Ok(json!({})) } else { Err("broken_history".to_owned()) }
}

fn log_consistency(vector: &Value) -> Outcome {
    let (before, root): (Digest, Digest) = (parsed(vector, "before"), parsed(vector, "root"));
    let proof = digests(vector, "proof");
    let holds = log::goes_on(number(vector, "from"), &before, number(vector, "to"), &root, &proof);
    if holds { Ok(json!({})) } else { Err("broken_history".to_owned()) }
}

pub(crate) fn meters_json(pairs: &[(Meter, u64)]) -> Value {
    let mut meters = Meters::default();
    for (meter, units) in pairs {
        meters.set(*meter, *units);
    }
    json!(meters)
}

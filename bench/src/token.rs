//! `token_*` and `manifest_*`: what a node does before it believes anything.

use std::hint::black_box;
use std::time::{Duration, Instant};

use biscuit_auth::builder::{Algorithm, AuthorizerBuilder, BlockBuilder};
use biscuit_auth::datalog::RunLimits;
use biscuit_auth::{Biscuit, KeyPair};
use comity_token::{Trust, verify};
use comity_wire::object::Manifest;
use comity_wire::{PublicKey, Signed};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::figure::{Figure, median};
use crate::{chains, world};

const ROUNDS: usize = 9;
const EACH: usize = 400;
const BLOCKS: usize = 3;
const BISCUIT: &str = "biscuit-auth 6, authority and three blocks, parse, authorise";

/// µs of one call, as the mean of a batch.
fn batch(mut work: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..EACH {
        work();
    }
    started.elapsed().as_secs_f64() * 1e6 / EACH as f64
}

/// Bare signatures over messages of these lengths, each under a key of its own that is ready to verify.
struct Bare(Vec<(ed25519_dalek::VerifyingKey, Vec<u8>, ed25519_dalek::Signature)>);

impl Bare {
    fn new(lengths: &[usize]) -> Self {
        let sign = |(number, length): (usize, &usize)| {
            let key = SigningKey::from_bytes(&[u8::try_from(number).expect("a few keys") + 1; 32]);
            let message = vec![0x5a; *length];
            let signature = key.sign(&message);
            (key.verifying_key(), message, signature)
        };
        Self(lengths.iter().enumerate().map(sign).collect())
    }

    fn verify(&self) {
        for (key, message, signature) in &self.0 {
            key.verify_strict(black_box(message), signature).expect("it stands");
        }
    }
}

pub(crate) fn measure() -> Vec<Figure> {
    let directory = world::base().directory();
    let trust = Trust { directory: &directory, node: world::LAB_NODE, now: world::NOW };
    let chain = chains::usual(BLOCKS);
    let capability = verify(&chain, &trust).expect("the chain stands");
    assert_eq!(capability.blocks().len(), BLOCKS);
    let lengths: Vec<usize> = std::iter::once(capability.token().bytes().len())
        .chain(capability.blocks().iter().map(|block| block.bytes().len()))
        .collect();
    let bare = Bare::new(&lengths);
    let biscuit = Like::new();
    let (manifest, writer) = manifest();
    let bare_manifest = Bare::new(&[manifest.len()]);

    let mut times: [Vec<f64>; 5] = Default::default();
    for round in 1..=ROUNDS {
        let row = [
            batch(|| drop(black_box(verify(black_box(&chain), &trust).expect("the chain stands")))),
            batch(|| bare.verify()),
            batch(|| biscuit.authorise()),
            batch(|| {
                let signed = Signed::<Manifest>::decode(black_box(&manifest)).expect("a manifest");
                black_box(signed.verify(&writer).expect("it stands"));
            }),
            batch(|| bare_manifest.verify()),
        ];
        eprintln!("round {round} of {ROUNDS}: {row:.1?} µs");
        for (all, time) in times.iter_mut().zip(row) {
            all.push(time);
        }
    }
    let [ours, four, theirs, whole, one] = times.map(|mut all| median(&mut all));
    let n = ROUNDS * EACH;
    let figure = |metric, value, yardstick: &str, yardstick_value, note: String| Figure {
        metric,
        value: Some(value),
        unit: "us",
        yardstick: Some((yardstick.to_owned(), yardstick_value)),
        n,
        note,
    };
    let sizes = format!("{} bytes, decode included; messages of {lengths:?} bytes", chain.len());
    vec![
        figure("token_verify_3_blocks", ours, "4 × ed25519-dalek 3 verify_strict", four, sizes),
        figure("token_verify_vs_biscuit", ours, BISCUIT, theirs, format!("theirs is {} bytes", biscuit.bytes.len())),
        figure("manifest_verify", whole, "ed25519-dalek 3 verify_strict", one, format!("{} bytes", manifest.len())),
    ]
}

/// A biscuit that says what the chain says: who may ask what of which model, up to which cap, until when.
struct Like {
    bytes: Vec<u8>,
    root: biscuit_auth::PublicKey,
    /// Its text is parsed once: a node would not parse it for each request.
    question: AuthorizerBuilder,
}

impl Like {
    fn new() -> Self {
        let root = KeyPair::new_with_algorithm(Algorithm::Ed25519);
        let authority = "
            issuer(\"org-house\"); subject(\"sub-project\"); audience(\"node-lab\");
            model(\"lab/tiny\"); model(\"lab/wide\"); op(\"chat\"); op(\"completions\"); budget(10000000);
            check if time($t), $t < 2030-01-01T00:00:00Z;
        ";
        let mut biscuit = Biscuit::builder().code(authority).expect("facts").build(&root).expect("a biscuit");
        for cap in [4_000_000, 1_000_000, 200_000] {
            let narrower = format!(
                "check if cost($c), $c <= {cap}; check if asked(\"lab/tiny\", \"chat\"); \
                 check if time($t), $t < 2029-01-01T00:00:00Z;"
            );
            biscuit = biscuit.append(BlockBuilder::new().code(narrower).expect("checks")).expect("a block");
        }
        let question = "
            time(2026-11-23T08:00:00Z); asked(\"lab/tiny\", \"chat\"); cost(1000);
            allow if audience(\"node-lab\"), model(\"lab/tiny\"), op(\"chat\");
        ";
        // Its own limit of 1 ms would end the measurement on a busy machine.
        let limits = RunLimits { max_time: Duration::from_secs(10), ..RunLimits::default() };
        let question = AuthorizerBuilder::new().set_limits(limits).code(question).expect("a policy");
        let like = Self { bytes: biscuit.to_vec().expect("bytes"), root: root.public(), question };
        like.authorise();
        like
    }

    fn authorise(&self) {
        let biscuit = Biscuit::from(black_box(&self.bytes), self.root).expect("it stands");
        let mut authorizer = self.question.clone().build(&biscuit).expect("it loads");
        authorizer.authorize().expect("it allows");
    }
}

/// The full manifest of `spec/vectors/objects.json`, and who signed it.
fn manifest() -> (Vec<u8>, PublicKey) {
    let text = include_str!("../../spec/vectors/objects.json");
    let file: serde_json::Value = serde_json::from_str(text).expect("vectors are JSON");
    let vectors = file["vectors"].as_array().expect("a list of vectors");
    let vector = vectors.iter().find(|vector| vector["id"] == "manifest").expect("a manifest among them");
    let hex = vector["hex"].as_str().expect("its bytes");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    let bytes = (0..hex.len()).step_by(2).map(byte).collect();
    (bytes, world::secret("lab writer").public())
}

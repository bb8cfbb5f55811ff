//! What the protocol makes of bytes, for whoever checks by themselves: pure, offline, beside any wallet. JSON comes out.

use comity_sdk::token::directory::{Directory as _, File};
use comity_sdk::token::{self, Denied, Trust};
use comity_wire::cbor::{Limits, scan};
use comity_wire::object::*;
use comity_wire::{Digest, Malformed, Meters, Object, Op, PublicKey, Signed, Timestamp, Unverified, log, merkle};
use pyo3::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::Raised;

type Proved = Result<Value, Raised>;

fn malformed(error: Malformed) -> Raised {
    Raised::said(error.code().as_str(), &error)
}

fn unverified(error: Unverified) -> Raised {
    Raised::said(error.code().as_str(), &error)
}

fn denied(error: Denied) -> Raised {
    Raised::said(error.code().as_str(), &error)
}

/// A text form of an id, a key, an op.
fn parsed<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Raised> {
    text.parse().map_err(|_| Raised::said("malformed", format!("{text:?} is no {what}")))
}

fn digests(texts: &[String]) -> Result<Vec<Digest>, Raised> {
    texts.iter().map(|text| parsed("digest", text)).collect()
}

fn out(py: Python<'_>, proved: Proved) -> PyResult<String> {
    proved.map(|value| value.to_string()).map_err(|raised| raised.raise(py))
}

/// Whether bytes are CBOR in its one form; raises the code of what they are instead.
#[pyfunction]
fn canonical(py: Python<'_>, data: &[u8], bytes_max: usize, items_max: usize) -> PyResult<()> {
    scan(data, Limits { bytes_max, items_max, tagged: false }).map_err(|error| malformed(error).raise(py))
}

#[pyfunction]
fn content_id(data: &[u8]) -> String {
    Digest::of(data).to_string()
}

fn public(data: &[u8]) -> Result<PublicKey, Raised> {
    let bytes = data.try_into().map_err(|_| Raised::said("invalid_key", "a public key has 32 bytes"))?;
    PublicKey::from_bytes(bytes).map_err(|error| Raised::said("invalid_key", error))
}

/// The name of a public key, `did:key:…`.
#[pyfunction]
fn key_name(py: Python<'_>, data: &[u8]) -> PyResult<String> {
    public(data).map(|key| key.to_string()).map_err(|raised| raised.raise(py))
}

#[pyfunction]
fn verify(py: Python<'_>, key: &[u8], message: &[u8], signature: &[u8]) -> PyResult<()> {
    let verified = || {
        let bad = || Raised::said("bad_signature", "the signature does not verify");
        public(key)?.verify(message, signature.try_into().map_err(|_| bad())?).map_err(|_| bad())
    };
    verified().map_err(|raised: Raised| raised.raise(py))
}

/// An object of a kind: its id and what it says. A signed one is verified with the key that must have signed it.
#[pyfunction]
fn read(py: Python<'_>, kind: &str, data: &[u8], key: Option<&str>) -> PyResult<String> {
    out(py, object(kind, data, key))
}

fn object(kind: &str, data: &[u8], key: Option<&str>) -> Proved {
    macro_rules! by_kind {
        ($($object:ty),*) => {
            match kind {
                $(name if name == <$object as Object>::KIND.name => signed::<$object>(data, key),)*
                other => Err(Raised::said("invalid_request", format!("no object is called {other:?}"))),
            }
        };
    }
    match kind {
        "index" => plain::<Index>(
            data,
            Limits { bytes_max: Index::KIND.bytes_max, items_max: Index::KIND.items_max, tagged: false },
        ),
        "release" => plain::<Release>(data, Limits { bytes_max: 1024, items_max: 32, tagged: false }),
        "plan" => Plan::from_bytes(data).map(|plan| json!({"id": plan.digest(), "view": plan})).map_err(malformed),
        "terms-of-use" => {
            TermsOfUse::from_bytes(data).map(|terms| json!({"id": terms.digest(), "view": terms})).map_err(malformed)
        }
        "chain" => Chain::from_bytes(data).map(|chain| json!({"parts": 1 + chain.blocks.len()})).map_err(malformed),
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

fn signed<T: Object + Serialize>(data: &[u8], key: Option<&str>) -> Proved {
    let key = key.ok_or_else(|| Raised::said("invalid_request", "a signed object is read with its signer's key"))?;
    let signed = Signed::<T>::decode(data).map_err(unverified)?;
    let verified = signed.verify(&parsed("key", key)?).map_err(unverified)?;
    Ok(json!({"id": verified.id(), "view": verified.object()}))
}

fn plain<T: comity_wire::cbor::Decode + Serialize>(data: &[u8], limits: Limits) -> Proved {
    let object = T::from_cbor(data, limits).map_err(malformed)?;
    Ok(json!({"id": Digest::of(data), "view": object}))
}

/// What a receipt names of a request's and of an answer's bytes.
#[pyfunction]
fn salted(py: Python<'_>, nonce: &[u8], data: &[u8]) -> PyResult<(String, String)> {
    let nonce = nonce.try_into().map_err(|_| Raised::input("a nonce has 16 bytes").raise(py))?;
    Ok((token::request_digest(&nonce, data).to_string(), token::response_digest(&nonce, data).to_string()))
}

/// What is asked of a tariff: `{"op", "meters"}`, or `{"op", "input_bytes", "choices", "output_tokens"}` with `max` where the answer
/// is how many tokens that buys.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    op: Op,
    meters: Option<Meters>,
    #[serde(default)]
    input_bytes: u64,
    #[serde(default)]
    choices: u64,
    #[serde(default)]
    output_tokens: u64,
    max: Option<comity_wire::Amount>,
}

#[pyfunction]
fn price(py: Python<'_>, tariff: &[u8], asked: &str) -> PyResult<String> {
    out(py, priced(tariff, asked))
}

/// The tariff's own signature is its reader's matter ([`read`]): a price that somebody thinks of has none.
fn priced(tariff: &[u8], asked: &str) -> Proved {
    let unpriced = |error: Unpriced| match error {
        Unpriced::Op(_) => Raised::said("no_price", error),
        Unpriced::Overflow => Raised::said("overflow", error),
    };
    let signed = Signed::<Tariff>::decode(tariff).map_err(unverified)?;
    let (tariff, asked) = (signed.unverified(), serde_json::from_str::<Asked>(asked).map_err(|e| Raised::form(&e))?);
    if let Some(meters) = &asked.meters {
        let exact = tariff.exact(asked.op, meters).map_err(unpriced)?;
        return Ok(json!({"exact": exact.0.to_string(), "ceil": exact.ceil()}));
    }
    let Asked { op, input_bytes, choices, output_tokens, .. } = asked;
    let demand = Demand { op, input_bytes, choices, output_tokens };
    if let Some(max) = asked.max {
        let tokens = tariff.affordable_output(&demand, max);
        let too_dear = || Raised::said("too_dear", format!("{max} does not buy an answer"));
        return tokens.map(|tokens| json!({"output_tokens": tokens})).ok_or_else(too_dear);
    }
    let amount = tariff.worst_case(&demand).map_err(unpriced)?;
    let least = tariff.least_charge(op).map_err(unpriced)?;
    Ok(json!({"amount": amount, "least": least, "meters": tariff.worst_meters(&demand)}))
}

/// A roster, and what was found to stand under it.
#[pyclass(frozen, module = "comity._comity")]
struct Roster {
    directory: File,
}

#[pymethods]
impl Roster {
    /// `data` is the next version of `before`, where there is one.
    #[new]
    fn new(py: Python<'_>, data: &[u8], before: Option<&[u8]>) -> PyResult<Self> {
        let read = || match before {
            None => File::new(data),
            Some(before) => {
                let directory = File::new(before)?;
                directory.replace_roster(data)?;
                Ok(directory)
            }
        };
        let directory = read().map_err(|error| Raised::said(error.code().as_str(), &error).raise(py))?;
        Ok(Self { directory })
    }

    #[getter]
    fn id(&self) -> String {
        self.directory.roster_digest().to_string()
    }

    #[getter]
    fn version(&self) -> u64 {
        self.directory.roster().version
    }

    /// Takes in a certificate, a manifest, a tariff, a list … that verifies under it.
    fn add(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let added = self.directory.insert(data);
        added.map(drop).map_err(|error| Raised::said(error.code().as_str(), &error).raise(py))
    }

    /// A receipt of a node whose certificate was taken in.
    fn receipt(&self, py: Python<'_>, data: &[u8], node: &str) -> PyResult<String> {
        let proved = || {
            let unknown = || Raised::said("not_found", format!("no certificate of {node} was taken in"));
            let certificate = self.directory.certificate(parsed("node", node)?).ok_or_else(unknown)?;
            let receipt = token::verify_receipt(data, &certificate).map_err(denied)?;
            let exact = receipt.exact_total().map(|exact| exact.0.to_string());
            Ok(json!({"id": receipt.id(), "object": receipt.object(), "exact": exact}))
        };
        out(py, proved())
    }

    /// What a token, or a part of one that somebody handed on, allows at a node at a time; for one model and op: the scope.
    #[pyo3(signature = (data, node, now, model=None, op=None))]
    fn chain(
        &self,
        py: Python<'_>,
        data: &[u8],
        node: &str,
        now: u64,
        model: Option<&str>,
        op: Option<&str>,
    ) -> PyResult<String> {
        let proved = || {
            let trust = Trust { directory: &self.directory, node: parsed("node", node)?, now: Timestamp(now) };
            let capability = token::verify(data, &trust).map_err(denied)?;
            if let (Some(model), Some(op)) = (model, op) {
                let scope = capability.allows(&parsed("model", model)?, parsed("op", op)?).map_err(denied)?;
                return Ok(json!({"release": scope.release, "tariff": scope.tariff}));
            }
            let path: Vec<_> = capability.path().iter().map(|at| json!({"id": at.id, "cap": at.cap})).collect();
            Ok(json!({
                "token": capability.token().id, "leaf": capability.leaf(), "holder": capability.holder(), "path": path,
                "expires_at": capability.expires_at(), "lanes": capability.lanes(), "standing": capability.standing(),
            }))
        };
        out(py, proved())
    }
}

/// The root of a Merkle tree over leaves.
#[pyfunction]
fn root(py: Python<'_>, leaves: Vec<String>) -> PyResult<String> {
    digests(&leaves).map(|leaves| merkle::root(&leaves).to_string()).map_err(|raised| raised.raise(py))
}

/// Whether a leaf stands at `index` of a log of `size`.
#[pyfunction]
fn includes(py: Python<'_>, leaf: &str, index: u64, size: u64, root: &str, proof: Vec<String>) -> PyResult<bool> {
    let holds = || {
        let (leaf, root) = (parsed("digest", leaf)?, parsed("digest", root)?);
        Ok(log::includes(leaf, index, size, &root, &digests(&proof)?))
    };
    holds().map_err(|raised: Raised| raised.raise(py))
}

/// Whether a log of `to` entries goes on from the one of `from`.
#[pyfunction]
fn goes_on(py: Python<'_>, from: u64, before: &str, to: u64, root: &str, proof: Vec<String>) -> PyResult<bool> {
    let holds = || {
        let (before, root) = (parsed("digest", before)?, parsed("digest", root)?);
        Ok(log::goes_on(from, &before, to, &root, &digests(&proof)?))
    };
    holds().map_err(|raised: Raised| raised.raise(py))
}

/// An entry of a house's log, and its leaf.
#[pyfunction]
fn log_entry(py: Python<'_>, data: &[u8]) -> PyResult<String> {
    let entry = log::Entry::from_bytes(data).map_err(malformed);
    out(py, entry.map(|entry| json!({"view": entry, "leaf": merkle::leaf_of(data)})))
}

/// A checkpoint that a log signed, or a witness.
#[pyfunction]
fn log_note(py: Python<'_>, data: &[u8], key: &str) -> PyResult<String> {
    let wrong = |error: log::NoteError| Raised::said(error.code().as_str(), &error);
    let read = || {
        let note = log::Note::parse(data).map_err(wrong)?;
        let key: log::VerifierKey = key.parse().map_err(wrong)?;
        let is_witness = key.use_() == log::KeyUse::Cosigner;
        let (checkpoint, at) = if is_witness {
            (log::Checkpoint::parse(note.text()).map_err(wrong)?, Some(note.cosigned(&key).map_err(wrong)?))
        } else {
            (note.verify(&key).map_err(wrong)?, None)
        };
        let log::Checkpoint { origin, size, root } = checkpoint;
        Ok(json!({"origin": origin, "size": size, "root": root, "cosigned_at": at}))
    };
    out(py, read())
}

/// What `comity.protocol` gives names to.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(canonical, module)?,
        wrap_pyfunction!(content_id, module)?,
        wrap_pyfunction!(key_name, module)?,
        wrap_pyfunction!(verify, module)?,
        wrap_pyfunction!(read, module)?,
        wrap_pyfunction!(salted, module)?,
        wrap_pyfunction!(price, module)?,
        wrap_pyfunction!(root, module)?,
        wrap_pyfunction!(includes, module)?,
        wrap_pyfunction!(goes_on, module)?,
        wrap_pyfunction!(log_entry, module)?,
        wrap_pyfunction!(log_note, module)?,
    ] {
        module.add_function(function)?;
    }
    module.add_class::<Roster>()
}

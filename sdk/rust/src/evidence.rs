//! Receipts with everything that a reviewer needs to check them: no account, no network, no wallet (spec/06-metering.md §6.12).
//!
//! A bundle is one JSON file. Nothing in it is believed but what verifies under a roster; which roster is the right one is the
//! reviewer's to say. A core without I/O; [`crate::Client::gather`] makes one.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_token::directory::{Directory as _, File};
use comity_wire::api::clearing::SignedBytes;
use comity_wire::cbor::{Decode as _, Limits};
use comity_wire::object::{
    EntryKind, Head, Index, Manifest, NodeCertificate, Organisation, Receipt, Roster, Tariff, WriterCertificate,
};
use comity_wire::{Amount, Digest, Object, Signed, Timestamp, Verified};
use serde::{Deserialize, Serialize};

use crate::lane;
use crate::receipts;

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// 1.
    pub comity_evidence: u32,
    /// The roster file under which the rest was verified when it was gathered.
    pub roster: SignedBytes,
    /// Certificates of nodes and feed writers, manifests, tariffs, heads: signed, in any order.
    pub objects: Vec<SignedBytes>,
    /// Indexes that heads bind by digest.
    #[serde(default)]
    pub indexes: Vec<SignedBytes>,
    pub receipts: Vec<SignedBytes>,
    /// What was asked and answered, where that is shown.
    #[serde(default)]
    pub exchanges: Vec<Exchange>,
    /// Which of them are fingerprints of models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<Rounds>,
}

/// A model's fingerprint: the receipts of its answers, round by round in the order of the prompts; `None` where there was no
/// answer. What was asked and answered is in the exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounds {
    pub model: comity_wire::ModelId,
    pub rounds: [Vec<Option<Digest>>; 3],
}

/// What a receipt is for, in full. Shows the prompt: given away only where its owner wants that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    pub receipt: Digest,
    /// 16 bytes, base64url.
    pub nonce: String,
    /// The body as it was sent.
    pub request: String,
    /// The body as it came.
    pub response: String,
}

/// What a bundle shows of one receipt.
#[derive(Clone, Debug, Serialize)]
pub struct Proved {
    pub receipt: Digest,
    pub model: comity_wire::ModelId,
    pub at: Timestamp,
    pub charge_ucr: Amount,
    /// Whose node signed it, as the roster names them.
    pub owner: String,
    /// Digest of weights, tokenizer and template.
    pub release: Digest,
    /// The manifest that it names is here, signed by the owner's feed, and of this release.
    pub manifest: bool,
    /// That manifest stands in a feed of the owner's: number of the head that binds it.
    pub published: Option<String>,
    /// Its charge is what its meters cost under the tariff that it names.
    pub priced: bool,
    /// Request and answer are shown, and are those that it names.
    pub exchange: bool,
}

/// Why a bundle proves nothing, or not all that it says.
#[derive(Debug, thiserror::Error)]
pub enum NotEvidence {
    #[error("not a bundle of evidence of this version")]
    Form,
    #[error("the roster does not verify")]
    Roster(#[source] comity_token::directory::Refused),
    #[error("there is no receipt in it")]
    Empty,
    #[error("receipt {id}: {what}")]
    Receipt { id: String, what: String },
    #[error("receipt {0} stands in it twice")]
    Twice(Digest),
    #[error("what is shown of {0} is not what its receipt names, or is shown twice")]
    Exchange(Digest),
}

/// What verified under the roster.
struct Held {
    roster: std::sync::Arc<Roster>,
    certificates: Vec<Verified<NodeCertificate>>,
    writers: Vec<Verified<WriterCertificate>>,
    manifests: Vec<Verified<Manifest>>,
    tariffs: Vec<Verified<Tariff>>,
    heads: Vec<Verified<Head>>,
    indexes: Vec<(Digest, Index)>,
}

impl Exchange {
    pub fn new(receipt: Digest, nonce: &[u8; 16], request: &[u8], response: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let (request, response) = (text(request)?, text(response)?);
        Some(Self { receipt, nonce: URL_SAFE_NO_PAD.encode(nonce), request, response })
    }

    fn shows(&self, receipt: &Receipt) -> bool {
        let nonce: Option<[u8; 16]> = URL_SAFE_NO_PAD.decode(&self.nonce).ok().and_then(|nonce| nonce.try_into().ok());
        nonce.is_some_and(|nonce| {
            lane::request_of(&nonce, self.request.as_bytes()) == receipt.request
                && lane::check_response(receipt, &nonce, self.response.as_bytes()).is_ok()
        })
    }
}

impl Evidence {
    pub const VERSION: u32 = 1;

    /// # Errors
    /// [`NotEvidence::Form`].
    pub fn read(text: &[u8]) -> Result<Self, NotEvidence> {
        let read: Self = serde_json::from_slice(text).map_err(|_| NotEvidence::Form)?;
        if read.comity_evidence == Self::VERSION { Ok(read) } else { Err(NotEvidence::Form) }
    }

    /// With what another bundle has; each thing once, under this one's roster.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let add = |own: &mut Vec<SignedBytes>, more: Vec<SignedBytes>| {
            let known: HashSet<Vec<u8>> = own.iter().map(|bytes| bytes.to_vec()).collect();
            own.extend(more.into_iter().filter(|bytes| !known.contains(&bytes[..])));
        };
        add(&mut self.objects, other.objects);
        add(&mut self.indexes, other.indexes);
        add(&mut self.receipts, other.receipts);
        let shown: HashSet<Digest> = self.exchanges.iter().map(|exchange| exchange.receipt).collect();
        self.exchanges.extend(other.exchanges.into_iter().filter(|exchange| !shown.contains(&exchange.receipt)));
        self.fingerprints.extend(other.fingerprints);
        self
    }

    /// Checks every receipt. `pinned`: the roster that the reviewer trusts; without one the bundle's own is taken, and only its
    /// digest says which that is.
    ///
    /// # Errors
    /// [`NotEvidence`]: one receipt or exchange that does not stand fails the whole.
    pub fn verify(&self, pinned: Option<&[u8]>) -> Result<(Digest, Vec<Proved>), NotEvidence> {
        let directory = File::new(pinned.unwrap_or(&self.roster)).map_err(NotEvidence::Roster)?;
        let held = self.held(directory.roster());
        if self.receipts.is_empty() {
            return Err(NotEvidence::Empty);
        }
        let mut shown = HashMap::new();
        for exchange in &self.exchanges {
            if shown.insert(exchange.receipt, exchange).is_some() {
                return Err(NotEvidence::Exchange(exchange.receipt));
            }
        }
        let (mut proved, mut seen) = (Vec::new(), HashSet::new());
        for bytes in &self.receipts {
            let (receipt, row) = held.prove(bytes)?;
            if !seen.insert(receipt.id()) {
                return Err(NotEvidence::Twice(receipt.id()));
            }
            let exchange = shown.remove(&receipt.id());
            if exchange.is_some_and(|exchange| !exchange.shows(&receipt)) {
                return Err(NotEvidence::Exchange(receipt.id()));
            }
            proved.push(Proved { exchange: exchange.is_some(), ..row });
        }
        match shown.into_keys().next() {
            Some(other) => Err(NotEvidence::Exchange(other)),
            None => Ok((directory.roster_digest(), proved)),
        }
    }

    /// What does not verify is left out: then what rests on it is not shown.
    fn held(&self, roster: std::sync::Arc<Roster>) -> Held {
        let mut held = Held {
            roster,
            certificates: Vec::new(),
            writers: Vec::new(),
            manifests: Vec::new(),
            tariffs: Vec::new(),
            heads: Vec::new(),
            indexes: Vec::new(),
        };
        for bytes in &self.objects {
            if let Some(Ok(certificate)) = receipts::certificate(bytes, &held.roster) {
                held.certificates.push(certificate);
            }
            if let Ok(signed) = Signed::<WriterCertificate>::decode(bytes)
                && let Some(org) = held.roster.organisation(signed.unverified().org)
                && let Ok(writer) = signed.verify(&org.key)
            {
                held.writers.push(writer);
            }
        }
        for bytes in &self.objects {
            held.manifests.extend(held.of_writer::<Manifest>(bytes, |manifest| manifest.org));
            held.tariffs.extend(held.of_writer::<Tariff>(bytes, |tariff| tariff.org));
            let head = held.of_writer::<Head>(bytes, |head| head.org);
            held.heads.extend(head.filter(|head| held.is_of_its_epoch(head)));
        }
        let limits = Limits { bytes_max: Index::KIND.bytes_max, items_max: Index::KIND.items_max, tagged: false };
        for bytes in &self.indexes {
            held.indexes.extend(Index::from_cbor(bytes, limits).ok().map(|index| (Digest::of(bytes), index)));
        }
        held
    }
}

impl Held {
    /// An object of a feed, by the key that the organisation certified for writing it.
    fn of_writer<T: Object>(&self, bytes: &[u8], org: fn(&T) -> comity_wire::OrgId) -> Option<Verified<T>> {
        let signed = Signed::<T>::decode(bytes).ok()?;
        let org = org(signed.unverified());
        let keys: Vec<_> = self.writers.iter().filter(|writer| writer.org == org).map(|writer| writer.key).collect();
        signed.verify_any(&keys).ok()
    }

    /// A head of the newest epoch that the bundle has a writer for, signed while that writer was certified.
    fn is_of_its_epoch(&self, head: &Verified<Head>) -> bool {
        let writers = || self.writers.iter().filter(|writer| writer.org == head.org);
        let newest = writers().map(|writer| writer.epoch).max();
        newest == Some(head.epoch)
            && writers().any(|writer| {
                writer.epoch == head.epoch
                    && writer.key == *head.signer()
                    && (writer.not_before..=writer.not_after).contains(&head.issued_at)
            })
    }

    fn prove(&self, bytes: &[u8]) -> Result<(Verified<Receipt>, Proved), NotEvidence> {
        let unread =
            |error: &dyn std::error::Error| NotEvidence::Receipt { id: "?".to_owned(), what: crate::chain(error) };
        let signed = Signed::<Receipt>::decode(bytes).map_err(|error| unread(&error))?;
        let id = signed.id().to_string();
        let wrong = |what: String| NotEvidence::Receipt { id: id.clone(), what };
        let (node, model) = (signed.unverified().node, signed.unverified().model.clone());
        // A model's first half is its owner's name on the roster: nobody else's node speaks for it.
        let named = |org: &&Organisation| org.name.as_str() == model.organisation();
        let owner = self.roster.organisations.iter().find(named);
        let owner =
            owner.ok_or_else(|| wrong(format!("no organisation of the roster is called {}", model.organisation())))?;
        let own = |certificate: &&Verified<NodeCertificate>| certificate.node == node && certificate.org == owner.id;
        let mut last = format!("no certificate of {}'s for {node} is in the bundle", model.organisation());
        let mut found = None;
        for certificate in self.certificates.iter().filter(own) {
            match receipts::verify_under(signed.clone(), certificate) {
                Ok(receipt) => found = Some(receipt),
                Err(error) => last = crate::chain(&error),
            }
        }
        let receipt = found.ok_or_else(|| wrong(last))?;
        let row = self.row(&receipt, owner).map_err(|fault| wrong(crate::chain(&fault)))?;
        Ok((receipt, row))
    }

    fn row(&self, receipt: &Verified<Receipt>, owner: &Organisation) -> Result<Proved, lane::ReceiptFault> {
        let tariff = self.tariffs.iter().find(|tariff| tariff.id() == receipt.tariff && tariff.org == owner.id);
        if let Some(tariff) = tariff {
            receipts::check_alone(receipt, tariff)?;
        }
        let manifest = self.manifests.iter().find(|manifest| manifest.id() == receipt.manifest);
        let manifest = manifest.filter(|manifest| {
            manifest.org == owner.id && manifest.model == receipt.model && manifest.release.digest() == receipt.release
        });
        Ok(Proved {
            receipt: receipt.id(),
            model: receipt.model.clone(),
            at: receipt.at,
            charge_ucr: receipt.charge,
            owner: owner.title.to_string(),
            release: receipt.release,
            manifest: manifest.is_some(),
            published: manifest.and_then(|manifest| self.published(manifest)),
            priced: tariff.is_some(),
            exchange: false,
        })
    }

    fn published(&self, manifest: &Verified<Manifest>) -> Option<String> {
        let lists = |index: &Index| {
            index.entries.iter().any(|entry| entry.kind == EntryKind::Manifest && entry.id == manifest.id())
        };
        let bound =
            |head: &Verified<Head>| self.indexes.iter().any(|(digest, index)| *digest == head.index && lists(index));
        let head = self.heads.iter().find(|head| head.org == manifest.org && bound(head))?;
        Some(format!("{}.{}", head.epoch, head.seq))
    }
}

//! The model manifest: an owner's full, signed description (spec/03-manifest.md §3).

use super::{KIB, Modality, ModelState, ascending, require};
use crate::cbor::{Bytes, Encode as _, List, Malformed, Text, enumeration, record};
use crate::cose::{Kind, Object};
use crate::digest::Digest;
use crate::id::{ModelId, NodeId, OrgId};
use crate::op::Op;
use crate::time::Timestamp;

record! {
    /// Signed by the feed writer. Live load and state are never in it.
    pub struct Manifest {
        1 => model: ModelId,
        2 => version: u64,
        3 => org: OrgId,
        4 => title: Text<96>,
        5 => description: Text<4096>,
        6 => tasks: List<Text<48>, 8>,
        7 => languages: List<Text<8>, 64>,
        8 => input: List<Modality, 8>,
        9 => output: List<Modality, 8>,
        10 => family: Option<Text<48>>,
        11 => architecture: Option<Text<48>>,
        12 => params_total: Option<u64>,
        13 => params_active: Option<u64>,
        14 => context_length: Option<u32>,
        15 => output_tokens_max: Option<u32>,
        16 => license: License,
        17 => release: Release,
        18 => lineage: List<Lineage, 8>,
        19 => training: Option<Training>,
        20 => evaluations: List<Evaluation, 32>,
        21 => data_policy: DataPolicy,
        /// Who runs the weights where that is not the owner (a vendor's API).
        22 => operator: Option<Text<96>>,
        23 => availability: Option<Text<256>>,
        24 => ops: List<ManifestOp, 16>,
        25 => nodes: List<NodeId, 16>,
        26 => policy: Digest,
        27 => status: Status,
        28 => released_at: Timestamp,
        /// What a probe at start measured, not what the owner claims.
        29 => measured: List<Measured, 32>,
        /// What third parties attest.
        30 => attestations: List<Attestation, 16>,
        31 => supersedes: Option<Digest>,
        32 => documentation: Option<Text<256>>,
        33 => contact: Option<Text<128>>,
    }
}

record! {
    /// What a token pins of a model. Its digest is SHA-256 of these bytes.
    #[derive(serde::Deserialize)]
    pub struct Release {
        /// OpenSSF model-signing root over the weight files; for undisclosed weights a digest of the vendor's name for them.
        1 => weights: Digest,
        2 => tokenizer: Digest,
        3 => template: Digest,
        4 => dtype: Text<24>,
        /// The public tokenizer with which anyone can count tokens.
        5 => tokenizer_name: Text<96>,
        /// Whether the weights stay undisclosed even to the organisation (vendor API).
        6 => undisclosed: bool,
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct License {
        /// SPDX expression, or `LicenseRef-…`.
        1 => spdx: Text<64>,
        2 => name: Option<Text<96>>,
        3 => link: Option<Text<256>>,
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct Lineage {
        1 => model: Text<256>,
        2 => relation: Relation,
        3 => digest: Option<Digest>,
    }
}

enumeration! {
    pub enum Relation: "relation" {
        FineTune = 1 "finetune",
        Adapter = 2 "adapter",
        Merge = 3 "merge",
        Quantized = 4 "quantized",
        Distilled = 5 "distilled",
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct Training {
        /// Training compute, FLOP.
        1 => flop: Option<Fraction>,
        2 => method: Text<24>,
        3 => hardware: Option<Text<96>>,
        4 => started_at: Option<Timestamp>,
        5 => ended_at: Option<Timestamp>,
        6 => data: Option<Text<512>>,
    }
}

record! {
    /// mantissa × 10^exponent: numbers that are not whole, without floats.
    #[derive(Copy, serde::Deserialize)]
    pub struct Fraction {
        1 => mantissa: Signed64,
        2 => exponent10: Signed64,
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct Evaluation {
        1 => benchmark: Text<96>,
        2 => metric: Text<48>,
        3 => value: Fraction,
        4 => date: Timestamp,
        5 => harness: Option<Text<96>>,
        6 => source: Option<Text<256>>,
    }
}

record! {
    #[derive(serde::Deserialize)]
    pub struct DataPolicy {
        1 => retention_days: u16,
        2 => trains_on_inputs: bool,
        3 => logging: super::Logging,
        /// ISO 3166-1 alpha-2, sorted.
        #[serde(default)]
        4 => residency: List<Text<2>, 16>,
        /// Classes of data that may be sent (`public`, `internal`, `phi` …).
        #[serde(default)]
        5 => data_classes: List<Text<48>, 8>,
        /// Who else sees texts, to say what is in them; left out: nobody.
        #[serde(default)]
        6 => moderation: Option<Moderation>,
    }
}

record! {
    /// A server that is asked what is in a text, beside the owner's own filter. Often somebody else's.
    #[derive(serde::Deserialize)]
    pub struct Moderation {
        /// Who runs it.
        1 => by: Text<96>,
        /// Whether answers go there, too; prompts do.
        2 => answers: bool,
        /// For how long they keep what they saw, as they told the owner.
        3 => retention_days: u16,
        /// Of whose calls texts go there.
        4 => tiers: List<super::Tier, 4>,
    }
}

record! {
    pub struct ManifestOp {
        1 => op: Op,
        2 => tariff: Digest,
        /// JSON Schemas of `predict`, checked at the door.
        3 => schema: Option<Bytes<8192>>,
    }
}

record! {
    pub struct Status {
        1 => state: ModelState,
        2 => sunset: Option<Timestamp>,
        3 => reason: Option<Text<256>>,
    }
}

record! {
    pub struct Measured {
        1 => name: Text<48>,
        2 => value: bool,
        3 => at: Timestamp,
    }
}

record! {
    pub struct Attestation {
        1 => by: Text<96>,
        2 => statement: Text<256>,
        3 => digest: Digest,
    }
}

/// An integer of either sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Signed64(pub i64);

impl crate::cbor::Encode for Signed64 {
    fn encode(&self, w: &mut crate::cbor::Writer) {
        w.int(self.0);
    }
}

impl crate::cbor::Decode for Signed64 {
    fn decode(r: &mut crate::cbor::Reader<'_>) -> Result<Self, Malformed> {
        r.int().map(Self)
    }
}

impl Release {
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_cbor())
    }
}

impl Manifest {
    pub fn op(&self, op: Op) -> Option<&ManifestOp> {
        self.ops.iter().find(|row| row.op == op)
    }
}

impl Object for Manifest {
    const KIND: Kind = Kind { name: "manifest", bytes_max: 64 * KIB, items_max: 4096 };

    fn validate(&self) -> Result<(), Malformed> {
        require(ascending(&self.ops, |row| row.op), "order of ops")?;
        let residency = &self.data_policy.residency;
        require(ascending(residency, Clone::clone), "order of residency")?;
        let stands = |moderation: &Moderation| {
            !moderation.tiers.is_empty()
                && ascending(&moderation.tiers, |tier| *tier)
                && !moderation.by.as_str().is_empty()
        };
        require(
            self.data_policy.moderation.as_ref().is_none_or(stands),
            "moderation: by somebody, of tiers in their order",
        )
    }
}

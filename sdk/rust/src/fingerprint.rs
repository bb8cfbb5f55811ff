//! Whether the model behind a name is still the one that it was: its fingerprint is taken once, and checked later, by whoever
//! has the file (decision 0094).
//!
//! A fingerprint is a bundle of evidence (spec/06-metering.md §6.12) of which the answers are the fingerprint: nothing in it
//! can be altered without its receipts. [`Taking`] asks in three rounds, each a comparison of its own with cap and resume;
//! [`Checking`] asks once more and stops as soon as it is sure. What is said of the answers is `comity-probe`'s.

mod checking;
mod taking;

use std::collections::{BTreeMap, HashMap, HashSet};

use comity_probe::fingerprint::{NoReference, ROUNDS};
use comity_probe::{Answer, Read};
use comity_wire::object::{Manifest, Receipt};
use comity_wire::{Amount, Digest, ModelId, Signed, Timestamp};
use serde_json::{Map, Value};

use crate::compare::{Message, Prompt};
use crate::evidence::{Evidence, NotEvidence, Rounds};

pub use checking::{By, Change, Checking, Report, openly};
pub use comity_probe::fingerprint::{ANSWERS_MIN, FALSE_ALARM, Likeness, PROMPTS_MAX, Reference, Verdict};
pub use taking::{Taking, Wish};

/// A fingerprint whose receipts and exchanges stand.
#[derive(Debug)]
pub struct Fingerprint {
    pub model: ModelId,
    /// The release that answered: one throughout.
    pub release: Digest,
    /// The manifest that the newest receipt names.
    pub manifest: Digest,
    /// That manifest, where the bundle has it.
    pub card: Option<Manifest>,
    /// First and last answer, by the node's clock.
    pub from: Timestamp,
    pub until: Timestamp,
    /// What it cost to take.
    pub charge: Amount,
    /// How it was asked: the body's fields but for model and messages.
    pub fields: Map<String, Value>,
    /// What was asked, by place.
    prompts: BTreeMap<usize, Vec<Message>>,
    rounds: [Vec<Option<Read>>; ROUNDS],
}

/// Why a file is no fingerprint to check by.
#[derive(Debug, thiserror::Error)]
pub enum NotAFingerprint {
    #[error("the evidence does not stand")]
    Evidence(#[from] NotEvidence),
    #[error("there is no fingerprint in it")]
    None,
    #[error("there are fingerprints of {0} in it: name the model")]
    Several(String),
    #[error("it names receipt {0}, which is not in it, is of another model, or shows no answer")]
    Receipt(Digest),
    #[error("prompt {0} was not asked in the same way each time")]
    Asked(usize),
    #[error("it names receipt {0} twice")]
    Twice(Digest),
    #[error("prompt {0} stands at another place too")]
    Again(usize),
    #[error("its model was exchanged while it was taken: {0} and {1} are two releases; take it again")]
    Releases(Digest, Digest),
    #[error(transparent)]
    Reference(#[from] NoReference),
}

impl Fingerprint {
    /// Reads the fingerprint of a model from a bundle; the only one, where none is named. `pinned` as for [`Evidence::verify`].
    ///
    /// # Errors
    /// [`NotAFingerprint`].
    pub fn read(evidence: &Evidence, pinned: Option<&[u8]>, model: Option<&ModelId>) -> Result<Self, NotAFingerprint> {
        evidence.verify(pinned)?;
        let mut named = evidence.fingerprints.iter().filter(|rounds| model.is_none_or(|model| rounds.model == *model));
        let rounds = named.next().ok_or(NotAFingerprint::None)?;
        if let Some(other) = named.next() {
            return Err(NotAFingerprint::Several(format!("{} and {}", rounds.model, other.model)));
        }
        let read = Self::of(evidence, rounds)?;
        read.reference(By::Words)?;
        Ok(read)
    }

    fn of(evidence: &Evidence, rounds: &Rounds) -> Result<Self, NotAFingerprint> {
        let receipts = evidence.receipts.iter().filter_map(|bytes| Signed::<Receipt>::decode(bytes).ok());
        let receipts: HashMap<Digest, Signed<Receipt>> = receipts.map(|receipt| (receipt.id(), receipt)).collect();
        let exchanges: HashMap<_, _> = evidence.exchanges.iter().map(|exchange| (exchange.receipt, exchange)).collect();
        let (mut prompts, mut fields) = (BTreeMap::new(), None);
        let mut newest: Option<&Receipt> = None;
        let (mut from, mut charge) = (Timestamp(u64::MAX), Amount::ZERO);
        let mut reads: [Vec<Option<Read>>; ROUNDS] = Default::default();
        let mut named = HashSet::new();
        for (round, reads) in rounds.rounds.iter().zip(&mut reads) {
            for (at, id) in round.iter().enumerate().take(PROMPTS_MAX) {
                let Some(id) = id else {
                    reads.push(None);
                    continue;
                };
                // One answer three times would be a server that never differs from itself.
                if !named.insert(*id) {
                    return Err(NotAFingerprint::Twice(*id));
                }
                let shown = receipts.get(id).zip(exchanges.get(id));
                let (receipt, exchange) = shown.ok_or(NotAFingerprint::Receipt(*id))?;
                let receipt = receipt.unverified();
                let (asked, model, messages) = asked(&exchange.request).ok_or(NotAFingerprint::Receipt(*id))?;
                if receipt.model != rounds.model || model != rounds.model {
                    return Err(NotAFingerprint::Receipt(*id));
                }
                if *fields.get_or_insert_with(|| asked.clone()) != asked
                    || *prompts.entry(at).or_insert_with(|| messages.clone()) != messages
                {
                    return Err(NotAFingerprint::Asked(at));
                }
                if let Some(other) = newest.filter(|newest| newest.release != receipt.release) {
                    return Err(NotAFingerprint::Releases(other.release, receipt.release));
                }
                if newest.is_none_or(|newest| newest.at <= receipt.at) {
                    newest = Some(receipt);
                }
                from = from.min(receipt.at);
                charge = charge.saturating_add(receipt.charge);
                reads.push(Some(Read::whole(exchange.response.as_bytes())));
            }
        }
        // One prompt many times would count as many that agree.
        let mut texts = HashSet::new();
        if let Some((at, _)) =
            prompts.iter().find(|(_, messages)| !texts.insert(serde_json::to_string(messages).unwrap_or_default()))
        {
            return Err(NotAFingerprint::Again(*at));
        }
        let newest = newest.ok_or(NotAFingerprint::None)?;
        let manifests = evidence.objects.iter().filter_map(|bytes| Signed::<Manifest>::decode(bytes).ok());
        let card = manifests.into_iter().find(|manifest| manifest.id() == newest.manifest);
        Ok(Self {
            model: rounds.model.clone(),
            release: newest.release,
            manifest: newest.manifest,
            card: card.map(|card| card.unverified().clone()),
            from,
            until: newest.at,
            charge,
            fields: fields.unwrap_or_default(),
            prompts,
            rounds: reads,
        })
    }

    /// How many prompts it has.
    pub fn len(&self) -> usize {
        self.prompts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }

    /// Whether each answer lists its tokens with their alternatives.
    pub fn lists_tokens(&self) -> bool {
        list(self.rounds.iter().flatten().flatten())
    }

    /// What later answers are compared with.
    ///
    /// # Errors
    /// [`NoReference`].
    pub fn reference(&self, by: By) -> Result<Reference, NoReference> {
        let answers = |round: &Vec<Option<Read>>| {
            round.iter().map(|read| read.as_ref().map(|read| by.answer(read))).collect::<Vec<Option<Answer>>>()
        };
        Reference::new(self.rounds.each_ref().map(answers))
    }

    /// The prompts, named by their places.
    fn prompts(&self) -> Vec<Prompt> {
        let prompt = |(at, messages): (&usize, &Vec<Message>)| Prompt {
            id: named(*at),
            messages: messages.clone(),
            expected: None,
        };
        self.prompts.iter().map(prompt).collect()
    }
}

/// Whether all that say something list their tokens.
fn list<'a>(reads: impl IntoIterator<Item = &'a Read>) -> bool {
    let said =
        reads.into_iter().filter(|read| read.text.as_ref().is_some_and(|text| !text.is_empty()) && !read.refused);
    let (all, listing) = said.fold((0, 0), |(all, listing), read| (all + 1, listing + usize::from(read.lists())));
    all > 0 && all == listing
}

/// What a body asks: its fields but for model and messages, and those.
fn asked(body: &str) -> Option<(Map<String, Value>, ModelId, Vec<Message>)> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(body) else { return None };
    let model = fields.shift_remove("model")?.as_str()?.parse().ok()?;
    let messages = serde_json::from_value(fields.shift_remove("messages")?).ok()?;
    Some((fields, model, messages))
}

/// The prompt of a place.
fn named(at: usize) -> String {
    format!("p{at}")
}

fn place(name: &str) -> Option<usize> {
    name.strip_prefix('p')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use comity_wire::api::clearing::SignedBytes;
    use comity_wire::cose;

    use super::*;
    use crate::evidence::Exchange;
    use crate::vectors::world;

    /// What was asked, by round and place; each answer has a receipt of its own.
    fn evidence(asked: &[[&str; 2]; ROUNDS]) -> (Evidence, Rounds) {
        let mut receipts = Vec::new();
        let mut exchanges = Vec::new();
        let mut seq = 0;
        let rounds = asked.map(|prompts| {
            let answered = prompts.map(|prompt| {
                seq += 1;
                let mut receipt = world::receipt();
                (receipt.model, receipt.seq) = (world::model("lab/tiny"), seq);
                let receipt = cose::sign(&receipt, &world::secret("any key"));
                let messages = serde_json::json!([{"role": "user", "content": prompt}]);
                exchanges.push(Exchange {
                    receipt: receipt.id(),
                    nonce: String::new(),
                    request: serde_json::json!({"model": "lab/tiny", "messages": messages}).to_string(),
                    response: String::new(),
                });
                receipts.push(SignedBytes::new(receipt.bytes()).unwrap());
                Some(receipt.id())
            });
            answered.to_vec()
        });
        let rounds = Rounds { model: world::model("lab/tiny"), rounds };
        let roster = SignedBytes::new(b"roster").unwrap();
        let (objects, indexes) = (Vec::new(), Vec::new());
        let fingerprints = vec![rounds.clone()];
        (Evidence { comity_evidence: 1, roster, objects, indexes, receipts, exchanges, fingerprints }, rounds)
    }

    #[test]
    fn an_answer_counts_once_and_a_prompt_stands_at_one_place() {
        let (shown, rounds) = evidence(&[["a", "b"]; ROUNDS]);
        let read = Fingerprint::of(&shown, &rounds).unwrap();
        assert_eq!((read.len(), read.rounds.each_ref().map(Vec::len)), (2, [2; ROUNDS]));

        // One answer in two rounds would be a server that never differs from itself.
        let mut twice = rounds.clone();
        let first = twice.rounds[0][0].unwrap();
        twice.rounds[1][0] = Some(first);
        let told = Fingerprint::of(&shown, &twice);
        assert!(matches!(told, Err(NotAFingerprint::Twice(id)) if id == first), "{:?}", told.err());

        // One prompt at two places would count as two that agree.
        let (shown, rounds) = evidence(&[["a", "a"]; ROUNDS]);
        let told = Fingerprint::of(&shown, &rounds);
        assert!(matches!(told, Err(NotAFingerprint::Again(1))), "{:?}", told.err());
    }
}

//! Remembered keys as a journal that begins anew carries them on: some 170 bytes each, since a batch leaves thousands.

use comity_wire::{Amount, Digest, ModelId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use super::{Key, Keyed, Keys, Origin, Outcome, Part};
use crate::journal::Stored;

/// Some keys, in the order in which they were first signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// What the packed ones name by their place here.
    tokens: Vec<TokenId>,
    tariffs: Vec<Digest>,
    models: Vec<ModelId>,
    packed: Stored,
}

/// Keys in one line: with 241 bytes each at most they fit, and a place is one byte.
const CALLS_MAX: usize = 64;

const CALLER: u8 = 0;
const PROXY: u8 = 1;
const RUN: u8 = 2;

const UNKNOWN: u8 = 0;
const FREE: u8 = 1;
const CHARGED: u8 = 2;

impl Keys {
    /// All of them, for a journal that begins anew.
    pub(crate) fn carried(&self) -> Vec<Calls> {
        let digests: Vec<&Digest> = self.order.iter().collect();
        let calls = |part: &[&Digest]| Calls::pack(part.iter().filter_map(|digest| self.by_digest.get(*digest)));
        digests.chunks(CALLS_MAX).map(calls).collect()
    }

    /// Takes in what was carried on; `None` where it cannot be read.
    pub(crate) fn take_in(&mut self, calls: &Calls) -> Option<()> {
        for keyed in calls.unpack()? {
            let digest = keyed.key.digest;
            if let Some(part) = keyed.key.part {
                self.parts.entry(part.of).or_default().push(digest);
            }
            if self.by_digest.insert(digest, keyed).is_some() {
                return None;
            }
            self.order.push_back(digest);
        }
        (self.order.len() <= super::KEYS_MAX).then_some(())
    }

    /// Whether the same is remembered, in the same order.
    #[cfg(test)]
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let parts = |keys: &Self| {
            let sorted =
                |(of, parts): (&Digest, &Vec<Digest>)| (*of, std::collections::BTreeSet::from_iter(parts.clone()));
            keys.parts.iter().map(sorted).collect::<std::collections::BTreeMap<_, _>>()
        };
        self.by_digest == other.by_digest && self.order == other.order && parts(self) == parts(other)
    }

    /// The tokens that calls are remembered of.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = TokenId> {
        self.by_digest.values().map(|keyed| keyed.token)
    }
}

impl Calls {
    fn pack<'a>(keys: impl Iterator<Item = &'a Keyed>) -> Self {
        let (mut tokens, mut tariffs, mut models, mut packed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for keyed in keys {
            // Taken apart, so that a field that is added cannot be forgotten here.
            let Keyed { key, token, lane, seq, authority, content, tariff, max_charge, model, outcome, answered } =
                keyed;
            let Key { digest, origin, at, part } = key;
            packed.extend(digest.0);
            packed.push(match origin {
                Origin::Caller => CALLER,
                Origin::Proxy => PROXY,
                Origin::Run => RUN,
            });
            packed.extend(at.seconds().to_be_bytes());
            packed.push(u8::from(part.is_some()));
            if let Some(Part { of, asked }) = part {
                packed.extend(of.0);
                packed.extend(asked.0);
            }
            packed.push(place(&mut tokens, token));
            packed.extend(lane.to_be_bytes());
            packed.extend(seq.to_be_bytes());
            packed.extend(authority.0);
            packed.extend(content.0);
            packed.push(place(&mut tariffs, tariff));
            packed.extend(max_charge.ucr().to_be_bytes());
            packed.push(place(&mut models, model));
            match outcome {
                Outcome::Unknown => packed.push(UNKNOWN),
                Outcome::Free => packed.push(FREE),
                Outcome::Charged { receipt, charge } => {
                    packed.push(CHARGED);
                    packed.extend(receipt.0);
                    packed.extend(charge.ucr().to_be_bytes());
                }
            }
            packed.push(u8::from(*answered));
        }
        Self { tokens, tariffs, models, packed: Stored::new(packed).expect("64 of 241 bytes at most are below 16 KiB") }
    }

    fn unpack(&self) -> Option<Vec<Keyed>> {
        let (mut left, mut keys) = (&self.packed[..], Vec::new());
        while !left.is_empty() {
            let read = &mut left;
            let digest = Digest(bytes(read)?);
            let origin = match byte(read)? {
                CALLER => Origin::Caller,
                PROXY => Origin::Proxy,
                RUN => Origin::Run,
                _ => return None,
            };
            let at = Timestamp(u64::from_be_bytes(bytes(read)?));
            let part = flag(read)?.then(|| Some(Part { of: Digest(bytes(read)?), asked: Digest(bytes(read)?) }));
            let part = match part {
                Some(None) => return None,
                Some(part) => part,
                None => None,
            };
            keys.push(Keyed {
                key: Key { digest, origin, at, part },
                token: *self.tokens.get(usize::from(byte(read)?))?,
                lane: u16::from_be_bytes(bytes(read)?),
                seq: u64::from_be_bytes(bytes(read)?),
                authority: Digest(bytes(read)?),
                content: Digest(bytes(read)?),
                tariff: *self.tariffs.get(usize::from(byte(read)?))?,
                max_charge: amount(read)?,
                model: self.models.get(usize::from(byte(read)?))?.clone(),
                outcome: match byte(read)? {
                    UNKNOWN => Outcome::Unknown,
                    FREE => Outcome::Free,
                    CHARGED => Outcome::Charged { receipt: Digest(bytes(read)?), charge: amount(read)? },
                    _ => return None,
                },
                answered: flag(read)?,
            });
        }
        Some(keys)
    }
}

/// Where it stands in a table of a few; put there where it does not.
fn place<T: Clone + PartialEq>(table: &mut Vec<T>, item: &T) -> u8 {
    let at = table.iter().position(|known| known == item).unwrap_or_else(|| {
        table.push(item.clone());
        table.len() - 1
    });
    u8::try_from(at).expect("a line has 64 keys at most")
}

fn bytes<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (read, rest) = left.split_first_chunk()?;
    *left = rest;
    Some(*read)
}

fn byte(left: &mut &[u8]) -> Option<u8> {
    bytes::<1>(left).map(|[byte]| byte)
}

fn flag(left: &mut &[u8]) -> Option<bool> {
    match byte(left)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn amount(left: &mut &[u8]) -> Option<Amount> {
    Amount::new(i64::from_be_bytes(bytes(left)?)).ok()
}

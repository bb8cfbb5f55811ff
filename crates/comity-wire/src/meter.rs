//! Meters: counted units (spec/06-metering.md §2).

use serde::{Deserialize, Serialize};

use crate::cbor::{Decode, Encode, Malformed, MalformedKind, Reader, Writer, enumeration};

enumeration! {
    /// A counted unit. Who can check it: `requests`, `input_bytes`, `output_bytes` the client alone; `input_tokens`,
    /// `output_tokens` anyone with the named public tokenizer; the rest only the owner.
    pub enum Meter: "meter" {
        Requests = 1 "requests",
        InputBytes = 2 "input_bytes",
        OutputBytes = 3 "output_bytes",
        InputTokens = 4 "input_tokens",
        OutputTokens = 5 "output_tokens",
        TrainingTokens = 6 "training_tokens",
        ComputeMs = 7 "compute_ms",
        Start = 8 "start",
    }
}

/// Units per meter. On the wire a map of those that are not zero; an empty one is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meters([u64; Meter::ALL.len()]);

impl Meters {
    pub fn get(&self, meter: Meter) -> u64 {
        self.0[meter as usize - 1]
    }

    pub fn set(&mut self, meter: Meter, units: u64) {
        self.0[meter as usize - 1] = units;
    }

    #[must_use]
    pub fn with(mut self, meter: Meter, units: u64) -> Self {
        self.set(meter, units);
        self
    }

    /// The meters that are not zero, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Meter, u64)> + '_ {
        Meter::ALL.iter().map(|meter| (*meter, self.get(*meter))).filter(|(_, units)| *units > 0)
    }

    /// `None` past 2⁶³−1 of any meter.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let mut sum = *self;
        for (mine, theirs) in sum.0.iter_mut().zip(other.0) {
            *mine = mine.checked_add(theirs).filter(|units| *units <= i64::MAX.unsigned_abs())?;
        }
        Some(sum)
    }
}

impl Encode for Meters {
    fn encode(&self, w: &mut Writer) {
        w.map(self.iter().count());
        for (meter, units) in self.iter() {
            w.uint(u64::from(meter.number()));
            w.uint(units);
        }
    }

    fn is_absent(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Decode for Meters {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let start = r.position();
        let pairs = r.map()?;
        if pairs == 0 {
            return Err(Malformed::value(start, "empty map of meters"));
        }
        let mut meters = Self::default();
        for _ in 0..pairs {
            let at = r.position();
            let key = r.int()?;
            let meter = u64::try_from(key).ok().and_then(Meter::from_number);
            let meter = meter.ok_or_else(|| Malformed::new(at, MalformedKind::UnknownField(key)))?;
            let at = r.position();
            match r.uint()? {
                0 => return Err(Malformed::value(at, "meter of zero units")),
                units => meters.set(meter, units),
            }
        }
        Ok(meters)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Serialize for Meters {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter().map(|(meter, units)| (meter.as_str(), units)))
    }
}

impl<'de> Deserialize<'de> for Meters {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let named = std::collections::BTreeMap::<String, u64>::deserialize(d)?;
        let mut meters = Self::default();
        for (name, units) in named {
            meters.set(name.parse().map_err(serde::de::Error::custom)?, units);
        }
        Ok(meters)
    }
}

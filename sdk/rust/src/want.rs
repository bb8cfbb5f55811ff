//! What a model has to be, in place of its name: `any:op=chat,context>=8k,price<=2.5,residency=EU`, or `same:lab/tiny`, whoever
//! offers the same release as that model.
//!
//! The grammar is closed: a condition that is none is refused with what may stand in its place, so that a slip of the pen never
//! makes a request wider. How the models that fit are ordered is [`rank`]'s.

pub mod rank;

use std::fmt;
use std::str::FromStr;

use comity_wire::object::Tier;
use comity_wire::{Amount, ModelId, Op};

/// What stands under `model`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Model(ModelId),
    Want(Box<Want>),
}

/// What a model has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub of: Of,
    pub needs: Needs,
}

/// Which models come into question at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    Any,
    /// Those of the same release as this one, and it.
    Same(ModelId),
}

/// Conditions; what is empty asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// It offers this op too, beside the one that the call is.
    pub op: Option<Op>,
    /// Tokens.
    pub context_min: Option<u32>,
    /// For 10⁶ tokens in, 10⁶ out and one request, at the dearest step of the op's tariff.
    pub price_max: Option<Amount>,
    /// The op is open at this tier, or below.
    pub tier_max: Option<Tier>,
    /// Each place where its owner keeps data is one of these, in capitals.
    pub residency: Vec<String>,
    /// Days for which prompts are kept.
    pub retention_max: Option<u16>,
    pub language: Option<String>,
    /// The slugs of those whom the prompt may go to.
    pub owners: Vec<String>,
}

/// Why a text is neither a model's name nor what a model has to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    #[error("a model is organisation/model, any:CONDITIONS or same:ORGANISATION/MODEL")]
    Neither,
    #[error("{bytes} bytes say what a model has to be, {} are the most", Want::BYTES_MAX)]
    Long { bytes: usize },
    #[error("'{text}' after same: is no model: organisation/model stands there, and conditions after a comma")]
    Same { text: String },
    #[error("'{part}' is no condition: {CONDITIONS}")]
    Condition { part: String },
    #[error("'{part}': {takes}")]
    Value { part: String, takes: &'static str },
    #[error("'{name}' is asked twice")]
    Twice { name: &'static str },
    #[error("any: asks for nothing: {CONDITIONS}")]
    Nothing,
}

const CONDITIONS: &str = "one is op=OP, context>=TOKENS, price<=CREDITS, tier<=mine, residency=PLACE, retention<=DAYS, \
                          language=TAG or owner=ORGANISATION, and commas stand between them";

impl Want {
    pub const BYTES_MAX: usize = 256;
    /// Alternatives of one condition.
    const LIST_MAX: usize = 32;
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let is_want = text.starts_with("any:") || text.starts_with("same:");
        if is_want {
            return Ok(Self::Want(Box::new(text.parse()?)));
        }
        text.parse().map(Self::Model).map_err(|_| NotAName::Neither)
    }
}

impl FromStr for Want {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        if text.len() > Self::BYTES_MAX {
            return Err(NotAName::Long { bytes: text.len() });
        }
        let (of, conditions) = match (text.strip_prefix("any:"), text.strip_prefix("same:")) {
            (Some(conditions), _) => (Of::Any, Some(conditions)),
            (None, Some(rest)) => {
                let (model, conditions) =
                    rest.split_once(',').map_or((rest, None), |(model, rest)| (model, Some(rest)));
                let model = model.trim();
                (Of::Same(model.parse().map_err(|_| NotAName::Same { text: model.to_owned() })?), conditions)
            }
            (None, None) => return Err(NotAName::Neither),
        };
        let mut needs = Needs::default();
        if conditions.is_some_and(|conditions| conditions.trim().is_empty()) {
            return Err(NotAName::Nothing);
        }
        for part in conditions.into_iter().flat_map(|conditions| conditions.split(',')) {
            needs.take(part.trim())?;
        }
        Ok(Self { of, needs })
    }
}

impl Needs {
    fn take(&mut self, part: &str) -> Result<(), NotAName> {
        let condition = || NotAName::Condition { part: part.to_owned() };
        let (name, relation, value) = cut(part).ok_or_else(condition)?;
        let wrong = |takes| NotAName::Value { part: part.to_owned(), takes };
        let value = value.trim();
        match (name.trim(), relation) {
            ("op", "=") => once(&mut self.op, "op", value.parse().map_err(|_| wrong(OP))?),
            ("context", ">=") => once(&mut self.context_min, "context", tokens(value).ok_or_else(|| wrong(TOKENS))?),
            ("price", "<=") => once(&mut self.price_max, "price", credits(value).ok_or_else(|| wrong(CREDITS))?),
            ("tier", "<=") => {
                // Which tiers are one's own is the owner's rules' to say, and always asked.
                let tier = if value == "mine" { Tier::Audited } else { value.parse().map_err(|_| wrong(TIER))? };
                once(&mut self.tier_max, "tier", tier)
            }
            ("retention", "<=") => {
                let days = value.strip_suffix('d').unwrap_or(value);
                once(&mut self.retention_max, "retention", days.parse().map_err(|_| wrong(DAYS))?)
            }
            ("language", "=") => {
                let is_tag = |tag: &str| !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                let tag = Some(value).filter(|tag| is_tag(tag)).ok_or_else(|| wrong(LANGUAGE))?;
                once(&mut self.language, "language", tag.to_owned())
            }
            ("residency", "=") => {
                let is_place = |place: &str| place.len() == 2 && place.bytes().all(|b| b.is_ascii_alphabetic());
                let places = list(value, is_place).ok_or_else(|| wrong(PLACE))?;
                several(&mut self.residency, "residency", places.map(str::to_ascii_uppercase).collect())
            }
            ("owner", "=") => {
                let is_slug = |slug: &str| format!("{slug}/m").parse::<ModelId>().is_ok();
                let owners = list(value, is_slug).ok_or_else(|| wrong(OWNER))?;
                several(&mut self.owners, "owner", owners.map(str::to_owned).collect())
            }
            _ => Err(condition()),
        }
    }
}

const OP: &str = "op= names an op, such as chat, completions, embeddings or logprobs";
const TOKENS: &str = "context>= takes tokens: 8192, or 8k for 8,000";
const CREDITS: &str = "price<= takes credits for a million tokens in and a million out: 2.5";
const TIER: &str = "tier<= takes mine, t0, t1, t2 or t3";
const DAYS: &str = "retention<= takes days: 0, 30";
const LANGUAGE: &str = "language= takes a tag, such as en";
const PLACE: &str = "residency= takes places of two letters, EU among them, and | between them: EU, or DE|FR";
const OWNER: &str = "owner= takes organisations, and | between them: lab|museum";

/// Name, relation and value; `≤` and `≥` are read as people write them.
fn cut(part: &str) -> Option<(&str, &'static str, &str)> {
    let relations = [("<=", "<="), (">=", ">="), ("≤", "<="), ("≥", ">="), ("=", "=")];
    relations.iter().find_map(|(written, meant)| {
        let (name, value) = part.split_once(written)?;
        Some((name, *meant, value))
    })
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), NotAName> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(NotAName::Twice { name }),
    }
}

fn several(slot: &mut Vec<String>, name: &'static str, values: Vec<String>) -> Result<(), NotAName> {
    if !slot.is_empty() {
        return Err(NotAName::Twice { name });
    }
    *slot = values;
    Ok(())
}

fn list(value: &str, is_one: impl Fn(&str) -> bool) -> Option<impl Iterator<Item = &str>> {
    let is_list = value.split('|').count() <= Want::LIST_MAX && value.split('|').all(is_one);
    is_list.then(|| value.split('|'))
}

fn tokens(value: &str) -> Option<u32> {
    match value.strip_suffix(['k', 'K']) {
        Some(thousands) => digits(thousands)?.checked_mul(1_000),
        None => digits(value),
    }
}

fn digits(value: &str) -> Option<u32> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

/// Exact to the micro-credit.
fn credits(value: &str) -> Option<Amount> {
    let (whole, part) = value.split_once('.').unwrap_or((value, "0"));
    if part.is_empty() || part.len() > 6 {
        return None;
    }
    let part = digits(&format!("{part:0<6}"))?;
    Amount::new(i64::from(digits(whole)?).checked_mul(1_000_000)?.checked_add(i64::from(part))?).ok()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(model) => model.fmt(f),
            Self::Want(want) => want.fmt(f),
        }
    }
}

/// In the order of the grammar, whatever the order that it was written in: equal wants read the same. ASCII.
impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Needs { op, context_min, price_max, tier_max, residency, retention_max, language, owners } = &self.needs;
        let list = |name: &str, values: &[String]| (!values.is_empty()).then(|| format!("{name}={}", values.join("|")));
        let price = |max: &Amount| {
            let (whole, part) = (max.ucr() / 1_000_000, max.ucr() % 1_000_000);
            format!("price<={}", format!("{whole}.{part:06}").trim_end_matches('0').trim_end_matches('.'))
        };
        let tier = |tier: &Tier| match tier {
            Tier::Audited => "tier<=mine".to_owned(),
            tier => format!("tier<={tier}"),
        };
        let parts = [
            op.map(|op| format!("op={op}")),
            context_min.map(|min| format!("context>={min}")),
            price_max.as_ref().map(price),
            tier_max.as_ref().map(tier),
            list("residency", residency),
            retention_max.map(|max| format!("retention<={max}")),
            language.as_ref().map(|tag| format!("language={tag}")),
            list("owner", owners),
        ];
        let of = match &self.of {
            Of::Any => None,
            Of::Same(model) => Some(model.to_string()),
        };
        let parts: Vec<_> = of.into_iter().chain(parts.into_iter().flatten()).collect();
        let kind = if matches!(self.of, Of::Any) { "any" } else { "same" };
        write!(f, "{kind}:{}", parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Want, NotAName> {
        text.parse()
    }

    #[test]
    fn a_request_for_a_capability_is_read_as_it_is_written() {
        let want = read("any:op=chat, context≥8k,price<=2.5,tier≤mine,residency=eu,retention<=0d").unwrap();
        let needs = Needs {
            op: Some(Op::Chat),
            context_min: Some(8_000),
            price_max: Some(Amount::from_ucr(2_500_000)),
            tier_max: Some(Tier::Audited),
            residency: vec!["EU".into()],
            retention_max: Some(0),
            ..Needs::default()
        };
        assert_eq!(want, Want { of: Of::Any, needs });
        let same = read("same:lab/tiny,owner=lab|museum,language=en").unwrap();
        assert_eq!(same.of, Of::Same("lab/tiny".parse().unwrap()));
        assert_eq!((same.needs.owners, same.needs.language), (vec!["lab".into(), "museum".into()], Some("en".into())));
        assert_eq!("lab/tiny".parse(), Ok(Name::Model("lab/tiny".parse().unwrap())));
    }

    #[test]
    fn what_is_no_condition_says_what_may_stand_there() {
        let table = [
            ("tiny", "organisation/model"),
            ("any", "organisation/model"),
            ("any:", "asks for nothing"),
            ("same:tiny", "'tiny' after same:"),
            ("same:", "'' after same:"),
            ("same:lab/tiny,", "asks for nothing"),
            ("any:chat", "'chat' is no condition: one is op=OP"),
            ("any:op=chat,,price<=1", "'' is no condition"),
            ("any:size<=7b", "'size<=7b' is no condition"),
            // A relation that is not the condition's own would widen it.
            ("any:context<=8k", "'context<=8k' is no condition"),
            ("any:price>=1", "'price>=1' is no condition"),
            ("any:price=1", "'price=1' is no condition"),
            ("any:op=sing", "op= names an op"),
            ("any:context>=8kb", "takes tokens"),
            ("any:context>=5000000k", "takes tokens"),
            ("any:context>=", "takes tokens"),
            ("any:context>=+8", "takes tokens"),
            ("any:price<=cheap", "takes credits"),
            ("any:price<=1e3", "takes credits"),
            ("any:price<=.5", "takes credits"),
            ("any:price<=0.0000001", "takes credits"),
            ("any:price<=-1", "takes credits"),
            ("any:tier<=t4", "takes mine, t0"),
            ("any:residency=Europe", "places of two letters"),
            ("any:residency=DE|", "places of two letters"),
            ("any:retention<=forever", "takes days"),
            ("any:owner=", "takes organisations"),
            ("any:price<=1,price<=2", "'price' is asked twice"),
            ("any:owner=a,owner=b", "'owner' is asked twice"),
        ];
        for (text, says) in table {
            let error = text.parse::<Name>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let long = format!("any:owner={}", "a|".repeat(200));
        assert_eq!(read(&long), Err(NotAName::Long { bytes: long.len() }));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_what_was_meant(text in "(any:|same:a/b,)(op=chat,)?(context>=[0-9]{1,5}k?,)?(tier<=(mine|t1),)?(residency=[a-z]{2},)?price<=[0-9]{1,4}(\\.[0-9]{1,6})?") {
            let want: Want = text.parse().unwrap();
            prop_assert!(want.to_string().is_ascii());
            prop_assert_eq!(want.to_string().parse::<Want>(), Ok(want));
        }

        #[test]
        fn no_text_is_too_strange(text in "(any:|same:)?\\PC{0,80}") {
            let _ = text.parse::<Name>();
        }
    }
}

//! Codes of use that lie within others, as GA4GH's Data Use Ontology has them.
//!
//! A decision compares codes by equality (spec/03-manifest.md F-5), so what lies within a code that an owner lists is listed beside it when the
//! policy is made.

use comity_wire::cbor::{List, Text};

use crate::failure::Failure;

type Code = Text<48>;

/// (narrower, wider), of `duo.owl` as released in September 2022 (EBISPOT/DUO, CC BY 4.0): permissions and kinds of research. Its modifiers are
/// not here: "non-commercial use only" lies below "not for profit, non commercial use only" there, and whoever states the first does not
/// promise the second.
const WITHIN: &[(&str, &str)] = &[
    // Health or medical or biomedical research, within general research use; research into one disease within that.
    ("DUO:0000006", "DUO:0000042"),
    ("DUO:0000007", "DUO:0000006"),
    // Genetic research, drug development, research into a category of diseases: within biomedical research.
    ("DUO:0000038", "DUO:0000037"),
    ("DUO:0000039", "DUO:0000037"),
    ("DUO:0000040", "DUO:0000037"),
];

/// The codes that lie within one, itself not among them, wider ones first.
pub(super) fn within(code: &str) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = Vec::new();
    let mut wider: Vec<&str> = vec![code];
    while let Some(of) = wider.pop() {
        for (narrower, _) in WITHIN.iter().filter(|(_, parent)| *parent == of) {
            if !found.contains(narrower) {
                found.push(narrower);
                wider.push(narrower);
            }
        }
    }
    found
}

/// What a tier is for, with all that lies within it.
///
/// # Errors
/// [`Failure`] where that is more than a tier may list.
pub(super) fn widened<const MAX: usize>(purposes: &List<Code, MAX>) -> Result<List<Code, MAX>, Failure> {
    let mut all: Vec<Code> = purposes.to_vec();
    for code in purposes.iter().flat_map(|code| within(code)) {
        if !all.iter().any(|known| known.as_str() == code) {
            all.push(Text::new(code)?);
        }
    }
    List::new(all).map_err(|error| {
        Failure::new(format!("the purposes of a tier, with the codes of use that lie within them: {error}"))
            .hint("list fewer; a code with others within it takes a place for each of them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_within_a_code_is_listed_beside_it_and_modifiers_are_not() {
        let widened = |codes: &[&str]| -> Vec<String> {
            let codes: Vec<Code> = codes.iter().map(|code| Text::new(*code).unwrap()).collect();
            let list = super::widened(&List::<Code, 16>::new(codes).unwrap()).unwrap();
            list.iter().map(|code| code.as_str().to_owned()).collect()
        };
        assert_eq!(widened(&["DUO:0000042"]), ["DUO:0000042", "DUO:0000006", "DUO:0000007"]);
        assert_eq!(widened(&["DUO:0000007"]), ["DUO:0000007"], "what is wider is not within");
        assert_eq!(widened(&["education", "DUO:0000006", "DUO:0000007"]), ["education", "DUO:0000006", "DUO:0000007"]);
        assert_eq!(widened(&["DUO:0000018"]), ["DUO:0000018"]);
        assert!(
            WITHIN
                .iter()
                .all(|(narrower, wider)| within(wider).contains(narrower) && !within(narrower).contains(wider))
        );
    }

    #[test]
    fn more_than_a_tier_may_list_is_refused() {
        let codes: Vec<Code> = (0..15).map(|number| Text::new(format!("own:{number}")).unwrap()).collect();
        let codes = codes.into_iter().chain([Text::new("DUO:0000042").unwrap()]);
        let failure = widened(&List::<Code, 16>::new(codes.collect()).unwrap()).unwrap_err();
        assert!(failure.to_string().contains("codes of use"), "{failure}");
    }
}

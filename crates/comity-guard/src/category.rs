//! What a rule watches for, by a name and a number that never change: receipts count by the number.

use serde::{Deserialize, Serialize};

/// A category of misuse. Numbers are never reused; a category that goes leaves its number empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[non_exhaustive]
pub enum Category {
    /// Text that asks for a vote or runs a campaign.
    PoliticalPersuasion = 1,
    /// Chemical, biological, radiological, nuclear.
    Cbrn = 2,
    /// Offence against computers.
    CyberOffence = 3,
    /// Shapes of personal data, and wishes to find a person out.
    PersonalData = 4,
    /// Attempts to carry off the model, its instructions or its training data.
    ExtractionProbe = 5,
}

/// A name or a number that is no category.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no filter category is called `{0}`")]
pub struct UnknownCategory(pub String);

impl Category {
    /// How many there are; numbers run from 1 to this.
    pub const COUNT: usize = 5;
    /// All, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::PoliticalPersuasion, Self::Cbrn, Self::CyberOffence, Self::PersonalData, Self::ExtractionProbe];

    /// The number that receipts count by.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The name that policies, packs and pages use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PoliticalPersuasion => "political_persuasion",
            Self::Cbrn => "cbrn",
            Self::CyberOffence => "cyber_offence",
            Self::PersonalData => "personal_data",
            Self::ExtractionProbe => "extraction_probe",
        }
    }

    /// The category of a number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.number() == number)
    }

    /// Its place in a table of all categories.
    pub(crate) fn index(self) -> usize {
        usize::from(self.number()) - 1
    }
}

impl std::fmt::Display for Category {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Category {
    type Err = UnknownCategory;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|category| category.name() == name).ok_or_else(|| UnknownCategory(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_frozen() {
        let frozen = [
            (1, "political_persuasion"),
            (2, "cbrn"),
            (3, "cyber_offence"),
            (4, "personal_data"),
            (5, "extraction_probe"),
        ];
        assert_eq!(Category::ALL.map(|category| (category.number(), category.name())), frozen);
        for category in Category::ALL {
            assert_eq!(Category::from_number(category.number()), Some(category));
            assert_eq!(category.name().parse(), Ok(category));
            assert_eq!(serde_json::to_value(category).expect("JSON"), category.name());
            assert_eq!(Category::ALL[category.index()], category);
        }
        assert_eq!(Category::from_number(0), None);
        assert_eq!("politics".parse::<Category>(), Err(UnknownCategory("politics".to_owned())));
    }
}

//! Forms as data: what an owner asks, read from TOML and checked against what was filled in.

use std::collections::BTreeMap;
use std::fmt;

use comity_wire::{Digest, Timestamp};
use serde::Deserialize;

use crate::limit;
use crate::settings::{Settings, WhenSilent};

/// What was filled in, by field.
pub type Answers = BTreeMap<String, String>;

/// A form and the digest of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    digest: Digest,
    /// Above the fields.
    pub title: String,
    /// In order.
    pub fields: Vec<Field>,
    /// Clocks and conditions.
    pub settings: Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    title: String,
    #[serde(default, rename = "field")]
    fields: Vec<Field>,
    #[serde(default)]
    settings: Settings,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its key in [`Answers`].
    pub id: String,
    /// As it is read.
    pub label: String,
    /// What is asked for.
    #[serde(rename = "type")]
    pub kind: FieldKind,
    /// Whether it may be left out.
    #[serde(default)]
    pub required: bool,
    /// Bytes of the answer.
    #[serde(default = "length_max")]
    pub length_max: usize,
    /// Of a choice.
    #[serde(default)]
    pub choices: Vec<String>,
}

const fn length_max() -> usize {
    limit::TEXT_BYTES_MAX
}

/// What an answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldKind {
    /// Any text.
    Text,
    /// `yes` or `no`; where it is required, `yes`.
    Checkbox,
    /// `YYYY-MM-DD`.
    Date,
    /// One of the choices.
    Choice,
    /// Two capital letters, ISO 3166-1.
    Country,
}

/// A field that is not as the form asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub field: String,
    /// What is asked for.
    pub what: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.what)
    }
}

/// Why a text is no form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadForm {
    /// Not TOML, or a key that no form has.
    #[error("the form cannot be read")]
    Toml(#[from] toml::de::Error),
    /// A rule of forms.
    #[error("the form's field {field:?} {what}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A bound.
    #[error("the form has more than {most} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there may be.
        most: usize,
    },
}

impl Form {
    /// Reads a form.
    ///
    /// # Errors
    /// [`BadForm`] naming the field.
    pub fn read(text: &str) -> Result<Self, BadForm> {
        if text.len() > limit::FORM_BYTES_MAX {
            return Err(BadForm::TooMuch { what: "bytes", most: limit::FORM_BYTES_MAX });
        }
        let Text { title, fields, settings } = toml::from_str(text)?;
        if fields.len() > limit::FIELDS_MAX {
            return Err(BadForm::TooMuch { what: "fields", most: limit::FIELDS_MAX });
        }
        for (at, field) in fields.iter().enumerate() {
            let bad = |what| Err(BadForm::Field { field: field.id.clone(), what });
            if field.id.is_empty() || field.id.len() > limit::NAME_BYTES_MAX {
                return bad("has no id, or one that is too long");
            }
            if fields[..at].iter().any(|before| before.id == field.id) {
                return bad("stands twice");
            }
            if (field.kind == FieldKind::Choice) == field.choices.is_empty() {
                return bad("has choices without being one, or is one without them");
            }
            if field.length_max == 0 || field.length_max > limit::TEXT_BYTES_MAX {
                return bad("has a length_max that no answer can have");
            }
        }
        // Else the clock would bring an act that no log has room for.
        if let WhenSilent::Escalate { to } = &settings.when_silent
            && (to.is_empty() || to.len() > limit::NAME_BYTES_MAX)
        {
            return Err(BadForm::Field {
                field: "when_silent".into(),
                what: "escalates to nobody, or to a name too long",
            });
        }
        Ok(Self { digest: Digest::of(text.as_bytes()), title, fields, settings })
    }

    /// Of its text.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What may stand in a draft: known fields, each within its length.
    ///
    /// # Errors
    /// What may not.
    pub fn fits(&self, answers: &Answers) -> Result<(), Vec<Missing>> {
        let missing: Vec<Missing> = answers
            .iter()
            .filter_map(|(id, answer)| match self.fields.iter().find(|field| field.id == *id) {
                None => Some(Missing { field: clipped(id), what: "is no field of this form" }),
                Some(field) if answer.len() > field.length_max => {
                    Some(Missing { field: id.clone(), what: "is too long" })
                }
                Some(_) => None,
            })
            .take(limit::FIELDS_MAX)
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    /// What may be handed in: a draft in which nothing is missing.
    ///
    /// # Errors
    /// What is missing, or not what the field asks for.
    pub fn complete(&self, answers: &Answers) -> Result<(), Vec<Missing>> {
        self.fits(answers)?;
        let missing: Vec<Missing> = self
            .fields
            .iter()
            .filter_map(|field| {
                let answer = answers.get(&field.id).map_or("", |answer| answer.trim());
                let what = match answer {
                    "" if field.required => Some("is missing"),
                    "" => None,
                    answer => field.wrong(answer),
                };
                what.map(|what| Missing { field: field.id.clone(), what })
            })
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }
}

impl Field {
    fn wrong(&self, answer: &str) -> Option<&'static str> {
        match self.kind {
            FieldKind::Text => None,
            FieldKind::Checkbox if answer == "yes" || (answer == "no" && !self.required) => None,
            FieldKind::Checkbox if answer == "no" => Some("has to be agreed to"),
            FieldKind::Checkbox => Some("is yes or no"),
            FieldKind::Date if Timestamp::of_date(answer).is_ok() => None,
            FieldKind::Date => Some("is a date, YYYY-MM-DD"),
            FieldKind::Choice if self.choices.iter().any(|choice| choice == answer) => None,
            FieldKind::Choice => Some("is one of the choices"),
            FieldKind::Country if answer.len() == 2 && answer.bytes().all(|byte| byte.is_ascii_uppercase()) => None,
            FieldKind::Country => Some("is a country, two capital letters"),
        }
    }
}

/// An id that a stranger wrote is not repeated at any length.
fn clipped(id: &str) -> String {
    id.chars().take(limit::NAME_BYTES_MAX / 4).collect()
}

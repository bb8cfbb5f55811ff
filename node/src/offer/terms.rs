//! Terms of use as their owner writes them down: files of the home that a tier asks its callers to agree to (spec/03-manifest.md §3.9).

use std::path::{Path, PathBuf};

use comity_wire::cbor::Text;
use comity_wire::object::{TermsOfUse, Tier, TierRule};
use comity_wire::{OrgId, Timestamp};
use serde::Deserialize;

use crate::failure::{Failure, While as _};

/// `[[policy.terms]]`. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsFile {
    pub tier: Tier,
    /// Of the home. Its first line is the title.
    pub file: PathBuf,
    /// A date: from its first moment in UTC on they are asked for.
    #[serde(default)]
    pub from: Option<String>,
    /// The terms until then; left out: none.
    #[serde(default)]
    pub before: Option<PathBuf>,
    /// What stands in the files, or why that cannot be read: only who publishes needs it.
    #[serde(skip)]
    text: Read,
    #[serde(skip)]
    text_before: Read,
}

#[derive(Clone, Debug, Default)]
enum Read {
    /// No file is named, or none was looked for.
    #[default]
    Nothing,
    Text(String),
    Failed(String),
}

impl Read {
    fn file(path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Failed(format!("cannot read the terms of use {}: {error}", path.display())),
        }
    }
}

impl TermsFile {
    /// Reads the files. One that cannot be read is told of where its text is needed: a process that follows its node's feed has none.
    pub(super) fn read(&mut self, home: &Path) {
        self.text = Read::file(&home.join(&self.file));
        self.text_before = self.before.as_ref().map_or(Read::Nothing, |before| Read::file(&home.join(before)));
    }

    /// What was read, whoever signs it: another text is another publication.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        [&self.text, &self.text_before].into_iter().filter_map(|read| match read {
            Read::Text(text) => Some(text.as_bytes()),
            Read::Nothing | Read::Failed(_) => None,
        })
    }

    /// The texts that it names, those that are asked for first.
    ///
    /// # Errors
    /// [`Failure`] where one cannot be read, says nothing, or is too long.
    pub fn texts(&self, org: OrgId) -> Result<Vec<TermsOfUse>, Failure> {
        let files = [(Some(&self.file), &self.text), (self.before.as_ref(), &self.text_before)];
        let named = files.into_iter().filter_map(|(file, read)| Some((file?, read)));
        named
            .map(|(file, read)| match read {
                Read::Text(text) => terms(org, text).map_err(|failure| failure.of(file)),
                Read::Nothing => terms(org, "").map_err(|failure| failure.of(file)),
                Read::Failed(why) => {
                    Err(Failure::new(why.clone()).hint("policy.terms names a file of the home, as terms/research-1.md"))
                }
            })
            .collect()
    }

    /// Sets what the tier asks for.
    ///
    /// # Errors
    /// [`Failure`] where a date is none, or what was before has no date to end at.
    pub(super) fn ask(&self, org: OrgId, rule: &mut TierRule) -> Result<(), Failure> {
        let from = self.from.as_deref().map(|date| {
            Timestamp::of_date(date).map_err(|error| Failure::new(format!("policy.terms, from = \"{date}\": {error}")))
        });
        if self.before.is_some() && self.from.is_none() {
            return Err(Failure::new("policy.terms has 'before' and no 'from'")
                .hint("from = \"YYYY-MM-DD\" says until when the terms before are enough"));
        }
        let mut texts = self.texts(org)?.into_iter();
        rule.terms = texts.next().map(|terms| terms.digest());
        rule.terms_before = texts.next().map(|terms| terms.digest());
        rule.terms_from = from.transpose()?;
        Ok(())
    }
}

/// The first line that says something is the title, with or without Markdown's mark before it.
fn terms(org: OrgId, text: &str) -> Result<TermsOfUse, Failure> {
    // The same text whichever editor wrote it.
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\t', "    ");
    let title = text.lines().map(|line| line.trim_start_matches('#').trim()).find(|line| !line.is_empty());
    let title = title.ok_or_else(|| Failure::new("the terms of use say nothing"))?;
    let title = Text::new(title).while_("the first line of terms of use is their title")?;
    let text = Text::new(text).while_("terms of use have at most 64,000 bytes, without control characters")?;
    let terms = TermsOfUse { org, title, text };
    terms.to_bytes().while_("these terms of use break the rules")?;
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORG: OrgId = OrgId([1; 16]);

    #[test]
    fn the_first_line_is_the_title_and_line_ends_make_no_difference() {
        let unix = terms(ORG, "\n# Research use, version 2\n\n1. Publish.\n").unwrap();
        assert_eq!(unix.title.as_str(), "Research use, version 2");
        assert_eq!(
            unix.digest(),
            terms(ORG, "\u{feff}\r\n# Research use, version 2\r\n\r\n1. Publish.\r\n").unwrap().digest()
        );
        assert_ne!(unix.digest(), terms(OrgId([2; 16]), unix.text.as_str()).unwrap().digest(), "another owner's");
        for (text, word) in
            [("# \n\n", "nothing"), (&"a".repeat(200), "title"), (&format!("A\n{}", "a".repeat(64_000)), "64,000")]
        {
            let failure = terms(ORG, text).unwrap_err();
            assert!(failure.to_string().contains(word), "{failure}");
        }
    }
}

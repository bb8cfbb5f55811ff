//! `comity cite`: a receipt as a reference.

use clap::ValueEnum;
use comity_sdk::token::directory::Directory as _;
use comity_wire::object::{Manifest, Receipt};
use comity_wire::{Digest, Signed, Timestamp, Verified};
use serde_json::json;

use crate::kept;
use crate::printer::{Failure, note, plain, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Cite {
    /// The receipt's id, or how it begins [default: the newest]
    receipt: Option<String>,
    #[arg(long, value_enum, default_value_t = Form::All)]
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// All three
    All,
    Bibtex,
    /// CSL-JSON, as Zotero and pandoc read it
    Csl,
    /// A sentence for a methods section
    Sentence,
}

/// What a reference says.
struct Reference {
    id: Digest,
    model: String,
    title: String,
    owner: String,
    version: Option<u64>,
    release: Digest,
    at: Timestamp,
}

impl Cite {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let receipt = kept::one_or_newest(&session.home, self.receipt.as_deref())?;
        let client = session.look()?;
        let manifest = client.manifest(&receipt.unverified().model).await.ok();
        let manifest = manifest.filter(|manifest| manifest.id() == receipt.unverified().manifest);
        if manifest.is_none() {
            note("the manifest that the receipt names is not published any more: title and version are left out");
        }
        let owner = client.directory().certificate(receipt.unverified().node);
        let roster = client.directory().roster();
        let owner = owner.and_then(|certificate| roster.organisation(certificate.org).map(|org| org.title.to_string()));
        let reference = Reference::new(&receipt, manifest.as_ref(), owner);
        match self.form {
            Form::Bibtex => say(&reference.bibtex()),
            Form::Csl => say(&reference.csl()),
            Form::Sentence => say(&reference.sentence()),
            Form::All => say(&format!("{}\n\n{}\n\n{}", reference.bibtex(), reference.csl(), reference.sentence())),
        }
        Ok(())
    }
}

impl Reference {
    fn new(receipt: &Signed<Receipt>, manifest: Option<&Verified<Manifest>>, owner: Option<String>) -> Self {
        let id = receipt.id();
        let receipt = receipt.unverified();
        let model = receipt.model.to_string();
        Self {
            id,
            title: manifest.map_or_else(|| model.clone(), |manifest| plain(&manifest.title)),
            owner: owner.map_or_else(|| receipt.model.organisation().to_owned(), |owner| plain(&owner)),
            version: manifest.map(|manifest| manifest.version),
            release: receipt.release,
            at: receipt.at,
            model,
        }
    }

    fn date(&self) -> String {
        self.at.to_string().chars().take(10).collect()
    }

    fn short(&self) -> String {
        kept::short(&self.id)
    }

    fn version(&self) -> String {
        self.version.map_or_else(String::new, |version| format!("version {version}, "))
    }

    fn bibtex(&self) -> String {
        let fields = [
            ("title", format!("{{{}}}", tex(&self.title))),
            ("author", format!("{{{}}}", tex(&self.owner))),
            ("year", self.date().chars().take(4).collect()),
            (
                "howpublished",
                format!("Model {}, {}release \\texttt{{{}}}", tex(&self.model), self.version(), self.release),
            ),
            ("note", format!("Asked through Comity on {}; receipt \\texttt{{{}}}", self.date(), self.id)),
        ];
        let fields = fields.map(|(name, value)| format!("  {name} = {{{value}}}"));
        format!("@misc{{comity-{},\n{}\n}}", self.short(), fields.join(",\n"))
    }

    fn csl(&self) -> String {
        let parts: Vec<u32> = self.date().split('-').filter_map(|part| part.parse().ok()).collect();
        let date = json!({"date-parts": [parts]});
        let version = self.version.map(|version| version.to_string());
        let mut item = json!({
            "id": format!("comity-{}", self.short()), "type": "software", "title": self.title,
            "author": [{"literal": self.owner}], "issued": date, "accessed": date,
            "note": format!("model {}; release {}; receipt {}", self.model, self.release, self.id),
        });
        if let Some(version) = version {
            item["version"] = version.into();
        }
        serde_json::to_string_pretty(&json!([item])).expect("a JSON value has a text")
    }

    fn sentence(&self) -> String {
        format!(
            "We asked {} ({}, {}release {}…) of {} through Comity on {}; the owner's signed receipt is {}.",
            self.title,
            self.model,
            self.version(),
            kept::short(&self.release),
            self.owner,
            self.date(),
            self.id
        )
    }
}

/// What somebody else wrote, as TeX sets it.
fn tex(text: &str) -> String {
    let mut set = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => set.push_str("\\textbackslash{}"),
            '~' => set.push_str("\\textasciitilde{}"),
            '^' => set.push_str("\\textasciicircum{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                set.push('\\');
                set.push(c);
            }
            c => set.push(c),
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_who_which_and_when() {
        let reference = Reference {
            id: Digest([0xab; 32]),
            model: "lab/tiny_b".into(),
            title: "Tiny & co".into(),
            owner: "A company {lab}".into(),
            version: Some(3),
            release: Digest([0xcd; 32]),
            at: Timestamp(1_796_063_075),
        };
        let bibtex = reference.bibtex();
        assert!(bibtex.starts_with("@misc{comity-abababababab,"), "{bibtex}");
        assert!(
            bibtex.contains(r"Tiny \& co") && bibtex.contains(r"A company \{lab\}") && bibtex.contains(r"lab/tiny\_b")
        );
        assert_eq!(bibtex.matches('{').count(), bibtex.matches('}').count());
        let csl: serde_json::Value = serde_json::from_str(&reference.csl()).unwrap();
        assert_eq!((&csl[0]["issued"]["date-parts"][0][0], &csl[0]["version"]), (&json!(2026), &json!("3")));
        assert!(reference.sentence().contains("version 3, release cdcdcdcdcdcd…"), "{}", reference.sentence());
    }
}

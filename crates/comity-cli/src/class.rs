//! A class: who is in it, and the mandate of each. A file of the PI's that holds no key and no join code, and what is handed out of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_wire::cbor::List;
use comity_wire::object::{Mandate, ModelCap};
use comity_wire::{Amount, Digest, MandateId, ModelId, ProjectId, PublicKey, Signed, Timestamp};
use serde::{Deserialize, Serialize};

use crate::printer::Failure;
use crate::roster::Role;

/// `classes/NAME/class.json` in a home folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) project: ProjectId,
    /// What each place has, where nobody said otherwise.
    pub(crate) terms: Terms,
    pub(crate) ends_at: Timestamp,
    pub(crate) places: Vec<Place>,
}

/// What a student may draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    pub(crate) cap: Amount,
    pub(crate) cap_per_day: Amount,
    /// Empty: every model.
    pub(crate) models: Vec<Allowed>,
}

/// A model that may be asked, and for how much in all where that is less than the cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allowed {
    pub(crate) model: ModelId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cap: Option<Amount>,
}

/// A student's, an assistant's, or one that is kept for who comes late.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) label: String,
    pub(crate) role: Role,
    /// The mandate as it was signed last, base64url.
    pub(crate) signed: String,
    /// Whether it was ended from here.
    #[serde(default)]
    pub(crate) ended: bool,
}

/// Whom a mandate is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    Code(Digest),
    Key(PublicKey),
}

impl Terms {
    /// # Errors
    /// [`Failure`] where a day's cap or a model's is above the whole, or there are too many models.
    pub(crate) fn new(cap: Amount, cap_per_day: Option<Amount>, mut models: Vec<Allowed>) -> Result<Self, Failure> {
        models.sort_by(|a, b| a.model.cmp(&b.model));
        let cap_per_day = cap_per_day.unwrap_or(cap);
        let twice = models.windows(2).any(|pair| pair[0].model == pair[1].model);
        let above = cap_per_day > cap || models.iter().any(|one| one.cap.is_some_and(|model| model > cap));
        match (twice, above) {
            (true, _) => Err(Failure::new("a model is named twice", "name each once: --model lab/tiny=0.5cr")),
            (_, true) => Err(Failure::new(
                format!("a cap is above {cap}, what a student may draw in all"),
                "a day's and a model's are parts of it",
            )),
            _ => Ok(Self { cap, cap_per_day, models }),
        }
    }

    /// # Errors
    /// [`Failure`] where more models are named than a mandate takes.
    pub(crate) fn mandate(
        &self,
        (id, project): (MandateId, ProjectId),
        (whose, role): (Whose, Role),
        (not_before, not_after): (Timestamp, Timestamp),
    ) -> Result<Mandate, Failure> {
        let (member, join_code) = match whose {
            Whose::Key(key) => (Some(key), None),
            Whose::Code(digest) => (None, Some(digest)),
        };
        let capped = |one: &Allowed| one.cap.map(|cap| ModelCap { model: one.model.clone(), cap });
        Ok(Mandate {
            id,
            project,
            member,
            join_code,
            cap: self.cap,
            cap_per_day: self.cap_per_day,
            models: List::new(self.models.iter().map(|one| one.model.clone()).collect())?,
            not_before,
            not_after,
            model_caps: List::new(self.models.iter().filter_map(capped).collect())?,
            assists: (role == Role::Assistant).then_some(true),
        })
    }

    /// Those that a mandate has.
    pub(crate) fn of(mandate: &Mandate) -> Self {
        let allowed = |model: &ModelId| Allowed { model: model.clone(), cap: mandate.cap_of(model) };
        Self {
            cap: mandate.cap,
            cap_per_day: mandate.cap_per_day,
            models: mandate.models.iter().map(allowed).collect(),
        }
    }
}

impl Place {
    pub(crate) fn new(label: String, role: Role, signed: &[u8]) -> Self {
        Self { label, role, signed: URL_SAFE_NO_PAD.encode(signed), ended: false }
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        URL_SAFE_NO_PAD.decode(&self.signed).map_err(|_| damaged())
    }

    /// What the mandate says. Whoever takes it in verifies it.
    pub(crate) fn mandate(&self) -> Result<Mandate, Failure> {
        Ok(Signed::<Mandate>::decode(&self.bytes()?)?.unverified().clone())
    }
}

fn damaged() -> Failure {
    Failure::new("this is no class, or it was changed by hand", "take the file that comity class create wrote")
}

impl Class {
    /// Where a class of this name lies; a path to such a file, which a PI hands to an assistant, is one, too.
    pub(crate) fn path(home: &Path, name: &str) -> PathBuf {
        let given = Path::new(name);
        let is_path = given.extension().is_some_and(|ending| ending == "json") && given.is_file();
        if is_path { given.to_owned() } else { home.join("classes").join(name).join("class.json") }
    }

    /// # Errors
    /// [`Failure`] where there is none.
    pub(crate) fn load(home: &Path, name: &str) -> Result<Self, Failure> {
        let path = Self::path(home, name);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::new(
                format!("cannot read the class {}: {error}", path.display()),
                "comity class create NAME roster.csv",
            )
        })?;
        serde_json::from_str(&text).map_err(|_| damaged())
    }

    /// Whole or not at all, readable by its owner alone.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) fn save(&self, home: &Path, name: &str) -> Result<PathBuf, Failure> {
        let path = Self::path(home, name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("new");
        let mut file = private(std::fs::OpenOptions::new().write(true).create(true).truncate(true)).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        Ok(path)
    }

    /// # Errors
    /// [`Failure`] where nobody is called so.
    pub(crate) fn place(&mut self, label: &str) -> Result<&mut Place, Failure> {
        let name = self.name.clone();
        let is_it = |place: &&mut Place| place.label.eq_ignore_ascii_case(label);
        self.places.iter_mut().find(is_it).ok_or_else(|| {
            Failure::new(format!("nobody in {name} is called {label}"), format!("comity class show {name} lists them"))
        })
    }

    /// What students are given, all of them the same: it is nobody's secret.
    pub(crate) fn handout(&self) -> Result<Handout, Failure> {
        let standing = self.places.iter().filter(|place| !place.ended);
        Ok(Handout { class: self.name.clone(), mandates: standing.map(|place| place.signed.clone()).collect() })
    }
}

/// Options for a file that nobody else reads.
pub(crate) fn private(options: &mut std::fs::OpenOptions) -> &mut std::fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// The mandates of a class, without names. Each is nothing without its join code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Handout {
    pub(crate) class: String,
    pub(crate) mandates: Vec<String>,
}

impl Handout {
    /// The largest file that is read, bytes.
    const BYTES_MAX: u64 = 32 << 20;

    /// # Errors
    /// [`Failure`] where it is none.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let hint = "name the file NAME.class that your PI handed out";
        let cannot = |why: String| Failure::new(format!("cannot read {}: {why}", path.display()), hint);
        let size = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
        if size > Self::BYTES_MAX {
            return Err(cannot(format!("it has {size} bytes")));
        }
        let text = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|_| cannot("it is no class".to_owned()))
    }

    /// The mandate that a code opens.
    ///
    /// # Errors
    /// [`Failure`] where there is none.
    pub(crate) fn opened_by(&self, code: Digest) -> Result<Vec<u8>, Failure> {
        for signed in &self.mandates {
            let bytes = URL_SAFE_NO_PAD.decode(signed).map_err(|_| damaged())?;
            if Signed::<Mandate>::decode(&bytes)?.unverified().join_code == Some(code) {
                return Ok(bytes);
            }
        }
        Err(Failure::new(
            format!("nothing in the class {} opens with this code", crate::printer::plain(&self.class)),
            "look at what you typed; where you were given a new code, take the newer file of the class",
        ))
    }
}

/// `lab/tiny`, or `lab/tiny=0.5cr` with what may be drawn for it in all.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn allowed(text: &str) -> Result<Allowed, String> {
    let (model, cap) = match text.split_once('=') {
        Some((model, cap)) => (model, Some(crate::money::amount(cap)?)),
        None => (text, None),
    };
    let model = model.parse().map_err(|_| format!("{model:?} is no model: OWNER/NAME, such as lab/tiny"))?;
    Ok(Allowed { model, cap })
}

/// A name that is a folder's, too.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn named(text: &str) -> Result<String, String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name of a class: letters, digits, - and _, 64 at most"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use comity_wire::{SecretKey, cose};

    fn terms() -> Terms {
        let allowed = ["lab/tiny", "lab/large=0.5cr"].map(|text| allowed(text).unwrap()).to_vec();
        Terms::new(Amount::credits(2), Some(Amount::credits(1)), allowed).unwrap()
    }

    fn place(code: Digest, role: Role) -> Place {
        let mandate = terms()
            .mandate(
                (MandateId([1; 16]), ProjectId([2; 16])),
                (Whose::Code(code), role),
                (Timestamp(1_795_420_800), Timestamp(1_795_420_801)),
            )
            .unwrap();
        Place::new("ada".into(), role, cose::sign(&mandate, &SecretKey::from_seed([3; 32])).bytes())
    }

    #[test]
    fn a_place_says_what_was_signed() {
        let code = Digest::of(b"code");
        let mandate = place(code, Role::Assistant).mandate().unwrap();
        assert_eq!((Terms::of(&mandate), mandate.assists, mandate.join_code), (terms(), Some(true), Some(code)));
        assert_eq!(place(code, Role::Student).mandate().unwrap().assists, None);
        for wrong in ["tiny", "lab/tiny=", "lab/tiny=-1"] {
            assert!(allowed(wrong).is_err(), "{wrong}");
        }
        assert!(Terms::new(Amount::credits(1), Some(Amount::credits(2)), Vec::new()).is_err());
        assert!(Terms::new(Amount::credits(1), None, vec![allowed("a/b=2cr").unwrap()]).is_err());
    }

    #[test]
    fn what_is_handed_out_has_no_names_and_opens_with_a_code() {
        let home = tempfile::tempdir().unwrap();
        let code = Digest::of(b"code");
        let mut class = Class {
            name: "weather".into(),
            project: ProjectId([2; 16]),
            terms: terms(),
            ends_at: Timestamp(1_795_420_801),
            places: vec![place(code, Role::Student)],
        };
        let path = class.save(home.path(), "weather").unwrap();
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o77, 0);
        let mut read = Class::load(home.path(), "weather").unwrap();
        assert_eq!(read.place("ADA").unwrap().signed, class.places[0].signed);
        let handout = serde_json::to_string(&class.handout().unwrap()).unwrap();
        assert!(!handout.contains("ada"), "{handout}");
        assert_eq!(class.handout().unwrap().opened_by(code).unwrap(), class.places[0].bytes().unwrap());
        assert!(class.handout().unwrap().opened_by(Digest::of(b"other")).is_err());
        class.places[0].ended = true;
        assert!(class.handout().unwrap().opened_by(code).is_err(), "an ended place is handed out no more");
        for wrong in ["", "../up", "a b", "a.b"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}

//! `[filters]` of `node.toml`: the rule packs that this node looks for, those that ship and an owner's own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_guard::{Classifier, Filter, RulePack, pack_signed};
use comity_wire::{Digest, PublicKey, SecretKey};
use serde::Deserialize;

use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::service::register::Configured;

/// Packs of one node.
const PACKS_MAX: usize = 64;

/// What stands there; without a line the packs that ship.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// Whether the packs that ship are looked for, too.
    pub builtin: bool,
    /// Whether the classifier looks beside the rules.
    pub classifier: bool,
    pub pack: Vec<PackFile>,
}

impl Default for Filters {
    fn default() -> Self {
        Self { builtin: true, classifier: true, pack: Vec::new() }
    }
}

/// A pack of an owner's own, or of somebody whom it trusts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackFile {
    /// TOML; relative to the home folder.
    pub file: PathBuf,
    /// Who has to have signed it, in FILE.sig; left out: nobody, as it lies beside the node's keys.
    #[serde(default)]
    pub signer: Option<PublicKey>,
}

/// A pack that was read, and where from.
#[derive(Clone, Debug)]
pub struct Read {
    pub pack: RulePack,
    /// `None`: it ships.
    pub from: Option<PackFile>,
}

impl Filters {
    /// Which rules are looked for, for the register.
    ///
    /// # Errors
    /// As [`Filters::read`].
    pub fn configured(&self, home: &Home) -> Result<Configured, Failure> {
        let (mut names, mut texts) = (Vec::new(), Vec::new());
        for Read { pack, from } in self.read(home)? {
            names.push(format!("{} {}", pack.name, pack.version));
            if let Some(from) = from {
                texts.push(std::fs::read(home.path.join(&from.file))?);
            }
        }
        let names = format!("{}; classifier: {}", names.join(", "), self.classifier);
        let mut parts: Vec<&[u8]> = vec![names.as_bytes(), &[0]];
        let digests: Vec<Digest> = texts.iter().map(|text| Digest::of(text)).collect();
        parts.extend(digests.iter().map(|digest| &digest.0[..]));
        let digest = Digest::of_parts(&parts);
        Ok(Configured { what: "rules of the filter".into(), digest, said: names })
    }

    /// Reads and checks every pack.
    ///
    /// # Errors
    /// [`Failure`] naming the file that is no pack, was signed by nobody or by somebody else, or has another pack's name.
    pub fn read(&self, home: &Home) -> Result<Vec<Read>, Failure> {
        if self.pack.len() > PACKS_MAX {
            return Err(Failure::new(format!("node.toml: more than {PACKS_MAX} [[filters.pack]]")));
        }
        let shipped = if self.builtin { RulePack::builtin() } else { Vec::new() };
        let mut packs: Vec<Read> = shipped.into_iter().map(|pack| Read { pack, from: None }).collect();
        for file in &self.pack {
            let path = home.path.join(&file.file);
            let text = std::fs::read_to_string(&path).while_(format!("cannot read {}", path.display()))?;
            if let Some(signer) = &file.signer {
                is_signed(&path, &text, signer)?;
            }
            let pack = RulePack::from_toml(&text).while_(format!("{} is no rule pack", path.display()))?;
            packs.push(Read { pack, from: Some(file.clone()) });
        }
        let mut names = BTreeSet::new();
        match packs.iter().find(|read| !names.insert(read.pack.name.as_str())) {
            // A rule is known by its pack's name and its own.
            Some(twice) => Err(Failure::new(format!("two rule packs are called {}", twice.pack.name))
                .hint("give yours another name; [filters] builtin = false leaves those out that ship")),
            None => Ok(packs),
        }
    }

    /// Compiles them.
    ///
    /// # Errors
    /// As [`Filters::read`], or where a pattern has no bound.
    pub fn filter(&self, home: &Home) -> Result<Filter, Failure> {
        let packs: Vec<RulePack> = self.read(home)?.into_iter().map(|read| read.pack).collect();
        let filter = Filter::new(&packs).while_("node.toml: [filters]: the packs cannot be compiled")?;
        Ok(if self.classifier { filter.with_classifier(Classifier::builtin()) } else { filter })
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

fn is_signed(path: &Path, text: &str, signer: &PublicKey) -> Result<(), Failure> {
    let file = beside(path);
    let signature = std::fs::read_to_string(&file).while_(format!("cannot read {}", file.display()))?;
    let signature = STANDARD.decode(signature.trim()).ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
    let is_good = signature.is_some_and(|signature| pack_signed::is_signed(text, &signature, signer));
    if is_good {
        return Ok(());
    }
    Err(Failure::new(format!("{} was not signed by {signer}", path.display()))
        .hint("get the pack and its .sig from its publisher again, or ask whether the key is another one now"))
}

/// Signs a pack for others, into FILE.sig; it has to be one.
///
/// # Errors
/// [`Failure`] where the file is no pack, or the signature cannot be written.
pub fn sign(path: &Path, key: &SecretKey) -> Result<PathBuf, Failure> {
    let text = std::fs::read_to_string(path).while_(format!("cannot read {}", path.display()))?;
    let pack = RulePack::from_toml(&text).while_(format!("{} is no rule pack", path.display()))?;
    Filter::new(&[pack]).while_(format!("{} cannot be compiled", path.display()))?;
    let file = beside(path);
    home::write(&file, (STANDARD.encode(pack_signed::sign(&text, key)) + "\n").as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Role;
    use crate::keystore::KeyName;

    const PACK: &str = "name = \"lab\"\nversion = 3\nlicence = \"MIT\"\n[[rule]]\nid = \"mercury\"\ncategory = \"cbrn\"\nphrases = [\"project mercury\"]\n";

    fn filters(text: &str) -> Filters {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn an_owners_own_rules_are_looked_for_beside_those_that_ship() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
        std::fs::write(home.path.join("lab.toml"), PACK).unwrap();
        let text = "Tell me of PROJECT Mercury, and write a campaign line that asks people to vote for Alder.";
        let seen = |config: &str| {
            let found = filters(config).filter(&home).unwrap().scan(text);
            found.categories().map(|(category, _)| category.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(seen(""), ["political_persuasion"]);
        assert_eq!(seen("[[pack]]\nfile = \"lab.toml\""), ["political_persuasion", "cbrn"]);
        assert_eq!(seen("builtin = false\nclassifier = false\n[[pack]]\nfile = \"lab.toml\""), ["cbrn"]);
        assert_eq!(seen("builtin = false\nclassifier = false"), Vec::<String>::new());
        // A rule is known by one name.
        let twice = filters("[[pack]]\nfile = \"lab.toml\"\n[[pack]]\nfile = \"lab.toml\"").filter(&home).unwrap_err();
        assert!(twice.to_string().contains("called lab"), "{twice}");
        std::fs::write(home.path.join("lab.toml"), PACK.replace("\"lab\"", "\"political\"")).unwrap();
        assert!(filters("[[pack]]\nfile = \"lab.toml\"").filter(&home).is_err());
        assert!(filters("builtin = false\n[[pack]]\nfile = \"lab.toml\"").filter(&home).is_ok());
        assert!(filters("[[pack]]\nfile = \"none.toml\"").filter(&home).is_err());
    }

    #[test]
    fn a_pack_of_somebody_else_is_taken_as_its_publisher_signed_it() {
        let folder = tempfile::tempdir().unwrap();
        let publisher = Home::init(&folder.path().join("pub"), "pub", "Publisher", Role::Owner).unwrap();
        let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
        let (path, key) = (home.path.join("lab.toml"), publisher.keys.read(KeyName::Writer).unwrap());
        std::fs::write(&path, PACK).unwrap();
        let config = filters(&format!("[[pack]]\nfile = \"lab.toml\"\nsigner = \"{}\"", key.public()));
        assert!(config.filter(&home).is_err(), "nobody signed it");
        sign(&path, &key).unwrap();
        assert_eq!(config.read(&home).unwrap().last().unwrap().pack.version, 3);
        std::fs::write(&path, PACK.replace("mercury", "saturn")).unwrap();
        let changed = config.filter(&home).unwrap_err();
        assert!(changed.to_string().contains("was not signed by"), "{changed}");
        let other = home.keys.read(KeyName::Writer).unwrap();
        sign(&path, &other).unwrap();
        assert!(config.filter(&home).is_err(), "somebody else signed it");
        std::fs::write(&path, "name = ").unwrap();
        assert!(sign(&path, &key).is_err());
    }
}

//! `comity node packs`: which rules the node looks for, what they find, and signing a pack for others.

use std::path::PathBuf;

use clap::Subcommand;
use comity_guard::Category;
use serde_json::json;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::keystore::KeyName;
use crate::packs;
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub enum Packs {
    /// The rule packs of node.toml, checked: name, version, rules, where from, who signed them
    List {
        /// The node's home folder
        #[arg(long)]
        home: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What they find in a text, and by which rule
    Try {
        /// The node's home folder
        #[arg(long)]
        home: PathBuf,
        /// The text; - for standard input
        text: String,
    },
    /// Sign a pack for others, with the key that signs your feed; writes FILE.sig and prints the key that they name as signer
    Sign {
        /// The node's home folder
        #[arg(long)]
        home: PathBuf,
        file: PathBuf,
    },
}

impl Packs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { home, json } => list(&Home::open(&home)?, json),
            Self::Try { home, text } => {
                let home = Home::open(&home)?;
                let text = match text.as_str() {
                    "-" => std::io::read_to_string(std::io::stdin()).while_("cannot read standard input")?,
                    _ => text,
                };
                let found = Settings::read(&home)?.filters.filter(&home)?.scan(&text);
                for (category, count) in found.categories() {
                    let rules: Vec<String> =
                        found.rules_of(category).map(|(rule, count)| format!("{rule} ({count})")).collect();
                    let band = found
                        .band(category)
                        .map_or("", |band| if band == comity_guard::Band::High { "high" } else { "medium" });
                    comity_cli::say(&format!("{category}  {count}  {band}  {}", rules.join(", ")));
                }
                if found.categories().next().is_none() {
                    comity_cli::say("nothing is found");
                }
                Ok(())
            }
            Self::Sign { home, file } => {
                let key = Home::open(&home)?.keys.read(KeyName::Writer)?;
                let written = packs::sign(&file, &key)?;
                comity_cli::say(&key.public().to_string());
                comity_cli::note(&format!(
                    "{}: give it to others with the pack; they name the key above as its signer",
                    written.display()
                ));
                Ok(())
            }
        }
    }
}

fn list(home: &Home, json: bool) -> Result<(), Failure> {
    let filters = Settings::read(home)?.filters;
    // Compiled too: a pattern without a bound is found here, and not at the next start.
    filters.filter(home)?;
    let mut told = Vec::new();
    for packs::Read { pack, from } in filters.read(home)? {
        let categories: Vec<&str> = Category::ALL
            .into_iter()
            .filter(|category| pack.rules.iter().any(|rule| rule.category == *category))
            .map(Category::name)
            .collect();
        let (file, signer) = from.map_or((None, None), |from| (Some(from.file), from.signer));
        if json {
            told.push(
                json!({"name": pack.name, "version": pack.version, "licence": pack.licence, "rules": pack.rules.len(),
                "categories": categories, "file": file, "signer": signer}),
            );
            continue;
        }
        let from = file.map_or_else(|| "ships".to_owned(), |file| file.display().to_string());
        let by = signer.map_or_else(String::new, |signer| format!(", signed by {signer}"));
        let (name, version, rules) = (&pack.name, pack.version, pack.rules.len());
        comity_cli::say(&format!("{name} {version}  {rules} rules  {}  {from}{by}", categories.join(", ")));
    }
    if json {
        comity_cli::say(&serde_json::to_string_pretty(&told)?);
    }
    Ok(())
}

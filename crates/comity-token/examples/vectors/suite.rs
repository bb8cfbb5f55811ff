//! Reads every file under spec/vectors and says what is wrong with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use comity_wire::Code;
use serde_json::Value;

use super::{check, make};

/// What one run saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) files: usize,
    pub(crate) vectors: usize,
    pub(crate) refused: BTreeSet<String>,
    pub(crate) problems: Vec<String>,
}

/// Which code is shown by which test, for codes that no bytes alone can bring about.
const TABLE: &str = "README.json";

/// Works every vector out, by whichever implementation it was made.
pub(crate) fn run(folder: &Path) -> Seen {
    let mut seen = Seen::default();
    for path in paths(folder) {
        if path.file_name().is_some_and(|name| name == TABLE) {
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "json") {
            seen.problems.push(format!("{} is no vector file and stays unread", path.display()));
            continue;
        }
        read(&path, &mut seen);
    }
    seen
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(paths(&path)) } else { found.push(path) }
    }
    found.sort_unstable();
    found
}

fn read(path: &Path, seen: &mut Seen) {
    let file: Value = serde_json::from_str(&fs::read_to_string(path).expect("a text file")).expect("JSON");
    let vectors = file["vectors"].as_array().filter(|vectors| !vectors.is_empty());
    let Some(vectors) = vectors else {
        seen.problems.push(format!("{} has no vectors", path.display()));
        return;
    };
    seen.files += 1;
    let states = check::states(&file);
    for vector in vectors {
        seen.vectors += 1;
        let outcome = check::evaluate(vector, &states);
        let problem = match (&vector["expect"]["error"], outcome) {
            (Value::String(code), Err(found)) if *code == found => {
                seen.refused.insert(found);
                continue;
            }
            (Value::Null, Ok(details)) => match differs(&vector["expect"]["ok"], &details) {
                None => continue,
                Some(what) => what,
            },
            (_, found) => format!("{found:?} for {}", vector["expect"]),
        };
        seen.problems.push(format!("{} {}: {problem}", path.display(), vector["id"]));
    }
}

/// Each detail that the vector states must be what came out.
fn differs(stated: &Value, found: &Value) -> Option<String> {
    let Some(stated) = stated.as_object() else { return Some("it expects neither ok nor error".to_owned()) };
    let differs = stated.iter().find(|(name, value)| found[name.as_str()] != **value);
    differs.map(|(name, value)| format!("{name} is {}, stated {value}", found[name.as_str()]))
}

/// The marks that vectors stand for.
#[allow(dead_code, reason = "asked by the conformance test, not by the generator")]
pub(crate) fn rules(folder: &Path) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for path in paths(folder) {
        let file: Value = serde_json::from_str(&fs::read_to_string(path).expect("a text file")).expect("JSON");
        for vector in file["vectors"].as_array().into_iter().flatten() {
            rules.extend(vector["rule"].as_str().map(str::to_owned));
        }
    }
    rules
}

/// What making the files again would change, and files that nobody makes.
pub(crate) fn changed(folder: &Path) -> Vec<String> {
    let made = make::files();
    let mut problems = Vec::new();
    for (name, text) in &made {
        if fs::read_to_string(folder.join(name)).is_ok_and(|have| have == *text) {
            continue;
        }
        problems.push(format!("{name} is not what `cargo run -p comity-token --example vectors` writes"));
    }
    for entry in fs::read_dir(folder).expect("spec/vectors") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && name != TABLE && made.iter().all(|(known, _)| *known != name) {
            problems.push(format!("{name} is made by nobody"));
        }
    }
    problems
}

/// Codes without a vector must name a test that saw them: `path/to/file.rs::name_of_the_test`.
pub(crate) fn codes_not_shown(root: &Path, refused: &BTreeSet<String>) -> Vec<String> {
    let table = fs::read_to_string(root.join("spec/vectors").join(TABLE)).expect("spec/vectors/README.json");
    let table: Value = serde_json::from_str(&table).expect("JSON");
    let shown = |code: &Code| {
        if refused.contains(code.as_str()) {
            return Ok(());
        }
        // The one code that stands for what nobody foresaw.
        if *code == Code::Internal && table["without"]["internal"].is_string() {
            return Ok(());
        }
        let Some(named) = table["codes"][code.as_str()].as_str() else {
            return Err(format!("{code}: no vector is refused for it, and {TABLE} names no test"));
        };
        let (path, test) = named.split_once("::").ok_or_else(|| format!("{code}: '{named}' is not path::test"))?;
        let source = fs::read_to_string(root.join(path)).map_err(|error| format!("{code}: {path}: {error}"))?;
        let names = [format!("Code::{code:?}"), format!("\"{code}\"")];
        let found = source.contains(&format!("fn {test}(")) && names.iter().any(|name| source.contains(name));
        if found { Ok(()) } else { Err(format!("{code}: {path} has no test '{test}', or does not name the code")) }
    };
    Code::ALL.iter().filter_map(|code| shown(code).err()).collect()
}

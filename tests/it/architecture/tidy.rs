//! Files: nothing forgotten, one toolchain, no trace of the machine that something was written on.

use std::fs;
use std::path::{Path, PathBuf};

use super::{read, root};

/// Directories that are made, not written.
const MADE: &[&str] = &["target", ".git", ".venv", "__pycache__", "node_modules"];
/// Kinds of files with words in them.
const WORDED: &[&str] = &["rs", "toml", "md", "py", "sh", "sql", "cddl", "txt", "yml", "yaml", "json", "html"];
/// A model or a vector file may be large; words are in the small ones.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Every file below a directory of the checkout that was written by someone.
fn written(below: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(below).expect("a directory").map(|entry| entry.expect("an entry")).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() && !MADE.contains(&name.as_str()) {
            written(&path, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

#[test]
fn no_file_of_the_integration_tests_is_forgotten() {
    let it = root().join("tests/it");
    let mut files = Vec::new();
    written(&it, &mut files);
    let mut sources = 0;
    for file in
        files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "rs") && !file.ends_with("main.rs"))
    {
        sources += 1;
        let name = file.file_stem().expect("a name").to_string_lossy();
        let folder = file.parent().expect("a folder");
        // `it/foo.rs` is declared in `it/main.rs`, `it/foo/bar.rs` in `it/foo.rs`.
        let parent = if folder == it { it.join("main.rs") } else { folder.with_extension("rs") };
        let text = fs::read_to_string(&parent).unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
        let declared = text.lines().any(|line| line.trim_start_matches("pub(crate) ").trim() == format!("mod {name};"));
        assert!(declared, "{} is not declared in {}", file.display(), parent.display());
    }
    assert!(sources >= 4, "found {sources}");
}

#[test]
fn the_toolchain_is_exactly_1_95_0() {
    let file: toml::Table = read("rust-toolchain.toml").parse().expect("TOML");
    assert_eq!(file["toolchain"]["channel"].as_str(), Some("1.95.0"), "`1.95` alone is not found everywhere");
}

#[test]
fn no_file_names_a_machine_or_a_package_index() {
    // Spelled in two halves, so that this file does not name them either.
    let never = [
        concat!("/wo", "rk/"),
        concat!("../sha", "red/"),
        concat!("pypi", ".org"),
        concat!("files.python", "hosted.org"),
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("registry.", "npmjs.org"),
        concat!("proxy.", "golang.org"),
        concat!("deb.", "debian.org"),
        concat!("/root/", ".cargo"),
    ];
    let mut files = Vec::new();
    written(&root(), &mut files);
    let worded = |file: &&PathBuf| {
        let extension = file.extension().map(|extension| extension.to_string_lossy().into_owned());
        extension.is_none_or(|extension| WORDED.contains(&extension.as_str()))
            && fs::metadata(file).is_ok_and(|about| about.len() <= FILE_BYTES_MAX)
    };
    let mut faults = Vec::new();
    let mut looked_at = 0;
    for file in files.iter().filter(worded) {
        // Not UTF-8 is not words.
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        looked_at += 1;
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = never.iter().find(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(looked_at > 50, "looked at {looked_at} files");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_crate_opts_into_the_lints_and_only_the_root_declares_features() {
    let mut files = Vec::new();
    written(&root(), &mut files);
    let outside = [root().join("bench"), root().join("fuzz")];
    let manifests = files.iter().filter(|file| file.ends_with("Cargo.toml") && **file != root().join("Cargo.toml"));
    for file in manifests.filter(|file| !outside.iter().any(|folder| file.starts_with(folder))) {
        let manifest: toml::Table = fs::read_to_string(file).expect("readable").parse().expect("TOML");
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(lints.and_then(toml::Value::as_bool), Some(true), "{}: [lints] workspace = true", file.display());
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, entry) in table {
                let inherited = entry.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(
                    inherited && entry.get("features").is_none(),
                    "{}: {name} is declared in the root",
                    file.display()
                );
            }
        }
    }
}

//! Third-party crates: licences, bans, floors, sources and the features that must never meet.
//!
//! `deny.toml` is the one list; this reads it, so nobody needs cargo-deny or a network to be held to it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::{Graph, cargo, read};

fn deny() -> toml::Table {
    read("deny.toml").parse().expect("deny.toml is TOML")
}

fn strings(value: &toml::Value) -> BTreeSet<String> {
    value.as_array().expect("a list").iter().map(|item| item.as_str().expect("a string").to_owned()).collect()
}

#[test]
fn every_licence_is_on_the_list() {
    let allowed = strings(&deny()["licenses"]["allow"]);
    let packages = Graph::load().packages.values().filter(|package| package.compiled);
    assert!(packages.clone().count() > 300, "cargo tree was understood");
    for package in packages {
        assert!(
            fits(&package.licence, &allowed),
            "{} {} is under `{}`, which deny.toml does not allow",
            package.name,
            package.version,
            package.licence
        );
    }
}

#[test]
fn a_licence_expression_is_read_as_spdx_means_it() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, expected) in [
        ("MIT", true),
        ("MPL-2.0", false),
        ("", false),
        ("MIT OR GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("GPL-3.0/MIT", true),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("(ISC AND GPL-3.0) OR LGPL-2.1", false),
        ("MIT AND ISC OR GPL-3.0", true),
        ("GPL-3.0 OR MIT AND MPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(fits(expression, &allowed), expected, "{expression}");
    }
}

/// Whether some choice that the expression offers lies within `allowed`. AND binds closer than OR.
fn fits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    !words.is_empty() && any(&words, &mut at, allowed) && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut good = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        good |= all(words, at, allowed);
    }
    good
}

fn all(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut good = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        good &= one(words, at, allowed);
    }
    good
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let good = any(words, at, allowed);
        *at += 1;
        return good;
    }
    if words.get(*at) == Some(&"WITH") {
        let whole = format!("{word} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
        return allowed.contains(&whole);
    }
    allowed.contains(word)
}

/// A ban: outright, below a floor, or but for some wrappers.
enum Ban {
    Never,
    Below(Version),
    Outside(BTreeSet<String>),
}

type Version = (u64, u64, u64);

fn version(text: &str) -> Version {
    let release = text.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = release.split('.').map(|number| number.parse().expect("a version number"));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

fn bans() -> Vec<(String, Ban, String)> {
    let file = deny();
    let entries = file["bans"]["deny"].as_array().expect("a list of bans").clone();
    let read = |entry: &toml::Value| {
        let spec = entry["crate"].as_str().expect("a ban names a crate");
        let reason = entry["reason"].as_str().expect("a ban has a reason").to_owned();
        let (name, ban) = match spec.split_once("@<") {
            Some((name, floor)) => (name, Ban::Below(version(floor))),
            None => (spec, entry.get("wrappers").map_or(Ban::Never, |wrappers| Ban::Outside(strings(wrappers)))),
        };
        (name.to_owned(), ban, reason)
    };
    entries.iter().map(read).collect()
}

#[test]
fn bans_and_floors_hold() {
    let graph = Graph::load();
    let mut floors = 0;
    for (name, ban, reason) in bans() {
        for (id, package) in graph.packages.iter().filter(|(_, package)| package.compiled && package.name == name) {
            match &ban {
                Ban::Never => panic!("{name} {} is banned: {reason}", package.version),
                Ban::Below(floor) => {
                    floors += 1;
                    assert!(
                        version(&package.version) >= *floor,
                        "{name} {} is below {floor:?}: {reason}",
                        package.version
                    );
                }
                Ban::Outside(wrappers) => {
                    for user in graph.packages.values().filter(|user| user.compiled && user.arrows.contains_key(id)) {
                        assert!(wrappers.contains(&user.name), "{} depends on {name}: {reason}", user.name);
                    }
                }
            }
        }
    }
    assert!(floors >= 6, "the floors of gossipsub, yamux, quic and quinn are checked, not skipped: {floors}");
}

#[test]
fn a_version_is_compared_by_number() {
    assert!(version("0.13.10") > version("0.13.9"));
    assert!(version("0.5.0-alpha") == version("0.5.0"));
    assert!(version("1.2") == version("1.2.0"));
}

#[test]
fn crates_come_from_one_registry_or_from_here() {
    for package in Graph::load().packages.values() {
        if let Some(source) = &package.source {
            assert!(source.starts_with("registry+"), "{} comes from {source}", package.name);
        }
    }
}

#[test]
fn one_tls_provider_and_it_is_aws_lc() {
    let mut seen = 0;
    for package in Graph::load().packages.values().filter(|package| package.name == "rustls") {
        seen += 1;
        assert!(!package.features.contains("ring"), "rustls {} has ring turned on", package.version);
        assert!(package.features.contains("aws_lc_rs"), "rustls {} lacks aws-lc-rs", package.version);
    }
    assert_eq!(seen, 1, "copies of rustls");
}

#[test]
fn one_ed25519_is_linked() {
    let graph = Graph::load();
    let copies: Vec<&str> = graph
        .linked("comity-node")
        .into_iter()
        .filter(|id| graph.packages[*id].name == "ed25519-dalek")
        .map(|id| graph.packages[id].version.as_str())
        .collect();
    assert_eq!(copies.len(), 1, "copies of ed25519-dalek in the binary: {copies:?}");
    assert!(version(copies[0]) >= (3, 0, 0), "{copies:?}");
}

/// Build rule 2: the binary that `cargo demo` builds has each third-party crate with the features that the tests
/// compiled it with; else the first of the two commands to run second compiles half the house again.
#[test]
fn the_binary_and_the_tests_share_one_resolution() {
    let binary = features(cargo().args(["tree", "-p", "comity-node", "-e", "normal,build"]));
    let tests = features(cargo().args(["tree", "--workspace", "-e", "normal,build,dev"]));
    let mut apart = Vec::new();
    for (package, sets) in &binary {
        let Some(with_tests) = tests.get(package) else {
            continue;
        };
        if !sets.is_subset(with_tests) {
            apart.push(format!("{package}: binary {sets:?}, tests {with_tests:?}"));
        }
    }
    assert!(binary.len() > 100, "cargo tree was understood: {}", binary.len());
    apart.retain(|line| !ORACLE.iter().any(|name| line.starts_with(&format!("{name} v"))));
    assert!(apart.is_empty(), "a dev-dependency changes features:\n{}", apart.join("\n"));
}

/// FIXME: what the oracle `httpsig` turns on (through p256 and elliptic-curve). All of it is cheap to compile but for
/// what stands above it; when that oracle moves to a package outside the workspace this list becomes empty.
const ORACLE: &[&str] =
    &["base64", "crypto-common", "ctutils", "der", "getrandom", "hybrid-array", "pkcs8", "signature", "spki", "subtle"];

/// Package and version → each set of features it is compiled with (host and target may differ).
fn features(command: &mut Command) -> BTreeMap<String, BTreeSet<String>> {
    let output = command
        .args(["--locked", "--offline", "--prefix", "none", "--format", "{p}|{f}"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line = line.trim_end_matches(" (*)");
        if let Some((package, features)) = line.split_once('|').filter(|(package, _)| !package.contains('/')) {
            found.entry(package.to_owned()).or_default().insert(features.to_owned());
        }
    }
    found
}

//! The walls of the house, read from `cargo metadata` and held against `docs/architecture.md` and `deny.toml`.
//!
//! `arrows`: who may depend on whom. `parts`: licences, bans, floors and features of third-party crates. `tidy`: files.

mod arrows;
mod parts;
mod tidy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the checkout").to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One resolved package.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: String,
    /// `None` for a path inside this checkout.
    source: Option<String>,
    /// `cargo metadata` also resolves what a weak feature (`upnp?/tokio`) merely mentions; `cargo tree` knows better.
    compiled: bool,
    features: BTreeSet<String>,
    /// Package id → whether the arrow is used outside of tests.
    arrows: BTreeMap<String, Use>,
}

/// What an arrow is used for; build scripts count as `Normal`, since they run on the machine that builds us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Normal,
    Tests,
}

/// What cargo resolved, by package id; only what the workspace can reach.
struct Graph {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
}

impl Graph {
    fn load() -> &'static Self {
        static GRAPH: OnceLock<Graph> = OnceLock::new();
        GRAPH.get_or_init(|| Self::from_metadata(&metadata(), &compiled()))
    }

    fn from_metadata(metadata: &Value, compiled: &BTreeSet<String>) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let members: BTreeSet<String> = list(&metadata["workspace_members"]).iter().filter_map(text).collect();
        let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
            .into_iter()
            .map(|node| (text(&node["id"]).expect("a node has an id"), node))
            .collect();
        let about: BTreeMap<String, Value> = list(&metadata["packages"])
            .into_iter()
            .map(|package| (text(&package["id"]).expect("a package has an id"), package))
            .collect();

        let mut packages = BTreeMap::new();
        let mut todo: Vec<String> = members.iter().cloned().collect();
        while let Some(id) = todo.pop() {
            if packages.contains_key(&id) {
                continue;
            }
            let (node, package) = (&nodes[&id], &about[&id]);
            let mut arrows = BTreeMap::new();
            for arrow in list(&node["deps"]) {
                let normal = list(&arrow["dep_kinds"]).iter().any(|kind| kind["kind"].as_str() != Some("dev"));
                let to = text(&arrow["pkg"]).expect("an arrow has an end");
                todo.push(to.clone());
                arrows.insert(to, if normal { Use::Normal } else { Use::Tests });
            }
            let name = text(&package["name"]).expect("a package has a name");
            let version = text(&package["version"]).expect("a package has a version");
            let package = Package {
                compiled: compiled.contains(&format!("{name} v{version}")),
                name,
                version,
                licence: text(&package["license"]).unwrap_or_default(),
                source: text(&package["source"]),
                features: list(&node["features"]).iter().filter_map(text).collect(),
                arrows,
            };
            packages.insert(id, package);
        }
        Self { packages, members }
    }

    fn id(&self, member: &str) -> &str {
        self.members
            .iter()
            .find(|id| self.packages[*id].name == member)
            .unwrap_or_else(|| panic!("{member} is not in the workspace"))
    }

    /// Names of what a package depends on directly, for this use.
    fn direct(&self, id: &str, used: Use) -> BTreeSet<&str> {
        self.packages[id]
            .arrows
            .iter()
            .filter(|(_, of)| **of == used)
            .map(|(to, _)| self.packages[to].name.as_str())
            .collect()
    }

    /// Ids of everything that is linked into `member`, itself left out.
    fn linked(&self, member: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![self.id(member)];
        while let Some(id) = todo.pop() {
            for (to, used) in &self.packages[id].arrows {
                if *used == Use::Normal && seen.insert(to.as_str()) {
                    todo.push(to);
                }
            }
        }
        seen
    }

    fn linked_names(&self, member: &str) -> BTreeSet<&str> {
        self.linked(member).into_iter().map(|id| self.packages[id].name.as_str()).collect()
    }
}

/// Everything for all platforms if cargo can have it, else, on a machine without a network, this platform's part.
fn metadata() -> Value {
    let run = |arguments: &[&str]| {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(arguments)
            .output()
            .expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(output.stdout) } else { Err(said) }
    };
    let bytes = run(&["--offline"])
        .or_else(|_| run(&[]))
        .or_else(|_| run(&["--offline", "--filter-platform", &host()]))
        .unwrap_or_else(|said| panic!("cargo metadata: {said}"));
    serde_json::from_slice(&bytes).expect("cargo metadata prints JSON")
}

/// `name v1.2.3` of all that some platform compiles for the workspace and its tests.
fn compiled() -> BTreeSet<String> {
    let run = |arguments: &[&str]| {
        let tree = ["tree", "--workspace", "--locked", "-e", "normal,build,dev", "--prefix", "none", "--format", "{p}"];
        let output = cargo().args(tree).args(arguments).output().expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(said) }
    };
    let text = run(&["--offline", "--target", "all"])
        .or_else(|_| run(&["--target", "all"]))
        .or_else(|_| run(&["--offline"]))
        .unwrap_or_else(|said| panic!("cargo tree: {said}"));
    let name_and_version = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    text.lines().map(name_and_version).collect()
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(std::process::Stdio::null());
    command
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

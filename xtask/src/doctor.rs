//! `cargo xtask doctor`: what is needed, what is there, how to get it.

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::postgres;
use crate::process::probe;
use crate::tools;

use Look::{By, Runs};

pub(crate) const HELP: &str = "\
List the tools that the tasks need, which of them are here, and how to get the rest.

Usage: cargo xtask doctor

Ends with an error if something that `cargo demo` or `cargo xtask test` needs is missing.
";

/// One tool: who needs it, how it is looked for, how it is got.
struct Tool {
    name: &'static str,
    needed_by: Need,
    look: Look,
    get: &'static str,
}

enum Look {
    Runs(&'static [&'static str]),
    /// Where no program in PATH says it.
    By(fn() -> Option<String>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Demo,
    Test,
    /// For a group of tests, which installs it itself where it runs as root on Debian.
    Root,
    Tools,
    Node,
    Bench,
    Nicer,
}

impl Need {
    fn text(self) -> &'static str {
        match self {
            Self::Demo => "everything",
            Self::Test => "test",
            Self::Root => "test postgres",
            Self::Node => "test node, tools",
            Self::Tools => "test tools",
            Self::Bench => "bench gateway",
            Self::Nicer => "optional",
        }
    }

    fn must(self) -> bool {
        matches!(self, Self::Demo | Self::Test | Self::Root | Self::Node | Self::Tools)
    }
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "rustc",
        needed_by: Need::Demo,
        look: Runs(&["rustc", "--version"]),
        get: "https://rustup.rs (rust-toolchain.toml names the version)",
    },
    Tool {
        name: "cc",
        needed_by: Need::Demo,
        look: Runs(&["cc", "--version"]),
        get: "apt-get install build-essential (Mac: xcode-select --install)",
    },
    Tool {
        name: "make",
        needed_by: Need::Demo,
        look: Runs(&["make", "--version"]),
        get: "apt-get install build-essential (Mac: xcode-select --install)",
    },
    Tool {
        name: "rustfmt",
        needed_by: Need::Test,
        look: Runs(&["cargo", "fmt", "--version"]),
        get: "rustup component add rustfmt",
    },
    Tool {
        name: "clippy",
        needed_by: Need::Test,
        look: Runs(&["cargo", "clippy", "--version"]),
        get: "rustup component add clippy",
    },
    Tool {
        name: "python3",
        needed_by: Need::Test,
        look: Runs(&["python3", "--version"]),
        get: "apt-get install python3 (3.10 or newer)",
    },
    Tool {
        name: "node",
        needed_by: Need::Node,
        look: Runs(&["node", "--version"]),
        get: "apt-get install nodejs (20 or newer)",
    },
    Tool { name: "npm", needed_by: Need::Node, look: Runs(&["npm", "--version"]), get: "apt-get install npm" },
    Tool {
        name: "python3 venv",
        needed_by: Need::Test,
        look: Runs(&["python3", "-c", "import ensurepip, venv; print('present')"]),
        get: "apt-get install python3-venv",
    },
    Tool {
        name: "postgresql",
        needed_by: Need::Root,
        look: By(|| postgres::look().map(|folder| folder.display().to_string())),
        get: "apt-get install postgresql (15 or newer; `cargo xtask test postgres` as root does that)",
    },
    Tool {
        name: "hledger",
        needed_by: Need::Root,
        look: Runs(&["hledger", "--version"]),
        get: "apt-get install hledger (`cargo xtask test python` as root does that)",
    },
    Tool {
        name: "curl",
        needed_by: Need::Tools,
        look: Runs(&["curl", "--version"]),
        get: "apt-get install curl (`cargo xtask test tools` as root does that)",
    },
    Tool { name: "git", needed_by: Need::Tools, look: Runs(&["git", "--version"]), get: "apt-get install git" },
    Tool {
        name: "opencode",
        needed_by: Need::Tools,
        look: By(tools::opencode_found),
        get: "npm install -g opencode-ai@1.18.33 (on x86-64 Linux `cargo xtask test tools` does it)",
    },
    Tool { name: "nginx", needed_by: Need::Bench, look: Runs(&["nginx", "-v"]), get: "apt-get install nginx-light" },
    Tool {
        name: "nextest",
        needed_by: Need::Nicer,
        look: Runs(&["cargo", "nextest", "--version"]),
        get: "cargo install --locked cargo-nextest (without it: cargo test)",
    },
    Tool {
        name: "cargo-deny",
        needed_by: Need::Nicer,
        look: Runs(&["cargo", "deny", "--version"]),
        get: "cargo install --locked cargo-deny (for maintainers; tests/it/architecture.rs checks the same)",
    },
];

pub(crate) fn run(_place: &Place, args: &[String]) -> Result {
    if let Some(arg) = args.first() {
        return Err(Failure::input(format!("`{arg}` is not understood")).hint("cargo xtask doctor takes no argument"));
    }
    println!("{:<13} {:<16} {:<36} how to get it", "tool", "needed by", "found");
    let mut missing = Vec::new();
    for tool in TOOLS {
        let found = match tool.look {
            Runs(words) => words.split_first().and_then(|(program, arguments)| probe(program, arguments)),
            By(look) => look(),
        };
        let (shown, get) = match &found {
            Some(version) => (shorten(version, 36), "-"),
            None => ("missing".to_owned(), tool.get),
        };
        println!("{:<13} {:<16} {shown:<36} {get}", tool.name, tool.needed_by.text());
        if found.is_none() && tool.needed_by.must() {
            missing.push(tool.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::machine(format!("missing: {}", missing.join(", "))).hint("the last column says how to get it"))
}

fn shorten(text: &str, length_max: usize) -> String {
    text.chars().take(length_max).collect()
}

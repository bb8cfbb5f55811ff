//! The unit of `docs/operating/systemd`: systemd reads it without a word, and finds its room small.

use std::path::Path;
use std::process::Command;

use comity_tests::process::binary;

/// Tenths of systemd's own measure, in which 100 is a service without any wall.
const EXPOSURE_MAX: &str = "15";
/// Without these the page promises too much, whatever systemd's measure says.
const NEEDED: [&str; 8] = [
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "CapabilityBoundingSet=",
    "MemoryDenyWriteExecute=yes",
    "StateDirectoryMode=0700",
    "UMask=0077",
    "LimitCORE=0",
];

#[test]
fn the_unit_is_read_and_its_room_is_small() {
    let unit = include_str!("../../docs/operating/systemd/comity-node.service");
    for line in NEEDED {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("comity-node.service");
    // It looks for the program, too; the one that lies there is another.
    let program = format!("ExecStart={} ", binary().display());
    let here = unit.replace("ExecStart=/usr/local/bin/comity ", &program);
    assert_ne!(unit, here, "the unit starts comity");
    std::fs::write(&file, here).expect("a file");
    // What it starts with is what the program takes.
    let said = Command::new(binary()).args(["node", "run", "--help"]).output().expect("it starts");
    let help = String::from_utf8_lossy(&said.stdout).into_owned();
    let start = unit.lines().find(|line| line.starts_with("ExecStart=")).expect("it starts something");
    for option in start.split(' ').filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "comity node run has no {option}");
    }
    if let Some(said) = analyze(&["verify"], &file) {
        assert_eq!(said, "", "systemd has something to say");
        analyze(&["security", "--offline=yes", "--threshold", EXPOSURE_MAX], &file);
    }
}

/// What it says; `None` where it is not installed.
fn analyze(arguments: &[&str], file: &Path) -> Option<String> {
    let said = Command::new("systemd-analyze").args(arguments).arg(file).output().ok()?;
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.status.success(), "systemd-analyze {arguments:?}: {text}");
    Some(text)
}

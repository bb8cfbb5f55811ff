//! The fuzz targets, played without a fuzzer: over their corpus, and over what is near it.

#[allow(unreachable_pub, reason = "it is a crate where a fuzzer plays it")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::panic::AssertUnwindSafe;
use std::path::Path;

use comity_tests::Chance;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 4] = [
    ("requests", targets::requests::target),
    ("sse", targets::sse::target),
    ("tokens", targets::tokens::target),
    ("headers", targets::headers::target),
];
/// Inputs near each seed that are tried; `COMITY_FUZZ_SEED` tries others.
const NEAR: u32 = 400;
/// A mutant is no longer than this.
const BYTES_MAX: usize = 8 << 10;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("a seed"))
        })
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn the_corpus_and_what_is_near_it_bring_nothing_down() {
    let seed = std::env::var("COMITY_FUZZ_SEED").map_or(20_261_128, |text| text.parse().expect("a number"));
    println!("COMITY_FUZZ_SEED={seed}");
    let mut chance = Chance::seeded(seed);
    for (name, target) in TARGETS {
        let seeds = corpus(name);
        assert!(seeds.len() >= 5, "{name}: {} seeds", seeds.len());
        for (file, bytes) in &seeds {
            play(name, file, target, bytes);
            for _ in 0..NEAR {
                let other = &seeds[below(&mut chance, seeds.len())].1;
                play(name, file, target, &mutant(bytes, other, &mut chance));
            }
        }
    }
}

/// Says what brought it down, in a form that can be put into the corpus.
fn play(name: &str, file: &str, target: fn(&[u8]), bytes: &[u8]) {
    if std::panic::catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name}, near {file}: {hex}\n{}", String::from_utf8_lossy(bytes));
    }
}

fn below(chance: &mut Chance, bound: usize) -> usize {
    usize::try_from(chance.within(0..bound as u64)).expect("it was one")
}

/// A few of what fuzzers do to bytes, one after the other.
fn mutant(bytes: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    const TELLING: [&[u8]; 16] = [
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b"null",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\0",
        b"\xff\xfe",
        b"\\u0000",
        b": ",
    ];
    let mut mutant = bytes.to_vec();
    for _ in 0..=below(chance, 4) {
        let at = below(chance, mutant.len() + 1);
        let end = (at + 1 + below(chance, 16)).min(mutant.len());
        match chance.within(0..7) {
            0 if at < mutant.len() => mutant[at] ^= 1 << chance.within(0..8),
            1 => drop(mutant.drain(at..end)),
            2 => mutant.truncate(at),
            3 => {
                let again = mutant[at..end].to_vec();
                mutant.splice(at..at, again);
            }
            4 => {
                let from = below(chance, other.len() + 1);
                let tail = other[from..].to_vec();
                mutant.truncate(at);
                mutant.extend(tail);
            }
            5 => drop(mutant.splice(at..at, TELLING[below(chance, TELLING.len())].iter().copied())),
            _ if at < mutant.len() => mutant[at] = u8::try_from(chance.within(0..256)).expect("it is one"),
            _ => {}
        }
        mutant.truncate(BYTES_MAX);
    }
    mutant
}

/// A target that can fail is seen to fail, and each is one of the fuzzer's programs.
#[test]
fn a_fault_is_told_with_its_bytes_and_every_target_has_a_program() {
    let told = std::panic::catch_unwind(|| play("x", "y", |_| panic!("no"), b"\x01a")).unwrap_err();
    assert!(told.downcast_ref::<String>().is_some_and(|text| text.contains("x, near y: 0161")));
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

//! Every command of `docs/start/servers.md`, read from the page, against a server with the quirks of the one it is for.

use std::path::Path;
use std::process::{Command, Stdio};

use comity_supply::Dialect;
use comity_supply::fixture::Fixture;
use comity_tests::page;
use comity_tests::process::binary;
use serde_json::Value;

/// Headings of the page, and what the last command must have found: echo, token prompts, choices.
const SERVERS: [(&str, Dialect, bool, bool, u64); 4] = [
    ("vLLM", Dialect::Vllm, true, true, 4),
    ("llama.cpp", Dialect::LlamaCpp, false, true, 1),
    ("Ollama", Dialect::Ollama, false, false, 1),
    ("llama.cpp from Python", Dialect::LlamaCppPython, false, false, 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_says_about_each_server_works_against_it() {
    let page = include_str!("../../docs/start/servers.md");
    assert_eq!(page.matches("```sh\n").count(), SERVERS.len(), "each block of the page is played");
    for (heading, dialect, echo, token_prompts, choices) in SERVERS {
        let server = Fixture::start(dialect).await;
        let (_, section) = page.split_once(&format!("## {heading}\n")).expect("the page has the section");
        let section = section.split("\n## ").next().expect("a section");
        let (_, block) = section.split_once("```sh\n").expect("the section has commands");
        let (block, _) = block.split_once("```").expect("a block ends");
        let folder = tempfile::tempdir().expect("a folder");
        let mut said = String::new();
        for line in block.lines() {
            said = play(folder.path(), &at(line, &server)).await;
        }
        let said: Value = serde_json::from_str(&said).expect("a probe prints JSON");
        let found = &said["measured"];
        assert_eq!(found["echo"], echo, "{heading}: {said}");
        assert_eq!(found["token_prompts"], token_prompts, "{heading}: {said}");
        assert_eq!(found["choices_max"], choices, "{heading}: {said}");
        let claimed = format!("\"echo\":{echo}");
        assert!(section.contains(&claimed), "{heading}: the page says what is found: {claimed}");
    }
}

/// The line with the page's address replaced by the server's.
fn at(line: &str, server: &Fixture) -> String {
    let Some((before, rest)) = line.split_once("http://127.0.0.1:") else { return line.to_owned() };
    let port_end = rest.find(|c: char| !c.is_ascii_digit()).expect("a path follows the port");
    format!("{before}http://{}{}", server.address(), &rest[port_end..])
}

/// Runs one line; what it writes to a file is written there, else given back.
async fn play(folder: &Path, line: &str) -> String {
    let (command, file) = line.split_once(" > ").map_or((line, None), |(command, file)| (command, Some(file.trim())));
    let mut words = page::words(command).into_iter();
    assert_eq!(words.next().as_deref(), Some("comity"), "{line}");
    let mut program = Command::new(binary());
    program.args(words).current_dir(folder).stdin(Stdio::null());
    let ended =
        tokio::task::spawn_blocking(move || program.output()).await.expect("it is waited for").expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&ended.stdout).into_owned(), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{line}\n{out}{err}");
    if let Some(file) = file {
        std::fs::write(folder.join(file), &out).expect("the file can be written");
    }
    out
}

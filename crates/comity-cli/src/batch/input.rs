//! A batch's input: JSON lines `{custom_id, method, url, body}`, checked whole before the first is asked.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use comity_sdk::Query;
use comity_sdk::route::Route;
use serde::Deserialize;
use serde_json::Value;

use super::object::Fault;
use super::price::Kinds;

/// The most lines of a batch.
pub(crate) const LINES_MAX: u64 = 50_000;
/// The most bytes of one line: what a door takes of a body, and its wrapping.
const LINE_BYTES_MAX: usize = 9 << 20;
/// A file that is wrong throughout is told so often and no more.
const FAULTS_MAX: usize = 100;

/// One line, understood.
#[derive(Debug)]
pub(crate) struct Line {
    /// From 0.
    pub(crate) number: u64,
    pub(crate) custom_id: String,
    pub(crate) query: Query,
}

#[derive(Deserialize)]
struct Written {
    custom_id: String,
    method: String,
    url: String,
    body: Value,
}

/// The lines of a file, one by one.
pub(crate) struct Lines {
    reader: BufReader<File>,
    route: &'static Route,
    number: u64,
}

/// The route of an endpoint that a batch may name.
pub(crate) fn endpoint(path: &str) -> Option<&'static Route> {
    Route::find(path).filter(|route| route.path.starts_with("/v1/"))
}

impl Lines {
    pub(crate) fn open(path: &Path, route: &'static Route) -> std::io::Result<Self> {
        Ok(Self { reader: BufReader::new(File::open(path)?), route, number: 0 })
    }

    fn read(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        use std::io::Read as _;
        let mut line = Vec::new();
        let bytes_max = u64::try_from(LINE_BYTES_MAX + 1).expect("a small number");
        let count = (&mut self.reader).take(bytes_max).read_until(b'\n', &mut line)?;
        Ok((count > 0).then_some(line))
    }
}

impl Iterator for Lines {
    type Item = Result<Line, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let number = self.number;
            let line = match self.read() {
                Ok(line) => line?,
                Err(error) => return Some(Err(fault("unreadable", number, error.to_string(), None))),
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.number += 1;
            return Some(understand(self.route, number, &line));
        }
    }
}

fn understand(route: &Route, number: u64, line: &[u8]) -> Result<Line, Fault> {
    if line.len() > LINE_BYTES_MAX {
        return Err(fault("line_too_long", number, format!("a line has at most {LINE_BYTES_MAX} bytes"), None));
    }
    let written: Written = serde_json::from_slice(line)
        .map_err(|error| fault("invalid_json_line", number, format!("not a line of a batch: {error}"), None))?;
    let invalid = |message: String, param: &str| fault("invalid_request", number, message, Some(param));
    if written.custom_id.is_empty() || written.custom_id.len() > 512 {
        return Err(invalid("custom_id has 1 to 512 bytes".to_owned(), "custom_id"));
    }
    if written.method != "POST" {
        return Err(invalid(format!("method is POST, not {}", written.method), "method"));
    }
    if written.url != route.path {
        return Err(fault("mismatched_url", number, format!("the batch is for {}", route.path), Some("url")));
    }
    if written.body.get("stream") == Some(&Value::Bool(true)) {
        return Err(invalid("a batch has no streams".to_owned(), "body.stream"));
    }
    let body = written.body.to_string().into_bytes();
    let query = Query::from_body(route.path, body).map_err(|error| invalid(error.to_string(), "body"))?;
    Ok(Line { number, custom_id: written.custom_id, query })
}

/// Reads all of it; gives how many lines there are, and a call of each kind.
///
/// # Errors
/// What is wrong with it, and with which lines (from 1).
pub(crate) fn check(path: &Path, route: &'static Route) -> Result<(u64, Kinds), Vec<Fault>> {
    let lines = Lines::open(path, route).map_err(|error| vec![fault("unreadable", 0, error.to_string(), None)])?;
    let (mut seen, mut faults, mut total, mut kinds) = (HashSet::new(), Vec::new(), 0, Kinds::default());
    for line in lines {
        total += 1;
        let found = match line {
            Err(found) => Some(found),
            Ok(line) if total > LINES_MAX => {
                Some(fault("too_many_lines", line.number, format!("a batch has at most {LINES_MAX} lines"), None))
            }
            Ok(line) => {
                kinds.add(&line.query);
                let message = format!("custom_id {:?} stands on an earlier line too", line.custom_id);
                let is_new = seen.insert(line.custom_id);
                (!is_new).then(|| fault("duplicate_custom_id", line.number, message, Some("custom_id")))
            }
        };
        faults.extend(found);
        if faults.len() >= FAULTS_MAX || total > LINES_MAX {
            break;
        }
    }
    if total == 0 {
        faults.push(Fault {
            code: "empty_file".into(),
            line: None,
            message: "the file has no line".into(),
            param: None,
        });
    }
    if faults.is_empty() { Ok((total, kinds)) } else { Err(faults) }
}

fn fault(code: &str, number: u64, message: String, param: Option<&str>) -> Fault {
    Fault { code: code.to_owned(), line: Some(number + 1), message, param: param.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<u64, Vec<(String, Option<u64>)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        std::fs::write(&path, text).unwrap();
        let faults = check(&path, endpoint("/v1/chat/completions").unwrap());
        faults
            .map(|(total, _)| total)
            .map_err(|faults| faults.into_iter().map(|fault| (fault.code, fault.line)).collect())
    }

    fn line(id: &str, more: &str) -> String {
        format!(
            r#"{{"custom_id":"{id}","method":"POST","url":"/v1/chat/completions","body":{{"model":"lab/m"{more}}}}}"#
        )
    }

    #[test]
    fn a_file_is_checked_whole_before_anything_is_asked() {
        assert_eq!(checked(&format!("{}\n\n{}", line("a", ""), line("b", ""))), Ok(2));
        let one = |code: &str, line: u64| Err(vec![(code.to_owned(), Some(line))]);
        assert_eq!(checked(&format!("{}\n{}\n", line("a", ""), line("a", ""))), one("duplicate_custom_id", 2));
        assert_eq!(checked(&line("a", r#","stream":true"#)), one("invalid_request", 1));
        assert_eq!(checked(&line("", "")), one("invalid_request", 1));
        assert_eq!(checked(&line("a", "").replace("chat/completions", "embeddings")), one("mismatched_url", 1));
        assert_eq!(checked(&line("a", "").replace("lab/m", "m")), one("invalid_request", 1));
        assert_eq!(checked("{\"custom_id\":"), one("invalid_json_line", 1));
        assert_eq!(checked("\n"), Err(vec![("empty_file".to_owned(), None)]));
        let many: String = (0..=LINES_MAX).map(|n| line(&n.to_string(), "") + "\n").collect();
        assert_eq!(checked(&many), one("too_many_lines", LINES_MAX + 1));
    }

    #[test]
    fn a_batch_is_for_a_priced_route_of_openai() {
        assert!(endpoint("/v1/embeddings").is_some());
        assert!(endpoint("/tokenize").is_none() && endpoint("/v1/files").is_none());
    }
}

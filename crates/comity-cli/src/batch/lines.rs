//! A file of calls, asked once each, and what came of them in another file; goes on where it was killed.
//!
//! Input: OpenAI batch lines, or prompts (a line each, or JSON lines) that are made into chats of one model. Output: OpenAI's
//! output lines, as they come, each with `comity` beside it: what it cost, and its receipt. What fails stands in a file of its
//! own, and is asked again the next time where nothing was paid.

mod owed;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use comity_sdk::asking::{Asking, Came};
use comity_sdk::cap::{Cap, Capped};
use comity_sdk::client::Patience;
use comity_sdk::compare::{Missed, Prompt, Setting};
use comity_sdk::keys::{Key, Outcome};
use comity_sdk::{Client, Query};
use comity_wire::{Amount, Digest, ModelId, Timestamp};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use self::owed::{Became, Owed, with_hint};
use super::price::{Kinds, Settled};
use super::store::closed;

/// How a file is asked.
#[derive(Clone, Debug)]
pub struct Lines {
    pub input: PathBuf,
    pub output: PathBuf,
    /// For prompts: whom they are for, and how they are asked. Batch lines name their own.
    pub model: Option<ModelId>,
    pub setting: Setting,
    /// What all of it may cost, with what was spent on it before.
    pub cap: Amount,
    pub at_once: usize,
}

/// How far it is, or how it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: u64,
    /// Lines of the output, those from before included.
    pub answered: u64,
    /// Lines of this run's errors.
    pub failed: u64,
    pub spent: Amount,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Report {
    pub counts: Counts,
    pub capped: Option<Capped>,
    pub errors: PathBuf,
    /// The first of the errors.
    pub first: Option<Missed>,
    /// Lines that were paid for, or may have been, and are asked no more.
    pub lost: u64,
    /// Models and routes that were asked at their owners' batch price.
    pub batch_price: Vec<String>,
}

/// Why a file is not asked.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    #[error("whether there is a batch price could not be asked; nothing was asked of any model: {0}")]
    Price(Box<comity_sdk::Error>),
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}, line {line}: {what}")]
    Line { path: PathBuf, line: u64, what: String },
    #[error("{path} has no line to ask")]
    Empty { path: PathBuf },
    #[error("{path} has an answer to another request for {id:?} (line {line}): name another output for this input")]
    Another { path: PathBuf, line: u64, id: String },
    #[error("{path} is in use by another `comity batch`")]
    Locked { path: PathBuf },
    #[error("{path} was changed: put it back as it was, or name another output")]
    State { path: PathBuf },
}

/// The most lines of a file.
pub const LINES_MAX: u64 = 1_000_000;
const LINE_BYTES_MAX: usize = 9 << 20;
/// More at once only wait for lanes.
pub const AT_ONCE_MAX: usize = 64;

/// One line, understood.
struct Line {
    id: String,
    query: Query,
}

/// What of a file is to be asked.
struct Checked {
    total: u64,
    /// Lines that have an answer.
    answered: u64,
    /// Lines that a run before this one signed.
    again: HashSet<String>,
    /// Lines that were paid for, or may have been, and of which the wallet remembers nothing: asked again, they would be paid again.
    lost: BTreeMap<String, Became>,
    /// A call of each model and route, as far as there are few of them.
    kinds: Kinds,
}

#[derive(Deserialize)]
struct Written {
    custom_id: String,
    method: String,
    url: String,
    body: Value,
}

impl Lines {
    /// # Errors
    /// [`LinesError`]: nothing was asked where the input is wrong; what was asked is written where a file cannot be.
    pub async fn run(
        &self,
        client: &Client,
        wanted: &(dyn Fn() -> bool + Sync),
        told: &mut (dyn FnMut(Counts) + Send),
    ) -> Result<Report, LinesError> {
        let mut state = State::open(&self.output)?;
        let (done, spent, output) = written(&self.output)?;
        let errors = beside(&self.output, "errors.jsonl");
        let mut failures = private(OpenOptions::new().create(true).truncate(true).write(true), &errors)?;
        let Checked { total, answered, again, lost, kinds } = self.check(client, &state, &done).await?;
        let is_begun = answered > 0 || !again.is_empty() || !lost.is_empty();
        let batch_price = state.at_batch_price(client, kinds, is_begun).await?;
        let spent = lost.values().fold(spent, |sum, became| sum.saturating_add(became.most()));
        let asking = Asking::new(client, Cap::new(self.cap, spent), Patience::default(), wanted);
        let mut counts = Counts { total, answered, failed: 0, spent };
        let (mut first, mut output) = (None, output);
        for (id, became) in &lost {
            let missed = became.missed();
            let line = missed_line(id, &missed, became.charged());
            first.get_or_insert(missed);
            counts.failed += 1;
            put(&mut failures, &errors, &line)?;
        }
        // What may be charged already comes first, whatever is left of the cap.
        for is_again in [true, false] {
            let lines = self.lines()?.filter_map(Result::ok);
            let lines = lines.filter(|line| !done.contains_key(&line.id) && again.contains(&line.id) == is_again);
            let lines = lines.filter(|line| !lost.contains_key(&line.id));
            let naming = state.naming();
            let asked = lines.map(|line| {
                let (asking, request) = (&asking, Digest::of(&line.query.body));
                let key = Some(naming.key(&line.id, client.now()));
                let query = Query { key, ..batch_price.query(line.query) };
                async move { ((line.id, request), asking.ask(query, is_again, &|| true).await) }
            });
            let mut asked =
                std::pin::pin!(futures::stream::iter(asked).buffer_unordered(self.at_once.clamp(1, AT_ONCE_MAX)));
            while let Some(((id, request), came)) = asked.next().await {
                let (file, path, line) = match came {
                    Came::Nothing => continue,
                    Came::Answer(answer, _) => {
                        counts.answered += 1;
                        (&mut output, &self.output, answered_line(&id, &request, &answer))
                    }
                    Came::Error { error, became, at_most, .. } => {
                        counts.failed += 1;
                        // The wallet may have forgotten it by the next time.
                        state.owes(&id, became, at_most)?;
                        let missed = with_hint(Missed::of(&error));
                        let line = missed_line(&id, &missed, became.and_then(Outcome::charged));
                        first.get_or_insert(missed);
                        (&mut failures, &errors, line)
                    }
                };
                put(file, path, &line)?;
                counts.spent = asking.cap.sums().spent;
                told(counts);
            }
        }
        output.sync_all().map_err(|source| LinesError::Io { path: self.output.clone(), source })?;
        let capped = asking.capped();
        let lost = lost.len() as u64;
        Ok(Report { counts, capped, errors, first, lost, batch_price: batch_price.kinds() })
    }

    /// Reads all of it before anything is asked.
    async fn check(
        &self,
        client: &Client,
        state: &State,
        done: &HashMap<String, Digest>,
    ) -> Result<Checked, LinesError> {
        // What a run before this one left in doubt is asked about, not asked: what was never charged keeps to this run's cap.
        client.resolve_all().await;
        let (mut seen, mut again, mut lost) = (HashSet::new(), HashSet::new(), BTreeMap::new());
        let (mut total, mut answered, mut kinds) = (0, 0, Kinds::default());
        for line in self.lines()? {
            let line = line?;
            total += 1;
            let wrong = |what: String| LinesError::Line { path: self.input.clone(), line: total, what };
            if total > LINES_MAX {
                return Err(wrong(format!("a file has at most {LINES_MAX} lines")));
            }
            if !seen.insert(Digest::of(line.id.as_bytes())) {
                return Err(wrong(format!("custom_id {:?} stands on an earlier line too", line.id)));
            }
            kinds.add(&line.query);
            match done.get(&line.id) {
                Some(request) if *request == Digest::of(&line.query.body) => answered += 1,
                // Another model, setting or text: its answer is no answer to this.
                Some(_) => return Err(LinesError::Another { path: self.output.clone(), line: total, id: line.id }),
                None => match client.became(&state.naming().key(&line.id, client.now())).await {
                    Some(Outcome::Unknown | Outcome::Charged { .. }) => drop(again.insert(line.id)),
                    // One that was refused is a new call.
                    Some(Outcome::Free) => {}
                    None => lost.extend(state.owed.taken(&line.id).map(|became| (line.id, became))),
                },
            }
        }
        if total == 0 {
            return Err(LinesError::Empty { path: self.input.clone() });
        }
        Ok(Checked { total, answered, again, lost, kinds })
    }

    fn lines(&self) -> Result<impl Iterator<Item = Result<Line, LinesError>> + '_, LinesError> {
        let io = |source| LinesError::Io { path: self.input.clone(), source };
        let mut reader = BufReader::new(File::open(&self.input).map_err(io)?);
        let (mut number, mut asked) = (0, 0_usize);
        Ok(std::iter::from_fn(move || {
            loop {
                let mut line = Vec::new();
                number += 1;
                let read = match read_line(&mut reader, &mut line) {
                    Ok(read) => read,
                    Err(source) => return Some(Err(LinesError::Io { path: self.input.clone(), source })),
                };
                if read == 0 {
                    return None;
                }
                if line.trim_ascii().is_empty() {
                    continue;
                }
                asked += 1;
                let line = self.understand(&line, asked);
                return Some(line.map_err(|what| LinesError::Line { path: self.input.clone(), line: number, what }));
            }
        }))
    }

    fn understand(&self, line: &[u8], number: usize) -> Result<Line, String> {
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("a line has at most {LINE_BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
        if let Ok(written) = serde_json::from_str::<Written>(text) {
            return openai(written);
        }
        let prompt = Prompt::of_line(text, number)?;
        let model = self.model.clone().ok_or("a prompt does not say whom it is for: name a --model")?;
        let grid = comity_sdk::compare::Grid {
            models: vec![model],
            prompts: vec![prompt],
            settings: vec![self.setting.clone()],
            repeats: 1,
        };
        grid.check().map_err(|error| error.to_string())?;
        let item = grid.items().next().expect("one of each");
        let query = grid.query(&item).map_err(|error| error.to_string())?;
        Ok(Line { id: grid.prompts[0].id.clone(), query })
    }
}

fn openai(written: Written) -> Result<Line, String> {
    let Written { custom_id: id, method, url, body } = written;
    if id.is_empty() || id.len() > 512 {
        return Err("custom_id has 1 to 512 bytes".to_owned());
    }
    if method != "POST" {
        return Err(format!("method is POST, not {method}"));
    }
    let route = super::input::endpoint(&url).ok_or_else(|| format!("no batch can ask {url}"))?;
    if body.get("stream") == Some(&Value::Bool(true)) {
        return Err("a batch has no streams".to_owned());
    }
    let query = Query::from_body(route.path, body.to_string().into_bytes()).map_err(|error| error.to_string())?;
    Ok(Line { id, query })
}

fn answered_line(id: &str, request: &Digest, answer: &comity_sdk::Answer) -> Value {
    let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let receipt = answer.receipt.id();
    json!({
        "id": request_id(id), "custom_id": id, "error": null,
        "response": {"status_code": 200, "request_id": receipt, "body": body},
        "comity": {"charge_ucr": answer.receipt.charge, "op": answer.receipt.op, "receipt": receipt, "request": request},
    })
}

/// `charged`: its receipt, and what it cost all the same.
fn missed_line(id: &str, missed: &Missed, charged: Option<(Digest, Amount)>) -> Value {
    let (receipt, charge) = charged.unzip();
    json!({
        "id": request_id(id), "custom_id": id, "response": null, "error": missed,
        "comity": {"charge_ucr": charge.unwrap_or(Amount::ZERO), "receipt": receipt},
    })
}

fn put(file: &mut File, path: &Path, line: &Value) -> Result<(), LinesError> {
    let put = file.write_all(format!("{line}\n").as_bytes());
    put.map_err(|source| LinesError::Io { path: path.to_owned(), source })
}

fn request_id(id: &str) -> String {
    format!("batch_req_{}", &Digest::of(id.as_bytes()).to_string()[..24])
}

/// Which batch an output file is of.
struct State {
    id: Digest,
    /// The second line of `batch.json`.
    batch_price: Option<Settled>,
    /// The lines below.
    owed: Owed,
    lock: File,
    path: PathBuf,
}

/// Which call a line is.
#[derive(Clone, Copy)]
struct Naming(Digest);

impl Naming {
    /// The call that a line is, now and after any restart.
    fn key(self, line: &str, now: Timestamp) -> Key {
        Key::of_run(format!("batch file {} {line}", self.0).as_bytes(), now)
    }
}

impl State {
    fn open(output: &Path) -> Result<Self, LinesError> {
        let path = beside(output, "batch.json");
        let io = |source| LinesError::Io { path: path.clone(), source };
        let mut lock = private(OpenOptions::new().create(true).read(true).append(true), &path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(LinesError::Locked { path: output.to_owned() }),
            Err(fs::TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut lock, &mut text).map_err(io)?;
        // A line that was cut while it was written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        lock.set_len(whole as u64).map_err(io)?;
        let mut lines = text.lines();
        if let Some(id) = lines.next() {
            let id = serde_json::from_str::<Value>(id).ok().and_then(|value| value.get("id")?.as_str()?.parse().ok());
            let wrong = || LinesError::State { path: path.clone() };
            let batch_price = match lines.next() {
                Some(line) => Some(serde_json::from_str(line).map_err(|_| wrong())?),
                None => None,
            };
            let mut owed = Owed::default();
            for line in lines {
                owed.read(line).ok_or_else(wrong)?;
            }
            return Ok(Self { id: id.ok_or_else(wrong)?, batch_price, owed, lock, path });
        }
        if output.exists() {
            // Not ours: its lines would be taken for answers.
            return Err(LinesError::State { path: output.to_owned() });
        }
        let id = Digest(crate::session::random());
        let put = lock.write_all(format!("{}\n", json!({"id": id})).as_bytes()).and_then(|()| lock.sync_all());
        put.map_err(io)?;
        Ok(Self { id, batch_price: None, owed: Owed::default(), lock, path })
    }

    /// Settles for which of these there is a batch price, before anything is asked. `is_begun`: by a program that knew of none.
    async fn at_batch_price(&mut self, client: &Client, kinds: Kinds, is_begun: bool) -> Result<Settled, LinesError> {
        if let Some(settled) = &self.batch_price {
            return Ok(settled.clone());
        }
        let batch_price = if is_begun {
            Settled::default()
        } else {
            Settled::ask(client, &kinds).await.map_err(|error| LinesError::Price(Box::new(error)))?
        };
        let line = serde_json::to_string(&batch_price).expect("it has a JSON form");
        self.put(&format!("{line}\n"))?;
        self.batch_price = Some(batch_price.clone());
        Ok(batch_price)
    }

    /// Writes down what came of a line that has no answer.
    fn owes(&mut self, id: &str, outcome: Option<Outcome>, most: Amount) -> Result<(), LinesError> {
        let became = Became::of(outcome, most, self.owed.get(id));
        match became.and_then(|became| self.owed.put(id, became)) {
            Some(line) => self.put(&line),
            None => Ok(()),
        }
    }

    fn put(&mut self, line: &str) -> Result<(), LinesError> {
        let put = self.lock.write_all(line.as_bytes()).and_then(|()| self.lock.sync_all());
        put.map_err(|source| LinesError::Io { path: self.path.clone(), source })
    }

    fn naming(&self) -> Naming {
        Naming(self.id)
    }
}

/// `answers.jsonl` has `answers.errors.jsonl` beside it; any other name has all of itself before the dot.
fn beside(path: &Path, extension: &str) -> PathBuf {
    if path.extension().is_some_and(|own| own == "jsonl") {
        return path.with_extension(extension);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

fn private(options: &mut OpenOptions, path: &Path) -> Result<File, LinesError> {
    closed(options).open(path).map_err(|source| LinesError::Io { path: path.to_owned(), source })
}

/// The lines of an output file, and what they cost. A last line that was cut is taken away: it is asked for again.
fn written(path: &Path) -> Result<(HashMap<String, Digest>, Amount, File), LinesError> {
    let io = |source| LinesError::Io { path: path.to_owned(), source };
    let file = private(OpenOptions::new().create(true).read(true).append(true), path)?;
    let (mut ids, mut spent, mut whole, mut line) = (HashMap::new(), Amount::ZERO, 0_u64, Vec::new());
    let mut reader = BufReader::new(&file);
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(io)?;
        if count == 0 || line.last() != Some(&b'\n') {
            break;
        }
        let value: Option<Value> = serde_json::from_slice(&line).ok();
        let id = value.as_ref().and_then(|value| value.get("custom_id")?.as_str().map(str::to_owned));
        let charge = value.as_ref().and_then(|value| value.pointer("/comity/charge_ucr")?.as_i64());
        let charge = charge.and_then(|ucr| Amount::new(ucr).ok());
        let request = value.as_ref().and_then(|value| value.pointer("/comity/request")?.as_str()?.parse().ok());
        let (Some(id), Some(charge), Some(request)) = (id, charge, request) else {
            return Err(LinesError::State { path: path.to_owned() });
        };
        ids.insert(id, request);
        spent = spent.saturating_add(charge);
        whole += count as u64;
    }
    file.set_len(whole).map_err(io)?;
    Ok((ids, spent, file))
}

fn read_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> std::io::Result<usize> {
    use std::io::Read as _;
    let most = u64::try_from(LINE_BYTES_MAX + 1).expect("a small number");
    reader.take(most).read_until(b'\n', line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(folder: &Path, text: &str) -> Lines {
        let input = folder.join("in.jsonl");
        fs::write(&input, text).unwrap();
        Lines {
            input,
            output: folder.join("out.jsonl"),
            model: Some("lab/m".parse().unwrap()),
            setting: Setting::plain(9),
            cap: Amount::credits(1),
            at_once: 2,
        }
    }

    fn read(text: &str) -> Vec<Result<(String, String), String>> {
        let folder = tempfile::tempdir().unwrap();
        let lines = lines(folder.path(), text);
        let read = lines
            .lines()
            .unwrap()
            .map(|line| line.map(|line| (line.id, line.query.path.to_owned())).map_err(|error| error.to_string()));
        read.collect()
    }

    #[test]
    fn batch_lines_and_prompts_are_both_read() {
        let chat = "/v1/chat/completions".to_owned();
        let embed = r#"{"custom_id":"e","method":"POST","url":"/v1/embeddings","body":{"model":"lab/e","input":"a"}}"#;
        let read = read(&format!("hello\n\n{embed}\n{{\"id\":\"1\",\"prompt\":\"p\"}}\n\"third\"\n"));
        let ok = |id: &str, path: &str| Ok((id.to_owned(), path.to_owned()));
        assert_eq!(read, [ok("1", &chat), ok("e", "/v1/embeddings"), ok("1", &chat), ok("4", &chat)]);
    }

    #[test]
    fn a_wrong_line_is_named_and_not_quoted() {
        for wrong in [
            r#"{"custom_id":"a","method":"GET","url":"/v1/embeddings","body":{}}"#,
            r#"{"custom_id":"a","method":"POST","url":"/v1/images","body":{}}"#,
            r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"lab/m","stream":true}}"#,
            r#"{"custom_id":"a","secret":1}"#,
        ] {
            let error = read(&format!("fine\n{wrong}\n")).pop().unwrap().unwrap_err();
            assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_output_is_taken_up_and_no_other_file_is_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let first = State::open(&output).unwrap();
        assert!(matches!(State::open(&output), Err(LinesError::Locked { .. })));
        let key = first.naming().key("a", Timestamp(1)).digest;
        drop(first);
        let line = json!({"custom_id": "a", "comity": {"charge_ucr": 5, "request": Digest([1; 32])}});
        fs::write(&output, format!("{line}\n{{\"custom_id\":\"b\"")).unwrap();
        let (ids, spent, _) = written(&output).unwrap();
        assert_eq!((ids.len(), spent), (1, Amount::from_ucr(5)));
        assert_eq!(fs::read_to_string(&output).unwrap(), format!("{line}\n"), "what was cut is taken away");
        assert_eq!(State::open(&output).unwrap().naming().key("a", Timestamp(9)).digest, key);
        let names = ["run.1", "run.2", "x.json", "x.jsonl"].map(|name| beside(Path::new(name), "batch.json"));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 4, "each output has a state of its own");
        let other = folder.path().join("notes.jsonl");
        fs::write(&other, "{\"mine\":1}\n").unwrap();
        assert!(matches!(State::open(&other), Err(LinesError::State { .. })));
    }
}

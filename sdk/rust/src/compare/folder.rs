//! A comparison's folder: `comparison.json` says what is asked, `results.jsonl` what came of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_wire::object::Receipt;
use comity_wire::{Amount, Digest, Signed, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Grid, NotAGrid, Row};
use crate::evidence::Exchange;
use crate::keys::Key;

/// A comparison that is kept in a folder, which one process uses at a time.
#[derive(Debug)]
pub struct Comparison {
    folder: PathBuf,
    plan: Plan,
    /// The newest row of each item.
    rows: BTreeMap<u64, Row>,
    results: File,
    /// Holds the lock.
    _lock: File,
}

/// `comparison.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    version: u32,
    /// Random: the same grid in another folder is asked anew.
    id: Digest,
    at: Timestamp,
    grid: Grid,
}

/// What keeps a comparison from being made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} holds another comparison: name another folder, or go on with that one")]
    Another { path: PathBuf },
    #[error("{path} holds no comparison")]
    None { path: PathBuf },
    #[error("{path} is in use: another `comity compare` runs there")]
    Locked { path: PathBuf },
    #[error("{path} is not of this version of Comity, or was changed")]
    Form { path: PathBuf, source: serde_json::Error },
    #[error("line {line} of {path} was changed: put it back as it was, or take the line out to ask again")]
    Row { path: PathBuf, line: usize },
    #[error(transparent)]
    Grid(#[from] NotAGrid),
}

/// How the calls of a comparison are named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming(Digest);

impl Naming {
    /// The call that an item is, now and after any restart.
    pub(super) fn key(self, item: u64, now: Timestamp) -> Key {
        Key::of_run(format!("comparison {} {item}", self.0).as_bytes(), now)
    }
}

const PLAN: &str = "comparison.json";
/// What came of each call, a line each.
const RESULTS: &str = "results.jsonl";
const VERSION: u32 = 1;

impl Comparison {
    /// Makes the folder, or takes up the one that is there and asks the same.
    ///
    /// # Errors
    /// [`CompareError`].
    pub fn create(folder: &Path, grid: &Grid, entropy: [u8; 32], now: Timestamp) -> Result<Self, CompareError> {
        grid.check()?;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| CompareError::Io { path, source }
        };
        private_folder(folder).map_err(io(folder))?;
        let path = folder.join(PLAN);
        if path.exists() {
            let comparison = Self::open(folder)?;
            let same = comparison.plan.grid == *grid;
            return if same { Ok(comparison) } else { Err(CompareError::Another { path: folder.to_owned() }) };
        }
        let plan = Plan { version: VERSION, id: Digest(entropy), at: now, grid: grid.clone() };
        let new = folder.join(format!("comparison.json.{}", plan.id));
        let text = serde_json::to_vec(&plan).expect("a plan has a JSON form");
        // A link is refused where another has been quicker: theirs is the comparison then.
        let written = || {
            let mut file = private(OpenOptions::new().create_new(true).write(true)).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::hard_link(&new, &path)
        };
        let made = written();
        let _ = std::fs::remove_file(&new);
        match made {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::create(folder, grid, entropy, now),
            made => made.map_err(io(&path)).and_then(|()| Self::open(folder)),
        }
    }

    /// # Errors
    /// [`CompareError`].
    pub fn open(folder: &Path) -> Result<Self, CompareError> {
        let path = folder.join(PLAN);
        let io = |source| CompareError::Io { path: path.clone(), source };
        let mut lock = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(CompareError::None { path: folder.to_owned() });
            }
            Err(error) => return Err(io(error)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(CompareError::Locked { path: folder.to_owned() }),
            Err(std::fs::TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut text = Vec::new();
        lock.read_to_end(&mut text).map_err(io)?;
        let plan: Plan =
            serde_json::from_slice(&text).map_err(|source| CompareError::Form { path: path.clone(), source })?;
        plan.grid.check()?;
        let (rows, results) = results(&folder.join(RESULTS), plan.grid.len())?;
        Ok(Self { folder: folder.to_owned(), plan, rows, results, _lock: lock })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn grid(&self) -> &Grid {
        &self.plan.grid
    }

    /// When it was made.
    pub fn at(&self) -> Timestamp {
        self.plan.at
    }

    /// The newest row of each item that has one, in the order of the grid.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// How many calls have an answer, or were paid for.
    pub fn done(&self) -> u64 {
        self.rows.values().filter(|row| !row.is_open()).count() as u64
    }

    /// The receipts of the rows, and what was asked and answered.
    pub fn receipts(&self) -> Vec<(Signed<Receipt>, Option<Exchange>)> {
        let grid = self.grid();
        let items: Vec<_> = grid.items().collect();
        let receipt = |row: &Row| {
            let bytes = URL_SAFE_NO_PAD.decode(row.signed.as_ref()?).ok()?;
            let signed = Signed::<Receipt>::decode(&bytes).ok()?;
            let exchange = row.exchange.as_ref().and_then(|(nonce, response)| {
                let item = items.get(usize::try_from(row.item).ok()?)?;
                let request = String::from_utf8(grid.query(item).ok()?.body).ok()?;
                let (nonce, response) = (nonce.clone(), response.clone());
                Some(Exchange { receipt: signed.id(), nonce, request, response })
            });
            Some((signed, exchange))
        };
        self.rows().filter_map(receipt).collect()
    }

    /// What the rows cost that are not asked again.
    pub(super) fn settled(&self) -> Amount {
        let closed = self.rows.values().filter(|row| !row.is_open());
        closed.fold(Amount::ZERO, |sum, row| sum.saturating_add(row.charge_ucr))
    }

    /// What all rows cost.
    pub fn spent(&self) -> Amount {
        self.rows.values().fold(Amount::ZERO, |sum, row| sum.saturating_add(row.charge_ucr))
    }

    pub(super) fn is_open(&self, item: u64) -> bool {
        self.rows.get(&item).is_none_or(Row::is_open)
    }

    /// What an item cost without an answer, by the receipt that its row names, or may have cost.
    pub(super) fn paid(&self, item: u64) -> Option<Amount> {
        let row = self.rows.get(&item)?;
        row.receipt.map(|_| row.charge_ucr).or(row.in_doubt_ucr)
    }

    pub(super) fn naming(&self) -> Naming {
        Naming(self.plan.id)
    }

    pub(super) fn keep(&mut self, row: Row) -> Result<(), CompareError> {
        let mut line = serde_json::to_vec(&row).expect("a row has a JSON form");
        line.push(b'\n');
        let io = |source| CompareError::Io { path: self.folder.join(RESULTS), source };
        self.results.write_all(&line).map_err(io)?;
        self.rows.insert(row.item, row);
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), CompareError> {
        self.results.sync_all().map_err(|source| CompareError::Io { path: self.folder.join(RESULTS), source })
    }
}

/// Reads what is written. A last line that was cut is taken away: its call is asked for again.
fn results(path: &Path, items: u64) -> Result<(BTreeMap<u64, Row>, File), CompareError> {
    let io = |source| CompareError::Io { path: path.to_owned(), source };
    let file = private(OpenOptions::new().create(true).read(true).append(true)).open(path).map_err(io)?;
    let (mut rows, mut whole, mut line) = (BTreeMap::new(), 0_u64, Vec::new());
    let mut reader = BufReader::new(&file);
    for number in 1.. {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(io)?;
        if count == 0 || line.last() != Some(&b'\n') {
            break;
        }
        let row = serde_json::from_slice::<Row>(&line).ok().filter(|row| row.item < items);
        let row = row.ok_or_else(|| CompareError::Row { path: path.to_owned(), line: number })?;
        rows.insert(row.item, row);
        whole += count as u64;
    }
    file.set_len(whole).map_err(io)?;
    Ok((rows, file))
}

/// Prompts and answers are their user's alone.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Prompt, Setting};
    use crate::keys::Outcome;

    fn grid(question: &str) -> Grid {
        Grid {
            models: vec!["lab/a".parse().unwrap()],
            prompts: vec![Prompt::asked("p", question), Prompt::asked("q", "two")],
            settings: vec![Setting::plain(5)],
            repeats: 1,
        }
    }

    fn row(item: u64) -> Row {
        let text = format!(
            r#"{{"item":{item},"prompt":"p","setting":"default","model":"lab/a","repeat":0,"answer":"a","charge_ucr":3,
               "input_tokens":1,"output_tokens":1,"ms":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_was_written_is_taken_up_and_a_cut_line_is_asked_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("c");
        let mut comparison = Comparison::create(&folder, &grid("one"), [1; 32], Timestamp(5)).unwrap();
        let key = comparison.naming().key(1, Timestamp(5));
        comparison.keep(row(0)).unwrap();
        comparison.keep(row(1)).unwrap();
        drop(comparison);
        let path = folder.join(RESULTS);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 4]).unwrap();
        // Another id is not taken: the calls are those of the folder.
        let mut comparison = Comparison::create(&folder, &grid("one"), [2; 32], Timestamp(9)).unwrap();
        assert_eq!((comparison.done(), comparison.spent()), (1, Amount::from_ucr(3)));
        assert!(!comparison.is_open(0) && comparison.is_open(1));
        assert_eq!(comparison.naming().key(1, Timestamp(5)).digest, key.digest);
        // What follows does not go behind half a line.
        comparison.keep(row(1)).unwrap();
        drop(comparison);
        assert_eq!(Comparison::open(&folder).unwrap().done(), 2);
    }

    #[test]
    fn what_an_item_may_have_cost_without_an_answer_is_known_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let grid = grid("one");
        let mut comparison = Comparison::create(home.path(), &grid, [1; 32], Timestamp(5)).unwrap();
        let (receipt, charge, most) = (Digest([1; 32]), Amount::from_ucr(4), Amount::from_ucr(9));
        let items: Vec<_> = grid.items().collect();
        let missed = |item, became| Row::missed(&grid, item, &crate::Error::NoReceipt, (became, most), 1);
        for (became, due) in [
            (Some(Outcome::Unknown), Some(most)),
            (Some(Outcome::Charged { receipt, charge }), Some(charge)),
            (Some(Outcome::Free), None),
            (None, None),
        ] {
            comparison.keep(missed(&items[0], became)).unwrap();
            assert_eq!((comparison.paid(0), comparison.paid(1)), (due, None), "{became:?}");
            drop(comparison);
            comparison = Comparison::open(home.path()).unwrap();
            assert_eq!((comparison.paid(0), comparison.is_open(0)), (due, true), "{became:?}");
        }
    }

    #[test]
    fn a_folder_is_for_one_comparison_and_one_process() {
        let home = tempfile::tempdir().unwrap();
        let held = Comparison::create(home.path(), &grid("one"), [1; 32], Timestamp(5)).unwrap();
        assert!(matches!(Comparison::open(home.path()), Err(CompareError::Locked { .. })));
        drop(held);
        let other = Comparison::create(home.path(), &grid("other"), [1; 32], Timestamp(5));
        assert!(matches!(other, Err(CompareError::Another { .. })));
        std::fs::write(home.path().join(RESULTS), "{\"item\":7}\n").unwrap();
        assert!(matches!(Comparison::open(home.path()), Err(CompareError::Row { line: 1, .. })));
        let nowhere = home.path().join("x");
        assert!(matches!(Comparison::open(&nowhere), Err(CompareError::None { .. })));
    }
}

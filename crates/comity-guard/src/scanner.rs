//! A scan of a stream, in blocks of folded text that do not depend on how the stream was cut.
//!
//! Folded characters fill a buffer. When it holds a block and, behind it, as much as the longest match may span, every
//! match that *starts* in the block is complete in the buffer: those are counted, and the block is dropped but for its last
//! character, which the next block needs to know whether a word begins. So memory is one block and one match,
//! a match over a border is seen once, and `scan` of a whole text is the same code.

use std::sync::Arc;

use crate::category::Category;
use crate::filter::{Compiled, CompiledRule, Pattern, StandsFor};
use crate::findings::Findings;
use crate::fold::Folder;
use crate::limit;
use crate::linear::Windows;

/// Scans chunks as they come. Dropping it drops the text it still held.
#[derive(Debug, Clone)]
pub struct Scanner {
    compiled: Arc<Compiled>,
    folder: Folder,
    buffer: String,
    /// Bytes at the front of the buffer that were counted already and stay as context.
    context: usize,
    /// Folded bytes dropped from the front so far.
    dropped: u64,
    /// Rule number → folded offset before which that rule has been counted, so its matches do not overlap.
    resume: Vec<u64>,
    windows: Option<Windows>,
    findings: Findings,
}

impl Scanner {
    pub(crate) fn new(compiled: Arc<Compiled>) -> Self {
        let resume = vec![0; compiled.rules.len()];
        let windows = compiled.classifier.clone().map(Windows::new);
        Self {
            compiled,
            folder: Folder::default(),
            buffer: String::new(),
            context: 0,
            dropped: 0,
            resume,
            windows,
            findings: Findings::default(),
        }
    }

    /// Takes the next chunk. Above the bound of one scan it is counted as unscanned and not looked at.
    pub fn push(&mut self, chunk: &str) {
        let room = usize::try_from(limit::SCAN_BYTES_MAX - self.findings.scanned_bytes()).unwrap_or(usize::MAX);
        let looked_at = &chunk[..chunk.floor_char_boundary(room)];
        self.findings.saw(looked_at.len() as u64);
        self.findings.passed_over((chunk.len() - looked_at.len()) as u64);
        for c in looked_at.chars() {
            let (buffer, windows) = (&mut self.buffer, &mut self.windows);
            self.folder.push(c, |folded| {
                buffer.push(folded);
                if let Some(windows) = windows {
                    windows.push(folded);
                }
            });
            if self.buffer.len() >= limit::BLOCK_BYTES + limit::MATCH_BYTES_MAX + FOLDED_CHAR_BYTES_MAX {
                self.block();
            }
        }
    }

    /// What was found so far, in text that is complete. More may follow from what is still held.
    #[must_use]
    pub fn so_far(&self) -> &Findings {
        &self.findings
    }

    /// Ends the text and gives what was found.
    #[must_use]
    pub fn finish(mut self) -> Findings {
        self.count_before(self.buffer.len());
        if let Some(windows) = &mut self.windows {
            windows.finish();
        }
        self.judge();
        self.findings
    }

    /// Folded bytes held at this moment; never above one block, one match and one character.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    fn block(&mut self) {
        let end = self.buffer.floor_char_boundary(limit::BLOCK_BYTES);
        self.count_before(end);
        self.judge();
        let keep_from = self.buffer[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        self.buffer.drain(..keep_from);
        self.dropped += keep_from as u64;
        self.context = end - keep_from;
    }

    /// Takes in what the classifier makes of the text so far.
    fn judge(&mut self) {
        let Some(windows) = &self.windows else { return };
        for category in Category::ALL {
            let (passages, band) = windows.found(category.index());
            self.findings.judged(category, passages, band, &self.compiled.linear[category.index()]);
        }
        self.findings.scored(windows.scores());
    }

    /// Counts the matches that start behind the context and before `end`, from left to right.
    fn count_before(&mut self, end: usize) {
        let mut matches = Vec::new();
        // Pattern, and the stretch of the buffer that a match around one of its words lies in.
        let mut stretches = Vec::new();
        if let Some(words) = &self.compiled.words {
            for found in words.find_overlapping_iter(self.buffer.as_str()) {
                let (start, stop) = (found.start(), found.end());
                match self.compiled.stands_for[found.pattern().as_usize()] {
                    StandsFor::Pattern(pattern) => {
                        let bytes_max = self.compiled.patterns[pattern].bytes_max;
                        stretches.push((pattern, stop.saturating_sub(bytes_max), start + bytes_max));
                    }
                    StandsFor::Phrase(rule) => {
                        if start >= self.context && start < end && stands_alone(&self.buffer, start, stop) {
                            matches.push((start, stop, rule));
                        }
                    }
                }
            }
        }
        let everywhere = self.compiled.patterns.iter().enumerate().filter(|(_, pattern)| !pattern.needs_word);
        stretches.extend(everywhere.map(|(number, _)| (number, 0, self.buffer.len())));
        stretches.sort_unstable();
        // Stretches that meet are one. Whatever a pattern matches lies in one of them whole, so what is found is what a
        // search of the whole buffer would find.
        stretches.dedup_by(|later, before| {
            let meet = later.0 == before.0 && later.1 <= before.2;
            if meet {
                before.2 = before.2.max(later.2);
            }
            meet
        });
        for (number, from, to) in stretches {
            let Pattern { regex, rule, .. } = &self.compiled.patterns[number];
            let counted = usize::try_from(self.resume[*rule].saturating_sub(self.dropped)).unwrap_or(usize::MAX);
            let mut at = self.buffer.floor_char_boundary(self.context.max(counted).max(from));
            // And one character more: a border of a word depends on what stands behind it.
            let looked_at = &self.buffer[..self.buffer.ceil_char_boundary(to.saturating_add(1).min(self.buffer.len()))];
            while at < end.min(looked_at.len()) {
                let Some(found) = regex.find_at(looked_at, at).filter(|found| found.start() < end) else { break };
                matches.push((found.start(), found.end(), *rule));
                // Patterns match at least one byte (`filter::bounded`), so this moves on.
                at = found.end();
            }
        }
        matches.sort_unstable();
        for (start, stop, rule) in matches {
            let (from, to) = (self.dropped + start as u64, self.dropped + stop as u64);
            if from >= self.resume[rule] {
                self.resume[rule] = to;
                let CompiledRule { id, category } = &self.compiled.rules[rule];
                self.findings.flag(*category, id);
            }
        }
    }
}

/// The most bytes that one character of text folds to: U+FDFA becomes 18 characters, each of 2 bytes.
const FOLDED_CHAR_BYTES_MAX: usize = 64;

/// Whether a phrase is not a part of a longer word. A phrase that itself begins or ends with a mark needs no border there.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let joins = |outside: Option<char>, inside: Option<char>| {
        outside.is_some_and(char::is_alphanumeric) && inside.is_some_and(char::is_alphanumeric)
    };
    let (before, phrase, after) = (&text[..start], &text[start..end], &text[end..]);
    !joins(before.chars().next_back(), phrase.chars().next())
        && !joins(after.chars().next(), phrase.chars().next_back())
}

//! A scan of a stream, in blocks of folded text that do not depend on how the stream was cut.
//!
//! Folded characters fill a buffer. When it holds a block and, behind it, as much as the longest match may span, every
//! match that *starts* in the block is complete in the buffer: those are counted, and the block is dropped but for its last
//! character, which the next block needs to know whether a word begins. So memory is one block and one match,
//! a match over a border is seen once, and `scan` of a whole text is the same code.

use std::sync::Arc;

use crate::filter::{Compiled, CompiledRule};
use crate::findings::Findings;
use crate::fold::Folder;
use crate::limit;

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
    findings: Findings,
}

impl Scanner {
    pub(crate) fn new(compiled: Arc<Compiled>) -> Self {
        let resume = vec![0; compiled.rules.len()];
        Self {
            compiled,
            folder: Folder::default(),
            buffer: String::new(),
            context: 0,
            dropped: 0,
            resume,
            findings: Findings::default(),
        }
    }

    /// Takes the next chunk. Above the bound of one scan it is counted as unscanned and not looked at.
    pub fn push(&mut self, chunk: &str) {
        for (at, c) in chunk.char_indices() {
            let bytes = c.len_utf8() as u64;
            if self.findings.scanned_bytes() + bytes > limit::SCAN_BYTES_MAX {
                self.findings.passed_over((chunk.len() - at) as u64);
                return;
            }
            self.findings.saw(bytes);
            let buffer = &mut self.buffer;
            self.folder.push(c, |folded| buffer.push(folded));
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
        let keep_from = self.buffer[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        self.buffer.drain(..keep_from);
        self.dropped += keep_from as u64;
        self.context = end - keep_from;
    }

    /// Counts the matches that start behind the context and before `end`, from left to right.
    fn count_before(&mut self, end: usize) {
        let mut matches = Vec::new();
        if let Some(phrases) = &self.compiled.phrases {
            for found in phrases.find_overlapping_iter(self.buffer.as_str()) {
                let (start, stop) = (found.start(), found.end());
                if start >= self.context && start < end && stands_alone(&self.buffer, start, stop) {
                    matches.push((start, stop, self.compiled.phrase_rule[found.pattern().as_usize()]));
                }
            }
        }
        for (pattern, rule) in &self.compiled.patterns {
            let counted = usize::try_from(self.resume[*rule].saturating_sub(self.dropped)).unwrap_or(usize::MAX);
            let mut at = self.context.max(counted);
            while at < end {
                let Some(found) = pattern.find_at(&self.buffer, at).filter(|found| found.start() < end) else { break };
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

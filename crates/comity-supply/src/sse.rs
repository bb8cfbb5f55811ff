//! Server-sent events, as a pure parser: bytes in, the `data` of whole frames out.
//!
//! Written for the WHATWG grammar: lines end in LF, CR or CRLF, a frame ends at an empty line, several `data` lines
//! are joined by LF, comments and unknown fields are skipped, a byte order mark at the start is skipped. Where the
//! bytes are cut makes no difference. A frame without its empty line is never given out.

use std::collections::VecDeque;

/// The most that one line and one frame may hold. Passing either is an error, not a truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub line_bytes_max: usize,
    pub frame_bytes_max: usize,
}

impl Default for Limits {
    /// Room for a frame of 20 top-logprobs for some thousand prompt tokens.
    fn default() -> Self {
        Self { line_bytes_max: 8 << 20, frame_bytes_max: 8 << 20 }
    }
}

/// Why the bytes are no event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("a line is longer than {limit} bytes")]
    LineTooLong { limit: usize },
    #[error("a frame is longer than {limit} bytes")]
    FrameTooLong { limit: usize },
    #[error("a line is not UTF-8")]
    NotUtf8,
}

/// Holds what has not ended yet.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    line: Vec<u8>,
    data: String,
    has_data: bool,
    after_cr: bool,
    first_line: bool,
}

impl Parser {
    pub fn new(limits: Limits) -> Self {
        Self { limits, line: Vec::new(), data: String::new(), has_data: false, after_cr: false, first_line: true }
    }

    /// Takes the next bytes in and appends the data of each frame that they end.
    ///
    /// # Errors
    /// [`SseError`]; the parser is of no more use then. Frames that ended before the fault are in `frames`.
    pub fn push(&mut self, mut bytes: &[u8], frames: &mut VecDeque<String>) -> Result<(), SseError> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > self.limits.line_bytes_max {
                return Err(SseError::LineTooLong { limit: self.limits.line_bytes_max });
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.line_ended(frames)?;
        }
        Ok(())
    }

    /// Whether the stream stands between two frames: an end here cuts nothing off.
    pub fn is_between_frames(&self) -> bool {
        self.line.is_empty() && !self.has_data
    }

    fn line_ended(&mut self, frames: &mut VecDeque<String>) -> Result<(), SseError> {
        let line = std::mem::take(&mut self.line);
        let mut text = std::str::from_utf8(&line).map_err(|_| SseError::NotUtf8)?;
        if std::mem::take(&mut self.first_line) {
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            if std::mem::take(&mut self.has_data) {
                frames.push_back(std::mem::take(&mut self.data));
            }
        } else {
            let (field, value) = text.split_once(':').unwrap_or((text, ""));
            if field == "data" {
                self.data_line(value.strip_prefix(' ').unwrap_or(value))?;
            }
        }
        self.line = line;
        self.line.clear();
        Ok(())
    }

    fn data_line(&mut self, value: &str) -> Result<(), SseError> {
        if self.data.len() + value.len() + 1 > self.limits.frame_bytes_max {
            return Err(SseError::FrameTooLong { limit: self.limits.frame_bytes_max });
        }
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push('\n');
        }
        self.data.push_str(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]], limits: Limits) -> (Vec<String>, Result<bool, SseError>) {
        let mut parser = Parser::new(limits);
        let mut frames = VecDeque::new();
        let outcome = pieces.iter().try_for_each(|piece| parser.push(piece, &mut frames));
        (frames.into(), outcome.map(|()| parser.is_between_frames()))
    }

    fn check(stream: &str, frames: &[&str]) {
        let (got, end) = parse(&[stream.as_bytes()], Limits::default());
        assert_eq!(got, frames, "{stream:?}");
        assert!(end.is_ok());
    }

    #[test]
    fn all_three_line_ends_comments_and_unknown_fields_are_read_as_the_grammar_says() {
        check("data: a\n\ndata: b\n\n", &["a", "b"]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]);
        check("data: a\r\ndata: b\r\n\r\n", &["a\nb"]);
        check("data: a\r\rdata: b\r\r", &["a", "b"]);
        check("\u{feff}data:a\n\n", &["a"]);
        check(": ping\n\nevent: x\nid: 1\ndata: a\nretry: 5\n\n", &["a"]);
        check("data: a\ndata\ndata:  b\n\n", &["a\n\n b"]);
        check("data\n\n", &[""]);
        check("dataset: no\nDATA: no\n\n", &[]);
        check("\n\n\n", &[]);
    }

    #[test]
    fn a_frame_without_its_empty_line_is_never_given_out() {
        let (frames, end) = parse(&[b"data: a\n\ndata: [DONE]\n"], Limits::default());
        assert_eq!((frames, end), (vec!["a".to_owned()], Ok(false)));
        let (frames, end) = parse(&[b"data: a\n\ndata: [DO"], Limits::default());
        assert_eq!((frames, end), (vec!["a".to_owned()], Ok(false)));
    }

    #[test]
    fn a_line_or_frame_above_its_bound_is_an_error() {
        let limits = Limits { line_bytes_max: 10, frame_bytes_max: 8 };
        assert_eq!(parse(&[b"data: abcd\n\n"], limits).1, Ok(true));
        assert_eq!(parse(&[b"data: a", b"bcde"], limits).1, Err(SseError::LineTooLong { limit: 10 }));
        assert_eq!(parse(&[b"data:abcd\ndata:e\ndata:fg\n"], limits).1, Err(SseError::FrameTooLong { limit: 8 }));
        assert_eq!(parse(&[b":\xff\n"], limits).1, Err(SseError::NotUtf8));
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            lines in prop::collection::vec("(data: ?[ aé:]{0,6}|: ping|event: x|)", 0..12),
            ends in prop::collection::vec(0..3usize, 12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut stream = String::new();
            for (line, end) in lines.iter().zip(ends) {
                stream.push_str(line);
                stream.push_str(["\n", "\r\n", "\r"][end]);
            }
            let bytes = stream.as_bytes();
            let whole = parse(&[bytes], Limits::default());
            let each: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&parse(&each, Limits::default()), &whole);
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(&parse(&pieces, Limits::default()), &whole);
        }
    }
}

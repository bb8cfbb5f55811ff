//! Bytes of a model's server: where they are cut makes no difference, and no answer ends as whole that was not.
//!
//! The first byte chooses the dialect, the second where to cut, the rest is the body of a stream.

use std::collections::VecDeque;

use comity_supply::sse::{Limits, Parser, SseError};
use comity_supply::{Call, Dialect, Event, decoded};
use comity_wire::Op;

const LIMITS: Limits = Limits { line_bytes_max: 1 << 12, frame_bytes_max: 1 << 13 };

fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Result<(), SseError>) {
    let (mut parser, mut frames) = (Parser::new(LIMITS), VecDeque::new());
    for piece in pieces {
        if let Err(error) = parser.push(piece, &mut frames) {
            return (frames.into(), Err(error));
        }
    }
    (frames.into(), Ok(()))
}

pub fn target(data: &[u8]) {
    let [first, cut, bytes @ ..] = data else { return };
    let (whole, ended) = frames(std::iter::once(bytes));
    for size in [1, 2, 3, usize::from(*cut).max(1)] {
        let pieces = frames(bytes.chunks(size));
        assert_eq!(pieces, (whole.clone(), ended), "cut every {size} bytes");
    }
    let dialect = Dialect::ALL[usize::from(*first) % Dialect::ALL.len()];
    for op in [Op::Chat, Op::Completions] {
        let call = Call::new(op, "m", serde_json::Map::new());
        let Some((events, error)) = decoded(dialect, &call, &whole) else { continue };
        let ends = events.iter().filter(|event| matches!(event, Event::Done)).count();
        assert!(ends <= 1, "{dialect} {op}: an answer ends once");
        assert!(error.is_none() || ends == 0, "{dialect} {op}: an error, and an end as whole");
        let says_so = ["[DONE]", "message_stop", "finish_reason"];
        let said = whole.iter().any(|frame| says_so.iter().any(|word| frame.contains(word)));
        assert!(ends == 0 || said, "{dialect} {op}: nobody said that the answer was whole");
    }
}

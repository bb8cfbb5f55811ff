//! A streamed answer: `data` payloads, then the receipt.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comity_wire::Verified;
use comity_wire::object::Receipt;

use super::send::Sent;
use super::{Client, Error, Served};
use crate::chat::Notes;
use crate::door::Response;

/// A stream of `data` payloads that ends with its receipt.
pub struct Streaming<'a> {
    client: &'a Client,
    sent: Sent,
    served: Option<Box<Served>>,
    response: Response,
    frames: Frames,
    failed: Option<String>,
    reported: Option<String>,
}

/// What came so far, frame by frame.
#[derive(Default)]
struct Frames {
    buffer: Vec<u8>,
    /// How much of the buffer has no frame's end in it.
    searched: usize,
    /// The bytes that the receipt's response digest covers.
    covered: Vec<u8>,
    receipt: Option<Vec<u8>>,
    is_done: bool,
}

const FRAME_BYTES_MAX: usize = 1 << 20;

impl<'a> Streaming<'a> {
    pub(super) fn new(client: &'a Client, sent: Sent, response: Response, served: Option<Box<Served>>) -> Self {
        Self { client, sent, served, response, frames: Frames::default(), failed: None, reported: None }
    }
}

impl Streaming<'_> {
    pub fn notes(&self) -> Notes {
        Notes { served: self.served.clone(), ..Notes::of(&self.response, self.sent.node) }
    }

    /// The next `data` payload; `None` once the answer is whole and its receipt is due.
    ///
    /// # Errors
    /// [`Error::Cut`] where the answer ends without its end, or the node says within it that it failed; whatever receipt
    /// came is taken in by [`Streaming::abandon`].
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            while let Some(payload) = self.frames.next() {
                match reported(&payload) {
                    // The receipt of what was delivered still follows.
                    Some(message) => {
                        self.failed = Some(message);
                        self.reported = Some(payload);
                    }
                    None => return Ok(Some(payload)),
                }
            }
            if self.frames.is_done && self.failed.is_none() {
                return Ok(None);
            }
            let chunk = if self.frames.is_done { None } else { self.chunk().await? };
            match chunk {
                Some(chunk) => self.frames.buffer.extend_from_slice(&chunk),
                None => {
                    let why = self.failed.take().unwrap_or_else(|| "it ended before [DONE]".to_owned());
                    return Err(Error::Cut(why));
                }
            }
            if self.frames.buffer.len() > FRAME_BYTES_MAX {
                return Err(Error::Cut("a frame is larger than 1 MiB".to_owned()));
            }
        }
    }

    /// The error payload that the node sent within the stream, as it sent it.
    pub fn reported(&self) -> Option<&str> {
        self.reported.as_deref()
    }

    async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Error> {
        match (self.response.chunk().await, &mut self.failed) {
            (Ok(chunk), _) => Ok(chunk),
            // The node's own word on why it failed says more than how its connection ended.
            (Err(_), Some(_)) => Ok(None),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// After [`Streaming::next`] gave `None`: verifies and journals the receipt.
    ///
    /// # Errors
    /// [`Error::NoReceipt`] where the answer ended without one; [`Error`].
    pub async fn receipt(self) -> Result<Verified<Receipt>, Error> {
        match self.frames.receipt {
            Some(receipt) => self.client.take_receipt(&self.sent, &receipt, Some(&self.frames.covered)).await,
            None => Err(self.client.unreceipted(&self.sent).await),
        }
    }

    /// Lets the node go before the end, or after an error, and takes in the receipt of what was delivered: the one that came,
    /// else the one that the node has by then. What stays unknown stays in doubt in the journal, and is asked for again
    /// before the lane is used.
    pub async fn abandon(self) {
        let Self { client, sent, response, frames, .. } = self;
        drop(response);
        let settled = match frames.receipt {
            Some(receipt) => client.take_receipt(&sent, &receipt, None).await.map(|_| ()),
            None if sent.again.is_some() => Ok(()),
            None => client.settle_soon(sent.token, sent.lane).await,
        };
        if let Err(error) = settled {
            tracing::warn!(%error, token = %sent.token, "outcome unknown: the lane waits until the node is asked again");
        }
    }
}

impl Frames {
    /// The next payload that has come whole.
    fn next(&mut self) -> Option<String> {
        while !self.is_done {
            let frame = self.cut()?;
            if let Some(payload) = self.read(&frame) {
                return Some(payload);
            }
        }
        None
    }

    /// Cuts the next frame, up to an empty line, off the front.
    fn cut(&mut self) -> Option<String> {
        let from = self.searched.saturating_sub(1);
        let Some(end) = self.buffer[from..].windows(2).position(|pair| pair == b"\n\n") else {
            self.searched = self.buffer.len();
            return None;
        };
        let frame = self.buffer.drain(..from + end + 2).collect::<Vec<_>>();
        self.searched = 0;
        Some(String::from_utf8_lossy(&frame).into_owned())
    }

    fn read(&mut self, frame: &str) -> Option<String> {
        let mut payload = None;
        for line in frame.lines() {
            if let Some(receipt) = line.strip_prefix(": comity-receipt ") {
                self.receipt = URL_SAFE_NO_PAD.decode(receipt).ok();
            } else if let Some(data) = line.strip_prefix("data:") {
                let data = data.strip_prefix(' ').unwrap_or(data);
                if data == "[DONE]" {
                    self.is_done = true;
                    return None;
                }
                self.covered.extend_from_slice(data.as_bytes());
                self.covered.push(b'\n');
                payload = Some(data.to_owned());
            }
        }
        payload
    }
}

/// The message of an error frame.
fn reported(payload: &str) -> Option<String> {
    // Most frames are pieces of text: looked at before they are parsed.
    if !payload.contains("\"error\"") {
        return None;
    }
    let value = serde_json::from_str::<serde_json::Value>(payload).ok()?;
    let error = value.get("error").filter(|error| !error.is_null())?;
    let message = error.get("message").and_then(serde_json::Value::as_str);
    Some(message.unwrap_or("the node reported an error").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_wherever_the_pieces_end() {
        let text = "data: {\"a\":1}\n\n: keep-alive\n\ndata: {\"b\":2}\n\n: comity-receipt AQI\n\ndata: [DONE]\n\n";
        for size in 1..text.len() {
            let (mut frames, mut payloads) = (Frames::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                frames.buffer.extend_from_slice(piece);
                while let Some(payload) = frames.next() {
                    payloads.push(payload);
                }
            }
            assert_eq!(payloads, ["{\"a\":1}", "{\"b\":2}"], "pieces of {size}");
            assert_eq!(frames.receipt.as_deref(), Some(&[1, 2][..]));
            assert_eq!(frames.covered, b"{\"a\":1}\n{\"b\":2}\n");
            assert!(frames.is_done);
        }
    }

    #[test]
    fn an_error_frame_is_told_from_text_about_errors() {
        assert_eq!(reported(r#"{"error":{"message":"broke"}}"#).as_deref(), Some("broke"));
        assert_eq!(reported(r#"{"choices":[{"delta":{"content":"an \"error\""}}]}"#), None);
        assert_eq!(reported(r#"{"choices":[],"error":null}"#), None);
    }
}

//! A tokenizer of bytes: three specials and the 256 byte values, laid out as SentencePiece lays them out.
//!
//! `<unk>` 0, `<s>` 1, `</s>` 2, then byte *b* as token *b* + 3. Every text has exactly one encoding and every token
//! count can be checked by counting bytes. What a text says can never make a special token.

use sha2::{Digest as _, Sha256};

/// Size of the vocabulary.
pub const VOCABULARY: usize = 259;
/// Start of text.
pub const BOS: u32 = 1;
/// End of text: the model says that it is done.
pub const EOS: u32 = 2;
const FIRST_BYTE: u32 = 3;

/// What the digest of the tokenizer is taken over; also written beside the weights.
pub const DESCRIPTION: &str = concat!(
    "{\n  \"type\": \"byte\",\n  \"vocab_size\": 259,\n",
    "  \"specials\": { \"<unk>\": 0, \"<s>\": 1, \"</s>\": 2 },\n",
    "  \"bytes\": \"byte b is token b + 3, written <0xHH>\",\n  \"normalization\": \"none\",\n  \"adds_bos\": true\n}\n"
);

/// The byte tokenizer. It has no state; it is a type so that another can stand in its place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokenizer;

impl Tokenizer {
    /// The tokens of a text, without `<s>`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        text.bytes().map(|b| u32::from(b) + FIRST_BYTE).collect()
    }

    /// The tokens of a prompt: `<s>`, then the text.
    pub fn encode_prompt(&self, text: &str) -> Vec<u32> {
        std::iter::once(BOS).chain(self.encode(text)).collect()
    }

    /// The byte a token stands for; specials stand for none.
    pub fn byte(&self, token: u32) -> Option<u8> {
        token.checked_sub(FIRST_BYTE).and_then(|byte| u8::try_from(byte).ok())
    }

    /// The bytes of a token (none for a special), as the `bytes` field of OpenAI's logprobs wants them.
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        self.byte(token).into_iter().collect()
    }

    /// A readable name of one token: the character where it is one by itself, else `<0xHH>` or the special's name.
    pub fn piece(&self, token: u32) -> String {
        match (token, self.byte(token)) {
            (_, Some(byte)) if byte.is_ascii() => char::from(byte).to_string(),
            (_, Some(byte)) => format!("<0x{byte:02X}>"),
            (BOS, None) => "<s>".to_owned(),
            (EOS, None) => "</s>".to_owned(),
            _ => "<unk>".to_owned(),
        }
    }

    /// The text of tokens; broken UTF-8 becomes U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().filter_map(|t| self.byte(*t)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// SHA-256 of [`DESCRIPTION`].
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(DESCRIPTION.as_bytes()).into()
    }
}

/// Turns a stream of bytes into text without ever handing out half a character.
///
/// An unfinished character is held back (three bytes at most); bytes that can no longer become one are U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    held: Vec<u8>,
}

impl Utf8Stream {
    /// Takes one byte, gives the text that is certain now (often empty in the middle of a character).
    pub fn push(&mut self, byte: u8) -> String {
        self.held.push(byte);
        self.drain(Unfinished::Hold)
    }

    /// What is left at the end of the stream.
    pub fn finish(&mut self) -> String {
        self.drain(Unfinished::Replace)
    }

    fn drain(&mut self, unfinished: Unfinished) -> String {
        let mut text = String::new();
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match (error.error_len(), unfinished) {
                        (Some(broken), _) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[broken..];
                        }
                        (None, Unfinished::Hold) => {
                            self.held = after.to_vec();
                            return text;
                        }
                        (None, Unfinished::Replace) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            return text;
                        }
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Unfinished {
    Hold,
    Replace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_and_its_tokens_are_one_to_one() {
        let text = "Zürich 東京 🦀\n";
        let tokens = Tokenizer.encode(text);
        assert_eq!(tokens.len(), text.len());
        assert_eq!(Tokenizer.decode(&tokens), text);
        assert!(Tokenizer.encode("<s></s>").iter().all(|t| *t > EOS));
        assert_eq!(Tokenizer.encode_prompt("a"), [BOS, 100]);
    }

    #[test]
    fn a_stream_never_hands_out_half_a_character() {
        let text = "a é 東 🦀!";
        let mut stream = Utf8Stream::default();
        let parts: Vec<String> = text.bytes().map(|b| stream.push(b)).collect();
        assert!(parts.iter().all(|p| !p.contains(char::REPLACEMENT_CHARACTER)));
        assert_eq!(parts.concat(), text);
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn broken_bytes_become_one_replacement_and_the_stream_goes_on() {
        let mut stream = Utf8Stream::default();
        let mut text = String::new();
        for byte in [0xF0, 0x9F, b'a', 0xFF, b'b', 0xC3] {
            text += &stream.push(byte);
        }
        text += &stream.finish();
        assert_eq!(text, "\u{FFFD}a\u{FFFD}b\u{FFFD}");
    }
}

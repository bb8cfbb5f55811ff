//! Join codes: shown once, typed by hand, of 100 bits. Only their SHA-256 is kept.

use comity_wire::Digest;

/// Crockford's base 32: no I, L, O or U. What looks alike is read as what it looks like.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 20;
const GROUP: usize = 5;

/// A code as it is shown and as its digest is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Code(String);

impl Code {
    /// Five bits of each of the first bytes.
    pub(crate) fn new(random: [u8; 32]) -> Self {
        let letters: Vec<u8> = random[..LENGTH].iter().map(|byte| LETTERS[usize::from(byte % 32)]).collect();
        Self::grouped(&letters)
    }

    /// As somebody typed it: small letters, spaces or hyphens where they like, O for 0, I and L for 1.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(typed: &str) -> Result<Self, String> {
        let mut letters = Vec::with_capacity(LENGTH);
        for letter in typed.chars().filter(|letter| !letter.is_whitespace() && *letter != '-') {
            let letter = match letter.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                letter => letter,
            };
            match u8::try_from(letter).ok().filter(|letter| LETTERS.contains(letter)) {
                Some(letter) if letters.len() < LENGTH => letters.push(letter),
                Some(_) => return Err(format!("a join code has {LENGTH} letters and digits, this one has more")),
                None => return Err(format!("{letter:?} stands in no join code")),
            }
        }
        if letters.len() < LENGTH {
            return Err(format!("a join code has {LENGTH} letters and digits, this one has {}", letters.len()));
        }
        Ok(Self::grouped(&letters))
    }

    fn grouped(letters: &[u8]) -> Self {
        let groups = letters.chunks(GROUP).map(|group| String::from_utf8_lossy(group).into_owned());
        Self(groups.collect::<Vec<_>>().join("-"))
    }

    /// What stands in the mandate.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_what_was_shown_however_it_is_typed() {
        let code = Code::new([17; 32]);
        assert_eq!(code.text(), "HHHHH-HHHHH-HHHHH-HHHHH");
        let code = Code::read("o1234-56789-abcde-fghj k").unwrap();
        assert_eq!(code.text(), "01234-56789-ABCDE-FGHJK");
        assert_eq!(Code::read(" 0L234 56789abcdefghjk"), Ok(code.clone()));
        assert_eq!(code.digest(), Digest::of(b"01234-56789-ABCDE-FGHJK"));
        for wrong in ["", "01234", "01234-56789-ABCDE-FGHJK-M", "U1234-56789-ABCDE-FGHJK", "é1234-56789-ABCDE-FGHJK"] {
            assert!(Code::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_letter_of_a_code_has_five_bits() {
        let bytes: Vec<Code> = (0..=255).map(|byte| Code::new([byte; 32])).collect();
        for letter in LETTERS {
            let of = bytes.iter().filter(|code| code.text().as_bytes()[0] == *letter).count();
            assert_eq!(of, 8, "{}", char::from(*letter));
        }
    }
}

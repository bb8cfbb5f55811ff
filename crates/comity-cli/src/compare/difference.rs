//! What one answer says and another does not, word by word.

/// A run of words, with the spaces that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    /// Whether the reference does not have it there.
    pub(super) is_new: bool,
}

/// Longer answers are shown as they are: the table below grows with the square.
const WORDS_MAX: usize = 800;

/// Cuts `text` into what it shares with `reference` and what it does not, by a longest common subsequence of words.
pub(super) fn parts<'a>(reference: &str, text: &'a str) -> Vec<Part<'a>> {
    let (old, new) = (tokens(reference), tokens(text));
    if old.len() > WORDS_MAX || new.len() > WORDS_MAX {
        return vec![Part { text, is_new: false }];
    }
    let same = |a: &str, b: &str| a.trim_end() == b.trim_end();
    // lengths[i][j]: of what old[i..] and new[j..] have in common.
    let width = new.len() + 1;
    let mut lengths = vec![0_u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i * width + j] = if same(old[i], new[j]) {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut at) = (0, 0, 0);
    let mut parts: Vec<Part<'a>> = Vec::new();
    while j < new.len() {
        let is_shared = i < old.len() && same(old[i], new[j]);
        if !is_shared && i < old.len() && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
            continue;
        }
        let end = at + new[j].len();
        match parts.last_mut() {
            Some(last) if last.is_new != is_shared => {
                let begin = at - last.text.len();
                last.text = &text[begin..end];
            }
            _ => parts.push(Part { text: &text[at..end], is_new: !is_shared }),
        }
        (at, j, i) = (end, j + 1, i + usize::from(is_shared));
    }
    parts
}

/// Words, each with what follows it up to the next; together they are the text.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let (mut start, mut was_space) = (0, false);
    for (at, c) in text.char_indices() {
        if was_space && !c.is_whitespace() && at > start {
            tokens.push(&text[start..at]);
            start = at;
        }
        was_space = c.is_whitespace();
    }
    if start < text.len() {
        tokens.push(&text[start..]);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(reference: &str, text: &str) -> String {
        let mark = |part: Part<'_>| if part.is_new { format!("[{}]", part.text) } else { part.text.to_owned() };
        parts(reference, text).into_iter().map(mark).collect()
    }

    #[test]
    fn what_is_new_is_marked_and_nothing_is_lost() {
        assert_eq!(marked("the cat sat", "the cat sat"), "the cat sat");
        assert_eq!(marked("the cat sat", "the old cat sat down"), "the [old ]cat sat [down]");
        assert_eq!(marked("", "all new"), "[all new]");
        assert_eq!(marked("a b c", "b x c"), "b [x ]c");
        assert_eq!(marked("a", ""), "");
        for text in ["  lead", "täglich grüßt\ndas", "a  b\t c \n"] {
            let whole: String = parts("das a", text).iter().map(|part| part.text).collect();
            assert_eq!(whole, text);
        }
    }

    #[test]
    fn a_long_answer_is_shown_as_it_is() {
        let long = "w ".repeat(WORDS_MAX + 1);
        assert_eq!(parts("w", &long), [Part { text: &long, is_new: false }]);
    }
}

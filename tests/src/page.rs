//! A page of the documentation, played: its blocks and the words of its commands.

/// The blocks of one language, in their order.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let opened = page.split(&fence).skip(1);
    opened.map(|rest| rest.split("```").next().expect("a block ends").to_owned()).collect()
}

/// Words as a shell takes them, with double quotes; a comment ends the line.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut is_word) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, is_word) = (!quoted, true),
            ' ' if !quoted => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            '#' if !quoted && !is_word => break,
            c => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

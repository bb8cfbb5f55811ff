//! A class's list as registrars export it: RFC 4180, with or without a byte order mark, columns in any order. Pure.

/// The most rows of a list.
pub(crate) const ROWS_MAX: usize = 2_000;
/// The longest name that a student goes by, bytes.
pub(crate) const LABEL_MAX: usize = 128;

/// What a student is in the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Student,
    /// Looks at all places of the class, and ends them.
    Assistant,
}

impl Role {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Student => "student",
            Self::Assistant => "assistant",
        }
    }
}

/// A row of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What the class calls them: the id, else the address, else the name.
    pub(crate) label: String,
    pub(crate) role: Role,
}

/// Names of columns, the better to tell persons apart the earlier.
const LABELS: [&[&str]; 3] = [
    &["id", "student_id", "student id", "matriculation", "login", "username", "user"],
    &["email", "e-mail", "mail"],
    &["name", "full name", "student", "full_name"],
];
const ROLES: &[&str] = &["role", "rôle"];

/// Everybody on a list. One without a line of names has labels in its first column.
///
/// # Errors
/// What is wrong with it, and in which line.
pub(crate) fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let rows = rows(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let column = |names: &[&str]| {
        let first = rows.first()?;
        first.1.iter().position(|cell| names.contains(&cell.trim().to_lowercase().as_str()))
    };
    let label = LABELS.iter().find_map(|names| column(names));
    let role = label.and_then(|_| column(ROLES));
    let mut found: Vec<Entry> = Vec::new();
    for (line, row) in rows.iter().skip(usize::from(label.is_some())) {
        let cell = |at: usize| row.get(at).map_or("", |cell| cell.trim());
        if row.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        let entry = Entry { label: labelled(cell(label.unwrap_or(0)), *line)?, role: role_of(role.map(cell), *line)? };
        if found.iter().any(|known| known.label.to_lowercase() == entry.label.to_lowercase()) {
            return Err(format!("line {line}: {} stands there twice", entry.label));
        }
        found.push(entry);
    }
    match found.len() {
        0 => Err("nobody is on the list".to_owned()),
        count if count > ROWS_MAX => Err(format!("{count} are on the list, {ROWS_MAX} are the most")),
        _ => Ok(found),
    }
}

/// # Errors
/// What is wrong with it.
pub(crate) fn labelled(label: &str, line: usize) -> Result<String, String> {
    let is_hidden = crate::printer::plain(label) != label || label.contains('\n');
    match label {
        "" => Err(format!("line {line}: nothing tells who it is")),
        label if label.len() > LABEL_MAX => Err(format!("line {line}: more than {LABEL_MAX} bytes")),
        _ if is_hidden => Err(format!("line {line}: a name with control characters")),
        // A table program would take it for a formula, on its way to students.
        label if label.starts_with(['=', '+', '-', '@']) => {
            Err(format!("line {line}: {label} begins as a formula does"))
        }
        label => Ok(label.to_owned()),
    }
}

fn role_of(cell: Option<&str>, line: usize) -> Result<Role, String> {
    match cell.unwrap_or("").to_lowercase().as_str() {
        "" | "student" | "learner" => Ok(Role::Student),
        "assistant" | "ta" | "tutor" | "teaching assistant" => Ok(Role::Assistant),
        other => Err(format!("line {line}: {other:?} is neither student nor assistant")),
    }
}

/// Records with the lines that they begin in.
fn rows(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let separator = separator(text);
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begun, mut was_quoted) = (1, 1, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if cell.is_empty() && !was_quoted => {
                was_quoted = true;
                let from = line;
                loop {
                    match letters.next() {
                        Some('"') if letters.next_if_eq(&'"').is_some() => cell.push('"'),
                        Some('"') => break,
                        Some(letter) => {
                            line += usize::from(letter == '\n');
                            cell.push(letter);
                        }
                        None => return Err(format!("line {from}: a quote that does not end")),
                    }
                }
            }
            '"' => return Err(format!("line {line}: a quote within a cell that has none around it")),
            '\r' if letters.peek().is_none_or(|next| *next == '\n') => {}
            letter if letter == separator => {
                row.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            '\n' => {
                row.push(std::mem::take(&mut cell));
                rows.push((begun, std::mem::take(&mut row)));
                line += 1;
                (begun, was_quoted) = (line, false);
            }
            _ if was_quoted => return Err(format!("line {line}: something stands behind a quote")),
            letter => cell.push(letter),
        }
    }
    if !cell.is_empty() || !row.is_empty() || was_quoted {
        row.push(cell);
        rows.push((begun, row));
    }
    Ok(rows)
}

/// Where a comma is a decimal sign, table programs write semicolons.
fn separator(text: &str) -> char {
    let first = text.lines().next().unwrap_or_default();
    if !first.contains(',') && first.contains(';') { ';' } else { ',' }
}

/// A cell that any reader of RFC 4180 gives back.
pub(crate) fn cell(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r', ';']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Vec<String> {
        entries(text).unwrap().into_iter().map(|entry| entry.label).collect()
    }

    #[test]
    fn a_list_is_read_as_registrars_write_it() {
        let quoted = "\u{feff}Name,Email,Role\r\n\"Lovelace, Ada\",ada@uni.example,\r\n\"Bob \"\"B\"\"\",bob@uni.example,TA\r\n\r\n";
        let read = entries(quoted).unwrap();
        assert_eq!(read[0], Entry { label: "ada@uni.example".into(), role: Role::Student });
        assert_eq!(read[1], Entry { label: "bob@uni.example".into(), role: Role::Assistant });
    }

    #[test]
    fn a_list_without_names_of_columns_and_one_with_semicolons_are_lists() {
        assert_eq!(labels("ada\nbob"), ["ada", "bob"]);
        assert_eq!(labels("mail;id\na@uni.example;s1\nb@uni.example;s2\n"), ["s1", "s2"]);
    }

    #[test]
    fn what_would_give_somebody_two_places_or_none_is_refused_with_its_line() {
        for (text, why) in [
            ("id\ns1\nS1\n", "line 3: S1 stands there twice"),
            ("id,name\n,Ada\n", "line 2: nothing tells who it is"),
            ("id\n\"s1\n", "line 2: a quote that does not end"),
            ("id\ns\"1\n", "line 2: a quote within"),
            ("id\n\"s\"1\n", "line 2: something stands behind a quote"),
            ("id,role\ns1,dean\n", "line 2: \"dean\" is neither"),
            ("id\n=1+1\n", "line 2: =1+1 begins as a formula"),
            ("id\n\"a\nb\"\n", "line 2: a name with control"),
            ("id\n", "nobody is on the list"),
            ("", "nobody is on the list"),
        ] {
            let said = entries(text).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
        }
        let many: String = (0..=ROWS_MAX).map(|row| format!("s{row}\n")).collect();
        assert!(entries(&many).unwrap_err().contains("are the most"));
    }

    #[test]
    fn a_cell_comes_back_as_it_was() {
        for text in ["plain", "with, comma", "with \"quotes\"", "two;parts"] {
            assert_eq!(rows(&format!("{},x\n", cell(text))).unwrap()[0].1[0], text);
        }
    }
}

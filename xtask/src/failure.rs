//! A failure of a task: what, why, and a hint whose move is next.

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// What went wrong; `exit` 1 is the caller's input or a red check, 2 is this machine or ourselves.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
    pub(crate) exit: u8,
}

impl Failure {
    pub(crate) fn input(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, exit: 1 }
    }

    pub(crate) fn machine(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, exit: 2 }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn print(&self) {
        eprintln!("error: {}", self.what);
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
    }
}

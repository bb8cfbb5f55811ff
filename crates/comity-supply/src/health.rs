//! Whether an upstream would answer now.

/// What a canary call found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub state: State,
    /// Why it is not ready, for the owner. Empty when it is.
    pub reason: String,
    /// The models it lists, at most [`Health::MODELS_MAX`].
    pub models: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// It answers, but is still loading: worth waiting for.
    Starting,
    Down,
}

impl Health {
    pub const MODELS_MAX: usize = 1_000;

    pub fn ready(models: Vec<String>) -> Self {
        Self { state: State::Ready, reason: String::new(), models }
    }

    pub fn starting(reason: impl Into<String>) -> Self {
        Self { state: State::Starting, reason: reason.into(), models: Vec::new() }
    }

    pub fn down(reason: impl Into<String>) -> Self {
        Self { state: State::Down, reason: reason.into(), models: Vec::new() }
    }

    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }
}

//! The eight flows, and what a site's answer does in each.
//!
//! A create is four packets: the house requests, the site notifies, the house sends data, the site informs that it is
//! complete. What changes a standing is three: the house itself informs, and the site may say that it heard. What is about
//! a person is two: the house requests, the site informs.

use super::packet::Kind;

/// What a transaction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flow {
    ProjectCreate = 1,
    AccountCreate = 2,
    ProjectInactivate = 3,
    ProjectReactivate = 4,
    AccountInactivate = 5,
    AccountReactivate = 6,
    UserModify = 7,
    PersonMerge = 8,
}

impl Flow {
    pub const ALL: [Self; 8] = [
        Self::ProjectCreate,
        Self::AccountCreate,
        Self::ProjectInactivate,
        Self::ProjectReactivate,
        Self::AccountInactivate,
        Self::AccountReactivate,
        Self::UserModify,
        Self::PersonMerge,
    ];

    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|flow| *flow as u64 == number)
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::ProjectCreate => "project_create",
            Self::AccountCreate => "account_create",
            Self::ProjectInactivate => "project_inactivate",
            Self::ProjectReactivate => "project_reactivate",
            Self::AccountInactivate => "account_inactivate",
            Self::AccountReactivate => "account_reactivate",
            Self::UserModify => "user_modify",
            Self::PersonMerge => "person_merge",
        }
    }

    /// How it begins.
    pub const fn request(self) -> Kind {
        match self {
            Self::ProjectCreate => Kind::RequestProjectCreate,
            Self::AccountCreate => Kind::RequestAccountCreate,
            Self::ProjectInactivate => Kind::RequestProjectInactivate,
            Self::ProjectReactivate => Kind::RequestProjectReactivate,
            Self::AccountInactivate => Kind::RequestAccountInactivate,
            Self::AccountReactivate => Kind::RequestAccountReactivate,
            Self::UserModify => Kind::RequestUserModify,
            Self::PersonMerge => Kind::RequestPersonMerge,
        }
    }

    /// What the site says when it has done it.
    pub const fn notify(self) -> Kind {
        match self {
            Self::ProjectCreate => Kind::NotifyProjectCreate,
            Self::AccountCreate => Kind::NotifyAccountCreate,
            Self::ProjectInactivate => Kind::NotifyProjectInactivate,
            Self::ProjectReactivate => Kind::NotifyProjectReactivate,
            Self::AccountInactivate => Kind::NotifyAccountInactivate,
            Self::AccountReactivate => Kind::NotifyAccountReactivate,
            Self::UserModify | Self::PersonMerge => Kind::InformTransactionComplete,
        }
    }

    /// Whether the site's answer is all there is: what is about a person.
    pub const fn ends_with_the_answer(self) -> bool {
        matches!(self, Self::UserModify | Self::PersonMerge)
    }

    /// What the house says then.
    pub const fn answer(self) -> Kind {
        match self {
            Self::ProjectCreate => Kind::DataProjectCreate,
            Self::AccountCreate => Kind::DataAccountCreate,
            _ => Kind::InformTransactionComplete,
        }
    }
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    InProgress = 0,
    Completed = 1,
    Failed = 2,
}

impl State {
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::InProgress),
            1 => Some(Self::Completed),
            2 => Some(Self::Failed),
            _ => None,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        [Self::InProgress, Self::Completed, Self::Failed].into_iter().find(|state| state.word() == word)
    }
}

/// What an answer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the house says to it.
    pub answer: Option<Kind>,
    pub state: State,
    /// The site has done what it was asked for: the notification's names hold from here on.
    pub done: bool,
}

/// Why an answer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("to {to} the answer is {expected}, or inform_transaction_complete with StatusCode Failure")]
    Unexpected { to: Kind, expected: Kind },
    #[error("the transaction is {}: nothing is taken for it any more", .0.word())]
    Over(State),
}

/// What `said` does as an answer to the house's packet `to`. `success` is what a StatusCode says.
///
/// # Errors
/// [`Refused`].
pub fn step(flow: Flow, state: State, to: Kind, (said, success): (Kind, bool)) -> Result<Step, Refused> {
    let informs = said == Kind::InformTransactionComplete;
    if to == Kind::InformTransactionComplete {
        // It was over when the house said so; the site says that it heard.
        return if informs {
            Ok(Step { answer: None, state, done: false })
        } else {
            Err(Refused::Unexpected { to, expected: Kind::InformTransactionComplete })
        };
    }
    if state != State::InProgress {
        return Err(Refused::Over(state));
    }
    let failed = Step { answer: None, state: State::Failed, done: false };
    if to == flow.request() && flow.ends_with_the_answer() {
        return match (informs, success) {
            (true, true) => Ok(Step { answer: None, state: State::Completed, done: true }),
            (true, false) => Ok(failed),
            _ => Err(Refused::Unexpected { to, expected: Kind::InformTransactionComplete }),
        };
    }
    if to == flow.request() {
        let answer = flow.answer();
        let state = if answer == Kind::InformTransactionComplete { State::Completed } else { State::InProgress };
        return match (said == flow.notify(), informs && !success) {
            (true, _) => Ok(Step { answer: Some(answer), state, done: true }),
            (_, true) => Ok(failed),
            _ => Err(Refused::Unexpected { to, expected: flow.notify() }),
        };
    }
    match (informs, success) {
        (true, true) => Ok(Step { answer: None, state: State::Completed, done: false }),
        (true, false) => Ok(failed),
        _ => Err(Refused::Unexpected { to, expected: Kind::InformTransactionComplete }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::InformTransactionComplete as Itc;

    #[test]
    fn creates_are_four_packets_standings_three_and_persons_two() {
        for flow in Flow::ALL {
            if matches!(flow, Flow::UserModify | Flow::PersonMerge) {
                let only = step(flow, State::InProgress, flow.request(), (Itc, true));
                assert_eq!(only, Ok(Step { answer: None, state: State::Completed, done: true }));
                continue;
            }
            let first = step(flow, State::InProgress, flow.request(), (flow.notify(), true)).unwrap();
            assert!(first.done);
            let last = if matches!(flow, Flow::ProjectCreate | Flow::AccountCreate) {
                assert_eq!((first.answer, first.state), (Some(flow.answer()), State::InProgress));
                step(flow, State::InProgress, flow.answer(), (Itc, true)).unwrap()
            } else {
                assert_eq!((first.answer, first.state), (Some(Itc), State::Completed));
                step(flow, State::Completed, Itc, (Itc, true)).unwrap()
            };
            assert_eq!(last, Step { answer: None, state: State::Completed, done: false });
        }
    }

    #[test]
    fn a_site_may_fail_a_transaction_wherever_it_is_its_move() {
        for flow in Flow::ALL {
            let failed = Step { answer: None, state: State::Failed, done: false };
            assert_eq!(step(flow, State::InProgress, flow.request(), (Itc, false)), Ok(failed));
            if flow.answer() != Itc {
                assert_eq!(step(flow, State::InProgress, flow.answer(), (Itc, false)), Ok(failed));
            }
        }
    }

    #[test]
    fn nothing_else_is_taken() {
        for flow in Flow::ALL {
            for said in Kind::ALL.iter().copied().filter(|said| *said != flow.notify() && *said != Itc) {
                step(flow, State::InProgress, flow.request(), (said, true)).unwrap_err();
                step(flow, State::InProgress, flow.answer(), (said, true)).unwrap_err();
            }
            let informed = step(flow, State::InProgress, flow.request(), (Itc, true));
            assert_eq!(informed.is_ok(), flow.ends_with_the_answer(), "{flow:?}");
            for over in [State::Completed, State::Failed] {
                let refused = step(flow, over, flow.request(), (flow.notify(), true));
                assert_eq!(refused, Err(Refused::Over(over)));
            }
        }
    }
}

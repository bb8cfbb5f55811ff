//! The clock that both sides see: whose move it is, until when, and what the end of that time brings.

use std::fmt;

use comity_wire::Timestamp;
use serde::{Deserialize, Serialize};

use crate::act::{Act, Actor, Kind, Role, State};
use crate::application::Application;
use crate::limit;
use crate::settings::{Settings, WhenSilent};

/// A side of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// The project that asks.
    Applicant,
    /// Its institution's signatory.
    Signatory,
    /// Those who review and decide.
    Owner,
    /// Somebody who took no part.
    AppealReviewer,
    /// Whoever gave the command, with another content.
    Caller,
    /// No move is due, or the clock's alone.
    Nobody,
}

impl Party {
    /// As `serde` writes it: one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Applicant => "applicant",
            Self::Signatory => "signatory",
            Self::Owner => "owner",
            Self::AppealReviewer => "appeal-reviewer",
            Self::Caller => "caller",
            Self::Nobody => "nobody",
        }
    }

    pub(crate) const fn of(role: Role) -> Self {
        match role {
            Role::Applicant | Role::Member => Self::Applicant,
            Role::Signatory => Self::Signatory,
            Role::Reviewer | Role::Decider | Role::Operator => Self::Owner,
            Role::AppealReviewer => Self::AppealReviewer,
            Role::Bot => Self::Nobody,
        }
    }

    pub(crate) const fn in_state(state: State) -> Self {
        match state {
            State::Draft | State::Returned | State::Rejected | State::Revoked => Self::Applicant,
            State::Submitted | State::UnderReview | State::DecisionAsked => Self::Owner,
            State::Appealed => Self::AppealReviewer,
            State::Approved | State::Withdrawn | State::Lapsed | State::Expired | State::Closed => Self::Nobody,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applicant => "the applicant's move",
            Self::Signatory => "the move of the institution's signatory",
            Self::Owner => "the owner's move",
            Self::AppealReviewer => "the move of an appeal reviewer",
            Self::Caller => "your move",
            Self::Nobody => "nobody's move",
        })
    }
}

/// Until when whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// Whose.
    pub party: Party,
    /// Until when.
    pub at: Timestamp,
}

impl Application {
    /// What the clock brings now; `None` while nothing is due. The shell gives it back to [`Self::act`] as the bot.
    pub fn tick(&self, now: Timestamp, settings: &Settings) -> Option<(Act, Actor)> {
        self.due().filter(|due| due.at <= now)?;
        let is_worn_out = self.reminders() >= limit::REMINDERS_MAX;
        let act = match self.state() {
            State::Draft | State::Returned => Act::Lapse {},
            State::Submitted | State::UnderReview | State::DecisionAsked if is_worn_out => Act::Lapse {},
            State::Submitted | State::UnderReview | State::DecisionAsked => self.silence(now, settings),
            State::Approved => match self.revoke_at() {
                Some((at, reason)) if at <= now => Act::Revoke { reason: reason.to_owned(), effective: now },
                _ => Act::Expire {},
            },
            State::Rejected | State::Revoked => Act::Close { reason: "the time to appeal is over".into() },
            State::Appealed if is_worn_out => Act::Lapse {},
            State::Appealed => Act::Remind {},
            State::Withdrawn | State::Lapsed | State::Expired | State::Closed => return None,
        };
        Some((act, Actor { id: "clock".into(), role: Role::Bot, organisation: None }))
    }

    fn silence(&self, now: Timestamp, settings: &Settings) -> Act {
        match &settings.when_silent {
            WhenSilent::Lapse {} => Act::Lapse {},
            WhenSilent::Escalate { to } if !self.is_escalated() => Act::Escalate { to: to.clone() },
            WhenSilent::Approve { tier, grant_s } => {
                let terms = crate::act::Terms {
                    models: self.models().to_vec(),
                    tier: *tier,
                    not_after: now.plus((*grant_s).min(settings.grant_s_max)),
                    // Silence approves no plan.
                    plan: None,
                    executions: None,
                };
                match self.may_grant(Kind::Approve, &terms, now, settings) {
                    Ok(()) => Act::Approve {
                        terms,
                        reason: "nobody answered in time, which approves here by the owner's rule".into(),
                    },
                    Err(_) => Act::Remind {},
                }
            }
            WhenSilent::Remind {} | WhenSilent::Escalate { .. } => Act::Remind {},
        }
    }

    /// The clock after an act: it starts anew with each change of whose move it is, and with each reminder.
    pub(crate) fn due_after(&self, act: &Act, state: State, now: Timestamp, settings: &Settings) -> Option<Due> {
        let party = Party::in_state(state);
        let starts = match act.kind() {
            Kind::Open | Kind::Submit | Kind::Answer | Kind::Return | Kind::Remind | Kind::Escalate => true,
            Kind::SaveDraft => state == State::Draft,
            _ => state != self.state() && Party::in_state(self.state()) != party,
        };
        let after = |seconds: u64| Some(Due { party, at: now.plus(seconds) });
        match (state, act) {
            (State::Approved, Act::Approve { terms, .. } | Act::Reinstate { terms, .. }) => {
                Some(Due { party, at: terms.not_after })
            }
            (State::Approved, Act::Revoke { effective, .. }) => {
                let ends = self.granted().map_or(*effective, |terms| terms.not_after.min(*effective));
                Some(Due { party, at: ends })
            }
            (state, _) if state.is_ended() => None,
            _ if !starts => self.due(),
            (State::Draft | State::Returned, _) => after(settings.applicant_s),
            (State::Submitted | State::UnderReview | State::DecisionAsked | State::Appealed, _) => {
                after(settings.answer_s)
            }
            (State::Rejected | State::Revoked, _) => after(settings.appeal_s),
            _ => self.due(),
        }
    }
}

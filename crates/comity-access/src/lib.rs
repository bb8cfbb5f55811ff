//! Applications at an owner's node: who asked for which models, who decided what, why and when.
//!
//! An [`Application`] is what its events say and nothing else. An event is made from an [`Act`] by one of the
//! [`Role`]s, if the [`MATRIX`] has it and the conditions of its [`Settings`] are met; it names its author and its time and
//! carries the digest of the event before, so that [`Application::read`] finds a log that was rewritten.
//!
//! Promises: every refusal says whose move is next; both sides see the same [`Due`]; a decider with a conflict of interest
//! decides nothing, and an appeal is answered by somebody who took no part; everything that grows has a [`limit`].
//!
//! Around it stands the [`Desk`]: it keeps applications in a [`store`], says by an owner's [`Config`] who has which role, applies
//! [`rules`], lets clocks run out, and does what was decided to the node's [`Grants`]. [`http`] are its routes (spec/11-access.md).
//! Leaves to others: signing grants, letting calls in, sending notices.
#![forbid(unsafe_code)]

mod act;
mod application;
pub mod case;
mod clock;
mod config;
mod desk;
mod event;
mod form;
pub mod http;
mod id;
mod matrix;
pub mod notice;
pub mod plan;
mod refused;
pub mod register;
pub mod rules;
pub mod seal;
mod settings;
pub mod store;
mod view;

pub use comity_wire::api::access::{Sealed, Shown, commitment};

pub use act::{Act, Actor, Kind, Role, State, Terms};
pub use application::Application;
pub use clock::{Due, Party};
pub use config::{Config, FormFile, OPERATOR, Person};
pub use desk::{Clock, Decided, Desk, Entropy, FormOf, Grants, Project, Trouble};
pub use event::{Broken, Event, Recorded};
pub use form::{Answers, BadForm, Field, FieldKind, Form, Missing};
pub use id::{ApplicationId, NotAnApplicationId, Salt};
pub use matrix::{MATRIX, Row, allows, markdown, row};
pub use refused::Refused;
pub use settings::{Settings, WhenSilent};
pub use view::{is_for_the_applicant, listed};

/// Bounds of an application. An act above one is refused with [`Refused::TooMuch`].
pub mod limit {
    /// Events after which only decisions, appeals, ends and the clock are taken: talk cannot stand in their way.
    pub const TALK_MAX: usize = 192;
    /// Events of one application.
    pub const EVENTS_MAX: usize = 320;
    /// Bytes of a reason, a remark or an answer to a question.
    pub const TEXT_BYTES_MAX: usize = 4_000;
    /// Bytes of one event as it is stored.
    pub const EVENT_BYTES_MAX: usize = 64 << 10;
    /// Models that one application asks for.
    pub const MODELS_MAX: usize = 64;
    /// Persons that are asked in one act.
    pub const PERSONS_MAX: usize = 16;
    /// Applications that one project begins within 24 hours.
    pub const BEGUN_A_DAY_MAX: u32 = 64;
    /// Attachments of one application.
    pub const ATTACHMENTS_MAX: usize = 16;
    /// Bytes of one attachment.
    pub const ATTACHMENT_BYTES_MAX: u64 = 8 << 20;
    /// Bytes of the id of a person, or of an attachment's name.
    pub const NAME_BYTES_MAX: usize = 128;
    /// Appeals of one application.
    pub const APPEALS_MAX: usize = 3;
    /// Reminders and escalations before a decision, and again in each appeal; the clock that runs out after them ends it.
    pub const REMINDERS_MAX: usize = 16;
    /// Fields of a form.
    pub const FIELDS_MAX: usize = 64;
    /// Bytes of a form's TOML.
    pub const FORM_BYTES_MAX: usize = 64 << 10;
}

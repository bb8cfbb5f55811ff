//! Mandates: a PI's signed permission for somebody to draw tokens within a cap, in all and for each day, the PI being away.
//! Pure.
//!
//! What counts against a mandate is what tokens under it hold or have spent: what went home counts no more. A day is a day of UTC.

use comity_wire::object::Mandate;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest, MandateId, ModelId, ProjectId, PublicKey, Timestamp, Verified};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The most mandates of a project that were redeemed.
pub const MANDATES_MAX: u64 = 10_000;
/// The longest join code, bytes.
pub const CODE_MAX: usize = 128;

/// What a key may do for a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Role {
    Pi = 1,
    CoPi = 2,
    /// Draws tokens as the PI does, and signs no mandates.
    Manager = 3,
    /// Draws under a mandate.
    Member = 4,
}

impl Role {
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        [Self::Pi, Self::CoPi, Self::Manager, Self::Member].into_iter().find(|role| u64::from(*role as u8) == number)
    }

    pub const fn signs_mandates(self) -> bool {
        matches!(self, Self::Pi | Self::CoPi)
    }

    pub const fn draws_alone(self) -> bool {
        !matches!(self, Self::Member)
    }
}

/// A mandate that was redeemed, and what was drawn under it.
#[derive(Clone, Debug)]
pub struct Redeemed {
    pub mandate: Verified<Mandate>,
    pub member: PublicKey,
    /// What the signer may do now; none where the key was taken away.
    pub signer: Option<Role>,
    pub revoked_at: Option<Timestamp>,
    pub drawn: Amount,
    pub drawn_today: Amount,
}

/// The first moment of the day of `now`.
pub fn day_of(now: Timestamp) -> Timestamp {
    Timestamp(now.0 - now.0 % DAY_S)
}

/// Who redeems a mandate that is shown now: the key that it names, or whoever knows its join code.
///
/// # Errors
/// [`Failure`] where the caller is neither.
pub fn redeemer(mandate: &Mandate, caller: &PublicKey, code: Option<&str>) -> Result<PublicKey, Failure> {
    match (&mandate.member, &mandate.join_code) {
        (Some(member), _) if member == caller => Ok(*caller),
        (None, Some(wanted)) => {
            let code = code.filter(|code| code.len() <= CODE_MAX);
            let code = code.ok_or_else(|| Failure::invalid("this mandate is redeemed with its join code"))?;
            if Digest::of(code.as_bytes()) == *wanted {
                Ok(*caller)
            } else {
                Err(Failure::NotYours { what: "a mandate with another join code" })
            }
        }
        _ => Err(Failure::NotYours { what: "another member's mandate" }),
    }
}

impl Redeemed {
    /// Whether it is in force, for whoever asks.
    ///
    /// # Errors
    /// [`Failure`] saying what ended it.
    pub fn in_force(&self, now: Timestamp) -> Result<(), Failure> {
        let id = self.mandate.id;
        if self.revoked_at.is_some() {
            return Err(Failure::MandateOver { id, why: "was revoked" });
        }
        if !self.signer.is_some_and(Role::signs_mandates) {
            return Err(Failure::MandateOver {
                id,
                why: "was signed by somebody who is no PI of the project any more",
            });
        }
        if now < self.mandate.not_before {
            return Err(Failure::MandateOver { id, why: "is not in force yet" });
        }
        if now >= self.mandate.not_after {
            return Err(Failure::MandateOver { id, why: "has ended" });
        }
        Ok(())
    }

    /// Draws `asked` for these models, and writes it down.
    ///
    /// # Errors
    /// [`Failure`] naming what it goes beyond; then nothing was drawn.
    pub fn draw<'m>(
        &mut self,
        caller: &PublicKey,
        project: ProjectId,
        models: impl Iterator<Item = &'m ModelId>,
        asked: Amount,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if self.member != *caller || self.mandate.project != project {
            return Err(Failure::NotYours { what: "another member's mandate" });
        }
        self.in_force(now)?;
        for model in models {
            if !self.mandate.models.is_empty() && !self.mandate.models.contains(model) {
                return Err(Failure::MandateModel { id: self.mandate.id, model: model.clone() });
            }
        }
        let beyond = |what: &'static str, cap: Amount, drawn: Amount| {
            let left = cap.saturating_sub(drawn);
            Err(Failure::Limit { what, max: format!("{left} more of {cap}") })
        };
        let (drawn, today) = (self.drawn.saturating_add(asked), self.drawn_today.saturating_add(asked));
        if drawn > self.mandate.cap {
            return beyond("drawn under this mandate", self.mandate.cap, self.drawn);
        }
        if today > self.mandate.cap_per_day {
            return beyond("drawn under this mandate today", self.mandate.cap_per_day, self.drawn_today);
        }
        (self.drawn, self.drawn_today) = (drawn, today);
        Ok(())
    }
}

pub(crate) const fn not_found(id: MandateId) -> Failure {
    Failure::MandateUnknown { id }
}

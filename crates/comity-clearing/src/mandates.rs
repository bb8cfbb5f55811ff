//! Mandates: a PI's signed permission for somebody to draw tokens within a cap, in all and for each day, the PI being away.
//! Pure.
//!
//! What counts against a mandate is what tokens under it hold or have spent: what went home counts no more. A day is a day of UTC.

use std::collections::BTreeMap;

use comity_wire::object::Mandate;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest, MandateId, ModelId, ProjectId, PublicKey, Timestamp, Verified};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The most mandates of a project that were redeemed.
pub const MANDATES_MAX: u64 = 10_000;
/// The longest join code, bytes.
pub const CODE_MAX: usize = 128;
/// How many jobs a member may sign for under one mandate.
pub const JOBS_MAX: u64 = 128;
/// Of how many mandates of a key, the newest, the house looks whether one lets it assist.
pub(crate) const ASSISTS_MAX: i64 = 64;

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
    /// What the key that has it may do now; none where that was taken away.
    pub holder: Option<Role>,
    pub revoked_at: Option<Timestamp>,
    pub drawn: Amount,
    pub drawn_today: Amount,
    /// Of it, what nodes were paid.
    pub settled: Amount,
    /// What is drawn for single models, where the mandate caps any.
    pub by_model: BTreeMap<ModelId, Amount>,
    /// Whether somebody has it. One that its signer brought waits for the first who shows its join code.
    pub redeemed: bool,
    /// Where a member signed it for a job: within which of their own mandates.
    pub parent: Option<MandateId>,
}

/// What was drawn under a mandate for one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) drawn: Amount,
    pub(crate) settled: Amount,
    pub(crate) calls: u64,
}

/// Whose a mandate is from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) member: PublicKey,
    pub(crate) redeemed: bool,
    pub(crate) parent: Option<MandateId>,
}

/// What is done with a mandate that is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one for a mandate that is brought")]
pub(crate) enum Taking {
    /// It is there.
    Nothing,
    /// The one in the books becomes the caller's.
    Claim,
    /// It is new, or takes the place of the one in the books.
    Put(Placed),
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

/// What becomes of `mandate`, which `caller` brings: to redeem it, or, where the caller may sign mandates of its project and brings no
/// code, to lodge it for whom it is for. `known` is what the books have under its id. Who signed it is looked at by others.
///
/// # Errors
/// [`Failure`] where it is not the caller's to bring.
pub(crate) fn taking(
    mandate: &Verified<Mandate>,
    known: Option<&Redeemed>,
    (caller, role): (&PublicKey, Option<Role>),
    code: Option<&str>,
) -> Result<Taking, Failure> {
    if let Some(known) = known {
        // The first who came with it has it; the same again is nothing new.
        if known.redeemed && known.mandate.id() == mandate.id() && known.member == *caller {
            return Ok(Taking::Nothing);
        }
    }
    let lodges = role.is_some_and(Role::signs_mandates) && code.is_none() && mandate.member.as_ref() != Some(caller);
    if lodges {
        if known.is_some_and(|known| known.mandate.project != mandate.project) {
            return Err(Failure::NotYours { what: "another project's mandate" });
        }
        let placed = match mandate.member {
            Some(member) => Placed { member, redeemed: true, parent: None },
            None => Placed { member: *mandate.signer(), redeemed: false, parent: None },
        };
        let same = known.is_some_and(|known| known.mandate.id() == mandate.id() && known.revoked_at.is_none());
        return Ok(if same { Taking::Nothing } else { Taking::Put(placed) });
    }
    match known {
        // What was signed last counts, whichever of them is brought.
        Some(known) if !known.redeemed && known.mandate.project == mandate.project => {
            redeemer(&known.mandate, caller, code).map(|_| Taking::Claim)
        }
        Some(_) => Err(Failure::NotYours { what: "a mandate that somebody has redeemed" }),
        None => {
            redeemer(mandate, caller, code).map(|member| Taking::Put(Placed { member, redeemed: true, parent: None }))
        }
    }
}

impl Redeemed {
    /// Whether it lets who redeemed it look at mandates of `signer`, and end them.
    pub(crate) fn assists(&self, signer: &PublicKey, now: Timestamp) -> bool {
        self.mandate.assists == Some(true)
            && self.mandate.signer() == signer
            && self.redeemed
            && self.in_force(now).is_ok()
    }

    /// Whether who redeemed it may sign `job` within it: for a key that is named, for no more than they have themselves. One that is within
    /// another holds none.
    pub(crate) fn holds(&self, job: &Verified<Mandate>, now: Timestamp) -> bool {
        let mine = &self.mandate;
        let models = mine.models.is_empty()
            || (!job.models.is_empty() && job.models.iter().all(|model| mine.models.contains(model)));
        self.redeemed
            && self.parent.is_none()
            && self.member == *job.signer()
            && mine.project == job.project
            && job.member.is_some_and(|key| key != self.member)
            && job.assists.is_none()
            && job.cap <= mine.cap
            && job.cap_per_day <= mine.cap_per_day
            && job.not_after <= mine.not_after
            && models
            && self.in_force(now).is_ok()
    }

    /// Whether it is in force, for whoever asks.
    ///
    /// # Errors
    /// [`Failure`] saying what ended it.
    pub fn in_force(&self, now: Timestamp) -> Result<(), Failure> {
        let id = self.mandate.id;
        if self.revoked_at.is_some() {
            return Err(Failure::MandateOver { id, why: "was revoked" });
        }
        // Of a job's, the one that it is within says that.
        if self.parent.is_none() && !self.signer.is_some_and(Role::signs_mandates) {
            return Err(Failure::MandateOver {
                id,
                why: "was signed by somebody who is no PI of the project any more",
            });
        }
        // Who lost a key, or was sent away, draws nothing more, and neither do their jobs.
        if self.redeemed && self.holder.is_none() {
            return Err(Failure::MandateOver { id, why: "is of a key that is no member of the project any more" });
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
        if !self.redeemed || self.member != *caller || self.mandate.project != project {
            return Err(Failure::NotYours { what: "another member's mandate" });
        }
        self.in_force(now)?;
        let models: Vec<&ModelId> = models.collect();
        for model in &models {
            if !self.mandate.models.is_empty() && !self.mandate.models.contains(model) {
                return Err(Failure::MandateModel { id: self.mandate.id, model: (*model).clone() });
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
        if !self.mandate.model_caps.is_empty() {
            let [model] = models[..] else {
                return Err(Failure::invalid("a token under a mandate with caps of single models is for one model"));
            };
            let before = self.by_model.get(model).copied().unwrap_or(Amount::ZERO);
            let of_model = before.saturating_add(asked);
            if let Some(cap) = self.mandate.cap_of(model).filter(|cap| of_model > *cap) {
                return beyond("drawn under this mandate for this model", cap, before);
            }
            self.by_model.insert(model.clone(), of_model);
        }
        (self.drawn, self.drawn_today) = (drawn, today);
        Ok(())
    }
}

pub(crate) const fn not_found(id: MandateId) -> Failure {
    Failure::MandateUnknown { id }
}

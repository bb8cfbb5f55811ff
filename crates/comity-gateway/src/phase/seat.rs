//! A place at the model's server, before any credit is held: whoever waits holds nothing, and whoever leaves frees its
//! place in the line.

use std::time::Duration;

use comity_http::Refusal;
use comity_wire::Code;
use tokio::time::Instant;

use super::authorise::{self, Authorised};
use super::hold;
use crate::gateway::Inner;
use crate::queue::{Bounds, Call, Place};
use crate::store::stops::Running;

/// A place, and when the work must have ended: certificates and settlement count on the token's longest operation
/// (rule 1), the wait included.
pub(crate) struct Seat {
    pub(crate) _place: Place,
    pub(crate) deadline: Instant,
}

/// Waits for a place. Safe to drop.
pub(crate) async fn seat(inner: &Inner, mut authorised: Box<Authorised>) -> Result<(Box<Authorised>, Seat), Refusal> {
    let longest = Duration::from_secs(u64::from(authorised.authenticated.capability.token().terms.longest_op_s));
    let deadline = Instant::now() + longest;
    let call = Call {
        project: authorised.counted_as().to_owned(),
        priority: authorised.allowed.tier_rule.priority(),
        cost: cost(&authorised),
        bytes: authorised.authenticated.body.len().saturating_mul(BODY_COPIES),
    };
    let config = &inner.config;
    let bounds = Bounds {
        slots: authorised.served.slots.try_into().unwrap_or(usize::MAX),
        project_max: config.queue_project_max,
        waiting_max: config.queue_max,
        bytes_max: config.queue_bytes_max,
    };
    let mut place = inner.places(&authorised.asked.model).enter(&call, bounds)?;
    if place.must_wait() {
        // What would be refused anyway need not wait for it.
        hold::foresee(inner, &authorised).await?;
        tokio::select! {
            biased;
            // Whom the owner has stopped need not stand there until it is their turn.
            stopped = inner.stopping.stopped(&authorised.asked.model, authorised.subject(), Running::Finishes) => return Err(stopped),
            turn = place.turn(Duration::from_secs(config.queue_wait_s), deadline) => turn?,
        }
        again(inner, &mut authorised).await?;
    }
    Ok((authorised, Seat { _place: place, deadline }))
}

/// Authority is judged at admission, which is now: a token may have ended or been revoked during the wait, a grant too, the tier may
/// have closed, the project been suspended.
async fn again(inner: &Inner, authorised: &mut Authorised) -> Result<(), Refusal> {
    let authenticated = &mut authorised.authenticated;
    let gone = || Refusal::new(Code::TokenUnknown, "send the token once more").with("whose_move", "caller");
    authenticated.capability = inner.chain(authenticated.capability.leaf()).await?.ok_or_else(gone)?;
    authenticated.now = inner.now();
    authorise::stands(inner, authorised)
}

/// What the call may take of the server: its answer at most, and its prompt by a rule of thumb.
fn cost(authorised: &Authorised) -> u64 {
    const BYTES_PER_TOKEN: u64 = 4;
    let demand = &authorised.priced.demand;
    demand.choices.saturating_mul(demand.output_tokens).saturating_add(demand.input_bytes / BYTES_PER_TOKEN)
}

/// A body waits as bytes, as what was read of it, and as texts for the filter.
const BODY_COPIES: usize = 3;

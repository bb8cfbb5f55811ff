//! To the upstream: tabled fields alone, the output capped at what the hold pays.

use comity_http::Refusal;
use comity_supply::{Call, Event, Reply};

use super::filter::Filtered;
use crate::gateway::Inner;
use crate::refusal;

/// An accepted call whose first event has come, so that a failure before it is still an honest status.
pub(crate) struct Forwarded {
    pub(crate) filtered: Filtered,
    pub(crate) first: Event,
    pub(crate) rest: Reply,
}

impl Forwarded {
    pub(crate) fn is_stream(&self) -> bool {
        self.filtered.held.authorised.asked.stream
    }
}

/// Fails without a charge: the hold ends with what is dropped here, and the seq is free.
pub(crate) async fn forward(inner: &Inner, filtered: Filtered) -> Result<Forwarded, Refusal> {
    let authorised = &filtered.held.authorised;
    let mut body = authorised.asked.body.clone();
    body.insert("max_tokens".into(), authorised.priced.demand.output_tokens.into());
    let call = Call::new(authorised.asked.op, authorised.served.upstream_model.clone(), body);
    let failed = |error| {
        tracing::warn!(model = %authorised.asked.model, %error, "upstream");
        refusal::upstream(&error)
    };
    let mut rest = authorised.served.upstream.complete(call).await.map_err(failed)?;
    inner.fail("forward.accepted");
    match rest.next().await.expect("a reply has an end") {
        Ok(first) => Ok(Forwarded { first, rest, filtered }),
        Err(error) => Err(failed(error)),
    }
}

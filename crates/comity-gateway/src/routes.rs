//! One table: route → op, fields, meters. A route or field outside it does not exist.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use comity_http::problem;
use comity_wire::{Meter, Op};

use crate::fields::{self, Field};
use crate::gateway::Gateway;
use crate::{control, models, phase};

/// A priced route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) op: Op,
    pub(crate) fields: &'static [Field],
    pub(crate) meters: &'static [Meter],
    /// How reply ids begin, and what the objects are called: whole and in pieces.
    pub(crate) reply: (&'static str, &'static str, &'static str),
}

const TEXT_METERS: &[Meter] =
    &[Meter::Requests, Meter::InputBytes, Meter::OutputBytes, Meter::InputTokens, Meter::OutputTokens];

pub(crate) static CHAT: Route = Route {
    path: "/v1/chat/completions",
    op: Op::Chat,
    fields: fields::CHAT,
    meters: TEXT_METERS,
    reply: ("chatcmpl-", "chat.completion", "chat.completion.chunk"),
};

pub(crate) static COMPLETIONS: Route = Route {
    path: "/v1/completions",
    op: Op::Completions,
    fields: fields::COMPLETIONS,
    meters: TEXT_METERS,
    reply: ("cmpl-", "text_completion", "text_completion"),
};

pub(crate) static PRICED: [&Route; 2] = [&CHAT, &COMPLETIONS];

pub(crate) fn router(gateway: Gateway) -> Router {
    let mut router = Router::new();
    for route in PRICED {
        let priced = move |State(gateway): State<Gateway>, request: Request| async move {
            let response: Response =
                phase::run(gateway, route, request).await.unwrap_or_else(|refusal| refusal.into_response());
            response
        };
        router = router.route(route.path, post(priced));
    }
    let problems = Router::new()
        .route("/comity/v1/tokens", post(control::token))
        .route("/comity/v1/acknowledgements", post(control::acknowledge))
        .route("/comity/v1/receipts", get(control::receipt).post(control::shown))
        .route("/comity/v1/finals", post(control::final_))
        .route("/comity/v1/lanes", get(control::lanes))
        .route("/comity/v1/node", get(control::node))
        .layer(axum::middleware::from_fn(problem::problem_form));
    router
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/health", get(models::health))
        .merge(problems)
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(gateway)
}

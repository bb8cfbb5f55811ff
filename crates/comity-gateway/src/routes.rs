//! One table: route → op, fields, meters, who decides, what comes back. A route or field outside it does not exist.
//!
//! `docs/reference/routes.md` is written from it, and a test compares them.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{MethodRouter, get, on, post};
use comity_http::problem;
use comity_http::serve::RequestId;
use comity_wire::{Meter, Op};
use http::{HeaderValue, Method};

use crate::fields::{self, Field};
use crate::gateway::Gateway;
use crate::works::Work;
use crate::{control, models, phase};

/// A charged route: the owner's policy decides by its op, and a receipt answers it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// All of them are this route. The first is the one that OpenAI's own packages ask.
    pub(crate) paths: &'static [&'static str],
    pub(crate) op: Op,
    pub(crate) fields: &'static [Field],
    /// One of these must be there; none: nothing must.
    pub(crate) needed: &'static [&'static str],
    /// What a tariff may price; the others are never counted here.
    pub(crate) meters: &'static [Meter],
    pub(crate) form: Form,
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Form {
    /// Generated text, as events or whole.
    Text(Names),
    /// One JSON value.
    Piece(Work),
}

/// How a text reply's id begins, and what its objects are called: whole and in pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    pub(crate) prefix: &'static str,
    pub(crate) whole: &'static str,
    pub(crate) piece: &'static str,
}

const TEXT_METERS: &[Meter] =
    &[Meter::Requests, Meter::InputBytes, Meter::OutputBytes, Meter::InputTokens, Meter::OutputTokens];
const INPUT_METERS: &[Meter] = &[Meter::Requests, Meter::InputBytes, Meter::InputTokens];
const BYTE_METERS: &[Meter] = &[Meter::Requests, Meter::InputBytes];

pub(crate) static CHAT: Route = Route {
    method: Method::POST,
    paths: &["/v1/chat/completions", "/chat/completions"],
    op: Op::Chat,
    fields: fields::CHAT,
    needed: &["messages"],
    meters: TEXT_METERS,
    form: Form::Text(Names { prefix: "chatcmpl-", whole: "chat.completion", piece: "chat.completion.chunk" }),
};

pub(crate) static COMPLETIONS: Route = Route {
    method: Method::POST,
    paths: &["/v1/completions", "/completions"],
    op: Op::Completions,
    fields: fields::COMPLETIONS,
    needed: &["prompt"],
    meters: TEXT_METERS,
    form: Form::Text(Names { prefix: "cmpl-", whole: "text_completion", piece: "text_completion" }),
};

pub(crate) static RESPONSES: Route = Route {
    method: Method::POST,
    paths: &["/v1/responses", "/responses"],
    op: Op::Responses,
    fields: fields::RESPONSES,
    needed: &["input"],
    meters: TEXT_METERS,
    form: Form::Text(Names { prefix: "resp_", whole: "response", piece: "response.*" }),
};

pub(crate) static EMBEDDINGS: Route = Route {
    method: Method::POST,
    paths: &["/v1/embeddings", "/embeddings"],
    op: Op::Embeddings,
    fields: fields::EMBEDDINGS,
    needed: &["input"],
    meters: INPUT_METERS,
    form: Form::Piece(Work::Embeddings),
};

pub(crate) static TOKENIZE: Route = Route {
    method: Method::POST,
    paths: &["/tokenize", "/v1/tokenize"],
    op: Op::Tokenize,
    fields: fields::TOKENIZE,
    needed: &["prompt", "messages"],
    meters: BYTE_METERS,
    form: Form::Piece(Work::Tokenize),
};

pub(crate) static DETOKENIZE: Route = Route {
    method: Method::POST,
    paths: &["/detokenize", "/v1/detokenize"],
    op: Op::Tokenize,
    fields: fields::DETOKENIZE,
    needed: &["tokens"],
    meters: BYTE_METERS,
    form: Form::Piece(Work::Detokenize),
};

pub(crate) static TOKENIZER_INFO: Route = Route {
    method: Method::GET,
    paths: &["/tokenizer_info", "/v1/tokenizer_info"],
    op: Op::Tokenize,
    fields: fields::TOKENIZER_INFO,
    needed: &[],
    meters: BYTE_METERS,
    form: Form::Piece(Work::TokenizerInfo),
};

pub(crate) static PREDICT: Route = Route {
    method: Method::POST,
    paths: &["/v1/predict", "/predict"],
    op: Op::Predict,
    fields: fields::PREDICT,
    needed: &["inputs"],
    meters: BYTE_METERS,
    form: Form::Piece(Work::Predict),
};

pub(crate) static MODERATIONS: Route = Route {
    method: Method::POST,
    paths: &["/v1/moderations", "/moderations"],
    op: Op::Moderations,
    fields: fields::MODERATIONS,
    needed: &["input"],
    meters: BYTE_METERS,
    form: Form::Piece(Work::Moderations),
};

pub(crate) static PRICED: [&Route; 9] =
    [&CHAT, &COMPLETIONS, &RESPONSES, &EMBEDDINGS, &TOKENIZE, &DETOKENIZE, &TOKENIZER_INFO, &MODERATIONS, &PREDICT];

/// What may be counted of an op, on whichever of its routes; `None` where it has none of its own.
pub fn meters_of(op: Op) -> Option<Vec<Meter>> {
    let mut meters: Vec<Meter> = routes_of(op).flat_map(|route| route.meters).copied().collect();
    meters.sort_unstable();
    meters.dedup();
    Some(meters).filter(|meters| !meters.is_empty())
}

/// Whether a route of the op has this field; `None` where it has no route of its own.
pub fn takes(op: Op, field: &str) -> Option<bool> {
    routes_of(op).next()?;
    Some(routes_of(op).any(|route| route.fields.iter().any(|(name, _)| *name == field)))
}

fn routes_of(op: Op) -> impl Iterator<Item = &'static &'static Route> {
    PRICED.iter().filter(move |route| route.op == op)
}

/// A route that costs nothing and asks no model.
pub(crate) struct Free {
    #[cfg_attr(not(test), allow(dead_code, reason = "the page is written from it"))]
    pub(crate) method: &'static str,
    /// All of them are this route, each also with one slash at its end where the first is OpenAI's.
    pub(crate) paths: &'static [&'static str],
    #[cfg_attr(not(test), allow(dead_code, reason = "the page is written from it"))]
    pub(crate) who: &'static str,
    #[cfg_attr(not(test), allow(dead_code, reason = "the page is written from it"))]
    pub(crate) what: &'static str,
    answers: fn() -> MethodRouter<Gateway>,
}

const fn free(
    method: &'static str,
    paths: &'static [&'static str],
    who: &'static str,
    what: &'static str,
    answers: fn() -> MethodRouter<Gateway>,
) -> Free {
    Free { method, paths, who, what, answers }
}

/// The router is built from it: what has no row here has no handler.
pub(crate) static FREE: &[Free] = &[
    free("GET", &["/v1/models", "/models"], "anyone", "what is served, as OpenAI lists it", || get(models::list)),
    free("GET", &["/v1/models/{*id}", "/models/{*id}"], "anyone", "one of them; an id has a slash in it", || {
        get(models::one)
    }),
    free(
        "GET",
        &["/health"],
        "anyone",
        "whether this process answers and can charge: 503 `store_unavailable` says that it has to be started again",
        || get(models::health),
    ),
    free("POST", &["/comity/v1/tokens"], "the holder key it names", "a token of budget 0", || post(control::token)),
    free(
        "POST",
        &["/comity/v1/acknowledgements"],
        "(the acknowledgement is signed)",
        "running totals are agreed",
        || post(control::acknowledge),
    ),
    free("GET", &["/comity/v1/receipts"], "a holder on the path", "a stored receipt", || get(control::receipt)),
    free(
        "POST",
        &["/comity/v1/receipts"],
        "(the receipt is signed)",
        "a newer receipt of this node is shown to it",
        || post(control::shown),
    ),
    free("POST", &["/comity/v1/finals"], "the root holder; of a revoked token whoever shows it", "the final", || {
        post(control::final_)
    }),
    free("GET", &["/comity/v1/lanes"], "a holder on the path", "where every lane stands", || get(control::lanes)),
    free(
        "GET",
        &["/comity/v1/plans"],
        "a holder on the path",
        "which plans are approved, and how far each was executed",
        || get(control::plans),
    ),
    free(
        "GET",
        &["/comity/v1/terms/{digest}"],
        "anyone",
        "terms of use that this owner asks for, or asked for",
        || get(control::agreements::terms),
    ),
    free("GET", &["/comity/v1/agreements"], "a holder on the path", "what the project agreed to", || {
        get(control::agreements::list)
    }),
    free("POST", &["/comity/v1/agreements"], "the root holder", "the project agrees to terms of use", || {
        post(control::agreements::agree)
    }),
    free("GET", &["/comity/v1/node"], "anyone", "the node's certificate", || get(control::node)),
];

pub(crate) fn router(gateway: Gateway) -> Router {
    let mut router = Router::new();
    for route in PRICED {
        for path in route.paths {
            let priced = move |State(gateway): State<Gateway>, request: Request| phase::run(gateway, route, request);
            let methods = on(route.method.clone().try_into().expect("a method that axum routes"), priced);
            router = router.route(path, methods.clone()).route(&format!("{path}/"), methods);
        }
    }
    let mut problems = Router::new();
    for route in FREE {
        for path in route.paths {
            if path.starts_with("/comity/") {
                problems = problems.route(path, (route.answers)());
                continue;
            }
            router = router.route(path, (route.answers)());
            if route.paths.len() > 1 && !path.ends_with('}') {
                router = router.route(&format!("{path}/"), (route.answers)());
            }
        }
    }
    let problems = problems.layer(axum::middleware::from_fn(problem::problem_form));
    let named = axum::middleware::from_fn_with_state(gateway.clone(), named);
    router
        .merge(problems)
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(named)
        .with_state(gateway)
}

/// Every reply has a number of the door's own making, the one that its log has; what a caller calls its request is its own
/// affair. A router behind no door makes one.
async fn named(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let of_door = request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone());
    let id = of_door.unwrap_or_else(|| format!("req-{:032x}", u128::from_be_bytes((gateway.0.entropy)())));
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-request-id", HeaderValue::from_str(&id).expect("plain text"));
    response
}

//! One table: route → op, fields, meters, who decides, what comes back. A route or field outside it does not exist.
//!
//! `docs/reference/routes.md` is written from it, and a test compares them.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{get, on, post};
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

/// A route that costs nothing and asks no model: method, path, who may, what.
#[cfg_attr(not(test), allow(dead_code, reason = "the page is written from it"))]
pub(crate) type Free = (&'static str, &'static str, &'static str, &'static str);

#[cfg_attr(not(test), allow(dead_code, reason = "the page is written from it"))]
pub(crate) static FREE: &[Free] = &[
    ("GET", "/v1/models", "anyone", "what is served, as OpenAI lists it"),
    ("GET", "/v1/models/{id}", "anyone", "one of them; an id has a slash in it"),
    ("GET", "/health", "anyone", "whether this process answers"),
    ("POST", "/comity/v1/tokens", "the holder key it names", "a token of budget 0"),
    ("POST", "/comity/v1/acknowledgements", "(the acknowledgement is signed)", "running totals are agreed"),
    ("GET", "/comity/v1/receipts", "a holder on the path", "a stored receipt"),
    ("POST", "/comity/v1/receipts", "a holder on the path", "a newer receipt of this node is shown to it"),
    ("POST", "/comity/v1/finals", "the root holder", "the final"),
    ("GET", "/comity/v1/lanes", "a holder on the path", "where every lane stands"),
    ("GET", "/comity/v1/node", "anyone", "the node's certificate"),
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
    for base in ["/v1/models", "/models"] {
        router = router
            .route(base, get(models::list))
            .route(&format!("{base}/"), get(models::list))
            .route(&format!("{base}/{{*id}}"), get(models::one));
    }
    let problems = Router::new()
        .route("/comity/v1/tokens", post(control::token))
        .route("/comity/v1/acknowledgements", post(control::acknowledge))
        .route("/comity/v1/receipts", get(control::receipt).post(control::shown))
        .route("/comity/v1/finals", post(control::final_))
        .route("/comity/v1/lanes", get(control::lanes))
        .route("/comity/v1/node", get(control::node))
        .layer(axum::middleware::from_fn(problem::problem_form));
    let named = axum::middleware::from_fn_with_state(gateway.clone(), named);
    router
        .route("/health", get(models::health))
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

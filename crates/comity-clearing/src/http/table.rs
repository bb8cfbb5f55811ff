//! One table for what is served and what is described: a route stands in both, or in neither.
//!
//! A [`Route`] is built from the handler that serves it and the types of what goes in and comes out. [`router`] makes axum's
//! router of them, [`super::openapi`] the document.

use axum::Router;
use axum::routing::{MethodRouter, on};
use comity_wire::Code;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// One method of one path.
pub(crate) struct Route<S> {
    pub(crate) method: Method,
    /// As axum and OpenAPI both write it, but for a `*` before what may contain slashes.
    pub(crate) path: &'static str,
    serve: MethodRouter<S>,
    pub(crate) said: Said,
}

/// What the document says of it.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    /// Names it in generated clients.
    pub(crate) id: &'static str,
    pub(crate) about: &'static str,
    /// Whose key signs; none: nobody's.
    pub(crate) signed_by: Option<&'static str>,
    pub(crate) path: Option<(&'static str, Schematic)>,
    pub(crate) query: Option<Schematic>,
    pub(crate) body: Option<Schematic>,
    pub(crate) reply: Reply,
    /// Whether the reply may have a `link` to the next page.
    pub(crate) paged: bool,
    /// Beside those that every route of its kind can give.
    pub(crate) codes: &'static [Code],
}

/// Writes a type's schema.
pub(crate) type Schematic = fn(&mut SchemaGenerator) -> Schema;

#[derive(Clone, Copy)]
pub(crate) enum Reply {
    Json(Schematic),
    /// Bytes or text of a media type.
    Other(&'static str),
}

fn schematic<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What any route may answer.
const OF_ALL: &[Code] = &[Code::InvalidRequest, Code::StoreUnavailable, Code::Busy, Code::Internal];
/// What a route that reads a body may.
const OF_BODIES: &[Code] = &[Code::BodyTooLarge, Code::BodyTooSlow, Code::UnsupportedMediaType];
/// What a signed call may.
const OF_SIGNED: &[Code] = &[
    Code::Malformed,
    Code::InvalidKey,
    Code::Unsigned,
    Code::NotCovered,
    Code::BodyAltered,
    Code::BadSignature,
    Code::Stale,
    Code::NotRegistered,
    Code::NotYours,
    Code::Replayed,
    Code::BodyTooLarge,
    Code::BodyTooSlow,
];
/// What a signed `POST` may, for its `Idempotency-Key`.
const OF_KEYED: &[Code] = &[Code::InFlight, Code::IdempotencyConflict];

impl<S: Clone + Send + Sync + 'static> Route<S> {
    pub(crate) fn get<H, T>(id: &'static str, path: &'static str, handler: H, about: &'static str) -> Self
    where
        H: axum::handler::Handler<T, S>,
        T: 'static,
    {
        Self::new(Method::GET, id, path, on(axum::routing::MethodFilter::GET, handler), about)
    }

    pub(crate) fn post<H, T>(id: &'static str, path: &'static str, handler: H, about: &'static str) -> Self
    where
        H: axum::handler::Handler<T, S>,
        T: 'static,
    {
        Self::new(Method::POST, id, path, on(axum::routing::MethodFilter::POST, handler), about)
    }

    fn new(method: Method, id: &'static str, path: &'static str, serve: MethodRouter<S>, about: &'static str) -> Self {
        let said = Said {
            id,
            about,
            signed_by: None,
            path: None,
            query: None,
            body: None,
            reply: Reply::Other("application/json"),
            paged: false,
            codes: &[],
        };
        Self { method, path, serve, said }
    }

    pub(crate) fn signed_by(mut self, who: &'static str) -> Self {
        self.said.signed_by = Some(who);
        self
    }

    pub(crate) fn path<T: JsonSchema>(mut self, name: &'static str) -> Self {
        self.said.path = Some((name, schematic::<T>));
        self
    }

    pub(crate) fn query<T: JsonSchema>(mut self) -> Self {
        self.said.query = Some(schematic::<T>);
        self
    }

    pub(crate) fn body<T: JsonSchema>(mut self) -> Self {
        self.said.body = Some(schematic::<T>);
        self
    }

    pub(crate) fn reply<T: JsonSchema>(mut self) -> Self {
        self.said.reply = Reply::Json(schematic::<T>);
        self
    }

    /// A page of a list: `Q` takes `limit` and `cursor`, `T` has `next`.
    pub(crate) fn pages<Q: JsonSchema, T: JsonSchema>(mut self) -> Self {
        self.said.paged = true;
        self.query::<Q>().reply::<T>()
    }

    pub(crate) fn bytes(mut self, media_type: &'static str) -> Self {
        self.said.reply = Reply::Other(media_type);
        self
    }

    pub(crate) fn codes(mut self, codes: &'static [Code]) -> Self {
        self.said.codes = codes;
        self
    }

    /// Whether an `Idempotency-Key` does something here: a signed call that may change the books.
    pub(crate) fn is_keyed(&self) -> bool {
        self.method == Method::POST && self.said.signed_by.is_some()
    }

    /// Every code that it may refuse with.
    pub(crate) fn codes_all(&self) -> Vec<Code> {
        let mut codes = [OF_ALL, self.said.codes].concat();
        if self.said.body.is_some() {
            codes.extend(OF_BODIES);
        }
        if self.said.signed_by.is_some() {
            codes.extend(OF_SIGNED);
        }
        if self.is_keyed() {
            codes.extend(OF_KEYED);
        }
        codes.sort_unstable();
        codes.dedup();
        codes
    }
}

/// Serves what the table has, and nothing else.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(routes: Vec<Route<S>>) -> Router<S> {
    #[cfg(test)]
    let said: Vec<_> = routes.iter().map(|route| (route.method.clone(), route.path, route.codes_all())).collect();
    let router = routes.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.serve));
    #[cfg(test)]
    let router = router.route_layer(axum::middleware::from_fn(move |request, next| held(said.clone(), request, next)));
    router
}

/// In every test of the house: no refusal that the document does not have.
#[cfg(test)]
async fn held(
    said: Vec<(Method, &'static str, Vec<Code>)>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let path = request.extensions().get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned());
    let (method, path) = (request.method().clone(), path.unwrap_or_default());
    let response = next.run(request).await;
    let route = said.iter().find(|(known, at, _)| *known == method && *at == path);
    if let (Some(refusal), Some((.., codes))) = (response.extensions().get::<comity_http::Refusal>(), route) {
        let code = refusal.code;
        assert!(
            codes.iter().any(|known| known.as_str() == code),
            "{method} {path} refused with {code}: not in its table"
        );
    }
    response
}

//! The proxy's routes: the SDK's table of priced ones, and a few of its own. What is in neither is 404.

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, middleware};
use comity_sdk::route::{PRICED, Route};
use comity_wire::Code;
use serde_json::json;

use super::{Proxied, batches, check, files, models, relay};
use crate::said::Said;

/// A request body of more than this is refused.
const BODY_BYTES_MAX: usize = 8 << 20;

pub(super) fn router(shared: &Proxied) -> Router {
    let mut router = Router::new();
    for route in PRICED {
        let bare = route.path.strip_prefix("/v1").unwrap_or(route.path);
        router = both(router, bare, priced(route));
    }
    let own = [
        ("/models", get(models::list)),
        // An upload is bounded by its own reader.
        ("/files", post(files::upload).layer(DefaultBodyLimit::disable()).get(files::list)),
        ("/files/{id}", get(files::one).delete(files::delete)),
        ("/files/{id}/content", get(files::content)),
        ("/batches", post(batches::create).get(batches::list)),
        ("/batches/{id}", get(batches::one)),
        ("/batches/{id}/cancel", post(batches::cancel)),
    ];
    for (path, methods) in own {
        router = both(router, path, methods);
    }
    // The tail takes a trailing slash along.
    for path in ["/models/{*id}", "/v1/models/{*id}"] {
        router = router.route(path, get(models::one));
    }
    router
        .fallback(async |method: Method, uri: Uri, _: Drained| {
            let message = format!("the proxy has no {method} {}", uri.path());
            Said::new(StatusCode::NOT_FOUND, Code::NotFound.as_str(), message).response()
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri, _: Drained| {
            let message = format!("{} takes no {method}", uri.path());
            Said::new(StatusCode::METHOD_NOT_ALLOWED, Code::NotFound.as_str(), message).response()
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(shared.clone(), check::admit))
        // Asks nobody and says nothing: no key.
        .route("/health", get(async || Json(json!({"status": "ok"})).into_response()))
        .with_state(shared.clone())
}

/// Under both base addresses that clients are given, with and without a slash at the end.
pub(super) fn both(router: Router<Proxied>, path: &str, methods: MethodRouter<Proxied>) -> Router<Proxied> {
    let paths = ["", "/v1"].iter().flat_map(|base| ["", "/"].map(|end| format!("{base}{path}{end}")));
    paths.fold(router, |router, path| router.route(&path, methods.clone()))
}

/// A body that nobody wants, read all the same: a connection that is refused with bytes unread is closed, and its client's
/// next call fails with it.
type Drained = Result<Bytes, BytesRejection>;

fn priced(route: &'static Route) -> MethodRouter<Proxied> {
    let asked = move |state, connection, headers: HeaderMap, body| relay::ask(state, connection, route, headers, body);
    let methods = post(asked);
    if route.path != "/tokenizer_info" {
        return methods;
    }
    // It is read with GET; the node takes every priced call as a signed POST.
    methods.get(move |state, connection, headers: HeaderMap| {
        relay::ask(state, connection, route, headers, Bytes::from_static(b"{}"))
    })
}

//! The table of routes: where they are, and that the page about them says what it does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use comity_wire::Meter;
use serde_json::{Value, json};

use super::world::*;
use crate::routes::{FREE, Form, PRICED};

/// `docs/reference/routes.md` between its marks.
fn page() -> String {
    let mut page = String::from("| route | op | priced by | comes back |\n|---|---|---|---|\n");
    let code = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for route in PRICED {
        let meters: Vec<&str> = route.meters.iter().map(|meter| meter.as_str()).collect();
        let form = match route.form {
            Form::Text(names) => format!("`{}`, or events of `{}`", names.whole, names.piece),
            Form::Piece(_) => "one value".to_owned(),
        };
        let paths = code(route.paths);
        writeln!(page, "| `{}` {paths} | `{}` | {} | {form} |", route.method, route.op, code(&meters)).unwrap();
    }
    page.push_str("\n| route | who may | priced by | comes back |\n|---|---|---|---|\n");
    for route in FREE {
        let (method, path) = (route.method, route.paths[0].replace("{*id}", "{id}"));
        writeln!(page, "| `{method}` `{path}` | {} | none | {} |", route.who, route.what).unwrap();
    }
    for route in PRICED {
        let names: Vec<&str> = route.fields.iter().map(|(name, _)| *name).collect();
        let needed = if route.needed.is_empty() {
            String::new()
        } else {
            format!(" Needs {}.", code(route.needed).replace(", ", " or "))
        };
        write!(page, "\n**`{}`** takes {}.{needed}\n", route.paths[0], code(&names)).unwrap();
    }
    page
}

#[test]
fn the_page_says_what_the_table_does() {
    let written = include_str!("../../../../docs/reference/routes.md");
    let between =
        written.split("<!-- routes:begin -->\n").nth(1).and_then(|rest| rest.split("<!-- routes:end -->").next());
    let page = page();
    assert!(between == Some(&*page), "docs/reference/routes.md: between its marks there should be\n{page}");
    let spec = include_str!("../../../../spec/09-http.md");
    for route in PRICED {
        for path in &route.paths[..1] {
            assert!(spec.contains(&format!("`{path}`")), "spec/09-http.md does not have {path}");
        }
    }
}

#[test]
fn every_route_says_what_prices_it() {
    let paths: Vec<&str> = PRICED.iter().flat_map(|route| route.paths).copied().collect();
    assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len(), "no path is two routes");
    for route in PRICED {
        assert!(route.meters.contains(&Meter::Requests) && route.meters.contains(&Meter::InputBytes));
        let counts_output = route.meters.contains(&Meter::OutputTokens);
        assert_eq!(
            counts_output,
            matches!(route.form, Form::Text(_)),
            "{}: what is generated is priced",
            route.paths[0]
        );
    }
}

/// Both bases, and a slash at the end: the signature covers the path as it was sent.
#[tokio::test]
async fn a_route_answers_on_all_its_paths_and_nothing_else_does() {
    let world = World::new(Setting::default()).await;
    let chain = world.mint(|_| {});
    for (seq, path) in
        (1..).zip(["/v1/chat/completions", "/chat/completions", "/v1/chat/completions/", "/chat/completions/"])
    {
        let ask = world.ask(&chain).seq(seq).to(path, chat("hi", json!({"max_tokens": 5})));
        assert_eq!(world.code(&ask).await, "ok", "{path}");
    }
    let get = async |method: &str, path: &str| {
        let request = http::Request::builder().method(method).uri(path).header("x-request-id", "mine");
        let request = request.body(axum::body::Body::empty()).unwrap();
        read(tower::ServiceExt::oneshot(world.gateway.router(), request).await.unwrap()).await
    };
    for path in
        ["/v1/models", "/models", "/v1/models/", "/models/", "/v1/models/lab/tiny", "/models/lab/tiny/", "/health"]
    {
        let (status, headers, _) = get("GET", path).await;
        assert_eq!(status, 200, "{path}");
        assert!(headers["x-request-id"].to_str().unwrap().starts_with("req-"), "{path}");
    }
    let mut numbered = http::Request::get("/health").body(axum::body::Body::empty()).unwrap();
    numbered.extensions_mut().insert(comity_http::serve::RequestId("req-of-the-door".into()));
    let response = tower::ServiceExt::oneshot(world.gateway.router(), numbered).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "req-of-the-door", "one number, in the log too");
    let mut ids = BTreeSet::new();
    for (method, path, expected) in [
        ("POST", "/v1/images/generations", 404),
        ("POST", "/invocations", 404),
        ("POST", "/v2/chat/completions", 404),
        ("POST", "/v1/chat", 404),
        ("POST", "/v1//chat/completions", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/tokenizer_info", 405),
        ("POST", "/v1/embeddings", 401),
        ("POST", "/comity/v1/finals", 401),
    ] {
        let (status, headers, body) = get(method, path).await;
        assert_eq!(status, expected, "{method} {path}");
        assert_eq!(headers["x-should-retry"], "false", "{method} {path}");
        let id = headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.len() == 36 && ids.insert(id), "{method} {path}: a number of its own");
        let body: Value = serde_json::from_slice(&body).unwrap();
        let code = body["error"]["code"].as_str().or_else(|| body["code"].as_str());
        assert!(code.is_some_and(|code| !code.is_empty()), "{method} {path}: {body}");
    }
}

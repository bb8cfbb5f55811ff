//! The document: OpenAPI 3.1 from the table of routes and the types of `comity_wire::api`.
//!
//! `spec/openapi/clearing.json` is what this writes (`cargo xtask openapi`); a test holds it to the code.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use comity_wire::Code;
use http::Method;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Api;
use super::table::{Reply, Route, Schematic};

/// The document's text, ending with a line feed.
pub fn openapi() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let text = serde_json::to_string_pretty(&document(&super::routes())).expect("a document has a JSON form");
        text + "\n"
    })
}

const ABOUT: &str = "The clearing house keeps the books of a federation: credits, tokens, settlements. Bodies are JSON; ids, keys, \
    digests and signed objects are texts (spec/09-http.md §5). A refusal is a problem (RFC 9457) with a stable `code`. Unknown \
    fields of a request are refused; unknown fields of a reply are to be passed over. A `POST` that is repeated is answered with \
    what is stored: each is named by what it carries, and a signed one by its `Idempotency-Key` as well.";

const SIGNATURE: &str = "HTTP message signature (RFC 9421) by the caller's Ed25519 key: label `comity`, covered components \
    `\"@method\" \"@path\" \"@query\" \"content-digest\"` in this order, parameters `created`, `nonce` (16 bytes in base64url), `keyid` (the \
    key as `did:key:z6Mk…`), `alg=\"ed25519\"`, `tag=\"comity-api-v1\"` (spec/05-request.md §6). `content-digest` (RFC 9530) is sent with \
    every call, also with one that has no body. A nonce is good for one call.";

/// Schemas of what goes in and of what comes out: a field that has a default may be left out of a request, and always stands in a
/// reply. What both have is the same.
struct Schemas {
    taken: SchemaGenerator,
    given: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { taken: settings.clone().into_generator(), given: settings.for_serialize().into_generator() }
    }

    fn taken(&mut self, of: Schematic) -> Value {
        of(&mut self.taken).to_value()
    }

    fn given(&mut self, of: Schematic) -> Value {
        of(&mut self.given).to_value()
    }

    /// A query's fields as parameters.
    fn query(&mut self, of: Schematic) -> Vec<Value> {
        let mut whole = self.taken(of);
        if let Some(name) = whole["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            // A query is no object of its own.
            whole = self.taken.definitions_mut().remove(name).expect("a schema that was made");
        }
        let required: Vec<&str> =
            whole["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let fields = whole["properties"].as_object().expect("a query is a record");
        let parameter = |(name, schema): (&String, &Value)| {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&name.as_str()), "schema": not_null(schema),
            });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            parameter
        };
        fields.iter().map(parameter).collect()
    }

    fn all(self) -> Map<String, Value> {
        let (mut taken, given) = (self.taken, self.given);
        let mut all: BTreeMap<String, Value> = std::mem::take(taken.definitions_mut()).into_iter().collect();
        for (name, schema) in given.definitions() {
            let before = all.insert(name.clone(), schema.clone());
            assert!(
                before.is_none_or(|before| before == *schema),
                "{name} has one form in requests, another in replies"
            );
        }
        all.into_iter().collect()
    }
}

/// A query has no way to say null.
fn not_null(mut schema: Value) -> Value {
    if let Some(types) = schema["type"].as_array() {
        let one = types.iter().find(|one| *one != "null").cloned();
        schema["type"] = one.unwrap_or_default();
    }
    let some = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null").cloned());
    let mut schema = some.unwrap_or(schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("default");
    }
    schema
}

fn document(routes: &[Route<Api>]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut schemas);
    }
    let mut all = schemas.all();
    all.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Comity clearing house",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The house's own https door (spec/09-http.md §7): its key, not a certificate authority, vouches for it." }],
        "paths": paths,
        "components": {
            "schemas": all,
            "securitySchemes": {
                "signature": { "type": "apiKey", "in": "header", "name": "signature", "description": SIGNATURE },
                "signatureInput": { "type": "apiKey", "in": "header", "name": "signature-input", "description": "The other half of `signature`." },
            },
            "headers": {
                "ShouldRetry": {
                    "description": "Whether the same call may succeed later with nobody changing it.", "required": true,
                    "schema": { "type": "string", "enum": ["true", "false"] },
                },
                "RetryAfter": { "description": "Whole seconds.", "schema": { "type": "integer", "minimum": 0 } },
                "Replayed": {
                    "description": "`true` where this is the answer that was kept for the `Idempotency-Key`.",
                    "schema": { "type": "string", "enum": ["true"] },
                },
                "Link": { "description": "`rel=\"next\"`: the next page (RFC 8288).", "schema": { "type": "string" } },
            },
            "parameters": {
                "IdempotencyKey": {
                    "name": "idempotency-key", "in": "header", "required": false,
                    "description": "Names this call for 24 hours: the same key with the same call is answered as the first time. 1 to 255 characters.",
                    "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
                },
            },
        },
    })
}

fn operation(route: &Route<Api>, schemas: &mut Schemas) -> Value {
    let said = &route.said;
    let mut parameters = Vec::new();
    if let Some((name, of)) = said.path {
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schemas.taken(of) }));
    }
    if let Some(of) = said.query {
        parameters.extend(schemas.query(of));
    }
    if route.is_keyed() {
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    let mut operation = json!({ "operationId": said.id, "summary": said.about });
    if let Some(who) = said.signed_by {
        operation["description"] = json!(format!("Signed by {who}."));
        operation["security"] = json!([{ "signature": [], "signatureInput": [] }]);
    } else {
        operation["security"] = json!([]);
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(of) = said.body {
        let schema = schemas.taken(of);
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success(route, schemas));
    for (status, codes) in by_status(&route.codes_all()) {
        responses.insert(status.to_string(), refusals(&codes));
    }
    operation["responses"] = responses.into();
    operation
}

fn success(route: &Route<Api>, schemas: &mut Schemas) -> Value {
    let content = match route.said.reply {
        Reply::Json(of) => json!({ "application/json": { "schema": schemas.given(of) } }),
        Reply::Other(media_type) => json!({ media_type: {} }),
    };
    let mut headers = Map::new();
    if route.is_keyed() {
        headers.insert("comity-replayed".to_owned(), json!({ "$ref": "#/components/headers/Replayed" }));
    }
    if route.said.paged {
        headers.insert("link".to_owned(), json!({ "$ref": "#/components/headers/Link" }));
    }
    let about = if route.method == Method::POST { "Done, or done before." } else { "As it stands." };
    let mut success = json!({ "description": about, "content": content });
    if !headers.is_empty() {
        success["headers"] = headers.into();
    }
    success
}

fn by_status(codes: &[Code]) -> BTreeMap<u16, Vec<&'static str>> {
    let mut statuses = BTreeMap::<u16, Vec<&'static str>>::new();
    for code in codes {
        statuses.entry(code.status()).or_default().push(code.as_str());
    }
    statuses
}

fn refusals(codes: &[&str]) -> Value {
    json!({
        "description": codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", "),
        "headers": {
            "x-should-retry": { "$ref": "#/components/headers/ShouldRetry" },
            "retry-after": { "$ref": "#/components/headers/RetryAfter" },
        },
        "content": { "application/problem+json": { "schema": {
            "allOf": [{ "$ref": "#/components/schemas/Problem" }, { "properties": { "code": { "enum": codes } } }],
        } } },
    })
}

/// RFC 9457, with the fields of `comity_http::Refusal`.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A refusal (spec/errors.md). Further fields are for machines: amounts, limits, what is expected.",
        "required": ["type", "title", "status", "detail", "code", "retry"],
        "properties": {
            "type": { "type": "string", "pattern": "^urn:comity:error:[a-z_]+$" },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "A sentence for people." },
            "code": { "type": "string", "description": "Stable." },
            "retry": { "type": "boolean", "description": "Whether the same call may succeed later with nobody changing it." },
            "hint": { "type": "string", "description": "What to do next, as a sentence or a command." },
            "param": { "type": "string", "description": "The field of the request that it is about." },
            "whose_move": { "type": "string", "description": "Who has to do something for it to succeed." },
            "retry_after_s": { "type": "integer", "minimum": 0 },
        },
    })
}

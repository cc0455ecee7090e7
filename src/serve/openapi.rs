//! The OpenAPI document, generated from the routes.

use super::problem::{Document as Problem, FieldError};
use crate::error::{Error, Result};
use crate::read::{Dimension, Grain, Ranking};
use serde_json::{Value, json};
use utoipa::{IntoResponses, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pulso",
        description = "A shop's numbers, exact and fresh at commit.\n\nMoney and quantities are decimal text, never floats. Dates are business dates by the shop's clock and start of day; both ends of a range are included. Every error is a problem document (RFC 9457). Every answer bears `x-request-id`; send your own (letters, digits, `-_.`, up to 128) to find it in the service's log.",
    ),
    // Schemas met only in error responses and parameters are not collected from the routes.
    components(schemas(Problem, FieldError, Dimension, Grain, Ranking)),
    tags(
        (name = "figures", description = "What the shops sold"),
        (name = "service", description = "For operators"),
    )
)]
pub struct Api;

/// What every route of figures may answer besides its figures.
#[derive(IntoResponses)]
#[allow(dead_code)] // Read by the derive alone.
pub enum Problems {
    /// A parameter is unknown, repeated, malformed or out of bounds; `errors` names each
    #[response(status = 400, content_type = "application/problem+json", example = json!({
        "type": "urn:pulso:problem:invalid-request", "title": "The request is malformed", "status": 400,
        "detail": "grain: must be one of hour, day, week, month", "instance": "/v1/stores/5b2c7b7e-4b0e-4a63-9b0e-0c4e0d3c7a11/sales",
        "request_id": "0b6b1f8e-3b5c-4e0e-9a55-0d9f3b8f4a52",
        "errors": [{"field": "grain", "detail": "must be one of hour, day, week, month"}]
    }))]
    BadRequest(#[to_schema] Problem),
    /// The service failed; its log has the cause under the request id
    #[response(status = 500, content_type = "application/problem+json", example = json!({
        "type": "urn:pulso:problem:internal", "title": "Internal error", "status": 500,
        "detail": "The service failed; its log has the cause under this request_id.", "instance": "/v1/stores",
        "request_id": "0b6b1f8e-3b5c-4e0e-9a55-0d9f3b8f4a52"
    }))]
    Internal(#[to_schema] Problem),
    /// The database cannot be reached, or the service is busy; come back after `Retry-After` seconds
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds")), example = json!({
        "type": "urn:pulso:problem:unavailable", "title": "The database cannot answer now", "status": 503,
        "detail": "The database cannot be reached or has no connection to spare; try again shortly.", "instance": "/v1/stores",
        "request_id": "0b6b1f8e-3b5c-4e0e-9a55-0d9f3b8f4a52"
    }))]
    Unavailable(#[to_schema] Problem),
    /// The answer took too long
    #[response(status = 504, content_type = "application/problem+json", example = json!({
        "type": "urn:pulso:problem:timeout", "title": "No answer in time", "status": 504,
        "detail": "The answer took too long; ask for a shorter range or try again.", "instance": "/v1/stores",
        "request_id": "0b6b1f8e-3b5c-4e0e-9a55-0d9f3b8f4a52"
    }))]
    TimedOut(#[to_schema] Problem),
}

/// What a route under one shop may answer.
#[derive(IntoResponses)]
#[response(status = 404, content_type = "application/problem+json", description = "There is no such shop", example = json!({
    "type": "urn:pulso:problem:unknown-store", "title": "No such store", "status": 404,
    "detail": "there is no store 5b2c7b7e-4b0e-4a63-9b0e-0c4e0d3c7a11; /v1/stores lists them.",
    "instance": "/v1/stores/5b2c7b7e-4b0e-4a63-9b0e-0c4e0d3c7a11/dashboard", "request_id": "0b6b1f8e-3b5c-4e0e-9a55-0d9f3b8f4a52"
}))]
#[allow(dead_code)]
pub struct UnknownStore(#[to_schema] Problem);

/// What `/ready` answers when it is not.
#[derive(IntoResponses)]
#[response(status = 503, content_type = "application/problem+json", description = "The database does not answer or is not migrated", headers(("Retry-After" = u32, description = "Seconds")))]
#[allow(dead_code)]
pub struct Unready(#[to_schema] Problem);

/// The document as JSON.
pub fn openapi_json() -> Result<String> {
    let failed = |error: serde_json::Error| Error::failed(format!("the OpenAPI document cannot be written: {error}"));
    let mut document = serde_json::to_value(super::api_router().to_openapi()).map_err(failed)?;
    complete(&mut document);
    serde_json::to_string_pretty(&document).map_err(failed)
}

/// Adds what all routes behind the guard have in common, so that none can lack it.
fn complete(document: &mut Value) {
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "An API key (`pulso key create`) or a JWT of an issuer that the service trusts. Not needed where the service runs open on its own machine."
        }
    });
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        let guarded = path.starts_with("/v1") || path == "/metrics";
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if !guarded {
                continue;
            }
            operation["security"] = json!([{ "bearer": [] }]);
            for (status, title, kind, description) in REFUSALS {
                operation["responses"][status] = refusal(status, title, kind, description, path);
            }
            if path.starts_with("/v1") && path != "/v1/live" && path != "/v1/freshness" {
                as_of(operation);
            }
            if method == "get" && path.starts_with("/v1") && path != "/v1/live" {
                in_part(operation);
            }
        }
    }
    with_examples(document);
}

/// An example for each JSON answer and body that has none, put together from those of its members.
fn with_examples(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(|item| item.values_mut()) {
        let Some(operation) = operation.as_object_mut() else { continue };
        let mut contents: Vec<&mut Value> = Vec::new();
        for (part, value) in operation.iter_mut() {
            match part.as_str() {
                "responses" => {
                    let answers = value.as_object_mut().into_iter().flat_map(|all| all.values_mut());
                    contents.extend(answers.filter_map(|answer| answer.get_mut("content")));
                }
                "requestBody" => contents.extend(value.get_mut("content")),
                _ => {}
            }
        }
        for content in contents.into_iter().filter_map(Value::as_object_mut) {
            for (kind, media) in content.iter_mut() {
                if kind.ends_with("json") && media.get("example").is_none() && media.get("examples").is_none() {
                    media["example"] = example(&media["schema"], &schemas, 0);
                }
            }
            // An answer in part: one member of the whole.
            let whole = content.get("application/json").and_then(|media| media["example"].as_object());
            let member = whole.and_then(|members| members.iter().next()).map(|(name, value)| json!({ name: value }));
            if let (Some(member), Some(part)) = (member, content.get_mut(super::manners::PARTIAL)) {
                part["example"] = member;
            }
        }
    }
}

/// Schemas do not nest deeper than this; a schema of itself would without end.
const MAX_DEPTH: usize = 12;

fn example(schema: &Value, schemas: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    let of = |schema: &Value| example(schema, schemas, depth + 1);
    if let Some(own) = schema.get("example").or_else(|| schema["examples"].get(0)) {
        return own.clone();
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return of(&schemas[name]);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let members = parts.iter().filter_map(|part| of(part).as_object().cloned()).flatten();
        return members.collect::<serde_json::Map<_, _>>().into();
    }
    for choice in ["oneOf", "anyOf"] {
        let some = schema[choice].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"));
        if let Some(some) = some {
            return of(some);
        }
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find_map(|kind| kind.as_str().filter(|kind| *kind != "null")),
        kind => kind.as_str(),
    };
    match (kind, schema["format"].as_str()) {
        (Some("object"), _) => {
            let members = schema["properties"].as_object().into_iter().flatten();
            members.map(|(name, member)| (name.clone(), of(member))).collect::<serde_json::Map<_, _>>().into()
        }
        (Some("array"), _) => json!([of(&schema["items"])]),
        (Some("boolean"), _) => json!(true),
        (Some("integer" | "number"), _) => schema.get("minimum").cloned().unwrap_or(json!(1)),
        (Some("string"), Some("uuid")) => json!("5b2c7b7e-4b0e-4a63-9b0e-0c4e0d3c7a11"),
        (Some("string"), Some("date")) => json!("2026-07-30"),
        (Some("string"), Some("date-time")) => json!("2026-07-30T14:00:00Z"),
        (Some("string"), _) => json!("text"),
        // Of any kind.
        _ => json!({}),
    }
}

const REFUSALS: [(&str, &str, &str, &str); 3] = [
    ("401", "A key is needed", "unauthorized", "There is no key, or it is unknown, revoked or expired"),
    ("403", "Not for this key", "forbidden", "The key's role does not reach"),
    (
        "429",
        "Too many requests",
        "too-many-requests",
        "The key has sent as many requests as it may; `Retry-After` says when to go on",
    ),
];

fn refusal(status: &str, title: &str, kind: &str, description: &str, path: &str) -> Value {
    let example = json!({
        "type": format!("urn:pulso:problem:{kind}"), "title": title, "status": status.parse::<u16>().unwrap_or_default(),
        "detail": description, "instance": path, "request_id": "0b6b1f8e-3b5c-4e0e-9a55-0d9f3b8f4a52"
    });
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({
        "description": description,
        "content": { "application/problem+json": { "schema": schema, "example": example } }
    })
}

/// A position in the primary's log, which each route of figures can be asked for and tells.
fn as_of(operation: &mut Value) {
    add_parameter(
        operation,
        json!({
            "name": "Pulso-After-Lsn", "in": "header", "required": false,
            "description": "A position in the primary's log, as `pg_current_wal_lsn()` tells it after a commit: the answer holds all that was acknowledged up to it, whatever is kept and whichever standby is read. One that the database has not reached is refused",
            "schema": { "type": "string", "pattern": "^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$", "examples": ["0/0"] }
        }),
    );
    operation["responses"]["200"]["headers"] = json!({
        "Pulso-Lsn": {
            "description": "The answer holds all that was acknowledged up to this position in the primary's log",
            "schema": { "type": "string" }
        }
    });
}

fn add_parameter(operation: &mut Value, parameter: Value) {
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

/// `fields=` and ETag, which `manners` gives to each route of figures.
fn in_part(operation: &mut Value) {
    let parameter = json!({
        "name": "fields", "in": "query", "required": false,
        "description": "Only these members of the answer, separated by commas; members of members after a dot, as `net_usd,hourly.hour`. The answer is then of type application/vnd.pulso.partial+json",
        "schema": { "type": "string", "pattern": "^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+){0,3}(,[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+){0,3})*$" }
    });
    add_parameter(operation, parameter);
    operation["responses"]["304"] =
        json!({ "description": "The answer is what the caller has: `If-None-Match` named its `ETag`" });
    let answer = &mut operation["responses"]["200"];
    answer["content"][super::manners::PARTIAL] = json!({ "schema": { "type": "object" } });
    answer["headers"]["ETag"] = json!({
        "description": "Changes with the answer; send it back as `If-None-Match`", "schema": { "type": "string" }
    });
}

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
            if method == "get" && path.starts_with("/v1") && path != "/v1/live" {
                in_part(operation);
            }
        }
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

/// `fields=` and ETag, which `manners` gives to each route of figures.
fn in_part(operation: &mut Value) {
    let parameter = json!({
        "name": "fields", "in": "query", "required": false,
        "description": "Only these members of the answer, separated by commas; members of members after a dot, as `net_usd,hourly.hour`. The answer is then of type application/vnd.pulso.partial+json",
        "schema": { "type": "string", "pattern": "^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+){0,3}(,[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+){0,3})*$" }
    });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
    operation["responses"]["304"] =
        json!({ "description": "The answer is what the caller has: `If-None-Match` named its `ETag`" });
    let answer = &mut operation["responses"]["200"];
    answer["content"][super::manners::PARTIAL] = json!({ "schema": { "type": "object" } });
    answer["headers"] = json!({
        "ETag": { "description": "Changes with the answer; send it back as `If-None-Match`", "schema": { "type": "string" } }
    });
}

//! The OpenAPI document, generated from the routes.

use super::problem::{Document as Problem, FieldError};
use crate::error::{Error, Result};
use crate::read::{Grain, Ranking};
use utoipa::{IntoResponses, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pulso",
        description = "A shop's numbers, exact and fresh at commit.\n\nMoney and quantities are decimal text, never floats. Dates are business dates by the shop's clock and start of day; both ends of a range are included. Every error is a problem document (RFC 9457). Every answer bears `x-request-id`; send your own (letters, digits, `-_.`, up to 128) to find it in the service's log.",
    ),
    // Schemas met only in error responses and parameters are not collected from the routes.
    components(schemas(Problem, FieldError, Grain, Ranking)),
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
    let document = super::api_router().to_openapi();
    document.to_pretty_json().map_err(|error| Error::failed(format!("the OpenAPI document cannot be written: {error}")))
}

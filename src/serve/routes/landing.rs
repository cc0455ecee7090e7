//! `GET /` and `GET /openapi.json`

use crate::error::Result;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

/// Links for a person who opens the address
#[utoipa::path(get, path = "/", operation_id = "landing", tag = "service", responses((status = 200, body = String, content_type = "text/html", description = "A page of links")))]
pub async fn landing() -> impl IntoResponse {
    (
        [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")],
        Html(include_str!("landing.html")),
    )
}

/// This document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "service", responses((status = 200, body = serde_json::Value, description = "OpenAPI 3.1")))]
pub async fn openapi() -> Response {
    let document: Result<String> = crate::serve::openapi_json();
    match document {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

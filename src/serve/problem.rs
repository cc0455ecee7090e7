//! RFC 9457 problem documents: the only form in which this service reports that something is wrong.
//!
//! 400 names the field at fault; 401 and 403 are about the key, 429 about how much it asks; 404 is an unknown store or route; 503 passes by itself and says when to come back;
//! 504 is a read that took too long; 500 is our fault and tells nothing but the request id, under which the log has the cause.
//! `boundary` renders them, since it knows the request.

use crate::key::Role;
use crate::read::ReadError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What is wrong with one part of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Name of the parameter.
    #[schema(examples("grain"))]
    pub field: String,
    #[schema(examples("must be one of hour, day, week, month"))]
    pub detail: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Document {
    /// Names the kind of problem; stable, not meant to be opened.
    #[serde(rename = "type")]
    #[schema(examples("urn:pulso:problem:invalid-request"))]
    kind: &'static str,
    #[schema(examples("The request is malformed"))]
    title: &'static str,
    #[schema(minimum = 400, maximum = 599, examples(400))]
    status: u16,
    /// For people: what is wrong in this case.
    #[schema(examples("grain: must be one of hour, day, week, month"))]
    detail: String,
    /// The path asked for.
    #[schema(examples("/v1/stores"))]
    instance: String,
    /// Also in the header `x-request-id` and in the service's log.
    #[schema(examples("0b6b1f8e-3b5c-4e0e-9a55-0d9f3b8f4a52"))]
    request_id: String,
    /// The parts of the request at fault, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// What is wrong, before the request it is about is known.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: &'static str,
    title: &'static str,
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_seconds: Option<u32>,
    /// For the log only.
    cause: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, title, status, detail: detail.into(), errors: Vec::new(), retry_after_seconds: None, cause: None }
    }

    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.iter().map(|e| format!("{}: {}", e.field, e.detail)).collect::<Vec<_>>().join("; ");
        let mut this =
            Self::new(StatusCode::BAD_REQUEST, "urn:pulso:problem:invalid-request", "The request is malformed", detail);
        this.errors = errors;
        this
    }

    /// Too many requests are being answered already.
    pub fn busy() -> Self {
        let detail = "The service is answering as many requests as it may; try again in a second.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "urn:pulso:problem:busy", "The service is busy", detail)
            .retry_after(1)
    }

    /// Who asks is not known.
    pub fn unauthorized(detail: &str) -> Self {
        let title = "A key is needed";
        Self::new(StatusCode::UNAUTHORIZED, "urn:pulso:problem:unauthorized", title, detail)
    }

    /// The caller's role does not reach.
    pub fn forbidden(role: Role) -> Self {
        let detail = format!("This needs a key of role {} or above.", role.as_str());
        Self::new(StatusCode::FORBIDDEN, "urn:pulso:problem:forbidden", "Not for this key", detail)
    }

    /// A page of an origin that was not named.
    pub fn foreign_origin() -> Self {
        let detail = "Pages of this origin may not connect; name it with --cors-origin.";
        Self::new(StatusCode::FORBIDDEN, "urn:pulso:problem:forbidden", "Not for this origin", detail)
    }

    pub fn too_many(limit: u32, seconds: u64) -> Self {
        let detail = format!("This key may send {limit} requests a minute; try again in {seconds} s.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "urn:pulso:problem:too-many-requests", "Too many requests", detail)
            .retry_after(u32::try_from(seconds).unwrap_or(60))
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        let title = "The database cannot answer now";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "urn:pulso:problem:unavailable", title, detail).retry_after(2)
    }

    pub fn timed_out() -> Self {
        let detail = "The answer took too long; ask for a shorter range or try again.";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "urn:pulso:problem:timeout", "No answer in time", detail)
    }

    pub fn internal(cause: impl Into<String>) -> Self {
        let detail = "The service failed; its log has the cause under this request_id.";
        let mut this =
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, "urn:pulso:problem:internal", "Internal error", detail);
        this.cause = Some(cause.into());
        this
    }

    /// For an answer that the framework made: unknown route, wrong method, body too large.
    pub fn from_status(status: StatusCode, path: &str) -> Self {
        match status {
            StatusCode::NOT_FOUND => {
                let detail = format!("There is no route {path}; the routes are in /openapi.json.");
                Self::new(status, "urn:pulso:problem:unknown-route", "No such route", detail)
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                let detail = format!("{path} does not answer this method; the header Allow lists those it does.");
                Self::new(status, "urn:pulso:problem:method-not-allowed", "Method not allowed", detail)
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                status,
                "urn:pulso:problem:body-too-large",
                "The body is too large",
                "A request has 16 KiB at most.",
            ),
            _ => Self::new(status, "about:blank", status.canonical_reason().unwrap_or("Error"), ""),
        }
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    fn caused_by(mut self, cause: String) -> Self {
        self.cause = Some(cause);
        self
    }

    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    fn to_document(&self, path: &str, request_id: &str) -> Document {
        Document {
            kind: self.kind,
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            instance: path.to_owned(),
            request_id: request_id.to_owned(),
            errors: self.errors.clone(),
        }
    }

    /// The document as a part of another answer.
    pub fn document(&self, path: &str, request_id: &str) -> serde_json::Value {
        serde_json::to_value(self.to_document(path, request_id)).unwrap_or_default()
    }

    /// The document itself, on top of the headers of `response`.
    pub fn render(self, path: &str, request_id: &str, mut response: Response) -> Response {
        let document = self.to_document(path, request_id);
        // Serializing strings and numbers cannot fail; an empty body would still bear the status.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pulso\""));
        }
        *response.body_mut() = body.into();
        response
    }
}

impl IntoResponse for Problem {
    /// Only the status and the problem: `boundary` renders the document.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let cause = error.to_string();
        match error {
            ReadError::UnknownStore(_) => Self::new(
                StatusCode::NOT_FOUND,
                "urn:pulso:problem:unknown-store",
                "No such store",
                format!("{cause}; /v1/stores lists them."),
            ),
            ReadError::Unavailable(_) => {
                Self::unavailable("The database cannot be reached or has no connection to spare; try again shortly.")
                    .caused_by(cause)
            }
            ReadError::TimedOut => Self::timed_out().caused_by(cause),
            ReadError::NotMigrated(_) => {
                Self::unavailable("The database lacks the tables or views this service reads: run `pulso migrate up`.")
                    .caused_by(cause)
            }
            ReadError::NotFound(_) | ReadError::Failed(_) => Self::internal(cause),
        }
    }
}

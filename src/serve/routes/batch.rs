//! `POST /v1/batch`: several figures in one request.

use crate::serve::access::Principal;
use crate::serve::asked::Asked;
use crate::serve::openapi::Problems;
use crate::serve::problem::{FieldError, Problem};
use crate::serve::state::AppState;
use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{Request, StatusCode};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower::ServiceExt;
use utoipa::ToSchema;

const MAX: usize = 20;
/// So many are answered at once.
const AT_ONCE: usize = 4;
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// What is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    #[schema(min_items = 1, max_items = 20)]
    requests: Vec<BatchRequest>,
}

/// One of the requests.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// A GET of this service, with its query.
    #[schema(examples("/v1/stores?limit=10"), pattern = "^/v1/")]
    path: String,
}

/// The answers, in the order of the requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswers {
    responses: Vec<BatchAnswer>,
}

/// One of the answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer {
    #[schema(minimum = 200, maximum = 599, examples(200))]
    status: u16,
    /// What the request alone would be answered with: figures, or a problem document.
    #[schema(examples(json!({"stores": [], "next": null})))]
    body: Value,
}

/// Several figures at once
///
/// Up to 20 GET requests; each is answered as if it came alone, with a status of its own, and counts as one request.
#[utoipa::path(
    post,
    path = "/v1/batch",
    operation_id = "batch",
    tag = "figures",
    request_body(content = Batch, description = "The requests"),
    responses((status = 200, body = BatchAnswers, description = "The answers"), Problems),
)]
pub async fn batch(
    State(state): State<AppState>,
    principal: Principal,
    asked: Asked,
    body: Bytes,
) -> Result<Json<BatchAnswers>, Problem> {
    let invalid = |field: &str, detail: String| Problem::invalid(vec![FieldError::new(field, detail)]);
    let batch: Batch = serde_json::from_slice(&body).map_err(|error| invalid("body", error.to_string()))?;
    if batch.requests.is_empty() || batch.requests.len() > MAX {
        return Err(invalid("requests", format!("must be 1 to {MAX}; these are {}", batch.requests.len())));
    }
    let mut errors = Vec::new();
    let mut requests = Vec::new();
    for (index, one) in batch.requests.iter().enumerate() {
        match inner(&one.path, &principal, &asked) {
            Ok(request) => requests.push((one.path.clone(), request)),
            Err(detail) => errors.push(FieldError::new(format!("requests[{index}].path"), detail)),
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let more = u32::try_from(requests.len().saturating_sub(1)).unwrap_or(u32::MAX);
    state.access.count(&principal, more).await?;
    if let Some(tally) = &principal.tally {
        tally.asked(more);
    }
    let router = state.figures();
    let responses: Vec<BatchAnswer> = futures_util::stream::iter(requests.into_iter().map(|(path, request)| {
        let router = router.clone();
        async move { answer(router, &path, request).await }
    }))
    .buffered(AT_ONCE)
    .collect()
    .await;
    if let Some(tally) = &principal.tally {
        for status in responses.iter().filter_map(|one| StatusCode::from_u16(one.status).ok()) {
            tally.answered(status);
        }
    }
    Ok(Json(BatchAnswers { responses }))
}

fn inner(path: &str, principal: &Principal, asked: &Asked) -> Result<Request<Body>, String> {
    let route = path.split('?').next().unwrap_or_default();
    if !route.starts_with("/v1/") || matches!(route, "/v1/batch" | "/v1/live") {
        return Err("must be a path of figures, like /v1/stores".to_owned());
    }
    let mut request = Request::get(path).body(Body::empty()).map_err(|error| error.to_string())?;
    request.extensions_mut().insert(principal.clone());
    // One for all: the batch holds what the least of its answers does.
    request.extensions_mut().insert(Ok::<_, Problem>(asked.clone()));
    Ok(request)
}

async fn answer(router: axum::Router, path: &str, request: Request<Body>) -> BatchAnswer {
    // The router's error type has no values.
    let mut response = router.oneshot(request).await.unwrap_or_default();
    let status = response.status();
    let path = path.split('?').next().unwrap_or_default();
    if status != StatusCode::OK {
        let problem = response.extensions_mut().remove::<Problem>();
        let problem = problem.unwrap_or_else(|| Problem::from_status(status, path));
        return BatchAnswer { status: status.as_u16(), body: problem.document(path, "") };
    }
    match to_bytes(response.into_body(), MAX_ANSWER).await.ok().and_then(|body| serde_json::from_slice(&body).ok()) {
        Some(body) => BatchAnswer { status: 200, body },
        None => {
            BatchAnswer { status: 500, body: Problem::internal("an answer in a batch is no JSON").document(path, "") }
        }
    }
}

//! What every request passes: an id, the bounds, the panic net, problem documents and one line of log.

use super::metrics::Metrics;
use super::problem::Problem;
use super::slow::Lines;
use super::state::AppState;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Builder;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// For browsers that are led to this service: its answers are data, never pages but for `/`, which says so itself.
const SECURITY: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the boundary counts, and from when on a request is slow.
#[derive(Clone)]
pub struct Watch {
    metrics: Arc<Metrics>,
    slow: Duration,
    lines: Arc<Lines>,
}

impl Watch {
    pub fn new(metrics: Arc<Metrics>, slow: Duration) -> Self {
        Self { metrics, slow, lines: Arc::default() }
    }
}

/// Counts a request while it is being answered, however that ends.
struct InFlight(Arc<Metrics>);

impl InFlight {
    fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.in_flight.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Outermost. Whatever happens inside, the client gets a document and the log a line.
pub async fn boundary(State(watch): State<Watch>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let _in_flight = InFlight::begin(&watch.metrics);
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let id = request_id(&request);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();

    let mut response = next.run(request).await;

    let status = response.status();
    let problem = response.extensions_mut().remove::<Problem>();
    let cause = problem.as_ref().and_then(Problem::cause).map(str::to_owned);
    if status.is_client_error() || status.is_server_error() {
        let problem = problem.unwrap_or_else(|| Problem::from_status(status, &path));
        response = problem.render(&path, &id, response);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    for (name, value) in SECURITY {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // Figures say themselves how they may be kept.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    log(&method, &path, status, cause.as_deref(), &id, started);
    let took = started.elapsed();
    let slow = took > watch.slow;
    if slow && let Some(unsaid) = watch.metrics.slow_line(&watch.lines) {
        let (duration_ms, limit_ms) = (took.as_millis() as u64, watch.slow.as_millis() as u64);
        tracing::warn!(target: "pulso::slow", { http.method = %method, http.route = %route, http.status = status.as_u16(), duration_ms, limit_ms, request_id = %id, unsaid }, "slow request");
    }
    if let Some(reason) = refusal(status) {
        watch.metrics.refused(reason);
    }
    // Methods may be of the client's making.
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"].contains(&method.as_str());
    watch.metrics.answered(if known { method.as_str() } else { "other" }, &route, status.as_u16(), took, slow);
    response
}

fn refusal(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED => Some("no_key"),
        StatusCode::FORBIDDEN => Some("role"),
        StatusCode::TOO_MANY_REQUESTS => Some("rate"),
        StatusCode::PAYLOAD_TOO_LARGE => Some("body"),
        _ => None,
    }
}

fn log(method: &axum::http::Method, path: &str, status: StatusCode, cause: Option<&str>, id: &str, started: Instant) {
    let duration_ms = (started.elapsed().as_micros() as f64) / 1000.0;
    let code = status.as_u16();
    // A path may be long and of the client's making: the log keeps its beginning.
    let path = &path[..path.char_indices().nth(200).map_or(path.len(), |(at, _)| at)];
    if status.is_server_error() {
        let error = cause.unwrap_or_default();
        tracing::warn!(target: "pulso::access", { http.method = %method, http.path = %path, http.status = code, duration_ms, request_id = %id, error }, "request failed");
    } else {
        tracing::info!(target: "pulso::access", { http.method = %method, http.path = %path, http.status = code, duration_ms, request_id = %id }, "request");
    }
}

/// The client's own id where it is fit for a log, else a new one.
fn request_id(request: &Request) -> String {
    let fit = |id: &&str| {
        (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(fit) {
        Some(id) => id.to_owned(),
        // Out of the thread's own generator: the system's costs a call.
        None => Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
    }
}

/// A bound on what is answered at once and on how long an answer may take.
pub async fn bounds<F>(state: &AppState, request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let Ok(_permit) = state.permits.try_acquire() else {
        state.metrics.refused("busy");
        return Problem::busy().into_response();
    };
    match tokio::time::timeout(state.request_timeout, answer(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timed_out().into_response(),
    }
}

/// For `CatchPanicLayer`.
pub fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Problem::internal(format!("panic: {}", text.unwrap_or("unknown"))).into_response()
}

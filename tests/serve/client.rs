//! A client of the real router, without a socket.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use pulso::serve::{AppState, router};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header of text"))
    }

    /// The document of a problem, which must be one.
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let document = self.json();
        for member in ["type", "title", "status", "detail", "instance", "request_id"] {
            assert!(document.get(member).is_some(), "{member} is missing in {document}");
        }
        assert_eq!(document["status"], self.status.as_u16());
        assert_eq!(document["request_id"], self.header("x-request-id"));
        document
    }

    /// Fields that the problem names, in order.
    pub fn fields(&self) -> Vec<String> {
        let document = self.problem();
        let errors = document["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|e| e["field"].as_str().expect("a field").to_owned()).collect()
    }
}

pub struct Client(Router);

impl Client {
    pub fn to(url: &str) -> Self {
        Self::over(AppState::new(url, 2, 8).expect("a pool"))
    }

    pub fn over(state: AppState) -> Self {
        Self(router(state))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.0.clone().oneshot(request).await.expect("the router always answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body").to_vec();
        Answer { status, headers, body }
    }
}

/// Sends bytes over a connection of its own, and gives all that comes back until the other side closes it.
pub async fn raw(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the service listens");
    stream.write_all(request.as_bytes()).await.expect("the service reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the service answers");
    String::from_utf8_lossy(&answer).into_owned()
}

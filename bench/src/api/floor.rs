//! The least that an answer of these bytes can cost here: hyper alone, which gives every request the same one.

use crate::Outcome;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, stdin};
use tokio::net::TcpListener;

/// Serves what comes on the standard input, an answer with its head, until it is killed.
pub async fn serve() -> Outcome<()> {
    let mut answer = String::new();
    stdin().read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer to give")?;
    let mut headers = HeaderMap::new();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    // Those that hyper writes itself.
    for name in [CONNECTION, CONTENT_LENGTH, DATE] {
        headers.remove(name);
    }
    let (headers, body) = (Arc::new(headers), Bytes::copy_from_slice(body.as_bytes()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("at http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (headers, body) = (Arc::clone(&headers), body.clone());
        let service = service_fn(move |_| {
            let mut response = hyper::Response::new(Full::new(body.clone()));
            *response.headers_mut() = HeaderMap::clone(&headers);
            async { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
    }
}

//! The port of the service: who may connect, and for how long a connection may be slow or idle.

mod conduct;
mod socket;

use super::metrics::Metrics;
use super::problem::Problem;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::serve::Listener;
use conduct::Conduct;
pub use conduct::Fault;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket::{Counted, Socket};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Connections that wait to be accepted; a crowd that comes at once is not turned away.
const BACKLOG: u32 = 4096;
/// Connections that are being told that there are too many; beyond it they are closed without a word.
const REFUSALS: usize = 64;
/// A request for figures waits so long for its turn; then it is told that the service is busy, if it still is.
const PLACE_PATIENCE: Duration = Duration::from_secs(5);
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// A request's line and headers: what `after` may hold, each character of it four bytes and escaped, is refused by its name.
const MAX_HEAD: usize = 64 * 1024;
/// Requests at once of one HTTP/2 connection.
const MAX_REQUESTS: u32 = 100;
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);
/// Files that are open besides connections: the log, the pool, the feed, Redis.
const OTHER_FILES: u64 = 1024;

/// What connections may do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// So many are open at once.
    pub connections: usize,
    /// How long a request's line and headers may take.
    pub head: Duration,
    /// How long one may stay open without a request.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 8192, head: Duration::from_secs(10), idle: Duration::from_secs(75) }
    }
}

/// What connections share.
struct Port {
    http1: http1::Builder,
    http2: Builder<TokioExecutor>,
    /// Requests for figures that are answered at once.
    places: Arc<Semaphore>,
}

pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Raises the number of files that this process may open to what so many connections need, as far as it may.
pub fn make_room(connections: usize) {
    let needed = connections as u64 + OTHER_FILES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < needed && setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).is_err() || hard < needed {
        tracing::warn!(
            needed,
            limit = hard,
            "this process may not open enough files for --max-connections; raise its limit (ulimit -n, LimitNOFILE=)"
        );
    }
}

/// Answers until `stop`, then lets requests under way finish. `at_once` requests for figures are under way at most.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: Limits,
    at_once: usize,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let (places, refusals) = (Arc::new(Semaphore::new(limits.connections)), Arc::new(Semaphore::new(REFUSALS)));
    let (connections, port) = (
        TaskTracker::new(),
        Arc::new(Port { http1: http1(), http2: http2(), places: Arc::new(Semaphore::new(at_once)) }),
    );
    let mut crowded = false;
    loop {
        let (stream, _) = tokio::select! {
            // However many knock.
            biased;
            () = stop.cancelled() => break,
            accepted = Listener::accept(&mut listener) => accepted,
        };
        // Answers are written whole: there is nothing to wait for.
        let _ = stream.set_nodelay(true);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            crowded = false;
            let socket = Socket::new(stream, limits, Arc::clone(&metrics), place);
            connections.spawn(converse(Arc::clone(&port), socket, router.clone(), stop.clone()));
            continue;
        }
        metrics.connections.refused.inc();
        if !crowded {
            tracing::warn!(connections = limits.connections, "--max-connections are open; more are refused");
            crowded = true;
        }
        if let Ok(turn) = Arc::clone(&refusals).try_acquire_owned() {
            connections.spawn(async move {
                let _ = timeout(REFUSAL_PATIENCE, refuse(stream)).await;
                drop(turn);
            });
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The socket itself is patient for so long, since it sees the bytes before a version is known, too.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    builder
}

fn http2() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_REQUESTS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}

/// Serves a connection to its end. How that comes is its client's affair: cut off, reset, or well.
///
/// One that is quiet is taken from hyper, which keeps 27 KB for it (5,000 of them were 150 MB), and given back with the
/// first bytes of its next request.
async fn converse(port: Arc<Port>, mut socket: Socket, router: Router, stop: CancellationToken) {
    let conduct = socket.conduct();
    let answers = Arc::clone(&conduct);
    let mut service = service_fn(move |request: Request<Incoming>| {
        let body = !request.body().is_end_stream();
        let (turn, conduct) = (Conduct::begin(&answers, request.version(), body), Arc::clone(&answers));
        let (answer, place) = (router.clone().oneshot(request), answers.take_place());
        async move {
            let answer = answer.await?;
            drop(place);
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                conduct.set_free();
            }
            Ok::<_, Infallible>(answer.map(|body| Counted::new(body, turn)))
        }
    });
    loop {
        // Stopped while nothing is asked, it is closed.
        if !socket.has_begun() && stop.run_until_cancelled(socket.begins()).await != Some(true) {
            return;
        }
        if socket.may_be_http2() {
            let connection = port.http2.serve_connection_with_upgrades(TokioIo::new(socket), service);
            let mut connection = Box::pin(connection);
            if stop.run_until_cancelled(connection.as_mut()).await.is_none() {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
            return;
        }
        // It waits as a socket, too: 5,000 that hyper has read are 150 MB.
        if socket.asks_for_figures()
            && let Ok(Ok(place)) = timeout(PLACE_PATIENCE, Arc::clone(&port.places).acquire_owned()).await
        {
            conduct.give_place(place);
        }
        let mut connection = Box::new(port.http1.serve_connection(TokioIo::new(socket), service).with_upgrades());
        let quiet = poll_fn(|context| match Pin::new(&mut *connection).poll(context) {
            Poll::Pending if conduct.is_quiet() => Poll::Ready(true),
            other => other.map(|_ended| false),
        });
        match stop.run_until_cancelled(quiet).await {
            Some(true) => {}
            Some(false) => return,
            None => {
                Pin::new(&mut *connection).graceful_shutdown();
                let _ = connection.await;
                return;
            }
        }
        let Some(parts) = connection.into_parts() else { return };
        (socket, service) = (parts.io.into_inner(), parts.service);
        // The beginning of the next request, which came with the last one.
        socket.put_back(&parts.read_buf);
    }
}

/// Tells a client that there are too many, and waits until it has heard it.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let body = Problem::busy().document("", "").to_string();
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: close";
    stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    stream.shutdown().await?;
    // Closed with bytes unread, it would be reset, and the answer lost.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

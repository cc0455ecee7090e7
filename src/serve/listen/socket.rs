//! A connection's socket: cuts off what is slow, and what is idle for too long.

use super::conduct::{Conduct, Fault, Turn};
use super::{Limits, Metrics};
use axum::body::{Body as AnyBody, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use tokio_io_timeout::TimeoutStream;

/// A client that takes nothing in for so long is cut off: what it was sent would be kept for it without end.
const WRITE_PATIENCE: Duration = Duration::from_secs(15);
/// What is read of a request before it is parsed; the rest of it is read then.
const AHEAD: usize = 4096;
const HTTP2: &[u8] = b"PRI * HTTP/2.0";
const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

pub struct Socket {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    conduct: Arc<Conduct>,
    limits: Limits,
    timer: Pin<Box<Sleep>>,
    /// Nothing is read any more.
    cut: bool,
    /// What was read before there was anybody to parse it.
    ahead: Bytes,
    metrics: Arc<Metrics>,
    _place: OwnedSemaphorePermit,
}

impl Socket {
    pub fn new(stream: TcpStream, limits: Limits, metrics: Arc<Metrics>, place: OwnedSemaphorePermit) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_PATIENCE));
        metrics.connections.open.inc();
        Self {
            stream: Box::pin(stream),
            conduct: Arc::new(Conduct::new()),
            limits,
            timer: Box::pin(sleep(limits.head)),
            cut: false,
            ahead: Bytes::new(),
            metrics,
            _place: place,
        }
    }

    pub fn conduct(&self) -> Arc<Conduct> {
        Arc::clone(&self.conduct)
    }

    /// Waits for the beginning of a request, with nothing in hand but the socket; false where the connection is over.
    pub async fn begins(&mut self) -> bool {
        let read = |context: &mut Context<'_>| {
            let mut bytes = [MaybeUninit::uninit(); AHEAD];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(self.poll_bytes(context, &mut buffer))?;
            Poll::Ready(Ok::<_, io::Error>(Bytes::copy_from_slice(buffer.filled())))
        };
        self.ahead = std::future::poll_fn(read).await.unwrap_or_default();
        !self.ahead.is_empty()
    }

    pub fn has_begun(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Bytes that were read and not parsed; the clock of their request begins now.
    pub fn put_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.conduct.heard();
        }
        // What was not even read of them follows. Copied: a piece, even an empty one, keeps the whole buffer that it is of.
        self.ahead = [bytes, self.ahead.as_ref()].concat().into();
    }

    /// Whether what has begun may be HTTP/2.
    pub fn may_be_http2(&self) -> bool {
        let length = self.ahead.len().min(HTTP2.len());
        self.ahead[..length] == HTTP2[..length]
    }

    /// Whether the whole head of a request for figures has come.
    pub fn asks_for_figures(&self) -> bool {
        let target = self.ahead.iter().position(|byte| *byte == b' ').map(|at| &self.ahead[at + 1..]);
        let whole = self.ahead.windows(4).any(|four| four == b"\r\n\r\n");
        whole && target.is_some_and(|target| target.starts_with(b"/v1/"))
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if let Poll::Ready(outcome) = self.stream.as_mut().poll_read(context, buffer) {
            if buffer.filled().len() > before {
                self.conduct.heard();
            }
            return Poll::Ready(outcome);
        }
        let fault = ready!(self.poll_fault(context));
        self.cut = true;
        self.metrics.connections.cut(fault);
        if fault == Fault::SlowHead {
            // Between answers nothing else is being written.
            let _ = self.stream.get_ref().try_write(TIMEOUT);
        }
        // As if the client had ended it.
        Poll::Ready(Ok(()))
    }

    /// Ready once the client has been slow or idle for too long.
    fn poll_fault(&mut self, context: &mut Context<'_>) -> Poll<Fault> {
        loop {
            let Some((deadline, fault)) = self.conduct.deadline(&self.limits) else { return Poll::Pending };
            // A timer that is early is left to fire: setting it anew for each request costs more.
            if self.timer.is_elapsed() || self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(fault);
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.metrics.connections.open.dec();
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return this.poll_bytes(context, buffer);
        }
        let ahead = this.ahead.split_to(this.ahead.len().min(buffer.remaining()));
        buffer.put_slice(&ahead);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.conduct.writes(true);
        self.get_mut().stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.conduct.writes(true);
        self.get_mut().stream.as_mut().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.stream.as_mut().poll_flush(context))?;
        this.conduct.writes(false);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_shutdown(context)
    }
}

/// An answer's body, which knows when it is over.
pub struct Counted {
    body: AnyBody,
    _turn: Turn,
}

impl Counted {
    pub fn new(body: AnyBody, turn: Turn) -> Self {
        Self { body, _turn: turn }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

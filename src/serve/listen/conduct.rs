//! What a connection is at, from which it follows how long it may go on so.

use super::Limits;
use axum::http::Version;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Shared by a socket, which sees bytes, and the service on it, which sees requests.
pub struct Conduct(Mutex<State>);

struct State {
    /// Requests being answered.
    answering: usize,
    /// Since when a head is waited for: from the start, and from each first byte after an answer.
    head: Option<Instant>,
    /// Whether a byte of that head has come.
    begun: bool,
    /// When the last answer ended.
    quiet: Instant,
    /// HTTP/2: what comes between requests need not be a head.
    multiplexed: bool,
    /// No HTTP any more.
    free: bool,
    /// Its requests so far had no body: nothing of one is still to come once they are answered.
    plain: bool,
    /// Bytes were written that may be on their way still.
    unflushed: bool,
    /// Of the request that comes: among those that are answered at once.
    place: Option<OwnedSemaphorePermit>,
}

/// Why a connection is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    SlowHead,
    /// Not even the beginning of a request.
    Silent,
    Idle,
}

/// A request being answered, until the last byte of the answer.
pub struct Turn(Arc<Conduct>);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        state.quiet = Instant::now();
    }
}

impl Conduct {
    pub fn new() -> Self {
        let now = Instant::now();
        let (head, begun) = (Some(now), false);
        Self(Mutex::new(State {
            answering: 0,
            head,
            begun,
            quiet: now,
            multiplexed: false,
            free: false,
            plain: true,
            unflushed: false,
            place: None,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come.
    pub fn heard(&self) {
        let mut state = self.state();
        if state.answering == 0 && !state.multiplexed {
            state.head.get_or_insert_with(Instant::now);
            state.begun = true;
        }
    }

    /// A whole head has come, of a request with a body or without.
    pub fn begin(this: &Arc<Self>, version: Version, body: bool) -> Turn {
        let mut state = this.state();
        state.answering += 1;
        state.plain &= !body;
        (state.head, state.begun) = (None, false);
        state.multiplexed |= version == Version::HTTP_2;
        Turn(Arc::clone(this))
    }

    pub fn set_free(&self) {
        self.state().free = true;
    }

    pub fn give_place(&self, place: OwnedSemaphorePermit) {
        self.state().place = Some(place);
    }

    pub fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.state().place.take()
    }

    /// Something is being written, or all has been.
    pub fn writes(&self, unflushed: bool) {
        self.state().unflushed = unflushed;
    }

    /// Whether everything is answered, sent, and nothing has come since: a connection that needs no more than its socket.
    pub fn is_quiet(&self) -> bool {
        let state = self.state();
        let over = state.answering == 0 && state.head.is_none() && !state.unflushed;
        over && state.plain && !state.multiplexed && !state.free
    }

    /// Until when the connection may go on as it does, and what it is cut off for then. While it is being answered that
    /// moves on and on: nobody else tells the socket when an answer ends.
    pub fn deadline(&self, limits: &Limits) -> Option<(Instant, Fault)> {
        let state = self.state();
        if state.free {
            return None;
        }
        Some(match state.head {
            _ if state.answering > 0 => (Instant::now() + limits.idle, Fault::Idle),
            Some(since) => (since + limits.head, if state.begun { Fault::SlowHead } else { Fault::Silent }),
            None => (state.quiet + limits.idle, Fault::Idle),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_connection_is_quiet_between_requests_only() {
        let conduct = Arc::new(Conduct::new());
        assert!(!conduct.is_quiet(), "a head is waited for");
        conduct.heard();
        let turn = Conduct::begin(&conduct, Version::HTTP_11, false);
        assert!(!conduct.is_quiet(), "it is being answered");
        conduct.writes(true);
        drop(turn);
        assert!(!conduct.is_quiet(), "the answer may be on its way");
        conduct.writes(false);
        assert!(conduct.is_quiet());
        conduct.heard();
        assert!(!conduct.is_quiet(), "the next has begun");
        drop(Conduct::begin(&conduct, Version::HTTP_11, true));
        assert!(!conduct.is_quiet(), "something of a body may still come, and is no request");
        let upgraded = Arc::new(Conduct::new());
        drop(Conduct::begin(&upgraded, Version::HTTP_11, false));
        assert!(upgraded.is_quiet());
        upgraded.set_free();
        assert!(!upgraded.is_quiet());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_so_long_for_what_it_is_at() {
        let limits = Limits { connections: 1, head: Duration::from_secs(10), idle: Duration::from_secs(75) };
        let conduct = Arc::new(Conduct::new());
        let left = || conduct.deadline(&limits).map(|(at, fault)| ((at - Instant::now()).as_secs(), fault));
        let wait = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
        wait(3).await;
        assert_eq!(left(), Some((7, Fault::Silent)));
        conduct.heard();
        wait(2).await;
        conduct.heard();
        assert_eq!(left(), Some((5, Fault::SlowHead)), "bytes that dribble win no time");
        let turn = Conduct::begin(&conduct, Version::HTTP_11, false);
        wait(100).await;
        assert_eq!(left(), Some((75, Fault::Idle)), "an answer may take its time");
        conduct.heard();
        drop(turn);
        wait(5).await;
        assert_eq!(left(), Some((70, Fault::Idle)));
        conduct.heard();
        assert_eq!(left(), Some((10, Fault::SlowHead)));
        let both = [Conduct::begin(&conduct, Version::HTTP_2, false), Conduct::begin(&conduct, Version::HTTP_2, false)];
        let [one, other] = both;
        drop(one);
        wait(100).await;
        assert_eq!(left(), Some((75, Fault::Idle)));
        drop(other);
        conduct.heard();
        assert_eq!(left(), Some((75, Fault::Idle)), "a ping is no head");
        conduct.set_free();
        assert_eq!(left(), None);
    }
}

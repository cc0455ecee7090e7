//! How fresh an answer the caller asks for, and what it is told of the answer it gets.
//!
//! A position in the primary's log (`pg_current_wal_lsn()` after a commit) says which answer holds that commit: one that
//! was read from the primary afterwards, or from a standby that has replayed so much.

use super::problem::{FieldError, Problem};
use super::state::AppState;
use crate::read::Held;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use tokio_postgres::types::PgLsn;

/// What an answer has to hold.
pub const AFTER: HeaderName = HeaderName::from_static("pulso-after-lsn");
/// What an answer holds.
pub const HELD: HeaderName = HeaderName::from_static("pulso-lsn");

#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// No kept answer, and none of a standby.
    pub fresh: bool,
    /// A position in the primary's log: all that was acknowledged up to it has to be in the answer. 0 asks for nothing.
    pub after: u64,
    /// What the answer holds.
    pub held: Held,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let read = parts.extensions.get::<Result<Self, Problem>>().cloned();
        read.unwrap_or_else(|| Err(Problem::internal("a route is not asked how fresh it is")))
    }
}

/// Reads what the caller asks for, and tells it what its answer holds. What cannot be read is refused by the route, if the
/// request is one of its own.
pub async fn asked<F>(state: &AppState, mut request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let (fresh, held) = (wants_fresh(request.headers()), Held::default());
    let after = after(request.headers(), state).await;
    request.extensions_mut().insert(after.map(|after| Asked { fresh, after, held: held.clone() }));
    let mut response = answer(request).await;
    let held = held.get().filter(|_| response.status().is_success() || response.status().is_redirection());
    if let Some(value) = held.and_then(|held| HeaderValue::from_str(&PgLsn::from(held).to_string()).ok()) {
        response.headers_mut().insert(HELD, value);
    }
    response
}

/// Whether the caller will have no answer out of a cache.
fn wants_fresh(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value
        .split(',')
        .any(|one| matches!(one.trim().to_ascii_lowercase().as_str(), "no-cache" | "no-store" | "max-age=0"))
}

async fn after(headers: &HeaderMap, state: &AppState) -> Result<u64, Problem> {
    let refuse = |detail: String| Problem::invalid(vec![FieldError::new("Pulso-After-Lsn", detail)]);
    let Some(text) = one(headers).map_err(refuse)? else { return Ok(0) };
    let after = position(text).map_err(refuse)?;
    if state.answers.written().is_some_and(|written| after <= written) {
        return Ok(after);
    }
    // Newer than the primary was last seen, or of no log of this server.
    let written = state.written().await?;
    if after > written {
        return Err(refuse(format!(
            "is ahead of the database, which is at {}; positions of another server, or from before it failed over, mean nothing here",
            PgLsn::from(written)
        )));
    }
    Ok(after)
}

/// The header's text, where it is given.
fn one(headers: &HeaderMap) -> Result<Option<&str>, String> {
    let mut values = headers.get_all(AFTER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (_, Some(_)) => Err("is given more than once".to_owned()),
        (Ok(text), None) => Ok(Some(text)),
        (Err(_), None) => Err(MALFORMED.to_owned()),
    }
}

const MALFORMED: &str = "must be a position as Postgres writes it, like 16/B374D848 (select pg_current_wal_lsn())";

fn position(text: &str) -> Result<u64, String> {
    // The parser takes more digits, and signs.
    let plain = |half: &str| (1..=8).contains(&half.len()) && half.bytes().all(|b| b.is_ascii_hexdigit());
    let halves = text.split_once('/').filter(|(high, low)| plain(high) && plain(low));
    let parsed = halves.and_then(|_| text.parse::<PgLsn>().ok());
    parsed.map(u64::from).ok_or_else(|| MALFORMED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_strict() {
        assert_eq!(position("0/0"), Ok(0));
        assert_eq!(position("16/B374d848"), Ok(0x16_B374_D848));
        assert_eq!(position("FFFFFFFF/FFFFFFFF"), Ok(u64::MAX));
        for bad in ["", "/", "0", "0/", "/0", "0/+1", "-0/1", "0/123456789", "0/1/2", "0x0/1", " 0/1", "g/0"] {
            assert_eq!(position(bad), Err(MALFORMED.to_owned()), "{bad}");
        }
    }

    #[test]
    fn the_header_is_given_once() {
        let mut headers = HeaderMap::new();
        assert_eq!(one(&headers), Ok(None));
        headers.append(AFTER, HeaderValue::from_static("0/1"));
        assert_eq!(one(&headers), Ok(Some("0/1")));
        headers.append(AFTER, HeaderValue::from_static("0/1"));
        assert!(one(&headers).is_err());
        headers.insert(AFTER, HeaderValue::from_bytes(b"0/\xff").expect("a value"));
        assert_eq!(one(&headers), Err(MALFORMED.to_owned()));
    }
}

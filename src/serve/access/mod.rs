//! Who may ask, and for what: API keys out of `pulso.api_key`, and tokens (JWT) of an issuer that the operator trusts.
//!
//! Whatever a caller may see follows from its `Principal`, which `admit` puts into each request. A route gets the shop it
//! is about by `StoreId`, and that is given only if the principal may see it: a route cannot forget to look.

mod limit;
mod tally;
mod token;

pub use token::{TokenArgs, Tokens};

use super::cache::hex;
use super::flights::Flights;
use super::problem::Problem;
use super::shared::Shared;
use super::state::AppState;
use crate::error::{Error, Result};
use crate::key::{self, Role};
use crate::read::{ReadError, sql};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use limit::Limiter;
use moka::sync::Cache;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tally::{Tallies, Tally};
use tokio_postgres::Row;
use uuid::Uuid;

/// How long a key is believed without asking the database again: a revoked one lasts so long at most.
const BELIEVED: Duration = Duration::from_secs(5);
const MAX_BELIEVED: u64 = 10_000;

/// Whether a caller has to say who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// Once there is a key or an issuer; until then only on this machine's own address
    #[default]
    Auto,
    /// Always
    Required,
    /// Never: a proxy in front does it
    None,
}

/// Shops that a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    Only(BTreeSet<Uuid>),
}

impl Scope {
    pub fn holds(&self, store: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Only(stores) => stores.contains(&store),
        }
    }

    /// As the queries take it: NULL for all.
    pub fn as_list(&self) -> Option<Vec<Uuid>> {
        match self {
            Self::All => None,
            Self::Only(stores) => Some(stores.iter().copied().collect()),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Principal {
    /// What its requests are counted under; `None` where nobody has to say who it is.
    pub id: Option<String>,
    pub role: Role,
    pub stores: Scope,
    per_minute: Option<u32>,
    /// What a key was used for; tokens are their issuer's to count.
    pub tally: Option<Arc<Tally>>,
}

impl Principal {
    /// Whoever asks where nobody has to say who it is.
    fn anybody() -> Self {
        Self { id: None, role: Role::Admin, stores: Scope::All, per_minute: None, tally: None }
    }

    fn from_row(row: &Row, tallies: &Tallies) -> Result<Self, tokio_postgres::Error> {
        let name: String = row.try_get("name")?;
        // The table's check knows no other role; one that did not parse would see least.
        let role = row.try_get::<_, &str>("role")?.parse().unwrap_or(Role::Viewer);
        let stores = match row.try_get::<_, Option<Vec<Uuid>>>("stores")? {
            None => Scope::All,
            Some(stores) => Scope::Only(stores.into_iter().collect()),
        };
        let per_minute = row.try_get::<_, Option<i32>>("per_minute")?.map(i32::unsigned_abs);
        let tally = Some(tallies.of(&name));
        Ok(Self { id: Some(format!("key {name}")), role, stores, per_minute, tally })
    }

    pub fn needs(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role { Ok(()) } else { Err(Problem::forbidden(role)) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        // A route that `admit` does not guard answers nobody.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::internal("a route is not guarded"))
    }
}

/// What the operator asks for.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub mode: Mode,
    pub tokens: Tokens,
    /// Requests a minute of each caller; 0 is no limit.
    pub per_minute: u32,
}

pub struct Access {
    settings: Settings,
    /// Nobody comes in without a key, whether there are any or not.
    closed: AtomicBool,
    /// When it was last looked whether there are keys, and whether there were.
    looked: Mutex<Option<(Instant, bool)>>,
    believed: Cache<Vec<u8>, Arc<Principal>>,
    /// What is believed ends for all who ask in the same moment.
    looks: Flights<Result<bool, ReadError>>,
    key_reads: Flights<Result<Option<Principal>, ReadError>>,
    limiter: Limiter,
    tallies: Tallies,
    shared: Option<Arc<Shared>>,
}

impl Access {
    /// Counts are those of all nodes where they share something, as long as that answers.
    pub fn new(settings: Settings, shared: Option<Arc<Shared>>) -> Self {
        let closed = AtomicBool::new(settings.mode == Mode::Required || !settings.tokens.is_empty());
        let believed = Cache::builder().max_capacity(MAX_BELIEVED).time_to_live(BELIEVED).build();
        Self {
            settings,
            closed,
            looked: Mutex::new(None),
            believed,
            looks: Flights::default(),
            key_reads: Flights::default(),
            limiter: Limiter::default(),
            tallies: Tallies::default(),
            shared,
        }
    }

    /// Before the service listens: on an address that others reach, nobody comes in without saying who it is.
    pub async fn settle(&self, listen: SocketAddr, state: &AppState) -> Result<()> {
        if self.settings.mode == Mode::None || self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        if listen.ip().is_loopback() {
            if matches!(self.has_keys(state).await, Ok(false)) {
                tracing::info!("there is no key yet (`pulso key create`): whoever is on this machine may ask");
            }
            return Ok(());
        }
        self.closed.store(true, Ordering::Relaxed);
        if self.has_keys(state).await.unwrap_or(false) {
            return Ok(());
        }
        Err(Error::usage(format!("{listen} can be reached from other machines, and there is no key to the service yet"))
            .with_hint("Make one with `pulso key create`, trust an issuer with --jwt-secret-file, --jwt-public-key or --jwks, listen on 127.0.0.1, or leave it to a proxy with --auth none."))
    }

    async fn has_keys(&self, state: &AppState) -> Result<bool, ReadError> {
        let known = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, has)) = known.filter(|(at, _)| at.elapsed() < BELIEVED) {
            return Ok(has);
        }
        let look = || async {
            let has = state.primary().await?.query_one(sql!("has_keys"), &[]).await?.try_get(0)?;
            *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), has));
            Ok(has)
        };
        self.looks.share("", look).await
    }

    /// Who sends these headers.
    pub async fn principal(&self, headers: &HeaderMap, state: &AppState) -> Result<Principal, Problem> {
        if self.settings.mode == Mode::None {
            return Ok(Principal::anybody());
        }
        let Some(secret) = bearer(headers)? else {
            if self.closed.load(Ordering::Relaxed) || self.has_keys(state).await? {
                return Err(Problem::unauthorized("Send a key as `Authorization: Bearer …`."));
            }
            return Ok(Principal::anybody());
        };
        if !secret.starts_with(key::PREFIX) {
            return self.settings.tokens.verify(secret).map_err(Problem::unauthorized);
        }
        let hash = key::hash(secret);
        if let Some(known) = self.believed.get(&hash) {
            return Ok(known.as_ref().clone());
        }
        let known = self.key_reads.share(&hex(&hash), || self.read_key(&hash, state)).await?;
        known.ok_or_else(|| Problem::unauthorized("The key is unknown, revoked or expired."))
    }

    async fn read_key(&self, hash: &Vec<u8>, state: &AppState) -> Result<Option<Principal>, ReadError> {
        let Some(row) = state.primary().await?.query_opt(sql!("api_key"), &[hash]).await? else { return Ok(None) };
        let principal = Principal::from_row(&row, &self.tallies)?;
        self.believed.insert(hash.clone(), Arc::new(principal.clone()));
        Ok(Some(principal))
    }

    /// Counts `requests` of a caller.
    pub async fn count(&self, principal: &Principal, requests: u32) -> Result<Option<limit::Left>, Problem> {
        let limit = principal.per_minute.unwrap_or(self.settings.per_minute);
        let Some(id) = principal.id.as_deref().filter(|_| limit > 0) else { return Ok(None) };
        let shared = match &self.shared {
            Some(shared) => shared.take(id, limit, requests).await,
            None => None,
        };
        let taken = match shared {
            Some((true, remaining, reset_seconds)) => Ok(limit::Left { limit, remaining, reset_seconds }),
            Some((false, sent, reset_seconds)) => Err(limit::wait(sent, limit, reset_seconds)),
            None => self.limiter.take(id, limit, requests),
        };
        taken.map(Some).map_err(|wait| Problem::too_many(limit, wait))
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(beside_protocol(headers)) };
    let secret = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match secret {
        Some((_, secret)) if !secret.trim().is_empty() && secret.len() <= 8192 => Ok(Some(secret.trim())),
        _ => Err(Problem::unauthorized("The header Authorization has to be `Bearer` and a key.")),
    }
}

/// The key of a browser's WebSocket, which can send no other header: `new WebSocket(url, ["pulso.v1", "bearer." + key])`.
fn beside_protocol(headers: &HeaderMap) -> Option<&str> {
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    protocols.split(',').find_map(|one| one.trim().strip_prefix("bearer.")).filter(|key| key.len() <= 8192)
}

/// As a layer of its own.
pub async fn admit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    admitted(&state, request, |request| next.run(request)).await
}

/// Lets in whoever may, counts it, and puts its `Principal` into the request.
pub async fn admitted<F>(state: &AppState, mut request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let principal = match state.access.principal(request.headers(), state).await {
        Ok(principal) => principal,
        Err(problem) => return problem.into_response(),
    };
    let tally = principal.tally.clone();
    if let Some(tally) = &tally {
        tally.asked(1);
    }
    let left = match state.access.count(&principal, 1).await {
        Ok(left) => left,
        Err(problem) => {
            let refused = problem.into_response();
            if let Some(tally) = &tally {
                tally.answered(refused.status());
            }
            return refused;
        }
    };
    request.extensions_mut().insert(principal);
    let mut response = answer(request).await;
    if let Some(tally) = &tally {
        tally.answered(response.status());
    }
    if let Some(left) = left {
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("ratelimit-limit"), HeaderValue::from(left.limit));
        headers.insert(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(left.remaining));
        headers.insert(HeaderName::from_static("ratelimit-reset"), HeaderValue::from(left.reset_seconds));
    }
    response
}

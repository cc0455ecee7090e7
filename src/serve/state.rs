//! What the routes share: the pool, the bounds, who may ask, what is counted.

use super::access::{Access, Settings as AccessSettings};
use super::metrics::Metrics;
use crate::error::Result;
use crate::read::{self, ReadError};
use axum::Router;
use axum::http::HeaderValue;
use deadpool_postgres::{Client, Pool, Status};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A request may take this long in all: a connection, then a read or two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How the service is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    pub pool_size: usize,
    pub max_in_flight: usize,
    pub access: AccessSettings,
    /// Origins whose pages may ask.
    pub cors: Vec<HeaderValue>,
    /// From when on a request is slow.
    pub slow: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pool_size: 8,
            max_in_flight: 256,
            access: AccessSettings::default(),
            cors: Vec::new(),
            slow: Duration::from_secs(1),
        }
    }
}

#[derive(Clone)]
pub struct AppState {
    pool: Pool,
    pub permits: Arc<Semaphore>,
    pub request_timeout: Duration,
    pub access: Arc<Access>,
    pub metrics: Arc<Metrics>,
    pub cors: Vec<HeaderValue>,
    pub slow: Duration,
    /// The figures' routes, for requests out of a batch.
    figures: Arc<OnceLock<Router>>,
}

impl AppState {
    /// Connects to nothing yet: a server that is down is found by the first request, and its return too.
    pub fn new(url: &str, pool_size: usize, max_in_flight: usize) -> Result<Self> {
        Self::with(url, Settings { pool_size, max_in_flight, ..Settings::default() })
    }

    pub fn with(url: &str, settings: Settings) -> Result<Self> {
        Ok(Self {
            pool: read::pool(url, settings.pool_size)?,
            permits: Arc::new(Semaphore::new(settings.max_in_flight)),
            request_timeout: REQUEST_TIMEOUT,
            access: Arc::new(Access::new(settings.access)),
            metrics: Arc::new(Metrics::default()),
            cors: settings.cors,
            slow: settings.slow,
            figures: Arc::new(OnceLock::new()),
        })
    }

    pub async fn client(&self) -> Result<Client, ReadError> {
        Ok(self.pool.get().await?)
    }

    pub fn pool_status(&self) -> Status {
        self.pool.status()
    }

    pub fn figures(&self) -> Router {
        self.figures.get_or_init(|| super::inner_figures(self.clone())).clone()
    }

    pub fn close(&self) {
        self.pool.close();
    }
}

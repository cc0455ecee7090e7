//! What the routes share: the pool, the bounds, who may ask, what is counted.

use super::access::{Access, Settings as AccessSettings};
use super::cache::Answers;
use super::feed;
use super::live::Live;
use super::metrics::Metrics;
use super::shared::{Address, Shared};
use super::slow;
use crate::error::Result;
use crate::read::{self, Pool, Pooling, ReadError, Reader, Store};
use axum::Router;
use axum::http::HeaderValue;
use deadpool_postgres::Status;
use jiff::Timestamp;
use moka::sync::Cache;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// A request may take this long in all: a connection, then a read or two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How old a shop's name and clock may be beside kept answers.
const FACTS_AGE: Duration = Duration::from_secs(2);
/// Streams open at once.
const MAX_STREAMS: u32 = 2000;
const MAX_FACTS: u64 = 100_000;

/// How the service is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    pub pool_size: usize,
    pub pooling: Pooling,
    pub max_in_flight: usize,
    pub access: AccessSettings,
    /// Origins whose pages may ask.
    pub cors: Vec<HeaderValue>,
    /// From when on a request is slow.
    pub slow: Duration,
    /// Whether the plans of slow statements are logged.
    pub explain_slow: bool,
    /// What nodes share.
    pub redis: Option<Address>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pool_size: 8,
            pooling: Pooling::default(),
            max_in_flight: 256,
            access: AccessSettings::default(),
            cors: Vec::new(),
            slow: Duration::from_secs(1),
            explain_slow: false,
            redis: None,
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
    pub answers: Arc<Answers>,
    pub live: Arc<Live>,
    /// Cancelled when the service stops: open streams end.
    pub stop: CancellationToken,
    /// WebSockets that are open.
    pub sockets: TaskTracker,
    facts: Cache<Uuid, Store>,
    /// The figures' routes, for requests out of a batch.
    figures: Arc<OnceLock<Router>>,
}

impl AppState {
    /// Connects to nothing yet: a server that is down is found by the first request, and its return too.
    pub fn new(url: &str, pool_size: usize, max_in_flight: usize) -> Result<Self> {
        Self::with(url, Settings { pool_size, max_in_flight, ..Settings::default() })
    }

    pub fn with(url: &str, settings: Settings) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let pool = read::pool(url, settings.pool_size, settings.pooling)?;
        pool.observe(slow::observer(Arc::clone(&metrics), settings.slow, settings.explain_slow));
        let shared = settings.redis.map(|address| Shared::new(&address, Arc::clone(&metrics)));
        let shared = shared.transpose()?.map(Arc::new);
        Ok(Self {
            pool,
            permits: Arc::new(Semaphore::new(settings.max_in_flight)),
            request_timeout: REQUEST_TIMEOUT,
            access: Arc::new(Access::new(settings.access, shared.clone())),
            answers: Arc::new(Answers::new(Arc::clone(&metrics), shared)),
            live: Arc::new(Live::new(Arc::clone(&metrics), MAX_STREAMS)),
            metrics,
            stop: CancellationToken::new(),
            sockets: TaskTracker::new(),
            facts: Cache::builder().max_capacity(MAX_FACTS).time_to_live(FACTS_AGE).build(),
            cors: settings.cors,
            slow: settings.slow,
            figures: Arc::new(OnceLock::new()),
        })
    }

    pub async fn client(&self) -> Result<Reader, ReadError> {
        Ok(self.pool.get().await?)
    }

    /// A shop with its business date now. Beside kept answers its name and clock may be two seconds old.
    pub async fn store(&self, id: Uuid, fresh: bool) -> Result<Store, ReadError> {
        if !fresh
            && self.answers.is_on()
            && let Some(known) = self.facts.get(&id)
            && let Some(business_date) = known.date_at(Timestamp::now())
        {
            return Ok(Store { business_date, ..known });
        }
        let store = read::store(&self.client().await?, id).await?;
        self.facts.insert(id, store.clone());
        Ok(store)
    }

    /// Follows the change feed until `stop`; answers are kept while it is connected.
    pub fn follow(&self, url: &str, channel: &str, stop: CancellationToken) -> JoinHandle<()> {
        let source = feed::Source { url: url.to_owned(), channel: channel.to_owned() };
        tokio::spawn(feed::follow(source, Arc::clone(&self.answers), Arc::clone(&self.live), stop))
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

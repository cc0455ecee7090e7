//! What the routes share: the pool, the bounds, who may ask, what is counted.

use super::access::{Access, Settings as AccessSettings};
use super::asked::Asked;
use super::cache::Answers;
use super::feed;
use super::flights::Flights;
use super::listen::Limits;
use super::live::Live;
use super::metrics::Metrics;
use super::replicas::{Replicas, Settings as ReplicaSettings};
use super::shared::{Address, Shared};
use super::slow;
use crate::error::Result;
use crate::read::{self, Dashboard, Held, Pool, Pooling, ReadError, Reader, Store, sql};
use axum::Router;
use axum::http::HeaderValue;
use deadpool_postgres::Status;
use jiff::Timestamp;
use jiff::civil::Date;
use moka::sync::Cache;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_postgres::types::PgLsn;
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

/// Statements for dashboards at once: few, so that those who wait for one are many.
const DAYS_AT_ONCE: usize = 3;
/// Shops whose dashboards one statement reads. Beginning it costs as much as two or three of them.
const SHOPS_AT_ONCE: usize = 16;

/// The dashboards that one statement gave, and the position up to which they hold all that was acknowledged.
type Days = (Arc<HashMap<Uuid, Dashboard>>, u64);

/// How the service is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    pub pool_size: usize,
    pub pooling: Pooling,
    pub max_in_flight: usize,
    pub limits: Limits,
    pub access: AccessSettings,
    /// Origins whose pages may ask.
    pub cors: Vec<HeaderValue>,
    /// From when on a request is slow.
    pub slow: Duration,
    /// Whether the plans of slow statements are logged.
    pub explain_slow: bool,
    /// What nodes share.
    pub redis: Option<Address>,
    /// Standbys that figures may be read from.
    pub replicas: ReplicaSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pool_size: 8,
            pooling: Pooling::default(),
            max_in_flight: 1024,
            limits: Limits::default(),
            access: AccessSettings::default(),
            cors: Vec::new(),
            slow: Duration::from_secs(1),
            explain_slow: false,
            redis: None,
            replicas: ReplicaSettings::default(),
        }
    }
}

/// Cloned by every layer for every request: one counter to it all.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

pub struct Parts {
    /// Of the primary.
    pool: Pool,
    replicas: Arc<Replicas>,
    pub permits: Arc<Semaphore>,
    pub request_timeout: Duration,
    pub limits: Limits,
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
    /// With the position up to which each holds all that was acknowledged.
    facts: Cache<Uuid, (Store, u64)>,
    fact_reads: Flights<Result<(Store, u64), ReadError>>,
    days: Flights<Result<Days, ReadError>, Uuid>,
    /// The figures' routes, for requests out of a batch.
    figures: OnceLock<Router>,
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl AppState {
    /// Connects to nothing yet: a server that is down is found by the first request, and its return too.
    pub fn new(url: &str, pool_size: usize, max_in_flight: usize) -> Result<Self> {
        Self::with(url, Settings { pool_size, max_in_flight, ..Settings::default() })
    }

    pub fn with(url: &str, settings: Settings) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let pool = read::pool(url, settings.pool_size, settings.pooling)?;
        pool.observe(slow::observer(Arc::clone(&metrics), "primary".to_owned(), settings.slow, settings.explain_slow));
        let shared = settings.redis.map(|address| Shared::new(&address, Arc::clone(&metrics)));
        let shared = shared.transpose()?.map(Arc::new);
        let replicas = Replicas::new(
            settings.replicas,
            settings.pool_size,
            Arc::clone(&metrics),
            settings.slow,
            settings.explain_slow,
        )?;
        Ok(Self(Arc::new(Parts {
            pool,
            replicas: Arc::new(replicas),
            permits: Arc::new(Semaphore::new(settings.max_in_flight)),
            request_timeout: REQUEST_TIMEOUT,
            limits: settings.limits,
            access: Arc::new(Access::new(settings.access, shared.clone())),
            answers: Arc::new(Answers::new(Arc::clone(&metrics), shared)),
            live: Arc::new(Live::new(Arc::clone(&metrics), MAX_STREAMS)),
            metrics,
            stop: CancellationToken::new(),
            sockets: TaskTracker::new(),
            facts: Cache::builder().max_capacity(MAX_FACTS).time_to_live(FACTS_AGE).build(),
            fact_reads: Flights::default(),
            days: Flights::new(DAYS_AT_ONCE, SHOPS_AT_ONCE),
            cors: settings.cors,
            slow: settings.slow,
            figures: OnceLock::new(),
        })))
    }

    /// The primary, for what is no figure.
    pub async fn primary(&self) -> Result<Reader, ReadError> {
        Ok(self.pool.get().await?)
    }

    /// For figures: a standby that has what the caller asks for and all that was announced, else the primary.
    pub async fn client(&self, asked: &Asked) -> Result<Reader, ReadError> {
        // Before the read, of which it is true then.
        let held = self.answers.held();
        let detour = if asked.fresh { None } else { self.replicas.pick(asked.after, &self.answers) };
        let reader = match detour {
            Some(detour) => Reader::by(detour, self.pool.clone()),
            None => self.primary().await?,
        };
        Ok(reader.noting(asked.held.clone(), held))
    }

    /// Where the primary is in its log now.
    pub async fn written(&self) -> Result<u64, ReadError> {
        let row = self.primary().await?.query_one(sql!("primary_position"), &[]).await?;
        Ok(row.try_get::<_, PgLsn>("written")?.into())
    }

    /// A shop with its business date now. Beside kept answers its name and clock may be two seconds old.
    pub async fn store(&self, id: Uuid, asked: &Asked) -> Result<Store, ReadError> {
        let (store, held) = match self.known(id, asked) {
            Some(known) => known,
            None => self.read_store(id, asked).await?,
        };
        asked.held.at_most(held);
        Ok(store)
    }

    fn known(&self, id: Uuid, asked: &Asked) -> Option<(Store, u64)> {
        let (store, held) =
            self.facts.get(&id).filter(|(_, held)| self.answers.keeps(asked) && *held >= asked.after)?;
        let business_date = store.date_at(Timestamp::now())?;
        Some((Store { business_date, ..store }, held))
    }

    /// Many ask for it at once: what is known of it ends for all in the same moment.
    async fn read_store(&self, id: Uuid, asked: &Asked) -> Result<(Store, u64), ReadError> {
        let read = || async {
            if let Some(known) = self.known(id, asked) {
                return Ok(known);
            }
            let alone = Asked { held: Held::default(), ..asked.clone() };
            let store = read::store(&self.client(&alone).await?, id).await?;
            let held = alone.held.get().unwrap_or(0);
            self.facts.insert(id, (store.clone(), held));
            Ok((store, held))
        };
        self.fact_reads.share(&format!("{id} {} {}", asked.fresh, asked.after), read).await
    }

    /// A shop's business day, or its day now. What many ask for at once is read by one statement, each out of a snapshot from
    /// after it asked.
    pub async fn dashboard(&self, store: Uuid, date: Option<Date>, asked: &Asked) -> Result<Dashboard, ReadError> {
        let read = |mut stores: Vec<Uuid>| async move {
            stores.sort_unstable();
            stores.dedup();
            let alone = Asked { held: Held::default(), ..asked.clone() };
            let days = read::dashboards(&self.client(&alone).await?, &stores, date).await?;
            let days = days.into_iter().map(|day| (day.store_id, day)).collect();
            Ok((Arc::new(days), alone.held.get().unwrap_or(0)))
        };
        let key = format!("{date:?} {} {}", asked.fresh, asked.after);
        let (days, held) = self.days.share_with(&key, store, read).await?;
        asked.held.at_most(held);
        days.get(&store).cloned().ok_or(ReadError::UnknownStore(store))
    }

    /// Follows the change feed and the standbys until `stop`; answers are kept, and standbys read, while it is connected.
    pub fn follow(&self, url: &str, channel: &str, stop: CancellationToken) -> JoinHandle<()> {
        self.replicas.follow(&self.answers, &stop);
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
        self.replicas.close();
    }
}

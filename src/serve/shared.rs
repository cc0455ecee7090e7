//! What several nodes share through Redis or Valkey: kept answers and the counts of rate limits. Always dispensable: a node
//! that gets no word from it within a tenth of a second goes on alone, and asks again a second later.

use super::metrics::Metrics;
use crate::error::{Error, Result};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{FromRedisValue, RedisResult, Script, Value};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_millis(100);
/// How long it is left alone after it did not answer.
const REST: Duration = Duration::from_secs(1);
/// Answers on their way to it; more are not sent.
const MAX_PUTS: usize = 64;

/// Where it is. Holds a password, so it shows nothing.
#[derive(Clone)]
pub struct Address(redis::Client);

impl Address {
    pub fn parse(url: &str) -> Result<Self> {
        // The error tells what is wrong, not what was given.
        let client = redis::Client::open(url).map_err(|error| {
            Error::usage(format!("PULSO_REDIS_URL cannot be read: {error}"))
                .with_hint("Write it as redis://user:password@host:6379/0, or unix:///path/to/socket.")
        })?;
        Ok(Self(client))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(…)")
    }
}

pub struct Shared {
    redis: ConnectionManager,
    /// Not asked before then.
    resting: Mutex<Option<Instant>>,
    puts: Arc<Semaphore>,
    limit: Script,
    metrics: Arc<Metrics>,
}

impl Shared {
    /// Connects to nothing yet.
    pub fn new(address: &Address, metrics: Arc<Metrics>) -> Result<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(0);
        let redis = ConnectionManager::new_lazy_with_config(address.0.clone(), config)
            .map_err(|error| Error::usage(format!("PULSO_REDIS_URL cannot be used: {error}")))?;
        let limit = Script::new(include_str!("limit.lua"));
        Ok(Self { redis, resting: Mutex::default(), puts: Arc::new(Semaphore::new(MAX_PUTS)), limit, metrics })
    }

    /// What it answers; `None` where it does not, or did not a moment ago.
    async fn ask<T>(&self, question: impl Future<Output = RedisResult<T>>) -> Option<T> {
        let until = *self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let fault = match timeout(PATIENCE, question).await {
            Ok(Ok(answer)) => {
                if self.metrics.cache.redis_up.set(1) == 0 {
                    tracing::info!("Redis answers");
                }
                return Some(answer);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
        self.metrics.cache.redis_errors.inc();
        if self.metrics.cache.redis_up.set(0) == 1 {
            tracing::warn!(error = fault, "Redis does not answer; this node goes on alone and asks again each second");
        }
        None
    }

    pub async fn get<T: FromRedisValue>(&self, key: &str) -> Option<T> {
        let mut redis = self.redis.clone();
        self.ask(async move { redis::cmd("GET").arg(key).query_async::<Option<T>>(&mut redis).await }).await.flatten()
    }

    /// Keeps a value, in its own time; the caller does not wait.
    pub fn put(self: &Arc<Self>, key: String, value: Vec<u8>, lives: Duration) {
        let Ok(place) = Arc::clone(&self.puts).try_acquire_owned() else { return };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut redis = this.redis.clone();
            let lives = u64::try_from(lives.as_millis()).unwrap_or(1);
            let kept = async move {
                redis::cmd("SET").arg(key).arg(value).arg("PX").arg(lives).query_async::<Value>(&mut redis).await
            };
            this.ask(kept).await;
            drop(place);
        });
    }

    /// Takes `requests` of a caller that may send `limit` a minute: whether it may, what is left of them (if not: how many
    /// it sent in this minute), and for how many seconds this minute lasts.
    pub async fn take(&self, caller: &str, limit: u32, requests: u32) -> Option<(bool, u32, u64)> {
        let mut redis = self.redis.clone();
        let mut call = self.limit.key(format!("pulso:rate:{caller}"));
        call.arg(limit).arg(requests);
        self.ask(async move { call.invoke_async(&mut redis).await }).await
    }
}

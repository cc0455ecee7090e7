//! What the routes share: the pool and the bounds.

use crate::error::Result;
use crate::read::{self, ReadError};
use deadpool_postgres::{Client, Pool};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A request may take this long in all: a connection, then a read or two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub struct AppState {
    pool: Pool,
    pub permits: Arc<Semaphore>,
    pub request_timeout: Duration,
}

impl AppState {
    /// Connects to nothing yet: a server that is down is found by the first request, and its return too.
    pub fn new(url: &str, pool_size: usize, max_in_flight: usize) -> Result<Self> {
        Ok(Self {
            pool: read::pool(url, pool_size)?,
            permits: Arc::new(Semaphore::new(max_in_flight)),
            request_timeout: REQUEST_TIMEOUT,
        })
    }

    pub async fn client(&self) -> Result<Client, ReadError> {
        Ok(self.pool.get().await?)
    }

    pub fn close(&self) {
        self.pool.close();
    }
}

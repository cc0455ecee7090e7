//! What the routes share: the pool and the bounds.

use crate::error::{Error, Result};
use crate::read::ReadError;
use deadpool_postgres::{Client, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_postgres::NoTls;

/// A read may take this long in the database.
const STATEMENT_TIMEOUT_MS: u64 = 5_000;
/// A request may take this long in all: a connection, then a read or two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// A request waits this long for a free connection, and a connection this long for the server.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

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
            pool: read_pool(url, pool_size)?,
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

/// Sessions that only read, with bounds of their own and no dependence on the role's settings.
fn read_pool(url: &str, size: usize) -> Result<Pool> {
    let setup = format!(
        "set statement_timeout = {STATEMENT_TIMEOUT_MS};
         set lock_timeout = 2000;
         set default_transaction_read_only = on;
         set time zone 'UTC';
         set datestyle = 'ISO, YMD'"
    );
    let manager =
        Manager::from_config(crate::db::config(url)?, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(ACQUIRE_TIMEOUT),
            create: Some(ACQUIRE_TIMEOUT),
            recycle: Some(ACQUIRE_TIMEOUT),
        })
        .post_create(Hook::async_fn(move |client, _| {
            let setup = setup.clone();
            Box::pin(async move { client.batch_execute(&setup).await.map_err(HookError::Backend) })
        }))
        .build()
        .map_err(|error| Error::failed(format!("cannot make a connection pool: {error}")))
}

//! Connections for reads.

use crate::error::{Error, Result};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use std::time::Duration;
use tokio_postgres::NoTls;

/// A read may take this long in the database.
const STATEMENT_TIMEOUT_MS: u64 = 5_000;
/// A read waits this long for a free connection, and a connection this long for the server.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sessions that only read, with bounds of their own and no dependence on the role's settings.
///
/// Each read has one shape whatever its parameters, and planning it costs more than running it (the dashboard, whose
/// rollups are unions of base and deltas: 10 ms against 2): a plan is made once per connection and kept.
pub fn pool(url: &str, size: usize) -> Result<Pool> {
    let setup = format!(
        "set statement_timeout = {STATEMENT_TIMEOUT_MS};
         set lock_timeout = 2000;
         set plan_cache_mode = force_generic_plan;
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

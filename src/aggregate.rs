//! Continuous aggregates under the rollups, on the tier timescale. No function may refresh one, so the statements come out of
//! the database (sql/timescale/engine.sql) and are run from here, each by itself. Doing one twice does no harm.

use crate::db;
use crate::error::Result;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Which aggregates to refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those never refreshed.
    Unfilled,
    /// All, once they are a minute old, or five times as old as refreshing takes.
    Due,
}

/// Aggregates never refreshed though their hypertable has rows to add up; each read adds them up until then. Changes nothing.
const UNFILLED: &str = "
  select a.name
    from pulso.aggregate a
   where a.as_of is null
     and exists (
       select
         from timescaledb_information.chunks k
        where format('%I.%I', k.hypertable_schema, k.hypertable_name)::regclass = a.source::regclass
          and k.range_start < now() - interval '3 hours'
     )
   order by a.id";
/// One at a time in a database: two refreshes of one aggregate disturb each other.
const LOCK: &str = "select pg_try_advisory_lock(1886743663, 2)";
const UNLOCK: &str = "select pg_advisory_unlock(1886743663, 2)";
/// How often a refresh that met one of TimescaleDB's own is tried, at growing pauses: half a minute in all.
const TRIES: u64 = 16;

/// A refresh that is to be made.
#[derive(Debug)]
pub struct Call {
    /// The aggregate, as SQL has it.
    pub name: String,
    pub sql: String,
}

impl Call {
    /// Runs it, and notes that what was committed when it began is in the aggregate.
    pub async fn run(&self, client: &Client) -> Result<()> {
        let began: jiff::Timestamp = client.query_one("select clock_timestamp()", &[]).await?.try_get(0)?;
        for attempt in 1.. {
            let Err(error) = client.batch_execute(&self.sql).await else { break };
            let busy = [&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::OBJECT_IN_USE];
            if attempt == TRIES || !error.code().is_some_and(|code| busy.contains(&code)) {
                return Err(crate::error::Error::from(error).context(&self.name));
            }
            tokio::time::sleep(Duration::from_millis(250 * attempt)).await;
        }
        client.execute("select pulso.aggregate_refreshed($1, $2)", &[&self.name, &began]).await?;
        Ok(())
    }
}

/// Whether this database has any: it is on the tier timescale.
pub async fn any(client: &Client) -> Result<bool> {
    Ok(db::has(client, "pulso.aggregate").await?)
}

/// Names of those never refreshed; changes nothing.
pub async fn unfilled(client: &Client) -> Result<Vec<String>> {
    if !any(client).await? {
        return Ok(Vec::new());
    }
    client.query(UNFILLED, &[]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The refreshes to be made, in order.
pub async fn calls(client: &Client, which: Which) -> Result<Vec<Call>> {
    let unfilled = if which == Which::Unfilled { unfilled(client).await? } else { Vec::new() };
    if which == Which::Unfilled && unfilled.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client.query("select aggregate, call from pulso.aggregate_calls($1)", &[&(which == Which::Due)]).await?;
    let all = rows.iter().map(|row| Ok(Call { name: row.try_get(0)?, sql: row.try_get(1)? }));
    all.filter(|call| !matches!(call, Ok(call) if which == Which::Unfilled && !unfilled.contains(&call.name))).collect()
}

/// Refreshes aggregates, and returns how many; none where another session is doing so.
pub async fn refresh(client: &Client, which: Which) -> Result<usize> {
    if !client.query_one(LOCK, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let outcome = refresh_locked(client, which).await;
    // What fails here is a lost connection, and that has released the lock already.
    let _ = client.execute(UNLOCK, &[]).await;
    outcome
}

async fn refresh_locked(client: &Client, which: Which) -> Result<usize> {
    let calls = calls(client, which).await?;
    for call in &calls {
        call.run(client).await?;
    }
    Ok(calls.len())
}

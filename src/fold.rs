//! Folding and the change feed by the service, where no background worker of the extension does it.
//!
//! Figures are exact without it; reads only grow slower. So nothing here ends the service: a fault is logged when it
//! changes, and tried again. Of several processes one does it at a time, the one that holds a lock: each for itself would
//! announce every change once more.

use crate::aggregate::{self, Which};
use crate::db;
use crate::error::{Error, Result};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

const BUSY: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(2);
/// How often to ask whether a background worker has appeared or gone, or the other process that folds.
const RECHECK: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// The lock of the one that folds; sql/query/feed_sender.sql looks who holds it.
const LOCK: &str = "(1886743667, 1)";

/// Folds until `stop`, on a connection of its own.
pub async fn keep_folded(url: String, stop: CancellationToken) {
    let mut status = Status::default();
    let work = async {
        let mut retry = IDLE;
        loop {
            let began = Instant::now();
            let Err(error) = session(&url, &mut status).await;
            status.failed(&error);
            // A session that had worked for a while lost its server: try at once, then ever more rarely.
            retry = if began.elapsed() > MAX_RETRY { IDLE } else { (retry * 2).min(MAX_RETRY) };
            sleep(retry).await;
        }
    };
    stop.run_until_cancelled(work).await.unwrap_or(())
}

enum Never {}

/// One connection's life; ends only by a fault.
async fn session(url: &str, status: &mut Status) -> Result<Never> {
    let client = tokio::time::timeout(CONNECT_TIMEOUT, db::connect(url))
        .await
        .map_err(|_| Error::unavailable("the server does not answer"))??;
    // A process that was stopped with the lock in its hand loses it.
    client
        .batch_execute(
            "set application_name = 'pulso fold'; set idle_session_timeout = '10s'; set pulso.fold_gently = on",
        )
        .await?;
    let mut held = false;
    let aggregates = aggregate::any(&client).await?;
    loop {
        if worker_folds(&client).await? {
            if std::mem::take(&mut held) {
                asks(&client, &format!("select pg_advisory_unlock{LOCK}")).await?;
            }
            status.now("the extension's background worker folds this database");
        } else if held || asks(&client, &format!("select pg_try_advisory_lock{LOCK}")).await? {
            held = true;
            status.now("folding here, and sending the change feed: no background worker does");
            fold_for_a_while(&client, aggregates).await?;
            continue;
        } else {
            status.now("another process folds this database");
        }
        sleep(RECHECK).await;
    }
}

/// Until it is time to look for the worker again: while both announced, every change would be told twice.
async fn fold_for_a_while(client: &Client, aggregates: bool) -> Result<()> {
    let every = feed_interval(client).await?;
    let mut pace = Pace::default();
    let (until, mut fold_at) = (Instant::now() + RECHECK * 10, Instant::now());
    while Instant::now() < until {
        let now = Instant::now();
        if fold_at <= now {
            let folded: i64 = client.query_one("select pulso.fold()", &[]).await?.try_get(0)?;
            if folded > 0 {
                tracing::debug!(folded, "deltas folded");
            }
            if aggregates {
                aggregate::refresh(client, Which::Due).await?;
            }
            fold_at = now + pace.next(folded);
        } else if every.is_some() {
            let announced: i64 = client.query_one("select pulso.announce()", &[]).await?.try_get(0)?;
            if announced > 0 {
                fold_at = fold_at.min(now + BUSY);
            }
        }
        sleep_until(now + every.unwrap_or(BUSY)).await;
    }
    Ok(())
}

async fn asks(client: &Client, sql: &str) -> Result<bool> {
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// How often to announce what has changed; `None` where the operator, or an engine that has no feed, says never.
async fn feed_interval(client: &Client) -> Result<Option<Duration>> {
    let row = client.query_one(include_str!("../sql/query/feed_interval.sql"), &[]).await?;
    let milliseconds: Option<i64> = row.try_get(0)?;
    Ok(milliseconds.map(i64::unsigned_abs).filter(|every| *every > 0).map(Duration::from_millis))
}

async fn worker_folds(client: &Client) -> Result<bool> {
    match client.query_one("select pulso.folder_running()", &[]).await {
        Ok(row) => Ok(row.try_get(0)?),
        // An engine without a worker does not have the function.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_FUNCTION) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Quick while there is work, slower and slower while there is none.
struct Pace(Duration);

impl Default for Pace {
    fn default() -> Self {
        Self(BUSY)
    }
}

impl Pace {
    fn next(&mut self, folded: i64) -> Duration {
        self.0 = if folded > 0 { BUSY } else { (self.0 * 2).min(IDLE) };
        self.0
    }
}

/// What was last said, so that it is said once.
#[derive(Default)]
struct Status {
    said: String,
}

impl Status {
    fn now(&mut self, text: &str) {
        if self.said != text {
            text.clone_into(&mut self.said);
            tracing::info!("{text}");
        }
    }

    fn failed(&mut self, error: &Error) {
        let text = format!("cannot fold: {error}");
        if self.said != text {
            tracing::warn!(%error, "cannot fold; figures stay exact, reads grow slower; trying again");
            self.said = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_quick_with_work_and_slows_without() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(5), BUSY);
        let idle: Vec<u64> = (0..4).map(|_| pace.next(0).as_millis() as u64).collect();
        assert_eq!(idle, [1000, 2000, 2000, 2000]);
        assert_eq!(pace.next(1), BUSY);
    }
}

//! Calls that may take long: seen from a second connection, cancelled on the server by Ctrl-C.

use crate::db::{self, Server};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::watch::Watch;
use indicatif::ProgressBar;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// How far a filling is.
pub const FILLING: &str = "select phase, blocks_done, blocks_total from pulso.progress where pid = $1";
/// How often a busy table is asked for, with a pause between; about a minute in all.
const TRIES: u32 = 150;
/// How long each of these may keep writers waiting.
const LOCK_TIMEOUT: &str = "set lock_timeout = '200ms'";

/// How a call ended.
pub enum Outcome {
    Done {
        value: Option<i64>,
        seconds: f64,
    },
    /// Stopped by a person; the server has undone it.
    Interrupted,
}

/// A connection that works, and one that looks on.
pub struct Session {
    worker: Client,
    watch: Watch,
}

impl Session {
    pub async fn new(server: &Server, worker: Client, quiet: bool) -> Result<Self> {
        worker.batch_execute("set application_name = 'pulso rollup'").await?;
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let watch = Watch::new(&worker, Some(server.connect().await?), bar, interrupt::token()).await?;
        Ok(Self { worker, watch })
    }

    /// Builds or repairs a rollup.
    pub async fn fill(&self, name: &str, function: &str) -> Result<Outcome> {
        self.worker.batch_execute("reset lock_timeout").await?;
        let begun = Instant::now();
        let outcome = self.call(&format!("select pulso.{function}($1)"), &[&name]).await;
        self.watch.bar.finish_and_clear();
        match outcome? {
            None => Ok(Outcome::Interrupted),
            Some(row) => Ok(Outcome::Done { value: row.try_get(0)?, seconds: begun.elapsed().as_secs_f64() }),
        }
    }

    /// Runs a call again and again until the locks that it needs are free.
    pub async fn patiently(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Outcome> {
        let begun = Instant::now();
        self.worker.batch_execute(LOCK_TIMEOUT).await?;
        for attempt in 1_u32.. {
            match self.call(sql, params).await {
                Ok(None) => return Ok(Outcome::Interrupted),
                Ok(Some(_)) => break,
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && attempt < TRIES => {
                    if attempt == 3 {
                        self.watch.bar.suspend(|| eprintln!("the table is busy; trying again for a minute"));
                    }
                }
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    return Err(Error::from(error)
                        .with_hint("A long transaction holds the table; see pg_stat_activity. Nothing was changed."));
                }
                Err(error) => return Err(error.into()),
            }
            let pause = tokio::time::sleep(Duration::from_millis(u64::from(20 * attempt.min(15))));
            if self.watch.cancel.run_until_cancelled(pause).await.is_none() {
                return Ok(Outcome::Interrupted);
            }
            if attempt.is_multiple_of(5) {
                db::interrupt_autovacuum(&self.worker).await;
            }
        }
        Ok(Outcome::Done { value: None, seconds: begun.elapsed().as_secs_f64() })
    }

    /// One call; `None` when a person has stopped it.
    async fn call(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, tokio_postgres::Error> {
        match self.watch.see(self.worker.query_one(sql, params), Some(FILLING)).await {
            Err(error) if self.watch.cancel.is_cancelled() && error.code() == Some(&SqlState::QUERY_CANCELED) => {
                // The server says so before it has undone the work, and answers again only afterwards.
                let _ = self.worker.batch_execute("").await;
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}

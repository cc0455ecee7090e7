//! Calls that may take long: seen from a second connection, cancelled on the server by Ctrl-C.

use crate::db::Server;
use crate::error::{Error, Result};
use crate::interrupt;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};
use tokio_util::sync::CancellationToken;

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(200);
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
    pid: i32,
    watcher: Client,
    bar: ProgressBar,
    cancel: CancellationToken,
}

impl Session {
    pub async fn new(server: &Server, worker: Client, quiet: bool) -> Result<Self> {
        let pid = worker.query_one("select pg_backend_pid()", &[]).await?.try_get(0)?;
        worker.batch_execute("set application_name = 'pulso rollup'").await?;
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        Ok(Self { worker, pid, watcher: server.connect().await?, bar, cancel: interrupt::token() })
    }

    /// Builds or repairs a rollup.
    pub async fn fill(&self, name: &str, function: &str) -> Result<Outcome> {
        let style = ProgressStyle::with_template("{msg} {bar:30} {percent} % ({elapsed}, {eta} left)");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.worker.batch_execute("reset lock_timeout").await?;
        let begun = Instant::now();
        let outcome = self.call(&format!("select pulso.{function}($1)"), &[&name]).await;
        self.bar.finish_and_clear();
        match outcome? {
            None => Ok(Outcome::Interrupted),
            Some(row) => Ok(Outcome::Done { value: row.try_get(0)?, seconds: begun.elapsed().as_secs_f64() }),
        }
    }

    /// Runs a call again and again until the locks that it needs are free.
    pub async fn patiently(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Outcome> {
        let begun = Instant::now();
        self.worker.batch_execute(LOCK_TIMEOUT).await?;
        for attempt in 1.. {
            match self.call(sql, params).await {
                Ok(None) => return Ok(Outcome::Interrupted),
                Ok(Some(_)) => break,
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && attempt < TRIES => {
                    if attempt == 3 {
                        self.bar.suspend(|| eprintln!("the table is busy; trying again for a minute"));
                    }
                }
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    return Err(Error::from(error)
                        .with_hint("A long transaction holds the table; see pg_stat_activity. Nothing was changed."));
                }
                Err(error) => return Err(error.into()),
            }
            let pause = tokio::time::sleep(Duration::from_millis(u64::from(20 * attempt.min(15))));
            if self.cancel.run_until_cancelled(pause).await.is_none() {
                return Ok(Outcome::Interrupted);
            }
        }
        Ok(Outcome::Done { value: None, seconds: begun.elapsed().as_secs_f64() })
    }

    /// One call; `None` when a person has stopped it.
    async fn call(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, tokio_postgres::Error> {
        let call = self.worker.query_one(sql, params);
        tokio::pin!(call);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                row = &mut call => return row.map(Some),
                () = self.cancel.cancelled() => {
                    // The server undoes it; waiting for its answer makes sure that it has.
                    self.worker.cancel_token().cancel_query(NoTls).await?;
                    return match call.await {
                        Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => Ok(None),
                        // It was done before the wish arrived.
                        other => other.map(Some),
                    };
                }
                _ = look.tick() => self.show().await,
            }
        }
    }

    /// Draws how far it is. That is a help only: without it the work goes on.
    async fn show(&self) {
        let found = self
            .watcher
            .query_opt("select phase, blocks_done, blocks_total from pulso.progress where pid = $1", &[&self.pid])
            .await;
        let Ok(Some(row)) = found else { return };
        if let (Ok(phase), Ok(done), Ok(total)) =
            (row.try_get::<_, String>(0), row.try_get::<_, i64>(1), row.try_get::<_, i64>(2))
        {
            self.bar.set_length(total.unsigned_abs().max(1));
            self.bar.set_position(done.unsigned_abs());
            self.bar.set_message(phase);
        }
    }
}

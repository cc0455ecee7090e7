//! What time it is: the server's, so that all workers agree; a query, so that tests can decide it.
//!
//! tokio-cron-scheduler says only "look now". What is due follows from the time and the database alone, so a lost tick
//! delays a job and no more, and two ticks at once start it once.

use crate::error::Result;
use jiff::Timestamp;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job as CronJob, JobScheduler, JobSchedulerError};
use tokio_postgres::Client;

/// A query that gives the time.
#[derive(Debug, Clone)]
pub struct Clock(pub String);

impl Default for Clock {
    fn default() -> Self {
        Self("select clock_timestamp()".to_owned())
    }
}

impl Clock {
    pub async fn now(&self, client: &Client) -> Result<Timestamp> {
        Ok(client.query_one(&self.0, &[]).await?.try_get(0)?)
    }
}

/// Ticks, once a second; a clock that falls silent is made up for.
pub struct Ticks {
    scheduler: Option<JobScheduler>,
    ticks: mpsc::Receiver<()>,
    silence: Duration,
}

impl Ticks {
    pub async fn start() -> Self {
        match Self::of("* * * * * *", Duration::from_secs(5)).await {
            Ok(ticks) => ticks,
            Err(error) => {
                tracing::warn!(%error, "the clock for jobs does not start; looking every five seconds instead");
                Self { scheduler: None, ticks: mpsc::channel(1).1, silence: Duration::from_secs(5) }
            }
        }
    }

    async fn of(schedule: &str, silence: Duration) -> Result<Self, JobSchedulerError> {
        // Room for one: ticks that come while the worker is busy say nothing new.
        let (tick, ticks) = mpsc::channel(1);
        let scheduler = JobScheduler::new().await?;
        let job = CronJob::new(schedule, move |_, _| {
            let _ = tick.try_send(());
        })?;
        scheduler.add(job).await?;
        scheduler.start().await?;
        Ok(Self { scheduler: Some(scheduler), ticks, silence })
    }

    /// Returns at a tick, or after too long a silence: then false.
    pub async fn heard(&mut self) -> bool {
        let began = Instant::now();
        match tokio::time::timeout(self.silence, self.ticks.recv()).await {
            Ok(Some(())) => true,
            Ok(None) => {
                // The clock is gone for good.
                tokio::time::sleep(self.silence.saturating_sub(began.elapsed())).await;
                false
            }
            Err(_) => false,
        }
    }

    pub async fn stop(mut self) {
        if let Some(mut scheduler) = self.scheduler.take()
            && let Err(error) = scheduler.shutdown().await
        {
            tracing::debug!(%error, "the clock for jobs did not stop cleanly");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_clock_goes_on_ticking_and_stops_when_told() {
        let mut ticks = Ticks::start().await;
        for _ in 0..3 {
            assert!(ticks.heard().await, "a tick in time");
        }
        tokio::time::timeout(Duration::from_secs(5), ticks.stop()).await.expect("it stops in time");
    }

    #[tokio::test]
    async fn a_silent_clock_does_not_stop_the_worker() {
        let (_kept, silent) = mpsc::channel(1);
        let mut ticks = Ticks { scheduler: None, ticks: silent, silence: Duration::from_millis(20) };
        assert!(!ticks.heard().await);
        let mut gone = Ticks { scheduler: None, ticks: mpsc::channel(1).1, silence: Duration::from_millis(20) };
        let began = Instant::now();
        assert!(!gone.heard().await);
        assert!(began.elapsed() >= Duration::from_millis(20), "it does not spin");
    }
}

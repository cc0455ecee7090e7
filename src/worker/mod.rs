//! Jobs of the service: a few tasks at times of day.
//!
//! First form: the list lives in this process, so each replica runs it, and a night on which nothing runs is skipped.
//! Leases and history in `pulso.job` are to replace `Agenda`; the clock and the tasks stay.
//!
//! tokio-cron-scheduler is the clock and nothing else: it says "look now". What is due follows from the time alone
//! (`Agenda::due`), so a lost tick delays a job and no more, two ticks at once start it once, and daylight saving is jiff's affair.

mod schedule;
mod verify;

pub use schedule::Daily;
pub use verify::rollups as verify_rollups;

use crate::error::{Error, Result};
use jiff::Timestamp;
use jiff::civil::Time;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_cron_scheduler::{Job as CronJob, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

/// Every ten seconds; nothing here is due more precisely than that.
const TICKS: &str = "*/10 * * * * *";
/// A clock silent for so long is taken to have stopped; the worker then looks by itself.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub enum Task {
    VerifyRollups,
}

#[derive(Debug, Clone)]
pub struct Job {
    pub name: &'static str,
    pub schedule: Daily,
    pub task: Task,
}

/// The jobs of the service.
pub fn jobs(verify_at: Time, time_zone: &str) -> Result<Vec<Job>> {
    let schedule = Daily::new(verify_at, time_zone)?;
    Ok(vec![Job { name: "verify rollups", schedule, task: Task::VerifyRollups }])
}

/// Runs jobs as they fall due, until `stop`; then abandons what runs, none of which writes.
pub async fn run(url: String, jobs: Vec<Job>, stop: CancellationToken) {
    let (clock, mut ticks) = match clock(TICKS).await {
        Ok((clock, ticks)) => (Some(clock), ticks),
        Err(error) => {
            tracing::warn!(%error, "the clock for jobs does not start; looking every minute instead");
            (None, mpsc::channel(1).1)
        }
    };
    let mut agenda = Agenda::new(jobs, Timestamp::now());
    let mut running: Vec<JoinHandle<()>> = Vec::new();
    let work = async {
        loop {
            if !heard(&mut ticks).await {
                tracing::debug!("no tick in time; looking all the same");
            }
            running.retain(|run| !run.is_finished());
            for job in agenda.due(Timestamp::now()) {
                running.push(tokio::spawn(perform(job, url.clone())));
            }
        }
    };
    stop.run_until_cancelled(work).await.unwrap_or(());
    running.iter().for_each(JoinHandle::abort);
    if let Some(mut clock) = clock
        && let Err(error) = clock.shutdown().await
    {
        tracing::debug!(%error, "the clock for jobs did not stop cleanly");
    }
}

/// Whether a tick came, rather than a long silence.
async fn heard(ticks: &mut mpsc::Receiver<()>) -> bool {
    let began = Instant::now();
    match tokio::time::timeout(SILENCE, ticks.recv()).await {
        Ok(Some(())) => true,
        Ok(None) => {
            // The clock is gone for good.
            tokio::time::sleep(SILENCE.saturating_sub(began.elapsed())).await;
            false
        }
        Err(_) => false,
    }
}

async fn clock(schedule: &str) -> Result<(JobScheduler, mpsc::Receiver<()>), JobSchedulerError> {
    // Room for one: ticks that come while the worker is busy say nothing new.
    let (tick, ticks) = mpsc::channel(1);
    let scheduler = JobScheduler::new().await?;
    let job = CronJob::new(schedule, move |_, _| {
        let _ = tick.try_send(());
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok((scheduler, ticks))
}

async fn perform(job: Job, url: String) {
    let began = Instant::now();
    let outcome = match job.task {
        Task::VerifyRollups => verify::rollups(&url).await,
    };
    let duration_ms = began.elapsed().as_millis() as u64;
    match outcome {
        Ok(summary) => tracing::info!(job.name = job.name, duration_ms, "{summary}"),
        Err(error) => {
            tracing::warn!(job.name = job.name, duration_ms, %error, "job failed; it runs again at its next time")
        }
    }
}

/// Which jobs are due. Knows no clock but the time it is given.
struct Agenda {
    jobs: Vec<(Job, Option<Timestamp>)>,
}

impl Agenda {
    fn new(jobs: Vec<Job>, now: Timestamp) -> Self {
        let jobs = jobs.into_iter().map(|job| {
            let next = next(&job, now);
            (job, next)
        });
        Self { jobs: jobs.collect() }
    }

    /// Jobs whose time has come; slots missed in between count as one.
    fn due(&mut self, now: Timestamp) -> Vec<Job> {
        let mut due = Vec::new();
        for (job, at) in &mut self.jobs {
            if at.is_some_and(|at| at <= now) {
                *at = next(job, now);
                due.push(job.clone());
            }
        }
        due
    }
}

fn next(job: &Job, now: Timestamp) -> Option<Timestamp> {
    let next = job.schedule.next_after(now);
    match &next {
        Ok(at) => tracing::debug!(job.name = job.name, %at, "next run"),
        Err(error) => tracing::warn!(job.name = job.name, %error, "job has no next time"),
    }
    next.ok()
}

impl From<JobSchedulerError> for Error {
    fn from(error: JobSchedulerError) -> Self {
        Self::failed(format!("the clock for jobs: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    fn agenda(now: &str) -> Agenda {
        Agenda::new(jobs("04:30".parse().expect("a time"), "America/Caracas").expect("jobs"), at(now))
    }

    #[test]
    fn a_job_is_due_once_a_day_however_often_the_clock_ticks() {
        let mut agenda = agenda("2026-07-30T08:29:00Z");
        assert_eq!(agenda.due(at("2026-07-30T08:29:59Z")).len(), 0);
        assert_eq!(agenda.due(at("2026-07-30T08:30:00Z")).len(), 1);
        assert_eq!(agenda.due(at("2026-07-30T08:30:00Z")).len(), 0);
        assert_eq!(agenda.due(at("2026-07-31T08:29:59Z")).len(), 0);
        assert_eq!(agenda.due(at("2026-07-31T08:30:05Z")).len(), 1);
    }

    #[test]
    fn nights_missed_while_asleep_are_made_good_by_one_run() {
        let mut agenda = agenda("2026-07-30T08:29:00Z");
        assert_eq!(agenda.due(at("2026-08-04T12:00:00Z")).len(), 1);
        assert_eq!(agenda.due(at("2026-08-04T12:00:10Z")).len(), 0);
        assert_eq!(agenda.due(at("2026-08-05T08:30:00Z")).len(), 1);
    }

    #[test]
    fn a_clock_set_back_repeats_nothing() {
        let mut agenda = agenda("2026-07-30T08:29:00Z");
        assert_eq!(agenda.due(at("2026-07-30T08:30:00Z")).len(), 1);
        assert_eq!(agenda.due(at("2026-07-30T08:00:00Z")).len(), 0);
        assert_eq!(agenda.due(at("2026-07-30T08:30:00Z")).len(), 0);
    }

    #[tokio::test]
    async fn the_clock_goes_on_ticking_and_stops_when_told() {
        let (mut clock, mut ticks) = clock("* * * * * *").await.expect("a clock");
        for _ in 0..3 {
            let tick = tokio::time::timeout(Duration::from_secs(5), ticks.recv()).await;
            assert_eq!(tick.expect("a tick in time"), Some(()));
        }
        let stopped = tokio::time::timeout(Duration::from_secs(5), clock.shutdown()).await;
        stopped.expect("it stops in time").expect("it stops");
    }
}

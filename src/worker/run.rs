//! One run: its effect, the lease that is renewed beside it, and what is noted at its end.

use super::claim::Claim;
use super::clock::Clock;
use super::tasks::{self, Effect};
use crate::error::{Error, Result};
use deadpool_postgres::{Object, Pool};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Done(String),
    Failed(String),
    /// Another worker has taken it over; nothing of it was committed.
    Lost,
    /// The worker was told to stop; the slot is anybody's.
    HandedBack,
}

/// Runs a claimed job to its end. `control` renews the lease; `abandon` ends the run before its time.
pub async fn perform(
    pool: &Pool,
    control: &Client,
    clock: &Clock,
    claim: &Claim,
    abandon: &CancellationToken,
) -> Ended {
    let began = Instant::now();
    let name = claim.job.name.as_str();
    let ended = tokio::select! {
        ended = effect(pool, clock, claim, began) => ended,
        () = lease_lost(control, clock, claim) => Ended::Lost,
        () = abandon.cancelled() => Ended::HandedBack,
        () = tokio::time::sleep(claim.job.timeout) => Ended::Failed(format!("took longer than {} s", claim.job.timeout.as_secs())),
    };
    let duration_ms = millis(began);
    let noted = match &ended {
        Ended::Done(summary) => {
            tracing::info!(job.name = name, duration_ms, "{summary}");
            Ok(())
        }
        Ended::Failed(error) => {
            tracing::warn!(job.name = name, duration_ms, error, "job failed");
            claim.fail(control, clock, duration_ms, error).await
        }
        Ended::Lost => {
            tracing::warn!(
                job.name = name,
                duration_ms,
                "another worker has taken the job over; this run changed nothing"
            );
            Ok(())
        }
        Ended::HandedBack => {
            tracing::info!(job.name = name, duration_ms, "job handed back");
            claim.hand_back(control, clock).await
        }
    };
    if let Err(error) = noted {
        tracing::warn!(job.name = name, %error, "the end of a run could not be noted; its lease will end");
    }
    ended
}

fn millis(began: Instant) -> i64 {
    i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// The session of a run. Dropped before its end, it cancels on the server what it was doing.
struct Session {
    client: Option<Object>,
    finished: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        if self.finished {
            return;
        }
        // Out of the pool: whatever it was in the middle of must not be the next run's.
        let client = Object::take(client);
        tokio::spawn(async move {
            let _ = client.cancel_token().cancel_query(NoTls).await;
        });
    }
}

async fn effect(pool: &Pool, clock: &Clock, claim: &Claim, began: Instant) -> Ended {
    let outcome = async {
        let client = pool.get().await.map_err(|error| Error::unavailable(format!("no connection: {error}")))?;
        let mut session = Session { client: Some(client), finished: false };
        let Some(client) = session.client.as_mut() else { return Ok(Effect::NotOurs) };
        // A worker that is stopped in the middle holds no locks for longer than its lease.
        let setup = format!(
            "set application_name = 'pulso job {}'; set idle_in_transaction_session_timeout = '{}s'; set lock_timeout = '10s'",
            claim.job.name,
            claim.job.lease.as_secs()
        );
        client.batch_execute(&setup).await?;
        let effect = tasks::run(client, clock, claim, began).await;
        session.finished = effect.is_ok();
        effect
    };
    let outcome: Result<Effect> = outcome.await;
    match outcome {
        Ok(Effect::Done(summary)) => Ended::Done(summary),
        Ok(Effect::NotOurs) => Ended::Lost,
        Err(error) => Ended::Failed(error.to_string()),
    }
}

/// Renews the lease until it is another's.
async fn lease_lost(control: &Client, clock: &Clock, claim: &Claim) {
    let every = (claim.job.lease / 3).max(Duration::from_millis(300));
    loop {
        tokio::time::sleep(every).await;
        match claim.renew(control, clock).await {
            Ok(true) => {}
            // The run itself may have just noted its end; it says so before this is looked at again.
            Ok(false) => {
                tokio::time::sleep(every).await;
                return;
            }
            Err(error) => tracing::debug!(%error, "a lease could not be renewed"),
        }
    }
}

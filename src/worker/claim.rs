//! Which job is due, and whose it is. The database decides: `FOR UPDATE SKIP LOCKED`, a lease, and a fencing token
//! that each claim and each end of a run raises, so that of two workers that believe in the same run only one can commit.

use super::clock::Clock;
use super::schedule::Schedule;
use crate::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio_postgres::{Client, Row, Transaction};

/// How late a slot of a job with `catch_up = 'skip'` may start.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Schedule,
    Hand,
}

impl Trigger {
    fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Hand => "hand",
        }
    }
}

/// A row of `pulso.job`, as far as running it needs.
#[derive(Debug, Clone)]
pub struct Job {
    pub name: String,
    pub task: String,
    pub command: Option<String>,
    schedule: String,
    time_zone: String,
    catch_up: String,
    pub lease: Duration,
    pub timeout: Duration,
    next_slot: Option<Timestamp>,
    token: i64,
    last_error: Option<String>,
}

impl Job {
    fn from_row(row: &Row) -> Result<Self> {
        let seconds = |column: &str| -> Result<Duration> {
            Ok(Duration::from_secs(row.try_get::<_, i32>(column)?.unsigned_abs().into()))
        };
        Ok(Self {
            name: row.try_get("name")?,
            task: row.try_get("task")?,
            command: row.try_get("command")?,
            schedule: row.try_get("schedule")?,
            time_zone: row.try_get("time_zone")?,
            catch_up: row.try_get("catch_up")?,
            lease: seconds("lease_seconds")?,
            timeout: seconds("timeout_seconds")?,
            next_slot: row.try_get("next_slot")?,
            token: row.try_get("token")?,
            last_error: row.try_get("last_error")?,
        })
    }
}

/// A run that is ours until the lease ends.
#[derive(Debug, Clone)]
pub struct Claim {
    pub job: Job,
    pub slot: Timestamp,
    pub token: i64,
    /// Where the schedule goes on once this run is through; `None` for a run by hand, which leaves it.
    next: Option<Timestamp>,
}

/// Claims one due run; `None` when nothing is due or others were faster.
pub async fn due(client: &Client, clock: &Clock, owner: &str) -> Result<Option<Claim>> {
    let now = clock.now(client).await?;
    for row in client.query(include_str!("../../sql/job/due.sql"), &[&now]).await? {
        let job = Job::from_row(&row)?;
        match claim_due(client, &job, now, owner).await {
            Ok(None) => {}
            Ok(Some(claim)) => return Ok(Some(claim)),
            Err(error) if error.kind() == crate::error::Kind::Usage => refuse(client, &job, &error).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn claim_due(client: &Client, job: &Job, now: Timestamp, owner: &str) -> Result<Option<Claim>> {
    let schedule = Schedule::parse(&job.schedule, &job.time_zone)?;
    let Some(first) = job.next_slot else {
        let slot = schedule.next_after(now)?;
        client.execute(include_str!("../../sql/job/begin.sql"), &[&job.name, &job.token, &slot]).await?;
        return Ok(None);
    };
    let (slot, slots) = match job.catch_up.as_str() {
        "all" => (first, 1),
        "once" => {
            let due = schedule.due(first, now)?;
            (due.last, due.count)
        }
        _ => {
            let due = schedule.due(first, now)?;
            let late = now.duration_since(due.last) > GRACE;
            if late || due.count > 1 {
                let skipped = if late { due.count } else { due.count - 1 };
                let next = if late { schedule.next_after(due.last)? } else { due.last };
                // Those skipped come first; the one that is in time is seen at the next look.
                let sql = include_str!("../../sql/job/skip.sql");
                client.execute(sql, &[&job.name, &job.token, &now, &owner, &first, &skipped, &next]).await?;
                return Ok(None);
            }
            (first, 1)
        }
    };
    let next = schedule.next_after(slot)?;
    claim(client, job, now, owner, slot, slots, Trigger::Schedule, Some(next)).await
}

/// Claims a job for a run by hand, paused or not; its schedule is not moved.
pub async fn by_hand(client: &Client, clock: &Clock, owner: &str, name: &str) -> Result<Claim> {
    let now = clock.now(client).await?;
    let row = client.query_opt(include_str!("../../sql/job/named.sql"), &[&name]).await?;
    let Some(row) = row else {
        return Err(
            Error::failed(format!("there is no job {name}")).with_hint("`pulso job list` shows those there are.")
        );
    };
    let job = Job::from_row(&row)?;
    claim(client, &job, now, owner, now, 1, Trigger::Hand, None).await?.ok_or_else(|| {
        Error::failed(format!("job {name} is running already"))
            .with_hint("`pulso job list` shows where; its lease ends by itself when that worker is gone.")
    })
}

#[allow(clippy::too_many_arguments, reason = "the parameters of one statement")]
async fn claim(
    client: &Client,
    job: &Job,
    now: Timestamp,
    owner: &str,
    slot: Timestamp,
    slots: i64,
    trigger: Trigger,
    next: Option<Timestamp>,
) -> Result<Option<Claim>> {
    let sql = include_str!("../../sql/job/claim.sql");
    let trigger = trigger.as_str();
    let row = client.query_opt(sql, &[&job.name, &job.token, &now, &owner, &slot, &slots, &trigger]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Claim { job: job.clone(), slot, token: row.try_get(0)?, next }))
}

/// A job whose schedule cannot be read says so once and is left.
async fn refuse(client: &Client, job: &Job, error: &Error) -> Result<()> {
    let text = error.to_string();
    if job.last_error.as_deref() != Some(&text) {
        tracing::warn!(job.name = job.name, error = text, "a job cannot be scheduled");
        client.execute("update pulso.job set last_error = $2 where name = $1", &[&job.name, &text]).await?;
    }
    Ok(())
}

impl Claim {
    /// Whether the run is still ours; then the lease begins anew.
    pub async fn renew(&self, client: &Client, clock: &Clock) -> Result<bool> {
        let now = clock.now(client).await?;
        let sql = include_str!("../../sql/job/renew.sql");
        Ok(client.execute(sql, &[&self.job.name, &self.token, &now]).await? == 1)
    }

    /// Notes the run as done in the transaction of its effect; false: it is another's, and must not commit.
    pub async fn finish(
        &self,
        transaction: &Transaction<'_>,
        now: Timestamp,
        duration_ms: i64,
        result: &str,
    ) -> Result<bool> {
        let sql = include_str!("../../sql/job/finish.sql");
        let name = &self.job.name;
        let rows =
            transaction.execute(sql, &[name, &self.token, &now, &self.slot, &self.next, &duration_ms, &result]).await?;
        Ok(rows == 1)
    }

    /// Holds the run until the transaction ends, for an effect that commits before the run is done; false: it is another's.
    pub async fn hold(&self, transaction: &Transaction<'_>) -> Result<bool> {
        let sql = "select from pulso.job where name = $1 and token = $2 and lease_owner is not null for no key update";
        Ok(transaction.query_opt(sql, &[&self.job.name, &self.token]).await?.is_some())
    }

    pub async fn fail(&self, client: &Client, clock: &Clock, duration_ms: i64, error: &str) -> Result<()> {
        let now = clock.now(client).await?;
        let sql = include_str!("../../sql/job/fail.sql");
        let name = &self.job.name;
        client.execute(sql, &[name, &self.token, &now, &self.slot, &self.next, &duration_ms, &error]).await?;
        Ok(())
    }

    /// Lets another worker take the slot at once.
    pub async fn hand_back(&self, client: &Client, clock: &Clock) -> Result<()> {
        let now = clock.now(client).await?;
        client.execute(include_str!("../../sql/job/hand_back.sql"), &[&self.job.name, &self.token, &now]).await?;
        Ok(())
    }
}

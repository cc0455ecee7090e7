//! What jobs do. Whatever an effect is, it commits together with a look at the fencing token.

use super::claim::Claim;
use super::clock::Clock;
use super::verify;
use crate::aggregate::{self, Which};
use crate::error::{Error, Kind, Result};
use deadpool_postgres::ClientWrapper;
use std::time::Instant;

/// History is kept for so long.
const HISTORY_DAYS: i32 = 30;
/// And what keys were used for, so that a year can be laid beside the one before.
const KEY_USE_DAYS: i32 = 400;

pub enum Effect {
    Done(String),
    /// The run belongs to another worker by now; nothing was committed since it does.
    NotOurs,
}

pub async fn run(client: &mut ClientWrapper, clock: &Clock, claim: &Claim, began: Instant) -> Result<Effect> {
    match claim.job.task.as_str() {
        "sql" => sql(client, clock, claim, began).await,
        "purge_history" => purge(client, clock, claim, began).await,
        "refresh_views" => match refresh(client, claim).await? {
            Some(summary) => finish(client, clock, claim, began, summary).await,
            None => Ok(Effect::NotOurs),
        },
        "verify_rollups" => {
            let report = verify::all(client).await?;
            match report.fault() {
                Some(fault) => Err(Error::failed(fault)),
                None => finish(client, clock, claim, began, report.to_string()).await,
            }
        }
        other => Err(Error::failed(format!("this version of Pulso knows no task {other}"))),
    }
}

fn millis(began: Instant) -> i64 {
    i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// For effects that are committed already, each with the token held.
async fn finish(
    client: &mut ClientWrapper,
    clock: &Clock,
    claim: &Claim,
    began: Instant,
    summary: String,
) -> Result<Effect> {
    let now = clock.now(client).await?;
    let transaction = client.transaction().await?;
    if !claim.finish(&transaction, now, millis(began), &summary).await? {
        return Ok(Effect::NotOurs);
    }
    transaction.commit().await?;
    Ok(Effect::Done(summary))
}

/// A command of the users': one statement, in the transaction that notes it as done.
async fn sql(client: &mut ClientWrapper, clock: &Clock, claim: &Claim, began: Instant) -> Result<Effect> {
    let command = claim.job.command.as_deref().unwrap_or_default();
    let now = clock.now(client).await?;
    let transaction = client.transaction().await?;
    let begin =
        "select set_config('pulso.job', $1, true), set_config('pulso.slot', $2, true), pg_current_xact_id()::text";
    let row = transaction.query_one(begin, &[&claim.job.name, &claim.slot.to_string()]).await?;
    let id: String = row.try_get(2)?;
    let rows = transaction.execute(command, &[]).await?;
    let same: String = transaction.query_one("select pg_current_xact_id()::text", &[]).await?.try_get(0)?;
    if same != id {
        return Err(Error::failed("the command ends its transaction; it has to leave that to the worker"));
    }
    let summary = format!("{rows} rows");
    if !claim.finish(&transaction, now, millis(began), &summary).await? {
        return Ok(Effect::NotOurs);
    }
    transaction.commit().await?;
    Ok(Effect::Done(summary))
}

async fn purge(client: &mut ClientWrapper, clock: &Clock, claim: &Claim, began: Instant) -> Result<Effect> {
    let now = clock.now(client).await?;
    let transaction = client.transaction().await?;
    let sql = "delete from pulso.job_run where started_at < $1::timestamptz - make_interval(days => $2) and outcome <> 'running'";
    let rows = transaction.execute(sql, &[&now, &HISTORY_DAYS]).await?;
    let sql = "delete from pulso.api_key_use where day < ($1::timestamptz at time zone 'UTC')::date - $2::integer";
    let used = transaction.execute(sql, &[&now, &KEY_USE_DAYS]).await?;
    let mut summary = format!("{rows} runs older than {HISTORY_DAYS} days deleted");
    if used > 0 {
        summary.push_str(&format!(", and {used} days of keys older than {KEY_USE_DAYS} days"));
    }
    if !claim.finish(&transaction, now, millis(began), &summary).await? {
        return Ok(Effect::NotOurs);
    }
    transaction.commit().await?;
    Ok(Effect::Done(summary))
}

/// Each view in a transaction of its own, so that none waits for another's locks. One that fails does not stop the others.
async fn refresh(client: &mut ClientWrapper, claim: &Claim) -> Result<Option<String>> {
    if aggregate::any(client).await? {
        aggregate::refresh(client, Which::All).await?;
    }
    let names: Vec<String> = client
        .query(include_str!("../../sql/job/views.sql"), &[])
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    let mut failed = Vec::new();
    for name in &names {
        let transaction = client.transaction().await?;
        match transaction.query_one("select pulso.refresh_view($1::text::regclass)", &[name]).await {
            Ok(_) => {
                if !claim.hold(&transaction).await? {
                    return Ok(None);
                }
                transaction.commit().await?;
            }
            Err(error) => {
                let error = Error::from(error);
                if error.kind() == Kind::Unavailable {
                    return Err(error);
                }
                transaction.rollback().await?;
                let text = error.to_string();
                let note = "insert into pulso.view_refresh (name, failed_at, error) values ($1, now(), $2)
                            on conflict (name) do update set failed_at = excluded.failed_at, error = excluded.error";
                client.execute(note, &[name, &text]).await?;
                failed.push(format!("{name}: {text}"));
            }
        }
    }
    if failed.is_empty() {
        return Ok(Some(format!("{} materialized views refreshed", names.len())));
    }
    Err(Error::failed(format!(
        "{} of {} views could not be refreshed: {}",
        failed.len(),
        names.len(),
        failed.join("; ")
    )))
}

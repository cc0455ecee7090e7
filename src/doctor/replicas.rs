//! The standbys that `pulso serve` is told to read: there, what they are taken for, and not far behind.

use super::{Finding, Report, Severity};
use crate::db;
use crate::error::{Error, Result};
use crate::serve::replicas::name;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

const CHECK: &str = "replicas";
const PATIENCE: Duration = Duration::from_secs(5);

/// `max_bytes` is how much of the primary's log a standby may lack.
pub async fn check(primary: &Client, urls: &[String], max_bytes: u64, report: &mut Report) -> Result<()> {
    if urls.is_empty() {
        return Ok(());
    }
    report.checks.push(CHECK);
    let history: String =
        primary.query_one(include_str!("../../sql/query/primary_history.sql"), &[]).await?.try_get(0)?;
    let position = primary.query_one(include_str!("../../sql/query/primary_position.sql"), &[]).await?;
    let written = u64::from(position.try_get::<_, PgLsn>("written")?);
    for url in urls {
        let object = name(url)?;
        let found = timeout(PATIENCE, look(url, &history, written, max_bytes)).await;
        let found = found.unwrap_or_else(|_| Err(Error::unavailable("it does not answer")));
        let found = found.unwrap_or_else(|error| {
            let cure = "Bring it back, or take it out of PULSO_READ_URLS; the primary is read meanwhile.";
            Some((Severity::Warning, format!("it cannot be asked: {error}"), cure))
        });
        if let Some((severity, finding, cure)) = found {
            report.findings.push(Finding { severity, check: CHECK, object, finding, cure: cure.to_owned() });
        }
    }
    Ok(())
}

async fn look(
    url: &str,
    history: &str,
    written: u64,
    max_bytes: u64,
) -> Result<Option<(Severity, String, &'static str)>> {
    let client = db::connect(url).await?;
    let row = client.query_one(include_str!("../../sql/query/standby_state.sql"), &[]).await?;
    if !row.try_get::<_, bool>("standby")? {
        let cure =
            "It is never read. Take it out of PULSO_READ_URLS; if it was promoted on purpose, make it DATABASE_URL.";
        return Ok(Some((Severity::Wrong, "this is no standby, or none any more".to_owned(), cure)));
    }
    let followed: String = row.try_get("history")?;
    if followed != history {
        let finding = format!("it follows cluster/timeline {followed}, the primary is {history}");
        let cure = "It is not read. Let it follow the server of DATABASE_URL (pg_rewind, or a new pg_basebackup), or name that server's standbys.";
        return Ok(Some((Severity::Wrong, finding, cure)));
    }
    if client.query_one("select pg_is_wal_replay_paused()", &[]).await?.try_get(0)? {
        let cure = "Let it go on: select pg_wal_replay_resume()";
        return Ok(Some((Severity::Warning, "its replay is paused".to_owned(), cure)));
    }
    let lacks = written.saturating_sub(row.try_get::<_, PgLsn>("replayed")?.into());
    let finding = format!("it is {} MB of log behind", lacks / (1024 * 1024));
    let cure = "See why: select * from pg_stat_wal_receiver, long reads there (max_standby_streaming_delay), its disk.";
    Ok((lacks > max_bytes).then_some((Severity::Warning, finding, cure)))
}

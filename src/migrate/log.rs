//! Who migrated what, when, and how long it took: `pulso.migration_log`, beside refinery's tables.

use crate::db;
use crate::error::Result;
use std::collections::{HashMap, HashSet};
use tokio_postgres::Client;

const TABLE: &str = include_str!("log.sql");

/// Makes schema and table where they are not there, and closes what runners that died left open.
pub async fn open(client: &Client) -> Result<()> {
    let there = db::has(client, "pulso.migration_log").await?;
    if !there {
        // `if not exists` would still ask for the right to make it.
        let schema: bool = client.query_one("select to_regnamespace('pulso') is not null", &[]).await?.get(0);
        if !schema {
            client.batch_execute("create schema pulso").await?;
        }
        client.batch_execute(TABLE).await?;
    }
    close(client).await
}

/// Closes what runners that died left open. The caller has the runners' lock: nobody else is running a step.
pub async fn close(client: &Client) -> Result<()> {
    if db::has(client, "pulso.migration_log").await? {
        client.execute("update pulso.migration_log set outcome = 'interrupted' where outcome = 'running'", &[]).await?;
    }
    Ok(())
}

/// Notes that a step begins; returns the number of the entry.
pub async fn begin(client: &Client, pack: &str, step: &str, action: &str, checksum: Option<u64>) -> Result<i64> {
    let checksum = checksum.map(|checksum| checksum.to_string());
    let row = client
        .query_one(
            "insert into pulso.migration_log (pack, step, action, checksum, version) values ($1, $2, $3, $4, $5) returning id",
            &[&pack, &step, &action, &checksum, &env!("CARGO_PKG_VERSION")],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Notes how it ended.
pub async fn end(client: &Client, entry: i64, outcome: &str, message: Option<&str>) -> Result<()> {
    client
        .execute(
            "update pulso.migration_log set outcome = $2, message = $3, finished_at = clock_timestamp() where id = $1",
            &[&entry, &outcome, &message],
        )
        .await?;
    Ok(())
}

/// What the log says of a step's last application.
#[derive(Debug, Clone)]
pub struct Entry {
    pub on: String,
    pub by: String,
    pub ms: Option<i64>,
    pub checksum: Option<String>,
}

/// What each step came to last: `up` that is done, or an undo, which takes hold as soon as it begins.
const LAST: &str = "
  select distinct on (m.pack, m.step) m.*
    from pulso.migration_log m
   where m.outcome = 'done' or m.action = 'undo'
   order by m.pack, m.step, m.id desc";

/// Steps that are applied, by (pack, step).
pub async fn applied(client: &Client) -> Result<HashMap<(String, String), Entry>> {
    if !db::has(client, "pulso.migration_log").await? {
        return Ok(HashMap::new());
    }
    let sql = format!(
        "select l.pack, l.step, l.by_role, l.checksum,
                to_char(l.finished_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                (extract(epoch from l.finished_at - l.started_at) * 1000)::bigint
           from ({LAST}) as l
          where l.action = 'up'"
    );
    let rows = client.query(&sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let entry =
                Entry { by: row.try_get(2)?, checksum: row.try_get(3)?, on: row.try_get(4)?, ms: row.try_get(5)? };
            Ok(((row.try_get(0)?, row.try_get(1)?), entry))
        })
        .collect()
}

/// Steps whose undo has not come to its end: some of what they made may be there.
pub async fn half_undone(client: &Client) -> Result<HashSet<(String, String)>> {
    if !db::has(client, "pulso.migration_log").await? {
        return Ok(HashSet::new());
    }
    let sql = format!("select l.pack, l.step from ({LAST}) as l where l.action = 'undo' and l.outcome <> 'done'");
    client.query(&sql, &[]).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

//! Compares each rollup with its query, and says so where they differ.

use crate::db;
use crate::error::{Error, Kind, Result};
use std::fmt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// What a verification found.
#[derive(Debug, Default)]
pub struct Report {
    exact: u32,
    wrong: Vec<String>,
    none: bool,
}

impl Report {
    /// What is wrong, and the cure; `None` when nothing is.
    pub fn fault(&self) -> Option<String> {
        let cure = "`pulso rollup repair NAME` mends a rollup that differs";
        (!self.wrong.is_empty()).then(|| format!("{}; {cure}", self.wrong.join("; ")))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.none {
            return f.write_str("there are no rollups to verify");
        }
        write!(f, "{} rollups equal their queries, {} do not or could not be compared", self.exact, self.wrong.len())
    }
}

/// Verifies every rollup, on a connection of its own.
pub async fn rollups(url: &str) -> Result<String> {
    let client = db::connect(url).await?;
    client.batch_execute("set application_name = 'pulso verify'").await?;
    Ok(all(&client).await?.to_string())
}

/// Groups that differ are a fault of the engine, never of the shop: they go to the log as warnings too.
pub async fn all(client: &Client) -> Result<Report> {
    let rows = match client.query("select name::text from pulso.rollups where replaces is null order by 1", &[]).await {
        Ok(rows) => rows,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            return Ok(Report { none: true, ..Report::default() });
        }
        Err(error) => return Err(error.into()),
    };
    let mut report = Report::default();
    for row in rows {
        let name: String = row.try_get(0)?;
        match client.query_one("select pulso.verify($1)", &[&name]).await {
            Ok(row) => match row.try_get::<_, i64>(0)? {
                0 => report.exact += 1,
                groups => {
                    tracing::warn!(rollup = name, groups, "a rollup differs from its query");
                    report.wrong.push(format!("{name} differs from its query in {groups} groups"));
                }
            },
            Err(error) => {
                let error = Error::from(error);
                if error.kind() == Kind::Unavailable {
                    return Err(error);
                }
                tracing::warn!(rollup = name, %error, "a rollup cannot be verified");
                report.wrong.push(format!("{name} cannot be verified: {error}"));
            }
        }
    }
    Ok(report)
}

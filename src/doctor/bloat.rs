//! Room that tables and indexes take beyond what their rows need.
//!
//! It is estimated from the planner's statistics, as check_postgres and its kin do it: so many rows of such widths fit on a page
//! (PostgreSQL's manual, "Database Page Layout"), and what is there beyond that many pages is spare. Where extension
//! pgstattuple is in the database and may be asked, what the estimate suspects is measured: a table by
//! `pgstattuple_approx`, which skips pages that hold live rows only, an index by `pgstatindex`.

use super::{Finding, Report, Severity};
use crate::error::Result;
use tokio_postgres::Client;

pub const CHECK: &str = "bloat";
/// Measuring reads what it measures: the worst few are enough to act on.
const MOST: i64 = 20;

/// # Errors
///
/// If the server cannot be asked. What cannot be measured stays an estimate.
pub async fn check(client: &Client, min_bytes: i64, report: &mut Report) -> Result<()> {
    report.checks.push(CHECK);
    let schema = "select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pgstattuple'";
    let measure: Option<String> = match client.query_opt(schema, &[]).await? {
        Some(row) => Some(row.try_get(0)?),
        None => None,
    };
    for row in client.query(include_str!("../../sql/doctor/bloat.sql"), &[&min_bytes, &MOST]).await? {
        let (relation, is_index, bytes): (&str, bool, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let estimate: i64 = row.try_get(3)?;
        let measured = match &measure {
            Some(schema) => spare(client, schema, relation, is_index, bytes).await,
            None => None,
        };
        let spare = measured.unwrap_or(estimate);
        if spare <= min_bytes || spare <= bytes / 2 {
            continue;
        }
        let kind = if is_index { "index" } else { "table" };
        let how = if measured.is_some() { "measured" } else { "estimated from statistics" };
        report.findings.push(Finding {
            severity: Severity::Warning,
            check: CHECK,
            object: format!("{kind} {relation}"),
            finding: format!("it takes {}, of which {} are spare room ({how})", megabytes(bytes), megabytes(spare)),
            cure: match is_index {
                true => format!("reindex index concurrently {relation};"),
                false => format!(
                    "New rows use it again. To give it back: pg_repack or pg_squeeze beside the writers, or vacuum full {relation}, which locks it. If it comes back, look for what keeps vacuum away: old transactions, slots, autovacuum."
                ),
            },
        });
    }
    Ok(())
}

fn megabytes(bytes: i64) -> String {
    format!("{}.{} MB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576)
}

/// Bytes that are spare, measured; `None` where it may not be asked, takes too long, or is of a kind that it cannot read.
async fn spare(client: &Client, schema: &str, relation: &str, is_index: bool, bytes: i64) -> Option<i64> {
    let sql = match is_index {
        // Leaves are packed to 90 % when an index is built.
        true => format!(
            "select ((1 - least(s.avg_leaf_density / 90, 1)) * $2::bigint)::bigint from {schema}.pgstatindex($1::text::regclass) s"
        ),
        false => format!(
            "select s.approx_free_space + s.dead_tuple_len from {schema}.pgstattuple_approx($1::text::regclass) s where $2::bigint > 0"
        ),
    };
    client.query_one(&sql, &[&relation, &bytes]).await.ok()?.try_get(0).ok()
}

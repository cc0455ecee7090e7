//! `pulso doctor`: what is wrong or about to go wrong, each with its cure. It reads and changes nothing.
//!
//! A check is a query in `sql/doctor/` that returns its findings; its limits are settings `doctor.*` of the session.

mod bloat;
mod replicas;

use crate::db::{self, Server};
use crate::error::{Error, Kind, Result};
use crate::migrate;
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;
use tokio_postgres::Client;

/// Exit code when the worst is a warning.
const WARNING: u8 = 4;
/// Exit code when something is wrong.
const WRONG: u8 = 5;

#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing but notes; 4 warnings; 5 something is wrong; 3 the server cannot be reached."
)]
pub struct DoctorArgs {
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    limits: Limits,
}

/// Where a check begins to complain.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Oldest transaction
    #[arg(long, default_value = "5 minutes", value_name = "INTERVAL")]
    long_transaction: String,
    /// Longest idleness in a transaction
    #[arg(long, default_value = "1 minute", value_name = "INTERVAL")]
    idle_transaction: String,
    /// Oldest materialized view
    #[arg(long, default_value = "3 hours", value_name = "INTERVAL")]
    stale_view: String,
    /// How long ago a sale may be that is still changed: so far refresh policies of continuous aggregates should look back
    #[arg(long, default_value = "90 days", value_name = "INTERVAL")]
    late_change: String,
    /// How late a job may be
    #[arg(long, default_value = "15 minutes", value_name = "INTERVAL")]
    overdue_job: String,
    /// Changes of a rollup not folded yet
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pending: i64,
    /// WAL that a replication slot may keep, or a standby of PULSO_READ_URLS lack, in MB
    #[arg(long, default_value_t = 1024, value_name = "MB")]
    slot_wal: i64,
    /// Size from which an index that nobody reads is worth a note, in MB
    #[arg(long, default_value_t = 8, value_name = "MB")]
    unused_index: i64,
    /// Spare room of a table or an index, where it is more than half of it, in MB
    #[arg(long, default_value_t = 64, value_name = "MB")]
    bloat: i64,
    /// Dead rows of a table
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    dead_rows: i64,
    /// Connections in use, as a part of max_connections
    #[arg(long, default_value_t = 0.85, value_name = "PART")]
    connections: f64,
    /// Age of the oldest transaction id
    #[arg(long, default_value_t = 1_200_000_000, value_name = "N")]
    transaction_age: i64,
}

const CHECKS: [(&str, &str); 16] = [
    ("versions", include_str!("../../sql/doctor/versions.sql")),
    ("folding", include_str!("../../sql/doctor/folding.sql")),
    ("triggers", include_str!("../../sql/doctor/triggers.sql")),
    ("rollups", include_str!("../../sql/doctor/rollups.sql")),
    ("views", include_str!("../../sql/doctor/views.sql")),
    ("jobs", include_str!("../../sql/doctor/jobs.sql")),
    ("keys", include_str!("../../sql/doctor/keys.sql")),
    ("scope", include_str!("../../sql/doctor/scope.sql")),
    ("sessions", include_str!("../../sql/doctor/sessions.sql")),
    ("replication", include_str!("../../sql/doctor/replication.sql")),
    ("indexes", include_str!("../../sql/doctor/indexes.sql")),
    ("settings", include_str!("../../sql/doctor/settings.sql")),
    ("timescale", include_str!("../../sql/doctor/timescale.sql")),
    (AGGREGATES, include_str!("../../sql/doctor/aggregates.sql")),
    ("partitions", include_str!("../../sql/doctor/partitions.sql")),
    ("upkeep", include_str!("../../sql/doctor/upkeep.sql")),
];

/// The check that asks TimescaleDB's catalogs.
const AGGREGATES: &str = "aggregates";
/// Those that ask the extension, which other tiers do without.
const OF_THE_EXTENSION: [&str; 3] = ["folding", "triggers", "rollups"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Note,
    Warning,
    Wrong,
}

impl Severity {
    fn of(text: &str) -> Self {
        match text {
            "wrong" => Self::Wrong,
            "warning" => Self::Warning,
            _ => Self::Note,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

#[derive(Debug, Serialize)]
struct Finding {
    severity: Severity,
    check: &'static str,
    object: String,
    finding: String,
    cure: String,
}

#[derive(Debug, Serialize)]
struct Report {
    /// The worst severity; null when there is no finding.
    status: Option<Severity>,
    findings: Vec<Finding>,
    checks: Vec<&'static str>,
}

pub async fn run(server: &Server, args: DoctorArgs) -> Result<ExitCode> {
    let client = server.connect().await?;
    let report = examine(&client, server.read_urls(), &args.limits).await?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Error::failed(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    Ok(match report.status {
        Some(Severity::Wrong) => ExitCode::from(WRONG),
        Some(Severity::Warning) => ExitCode::from(WARNING),
        _ => ExitCode::SUCCESS,
    })
}

async fn examine(client: &Client, read_urls: &[String], limits: &Limits) -> Result<Report> {
    prepare(client, limits).await?;
    let mut report = Report { status: None, findings: Vec::new(), checks: Vec::new() };
    migrations(client, &mut report).await?;
    let timescale = db::has(client, "timescaledb_information.continuous_aggregates").await?;
    let plain = db::has(client, "pulso.plain_rollup").await?;
    for (name, sql) in CHECKS {
        if name == AGGREGATES && !timescale || plain && OF_THE_EXTENSION.contains(&name) {
            continue;
        }
        report.checks.push(name);
        match client.query(sql, &[]).await {
            Ok(rows) => {
                for row in rows {
                    report.findings.push(Finding {
                        severity: Severity::of(row.try_get("severity")?),
                        check: name,
                        object: row.try_get("object")?,
                        finding: row.try_get("finding")?,
                        cure: row.try_get("cure")?,
                    });
                }
            }
            Err(error) => report.cannot(name, Error::from(error))?,
        }
    }
    if let Err(error) = bloat::check(client, limits.bloat.saturating_mul(1024 * 1024), &mut report).await {
        report.cannot(bloat::CHECK, error)?;
    }
    let max_bytes = limits.slot_wal.unsigned_abs().saturating_mul(1024 * 1024);
    replicas::check(client, read_urls, max_bytes, &mut report).await?;
    report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report.status = report.findings.first().map(|finding| finding.severity);
    Ok(report)
}

async fn prepare(client: &Client, limits: &Limits) -> Result<()> {
    let settings: [(&str, &str, String); 11] = [
        ("long", "interval", limits.long_transaction.clone()),
        ("idle", "interval", limits.idle_transaction.clone()),
        ("stale", "interval", limits.stale_view.clone()),
        ("late", "interval", limits.late_change.clone()),
        ("overdue", "interval", limits.overdue_job.clone()),
        ("pending", "bigint", limits.pending.to_string()),
        ("wal", "bigint", limits.slot_wal.saturating_mul(1024 * 1024).to_string()),
        ("index", "bigint", limits.unused_index.saturating_mul(1024 * 1024).to_string()),
        ("dead", "bigint", limits.dead_rows.to_string()),
        ("connections", "numeric", limits.connections.to_string()),
        ("age", "bigint", limits.transaction_age.to_string()),
    ];
    client
        .batch_execute("set application_name = 'pulso doctor'; set default_transaction_read_only = on; set statement_timeout = '30s'")
        .await?;
    for (name, kind, value) in settings {
        // Cast once here, so that a limit that cannot be read is named.
        let sql = format!("select set_config('doctor.{name}', ($1::text::{kind})::text, false)");
        client.query_one(&sql, &[&value]).await.map_err(|error| {
            let cause = Error::from(error);
            Error::usage(format!("limit {value:?} cannot be read: {cause}"))
                .with_hint("Write intervals as Postgres does: '5 minutes', '2 hours', '1 day'.")
        })?;
    }
    Ok(())
}

async fn migrations(client: &Client, report: &mut Report) -> Result<()> {
    report.checks.push("migrations");
    let pending = migrate::pending(client).await?;
    if let Some(first) = pending.first() {
        report.findings.push(Finding {
            severity: Severity::Warning,
            check: "migrations",
            object: "database".to_owned(),
            finding: format!("{} steps of this version are pending, first {first}", pending.len()),
            cure: "`pulso migrate plan` shows what each locks; `pulso migrate up` applies them.".to_owned(),
        });
    }
    Ok(())
}

impl Report {
    /// A check that cannot be made is a finding; a server that is away ends them all.
    fn cannot(&mut self, check: &'static str, error: Error) -> Result<()> {
        if error.kind() == Kind::Unavailable {
            return Err(error);
        }
        self.findings.push(Finding {
            severity: Severity::Note,
            check,
            object: "this check".to_owned(),
            finding: format!("it cannot be made: {error}"),
            cure: "Migrate the database (`pulso migrate up`), or ask as a role that may look (pg_monitor).".to_owned(),
        });
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{:8} {}: {}", finding.severity.as_str(), finding.object, finding.finding);
            let _ = writeln!(text, "         cure: {}", finding.cure);
        }
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let _ = writeln!(
            text,
            "{} wrong, {} warnings, {} notes in {} checks",
            count(Severity::Wrong),
            count(Severity::Warning),
            count(Severity::Note),
            self.checks.len()
        );
        text
    }
}

//! Throughput of tickets (one sale, three lines, a hot store): no trigger, Pulso, and the usual upsert trigger.

use crate::Outcome;
use crate::report::{Report, median, percentile};
use crate::server;
use pulso::cluster::Cluster;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_postgres::Client;

const CLIENTS: [u32; 3] = [1, 8, 32];
const VARIANTS: [&str; 3] = ["none", "rollups", "upsert"];

/// How long a commit takes to return. Two milliseconds are those of an ordinary disk.
pub const COMMITS: [(&str, &[(&str, &str)]); 2] = [
    ("0 ms", &[("synchronous_commit", "off")]),
    ("2 ms", &[("synchronous_commit", "on"), ("commit_delay", "2000"), ("commit_siblings", "0")]),
];

#[derive(Debug, Clone, Copy)]
struct Run {
    per_second: f64,
    p99_ms: f64,
    cpu_us: f64,
}

pub async fn measure(report: &mut Report, seconds: u32, rounds: usize) -> Outcome<()> {
    for (commit, settings) in COMMITS {
        println!("\nTickets, commits that return in {commit}");
        let cluster = server::start(settings).await?;
        let shop = include_str!("../sql/shop.sql");
        let mut clients = Vec::new();
        for (variant, own) in
            VARIANTS.into_iter().zip(["", include_str!("../sql/pulso.sql"), include_str!("../sql/upsert.sql")])
        {
            clients.push(server::database(&cluster, variant, &[shop, own]).await?);
        }
        // The folding worker looks for databases every five seconds.
        wait_for_folder(&clients[1]).await?;
        for sellers in CLIENTS {
            let mut runs: Vec<Vec<Run>> = vec![Vec::new(); VARIANTS.len()];
            for _ in 0..rounds {
                for (variant, runs) in VARIANTS.into_iter().zip(&mut runs) {
                    runs.push(run(&cluster, variant, &clients, sellers, seconds).await?);
                }
            }
            record(report, commit, sellers, &runs);
        }
        for rollup in ["analytics.hourly", "analytics.daily", "analytics.products"] {
            let differences: i64 = clients[1].query_one("select pulso.verify($1)", &[&rollup]).await?.get(0);
            if differences != 0 {
                return Err(format!("{rollup} differs from its query by {differences} rows").into());
            }
        }
        let deadlocks = deadlocks(&clients[0], "rollups").await?;
        report.at_most(&format!("tickets, {commit}: deadlocks with Pulso"), deadlocks, "", 0.0);
        let deadlocks = self::deadlocks(&clients[0], "upsert").await?;
        report.inform(&format!("tickets, {commit}: deadlocks with the upsert trigger"), deadlocks, "");
        drop(clients);
        cluster.stop().await?;
    }
    Ok(())
}

pub async fn wait_for_folder(client: &Client) -> Outcome<()> {
    for _ in 0..100 {
        if client.query_one("select pulso.folder_running()", &[]).await?.get(0) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err("no folding worker has started: is pulso preloaded?".into())
}

async fn deadlocks(client: &Client, database: &str) -> Outcome<f64> {
    let found: i64 =
        client.query_one("select deadlocks from pg_stat_database where datname = $1", &[&database]).await?.get(0);
    Ok(found as f64)
}

/// What a run takes to warm up: connections are made, caches filled, and the folding worker finds that there is work.
const WARM_UP: u32 = 2;

/// One run of pgbench; what happens in the warm-up does not count.
async fn run(cluster: &Cluster, variant: &str, clients: &[Client], sellers: u32, seconds: u32) -> Outcome<Run> {
    let counter = &clients[VARIANTS.iter().position(|v| *v == variant).unwrap_or(0)];
    counter.batch_execute("checkpoint").await?;
    let logs = std::env::temp_dir().join(format!("pulso-bench-{}", std::process::id()));
    std::fs::create_dir_all(&logs)?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let pgbench = tokio::process::Command::new(cluster.bindir().join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--max-tries=100", "--log", "--log-prefix=ticket"])
        .args(["--file", concat!(env!("CARGO_MANIFEST_DIR"), "/sql/ticket.pgbench")])
        .args(["--client", &sellers.to_string(), "--jobs", &sellers.min(2).to_string()])
        .args(["--time", &(WARM_UP + seconds).to_string()])
        .arg(cluster.url_of(variant))
        .current_dir(&logs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    tokio::time::sleep(Duration::from_secs(WARM_UP.into())).await;
    let before = server::cpu_seconds(cluster);
    let output = pgbench.wait_with_output().await?;
    // Folding what is pending belongs to the work.
    if variant == "rollups" {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let cpu = server::cpu_seconds(cluster) - before;
    if !output.status.success() {
        return Err(format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let latencies = latencies(&logs, started + f64::from(WARM_UP))?;
    std::fs::remove_dir_all(&logs)?;
    let tickets = latencies.len() as f64;
    Ok(Run {
        per_second: tickets / f64::from(seconds),
        p99_ms: percentile(&latencies, 0.99) / 1000.0,
        cpu_us: cpu / tickets * 1e6,
    })
}

/// Latencies of the tickets that ended after a point in time, in microseconds, sorted, from pgbench's logs: a line
/// has client, number, latency, script, and when it ended, in seconds and microseconds.
pub fn latencies(logs: &Path, since: f64) -> Outcome<Vec<f64>> {
    let mut latencies = Vec::new();
    for entry in std::fs::read_dir(logs)? {
        let text = std::fs::read_to_string(entry?.path())?;
        latencies.extend(text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let ended = fields.get(4)?.parse::<f64>().ok()? + fields.get(5)?.parse::<f64>().ok()? / 1e6;
            if ended < since { None } else { fields.get(2)?.parse::<f64>().ok() }
        }));
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

fn record(report: &mut Report, commit: &str, sellers: u32, runs: &[Vec<Run>]) {
    let at = format!("tickets, {commit}, {sellers} clients");
    let all = |variant: usize, field: fn(&Run) -> f64| runs[variant].iter().map(field).collect::<Vec<_>>();
    for (number, variant) in VARIANTS.into_iter().enumerate() {
        report.inform(&format!("{at}: {variant}"), median(&all(number, |r| r.per_second)), "tickets/s");
        report.inform(&format!("{at}: {variant}, p99"), median(&all(number, |r| r.p99_ms)), "ms");
        report.inform(
            &format!("{at}: {variant}, processor time of the server"),
            median(&all(number, |r| r.cpu_us)),
            "µs/ticket",
        );
    }
    // Round by round, so that both sides of a ratio saw the same machine.
    let ratios = |over: usize| {
        let pairs = runs[1].iter().zip(&runs[over]).map(|(pulso, other)| pulso.per_second / other.per_second);
        median(&pairs.collect::<Vec<_>>())
    };
    let slow = commit == "2 ms";
    let (of_none, of_upsert) = (ratios(0), ratios(2));
    let (none, upsert) = (format!("{at}: Pulso against no trigger"), format!("{at}: Pulso against the upsert trigger"));
    if sellers == 1 {
        report.inform(&none, of_none, "times");
        report.inform(&upsert, of_upsert, "times");
    } else {
        report.at_least(&none, of_none, "times", if slow { 0.85 } else { 0.70 });
        report.at_least(&upsert, of_upsert, "times", if slow && sellers == 32 { 5.0 } else { 2.5 });
    }
}

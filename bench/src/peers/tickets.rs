//! Tickets while a dashboard reads and a probe asks how old its figures are.

use super::figures::{Figures, ticket};
use super::{PEERS, Peer, check, refresh};
use crate::report::percentile;
use crate::tickets::{COMMITS, latencies, wait_for_folder};
use crate::{Outcome, server};
use pulso::cluster::Cluster;
use pulso::db;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_postgres::Client;

pub const CLIENTS: [u32; 3] = [1, 8, 32];
const WARM_UP: u32 = 2;
const REFRESH_EVERY: Duration = Duration::from_secs(10);

pub async fn measure(figures: &mut Figures, commit: &str, seconds: u32, rounds: usize) -> Outcome<()> {
    let settings = COMMITS.iter().find(|(name, _)| *name == commit).map_or(&[][..], |(_, settings)| settings);
    println!("\nTickets beside peers, commits that return in {commit}");
    let cluster = server::start(settings).await?;
    let mut shops = Vec::new();
    for peer in PEERS {
        let client = peer.shop(&cluster).await.map_err(|error| format!("{}: {error}", peer.name()))?;
        shops.push((peer, client));
    }
    wait_for_folder(&shops[1].1).await?;
    for _ in 0..rounds {
        for clients in CLIENTS {
            for (peer, client) in &shops {
                run(figures, &cluster, *peer, client, commit, clients, seconds).await?;
            }
        }
    }
    for (peer, client) in &shops {
        check(*peer, client).await?;
    }
    drop(shops);
    Ok(cluster.stop().await?)
}

async fn run(
    figures: &mut Figures,
    cluster: &Cluster,
    peer: Peer,
    client: &Client,
    commit: &str,
    clients: u32,
    seconds: u32,
) -> Outcome<()> {
    client.batch_execute("checkpoint").await?;
    let deadlocks_before = deadlocks(client).await?;
    let logs = std::env::temp_dir().join(format!("pulso-bench-{}", std::process::id()));
    std::fs::create_dir_all(&logs)?;
    let url = cluster.url_of(peer.database());
    let stop = Arc::new(AtomicBool::new(false));
    let refresher = (peer == Peer::Refreshed).then(|| tokio::spawn(refresh_on(url.clone(), Arc::clone(&stop))));
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let pgbench = tokio::process::Command::new(cluster.bindir().join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--max-tries=100", "--log", "--log-prefix=ticket"])
        .args(["--file", concat!(env!("CARGO_MANIFEST_DIR"), "/sql/peers/ticket.pgbench")])
        .args(["--client", &clients.to_string(), "--jobs", &clients.min(2).to_string()])
        .args(["--time", &(WARM_UP + seconds).to_string()])
        .arg(&url)
        .current_dir(&logs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    tokio::time::sleep(Duration::from_secs(WARM_UP.into())).await;
    let before = server::cpu_seconds(cluster);
    let watches = peer != Peer::None;
    let reader = watches.then(|| tokio::spawn(read_on(url.clone(), Arc::clone(&stop))));
    let probe = watches.then(|| tokio::spawn(probe_on(url.clone(), Arc::clone(&stop))));
    let output = pgbench.wait_with_output().await?;
    stop.store(true, Ordering::Relaxed);
    if peer == Peer::Pulso {
        // Folding what is pending belongs to the work.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let cpu = server::cpu_seconds(cluster) - before;
    if !output.status.success() {
        return Err(format!("{}: pgbench: {}", peer.name(), String::from_utf8_lossy(&output.stderr)).into());
    }
    let latencies = latencies(&logs, started + f64::from(WARM_UP))?;
    std::fs::remove_dir_all(&logs)?;
    let mut add = |figure: &str, value: f64| figures.add(ticket(commit, clients, peer, figure), value);
    add("per_second", latencies.len() as f64 / f64::from(seconds));
    add("p50", percentile(&latencies, 0.5) / 1000.0);
    add("p99", percentile(&latencies, 0.99) / 1000.0);
    add("cpu", cpu / latencies.len() as f64 * 1e6);
    if let Some(reader) = reader {
        let reads = reader.await?.map_err(|error| format!("{}: a reader: {error}", peer.name()))?;
        add("read_p50", percentile(&reads, 0.5));
        add("read_p99", percentile(&reads, 0.99));
    }
    if let Some(probe) = probe {
        add("stale", probe.await?.map_err(|error| format!("{}: the probe: {error}", peer.name()))?);
    }
    add("deadlocks", (deadlocks(client).await? - deadlocks_before) as f64);
    add("failed", failed(&String::from_utf8_lossy(&output.stdout)));
    if let Some(refresher) = refresher {
        refresher.await?.map_err(|error| format!("a refresh: {error}"))?;
    }
    Ok(())
}

/// Tickets that failed for good, as pgbench counts them.
fn failed(output: &str) -> f64 {
    let line = output.lines().find_map(|line| line.strip_prefix("number of failed transactions: "));
    line.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Statistics are reported when a session ends; the figure is of what has been.
async fn deadlocks(client: &Client) -> Outcome<i64> {
    let sql = "select deadlocks from pg_stat_database where datname = current_database()";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

type Errand<T> = Result<T, String>;

async fn refresh_on(url: String, stop: Arc<AtomicBool>) -> Errand<()> {
    let client = db::connect(&url).await.map_err(|error| error.to_string())?;
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= due {
            due += REFRESH_EVERY;
            client.batch_execute(&refresh()).await.map_err(|error| format!("{error:?}"))?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The busiest store's hour and day, in turn, 50 times a second; milliseconds of each, sorted.
async fn read_on(url: String, stop: Arc<AtomicBool>) -> Errand<Vec<f64>> {
    let failed = |error: tokio_postgres::Error| format!("{error:?}");
    let client = db::connect(&url).await.map_err(|error| error.to_string())?;
    let hour = client
        .prepare("select n, total from analytics.hourly where store_id = 1 and hour = date_trunc('hour', now() at time zone 'America/Caracas')")
        .await
        .map_err(failed)?;
    let day = client
        .prepare("select lines, units, revenue from analytics.store_days where store_id = 1 and day = (now() at time zone 'America/Caracas')::date")
        .await
        .map_err(failed)?;
    let mut times = Vec::new();
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        client.query(if turn % 2 == 0 { &hour } else { &day }, &[]).await.map_err(failed)?;
        // The first ones are planned.
        if turn >= 20 {
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Sells in a store of its own, and asks until the hour shows it: the longest time that took, in seconds. 0 where the
/// first answer after the commit had it.
async fn probe_on(url: String, stop: Arc<AtomicBool>) -> Errand<f64> {
    let failed = |error: tokio_postgres::Error| format!("{error:?}");
    let client = db::connect(&url).await.map_err(|error| error.to_string())?;
    let mut longest: f64 = 0.0;
    while !stop.load(Ordering::Relaxed) {
        let store = rand::random_range(1_000..1_000_000_000);
        let sale = "insert into public.sales (store_id, status, sold_at, totals) values ($1, 'completed', now(), '{\"total\": 1}')";
        client.execute(sale, &[&store]).await.map_err(failed)?;
        let sold = Instant::now();
        let mut is_first = true;
        while client
            .query_opt("select from analytics.hourly where store_id = $1", &[&store])
            .await
            .map_err(failed)?
            .is_none()
        {
            is_first = false;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if !is_first {
            longest = longest.max(sold.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(longest)
}

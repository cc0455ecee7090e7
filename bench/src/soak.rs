//! A snapshot that stays open while tickets come: what reads cost at its end, in it and in new ones, and what becomes of
//! the size of Pulso's tables.

use crate::peers::{Peer, check};
use crate::report::{Report, percentile};
use crate::tickets::wait_for_folder;
use crate::{Outcome, server};
use pulso::cluster::Cluster;
use pulso::db;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Child;
use tokio_postgres::Client;

/// How tickets are sold where nothing else is said.
const AS_EVER: [&str; 2] = ["--rate=500", "--client=8"];
/// How long they are sold so before reads are timed, where it was otherwise.
const SETTLED: Duration = Duration::from_secs(10);
const READS: usize = 3000;
/// Of reads that have become slow there are fewer.
const READ_FOR: Duration = Duration::from_secs(30);
/// How long autovacuum, which looks every five seconds here, gets to clear up after the snapshot.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// Tickets at 500 a second for so long.
pub async fn by_time(report: &mut Report, seconds: u32) -> Outcome<()> {
    println!("\nSoak: {seconds} s of tickets at 500 a second under one snapshot");
    soak(report, &format!("soak of {seconds} s"), &[], &AS_EVER, |begun, _| begun.elapsed().as_secs() >= seconds.into())
        .await
}

/// So many looks of the folder, a millisecond apart, each with something to fold: no more tickets than that takes. Then tickets at 500
/// a second, and looks as far apart as ever.
pub async fn by_ticks(report: &mut Report, ticks: i64) -> Outcome<()> {
    println!("\nSoak: {ticks} ticks of the folder under one snapshot");
    let haste = [("pulso.fold_interval", "1ms"), ("pulso.feed_interval", "0")];
    let limit = Duration::from_secs(1200);
    soak(report, &format!("soak of {ticks} ticks"), &haste, &["--rate=1000", "--client=2"], |begun, done| {
        done >= ticks || begun.elapsed() > limit
    })
    .await
}

/// Tickets are sold as `pgbench` says until `is_over`. With `haste`, settings for as long, reads are timed both so and as ever after that.
async fn soak(
    report: &mut Report,
    name: &str,
    haste: &[(&str, &str)],
    pgbench: &[&str],
    is_over: impl Fn(Instant, i64) -> bool,
) -> Outcome<()> {
    let cluster = server::start(&[("synchronous_commit", "off"), ("autovacuum_naptime", "5s")]).await?;
    let client = Peer::Pulso.shop(&cluster).await?;
    wait_for_folder(&client).await?;
    let old = db::connect(&cluster.url_of(Peer::Pulso.database())).await?;
    old.batch_execute("begin isolation level repeatable read").await?;
    check(Peer::Pulso, &old).await?;
    let (size_before, ticks_before) = (size(&client).await?, ticks(&client).await?);

    for (setting, value) in haste {
        client.batch_execute(&format!("alter system set {setting} = '{value}'")).await?;
    }
    client.batch_execute("select pg_reload_conf()").await?;
    let mut sellers = sell(&cluster, pgbench)?;
    let begun = Instant::now();
    let mut largest = size_before;
    let mut ticks_done = 0;
    while !is_over(begun, ticks_done) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ticks_done = ticks(&client).await? - ticks_before;
        largest = largest.max(size(&client).await?);
        if let Some(status) = sellers.try_wait()? {
            return Err(format!("pgbench ended early: {status}").into());
        }
    }
    // While they sell on: what is pending belongs to what a read costs.
    let reader = db::connect(&cluster.url_of(Peer::Pulso.database())).await?;
    if !haste.is_empty() {
        Times::of(&reader).await?.report(report, &format!("{name}: read in haste, new snapshot"));
        Times::of(&old).await?.report(report, &format!("{name}: read in haste, old snapshot"));
        // pgbench is this process's own child.
        sellers.kill().await?;
        client.batch_execute("alter system reset all").await?;
        client.batch_execute("select pg_reload_conf()").await?;
        sellers = sell(&cluster, &AS_EVER)?;
        tokio::time::sleep(SETTLED).await;
    }
    let fresh = Times::of(&reader).await?;
    let stale = Times::of(&old).await?;
    // pgbench is this process's own child.
    sellers.kill().await?;
    let sold: i64 = client.query_one("select count(*) from sales", &[]).await?.get(0);
    check(Peer::Pulso, &old).await?;
    check(Peer::Pulso, &client).await?;
    report.inform(&format!("{name}: ticks of the folder"), ticks_done as f64, "");
    report.inform(&format!("{name}: sales in the end"), sold as f64, "");
    fresh.report(report, &format!("{name}: read in a new snapshot"));
    stale.report(report, &format!("{name}: read in the old snapshot"));
    let megabytes = |bytes: i64| bytes as f64 / 1e6;
    report.inform(&format!("{name}: Pulso's tables before"), megabytes(size_before), "MB");
    report.inform(&format!("{name}: Pulso's tables at most"), megabytes(largest), "MB");

    old.batch_execute("commit").await?;
    client.batch_execute("select pulso.fold()").await?;
    report.inform(&format!("{name}: longest read of those {} s", AFTERWARDS.as_secs()), longest(&reader).await?, "ms");
    report.inform(
        &format!("{name}: Pulso's tables {} s after it", AFTERWARDS.as_secs()),
        megabytes(size(&client).await?),
        "MB",
    );
    let quiet = Times::of(&reader).await?;
    quiet.report(report, &format!("{name}: read after it"));
    check(Peer::Pulso, &client).await?;
    drop((client, old, reader));
    Ok(cluster.stop().await?)
}

/// Sells until it is killed.
fn sell(cluster: &Cluster, pgbench: &[&str]) -> Outcome<Child> {
    Ok(tokio::process::Command::new(cluster.bindir().join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--time=3600"])
        .args(["--file", concat!(env!("CARGO_MANIFEST_DIR"), "/sql/peers/ticket.pgbench")])
        .args(pgbench)
        .arg(cluster.url_of(Peer::Pulso.database()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?)
}

/// Generations begun: one for each look of a folder that found something.
async fn ticks(client: &Client) -> Outcome<i64> {
    Ok(client.query_one("select last_value from pulso.generation", &[]).await?.get(0))
}

/// Bytes of all tables of the engine, with their indexes.
async fn size(client: &Client) -> Outcome<i64> {
    let sql = "select sum(pg_total_relation_size(oid))::bigint from pg_class where relnamespace = 'pulso'::regnamespace and relkind = 'r'";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Milliseconds of the longest of many reads, while tables are made small again.
async fn longest(client: &Client) -> Outcome<f64> {
    let until = Instant::now() + AFTERWARDS;
    let mut longest = Duration::ZERO;
    while Instant::now() < until {
        let begun = Instant::now();
        client.query("select lines, units, revenue from analytics.store_days where store_id = 1", &[]).await?;
        longest = longest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(longest.as_secs_f64() * 1000.0)
}

/// Milliseconds of reads, sorted.
#[derive(Default)]
struct Times {
    /// Of the busiest store's hour and day, in turn.
    rollups: Vec<f64>,
    /// Of a row of a small table by its key, between them: what any read costs on this machine.
    floor: Vec<f64>,
}

impl Times {
    async fn of(client: &Client) -> Outcome<Self> {
        let hour = client.prepare("select n, total from analytics.hourly where store_id = 1 and hour = date_trunc('hour', now() at time zone 'America/Caracas')").await?;
        let day = client.prepare("select lines, units, revenue from analytics.store_days where store_id = 1 and day = (now() at time zone 'America/Caracas')::date").await?;
        let floor = client.prepare("select name from stores where id = 1").await?;
        let mut times = Self::default();
        let until = Instant::now() + READ_FOR;
        for turn in 0..2 * READS + 40 {
            let begun = Instant::now();
            if begun > until && turn > 80 {
                break;
            }
            let statement = [&floor, &hour, &floor, &day][turn % 4];
            client.query(statement, &[]).await?;
            if turn >= 40 {
                let kept = if turn % 2 == 0 { &mut times.floor } else { &mut times.rollups };
                kept.push(begun.elapsed().as_secs_f64() * 1000.0);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.rollups.sort_by(f64::total_cmp);
        times.floor.sort_by(f64::total_cmp);
        Ok(times)
    }

    fn report(&self, report: &mut Report, name: &str) {
        report.inform(&format!("{name}, median"), percentile(&self.rollups, 0.5), "ms");
        report.at_most(&format!("{name}, p99"), percentile(&self.rollups, 0.99), "ms", 1.0);
        report.inform(&format!("{name}: a row by its key, median"), percentile(&self.floor, 0.5), "ms");
        report.inform(&format!("{name}: a row by its key, p99"), percentile(&self.floor, 0.99), "ms");
    }
}

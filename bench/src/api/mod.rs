//! The dashboard over HTTP, cached and read through, beside the stack that the shops had planned: Node, Fastify, Redis and pg
//! (`bench/peers/node`), with the load on the same cores: over the same database, and over one that counts.

pub mod floor;
mod load;
pub mod served;

use crate::report::Report;
use crate::{Outcome, dashboard, server};
use load::{Figures, flat_out, paced};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pulso::cluster::Cluster;
use pulso::db;
use served::Served;
use std::time::Duration;

const CONNECTIONS: [u32; 3] = [50, 1000, 5000];
/// How an answer is asked for: through what is kept, or past it.
const WAYS: [(&str, &str); 2] = [("cached", ""), ("uncached", "no-cache")];
const DAYS: i32 = 7;
/// A database with the same sales whose rollups run their queries: figures are counted when they are asked for, as without Pulso.
const PLANNED: &str = "planned";
/// Each of 5,000 connections, on both sides, and what else is open.
const FILES: u64 = 16_384;

pub async fn measure(report: &mut Report, sales: u32, seconds: u32) -> Outcome<()> {
    println!("\nHTTP: dashboards over {sales} sales");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < FILES {
        setrlimit(Resource::RLIMIT_NOFILE, FILES.min(hard), hard)?;
        if hard < FILES {
            return Err(format!("{FILES} open files are needed, this shell may have {hard} (ulimit -Hn)").into());
        }
    }
    let cluster = server::start(&[("synchronous_commit", "off")]).await?;
    let mut client = db::connect(cluster.url()).await?;
    pulso::migrate::up(&mut client).await?;
    dashboard::fill(&client, sales).await?;
    client.execute("select pulso.fold()", &[]).await?;
    client.batch_execute("vacuum analyze").await?;
    let mut planned = server::database(&cluster, PLANNED, &[]).await?;
    pulso::migrate::up(&mut planned).await?;
    dashboard::fill(&planned, sales).await?;
    planned.batch_execute("update pulso.state set live = false, reason = 'counted, for comparison'").await?;
    planned.batch_execute("vacuum analyze").await?;
    let sql = "select '/v1/stores/' || s.id || '/dashboard?date=' || current_date - d from stores s, generate_series(1, $1) d order by d, s.id";
    let paths: Vec<String> = client.query(sql, &[&DAYS]).await?.iter().map(|row| row.get(0)).collect();

    // Through the same door, since Node's driver has no other.
    let url = cluster.tcp_url();
    let redis = Served::redis().await?;
    let pulso = Served::pulso(&url).await?;
    let cache = format!("redis://{}", redis.address);
    let node = Served::node(&url, &cache).await?;
    let (server, _) = url.rsplit_once('/').unwrap_or_default();
    let counting = Served::node(&format!("{server}/{PLANNED}"), &cache).await?;
    let (alone, pair, counts) = ([&pulso], [&node, &redis], [&counting]);
    let sides =
        [Side { name: "Pulso", front: &pulso, all: &alone }, Side { name: "Node + Redis", front: &node, all: &pair }];
    let tables = Side { name: "Node over the shop's tables", front: &counting, all: &counts };
    same_answers([&sides[0], &sides[1], &tables], &paths).await?;
    kept(&pulso, &paths[0]).await?;
    for side in &sides {
        report.inform(&format!("api, {}: memory at the start", side.name), side.memory().0, "MB");
    }

    let mut capacity = Vec::new();
    for (way, control) in WAYS {
        for connections in CONNECTIONS {
            let (mut rates, mut costs) = (Vec::new(), Vec::new());
            let load = Load { control, paths: &paths, connections, seconds };
            for side in &sides {
                let at = format!("api, {way}, {connections} connections, {}", side.name);
                let target = match (side.name, connections, way) {
                    ("Pulso", 50, "cached") => Some(20_000.0),
                    ("Pulso", 50, "uncached") => Some(5_000.0),
                    _ => None,
                };
                let (rate, cost) = run(report, &cluster, side, &at, &load, target).await?;
                rates.push(rate);
                costs.push(cost);
            }
            let at = format!("api, {way}, {connections} connections");
            report.at_least(&format!("{at}: Pulso against Node + Redis"), rates[0] / rates[1], "times", 3.0);
            report.inform(
                &format!("{at}: processor time of Node + Redis against Pulso's"),
                costs[1] / costs[0],
                "times",
            );
            if (way, connections) == ("uncached", 50) {
                let (rate, _) = run(report, &cluster, &tables, &format!("{at}, {}", tables.name), &load, None).await?;
                report.at_least(&format!("{at}: Pulso against {}", tables.name), rates[0] / rate, "times", 3.0);
            }
            if connections == 5000 {
                capacity.extend(rates);
            }
        }
    }
    // What any service could do beside this load on these cores.
    let bare = Served::floor(&pulso.answer(&paths[0], "").await?).await?;
    let all = [&bare];
    let floor = Side { name: "hyper alone", front: &bare, all: &all };
    let load = Load { control: "", paths: &paths, connections: 50, seconds };
    run(report, &cluster, &floor, "api, cached, 50 connections, hyper alone", &load, None).await?;
    bare.stop().await?;
    // Each path once in turn is the hardest; a chain's people rather ask for the same few at the same time.
    for side in &sides {
        let at = format!("api, uncached, 50 connections for one dashboard, {}", side.name);
        let load = Load { control: "no-cache", paths: &paths[..1], connections: 50, seconds };
        run(report, &cluster, side, &at, &load, None).await?;
    }
    let most = CONNECTIONS[2];
    let mut capacity = capacity.into_iter();
    for (way, control) in WAYS {
        for side in &sides {
            let rate = capacity.next().unwrap_or_default() / 2.0;
            let figures = paced(side.front, control, &paths, most, rate, seconds).await?;
            let at = format!("api, {way}, {most} connections at half capacity, {}", side.name);
            report.inform(&at, figures.per_second, "requests/s");
            report.inform(&format!("{at}: p50"), figures.p50_ms, "ms");
            if side.name == "Pulso" {
                report.at_most(&format!("{at}: p99"), figures.p99_ms, "ms", 150.0);
                report.at_most(&format!("{at}: errors"), figures.errors as f64, "", 0.0);
            } else {
                report.inform(&format!("{at}: p99"), figures.p99_ms, "ms");
                report.inform(&format!("{at}: errors"), figures.errors as f64, "");
            }
        }
    }
    report.at_most("api, Pulso: memory at most", pulso.memory().1, "MB", 100.0);
    report.inform("api, Node + Redis: memory at most", sides[1].memory().1, "MB");
    for served in [pulso, node, counting, redis] {
        served.stop().await?;
    }
    drop((client, planned));
    Ok(cluster.stop().await?)
}

/// One of those that are compared: what is asked, and all its processes.
struct Side<'a> {
    name: &'a str,
    front: &'a Served,
    all: &'a [&'a Served],
}

impl Side<'_> {
    fn cpu_seconds(&self) -> f64 {
        self.all.iter().map(|served| served.cpu_seconds()).sum()
    }

    fn memory(&self) -> (f64, f64) {
        self.all.iter().map(|served| served.memory()).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

struct Load<'a> {
    control: &'a str,
    paths: &'a [String],
    connections: u32,
    seconds: u32,
}

/// As much as goes, after a second that does not count. Requests a second, and microseconds of processor time that each took of
/// the service: where the load runs on the same cores, that says more of it than the rate.
async fn run(
    report: &mut Report,
    cluster: &Cluster,
    side: &Side<'_>,
    at: &str,
    load: &Load<'_>,
    target: Option<f64>,
) -> Outcome<(f64, f64)> {
    let Load { control, paths, connections, seconds } = *load;
    flat_out(side.front, control, paths, connections, 1).await?;
    let before = (side.cpu_seconds(), server::cpu_seconds(cluster));
    let figures = flat_out(side.front, control, paths, connections, seconds).await?;
    let each = |seconds: f64| seconds * 1e6 / figures.requests;
    let (service, database) = (each(side.cpu_seconds() - before.0), each(server::cpu_seconds(cluster) - before.1));
    match target {
        Some(target) => report.at_least(at, figures.per_second, "requests/s", target),
        None => report.inform(at, figures.per_second, "requests/s"),
    }
    latencies(report, at, &figures);
    match side.name {
        "Pulso" => report.at_most(&format!("{at}: errors"), figures.errors as f64, "", 0.0),
        _ => report.inform(&format!("{at}: errors"), figures.errors as f64, ""),
    }
    report.inform(&format!("{at}: processor time of a request"), service, "µs");
    if !control.is_empty() {
        report.inform(&format!("{at}: the database's"), database, "µs");
    }
    report.inform(&format!("{at}: the load's"), figures.load_us, "µs");
    Ok((figures.per_second, service))
}

fn latencies(report: &mut Report, at: &str, figures: &Figures) {
    for (name, value) in [("p50", figures.p50_ms), ("p95", figures.p95_ms), ("p99", figures.p99_ms)] {
        report.inform(&format!("{at}: {name}"), value, "ms");
    }
}

/// A peer that is wrong is not compared. Past the cache, which two of them share.
async fn same_answers(sides: [&Side<'_>; 3], paths: &[String]) -> Outcome<()> {
    for path in paths.iter().take(20) {
        let mut told = Vec::new();
        for side in sides {
            let (head, body) = side.front.ask(path, "cache-control: no-cache\r\n").await?;
            if !head.starts_with("HTTP/1.1 200") {
                return Err(format!("{path}: {head}").into());
            }
            // Counts are numbers here and text there.
            let count = body["sales_count"].to_string().replace('"', "");
            told.push((body["net_usd"].clone(), count, body["hourly"].clone(), body["payment_mix"].clone()));
        }
        if told[0] != told[1] || told[0] != told[2] {
            return Err(format!("{path} is answered differently: {told:?}").into());
        }
    }
    Ok(())
}

/// Waits until answers are kept: the feed has to be connected for that.
async fn kept(pulso: &Served, path: &str) -> Outcome<()> {
    for _ in 0..150 {
        if pulso.ask(path, "").await?.0.contains("x-pulso-cache: hit") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err("Pulso keeps no answers: no change feed?".into())
}

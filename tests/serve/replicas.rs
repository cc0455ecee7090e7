//! Figures read from a real streaming standby: only while it has what is asked of it.

use crate::client::{Answer, Client};
use crate::common::standby::Standby;
use crate::common::{Db, Pauses};
use crate::pooler::{Bouncer, programs};
use crate::redis::Redis;
use crate::shop::{self, DAY, GROCERY};
use axum::body::Body;
use axum::http::Request;
use pulso::cluster::{Cluster, Options};
use pulso::serve::{AppState, Settings, feed, replicas};
use serde_json::Value;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

static PRIMARY: OnceCell<Cluster> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A database with two shops, and its standby.
struct Pair {
    db: Db,
    sql: tokio_postgres::Client,
    standby: Standby,
    stop: CancellationToken,
}

impl Pair {
    async fn open() -> Self {
        // Each copy begins with a checkpoint, which would drop what another test's standby has yet to fetch.
        let options = Options::temporary().set("wal_keep_size", "1GB");
        let primary = PRIMARY.get_or_init(async || Cluster::start(&options).await.expect("a server")).await;
        let db = Db::empty_in(primary).await.migrate().await;
        let sql = db.connect().await;
        shop::open(&sql).await;
        let standby = tokio::task::block_in_place(|| Standby::of(primary, ""));
        Self { db, sql, standby, stop: CancellationToken::new() }
    }

    /// A service that reads from the standby.
    async fn service(&self) -> Service {
        let urls = vec![self.standby.url_of(&self.db.name)];
        let settings =
            Settings { replicas: replicas::Settings { urls, ..replicas::Settings::default() }, ..Settings::default() };
        let state = AppState::with(self.db.url(), settings).unwrap();
        state.follow(self.db.url(), feed::CHANNEL, self.stop.clone());
        let service = Service { http: Client::over(state), name: self.standby.name() };
        service.reads_the_standby().await;
        service
    }

    /// Sells one ticket of the day; a position that holds it.
    async fn sell(&self) -> String {
        let number = format!("r{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let sale = "insert into public.sales (store_id, number, sold_at, rate, totals) values ($1::text::uuid, $2, '2026-07-30 15:00-04', 40, '{\"gross_usd\": 1}')";
        self.sql.execute(sale, &[&GROCERY, &number]).await.unwrap();
        self.sql.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0)
    }

    async fn on_standby(&self, sql: &str) {
        let client = pulso::db::connect(&self.standby.url_of(&self.db.name)).await.unwrap();
        client.batch_execute(sql).await.unwrap();
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Service {
    http: Client,
    name: String,
}

impl Service {
    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.http.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sales of the shop's day as the dashboard tells them, which is kept.
    async fn count(&self, headers: &[(&str, &str)]) -> i64 {
        let answer = self.ask(&format!("/v1/stores/{GROCERY}/dashboard?date={DAY}"), headers).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()["sales_count"].as_i64().unwrap()
    }

    /// The same by a route whose answers are not kept.
    async fn recount(&self, headers: &[(&str, &str)]) -> i64 {
        let answer = self.ask(&format!("/v1/chain?from={DAY}&to={DAY}"), headers).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let stores = answer.json()["stores"].as_array().unwrap().clone();
        stores.iter().find(|store| store["store_id"] == GROCERY).unwrap()["sales_count"].as_i64().unwrap()
    }

    async fn metric(&self, line: &str) -> f64 {
        let text = String::from_utf8(self.http.get("/metrics").await.body).unwrap();
        let found = text.lines().find_map(|one| one.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or(0.0)
    }

    /// Statements that the standby has answered.
    async fn by_standby(&self) -> f64 {
        self.metric(&format!("pulso_statements_total{{target=\"{}\"}}", self.name)).await
    }

    async fn fell_back(&self, cause: &str) -> f64 {
        self.metric(&format!("pulso_replica_fallbacks_total{{cause=\"{cause}\"}}")).await
    }

    async fn up(&self) -> bool {
        self.metric(&format!("pulso_replica_up{{replica=\"{}\"}}", self.name)).await == 1.0
    }

    /// Waits until the standby is read.
    async fn reads_the_standby(&self) {
        let before = self.by_standby().await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.by_standby().await == before {
            if Instant::now() >= deadline {
                let text = String::from_utf8(self.http.get("/metrics").await.body).unwrap();
                let lines: Vec<&str> = text.lines().filter(|line| line.contains("pulso_replica_")).collect();
                panic!("the standby is not read: {lines:#?}");
            }
            self.recount(&[]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_read_only_while_it_has_what_is_asked_for() {
    let pair = Pair::open().await;
    let service = pair.service().await;
    // Most reads go there, and what they hold can be asked for.
    let before = service.by_standby().await;
    for _ in 0..20 {
        assert_eq!(service.recount(&[]).await, 3);
    }
    let read = service.by_standby().await - before;
    assert!(read >= 20.0, "{read} statements of 40 went to the standby");
    let answer = service.ask("/v1/stores", &[]).await;
    let held = answer.header("pulso-lsn").to_owned();
    assert_eq!(service.ask("/v1/stores", &[("pulso-after-lsn", &held)]).await.status, 200, "{held}");

    // It stands still: whoever asks for a sale gets it, from the primary.
    pair.on_standby("select pg_wal_replay_pause()").await;
    let token = pair.sell().await;
    for _ in 0..5 {
        assert_eq!(service.count(&[("pulso-after-lsn", &token)]).await, 4);
        assert_eq!(service.recount(&[("pulso-after-lsn", &token)]).await, 4);
        assert_eq!(service.recount(&[("cache-control", "no-cache")]).await, 4);
    }
    // What was announced, and what is older than the bound on lag, is in every answer.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let before = service.by_standby().await;
    for _ in 0..5 {
        assert_eq!(service.recount(&[]).await, 4);
        assert_eq!(service.count(&[]).await, 4);
    }
    assert_eq!(service.by_standby().await, before, "a standby too far behind is not read");
    assert!(service.fell_back("behind").await > 0.0);
    let lag = service.metric(&format!("pulso_replica_lag_seconds{{replica=\"{}\"}}", service.name)).await;
    assert!(lag > 1.0, "{lag}");

    // It goes on, and is read again, also by whoever asks for the sale.
    pair.on_standby("select pg_wal_replay_resume()").await;
    service.reads_the_standby().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let before = service.by_standby().await;
    while service.by_standby().await < before + 10.0 {
        assert!(Instant::now() < deadline, "a token keeps every read away from the standby");
        assert_eq!(service.recount(&[("pulso-after-lsn", &token)]).await, 4);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!pair.standby.log().contains("cannot execute"), "a write was sent to the standby");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_that_mean_nothing_are_refused() {
    let pair = Pair::open().await;
    let service = pair.service().await;
    for bad in ["", "nonsense", "0/", "0/123456789", "FFFFFFFF/FFFFFFFF", "10000/0"] {
        let answer = service.ask("/v1/stores", &[("pulso-after-lsn", bad)]).await;
        assert_eq!((answer.status.as_u16(), answer.fields()), (400, vec!["Pulso-After-Lsn".to_owned()]), "{bad}");
    }
    let twice = service.ask("/v1/stores", &[("pulso-after-lsn", "0/1"), ("pulso-after-lsn", "0/1")]).await;
    assert_eq!((twice.status.as_u16(), twice.fields()), (400, vec!["Pulso-After-Lsn".to_owned()]));
    // In a batch it is asked of all, and told of all.
    let token = pair.sell().await;
    let path = format!("/v1/stores/{GROCERY}/dashboard?date={DAY}&fields=sales_count");
    let body = serde_json::json!({"requests": [{"path": path}, {"path": "/v1/stores"}]}).to_string();
    let request = Request::post("/v1/batch").header("pulso-after-lsn", &token).body(Body::from(body)).unwrap();
    let answer = service.http.send(request).await;
    assert_eq!(answer.json()["responses"][0]["body"]["sales_count"], 4);
    assert!(!answer.header("pulso-lsn").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_killed_or_promoted_is_noticed_by_nobody() {
    let pair = Pair::open().await;
    let service = Arc::new(pair.service().await);
    let going = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (service, going, asked) = (Arc::clone(&service), Arc::clone(&going), Arc::clone(&asked));
            tokio::spawn(async move {
                while going.load(Ordering::Relaxed) {
                    assert_eq!(service.recount(&[]).await, 3);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::task::block_in_place(|| pair.standby.kill());
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(!service.up().await);
        tokio::task::block_in_place(|| pair.standby.start());
        service.reads_the_standby().await;
    }
    assert!(service.fell_back("away").await > 0.0);

    tokio::task::block_in_place(|| pair.standby.promote());
    let deadline = Instant::now() + Duration::from_secs(10);
    while service.up().await {
        assert!(Instant::now() < deadline, "a promotion goes unnoticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It goes on as a server of its own, whose sales are nobody's.
    pair.on_standby("delete from public.sales").await;
    let (before, so_far) = (service.by_standby().await, asked.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(service.by_standby().await, before, "a promoted standby is read");
    going.store(false, Ordering::Relaxed);
    for client in clients {
        client.await.expect("every answer is right");
    }
    assert!(asked.load(Ordering::Relaxed) > so_far);
    assert!(service.fell_back("promoted").await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_and_a_standby_that_stumbles_never_give_less_than_was_asked_for() {
    // The feed itself takes some milliseconds; the rest is for a machine that does other things too.
    const BOUND: Duration = Duration::from_secs(2);
    let pauses = Pauses::watch();
    let pair = Pair::open().await;
    let services = [pair.service().await, pair.service().await];
    let path = format!("/v1/stores/{GROCERY}/dashboard?date={DAY}");
    let mut hits = 0;
    for number in 1..=60_i64 {
        match number % 20 {
            5 => pair.on_standby("select pg_wal_replay_pause()").await,
            9 => pair.on_standby("select pg_wal_replay_resume()").await,
            14 => tokio::task::block_in_place(|| {
                pair.standby.kill();
                pair.standby.start();
            }),
            17 => {
                let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pulso feed' and datname = current_database() limit 1";
                pair.sql.batch_execute(cut).await.unwrap();
            }
            _ => {}
        }
        let token = pair.sell().await;
        let committed = Instant::now();
        for service in &services {
            assert_eq!(service.count(&[("pulso-after-lsn", &token)]).await, 3 + number, "asked for by {token}");
            assert_eq!(service.recount(&[("pulso-after-lsn", &token)]).await, 3 + number, "asked for by {token}");
            assert_eq!(service.count(&[("cache-control", "no-cache")]).await, 3 + number, "past the cache");
        }
        for service in &services {
            // Whoever asks for nothing gets it once it is announced.
            loop {
                let answer = service.ask(&path, &[]).await;
                hits += u32::from(answer.header("x-pulso-cache") == "hit");
                let count = answer.json()["sales_count"].as_i64().unwrap();
                if count == 3 + number && service.recount(&[]).await == 3 + number {
                    break;
                }
                assert!(
                    committed.elapsed() < BOUND || pauses.explain(),
                    "{count} sales, not {}, after {:?}",
                    3 + number,
                    committed.elapsed()
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(if number % 5 == 0 { 300 } else { 10 })).await;
        for service in &services {
            hits += u32::from(service.ask(&path, &[]).await.header("x-pulso-cache") == "hit");
            hits +=
                u32::from(service.ask(&path, &[("pulso-after-lsn", &token)]).await.header("x-pulso-cache") == "hit");
        }
    }
    let read = services[0].by_standby().await + services[1].by_standby().await;
    eprintln!("{hits} kept, {read} by the standby, {} behind", services[0].fell_back("behind").await);
    assert!(hits > 60, "{hits} answers were kept ones");
    assert!(read > 60.0, "{read} statements went to the standby");
    assert!(!pair.standby.log().contains("cannot execute"), "a write was sent to the standby");
}

/// `pulso serve` as a process of its own.
struct Node {
    process: Child,
    address: String,
}

impl Node {
    fn start(pair: &Pair, primary: &Bouncer, standby: &Bouncer, redis: &Redis) -> Self {
        let (process, address) = crate::stage::serve(|command| {
            command
                .arg("--no-jobs")
                .env("DATABASE_URL", &primary.url)
                .env("PULSO_DIRECT_URL", pair.db.url())
                .env("PULSO_READ_URLS", &standby.url)
                .env("PULSO_REDIS_URL", redis.url())
        });
        Self { process, address }
    }

    /// Where the answer came from, and its body.
    async fn ask(&self, path: &str, header: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
        let answer = crate::client::raw(&self.address, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        let source = head.lines().find_map(|line| line.strip_prefix("x-pulso-cache: ")).unwrap_or_default();
        (source.to_owned(), body.to_owned())
    }

    /// Sales of the shop's day by a route whose answers are kept, and where this one came from.
    async fn count(&self, header: &str) -> (i64, String) {
        let (source, body) = self.ask(&format!("/v1/stores/{GROCERY}/dashboard?date={DAY}"), header).await;
        (serde_json::from_str::<Value>(&body).unwrap()["sales_count"].as_i64().unwrap(), source)
    }

    /// The same by one whose answers are not.
    async fn recount(&self, header: &str) -> i64 {
        let (_, body) = self.ask(&format!("/v1/chain?from={DAY}&to={DAY}"), header).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let stores = body["stores"].as_array().unwrap();
        stores.iter().find(|store| store["store_id"] == GROCERY).unwrap()["sales_count"].as_i64().unwrap()
    }

    /// All of a metric's lines that begin so, added up.
    async fn metric(&self, begins: &str) -> f64 {
        let (_, text) = self.ask("/metrics", "").await;
        let lines = text.lines().filter(|line| line.starts_with(begins));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_poolers_and_with_redis_nothing_is_older_than_was_asked_for_or_than_the_bound() {
    /// As docs/http.md says of what nobody asks for by a token.
    const BOUND: Duration = Duration::from_secs(3);
    let Some(program) = programs(true).or_else(|| programs(false)) else { return };
    let Some(mut redis) = Redis::start().await else { return };
    let pauses = Pauses::watch();
    let pair = Pair::open().await;
    let primary = Bouncer::before(program.clone(), pair.db.url(), &pair.db.name, "transaction").await;
    let url = pair.standby.url_of(&pair.db.name);
    let mut standby = Bouncer::before(program, &url, &pair.db.name, "transaction").await;
    let nodes = [Node::start(&pair, &primary, &standby, &redis), Node::start(&pair, &primary, &standby, &redis)];
    let name = standby.url.split_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let by_standby = format!("pulso_statements_total{{target=\"{name}\"}}");
    let began = Instant::now();
    for node in &nodes {
        while node.metric(&by_standby).await == 0.0 || node.metric("pulso_replica_up").await != 1.0 {
            assert!(began.elapsed() < Duration::from_secs(40), "the standby behind its pooler is not read");
            // The feed counts from its first word on.
            pair.sql.batch_execute("update sales set totals = jsonb_set(totals, '{items}', to_jsonb((totals ->> 'items')::numeric + 1)) where number = '1'").await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            node.recount("").await;
        }
    }
    let mut sources = std::collections::BTreeMap::<String, u32>::new();
    let mut note = |source: String| *sources.entry(source).or_default() += 1;
    for number in 1..=40_i64 {
        match number % 20 {
            3 => pair.on_standby("select pg_wal_replay_pause()").await,
            8 => pair.on_standby("select pg_wal_replay_resume()").await,
            11 => redis.kill(),
            13 => redis.restart(),
            15 => standby.restart().await,
            17 => {
                let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pulso feed' and datname = current_database() limit 1";
                pair.sql.batch_execute(cut).await.unwrap();
            }
            _ => {}
        }
        let wanted = 3 + number;
        let token = format!("pulso-after-lsn: {}\r\n", pair.sell().await);
        let committed = Instant::now();
        // First one, then the other, so that each finds what the other has left in Redis.
        let turn = usize::from(number % 2 == 0);
        for node in [&nodes[turn], &nodes[1 - turn]] {
            // The other one takes what this one has kept, as long as nobody asks it for more.
            if node.address == nodes[turn].address {
                let (count, source) = node.count(&token).await;
                assert_eq!(count, wanted, "asked for by {token} ({source})");
            }
            assert_eq!(node.recount(&token).await, wanted, "asked for by {token}");
        }
        assert_eq!(nodes[turn].count("cache-control: no-cache\r\n").await.0, wanted, "past every cache");
        for node in [&nodes[turn], &nodes[1 - turn]] {
            loop {
                let began = Instant::now();
                let ((count, source), recount) = (node.count("").await, node.recount("").await);
                assert!(count <= wanted && recount <= wanted);
                if (count, recount) == (wanted, wanted) {
                    note(source);
                    break;
                }
                let late = began.duration_since(committed);
                assert!(
                    late < BOUND || pauses.explain(),
                    "{count} ({source}) and {recount}, not {wanted}, after {late:?}"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            note(node.count("").await.1);
        }
        tokio::time::sleep(Duration::from_millis(if number % 5 == 0 { 400 } else { 10 })).await;
    }
    let (mut read, mut shared, mut behind) = (0.0, 0.0, 0.0);
    for node in &nodes {
        read += node.metric(&by_standby).await;
        shared += node.metric("pulso_cache_hits_total{layer=\"redis\"}").await;
        behind += node.metric("pulso_replica_fallbacks_total").await;
    }
    eprintln!("{sources:?}; {read} statements by the standby, {shared} answers of the other node, {behind} falls back");
    assert!(read > 20.0, "{read} statements went to the standby");
    assert!(shared > 0.0, "no answer was the other node's");
    assert!(behind > 0.0, "nobody fell back while the standby stood still");
    assert!(sources["hit"] > 20, "{sources:?}");
    assert!(!pair.standby.log().contains("cannot execute"), "a write was sent to the standby");
}

//! What nodes share through a real Redis: answers, never older than the feed allows, and counts of requests.

use crate::client::{Answer, Client};
use crate::common::{Pauses, Scratch, skip};
use crate::shop::{BAR, DAY, GROCERY};
use crate::stage::{CHANNEL, Stage, change, key};
use axum::body::Body;
use axum::http::Request;
use pulso::serve::shared::Address;
use pulso::serve::{AppState, Settings, access, feed};
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Redis of one test's own, on a socket; gone with the test.
pub struct Redis {
    dir: Scratch,
    server: Child,
}

impl Redis {
    /// `None`, and said so, where there is no redis-server.
    pub async fn start() -> Option<Self> {
        let dir = Scratch::new();
        match Self::launch(&dir) {
            Ok(server) => {
                let this = Self { dir, server };
                this.answers().await;
                Some(this)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                skip("there is no redis-server; scripts/test.sh installs it where it can");
                None
            }
            Err(error) => panic!("redis-server does not start: {error}"),
        }
    }

    fn launch(dir: &Scratch) -> std::io::Result<Child> {
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "redis.sock"])
            .current_dir(&dir.0)
            .stdout(Stdio::null())
            .spawn()
    }

    pub fn url(&self) -> String {
        format!("unix://{}/redis.sock", self.dir.0.display())
    }

    async fn connect(&self) -> ::redis::RedisResult<::redis::aio::MultiplexedConnection> {
        ::redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    async fn answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.connect().await.is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.server = Self::launch(&self.dir).unwrap();
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.server.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn state(stage: &Stage, redis: &Redis) -> AppState {
    let redis = Some(Address::parse(&redis.url()).unwrap());
    AppState::with(stage.db.url(), Settings { redis, pool_size: 4, ..Settings::default() }).unwrap()
}

/// A service that shares, on the channel that the test notifies; it has seen the feed begin.
async fn node(stage: &Stage, redis: &Redis, seq: u64, sessions: i64) -> Client {
    let state = state(stage, redis);
    state.follow(stage.db.url(), CHANNEL, stage.stop.clone());
    stage.listening(sessions).await;
    stage.notify(seq, json!([])).await;
    Client::over(state)
}

async fn ask(node: &Client, control: &str) -> Answer {
    let path = format!("/v1/stores/{GROCERY}/dashboard?date={DAY}");
    node.send(Request::get(path).header("cache-control", control).body(Body::empty()).unwrap()).await
}

async fn day(node: &Client, control: &str) -> (u64, String) {
    let answer = ask(node, control).await;
    (answer.json()["sales_count"].as_u64().unwrap(), answer.header("x-pulso-cache").to_owned())
}

fn pair(count: u64, source: &str) -> (u64, String) {
    (count, source.to_owned())
}

#[tokio::test]
async fn an_answer_of_another_node_is_taken_only_while_nothing_was_told_since_its_read_began() {
    let Some(mut redis) = Redis::start().await else { return };
    let stage = Stage::open().await;
    let one = node(&stage, &redis, 1, 2).await;
    let two = node(&stage, &redis, 2, 3).await;
    assert_eq!(day(&one, "").await, pair(3, "miss"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(day(&two, "").await, pair(3, "shared"));
    assert_eq!(day(&two, "").await, pair(3, "hit"));
    let mut sql = redis.connect().await.unwrap();
    let names: Vec<String> = ::redis::cmd("KEYS").arg("pulso:answer:*").query_async(&mut sql).await.unwrap();
    let [name] = names.as_slice() else { panic!("{names:?}") };
    let old: Vec<u8> = ::redis::cmd("GET").arg(name).query_async(&mut sql).await.unwrap();
    let lives: i64 = ::redis::cmd("TTL").arg(name).query_async(&mut sql).await.unwrap();
    assert!((1..=60).contains(&lives));

    // The race: a node has read, a sale commits and is announced, another node reads and stores, and only then the first stores.
    stage.sell(GROCERY, "race").await;
    stage.notify(3, change(GROCERY, DAY)).await;
    assert_eq!(day(&two, "").await, pair(4, "miss"), "what Redis holds is from before");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let new: Vec<u8> = ::redis::cmd("GET").arg(name).query_async(&mut sql).await.unwrap();
    assert_ne!(old, new);
    let () = ::redis::cmd("SET").arg(name).arg(&old).query_async(&mut sql).await.unwrap();
    assert_eq!(day(&one, "").await, pair(4, "miss"), "the late one is not taken");
    // One that came only now does not know what was told before.
    let three = node(&stage, &redis, 4, 4).await;
    let () = ::redis::cmd("SET").arg(name).arg(&old).query_async(&mut sql).await.unwrap();
    assert_eq!(day(&three, "").await, pair(4, "miss"));
    tokio::time::sleep(Duration::from_millis(100)).await;

    // Of other shops nothing is void; `no-cache` reads through and renews for all.
    stage.notify(5, change(BAR, DAY)).await;
    stage.sell(GROCERY, "unannounced").await;
    assert_eq!(day(&one, "no-cache").await, pair(5, "bypass"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let four = node(&stage, &redis, 6, 5).await;
    // What was read before it came may lack what it was not told.
    assert_eq!(day(&four, "").await, pair(5, "miss"));
    for (seq, nonsense) in [(7, &b""[..]), (8, b"short"), (9, &[0; 40])] {
        stage.notify(seq, change(GROCERY, DAY)).await;
        let () = ::redis::cmd("SET").arg(name).arg(nonsense).query_async(&mut sql).await.unwrap();
        assert_eq!(day(&one, "").await, pair(5, "miss"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Stopped and gone: slower at first, right all the time.
    redis.signal(nix::sys::signal::Signal::SIGSTOP);
    stage.notify(10, change(GROCERY, DAY)).await;
    let began = Instant::now();
    assert_eq!(day(&one, "").await, pair(5, "miss"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    redis.signal(nix::sys::signal::Signal::SIGCONT);
    redis.kill();
    assert_eq!(day(&two, "").await, pair(5, "miss"));
    assert_eq!(day(&two, "").await, pair(5, "hit"));
    let text = String::from_utf8(two.get("/metrics").await.body).unwrap();
    for line in
        ["pulso_redis_up 0", "pulso_cache_misses_total{layer=\"redis\"}", "pulso_cache_hits_total{layer=\"memory\"}"]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    stage.stop.cancel();
}

#[tokio::test]
async fn two_nodes_give_nothing_older_than_the_feed_while_redis_and_the_feed_come_and_go() {
    /// As docs/http.md says.
    const BOUND: Duration = Duration::from_secs(3);
    let Some(mut redis) = Redis::start().await else { return };
    let pauses = Pauses::watch();
    let stage = Stage::open().await;
    let nodes = [0, 1].map(|_| {
        let state = state(&stage, &redis);
        state.follow(stage.db.url(), feed::CHANNEL, stage.stop.clone());
        Client::over(state)
    });
    stage.listening(3).await;
    // A transaction that sold and does not end: what others sell is announced all the same.
    let mut idle = stage.db.connect().await;
    let idle = idle.transaction().await.unwrap();
    let sale = "insert into public.sales (store_id, number, sold_at, rate, totals) values ($1::text::uuid, 'open', '2026-07-30 15:00-04', 40, '{\"gross_usd\": 1}')";
    idle.execute(sale, &[&GROCERY]).await.unwrap();

    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut up = true;
    let mut sources = std::collections::BTreeMap::<String, u32>::new();
    for number in 1..=150_u64 {
        match rng.random_range(0..20) {
            0 if up => {
                redis.kill();
                up = false;
            }
            1 | 2 if !up => {
                redis.restart();
                up = true;
            }
            3 => {
                let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pulso feed' and datname = current_database() order by random() limit 1";
                stage.sql.batch_execute(cut).await.unwrap();
            }
            _ => {}
        }
        stage.sell(GROCERY, &format!("loop {number}")).await;
        let committed = Instant::now();
        // Not always: it renews what is kept.
        if number % 3 == 0 {
            for node in &nodes {
                assert_eq!(day(node, "no-cache").await.0, 3 + number, "no-cache is never old");
            }
        }
        for _ in 0..rng.random_range(1..60) {
            let node = &nodes[rng.random_range(0..nodes.len())];
            let (count, source) = day(node, "").await;
            *sources.entry(source).or_default() += 1;
            let late = committed.elapsed();
            assert!(
                count == 3 + number || late < BOUND || pauses.explain(),
                "{count}, not {}, after {late:?}",
                3 + number
            );
            assert!(count <= 3 + number);
        }
        // Right before the bound is over, then for good.
        if number % 30 == 0 {
            tokio::time::sleep(BOUND.saturating_sub(committed.elapsed())).await;
            for node in &nodes {
                assert_eq!(day(node, "").await.0, 3 + number);
            }
        }
    }
    println!("{sources:?}");
    assert!(["hit", "miss"].iter().all(|source| sources.contains_key(*source)), "{sources:?}");
    stage.stop.cancel();
}

#[tokio::test]
async fn a_key_is_counted_across_nodes_and_by_each_alone_while_redis_is_away() {
    let Some(mut redis) = Redis::start().await else { return };
    let stage = Stage::open().await;
    let secret = key(&stage.db, "counted", GROCERY);
    let node = || {
        let access = access::Settings { per_minute: 10, ..access::Settings::default() };
        let redis = Some(Address::parse(&redis.url()).unwrap());
        Client::over(AppState::with(stage.db.url(), Settings { access, redis, ..Settings::default() }).unwrap())
    };
    let (one, two) = (node(), node());
    let send = async |node: &Client| {
        let request = Request::get("/v1/stores").header("authorization", format!("Bearer {secret}"));
        node.send(request.body(Body::empty()).unwrap()).await
    };
    // Not over the end of a minute, where the window slides.
    let mut sql = redis.connect().await.unwrap();
    let (now, _): (u64, u64) = ::redis::cmd("TIME").query_async(&mut sql).await.unwrap();
    if now % 60 > 45 {
        tokio::time::sleep(Duration::from_secs(61 - now % 60)).await;
    }
    for number in 1..=5 {
        assert_eq!(send(&one).await.header("ratelimit-remaining"), (10 - (2 * number - 1)).to_string());
        assert_eq!(send(&two).await.header("ratelimit-remaining"), (10 - 2 * number).to_string());
    }
    for node in [&one, &two] {
        let answer = send(node).await;
        assert_eq!(answer.status, 429);
        assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().unwrap()));
    }
    redis.kill();
    for _ in 0..10 {
        assert_eq!(send(&one).await.status, 200, "each counts for itself");
    }
    assert_eq!(send(&one).await.status, 429);
    stage.stop.cancel();
}

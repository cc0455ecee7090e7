//! Kept answers and live streams, fed by notifications that the test sends on a channel of its own.

use crate::client::{Answer, Client};
use crate::common::{Db, Pauses, skip};
use crate::shop::{self, BAR, DAY, GROCERY};
use axum::body::Body;
use axum::http::Request;
use pulso::serve::{AppState, Service, feed};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const CHANNEL: &str = "pulso_test_changes";

struct Stage {
    db: Db,
    sql: tokio_postgres::Client,
    state: AppState,
    http: Client,
    stop: CancellationToken,
}

impl Stage {
    /// Two shops, and a service that follows the feed.
    async fn open() -> Self {
        let db = Db::migrated().await;
        let sql = db.connect().await;
        shop::open(&sql).await;
        // The feed counts only while the extension's worker runs; the launcher starts it within seconds.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !sql.query_one("select pulso.folder_running()", &[]).await.unwrap().get::<_, bool>(0) {
            assert!(Instant::now() < deadline, "no worker folds this database");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let state = AppState::new(db.url(), 4, 64).unwrap();
        let stop = CancellationToken::new();
        state.follow(db.url(), CHANNEL, stop.clone());
        let http = Client::over(state.clone());
        let this = Self { db, sql, state, http, stop };
        this.listening(1).await;
        this
    }

    /// Waits until so many sessions listen.
    async fn listening(&self, sessions: i64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let listening = "select count(*) from pg_stat_activity where application_name = 'pulso feed' and query like '%folder_running%' and datname = current_database()";
        while self.sql.query_one(listening, &[]).await.unwrap().get::<_, i64>(0) < sessions {
            assert!(Instant::now() < deadline, "nobody listens");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn notify(&self, seq: u64, changes: Value) {
        let payload = json!({"seq": seq, "changes": changes}).to_string();
        self.sql.execute("select pg_notify($1, $2)", &[&CHANNEL, &payload]).await.unwrap();
        // Seen by the service before the next statement of this test is answered, or very nearly.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }

    async fn day(&self, store: &str, control: &str) -> (String, String) {
        let answer = self.ask(&format!("/v1/stores/{store}/dashboard?date={DAY}"), control).await;
        (answer.json()["sales_count"].to_string(), answer.header("x-pulso-cache").to_owned())
    }

    async fn ask(&self, path: &str, control: &str) -> Answer {
        let request = Request::get(path).header("cache-control", control).body(Body::empty()).unwrap();
        let answer = self.http.send(request).await;
        assert_eq!(answer.status, 200, "{path}");
        answer
    }

    async fn sell(&self, store: &str, number: &str) {
        self.sql
            .execute(
                "insert into public.sales (store_id, number, sold_at, rate, totals) values ($1::text::uuid, $2, '2026-07-30 15:00-04', 40, '{\"gross_usd\": 1}')",
                &[&store, &number],
            )
            .await
            .unwrap();
    }
}

fn change(store: &str, day: &str) -> Value {
    json!([{"rollup": "analytics.sales_daily_totals", "keys": [{"store_id": store, "sale_date": day}]}])
}

fn pair(count: &str, source: &str) -> (String, String) {
    (count.to_owned(), source.to_owned())
}

#[tokio::test]
async fn an_answer_is_kept_until_its_shop_and_day_change() {
    let stage = Stage::open().await;
    assert_eq!(stage.day(GROCERY, "").await, pair("3", "bypass"), "no notification has been seen yet");
    stage.notify(1, json!([])).await;
    assert_eq!(stage.day(GROCERY, "").await, pair("3", "miss"));
    assert_eq!(stage.day(GROCERY, "").await, pair("3", "hit"));
    stage.sell(GROCERY, "n1").await;
    assert_eq!(stage.day(GROCERY, "").await, pair("3", "hit"), "not announced yet");
    assert_eq!(stage.day(GROCERY, "no-cache").await, pair("4", "bypass"), "no-cache is never old");
    assert_eq!(stage.day(GROCERY, "").await, pair("4", "hit"), "and what it read is kept");
    stage.sell(GROCERY, "n2").await;
    stage.notify(2, change(BAR, DAY)).await;
    stage.notify(3, change(GROCERY, "2026-08-15")).await;
    assert_eq!(stage.day(GROCERY, "").await, pair("4", "hit"), "another shop, another day");
    stage.notify(4, change(GROCERY, DAY)).await;
    assert_eq!(stage.day(GROCERY, "").await, pair("5", "miss"));
    // A day that it is compared with, an hour, a rollup in which anything may have changed, a gap.
    for (seq, changes) in [
        (5, change(GROCERY, "2026-07-23")),
        (
            6,
            json!([{"rollup": "analytics.sales_hourly", "keys": [{"store_id": GROCERY, "hour": "2026-07-30T15:00:00"}]}]),
        ),
        (7, json!([{"rollup": "analytics.other", "keys": null}])),
        (9, json!([])),
    ] {
        assert_eq!(stage.day(GROCERY, "").await.1, "hit", "before {seq}");
        stage.notify(seq, changes).await;
        assert_eq!(stage.day(GROCERY, "").await.1, "miss", "after {seq}");
    }
    // A part and a tag come from the kept answer too, and other routes have theirs.
    let part = stage.ask(&format!("/v1/stores/{GROCERY}/dashboard?date={DAY}&fields=sales_count"), "").await;
    assert_eq!((part.json(), part.header("x-pulso-cache")), (json!({"sales_count": 5}), "hit"));
    for route in
        ["sales?grain=hour", "sales?grain=week", "sales/breakdown?by=hour", "sales/breakdown?by=weekday", "heatmap?"]
    {
        let path = format!("/v1/stores/{GROCERY}/{route}&from=2026-07-29&to={DAY}").replace("?&", "?");
        let first = stage.ask(&path, "").await;
        let second = stage.ask(&path, "").await;
        assert_eq!((first.header("x-pulso-cache"), second.header("x-pulso-cache")), ("miss", "hit"), "{path}");
        assert_eq!(first.json(), second.json());
    }
    // What no feed tells of is not kept.
    for route in ["products/top", "categories", "payments", "inventory"] {
        assert_eq!(
            stage.ask(&format!("/v1/stores/{GROCERY}/{route}"), "").await.header("x-pulso-cache"),
            "",
            "{route}"
        );
    }
    // A shop's new name is there in seconds, though no feed tells of it.
    stage.sql.batch_execute("update public.stores set name = 'Nuevo' where name = 'Abasto'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let answer = stage.ask(&format!("/v1/stores/{GROCERY}/dashboard?date={DAY}"), "").await;
    assert_eq!(answer.json()["store_name"], "Nuevo");
    stage.stop.cancel();
}

#[tokio::test]
async fn without_the_feed_nothing_is_kept() {
    let stage = Stage::open().await;
    stage.notify(1, json!([])).await;
    stage.day(GROCERY, "").await;
    assert_eq!(stage.day(GROCERY, "").await.1, "hit");
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pulso feed' and datname = current_database()";
    stage.sql.batch_execute(cut).await.unwrap();
    stage.sell(GROCERY, "n1").await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while stage.day(GROCERY, "").await.1 != "bypass" {
        assert!(Instant::now() < deadline, "a lost feed goes unnoticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stage.day(GROCERY, "").await, pair("4", "bypass"));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    stage.listening(1).await;
    // Numbers begin anew with the connection, whatever they are.
    stage.notify(77, json!([])).await;
    assert_eq!(stage.day(GROCERY, "").await, pair("4", "miss"), "nothing from before the cut");
    assert_eq!(stage.day(GROCERY, "").await, pair("4", "hit"));
    stage.sql.execute("select pg_notify($1, 'nonsense')", &[&CHANNEL]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(stage.day(GROCERY, "").await, pair("4", "miss"), "what cannot be read voids everything");
    let text = String::from_utf8(stage.http.get("/metrics").await.body).unwrap();
    for line in [
        "pulso_feed_connected 1",
        "pulso_cache_invalidations_total{reason=\"feed_lost\"} 1",
        "pulso_cache_invalidations_total{reason=\"unreadable\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("pulso_cache_hits_total 0"));
    stage.stop.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.day(GROCERY, "").await.1, "bypass");
}

#[tokio::test]
async fn two_services_never_give_what_was_announced_as_old_while_the_feed_is_cut_at_random() {
    // The feed itself takes some milliseconds; the rest is for a machine that does other things too.
    const BOUND: Duration = Duration::from_secs(2);
    let pauses = Pauses::watch();
    let stage = Stage::open().await;
    let other = AppState::new(stage.db.url(), 4, 64).unwrap();
    other.follow(stage.db.url(), CHANNEL, stage.stop.clone());
    stage.listening(2).await;
    let nodes = [Client::over(stage.state.clone()), Client::over(other)];
    let path = format!("/v1/stores/{GROCERY}/dashboard?date={DAY}");
    let mut hits = 0;
    for number in 1..=120_u64 {
        stage.sell(GROCERY, &format!("loop {number}")).await;
        let payload = json!({"seq": number, "changes": change(GROCERY, DAY)}).to_string();
        stage.sql.execute("select pg_notify($1, $2)", &[&CHANNEL, &payload]).await.unwrap();
        let announced = Instant::now();
        if number % 25 == 0 {
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pulso feed' and datname = current_database() limit 1";
            stage.sql.batch_execute(cut).await.unwrap();
        }
        for node in &nodes {
            loop {
                let answer = node.get(&path).await;
                let count = answer.json()["sales_count"].as_u64().unwrap();
                hits += u32::from(answer.header("x-pulso-cache") == "hit");
                if count == 3 + number {
                    break;
                }
                assert!(
                    announced.elapsed() < BOUND || pauses.explain(),
                    "{count} sales, not {}, after {:?}",
                    3 + number,
                    announced.elapsed()
                );
            }
            // Right once, it stays right.
            let again = node.get(&path).await;
            hits += u32::from(again.header("x-pulso-cache") == "hit");
            assert_eq!(again.json()["sales_count"], 3 + number);
        }
    }
    assert!(hits > 60, "{hits} answers were kept ones");
    stage.stop.cancel();
}

#[tokio::test]
async fn the_extensions_own_feed_voids_what_a_sale_changes() {
    const BOUND: Duration = Duration::from_secs(2);
    let pauses = Pauses::watch();
    let stage = Stage::open().await;
    let sends = "select to_regprocedure('pulso.announce()') is not null";
    if !stage.sql.query_one(sends, &[]).await.unwrap().get::<_, bool>(0) {
        return skip("this extension sends no change feed");
    }
    let state = AppState::new(stage.db.url(), 4, 64).unwrap();
    state.follow(stage.db.url(), feed::CHANNEL, stage.stop.clone());
    stage.listening(2).await;
    let http = Client::over(state);
    let path = format!("/v1/stores/{GROCERY}/dashboard?date={DAY}");
    let mut hits = 0;
    for number in 1..=40_u64 {
        stage.sell(GROCERY, &format!("real {number}")).await;
        let committed = Instant::now();
        while http.get(&path).await.json()["sales_count"] != 3 + number {
            assert!(
                committed.elapsed() < BOUND || pauses.explain(),
                "sale {number} is not seen after {:?}",
                committed.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(if number % 8 == 0 { 400 } else { 20 })).await;
        http.get(&path).await;
        let again = http.get(&path).await;
        hits += u32::from(again.header("x-pulso-cache") == "hit");
        assert_eq!(again.json()["sales_count"], 3 + number);
    }
    assert!(hits > 5, "{hits} answers were kept ones");
    stage.stop.cancel();
}

/// A stream of events over a socket.
struct Events(TcpStream, String);

impl Events {
    async fn open(address: &str, path: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n{headers}\r\n").as_bytes())
            .await
            .unwrap();
        let mut this = Self(socket, String::new());
        this.until("\r\n\r\n").await;
        assert!(this.1.starts_with("HTTP/1.1 200") && this.1.contains("text/event-stream"), "{}", this.1);
        assert!(!this.1.contains("gzip"), "events are not compressed");
        this
    }

    async fn until(&mut self, text: &str) {
        let read = async {
            let mut buffer = [0; 4096];
            while !self.1.contains(text) {
                let n = self.0.read(&mut buffer).await.unwrap();
                assert!(n > 0, "the stream ended before {text}: {}", self.1);
                self.1.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), read).await.is_err() {
            panic!("{text} does not come: {}", self.1);
        }
    }
}

fn key(db: &Db, name: &str, store: &str) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(["key", "create", name, "--store", store])
        .env("DATABASE_URL", db.url())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn changes_are_streamed_to_those_who_may_see_them() {
    let stage = Stage::open().await;
    let (grocery, bar) = (key(&stage.db, "grocery", GROCERY), key(&stage.db, "bar", BAR));
    let stop = CancellationToken::new();
    let service = Service::start(stage.state.clone(), "127.0.0.1:0".parse().unwrap(), stop.clone()).await.unwrap();
    let address = service.url().trim_start_matches("http://").to_owned();
    let with = |secret: &str, more: &str| format!("authorization: Bearer {secret}\r\n{more}");
    stage.notify(1, json!([])).await;
    let mut of_grocery = Events::open(&address, "/v1/live", &with(&grocery, "")).await;
    let mut of_bar = Events::open(&address, &format!("/v1/live?stores={BAR}"), &with(&bar, "")).await;
    let began = Instant::now();
    stage.notify(2, change(GROCERY, DAY)).await;
    of_grocery.until("\nid: 2").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(of_grocery.1.contains(GROCERY) && of_grocery.1.contains("\"dates\":[\"2026-07-30\"]"), "{}", of_grocery.1);
    stage.notify(3, change(BAR, DAY)).await;
    of_bar.until("\nid: 3").await;
    stage.notify(4, json!([{"rollup": "analytics.any", "keys": null}])).await;
    of_grocery.until("\nid: 4").await;
    of_bar.until("\nid: 4").await;
    assert!(
        !of_bar.1.contains(GROCERY) && !of_grocery.1.contains(BAR),
        "a change crossed: {} {}",
        of_bar.1,
        of_grocery.1
    );
    // One that comes back goes on where it was; one that missed too much begins anew.
    let mut back = Events::open(&address, "/v1/live", &with(&grocery, "last-event-id: 2\r\n")).await;
    back.until("\nid: 4").await;
    assert!(!back.1.contains("\nid: 2") && !back.1.contains(BAR) && !back.1.contains("reset"), "{}", back.1);
    for id in ["99", "x"] {
        let mut lost = Events::open(&address, "/v1/live", &with(&grocery, &format!("last-event-id: {id}\r\n"))).await;
        lost.until("event: reset").await;
    }
    stage.notify(9, change(GROCERY, DAY)).await;
    of_grocery.until("event: reset").await;
    of_grocery.until("\nid: 9").await;
    for (path, status) in [
        (format!("/v1/live?stores={GROCERY}"), 400),
        ("/v1/live?stores=x".into(), 400),
        ("/v1/live?since=1".into(), 400),
    ] {
        let request = Request::get(&path).header("authorization", format!("Bearer {bar}")).body(Body::empty()).unwrap();
        assert_eq!(Client::over(stage.state.clone()).send(request).await.status, status, "{path}");
    }
    assert_eq!(Client::over(stage.state.clone()).get("/v1/live").await.status, 401);
    // Streams do not hold up the end of the service.
    let began = Instant::now();
    stop.cancel();
    service.finished().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    stage.stop.cancel();
}

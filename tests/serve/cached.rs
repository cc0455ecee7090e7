//! Kept answers, fed by notifications that the test sends on a channel of its own.

use crate::client::Client;
use crate::common::{Db, Pauses, Scratch, skip};
use crate::shop::{self, BAR, DAY, GROCERY};
use crate::stage::{CHANNEL, Stage, change};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::serve::{AppState, feed};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// Tier plain: figures are as old as the last refresh, and nobody announces anything.
#[tokio::test]
async fn without_a_change_feed_nothing_is_kept_and_it_is_said_once() {
    let db = Db::empty().await;
    let mut sql = db.connect().await;
    pulso::migrate::up_on(&mut sql, pulso::migrate::Tier::Plain).await.unwrap();
    shop::open(&sql).await;
    sql.batch_execute("select pulso.plain_refresh()").await.unwrap();
    let home = Scratch::new();
    let log = home.0.join("log");
    let (mut service, address) = crate::stage::serve(|command| {
        command.env("DATABASE_URL", db.url()).stderr(std::fs::File::create(&log).unwrap())
    });
    // Longer than it takes to try a lost feed again.
    for _ in 0..4 {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let ask =
            format!("GET /v1/stores/{GROCERY}/dashboard?date={DAY} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-pulso-cache: bypass"), "{answer}");
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    let connected =
        "select count(*) from pg_stat_activity where application_name = 'pulso feed' and datname = current_database()";
    assert_eq!(sql.query_one(connected, &[]).await.unwrap().get::<_, i64>(0), 0);
    kill(Pid::from_raw(service.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(service.wait().unwrap().success());
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("has no change feed").count(), 1, "{log}");
    assert!(!log.contains("feed is lost") && !log.contains("ERROR"), "{log}");
}

/// How often a statement has been run.
async fn runs(stage: &Stage, statement: &str) -> u64 {
    let text = String::from_utf8(stage.http.get("/metrics").await.body).unwrap();
    let name = format!("pulso_statement_duration_seconds_count{{statement=\"{statement}\"}}");
    text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_crowd_that_asks_the_same_at_once_is_one_read_or_two() {
    let stage = Stage::open().await;
    stage.notify(1, json!([])).await;
    for (control, source) in [("no-cache", "bypass"), ("", "hit")] {
        let before = runs(&stage, "dashboards").await;
        // What was kept is void now, and the shop's clock is unknown: a crowd comes after each announced sale.
        stage.notify(before + 100, change(GROCERY, DAY)).await;
        let answers = futures_util::future::join_all((0..60).map(|_| stage.day(GROCERY, control))).await;
        assert!(answers.iter().all(|(count, _)| count == "3"), "{answers:?}");
        assert!(answers.iter().filter(|(_, from)| from == source).count() >= 58, "{answers:?}");
        let read = runs(&stage, "dashboards").await - before;
        assert!((1..=2).contains(&read), "{read} reads for 60 who came at once ({control})");
    }
    assert!(runs(&stage, "store").await <= 2, "the shop was read again and again");
    // Many shops on one date: the first two are read at once, the others together.
    let copy = "insert into public.stores (id, name) select gen_random_uuid(), 'Copy ' || n from generate_series(1, 12) n returning id::text";
    let shops: Vec<String> = stage.sql.query(copy, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let before = runs(&stage, "dashboards").await;
    let days = futures_util::future::join_all(shops.iter().map(|shop| stage.day(shop, "no-cache"))).await;
    assert!(days.iter().all(|(count, _)| count == "0"), "{days:?}");
    let read = runs(&stage, "dashboards").await - before;
    assert!(read <= 4, "{read} statements for {} shops", shops.len());
    stage.stop.cancel();
}

#[tokio::test]
async fn whoever_asks_past_the_cache_finds_its_own_sale_in_any_crowd() {
    const SELLERS: u64 = 12;
    const SALES: u64 = 15;
    let stage = Stage::open().await;
    stage.notify(1, json!([])).await;
    let (sold, before) = (AtomicU64::new(0), runs(&stage, "dashboards").await);
    let seller = async |number: u64| {
        let sql = stage.db.connect().await;
        for turn in 0..SALES {
            let statement = "insert into public.sales (store_id, number, sold_at, rate, totals) values ($1::text::uuid, $2, '2026-07-30 15:00-04', 40, '{\"gross_usd\": 1}')";
            sql.execute(statement, &[&GROCERY, &format!("{number} {turn}")]).await.unwrap();
            let mine = 3 + sold.fetch_add(1, Ordering::SeqCst) + 1;
            let ask = stage.day(GROCERY, "no-cache");
            if (number + turn).is_multiple_of(5) {
                // Leaves the others alone with what it may have begun.
                let _ = tokio::time::timeout(Duration::from_millis(turn % 4), ask).await;
                continue;
            }
            let (count, from) = ask.await;
            assert_eq!(from, "bypass");
            assert!(count.parse::<u64>().unwrap() >= mine, "{count} sales, and {mine} were committed before");
        }
    };
    futures_util::future::join_all((0..SELLERS).map(seller)).await;
    assert_eq!(stage.day(GROCERY, "no-cache").await.0, (3 + SELLERS * SALES).to_string());
    let read = runs(&stage, "dashboards").await - before;
    assert!(read < SELLERS * SALES, "{read} reads: nothing was shared");
    // A shop that is not there is so to whoever asks for it, and to no other of the same statement.
    let none = "/v1/stores/00000000-0000-4000-8000-00000000dead/dashboard?date=2026-07-30";
    let (one, other) = tokio::join!(stage.http.get(none), stage.day(GROCERY, "no-cache"));
    assert_eq!((one.status.as_u16(), other.1.as_str()), (404, "bypass"));
    stage.stop.cancel();
}

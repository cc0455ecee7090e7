//! Kept answers, fed by notifications that the test sends on a channel of its own.

use crate::client::Client;
use crate::common::{Pauses, skip};
use crate::shop::{BAR, DAY, GROCERY};
use crate::stage::{CHANNEL, Stage, change};
use pulso::serve::{AppState, feed};
use serde_json::json;
use std::time::{Duration, Instant};

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

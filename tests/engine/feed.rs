//! The change feed: what a listener on `pulso_changes` is told, and when.

use crate::common::Db;
use futures_util::StreamExt;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

const QUERY: &str = "select store, day, count(*) as n, sum(x) as total from public.t group by store, day";

/// A session that listens.
struct Listener {
    _client: Client,
    heard: mpsc::UnboundedReceiver<Value>,
}

impl Listener {
    async fn new(db: &Db) -> Self {
        let (client, mut connection) = tokio_postgres::connect(db.url(), NoTls).await.unwrap();
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(note) = message {
                    assert_eq!(note.channel(), "pulso_changes");
                    let _ = tell.send(serde_json::from_str(note.payload()).unwrap());
                }
            }
        });
        client.batch_execute("listen pulso_changes").await.unwrap();
        Self { _client: client, heard }
    }

    /// The next one that names the rollup.
    async fn next(&mut self, rollup: &str) -> (Value, Value) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Ok(Some(note)) = tokio::time::timeout_at(deadline.into(), self.heard.recv()).await {
            let changes = note["changes"].as_array().unwrap();
            if let Some(change) = changes.iter().find(|change| change["rollup"] == rollup) {
                return (note["seq"].clone(), change["keys"].clone());
            }
        }
        panic!("no notification names {rollup}");
    }

    /// What has come so far.
    async fn rest(&mut self) -> Vec<Value> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

/// A database with a rollup, a session that writes, and one that looks for changes, beside the background worker's.
async fn shop() -> (Db, Client, Client) {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(&format!(
            "create extension pulso; create schema analytics;
             create table t (store int, day date, x numeric);
             insert into t select i % 7, date '2026-01-01' + i % 3, i from generate_series(1, 50) i;
             select pulso.create_rollup('analytics.daily', '{QUERY}')"
        ))
        .await
        .unwrap();
    let folder = db.connect().await;
    (db, client, folder)
}

fn key(store: i32, day: &str) -> Value {
    json!({ "store": store, "day": day })
}

#[tokio::test]
async fn a_commit_is_announced_with_its_groups_and_a_rollback_is_not() {
    let (db, client, folder) = shop().await;
    let mut listener = Listener::new(&db).await;
    client.batch_execute("begin; insert into t values (99, '2026-02-01', 1); rollback").await.unwrap();
    client.batch_execute("begin; insert into t values (1, '2026-02-01', 1), (null, '2026-02-02', 2); savepoint a; insert into t values (98, '2026-02-01', 1); rollback to a; commit").await.unwrap();
    folder.batch_execute("select pulso.announce()").await.unwrap();
    let (_, keys) = listener.next("analytics.daily").await;
    let mut keys: Vec<String> = keys.as_array().unwrap().iter().map(Value::to_string).collect();
    keys.sort();
    let mut expected = [key(1, "2026-02-01"), json!({ "store": null, "day": "2026-02-02" })].map(|key| key.to_string());
    expected.sort();
    assert_eq!(keys, expected);
    // A change of a group names both of its groups; one that changes nothing names none.
    listener.rest().await;
    client
        .batch_execute("update t set store = 2 where store = 1 and day = '2026-02-01'; update t set x = x")
        .await
        .unwrap();
    folder.batch_execute("select pulso.fold()").await.unwrap();
    let mut named = Vec::new();
    for note in [listener.next("analytics.daily").await.1]
        .into_iter()
        .chain(listener.rest().await.into_iter().map(|note| note["changes"][0]["keys"].clone()))
    {
        named.extend(note.as_array().unwrap().iter().map(Value::to_string));
    }
    named.sort();
    named.dedup();
    let mut expected = [key(1, "2026-02-01"), key(2, "2026-02-01")].map(|key| key.to_string());
    expected.sort();
    assert_eq!(named, expected);
}

#[tokio::test]
async fn an_idle_writer_holds_back_nobodys_news_but_its_own() {
    let (db, client, folder) = shop().await;
    let idle = db.connect().await;
    let mut listener = Listener::new(&db).await;
    idle.batch_execute("begin; insert into t values (50, '2026-03-01', 1)").await.unwrap();
    // Of the generation that the idle one holds, or of a later one: both are told.
    for store in 51..54 {
        client.batch_execute(&format!("insert into t values ({store}, '2026-03-01', 1)")).await.unwrap();
        folder.batch_execute("select pulso.announce()").await.unwrap();
        // A background worker may have told of one before, and so does this session.
        loop {
            let (_, keys) = listener.next("analytics.daily").await;
            let keys = keys.as_array().unwrap();
            assert!(!keys.contains(&key(50, "2026-03-01")), "uncommitted: {keys:?}");
            if keys.contains(&key(store, "2026-03-01")) {
                break;
            }
        }
    }
    idle.batch_execute("commit").await.unwrap();
    folder.batch_execute("select pulso.announce()").await.unwrap();
    while !listener.next("analytics.daily").await.1.as_array().unwrap().contains(&key(50, "2026-03-01")) {}
}

#[tokio::test]
async fn notifications_are_numbered_without_a_gap() {
    let (db, client, folder) = shop().await;
    let mut listener = Listener::new(&db).await;
    for number in 0..30 {
        client.batch_execute(&format!("insert into t values ({number}, '2026-04-01', 1)")).await.unwrap();
        folder.batch_execute(["select pulso.announce()", "select pulso.fold()"][number % 2]).await.unwrap();
    }
    let heard: Vec<i64> = listener.rest().await.iter().map(|note| note["seq"].as_i64().unwrap()).collect();
    assert!(heard.len() >= 10, "{heard:?}");
    assert!(heard.windows(2).all(|pair| pair[1] == pair[0] + 1), "{heard:?}");
}

#[tokio::test]
async fn more_than_a_notification_holds_is_told_in_general() {
    let (db, client, folder) = shop().await;
    client
        .batch_execute(
            "select pulso.create_rollup('analytics.quiet', 'select store, count(*) as n from public.t group by store')",
        )
        .await
        .unwrap();
    let mut listener = Listener::new(&db).await;
    client
        .batch_execute("insert into t select 1, date '2026-01-01' + i, 1 from generate_series(1, 6000) i")
        .await
        .unwrap();
    folder.batch_execute("select pulso.announce()").await.unwrap();
    let (sequence, keys) = listener.next("analytics.daily").await;
    assert_eq!(keys, Value::Null);
    assert!(sequence.as_i64().unwrap() > 0);
}

#[tokio::test]
async fn what_fills_a_rollup_or_turns_it_into_its_query_is_told_in_general() {
    let (db, client, folder) = shop().await;
    let mut listener = Listener::new(&db).await;
    client.batch_execute("select pulso.repair('analytics.daily')").await.unwrap();
    assert_eq!(listener.next("analytics.daily").await.1, Value::Null);
    client.batch_execute("select pulso.alter_rollup('analytics.daily', 'select store, day, count(*) as n, sum(x + 1) as total from public.t group by store, day')").await.unwrap();
    assert_eq!(listener.next("analytics.daily").await.1, Value::Null);
    client.batch_execute("update pulso.state set live = false, reason = 'for a test'").await.unwrap();
    listener.rest().await;
    for _ in 0..2 {
        folder.batch_execute("select pulso.announce()").await.unwrap();
        assert_eq!(listener.next("analytics.daily").await.1, Value::Null);
    }
}

/// What a cache does: it keeps what it has read, and drops what the feed names. While sessions write, fold and idle at
/// random, it must end up holding nothing but the truth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_follows_the_feed_ends_with_the_truth() {
    let seed: u64 =
        std::env::var("PULSO_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    let (db, reader, folder) = shop().await;
    let mut listener = Listener::new(&db).await;
    let mut writers = Vec::new();
    for number in 0..4u64 {
        let client = db.connect().await;
        writers.push(tokio::spawn(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ number);
            for _ in 0..60 {
                let (store, pause) = (rng.random_range(0..10), rng.random_range(0..40));
                let end = if rng.random_range(0..5) == 0 { "rollback" } else { "commit" };
                let work = match rng.random_range(0..3) {
                    0 => format!("insert into t select {store}, date '2026-01-01' + i % 3, i from generate_series(1, 5) i"),
                    1 => format!("update t set x = x + 1, day = day + 1 where ctid = (select ctid from t where store = {store} limit 1 for update skip locked)"),
                    _ => format!("delete from t where ctid = (select ctid from t where store = {store} limit 1 for update skip locked)"),
                };
                client.batch_execute(&format!("begin; {work}")).await.unwrap();
                tokio::time::sleep(Duration::from_millis(pause)).await;
                client.batch_execute(end).await.unwrap();
            }
        }));
    }
    let mut cache: HashMap<String, Option<String>> = HashMap::new();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rounds_left = 5;
    while rounds_left > 0 {
        if writers.iter().all(tokio::task::JoinHandle::is_finished) {
            rounds_left -= 1;
        }
        folder.batch_execute(["select pulso.announce()", "select pulso.fold()"][rng.random_range(0..2)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        while let Ok(note) = listener.heard.try_recv() {
            drop_named(&mut cache, &note);
        }
        for _ in 0..5 {
            let (store, day) = (rng.random_range(0..10), rng.random_range(0..8));
            let name = format!("{store} 2026-01-0{}", day + 1);
            if let Entry::Vacant(place) = cache.entry(name) {
                place.insert(read(&reader, store, day).await);
            }
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    // The last commit may be younger than the last look.
    folder.batch_execute("select pulso.announce()").await.unwrap();
    for note in listener.rest().await {
        drop_named(&mut cache, &note);
    }
    for (name, kept) in cache {
        let (store, day) = name.split_once(" 2026-01-0").unwrap();
        let truth = read(&reader, store.parse().unwrap(), day.parse::<i32>().unwrap() - 1).await;
        assert_eq!(kept, truth, "seed {seed}: {name} is stale");
    }
}

fn drop_named(cache: &mut HashMap<String, Option<String>>, note: &Value) {
    match note["changes"][0]["keys"].as_array() {
        None => cache.clear(),
        Some(keys) => {
            for key in keys {
                cache.remove(&format!("{} {}", key["store"], key["day"].as_str().unwrap()));
            }
        }
    }
}

async fn read(client: &Client, store: i32, day: i32) -> Option<String> {
    client
        .query_opt(
            "select (n, total)::text from analytics.daily where store = $1 and day = date '2026-01-01' + $2::int",
            &[&store, &day],
        )
        .await
        .unwrap()
        .map(|row| row.get(0))
}

//! Many sessions at once: equality in every snapshot, and nobody waits for Pulso.

use crate::common::{Db, cluster};
use crate::{assert_equal, differences};
use pulso::cluster::Cluster;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub const QUERY: &str = "select store, count(*) as n, sum(amount) as total from public.s group by store";

async fn shop() -> Db {
    shop_in(cluster().await).await
}

pub async fn shop_in(cluster: &Cluster) -> Db {
    let db = Db::empty_in(cluster).await;
    db.connect()
        .await
        .batch_execute(&format!(
            "create extension pulso; create table s (id bigint generated always as identity primary key, store int, amount numeric);
             insert into s (store, amount) select i % 3, i from generate_series(1, 300) i;
             select pulso.create_rollup('public.r', $${QUERY}$$)"
        ))
        .await
        .unwrap();
    db
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_snapshot_is_exact_while_eight_sessions_write_and_two_fold() {
    let db = shop().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for number in 0..8u64 {
        let (client, stop) = (db.connect().await, Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(number);
            let mut done = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let store = rng.random_range(0..3);
                let end = if rng.random_range(0..5) == 0 { "rollback" } else { "commit" };
                let level = ["read committed", "repeatable read"][rng.random_range(0..2)];
                let sql = format!(
                    "begin isolation level {level};
                     insert into s (store, amount) select {store}, random()::numeric(10, 3) from generate_series(1, {});
                     savepoint a; update s set amount = amount + 1 where id = (select id from s where store = {store} order by random() limit 1 for update skip locked);
                     {}
                     delete from s where id = (select id from s order by random() limit 1 for update skip locked); {end}",
                    rng.random_range(1..4),
                    if rng.random() { "rollback to a;" } else { "" },
                );
                match client.batch_execute(&sql).await {
                    Ok(()) => done += 1,
                    // Two writers met on one row of the shop's own table under one snapshot each.
                    Err(error) => {
                        let code = error.code().map(|code| code.code().to_owned());
                        assert_eq!(code.as_deref(), Some("40001"), "{error:?}");
                        client.batch_execute("rollback").await.unwrap();
                    }
                }
            }
            done
        }));
    }
    for _ in 0..2 {
        let (client, stop) = (db.connect().await, Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let mut folds = 0;
            while !stop.load(Ordering::Relaxed) {
                client.batch_execute("select pulso.fold()").await.unwrap();
                folds += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            folds
        }));
    }
    let readers: Vec<_> = ["read committed", "repeatable read", "serializable"]
        .into_iter()
        .map(|level| {
            let stop = Arc::clone(&stop);
            let connect = db.connect();
            async move { look_until(&stop, &connect.await, level).await }
        })
        .collect();
    let stopper = Arc::clone(&stop);
    let timer = async move {
        tokio::time::sleep(Duration::from_secs(8)).await;
        stopper.store(true, Ordering::Relaxed);
    };
    let (looks, ()) = tokio::join!(futures_util::future::join_all(readers), timer);
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.unwrap());
    }
    assert!(done.iter().all(|count| *count > 0) && looks.iter().all(|count| *count > 0), "{done:?} {looks:?}");
    let client = db.connect().await;
    client.batch_execute("select pulso.fold()").await.unwrap();
    assert_equal(&client, "public.r", QUERY, "at the end").await;
    let reason: Option<String> = client.query_one("select reason from pulso.rollups", &[]).await.unwrap().get(0);
    assert_eq!(reason, None, "the rollup is live to the end");
    let pending: i64 = client.query_one("select count(*) from pulso.r_1_delta", &[]).await.unwrap().get(0);
    assert_eq!(pending, 0, "everything is folded once nobody writes");
}

/// Looks for differences, three times in each transaction of that level, until it is stopped; returns how often.
pub async fn look_until(stop: &AtomicBool, client: &tokio_postgres::Client, level: &str) -> u64 {
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        client.batch_execute(&format!("begin isolation level {level} read only")).await.unwrap();
        for _ in 0..3 {
            assert_eq!(differences(client, "public.r", QUERY).await, 0, "at {level}");
            looks += 1;
        }
        client.batch_execute("commit").await.unwrap();
    }
    looks
}

/// A long import holds one generation; what others write meanwhile is folded all the same.
#[tokio::test]
async fn an_open_import_does_not_keep_others_from_being_folded() {
    let db = shop().await;
    let (import, other) = (db.connect().await, db.connect().await);
    import.batch_execute("begin; insert into s (store, amount) values (1, 1)").await.unwrap();
    for _ in 0..20 {
        other.batch_execute("insert into s (store, amount) values (2, 2); select pulso.fold()").await.unwrap();
        import.batch_execute("insert into s (store, amount) values (1, 1)").await.unwrap();
    }
    let locks: i64 = other
        .query_one(
            "select count(*) from pg_locks where locktype = 'advisory' and objsubid = 20551 and mode = 'ShareLock'
            and database = (select oid from pg_database where datname = current_database())",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(locks, 1, "the import holds one generation");
    // The background worker and this session may fold in turn: wait until what is visible is folded.
    let mut pending = 1i64;
    for _ in 0..100 {
        other.batch_execute("select pulso.fold()").await.unwrap();
        pending = other.query_one("select count(*) from pulso.r_1_delta", &[]).await.unwrap().get(0);
        if pending <= 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(pending <= 1, "only what was written in the import's own generation waits for it: {pending}");
    assert_equal(&import, "public.r", QUERY, "inside the import").await;
    import.batch_execute("commit").await.unwrap();
    assert_equal(&other, "public.r", QUERY, "after the import").await;
    other.batch_execute("select pulso.fold()").await.unwrap();
    assert_equal(&other, "public.r", QUERY, "after its fold").await;
}

/// A background worker takes so many deltas a transaction, and goes on at once: readers find it at work, and exact.
#[tokio::test]
async fn a_large_import_is_folded_in_parts() {
    let db = shop().await;
    let client = db.connect().await;
    eventually(&client, "select pulso.folder_running()").await;
    client
        .batch_execute(
            "select pulso.create_rollup('public.each', 'select id, count(*) as n from public.s group by id')",
        )
        .await
        .unwrap();
    client
        .batch_execute("insert into s (store, amount) select i % 3, 1 from generate_series(1, 110000) i")
        .await
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..2000 {
        let row = client
            .query_one(
                "select pending_deltas, (select sum(n)::bigint from each) from pulso.rollups where name = 'each'",
                &[],
            )
            .await
            .unwrap();
        let (pending, counted): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(counted, 110_300);
        seen.push(pending);
        if pending == 0 {
            break;
        }
    }
    assert_eq!(seen.last(), Some(&0), "{seen:?}");
    assert!(seen.iter().any(|pending| [60_000, 10_000].contains(pending)), "in parts of 50,000: {seen:?}");
    assert_equal(&client, "public.each", "select id, count(*) as n from public.s group by id", "folded").await;
}

/// Waits until a query says so.
pub async fn eventually(client: &tokio_postgres::Client, query: &str) {
    for _ in 0..600 {
        if client.query_one(query, &[]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {query}");
}

/// Two writers of one group, and a folder between them: each goes through with a lock_timeout of a millisecond.
#[tokio::test]
async fn writers_of_one_group_do_not_wait_for_each_other_nor_for_the_folder() {
    let db = shop().await;
    let (first, second, folder) = (db.connect().await, db.connect().await, db.connect().await);
    first.batch_execute("begin; insert into s (store, amount) values (1, 1)").await.unwrap();
    folder
        .batch_execute("insert into s (store, amount) values (1, 1); begin; select pulso.fold('public.r')")
        .await
        .unwrap();
    second.batch_execute("set lock_timeout = '1ms'; begin; insert into s (store, amount) values (1, 1); update s set amount = 2 where id = 1; commit").await.unwrap();
    first.batch_execute("set lock_timeout = '1ms'; insert into s (store, amount) values (1, 1); commit").await.unwrap();
    assert_equal(&second, "public.r", QUERY, "while the folder is open").await;
    folder.batch_execute("commit").await.unwrap();
    assert_equal(&second, "public.r", QUERY, "after the folder").await;
}

/// The write skew that serialisable transactions must not get through a rollup: both read the total, both then add.
#[tokio::test]
async fn serializable_readers_of_a_rollup_and_writers_of_its_table_conflict() {
    let db = shop().await;
    let (one, two, folder) = (db.connect().await, db.connect().await, db.connect().await);
    let failures = AtomicU64::new(0);
    for (fold, ticks_before) in [(false, false), (true, false), (false, true), (true, true)] {
        for client in [&one, &two] {
            client.batch_execute("begin isolation level serializable; select from s where false").await.unwrap();
        }
        // What is written from here on is of later generations than the snapshots see.
        if ticks_before {
            folder
                .batch_execute(
                    "insert into s (store, amount) values (2, 1); select pulso.fold(); select pulso.announce()",
                )
                .await
                .unwrap();
        }
        for client in [&one, &two] {
            client.batch_execute("select total from r where store = 1").await.unwrap();
        }
        one.batch_execute("insert into s (store, amount) values (1, 1)").await.unwrap();
        two.batch_execute("insert into s (store, amount) values (1, 1)").await.unwrap();
        one.batch_execute("commit").await.unwrap();
        if fold {
            folder.batch_execute("select pulso.fold()").await.unwrap();
        }
        if let Err(error) = two.batch_execute("commit").await {
            assert_eq!(error.code().map(|code| code.code()), Some("40001"));
            failures.fetch_add(1, Ordering::Relaxed);
            two.batch_execute("rollback").await.unwrap();
        }
    }
    assert_eq!(failures.load(Ordering::Relaxed), 4, "one of each pair must fail");
}

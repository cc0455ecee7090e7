//! Snapshots that are kept while others write: exact, cheap to read, and soon forgotten.

use crate::assert_equal;
use crate::concurrency::{QUERY, eventually, look_until, shop_in};
use pulso::cluster::{Cluster, Options};
use pulso::db;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A folder in haste, and a rollup over `s` with some stores.
async fn hasty_shop(stores: i64) -> (Cluster, tokio_postgres::Client) {
    let options = Options::temporary().set("pulso.fold_interval", "10ms").set("pulso.feed_interval", "10ms");
    let cluster = Cluster::start(&options).await.unwrap();
    let client = db::connect(cluster.url()).await.unwrap();
    client
        .batch_execute(&format!(
            "create extension pulso; create table s (id int generated always as identity, store int, amount numeric);
             insert into s (store, amount) select i, 1 from generate_series(1, {stores}) i;
             select pulso.create_rollup('public.r', $${QUERY}$$)"
        ))
        .await
        .unwrap();
    eventually(&client, "select pulso.folder_running()").await;
    (cluster, client)
}

/// Statistics of a folder are told once the snapshot is gone that had kept what it deleted.
async fn updates_of_the_base(client: &tokio_postgres::Client, at_least: i64) -> i64 {
    eventually(client, &format!("select pg_stat_get_tuples_updated(base) >= {at_least} from pulso.rollup")).await;
    client.query_one("select pg_stat_get_tuples_updated(base) from pulso.rollup", &[]).await.unwrap().get(0)
}

/// Each fold leaves a dead row of each group that it changes for as long as a snapshot may need it, and a read walks them. Where there
/// are many groups, folds are rarer the more there are: at each of six hundred ticks, they would be six hundred.
#[tokio::test]
async fn under_a_long_snapshot_folds_of_many_groups_grow_with_the_root_of_the_work() {
    // More than are compacted.
    const STORES: i64 = 130;
    let (cluster, client) = hasty_shop(STORES).await;
    let old = db::connect(cluster.url()).await.unwrap();
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    let sell = format!("insert into s (store, amount) select i, 0.25 from generate_series(1, {STORES}) i");
    for _ in 0..600 {
        client.batch_execute(&sell).await.unwrap();
        tokio::time::sleep(Duration::from_millis(12)).await;
    }
    assert_equal(&client, "public.r", QUERY, "in a new snapshot").await;
    assert_equal(&old, "public.r", QUERY, "in the old one").await;
    old.batch_execute("commit").await.unwrap();
    client.batch_execute(&sell).await.unwrap();
    eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
    let folds = updates_of_the_base(&client, 3 * STORES).await / STORES;
    // As many as there are deltas at each: one sale up to the 130th fold, two up to the 260th, three from then on.
    assert!((20..=260 + 210 / 3 + 10).contains(&folds), "{folds} folds");
    assert_equal(&client, "public.r", QUERY, "afterwards").await;
    drop((client, old));
    cluster.stop().await.unwrap();
}

/// Few groups are compacted, at every tick: no reader, new or old, comes past more rows the longer the snapshot is kept.
#[tokio::test]
async fn under_a_long_snapshot_few_groups_are_compacted() {
    let (cluster, client) = hasty_shop(20).await;
    let (old, import) = (db::connect(cluster.url()).await.unwrap(), db::connect(cluster.url()).await.unwrap());
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    let sell = "insert into s (store, amount) select i, 0.25 from generate_series(1, 20) i";
    for sale in 0..1500 {
        client.batch_execute(sell).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        // Some of it while a transaction holds its generation.
        match sale {
            300 => import.batch_execute(&format!("begin; {sell}")).await.unwrap(),
            600 => import.batch_execute("commit").await.unwrap(),
            _ => {}
        }
        if sale % 100 == 0 {
            assert_equal(&client, "public.r", QUERY, "in a new snapshot").await;
            assert_equal(&old, "public.r", QUERY, "in the old one").await;
        }
    }
    eventually(&client, "select pending_deltas <= 40 from pulso.rollups").await;
    let ticks: i64 = client.query_one("select folded_through from pulso.rollups", &[]).await.unwrap().get(0);
    assert!(ticks > 100, "{ticks} ticks");
    // Rows that ten reads come past by the indexes of deltas and state, whether they see them or not.
    for (reader, snapshot) in [(&client, "new"), (&old, "old")] {
        let rows = async || {
            reader.batch_execute("select pg_stat_force_next_flush()").await.unwrap();
            // Those of a transaction that is open are told to others at its end: it looks at its own.
            let told = if snapshot == "old" { "xact_" } else { "" };
            let sql = format!(
                "select sum(pg_stat_get_{told}tuples_returned(indexrelid))::bigint from pg_index
                  where indrelid in ('pulso.state'::regclass, 'pulso.r_1_delta'::regclass)"
            );
            reader.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0)
        };
        let before = rows().await;
        for _ in 0..10 {
            reader.query("select * from r where store = 1", &[]).await.unwrap();
        }
        let read = rows().await - before;
        assert!((10..=10 * 70).contains(&read), "{read} rows for ten reads in the {snapshot} snapshot");
    }
    old.batch_execute("commit").await.unwrap();
    client.batch_execute(sell).await.unwrap();
    eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
    let folds = updates_of_the_base(&client, 3 * 20).await / 20;
    assert!((3..=10).contains(&folds), "{folds} folds");
    assert_equal(&client, "public.r", QUERY, "afterwards").await;
    drop((client, old, import));
    cluster.stop().await.unwrap();
}

/// Of what an old snapshot keeps of the state, a row for each tick and rollup, a folder comes past none: not to find its rollups,
/// nor to note what it has done, nor for the key of that.
#[tokio::test]
async fn a_folder_passes_by_what_a_snapshot_keeps_of_the_state() {
    let cluster = Cluster::start(&Options::temporary().set("pulso.fold", "off")).await.unwrap();
    let db = shop_in(&cluster).await;
    let (folder, old) = (db.connect().await, db.connect().await);
    folder.batch_execute("set pulso.fold_gently = on").await.unwrap();
    let tick = "insert into s (store, amount) select i, 0.25 from generate_series(1, 20) i; select pulso.announce(), pulso.fold()";
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    let read = async || {
        folder.batch_execute("select pg_stat_force_next_flush()").await.unwrap();
        let sql = "select (t.seq_tup_read + (select sum(i.idx_tup_read) from pg_stat_user_indexes i where i.relid = t.relid))::bigint,
                          (b.heap_blks_hit + b.idx_blks_hit)::bigint
                     from pg_stat_user_tables t join pg_statio_user_tables b using (relid) where t.relname = 'state'";
        let row = folder.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let cost = async |ticks: i64| {
        let before = read().await;
        for _ in 0..ticks {
            folder.batch_execute(tick).await.unwrap();
        }
        let after = read().await;
        ((after.0 - before.0) / ticks, (after.1 - before.1) / ticks)
    };
    let at_first = cost(20).await;
    cost(1000).await;
    let in_the_end = cost(20).await;
    assert!(in_the_end.0 <= at_first.0 + 3, "rows a tick: {at_first:?}, {in_the_end:?} after a thousand");
    assert!(in_the_end.1 <= at_first.1 + 10, "pages a tick: {at_first:?}, {in_the_end:?} after a thousand");
    assert_equal(&old, "public.r", QUERY, "in the old snapshot").await;
    assert_equal(&folder, "public.r", QUERY, "in a new one").await;
    drop((folder, old, db));
    cluster.stop().await.unwrap();
}

/// Of what a worker compacts while eight sessions write, some of them for long, no snapshot misses anything nor has it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_snapshot_is_exact_while_deltas_are_compacted() {
    let options = Options::temporary().set("pulso.fold_interval", "1ms").set("pulso.feed_interval", "1ms");
    let cluster = Cluster::start(&options).await.unwrap();
    let db = shop_in(&cluster).await;
    let client = db.connect().await;
    eventually(&client, "select pulso.folder_running()").await;
    let old = db.connect().await;
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8u64)
        .map(|number| {
            let (stop, connect) = (Arc::clone(&stop), db.connect());
            async move {
                let client = connect.await;
                let mut rng = ChaCha8Rng::seed_from_u64(number);
                while !stop.load(Ordering::Relaxed) {
                    let end = if rng.random_range(0..5) == 0 { "rollback" } else { "commit" };
                    let store = rng.random_range(0..20);
                    let change = match rng.random_range(0..3) {
                        0 => format!("update s set store = {store} where id in (select id from s where id % 8 = {number} order by random() limit 2)"),
                        1 => format!("delete from s where id in (select id from s where id % 8 = {number} order by random() limit 1)"),
                        _ => format!("insert into s (store, amount) select {store}, random()::numeric(10, 3) from generate_series(1, 3)"),
                    };
                    client.batch_execute(&format!("begin; {change}")).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(if number < 2 { 40 } else { 0 })).await;
                    client.batch_execute(&format!("{change}; {end}")).await.unwrap();
                }
            }
        })
        .collect();
    let readers: Vec<_> = ["read committed", "repeatable read", "serializable"]
        .into_iter()
        .map(|level| {
            let (stop, connect) = (Arc::clone(&stop), db.connect());
            async move { look_until(&stop, &connect.await, level).await }
        })
        .collect();
    let timer = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (looks, ..) =
        tokio::join!(futures_util::future::join_all(readers), futures_util::future::join_all(writers), timer);
    assert!(looks.iter().all(|count| *count > 10), "{looks:?}");
    assert_equal(&old, "public.r", QUERY, "in the old snapshot").await;
    old.batch_execute("commit").await.unwrap();
    client.batch_execute("insert into s (store, amount) values (1, 1)").await.unwrap();
    eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
    assert_equal(&client, "public.r", QUERY, "folded").await;
    let row = client
        .query_one("select reason, (select count(*) from pulso.r_1_base), folded_through from pulso.rollups", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, Option<String>>(0), None, "live to the end");
    assert!(row.get::<_, i64>(2) > 200, "{} ticks", row.get::<_, i64>(2));
    // A worker that folded each time would have left a row of each store at each tick.
    let updates = updates_of_the_base(&client, 10).await;
    assert!(updates < 20 * 20, "{updates} updates of the base");
    drop((client, old, db));
    cluster.stop().await.unwrap();
}

/// What a snapshot that is kept need not look at, and by whom nothing may be skipped.
#[tokio::test]
async fn a_kept_snapshot_skips_what_was_written_since() {
    // No other folder ticks, and no other database keeps snapshots.
    let cluster = Cluster::start(&Options::temporary().set("pulso.fold", "off")).await.unwrap();
    let db = shop_in(&cluster).await;
    let (client, old) = (db.connect().await, db.connect().await);
    let sell = "insert into s (store, amount) values (1, 1)";
    let last = "select pulso.last_visible_generation()";
    let counter = "select last_value from pulso.generation";
    let number =
        async |client: &tokio_postgres::Client, sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    // Pending in the old snapshot: of the current generation, and of one that a transaction holds.
    let holder = db.connect().await;
    holder.batch_execute(&format!("begin; {sell}")).await.unwrap();
    client.batch_execute(&format!("{sell}; select pulso.fold(); {sell}")).await.unwrap();
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    let before = number(&client, counter).await;
    holder.batch_execute("commit").await.unwrap();
    for _ in 0..50 {
        client.batch_execute(&format!("{sell}; select pulso.fold()")).await.unwrap();
    }
    // A tick before which nothing but older transactions ended cannot be told from the snapshot.
    let told = number(&old, last).await;
    assert!((before..=before + 1).contains(&told), "{told} at {before}");
    assert_equal(&old, "public.r", QUERY, "in the old snapshot").await;
    assert_eq!(number(&client, last).await, i64::MAX, "a snapshot of this moment");
    old.batch_execute(sell).await.unwrap();
    assert_eq!(number(&old, last).await, i64::MAX, "its own deltas are of a later generation");
    assert_equal(&old, "public.r", QUERY, "with a sale of its own").await;
    old.batch_execute("rollback").await.unwrap();
    assert!(number(&client, "select count(*) from pulso.visible_through").await >= 50, "kept while they are of use");
    // One folder takes away what is of no more use, and another does not wait for it.
    holder.batch_execute(&format!("begin; {sell}; select pulso.fold()")).await.unwrap();
    client.batch_execute(&format!("set lock_timeout = '1ms'; {sell}; select pulso.announce()")).await.unwrap();
    holder.batch_execute("commit").await.unwrap();
    client.batch_execute(&format!("{sell}; select pulso.fold(); {sell}; select pulso.fold()")).await.unwrap();
    assert!(number(&client, "select count(*) from pulso.visible_through").await < 5, "of no more use");

    // A counter set back by hand: deltas that were there keep their higher generations, and are seen.
    client
        .batch_execute(&format!(
            "{sell}; select setval('pulso.generation', last_value + 1000) from pulso.generation; {sell}"
        ))
        .await
        .unwrap();
    client
        .batch_execute(
            "select pulso.announce(); select setval('pulso.generation', last_value - 900) from pulso.generation",
        )
        .await
        .unwrap();
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    client.batch_execute(&format!("{sell}; select pulso.announce()")).await.unwrap();
    assert_equal(&old, "public.r", QUERY, "with a counter that was set back").await;
    old.batch_execute("rollback").await.unwrap();
    drop((client, old, holder, db));
    cluster.stop().await.unwrap();
}

/// Deltas that are folded, and that vacuum has to leave, are in nobody's way: who reads, looks for news or folds.
#[tokio::test]
async fn deltas_that_a_snapshot_keeps_are_passed_by() {
    let cluster = Cluster::start(&Options::temporary().set("pulso.fold", "off")).await.unwrap();
    let db = shop_in(&cluster).await;
    let (client, folder, old) = (db.connect().await, db.connect().await, db.connect().await);
    let sell = "insert into s (store, amount) values (1, 1)";
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    for _ in 0..20 {
        client.batch_execute(&format!("do $$ begin for i in 1..1000 loop {sell}; end loop; end $$")).await.unwrap();
        folder.batch_execute("select pulso.announce(); select pulso.fold()").await.unwrap();
    }
    client.batch_execute("analyze pulso.r_1_delta").await.unwrap();
    let tuples = async || {
        for client in [&client, &folder] {
            client.batch_execute("select pg_stat_force_next_flush()").await.unwrap();
        }
        let sql = "select (t.seq_tup_read + i.idx_tup_read)::bigint from pg_stat_user_tables t join pg_stat_user_indexes i using (relid) where t.relname = 'r_1_delta'";
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let before = tuples().await;
    assert!(before >= 20_000, "{before} were read when they were folded");
    for _ in 0..20 {
        client.batch_execute(&format!("{sell}; select * from r")).await.unwrap();
        folder.batch_execute("select pulso.announce(); select pulso.fold()").await.unwrap();
    }
    let read = tuples().await - before;
    assert!(read < 1_000, "{read} were read for 20 of them");
    assert_equal(&old, "public.r", QUERY, "in the old snapshot").await;
    drop((client, folder, old, db));
    cluster.stop().await.unwrap();
}

/// A table of deltas that an old snapshot has let grow gives its pages back, and keeps them otherwise.
#[tokio::test]
async fn a_large_table_of_deltas_shrinks_after_the_snapshot() {
    const KEPT: i64 = 64 << 20;
    let options = Options::temporary().set("pulso.fold_interval", "50ms").set("autovacuum_naptime", "1s");
    let cluster = Cluster::start(&options).await.unwrap();
    let client = db::connect(cluster.url()).await.unwrap();
    let (old, younger) = (db::connect(cluster.url()).await.unwrap(), db::connect(cluster.url()).await.unwrap());
    let query = "select name, count(*) as n from public.s group by name";
    client
        .batch_execute(&format!(
            "create extension pulso; create table s (name text);
             insert into s select repeat(md5(i::text), 40) from generate_series(1, 1000) i;
             alter table s alter name set storage plain; select pulso.create_rollup('public.r', $${query}$$);
             alter table pulso.r_1_delta alter k1 set storage plain"
        ))
        .await
        .unwrap();
    eventually(&client, "select pulso.folder_running()").await;
    let size = "select pg_relation_size(delta) from pulso.rollup";
    let may_shrink = "select 'vacuum_truncate=true' = any (reloptions) from pg_class where relname = 'r_1_delta'";
    client.batch_execute("insert into s select * from s limit 10").await.unwrap();
    eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
    assert!(!client.query_one(may_shrink, &[]).await.unwrap().get::<_, bool>(0), "a small one keeps its pages");
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    for _ in 0..70 {
        client.batch_execute("insert into s select distinct name from s").await.unwrap();
        // Autovacuum is told of what is deleted before the first look at what the snapshot needs, and a little is too little.
        eventually(&client, "select pending_deltas < 5000 from pulso.rollups").await;
    }
    let grown: i64 = client.query_one(size, &[]).await.unwrap().get(0);
    assert!(grown > 80 << 20, "{grown}");
    eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let vacuums = "select pg_stat_get_autovacuum_count('pulso.r_1_delta'::regclass)";
    assert_eq!(client.query_one(vacuums, &[]).await.unwrap().get::<_, i64>(0), 0, "it could take nothing yet");
    assert_equal(&old, "public.r", query, "in the old snapshot").await;
    // A younger one keeps some at the end of the table, too few for a vacuum to look at the indexes of its own accord.
    younger.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    client.batch_execute("insert into s select distinct name from s").await.unwrap();
    eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
    old.batch_execute("commit").await.unwrap();
    eventually(&client, "select pg_stat_get_dead_tuples('pulso.r_1_delta'::regclass) = 1000").await;
    let grown: i64 = client.query_one(size, &[]).await.unwrap().get(0);
    assert!(grown > 80 << 20, "{grown}");
    younger.batch_execute("commit").await.unwrap();
    // A large one may shrink, once there is something to take.
    client.batch_execute("insert into s values ('small')").await.unwrap();
    eventually(&client, may_shrink).await;
    // Whoever sells meanwhile waits for a moment at most.
    client.batch_execute("set lock_timeout = '1s'").await.unwrap();
    let mut left = grown;
    for second in 0..120 {
        if second % 5 == 0 {
            client.batch_execute("insert into s select 'small ' || i from generate_series(1, 200) i").await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        left = client.query_one(size, &[]).await.unwrap().get(0);
        if left <= KEPT {
            break;
        }
    }
    assert!(left <= KEPT, "{left} bytes of {grown}");
    // And is a small one again, once a fold does not meet a vacuum there.
    let mut may = true;
    for _ in 0..10 {
        client.batch_execute("insert into s values ('small')").await.unwrap();
        eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
        may = client.query_one(may_shrink, &[]).await.unwrap().get(0);
        if !may {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!may, "{may_shrink}");
    assert_equal(&client, "public.r", query, "afterwards").await;
    drop((client, old, younger));
    cluster.stop().await.unwrap();
}

/// What a snapshot has let grow is small again once it is gone and nobody sells: in other files, while others read.
#[tokio::test]
async fn tables_that_a_snapshot_has_let_grow_are_rewritten_at_rest() {
    const STORES: i64 = 2000;
    const REST: Duration = Duration::from_secs(7);
    let (cluster, client) = hasty_shop(STORES).await;
    let connect = async || db::connect(cluster.url()).await.unwrap();
    let (old, reader, younger) = (connect().await, connect().await, connect().await);
    let sell = format!("insert into s (store, amount) select i, 0.25 from generate_series(1, {STORES}) i");
    let tables = async |what: &str| {
        let sql =
            format!("select {what} from pulso.rollup, lateral unnest(array[base, delta]) as t (t) order by t = delta");
        let rows = client.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>()
    };
    let (files, bytes) = ("pg_relation_filenode(t)::bigint", "pg_total_relation_size(t)");
    let folded = async || eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    for _ in 0..500 {
        client.batch_execute(&sell).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        if tables(bytes).await.iter().all(|bytes| *bytes > 10 << 20) {
            break;
        }
    }
    folded().await;
    client.batch_execute("vacuum pulso.r_1_base, pulso.r_1_delta").await.unwrap();
    let (first, grown) = (tables(files).await, tables(bytes).await);
    assert!(grown.iter().all(|bytes| *bytes > 10 << 20), "{grown:?}");
    tokio::time::sleep(REST).await;
    assert_eq!(tables(files).await, first, "while a snapshot needs what is in them, they would be as large again");
    assert_equal(&old, "public.r", QUERY, "in the old snapshot").await;
    old.batch_execute("commit").await.unwrap();

    // Somebody has just read, and may read on: nobody waits for him, nor he for anybody.
    reader.batch_execute("begin; select * from r").await.unwrap();
    client.batch_execute(&sell).await.unwrap();
    folded().await;
    client.batch_execute("vacuum pulso.r_1_base, pulso.r_1_delta").await.unwrap();
    tokio::time::sleep(REST).await;
    assert_eq!(tables(files).await, first, "in use");
    younger.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    reader.batch_execute("commit; set lock_timeout = '500ms'").await.unwrap();
    let mut left = grown;
    for _ in 0..1000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        reader.batch_execute("select * from r where store = 1").await.unwrap();
        left = tables(bytes).await;
        if left.iter().all(|bytes| *bytes < 2 << 20) {
            break;
        }
    }
    assert!(left.iter().all(|bytes| *bytes < 2 << 20), "{left:?}");
    assert_equal(&younger, "public.r", QUERY, "in a snapshot of before").await;
    assert_equal(&client, "public.r", QUERY, "in a new one").await;
    let rewritten = tables(files).await;
    let marks = "select count(*) from pg_index where indisclustered";
    assert_eq!(client.query_one(marks, &[]).await.unwrap().get::<_, i64>(0), 0, "no mark of it is left");
    younger.batch_execute("commit").await.unwrap();
    client.batch_execute(&sell).await.unwrap();
    folded().await;
    tokio::time::sleep(REST).await;
    assert_eq!(tables(files).await, rewritten, "small ones are left alone");
    assert_equal(&client, "public.r", QUERY, "afterwards").await;
    drop((client, old, reader, younger));
    cluster.stop().await.unwrap();
}

/// Plans that were made for a table of deltas when it was as good as empty, as it is after a rest, are those for a large one: nothing
/// tells who keeps them that it grows.
#[tokio::test]
async fn plans_made_for_empty_deltas_do_not_read_them_from_the_beginning() {
    let (cluster, client) = hasty_shop(10).await;
    let (old, reader) = (db::connect(cluster.url()).await.unwrap(), db::connect(cluster.url()).await.unwrap());
    let sell = "insert into s (store, amount) select i, 0.25 from generate_series(1, 10) i";
    client.batch_execute(sell).await.unwrap();
    eventually(&client, "select pending_deltas = 0 from pulso.rollups").await;
    let delta: String = client.query_one("select delta::text from pulso.rollup", &[]).await.unwrap().get(0);
    client.batch_execute(&format!("vacuum full {delta}")).await.unwrap();
    let empty = "select relpages = 0 and reltuples = 0 from pg_class where oid = (select delta from pulso.rollup)";
    assert!(client.query_one(empty, &[]).await.unwrap().get::<_, bool>(0));
    reader.batch_execute("prepare read as select * from r where store = 3; execute read").await.unwrap();
    let scans = "select pg_stat_get_numscans(delta) from pulso.rollup";
    client.batch_execute("select pg_stat_force_next_flush()").await.unwrap();
    let before: i64 = client.query_one(scans, &[]).await.unwrap().get(0);

    let updated = updates_of_the_base(&client, 0).await;
    old.batch_execute("begin isolation level repeatable read; select from s").await.unwrap();
    for _ in 0..200 {
        client.batch_execute(sell).await.unwrap();
        reader.batch_execute("execute read").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    reader.batch_execute("select pg_stat_force_next_flush()").await.unwrap();
    old.batch_execute("commit").await.unwrap();
    client.batch_execute(sell).await.unwrap();
    updates_of_the_base(&client, updated + 10).await;
    let scanned: i64 = client.query_one(scans, &[]).await.unwrap().get(0);
    assert_eq!(scanned - before, 0, "reads of {delta} from its beginning");
    assert_equal(&client, "public.r", QUERY, "afterwards").await;
    drop((client, old, reader));
    cluster.stop().await.unwrap();
}

//! Build, alter and repair while everybody goes on: exact in every snapshot, and nobody waits.

use crate::common::{Db, Pauses, Scratch, cluster};
use crate::sessions::{code, patiently};
use crate::{assert_equal, differences};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::cluster::{Cluster, Options};
use pulso::db;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

const QUERY: &str = "select store, count(*) as n, sum(amount) as total from public.s group by store";
/// Two queries of the same columns; `v` tells which one a row comes from.
const EVEN: &str = "select store, 'even'::text as v, count(*) as n, sum(amount) as total from public.s where id % 2 = 0 group by store, 'even'::text";
const ALL: &str =
    "select store, 'all'::text as v, count(*) as n, sum(amount) as total from public.s group by store, 'all'::text";

async fn shop(rows: u32) -> Db {
    let db = Db::empty().await;
    db.connect()
        .await
        .batch_execute(&format!(
            "create extension pulso; create table s (id bigint generated always as identity primary key, store int, amount numeric);
             insert into s (store, amount) select i % 3, i from generate_series(1, {rows}) i; analyze s"
        ))
        .await
        .unwrap();
    db
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, sql: &str) -> T {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// Sessions that write until told to stop. None of them may wait for a lock longer than 300 ms, but where the machine
/// stood still.
async fn writers(db: &Db, count: u64, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<u64>> {
    let mut tasks = Vec::new();
    let pauses = Pauses::watch();
    for number in 0..count {
        let (client, stop, pauses) = (db.connect().await, Arc::clone(stop), pauses.clone());
        client.batch_execute("set lock_timeout = '300ms'").await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(number);
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                let store = rng.random_range(0..4);
                let end = if rng.random_range(0..5) == 0 { "rollback" } else { "commit" };
                let level = ["read committed", "repeatable read"][rng.random_range(0..2)];
                let first = rng.random_range(1..20_000);
                let sql = format!(
                    "begin isolation level {level};
                     insert into s (store, amount) select {store}, i * 0.25 from generate_series(1, {}) i;
                     savepoint a; update s set amount = amount + 1, store = (store + 1) % 4
                       where id in (select id from s where id between {first} and {first} + 5 for update skip locked);
                     {}
                     delete from s where id in (select id from s where id between {first} + 100 and {first} + 102 for update skip locked);
                     {end}",
                    rng.random_range(1..4),
                    if rng.random() { "rollback to a;" } else { "" },
                );
                match client.batch_execute(&sql).await {
                    Ok(()) => done += 1,
                    // Two writers met on a row of the shop's own table.
                    Err(error) => {
                        let excused = code(&error) == "55P03" && pauses.explain();
                        assert!(code(&error) == "40001" || excused, "a writer: {error:?}");
                        client.batch_execute("rollback").await.unwrap();
                    }
                }
            }
            done
        }));
    }
    tasks
}

async fn finish(stop: &AtomicBool, tasks: Vec<JoinHandle<u64>>) -> u64 {
    stop.store(true, Ordering::Relaxed);
    let mut all = 0;
    for task in tasks {
        let done = task.await.unwrap();
        assert!(done > 0, "a session did nothing");
        all += done;
    }
    all
}

async fn is_live(client: &Client, name: &str) -> bool {
    client.query_one("select live from pulso.rollups where name = $1", &[&name]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_under_eight_writers_is_exact_and_no_writer_waits() {
    let db = shop(150_000).await;
    let (builder, reader) = (db.connect().await, db.connect().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = writers(&db, 8, &stop).await;
    let looking = Arc::clone(&stop);
    let create = format!("select pulso.create_rollup('public.r', $${QUERY}$$, with_data => false)");
    patiently(&builder, &create).await;
    tasks.push(tokio::spawn(async move {
        let mut looks = 0;
        while !looking.load(Ordering::Relaxed) {
            match reader.query_one(&comparison("public.r", QUERY), &[]).await {
                Ok(row) => assert_eq!(row.get::<_, i64>(0), 0),
                // Between two rounds it is not there.
                Err(error) => assert_eq!(code(&error), "42P01", "{error:?}"),
            }
            looks += 1;
        }
        looks
    }));
    for round in 0..4 {
        assert!(!is_live(&builder, "r").await);
        let reason: String = one(&builder, "select reason from pulso.rollups").await;
        assert_eq!(reason, "not built yet");
        assert_eq!(differences(&builder, "public.r", QUERY).await, 0, "before the build of round {round}");
        let groups: i64 = one(&builder, "select pulso.build('public.r')").await;
        assert!(groups >= 3, "{groups}");
        assert!(is_live(&builder, "r").await);
        assert_eq!(differences(&builder, "public.r", QUERY).await, 0, "after the build of round {round}");
        for _ in 0..5 {
            builder.batch_execute("select pulso.fold()").await.unwrap();
            assert_eq!(differences(&builder, "public.r", QUERY).await, 0, "after a fold in round {round}");
        }
        if round < 3 {
            // drop_rollup waits for its locks; so do not let it hold up a writer for long.
            patiently(&builder, "set lock_timeout = '150ms'; select pulso.drop_rollup('public.r')").await;
            patiently(&builder, &create).await;
        }
    }
    let done = finish(&stop, tasks).await;
    builder.batch_execute("select pulso.fold()").await.unwrap();
    assert_equal(&builder, "public.r", QUERY, &format!("after {done} transactions")).await;
    assert_eq!(one::<i64>(&builder, "select pulso.build('public.r')").await, 0, "it is built already");
}

fn comparison(rollup: &str, query: &str) -> String {
    format!(
        "select count(*) from (
           (select * from {rollup} except all ({query})) union all (({query}) except all select * from {rollup})
         ) as d"
    )
}

/// Whoever makes a rollup and drops it is told of nothing that concerns nobody.
#[tokio::test]
async fn a_rollup_comes_and_goes_without_notices() {
    let db = shop(10).await;
    let sql = format!("select pulso.create_rollup('public.r', $${QUERY}$$); select pulso.drop_rollup('public.r')");
    let mut psql = std::process::Command::new(cluster().await.bindir().join("psql"));
    let output = psql.args(["-X", "-q", "-d", db.url(), "-c", &sql]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// What CREATE TRIGGER's lock is for: each row that the build's snapshot does not see must have its delta.
#[tokio::test]
async fn writers_from_before_the_triggers() {
    let db = shop(300).await;
    let (builder, written, idle, prepared) =
        (db.connect().await, db.connect().await, db.connect().await, db.connect().await);
    let create = format!("select pulso.create_rollup('public.r', $${QUERY}$$, false)");
    prepared.batch_execute("prepare add as insert into s (store, amount) values (1, 1); execute add").await.unwrap();
    idle.batch_execute("begin isolation level repeatable read; select count(*) from s").await.unwrap();
    written.batch_execute("begin; insert into s (store, amount) values (2, 2)").await.unwrap();

    let begun = std::time::Instant::now();
    let error = builder.batch_execute(&create).await.expect_err("an open transaction has written");
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited for {:?}", begun.elapsed());
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "55P03");
    assert!(error.message().contains("public.s is busy"), "{}", error.message());
    assert!(error.hint().unwrap().contains("try again"), "{:?}", error.hint());
    assert_eq!(one::<i64>(&builder, "select count(*) from pulso.rollup").await, 0, "nothing is left behind");
    assert!(one::<bool>(&builder, "select to_regclass('public.r') is null").await);

    written.batch_execute("commit").await.unwrap();
    builder.batch_execute(&create).await.unwrap();
    // Begun before the triggers, written after them, open while it is built.
    idle.batch_execute("insert into s (store, amount) values (3, 3)").await.unwrap();
    prepared.batch_execute("begin; execute add").await.unwrap();
    builder.batch_execute("select pulso.build('public.r')").await.unwrap();
    for client in [&builder, &idle, &prepared] {
        assert_eq!(differences(client, "public.r", QUERY).await, 0, "while both are open");
    }
    idle.batch_execute("insert into s (store, amount) values (3, 4); commit").await.unwrap();
    builder.batch_execute("select pulso.fold('public.r')").await.unwrap();
    assert_equal(&builder, "public.r", QUERY, "with one of them folded").await;
    prepared.batch_execute("execute add; commit").await.unwrap();
    assert_equal(&builder, "public.r", QUERY, "after both").await;
    builder.batch_execute("select pulso.fold('public.r')").await.unwrap();
    assert_equal(&builder, "public.r", QUERY, "with both folded").await;
    assert_eq!(
        one::<i64>(&builder, "select sum(pending_deltas)::bigint from pulso.rollups").await,
        0,
        "nothing stays pending"
    );
}

/// TRUNCATE empties a table in every snapshot, also in those that see its rows: the build's must come after it.
#[tokio::test]
async fn a_build_that_has_to_wait_for_a_truncate() {
    let db = shop(300).await;
    let (client, truncater) = (db.connect().await, db.connect().await);
    client.batch_execute(&format!("select pulso.create_rollup('public.r', $${QUERY}$$, false)")).await.unwrap();
    for function in ["build", "repair"] {
        truncater
            .batch_execute("begin; truncate s; insert into s (store, amount) values (1, 1), (2, 2)")
            .await
            .unwrap();
        let builder = db.connect().await;
        let pid: i32 = one(&builder, "select pg_backend_pid()").await;
        let call = format!("select pulso.{function}('public.r')");
        let build = tokio::spawn(async move { builder.batch_execute(&call).await });
        let waits = format!("select exists (select from pg_locks where pid = {pid} and not granted)");
        for _ in 0..1000 {
            if one::<bool>(&client, &waits).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(one::<bool>(&client, &waits).await, "{function} does not wait for the truncate");
        truncater.batch_execute("commit").await.unwrap();
        build.await.unwrap().unwrap();
        assert_equal(&client, "public.r", QUERY, function).await;
        client.batch_execute("select pulso.fold('public.r')").await.unwrap();
        assert_equal(&client, "public.r", QUERY, function).await;
    }
}

/// A build in the transaction that has written, and one that writes on.
#[tokio::test]
async fn a_build_among_the_transactions_own_writes() {
    let db = shop(30).await;
    let client = db.connect().await;
    client
        .batch_execute(&format!(
            "select pulso.create_rollup('public.r', $${QUERY}$$, false);
             begin; insert into s (store, amount) values (1, 1); select pulso.build('public.r');
             delete from s where store = 2; savepoint a; insert into s (store, amount) values (5, 5)"
        ))
        .await
        .unwrap();
    assert_eq!(differences(&client, "public.r", QUERY).await, 0);
    client
        .batch_execute("rollback to a; select pulso.repair('public.r'); insert into s (store, amount) values (6, 6)")
        .await
        .unwrap();
    assert_eq!(differences(&client, "public.r", QUERY).await, 0);
    client.batch_execute("commit").await.unwrap();
    assert_equal(&client, "public.r", QUERY, "after the commit").await;
    client.batch_execute("select pulso.fold()").await.unwrap();
    assert_equal(&client, "public.r", QUERY, "after the fold").await;
    // Undone, a build is as if it had not been.
    client.batch_execute(&format!("select pulso.create_rollup('public.q', $${QUERY}$$, false)")).await.unwrap();
    client.batch_execute("begin; select pulso.build('public.q'); rollback").await.unwrap();
    assert!(!is_live(&client, "q").await);
    client.batch_execute("select pulso.build('public.q')").await.unwrap();
    assert_equal(&client, "public.q", QUERY, "built the second time").await;
}

const SLOW: &str = "select public.slow(store) as store, count(*) as n, sum(amount) as total from public.s group by 1";

/// A rollup that takes seconds to build.
async fn make_slow(client: &Client) {
    client
        .batch_execute(&format!(
            "create extension pulso; create table s (id bigint generated always as identity primary key, store int, amount numeric, padding text);
             create function slow(int) returns int language plpgsql immutable as $f$ begin perform pg_sleep(0.001); return $1; end $f$;
             insert into s (store, amount, padding) select i % 3, i, repeat('x', 400) from generate_series(1, 3000) i;
             select pulso.create_rollup('public.r', $${SLOW}$$, false)"
        ))
        .await
        .unwrap();
}

/// Starts a build in a task of its own; returns its process when it has read a part of the table.
async fn begin_build(builder: Client, watcher: &Client) -> (i32, JoinHandle<Result<(), tokio_postgres::Error>>) {
    let task = tokio::spawn(async move { builder.batch_execute("select pulso.build('public.r')").await });
    for _ in 0..1000 {
        let row = watcher
            .query_opt("select pid, blocks_done, blocks_total, phase from pulso.progress where name = 'r'", &[])
            .await
            .unwrap();
        if let Some(row) = row.filter(|row| row.get::<_, i64>(1) > 5) {
            assert!(row.get::<_, i64>(1) <= row.get::<_, i64>(2), "{row:?}");
            assert_eq!(row.get::<_, &str>(3), "reading");
            return (row.get(0), task);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no progress is seen");
}

#[tokio::test]
async fn a_build_that_is_terminated_leaves_nothing_and_can_be_repeated() {
    let db = Db::empty().await;
    let client = db.connect().await;
    make_slow(&client).await;
    for end in ["pg_terminate_backend", "pg_cancel_backend"] {
        let (pid, build) = begin_build(db.connect().await, &client).await;
        client.batch_execute("insert into s (store, amount) values (1, 1)").await.unwrap();
        client.query_one(&format!("select {end}($1)"), &[&pid]).await.unwrap();
        build.await.unwrap().expect_err("a build that was ended");
        assert!(!is_live(&client, "r").await);
        assert_eq!(one::<i64>(&client, "select count(*) from pulso.r_1_base").await, 0);
        assert_eq!(one::<i64>(&client, "select count(*) from pulso.progress").await, 0);
        assert_eq!(differences(&client, "public.r", SLOW).await, 0, "after {end}");
    }
    client.batch_execute("select pulso.build('public.r')").await.unwrap();
    assert!(is_live(&client, "r").await);
    assert_equal(&client, "public.r", SLOW, "built at last").await;
    assert_eq!(one::<i64>(&client, "select count(*) from pulso.progress").await, 0);
}

#[tokio::test]
async fn a_build_that_is_killed_leaves_nothing_and_can_be_repeated() {
    let scratch = Scratch::new();
    let options = Options { data_dir: Some(scratch.data()), ..Options::default() }.set("shared_buffers", "64MB");
    let mut cluster = Cluster::start(&options).await.unwrap();
    make_slow(&db::connect(cluster.url()).await.unwrap()).await;
    for whole in [false, true] {
        let watcher = db::connect(cluster.url()).await.unwrap();
        let (pid, build) = begin_build(db::connect(cluster.url()).await.unwrap(), &watcher).await;
        watcher.batch_execute("insert into s (store, amount) values (1, 1)").await.unwrap();
        let victim = if whole { cluster.postmaster_pid().unwrap() } else { pid };
        kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
        build.await.unwrap().expect_err("a build that was killed");
        if whole {
            cluster = Cluster::start(&options).await.unwrap();
        }
        let client = reconnect(cluster.url()).await;
        assert!(!is_live(&client, "r").await);
        assert_eq!(one::<i64>(&client, "select count(*) from pulso.r_1_base").await, 0);
        assert_eq!(differences(&client, "public.r", SLOW).await, 0, "after the kill");
    }
    let client = reconnect(cluster.url()).await;
    assert_eq!(one::<i64>(&client, "select count(*) from s where padding is null").await, 2);
    client.batch_execute("select pulso.build('public.r'); insert into s (store, amount) values (1, 1)").await.unwrap();
    assert!(is_live(&client, "r").await);
    assert_equal(&client, "public.r", SLOW, "built at last").await;
    drop(client);
    cluster.stop().await.unwrap();
}

/// Patiently, while the server recovers.
async fn reconnect(url: &str) -> Client {
    for _ in 0..600 {
        if let Ok(client) = db::connect(url).await
            && client.batch_execute("select 1").await.is_ok()
        {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server does not come back");
}

#[tokio::test]
async fn alter_keeps_the_view_and_what_rests_on_it() {
    let db = shop(300).await;
    let client = db.connect().await;
    let longer = "select store, count(*) as n, sum(amount) as total, count(*) filter (where amount > 100) as large from public.s group by store";
    client
        .batch_execute(&format!(
            "select pulso.create_rollup('public.r', $${QUERY}$$);
             alter view r set (security_barrier = true); comment on view r is 'by store';
             create view over as select sum(n) as n from r;
             drop role if exists life_reader; create role life_reader; grant select on r to life_reader"
        ))
        .await
        .unwrap();
    client.batch_execute(&format!("select pulso.alter_rollup('public.r', $${longer}$$)")).await.unwrap();
    assert_equal(&client, "public.r", longer, "after alter").await;
    assert!(is_live(&client, "r").await);
    for statement in
        ["insert into s (store, amount) values (1, 500)", "delete from s where store = 2", "select pulso.fold()"]
    {
        client.batch_execute(statement).await.unwrap();
        assert_equal(&client, "public.r", longer, statement).await;
    }
    assert_eq!(
        one::<i64>(&client, "select n::bigint from over").await,
        one::<i64>(&client, "select count(*) from s").await
    );
    assert!(one::<bool>(&client, "select has_table_privilege('life_reader', 'public.r', 'select')").await);
    assert!(one::<bool>(&client, "select reloptions = array['security_barrier=true'] and obj_description(oid) = 'by store' from pg_class where oid = 'public.r'::regclass").await);

    // Refused before anything is built, and without a trace.
    for (query, offending) in [
        ("select store, count(*) as n from public.s group by store", "gone"),
        (
            "select store, count(*) as m, sum(amount) as total, count(*) as large from public.s group by store",
            "n bigint and would be m bigint",
        ),
        (
            "select store, sum(amount) as n, sum(amount) as total, count(*) as large from public.s group by store",
            "n bigint and would be n numeric",
        ),
    ] {
        let error = client.execute("select pulso.alter_rollup('public.r', $1)", &[&query]).await.expect_err(query);
        let error = error.as_db_error().unwrap().clone();
        assert_eq!(error.code().code(), "42P16", "{error:?}");
        assert!(error.message().contains(offending), "{}", error.message());
        assert!(error.hint().is_some_and(|hint| hint.contains("at the end")), "{error:?}");
    }
    let error = client.batch_execute("select pulso.alter_rollup('public.r', 'select store, count(*) as n from public.s group by store having count(*) > 1')").await.expect_err("having");
    assert_eq!(code(&error), "0A000");
    assert_eq!(relations(&client).await, 3, "base, delta and query of one rollup");
    assert_equal(&client, "public.r", longer, "after what was refused").await;
    client.batch_execute("drop view over; select pulso.drop_rollup('public.r'); drop role life_reader").await.unwrap();
    assert_eq!(relations(&client).await, 0);
}

/// Such as which rows a role may see.
#[tokio::test]
async fn alter_keeps_the_conditions_around_the_view() {
    let db = shop(300).await;
    let client = db.connect().await;
    // Columns of the view and of others by the same name, at two levels, in two layers.
    client
        .batch_execute(&format!(
            "create table hidden (store int); insert into hidden values (2), (3); create schema \"o'dd\"; create table \"o'dd\".few (n bigint); insert into \"o'dd\".few values (1);
             select pulso.create_rollup('public.r', $${QUERY}$$);
             do $do$
             begin
               execute format('create or replace view r with (security_barrier) as select q.* from (%s) as q where not exists (select from hidden where hidden.store = q.store)', rtrim(pg_get_viewdef('r'), ';'));
               execute format('create or replace view r with (security_barrier) as select v.* from (%s) as v where (select array_agg(n) from \"o''dd\".few f) is not null and (select max(f.n) from \"o''dd\".few f) <= n', rtrim(pg_get_viewdef('r'), ';'));
             end
             $do$"
        ))
        .await
        .unwrap();
    let shown = |query: &str| {
        format!("select * from ({query}) q where store not in (2, 3) and (select max(f.n) from \"o'dd\".few f) <= n")
    };
    let longer = "select store, count(*) as n, sum(amount) as total, count(*) filter (where amount > 100) as large from public.s group by store";
    assert_eq!(differences(&client, "public.r", &shown(QUERY)).await, 0);
    for (query, online) in [(longer, false), (&longer.replace("100", "50"), true)] {
        client
            .batch_execute(&format!("select pulso.alter_rollup('public.r', $${query}$$, {})", !online))
            .await
            .unwrap();
        client.batch_execute("select pulso.build('public.r')").await.unwrap();
        assert_eq!(differences(&client, "public.r", &shown(query)).await, 0);
        assert_eq!(one::<i64>(&client, "select count(*) from r where store in (2, 3)").await, 0);
        client.batch_execute("insert into s (store, amount) values (1, 75), (2, 500), (4, 1)").await.unwrap();
        assert_eq!(differences(&client, "public.r", &shown(query)).await, 0);
        client.batch_execute("update \"o'dd\".few set n = n + 1000").await.unwrap();
        assert_eq!(one::<i64>(&client, "select count(*) from r").await, 0);
        client.batch_execute("update \"o'dd\".few set n = n - 1000").await.unwrap();
    }
    assert!(
        one::<bool>(
            &client,
            "select reloptions = array['security_barrier=true'] from pg_class where oid = 'r'::regclass"
        )
        .await
    );
    // What is not a condition would be lost.
    let before: String = one(&client, "select pg_get_viewdef('r')").await;
    for what in [
        "select v.* from (%s) as v limit 2",
        "select distinct v.* from (%s) as v",
        "select v.* from (%s) as v join hidden using (store)",
        "select v.store, v.n, v.total + 1 as total, v.large from (%s) as v",
        "select v.store, v.large as n, v.total, v.n as large from (%s) as v",
        "select v.store, 0::bigint as n, 0::numeric as total, 0::bigint as large from hidden as v",
    ] {
        client.batch_execute(&format!("do $do$ begin execute format($$create or replace view r as {what}$$, rtrim(pg_get_viewdef('r'), ';')); end $do$")).await.unwrap();
        let error = client.execute("select pulso.alter_rollup('public.r', $1)", &[&longer]).await.expect_err(what);
        assert_eq!(code(&error), "55000", "{what}: {error:?}");
        assert_eq!(relations(&client).await, 3, "base, delta and query of one rollup");
        client.batch_execute(&format!("create or replace view r with (security_barrier) as {before}")).await.unwrap();
    }
    client.batch_execute(&format!("select pulso.alter_rollup('public.r', $${longer}$$)")).await.unwrap();
    assert_eq!(differences(&client, "public.r", &shown(longer)).await, 0);
}

/// Relations of rollups in the engine's schema.
async fn relations(client: &Client) -> i64 {
    one(client, "select count(*) from pg_class where relnamespace = 'pulso'::regnamespace and relname ~ '_[0-9]+_(base|delta|query|next)$'").await
}

#[tokio::test]
async fn alter_online_swaps_when_it_is_built() {
    let db = shop(300).await;
    let client = db.connect().await;
    client
        .batch_execute(&format!(
            "select pulso.create_rollup('public.r', $${ALL}$$); create table other (id bigint, store int, amount numeric); insert into other select id, store, amount from s;
             select pulso.alter_rollup('public.r', $${QUERY_OF_OTHER}$$, with_data => false);
             select pulso.alter_rollup('public.r', $${EVEN}$$, with_data => false)"
        ))
        .await
        .unwrap();
    assert_eq!(
        one::<i64>(&client, "select count(*) from pulso.rollups where replaces = 'r'").await,
        1,
        "the latest alter wins"
    );
    assert_eq!(one::<i64>(&client, "select count(*) from pg_trigger where tgrelid = 'other'::regclass").await, 0);
    for statement in ["insert into s (store, amount) values (1, 1)", "select pulso.fold()"] {
        client.batch_execute(statement).await.unwrap();
        assert_equal(&client, "public.r", ALL, "while it is the old one").await;
    }
    client.batch_execute("select pulso.build('public.r')").await.unwrap();
    assert_equal(&client, "public.r", EVEN, "swapped").await;
    client.batch_execute("insert into s (store, amount) values (1, 1), (2, 2); select pulso.fold()").await.unwrap();
    assert_equal(&client, "public.r", EVEN, "after a fold").await;
    // To another table: triggers come and go.
    client.batch_execute(&format!("select pulso.alter_rollup('public.r', $${QUERY_OF_OTHER}$$)")).await.unwrap();
    client.batch_execute("insert into other values (1000, 1, 1); truncate s").await.unwrap();
    assert_equal(&client, "public.r", QUERY_OF_OTHER, "of another table").await;
    assert_eq!(
        one::<i64>(&client, "select count(*) from pg_trigger where tgrelid = 's'::regclass and tgname like 'pulso%'")
            .await,
        0
    );
    // An alter that is given up goes with its rollup.
    client
        .batch_execute(&format!(
            "select pulso.alter_rollup('public.r', $${EVEN}$$, false); select pulso.drop_rollup('public.r')"
        ))
        .await
        .unwrap();
    assert_eq!(relations(&client).await, 0);
    assert_eq!(one::<i64>(&client, "select count(*) from pg_trigger where tgname like 'pulso%'").await, 0);
}

const QUERY_OF_OTHER: &str = "select store, 'other'::text as v, count(*) as n, sum(amount) as total from public.other group by store, 'other'::text";

/// A dashboard that keeps its transaction open keeps the swap from happening, and nothing else.
#[tokio::test]
async fn a_swap_gives_way_to_readers() {
    let db = shop(300).await;
    let (client, reader, other) = (db.connect().await, db.connect().await, db.connect().await);
    client.batch_execute(&format!("select pulso.create_rollup('public.r', $${ALL}$$)")).await.unwrap();
    reader.batch_execute("begin isolation level repeatable read; select * from r").await.unwrap();
    other.batch_execute("set lock_timeout = '300ms'").await.unwrap();
    let alter = format!("select pulso.alter_rollup('public.r', $${EVEN}$$)");
    let (error, ()) = tokio::join!(client.batch_execute(&alter), async {
        let pauses = Pauses::watch();
        for _ in 0..50 {
            if let Err(error) = other.batch_execute("select * from r").await {
                assert!(code(&error) == "55P03" && pauses.explain(), "{error:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let error = error.expect_err("the view is in use");
    assert_eq!(code(&error), "55P03", "{error:?}");
    assert!(error.as_db_error().unwrap().hint().unwrap().contains("pulso.build"));
    assert_eq!(differences(&reader, "public.r", ALL).await, 0);
    client.batch_execute(&format!("select pulso.alter_rollup('public.r', $${EVEN}$$, false)")).await.unwrap();
    let building = async {
        client.batch_execute("select pulso.build('public.r')").await.unwrap();
    };
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(differences(&reader, "public.r", ALL).await, 0, "still the old one");
        reader.batch_execute("insert into s (store, amount) values (1, 1)").await.unwrap();
        assert_eq!(differences(&reader, "public.r", ALL).await, 0, "still the old one, after a write");
        reader.batch_execute("commit").await.unwrap();
    };
    tokio::join!(building, leaving);
    assert_equal(&client, "public.r", EVEN, "swapped when the reader had left").await;
    client.batch_execute("select pulso.fold()").await.unwrap();
    assert_equal(&client, "public.r", EVEN, "and folded").await;
}

#[tokio::test]
async fn old_snapshots_read_right_numbers_across_build_alter_and_repair() {
    let db = shop(300).await;
    let (client, writer) = (db.connect().await, db.connect().await);
    let mut old = Vec::new();
    client.batch_execute(&format!("select pulso.create_rollup('public.r', $${ALL}$$, false); select pulso.create_rollup('public.q', $${QUERY}$$)")).await.unwrap();
    for step in [
        "select 1".to_owned(),
        "select pulso.build('public.r')".to_owned(),
        "select pulso.fold()".to_owned(),
        "select pulso.repair('public.r'); select pulso.repair('public.q')".to_owned(),
        format!("select pulso.alter_rollup('public.r', $${EVEN}$$)"),
        "select pulso.fold()".to_owned(),
        format!("select pulso.alter_rollup('public.r', $${ALL}$$, false)"),
        "select pulso.build('public.r')".to_owned(),
    ] {
        // A snapshot from before the step; of r it reads nothing yet, or the swap would wait for it.
        let reader = db.connect().await;
        reader.batch_execute("begin isolation level repeatable read; select count(*) from s").await.unwrap();
        let before = reader.query("select * from q order by 1", &[]).await.unwrap();
        writer.batch_execute("insert into s (store, amount) values (7, 7), (1, 1); update s set amount = amount + 1 where id % 10 = 0; delete from s where id % 17 = 3").await.unwrap();
        client.batch_execute(&step).await.unwrap_or_else(|error| panic!("{step}: {error:?}"));
        writer.batch_execute("update s set store = 2 where store = 7").await.unwrap();
        let after = reader.query("select * from q order by 1", &[]).await.unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"), "{step}");
        assert_eq!(differences(&reader, "public.q", QUERY).await, 0, "q across {step}");
        old.push((step, reader));
    }
    for (step, reader) in &old {
        assert_eq!(differences(reader, "public.r", ALL).await, 0, "the snapshot from before {step}");
        reader.batch_execute("insert into s (store, amount) values (9, 9)").await.unwrap();
        assert_eq!(differences(reader, "public.r", ALL).await, 0, "the snapshot from before {step}, after a write");
    }
    for (_, reader) in old {
        reader.batch_execute("commit").await.unwrap();
    }
    client.batch_execute("select pulso.fold()").await.unwrap();
    assert_equal(&client, "public.r", ALL, "at the end").await;
}

#[tokio::test]
async fn repair_mends_what_somebody_has_spoiled() {
    let db = shop(300).await;
    let client = db.connect().await;
    client.batch_execute(&format!("select pulso.create_rollup('public.r', $${QUERY}$$)")).await.unwrap();
    for harm in [
        "update pulso.r_1_base set n = n + 1 where k1 = 1",
        "delete from pulso.r_1_base",
        "set session_replication_role = replica; insert into s (store, amount) values (8, 8); reset session_replication_role",
        "insert into s (store, amount) values (1, 1); delete from pulso.r_1_delta",
    ] {
        client.batch_execute(harm).await.unwrap();
        assert!(one::<i64>(&client, "select pulso.verify('public.r')").await > 0, "{harm}");
        client.batch_execute("select pulso.repair('public.r')").await.unwrap();
        assert_equal(&client, "public.r", QUERY, harm).await;
        client.batch_execute("insert into s (store, amount) values (2, 2); select pulso.fold()").await.unwrap();
        assert_equal(&client, "public.r", QUERY, harm).await;
    }
    // One that the folder has given up.
    client
        .batch_execute(
            "update pulso.state set live = false, reason = 'a test'; insert into s (store, amount) values (2, 2)",
        )
        .await
        .unwrap();
    client.batch_execute("select pulso.repair('public.r')").await.unwrap();
    assert!(one::<bool>(&client, "select live and reason is null from pulso.rollups").await);
    assert_equal(&client, "public.r", QUERY, "live again").await;
}

#[tokio::test]
async fn verify_compares_a_part() {
    let db = shop(300).await;
    let client = db.connect().await;
    client
        .batch_execute(&format!(
            "select pulso.create_rollup('public.r', $${QUERY}$$); update pulso.r_1_base set n = n + 1 where k1 = 1"
        ))
        .await
        .unwrap();
    for (filter, expected) in [("store = 1", 2), ("store = 2", 0), ("store in (1, 2) -- all", 2), ("total > 0", 2)] {
        let found: i64 = client.query_one("select pulso.verify('public.r', $1)", &[&filter]).await.unwrap().get(0);
        assert_eq!(found, expected, "{filter}");
    }
    assert_eq!(one::<i64>(&client, "select pulso.verify('public.r')").await, 2);
    for (filter, state) in [("nothing = 1", "42703"), ("store", "42804"), ("store = 1) or (", "42601")] {
        let error = client.query_one("select pulso.verify('public.r', $1)", &[&filter]).await.expect_err(filter);
        assert_eq!(code(&error), state, "{error:?}");
    }
}

#[tokio::test]
async fn explain_shows_what_is_run() {
    let db = shop(30).await;
    let client = db.connect().await;
    client.batch_execute(&format!("select pulso.create_rollup('public.r', $${EVEN}$$)")).await.unwrap();
    let rows = client.query("select step, sql from pulso.explain_rollup('public.r')", &[]).await.unwrap();
    let of = |step: &str| {
        rows.iter()
            .find(|row| row.get::<_, &str>(0) == step)
            .unwrap_or_else(|| panic!("no {step}: {rows:?}"))
            .get::<_, String>(1)
    };
    assert_eq!(of("capture: from"), "public.s");
    assert_eq!(of("capture: k1"), "store");
    assert!(of("capture: where").contains('%'));
    assert!(of("fold").contains("pulso.r_1_delta"));
    // They are statements that run, and the first two give what the view gives.
    assert_equal(&client, "public.r", &of("read"), "by the shown SQL").await;
    client.batch_execute(&of("build")).await.unwrap();
    client.batch_execute(&of("build: instead, where a number is NaN or infinite")).await.unwrap();
}

#[tokio::test]
async fn refusals_of_build_alter_and_repair() {
    let db = shop(30).await;
    let client = db.connect().await;
    client
        .batch_execute(&format!(
            "drop role if exists life_stranger; create role life_stranger;
             select pulso.create_rollup('public.r', $${QUERY}$$, false); grant select on r to life_stranger; grant usage on schema public to life_stranger"
        ))
        .await
        .unwrap();
    for call in [
        "build('public.%s')",
        "repair('public.%s')",
        "alter_rollup('public.%s', 'select store, count(*) as n from public.s group by store')",
    ] {
        for (level, role, name, state) in [
            ("repeatable read", "postgres", "r", "25001"),
            ("serializable", "postgres", "r", "25001"),
            ("read committed", "life_stranger", "r", "42501"),
            ("read committed", "postgres", "nothing", "42P01"),
        ] {
            let sql = format!(
                "begin isolation level {level}; set local role {role}; select pulso.{}",
                call.replace("%s", name)
            );
            let error = client.batch_execute(&sql).await.expect_err(&sql);
            let error = error.as_db_error().unwrap().clone();
            assert_eq!(error.code().code(), state, "{sql}: {error:?}");
            assert!(error.hint().is_some(), "{sql}: {error:?}");
            client.batch_execute("rollback").await.unwrap();
        }
    }
    client.batch_execute("drop owned by life_stranger; drop role life_stranger").await.unwrap();
}

/// A restore gone wrong, or a hand: generations begin anew, below what is folded.
#[tokio::test]
async fn a_generation_counter_set_back_is_found_and_mended() {
    let db = shop(30).await;
    let (client, writer, builder) = (db.connect().await, db.connect().await, db.connect().await);
    client.batch_execute(&format!("select pulso.create_rollup('public.r', $${QUERY}$$)")).await.unwrap();
    for _ in 0..20 {
        client.batch_execute("insert into s (store, amount) values (1, 1); select pulso.fold()").await.unwrap();
    }
    client.batch_execute("select setval('pulso.generation', 2)").await.unwrap();
    // Its generation is one that everybody takes for folded.
    writer.batch_execute("begin; insert into s (store, amount) values (1, 1)").await.unwrap();
    client.batch_execute("select pulso.fold()").await.unwrap();
    let row = client.query_one("select live, reason from pulso.rollups", &[]).await.unwrap();
    assert!(!row.get::<_, bool>(0));
    assert!(row.get::<_, &str>(1).contains("generation counter was at 2"), "{:?}", row.get::<_, &str>(1));
    assert!(
        one::<bool>(&client, "select g.last_value > s.folded_through from pulso.generation g, pulso.state s").await
    );
    let repair = tokio::spawn(async move { builder.batch_execute("select pulso.repair('public.r')").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!is_live(&client, "r").await, "the repair waits for a writer whose generation it cannot tell apart");
    writer.batch_execute("insert into s (store, amount) values (1, 2); commit").await.unwrap();
    repair.await.unwrap().unwrap();
    assert!(is_live(&client, "r").await);
    for _ in 0..3 {
        assert_equal(&client, "public.r", QUERY, "mended").await;
        client.batch_execute("insert into s (store, amount) values (1, 1); select pulso.fold()").await.unwrap();
    }
    assert_equal(&client, "public.r", QUERY, "at the end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fold_build_alter_and_repair_at_random_moments_under_writers() {
    let db = shop(10_000).await;
    let client = db.connect().await;
    client.batch_execute(&format!("select pulso.create_rollup('public.r', $${ALL}$$)")).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = writers(&db, 4, &stop).await;
    for level in ["read committed", "repeatable read"] {
        let (reader, stop) = (db.connect().await, Arc::clone(&stop));
        let sql = format!("select least(({}), ({}))", comparison("public.r", ALL), comparison("public.r", EVEN));
        tasks.push(tokio::spawn(async move {
            let mut looks = 0;
            while !stop.load(Ordering::Relaxed) {
                reader.batch_execute(&format!("begin isolation level {level}")).await.unwrap();
                for _ in 0..2 {
                    assert_eq!(one::<i64>(&reader, &sql).await, 0, "at {level}");
                    looks += 1;
                }
                reader.batch_execute("commit").await.unwrap();
            }
            looks
        }));
    }
    let (folder, folding) = (db.connect().await, Arc::clone(&stop));
    tasks.push(tokio::spawn(async move {
        let mut folds = 0;
        while !folding.load(Ordering::Relaxed) {
            folder.batch_execute("select pulso.fold()").await.unwrap();
            folds += 1;
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        folds
    }));
    let seed: u64 = std::env::var("PULSO_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("PULSO_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let begun = std::time::Instant::now();
    let (mut steps, mut swaps) = (0, 0);
    // Longer on a slow machine.
    while begun.elapsed() < Duration::from_secs(15)
        || ((steps <= 5 || swaps == 0) && begun.elapsed() < Duration::from_secs(180))
    {
        let query = if rng.random() { ALL } else { EVEN };
        let step = match rng.random_range(0..5) {
            0 => "select pulso.repair('public.r')".to_owned(),
            1 => "select pulso.build('public.r')".to_owned(),
            2 | 3 => format!("select pulso.alter_rollup('public.r', $${query}$$, false)"),
            _ => "begin; select pulso.repair('public.r'); rollback".to_owned(),
        };
        if let Err(error) = client.batch_execute(&step).await {
            assert_eq!(code(&error), "55P03", "{step}: {error:?}");
        } else {
            steps += 1;
            swaps += i32::from(step.contains("alter_rollup"));
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
    }
    assert!(steps > 5 && swaps > 0, "{steps} steps, {swaps} alters");
    let done = finish(&stop, tasks).await;
    client.batch_execute("select pulso.build('public.r'); select pulso.fold()").await.unwrap();
    assert_eq!(
        one::<i64>(&client, "select pulso.verify('public.r')").await,
        0,
        "after {done} transactions, {steps} steps"
    );
    assert_eq!(
        one::<i64>(
            &client,
            &format!("select least(({}), ({}))", comparison("public.r", ALL), comparison("public.r", EVEN))
        )
        .await,
        0
    );
    assert_eq!(relations(&client).await, 3);
}

/// Rollups that come and go leave no plans in the memory of the session that folds them.
#[tokio::test]
async fn plans_of_rollups_that_are_gone_are_forgotten() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create extension pulso; create table s (a int); insert into s values (1); select count(*) from s",
        )
        .await
        .unwrap();
    let plans = "select count(*) from pg_backend_memory_contexts where name = 'CachedPlanSource'";
    let mut kept = Vec::new();
    for number in 0..40 {
        client
            .batch_execute(&format!(
                "select pulso.create_rollup('public.r{number}', 'select a, count(*) as n from public.s group by a');
                 insert into s values (2); select pulso.announce(); insert into s values (3); select pulso.fold();
                 select pulso.drop_rollup('public.r{number}')"
            ))
            .await
            .unwrap();
        kept.push(one::<i64>(&client, plans).await);
    }
    assert!(kept[39] <= kept[9] + 5, "{kept:?}");
}

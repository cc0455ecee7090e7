//! `pulso doctor`: each finding, provoked.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use pulso::cluster::{Cluster, Options};
use pulso::db;
use pulso::worker;
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

struct Told {
    code: i32,
    report: Value,
}

impl Told {
    fn by(url: &str, args: &[&str]) -> Self {
        let output = Command::new(env!("CARGO_BIN_EXE_pulso"))
            .args(["doctor", "--json"])
            .args(args)
            .env("DATABASE_URL", url)
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        Self { code: output.status.code().unwrap(), report }
    }

    fn findings(&self) -> &[Value] {
        self.report["findings"].as_array().unwrap()
    }

    /// A finding of this severity and check, about this object, with these words, and a cure with those.
    #[track_caller]
    fn has(&self, severity: &str, check: &str, object: &str, finding: &str, cure: &str) {
        let found = self.findings().iter().any(|f| {
            f["severity"] == severity
                && f["check"] == check
                && f["object"].as_str().unwrap().contains(object)
                && f["finding"].as_str().unwrap().contains(finding)
                && f["cure"].as_str().unwrap().contains(cure)
        });
        assert!(found, "{severity} {check} {object}: {finding} ({cure}) is not in\n{:#}", self.report);
    }
}

async fn migrated(url: &str) -> Client {
    let mut sql = db::connect(url).await.unwrap();
    pulso::migrate::up(&mut sql).await.unwrap();
    sql
}

#[tokio::test]
async fn a_healthy_database_has_no_findings_and_what_is_switched_off_then_is_found() {
    let options = Options { temporary: true, ..Options::default() }
        .set("shared_buffers", "32MB")
        .set("idle_in_transaction_session_timeout", "10min");
    let cluster = Cluster::start(&options).await.unwrap();
    let sql = migrated(cluster.url()).await;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker::run(worker::Options::new(cluster.url()), stop.clone()));
    worker::run_now(cluster.url(), "refresh_views", &stop).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let told = Told::by(cluster.url(), &[]);
        if told.findings().is_empty() {
            assert_eq!((told.code, &told.report["status"]), (0, &Value::Null));
            assert!(told.report["checks"].as_array().unwrap().len() > 10);
            break;
        }
        assert!(Instant::now() < deadline, "{:#}", told.report);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stop.cancel();
    worker.await.unwrap();

    sql.batch_execute("alter system set pulso.fold = off").await.unwrap();
    sql.batch_execute("select pg_reload_conf()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let told = Told::by(cluster.url(), &[]);
    told.has("warning", "folding", "pulso.fold", "switched off", "alter system set pulso.fold = on");
    assert!(told.code >= 4);
    sql.batch_execute("alter system reset pulso.fold").await.unwrap();
    cluster.stop().await.unwrap();
}

const SICK: &str = "
  insert into public.stores (id, name) values ('00000000-0000-4000-8000-000000000001', 'A');
  insert into public.sales (store_id, number, sold_at, rate, totals) values ('00000000-0000-4000-8000-000000000001', '1', now(), 40, '{}');
  update pulso.state set live = false, reason = 'a test' where id = (select id from pulso.rollup where view = 'analytics.payment_mix_daily'::regclass);
  alter table public.sales disable trigger pulso_insert;
  drop trigger pulso_update on public.sale_items;
  create materialized view analytics.a_empty as select 1 as x with no data;
  create materialized view analytics.a_old as select 1 as x;
  create table public.zero (n int);
  create materialized view analytics.a_broken as select 1 / n as x from public.zero;
  insert into public.zero values (0);
  select pulso.refresh_view('analytics.a_old');
  insert into pulso.view_refresh (name, failed_at, error) values ('analytics.a_broken', now(), 'division by zero');
  insert into pulso.job (name, task, command, schedule, next_slot) values ('late', 'sql', 'select 1', 'every 1h', now() - interval '1 day');
  insert into pulso.job (name, task, command, schedule, paused, last_error) values ('poor', 'sql', 'select 1', 'every 1h', true, 'it hurts');
  select pg_create_physical_replication_slot('forgotten', true);
  create table public.odd (n int, m int) with (autovacuum_enabled = false);
  insert into public.odd select i, i from generate_series(1, 100) i;
  create index odd_unused on public.odd (m);
  create index odd_invalid on public.odd (n);
  update pg_index set indisvalid = false where indexrelid = 'public.odd_invalid'::regclass;
  create table public.parent (id int primary key);
  insert into public.parent values (1);
  create table public.child (parent_id int references public.parent);
  insert into public.child select 1 from generate_series(1, 10);
  do $$ begin for i in 1..120 loop perform count(*) from public.child; end loop; end $$;
  update pg_extension set extversion = '0.1.0' where extname = 'pulso';
  delete from public.odd;
  create publication everything for all tables;
  select pg_stat_force_next_flush()";

#[tokio::test]
async fn each_ailment_is_named_with_its_cure() {
    let options = Options::temporary()
        .set("shared_buffers", "32MB")
        .set("shared_preload_libraries", "")
        .set("autovacuum", "off")
        .set("jit", "on")
        .set("max_worker_processes", "2")
        .set("autovacuum_naptime", "2min");
    let cluster = Cluster::start(&options).await.unwrap();
    let sql = migrated(cluster.url()).await;
    sql.batch_execute("create database bare").await.unwrap();
    let bare = Told::by(&cluster.url_of("bare"), &[]);
    bare.has("wrong", "versions", "extension pulso", "not in this database", "pulso migrate up");
    bare.has("warning", "migrations", "database", "pending", "pulso migrate plan");
    bare.has("note", "rollups", "this check", "cannot be made", "pulso migrate up");
    assert_eq!(bare.code, 5);

    sql.batch_execute(SICK).await.unwrap();
    let idle = db::connect(cluster.url()).await.unwrap();
    idle.batch_execute("begin; select 1 from public.stores").await.unwrap();
    let prepared = db::connect(cluster.url()).await.unwrap();
    prepared.batch_execute("begin; insert into public.zero values (1); prepare transaction 'left'").await.unwrap();
    let slow = db::connect(cluster.url()).await.unwrap();
    let sleeper = tokio::spawn(async move { slow.batch_execute("select pg_sleep(30)").await });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let strict = [
        "--long-transaction",
        "0 seconds",
        "--idle-transaction",
        "0 seconds",
        "--stale-view",
        "0 seconds",
        "--pending",
        "0",
        "--slot-wal",
        "0",
        "--unused-index",
        "0",
        "--dead-rows",
        "10",
        "--connections",
        "0",
        "--transaction-age",
        "0",
    ];
    let told = Told::by(cluster.url(), &strict);
    assert_eq!((told.code, &told.report["status"]), (5, &"wrong".into()));
    for (severity, check, object, finding, cure) in [
        ("warning", "versions", "extension pulso", "the database has version 0.1.0", "alter extension pulso update"),
        ("note", "folding", "shared_preload_libraries", "not preloaded", "shared_preload_libraries = 'pulso'"),
        ("wrong", "folding", "folder", "nobody folds", "pulso worker"),
        ("wrong", "triggers", "pulso_insert on sales", "does not fire", "enable trigger pulso_insert"),
        ("wrong", "triggers", "pulso_update on sale_items", "is missing", "pulso rollup repair"),
        ("wrong", "rollups", "analytics.payment_mix_daily", "a test", "pulso rollup repair"),
        ("warning", "rollups", "analytics.sales_hourly", "1 changes are not folded", "pulso rollup fold"),
        ("warning", "views", "analytics.a_empty", "has no data", "pulso job run refresh_views"),
        ("warning", "views", "analytics.a_old", "figures are of", "pulso job list"),
        ("wrong", "views", "analytics.a_broken", "division by zero", "pulso job run refresh_views"),
        ("warning", "jobs", "job late", "has been due since", "pulso worker"),
        ("warning", "jobs", "job poor", "it hurts", "pulso job history poor"),
        ("note", "jobs", "job poor", "paused", "pulso job resume poor"),
        ("warning", "sessions", "backend", "an idle transaction", "pg_terminate_backend"),
        ("warning", "sessions", "backend", "a transaction by", "pg_terminate_backend"),
        ("warning", "sessions", "prepared transaction left", "has waited", "rollback prepared 'left'"),
        ("warning", "sessions", "connections", "are in use", "PgBouncer"),
        ("wrong", "replication", "slot forgotten", "nobody reads it", "pg_drop_replication_slot('forgotten')"),
        ("note", "replication", "publication everything", "FOR ALL TABLES", "by name"),
        ("wrong", "indexes", "odd_invalid", "invalid", "reindex index concurrently"),
        ("note", "indexes", "odd_unused", "never been read", "drop index concurrently"),
        ("warning", "indexes", "table child", "child_parent_id_fkey", "create index concurrently on child (parent_id)"),
        ("note", "indexes", "table child", "was read whole 1", "give it an index"),
        ("wrong", "settings", "autovacuum", "never cleaned up", "set autovacuum = on"),
        ("wrong", "settings", "fsync", "destroy", "set fsync = on"),
        ("note", "settings", "jit", "lose by compiling", "set jit = off"),
        ("warning", "settings", "max_worker_processes", "is 2", "max_worker_processes = 16"),
        ("note", "settings", "autovacuum_naptime", "is 120 s", "10s"),
        ("note", "settings", "idle_in_transaction_session_timeout", "is 0", "10min"),
        ("warning", "upkeep", "table odd", "of its 100 rows are dead", "vacuum odd"),
        ("warning", "upkeep", "table odd", "autovacuum is off", "reset (autovacuum_enabled)"),
        ("wrong", "upkeep", "database", "transactions old", "freeze"),
    ] {
        told.has(severity, check, object, finding, cure);
    }
    // The worst come first.
    let order: Vec<_> = told.findings().iter().map(|f| f["severity"].as_str().unwrap()).collect();
    assert!(order.windows(2).all(|pair| pair[0] >= pair[1]), "{order:?}");

    sql.batch_execute("alter role postgres set session_replication_role = replica").await.unwrap();
    Told::by(cluster.url(), &[]).has("wrong", "settings", "session_replication_role", "not captured", "alter role");
    let text =
        Command::new(env!("CARGO_BIN_EXE_pulso")).arg("doctor").env("DATABASE_URL", cluster.url()).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("cure: ") && text.contains(" wrong, ") && text.contains("wrong    folder: nobody folds"),
        "{text}"
    );
    let bad = Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(["doctor", "--stale-view", "soon"])
        .env("DATABASE_URL", cluster.url())
        .output()
        .unwrap();
    assert_eq!(bad.status.code(), Some(2), "{bad:?}");
    let away = Command::new(env!("CARGO_BIN_EXE_pulso"))
        .arg("doctor")
        .env("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        .output()
        .unwrap();
    assert_eq!(away.status.code(), Some(3));

    sleeper.abort();
    drop(idle);
    prepared.batch_execute("rollback prepared 'left'").await.unwrap();
    cluster.stop().await.unwrap();
}

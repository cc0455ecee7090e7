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
  insert into pulso.api_key (name, hint, hash, role, created_at, expires_at) values
    ('idle', 'pulso_', sha256('1'), 'viewer', now() - interval '100 days', null),
    ('old one', 'pulso_', sha256('2'), 'viewer', now() - interval '300 days', null),
    ('ending', 'pulso_', sha256('3'), 'viewer', now() - interval '300 days', now() + interval '2 days'),
    ('in use', 'pulso_', sha256('4'), 'viewer', now() - interval '300 days', null),
    ('new', 'pulso_', sha256('5'), 'viewer', now(), now() + interval '2 days');
  insert into pulso.api_key_use (name, day, requests, refused, failed, last_used_at) values
    ('old one', current_date - 200, 1, 0, 0, now() - interval '200 days'), ('ending', current_date, 1, 0, 0, now()), ('in use', current_date, 1, 0, 0, now());
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
        ("note", "keys", "key idle", "never been used", "pulso key revoke idle"),
        ("note", "keys", "key old one", "used last", "pulso key revoke 'old one'"),
        ("warning", "keys", "key ending", "it ends", "pulso key create"),
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
    assert_eq!(told.findings().iter().filter(|one| one["check"] == "keys").count(), 3, "{:#}", told.report);
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

/// The launcher, Postgres's own for logical replication, and one for a folder.
#[tokio::test]
async fn a_database_that_gets_no_folder_is_named() {
    let options = Options::temporary().set("max_worker_processes", "3").set("shared_buffers", "32MB");
    let cluster = Cluster::start(&options).await.unwrap();
    let admin = db::connect(cluster.url()).await.unwrap();
    let rollup = "create table public.t (k int, x numeric); select pulso.create_rollup('public.r', 'select k, sum(x) as x from public.t group by k')";
    let mut left = 0;
    for name in ["one", "two"] {
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
        let sql = migrated(&cluster.url_of(name)).await;
        sql.batch_execute(rollup).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    // Which of them gets it is the launcher's choice; a database without the extension keeps none.
    while left != 1 {
        assert!(Instant::now() < deadline, "{left} databases without a folder");
        tokio::time::sleep(Duration::from_millis(500)).await;
        left = 0;
        for name in ["one", "two"] {
            let sql = db::connect(&cluster.url_of(name)).await.unwrap();
            let runs: bool = sql.query_one("select pulso.folder_running()", &[]).await.unwrap().get(0);
            let told = Told::by(&cluster.url_of(name), &[]);
            let named = told.findings().iter().any(|f| f["object"] == "folder");
            if !runs && named {
                told.has("wrong", "folding", "folder", "no background worker is free", "max_worker_processes = 12");
                left += 1;
            }
        }
    }
    // Others are not shown what a session of the server's is for, and are told all the same.
    admin.batch_execute("create role doctor_reader login").await.unwrap();
    let mut runs = 0;
    for name in ["one", "two"] {
        let mut config: tokio_postgres::Config = cluster.url_of(name).parse().unwrap();
        let (reader, connection) = config.user("doctor_reader").connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        runs += i32::from(reader.query_one("select pulso.folder_running()", &[]).await.unwrap().get::<_, bool>(0));
        let number = "select has_sequence_privilege('pulso.change', 'select') and not has_sequence_privilege('pulso.change', 'usage, update')";
        assert!(reader.query_one(number, &[]).await.unwrap().get::<_, bool>(0));
    }
    assert_eq!(runs, 1);
    let log = std::fs::read_to_string(cluster.log()).unwrap();
    let mut named: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("is free to fold database ")).map(|(_, name)| name).collect();
    assert!(named.iter().any(|name| name.starts_with("one:") || name.starts_with("two:")), "{log}");
    let lines = named.len();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), lines, "each once: {log}");
    drop(admin);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn spare_room_is_estimated_and_measured_where_it_can_be() {
    let cluster = Cluster::start(&Options::temporary().set("autovacuum", "off")).await.unwrap();
    let sql = migrated(cluster.url()).await;
    // Full ones, of every alignment, must not be suspected; of a puffed one four of five rows are gone.
    sql.batch_execute(
        "create table mixed (id uuid primary key default gen_random_uuid(), n int, flag boolean, t text, j jsonb, m numeric(12,2), at timestamptz default now());
         insert into mixed (n, flag, t, j, m) select i, i % 3 = 0, case when i % 4 <> 0 then repeat('x', i % 40) end, jsonb_build_object('a', i), i * 1.25 from generate_series(1, 30000) i;
         create table wide (a bigint primary key, b bigint, c bigint);
         insert into wide select i, i, i from generate_series(1, 30000) i;
         create index on wide (b, c);
         create table narrow (a smallint, b boolean, c int, d boolean, e bigint);
         insert into narrow select i % 100, true, i, false, i from generate_series(1, 30000) i;
         create index on narrow (a);
         create index on mixed (t);
         create index on mixed (m);
         create table puffed (id int primary key, pad text);
         insert into puffed select i, repeat('x', 200) from generate_series(1, 30000) i;
         delete from puffed where id % 5 <> 0",
    )
    .await
    .unwrap();
    sql.batch_execute("vacuum analyze").await.unwrap();
    let bloated = |told: &Told| {
        let of = told.findings().iter().filter(|one| one["check"] == "bloat");
        let mut of: Vec<_> = of.map(|one| one["object"].as_str().unwrap().to_owned()).collect();
        of.sort();
        of
    };
    let told = Told::by(cluster.url(), &["--bloat", "0"]);
    assert_eq!(bloated(&told), ["index puffed_pkey", "table puffed"], "{:#}", told.report);
    told.has("warning", "bloat", "table puffed", "are spare room (estimated from statistics)", "vacuum full puffed");
    told.has("warning", "bloat", "index puffed_pkey", "are spare room", "reindex index concurrently puffed_pkey");
    assert_eq!(bloated(&Told::by(cluster.url(), &[])), [""; 0], "some megabytes are nothing");
    sql.batch_execute("create schema tools; create extension pgstattuple schema tools").await.unwrap();
    let told = Told::by(cluster.url(), &["--bloat", "0"]);
    assert_eq!(bloated(&told), ["index puffed_pkey", "table puffed"], "{:#}", told.report);
    told.has("warning", "bloat", "table puffed", "are spare room (measured)", "pg_repack");
    told.has("warning", "bloat", "index puffed_pkey", "(measured)", "reindex");
    // The cures cure.
    sql.batch_execute("vacuum full puffed").await.unwrap();
    sql.batch_execute("vacuum analyze puffed").await.unwrap();
    assert_eq!(bloated(&Told::by(cluster.url(), &["--bloat", "0"])), [""; 0]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_ails_timescaledb_is_named_with_its_cure() {
    for major in [17, 18] {
        let Some(cluster) = common::timescale(major).await else { return };
        let sql = db::connect(cluster.url()).await.unwrap();
        let before = Told::by(cluster.url(), &[]);
        assert!(before.findings().iter().all(|f| f["check"] != "timescale"), "{:#}", before.report);
        sql.batch_execute(
            "create extension timescaledb;
             create table h (id int, at timestamptz not null, primary key (id, at));
             select create_hypertable('h', 'at');
             create table refers (id int, at timestamptz, constraint refers_to_h foreign key (id, at) references h)",
        )
        .await
        .unwrap();
        let told = Told::by(cluster.url(), &[]);
        let bug = |told: &Told| {
            told.findings().iter().any(|f| f["check"] == "timescale" && f["object"] == "refers_to_h on refers")
        };
        // 2.19 on 17, 2.31 on 18.
        assert_eq!(bug(&told), major == 17, "{:#}", told.report);
        if major == 17 {
            told.has(
                "wrong",
                "timescale",
                "refers_to_h on refers",
                "sixth check",
                "plan_cache_mode = force_custom_plan",
            );
            let name: String = sql.query_one("select current_database()::text", &[]).await.unwrap().get(0);
            sql.batch_execute(&format!("alter database {name} set plan_cache_mode = force_custom_plan")).await.unwrap();
            assert!(!bug(&Told::by(cluster.url(), &[])));
        }
        drop(sql);
        let bindir = Some(cluster.bindir().to_path_buf());
        cluster.stop().await.unwrap();
        // Databases postgres and pulso; the launcher of each extension.
        let options = Options { bindir, ..Options::temporary() }
            .set("timescaledb.max_background_workers", "2")
            .set("max_parallel_workers", "4")
            .set("max_worker_processes", "8");
        let few = Cluster::start(&options).await.unwrap();
        db::connect(few.url()).await.unwrap().batch_execute("create extension timescaledb").await.unwrap();
        let told = Told::by(few.url(), &[]);
        told.has("warning", "timescale", "timescaledb.max_background_workers", "is 2", "max_background_workers = 10;");
        told.has("note", "timescale", "max_worker_processes", "may be asked for", "max_worker_processes = 10;");
        few.stop().await.unwrap();
    }
}

/// A tier without the extension does not lack it.
#[tokio::test]
async fn the_plain_tier_is_not_asked_for_the_extension() {
    let db = common::Db::empty().await;
    let mut sql = db.connect().await;
    pulso::migrate::up_on(&mut sql, pulso::migrate::Tier::Plain).await.unwrap();
    let told = Told::by(db.url(), &[]);
    let unasked = |f: &&Value| {
        ["versions", "folding", "triggers", "rollups"].iter().any(|check| f["check"] == *check)
            || f["object"] == "this check"
    };
    assert_eq!(told.findings().iter().filter(unasked).count(), 0, "{:#}", told.report);
    assert!(told.report["checks"].as_array().unwrap().iter().any(|check| check == "views"));
}

/// A server whose configuration has lost the library, under a database that was made with another release.
#[tokio::test]
async fn a_timescaledb_that_is_not_what_the_server_has_is_found() {
    let Some(cluster) = common::timescale(17).await else { return };
    let bindir = Some(cluster.bindir().to_path_buf());
    cluster.stop().await.unwrap();
    let options = Options { bindir, ..Options::temporary() }.set("shared_preload_libraries", "pulso");
    let cluster = Cluster::start(&options).await.unwrap();
    let sql = db::connect(cluster.url()).await.unwrap();
    sql.batch_execute("insert into pg_extension values (60000, 'timescaledb', 10, 2200, false, '2.18.0', null, null)")
        .await
        .unwrap();
    let told = Told::by(cluster.url(), &[]);
    told.has(
        "wrong",
        "timescale",
        "shared_preload_libraries",
        "lacks timescaledb",
        "= timescaledb, pulso; and restart",
    );
    told.has(
        "note",
        "timescale",
        "extension timescaledb",
        "is 2.18.0 here; the server's files are of 2.19",
        "alter extension timescaledb update",
    );
    drop(sql);
    cluster.stop().await.unwrap();
}

/// What continuous aggregates and policies may do wrong, on a server with the Community edition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ails_continuous_aggregates_is_named_with_its_cure() {
    let Some(community) = common::Community::database().await else { return };
    let url = community.url();
    let migrate = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pulso"))
            .arg("migrate")
            .args(args)
            .env("DATABASE_URL", &url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    migrate(&["up", "--tier", "timescale", "--hypertable", "sales"]);
    let sql = community.connect().await;
    sql.batch_execute(
        "insert into stores (id, name) values ('00000000-0000-4000-8000-000000000001', 'Abasto');
         insert into sales (store_id, number, sold_at, rate, totals)
         select '00000000-0000-4000-8000-000000000001', i::text, now() - i * interval '7 hours', 40, '{\"total_bs\": 40}' from generate_series(1, 100) i;
         update pulso.aggregate set as_of = null",
    )
    .await
    .unwrap();
    let of_aggregates = |told: &Told| told.findings().iter().filter(|one| one["check"] == "aggregates").count();
    let told = Told::by(&url, &[]);
    assert_eq!(of_aggregates(&told), 8, "{:#}", told.report);
    told.has(
        "warning",
        "aggregates",
        "pulso.sales_hourly_by_hour",
        "was never refreshed",
        "pulso job run refresh_views",
    );
    worker::run_now(&url, "refresh_views", &CancellationToken::new()).await.unwrap();
    let told = Told::by(&url, &[]);
    assert_eq!(of_aggregates(&told), 0, "{:#}", told.report);
    assert!(told.report["checks"].as_array().unwrap().iter().any(|check| check == "aggregates"));

    sql.batch_execute(
        "select remove_continuous_aggregate_policy('pulso.sales_hourly_by_hour');
         select remove_continuous_aggregate_policy('pulso.payment_mix_daily_by_hour');
         select add_continuous_aggregate_policy('pulso.payment_mix_daily_by_hour', start_offset => interval '3 hours', end_offset => interval '1 hour',
                  schedule_interval => interval '1 hour', initial_start => now() + interval '1 hour');
         select alter_job(job_id, scheduled => false) from timescaledb_information.jobs where config ->> 'mat_hypertable_id' = (
           select substring(materialization_hypertable_name from '\\d+') from timescaledb_information.continuous_aggregates where view_name = 'payment_mix_daily_by_day');
         alter materialized view pulso.sales_daily_totals_by_hour set (timescaledb.materialized_only = true);
         update pulso.aggregate set as_of = now() - interval '2 days' where name = 'pulso.sales_daily_totals_by_day';
         create table broken (id int, at timestamptz not null, v int); select create_hypertable('broken', 'at');
         insert into broken values (1, now() - interval '2 days', 0);
         insert into pulso.history_hold values ('public.events', 'warehouse', null);
         select add_retention_policy('events', interval '10 years'); select add_retention_policy('sales', interval '10 years');
         select add_retention_policy('real_time_metrics', interval '10 years');
         select add_retention_policy('pulso.sales_daily_totals_by_month', interval '20 years')",
    )
    .await
    .unwrap();
    sql.batch_execute("create materialized view breaks with (timescaledb.continuous, timescaledb.materialized_only = false) as select time_bucket('1 hour', at) as b, sum(1 / v) from broken group by 1 with no data").await.unwrap();
    sql.batch_execute("select add_continuous_aggregate_policy('breaks', start_offset => interval '90 days', end_offset => interval '1 hour', schedule_interval => interval '1 hour')").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !sql
        .query_one(
            "select exists (select from timescaledb_information.job_errors where err_message like '%division%')",
            &[],
        )
        .await
        .unwrap()
        .get::<_, bool>(0)
    {
        assert!(Instant::now() < deadline, "its policy does not fail");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let told = Told::by(&url, &[]);
    for (severity, object, finding, cure) in [
        (
            "warning",
            "pulso.sales_hourly_by_hour",
            "has no refresh policy",
            "select add_continuous_aggregate_policy('pulso.sales_hourly_by_hour'",
        ),
        (
            "warning",
            "pulso.payment_mix_daily_by_hour",
            "looks back 03:00:00",
            "remove_continuous_aggregate_policy('pulso.payment_mix_daily_by_hour')",
        ),
        ("wrong", "pulso.payment_mix_daily_by_day", "is switched off", "scheduled => true"),
        (
            "warning",
            "pulso.sales_daily_totals_by_hour",
            "is not real-time",
            "alter materialized view pulso.sales_daily_totals_by_hour set (timescaledb.materialized_only = false)",
        ),
        ("warning", "pulso.sales_daily_totals_by_day", "was refreshed last 2 days", "pulso job run refresh_views"),
        ("wrong", "public.breaks", "its refresh policy fails: division by zero", "timescaledb_information.job_errors"),
        (
            "wrong",
            "public.events",
            "asks nobody; needed by warehouse",
            "insert into pulso.history_rule (source, drop_after) values ('public.events', '10 years')",
        ),
        (
            "wrong",
            "public.sales",
            "asks nobody: materialized view analytics_all.",
            "select remove_retention_policy('public.sales')",
        ),
        (
            "wrong",
            "pulso.sales_daily_totals_by_month",
            "what it has added up",
            "select remove_retention_policy('pulso.sales_daily_totals_by_month')",
        ),
    ] {
        told.has(severity, "aggregates", object, finding, cure);
    }
    assert_eq!(of_aggregates(&told), 9, "and nothing of what is as it should be: {:#}", told.report);
    assert_eq!(of_aggregates(&Told::by(&url, &["--late-change", "1 hour"])), 8);
}

/// Rollups count rows that a policy drops.
#[tokio::test]
async fn a_retention_policy_under_rollups_is_found() {
    let Some(community) = common::Community::database().await else { return };
    let mut sql = community.connect().await;
    sql.batch_execute("set pulso_migrate.hypertable = 'sales'").await.unwrap();
    pulso::migrate::up(&mut sql).await.unwrap();
    sql.batch_execute("select add_retention_policy('sales', interval '10 years')").await.unwrap();
    let told = Told::by(&community.url(), &[]);
    told.has("wrong", "aggregates", "public.sales", "it would lose them", "remove_retention_policy('public.sales')");
    // Without the reports there are rollups, which have counted the rows.
    pulso::migrate::undo(&mut sql, "reports", 0, false).await.unwrap();
    let told = Told::by(&community.url(), &[]);
    told.has("warning", "aggregates", "public.sales", "after 10 years and asks nobody", "job keep_history drops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standbys_that_are_named_are_looked_at() {
    let cluster = Cluster::start(&Options::temporary()).await.unwrap();
    migrated(cluster.url()).await;
    let standby = tokio::task::block_in_place(|| common::standby::Standby::of(&cluster, ""));
    let (url, name) = (standby.url_of("pulso"), standby.name());
    let of_replicas = |told: &Told| told.findings().iter().filter(|one| one["check"] == "replicas").count();
    let told = Told::by(cluster.url(), &["--read-url", &url]);
    assert_eq!(of_replicas(&told), 0, "{:#}", told.report);
    assert!(told.report["checks"].as_array().unwrap().iter().any(|check| check == "replicas"));
    let reader = db::connect(&url).await.unwrap();
    reader.batch_execute("select pg_wal_replay_pause()").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !reader.query_one("select pg_is_wal_replay_paused()", &[]).await.unwrap().get::<_, bool>(0) {
        assert!(Instant::now() < deadline, "its replay is not paused");
    }
    let told = Told::by(cluster.url(), &["--read-url", &url]);
    told.has("warning", "replicas", &name, "paused", "pg_wal_replay_resume");
    reader.batch_execute("select pg_wal_replay_resume()").await.unwrap();
    // The primary itself, another server, and nobody.
    let other = Cluster::start(&Options::temporary()).await.unwrap();
    let other_standby = tokio::task::block_in_place(|| common::standby::Standby::of(&other, ""));
    let urls =
        [cluster.url(), &other_standby.url_of("pulso"), "postgresql://pulso:hunter2@127.0.0.1:1/pulso"].join(",");
    let told = Told::by(cluster.url(), &["--read-url", &urls]);
    told.has("wrong", "replicas", "", "no standby", "DATABASE_URL");
    told.has("wrong", "replicas", &other_standby.name(), "follows cluster", "pg_basebackup");
    told.has("warning", "replicas", "127.0.0.1:1", "cannot be asked", "PULSO_READ_URLS");
    assert_eq!((told.code, of_replicas(&told)), (5, 3));
    assert!(!told.report.to_string().contains("hunter2"));
    drop(reader);
    tokio::task::block_in_place(|| standby.promote());
    let told = Told::by(cluster.url(), &["--read-url", &url]);
    told.has("wrong", "replicas", &name, "none any more", "DATABASE_URL");
}

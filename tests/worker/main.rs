//! Jobs: one effect a slot, whatever is stopped, killed or set back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod battery;
mod partitions;

use common::Db;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::worker::{self, Clock, Options};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Notes each effect that commits.
const EFFECT: &str = "insert into public.effects (job, slot) values (current_setting('pulso.job'), current_setting('pulso.slot')::timestamptz)";

/// A database with a clock of its own, no jobs but the test's, and a table of effects.
async fn stage(now: &str) -> (Db, Client) {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    sql.batch_execute(&format!(
        "create table public.clock (now timestamptz not null);
         insert into public.clock values ('{now}');
         create table public.effects (job text not null, slot timestamptz not null);
         delete from pulso.job"
    ))
    .await
    .unwrap();
    (db, sql)
}

async fn job(sql: &Client, name: &str, schedule: &str, zone: &str, catch_up: &str, command: &str) {
    sql.execute(
        "insert into pulso.job (name, task, command, schedule, time_zone, catch_up) values ($1, 'sql', $2, $3, $4, $5)",
        &[&name, &command, &schedule, &zone, &catch_up],
    )
    .await
    .unwrap();
}

struct Worker {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    fn start(db: &Db, name: &str) -> Self {
        Self::of(Options {
            owner: name.to_owned(),
            clock: Clock("select now from public.clock".to_owned()),
            ..Options::new(db.url())
        })
    }

    fn of(options: Options) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(worker::run(options, stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("a worker ends in time").unwrap();
    }
}

async fn text(sql: &Client, query: &str) -> String {
    sql.query_one(query, &[])
        .await
        .unwrap_or_else(|e| panic!("{query}: {e:?}"))
        .get::<_, Option<String>>(0)
        .unwrap_or_default()
}

/// Waits until a query gives `wanted`.
async fn until(sql: &Client, query: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let is = text(sql, query).await;
        if is == wanted {
            return;
        }
        if Instant::now() >= deadline {
            let jobs = text(sql, "select jsonb_pretty(jsonb_agg(j)) from pulso.job j").await;
            let runs = "select jsonb_pretty(jsonb_agg(r)) from (select * from pulso.job_run order by started_at desc, token desc limit 20) r";
            panic!("{query}: {is}, not {wanted}\n{jobs}\n{}", text(sql, runs).await);
        }
        sleep(Duration::from_millis(30)).await;
    }
}

async fn jump(sql: &Client, to: &str) {
    sql.execute("update public.clock set now = $1::text::timestamptz", &[&to]).await.unwrap();
}

const SEEN: &str = "select (count(*) filter (where next_slot is null))::text from pulso.job";

#[tokio::test]
async fn thousands_of_slots_across_jumps_and_daylight_saving_are_each_run_once() {
    let (db, sql) = stage("2026-02-20T00:00:00Z").await;
    // New York skips 02:00 to 03:00 on 2026-03-08.
    job(&sql, "night", "daily 02:30", "America/New_York", "all", EFFECT).await;
    job(&sql, "often", "every 30m", "UTC", "all", EFFECT).await;
    job(&sql, "half", "daily 00:30", "America/Caracas", "all", EFFECT).await;
    let workers: Vec<_> = ["a", "b", "c"].iter().map(|name| Worker::start(&db, name)).collect();
    until(&sql, SEEN, "0").await;
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..12 {
        // Ahead by up to four days, and now and then back.
        let hours = if random.random_bool(0.2) { -random.random_range(1..30) } else { random.random_range(1..96_i32) };
        sql.execute(
            "update public.clock set now = least(now + make_interval(hours => $1), '2026-03-29T00:00:00Z')",
            &[&hours],
        )
        .await
        .unwrap();
        sleep(Duration::from_millis(random.random_range(0..900))).await;
    }
    jump(&sql, "2026-03-29T00:00:00Z").await;
    until(&sql, "select (min(next_slot) > '2026-03-29T00:00:00Z')::text from pulso.job", "true").await;
    // Which of them runs a slot is chance, but none is left out for good.
    sql.batch_execute("update pulso.job set paused = true").await.unwrap();
    job(&sql, "share", "every 1m", "UTC", "all", EFFECT).await;
    let owners = "select count(distinct owner)::text from pulso.job_run where outcome = 'done'";
    for hour in 1..=60 {
        until(&sql, SEEN, "0").await;
        if text(&sql, owners).await == "3" {
            break;
        }
        sql.execute("update public.clock set now = now + interval '1 hour'", &[]).await.unwrap();
        let done = format!(
            "select (next_slot > '2026-03-29T00:00:00Z'::timestamptz + interval '{hour} hours')::text from pulso.job where name = 'share'"
        );
        until(&sql, &done, "true").await;
    }
    assert_eq!(text(&sql, owners).await, "3");
    sql.batch_execute("delete from public.effects where job = 'share'").await.unwrap();
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(
        text(&sql, "select count(*)::text from (select from public.effects group by job, slot having count(*) > 1) x")
            .await,
        "0"
    );
    // 37 days of half-hours, and one slot a day of the others, the day of the gap included.
    assert_eq!(
        text(&sql, "select string_agg(job || ' ' || n, ', ' order by job) from (select job, count(*) as n from public.effects group by job) x").await,
        "half 37, night 37, often 1776"
    );
    let gap = "select string_agg(slot::text, ', ' order by slot) from public.effects where job = 'night' and slot between '2026-03-07' and '2026-03-10'";
    sql.batch_execute("set time zone 'UTC'").await.unwrap();
    assert_eq!(text(&sql, gap).await, "2026-03-07 07:30:00+00, 2026-03-08 07:30:00+00, 2026-03-09 06:30:00+00");
}

fn spawn(db: &Db) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(["worker", "--concurrency", "4"])
        .env("DATABASE_URL", db.url())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[tokio::test]
async fn three_workers_stopped_and_killed_at_random_miss_nothing_and_double_nothing() {
    let (db, sql) = stage("2026-01-01T00:00:00Z").await;
    for name in ["one", "two", "three", "four"] {
        let slow = format!("with pause as (select pg_sleep(0.15 * random())) {EFFECT}");
        let slow = slow.replace("values (", "select ").replace("::timestamptz)", "::timestamptz from pause");
        job(&sql, name, "every 1s", "UTC", "all", &slow).await;
    }
    sql.batch_execute("update pulso.job set lease_seconds = 1").await.unwrap();
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut workers: Vec<Child> = (0..3).map(|_| spawn(&db)).collect();
    until(&sql, SEEN, "0").await;
    let end =
        Instant::now() + Duration::from_secs(if std::env::var_os("PULSO_TEST_LONG").is_some() { 180 } else { 20 });
    let (mut stops, mut kills) = (0, 0);
    while Instant::now() < end {
        sleep(Duration::from_millis(random.random_range(50..700))).await;
        let which = random.random_range(0..3);
        if random.random_bool(0.4) {
            workers[which].kill().unwrap();
            workers[which].wait().unwrap();
            workers[which] = spawn(&db);
            kills += 1;
        } else {
            signal(&workers[which], Signal::SIGSTOP);
            sleep(Duration::from_millis(random.random_range(100..2500))).await;
            signal(&workers[which], Signal::SIGCONT);
            stops += 1;
        }
    }
    // What is due is caught up with; then nothing new is made.
    let calm = "select (now() - min(next_slot) < interval '3 seconds')::text from pulso.job";
    until(&sql, calm, "true").await;
    sql.batch_execute("update pulso.job set paused = true").await.unwrap();
    until(&sql, "select count(*)::text from pulso.job where lease_until > clock_timestamp()", "0").await;
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    println!("{stops} stops, {kills} kills, {}", text(&sql, "select string_agg(outcome || ' ' || n, ', ') from (select outcome, count(*) as n from pulso.job_run group by 1) x").await);
    assert_eq!(
        text(&sql, "select count(*)::text from (select from public.effects group by job, slot having count(*) > 1) x")
            .await,
        "0",
        "doubled"
    );
    let missing = "select count(*)::text from (select job, min(slot) as first, max(slot) as last from public.effects group by job) j
                   cross join lateral generate_series(j.first, j.last, interval '1 second') s
                   where not exists (select from public.effects e where e.job = j.job and e.slot = s)";
    assert_eq!(text(&sql, missing).await, "0", "missed");
    assert_eq!(
        text(&sql, "select (count(distinct job) = 4 and count(*) > 40)::text from public.effects").await,
        "true"
    );
    assert!(stops > 0 && kills > 0);
}

#[tokio::test]
async fn a_worker_that_was_overtaken_cannot_commit() {
    let (db, sql) = stage("2026-01-01T00:00:00Z").await;
    let slow = EFFECT.replace("values (", "select ").replace("::timestamptz)", "::timestamptz from pg_sleep(3)");
    job(&sql, "slow", "every 1h", "UTC", "all", &slow).await;
    let first = Worker::start(&db, "first");
    until(&sql, SEEN, "0").await;
    jump(&sql, "2026-01-01T01:00:00Z").await;
    until(&sql, "select count(*)::text from pulso.job_run where owner = 'first' and outcome = 'running'", "1").await;
    // As if the first had stood still for longer than its lease.
    jump(&sql, "2026-01-01T01:05:00Z").await;
    let second = Worker::start(&db, "second");
    until(
        &sql,
        "select string_agg(owner || ' ' || outcome, ', ' order by token) from pulso.job_run",
        "first lost, second done",
    )
    .await;
    assert_eq!(text(&sql, "select count(*)::text from public.effects").await, "1");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_run_that_ends_while_another_worker_looks_at_it_is_not_run_again() {
    let (db, sql) = stage("2026-01-01T00:00:00Z").await;
    job(&sql, "often", "every 1m", "UTC", "all", EFFECT).await;
    let workers: Vec<_> = ["a", "b", "c"].iter().map(|name| Worker::start(&db, name)).collect();
    until(&sql, SEEN, "0").await;
    // Each lease is over soon after it was given, so that runs are taken over all the time, some of them in the moment of their end.
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        sql.batch_execute("update public.clock set now = now + interval '61 seconds'").await.unwrap();
        sleep(Duration::from_millis(7)).await;
    }
    let outcomes = "select string_agg(outcome || ' ' || n, ', ' order by outcome) from (select outcome, count(*) as n from pulso.job_run group by 1) x";
    println!("{}", text(&sql, outcomes).await);
    until(&sql, "select (min(next_slot) > max(c.now))::text from pulso.job, public.clock c", "true").await;
    assert_eq!(
        text(&sql, "select string_agg(distinct error, ', ') from pulso.job_run where outcome = 'failed'").await,
        ""
    );
    assert_eq!(text(&sql, "select (count(*) > 100)::text from pulso.job_run where outcome = 'lost'").await, "true");
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_leaves_no_job_to_a_worker_that_is_gone() {
    let (db, sql) = stage("2026-01-01T10:00:00Z").await;
    let slow = EFFECT.replace("values (", "select ").replace("::timestamptz)", "::timestamptz from pg_sleep(4)");
    job(&sql, "slow", "every 1h", "UTC", "all", &slow).await;
    job(&sql, "gone", "every 1h", "UTC", "all", EFFECT).await;
    let worker = Worker::start(&db, "w");
    until(&sql, SEEN, "0").await;
    // Taken at half past ten by a worker that died; then the clock was set back to half past nine.
    sql.batch_execute(
        "begin;
         update pulso.job set token = token + 1, lease_owner = 'dead', lease_until = '2026-01-01T10:30:00Z', next_slot = '2026-01-01T09:00:00Z' where name = 'gone';
         update public.clock set now = '2026-01-01T09:30:00Z';
         commit",
    )
    .await
    .unwrap();
    until(
        &sql,
        "select string_agg(slot::timestamptz at time zone 'UTC' || '', ', ') from public.effects",
        "2026-01-01 09:00:00",
    )
    .await;
    // One that lives is in the middle of its slot when that happens; the slot has one effect all the same.
    jump(&sql, "2026-01-01T11:00:00Z").await;
    until(&sql, "select count(*)::text from pulso.job_run where job = 'slow' and outcome = 'running'", "1").await;
    jump(&sql, "2026-01-01T08:00:00Z").await;
    sleep(Duration::from_secs(1)).await;
    jump(&sql, "2026-01-01T11:30:00Z").await;
    until(&sql, "select (count(*) > 0)::text from public.effects where job = 'slow'", "true").await;
    until(&sql, "select (min(next_slot) > '2026-01-01T11:30:00Z')::text from pulso.job", "true").await;
    let doubled = "select count(*)::text from (select from public.effects group by job, slot having count(*) > 1) x";
    assert_eq!(text(&sql, doubled).await, "0");
    worker.stop().await;
}

#[tokio::test]
async fn missed_slots_are_caught_up_with_as_the_job_says() {
    let (db, sql) = stage("2026-01-01T00:30:00Z").await;
    for how in ["once", "all", "skip"] {
        job(&sql, how, "every 1h", "UTC", how, EFFECT).await;
    }
    job(&sql, "paused", "every 1h", "UTC", "all", EFFECT).await;
    let worker = Worker::start(&db, "w");
    until(&sql, SEEN, "0").await;
    sql.batch_execute("update pulso.job set paused = true where name = 'paused'").await.unwrap();
    jump(&sql, "2026-01-01T05:02:00Z").await;
    until(
        &sql,
        "select (min(next_slot) filter (where name <> 'paused') > '2026-01-01T05:02Z')::text from pulso.job",
        "true",
    )
    .await;
    let runs = "select string_agg(job || ' ' || outcome || ' ' || slots, ', ' order by job, slot) from pulso.job_run";
    assert_eq!(
        text(&sql, runs).await,
        "all done 1, all done 1, all done 1, all done 1, all done 1, once done 5, skip skipped 4, skip done 1"
    );
    // Ten minutes after the hour is too late for the one that skips.
    jump(&sql, "2026-01-01T06:10:00Z").await;
    until(&sql, "select (next_slot > '2026-01-01T06:10Z')::text from pulso.job where name = 'skip'", "true").await;
    assert_eq!(text(&sql, "select count(*)::text from public.effects where job = 'skip'").await, "1");
    assert_eq!(text(&sql, "select count(*)::text from public.effects where job = 'paused'").await, "0");
    worker.stop().await;
}

#[tokio::test]
async fn a_run_that_fails_is_tried_again_and_then_given_up() {
    let (db, sql) = stage("2026-01-01T00:30:00Z").await;
    job(
        &sql,
        "wrong",
        "every 1h",
        "UTC",
        "all",
        "insert into public.effects values ('wrong', now() + (1 / 0) * interval '1 second')",
    )
    .await;
    job(&sql, "ends", "every 1h", "UTC", "all", "commit").await;
    job(&sql, "odd", "every blue moon", "UTC", "all", EFFECT).await;
    let worker = Worker::start(&db, "w");
    until(
        &sql,
        "select count(*)::text from pulso.job where last_error like 'schedule \"every blue moon\" cannot be read%'",
        "1",
    )
    .await;
    until(&sql, SEEN, "1").await;
    for minute in [0, 1, 3] {
        jump(&sql, &format!("2026-01-01T01:{minute:02}:00Z")).await;
        let done = "select count(*)::text from pulso.job_run where job = 'wrong' and outcome = 'failed'";
        until(&sql, done, &(if minute == 0 { 1 } else { minute / 2 + 2 }).to_string()).await;
    }
    until(&sql, "select next_slot::timestamptz at time zone 'UTC' || ' ' || failed_count || ' ' || attempt from pulso.job where name = 'wrong'", "2026-01-01 02:00:00 3 0").await;
    assert!(text(&sql, "select last_error from pulso.job where name = 'wrong'").await.contains("division by zero"));
    assert!(text(&sql, "select last_error from pulso.job where name = 'ends'").await.contains("ends its transaction"));
    assert_eq!(text(&sql, "select count(*)::text from public.effects").await, "0");
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_hands_its_job_back() {
    let (db, sql) = stage("2026-01-01T00:30:00Z").await;
    job(&sql, "long", "every 1h", "UTC", "once", "select pg_sleep(60)").await;
    let worker = Worker::of(Options {
        drain: Duration::from_millis(300),
        clock: Clock("select now from public.clock".into()),
        ..Options::new(db.url())
    });
    until(&sql, SEEN, "0").await;
    jump(&sql, "2026-01-01T01:00:00Z").await;
    until(&sql, "select count(*)::text from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active' and datname = current_database()", "1").await;
    worker.stop().await;
    assert_eq!(text(&sql, "select outcome from pulso.job_run").await, "returned");
    assert_eq!(
        text(&sql, "select (lease_until is null and next_slot = '2026-01-01T01:00Z')::text from pulso.job").await,
        "true"
    );
    // Its statement is cancelled on the server too.
    until(&sql, "select count(*)::text from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active' and datname = current_database()", "0").await;
}

#[tokio::test]
async fn the_worker_command_runs_jobs_and_stops_when_told() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    sql.batch_execute("create table public.effects (job text, slot timestamptz)").await.unwrap();
    job(&sql, "often", "every 1s", "UTC", "all", EFFECT).await;
    let mut worker =
        Command::new(env!("CARGO_BIN_EXE_pulso")).arg("worker").env("DATABASE_URL", db.url()).spawn().unwrap();
    until(&sql, "select (count(*) >= 2)::text from public.effects", "true").await;
    signal(&worker, Signal::SIGTERM);
    let began = Instant::now();
    while worker.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not stop");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(worker.wait().unwrap().success());
    assert_eq!(text(&sql, "select count(*)::text from pulso.job where lease_until > now()").await, "0");
    let empty = pulso(&Db::empty().await, &["worker"]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("pulso migrate up"));
}

#[tokio::test]
async fn views_are_refreshed_and_their_age_is_seen() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    sql.batch_execute(
        "create table public.t (n int);
         create materialized view analytics.keyed as select n from public.t;
         create unique index on analytics.keyed (n);
         create materialized view analytics.\"No Key\" as select n from public.t with no data;
         create materialized view analytics.broken as select 1 / n as x from public.t;
         insert into public.t values (0)",
    )
    .await
    .unwrap();
    let state = "select string_agg(name || ': ' || coalesce(detail, 'fine'), '; ' order by name) from pulso.freshness where kind = 'materialized view' and name ~ 'keyed|No Key|broken'";
    assert_eq!(
        text(&sql, state).await,
        "analytics.\"No Key\": has no data yet; analytics.broken: was never refreshed by Pulso; analytics.keyed: was never refreshed by Pulso"
    );
    let ran = pulso(&db, &["job", "run", "refresh_views"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("analytics.broken: division by zero"), "{ran:?}");
    assert_eq!(
        text(&sql, state).await,
        "analytics.\"No Key\": fine; analytics.broken: the last refresh failed: division by zero [22012]; analytics.keyed: fine"
    );
    assert_eq!(text(&sql, "select string_agg(name || ' ' || coalesce(mode, '-'), ', ' order by name) from pulso.view_refresh where name ~ 'keyed|No Key|broken'").await, "analytics.\"No Key\" exclusive, analytics.broken -, analytics.keyed concurrently");
    assert_eq!(text(&sql, "select count(*)::text from analytics.keyed").await, "1");
    assert_eq!(
        text(
            &sql,
            "select (staleness < interval '1 minute')::text from pulso.freshness where name = 'analytics.keyed'"
        )
        .await,
        "true"
    );
    assert_eq!(text(&sql, "select (count(*) > 4 and bool_and(staleness = interval '0'))::text from pulso.freshness where kind = 'rollup'").await, "true");
    assert!(sql.batch_execute("select pulso.refresh_view('public.t')").await.is_err());
    // The reports are refreshed by a function of their own, and what it notes counts.
    sql.batch_execute(
        "update analytics.report_refresh set as_of = now() - interval '2 hours' where report = 'stock_cover';
         delete from pulso.view_refresh where name = 'analytics.stock_cover'",
    )
    .await
    .unwrap();
    let age = "select date_trunc('hour', staleness)::text from pulso.freshness where name = 'analytics.stock_cover'";
    assert_eq!(text(&sql, age).await, "02:00:00");
    sql.batch_execute("select pulso.refresh_view('analytics.stock_cover')").await.unwrap();
    assert_eq!(text(&sql, age).await, "00:00:00");
    let noted =
        "select (now() - as_of < interval '1 minute')::text from analytics.report_refresh where report = 'stock_cover'";
    assert_eq!(text(&sql, noted).await, "true");
}

#[tokio::test]
async fn a_rollup_that_was_tampered_with_fails_the_nightly_verification() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    let ran = pulso(&db, &["job", "run", "verify_rollups"]);
    assert!(
        ran.status.success() && String::from_utf8_lossy(&ran.stdout).contains("rollups equal their queries"),
        "{ran:?}"
    );
    sql.batch_execute(
        "insert into public.stores (id, name) values ('00000000-0000-4000-8000-000000000001', 'A');
         insert into public.sales (store_id, number, sold_at, rate, totals) values ('00000000-0000-4000-8000-000000000001', '1', now(), 40, '{}')",
    )
    .await
    .unwrap();
    sql.batch_execute("select pulso.fold('analytics.sales_hourly')").await.unwrap();
    let base = text(&sql, "select base::text from pulso.rollup where view = 'analytics.sales_hourly'::regclass").await;
    assert_eq!(sql.execute(&format!("delete from {base}"), &[]).await.unwrap(), 1);
    let ran = pulso(&db, &["job", "run", "verify_rollups", "--json"]);
    assert_eq!(ran.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(said["outcome"], "failed");
    assert!(
        said["result"].as_str().unwrap().contains("analytics.sales_hourly differs from its query in 1 groups"),
        "{said}"
    );
}

fn pulso(db: &Db, args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_pulso")).args(args).env("DATABASE_URL", db.url()).output().unwrap()
}

fn json(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn jobs_are_seen_and_steered_from_the_terminal() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    let listed = json(&pulso(&db, &["job", "list", "--json"]));
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["keep_history", "make_chunks", "make_partitions", "purge_history", "refresh_views", "verify_rollups"]
    );

    sql.batch_execute("create table public.effects (job text, slot timestamptz)").await.unwrap();
    json(&pulso(&db, &["job", "create", "mine", "--sql", EFFECT, "--schedule", "weekly mon 06:00", "--json"]));
    json(&pulso(&db, &["job", "pause", "mine", "--json"]));
    let ran = json(&pulso(&db, &["job", "run", "mine", "--json"]));
    assert_eq!((&ran["outcome"], &ran["result"]), (&"done".into(), &"1 rows".into()));
    let history = json(&pulso(&db, &["job", "history", "mine", "--json"]));
    assert_eq!((&history[0]["trigger"], &history[0]["outcome"]), (&"hand".into(), &"done".into()));
    let listed = json(&pulso(&db, &["job", "list", "--json"]));
    let mine = listed.as_array().unwrap().iter().find(|job| job["name"] == "mine").unwrap();
    assert_eq!((&mine["paused"], &mine["done_count"]), (&true.into(), &1.into()));
    json(&pulso(&db, &["job", "resume", "mine", "--json"]));
    json(&pulso(&db, &["job", "schedule", "mine", "daily 05:00", "--time-zone", "Europe/Madrid", "--json"]));
    assert_eq!(
        text(&sql, "select schedule || ' ' || time_zone || ' ' || paused from pulso.job where name = 'mine'").await,
        "daily 05:00 Europe/Madrid false"
    );
    let table = pulso(&db, &["job", "list"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("daily 05:00 Europe/Madrid"), "{table:?}");

    for (args, code, words) in [
        (vec!["job", "run", "nothing"], 1, "there is no job nothing"),
        (vec!["job", "schedule", "mine", "sometimes"], 2, "Write it as: every 15m"),
        (vec!["job", "schedule", "mine", "daily 05:00", "--time-zone", "Mars/Base"], 2, "IANA name"),
        (vec!["job", "drop", "verify_rollups"], 1, "pulso job pause verify_rollups"),
        (vec!["job", "create", "Bad Name", "--sql", "select 1", "--schedule", "every 1h"], 1, "job_name_plain"),
    ] {
        let output = pulso(&db, &args);
        assert_eq!(output.status.code(), Some(code), "{args:?} {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{args:?} {output:?}");
    }
    json(&pulso(&db, &["job", "drop", "mine", "--json"]));
    assert_eq!(text(&sql, "select count(*)::text from pulso.job_run").await, "0");

    sql.batch_execute(
        "insert into pulso.job_run (job, token, slot, trigger, owner, started_at, outcome) values
           ('refresh_views', 1, now() - interval '40 days', 'schedule', 'x', now() - interval '40 days', 'done'),
           ('refresh_views', 2, now(), 'schedule', 'x', now(), 'done')",
    )
    .await
    .unwrap();
    let purged = json(&pulso(&db, &["job", "run", "purge_history", "--json"]));
    assert_eq!(purged["result"], "1 runs older than 30 days deleted");
    sql.batch_execute(
        "insert into pulso.api_key (name, hint, hash, role) values ('till', 'pulso_', sha256('x'), 'viewer');
         insert into pulso.api_key_use (name, day, requests, refused, failed, last_used_at)
         select 'till', (now() at time zone 'UTC')::date - n, 1, 0, 0, now() from unnest('{1,399,401,402}'::int[]) n",
    )
    .await
    .unwrap();
    let purged = json(&pulso(&db, &["job", "run", "purge_history", "--json"]));
    assert_eq!(purged["result"], "0 runs older than 30 days deleted, and 2 days of keys older than 400 days");
}

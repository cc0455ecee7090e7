//! What the runner says, notes and refuses.

use crate::common::{self, Db};
use crate::undo::numberless;
use crate::{SALES, assert_same, command, dump_of, one, pulso, schema, stderr, stdout};
use pulso::cluster::Cluster;
use pulso::migrate;
use serde_json::Value;
use tokio_postgres::Client;

#[tokio::test]
async fn exit_codes_say_where_a_database_stands() {
    let db = Db::empty().await;
    for look in ["plan", "status"] {
        assert_eq!(pulso(&db, &[look]).status.code(), Some(0));
        assert_eq!(pulso(&db, &[look, "--exit-code"]).status.code(), Some(4), "{look}");
    }
    let up: Value = serde_json::from_str(&stdout(&pulso(&db, &["up", "--json"]))).unwrap();
    assert!(up["applied_now"].as_array().unwrap().len() > 15, "{up}");
    assert_eq!(pulso(&db, &["status", "--exit-code"]).status.code(), Some(0));
    assert_eq!(pulso(&db, &["plan", "nothing"]).status.code(), Some(2));

    let bare = Db::empty().await;
    bare.connect().await.batch_execute("create table sales (id uuid primary key)").await.unwrap();
    assert_eq!(pulso(&bare, &["plan", "--exit-code"]).status.code(), Some(1));
    let before = schema(&bare).await;
    let refused = pulso(&bare, &["up"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    for missing in [
        "column sales.totals is missing",
        "column sale_items.qty is missing",
        "column products.category (for the pack reports) is missing",
    ] {
        assert!(said.contains(missing), "{missing} is not in one list: {said}");
    }
    assert_same(&before, &schema(&bare).await, "after a refusal");
}

/// All that is missing or doubtful is in one list, and nothing is changed by looking.
#[tokio::test]
async fn the_look_before_lists_everything_at_once() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create table stores (id uuid primary key default gen_random_uuid(), name text, time_zone text, day_start interval);
             create table products (id uuid primary key, name text, sku text);
             create unlogged table sales (id uuid primary key default gen_random_uuid(), store_id uuid, customer_id uuid, kind text,
               status text, sold_at timestamptz, local_time timestamp, business_date date, totals jsonb, payment jsonb);
             create table sale_items (sale_id uuid, product_id uuid, qty numeric, unit_price_bs numeric, unit_price_usd numeric,
               discount_bs numeric, discount_usd numeric, unit_cost_bs numeric, unit_cost_usd numeric);
             alter table sale_items enable row level security;
             create index half on sale_items (qty); update pg_index set indisvalid = false where indexrelid = 'half'::regclass;
             create publication every_table for all tables;
             create schema analytics; create table analytics.theirs ();
             insert into stores (time_zone) values ('America/Caracas'), ('Caracas, more or less');
             insert into sales (status, sold_at, totals) values ('completed', now(), '{\"total_bs\": \"40\"}'), ('devuelta', now(), '{}')",
        )
        .await
        .unwrap();
    let other = db.connect().await;
    other
        .batch_execute("begin; insert into products values (gen_random_uuid()); prepare transaction 'till 7'")
        .await
        .unwrap();
    let before = schema(&db).await;
    let plan = stdout(&pulso(&db, &["plan", "core", "indexes", "rollups"]));
    for line in [
        "blocked: table public.sales is unlogged: rollups are for plain permanent tables",
        "blocked: table public.sale_items is under row security",
        "blocked: a validated foreign key from sale_items (sale_id) to sales is missing",
        "look at: prepared transaction 'till 7'",
        "look at: index half is invalid",
        "look at: publication every_table publishes all tables",
        "look at: schema analytics is there already, with 1 tables",
        "look at: 2 of the last 2 sales have no gross_bs and gross_usd in totals",
        "look at: 2 of the last 2 sales have no total_bs and total_usd in totals, or not as numbers",
        "look at: 2 of the last 2 sales have no local_time or business_date",
        "look at: no business_date follows sold_at",
        "look at: status 'devuelta' is in 1 of the last sales",
        "look at: time zone 'Caracas, more or less' of 1 shops",
    ] {
        assert!(plan.contains(line), "{line} is not in {plan}");
    }
    let whole = stdout(&pulso(&db, &["plan"]));
    assert!(whole.contains("blocked: column products.cost_usd (for the pack reports) is missing"), "{whole}");
    assert_eq!(pulso(&db, &["up"]).status.code(), Some(1));
    assert_same(&before, &schema(&db).await, "after looking");
    client.batch_execute("rollback prepared 'till 7'").await.unwrap();
}

/// A writer keeps its transaction open: `up` waits for it, a moment at a time, and nobody waits for `up`.
#[tokio::test]
async fn up_waits_for_writers_without_holding_them_up() {
    let db = Db::empty().await;
    let (mut client, writer, other) = (db.connect().await, db.connect().await, db.connect().await);
    migrate::up_only(&mut client, &["pos", "core"]).await.unwrap();
    client.batch_execute(SALES).await.unwrap();
    let void = "update sales set status = 'voided', voided_at = now() where number = ";
    writer.batch_execute(&format!("begin; {void} '1'")).await.unwrap();
    let applying = tokio::spawn(async move { migrate::up(&mut client).await });
    let pauses = common::Pauses::watch();
    other.batch_execute("set lock_timeout = '400ms'").await.unwrap();
    let mut voided = 1;
    for number in 2..60 {
        match other.batch_execute(&format!("{void} '{number}'")).await {
            Ok(()) => voided += 1,
            Err(error) => assert!(pauses.explain(), "{error:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!applying.is_finished());
    writer.batch_execute("commit").await.unwrap();
    applying.await.unwrap().unwrap();
    assert_eq!(one::<i64>(&other, "select sum(sales_count)::bigint from analytics.sales_daily").await, 2000 - voided);
}

#[tokio::test]
async fn a_dry_run_shows_the_sql_and_changes_nothing() {
    let db = Db::empty().await;
    let before = schema(&db).await;
    let script = stdout(&pulso(&db, &["up", "--dry-run"]));
    assert!(script.contains("create table public.sales") && script.contains("create index concurrently"), "{script}");
    assert_same(&before, &schema(&db).await, "after up --dry-run");
    let json: Value = serde_json::from_str(&stdout(&pulso(&db, &["up", "core", "--dry-run", "--json"]))).unwrap();
    assert_eq!(
        json["pending"],
        serde_json::json!([
            "core V1__create_schemas",
            "core V2__install_engine",
            "core V3__bind_roles_to_shops",
            "core V4__drop_rollups_of_aggregates"
        ])
    );

    // What it shows for a new database can be run as it is, and makes the same, but for the runner's own tables.
    stdout(&pulso(&db, &["up"]));
    let complete = schema(&db).await;
    let undo = stdout(&pulso(&db, &["undo", "reports", "--dry-run"]));
    assert!(undo.contains("drop materialized view analytics.sales_weekday_hour"), "{undo}");
    assert_same(&complete, &schema(&db).await, "after undo --dry-run");
    let undone: Value = serde_json::from_str(&stdout(&pulso(&db, &["undo", "reports", "--json"]))).unwrap();
    assert_eq!(undone["undone"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_log_tells_who_when_and_how_long() {
    let db = Db::migrated().await;
    let client = db.connect().await;
    let odd: i64 = one(
        &client,
        "select count(*) from pulso.migration_log
          where by_role <> 'postgres' or from_address <> 'local' or outcome <> 'done' or finished_at < started_at
             or started_at < now() - interval '1 hour' or version = ''",
    )
    .await;
    assert_eq!(odd, 0);
    let unknown: i64 = one(
        &client,
        "select count(*) from pulso.migrations_reports r
          where not exists (select from pulso.migration_log l
                             where l.pack = 'reports' and l.step = format('V%s__%s', r.version, r.name) and l.checksum = r.checksum)",
    )
    .await;
    assert_eq!(unknown, 0, "refinery's checksum is the log's");
    let status: Value = serde_json::from_str(&stdout(&pulso(&db, &["status", "--json"]))).unwrap();
    let step = &status["packs"].as_array().unwrap().iter().find(|pack| pack["name"] == "rollups").unwrap()["steps"][0];
    assert_eq!((&step["state"], &step["by"]), (&"applied".into(), &"postgres".into()), "{step}");
    assert!(step["ms"].is_i64());
}

/// What fails is noted, and an entry that a dead runner has left open is closed.
#[tokio::test]
async fn failures_are_noted() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute("create table public.exchange_rates (of_somebody int)").await.unwrap();
    let output = pulso(&db, &["up"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exchange_rates") && stderr(&output).contains("42P07"), "{}", stderr(&output));
    let failed: String = one(&client, "select message from pulso.migration_log where outcome = 'failed'").await;
    assert!(failed.contains("already exists"), "{failed}");
    client.batch_execute("drop table exchange_rates; insert into pulso.migration_log (pack, step, action, version) values ('pos', 'V1__x', 'up', '0')").await.unwrap();
    stdout(&pulso(&db, &["up"]));
    let interrupted: i64 = one(&client, "select count(*) from pulso.migration_log where outcome = 'interrupted'").await;
    assert_eq!(interrupted, 1);
}

#[tokio::test]
async fn verify_finds_what_is_not_as_this_version_has_it() {
    let db = Db::migrated().await;
    let client = db.connect().await;
    stdout(&pulso(&db, &["verify"]));
    assert_eq!(stdout(&pulso(&db, &["verify", "--json"])).trim(), "[]");
    for (change, step, difference, back) in [
        (
            "update pulso.migrations_core set checksum = '1' where version = 1",
            "V1__create_schemas",
            "another text",
            "update pulso.migrations_core set checksum = (select checksum from pulso.migration_log where pack = 'core' and step like 'V1%') where version = 1",
        ),
        (
            "insert into pulso.migrations_pos values (9, 'from_the_future', '2030-01-01T00:00:00Z', '1')",
            "V9__from_the_future",
            "does not know",
            "delete from pulso.migrations_pos where version = 9",
        ),
        (
            "create table kept as select * from pulso.migrations_core where version = 1; delete from pulso.migrations_core where version = 1",
            "V1__create_schemas",
            "left out",
            "insert into pulso.migrations_core select * from kept; drop table kept",
        ),
        (
            "drop index sales_sold_at_brin",
            "C3__range_sales_by_time",
            "dropped since",
            "create index sales_sold_at_brin on sales using brin (sold_at)",
        ),
        (
            "update pg_index set indisvalid = false where indexrelid = 'sales_sold_at_brin'::regclass",
            "C3__range_sales_by_time",
            "invalid",
            "update pg_index set indisvalid = true where indexrelid = 'sales_sold_at_brin'::regclass",
        ),
        (
            "update pulso.contract set checksum = '' where file = '30_business_date.sql'",
            "30_business_date.sql",
            "another text",
            "update pulso.contract set checksum = checksum",
        ),
    ] {
        client.batch_execute(change).await.unwrap();
        let output = pulso(&db, &["verify", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{change}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found.as_array().unwrap().len(), 1, "{change}: {found}");
        assert_eq!(found[0]["step"], step, "{change}");
        assert!(found[0]["difference"].as_str().unwrap().contains(difference), "{found}");
        client.batch_execute(back).await.unwrap();
    }
}

#[tokio::test]
async fn a_pack_needs_the_packs_it_rests_on() {
    let db = Db::empty().await;
    let output = pulso(&db, &["up", "rollups"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("pulso migrate up pos rollups"), "{}", stderr(&output));
    stdout(&pulso(&db, &["up", "pos", "core"]));
    let client = db.connect().await;
    assert!(one::<bool>(&client, "select to_regclass('public.sales_sold_at_brin') is null").await);
    stdout(&pulso(&db, &["up", "rollups"]));
    assert!(one::<bool>(&client, "select to_regclass('analytics.sales_daily') is not null").await, "with the contract");
    let service = migrate::pending(&client).await.unwrap();
    let missing = [
        "indexes V1__index_sales_for_the_shops_queries",
        "service V1__create_jobs",
        "service V2__create_api_keys",
        "service V3__refresh_views_behind_their_views",
        "service V4__keep_history",
        "service V5__make_chunks_ahead",
        "service V6__count_use_of_keys",
        "service V7__make_partitions_ahead",
    ];
    assert_eq!(service, missing, "what the service would still miss");
}

/// Rollups of tables with rows are made empty and built afterwards; what comes in meanwhile is in them.
#[tokio::test]
async fn rollups_of_a_populated_database_are_built_online() {
    let db = Db::empty().await;
    let client = db.connect().await;
    stdout(&pulso(&db, &["up", "pos"]));
    client.batch_execute(SALES).await.unwrap();
    stdout(&pulso(&db, &["up"]));
    let built: i64 = one(
        &client,
        "select count(*) from pulso.migration_log where step like 'build analytics.%' and outcome = 'done'",
    )
    .await;
    assert_eq!(built, 7);
    let live: i64 = one(&client, "select count(*) from pulso.rollups where live").await;
    assert_eq!(live, 7);
    assert_eq!(one::<i64>(&client, "select sum(pulso.verify(name))::bigint from pulso.rollups").await, 0);
    assert_eq!(one::<i64>(&client, "select sum(sales_count)::bigint from analytics.sales_daily").await, 2000);
    stdout(&pulso(&db, &["verify"]));

    // One that was made and not filled, as a runner leaves it that dies in between.
    stdout(&pulso(&db, &["undo", "reports"]));
    stdout(&pulso(&db, &["undo", "rollups", "--to", "1"]));
    client
        .batch_execute(
            "create table kept as select name, query from pulso.rollups where name = 'analytics.sales_hourly';
             select pulso.drop_rollup(name) from kept; select pulso.create_rollup(name, query, false) from kept",
        )
        .await
        .unwrap();
    let plan = stdout(&pulso(&db, &["plan", "rollups"]));
    assert!(plan.contains("pending  build analytics.sales_hourly"), "{plan}");
    stdout(&pulso(&db, &["up"]));
    assert_eq!(one::<i64>(&client, "select count(*) from pulso.rollups where live").await, 7);
}

/// A database in this cluster, with TimescaleDB where the cluster is one of those that have it.
async fn empty_in(cluster: &Cluster, timescale: bool) -> Db {
    let db = Db::empty_in(cluster).await;
    if timescale {
        db.connect().await.batch_execute("create extension timescaledb").await.unwrap();
    }
    db
}

/// A database of the first release, brought to this version, is as a new one.
#[tokio::test]
async fn a_database_of_the_first_version_becomes_as_a_new_one() {
    first_version(common::cluster().await, false).await;
}

#[tokio::test]
async fn a_database_of_the_first_version_becomes_as_a_new_one_with_hypertables() {
    for major in [17, 18] {
        let Some(cluster) = common::timescale(major).await else { return };
        first_version(&cluster, true).await;
        cluster.stop().await.unwrap();
    }
}

async fn first_version(cluster: &Cluster, timescale: bool) {
    let (old, new) = (empty_in(cluster, timescale).await, empty_in(cluster, timescale).await.migrate().await);
    let client = old.connect().await;
    client.batch_execute("create schema pulso").await.unwrap();
    for (pack, step, sql) in [
        ("pos", "create_retail_tables", include_str!("../../migrations/pos/V1__create_retail_tables.sql")),
        (
            "pos",
            "date_sales_by_the_shops_clock",
            include_str!("../../migrations/pos/V2__date_sales_by_the_shops_clock.sql"),
        ),
        ("core", "create_schemas", include_str!("../../migrations/core/V1__create_schemas.sql")),
        ("core", "install_engine", include_str!("../../migrations/core/V2__install_engine.sql")),
        (
            "indexes",
            "index_sales_for_the_shops_queries",
            include_str!("../../migrations/indexes/V1__index_sales_for_the_shops_queries.sql"),
        ),
        ("rollups", "create_sales_rollups", include_str!("../../migrations/rollups/V1__create_sales_rollups.sql")),
    ] {
        client.batch_execute(sql).await.unwrap();
        client
            .batch_execute(&format!(
                "create table if not exists pulso.migrations_{pack} (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255))"
            ))
            .await
            .unwrap();
        let version = if step == "date_sales_by_the_shops_clock" || step == "install_engine" { 2 } else { 1 };
        let checksum = refinery::Migration::unapplied(&format!("V{version}__{step}.sql"), sql).unwrap().checksum();
        client
            .batch_execute(&format!(
                "insert into pulso.migrations_{pack} values ({version}, '{step}', '2026-11-22T00:00:00Z', '{checksum}')"
            ))
            .await
            .unwrap();
    }
    client.batch_execute(SALES).await.unwrap();
    stdout(&pulso(&old, &["up"]));
    stdout(&pulso(&old, &["verify"]));
    // Of hypertables the numbers of chunks differ, which are as many as there are weeks with rows.
    let lines = |dump: String| {
        let mut lines: Vec<String> = match timescale {
            true => dump.split("\n--\n-- Name: ").filter(|part| !part.contains("_hyper_")).map(numberless).collect(),
            false => dump.lines().map(str::to_owned).collect(),
        };
        lines.sort();
        lines.join("\n")
    };
    let dumps = [&new, &old].map(|db| lines(dump_of(cluster, db.url())));
    assert!(!timescale || dumps[0].contains("pulso.conversion"), "without pack timescale");
    assert_same(&dumps[0], &dumps[1], "after up from the first version");
    if timescale {
        let hypertables = "select string_agg(format('%s %s', h.hypertable_name, d.time_interval), ', ' order by h.hypertable_name) from timescaledb_information.hypertables h join timescaledb_information.dimensions d using (hypertable_name)";
        let (new, old) =
            (one::<String>(&new.connect().await, hypertables).await, one::<String>(&client, hypertables).await);
        assert_eq!(new, old);
        assert!(new.contains("events 7 days"), "{new}");
    }
}

#[tokio::test]
async fn an_older_engine_is_updated() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute("create extension pulso version '0.1.0'").await.unwrap();
    let plan = stdout(&pulso(&db, &["plan", "core"]));
    assert!(plan.contains("pending  update the engine from 0.1.0 to "), "{plan}");
    let up: Value = serde_json::from_str(&stdout(&pulso(&db, &["up", "--json"]))).unwrap();
    assert!(up["applied_now"].as_array().unwrap().contains(&"core update the engine".into()), "{up}");
    assert_eq!(pulso(&db, &["plan", "--exit-code"]).status.code(), Some(0));
}

async fn two_at_once(db: Db) {
    let children: Vec<_> = (0..2).map(|_| command(&db, &["up", "--json"]).spawn().unwrap()).collect();
    let mut applied = Vec::new();
    for child in children {
        let state: Value = serde_json::from_str(&stdout(&child.wait_with_output().unwrap())).unwrap();
        applied.extend(state["applied_now"].as_array().unwrap().iter().map(|step| step.as_str().unwrap().to_owned()));
    }
    let client = db.connect().await;
    let twice: i64 = one(
        &client,
        "select count(*) from (select from pulso.migration_log group by pack, step having count(*) > 1) as t",
    )
    .await;
    assert_eq!(twice, 0);
    assert_eq!(one::<i64>(&client, "select count(*) from pulso.migration_log").await as usize, applied.len());
    assert!(migrate::pending(&client).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_runners_at_once_do_each_step_once() {
    for _ in 0..50 {
        two_at_once(Db::empty().await).await;
    }
}

#[tokio::test]
async fn two_runners_at_once_make_each_hypertable_once() {
    let Some(cluster) = common::timescale(17).await else { return };
    for _ in 0..if common::long() { 50 } else { 3 } {
        two_at_once(empty_in(&cluster, true).await).await;
    }
    cluster.stop().await.unwrap();
}

/// Killed at moments spread over its whole run, it leaves what the next run completes, to what a new database is.
#[tokio::test]
async fn a_runner_killed_at_any_moment_is_followed_by_one_that_completes() {
    let (db, new) = (Db::empty().await, Db::migrated().await);
    stdout(&pulso(&db, &["up", "pos"]));
    let client = db.connect().await;
    client.batch_execute(SALES).await.unwrap();
    let mut killed = 0;
    for number in 0..12 {
        let mut child = command(&db, &["up"]).spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(40 + 45 * number)).await;
        child.kill().unwrap();
        killed += i32::from(child.wait_with_output().unwrap().status.code().is_none());
        client.batch_execute("insert into sales (store_id, number, sold_at, rate, totals) select id, gen_random_uuid()::text, now(), 40, '{\"gross_usd\": 1}' from stores").await.unwrap();
    }
    assert!(killed > 2, "only {killed} runs were killed before their end");
    stdout(&pulso(&db, &["up"]));
    stdout(&pulso(&db, &["verify"]));
    assert_eq!(pulso(&db, &["plan", "--exit-code"]).status.code(), Some(0));
    let lines = |dump: String| {
        let mut lines: Vec<String> = dump.lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    };
    assert_same(&lines(schema(&new).await), &lines(schema(&db).await), "after twelve kills");
    assert_eq!(one::<i64>(&client, "select sum(pulso.verify(name))::bigint from pulso.rollups where live").await, 0);
    assert_eq!(one::<i64>(&client, "select sum(sales_count)::bigint from analytics.sales_daily").await, 2012);
    assert_eq!(one::<i64>(&client, "select count(*) from pulso.migration_log where outcome = 'running'").await, 0);
}

/// Ctrl-C while another runner has the lock.
#[tokio::test]
async fn a_runner_that_waits_for_another_can_be_interrupted() {
    let db = Db::empty().await;
    let client: Client = db.connect().await;
    client.batch_execute("select pg_advisory_lock(x'70756c736f'::bigint)").await.unwrap();
    let child = command(&db, &["up"]).spawn().unwrap();
    for _ in 0..200 {
        if one::<bool>(&client, "select exists (select from pg_stat_activity where datname = current_database() and query like '%pg_try_advisory_lock%' and pid <> pg_backend_pid())").await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("another migration is running"), "{}", stderr(&output));
}

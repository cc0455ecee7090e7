//! The tier timescale, on a server with TimescaleDB's Community edition.

use crate::common::{Community, Db};
use crate::tiers::{assert_same_figures, shops};
use crate::{assert_same, one, stderr, stdout};
use jiff::Timestamp;
use pulso::aggregate::{self, Which};
use pulso::migrate::{self, Tier};
use std::process::Command;
use tokio_util::sync::CancellationToken;

/// As `pulso migrate` would make it of an empty table; keys that only `id` makes unique go.
const HYPERTABLE: &str = "
  alter table sales drop constraint sales_pkey cascade, drop constraint sales_store_number_key, add primary key (id, sold_at);
  select create_hypertable('sales', 'sold_at', chunk_time_interval => interval '7 days')";

#[tokio::test]
async fn golden_queries_answer_the_same_on_the_tier_timescale() {
    let Some(community) = Community::database().await else { return };
    let until = Timestamp::now();
    let db = Db::migrated().await;
    shops(db.url(), until).await;
    let extension = db.connect().await;
    extension.batch_execute("select refresh_analytics_views()").await.unwrap();

    let mut client = community.connect().await;
    migrate::up_only(&mut client, &["pos", "indexes"]).await.unwrap();
    client.batch_execute(HYPERTABLE).await.unwrap();
    shops(&community.url(), until).await;
    migrate::up_on(&mut client, Tier::Timescale).await.unwrap();
    assert_eq!(one::<i64>(&client, "select count(*) from pulso.aggregate where as_of is null").await, 0);
    assert_same_figures(&extension, &client, "filled by up").await;

    // New sales are seen at once, changes of what is added up already once it is refreshed.
    let sold = "insert into sales (id, store_id, number, sold_at, rate, totals, payment)
       select gen_random_uuid(), id, 'new', now() - interval '1 second', 40, '{\"total_usd\": 5, \"total_bs\": 200, \"gross_usd\": 5, \"gross_bs\": 200}', '{\"method\": \"card\"}' from stores";
    let void = "update sales set status = 'voided', voided_at = now()
       where number = (select min(number) from sales where status = 'completed' and kind = 'sale' and sold_at < now() - interval '9 days')";
    for client in [&extension, &client] {
        client.batch_execute(sold).await.unwrap();
        client.batch_execute(void).await.unwrap();
        client.batch_execute("delete from sales where number = (select max(number) from sales where sold_at < now() - interval '3 days')").await.unwrap();
    }
    client.batch_execute("select pulso.plain_refresh()").await.unwrap();
    let counted = "select (select sum(sales_count)::bigint from analytics.sales_daily)";
    let raw = "select count(*) from sales where status = 'completed' and kind = 'sale'";
    assert!(
        one::<i64>(&client, counted).await > one::<i64>(&client, raw).await,
        "stale until it is refreshed, which this is about"
    );
    let refreshed = aggregate::refresh(&client, Which::All).await.unwrap();
    assert_eq!(refreshed, 10);
    assert_eq!(one::<i64>(&client, counted).await, one::<i64>(&client, raw).await);
    for client in [&extension, &client] {
        client.batch_execute("select refresh_analytics_views()").await.unwrap();
    }
    assert_same_figures(&extension, &client, "after late changes").await;
    assert!(migrate::pending(&client).await.unwrap().is_empty());
}

/// All that people or Pulso have made.
const OBJECTS: &str = "
  select string_agg(o.what, E'\\n' order by o.what collate \"C\")
    from (select c.oid, format('%s %s', c.relkind, c.oid::regclass) as what from pg_class c where c.relnamespace::regnamespace::text in ('public', 'pulso', 'analytics')
           union all
          select p.oid, format('function %s', p.oid::regprocedure) from pg_proc p where p.pronamespace::regnamespace::text in ('public', 'pulso', 'analytics')
           union all
          select t.oid, format('trigger %s on %s', t.tgname, t.tgrelid::regclass) from pg_trigger t where not t.tgisinternal and t.tgrelid::regclass::text !~ '^_timescaledb'
           union all
          select 0, format('job %s %s', j.proc_name, j.hypertable_name) from timescaledb_information.jobs j) as o
   where not exists (select from pg_depend d where d.objid = o.oid and d.deptype = 'e')
     and o.what !~ 'migration_log'";

/// Raw rows may go, by whomever they are dropped: what was added up stays, and later changes still come right.
#[tokio::test]
async fn aggregates_keep_what_was_dropped_below_them_and_leave_nothing_behind() {
    let Some(community) = Community::database().await else { return };
    let mut client = community.connect().await;
    migrate::up_only(&mut client, &["pos", "indexes"]).await.unwrap();
    client.batch_execute(HYPERTABLE).await.unwrap();
    let before: String = one(&client, OBJECTS).await;
    migrate::up_on(&mut client, Tier::Timescale).await.unwrap();
    client
        .batch_execute(
            "insert into stores (id, name, time_zone, day_start) values
               ('00000000-0000-4000-8000-000000000001', 'Bar', 'America/Caracas', '04:00'), ('00000000-0000-4000-8000-000000000002', 'Chai', 'Asia/Kolkata', '00:00');
             insert into sales (id, store_id, number, sold_at, rate, totals)
             select gen_random_uuid(), s.id, i::text, date_trunc('day', now()) - i * interval '67 minutes', 40, jsonb_build_object('total_bs', i, 'gross_bs', i, 'items', 1)
               from stores s cross join generate_series(1, 2000) i",
        )
        .await
        .unwrap();
    let figures = "select md5(string_agg(d::text, ' ' order by d::text)) from analytics.sales_daily_totals d";
    let wanted: String = one(&client, &figures.replace("analytics.sales_daily_totals", "(select s.store_id, s.business_date, count(*) filter (where s.kind = 'sale'), count(*) filter (where s.kind = 'return'),
        sum(coalesce(pulso.jsonb_numeric(s.totals, 'items'), 0)), sum(coalesce(pulso.jsonb_numeric(s.totals, 'items'), 0)), sum(coalesce(pulso.jsonb_numeric(s.totals, 'gross_bs'), 0)), 0, 0, 0, 0, 0, 0, 0,
        sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_bs'), 0)), 0 from sales s where s.status = 'completed' group by 1, 2)")).await;
    assert_eq!(one::<String>(&client, figures).await, wanted, "added up at each read");
    let pending = migrate::pending(&client).await.unwrap();
    assert!(pending.is_empty() || pending.iter().all(|step| step.contains("fill")), "{pending:?}");

    // What a service does by itself.
    let stop = CancellationToken::new();
    let folding = tokio::spawn(pulso::fold::keep_folded(community.url(), stop.clone()));
    for _ in 0..200 {
        if one::<bool>(&client, "select bool_and(as_of is not null) from pulso.aggregate").await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    stop.cancel();
    folding.await.unwrap();
    assert!(one::<bool>(&client, "select bool_and(as_of is not null) from pulso.aggregate").await);
    assert_eq!(one::<String>(&client, figures).await, wanted, "refreshed");

    let refresh = async || aggregate::refresh(&client, Which::All).await.unwrap();
    client.batch_execute("select drop_chunks('sales', now() - interval '40 days')").await.unwrap();
    assert!(one::<i64>(&client, "select count(*) from sales").await < 3000);
    assert_eq!(refresh().await, 10);
    assert_eq!(one::<String>(&client, figures).await, wanted, "after raw rows were dropped");
    // A row of that time comes late: it begins a chunk, in which the others are not any more.
    client.batch_execute("insert into sales (id, store_id, number, sold_at, rate, totals) select gen_random_uuid(), id, 'late', now() - interval '60 days', 40, '{}' from stores").await.unwrap();
    refresh().await;
    assert_eq!(one::<String>(&client, figures).await, wanted, "after a late row in dropped time");
    client.batch_execute("update sales set status = 'voided', voided_at = now() where number = '500'").await.unwrap();
    refresh().await;
    let total = "select sum(sales_count)::bigint from analytics.sales_";
    assert_eq!(one::<i64>(&client, &format!("{total}daily")).await, 3998);
    assert_eq!(one::<i64>(&client, &format!("{total}hourly")).await, 3998);
    assert_eq!(one::<i64>(&client, &format!("{total}monthly")).await, 3998);

    for pack in ["service", "reports", "rollups", "timescale", "core"] {
        assert!(!migrate::undo(&mut client, pack, 0, false).await.unwrap().is_empty());
    }
    assert_same(&before, &one::<String>(&client, OBJECTS).await, "after undoing the tier timescale");
}

/// A shop's plain tables, with their rows: hypertables, aggregates and all else by one command, and back.
#[tokio::test]
async fn up_makes_the_tier_timescale_of_plain_tables_in_one_go() {
    let Some(community) = Community::database().await else { return };
    let until = Timestamp::now();
    let db = Db::migrated().await;
    shops(db.url(), until).await;
    let extension = db.connect().await;
    let mut client = community.connect().await;
    migrate::up_only(&mut client, &["pos"]).await.unwrap();
    shops(&community.url(), until).await;
    let (objects, rows) =
        (one::<String>(&client, OBJECTS).await, "select md5(string_agg(s::text, ' ' order by s.id)) from sales s");
    let were: String = one(&client, rows).await;
    let command = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
        command.arg("migrate").args(args).env("DATABASE_URL", community.url()).output().unwrap()
    };
    stdout(&command(&["up", "--tier", "timescale", "--hypertable", "sales"]));
    let hypertables = "select string_agg(hypertable_name, ' ' order by hypertable_name) from timescaledb_information.hypertables where hypertable_schema = 'public'";
    assert_eq!(one::<String>(&client, hypertables).await, "events inventory_movements real_time_metrics sales");
    assert_eq!(one::<i64>(&client, "select count(*) from pulso.aggregate where as_of is not null").await, 10);
    assert_eq!(one::<i64>(&client, "select count(*) from pulso.freshness where kind = 'continuous aggregate' and detail is null and staleness < '5 minutes'").await, 10);
    for client in [&extension, &client] {
        client.batch_execute("select refresh_analytics_views()").await.unwrap();
    }
    assert_same_figures(&extension, &client, "in one go").await;
    stdout(&command(&["verify"]));
    assert_eq!(command(&["plan", "--exit-code", "--hypertable", "sales"]).status.code(), Some(0));

    // What is added up rests on the hypertable.
    let refused = command(&["undo", "timescale"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("continuous aggregate pulso.sales_hourly_by_hour reads public.sales"),
        "{}",
        stderr(&refused)
    );
    for pack in ["service", "reports", "rollups", "timescale", "indexes", "core"] {
        stdout(&command(&["undo", pack]));
    }
    assert_eq!(one::<String>(&client, rows).await, were);
    assert_same(&objects, &one::<String>(&client, OBJECTS).await, "after undoing all of it");
}

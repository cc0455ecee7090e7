//! Pack timescale: tables become hypertables and plain ones again, on each server that `make servers` makes.

use crate::common::{Db, timescale};
use crate::undo::numberless;
use crate::{SALES, assert_same, dump, one, pulso, stdout};
use pulso::cluster::Cluster;
use pulso::{db, migrate};
use tokio_postgres::Client;

/// What the shop notes beside its sales.
const NOTES: &str = "
  insert into events (store_id, type, created_at)
  select '00000000-0000-4000-8000-000000000001', 'x', now() - i * interval '13 minutes' from generate_series(1, 5000) i;
  insert into inventory_movements (store_id, product_id, sale_id, reason, qty, happened_at)
  select s.store_id, '00000000-0000-4000-8000-000000000100', s.id, 'sale', -1, s.sold_at from sales s;
  insert into real_time_metrics (store_id, metric, value, created_at)
  select '00000000-0000-4000-8000-000000000001', 'm', i, now() - i * interval '1 hour' from generate_series(1, 100) i;
  comment on constraint sale_items_sale_id_fkey on sale_items is 'of a line';
  create view late_events as select e.type, count(*) as n from events e where e.created_at > now() - interval '1 day' group by 1;
  create role till_of_hypertables; grant select, insert on events to till_of_hypertables; grant update (sold_at) on sales to till_of_hypertables;
  alter table events set (autovacuum_vacuum_scale_factor = 0.05)";

/// Schemas that conversions have left.
pub const LEFT: &str = "select count(*) from pg_namespace where nspname in ('pulso_shadow', 'pulso_replaced')";

pub async fn shop(major: u32) -> Option<(Cluster, Client)> {
    let cluster = timescale(major).await?;
    let mut client = db::connect(cluster.url()).await.unwrap();
    client.batch_execute("create extension timescaledb").await.unwrap();
    migrate::up_only(&mut client, &["pos", "core", "indexes", "service", "rollups"]).await.unwrap();
    client.batch_execute(SALES).await.unwrap();
    client.batch_execute(NOTES).await.unwrap();
    Some((cluster, client))
}

pub async fn exact(client: &Client, when: &str) {
    let wrong: i64 = one(
        client,
        "select coalesce(sum(pulso.verify(name)), 0)::bigint from pulso.rollups where companion_of is null",
    )
    .await;
    assert_eq!(wrong, 0, "{when}");
    let odd: i64 = one(client, "select count(*) from pulso.rollups where not live or replaces is not null").await;
    assert_eq!(odd, 0, "{when}");
}

pub async fn force(client: &Client) {
    client.batch_execute("set pulso_migrate.hypertable = 'sales'").await.unwrap();
}

/// A dump without the numbers of rollups, since those that were led over are new ones, and without their views over lines:
/// pg_dump takes a view apart that depends on a key, or not, by the order of numbers. Their text is compared as it is.
pub async fn likeness(cluster: &Cluster, client: &Client) -> String {
    let dump = dump(cluster);
    let apart = |part: &&str| !part.starts_with("product_sales_");
    let mut parts: Vec<String> = dump.split("\n--\n-- Name: ").filter(apart).map(numberless).collect();
    parts.sort();
    let views = "select coalesce(string_agg(c.relname || ' ' || coalesce(array_to_string(c.reloptions, ','), '') || pg_get_viewdef(c.oid), E'\n' order by c.relname), '')
                   from pg_class c where c.relkind = 'v' and c.relname like 'product_sales_%'";
    format!("{}\n{}", parts.join("\n"), numberless(&one::<String>(client, views).await))
}

async fn there_and_back(major: u32) {
    let Some((cluster, mut client)) = shop(major).await else { return };
    let before = likeness(&cluster, &client).await;
    let said = {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pulso"))
            .args(["migrate", "plan", "timescale"])
            .env("DATABASE_URL", cluster.url())
            .output()
            .unwrap();
        stdout(&output)
    };
    assert!(said.contains("C5__sales_by_week  (stays a plain table below 50000000 rows"), "{said}");
    migrate::up_only(&mut client, &["timescale"]).await.unwrap();
    let hypertables =
        "select string_agg(hypertable_name, ' ' order by hypertable_name) from timescaledb_information.hypertables";
    assert_eq!(one::<String>(&client, hypertables).await, "events inventory_movements real_time_metrics");
    assert_eq!(one::<i64>(&client, "select count(*) from events").await, 5000);
    assert_eq!(one::<i64>(&client, "select n from late_events").await, 110);
    // Identity goes on, grants hold, the view reads the new table.
    client
        .batch_execute("set role till_of_hypertables; insert into events (store_id, type) values ('00000000-0000-4000-8000-000000000001', 'x'); reset role")
        .await
        .unwrap();
    assert_eq!(one::<i64>(&client, "select max(id) from events").await, 5001);
    assert_eq!(one::<i64>(&client, "select n from late_events").await, 111);
    assert_eq!(one::<i64>(&client, LEFT).await, 0);
    assert!(one::<i32>(&client, "select pulso.make_chunks('100 days')").await > 0);
    assert_eq!(one::<i64>(&client, "select count(*) from events").await, 5001, "a chunk holds no row");

    force(&client).await;
    let rows = "select md5(string_agg(s::text, ',' order by s.id)) from sales s";
    let were: String = one(&client, rows).await;
    migrate::up_only(&mut client, &["timescale"]).await.unwrap();
    assert_eq!(one::<String>(&client, rows).await, were);
    exact(&client, "sales are a hypertable").await;
    as_an_application(&client).await;
    migrate::undo(&mut client, "timescale", 0, false).await.unwrap();
    exact(&client, "sales are a plain table").await;
    assert_eq!(one::<i64>(&client, "select count(*) from timescaledb_information.hypertables").await, 0);
    assert_same(&before, &likeness(&cluster, &client).await, "after undoing timescale");
    drop(client);
    cluster.stop().await.unwrap();
}

/// Whoever is stopped at the last moment, when the schemas of a conversion go, leaves a note of it: the next one finds them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversion_that_fails_at_its_end_is_ended_by_the_next() {
    let Some((cluster, mut client)) = shop(17).await else { return };
    // The last of all tables: no conversion after it cleans up.
    migrate::up_only(&mut client, &["timescale"]).await.unwrap();
    force(&client).await;
    client
        .batch_execute(
            "create function refuse() returns event_trigger language plpgsql as $$ begin raise 'not now'; end $$;
             create event trigger refuse on ddl_command_start when tag in ('DROP SCHEMA') execute function refuse()",
        )
        .await
        .unwrap();
    for there in [true, false] {
        for refused in [true, false] {
            client
                .batch_execute(&format!("alter event trigger refuse {}", if refused { "enable" } else { "disable" }))
                .await
                .unwrap();
            let outcome = match there {
                true => migrate::up_only(&mut client, &["timescale"]).await.map(drop),
                false => migrate::undo(&mut client, "timescale", 4, false).await.map(drop),
            };
            assert_eq!(outcome.is_err(), refused, "there: {there}: {outcome:?}");
            assert_eq!(one::<i64>(&client, LEFT).await == 0, !refused, "there: {there}, refused: {refused}");
        }
    }
    drop(client);
    cluster.stop().await.unwrap();
}

/// `id` is a key again.
async fn as_a_plain_table(client: &Client) {
    let again = "insert into sales (id, store_id, number, sold_at, rate, totals) select id, store_id, number, sold_at, rate, totals from sales limit 1
      on conflict (id) do nothing";
    assert_eq!(client.execute(again, &[]).await.unwrap(), 0);
    exact(client, "sent again").await;
}

/// What an application does with sales, once they are a hypertable.
async fn as_an_application(client: &Client) {
    let code = |error: tokio_postgres::Error| error.code().unwrap().code().to_owned();
    let new = "insert into sales (id, store_id, number, sold_at, rate, totals) values ('00000000-0000-4000-8000-00000000a001', '00000000-0000-4000-8000-000000000001', 'A1', '2026-03-01Z', 40, '{\"total_bs\": 5}')";
    client.batch_execute(new).await.unwrap();
    // Sent again.
    assert_eq!(client.execute(&format!("{new} on conflict do nothing"), &[]).await.unwrap(), 0);
    assert_eq!(client.execute(&format!("{new} on conflict (id, sold_at) do nothing"), &[]).await.unwrap(), 0);
    assert_eq!(code(client.batch_execute(new).await.unwrap_err()), "23505");
    assert_eq!(
        code(
            client.batch_execute(&new.replace("2026-03-01Z", "2026-05-01Z").replace("'A1'", "'A2'")).await.unwrap_err()
        ),
        "23505",
        "the same id at another time"
    );
    assert_eq!(
        code(
            client.batch_execute(&new.replace("a001", "a002").replace("2026-03-01Z", "2026-05-01Z")).await.unwrap_err()
        ),
        "23505",
        "the same number at another time"
    );
    client.batch_execute("insert into sale_items (sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd) values ('00000000-0000-4000-8000-00000000a001', 1, '00000000-0000-4000-8000-000000000101', 2, 40, 1)").await.unwrap();
    exact(client, "a sale and its line").await;
    // Into another chunk, with all that rests on it.
    let moved = client
        .execute("update sales set sold_at = '2026-06-20 12:00Z', status = 'pending' where number = 'A1'", &[])
        .await
        .unwrap();
    assert_eq!(moved, 1);
    assert!(one::<bool>(client, "select sold_at = '2026-06-20 12:00Z' and business_date = '2026-06-20' and status = 'pending' from sales where number = 'A1'").await);
    assert_eq!(one::<i64>(client, "select count(*) from sales where number = 'A1'").await, 1);
    assert_eq!(
        one::<i64>(client, "select count(*) from sale_items where sale_id = '00000000-0000-4000-8000-00000000a001'")
            .await,
        1
    );
    exact(client, "a sale moved").await;
    client
        .batch_execute(
            "update sales set sold_at = sold_at + interval '1 second', status = 'completed' where number = 'A1'",
        )
        .await
        .unwrap();
    exact(client, "a sale moved within its chunk").await;
    // Many at once.
    let all: u64 = client.execute("update sales set sold_at = sold_at - interval '8 days'", &[]).await.unwrap();
    assert_eq!(all, 2001);
    assert_eq!(one::<i64>(client, "select count(*) from sales s join sales_keys k on k.id = s.id and k.sold_at = s.sold_at and k.moved_to is null").await, 2001);
    exact(client, "all sales moved").await;
    let orphan = "insert into sale_items (sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd) values (gen_random_uuid(), 1, '00000000-0000-4000-8000-000000000101', 2, 40, 1)";
    assert_eq!(code(client.batch_execute(orphan).await.unwrap_err()), "23503");
    client.batch_execute("delete from sales where number = 'A1'").await.unwrap();
    assert_eq!(
        one::<i64>(client, "select count(*) from sale_items where sale_id = '00000000-0000-4000-8000-00000000a001'")
            .await,
        0,
        "lines go with their sale"
    );
    exact(client, "a sale deleted").await;
}

/// Hypertables first, rollups and everything else over them, and undone in any order.
async fn rollups_come_later(major: u32) {
    let Some(cluster) = timescale(major).await else { return };
    let mut client = db::connect(cluster.url()).await.unwrap();
    client.batch_execute("create extension timescaledb").await.unwrap();
    migrate::up_only(&mut client, &["pos", "core", "indexes"]).await.unwrap();
    client.batch_execute(SALES).await.unwrap();
    client.batch_execute(NOTES).await.unwrap();
    let before = likeness(&cluster, &client).await;
    force(&client).await;
    // Indexes are made chunk by chunk.
    migrate::undo(&mut client, "indexes", 0, false).await.unwrap();
    migrate::up_only(&mut client, &["timescale"]).await.unwrap();
    migrate::up(&mut client).await.unwrap();
    let indexed = "select string_agg(indexname, ' ' order by 1) from pg_indexes where schemaname = 'public' and tablename = 'sales'";
    let names: String = one(&client, indexed).await;
    for index in ["sales_store_sold_at_idx", "sales_sold_at_brin", "sales_store_business_date_idx"] {
        assert!(names.contains(index), "{names}");
    }
    assert!(migrate::pending(&client).await.unwrap().is_empty());
    assert_eq!(migrate::up(&mut client).await.unwrap(), [""; 0], "a second time there is nothing to do");
    exact(&client, "rollups over hypertables").await;
    as_an_application(&client).await;
    let over_keys =
        "select bool_and('sales_keys'::regclass::oid = any (joined::oid[])) from pulso.rollup where joined <> '{}'";
    assert!(one::<bool>(&client, over_keys).await);
    // The hypertable goes first: rollups are led back.
    migrate::undo(&mut client, "timescale", 0, false).await.unwrap();
    exact(&client, "over the plain table").await;
    as_a_plain_table(&client).await;
    migrate::up_only(&mut client, &["timescale"]).await.unwrap();
    for pack in ["service", "reports", "rollups", "indexes", "timescale"] {
        migrate::undo(&mut client, pack, 0, false).await.unwrap();
    }
    migrate::up_only(&mut client, &["indexes"]).await.unwrap();
    assert_same(&before, &likeness(&cluster, &client).await, "after undoing everything");
    drop(client);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn rollups_over_hypertables_on_17() {
    rollups_come_later(17).await;
}

#[tokio::test]
async fn rollups_over_hypertables_on_18() {
    rollups_come_later(18).await;
}

#[tokio::test]
async fn hypertables_and_back_on_17() {
    there_and_back(17).await;
}

#[tokio::test]
async fn hypertables_and_back_on_18() {
    there_and_back(18).await;
}

/// Where there is no TimescaleDB the pack says so, and nothing fails.
#[tokio::test]
async fn without_timescaledb_the_pack_is_skipped() {
    let db = Db::empty().await;
    let here: bool =
        one(&db.connect().await, "select exists (select from pg_available_extensions where name = 'timescaledb')")
            .await;
    let plan = stdout(&pulso(&db, &["plan", "timescale"]));
    let reason = if here {
        "in this database: create extension timescaledb"
    } else {
        "skipped: TimescaleDB is not installed on this server"
    };
    assert!(plan.contains(reason), "{plan}");
    assert_eq!(pulso(&db, &["up", "--hypertable", "nothing"]).status.code(), Some(2));
}

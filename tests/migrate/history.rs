//! How long raw rows are kept: nothing is dropped that somebody still needs, or has not counted.

use crate::common::{Community, timescale};
use crate::one;
use pulso::migrate;
use tokio_postgres::Client;

const STORE: &str = "insert into stores (id, name) values ('00000000-0000-4000-8000-000000000001', 'Abasto')";
const HYPERTABLE: &str = "
  alter table events drop constraint events_pkey, add primary key (id, created_at);
  select create_hypertable('events', 'created_at', chunk_time_interval => interval '1 day')";
/// Two a day over 800 days.
const EVENTS: &str = "insert into events (store_id, type, created_at)
  select '00000000-0000-4000-8000-000000000001', 'opened', now() - i * interval '12 hours' from generate_series(1, 1600) i";

async fn keep(client: &Client) -> (i64, Option<String>) {
    let dropped = one(client, "select pulso.keep_history()").await;
    (dropped, one(client, "select held_because from pulso.history_rule where source = 'public.events'").await)
}

fn held(outcome: (i64, Option<String>), why: &str) {
    assert_eq!(outcome.0, 0);
    assert!(outcome.1.as_deref().is_some_and(|reason| reason.contains(why)), "{outcome:?}, not: {why}");
}

/// The same on both editions.
async fn old_events_go(client: &mut Client) {
    migrate::up_only(client, &["pos", "core", "service"]).await.unwrap();
    assert_eq!(one::<i64>(client, "select pulso.keep_history()").await, 0, "events is a plain table");
    client.batch_execute(STORE).await.unwrap();
    client.batch_execute(HYPERTABLE).await.unwrap();
    client.batch_execute(EVENTS).await.unwrap();
    client.batch_execute("insert into pulso.history_hold values ('public.events', 'warehouse', null)").await.unwrap();
    held(keep(client).await, "needed by warehouse");
    client.batch_execute("update pulso.history_hold set needed_from = now() - interval '770 days'").await.unwrap();
    let (dropped, reason) = keep(client).await;
    assert!((29..=31).contains(&dropped), "{dropped}");
    assert_eq!(reason.as_deref(), Some("needed by warehouse"));
    client.batch_execute("delete from pulso.history_hold").await.unwrap();

    client
        .batch_execute(
            "create view ev as select * from events; create materialized view evm as select count(*) from ev",
        )
        .await
        .unwrap();
    held(keep(client).await, "materialized view public.evm");
    client.batch_execute("drop view ev cascade; select pulso.create_rollup('public.evr', 'select store_id, count(*) as n from public.events group by 1', false)").await.unwrap();
    held(keep(client).await, "rollup public.evr runs its query");
    client.batch_execute("select pulso.build('public.evr')").await.unwrap();
    let counted: i64 = one(client, "select n from evr").await;
    let (dropped, reason) = keep(client).await;
    assert!((39..=41).contains(&dropped), "{dropped}");
    assert_eq!(reason, None);
    assert!(one::<bool>(client, "select min(created_at) > now() - interval '732 days' from events").await);
    assert_eq!(one::<i64>(client, "select n from evr").await, counted, "what was counted stays");
    assert_eq!(keep(client).await, (0, None));
    client.batch_execute("select pulso.drop_rollup('public.evr')").await.unwrap();
}

#[tokio::test]
async fn old_events_go_once_they_are_counted() {
    let Some(cluster) = timescale(18).await else { return };
    let mut client = pulso::db::connect(cluster.url()).await.unwrap();
    client.batch_execute("create extension timescaledb").await.unwrap();
    drop(client);
    client = pulso::db::connect(cluster.url()).await.unwrap();
    old_events_go(&mut client).await;
    migrate::undo(&mut client, "service", 0, false).await.unwrap();
    assert!(one::<bool>(&client, "select to_regclass('pulso.history_rule') is null").await);
    drop(client);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn events_are_compressed_and_come_back() {
    let Some(community) = Community::database().await else { return };
    let mut client = community.connect().await;
    let settings = "select string_agg(format('%s %s %s', attname, segmentby_column_index, orderby_column_index), ', ' order by attname)
                      from timescaledb_information.compression_settings where hypertable_name = 'events'";
    migrate::up_only(&mut client, &["pos", "core", "service"]).await.unwrap();
    client.batch_execute(STORE).await.unwrap();
    client.batch_execute(HYPERTABLE).await.unwrap();
    client.batch_execute(EVENTS).await.unwrap();
    let (dropped, reason) = keep(&client).await;
    assert!(dropped > 60 && reason.is_none(), "{dropped} {reason:?}");
    let found: String = one(&client, settings).await;
    assert!(found.contains("created_at  1") && found.contains("store_id 1 "), "{found}");
    let job: i32 =
        one(&client, "select job_id from timescaledb_information.jobs where hypertable_name = 'events'").await;
    client.batch_execute(&format!("call run_job({job})")).await.unwrap();
    let compressed = "select count(*) filter (where is_compressed) from timescaledb_information.chunks where hypertable_name = 'events'";
    assert!(one::<i64>(&client, compressed).await > 600);
    assert!(one::<bool>(&client, "select bool_and(not is_compressed) from timescaledb_information.chunks where hypertable_name = 'events' and range_end > now() - interval '29 days'").await);
    let sum = "select md5(string_agg(e::text, ' ' order by id)) from events e";
    let before: String = one(&client, sum).await;
    migrate::undo(&mut client, "service", 0, false).await.unwrap();
    assert_eq!(one::<i64>(&client, compressed).await, 0);
    assert!(
        one::<bool>(&client, "select bool_and(not compression_enabled) from timescaledb_information.hypertables").await
    );
    assert_eq!(
        one::<i64>(&client, "select count(*) from timescaledb_information.jobs where hypertable_name = 'events'").await,
        0
    );
    assert_eq!(one::<String>(&client, sum).await, before);
}

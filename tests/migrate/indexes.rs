//! Indexes are made while everybody goes on, and made whole however often the making is interrupted.

use crate::common::Db;
use crate::{SALES, command, one, pulso, stderr, stdout, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::migrate;
use tokio_postgres::Client;

/// The tables of pack pos with some sales, nothing else.
async fn shop() -> (Db, Client) {
    let db = Db::empty().await;
    let mut client = db.connect().await;
    migrate::up_only(&mut client, &["pos"]).await.unwrap();
    client.batch_execute(SALES).await.unwrap();
    (db, client)
}

const INVALID: &str = "select exists (select from pg_index where not indisvalid)";

/// Killed in the middle of an index, again and again; then run to its end.
#[tokio::test]
async fn a_runner_that_is_killed_leaves_nothing_that_the_next_does_not_mend() {
    let (db, client) = shop().await;
    let writer = db.connect().await;
    for number in 1..=3 {
        // The build waits for this writer, with its index there and not valid.
        writer
            .batch_execute(&format!("begin; update sales set rate = rate + 1 where number = '{number}'"))
            .await
            .unwrap();
        let child = command(&db, &["up", "indexes"]).spawn().unwrap();
        until(&client, INVALID).await;
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        assert!(!child.wait_with_output().unwrap().status.success());
        // The server notices that its client is gone, though it waits for a lock.
        until(&client, "select not exists (select from pg_stat_activity where datname = current_database() and application_name = 'pulso migrate')").await;
        assert!(one::<bool>(&client, INVALID).await, "the leftover");
        writer.batch_execute("rollback").await.unwrap();
    }
    let plan = stdout(&pulso(&db, &["plan", "indexes"]));
    assert!(plan.contains("is invalid, left behind by an interrupted build"), "{plan}");
    let output = pulso(&db, &["up", "indexes"]);
    stdout(&output);
    assert!(stderr(&output).contains("makes it anew"), "{}", stderr(&output));
    assert!(!one::<bool>(&client, INVALID).await);
    let made: i64 = one(&client, "select count(*) from pg_indexes where schemaname = 'public' and (indexname ~ '_brin$' or indexname ~ '^sales_store_(business|customer|sold)|^sale_items_product|^events_store')").await;
    assert_eq!(made, 9);
    stdout(&pulso(&db, &["verify"]));
    assert_eq!(pulso(&db, &["plan", "indexes", "--exit-code"]).status.code(), Some(0));
}

#[tokio::test]
async fn ctrl_c_takes_the_index_back_and_the_next_run_goes_on() {
    let (db, client) = shop().await;
    let writer = db.connect().await;
    writer.batch_execute("begin; update sales set rate = rate + 1 where number = '1'").await.unwrap();
    let child = command(&db, &["up", "indexes"]).spawn().unwrap();
    until(&client, INVALID).await;
    // Nobody waits for it.
    client.batch_execute("set lock_timeout = '100ms'; update sales set rate = 41 where number = '2'").await.unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    writer.batch_execute("rollback").await.unwrap();
    assert_eq!(one::<i64>(&client, "select count(*) from pulso.migration_log where outcome = 'interrupted'").await, 1);
    stdout(&pulso(&db, &["up", "indexes"]));
    assert!(!one::<bool>(&client, INVALID).await);
}

#[tokio::test]
async fn what_does_not_apply_is_skipped_with_the_reason_until_it_does() {
    let (db, client) = shop().await;
    client
        .batch_execute(
            "drop table events, sales_heatmap; alter table real_time_metrics rename created_at to at;
             alter table sale_items drop constraint sale_items_sale_line_key;
             create index own on inventory_movements (happened_at);
             create index sales_store_sold_at_idx on sales (rate)",
        )
        .await
        .unwrap();
    let plan = stdout(&pulso(&db, &["plan", "indexes"]));
    for line in [
        "skipped  C5__index_events_by_type  (there is no table public.events)",
        "skipped  C8__range_metrics_by_time  (public.real_time_metrics has no column created_at)",
        "skipped  C2__index_completed_sales_by_time  (an index sales_store_sold_at_idx is there already, of another table or other columns)",
        "skipped  C9__index_products_by_shop  (index products_store_sku_key begins with store_id already)",
        "skipped  C10__index_heatmap_by_day  (there is no table public.sales_heatmap)",
        "pending  C4__index_lines_by_sale  (online)",
        "pending  C7__range_movements_by_time  (online)",
        "tables: public.sale_items (4,000 rows)",
    ] {
        assert!(plan.contains(line), "{line} is not in {plan}");
    }
    stdout(&pulso(&db, &["up", "indexes"]));
    assert_eq!(pulso(&db, &["plan", "indexes", "--exit-code"]).status.code(), Some(0));
    client.batch_execute("create table events (store_id uuid, type text, created_at timestamptz)").await.unwrap();
    assert_eq!(pulso(&db, &["plan", "indexes", "--exit-code"]).status.code(), Some(4));
    stdout(&pulso(&db, &["up", "indexes"]));
    assert!(one::<bool>(&client, "select to_regclass('public.events_store_type_created_at_idx') is not null").await);
    // One that somebody drops on purpose is not made again.
    client.batch_execute("drop index events_store_type_created_at_idx").await.unwrap();
    assert_eq!(pulso(&db, &["plan", "indexes", "--exit-code"]).status.code(), Some(0));
}

/// The users' queries, each by the index that was made for it.
#[tokio::test]
async fn the_shops_queries_use_them() {
    let (db, client) = shop().await;
    stdout(&pulso(&db, &["up", "indexes"]));
    client
        .batch_execute(
            "insert into customers (id, document_id) values ('00000000-0000-4000-8000-0000000000c1', 'V-1');
             update sales set customer_id = '00000000-0000-4000-8000-0000000000c1' where number::int % 50 = 0;
             insert into events (store_id, type, created_at)
             select '00000000-0000-4000-8000-000000000001', 'type ' || i % 20, now() - i * interval '1 min' from generate_series(1, 2000) i;
             analyze; set enable_seqscan = off",
        )
        .await
        .unwrap();
    let store = "store_id = '00000000-0000-4000-8000-000000000001'";
    for (query, index) in [
        (
            format!(
                "select * from sales where {store} and status = 'completed' and sold_at > now() - interval '1 hour' order by sold_at desc limit 20"
            ),
            "sales_store_sold_at_idx",
        ),
        (
            format!("select * from sales where {store} and status = 'completed' and business_date = current_date"),
            "sales_store_business_date_idx",
        ),
        (
            format!(
                "select * from sales where {store} and customer_id = '00000000-0000-4000-8000-0000000000c1' order by sold_at desc limit 5"
            ),
            "sales_store_customer_sold_at_idx",
        ),
        (
            format!("select * from events where {store} and type = 'type 3' order by created_at desc limit 5"),
            "events_store_type_created_at_idx",
        ),
        (
            "select * from sale_items where product_id = '00000000-0000-4000-8000-000000000105'".to_owned(),
            "sale_items_product_idx",
        ),
        (
            "select * from sale_items where sale_id = '00000000-0000-4000-8000-000000000105'".to_owned(),
            "sale_items_sale_line_key",
        ),
        ("select count(*) from sales where sold_at > now() - interval '1 hour'".to_owned(), "sales_sold_at_brin"),
    ] {
        let rows = client.query(&format!("explain {query}"), &[]).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{query}: {plan:#?}");
    }
}

//! The reports at their edges, against what the definitions say by hand.

use crate::common::Db;
use crate::one;
use pulso::migrate;
use std::time::Duration;
use tokio_postgres::Client;

/// A shop with sales at its edges, a bar whose day starts at 04:00, and a shop that has never sold.
const SHOP: &str = include_str!("edges.sql");

async fn shop() -> (Db, Client) {
    let db = Db::migrated().await;
    let client = db.connect().await;
    client.batch_execute(SHOP).await.unwrap();
    client.batch_execute("select refresh_analytics_views()").await.unwrap();
    (db, client)
}

/// Rows as text, sorted.
async fn rows(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(&format!("select t::text from ({query}) as t"), &[]).await;
    let mut rows: Vec<String> =
        rows.unwrap_or_else(|error| panic!("{query}: {error:?}")).iter().map(|row| row.get(0)).collect();
    rows.sort();
    rows
}

async fn expect(client: &Client, query: &str, expected: &[&str]) {
    assert_eq!(rows(client, query).await, expected, "{query}");
}

#[tokio::test]
async fn columns_are_the_plans_and_in_reach_of_its_callers() {
    let (_db, client) = shop().await;
    for (name, columns) in [
        (
            "mv_sales_daily",
            "store_id:uuid sale_date:date sales_count:bigint total_bs:numeric total_usd:numeric avg_ticket_bs:numeric avg_ticket_usd:numeric unique_customers:bigint by_payment_method:jsonb",
        ),
        (
            "mv_top_products_30d",
            "product_id:uuid product_name:text category:text store_id:uuid total_qty_sold:numeric revenue_bs:numeric revenue_usd:numeric times_sold:bigint",
        ),
        (
            "mv_inventory_metrics",
            "store_id:uuid total_products:bigint low_stock_count:bigint total_stock_value_bs:numeric total_stock_value_usd:numeric out_of_stock_count:bigint",
        ),
    ] {
        for schema in ["public", "analytics"] {
            let found: String = client
                .query_one(
                    "select string_agg(a.attname || ':' || format_type(a.atttypid, a.atttypmod), ' ' order by a.attnum)
                       from pg_attribute a where a.attrelid = to_regclass($1) and a.attnum > 0",
                    &[&format!("{schema}.{name}")],
                )
                .await
                .unwrap()
                .get(0);
            assert_eq!(found, columns, "{schema}.{name}");
        }
        assert_eq!(
            rows(&client, &format!("table {name}")).await,
            rows(&client, &format!("table analytics.{name}")).await
        );
    }
    let without_key: Vec<String> = rows(
        &client,
        "select c.relname from pg_class c where c.relnamespace = 'analytics'::regnamespace and c.relkind = 'm'
            and not exists (select from pg_index i where i.indrelid = c.oid and i.indisunique and i.indpred is null and i.indexprs is null)",
    )
    .await;
    assert!(without_key.is_empty(), "{without_key:?}");
    let undocumented = rows(
        &client,
        "select c.relname from pg_class c where c.relnamespace = 'analytics'::regnamespace and c.relkind in ('m', 'v', 'r')
            and obj_description(c.oid, 'pg_class') is null and c.relname !~ '^(sales_hourly|sales_daily_totals|payment_mix|customer_sales|product_sales)'",
    )
    .await;
    assert!(undocumented.is_empty(), "{undocumented:?}");
}

#[tokio::test]
async fn a_day_of_sales_returns_and_voids() {
    let (_db, client) = shop().await;
    // Yesterday: two sales of 10 and 20 with a method, one of 5 without and one whose method is called unknown; a return of 2.
    let day = "select sales_count, trim_scale(total_bs) as bs, trim_scale(total_usd) as usd, trim_scale(round(avg_ticket_usd, 4)) as ticket, unique_customers,
                      by_payment_method -> 'card' ->> 'count' as card, trim_scale((by_payment_method -> 'card' ->> 'amount_usd')::numeric) as card_usd,
                      by_payment_method -> 'unknown' ->> 'count' as unknown, trim_scale((by_payment_method -> 'unknown' ->> 'amount_bs')::numeric) as unknown_bs
                 from mv_sales_daily where store_id = '00000000-0000-4000-8000-000000000001' and sale_date = analytics.business_date(store_id) - 1";
    expect(&client, day, &["(4,1480,37,9.75,1,2,28,2,360)"]).await;
    // A void shows at its commit, without a refresh.
    client.batch_execute("update sales set status = 'voided', voided_at = now() where number = 'y2'").await.unwrap();
    expect(&client, day, &["(3,680,17,6.3333,1,1,8,2,360)"]).await;
    expect(&client, "select * from mv_sales_daily where store_id = '00000000-0000-4000-8000-000000000003'", &[]).await;
    // At 03:00 the bar still has the day before.
    expect(
        &client,
        "select analytics.business_date(store_id) - sale_date as ago, sales_count from mv_sales_daily where store_id = '00000000-0000-4000-8000-000000000002'",
        &["(2,1)", "(3,1)"],
    )
    .await;
}

#[tokio::test]
async fn stock_at_zero_below_it_and_without_a_threshold() {
    let (_db, client) = shop().await;
    expect(
        &client,
        "select right(store_id::text, 1) as store, total_products, low_stock_count, trim_scale(total_stock_value_bs) as bs, trim_scale(total_stock_value_usd) as usd, out_of_stock_count from mv_inventory_metrics",
        &["(1,7,3,1360,34,2)", "(2,0,0,0,0,0)", "(3,0,0,0,0,0)"],
    )
    .await;
    expect(
        &client,
        "select product_name, trim_scale(units_90d) as units, trim_scale(days_of_cover) as days from analytics.stock_cover",
        &["(A,18,50)", "(B,9,0)", "(C,9,30)", "(D,0,)", "(F,4,0)", "(G,0,)", "(H,0,)"],
    )
    .await;
    expect(
        &client,
        "select product_name, trim_scale(units_sold) as sold, trim_scale(sell_through_percent) as percent from analytics.sell_through",
        &["(A,18,64.29)", "(B,9,100)", "(C,9,75)", "(D,0,0)", "(F,4,100)", "(G,0,0)", "(H,0,0)"],
    )
    .await;
}

#[tokio::test]
async fn equals_are_in_one_class() {
    let (_db, client) = shop().await;
    // Of 64: A makes 56 %, so B and C, which are equal, are A too; before E there are 84 %, before F 97 %.
    expect(
        &client,
        "select product_name, trim_scale(revenue_usd) as usd, abc, xyz from analytics.product_abc_xyz where store_id = '00000000-0000-4000-8000-000000000001'",
        &["(A,36,A,Z)", "(B,9,A,Z)", "(C,9,A,Z)", "(D,0,C,Z)", "(E,8,B,Z)", "(F,2,C,Z)", "(G,0,C,Z)", "(H,0,C,Z)"],
    )
    .await;
    expect(
        &client,
        "select right(customer_id::text, 2) as customer, recency_days, sales_count, trim_scale(total_usd) as usd, recency, frequency, monetary from analytics.customer_rfm where store_id = '00000000-0000-4000-8000-000000000001'",
        &["(c1,1,2,30,4,4,4)", "(c2,10,1,20,1,1,1)", "(c3,10,1,20,1,1,1)"],
    )
    .await;
}

#[tokio::test]
async fn pairs_of_products_in_both_directions() {
    let (_db, client) = shop().await;
    // Eleven tickets; A in 6, B in 3, C in 3; A with B three times, A with C once.
    expect(
        &client,
        "select product_name, other_name, tickets_with_both as both, tickets_with_product as a, tickets_with_other as b, tickets, support, confidence, lift from analytics.basket_affinity",
        &["(A,B,3,6,3,11,0.272727,0.500000,1.8333)", "(B,A,3,3,6,11,0.272727,1.000000,1.8333)"],
    )
    .await;
}

#[tokio::test]
async fn every_hour_of_the_week_is_there() {
    let (_db, client) = shop().await;
    expect(
        &client,
        "select right(store_id::text, 1) as store, count(*) as cells, sum(sales_count) as sales from analytics.sales_weekday_hour group by 1",
        &["(1,168,11)", "(2,168,2)", "(3,168,0)"],
    )
    .await;
    let odd: i64 = one(
        &client,
        "select count(*) from analytics.sales_weekday_hour h
          where store_id = '00000000-0000-4000-8000-000000000002' and sales_count > 0
            and not (h.hour = 3 and weekday in (extract(isodow from analytics.business_date(store_id) - 2), extract(isodow from analytics.business_date(store_id) - 3)))",
    )
    .await;
    assert_eq!(odd, 0);
}

#[tokio::test]
async fn refreshing_is_seen_and_shared() {
    let (db, client) = shop().await;
    let ages: i64 = one(
        &client,
        "select count(*) from analytics.report_freshness where age < interval '1 minute' and as_of is not null",
    )
    .await;
    assert_eq!(ages, 9);
    let before: i64 = one(
        &client,
        "select total_products from mv_inventory_metrics where store_id = '00000000-0000-4000-8000-000000000001'",
    )
    .await;
    client.batch_execute("update products set is_active = false where name = 'H'").await.unwrap();
    assert_eq!(
        one::<i64>(
            &client,
            "select total_products from mv_inventory_metrics where store_id = '00000000-0000-4000-8000-000000000001'"
        )
        .await,
        before
    );
    assert!(one::<bool>(&client, "select analytics.refresh_report('mv_inventory_metrics')").await);
    assert_eq!(
        one::<i64>(
            &client,
            "select total_products from mv_inventory_metrics where store_id = '00000000-0000-4000-8000-000000000001'"
        )
        .await,
        before - 1
    );
    let error = client.batch_execute("select analytics.refresh_report('nothing')").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42704");

    // Readers do not wait for a refresh, and a caller that waited for another's takes that one's.
    let holder = db.connect().await;
    holder.batch_execute("begin; select analytics.refresh_report('mv_inventory_metrics')").await.unwrap();
    client.batch_execute("set lock_timeout = '200ms'; select count(*) from mv_inventory_metrics").await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let other = db.connect().await;
        waiting.push(tokio::spawn(async move {
            one::<bool>(&other, "select analytics.refresh_report('mv_inventory_metrics')").await
        }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    holder.batch_execute("commit").await.unwrap();
    let mut refreshed = Vec::new();
    for call in waiting {
        refreshed.push(call.await.unwrap());
    }
    refreshed.sort();
    assert_eq!(refreshed, [false, true], "the holder's began before both calls; one of them refreshes for both");

    // A stranger may read nothing and refresh nothing until told otherwise.
    client.batch_execute("create role report_clerk; set role report_clerk").await.unwrap();
    let refused = client.batch_execute("select analytics.refresh_analytics_views()").await.unwrap_err();
    assert!(["42501"].contains(&refused.code().unwrap().code()), "{refused:?}");
    client
        .batch_execute("reset role; grant usage on schema analytics to report_clerk; grant execute on function analytics.refresh_analytics_views() to report_clerk; set role report_clerk; select analytics.refresh_analytics_views(); select public.refresh_analytics_views(); reset role; drop owned by report_clerk; drop role report_clerk")
        .await
        .unwrap();
}

/// Names that are taken in schema public stay whose they are.
#[tokio::test]
async fn names_of_others_are_left_alone() {
    let db = Db::empty().await;
    let mut client = db.connect().await;
    client.batch_execute("create view mv_sales_daily as select 1 as theirs; create function refresh_analytics_views() returns int language sql as 'select 1'").await.unwrap();
    let plan = crate::stdout(&crate::pulso(&db, &["plan"]));
    assert!(plan.contains("look at: public.mv_sales_daily is there already and stays"), "{plan}");
    assert!(plan.contains("look at: public.refresh_analytics_views() is there already"), "{plan}");
    migrate::up(&mut client).await.unwrap();
    assert_eq!(one::<i32>(&client, "select theirs from public.mv_sales_daily").await, 1);
    migrate::undo(&mut client, "reports", 0, false).await.unwrap();
    assert_eq!(one::<i32>(&client, "select theirs from public.mv_sales_daily").await, 1);
    assert_eq!(one::<i32>(&client, "select refresh_analytics_views()").await, 1);
    assert!(one::<bool>(&client, "select to_regclass('public.mv_inventory_metrics') is null").await);
}

//! The acceptance: a year of a real shop, loaded, counted by another engine, then shaken, and counted again.
//!
//! The file and DuckDB's counts are test data beside the repository: `PULSO_SHARED_DATA`, or ../shared/data.
//! `PULSO_TEST_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod recount;
mod shake;

use common::{Db, long};
use pulso::load::online_retail::{Mode, Options, load};
use std::io::Read;
use std::path::{Path, PathBuf};
use tokio_postgres::Client;

/// The data set's directory, or `None` after saying that it is not there.
fn data() -> Option<PathBuf> {
    let shared = std::env::var_os("PULSO_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let data = shared.join("online-retail");
    if data.join("online-retail.csv.gz").exists() {
        return Some(data);
    }
    common::skip(&format!("{} holds no online-retail.csv.gz; set PULSO_SHARED_DATA", data.display()));
    None
}

/// Puts an expected CSV into a temporary table of text columns.
async fn expect(client: &Client, path: &Path, table: &str) {
    let bytes = std::fs::read(path).expect("an expected file");
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
    } else {
        text = String::from_utf8(bytes).expect("UTF-8");
    }
    let (header, _) = text.split_once('\n').expect("a header");
    let columns = header.trim().split(',').map(|name| format!("{name} text")).collect::<Vec<_>>().join(", ");
    client.batch_execute(&format!("create temporary table {table} ({columns})")).await.expect("a table");
    let sink = client.copy_in(&format!("copy {table} from stdin with (format csv, header)")).await.expect("copy");
    futures_util::pin_mut!(sink);
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from(text)).await.expect("copy");
    sink.finish().await.expect("copy");
}

/// Rows of either that the other lacks.
async fn differences(client: &Client, ours: &str, theirs: &str) -> Vec<String> {
    let query = format!(
        "with ours as ({ours}), theirs as ({theirs})
         (select 'only here: ' || t::text from (select * from ours except all select * from theirs) t)
          union all
         (select 'missing: ' || t::text from (select * from theirs except all select * from ours) t)"
    );
    client.query(&query, &[]).await.expect("the comparison").iter().map(|row| row.get(0)).collect()
}

async fn assert_same(client: &Client, what: &str, ours: &str, theirs: &str) {
    let rows: i64 = client.query_one(&format!("select count(*) from ({ours}) t"), &[]).await.expect("rows").get(0);
    let differences = differences(client, ours, theirs).await;
    let some = differences.iter().take(5).collect::<Vec<_>>();
    assert!(rows > 0 && differences.is_empty(), "{what}: {rows} rows, {} differences: {some:#?}", differences.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_year_equals_the_count_of_another_engine() {
    let Some(data) = data().filter(|_| long()) else { return };
    let db = Db::migrated().await;
    let mut client = db.connect().await;
    let file = data.join("online-retail.csv.gz");
    let loaded = load(&mut client, &file, Mode::Bulk).await.expect("the file loads");
    eprintln!("loaded in {:.1} s", loaded.seconds);
    assert_eq!((loaded.sales, loaded.lines, loaded.skipped), (25_900, 541_909, 0));
    let again = load(&mut client, &file, Mode::Bulk).await.expect("the file loads again");
    assert_eq!((again.sales, again.lines, again.skipped), (0, 0, 25_900));

    assert_same(
        &client,
        "totals by kind",
        "select kind, count(*), sum((totals ->> 'total_usd')::numeric), sum((totals ->> 'total_bs')::numeric) from sales group by kind",
        "values ('sale', 22061::bigint, 10655622.484, 10655622.484 * 36.5), ('return', 3836, -896812.490, -896812.490 * 36.5),
                ('adjustment', 3, -11062.060, -11062.060 * 36.5)",
    )
    .await;
    assert_same(
        &client,
        "totals of the lines",
        "select count(*), sum(qty * unit_price_usd), sum(qty), sum(qty * unit_price_bs) from sale_items",
        "values (541909::bigint, 9747747.934, 5176450::numeric, 9747747.934 * 36.5)",
    )
    .await;
    assert_same(
        &client,
        "the catalogue",
        "select (select count(*) from stores), (select count(*) from customers), (select count(distinct sku) from products)",
        "values (38::bigint, 4372::bigint, 4070::bigint)",
    )
    .await;

    expect(&client, &data.join("expected/daily.csv"), "daily").await;
    assert_same(
        &client,
        "sales_daily",
        "select s.name, d.sale_date, d.sales_count, d.gross_usd, d.returns_count, -d.returns_usd, d.items, d.unique_customers
           from analytics.sales_daily d join stores s on s.id = d.store_id",
        "select store, day::date, sales_count::bigint, gross_usd::numeric, returns_count::bigint, returns_usd::numeric,
                net_units::numeric, unique_customers::bigint from daily",
    )
    .await;
    expect(&client, &data.join("expected/hourly.csv"), "hourly").await;
    assert_same(
        &client,
        "sales_hourly",
        "select s.name, h.hour, h.sales_count, h.gross_usd
           from analytics.sales_hourly h join stores s on s.id = h.store_id where h.sales_count > 0",
        "select store, hour::timestamp, sales_count::bigint, gross_usd::numeric from hourly",
    )
    .await;
    expect(&client, &data.join("expected/products_monthly.csv.gz"), "monthly").await;
    assert_same(
        &client,
        "product_sales_daily by month",
        "select s.name, p.sku, date_trunc('month', d.sale_date)::date, sum(d.units), sum(d.revenue_usd), sum(d.times_sold)
           from analytics.product_sales_daily d join products p on p.id = d.product_id join stores s on s.id = d.store_id
          group by 1, 2, 3",
        "select store, sku, month::date, units::numeric, revenue_usd::numeric, times_sold::numeric from monthly",
    )
    .await;

    recount::assert_exact(&client, "after the load").await;
    shake::shake(&db).await;
    recount::assert_exact(&client, "after the shaking").await;
    recount::fold(&client).await;
    recount::assert_exact(&client, "after the fold").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_sold_ticket_by_ticket_is_as_exact() {
    let Some(data) = data() else { return };
    let db = Db::migrated().await;
    let mut client = db.connect().await;
    let slice = Options { limit: Some(1_500), ..Mode::Ticket.into() };
    let loaded = load(&mut client, &data.join("online-retail.csv.gz"), slice).await.expect("the slice loads");
    assert_eq!((loaded.sales, loaded.lines, loaded.skipped), (1_500, 31_678, 0));
    recount::assert_exact(&client, "after the tickets").await;
    shake::shake(&db).await;
    recount::assert_exact(&client, "after the shaking").await;
    recount::fold(&client).await;
    recount::assert_exact(&client, "after the fold").await;
}

//! The oracle: each rollup counted again from the tables, by queries of the test's own.

use super::assert_same;
use tokio_postgres::Client;

const ROLLUPS: [&str; 5] = [
    "analytics.sales_hourly",
    "analytics.sales_daily_totals",
    "analytics.payment_mix_daily",
    "analytics.customer_sales_daily",
    "analytics.cashier_sales_daily",
];

/// Sales and returns that count, their amounts as columns; the clock is UTC in every shop of the file.
const COUNTED: &str = "
select s.store_id, s.sold_at at time zone 'UTC' as at, s.kind, s.customer_id, s.payment ->> 'method' as method,
       (s.totals ->> 'items')::numeric as items,
       (s.totals ->> 'gross_bs')::numeric as gross_bs, (s.totals ->> 'gross_usd')::numeric as gross_usd,
       (s.totals ->> 'discount_bs')::numeric as discount_bs, (s.totals ->> 'discount_usd')::numeric as discount_usd,
       (s.totals ->> 'tax_bs')::numeric as tax_bs, (s.totals ->> 'tax_usd')::numeric as tax_usd,
       (s.totals ->> 'total_bs')::numeric as total_bs, (s.totals ->> 'total_usd')::numeric as total_usd
  from public.sales s
 where s.status = 'completed' and s.kind <> 'adjustment'";

/// A view, its columns in order, and the same counted from the tables.
const RECOUNTS: [(&str, &str, &str); 6] = [
    (
        "analytics.sales_hourly",
        "store_id, hour, sales_count, returns_count, items, gross_bs, gross_usd, net_bs, net_usd, total_bs, total_usd",
        "select store_id, date_trunc('hour', at), count(*) filter (where kind = 'sale'), count(*) filter (where kind = 'return'), sum(items),
                coalesce(sum(gross_bs) filter (where kind = 'sale'), 0), coalesce(sum(gross_usd) filter (where kind = 'sale'), 0),
                sum(gross_bs - discount_bs), sum(gross_usd - discount_usd), sum(total_bs), sum(total_usd)
           from counted group by 1, 2",
    ),
    (
        "analytics.sales_daily_totals",
        "store_id, sale_date, sales_count, returns_count, items, items_sold, gross_bs, gross_usd, discounts_bs, discounts_usd,
         returns_bs, returns_usd, tax_bs, tax_usd, total_bs, total_usd",
        "select store_id, at::date, count(*) filter (where kind = 'sale'), count(*) filter (where kind = 'return'), sum(items),
                coalesce(sum(items) filter (where kind = 'sale'), 0), coalesce(sum(gross_bs) filter (where kind = 'sale'), 0), coalesce(sum(gross_usd) filter (where kind = 'sale'), 0),
                coalesce(sum(discount_bs) filter (where kind = 'sale'), 0), coalesce(sum(discount_usd) filter (where kind = 'sale'), 0),
                coalesce(sum(discount_bs - gross_bs) filter (where kind = 'return'), 0), coalesce(sum(discount_usd - gross_usd) filter (where kind = 'return'), 0),
                sum(tax_bs), sum(tax_usd), sum(total_bs), sum(total_usd)
           from counted group by 1, 2",
    ),
    (
        "analytics.payment_mix_daily",
        "store_id, sale_date, method, sales_count, amount_bs, amount_usd",
        "select store_id, at::date, method, count(*) filter (where kind = 'sale'), sum(total_bs), sum(total_usd) from counted group by 1, 2, 3",
    ),
    (
        "analytics.customer_sales_daily",
        "store_id, sale_date, customer_id, sales_count, total_bs, total_usd",
        "select store_id, at::date, customer_id, count(*), sum(total_bs), sum(total_usd)
           from counted where kind = 'sale' and customer_id is not null group by 1, 2, 3",
    ),
    (
        "analytics.sales_daily",
        "store_id, sale_date, sales_count, gross_usd, returns_usd, net_usd, total_bs, unique_customers",
        "select store_id, at::date, count(*) filter (where kind = 'sale'), coalesce(sum(gross_usd) filter (where kind = 'sale'), 0),
                coalesce(-sum(gross_usd) filter (where kind = 'return'), 0), sum(gross_usd - discount_usd), sum(total_bs),
                count(distinct customer_id) filter (where kind = 'sale')
           from counted group by 1, 2",
    ),
    (
        "analytics.product_sales_daily",
        "store_id, sale_date, product_id, units, gross_bs, gross_usd, revenue_bs, revenue_usd, cost_bs, cost_usd, times_sold",
        "select s.store_id, (s.sold_at at time zone 'UTC')::date, i.product_id, sum(i.qty), sum(i.qty * i.unit_price_bs), sum(i.qty * i.unit_price_usd),
                sum(i.qty * i.unit_price_bs) - sum(i.discount_bs), sum(i.qty * i.unit_price_usd) - sum(i.discount_usd),
                sum(i.qty * i.unit_cost_bs), sum(i.qty * i.unit_cost_usd), count(distinct i.sale_id)
           from public.sale_items i join public.sales s on s.id = i.sale_id
          where s.status = 'completed' and s.kind = 'sale' group by 1, 2, 3",
    ),
];

/// Every view equals its recount, and the engine agrees about its own.
pub async fn assert_exact(client: &Client, when: &str) {
    for (view, columns, recount) in RECOUNTS {
        let ours = format!("select {columns} from {view}");
        let theirs = format!("with counted as ({COUNTED}) {recount}");
        assert_same(client, &format!("{view} {when}"), &ours, &theirs).await;
    }
    for rollup in ROLLUPS {
        let wrong: i64 = client.query_one("select pulso.verify($1)", &[&rollup]).await.expect("verify").get(0);
        assert_eq!(wrong, 0, "pulso.verify('{rollup}') {when}");
    }
}

pub async fn fold(client: &Client) {
    for rollup in ROLLUPS {
        client.execute("select pulso.fold($1)", &[&rollup]).await.expect("fold");
    }
}

//! Every figure against a recount from the sales, by the definitions of docs/kpis.md and without any rollup.

use crate::client::Client;
use crate::common::Db;
use crate::shop::{BAR, GROCERY};
use rust_decimal::Decimal;
use serde_json::Value;
use std::collections::BTreeMap;

const FROM: &str = "2026-06-24";
const TO: &str = "2026-07-21";

/// Completed sales and returns with their business dates, as the views of the contract never see them.
const SOLD: &str = "
  with sold as (
    select s.*, ((s.sold_at at time zone t.time_zone) - t.day_start)::date as day, s.sold_at at time zone t.time_zone as clock,
           (s.totals ->> 'gross_usd')::numeric as gross, (s.totals ->> 'discount_usd')::numeric as discount,
           (s.totals ->> 'gross_bs')::numeric as gross_b, (s.totals ->> 'discount_bs')::numeric as discount_b,
           (s.totals ->> 'total_usd')::numeric as total, (s.totals ->> 'total_bs')::numeric as total_b, (s.totals ->> 'items')::numeric as items
      from public.sales s join public.stores t on t.id = s.store_id
     where s.kind in ('sale', 'return')
  ), done as (select * from sold where status = 'completed'), inside as (
    select * from done where store_id = $1::text::uuid and day between $2::text::date and $3::text::date)";

type Table = BTreeMap<String, Vec<Option<Decimal>>>;

async fn recount(sql: &tokio_postgres::Client, store: &str, query: &str) -> Table {
    let rows =
        sql.query(&format!("{SOLD} {query}"), &[&store, &FROM, &TO]).await.unwrap_or_else(|e| panic!("{query}: {e:?}"));
    rows.iter()
        .map(|row| {
            let figures = (1..row.len()).map(|i| row.get::<_, Option<Decimal>>(i).map(|d| d.normalize())).collect();
            (row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".into()), figures)
        })
        .collect()
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.parse::<Decimal>().unwrap().normalize()),
        Value::Number(number) => {
            assert!(!number.is_f64(), "a float: {number}");
            Some(number.to_string().parse::<Decimal>().unwrap().normalize())
        }
        other => panic!("{other} is no figure"),
    }
}

fn served(rows: &Value, key: &str, figures: &[&str]) -> Table {
    let rows = rows.as_array().unwrap();
    let table: Table = rows
        .iter()
        .map(|row| {
            let name = match &row[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (
                name,
                figures.iter().map(|figure| decimal(row.get(*figure).unwrap_or_else(|| panic!("{figure}")))).collect(),
            )
        })
        .collect();
    assert_eq!(table.len(), rows.len(), "a key comes twice");
    table
}

async fn open() -> (Db, Client, tokio_postgres::Client) {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    sql.batch_execute(include_str!("kpis.sql")).await.unwrap();
    let http = Client::to(db.url());
    (db, http, sql)
}

async fn get(http: &Client, path: &str) -> Value {
    let answer = http.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

const SUMS: [&str; 9] =
    ["sales_count", "returns_count", "items", "gross_bs", "gross_usd", "net_bs", "net_usd", "total_bs", "total_usd"];
const SUMS_SQL: &str = "count(*) filter (where kind = 'sale')::numeric, count(*) filter (where kind = 'return')::numeric, sum(items),
  sum(gross_b) filter (where kind = 'sale'), sum(gross) filter (where kind = 'sale'), sum(gross_b - discount_b), sum(gross - discount), sum(total_b), sum(total)";

#[tokio::test]
async fn sales_by_hour_weekday_and_month_equal_a_recount() {
    let (_db, http, sql) = open().await;
    for store in [GROCERY, BAR] {
        for (by, key, rows) in [
            ("hour", "lpad(extract(hour from clock)::text, 2, '0')", 24),
            ("weekday", "extract(isodow from day)::text", 7),
            ("month", "to_char(day, 'YYYY-MM')", 2),
        ] {
            let answer = get(&http, &format!("/v1/stores/{store}/sales/breakdown?by={by}&from={FROM}&to={TO}")).await;
            assert_eq!(answer["rows"].as_array().unwrap().len(), rows, "{by}");
            let mut is = served(&answer["rows"], "key", &SUMS);
            let should = recount(&sql, store, &format!("select {key}, {SUMS_SQL} from inside group by 1")).await;
            // Where nothing was sold there are zeros, and no group to recount.
            is.retain(|key, figures| should.contains_key(key) || figures.iter().any(|f| *f != Some(Decimal::ZERO)));
            assert_eq!(is, should, "{by} of {store}");
        }
    }
    let week = get(&http, &format!("/v1/stores/{BAR}/sales/breakdown?from={FROM}&to={TO}")).await;
    assert!(week["rows"].as_array().unwrap().iter().all(|row| row["days"] == 4), "28 days are four weeks");
}

#[tokio::test]
async fn the_heatmap_equals_a_recount() {
    let (_db, http, sql) = open().await;
    for store in [GROCERY, BAR] {
        let answer = get(&http, &format!("/v1/stores/{store}/heatmap?from={FROM}&to={TO}")).await;
        let cells = answer["cells"].as_array().unwrap();
        assert_eq!(cells.len(), 168);
        let is: Table = cells
            .iter()
            .map(|c| {
                (
                    format!("{} {}", c["weekday"], c["hour"]),
                    vec![decimal(&c["sales_count"]), decimal(&c["net_bs"]), decimal(&c["net_usd"])],
                )
            })
            .filter(|(_, figures)| figures.iter().any(|f| *f != Some(Decimal::ZERO)))
            .collect();
        let query = "select extract(isodow from day) || ' ' || extract(hour from clock), count(*) filter (where kind = 'sale')::numeric, sum(gross_b - discount_b), sum(gross - discount) from inside group by 1";
        assert_eq!(is, recount(&sql, store, query).await);
    }
}

#[tokio::test]
async fn categories_and_classes_equal_a_recount() {
    let (_db, http, sql) = open().await;
    let items = ", lines as (select i.*, p.category, i.qty * i.unit_price_usd - i.discount_usd as revenue, i.qty * i.unit_price_bs - i.discount_bs as revenue_b,
                   i.qty * i.unit_cost_usd as cost, i.qty * i.unit_cost_bs as cost_b
                   from inside s join public.sale_items i on i.sale_id = s.id join public.products p on p.id = i.product_id where s.kind = 'sale')";
    for store in [GROCERY, BAR] {
        let answer = get(&http, &format!("/v1/stores/{store}/categories?from={FROM}&to={TO}")).await;
        let is = served(
            &answer["categories"],
            "category",
            &["products", "units", "revenue_bs", "revenue_usd", "margin_bs", "margin_usd", "share_percent"],
        );
        let query = format!("{items} select category, count(distinct product_id)::numeric, sum(qty), sum(revenue_b), sum(revenue), sum(revenue_b - cost_b), sum(revenue - cost),
                             round(100 * sum(revenue) / (select sum(revenue) from lines), 1) from lines group by 1");
        assert!(is.contains_key("null") && is.len() == 4, "{is:?}");
        assert_eq!(is, recount(&sql, store, &query).await);

        let answer = get(&http, &format!("/v1/stores/{store}/products/abc?from={FROM}&to={TO}")).await;
        let is = served(&answer["products"], "product_id", &["units", "revenue_bs", "revenue_usd", "share_percent"]);
        let query = format!(
            "{items} select product_id::text, sum(qty), sum(revenue_b), sum(revenue), round(100 * sum(revenue) / (select sum(revenue) from lines), 2) from lines group by 1"
        );
        assert_eq!(is, recount(&sql, store, &query).await);
        // By hand: a product is in A while those that sell more make less than 80 % of the revenue.
        let products = answer["products"].as_array().unwrap();
        let total: Decimal = products.iter().map(|p| decimal(&p["revenue_usd"]).unwrap()).sum();
        for product in products {
            let revenue = decimal(&product["revenue_usd"]).unwrap();
            let more: Decimal =
                products.iter().map(|p| decimal(&p["revenue_usd"]).unwrap()).filter(|other| *other > revenue).sum();
            let class = if more < total * Decimal::new(80, 2) {
                "A"
            } else if more < total * Decimal::new(95, 2) {
                "B"
            } else {
                "C"
            };
            assert_eq!(product["class"], class, "{product}");
        }
        let order: Vec<_> = products.iter().map(|p| decimal(&p["revenue_usd"]).unwrap()).collect();
        assert!(order.windows(2).all(|pair| pair[0] >= pair[1]), "not in order");
        for class in ["A", "B", "C"] {
            assert!(products.iter().any(|p| p["class"] == class), "no {class}");
        }
    }
}

#[tokio::test]
async fn payments_equal_a_recount() {
    let (_db, http, sql) = open().await;
    for store in [GROCERY, BAR] {
        let answer = get(&http, &format!("/v1/stores/{store}/payments?from={FROM}&to={TO}")).await;
        let is = served(&answer["methods"], "method", &["sales_count", "amount_bs", "amount_usd", "share_percent"]);
        let query = "select payment ->> 'method', count(*) filter (where kind = 'sale')::numeric, sum(total_b), sum(total), round(100 * sum(total) / (select sum(total) from inside), 1) from inside group by 1";
        assert_eq!(is, recount(&sql, store, query).await);
        let is = served(&answer["tenders"], "method", &["payments", "amount", "amount_bs", "amount_usd"]);
        let query = "select p.method, count(*)::numeric, sum(p.amount), sum(p.amount_bs), sum(p.amount_usd) from inside s join public.sale_payments p on p.sale_id = s.id group by 1";
        assert_eq!(is, recount(&sql, store, query).await);
        assert_eq!(is.len(), 2);
    }
}

#[tokio::test]
async fn customers_equal_a_recount() {
    let (_db, http, sql) = open().await;
    for store in [GROCERY, BAR] {
        let answer = get(&http, &format!("/v1/stores/{store}/customers?from={FROM}&to={TO}")).await;
        let figures = [
            "unique_customers",
            "new_customers",
            "returning_customers",
            "repeat_customers",
            "sales_count",
            "identified_sales",
            "new_total_bs",
            "new_total_usd",
            "returning_total_bs",
            "returning_total_usd",
        ];
        let is: Vec<_> = figures.iter().map(|figure| decimal(&answer[figure])).collect();
        let query = ", old as (select distinct customer_id from done where store_id = $1::text::uuid and kind = 'sale' and day < $2::text::date and customer_id is not null),
            who as (select s.*, o.customer_id is not null as known from inside s left join old o using (customer_id) where s.kind = 'sale' and s.customer_id is not null)
            select 'all', count(distinct customer_id)::numeric, count(distinct customer_id) filter (where not known)::numeric, count(distinct customer_id) filter (where known)::numeric,
                   (select count(*) from (select from who group by customer_id having count(*) > 1) x)::numeric, (select count(*) from inside where kind = 'sale')::numeric, count(*)::numeric,
                   coalesce(sum(total_b) filter (where not known), 0), coalesce(sum(total) filter (where not known), 0), sum(total_b) filter (where known), sum(total) filter (where known) from who";
        let should = recount(&sql, store, query).await;
        assert_eq!(is, should["all"]);
        assert!(is[2] > Some(Decimal::ZERO) && is[3] > Some(Decimal::ZERO), "{is:?}");
    }
}

/// What becomes of sales after they are sold: each in a transaction of its own, of sales inside the range and out of it.
const CHANGES: [(&str, &str); 8] = [
    (
        "sold, taken back, voided and noted, by each and by nobody",
        "insert into public.sales (store_id, cashier_id, number, kind, status, voided_at, sold_at, rate, totals)
         select t.id, c.id, format('new %s %s %s', c.id, k.kind, k.status), k.kind, k.status, case k.status when 'voided' then now() end,
                timestamptz '2026-07-10 15:00-04', 40, jsonb_build_object('gross_usd', 10.0001, 'discount_usd', 0.33, 'gross_bs', 400.0004, 'discount_bs', 13.2, 'items', 2.5)
           from public.stores t
          cross join (values ('sale', 'completed'), ('return', 'completed'), ('sale', 'voided'), ('return', 'voided'), ('sale', 'pending'), ('adjustment', 'voided')) as k (kind, status)
           join lateral (select id from public.cashiers where store_id = t.id union all select null) c on true",
    ),
    (
        "voided later",
        "update public.sales set status = 'voided', voided_at = now() where number ~ '3$' and status = 'completed'",
    ),
    (
        "completed later",
        "update public.sales set status = 'completed' where number ~ '4$' and status = 'pending'",
    ),
    (
        "totals edited, some away",
        "update public.sales set totals = totals - 'items' || '{\"gross_usd\": 7.77, \"discount_bs\": null}' where number ~ '5$'",
    ),
    (
        "handed to another cashier, to nobody and from nobody",
        "update public.sales s
            set cashier_id = case when s.number ~ '61$' then null
                                  else (select max(c.id::text)::uuid from public.cashiers c where c.store_id = s.store_id) end
          where s.number ~ '6.$'",
    ),
    (
        "moved to other days, out of the range and into it",
        "update public.sales set sold_at = sold_at + interval '9 days 5 hours' where number ~ '7$'",
    ),
    ("of another kind", "update public.sales set kind = 'adjustment' where number ~ '8$' and kind = 'return'"),
    ("deleted", "delete from public.sales where number ~ '9$'"),
];

/// Every figure of every cashier; how many rows.
async fn assert_cashiers(http: &Client, sql: &tokio_postgres::Client, when: &str) -> usize {
    let mut rows = 0;
    for store in [GROCERY, BAR] {
        let answer = get(http, &format!("/v1/stores/{store}/cashiers?from={FROM}&to={TO}")).await;
        let is = served(
            &answer["cashiers"],
            "cashier_id",
            &[
                "sales_count",
                "returns_count",
                "voids_count",
                "items_sold",
                "gross_bs",
                "gross_usd",
                "discounts_bs",
                "discounts_usd",
                "net_bs",
                "net_usd",
                "avg_ticket_bs",
                "avg_ticket_usd",
                "items_per_ticket",
            ],
        );
        let query = "select cashier_id::text, count(*) filter (where sale)::numeric, count(*) filter (where completed and kind = 'return')::numeric, count(*) filter (where not completed)::numeric,
            coalesce(sum(items) filter (where sale), 0), coalesce(sum(gross_b) filter (where sale), 0), coalesce(sum(gross) filter (where sale), 0),
            coalesce(sum(discount_b) filter (where sale), 0), coalesce(sum(discount) filter (where sale), 0),
            coalesce(sum(gross_b) filter (where completed), 0) - coalesce(sum(discount_b) filter (where completed), 0),
            coalesce(sum(gross) filter (where completed), 0) - coalesce(sum(discount) filter (where completed), 0),
            round(avg(coalesce(gross_b, 0) - coalesce(discount_b, 0)) filter (where sale), 4), round(avg(coalesce(gross, 0) - coalesce(discount, 0)) filter (where sale), 4),
            round(avg(coalesce(items, 0)) filter (where sale), 2)
            from (select *, status = 'completed' as completed, status = 'completed' and kind = 'sale' as sale from sold) s
           where store_id = $1::text::uuid and day between $2::text::date and $3::text::date and status in ('completed', 'voided') group by 1";
        assert_eq!(is, recount(sql, store, query).await, "{when}");
        assert!(is.contains_key("null"), "{when}: {is:?}");
        rows += is.len();
    }
    rows
}

#[tokio::test]
async fn cashiers_equal_a_recount() {
    let (db, http, sql) = open().await;
    assert_eq!(assert_cashiers(&http, &sql, "as sold").await, 8);
    for (what, change) in CHANGES {
        assert!(sql.execute(change, &[]).await.unwrap() > 9, "{what}: hardly any");
        assert_cashiers(&http, &sql, what).await;
    }
    // A cashier of voided sales only has a row, and no ticket.
    sql.batch_execute(
        "insert into public.cashiers (id, store_id, name) select gen_random_uuid(), id, 'Nueva' from public.stores;
         insert into public.sales (store_id, cashier_id, number, status, voided_at, sold_at, rate, totals)
         select store_id, id, 'none', 'voided', now(), '2026-07-10 15:00-04', 40, '{\"gross_usd\": 1}' from public.cashiers where name = 'Nueva'",
    )
    .await
    .unwrap();
    assert_eq!(assert_cashiers(&http, &sql, "voided only").await, 10);
    sql.batch_execute("select pulso.fold('analytics.cashier_sales_daily')").await.unwrap();
    assert_cashiers(&http, &sql, "folded").await;
    let verified = sql.query_one("select pulso.verify('analytics.cashier_sales_daily')", &[]).await.unwrap();
    assert_eq!(verified.get::<_, i64>(0), 0);

    // It is the rollup that answers: it cannot know of what is changed beside its triggers.
    let before = get(&http, &format!("/v1/stores/{BAR}/cashiers?from={FROM}&to={TO}")).await;
    sql.batch_execute("begin; set local session_replication_role = replica; update public.sales set totals = '{}'")
        .await
        .unwrap();
    let call = format!("select sum(net_usd)::text from analytics.cashier_performance('{BAR}', '{FROM}', '{TO}')");
    let kept: String = sql.query_one(&call, &[]).await.unwrap().get(0);
    sql.batch_execute("rollback").await.unwrap();
    let net: Decimal = before["cashiers"].as_array().unwrap().iter().map(|c| decimal(&c["net_usd"]).unwrap()).sum();
    assert_eq!(kept.parse::<Decimal>().unwrap().normalize(), net.normalize());

    // Without it, as where the column came later, the sales are counted: the same.
    sql.batch_execute("select pulso.drop_rollup('analytics.cashier_sales_daily')").await.unwrap();
    assert_cashiers(&Client::to(db.url()), &sql, "counted").await;
    assert_eq!(
        before.to_string(),
        get(&http, &format!("/v1/stores/{BAR}/cashiers?from={FROM}&to={TO}")).await.to_string()
    );
}

#[tokio::test]
async fn stock_equals_a_recount() {
    let (_db, http, sql) = open().await;
    for store in [GROCERY, BAR] {
        // The sales lie in the past: the rate is that of the last 366 whole days.
        let answer = get(&http, &format!("/v1/stores/{store}/inventory?days=366&limit=500")).await;
        let figures = [
            "total_products",
            "low_stock_count",
            "out_of_stock_count",
            "total_units",
            "total_stock_value_bs",
            "total_stock_value_usd",
        ];
        let is: Vec<_> = figures.iter().map(|figure| decimal(&answer[figure])).collect();
        let query = "select 'all', count(*)::numeric, count(*) filter (where current_stock <= low_stock_threshold and low_stock_threshold > 0)::numeric, count(*) filter (where current_stock <= 0)::numeric,
                     sum(current_stock), sum(current_stock * cost_bs), sum(current_stock * cost_usd)
                     from public.products where store_id = $1::text::uuid and is_active";
        assert_eq!(
            is,
            recount(&sql, store, &format!("{query} and $2::text is not null and $3::text is not null")).await["all"]
        );
        let is = served(
            &answer["products"],
            "product_id",
            &["stock", "units_sold", "units_per_day", "days_of_cover", "sell_through_percent"],
        );
        let query = ", rates as (select i.product_id, sum(i.qty) as units from done s join public.sale_items i on i.sale_id = s.id join public.stores t on t.id = s.store_id
              where s.kind = 'sale' and s.store_id = $1::text::uuid and s.day < ((now() at time zone t.time_zone) - t.day_start)::date
                and s.day >= ((now() at time zone t.time_zone) - t.day_start)::date - 366 and $2::text is not null and $3::text is not null group by 1)
            select p.id::text, p.current_stock, coalesce(r.units, 0), round(coalesce(r.units, 0) / 366, 3), round(greatest(p.current_stock, 0) / (r.units / 366), 1),
                   round(100 * r.units / (r.units + greatest(p.current_stock, 0)), 1)
              from public.products p left join rates r on r.product_id = p.id where p.store_id = $1::text::uuid and p.is_active";
        assert_eq!(is, recount(&sql, store, query).await);
        let cover: Vec<_> =
            answer["products"].as_array().unwrap().iter().filter_map(|p| decimal(&p["days_of_cover"])).collect();
        assert!(
            cover.windows(2).all(|pair| pair[0] <= pair[1]) && cover.len() > 20,
            "those that run out first come first"
        );
        for product in answer["products"].as_array().unwrap() {
            let (stock, low) = (decimal(&product["stock"]).unwrap(), decimal(&product["low_stock_threshold"]).unwrap());
            let state = if stock <= Decimal::ZERO {
                "out"
            } else if low > Decimal::ZERO && stock <= low {
                "low"
            } else {
                "enough"
            };
            assert_eq!(product["state"], state, "{product}");
        }
    }
}

#[tokio::test]
async fn the_chain_equals_a_recount() {
    let (_db, http, sql) = open().await;
    let answer = get(&http, &format!("/v1/chain?from={FROM}&to={TO}")).await;
    let figures = [
        "sales_count",
        "returns_count",
        "items_sold",
        "gross_bs",
        "gross_usd",
        "net_bs",
        "net_usd",
        "total_bs",
        "total_usd",
        "avg_ticket_bs",
        "avg_ticket_usd",
    ];
    let is = served(&answer["stores"], "store_id", &figures);
    let before = served(
        &answer["stores"],
        "store_id",
        &["previous_sales_count", "previous_net_bs", "previous_net_usd", "change_percent"],
    );
    for store in [GROCERY, BAR] {
        let query = "select store_id::text, count(*) filter (where kind = 'sale')::numeric, count(*) filter (where kind = 'return')::numeric, sum(items) filter (where kind = 'sale'),
            sum(gross_b) filter (where kind = 'sale'), sum(gross) filter (where kind = 'sale'), sum(gross_b - discount_b), sum(gross - discount), sum(total_b), sum(total),
            round(avg(gross_b - discount_b) filter (where kind = 'sale'), 4), round(avg(gross - discount) filter (where kind = 'sale'), 4) from inside group by 1";
        assert_eq!(is[store], recount(&sql, store, query).await[store]);
        let query = ", old as (select * from done where store_id = $1::text::uuid and day between $2::text::date - 28 and $2::text::date - 1)
            select store_id::text, count(*) filter (where kind = 'sale')::numeric, sum(gross_b - discount_b), sum(gross - discount),
                   round(100 * ((select sum(gross - discount) from inside) - sum(gross - discount)) / abs(sum(gross - discount)), 1) from old group by 1";
        assert_eq!(before[store], recount(&sql, store, query).await[store]);
    }
    let empty = Db::migrated().await;
    assert_eq!(get(&Client::to(empty.url()), "/v1/chain").await["stores"], serde_json::json!([]));
}

#[tokio::test]
async fn the_functions_of_the_contract_say_what_is_wrong() {
    let (_db, http, sql) = open().await;
    let error = sql
        .batch_execute(&format!("select analytics.sales_breakdown('{GROCERY}', '{FROM}', '{TO}', 'moon')"))
        .await
        .unwrap_err();
    assert_eq!(error.as_db_error().unwrap().hint(), Some("The dimensions are hour, weekday and month."));
    for (path, field) in [
        ("sales/breakdown?by=moon", "by"),
        ("cashiers?from=2026-01-01&to=2026-07-01", "from"),
        ("payments?from=2026-01-01&to=2026-07-01", "from"),
        ("inventory?days=0", "days"),
        ("inventory?limit=501", "limit"),
        ("heatmap?day=1", "day"),
    ] {
        let answer = http.get(&format!("/v1/stores/{GROCERY}/{path}")).await;
        assert_eq!((answer.status.as_u16(), answer.fields()), (400, vec![field.to_owned()]), "{path}");
    }
}

#[tokio::test]
async fn customers_scored_equal_a_recount() {
    let (_db, http, sql) = open().await;
    for store in [GROCERY, BAR] {
        let answer = get(&http, &format!("/v1/stores/{store}/customers/rfm?from={FROM}&to={TO}&limit=500")).await;
        let is = served(
            &answer["customers"],
            "customer_id",
            &["recency_days", "frequency", "monetary_bs", "monetary_usd", "r", "f", "m"],
        );
        // A score counts those that are worse, one by one.
        let query = ", who as (select customer_id, max(day) as last, count(*) as n, sum(total_b) as paid_b, sum(total) as paid from inside where kind = 'sale' and customer_id is not null group by 1)
            select w.customer_id::text, ($3::text::date - w.last)::numeric, w.n::numeric, w.paid_b, w.paid,
                   1 + floor(5.0 * (select count(*) from who x where x.last < w.last) / (select count(*) from who)),
                   1 + floor(5.0 * (select count(*) from who x where x.n < w.n) / (select count(*) from who)),
                   1 + floor(5.0 * (select count(*) from who x where x.paid < w.paid) / (select count(*) from who)) from who w";
        assert_eq!(is, recount(&sql, store, query).await);
        let customers = answer["customers"].as_array().unwrap();
        let mut segments = BTreeMap::new();
        for customer in customers {
            let [r, f, m] = ["r", "f", "m"].map(|score| customer[score].as_i64().unwrap());
            let segment = match (r, f, m) {
                (4.., 4.., 4..) => "champion",
                (3.., 4.., _) => "loyal",
                (4.., ..) => "recent",
                (..=2, 4.., _) | (..=2, _, 4..) => "at risk",
                (..=2, ..) => "lost",
                _ => "regular",
            };
            assert_eq!(customer["segment"], segment, "{customer}");
            let (count, paid) = segments.entry(segment.to_owned()).or_insert((0, Decimal::ZERO));
            (*count, *paid) = (*count + 1, *paid + decimal(&customer["monetary_usd"]).unwrap());
        }
        let summed: Table = segments
            .into_iter()
            .map(|(name, (count, paid))| (name, vec![Some(Decimal::from(count)), Some(paid.normalize())]))
            .collect();
        assert_eq!(served(&answer["segments"], "segment", &["customers", "monetary_usd"]), summed);
        assert!(summed.len() >= 4, "{summed:?}");
    }
}

#[tokio::test]
async fn products_bought_together_equal_a_recount() {
    let (_db, http, sql) = open().await;
    for store in [GROCERY, BAR] {
        let answer =
            get(&http, &format!("/v1/stores/{store}/products/affinity?from={FROM}&to={TO}&least=2&limit=500")).await;
        let is: Table = answer["pairs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| {
                let figures = ["tickets", "support_percent", "confidence_a_percent", "confidence_b_percent", "lift"];
                (
                    format!("{} {}", p["product_a"].as_str().unwrap(), p["product_b"].as_str().unwrap()),
                    figures.iter().map(|f| decimal(&p[*f])).collect(),
                )
            })
            .collect();
        let query = ", lines as (select distinct i.sale_id, i.product_id from inside s join public.sale_items i on i.sale_id = s.id where s.kind = 'sale'),
            pairs as (select a.product_id as a, b.product_id as b, count(*)::numeric as n from lines a, lines b where a.sale_id = b.sale_id and a.product_id < b.product_id group by 1, 2)
            select a || ' ' || b, n, round(100 * n / (select count(distinct sale_id) from lines), 2), round(100 * n / (select count(*) from lines where product_id = a), 1),
                   round(100 * n / (select count(*) from lines where product_id = b), 1),
                   round(n / (select count(distinct sale_id) from lines) / ((select count(*) from lines where product_id = a)::numeric / (select count(distinct sale_id) from lines)
                         * (select count(*) from lines where product_id = b) / (select count(distinct sale_id) from lines)), 2) from pairs where n >= 2";
        assert_eq!(is, recount(&sql, store, query).await);
        assert!(is.len() > 20, "{} pairs", is.len());
    }
}

#[tokio::test]
async fn steadiness_equals_a_recount() {
    let (_db, http, sql) = open().await;
    for store in [GROCERY, BAR] {
        let answer = get(&http, &format!("/v1/stores/{store}/products/abc?from={FROM}&to={TO}")).await;
        let is = served(&answer["products"], "product_id", &["variation"]);
        let query = ", weeks as (select p.product_id, w.n, (select coalesce(sum(i.qty), 0) from inside s join public.sale_items i on i.sale_id = s.id
               where s.kind = 'sale' and i.product_id = p.product_id and s.day between $3::text::date - 7 * w.n - 6 and $3::text::date - 7 * w.n) as units
               from (select distinct i.product_id from inside s join public.sale_items i on i.sale_id = s.id where s.kind = 'sale') p cross join generate_series(0, 3) as w (n))
            select product_id::text, round(stddev_pop(units) / nullif(avg(units), 0), 2) from weeks group by 1";
        assert_eq!(is, recount(&sql, store, query).await);
        for product in answer["products"].as_array().unwrap() {
            let variation = decimal(&product["variation"]).unwrap();
            // The class follows from the exact figure; this one is rounded.
            if variation != Decimal::new(5, 1) && variation != Decimal::ONE {
                let class = if variation < Decimal::new(5, 1) {
                    "X"
                } else if variation < Decimal::ONE {
                    "Y"
                } else {
                    "Z"
                };
                assert_eq!(product["steadiness"], class, "{product}");
            }
        }
    }
    let short = get(&http, &format!("/v1/stores/{BAR}/products/abc?from=2026-07-01&to=2026-07-20")).await;
    assert!(short["products"].as_array().unwrap().iter().all(|p| p["steadiness"].is_null()), "too few weeks to tell");
}

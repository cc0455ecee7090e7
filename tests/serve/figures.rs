//! The figures against a recount of hand-made sales.

use crate::client::Client;
use crate::common::Db;
use crate::shop::{self, BAR, DAY, GROCERY};
use rust_decimal::Decimal;
use serde_json::{Value, json};

async fn open_shops() -> (Db, Client, tokio_postgres::Client) {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    shop::open(&sql).await;
    let http = Client::to(db.url());
    (db, http, sql)
}

async fn ok(http: &Client, path: &str) -> Value {
    let answer = http.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

fn decimal(value: &Value) -> Decimal {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse().unwrap_or_else(|_| panic!("{text} is not a decimal"))
}

fn no_floats(value: &Value, path: &str) {
    match value {
        Value::Number(number) => assert!(number.is_i64() || number.is_u64(), "{path} is a float: {number}"),
        Value::Array(items) => items.iter().for_each(|item| no_floats(item, path)),
        Value::Object(members) => members.iter().for_each(|(key, item)| no_floats(item, &format!("{path}.{key}"))),
        _ => {}
    }
}

#[tokio::test]
async fn a_dashboard_equals_a_recount() {
    let (_db, http, sql) = open_shops().await;
    for store in [GROCERY, BAR] {
        let day = ok(&http, &format!("/v1/stores/{store}/dashboard?date={DAY}")).await;
        no_floats(&day, "dashboard");
        let count = shop::recount(&sql, store, DAY).await;
        for figure in count.figures() {
            assert_eq!(decimal(&day[figure]), count.text(figure).parse().unwrap(), "{figure} of {store}");
        }
        assert_eq!(day["in_progress"], false);
    }
}

#[tokio::test]
async fn the_amounts_of_a_day_are_these() {
    let (_db, http, _) = open_shops().await;
    let day = ok(&http, &format!("/v1/stores/{GROCERY}/dashboard?date={DAY}")).await;
    // By hand: 10 + 33.33 + 0.01 sold, 1 discounted, 5 − 0.50 returned.
    for (figure, amount) in [
        ("gross_usd", "43.34"),
        ("discounts_usd", "1.00"),
        ("returns_usd", "4.50"),
        ("net_usd", "37.84"),
        ("gross_bs", "1739.0175"),
        ("net_bs", "1518.33"),
        ("tax_usd", "6.0544"),
        ("total_usd", "43.8944"),
        ("avg_ticket_usd", "14.1133"),
        ("items_sold", "6.5"),
        ("items_per_ticket", "2.17"),
    ] {
        assert_eq!(day[figure], amount, "{figure}");
    }
    assert_eq!(
        (&day["sales_count"], &day["returns_count"], &day["unique_customers"]),
        (&json!(3), &json!(1), &json!(2))
    );
    assert_eq!(
        day["payment_mix"],
        json!([
            {"method": "pago_movil", "sales_count": 1, "amount_bs": "1551.34485", "amount_usd": "38.6628"},
            {"method": "cash_bs", "sales_count": 1, "amount_bs": "209.4525", "amount_usd": "5.22"},
            {"method": "mixed", "sales_count": 1, "amount_bs": "0.46545", "amount_usd": "0.0116"},
        ])
    );
    let hours: Vec<_> = day["hourly"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| (h["hour"].as_str().unwrap(), h["net_usd"].as_str().unwrap()))
        .collect();
    assert_eq!(
        hours,
        [("2026-07-30T09:00:00", "42.33"), ("2026-07-30T12:00:00", "-4.50"), ("2026-07-30T23:00:00", "0.01")]
    );
    assert_eq!(day["yesterday"]["net_usd"], "20.00");
    assert_eq!(day["yesterday"]["change_percent"]["net_usd"], "89.2");
    assert_eq!(day["yesterday"]["change_percent"]["sales_count"], "200");
    assert_eq!(
        (&day["last_week"]["business_date"], &day["last_week"]["net_usd"]),
        (&json!("2026-07-23"), &json!("45.00"))
    );
    assert_eq!(day["last_week"]["change_percent"]["net_usd"], "-15.9");
}

#[tokio::test]
async fn a_bar_books_the_small_hours_on_the_day_before() {
    let (_db, http, _) = open_shops().await;
    let day = ok(&http, &format!("/v1/stores/{BAR}/dashboard?date={DAY}")).await;
    assert_eq!(day["net_usd"], "20.00");
    let hours: Vec<_> = day["hourly"].as_array().unwrap().iter().map(|h| h["hour"].as_str().unwrap()).collect();
    assert_eq!(hours, ["2026-07-30T22:00:00", "2026-07-31T03:00:00"]);

    let hourly = ok(&http, &format!("/v1/stores/{BAR}/sales?grain=hour&from={DAY}&to={DAY}")).await;
    let periods = hourly["periods"].as_array().unwrap();
    assert_eq!(periods.len(), 24);
    assert_eq!(
        (&periods[0]["period"], &periods[23]["period"]),
        (&json!("2026-07-30T04:00:00"), &json!("2026-07-31T03:00:00"))
    );
    assert_eq!(
        (&periods[18]["net_usd"], &periods[23]["net_usd"], &periods[0]["net_usd"]),
        (&json!("12.00"), &json!("8.00"), &json!("0.00"))
    );

    for (date, net) in [("2026-07-29", "6.00"), ("2026-07-31", "4.00")] {
        let day = ok(&http, &format!("/v1/stores/{BAR}/dashboard?date={date}")).await;
        assert_eq!(day["net_usd"], net);
    }
}

#[tokio::test]
async fn every_grain_adds_up_and_leaves_no_period_out() {
    let (_db, http, _) = open_shops().await;
    for (grain, periods, first) in [
        ("hour", 9 * 24, "2026-07-23T00:00:00"),
        ("day", 9, "2026-07-23"),
        ("week", 2, "2026-07-20"),
        ("month", 1, "2026-07-01"),
    ] {
        let series =
            ok(&http, &format!("/v1/stores/{GROCERY}/sales?grain={grain}&from=2026-07-23&to=2026-07-31")).await;
        no_floats(&series, grain);
        let rows = series["periods"].as_array().unwrap();
        assert_eq!(rows.len(), periods, "{grain}");
        assert_eq!(rows[0]["period"], first);
        for (figure, sum) in [
            ("net_usd", "109.84"),
            ("gross_usd", "120.34"),
            ("total_usd", "127.4144"),
            ("sales_count", "6"),
            ("items", "14.5"),
        ] {
            let total: Decimal = rows.iter().map(|row| decimal(&row[figure])).sum();
            assert_eq!(total, sum.parse().unwrap(), "{figure} by {grain}");
        }
        assert_eq!(rows[0]["partial"], grain == "week" || grain == "month", "{grain}");
        assert!(
            rows.windows(2).all(|pair| pair[0]["period"].as_str() < pair[1]["period"].as_str()),
            "{grain} is in order"
        );
        assert_eq!(rows[0]["tax_usd"].is_null(), grain == "hour");
    }
}

#[tokio::test]
async fn a_whole_week_is_not_partial() {
    let (_db, http, _) = open_shops().await;
    let series = ok(&http, &format!("/v1/stores/{GROCERY}/sales?grain=week&from=2026-07-20&to=2026-07-26")).await;
    assert_eq!(series["periods"].as_array().unwrap().len(), 1);
    assert_eq!(series["periods"][0]["partial"], false);
}

#[tokio::test]
async fn products_rank_by_what_is_asked() {
    let (_db, http, _) = open_shops().await;
    for (by, order) in [("revenue", ["Q", "H", "C"]), ("units", ["H", "Q", "C"]), ("margin", ["H", "C", "Q"])] {
        let top = ok(&http, &format!("/v1/stores/{GROCERY}/products/top?from=2026-07-29&to=2026-07-30&by={by}")).await;
        no_floats(&top, by);
        let skus: Vec<_> = top["products"].as_array().unwrap().iter().map(|p| p["sku"].as_str().unwrap()).collect();
        assert_eq!(skus, order, "by {by}");
    }
    let top = ok(&http, &format!("/v1/stores/{GROCERY}/products/top?from={DAY}&to={DAY}&limit=1")).await;
    let first = &top["products"][0];
    assert_eq!(top["products"].as_array().unwrap().len(), 1);
    // 2.5 × 13.332 sold at a cost of 2.5 × 13.
    assert_eq!(
        (&first["revenue_usd"], &first["margin_usd"], &first["margin_percent"]),
        (&json!("33.33"), &json!("0.83"), &json!("2.5"))
    );
    assert_eq!((&first["units"], &first["times_sold"]), (&json!("2.5"), &json!(1)));
}

#[tokio::test]
async fn a_sale_is_in_the_next_answer_and_a_void_out_of_it() {
    let (_db, http, sql) = open_shops().await;
    let path = format!("/v1/stores/{GROCERY}/dashboard?date={DAY}");
    let before = ok(&http, &path).await;
    sql.batch_execute(
        "insert into public.sales (store_id, number, sold_at, rate, totals, payment)
         values ('00000000-0000-4000-8000-000000000001', 'new', '2026-07-30 15:00-04', 40,
                 '{\"gross_bs\": 400, \"gross_usd\": 10, \"total_bs\": 400, \"total_usd\": 10, \"items\": 1}', '{\"method\": \"card\"}')",
    )
    .await
    .unwrap();
    let with = ok(&http, &path).await;
    assert_eq!(decimal(&with["net_usd"]) - decimal(&before["net_usd"]), Decimal::from(10));
    sql.batch_execute("update public.sales set status = 'voided', voided_at = now() where number = 'new'")
        .await
        .unwrap();
    assert_eq!(ok(&http, &path).await, before);
}

#[tokio::test]
async fn an_empty_day_has_zeros_and_nulls() {
    let (_db, http, _) = open_shops().await;
    let day = ok(&http, &format!("/v1/stores/{GROCERY}/dashboard?date=2001-01-01")).await;
    assert_eq!(
        (&day["net_usd"], &day["sales_count"], &day["avg_ticket_usd"]),
        (&json!("0.00"), &json!(0), &Value::Null)
    );
    assert_eq!((&day["payment_mix"], &day["hourly"]), (&json!([]), &json!([])));
    assert_eq!(day["yesterday"]["change_percent"]["net_usd"], Value::Null);
    let today = ok(&http, &format!("/v1/stores/{GROCERY}/dashboard")).await;
    assert_eq!(today["in_progress"], true);
}

#[tokio::test]
async fn stores_come_in_pages() {
    let (_db, http, sql) = open_shops().await;
    let answer = http.get("/v1/stores?limit=1").await;
    let first = answer.json();
    assert_eq!(first["stores"][0]["name"], "Abasto");
    let next = first["next"].as_str().unwrap();
    let link = answer.header("link").to_owned();
    assert_eq!(link, format!("</v1/stores?limit=1&after={next}>; rel=\"next\""));
    // The place outlives the shop that it names, and one that comes before it changes nothing.
    sql.batch_execute("update stores set name = 'Zapatería' where name = 'Abasto'; insert into stores (id, name) values (gen_random_uuid(), 'Aa')").await.unwrap();
    let second = ok(&http, link.trim_start_matches('<').split('>').next().unwrap()).await;
    assert_eq!(
        (second["stores"][0]["name"].as_str(), second["stores"][0]["day_start"].as_str()),
        (Some("Bar"), Some("04:00"))
    );
    let third = ok(&http, &format!("/v1/stores?limit=1&after={}", second["next"].as_str().unwrap())).await;
    assert_eq!((third["stores"][0]["name"].as_str(), &third["next"]), (Some("Zapatería"), &Value::Null));
    for bad in [GROCERY.to_owned(), next[1..].to_owned(), format!("{next}A"), String::new(), "x".repeat(5000)] {
        let answer = http.get(&format!("/v1/stores?after={bad}")).await;
        assert_eq!((answer.status.as_u16(), answer.fields()), (400, vec!["after".to_owned()]), "{bad}");
    }
}

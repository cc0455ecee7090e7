//! The reports of a simulated chain, against a recount from the sales and their lines, row by row, in this process.

use crate::common::Db;
use indicatif::ProgressBar;
use pulso::simulate::{Plan, history};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A completed sale or return, dated by its shop's clock here and now, not by what is stored on it.
struct Sale {
    store: Uuid,
    /// Business days before today.
    ago: i32,
    weekday: i32,
    hour: i32,
    customer: Option<Uuid>,
    is_sale: bool,
    method: Option<String>,
    gross: [Decimal; 2],
    discount: [Decimal; 2],
    total: [Decimal; 2],
}

struct Line {
    sale: Uuid,
    product: Uuid,
    qty: Decimal,
    revenue: [Decimal; 2],
}

struct Product {
    store: Uuid,
    active: bool,
    stock: Decimal,
    threshold: Decimal,
    cost: [Decimal; 2],
}

struct Chain {
    sales: HashMap<Uuid, Sale>,
    lines: Vec<Line>,
    products: BTreeMap<Uuid, Product>,
}

const SALES: &str = "
  select s.id, s.store_id,
         ((now() at time zone t.time_zone) - t.day_start)::date - ((s.sold_at at time zone t.time_zone) - t.day_start)::date,
         extract(isodow from (s.sold_at at time zone t.time_zone) - t.day_start)::int,
         extract(hour from s.sold_at at time zone t.time_zone)::int,
         s.customer_id, s.kind = 'sale', s.payment ->> 'method',
         (s.totals ->> 'gross_bs')::numeric, (s.totals ->> 'gross_usd')::numeric, (s.totals ->> 'discount_bs')::numeric,
         (s.totals ->> 'discount_usd')::numeric, (s.totals ->> 'total_bs')::numeric, (s.totals ->> 'total_usd')::numeric
    from sales s join stores t on t.id = s.store_id
   where s.status = 'completed' and s.kind in ('sale', 'return')";

impl Chain {
    async fn read(client: &Client) -> Self {
        let sales = client.query(SALES, &[]).await.unwrap();
        let sales = sales.iter().map(|row| {
            let sale = Sale {
                store: row.get(1),
                ago: row.get(2),
                weekday: row.get(3),
                hour: row.get(4),
                customer: row.get(5),
                is_sale: row.get(6),
                method: row.get(7),
                gross: [row.get(8), row.get(9)],
                discount: [row.get(10), row.get(11)],
                total: [row.get(12), row.get(13)],
            };
            (row.get(0), sale)
        });
        let lines = client
            .query("select sale_id, product_id, qty, qty * unit_price_bs - discount_bs, qty * unit_price_usd - discount_usd from sale_items", &[])
            .await
            .unwrap();
        let lines = lines.iter().map(|row| Line {
            sale: row.get(0),
            product: row.get(1),
            qty: row.get(2),
            revenue: [row.get(3), row.get(4)],
        });
        let products = client
            .query(
                "select id, store_id, is_active, current_stock, low_stock_threshold, cost_bs, cost_usd from products",
                &[],
            )
            .await
            .unwrap();
        let products = products.iter().map(|row| {
            let cost = [row.get(5), row.get(6)];
            (
                row.get(0),
                Product { store: row.get(1), active: row.get(2), stock: row.get(3), threshold: row.get(4), cost },
            )
        });
        Self { sales: sales.collect(), lines: lines.collect(), products: products.collect() }
    }

    /// Lines of completed sales, returns left out, with their sale, of a span of days before today.
    fn sold(&self, days: std::ops::RangeInclusive<i32>) -> impl Iterator<Item = (&Line, &Sale)> {
        self.lines.iter().filter_map(move |line| {
            let sale = self.sales.get(&line.sale)?;
            (sale.is_sale && days.contains(&sale.ago)).then_some((line, sale))
        })
    }
}

type Key = (Uuid, Uuid);

async fn shop() -> (Db, Client, Chain) {
    let db = Db::migrated().await;
    let client = db.connect().await;
    let plan = Plan { shops: 2, history_days: 96, ..Plan::default() };
    history(db.url(), &plan, &ProgressBar::hidden(), &CancellationToken::new()).await.unwrap();
    // Simulated goods sell steadily: some shall be missing every third week, some two of three.
    client
        .batch_execute(
            "delete from sale_items i using sales s
              where s.id = i.sale_id
                and (hashtext(i.product_id::text) & 3 = 0 and extract(week from s.business_date)::int % 3 = 0
                  or hashtext(i.product_id::text) & 3 = 1 and extract(week from s.business_date)::int % 3 <> 0);
             select analytics.refresh_analytics_views()",
        )
        .await
        .unwrap();
    let chain = Chain::read(&client).await;
    (db, client, chain)
}

#[tokio::test]
async fn reports_of_a_simulated_chain_equal_a_recount() {
    let (_db, client, chain) = shop().await;
    assert!(chain.sales.len() > 5000, "{} sales", chain.sales.len());
    daily(&client, &chain).await;
    top_products(&client, &chain).await;
    inventory(&client, &chain).await;
    classes(&client, &chain).await;
    cover(&client, &chain).await;
    affinity(&client, &chain).await;
    rfm(&client, &chain).await;
    hours(&client, &chain).await;
}

async fn daily(client: &Client, chain: &Chain) {
    #[derive(Default)]
    struct Day {
        count: i64,
        total: [Decimal; 2],
        sold: [Decimal; 2],
        customers: BTreeSet<Uuid>,
        methods: BTreeMap<String, (i64, Decimal, Decimal)>,
    }
    let mut days: BTreeMap<(Uuid, i32), Day> = BTreeMap::new();
    for sale in chain.sales.values() {
        let day = days.entry((sale.store, sale.ago)).or_default();
        day.count += i64::from(sale.is_sale);
        let method = day.methods.entry(sale.method.clone().unwrap_or("unknown".to_owned())).or_default();
        method.0 += i64::from(sale.is_sale);
        method.1 += sale.total[0];
        method.2 += sale.total[1];
        for currency in 0..2 {
            day.total[currency] += sale.total[currency];
            if sale.is_sale {
                day.sold[currency] += sale.gross[currency] - sale.discount[currency];
            }
        }
        day.customers.extend(sale.customer.filter(|_| sale.is_sale));
    }
    let rows = client
        .query("select m.store_id, t.today - m.sale_date, m.sales_count, m.total_bs, m.total_usd, m.avg_ticket_bs, m.avg_ticket_usd, m.unique_customers, m.by_payment_method::text from mv_sales_daily m join analytics.store_today t using (store_id)", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), days.len());
    for row in rows {
        let day = &days[&(row.get(0), row.get(1))];
        assert_eq!((row.get::<_, i64>(2), row.get::<_, i64>(7)), (day.count, day.customers.len() as i64));
        assert_eq!([row.get::<_, Decimal>(3), row.get(4)], day.total);
        for currency in 0..2 {
            let ticket: Option<Decimal> = row.get(5 + currency);
            let expected = (day.count > 0).then(|| (day.sold[currency] / Decimal::from(day.count)).round_dp(6));
            assert_eq!(ticket.map(|ticket| ticket.round_dp(6)), expected);
        }
        let methods: BTreeMap<String, BTreeMap<String, serde_json::Number>> = serde_json::from_str(row.get(8)).unwrap();
        let methods: BTreeMap<String, (i64, Decimal, Decimal)> = methods
            .into_iter()
            .map(|(method, figures)| {
                let number = |name: &str| figures[name].to_string().parse::<Decimal>().unwrap();
                (
                    method,
                    (
                        number("count").to_i64().unwrap(),
                        number("amount_bs").round_dp(6),
                        number("amount_usd").round_dp(6),
                    ),
                )
            })
            .collect();
        let expected: BTreeMap<_, _> = day
            .methods
            .iter()
            .map(|(name, (n, bs, usd))| (name.clone(), (*n, bs.round_dp(6), usd.round_dp(6))))
            .collect();
        assert_eq!(methods, expected);
    }
}

async fn top_products(client: &Client, chain: &Chain) {
    let mut top: BTreeMap<Key, (Decimal, Decimal, Decimal, BTreeSet<Uuid>)> = BTreeMap::new();
    for (line, sale) in chain.sold(0..=29) {
        let one = top.entry((sale.store, line.product)).or_default();
        one.0 += line.qty;
        one.1 += line.revenue[0];
        one.2 += line.revenue[1];
        one.3.insert(line.sale);
    }
    let rows = client
        .query(
            "select store_id, product_id, total_qty_sold, revenue_bs, revenue_usd, times_sold from mv_top_products_30d",
            &[],
        )
        .await
        .unwrap();
    assert!(rows.len() == top.len() && rows.len() > 20, "{} of {}", rows.len(), top.len());
    for row in rows {
        let one = &top[&(row.get(0), row.get(1))];
        assert_eq!(
            (row.get::<_, Decimal>(2), row.get::<_, Decimal>(3), row.get::<_, Decimal>(4)),
            (one.0, one.1, one.2)
        );
        assert_eq!(row.get::<_, i64>(5), one.3.len() as i64);
    }
}

async fn inventory(client: &Client, chain: &Chain) {
    let rows = client.query("select store_id, total_products, low_stock_count, out_of_stock_count, total_stock_value_bs, total_stock_value_usd from mv_inventory_metrics", &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let of: Vec<&Product> =
            chain.products.values().filter(|p| p.active && p.store == row.get::<_, Uuid>(0)).collect();
        let count = |which: &dyn Fn(&Product) -> bool| of.iter().filter(|product| which(product)).count() as i64;
        let low = count(&|p| p.threshold > Decimal::ZERO && p.stock <= p.threshold);
        assert_eq!((row.get(1), row.get(2), row.get(3)), (of.len() as i64, low, count(&|p| p.stock <= Decimal::ZERO)));
        for currency in 0..2 {
            let value: Decimal = of.iter().map(|product| product.stock * product.cost[currency]).sum();
            assert_eq!(row.get::<_, Decimal>(4 + currency), value);
        }
    }
}

async fn classes(client: &Client, chain: &Chain) {
    let mut weekly: BTreeMap<Key, ([Decimal; 13], Decimal)> = BTreeMap::new();
    for (id, product) in chain.products.iter().filter(|(_, product)| product.active) {
        weekly.entry((product.store, *id)).or_default();
    }
    for (line, sale) in chain.sold(1..=91) {
        let one = weekly.entry((sale.store, line.product)).or_default();
        one.0[((sale.ago - 1) / 7) as usize] += line.qty;
        one.1 += line.revenue[1];
    }
    let rows = client
        .query("select store_id, product_id, abc, xyz, revenue_usd, variation from analytics.product_abc_xyz", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), weekly.len());
    let mut seen = BTreeSet::new();
    for row in rows {
        let store: Uuid = row.get(0);
        let (weeks, revenue) = &weekly[&(store, row.get(1))];
        let of_store: Vec<Decimal> = weekly.iter().filter(|(key, _)| key.0 == store).map(|(_, one)| one.1).collect();
        let all: Decimal = of_store.iter().sum();
        let above: Decimal = of_store.iter().filter(|other| *other > revenue).sum();
        let abc = match above / all {
            _ if *revenue <= Decimal::ZERO => "C",
            share if share < Decimal::new(80, 2) => "A",
            share if share < Decimal::new(95, 2) => "B",
            _ => "C",
        };
        let units: Vec<f64> = weeks.iter().map(|units| units.to_f64().unwrap()).collect();
        let mean = units.iter().sum::<f64>() / 13.0;
        let deviation = (units.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / 13.0).sqrt();
        let variation = deviation / mean;
        let xyz = if variation <= 0.5 {
            "X"
        } else if variation <= 1.0 {
            "Y"
        } else {
            "Z"
        };
        let found: (&str, &str) = (row.get(2), row.get(3));
        assert_eq!(found, (abc, xyz), "{weeks:?} {revenue} of {all}, {above} above");
        assert_eq!(row.get::<_, Decimal>(4), *revenue);
        match row.get::<_, Option<Decimal>>(5) {
            None => assert!(mean == 0.0),
            Some(stored) => assert!((stored.to_f64().unwrap() - variation).abs() < 0.001, "{stored} and {variation}"),
        }
        seen.insert(found.0.to_owned() + found.1);
    }
    assert!(seen.len() > 3, "classes of one kind prove little: {seen:?}");
}

async fn cover(client: &Client, chain: &Chain) {
    let mut units: BTreeMap<Key, [Decimal; 2]> = BTreeMap::new();
    for (span, days) in [1..=90, 0..=89].into_iter().enumerate() {
        for (line, sale) in chain.sold(days) {
            units.entry((sale.store, line.product)).or_default()[span] += line.qty;
        }
    }
    let rows = client.query("select c.store_id, c.product_id, c.units_90d, c.days_of_cover, s.units_sold, s.sell_through_percent from analytics.stock_cover c join analytics.sell_through s using (store_id, product_id)", &[]).await.unwrap();
    assert_eq!(rows.len(), chain.products.values().filter(|product| product.active).count());
    for row in rows {
        let sold = units.get(&(row.get(0), row.get(1))).copied().unwrap_or_default();
        let stock = chain.products[&row.get::<_, Uuid>(1)].stock.max(Decimal::ZERO);
        assert_eq!((row.get::<_, Decimal>(2), row.get::<_, Decimal>(4)), (sold[0], sold[1]));
        let near = |found: Option<Decimal>, expected: Option<Decimal>, by: Decimal| match (found, expected) {
            (Some(found), Some(expected)) => assert!((found - expected).abs() <= by, "{found} and {expected}"),
            (found, expected) => assert_eq!(found, expected),
        };
        near(row.get(3), (!sold[0].is_zero()).then(|| stock / (sold[0] / Decimal::from(90))), Decimal::new(51, 3));
        let there = sold[1] + stock;
        near(row.get(5), (!there.is_zero()).then(|| sold[1] * Decimal::from(100) / there), Decimal::new(51, 4));
    }
}

async fn affinity(client: &Client, chain: &Chain) {
    let mut baskets: BTreeMap<Uuid, (Uuid, BTreeSet<Uuid>)> = BTreeMap::new();
    for (line, sale) in chain.sold(1..=90) {
        baskets.entry(line.sale).or_insert_with(|| (sale.store, BTreeSet::new())).1.insert(line.product);
    }
    let (mut tickets, mut single, mut both) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (store, products) in baskets.values() {
        *tickets.entry(*store).or_insert(0_i64) += 1;
        for product in products {
            *single.entry((*store, *product)).or_insert(0_i64) += 1;
            for other in products.iter().filter(|other| *other != product) {
                *both.entry((*store, *product, *other)).or_insert(0_i64) += 1;
            }
        }
    }
    both.retain(|_, n| *n >= 2);
    let rows = client.query("select store_id, product_id, other_id, tickets_with_both, tickets_with_product, tickets_with_other, tickets, support, confidence, lift from analytics.basket_affinity", &[]).await.unwrap();
    assert!(rows.len() == both.len() && rows.len() > 50, "{} of {}", rows.len(), both.len());
    for row in rows {
        let (store, product, other): (Uuid, Uuid, Uuid) = (row.get(0), row.get(1), row.get(2));
        let (n, a, b, all) =
            (both[&(store, product, other)], single[&(store, product)], single[&(store, other)], tickets[&store]);
        assert_eq!((row.get(3), row.get(4), row.get(5), row.get(6)), (n, a, b, all));
        let [support, confidence, lift]: [Decimal; 3] = [row.get(7), row.get(8), row.get(9)];
        let [n, a, b, all] = [n, a, b, all].map(Decimal::from);
        let near = |found: Decimal, expected: Decimal, digits: u32| {
            assert!((found - expected).abs() <= Decimal::new(6, digits + 1), "{found} and {expected}")
        };
        near(support, n / all, 6);
        near(confidence, n / a, 6);
        near(lift, (n / a) / (b / all), 4);
    }
}

async fn rfm(client: &Client, chain: &Chain) {
    let mut customers: BTreeMap<Key, (i32, i64, Decimal)> = BTreeMap::new();
    for sale in chain.sales.values().filter(|sale| sale.is_sale && sale.ago < 365) {
        let Some(customer) = sale.customer else { continue };
        let one = customers.entry((sale.store, customer)).or_insert((i32::MAX, 0, Decimal::ZERO));
        *one = (one.0.min(sale.ago), one.1 + 1, one.2 + sale.total[1]);
    }
    let rows = client.query("select store_id, customer_id, recency_days, sales_count, total_usd, recency, frequency, monetary, segment from analytics.customer_rfm", &[]).await.unwrap();
    assert!(rows.len() == customers.len() && rows.len() > 50, "{} of {}", rows.len(), customers.len());
    let mut segments = BTreeSet::new();
    for row in rows {
        let store: Uuid = row.get(0);
        let one = customers[&(store, row.get(1))];
        assert_eq!((row.get(2), row.get(3), row.get(4)), one);
        let others: Vec<_> = customers.iter().filter(|(key, _)| key.0 == store).map(|(_, other)| *other).collect();
        let fifth = |worse: usize| 1 + (5 * worse / others.len()) as i32;
        let scores = (
            fifth(others.iter().filter(|other| other.0 > one.0).count()),
            fifth(others.iter().filter(|other| other.1 < one.1).count()),
            fifth(others.iter().filter(|other| other.2 < one.2).count()),
        );
        assert_eq!((row.get(5), row.get(6), row.get(7)), scores);
        let segment = match scores {
            (4.., 4.., 4..) => "champion",
            (3.., 4.., _) => "loyal",
            (4.., ..) => "recent",
            (..=2, 4.., _) | (..=2, _, 4..) => "at risk",
            (..=2, ..) => "lost",
            _ => "regular",
        };
        assert_eq!(row.get::<_, &str>(8), segment);
        segments.insert(segment);
    }
    assert!(segments.len() > 3, "{segments:?}");
}

async fn hours(client: &Client, chain: &Chain) {
    let mut cells: BTreeMap<(Uuid, i32, i32), (i64, Decimal, Decimal)> = BTreeMap::new();
    for sale in chain.sales.values().filter(|sale| (1..=84).contains(&sale.ago)) {
        let cell = cells.entry((sale.store, sale.weekday, sale.hour)).or_default();
        cell.0 += i64::from(sale.is_sale);
        cell.1 += sale.gross[0] - sale.discount[0];
        cell.2 += sale.gross[1] - sale.discount[1];
    }
    let rows = client
        .query("select store_id, weekday, hour, sales_count, net_bs, net_usd from analytics.sales_weekday_hour", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 2 * 168);
    for row in rows {
        let cell = cells.remove(&(row.get(0), row.get(1), row.get(2))).unwrap_or_default();
        assert_eq!((row.get(3), row.get(4), row.get(5)), cell);
    }
    assert!(cells.is_empty(), "{} cells are missing", cells.len());
}

//! `pulso simulate` against a server: the past is the same from the same seed, nothing comes twice, the tills keep time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Db;
use indicatif::ProgressBar;
use jiff::Timestamp;
use pulso::simulate::{Counters, History, Plan, history, live};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// A Sunday noon in Caracas; the ferretería is closed.
const UNTIL: &str = "2025-06-15T16:00:00Z";

fn plan(days: u32, until: &str) -> Plan {
    Plan { history_days: days, until: until.parse().expect("a timestamp"), ..Plan::default() }
}

/// Tests that look at the clock take turns: the others would take the machine from them.
static CLOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn write(db: &Db, plan: &Plan) -> History {
    history(db.url(), plan, &ProgressBar::hidden(), &CancellationToken::new()).await.expect("the past is written")
}

/// Every row of every table, with every column.
async fn everything(client: &Client) -> Vec<String> {
    let rows = client
        .query(
            "select 'store ' || t::text from stores t union all
             select 'rate ' || t::text from exchange_rates t union all
             select 'customer ' || t::text from customers t union all
             select 'cashier ' || t::text from cashiers t union all
             select 'product ' || t::text from products t union all
             select 'sale ' || t::text from sales t union all
             select 'item ' || t::text from sale_items t union all
             select 'payment ' || t::text from sale_payments t
             order by 1",
            &[],
        )
        .await
        .expect("everything");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, query: &str) -> T {
    client.query_one(query, &[]).await.expect(query).get(0)
}

/// Sales whose amounts are not the sum of their lines, or not of their tenders.
const ODD: &str = "
select count(*)
  from sales s
  left join (select sale_id, sum(qty * unit_price_bs) as gross_bs, sum(qty * unit_price_usd) as gross_usd,
                    sum(discount_bs) as discount_bs, sum(discount_usd) as discount_usd, sum(qty) as items
               from sale_items group by sale_id) i on i.sale_id = s.id
  left join (select sale_id, sum(amount_bs) as total_bs, sum(amount_usd) as total_usd
               from sale_payments group by sale_id) p on p.sale_id = s.id
 where ((s.totals ->> 'gross_bs')::numeric, (s.totals ->> 'gross_usd')::numeric, (s.totals ->> 'discount_bs')::numeric,
        (s.totals ->> 'discount_usd')::numeric, (s.totals ->> 'items')::numeric)
       is distinct from (i.gross_bs, i.gross_usd, i.discount_bs, i.discount_usd, i.items)
    or ((s.totals ->> 'total_bs')::numeric, (s.totals ->> 'total_usd')::numeric) is distinct from (p.total_bs, p.total_usd)
    or (s.totals ->> 'total_usd')::numeric
       <> (s.totals ->> 'gross_usd')::numeric - (s.totals ->> 'discount_usd')::numeric + (s.totals ->> 'tax_usd')::numeric
    or (s.totals ->> 'total_bs')::numeric
       <> (s.totals ->> 'gross_bs')::numeric - (s.totals ->> 'discount_bs')::numeric + (s.totals ->> 'tax_bs')::numeric";

#[tokio::test]
async fn the_same_plan_writes_the_same_rows() {
    let (one_db, two_db) = (Db::migrated().await, Db::migrated().await);
    let written = write(&one_db, &plan(6, UNTIL)).await;
    assert!(written.tickets > 3000 && written.voids > 10, "{written:?}");
    let client = one_db.connect().await;
    let rows = everything(&client).await;
    assert_eq!(one::<i64>(&client, ODD).await, 0, "amounts add up");

    // The other way: stopped halfway, then gone on with.
    let cancel = CancellationToken::new();
    let progress = ProgressBar::hidden();
    let stopper = {
        let (cancel, progress) = (cancel.clone(), progress.clone());
        tokio::spawn(async move {
            while progress.position() < 9 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            cancel.cancel();
        })
    };
    let part = history(two_db.url(), &plan(6, UNTIL), &progress, &cancel).await.expect("it stops between two days");
    stopper.await.expect("the stopper");
    assert!(part.interrupted && part.tickets < written.tickets, "{part:?}");
    let rest = write(&two_db, &plan(6, UNTIL)).await;
    assert_eq!(part.tickets + rest.tickets, written.tickets);
    let other = everything(&two_db.connect().await).await;
    assert!(rows == other, "{:?}", rows.iter().zip(&other).find(|(a, b)| a != b));
}

#[tokio::test]
async fn the_past_goes_on_from_where_it_stands() {
    let db = Db::migrated().await;
    let client = db.connect().await;
    let morning = write(&db, &plan(2, "2025-06-13T14:00:00Z")).await;
    assert_eq!(write(&db, &plan(2, "2025-06-13T14:00:00Z")).await.tickets, 0, "nothing twice");
    let later = write(&db, &plan(2, "2025-06-14T03:00:00Z")).await;
    let before: i64 = one(&client, "select count(*) from sales").await;
    assert_eq!(before as usize, morning.tickets + later.tickets);
    assert!(later.tickets > 100, "{later:?}");

    // A longer past than before fills in what is older.
    let longer = write(&db, &plan(5, "2025-06-14T03:00:00Z")).await;
    assert!(longer.tickets > 800, "{longer:?}");
    assert_eq!(write(&db, &plan(5, "2025-06-14T03:00:00Z")).await.tickets, 0);
    let days: i64 = one(&client, "select count(distinct business_date) from sales").await;
    assert_eq!(days, 6);
    assert_eq!(one::<i64>(&client, ODD).await, 0);
    let late: i64 = one(&client, "select count(*) from sales where created_at > '2025-06-14T03:00:00Z'").await;
    assert_eq!(late, 0, "what an offline till has not sent yet is not there");
    let pending: i64 = one(&client, "select count(*) from sales where voided_at > '2025-06-14T03:00:00Z'").await;
    assert_eq!(pending, 0, "no void before its time");
}

/// On that Sunday a till of the farmacia is offline from 11:00 to 14:16 UTC.
#[tokio::test]
async fn what_an_offline_till_sold_is_added_when_it_arrives() {
    let (steps, once) = (Db::migrated().await, Db::migrated().await);
    write(&steps, &plan(1, "2025-06-15T13:00:00Z")).await;
    let client = steps.connect().await;
    assert_eq!(one::<i64>(&client, "select count(*) from sales where created_at > sold_at").await, 0);
    write(&steps, &plan(1, UNTIL)).await;
    let late: i64 =
        one(&client, "select count(*) from sales where created_at > sold_at and sold_at < '2025-06-15T13:00:00Z'")
            .await;
    assert!(late > 0);
    write(&once, &plan(1, UNTIL)).await;
    // Deliveries come at each writing, so that shelves may differ.
    let tickets = |rows: Vec<String>| rows.into_iter().filter(|row| !row.starts_with("product ")).collect::<Vec<_>>();
    let (a, b) = (tickets(everything(&client).await), tickets(everything(&once.connect().await).await));
    assert!(a == b, "{:?}", a.iter().zip(&b).find(|(a, b)| a != b));
}

#[tokio::test]
async fn the_bar_books_its_night_on_the_evening() {
    let db = Db::migrated().await;
    write(&db, &plan(2, UNTIL)).await;
    let client = db.connect().await;
    let nights: i64 = one(
        &client,
        "select count(*) from sales s join stores t on t.id = s.store_id
          where t.day_start = '04:00' and s.local_time::time < '03:00' and s.business_date = s.local_time::date - 1",
    )
    .await;
    assert!(nights > 20, "{nights}");
    let wrong: i64 = one(
        &client,
        "select count(*) from sales s join stores t on t.id = s.store_id
          where s.business_date <> (s.sold_at at time zone t.time_zone - t.day_start)::date",
    )
    .await;
    assert_eq!(wrong, 0);
    let rates: i64 = one(&client, "select count(*) from sales s join exchange_rates r on r.rate_date = s.local_time::date where r.bs_per_usd <> s.rate and s.kind = 'sale'").await;
    assert_eq!(rates, 0, "each sale froze its day's rate");
}

#[tokio::test]
async fn the_tills_keep_the_rate_and_every_amount() {
    let _turn = CLOCK.lock().await;
    let db = Db::migrated().await;
    let client = db.connect().await;
    let plan = Plan { rate: 20.0, duration: Some(Duration::from_secs(5)), ..Plan::default() };
    let counters = Arc::new(Counters::default());
    let pauses = common::Pauses::watch();
    let sold = live(db.url(), &plan, Arc::clone(&counters), &ProgressBar::hidden(), &CancellationToken::new())
        .await
        .expect("tills sell");
    // What is due in the last moment is not waited for; where the machine stands still, that is more.
    assert!(sold.tickets <= 101 && (sold.tickets >= 90 || pauses.explain()), "{sold:?}");
    assert_eq!(one::<i64>(&client, ODD).await, 0);
    let rows: i64 = one(&client, "select count(*) from sales").await;
    assert_eq!(rows as u64, sold.tickets + sold.late);
    let now: bool =
        one(&client, "select bool_and(created_at between now() - interval '1 minute' and now()) from sales").await;
    assert!(now);
    let stock: bool = one(
        &client,
        "select bool_or(p.current_stock < q.full_shelf) from products p, lateral (select 3 * p.low_stock_threshold as full_shelf) q",
    )
    .await;
    assert!(stock, "shelves empty as tills sell");
}

#[tokio::test]
async fn tills_stop_when_told_and_never_deadlock() {
    let _turn = CLOCK.lock().await;
    let db = Db::migrated().await;
    let client = db.connect().await;
    let plan = Plan { shops: 1, rate: 2000.0, duration: None, ..Plan::default() };
    let cancel = CancellationToken::new();
    let counters = Arc::new(Counters::default());
    let stopper = {
        let cancel = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            cancel.cancel();
        })
    };
    let sold =
        live(db.url(), &plan, counters, &ProgressBar::hidden(), &cancel).await.expect("tills stop without an error");
    stopper.await.expect("the stopper");
    assert!(sold.tickets > 100 && sold.seconds < 8.0, "{sold:?}");
    assert_eq!(sold.retries, 0, "24 tills sell the same goods of one shop, and no two of them deadlock");
    assert_eq!(one::<i64>(&client, ODD).await, 0);
}

#[tokio::test]
async fn tills_go_on_after_their_connections_are_cut() {
    let _turn = CLOCK.lock().await;
    let db = Db::migrated().await;
    let client = db.connect().await;
    let plan = Plan { rate: 20.0, duration: Some(Duration::from_secs(6)), ..Plan::default() };
    let cutter = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
        client.query_one(cut, &[]).await.map(|row| row.get::<_, i64>(0))
    });
    let pauses = common::Pauses::watch();
    let sold = live(db.url(), &plan, Arc::new(Counters::default()), &ProgressBar::hidden(), &CancellationToken::new())
        .await
        .expect("tills come back");
    assert!(cutter.await.expect("the cutter").expect("a count") >= 2);
    // Sixty were due when they were cut; what was due meanwhile is sold after.
    assert!(sold.retries >= 1 && sold.tickets <= 121 && (sold.tickets >= 90 || pauses.explain()), "{sold:?}");
    let client = db.connect().await;
    assert_eq!(one::<i64>(&client, "select count(*) from sales").await as u64, sold.tickets + sold.late);
}

#[tokio::test]
async fn a_real_shop_is_never_sold_in() {
    let db = Db::migrated().await;
    let client = db.connect().await;
    client.execute("insert into stores (name) values ('Mi Bodega')", &[]).await.expect("a shop");
    let outcome = history(db.url(), &plan(1, UNTIL), &ProgressBar::hidden(), &CancellationToken::new()).await;
    let error = outcome.expect_err("refused");
    assert_eq!(error.to_string(), "the database holds a shop that the simulation of seed 42 did not make: Mi Bodega");
    assert!(error.hint().is_some_and(|hint| hint.contains("another database")));
    let outcome =
        live(db.url(), &plan(1, UNTIL), Arc::default(), &ProgressBar::hidden(), &CancellationToken::new()).await;
    assert!(outcome.is_err());
    assert_eq!(one::<i64>(&client, "select count(*) from sales").await, 0);
}

#[tokio::test]
async fn another_seed_is_another_chain() {
    let db = Db::migrated().await;
    write(&db, &plan(0, UNTIL)).await;
    let other = Plan { seed: 43, ..plan(0, UNTIL) };
    assert!(history(db.url(), &other, &ProgressBar::hidden(), &CancellationToken::new()).await.is_err());
    let fewer = Plan { shops: 3, ..plan(0, UNTIL) };
    assert_eq!(write(&db, &fewer).await.tickets, 0, "a smaller chain of the same seed is part of it");
}

#[tokio::test]
async fn a_database_that_is_not_ready_is_told_so() {
    let db = Db::empty().await;
    let outcome = history(
        db.url(),
        &Plan { until: Timestamp::now(), ..Plan::default() },
        &ProgressBar::hidden(),
        &CancellationToken::new(),
    )
    .await;
    assert_eq!(outcome.expect_err("refused").hint(), Some("Run `pulso migrate up` first."));
}

//! Writers never wait for Pulso: cashiers who all sell in one store-hour, watched in `pg_locks` while they do.

use crate::assert_equal;
use crate::common::{Db, long};
use crate::concurrency::eventually;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CASHIERS: i64 = 32;
const ROLLUPS: [(&str, &str); 4] = [
    (
        "public.hourly",
        "select store, date_trunc('hour', at) as hour, count(*) as n, sum(total) as total from public.sales group by 1, 2",
    ),
    (
        "public.products_sold",
        "select product_id, count(*) as n, sum(qty) as units, max(qty) as most from public.lines group by product_id",
    ),
    (
        "public.store_lines",
        "select s.store, i.product_id, count(*) as n, sum(i.qty) as units
           from public.lines i join public.sales s on s.id = i.sale_id group by 1, 2",
    ),
    (
        "public.categories",
        "select p.category, count(*) as n, sum(i.qty) as units
           from public.lines i join public.products p on p.id = i.product_id group by 1",
    ),
];

/// Sessions that wait for a lock at this moment, by what they wait for.
const WAITING: &str = "
  select coalesce(l.locktype || coalesce(' of ' || c.relname, ''), a.wait_event), count(*)
    from pg_stat_activity a
    left join pg_locks l on l.pid = a.pid and not l.granted
    left join pg_class c on c.oid = l.relation and l.database = (select oid from pg_database where datname = current_database())
   where a.datname = current_database() and a.backend_type = 'client backend' and a.wait_event_type = 'Lock'
   group by 1";

async fn sell_for(duration: Duration) {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create extension pulso;
             create table products (id int primary key, category text);
             create table sales (id bigint primary key, store int, at timestamp, total numeric);
             create table lines (id bigint generated always as identity, sale_id bigint not null references sales,
               product_id int not null references products, qty int);
             insert into products select i, 'c' || i % 3 from generate_series(1, 10) i",
        )
        .await
        .unwrap();
    for (name, query) in ROLLUPS {
        client.execute("select pulso.create_rollup($1, $2)", &[&name, &query]).await.unwrap();
    }
    // Reads and writes of the shop's own tables, and nothing of Pulso's.
    client
        .batch_execute(
            "create role waits_cashier; grant select, insert on sales, lines to waits_cashier; grant select on products to waits_cashier",
        )
        .await
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let cashiers: Vec<_> = (0..CASHIERS)
        .map(|number| {
            let (connect, stop) = (db.connect(), Arc::clone(&stop));
            async move {
                let client = connect.await;
                client.batch_execute("set role waits_cashier").await.unwrap();
                let mut tickets = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = number * 1_000_000_000 + tickets;
                    let products = if number % 2 == 0 { [1, 2] } else { [2, 1] };
                    client
                        .batch_execute(&format!(
                            "begin; insert into sales values ({id}, 1, '2026-03-01 10:00', 5.25);
                             insert into lines (sale_id, product_id, qty) values ({id}, {}, 1);
                             insert into lines (sale_id, product_id, qty) values ({id}, {}, 2); commit",
                            products[0], products[1]
                        ))
                        .await
                        .unwrap_or_else(|error| panic!("cashier {number}: {error:?}"));
                    tickets += 1;
                }
                tickets
            }
        })
        .collect();
    let (watcher, folder) = (db.connect().await, db.connect().await);
    let watch = async {
        let (begun, mut samples, mut waits) = (Instant::now(), 0, BTreeMap::<String, i64>::new());
        while begun.elapsed() < duration {
            for row in watcher.query(WAITING, &[]).await.unwrap() {
                *waits.entry(row.get(0)).or_default() += row.get::<_, i64>(1);
            }
            samples += 1;
            if samples % 4 == 0 {
                folder.batch_execute("select pulso.fold()").await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.store(true, Ordering::Relaxed);
        (samples, waits)
    };
    let (tickets, (samples, mut waits)) = tokio::join!(futures_util::future::join_all(cashiers), watch);
    // Of any table, the shop's own too, when many put rows at its end.
    let extends: i64 = waits.iter().filter(|(name, _)| name.starts_with("extend")).map(|(_, n)| *n).sum();
    waits.retain(|name, _| !name.starts_with("extend"));
    println!(
        "{} tickets of {CASHIERS} cashiers in {duration:?}; {samples} samples: waits {waits:?}, for the extension of a table {extends}",
        tickets.iter().sum::<i64>()
    );
    assert!(tickets.iter().all(|count| *count > 0), "{tickets:?}");
    assert!(waits.is_empty(), "a cashier waited: {waits:?}");
    for when in ["sold", "folded"] {
        for (name, query) in ROLLUPS {
            assert_equal(&client, name, query, when).await;
        }
        client.batch_execute("select pulso.fold()").await.unwrap();
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(client.query_one(deadlocks, &[]).await.unwrap().get::<_, i64>(0), 0);
    client.batch_execute("drop owned by waits_cashier; drop role waits_cashier").await.unwrap();
}

/// One at a time: the role is the cluster's.
static ROLE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_cashiers_wait_for_nobody() {
    let _role = ROLE.lock().await;
    sell_for(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_cashiers_wait_for_nobody_for_a_minute() {
    if long() {
        let _role = ROLE.lock().await;
        sell_for(Duration::from_secs(60)).await;
    }
}

/// Who makes or drops a rollup waits for writers of one table with no lock of another in hand: a writer who has yet to come
/// to that goes on, in whatever order tables are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_writers_keeps_none_of_them() {
    let db = Db::empty().await;
    let (client, keeper, writer) = (db.connect().await, db.connect().await, db.connect().await);
    client.batch_execute(crate::joins::SCHEMA).await.unwrap();
    let (name, query) = crate::joins::ROLLUPS[3];
    let change = "update stores set zone = 'Z'";
    let orders = [
        ["insert into sales values (100, 1)", "insert into items values (100, 100, 1)", change],
        [change, "update items set qty = 2 where id = 1", "update sales set status = 'x' where id = 1"],
        ["update products set stock = 1", change, "delete from sales where id = 2"],
        ["delete from items where id = 3", "update products set stock = 2", "insert into sales values (101, 1)"],
    ];
    keeper.batch_execute("set lock_timeout = '20s'").await.unwrap();
    writer.batch_execute("set lock_timeout = '1s'").await.unwrap();
    let pid: i32 = keeper.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let waits = format!("select exists (select from pg_locks where pid = {pid} and not granted)");
    for order in orders {
        for step in [
            format!("select pulso.create_rollup('{name}', $${query}$$)"),
            format!("select pulso.drop_rollup('{name}')"),
        ] {
            writer.batch_execute(&format!("begin; {}", order[0])).await.unwrap();
            let change = keeper.batch_execute(&step);
            let sell = async {
                for statement in &order[1..] {
                    eventually(&client, &waits).await;
                    writer.batch_execute(statement).await?;
                }
                writer.batch_execute("rollback").await
            };
            // Whoever fails first ends the test: the other might wait for ever.
            tokio::try_join!(change, sell).unwrap_or_else(|error| panic!("{step} beside {order:?}: {error:?}"));
        }
    }
    client.execute("select pulso.create_rollup($1, $2)", &[&name, &query]).await.unwrap();
    assert_equal(&client, name, query, "at the end").await;
}

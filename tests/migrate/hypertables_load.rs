//! Sales become a hypertable, and a plain table again, while tills sell, and while whoever converts them is killed.

use crate::common::{Pauses, long};
use crate::hypertables::{LEFT, exact, likeness, shop};
use crate::waits::Waits;
use crate::{one, stderr};
use pulso::cluster::Cluster;
use pulso::{db, migrate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Sales of 400 days.
async fn fill(client: &Client, sales: u32) {
    client
        .batch_execute(&format!(
            "insert into sales (store_id, number, sold_at, rate, totals, payment)
             select '00000000-0000-4000-8000-000000000001', 'h' || i, now() - i * interval '400 days' / {sales}, 40,
                    jsonb_build_object('gross_usd', i, 'total_usd', i, 'total_bs', i * 40, 'items', 2), '{{\"method\": \"card\"}}'
               from generate_series(1, {sales}) i; analyze sales"
        ))
        .await
        .unwrap();
}

/// Tills that sell, void, delete and re-date while tables change their kind; what they know must be what is there.
async fn under_load(major: u32, sales: u32, writers: usize, pause: Duration) {
    let Some((cluster, client)) = shop(major).await else { return };
    fill(&client, sales).await;
    let over = Arc::new(AtomicBool::new(false));
    let longest = Arc::new(AtomicU64::new(0));
    let pauses = Pauses::watch();
    let mut tills = Vec::new();
    for till in 0..writers {
        let (till_client, over, longest) =
            (db::connect(cluster.url()).await.unwrap(), Arc::clone(&over), Arc::clone(&longest));
        tills.push(tokio::spawn(async move { sell(&till_client, till, pause, &over, &longest).await }));
    }
    let waits = Waits::watch(db::connect(cluster.url()).await.unwrap());
    let there = Converted::by(&cluster, true).await;
    let up_waits = waits.end().await;
    exact(&client, "after the conversion, under load").await;
    let up_longest = longest.swap(0, Ordering::Relaxed);
    let waits = Waits::watch(db::connect(cluster.url()).await.unwrap());
    let back = Converted::by(&cluster, false).await;
    let undo_waits = waits.end().await;
    over.store(true, Ordering::Relaxed);
    let (mut sold, mut live) = (0, 0);
    for till in tills {
        let (all, left) = till.await.unwrap();
        (sold, live) = (sold + all, live + left);
    }
    let undo_longest = longest.load(Ordering::Relaxed);
    let ((up_wait, up_statement), (undo_wait, undo_statement)) = (up_waits.waited, undo_waits.waited);
    let waited = format!(
        "there {up_wait} ms (longest statement {up_longest}): {up_statement}; back {undo_wait} ms ({undo_longest}): {undo_statement}"
    );
    println!(
        "PostgreSQL {major}, {sales} sales, {writers} tills: there {there}; back {back}; {sold} sold meanwhile; waited: {waited}"
    );
    assert_eq!(one::<i64>(&client, "select count(*) from sales where number like 't%'").await, live);
    assert_eq!(one::<i64>(&client, "select count(*) from sales where number like 'h%'").await, i64::from(sales));
    assert_eq!(
        one::<i64>(&client, "select deadlocks from pg_stat_database where datname = current_database()").await,
        0
    );
    assert!(sold > 50, "{sold} sold");
    assert!(up_waits.samples.min(undo_waits.samples) > 50, "{} and {} samples", up_waits.samples, undo_waits.samples);
    assert!(up_wait.max(undo_wait) < 500 || pauses.explain(), "{waited}");
    assert!(there.swap.max(back.swap) < 450 || pauses.explain(), "{there}, {back}");
    exact(&client, "back, under load").await;
    drop(client);
    cluster.stop().await.unwrap();
}

/// What the command says of a conversion.
struct Converted {
    /// Of the whole, and of copying alone, in seconds.
    whole: f64,
    copying: f64,
    /// Milliseconds, with what was waited for.
    swap: u64,
}

impl std::fmt::Display for Converted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "in {:.1} s, copied in {:.1} s, places changed in {} ms", self.whole, self.copying, self.swap)
    }
}

impl Converted {
    async fn by(cluster: &Cluster, there: bool) -> Self {
        let mut command = process(cluster, there);
        let begun = Instant::now();
        let output =
            tokio::task::spawn_blocking(move || command.stderr(Stdio::piped()).output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let of_sales = said.lines().filter_map(|line| line.strip_prefix("public.sales: "));
        let number = |what: &str| {
            let rest = of_sales
                .clone()
                .find_map(|line| line.strip_prefix(what))
                .unwrap_or_else(|| panic!("{what} is not in {said}"));
            rest.split_whitespace().next().unwrap().parse::<f64>().unwrap()
        };
        Self {
            whole: begun.elapsed().as_secs_f64(),
            copying: number("rows copied in "),
            swap: number("changed places in ") as u64,
        }
    }
}

/// One till: how many it sold, and how many of them are left.
async fn sell(client: &Client, till: usize, pause: Duration, over: &AtomicBool, longest: &AtomicU64) -> (i64, i64) {
    let (mut sold, mut live) = (0, 0);
    let run = async |sql: &str| {
        let begun = Instant::now();
        let rows = client.execute(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        longest.fetch_max(begun.elapsed().as_millis().try_into().unwrap(), Ordering::Relaxed);
        rows
    };
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(pause).await;
        sold += 1;
        let number = format!("t{till}_{sold}");
        run("begin").await;
        run(&format!("insert into sales (store_id, number, sold_at, rate, totals, payment) values ('00000000-0000-4000-8000-000000000001', '{number}', now(), 40, '{{\"total_bs\": 40, \"total_usd\": 1}}', '{{\"method\": \"cash\"}}')")).await;
        run(&format!("insert into sale_items (sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd) select id, 1, '00000000-0000-4000-8000-000000000101', 1, 40, 1 from sales where number = '{number}' and store_id = '00000000-0000-4000-8000-000000000001'")).await;
        run("commit").await;
        live += 1;
        let earlier = format!("t{till}_{}", sold - sold % 5);
        match sold % 5 {
            1 => drop(run(&format!("update sales set status = 'voided', voided_at = now() where number = '{earlier}' and store_id = '00000000-0000-4000-8000-000000000001'")).await),
            2 => drop(run(&format!("update sales set sold_at = sold_at - interval '9 days' where number = '{earlier}' and store_id = '00000000-0000-4000-8000-000000000001'")).await),
            3 => drop(run(&format!("update sales set totals = '{{\"total_bs\": 80}}' where number = 'h{}' and store_id = '00000000-0000-4000-8000-000000000001'", sold % 97 + 1)).await),
            4 => live -= i64::try_from(run(&format!("delete from sales where number = '{earlier}' and store_id = '00000000-0000-4000-8000-000000000001'")).await).unwrap(),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    (sold, live)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sales_become_a_hypertable_while_tills_sell() {
    under_load(17, 10_000, 4, Duration::ZERO).await;
    under_load(18, 10_000, 4, Duration::ZERO).await;
}

/// Two million sales and eight tills, as the issue of it asks: each with a sale, and what follows it, every 50 ms.
async fn two_million(major: u32) {
    if long() {
        under_load(major, 2_000_000, 8, Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_million_sales_become_a_hypertable_while_tills_sell_on_17() {
    two_million(17).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_million_sales_become_a_hypertable_while_tills_sell_on_18() {
    two_million(18).await;
}

/// `pulso migrate`, there or back, in a process of its own.
fn process(cluster: &Cluster, there: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    command.arg("migrate").args(if there {
        &["up", "timescale", "--hypertable", "sales"][..]
    } else {
        &["undo", "timescale", "--to", "4"]
    });
    command.env("DATABASE_URL", cluster.url()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Killed anywhere, it goes on where it stopped, or takes back what there is of it.
async fn killed(major: u32, kills: u32, sales: u32, tills: usize, pause: Duration, seed: u64) {
    let Some((cluster, client)) = shop(major).await else { return };
    fill(&client, sales).await;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let over = Arc::new(AtomicBool::new(false));
    let mut selling = Vec::new();
    for till in 0..tills {
        let (client, over) = (db::connect(cluster.url()).await.unwrap(), Arc::clone(&over));
        selling.push(tokio::spawn(async move { sell(&client, till, pause, &over, &AtomicU64::new(0)).await }));
    }
    // Everything but sales is done in peace, and how long sales take.
    assert!(process(&cluster, true).status().unwrap().success());
    let begun = Instant::now();
    assert!(process(&cluster, false).status().unwrap().success());
    let whole = begun.elapsed().as_millis() as u64;
    let before = likeness(&cluster, &client).await;
    let mut phases = Vec::new();
    let mut there = false;
    for kill in 0..2 + kills {
        let mut child = process(&cluster, !there).spawn().unwrap();
        // First right after the tables have changed places, there and back; then anywhere.
        if kill < 2 {
            let swapped =
                "select exists (select from pulso.conversion where source = 'public.sales' and phase = 'swapped')";
            while !one::<bool>(&client, swapped).await && child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(rng.random_range(50..whole))).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let phase: String = one(&client, "select coalesce((select goal || ' ' || phase from pulso.conversion where source = 'public.sales'), 'none')").await;
        phases.push(phase);
        // On, or back.
        there = kill < 2 || rng.random_bool(0.5);
        let output = process(&cluster, there).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "seed {seed}, kill {kill}, {phases:?}: {}", stderr(&output));
        exact(&client, &format!("seed {seed}, kill {kill}, {phases:?}")).await;
        let kind: bool = one(
            &client,
            "select exists (select from timescaledb_information.hypertables where hypertable_name = 'sales')",
        )
        .await;
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(kind, there, "seed {seed}, kill {kill}, {phases:?}: {told}{}", stderr(&output));
        assert_eq!(one::<i64>(&client, LEFT).await, 0, "seed {seed}, kill {kill}, {phases:?}");
    }
    over.store(true, Ordering::Relaxed);
    let (mut sold, mut live) = (0, 0);
    for till in selling {
        let (all, left) = till.await.unwrap();
        (sold, live) = (sold + all, live + left);
    }
    println!("PostgreSQL {major}, seed {seed}: killed at {phases:?}, {sold} sold meanwhile");
    assert_eq!(one::<i64>(&client, "select count(*) from sales where number like 't%'").await, live);
    assert_eq!(one::<i64>(&client, "select count(*) from sales where number like 'h%'").await, i64::from(sales));
    assert!(process(&cluster, false).status().unwrap().success());
    exact(&client, "at the end").await;
    crate::assert_same(&before, &likeness(&cluster, &client).await, "after all the kills");
    drop(client);
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversions_that_are_killed_go_on_or_back() {
    for major in [17, 18] {
        killed(major, 2, 5000, 1, Duration::ZERO, rand::random()).await;
    }
}

/// As the issue of it asks: ten kills anywhere, of two million sales under eight tills. It takes an hour; `PULSO_SALES=<n>` has another number of them.
async fn two_million_killed(major: u32) {
    if long() {
        let sales = std::env::var("PULSO_SALES").ok().and_then(|sales| sales.parse().ok()).unwrap_or(2_000_000);
        killed(major, 10, sales, 8, Duration::from_millis(50), rand::random()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversions_of_two_million_sales_that_are_killed_go_on_or_back_on_17() {
    two_million_killed(17).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversions_of_two_million_sales_that_are_killed_go_on_or_back_on_18() {
    two_million_killed(18).await;
}

/// Rows that somebody has locked all the while, and then leaves as they were, come last. Autovacuum, which looks at the
/// copy as at any table that is filled, is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_locked_are_copied_in_the_end() {
    for major in [17, 18] {
        let Some((cluster, mut client)) = shop(major).await else { return };
        migrate::up_only(&mut client, &["timescale"]).await.unwrap();
        let (holder, vacuum) = (db::connect(cluster.url()).await.unwrap(), db::connect(cluster.url()).await.unwrap());
        // Nothing is copied before this test lets it.
        client
            .batch_execute(
                "create function wait_for_the_test() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
                 create trigger wait_for_the_test before update on pulso.conversion for each row when (new.phase = 'copying' and new.at_relation is not null)
                   execute function wait_for_the_test();
                 alter table pulso.conversion enable always trigger wait_for_the_test",
            )
            .await
            .unwrap();
        for there in [true, false] {
            holder
                .batch_execute(
                    "select pg_advisory_lock(1); begin; select from sales where number::int % 3 = 0 for update",
                )
                .await
                .unwrap();
            let mut child = process(&cluster, there).stderr(Stdio::piped()).spawn().unwrap();
            let mut until = async |reached: &str| {
                let reached = format!(
                    "select exists (select from pulso.conversion where source = 'public.sales' and phase = '{reached}')"
                );
                while !one::<bool>(&client, &reached).await {
                    if child.try_wait().unwrap().is_some() {
                        let mut said = String::new();
                        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                        panic!("it ends though something is locked: {said}");
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
                assert!(one::<bool>(&client, &reached).await, "it waits for them");
            };
            until("copying").await;
            // The lock of a vacuum.
            vacuum.batch_execute("begin; lock table pulso_shadow.sales in share update exclusive mode").await.unwrap();
            holder.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
            until("copied").await;
            vacuum.batch_execute("rollback").await.unwrap();
            holder.batch_execute("rollback").await.unwrap();
            assert!(child.wait().unwrap().success());
            assert_eq!(one::<i64>(&client, "select count(*) from sales").await, 2000);
            exact(&client, "after rows were locked").await;
        }
        drop((client, holder, vacuum));
        cluster.stop().await.unwrap();
    }
}

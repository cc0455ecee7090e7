//! `up` and `undo` on a database that sells: no statement of the shop waits for long.

use crate::common::{Db, Pauses, cluster, timescale};
use crate::waits::{Seen, Waits};
use crate::{SALES, one, until};
use indicatif::ProgressBar;
use pulso::cluster::{Cluster, Options};
use pulso::migrate;
use pulso::simulate::{Counters, Plan, history, live};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

async fn sell_and_migrate(cluster: &Cluster, packs: &[&str], days: u32, rate: f64) {
    let db = Db::empty_in(cluster).await;
    let mut client = db.connect().await;
    if packs.contains(&"timescale") {
        client.batch_execute("create extension timescaledb; set pulso_migrate.hypertable = 'sales'").await.unwrap();
    }
    migrate::up_only(&mut client, &["pos"]).await.unwrap();
    let mut plan = Plan { history_days: days, rate, duration: None, ..Plan::default() };
    let cancel = CancellationToken::new();
    history(db.url(), &plan, &ProgressBar::hidden(), &cancel).await.unwrap();
    plan.history_days = 0;

    let counters = Arc::new(Counters::default());
    let tills = {
        let (url, plan, counters, cancel) = (db.url().to_owned(), plan.clone(), Arc::clone(&counters), cancel.clone());
        tokio::spawn(async move { live(&url, &plan, counters, &ProgressBar::hidden(), &cancel).await })
    };
    let pauses = Pauses::watch();
    let waits = Waits::watch(db.connect().await);
    while counters.tickets.load(Ordering::Relaxed) < 20 {
        assert!(!tills.is_finished(), "the tills do not sell");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One pack after another, each there and back, then all.
    for pack in packs {
        migrate::up_only(&mut client, &[pack]).await.unwrap_or_else(|error| panic!("{pack}: {error}"));
    }
    for pack in packs.iter().rev() {
        migrate::undo(&mut client, pack, 0, false).await.unwrap_or_else(|error| panic!("undo {pack}: {error}"));
    }
    migrate::up(&mut client).await.unwrap();
    let sold = counters.tickets.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let Seen { waiting: (waited, statement), samples, .. } = waits.end().await;
    cancel.cancel();
    let shift = tills.await.unwrap().unwrap();

    assert!(sold > 40, "{sold} tickets sold meanwhile");
    assert!(samples > 50, "{samples} samples");
    assert!(waited < 1000 || pauses.explain(), "{statement} waited for {waited} ms");
    assert_eq!(shift.retries, 0, "transactions that had to be tried again");
    let deadlocks: i64 =
        one(&client, "select deadlocks from pg_stat_database where datname = current_database()").await;
    assert_eq!(deadlocks, 0);
    client.batch_execute("select pulso.fold()").await.unwrap();
    let wrong: i64 = one(&client, "select sum(pulso.verify(name))::bigint from pulso.rollups").await;
    assert_eq!(wrong, 0);
    let unbuilt: i64 = one(&client, "select count(*) from pulso.rollups where not live").await;
    assert_eq!(unbuilt, 0);
    println!("{sold} tickets sold, {samples} samples, longest wait {waited} ms: {statement}");
}

const PACKS: &[&str] = &["core", "indexes", "rollups", "reports", "service"];
const WITH_HYPERTABLES: &[&str] = &["core", "indexes", "timescale", "rollups", "reports", "service"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_of_the_shop_waits_for_long() {
    sell_and_migrate(cluster().await, PACKS, 4, 30.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_of_the_shop_waits_for_hypertables() {
    for major in [17, 18] {
        let Some(cluster) = timescale(major).await else { return };
        sell_and_migrate(&cluster, WITH_HYPERTABLES, 4, 30.0).await;
        cluster.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_of_a_large_shop_waits_for_long() {
    if crate::common::long() {
        sell_and_migrate(cluster().await, PACKS, 300, 60.0).await;
    }
}

/// Autovacuum is on the shop's tables when triggers are to go from them, and would be for minutes.
#[tokio::test]
async fn autovacuum_makes_way() {
    // On the tests' common server autovacuum has many databases to go through.
    let cluster = Cluster::start(&Options::temporary().set("autovacuum_naptime", "2s")).await.unwrap();
    let db = Db::empty_in(&cluster).await;
    let mut client = db.connect().await;
    migrate::up(&mut client).await.unwrap();
    client.batch_execute(SALES).await.unwrap();
    migrate::undo(&mut client, "reports", 0, false).await.unwrap();
    client
        .batch_execute(
            "do $$ declare it text; begin
               foreach it in array '{sales, sale_items}'::text[] loop
                 execute format('alter table %I set (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
                   autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)', it);
               end loop; end $$;
             delete from sale_items where line_no = 1; update sales set rate = rate + 1",
        )
        .await
        .unwrap();
    until(&client, "select count(*) = 2 from pg_stat_progress_vacuum where datname = current_database() and relid in ('sales'::regclass, 'sale_items'::regclass)").await;
    let undisturbed = "select count(*) from pg_stat_user_tables where relname in ('sales', 'sale_items') and last_autovacuum is not null";
    migrate::undo(&mut client, "rollups", 0, false).await.unwrap();
    assert_eq!(one::<i64>(&client, undisturbed).await, 0, "it was over before it could be in the way");
    assert!(one::<bool>(&client, "select not exists (select from pulso.rollups)").await);
    drop((client, db));
    cluster.stop().await.unwrap();
}

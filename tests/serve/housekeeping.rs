//! Folding beside the service, against an engine whose behaviour the test decides.

use crate::common::Db;
use pulso::fold::keep_folded;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Counts the calls of `pulso.fold`, fails them while told to, and says who folds.
const ENGINE: &str = "
  create schema pulso;
  create table public.calls (n bigint);
  create table public.faults (message text);
  create function pulso.fold(name text default null) returns bigint language plpgsql as $$
  begin
    if exists (select from public.faults) then
      raise exception 'no folding today';
    end if;
    insert into public.calls values (1);
    return 0;
  end $$";

async fn calls(sql: &Client) -> i64 {
    sql.query_one("select count(*) from public.calls", &[]).await.unwrap().get(0)
}

async fn more_calls_than(sql: &Client, before: i64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while calls(sql).await <= before {
        assert!(Instant::now() < deadline, "nothing was folded in time");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn folding_outlives_faults_and_lost_connections_and_ends_when_told() {
    let db = Db::empty().await;
    let sql = db.connect().await;
    sql.batch_execute(ENGINE).await.unwrap();
    let stop = CancellationToken::new();
    let folder = tokio::spawn(keep_folded(db.url().to_owned(), stop.clone()));
    more_calls_than(&sql, 0).await;

    let killed = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pulso fold' and datname = current_database()";
    assert_eq!(sql.query(killed, &[]).await.unwrap().len(), 1);
    let before = calls(&sql).await;
    more_calls_than(&sql, before).await;

    sql.batch_execute("insert into public.faults values ('x')").await.unwrap();
    sleep(Duration::from_millis(2500)).await;
    sql.batch_execute("delete from public.faults").await.unwrap();
    let before = calls(&sql).await;
    more_calls_than(&sql, before).await;

    stop.cancel();
    tokio::time::timeout(Duration::from_secs(2), folder).await.expect("it ends at once").unwrap();
}

#[tokio::test]
async fn nothing_is_folded_where_a_background_worker_does_it() {
    let db = Db::empty().await;
    let sql = db.connect().await;
    sql.batch_execute(ENGINE).await.unwrap();
    sql.batch_execute("create function pulso.folder_running() returns boolean language sql as 'select true'")
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let folder = tokio::spawn(keep_folded(db.url().to_owned(), stop.clone()));
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(calls(&sql).await, 0);
    stop.cancel();
    folder.await.unwrap();
}

#[tokio::test]
async fn the_real_engine_is_folded_and_verified() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    crate::shop::open(&sql).await;
    let stop = CancellationToken::new();
    let folder = tokio::spawn(keep_folded(db.url().to_owned(), stop.clone()));
    let deadline = Instant::now() + Duration::from_secs(20);
    let pending = "select coalesce(sum(pending_deltas), 0)::bigint from pulso.rollups";
    while sql.query_one(pending, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "deltas are still pending");
        sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    folder.await.unwrap();
    let summary = pulso::worker::verify_rollups(db.url()).await.unwrap();
    assert_eq!(summary, "7 rollups equal their queries, 0 do not or could not be compared");
}

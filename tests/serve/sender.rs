//! The change feed where no worker of the extension runs: sent by one of the services.

use crate::client::Client;
use crate::common::Pauses;
use crate::shop::{self, DAY, GROCERY};
use pulso::cluster::{Cluster, Options};
use pulso::fold::keep_folded;
use pulso::serve::{AppState, feed};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const PATH: &str = "/v1/stores/00000000-0000-4000-8000-000000000001/dashboard?date=2026-07-30";

async fn source_is(http: &Client, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while http.get(PATH).await.header("x-pulso-cache") != wanted {
        assert!(Instant::now() < deadline, "no {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_service_of_several_sends_the_feed_and_another_takes_over() {
    const BOUND: Duration = Duration::from_secs(2);
    let pauses = Pauses::watch();
    let cluster = Cluster::start(&Options::temporary().set("shared_preload_libraries", "")).await.unwrap();
    let mut sql = pulso::db::connect(cluster.url()).await.unwrap();
    pulso::migrate::up(&mut sql).await.unwrap();
    shop::open(&sql).await;
    let stop = CancellationToken::new();
    let folders: Vec<_> = (0..2).map(|_| CancellationToken::new()).collect();
    let state = AppState::new(cluster.url(), 2, 8).unwrap();
    state.follow(cluster.url(), feed::CHANNEL, stop.clone());
    let http = Client::over(state);
    source_is(&http, "bypass").await;
    for folder in &folders {
        tokio::spawn(keep_folded(cluster.url().to_owned(), folder.clone()));
    }

    let mut sold = 3;
    let mut sell_and_see = async || {
        for _ in 0..20 {
            sold += 1;
            let sale = "insert into public.sales (store_id, number, sold_at, rate, totals) values ($1::text::uuid, $2, $3::text::timestamptz, 40, '{\"gross_usd\": 1}')";
            sql.execute(sale, &[&GROCERY, &format!("sale {sold}"), &format!("{DAY} 15:00-04")]).await.unwrap();
            let committed = Instant::now();
            while http.get(PATH).await.json()["sales_count"] != sold {
                assert!(committed.elapsed() < BOUND || pauses.explain(), "not seen after {:?}", committed.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    source_is(&http, "hit").await;
    sell_and_see().await;
    let holder =
        "select count(*), count(distinct pid) from pg_locks where locktype = 'advisory' and classid = 1886743667";
    let row = sql.query_one(holder, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 1), "one at a time");

    // Whichever sends is stopped, then the other too: no feed, nothing kept.
    folders[0].cancel();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    source_is(&http, "hit").await;
    sell_and_see().await;
    folders[1].cancel();
    source_is(&http, "bypass").await;
    sell_and_see().await;

    // A process that was stopped while it held the lock sends nothing.
    let holds: bool = sql.query_one("select pg_try_advisory_lock(1886743667, 1)", &[]).await.unwrap().get(0);
    assert!(holds);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let other = pulso::db::connect(cluster.url()).await.unwrap();
    let row = other.query_one(include_str!("../../sql/query/feed_sender.sql"), &[]).await.unwrap();
    assert!(!row.get::<_, bool>("runs"), "it has been silent for longer than a second");
    assert_eq!(http.get(PATH).await.header("x-pulso-cache"), "bypass");
    stop.cancel();
    cluster.stop().await.unwrap();
}

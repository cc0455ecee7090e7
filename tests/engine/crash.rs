//! kill -9 in the middle of the day: what was acknowledged is there, and the rollups equal a recount.

use crate::assert_equal;
use crate::common::Scratch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::cluster::{Cluster, Options};
use pulso::db;
use std::collections::BTreeSet;
use std::time::Duration;

const HEADERS: &str =
    "select store, date_trunc('hour', at) as hour, count(*) as n, sum(total) as total from public.ticket group by 1, 2";
const LINES: &str = "select product, count(*) as n, sum(qty) as units from public.line group by 1";

/// Sells until the server is gone; returns what was acknowledged. `first` is the first ticket's number.
async fn sell(url: String, first: i64) -> Vec<i64> {
    let mut acknowledged = Vec::new();
    let Ok(client) = db::connect(&url).await else { return acknowledged };
    for number in 0.. {
        let id = first + number;
        let ticket = format!(
            "begin;
             insert into ticket values ({id}, {}, timestamp '2026-01-01' + interval '1 second' * {}, {}.25);
             insert into line select {id}, ({id} + g) % 50, g from generate_series(1, 3) g;
             update ticket set total = total + 1 where id = {id};
             commit",
            id % 2,
            number % 7200,
            id % 100
        );
        match client.batch_execute(&ticket).await {
            Ok(()) => acknowledged.push(id),
            Err(_) => return acknowledged,
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_of_the_postmaster_under_tickets() {
    // Durable, unlike the other tests' cluster: fsync is on.
    let scratch = Scratch::new();
    let options = Options { data_dir: Some(scratch.data()), ..Options::default() }.set("shared_buffers", "64MB");
    let mut cluster = Cluster::start(&options).await.unwrap();
    let url = cluster.url().to_owned();
    db::connect(&url)
        .await
        .unwrap()
        .batch_execute(&format!(
            "create extension pulso;
             create table ticket (id bigint primary key, store int, at timestamp, total numeric);
             create table line (ticket bigint not null references ticket, product int, qty int);
             select pulso.create_rollup('public.headers', $${HEADERS}$$);
             select pulso.create_rollup('public.lines', $${LINES}$$)"
        ))
        .await
        .unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..10 {
        let url = cluster.url().to_owned();
        let sellers: Vec<_> =
            (0..4).map(|seller| tokio::spawn(sell(url.clone(), (10 * seller + round) * 1_000_000_000))).collect();
        tokio::time::sleep(Duration::from_millis(300 + 130 * round.unsigned_abs())).await;
        kill(Pid::from_raw(cluster.postmaster_pid().unwrap()), Signal::SIGKILL).unwrap();
        let before = acknowledged.len();
        for seller in sellers {
            acknowledged.extend(seller.await.unwrap());
        }
        assert!(acknowledged.len() > before, "round {round} sold nothing");
        cluster = Cluster::start(&options).await.unwrap();
        let client = db::connect(cluster.url()).await.unwrap();
        let ids: BTreeSet<i64> =
            client.query("select id from ticket", &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let lost: Vec<_> = acknowledged.difference(&ids).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged tickets are gone: {lost:?}");
        for (name, query) in [("public.headers", HEADERS), ("public.lines", LINES)] {
            assert_equal(&client, name, query, &format!("after kill {round}")).await;
            client.execute("select pulso.fold($1)", &[&name]).await.unwrap();
            assert_equal(&client, name, query, &format!("after kill {round} and a fold")).await;
        }
    }
    println!("10 kills, {} acknowledged tickets, 0 lost, 0 differences", acknowledged.len());
    cluster.stop().await.unwrap();
}

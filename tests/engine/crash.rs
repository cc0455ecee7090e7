//! kill -9 in the middle of the day: what was acknowledged is there, and the rollups equal a recount.

use crate::assert_equal;
use crate::common::{Scratch, long};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::cluster::{Cluster, Options};
use pulso::db;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::Client;

const HEADERS: &str =
    "select store, date_trunc('hour', at) as hour, count(*) as n, sum(total) as total from public.ticket group by 1, 2";
const LINES: &str = "select product, count(*) as n, sum(qty) as units from public.line group by 1";
const JOINED: &str =
    "select t.store, l.product % 10 as shelf, count(*) as n, max(l.qty) as most, sum(t.total) as totals
   from public.line l join public.ticket t on t.id = l.ticket group by 1, 2";

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

/// Whom the kill hits.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Postmaster,
    Seller,
    /// The background worker, which folds every ten milliseconds here.
    Folder,
    /// A session that fills a rollup anew, over and over.
    Builder,
}

const VICTIMS: [Victim; 5] = [Victim::Postmaster, Victim::Seller, Victim::Folder, Victim::Builder, Victim::Postmaster];

/// Fills both rollups anew until the server is gone; how often it did.
async fn build(client: Client) -> u32 {
    let mut done = 0;
    while client
        .batch_execute("select pulso.repair('public.headers'); select pulso.repair('public.lines')")
        .await
        .is_ok()
    {
        done += 1;
    }
    done
}

/// The process to kill, once there is one.
async fn find(client: &Client, victim: Victim, builder: i32) -> Option<i32> {
    let condition = match victim {
        Victim::Postmaster => return None,
        Victim::Seller => "query like '%insert into ticket%' and state = 'active' and pid <> pg_backend_pid()",
        Victim::Folder => "backend_type = 'pulso folder'",
        Victim::Builder => return Some(builder),
    };
    for _ in 0..600 {
        let sql =
            format!("select pid from pg_stat_activity where datname = current_database() and {condition} limit 1");
        if let Some(row) = client.query_opt(&sql, &[]).await.unwrap() {
            return Some(row.get(0));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no {victim:?} to kill");
}

/// Patiently, while the server recovers by itself.
async fn reconnect(url: &str) -> Client {
    for _ in 0..1200 {
        if let Ok(client) = db::connect(url).await
            && client.batch_execute("select 1").await.is_ok()
        {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server does not come back");
}

async fn kills_under_tickets(kills: i64) {
    // Durable, unlike the other tests' cluster: fsync is on.
    let scratch = Scratch::new();
    let options = Options { data_dir: Some(scratch.data()), ..Options::default() }
        .set("shared_buffers", "64MB")
        .set("pulso.fold_interval", "10ms");
    let mut cluster = Cluster::start(&options).await.unwrap();
    db::connect(cluster.url())
        .await
        .unwrap()
        .batch_execute(&format!(
            "create extension pulso;
             create table ticket (id bigint primary key, store int, at timestamp, total numeric);
             create table line (ticket bigint not null references ticket, product int, qty int);
             select pulso.create_rollup('public.headers', $${HEADERS}$$);
             select pulso.create_rollup('public.lines', $${LINES}$$);
             select pulso.create_rollup('public.joined', $${JOINED}$$)"
        ))
        .await
        .unwrap();
    let mut acknowledged = BTreeSet::new();
    let (mut builds, mut rng) = (0, ChaCha8Rng::seed_from_u64(kills.unsigned_abs()));
    for round in 0..kills {
        let victim = VICTIMS[(round % 5) as usize];
        let url = cluster.url().to_owned();
        let client = db::connect(&url).await.unwrap();
        let builder = db::connect(&url).await.unwrap();
        let builder_pid: i32 = builder.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let builder = tokio::spawn(build(builder));
        let sellers: Vec<_> =
            (0..4).map(|seller| tokio::spawn(sell(url.clone(), (1000 * seller + round) * 1_000_000_000))).collect();
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..1200))).await;
        let pid = find(&client, victim, builder_pid).await.unwrap_or_else(|| cluster.postmaster_pid().unwrap());
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let before = acknowledged.len();
        for seller in sellers {
            acknowledged.extend(seller.await.unwrap());
        }
        builds += builder.await.unwrap();
        assert!(acknowledged.len() > before, "round {round} sold nothing");
        if matches!(victim, Victim::Postmaster) {
            cluster = Cluster::start(&options).await.unwrap();
        }
        let client = reconnect(cluster.url()).await;
        let ids: BTreeSet<i64> =
            client.query("select id from ticket", &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let lost: Vec<_> = acknowledged.difference(&ids).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged tickets are gone: {lost:?}");
        for (name, query) in [("public.headers", HEADERS), ("public.lines", LINES), ("public.joined", JOINED)] {
            assert_equal(&client, name, query, &format!("after kill {round}, of the {victim:?}")).await;
            client.execute("select pulso.fold($1)", &[&name]).await.unwrap();
            assert_equal(&client, name, query, &format!("after kill {round}, of the {victim:?}, and a fold")).await;
        }
    }
    assert!(builds > 0, "nothing was built");
    println!("{kills} kills, {builds} builds, {} acknowledged tickets, 0 lost, 0 differences", acknowledged.len());
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_of_postmaster_backend_folder_and_build_under_tickets() {
    kills_under_tickets(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_of_postmaster_backend_folder_and_build_under_tickets() {
    if long() {
        kills_under_tickets(50).await;
    }
}

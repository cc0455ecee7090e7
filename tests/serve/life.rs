//! The service while its database comes and goes, and while it is told to stop.

use crate::client::Client;
use crate::common::Db;
use pulso::cluster::{Cluster, Options};
use pulso::serve::{AppState, Service};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn ready_follows_the_database_and_health_does_not() {
    let dir = format!("/tmp/pulso-ready-{:08x}", rand::random::<u32>());
    let options = || {
        Options { data_dir: Some(dir.clone().into()), ..Options::default() }
            .set("shared_buffers", "32MB")
            .set("fsync", "off")
    };
    let cluster = Cluster::start(&options()).await.expect("a server");
    let url = cluster.url().to_owned();
    let mut sql = pulso::db::connect(&url).await.expect("a connection");

    let http = Client::to(&url);
    let unmigrated = http.get("/ready").await;
    assert_eq!(unmigrated.status, 503);
    assert!(unmigrated.problem()["detail"].as_str().unwrap().contains("pulso migrate up"));
    assert_eq!(http.get("/v1/stores").await.status, 503);
    pulso::migrate::up(&mut sql).await.expect("migrations");
    drop(sql);
    assert_eq!(http.get("/ready").await.status, 200);

    cluster.stop().await.expect("the server stops");
    for path in ["/ready", "/v1/stores"] {
        let answer = http.get(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert!(!answer.header("retry-after").is_empty());
        let document = answer.problem().to_string();
        assert!(!document.contains(&dir) && !document.contains("postgres"), "the answer tells where the database is");
    }
    assert_eq!(http.get("/health").await.status, 200);

    let again = Cluster::start(&options()).await.expect("the server starts again");
    assert_eq!(again.url(), url);
    assert_eq!(http.get("/ready").await.status, 200);
    assert_eq!(http.get("/v1/stores").await.status, 200);
    again.stop().await.expect("the server stops");
    std::fs::remove_dir_all(Path::new(&dir)).expect("its data goes");
}

#[tokio::test]
async fn connections_that_are_all_busy_are_a_503_in_time() {
    let db = Db::migrated().await;
    let state = AppState::new(db.url(), 1, 8).expect("a pool");
    let held = state.primary().await.expect("the only connection");
    let http = Client::over(state);
    let began = Instant::now();
    let answer = http.get("/v1/stores").await;
    assert_eq!(answer.status, 503);
    assert!(began.elapsed() < Duration::from_secs(4));
    drop(held);
    assert_eq!(http.get("/v1/stores").await.status, 200);
}

#[tokio::test]
async fn a_read_that_hangs_is_a_504_and_frees_its_connection() {
    let db = Db::migrated().await;
    let http = Client::to(db.url());
    let sql = db.connect().await;
    sql.batch_execute("begin; lock table public.stores in access exclusive mode").await.unwrap();
    let answer = http.get("/v1/stores").await;
    assert_eq!(answer.status, 504);
    answer.problem();
    sql.batch_execute("rollback").await.unwrap();
    assert_eq!(http.get("/v1/stores").await.status, 200);
}

#[tokio::test]
async fn more_requests_than_may_run_are_told_to_come_back() {
    let db = Db::migrated().await;
    let state = AppState::new(db.url(), 1, 1).expect("a pool");
    let held = state.primary().await.expect("the only connection");
    let http = Client::over(state);
    let (first, second) = tokio::join!(http.get("/v1/stores"), http.get("/v1/stores"));
    drop(held);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (503, 503));
    assert_eq!(first.problem()["type"], "urn:pulso:problem:unavailable");
    assert_eq!(second.problem()["type"], "urn:pulso:problem:busy");
    assert_eq!(second.header("retry-after"), "1");
    assert_eq!(http.get("/v1/stores").await.status, 200);
}

#[tokio::test]
async fn a_request_under_way_finishes_after_the_service_is_told_to_stop() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    let stop = CancellationToken::new();
    let state = AppState::new(db.url(), 2, 8).expect("a pool");
    let service = Service::start(state, "127.0.0.1:0".parse().unwrap(), stop.clone()).await.expect("a service");
    let address = service.url().trim_start_matches("http://").to_owned();

    sql.batch_execute("begin; lock table public.stores in access exclusive mode").await.unwrap();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"GET /v1/stores HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(TcpStream::connect(&address).await.is_err(), "a stopping service takes no new connections");
    sql.batch_execute("rollback").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    service.finished().await.expect("a clean end");
}

#[tokio::test]
async fn a_port_in_use_is_said_with_a_cure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let state = AppState::new("postgresql://nobody@127.0.0.1:1/none", 1, 1).expect("a pool");
    let outcome = Service::start(state, taken.local_addr().unwrap(), CancellationToken::new()).await;
    let error = outcome.err().expect("the port is taken");
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(error.hint().unwrap().contains("--listen"));
}

//! Two shops, a service that follows a change feed, and a hand on that feed.

use crate::client::{Answer, Client};
use crate::common::Db;
use crate::shop::{self, DAY, GROCERY};
use axum::body::Body;
use axum::http::Request;
use pulso::cluster::{Cluster, Options};
use pulso::serve::AppState;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

pub const CHANNEL: &str = "pulso_test_changes";

static STAGES: OnceCell<Cluster> = OnceCell::const_new();

pub struct Stage {
    pub db: Db,
    pub sql: tokio_postgres::Client,
    pub state: AppState,
    pub http: Client,
    pub stop: CancellationToken,
}

impl Stage {
    /// An empty database in which a worker will fold.
    pub async fn database() -> Db {
        // Each database has a worker, and a cluster only so many: these tests do not wait for those of the others.
        let cluster = STAGES.get_or_init(async || Cluster::start(&Options::temporary()).await.expect("a server")).await;
        Db::empty_in(cluster).await
    }

    /// Two shops, and a service that follows the feed.
    pub async fn open() -> Self {
        let db = Self::database().await.migrate().await;
        let sql = db.connect().await;
        shop::open(&sql).await;
        Self::over(db, sql).await
    }

    /// A service that follows the feed, over shops that there are.
    pub async fn over(db: Db, sql: tokio_postgres::Client) -> Self {
        // The feed counts only while the extension's worker runs; the launcher starts it within seconds.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !sql.query_one("select pulso.folder_running()", &[]).await.unwrap().get::<_, bool>(0) {
            assert!(Instant::now() < deadline, "no worker folds this database");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let state = AppState::new(db.url(), 4, 64).unwrap();
        let stop = CancellationToken::new();
        state.follow(db.url(), CHANNEL, stop.clone());
        let http = Client::over(state.clone());
        let this = Self { db, sql, state, http, stop };
        this.listening(1).await;
        this
    }

    /// Waits until so many sessions listen.
    pub async fn listening(&self, sessions: i64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let listening = "select count(*) from pg_stat_activity where application_name = 'pulso feed' and query ~ 'folder_running|pg_current_wal_flush_lsn' and datname = current_database()";
        while self.sql.query_one(listening, &[]).await.unwrap().get::<_, i64>(0) < sessions {
            assert!(Instant::now() < deadline, "nobody listens");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Answered, too.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// The feed's first notification, taken in; asked with a key where there are keys, so that it stays known that there are.
    pub async fn begin(&self, secret: &str) {
        let path = format!("/v1/stores/{GROCERY}/dashboard?date={DAY}");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            self.notify(1, json!([])).await;
            let request = Request::get(&path).header("authorization", format!("Bearer {secret}"));
            let request = if secret.is_empty() { Request::get(&path) } else { request };
            let answer = self.http.send(request.body(Body::empty()).unwrap()).await;
            if answer.header("x-pulso-cache") != "bypass" {
                return;
            }
            assert!(Instant::now() < deadline, "the feed does not begin");
        }
    }

    pub async fn notify(&self, seq: u64, changes: Value) {
        let payload = json!({"seq": seq, "changes": changes}).to_string();
        self.sql.execute("select pg_notify($1, $2)", &[&CHANNEL, &payload]).await.unwrap();
        // Seen by the service before the next statement of this test is answered, or very nearly.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }

    pub async fn day(&self, store: &str, control: &str) -> (String, String) {
        let answer = self.ask(&format!("/v1/stores/{store}/dashboard?date={DAY}"), control).await;
        (answer.json()["sales_count"].to_string(), answer.header("x-pulso-cache").to_owned())
    }

    pub async fn ask(&self, path: &str, control: &str) -> Answer {
        let request = Request::get(path).header("cache-control", control).body(Body::empty()).unwrap();
        let answer = self.http.send(request).await;
        assert_eq!(answer.status, 200, "{path}");
        answer
    }

    pub async fn sell(&self, store: &str, number: &str) {
        self.sql
            .execute(
                "insert into public.sales (store_id, number, sold_at, rate, totals) values ($1::text::uuid, $2, '2026-07-30 15:00-04', 40, '{\"gross_usd\": 1}')",
                &[&store, &number],
            )
            .await
            .unwrap();
    }
}

pub fn change(store: &str, day: &str) -> Value {
    json!([{"rollup": "analytics.sales_daily_totals", "keys": [{"store_id": store, "sale_date": day}]}])
}

pub fn key(db: &Db, name: &str, store: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(["key", "create", name, "--store", store])
        .env("DATABASE_URL", db.url())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `pulso serve` as a process of its own, on a port of its own, as `set` wants it; and its address, once it listens. What it says
/// goes nowhere unless `set` gives it a place.
pub fn serve(set: impl FnOnce(&mut Command) -> &mut Command) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = set(&mut command).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();
    assert!(!address.is_empty(), "pulso serve does not start");
    (process, address)
}

//! What keys are used for: counted by the service, added up in the database, shown by `pulso key list`.

use crate::common::Db;
use crate::shop::{self, BAR, DAY, GROCERY};
use axum::body::Body;
use axum::http::Request;
use pulso::serve::access::Settings as AccessSettings;
use pulso::serve::{AppState, Settings};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

fn listed(db: &Db, name: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(["key", "list", "--json"])
        .env("DATABASE_URL", db.url())
        .output()
        .unwrap();
    let keys: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    keys.as_array().unwrap().iter().find(|key| key["name"] == name).unwrap().clone()
}

fn counts(key: &Value) -> [i64; 3] {
    ["requests_30d", "refused_30d", "failed_30d"].map(|name| key[name].as_i64().unwrap())
}

#[tokio::test]
async fn each_key_is_counted_by_what_it_was_answered() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    shop::open(&sql).await;
    let (till, idle) = (crate::stage::key(&db, "till", GROCERY), crate::stage::key(&db, "idle", GROCERY));
    assert!(till != idle);
    let access = AccessSettings { per_minute: 12, ..AccessSettings::default() };
    let state = AppState::with(db.url(), Settings { access, ..Settings::default() }).unwrap();
    let http = crate::client::Client::over(state.clone());
    let ask = async |path: &str, secret: &str| {
        let request = Request::get(path).header("authorization", format!("Bearer {secret}"));
        http.send(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    let (own, other) = (format!("/v1/stores/{GROCERY}/dashboard?date={DAY}"), format!("/v1/stores/{BAR}/dashboard"));
    assert_eq!(ask(&own, &till).await, 200);
    assert_eq!(ask(&other, &till).await, 404);
    assert_eq!(ask("/metrics", &till).await, 403);
    assert_eq!(ask(&own, "pulso_nobody").await, 401, "is nobody's");
    // A batch of four, one of which is refused; then four more than the key may send.
    let paths: Vec<Value> = [&own, &own, &own, &other].iter().map(|path| json!({ "path": path })).collect();
    let batch = Request::post("/v1/batch").header("authorization", format!("Bearer {till}"));
    let batch = http.send(batch.body(Body::from(json!({ "requests": paths }).to_string())).unwrap()).await;
    assert_eq!(batch.status, 200);
    let mut limited = 0;
    for _ in 0..9 {
        limited += i64::from(ask(&own, &till).await == 429);
    }
    assert!(limited >= 1);

    // Nothing is written in a request's path.
    assert_eq!(counts(&listed(&db, "till")), [0, 0, 0]);
    assert_eq!(listed(&db, "till")["last_used_at"], Value::Null);
    let before: String = sql.query_one("select now()::text", &[]).await.unwrap().get(0);
    state.access.write_down(db.url()).await.unwrap();
    let told = listed(&db, "till");
    assert_eq!(counts(&told), [3 + 4 + 9, 1 + 1 + 1 + limited, 0], "{told}");
    let after = "select (last_used_at >= $1::text::timestamptz)::text from pulso.api_key_use where name = 'till'";
    assert_eq!(sql.query_one(after, &[&before]).await.unwrap().get::<_, String>(0), "true");
    assert_eq!(counts(&listed(&db, "idle")), [0, 0, 0]);
    state.access.write_down(db.url()).await.unwrap();
    assert_eq!(counts(&listed(&db, "till")), counts(&told), "once is enough");

    // What is older than 30 days is kept and not shown; what cannot be written waits.
    sql.batch_execute("insert into pulso.api_key_use select name, day - 30, 5, 0, 0, last_used_at - interval '30 days' from pulso.api_key_use where name = 'till'").await.unwrap();
    assert_eq!(counts(&listed(&db, "till")), counts(&told));
    ask(&own, &idle).await;
    assert!(state.access.write_down("postgresql://nobody@127.0.0.1:1/none").await.is_err());
    state.access.write_down(db.url()).await.unwrap();
    assert_eq!(counts(&listed(&db, "idle")), [1, 0, 0]);
    let text = Command::new(env!("CARGO_BIN_EXE_pulso")).args(["key", "list"]).env("DATABASE_URL", db.url()).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    assert!(text.contains("last used") && text.contains("refused"), "{text}");
    // With the key its counts go.
    sql.batch_execute("delete from pulso.api_key where name = 'till'").await.unwrap();
    state.access.write_down(db.url()).await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_told_to_stop_writes_down_what_it_counted() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let secret = crate::stage::key(&db, "till", GROCERY);
    let (mut service, address) = crate::stage::serve(|command| command.arg("--no-jobs").env("DATABASE_URL", db.url()));
    let request =
        format!("GET /v1/stores HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {secret}\r\n\r\n");
    for _ in 0..3 {
        assert!(crate::client::raw(&address, &request).await.starts_with("HTTP/1.1 200"));
    }
    let pid = nix::unistd::Pid::from_raw(service.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let began = Instant::now();
    while service.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not stop");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(counts(&listed(&db, "till")), [3, 0, 0]);
}

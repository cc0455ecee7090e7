//! How answers travel: in part, unchanged, compressed, several at once, over HTTP/2, to other origins; and what is counted.

use crate::client::Client;
use crate::common::{Db, skip};
use crate::shop::{self, DAY, GROCERY};
use axum::body::Body;
use axum::http::Request;
use pulso::serve::{AppState, Service, Settings};
use serde_json::json;
use std::process::Command;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

async fn open() -> (Db, tokio_postgres::Client) {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    shop::open(&sql).await;
    (db, sql)
}

fn dashboard() -> String {
    format!("/v1/stores/{GROCERY}/dashboard?date={DAY}")
}

#[tokio::test]
async fn an_answer_that_the_caller_has_is_not_sent_again() {
    let (db, sql) = open().await;
    let http = Client::to(db.url());
    let first = http.get(&dashboard()).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("W/\"") && first.header("cache-control") == "private, no-cache", "{tag}");
    assert!(first.header("vary").contains("authorization"));
    let with = |tag: &str| Request::get(dashboard()).header("if-none-match", tag).body(Body::empty()).unwrap();
    let same = http.send(with(&tag)).await;
    assert_eq!((same.status.as_u16(), same.body.len(), same.header("etag")), (304, 0, tag.as_str()));
    assert_eq!(http.send(with("\"other\"")).await.status, 200);
    sql.batch_execute(&format!(
        "insert into public.sales (store_id, number, sold_at, rate, totals) values ('{GROCERY}', 'new', '2026-07-30 15:00-04', 40, '{{\"gross_usd\": 1, \"total_usd\": 1}}')"
    ))
    .await
    .unwrap();
    let changed = http.send(with(&tag)).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), tag);
    let head = Request::head(dashboard()).body(Body::empty()).unwrap();
    let head = http.send(head).await;
    assert_eq!((head.status.as_u16(), head.body.len(), head.header("etag")), (200, 0, changed.header("etag")));
    assert!(http.get("/health").await.header("etag").is_empty());
    assert_eq!(http.get("/health").await.header("cache-control"), "no-store");
}

#[tokio::test]
async fn an_answer_in_part_has_the_members_asked_for() {
    let (db, _) = open().await;
    let http = Client::to(db.url());
    let part = http.get(&format!("{}&fields=net_usd,hourly.hour,yesterday.change_percent.net_usd", dashboard())).await;
    assert_eq!(part.header("content-type"), "application/vnd.pulso.partial+json");
    assert_eq!(
        part.json(),
        json!({
            "net_usd": "37.84",
            "hourly": [{"hour": "2026-07-30T09:00:00"}, {"hour": "2026-07-30T12:00:00"}, {"hour": "2026-07-30T23:00:00"}],
            "yesterday": {"change_percent": {"net_usd": "89.2"}}
        })
    );
    let stores = http.get("/v1/stores?fields=stores.name%2Cnext&limit=1").await.json();
    let next = http.get("/v1/stores?limit=1").await.json()["next"].clone();
    assert!(next.is_string());
    assert_eq!(stores, json!({"stores": [{"name": "Abasto"}], "next": next}));
    for bad in ["fields=profit", "fields=net_usd.x", "fields=", "fields=a&fields=b", "fields=%27"] {
        let answer = http.get(&format!("{}&{bad}", dashboard())).await;
        assert_eq!((answer.status.as_u16(), answer.fields()), (400, vec!["fields".to_owned()]), "{bad}");
    }
}

#[tokio::test]
async fn a_batch_answers_each_as_if_it_came_alone() {
    let (db, _) = open().await;
    let http = Client::to(db.url());
    let send = async |body: String| http.send(Request::post("/v1/batch").body(Body::from(body)).unwrap()).await;
    let unknown = "/v1/stores/00000000-0000-4000-8000-00000000ffff/dashboard";
    let paths = [
        dashboard(),
        "/v1/stores?limit=0".into(),
        unknown.into(),
        "/v1/nothing".into(),
        format!("{}&fields=net_usd", dashboard()),
    ];
    let requests: Vec<_> = paths.iter().map(|path| json!({"path": path})).collect();
    let answer = send(json!({"requests": requests}).to_string()).await;
    assert_eq!(answer.status, 200);
    let answers = answer.json();
    let answers = answers["responses"].as_array().unwrap();
    let statuses: Vec<_> = answers.iter().map(|a| a["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 400, 404, 404, 200]);
    assert_eq!(answers[0]["body"], http.get(&dashboard()).await.json());
    assert_eq!(answers[1]["body"]["errors"][0]["field"], "limit");
    assert_eq!(answers[2]["body"]["type"], "urn:pulso:problem:unknown-store");
    assert_eq!(answers[3]["body"]["type"], "urn:pulso:problem:unknown-route");
    assert_eq!(answers[4]["body"], json!({"net_usd": "37.84"}));

    let many = json!({"requests": vec![json!({"path": "/v1/stores"}); 21]}).to_string();
    for (body, field) in [
        (String::new(), "body"),
        ("[]".into(), "body"),
        ("{\"requests\": 1}".into(), "body"),
        ("{\"requests\": [], \"x\": 1}".into(), "body"),
        ("{\"requests\": []}".into(), "requests"),
        (many, "requests"),
        (json!({"requests": [{"path": "/v1/stores"}, {"path": "/metrics"}]}).to_string(), "requests[1].path"),
        (json!({"requests": [{"path": "/v1/batch"}]}).to_string(), "requests[0].path"),
        (json!({"requests": [{"path": "http://elsewhere/v1/stores"}]}).to_string(), "requests[0].path"),
        (json!({"requests": [{"path": "/v1/stores\n"}]}).to_string(), "requests[0].path"),
        ("\u{0}\u{fffd}".into(), "body"),
    ] {
        let answer = send(body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.fields()), (400, vec![field.to_owned()]), "{body}");
    }
    assert_eq!(send("x".repeat(20_000)).await.status, 413);
}

#[tokio::test]
async fn answers_are_compressed_where_the_caller_can_read_it() {
    let (db, _) = open().await;
    let http = Client::to(db.url());
    let plain = http.get(&dashboard()).await;
    for encoding in ["gzip", "br", "zstd"] {
        let request = Request::get(dashboard()).header("accept-encoding", encoding).body(Body::empty()).unwrap();
        let answer = http.send(request).await;
        assert_eq!((answer.header("content-encoding"), answer.header("etag")), (encoding, plain.header("etag")));
        assert!(answer.body.len() < plain.body.len(), "{encoding}");
        assert!(answer.headers.get_all("vary").iter().any(|v| v.to_str().unwrap().contains("accept-encoding")));
    }
    assert_eq!(plain.header("content-encoding"), "");
    let odd = Request::get("/v1/stores?limit=0").header("accept-encoding", "gzip").body(Body::empty()).unwrap();
    assert_eq!(http.send(odd).await.status, 400);
}

#[tokio::test]
async fn http_2_is_spoken_without_a_proxy() {
    let (db, _) = open().await;
    let stop = CancellationToken::new();
    let state = AppState::new(db.url(), 2, 8).unwrap();
    let service = Service::start(state, "127.0.0.1:0".parse().unwrap(), stop.clone()).await.unwrap();
    let url = format!("{}/v1/stores", service.url());
    let curl = |flag: &'static str| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            Command::new("curl")
                .args(["-sS", flag, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", &url])
                .output()
        })
    };
    let Ok(two) = curl("--http2-prior-knowledge").await.unwrap() else { return skip("curl is not here") };
    if String::from_utf8_lossy(&two.stderr).contains("does not support") {
        return skip("this curl does not know HTTP/2");
    }
    assert_eq!(String::from_utf8_lossy(&two.stdout), "2 200", "{two:?}");
    let one = curl("--http1.1").await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&one.stdout), "1.1 200");
    stop.cancel();
    service.finished().await.unwrap();
}

#[tokio::test]
async fn other_origins_ask_only_when_they_are_named() {
    let (db, _) = open().await;
    let preflight = |origin: &str| {
        Request::options("/v1/stores")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization")
            .body(Body::empty())
            .unwrap()
    };
    let closed = Client::to(db.url());
    assert_eq!(closed.send(preflight("https://panel.example")).await.status, 405);
    let answer = closed.get("/v1/stores").await;
    for (header, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(answer.header(header), value, "{header}");
    }
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let cors = vec!["https://panel.example".parse().unwrap()];
    let open = Client::over(AppState::with(db.url(), Settings { cors, ..Settings::default() }).unwrap());
    let named = open.send(preflight("https://panel.example")).await;
    assert_eq!((named.status.as_u16(), named.header("access-control-allow-origin")), (200, "https://panel.example"));
    assert!(named.header("access-control-allow-headers").contains("authorization"));
    assert_eq!(open.send(preflight("https://evil.example")).await.header("access-control-allow-origin"), "");
    let wrong =
        Request::get("/v1/stores?limit=0").header("origin", "https://panel.example").body(Body::empty()).unwrap();
    let wrong = open.send(wrong).await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.header("access-control-allow-origin")),
        (400, "https://panel.example"),
        "a page may read why"
    );
}

/// The value of a sample.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[tokio::test]
async fn what_the_service_does_is_counted() {
    let (db, sql) = open().await;
    sql.batch_execute("create materialized view analytics.seen as select 1 as x; select pulso.refresh_view('analytics.seen'); update pulso.job set failed_count = 7, paused = true where name = 'verify_rollups'").await.unwrap();
    let state = AppState::with(db.url(), Settings { slow: Duration::ZERO, ..Settings::default() }).unwrap();
    let http = Client::over(state);
    for _ in 0..3 {
        assert_eq!(http.get(&dashboard()).await.status, 200);
    }
    http.get("/v1/stores?limit=0").await;
    http.get("/favicon.ico").await;
    let answer = http.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = String::from_utf8(answer.body).unwrap();
    for (name, value) in [
        (
            "pulso_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/stores/{id}/dashboard\",status=\"200\"}",
            3.0,
        ),
        ("pulso_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/stores\",status=\"400\"}", 1.0),
        ("pulso_http_request_duration_seconds_count{method=\"GET\",route=\"none\",status=\"404\"}", 1.0),
        ("pulso_http_slow_requests_total{route=\"/v1/stores/{id}/dashboard\"}", 3.0),
        ("pulso_statement_duration_seconds_count{statement=\"dashboards\"}", 3.0),
        ("pulso_http_requests_in_flight", 1.0),
        ("pulso_pool_connections{state=\"max\"}", 8.0),
        ("pulso_database_up", 1.0),
        ("pulso_job_runs_total{job=\"verify_rollups\",outcome=\"failed\"}", 7.0),
        ("pulso_job_paused{job=\"verify_rollups\"}", 1.0),
        ("pulso_view_staleness_seconds{name=\"analytics.sales_hourly\",kind=\"rollup\"}", 0.0),
        ("pulso_view_wrong{name=\"analytics.seen\",kind=\"materialized view\"}", 0.0),
    ] {
        assert_eq!(sample(&text, name), Some(value), "{name} in\n{text}");
    }
    assert!(
        sample(&text, "pulso_view_staleness_seconds{name=\"analytics.seen\",kind=\"materialized view\"}").unwrap()
            < 60.0
    );
    assert!(sample(&text, "pulso_rollup_pending_changes{name=\"analytics.sales_hourly\",kind=\"rollup\"}").is_some());
    crate::observe::is_by_the_conventions(&text);

    let views = http.get("/v1/freshness").await.json()["views"].clone();
    let of = |name: &str| views.as_array().unwrap().iter().find(|view| view["name"] == name).cloned().unwrap();
    assert_eq!(of("analytics.sales_hourly")["staleness_seconds"], 0);
    assert!(
        of("analytics.seen")["staleness_seconds"].as_i64().unwrap() < 60 && of("analytics.seen")["detail"].is_null()
    );

    let away = Client::to("postgresql://nobody@127.0.0.1:1/none");
    let answer = away.get("/metrics").await;
    assert_eq!(answer.status, 503, "whether there are keys is not known then");
}

//! How the service behaves when it is asked wrongly, and what it says of itself.

use crate::client::Client;
use crate::common::Db;
use crate::shop::{self, GROCERY};
use axum::body::Body;
use axum::http::Request;
use std::collections::BTreeSet;

#[tokio::test]
async fn a_malformed_request_is_refused_by_the_name_of_its_field() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let http = Client::to(db.url());
    let s = format!("/v1/stores/{GROCERY}");
    let cases: Vec<(String, &[&str])> = vec![
        ("/v1/stores?limit=0".into(), &["limit"]),
        ("/v1/stores?limit=501".into(), &["limit"]),
        ("/v1/stores?limit=1e2".into(), &["limit"]),
        ("/v1/stores?after=abc".into(), &["after"]),
        ("/v1/stores?page=2".into(), &["page"]),
        ("/v1/stores?after=%00".into(), &["after"]),
        ("/v1/stores/1/dashboard".into(), &["id"]),
        ("/v1/stores/%7B00000000-0000-4000-8000-000000000001%7D/dashboard".into(), &["id"]),
        ("/v1/stores/%ff/dashboard".into(), &["id"]),
        ("/v1/stores/'; drop table sales; --/dashboard".replace(' ', "%20"), &["id"]),
        (format!("{s}/dashboard?date=2026-02-29"), &["date"]),
        (format!("{s}/dashboard?date=20260730"), &["date"]),
        (format!("{s}/dashboard?date=today"), &["date"]),
        (format!("{s}/dashboard?date="), &["date"]),
        (format!("{s}/dashboard?date=9999-12-31"), &["date"]),
        (format!("{s}/dashboard?date=2026-07-30&date=2026-07-30"), &["date"]),
        (format!("{s}/dashboard?Date=2026-07-30"), &["Date"]),
        (format!("{s}/sales?grain=year"), &["grain"]),
        (format!("{s}/sales?grain=DAY"), &["grain"]),
        (format!("{s}/sales?from=x&to=y&grain=z&w=1"), &["grain", "from", "to", "w"]),
        (format!("{s}/sales?from=2026-07-31&to=2026-07-30"), &["from"]),
        (format!("{s}/sales?from=2999-01-01"), &["from"]),
        (format!("{s}/sales?grain=hour&from=2026-07-01&to=2026-08-01"), &["from"]),
        (format!("{s}/sales?grain=day&from=2020-01-01&to=2026-01-01"), &["from"]),
        (format!("{s}/sales?grain=week&from=2010-01-01&to=2026-01-01"), &["from"]),
        (format!("{s}/sales?grain=month&from=1900-01-01&to=2999-12-31"), &["from"]),
        (format!("{s}/products/top?by=profit"), &["by"]),
        (format!("{s}/products/top?limit=101"), &["limit"]),
        (format!("{s}/products/top?limit=-1"), &["limit"]),
        (format!("{s}/products/top?from=2020-01-01&to=2026-01-01"), &["from"]),
    ];
    for (path, fields) in cases {
        let answer = http.get(&path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.fields(), fields, "{path}");
        let document = answer.problem();
        assert_eq!(document["type"], "urn:pulso:problem:invalid-request");
        assert_eq!(document["instance"], path.split('?').next().unwrap());
    }
}

#[tokio::test]
async fn the_longest_ranges_are_served() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let http = Client::to(db.url());
    for (query, periods) in [
        ("sales?grain=hour&from=2026-07-01&to=2026-07-31", 31 * 24),
        ("sales?grain=day&from=2023-07-31&to=2026-07-30", 1096),
        ("sales?grain=week&from=2021-08-02&to=2026-07-26", 260),
        ("sales?grain=month&from=2016-08-01&to=2026-07-31", 120),
    ] {
        let answer = http.get(&format!("/v1/stores/{GROCERY}/{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        assert_eq!(answer.json()["periods"].as_array().unwrap().len(), periods, "{query}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_same_form() {
    let db = Db::migrated().await;
    let http = Client::to(db.url());
    let unknown = "00000000-0000-4000-8000-00000000ffff";
    for path in ["dashboard", "sales", "products/top"] {
        let answer = http.get(&format!("/v1/stores/{unknown}/{path}")).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.problem()["type"], "urn:pulso:problem:unknown-store");
    }
    for path in ["/v1", "/v1/stores/", "/v2/stores", "/favicon.ico", "//", "/v1/stores/x"] {
        let answer = http.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.problem()["type"], "urn:pulso:problem:unknown-route");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = http.send(Request::builder().method(method).uri("/v1/stores").body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), "GET,HEAD");
        answer.problem();
    }
    let large =
        Request::get("/v1/stores").header("content-length", "99999").body(Body::from(vec![b'x'; 99_999])).unwrap();
    let answer = http.send(large).await;
    assert_eq!(answer.status, 413);
    answer.problem();
}

#[tokio::test]
async fn a_request_id_is_echoed_where_it_is_fit_for_a_log() {
    let db = Db::empty().await;
    let http = Client::to(db.url());
    let with = |id: &str| Request::get("/health").header("x-request-id", id).body(Body::empty()).unwrap();
    assert_eq!(http.send(with("caja-7.42_b")).await.header("x-request-id"), "caja-7.42_b");
    for unfit in ["", "a b", "x=1", &"a".repeat(129)] {
        assert_eq!(http.send(with(unfit)).await.header("x-request-id").len(), 36, "{unfit:?}");
    }
}

#[tokio::test]
async fn the_openapi_document_lists_each_route_and_what_it_may_answer() {
    let document: serde_json::Value = serde_json::from_str(&pulso::serve::openapi_json().unwrap()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    let listed: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    let routes = BTreeSet::from([
        "/",
        "/health",
        "/metrics",
        "/openapi.json",
        "/ready",
        "/v1/batch",
        "/v1/chain",
        "/v1/freshness",
        "/v1/live",
        "/v1/stores",
        "/v1/stores/{id}/cashiers",
        "/v1/stores/{id}/categories",
        "/v1/stores/{id}/customers",
        "/v1/stores/{id}/dashboard",
        "/v1/stores/{id}/heatmap",
        "/v1/stores/{id}/inventory",
        "/v1/stores/{id}/payments",
        "/v1/stores/{id}/customers/rfm",
        "/v1/stores/{id}/products/abc",
        "/v1/stores/{id}/products/affinity",
        "/v1/stores/{id}/products/top",
        "/v1/stores/{id}/sales",
        "/v1/stores/{id}/sales/breakdown",
    ]);
    assert_eq!(listed, routes);
    for (path, item) in paths {
        let get = if path == "/v1/batch" { &item["post"] } else { &item["get"] };
        assert!(get["operationId"].is_string() && get["summary"].is_string(), "{path}");
        let responses = get["responses"].as_object().unwrap();
        assert!(responses.contains_key("200"), "{path}");
        if path.starts_with("/v1") {
            assert_eq!(get["security"], serde_json::json!([{"bearer": []}]), "{path}");
            for status in ["400", "401", "403", "429", "500", "503", "504"] {
                assert!(
                    responses[status]["content"]["application/problem+json"]["example"].is_object(),
                    "{path} {status}"
                );
            }
            assert_eq!(responses.contains_key("404"), path.contains("{id}"), "{path}");
        }
        for parameter in get["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{path} {}", parameter["name"]);
            if parameter["name"] == "limit" {
                assert!(parameter["schema"]["minimum"].is_number() && parameter["schema"]["maximum"].is_number());
            }
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    let db = Db::empty().await;
    let served = Client::to(db.url()).get("/openapi.json").await;
    assert_eq!((served.header("content-type"), served.json()), ("application/json", document));
}

/// Each schema as a document of its own, so that references in it lead somewhere.
fn checks(document: &serde_json::Value, schema: &serde_json::Value) -> jsonschema::Validator {
    let mut whole = schema.clone();
    if let Some(members) = whole.as_object_mut() {
        members.insert("components".to_owned(), document["components"].clone());
    }
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&whole)
        .unwrap_or_else(|error| panic!("{error} in {schema}"))
}

#[test]
fn every_operation_of_the_document_has_examples_that_its_schemas_accept() {
    let document: serde_json::Value = serde_json::from_str(&pulso::serve::openapi_json().unwrap()).unwrap();
    let (mut seen, mut operations) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let bodies =
                operation["responses"].as_object().unwrap().iter().map(|(status, answer)| (status.as_str(), answer));
            for (what, answer) in bodies.chain([("body", &operation["requestBody"])]) {
                for (kind, media) in answer["content"].as_object().into_iter().flatten() {
                    if !kind.ends_with("json") {
                        continue;
                    }
                    let example =
                        media.get("example").unwrap_or_else(|| panic!("{method} {path} {what} {kind} has no example"));
                    let wrong: Vec<String> = checks(&document, &media["schema"])
                        .iter_errors(example)
                        .map(|error| format!("{}: {error}", error.instance_path))
                        .collect();
                    assert!(wrong.is_empty(), "{method} {path} {what}: {wrong:?} in {example}");
                    seen += 1;
                }
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if let Some(example) = parameter.get("example") {
                    assert!(checks(&document, &parameter["schema"]).is_valid(example), "{path} {}", parameter["name"]);
                }
            }
        }
    }
    assert!(operations >= 20 && seen >= 150, "{operations} operations, {seen} examples");
    // What is wrong is found.
    let schema = serde_json::json!({"$ref": "#/components/schemas/Dashboard"});
    assert!(!checks(&document, &schema).is_valid(&serde_json::json!({"store_id": 1})));
}

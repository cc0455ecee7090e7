//! The OpenAPI document against the service, by schemathesis: what a client may send by it, and what it may not.
//!
//! It is a Python program: `PULSO_SCHEMATHESIS` names it, else pip installs it once beside the build. Where neither can be, the test is skipped and says so.

use crate::client::Client;
use crate::common::{Db, Scratch, long, python_program, skip};
use crate::shop::{self, BAR, GROCERY};
use pulso::serve::access::{Mode, Settings as AccessSettings};
use pulso::serve::{AppState, Service, Settings};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tokio_util::sync::CancellationToken;

const VERSION: &str = "schemathesis==4.32.5";

/// In `home`: it leaves files where it runs.
fn run(program: &Path, args: &[&str], home: &Path) -> Result<Output, String> {
    let output = Command::new(program).args(args).current_dir(home).stdin(Stdio::null()).output();
    output.map_err(|error| error.to_string())
}

/// The document, with the shops that there are for the ids that a client would know.
fn document_of_these_shops() -> Value {
    let mut document: Value = serde_json::from_str(&pulso::serve::openapi_json().unwrap()).unwrap();
    let items = document["paths"].as_object_mut().unwrap().values_mut();
    let parameters = items.filter_map(|item| item.get_mut("get")?.get_mut("parameters")?.as_array_mut()).flatten();
    for parameter in parameters.filter(|parameter| parameter["name"] == "id") {
        parameter["schema"]["enum"] = json!([GROCERY, BAR]);
    }
    document
}

/// By some processes at once, which make requests of their own, each at most so many for an operation: schemathesis has one
/// processor at most.
async fn conforms(processes: u64, examples: u32, seconds: u32, at_least: u32) {
    let program = match tokio::task::spawn_blocking(|| python_program("schemathesis", VERSION)).await.unwrap() {
        Ok(program) => program,
        Err(reason) => return skip(&format!("schemathesis is not here: {reason}")),
    };
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let key = Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(["key", "create", "tester", "--all-stores", "--role", "admin"])
        .env("DATABASE_URL", db.url())
        .output()
        .unwrap();
    let header = format!("Authorization: Bearer {}", String::from_utf8(key.stdout).unwrap().trim());
    let access = AccessSettings { mode: Mode::Required, ..AccessSettings::default() };
    let state = AppState::with(db.url(), Settings { access, ..Settings::default() }).unwrap();
    let stop = CancellationToken::new();
    let service = Service::start(state.clone(), "127.0.0.1:0".parse().unwrap(), stop.clone()).await.unwrap();
    let dir = Scratch::new();
    let document = dir.0.join("openapi.json");
    std::fs::write(&document, document_of_these_shops().to_string()).unwrap();
    let first: u64 = rand::random_range(0..1 << 32);
    let runs = (first..first + processes).map(|seed| {
        let (program, document, url, header, home) =
            (program.clone(), document.clone(), service.url(), header.clone(), Scratch::new());
        tokio::task::spawn_blocking(move || {
            let (seed, examples, seconds) = (seed.to_string(), examples.to_string(), seconds.to_string());
            let args = [
                "run",
                document.to_str().unwrap(),
                "--url",
                &url,
                "--header",
                &header,
                "--no-color",
                "--continue-on-failure",
                "--checks",
                "all",
                // Dates may be well-formed and no range; that is a 400 by design.
                "--exclude-checks",
                "positive_data_acceptance",
                // A stream does not end.
                "--exclude-path",
                "/v1/live",
                "--max-examples",
                &examples,
                "--seed",
                &seed,
                "--generation-database",
                "none",
                "--request-timeout",
                "20",
                "--max-time",
                &seconds,
            ];
            run(&program, &args, &home.0).unwrap()
        })
    });
    let mut cases = 0;
    for output in futures_util::future::join_all(runs).await {
        let output = output.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}");
        println!("{said}");
        let generated = said.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse::<u32>().ok());
        cases += generated.unwrap_or_else(|| panic!("{said}"));
        assert!(!said.contains("Authentication failed"), "{said}");
    }
    assert!(cases >= at_least, "{cases} requests");
    assert_eq!(Client::over(state).get("/health").await.status, 200);
    stop.cancel();
    service.finished().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_is_as_its_document_says() {
    conforms(1, 40, 150, 2000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_is_as_its_document_says_for_fifty_thousand_requests() {
    if long() {
        conforms(2, 1250, 3600, 50_000).await;
    }
}

//! Random queries by sqlsmith, of an ordinary role, in a database with rollups: the server outlives them, and the rollups
//! are what they were.

use crate::common::{Db, long, skip};
use crate::joins::{SCHEMA, all_equal, create_all};
use std::process::Stdio;

const QUERIES: u32 = 20_000;

#[tokio::test]
async fn twenty_thousand_random_queries_crash_nothing() {
    if !long() {
        return;
    }
    if tokio::process::Command::new("sqlsmith").arg("--version").stdout(Stdio::null()).status().await.is_err() {
        skip("there is no sqlsmith (Debian: apt-get install sqlsmith)");
        return;
    }
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(SCHEMA).await.unwrap();
    create_all(&client).await;
    client
        .batch_execute(
            "drop role if exists smith_ordinary; create role smith_ordinary login;
             grant select, insert, update, delete on all tables in schema public to smith_ordinary;
             alter role smith_ordinary set statement_timeout = '1s'",
        )
        .await
        .unwrap();
    let url = db.url().replace("user=postgres", "user=smith_ordinary");
    let status = tokio::process::Command::new("sqlsmith")
        .args([format!("--target={url}"), format!("--max-queries={QUERIES}"), "--seed=1".to_owned()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(status.success(), "sqlsmith: {status}");
    // A crash of any process would have ended this session, too.
    client.batch_execute("select 1").await.expect("no process has crashed");
    all_equal(&client, "after the queries").await;
    client.batch_execute("select pulso.fold()").await.unwrap();
    all_equal(&client, "folded").await;
    client.batch_execute("drop owned by smith_ordinary; drop role smith_ordinary").await.unwrap();
}

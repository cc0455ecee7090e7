//! `pulso rollup`: the binary itself, its words and exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Db;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio_postgres::Client;

const QUERY: &str = "select store, count(*) as n, sum(amount) as total from public.s group by store";

async fn shop() -> (Db, Client) {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create extension pulso; create table s (id bigint generated always as identity primary key, store int, amount numeric, padding text);
             insert into s (store, amount, padding) select i % 3, i, repeat('x', 400) from generate_series(1, 3000) i;
             create function slow(int) returns int language plpgsql immutable as $f$ begin perform pg_sleep(0.001); return $1; end $f$",
        )
        .await
        .unwrap();
    (db, client)
}

fn command(db: &Db, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    command.arg("rollup").args(args).env("DATABASE_URL", db.url()).stdin(Stdio::null());
    command
}

fn pulso(db: &Db, args: &[&str]) -> Output {
    command(db, args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

#[tokio::test]
async fn a_rollups_whole_life() {
    let (db, client) = shop().await;
    assert!(stdout(&pulso(&db, &["list"])).contains("there are no rollups"));
    let made = stdout(&pulso(&db, &["create", "r", "--query", QUERY]));
    assert!(made.contains("public.r is live: 3 groups"), "{made}");
    client.batch_execute("insert into s (store, amount) values (1, 1)").await.unwrap();
    assert_eq!(json(&pulso(&db, &["verify", "--json"])), serde_json::json!([{"name": "public.r", "differences": 0}]));
    let listed = json(&pulso(&db, &["list", "--json"]));
    assert_eq!(
        (&listed[0]["name"], &listed[0]["live"], &listed[0]["source"]),
        (&"r".into(), &true.into(), &"s".into())
    );
    let table = stdout(&pulso(&db, &["list"]));
    assert!(table.contains("live") && table.contains("pending"), "{table}");
    assert!(stdout(&pulso(&db, &["fold"])).contains("changes folded"));

    client.batch_execute("update pulso.r_1_base set n = n + 1 where k1 = 1").await.unwrap();
    assert!(pulso(&db, &["verify", "r", "--where", "store = 2"]).status.success());
    let wrong = pulso(&db, &["verify", "public.r", "--where", "store = 1"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("pulso rollup repair public.r"));
    assert_eq!(json(&pulso(&db, &["repair", "public.r", "--json"]))["groups"], 3);
    assert!(stdout(&pulso(&db, &["verify"])).contains("public.r equals its query"));

    let longer = QUERY.replace(" from", ", count(*) filter (where amount > 9) as large from");
    let file = std::env::temp_dir().join(format!("pulso-rollup-{}.sql", std::process::id()));
    std::fs::write(&file, format!("{longer};\n")).unwrap();
    stdout(&pulso(&db, &["alter", "public.r", "--file", file.to_str().unwrap(), "--no-build"]));
    assert_eq!(json(&pulso(&db, &["list", "--json"])).as_array().unwrap().len(), 2, "the old one and the next");
    stdout(&pulso(&db, &["build", "public.r"]));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(client.query("select large from r", &[]).await.unwrap().len(), 3);
    assert!(stdout(&pulso(&db, &["explain", "public.r"])).contains("-- fold\nwith moved as"));
    assert!(stdout(&pulso(&db, &["drop", "public.r"])).contains("is dropped"));
    assert_eq!(json(&pulso(&db, &["list", "--json"])).as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn errors_name_the_cure() {
    let (db, _client) = shop().await;
    for (args, code, text) in [
        (vec!["build", "nothing"], 1, "pulso rollup list"),
        (vec!["create", "a.b.c", "--query", QUERY], 2, "schema.name"),
        (vec!["create", "r"], 2, "--query"),
        (vec!["create", "r", "--file", "/nowhere/q.sql"], 2, "/nowhere/q.sql"),
        (vec!["create", "r", "--query", "select store from s"], 1, "0A000"),
        (vec!["alter", "r", "--query", QUERY], 1, "there is no rollup r"),
    ] {
        let output = pulso(&db, &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(text), "{args:?}: {said}");
    }
    let bare = Db::empty().await;
    let output = pulso(&bare, &["list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("create extension pulso"));
    bare.connect().await.batch_execute("create extension pulso version '0.1.0'").await.unwrap();
    let output = pulso(&bare, &["list"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("alter extension pulso update"));
}

/// Ctrl-C while it builds: the server undoes it before the command ends, and it can be done again.
#[tokio::test]
async fn an_interrupted_build_leaves_nothing_half_done() {
    let (db, client) = shop().await;
    let slow = QUERY.replace("select store,", "select public.slow(store) as store,").replace("by store", "by 1");
    stdout(&pulso(&db, &["create", "public.r", "--query", &slow, "--no-build"]));
    for function in ["build", "repair"] {
        let child =
            command(&db, &[function, "public.r"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut seen = false;
        for _ in 0..500 {
            seen = client
                .query_one("select exists (select from pulso.progress where blocks_done > 0)", &[])
                .await
                .unwrap()
                .get(0);
            if seen {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(seen, "{function} shows no progress");
        let listed = stdout(&pulso(&db, &["list"]));
        assert!(listed.contains("building, "), "{listed}");
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        let row = client
            .query_one("select live, reason, (select count(*) from pulso.progress), (select count(*) from pulso.r_1_base) from pulso.rollups", &[])
            .await
            .unwrap();
        assert!(!row.get::<_, bool>(0));
        assert_eq!((row.get::<_, &str>(1), row.get::<_, i64>(2), row.get::<_, i64>(3)), ("not built yet", 0, 0));
    }
    assert!(stdout(&pulso(&db, &["build", "public.r"])).contains("3 groups"));
    stdout(&pulso(&db, &["verify"]));
}

/// A writer that keeps its transaction open for a while: the command waits, and nobody waits for the command.
#[tokio::test]
async fn create_waits_for_open_writers_without_holding_up_others() {
    let (db, client) = shop().await;
    let other = db.connect().await;
    client.batch_execute("begin; insert into s (store, amount) values (1, 1)").await.unwrap();
    let child = command(&db, &["create", "public.r", "--query", QUERY])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    other.batch_execute("set lock_timeout = '300ms'").await.unwrap();
    let pauses = common::Pauses::watch();
    let mut sold = 0;
    while sold < 100 {
        match other.batch_execute("insert into s (store, amount) values (2, 2)").await {
            Ok(()) => sold += 1,
            Err(error) => {
                let refused = error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE);
                assert!(refused && pauses.explain(), "{error:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.batch_execute("commit").await.unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(stdout(&output).contains("3 groups"), "{output:?}");
    stdout(&pulso(&db, &["verify", "public.r"]));
}

//! `pulso.toml`, the environment and the flags, through the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Db, Scratch};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

const PASSWORD: &str = "hunter2";

/// The program in a directory of its own, with nothing of this machine's settings.
fn pulso(home: &Scratch, args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    command.args(args).current_dir(&home.0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PULSO_") || name == "DATABASE_URL") {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

fn said(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(PASSWORD), "a secret is shown: {text}");
    text
}

fn write(home: &Scratch, text: &str) {
    std::fs::write(home.0.join("pulso.toml"), text).unwrap();
}

fn shown(home: &Scratch, variables: &[(&str, &str)]) -> impl Fn(&str) -> (String, String) {
    let output = pulso(home, &["config", "show", "--json"], variables).output().unwrap();
    let text = said(&output);
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    move |setting| {
        let one = all.iter().find(|one| one["setting"] == setting).unwrap_or_else(|| panic!("no {setting} in {all:?}"));
        (one["value"].as_str().unwrap().to_owned(), one["from"].as_str().unwrap().to_owned())
    }
}

fn pair(value: &str, from: &str) -> (String, String) {
    (value.to_owned(), from.to_owned())
}

#[test]
fn the_file_comes_after_the_environment_and_before_what_is_built_in() {
    let home = Scratch::new();
    write(
        &home,
        "database_url = \"postgresql://shop:hunter2@db.example/pos\"\n\n[serve]\npool_size = 12\nslow_ms = 70\ncors-origin = [\"https://a.example\", \"https://b.example\"]\n[worker]\nconcurrency = 3\n",
    );
    let setting =
        shown(&home, &[("PULSO_SLOW_MS", "90"), ("PULSO_DIRECT_URL", "postgresql://u:hunter2@direct.example/x")]);
    assert_eq!(setting("serve.pool_size"), pair("12", "pulso.toml:4"));
    assert_eq!(setting("serve.slow_ms"), pair("90", "PULSO_SLOW_MS"));
    assert_eq!(setting("serve.max_in_flight"), pair("1024", "default"));
    assert_eq!(setting("serve.cors_origin"), pair("https://a.example, https://b.example", "pulso.toml:6"));
    assert_eq!(setting("worker.concurrency"), pair("3", "pulso.toml:8"));
    assert_eq!(setting("database_url"), pair("user=shop host=db.example dbname=pos password=(set)", "pulso.toml:1"));
    assert_eq!(setting("direct_url"), pair("user=u host=direct.example dbname=x password=(set)", "PULSO_DIRECT_URL"));
    assert_eq!(setting("serve.jwks"), pair("", "not set"));
    let standbys = [("PULSO_READ_URLS", "postgresql://u:hunter2@a.example/pos,postgresql://u:hunter2@b.example/pos")];
    let setting = shown(&home, &standbys);
    let both = "user=u host=a.example dbname=pos password=(set), user=u host=b.example dbname=pos password=(set)";
    assert_eq!(setting("read_url"), pair(both, "PULSO_READ_URLS"));
    assert_eq!(setting("serve.max_replica_lag"), pair("2s", "default"));
    let output = pulso(&home, &["config", "check"], &[]).output().unwrap();
    assert!(output.status.success() && said(&output).contains("are good"), "{}", said(&output));
}

#[tokio::test]
async fn a_flag_comes_first() {
    let db = Db::migrated().await;
    let home = Scratch::new();
    write(&home, &format!("database_url = {:?}\n[serve]\nlisten = \"127.0.0.1:1\"\n", db.url()));
    let run = |args: &[&str], variables: &[(&str, &str)]| pulso(&home, args, variables).spawn().unwrap();
    // Nothing listens on 127.0.0.2 but what asks for it.
    for (args, variables, expected) in [
        (&["serve", "--listen", "127.0.0.3:0"][..], &[("PULSO_LISTEN", "127.0.0.2:0")][..], "http://127.0.0.3:"),
        (&["serve"], &[("PULSO_LISTEN", "127.0.0.2:0")], "http://127.0.0.2:"),
    ] {
        let mut service = run(args, variables);
        let mut line = String::new();
        BufReader::new(service.stdout.take().unwrap()).read_line(&mut line).unwrap();
        service.kill().unwrap();
        service.wait().unwrap();
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}

#[test]
fn what_is_wrong_is_named_and_nothing_starts() {
    let home = Scratch::new();
    write(&home, "[serve]\npol_size = 3\nrate_limit = \"many\"\n");
    let output = pulso(&home, &["config", "check"], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains("line 2: there is no key serve.pol_size; is it pool_size?"), "{text}");
    assert!(text.contains("line 3: serve.rate_limit: invalid value 'many'"), "{text}");
    let output = pulso(&home, &["serve"], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("pulso.toml cannot be used") && said(&output).contains("pol_size"),
        "{}",
        said(&output)
    );
    // What only the command itself can know: a file that is named and not there, a time zone.
    write(&home, "[serve]\njwks = \"/nowhere/keys.json\"\n");
    let output = pulso(&home, &["config", "check", "--json"], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("/nowhere/keys.json"), "{}", said(&output));
    // The environment too.
    write(&home, "");
    let output = pulso(&home, &["config", "check"], &[("PULSO_POOL_SIZE", "0")]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--pool-size"), "{}", said(&output));
    // Standbys, each by its URL.
    write(&home, "read_url = [\"postgresql://a.example/pos\", \"nonsense\"]\n");
    let output = pulso(&home, &["config", "check"], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("PULSO_READ_URLS"), "{}", said(&output));
    write(&home, "read_url = [\"postgresql://a.example/pos\"]\n[serve]\nmax_replica_lag = \"5m\"\n");
    let output = pulso(&home, &["config", "check"], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("line 3: serve.max_replica_lag: invalid value '5m'"), "{}", said(&output));
    write(&home, "");
    // A file that is named has to be there.
    let output = pulso(&home, &["--config", "other.toml", "config", "check"], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("other.toml cannot be read"), "{}", said(&output));
}

#[test]
fn no_message_shows_a_secret() {
    let home = Scratch::new();
    for url in [
        "postgresql://shop:hunter2@127.0.0.1:1/pos",
        "postgresql://shop:hunter2@127.0.0.1:port/pos",
        "postgresql://shop:hunter2@[::1/pos",
        "postgresql://shop:hunter2@/pos?hunter2=hunter2",
        "password=hunter2 host=",
        "host=x password='hunter2",
        "hunter2",
    ] {
        for args in
            [&["doctor"][..], &["serve"], &["config", "check"], &["config", "show"], &["key", "list"], &["--help"]]
        {
            let output =
                pulso(&home, args, &[("DATABASE_URL", url), ("PULSO_DIRECT_URL", url), ("PULSO_LOG", "trace")])
                    .output()
                    .unwrap();
            said(&output);
            said(&pulso(&home, args, &[("DATABASE_URL", "host=/nowhere"), ("PULSO_READ_URLS", url)]).output().unwrap());
            assert!(args.contains(&"config") || args.contains(&"--help") || !output.status.success(), "{args:?}");
            write(&home, &format!("database_url = {url:?}\nx = {url:?}\n"));
            said(&pulso(&home, args, &[]).output().unwrap());
            write(&home, "");
        }
    }
}

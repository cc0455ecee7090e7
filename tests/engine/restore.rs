//! Dumps, upgrades of the server and standbys bring rollups along: live where that can be, exact in any case.

use crate::assert_equal;
use crate::common::{Db, Scratch, cluster};
use nix::unistd::{Uid, User, chown};
use pulso::cluster::{Cluster, Options};
use pulso::db;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio_postgres::Client;

const HEADERS: &str = "select store, date_trunc('hour', at) as hour, count(*) as n, sum(total) as total, avg(total::numeric(12, 2)) as mean from shop.ticket where store > 0 group by 1, 2";
const LINES: &str = "select product, count(*) as n, sum(qty) as units from shop.line group by 1";
const JOINED: &str = "select t.store, count(*) as n, sum(l.qty) as units from shop.line l join shop.ticket t on t.id = l.ticket group by 1";
const ROLLUPS: [(&str, &str); 3] = [("shop.headers", HEADERS), ("shop.\"líneas\"", LINES), ("shop.joined", JOINED)];

/// A shop whose rollups have folded groups, pending deltas, a pending void, and one that is not built.
async fn fill(client: &Client) {
    client
        .batch_execute(
            "create extension pulso; create schema shop;
             create table shop.ticket (id bigint primary key, store int, at timestamp, total numeric);
             create table shop.line (ticket bigint not null references shop.ticket on delete cascade, product int, qty int);
             insert into shop.ticket select i, i % 3, timestamp '2026-01-01' + i * interval '7 min', i * 1.25 from generate_series(1, 500) i;
             insert into shop.line select i, i % 7, i % 4 from generate_series(1, 500) i",
        )
        .await
        .unwrap();
    for (name, query) in ROLLUPS {
        client.execute("select pulso.create_rollup($1, $2)", &[&name, &query]).await.unwrap();
    }
    client
        .batch_execute(&format!(
            "create view shop.report as select store, sum(n) as n from shop.headers group by store;
             select pulso.create_rollup('shop.unbuilt', $${LINES}$$, false)"
        ))
        .await
        .unwrap();
    client.batch_execute("insert into shop.ticket values (1001, 1, '2026-01-02', 5), (1002, 2, '2026-01-02', 'NaN'); insert into shop.line values (1001, 1, 1); select pulso.fold()").await.unwrap();
    // Held open by a hole in the folding, so that they are still pending in the dump.
    client.batch_execute("insert into shop.ticket values (1003, 1, '2026-01-03', 5); delete from shop.ticket where id = 7; update shop.ticket set total = 3 where id = 1002").await.unwrap();
}

/// All rollups are exact, stay so under writes and folds, and are what they were.
async fn check(client: &Client, live: bool, when: &str) {
    for (name, query) in ROLLUPS {
        assert_equal(client, name, query, when).await;
    }
    let rows = client.query("select name, live, reason from pulso.rollups order by id", &[]).await.unwrap();
    let states: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let reasons: Vec<Option<String>> = rows.iter().map(|row| row.get(2)).collect();
    let expected =
        ROLLUPS.map(|(name, _)| (name.to_owned(), live)).into_iter().chain([("shop.unbuilt".to_owned(), false)]);
    assert_eq!(states, expected.collect::<Vec<_>>(), "{when}: {reasons:?}");
    for (step, statement) in [
        "insert into shop.ticket values (2001, 2, '2026-02-01', 9); insert into shop.line values (2001, 3, 3), (2001, 4, 1)",
        "select pulso.fold()",
        "update shop.ticket set store = 1 where id % 5 = 0; delete from shop.ticket where id = 1001",
        "select pulso.fold()",
        "begin; truncate shop.line; rollback",
    ]
    .into_iter()
    .enumerate()
    {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{when}: {statement}: {error:?}"));
        for (name, query) in ROLLUPS {
            assert_equal(client, name, query, &format!("{when}, at step {step}")).await;
        }
    }
    client.batch_execute("select pulso.build('shop.unbuilt')").await.unwrap();
    assert_equal(client, "shop.unbuilt", LINES, when).await;
}

/// Runs a program of the server's own version; `stdin` is a file.
fn run(program: &Path, args: &[&str]) {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // pg_dump breaks a loop of dependencies where it likes, and says so.
    let is_clean = !said.contains("ERROR") && !said.contains("loop");
    assert!(output.status.success() && is_clean, "{} {args:?}: {said}", program.display());
}

/// A database with rollups, and tools to move it.
struct Source {
    db: Db,
    scratch: Scratch,
    bin: std::path::PathBuf,
}

impl Source {
    async fn new() -> Self {
        let db = Db::empty().await;
        // Nobody folds while it is filled and dumped: it is to be dumped with pending deltas.
        let client = db.connect().await;
        fill(&client).await;
        Self { db, scratch: Scratch::new(), bin: cluster().await.bindir().to_owned() }
    }

    fn file(&self, name: &str) -> String {
        self.scratch.0.join(name).to_str().unwrap().to_owned()
    }

    fn dump(&self, file: &str, args: &[&str]) {
        run(&self.bin.join("pg_dump"), &[&["-d", self.db.url(), "-f", file], args].concat());
    }

    fn psql(&self, target: &Db, file: &str) {
        run(&self.bin.join("psql"), &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", target.url(), "-f", file]);
    }

    fn restore(&self, target: &Db, file: &str, args: &[&str]) {
        run(&self.bin.join("pg_restore"), &[&["--exit-on-error", "-d", target.url()], args, &[file]].concat());
    }
}

#[tokio::test]
async fn dumps_of_every_format_restore_live_and_exact() {
    let source = Source::new().await;
    let (plain, custom, directory) = (source.file("plain"), source.file("custom"), source.file("directory"));
    source.dump(&plain, &[]);
    source.dump(&custom, &["-Fc"]);
    source.dump(&directory, &["-Fd", "-j2"]);
    for way in ["plain", "custom", "parallel", "sections", "clean"] {
        let target = Db::empty().await;
        match way {
            "plain" => source.psql(&target, &plain),
            "custom" => source.restore(&target, &custom, &[]),
            "parallel" => source.restore(&target, &directory, &["-j2"]),
            "sections" => {
                for section in ["pre-data", "data", "post-data"] {
                    source.restore(&target, &custom, &[&format!("--section={section}")]);
                }
            }
            _ => {
                source.restore(&target, &custom, &[]);
                source.restore(&target, &custom, &["--clean", "--if-exists", "--single-transaction"]);
            }
        }
        let client = target.connect().await;
        check(&client, true, way).await;
        // New rollups get numbers and generations of their own.
        client.batch_execute(&format!("select pulso.create_rollup('shop.more', $${LINES}$$)")).await.unwrap();
        assert_equal(&client, "shop.more", LINES, way).await;
    }
    // The source has not been changed by it.
    check(&source.db.connect().await, true, "the source").await;
}

/// Rows loaded into a table whose triggers are there already are captured: on top of a base that counts them.
#[tokio::test]
async fn data_loaded_into_a_restored_schema_are_not_counted_twice() {
    let source = Source::new().await;
    let (schema, data, quiet) = (source.file("schema"), source.file("data"), source.file("quiet"));
    source.dump(&schema, &["--schema-only"]);
    source.dump(&data, &["--data-only"]);
    source.dump(&quiet, &["--data-only", "--disable-triggers"]);

    let target = Db::empty().await;
    source.psql(&target, &schema);
    let client = target.connect().await;
    // The extension has put its first generation there; the catalog of rollups is data, so there are none yet.
    for (name, query) in ROLLUPS {
        assert_eq!(crate::differences(&client, name, query).await, 0, "an empty schema");
    }
    source.psql(&target, &data);
    for (name, query) in ROLLUPS {
        assert_equal(&client, name, query, "captured while loaded").await;
    }
    let row =
        client.query_one("select live, reason from pulso.rollups where name = 'shop.headers'", &[]).await.unwrap();
    assert!(!row.get::<_, bool>(0));
    assert!(row.get::<_, &str>(1).contains("pulso.repair"), "{:?}", row.get::<_, &str>(1));
    for (name, _) in ROLLUPS {
        client.execute("select pulso.repair($1)", &[&name]).await.unwrap();
    }
    check(&client, true, "repaired").await;

    let target = Db::empty().await;
    source.psql(&target, &schema);
    // In one transaction, so that nobody folds what is loaded by halves.
    run(&source.bin.join("psql"), &["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", target.url(), "-f", &quiet]);
    check(&target.connect().await, true, "loaded with triggers disabled").await;
}

fn durable(scratch: &Scratch, name: &str) -> Options {
    let options = Options { data_dir: Some(scratch.0.join(name)), ..Options::default() };
    options.set("shared_buffers", "32MB").set("fsync", "off")
}

/// A program of the server, run as the account that runs the server.
fn as_server(program: &Path, dir: &Path, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    if Uid::effective().is_root() {
        let account = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).unwrap()).unwrap();
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw()).env("HOME", dir);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{} {args:?}:\n{}{}",
        program.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn give_to_server(path: &Path) {
    if Uid::effective().is_root() {
        let account = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).unwrap()).unwrap();
        chown(path, Some(account.uid), Some(account.gid)).unwrap();
    }
}

#[tokio::test]
async fn pg_upgrade_keeps_rollups_live() {
    let scratch = Scratch::new();
    let (old, new) = (durable(&scratch, "old"), durable(&scratch, "new"));
    let cluster = Cluster::start(&old).await.unwrap();
    let bin = cluster.bindir().to_owned();
    fill(&db::connect(cluster.url()).await.unwrap()).await;
    cluster.stop().await.unwrap();
    let cluster = Cluster::start(&new).await.unwrap();
    // pg_upgrade makes the databases itself.
    db::connect(&cluster.url_of("postgres"))
        .await
        .unwrap()
        .batch_execute("drop database pulso with (force)")
        .await
        .unwrap();
    cluster.stop().await.unwrap();

    let work = scratch.0.join("upgrade");
    std::fs::create_dir(&work).unwrap();
    give_to_server(&work);
    let data = |name: &str| scratch.0.join(name).join("pgdata").to_str().unwrap().to_owned();
    let bin_dir = bin.to_str().unwrap();
    as_server(
        &bin.join("pg_upgrade"),
        &work,
        &[
            "-b",
            bin_dir,
            "-B",
            bin_dir,
            "-d",
            &data("old"),
            "-D",
            &data("new"),
            "-U",
            "postgres",
            "-s",
            work.to_str().unwrap(),
        ],
    );
    let cluster = Cluster::start(&new).await.unwrap();
    let client = db::connect(cluster.url()).await.unwrap();
    check(&client, true, "after pg_upgrade").await;
    drop(client);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_standby_answers_exactly() {
    let scratch = Scratch::new();
    let options = durable(&scratch, "primary").set("wal_level", "replica").set("max_wal_senders", "4");
    let primary = Cluster::start(&options).await.unwrap();
    let client = db::connect(primary.url()).await.unwrap();
    fill(&client).await;
    let bin = primary.bindir().to_owned();
    let standby = scratch.0.join("standby");
    let (host, port) = (primary.socket_dir().to_str().unwrap().to_owned(), primary.port().to_string());
    std::fs::create_dir(&standby).unwrap();
    give_to_server(&standby);
    let dir = standby.to_str().unwrap();
    as_server(
        &bin.join("pg_basebackup"),
        &standby,
        &["-D", &format!("{dir}/data"), "-h", &host, "-p", &port, "-U", "postgres", "-R", "-X", "stream", "-c", "fast"],
    );
    // Its own socket and port: what comes last in the file wins.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let conf = standby.join("data/postgresql.conf");
    let mut text = std::fs::read_to_string(&conf).unwrap();
    text.push_str(&format!("\nport = {free}\nunix_socket_directories = '{dir}'\nhot_standby = on\n"));
    std::fs::write(&conf, text).unwrap();
    let log = format!("{dir}/log");
    let data = format!("{dir}/data");
    as_server(&bin.join("pg_ctl"), &standby, &["-D", &data, "-l", &log, "-w", "start"]);
    let url = format!("postgresql:///pulso?host={}&port={free}&user=postgres", dir.replace('/', "%2F"));
    let reader = db::connect(&url).await.unwrap();
    for statement in [
        "select 1",
        "insert into shop.ticket values (3001, 1, '2026-03-01', 1); insert into shop.line values (3001, 1, 1)",
        "select pulso.fold()",
        "delete from shop.ticket where id = 3001",
        "select pulso.repair('shop.headers')",
        "select pulso.fold()",
    ] {
        client.batch_execute(statement).await.unwrap();
        let lsn: String = client.query_one("select pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0);
        let caught_up = format!("select pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn");
        for _ in 0..600 {
            if reader.query_one(&caught_up, &[]).await.unwrap().get(0) {
                break;
            }
            client.batch_execute("select pg_switch_wal()").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(reader.query_one(&caught_up, &[]).await.unwrap().get::<_, bool>(0), "the standby does not follow");
        for (name, query) in ROLLUPS {
            assert_equal(&reader, name, query, &format!("on the standby, after {statement}")).await;
            assert!(reader.query_one("select bool_or(live) from pulso.rollups", &[]).await.unwrap().get::<_, bool>(0));
        }
        reader.query("select * from shop.report", &[]).await.unwrap();
    }
    let error = reader.batch_execute("select pulso.fold()").await.expect_err("a standby takes no writes");
    assert_eq!(error.code().map(|code| code.code()), Some("25006"), "{error:?}");
    drop(reader);
    as_server(&bin.join("pg_ctl"), &standby, &["-D", &data, "-m", "immediate", "-w", "stop"]);
    drop(client);
    primary.stop().await.unwrap();
}

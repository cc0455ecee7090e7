//! The private cluster, against real PostgreSQL processes: shared, killed, interrupted, made anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Db, Scratch, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};
use pulso::cluster::{Cluster, Options};
use pulso::db;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the tests of clusters do in their directory.
trait Clusters {
    fn options(&self) -> Options;
    fn holder(&self) -> Child;
}

impl Clusters for Scratch {
    fn options(&self) -> Options {
        let options = Options { data_dir: Some(self.data()), ..Options::default() };
        options.set("shared_buffers", "32MB").set("fsync", "off")
    }

    /// A process that starts the cluster and then waits to be killed; returns it when the server answers.
    fn holder(&self) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holds_a_cluster_for_another_test", "--nocapture"])
            .env("PULSO_TEST_HOLD", self.data())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.map_while(Result::ok).any(|line| line.contains("HOLDING")),
            "the holder did not start its cluster"
        );
        child
    }
}

/// Not a test of its own: the body of `Scratch::holder`'s process.
#[tokio::test]
async fn holds_a_cluster_for_another_test() {
    let Some(dir) = std::env::var_os("PULSO_TEST_HOLD") else { return };
    let _cluster = Cluster::start(&Options { data_dir: Some(dir.into()), ..Options::default() }).await.unwrap();
    println!("HOLDING");
    tokio::time::sleep(Duration::from_secs(300)).await;
}

/// Processes whose command line or directory is under `dir`.
fn processes_of(dir: &Path) -> Vec<i32> {
    let dir = dir.to_str().unwrap();
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        cwd || String::from_utf8_lossy(&command).contains(dir)
    })
    .collect()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(url: &str, query: &str) -> T {
    db::connect(url).await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

fn pulso(args: &[&str], data: &Path) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(args)
        .arg("--data-dir")
        .arg(data)
        .env_remove("DATABASE_URL")
        .output()
        .unwrap()
}

#[tokio::test]
async fn it_starts_tuned_private_and_not_as_root() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch.options()).await.unwrap();
    let settings: Vec<String> = one(
        cluster.url(),
        "select array[current_setting('data_checksums'), current_setting('server_encoding'), current_setting('jit'),
                      current_setting('shared_buffers'), current_database()::text, current_setting('listen_addresses')]",
    )
    .await;
    assert_eq!(settings, ["on", "UTF8", "off", "32MB", "pulso", "127.0.0.1"]);

    let pid = cluster.postmaster_pid().unwrap();
    assert_ne!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 0, "the server runs as root");
    assert_eq!(cluster.socket_dir().metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(cluster.passfile().metadata().unwrap().mode() & 0o777, 0o600);
    // A session of its own: the terminal's Ctrl-C does not reach it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap(), pid.to_string());

    assert_eq!(one::<i32>(&cluster.tcp_url(), "select 1").await, 1);
    let wrong = format!("postgresql://postgres:wrong@127.0.0.1:{}/pulso", cluster.port());
    assert!(db::connect(&wrong).await.is_err(), "TCP takes any password");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_clean_stop_leaves_no_process_and_keeps_the_data_and_the_port() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch.options()).await.unwrap();
    db::connect(cluster.url()).await.unwrap().batch_execute("create table kept as select 7 as n").await.unwrap();
    let port = cluster.port();
    cluster.stop().await.unwrap();
    until("every process ends", || processes_of(&scratch.data()).is_empty()).await;
    assert!(!scratch.data().join("pgdata/postmaster.pid").exists());

    let again = Cluster::start(&scratch.options()).await.unwrap();
    assert_eq!(one::<i32>(again.url(), "select n from kept").await, 7);
    assert_eq!(again.port(), port);
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_process_joins_and_leaves_the_server_running() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch.options()).await.unwrap();
    let pid = cluster.postmaster_pid();
    let output = pulso(&["migrate", "status"], &scratch.data());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cluster.postmaster_pid(), pid);
    assert_eq!(one::<i32>(cluster.url(), "select 1").await, 1);
    cluster.stop().await.unwrap();
    assert!(processes_of(&scratch.data()).is_empty());
}

#[tokio::test]
async fn the_last_user_stops_the_server_whoever_started_it() {
    let scratch = Scratch::new();
    let first = Cluster::start(&scratch.options()).await.unwrap();
    let second = Cluster::start(&scratch.options()).await.unwrap();
    assert!(!first.attached() && second.attached());
    first.stop().await.unwrap();
    assert_eq!(one::<i32>(second.url(), "select 1").await, 1);
    second.stop().await.unwrap();
    assert!(processes_of(&scratch.data()).is_empty());
}

#[tokio::test]
async fn many_that_start_at_once_share_one_server() {
    let scratch = Scratch::new();
    let data = &scratch.data();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(move || pulso(&["migrate", "status"], data))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for output in outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    until("every process ends", || processes_of(&scratch.data()).is_empty()).await;
}

#[tokio::test]
async fn a_killed_postmaster_starts_again_with_its_data() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch.options()).await.unwrap();
    let client = db::connect(cluster.url()).await.unwrap();
    client.batch_execute("create table kept as select 7 as n").await.unwrap();
    // A backend that is busy does not notice the death of its postmaster by itself.
    let busy = tokio::spawn(async move {
        client.batch_execute("do $$ begin loop end loop; end $$").await.unwrap_err();
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    kill(Pid::from_raw(cluster.postmaster_pid().unwrap()), Signal::SIGKILL).unwrap();
    until("the postmaster is dead", || cluster.postmaster_pid().is_none()).await;

    let again = Cluster::start(&scratch.options()).await.unwrap();
    assert!(!again.attached());
    assert_eq!(one::<i32>(again.url(), "select n from kept").await, 7);
    busy.await.unwrap();
    drop(cluster);
    again.stop().await.unwrap();
    until("every process ends", || processes_of(&scratch.data()).is_empty()).await;
}

#[tokio::test]
async fn a_stale_pid_file_whose_number_has_another_program_is_no_obstacle() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch.options()).await.unwrap();
    let pid_file = scratch.data().join("pgdata/postmaster.pid");
    let text = std::fs::read_to_string(&pid_file).unwrap();
    cluster.stop_immediately().await.unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(&pid_file, format!("{}\n{rest}", stranger.id())).unwrap();
    let again = Cluster::start(&scratch.options()).await.unwrap();
    assert_eq!(one::<i32>(again.url(), "select 1").await, 1);
    again.stop().await.unwrap();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_killed_program_takes_its_server_along() {
    let scratch = Scratch::new();
    let mut holder = scratch.holder();
    assert!(!processes_of(&scratch.data()).is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("the guard stops the server", || processes_of(&scratch.data()).is_empty()).await;
    assert!(!scratch.data().join("pgdata/postmaster.pid").exists(), "it was not a clean stop");
}

#[tokio::test]
async fn an_orphaned_server_is_taken_over() {
    let scratch = Scratch::new();
    let mut holder = scratch.holder();
    // The guard first, so that nobody is left to stop the server.
    for pid in processes_of(&scratch.data()) {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains("pulso-guard") {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    let cluster = Cluster::start(&scratch.options()).await.unwrap();
    assert!(cluster.attached(), "it was started anew");
    assert_eq!(one::<i32>(cluster.url(), "select 1").await, 1);
    cluster.stop().await.unwrap();
    assert!(processes_of(&scratch.data()).is_empty());
}

#[tokio::test]
async fn dropped_without_stop_it_ends_all_the_same() {
    let scratch = Scratch::new();
    drop(Cluster::start(&scratch.options()).await.unwrap());
    until("the guard stops the server", || !scratch.data().join("pgdata/postmaster.pid").exists()).await;

    let temporary = Cluster::start(&Options::temporary()).await.unwrap();
    let dir = temporary.data_dir().to_owned();
    drop(temporary);
    until("a temporary cluster is removed", || !dir.exists()).await;
}

#[tokio::test]
async fn a_temporary_cluster_is_removed_by_stop() {
    let cluster = Cluster::start(&Options::temporary().set("work_mem", "5MB")).await.unwrap();
    let dir = cluster.data_dir().to_owned();
    assert_eq!(one::<String>(cluster.url(), "select current_setting('work_mem')").await, "5MB");
    cluster.stop().await.unwrap();
    assert!(!dir.exists());
    assert!(processes_of(&dir).is_empty());
}

#[tokio::test]
async fn a_foreign_directory_is_refused_and_left_as_it_is() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.data().join("pgdata")).unwrap();
    std::fs::write(scratch.data().join("pgdata/precious"), "1").unwrap();
    for fresh in [true, false] {
        let error = Cluster::start(&Options { fresh, ..scratch.options() }).await.unwrap_err();
        assert!(error.to_string().contains("not a data directory of Pulso"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(scratch.data().join("pgdata/precious")).unwrap(), "1");
    assert_eq!(std::fs::read_dir(scratch.data()).unwrap().count(), 1, "something was added");
}

#[tokio::test]
async fn fresh_begins_anew_keeps_the_users_settings_and_refuses_while_in_use() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch.options()).await.unwrap();
    db::connect(cluster.url()).await.unwrap().batch_execute("create table old ()").await.unwrap();
    std::fs::write(scratch.data().join("user.conf"), "work_mem = '7MB'\n").unwrap();
    let error = Cluster::start(&Options { fresh: true, ..scratch.options() }).await.unwrap_err();
    assert!(error.to_string().contains("another pulso uses"), "{error}");
    cluster.stop().await.unwrap();

    let fresh = Cluster::start(&Options { fresh: true, ..scratch.options() }).await.unwrap();
    assert!(one::<bool>(fresh.url(), "select to_regclass('old') is null").await);
    assert_eq!(one::<String>(fresh.url(), "select current_setting('work_mem')").await, "7MB");
    assert_eq!(one::<i32>(&fresh.tcp_url(), "select 1").await, 1);
    fresh.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_setting_is_told_with_the_servers_own_words() {
    let scratch = Scratch::new();
    Cluster::start(&scratch.options()).await.unwrap().stop().await.unwrap();
    std::fs::write(scratch.data().join("user.conf"), "no_such_setting = 1\n").unwrap();
    let error = Cluster::start(&scratch.options()).await.unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    assert!(error.hint().unwrap().contains("user.conf"));
    until("nothing is left of the attempt", || processes_of(&scratch.data()).is_empty()).await;
    std::fs::remove_file(scratch.data().join("user.conf")).unwrap();
    Cluster::start(&scratch.options()).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_path_too_long_or_too_odd_for_a_socket_works() {
    let scratch = Scratch::new();
    let long = scratch.0.join("x".repeat(120));
    for name in [long.join("deep"), scratch.0.join("with 'quote', %20 & \"blank\"")] {
        let options = Options { data_dir: Some(name), ..scratch.options() };
        let cluster = Cluster::start(&options).await.unwrap();
        assert_eq!(one::<i32>(cluster.url(), "select 1").await, 1);
        let socket_dir = cluster.socket_dir().to_owned();
        cluster.stop().await.unwrap();
        assert!(socket_dir.starts_with(&scratch.0) || !socket_dir.exists(), "{} is left", socket_dir.display());
    }
}

#[tokio::test]
async fn a_lost_password_file_is_made_again() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch.options()).await.unwrap();
    std::fs::remove_file(cluster.passfile()).unwrap();
    cluster.stop().await.unwrap();
    let again = Cluster::start(&scratch.options()).await.unwrap();
    assert_eq!(one::<i32>(&again.tcp_url(), "select 1").await, 1);
    again.stop().await.unwrap();
}

#[tokio::test]
async fn an_ordinary_user_has_it_under_the_home_directory() {
    if !Uid::effective().is_root() {
        return skip("only root can become another user; the other tests ran as an ordinary one");
    }
    let scratch = Scratch::new();
    let Ok(Some(user)) = User::from_name("nobody") else { return skip("there is no user nobody") };
    let home = scratch.0.join("home");
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(user.uid), Some(user.gid)).unwrap();
    // The build directory may be closed to that user.
    let program = scratch.0.join("pulso");
    std::fs::copy(env!("CARGO_BIN_EXE_pulso"), &program).unwrap();
    let output = Command::new(&program)
        .args(["migrate", "status"])
        .env_clear()
        .env("HOME", &home)
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = std::fs::read_dir(home.join(".local/share/pulso")).unwrap().next().unwrap().unwrap();
    assert_eq!(made.metadata().unwrap().uid(), user.uid.as_raw());
    assert!(processes_of(&home).is_empty());
}

#[tokio::test]
async fn root_is_told_when_the_servers_user_cannot_reach_the_data() {
    if !Uid::effective().is_root() {
        return skip("concerns root only");
    }
    let scratch = Scratch::new();
    let closed = scratch.0.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let options = Options { data_dir: Some(closed.join("data")), ..Options::default() };
    let error = Cluster::start(&options).await.unwrap_err();
    assert!(error.to_string().contains("cannot enter"), "{error}");
    assert!(!closed.join("data").exists());
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (left, right) = (Db::empty().await, Db::empty().await);
    left.connect().await.batch_execute("create table t ()").await.unwrap();
    assert!(one::<bool>(right.url(), "select to_regclass('t') is null").await);
}

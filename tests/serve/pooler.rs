//! Reads through the real PgBouncer in transaction mode: of Debian 12, which knows no prepared statements, and a newer one.

use crate::access::routes_of_a_shop;
use crate::client::Client;
use crate::common::{Db, Scratch, other_programs, skip};
use crate::shop::{self, GROCERY};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use pulso::pooler;
use pulso::read::Pooling;
use pulso::serve::{AppState, Settings};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::SimpleQueryMessage;

/// A PgBouncer of the test's own, in front of one database.
pub struct Bouncer {
    process: Child,
    pub url: String,
    direct: String,
    program: PathBuf,
    home: Scratch,
}

impl Bouncer {
    async fn start(program: PathBuf, db: &Db, mode: &str) -> Self {
        Self::before(program, db.url(), &db.name, mode).await
    }

    /// In front of the database of this name, which `direct` leads to.
    pub async fn before(program: PathBuf, direct: &str, name: &str, mode: &str) -> Self {
        let home = Scratch::new();
        let url_of_server = direct;
        let direct: tokio_postgres::Config = direct.parse().unwrap();
        let host = match &direct.get_hosts()[0] {
            tokio_postgres::config::Host::Unix(dir) => dir.display().to_string(),
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let newer = if version(&program) >= (1, 21) { "max_prepared_statements = 100" } else { "" };
        let settings = format!(
            "[databases]\n* = host={host} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 3\nserver_reset_query_always = 0\n{newer}\n",
            direct.get_ports()[0]
        );
        std::fs::write(home.0.join("pgbouncer.ini"), settings).unwrap();
        let url = format!("postgresql://postgres@127.0.0.1:{port}/{name}");
        let mut this = Self { process: spawn(&program, &home), url, direct: url_of_server.to_owned(), program, home };
        this.answers().await;
        this
    }

    async fn answers(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while pulso::db::connect(&self.url).await.is_err() {
            assert!(self.process.try_wait().unwrap().is_none(), "PgBouncer has ended");
            assert!(Instant::now() < deadline, "PgBouncer does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn restart(&mut self) {
        self.stop();
        self.process = spawn(&self.program, &self.home);
        self.answers().await;
    }

    fn stop(&mut self) {
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGKILL);
        let _ = self.process.wait();
    }

    /// What each of the pooler's sessions has been left with: (statements, read only, statement_timeout).
    async fn residue(&self) -> Vec<(String, String, String)> {
        let mut held = Vec::new();
        let mut left = Vec::new();
        for _ in 0..3 {
            let client = pulso::db::connect(&self.url).await.unwrap();
            // Held in a transaction, so that the next one gets another session.
            let sql = "begin; select (select count(*) from pg_prepared_statements), current_setting('default_transaction_read_only'), current_setting('statement_timeout')";
            for message in client.simple_query(sql).await.unwrap() {
                if let SimpleQueryMessage::Row(row) = message {
                    left.push([0, 1, 2].map(|n| row.get(n).unwrap().to_owned()).into());
                }
            }
            held.push(client);
        }
        left
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(program: &PathBuf, home: &Scratch) -> Child {
    let mut command = Command::new(program);
    // It refuses to run as root.
    if Uid::effective().is_root() {
        command.args(["-u", "postgres"]);
    }
    command.arg(home.0.join("pgbouncer.ini")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn version(program: &PathBuf) -> (u32, u32) {
    let output = Command::new(program).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().nth(1).unwrap().split('.').map(|part| part.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// PgBouncers of this machine before 1.21, or from there on.
pub fn programs(newer: bool) -> Option<PathBuf> {
    let found = other_programs("pgbouncer").into_iter().find(|program| (version(program) >= (1, 21)) == newer);
    if found.is_none() {
        let which = if newer { "from 1.21 on" } else { "before 1.21" };
        skip(&format!("there is no PgBouncer {which}; `make test` installs one, `make servers` unpacks the newer"));
    }
    found
}

async fn reads_through(program: PathBuf, expected: Pooling) {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let mut bouncer = Bouncer::start(program, &db, "transaction").await;
    assert_eq!(pooler::look(&bouncer.url).await.unwrap(), expected);
    assert_eq!(pooler::look(&bouncer.direct).await.unwrap(), Pooling::Session);
    let ours = expected == Pooling::Transaction { prepared: true };
    assert!(ours || bouncer.residue().await.iter().all(|(statements, ..)| statements == "0"), "looking leaves nothing");

    let direct = Client::to(db.url());
    let settings = Settings { pool_size: 8, pooling: expected, ..Settings::default() };
    let http = Client::over(AppState::with(&bouncer.url, settings).unwrap());
    let mut paths: Vec<String> = routes_of_a_shop().iter().map(|route| route.replace("{id}", GROCERY)).collect();
    paths.extend(["/v1/stores".to_owned(), "/v1/chain".to_owned(), "/ready".to_owned(), "/v1/freshness".to_owned()]);
    // More at once than the pooler has sessions, again and again: each finds another session than the time before.
    for round in 0..6 {
        let answers = futures_util::future::join_all(paths.iter().map(|path| http.get(path))).await;
        for (path, answer) in paths.iter().zip(answers) {
            assert_eq!(answer.status, 200, "{path} in round {round}: {}", String::from_utf8_lossy(&answer.body));
            if path != "/v1/freshness" {
                assert_eq!(answer.json(), direct.get(path).await.json(), "{path}");
            }
        }
    }
    assert_eq!(http.get("/metrics").await.status, 200);

    // Requests that are given up leave no transaction behind, and no session that is set to anything.
    for wait in 0..40 {
        let path = &paths[wait % paths.len()];
        let _ = tokio::time::timeout(Duration::from_micros(150 * wait as u64), http.get(path)).await;
    }
    let sql = db.connect().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    while sql.query_one(open, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "a transaction stays open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (statements, read_only, timeout) in bouncer.residue().await {
        assert!(ours || statements == "0", "{statements} statements stay in a session");
        assert_eq!((read_only.as_str(), timeout.as_str()), ("off", "0"), "what the reads are set to is theirs alone");
    }
    // What cannot be read is still the client's fault or the route's, never a 500.
    assert_eq!(
        http.get(&format!("/v1/stores/{GROCERY}/sales?grain=hour&from=2020-01-01&to=2026-01-01")).await.status,
        400
    );
    assert_eq!(http.get("/v1/stores/00000000-0000-4000-8000-00000000dead/dashboard").await.status, 404);

    // It comes and goes.
    bouncer.stop();
    assert_eq!(http.get(&paths[0]).await.status, 503);
    bouncer.restart().await;
    assert_eq!(http.get(&paths[0]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_through_a_pgbouncer_without_prepared_statements() {
    if let Some(program) = programs(false) {
        reads_through(program, Pooling::Transaction { prepared: false }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_through_a_pgbouncer_with_prepared_statements() {
    if let Some(program) = programs(true) {
        reads_through(program, Pooling::Transaction { prepared: true }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_session_asks_for_the_server_itself() {
    let Some(program) = programs(false).or_else(|| programs(true)) else { return };
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let bouncer = Bouncer::start(program.clone(), &db, "transaction").await;
    let pulso = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_pulso"))
            .args(args)
            .env("DATABASE_URL", &bouncer.url)
            .env_remove("PULSO_DIRECT_URL")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["worker"], &["migrate", "up"]] {
        let output = pulso(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains("PULSO_DIRECT_URL"), "{said}");
    }
    // In session mode there is nothing to refuse.
    let session = Bouncer::start(program, &db, "session").await;
    assert_eq!(pooler::look(&session.url).await.unwrap(), Pooling::Session);

    // With the server's own address all of it works: reads through the pooler, the feed past it.
    let (mut service, address) = crate::stage::serve(|command| {
        command.env("DATABASE_URL", &bouncer.url).env("PULSO_DIRECT_URL", &bouncer.direct)
    });
    let sql = db.connect().await;
    let ask = format!("GET /v1/stores/{GROCERY}/dashboard HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        // The feed counts from its first word on.
        sql.batch_execute("update sales set totals = jsonb_set(totals, '{items}', to_jsonb((totals ->> 'items')::numeric + 1)) where number = '1'").await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        crate::client::raw(&address, &ask).await;
        let answer = crate::client::raw(&address, &ask).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        if answer.contains("x-pulso-cache: hit") {
            break;
        }
        assert!(Instant::now() < deadline, "the change feed does not reach the service: {answer}");
    }
    kill(Pid::from_raw(service.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(service.wait().unwrap().success());
}

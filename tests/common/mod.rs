//! What every integration test starts from: one temporary PostgreSQL for the test binary, one database per test.
//!
//! ```ignore
//! mod common;
//! use common::Db;
//!
//! #[tokio::test]
//! async fn a_void_leaves_the_daily_total() {
//!     let db = Db::migrated().await;          // or Db::empty()
//!     let client = db.connect().await;
//! }
//! ```
//!
//! The cluster has fsync off, `wal_level = logical`, prepared transactions and `pulso` preloaded where its library is
//! installed. It lives in /tmp and goes away with the test process, however that ends. A test that needs other
//! settings starts its own: `Cluster::start(&Options::temporary().set("…", "…"))`.
//!
//! Without a PostgreSQL that has the extension, tests fail and say what to do; they do not skip. `skip` is for what
//! a machine may rightly lack, such as TimescaleDB, and for tests too long for every day.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod standby;

use pulso::cluster::{Cluster, Options};
use pulso::db::{self, DatabaseArgs, Server};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The cluster that all tests of this binary share.
pub async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| async {
            Cluster::start(&Options::temporary()).await.unwrap_or_else(|error| {
                panic!("no PostgreSQL for the tests: {error}\nhint: {}", error.hint().unwrap_or("none"))
            })
        })
        .await
}

/// The directory in which `scripts/servers.sh` keeps what it unpacks, where this machine has one.
fn unpacked() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("PULSO_SERVERS").or_else(|| match nix::unistd::Uid::effective().is_root() {
        true => Some("/var/cache/pulso/servers".into()),
        false => {
            Some(variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?.join("pulso/servers"))
        }
    })
}

/// Every copy of a program: the machine's own, and those that `scripts/servers.sh` has unpacked.
pub fn other_programs(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]).map(|dir| dir.join(name));
    let releases = unpacked().into_iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    own.chain(releases.map(|release| release.path().join("usr/sbin").join(name)))
        .filter(|file| file.is_file())
        .collect()
}

/// The `bin` directories of the other servers that `scripts/servers.sh` has made, where it keeps them.
fn other_servers() -> Vec<PathBuf> {
    let entries = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let releases = unpacked().into_iter().flat_map(entries);
    let mut found: Vec<PathBuf> = releases
        .flat_map(|release| entries(release.join("usr/lib/postgresql")))
        .map(|server| server.join("bin"))
        .filter(|bin| bin.join("postgres").is_file())
        .collect();
    found.sort();
    found
}

/// A cluster of the server of this major version that `make servers` makes, with TimescaleDB; where there is none, says
/// so and gives `None`.
pub async fn timescale(major: u32) -> Option<Cluster> {
    let wanted = format!("/{major}/bin");
    let Some(bindir) = other_servers().into_iter().find(|bin| bin.to_string_lossy().ends_with(&wanted)) else {
        skip(&format!("there is no PostgreSQL {major} with TimescaleDB; run `make servers`"));
        return None;
    };
    let options = Options { bindir: Some(bindir), ..Options::temporary() };
    Some(Cluster::start(&options).await.unwrap_or_else(|error| panic!("PostgreSQL {major}: {error}")))
}

/// A database of one test's own, in the shared cluster.
pub struct Db {
    pub name: String,
    url: String,
}

impl Db {
    /// With nothing in it, not even the extension.
    pub async fn empty() -> Self {
        Self::empty_in(cluster().await).await
    }

    /// The same in a cluster of the test's own.
    pub async fn empty_in(cluster: &Cluster) -> Self {
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = db::connect(&cluster.url_of("postgres")).await.expect("the cluster answers");
        admin.batch_execute(&format!("create database {name}")).await.expect("create database");
        Self { url: cluster.url_of(&name), name }
    }

    /// With every migration applied, as `pulso migrate up` does it.
    pub async fn migrated() -> Self {
        Self::empty().await.migrate().await
    }

    pub async fn migrate(self) -> Self {
        let mut client = self.connect().await;
        pulso::migrate::up(&mut client).await.expect("migrations apply to an empty database");
        self
    }

    /// A connection string without a password, for this code and for `psql`, `pgbench` and `pulso` alike.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn connect(&self) -> Client {
        db::connect(&self.url).await.expect("the test's database answers")
    }

    /// What the subcommands take.
    pub async fn server(&self) -> Server {
        let args = DatabaseArgs { database_url: Some(self.url.clone()), ..DatabaseArgs::default() };
        Server::open(&args).await.expect("a server by its URL needs no start")
    }
}

/// A database of one test's own, with the extension TimescaleDB, on the server with its Community edition that
/// `PULSO_TEST_COMMUNITY_URL` names (a superuser's URL). Dropped at the end of the test, whatever the end is.
pub struct Community {
    name: String,
    admin: String,
}

impl Community {
    /// Where no such server is named, says so and gives `None`.
    pub async fn database() -> Option<Self> {
        let Some(admin) = std::env::var("PULSO_TEST_COMMUNITY_URL").ok().filter(|url| !url.is_empty()) else {
            skip("PULSO_TEST_COMMUNITY_URL names no server with TimescaleDB's Community edition");
            return None;
        };
        let name = format!("pulso_test_{:012x}", rand::random::<u64>() >> 16);
        let client = db::connect(&admin).await.expect("PULSO_TEST_COMMUNITY_URL answers");
        client.batch_execute(&format!("create database {name}")).await.expect("create database");
        let this = Self { name, admin };
        let client = this.connect().await;
        client.batch_execute("create extension if not exists timescaledb").await.expect("create extension timescaledb");
        Some(this)
    }

    pub fn url(&self) -> String {
        let (base, options) = self.admin.split_once('?').unwrap_or((&self.admin, ""));
        let server = base.rsplit_once('/').map_or(base, |(server, _)| server);
        format!("{server}/{}?{options}", self.name)
    }

    pub async fn connect(&self) -> Client {
        db::connect(&self.url()).await.expect("the test's database answers")
    }
}

impl Drop for Community {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        // A runtime cannot wait inside another.
        let _ = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                if let Ok(client) = db::connect(&admin).await {
                    let _ = client.batch_execute(&format!("drop database {name} with (force)")).await;
                }
            });
        })
        .join();
    }
}

/// A directory of one test's own under /tmp, removed at its end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let dir = PathBuf::from(format!("/tmp/pulso-test-{:012x}", rand::random::<u64>() >> 16));
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        Self(dir)
    }

    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How long this machine itself has stood still, as a thread sees it that does nothing but sleep. Bounds on waiting hold
/// where the machine does not wait: hosts take a virtual one's processors away for hundreds of milliseconds.
#[derive(Clone)]
pub struct Pauses {
    longest: Arc<AtomicU64>,
}

impl Pauses {
    /// Watches until the last copy is gone.
    pub fn watch() -> Self {
        let longest = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&longest);
        std::thread::spawn(move || {
            const NAP: Duration = Duration::from_millis(2);
            while let Some(longest) = seen.upgrade() {
                let began = Instant::now();
                std::thread::sleep(NAP);
                let over = began.elapsed().saturating_sub(NAP);
                longest.fetch_max(over.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { longest }
    }

    /// Whether a wait may be the machine's and nobody else's.
    pub fn explain(&self) -> bool {
        self.longest.load(Ordering::Relaxed) > 50
    }
}

/// Says that a test did not run and why, past the test harness's capture; `make test` counts these lines.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {test}: {reason}");
}

/// Whether the long tests were asked for (`make test-long`); if not, says so.
pub fn long() -> bool {
    let asked = std::env::var_os("PULSO_TEST_LONG").is_some_and(|value| value == "1");
    if !asked {
        skip("takes minutes; run `make test-long`");
    }
    asked
}

/// A program that is written in Python: the one that `PULSO_<NAME>` names, else installed by pip, once, beside the build.
/// Why it is not here, where neither can be.
pub fn python_program(name: &str, package: &str) -> Result<PathBuf, String> {
    let run = |program: &Path, args: &[&str]| {
        let output =
            Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(said.lines().last().unwrap_or("it fails").to_owned()) }
    };
    if let Some(path) = std::env::var_os(format!("PULSO_{}", name.to_uppercase())) {
        return Ok(path.into());
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let program = home.join("bin").join(name);
    if !program.exists() {
        run(Path::new("python3"), &["-m", "venv", home.to_str().unwrap()])
            .map_err(|error| format!("python3 makes no environment: {error}"))?;
        let pip = ["install", "--quiet", "--disable-pip-version-check", "--timeout", "15", "--retries", "1", package];
        run(&home.join("bin/pip"), &pip).map_err(|error| format!("pip installs nothing: {error}"))?;
    }
    Ok(program)
}

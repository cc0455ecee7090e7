//! A private PostgreSQL of Pulso's own, used where no `DATABASE_URL` is given.
//!
//! Several pulso processes share one: the first starts it, later ones find it running, the last one stops it.
//! It listens on a Unix socket that only its own user (and root) can open, and on 127.0.0.1 with a password.
//! Root's data lives in /var/lib/pulso and the server runs as `postgres`, since PostgreSQL does not run as root;
//! everyone else's is `pulso/` under the XDG data directory.

mod account;
mod guard;
mod home;
mod install;
mod postmaster;
mod settings;

use crate::error::{Error, Result};
use account::Account;
use guard::Guard;
use home::Home;
use install::Installation;
use postmaster::{Failure, Stop};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// The database that Pulso works in.
const DATABASE: &str = "pulso";
/// How long to wait for another process that starts or stops the same server.
const LOCK_PATIENCE: Duration = Duration::from_secs(900);
/// How long a server that runs may take to accept a connection: it may be recovering from a crash.
const READY_PATIENCE: Duration = Duration::from_secs(900);

/// How to run the private cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where it keeps its data; `None` is the usual place.
    pub data_dir: Option<PathBuf>,
    /// Delete its data first.
    pub fresh: bool,
    /// Settings beyond the defaults, as `postgresql.conf` would have them. They apply when the server is started,
    /// not when one that runs is joined; `user.conf` in the data directory wins over them.
    pub settings: Vec<(String, String)>,
    /// Make a directory under /tmp and remove it at the end, whatever the end is.
    pub temporary: bool,
    /// The `bin` directory of the server to run; `None` is the newest that has the extension.
    pub bindir: Option<PathBuf>,
}

impl Options {
    /// A cluster for tests: small, without fsync, gone at the end. Add to `settings` to override.
    pub fn temporary() -> Self {
        Self { temporary: true, ..Self::default() }
            .set("fsync", "off")
            .set("full_page_writes", "off")
            .set("shared_buffers", "128MB")
            .set("max_prepared_transactions", "64")
            .set("wal_level", "logical")
    }

    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running private PostgreSQL that this process uses.
#[derive(Debug)]
pub struct Cluster {
    home: Home,
    install: Installation,
    url: String,
    port: u16,
    socket_dir: PathBuf,
    password: String,
    temporary: bool,
    attached: bool,
    /// This process's place among the users; `None` once it has left.
    place: Option<File>,
    guard: Guard,
}

impl Cluster {
    /// Starts the server, or joins the one that already runs on this data, and waits until it answers.
    pub async fn start(options: &Options) -> Result<Self> {
        let account = Account::choose()?;
        let (home, install) = settle(options, account)?;
        let lock = home.lock(LOCK_PATIENCE).await?;
        if options.fresh {
            make_fresh(&home).await?;
        }
        let place = home.join().await?;
        let attached = wait_while_stopping(&home).await;
        let mut cluster = Self {
            guard: Guard::set(&home, &install, options.temporary),
            url: String::new(),
            port: 0,
            socket_dir: PathBuf::new(),
            password: String::new(),
            temporary: options.temporary,
            attached,
            place: Some(place),
            home,
            install,
        };
        if let Err(error) = cluster.bring_up(options).await {
            // Whatever came up is of no use; the lock is ours, so nobody is starting it meanwhile.
            let _ = cluster.leave(Stop::Fast).await;
            return Err(error);
        }
        drop(lock);
        Ok(cluster)
    }

    /// The caller holds the lock.
    async fn bring_up(&mut self, options: &Options) -> Result<()> {
        let had_password = self.home.path("pgpass").is_file();
        self.password = self.home.password()?;
        if !self.attached {
            self.launch(options).await?;
        }
        let client = match self.wait_until_ready().await {
            // What was found was at its end: a killed server's process stays for a moment.
            Err(_) if self.attached && postmaster::running(&self.home).is_none() => {
                self.attached = false;
                self.launch(options).await?;
                self.wait_until_ready().await?
            }
            outcome => outcome?,
        };
        if !had_password {
            // The password is hexadecimal.
            client.batch_execute(&format!("alter role postgres password '{}'", self.password)).await?;
        }
        self.url = self.url_of(DATABASE);
        let found = client.query_opt("select 1 from pg_database where datname = $1", &[&DATABASE]).await?;
        if found.is_none() {
            client.batch_execute(&format!("create database {DATABASE}")).await?;
        }
        Ok(())
    }

    async fn launch(&self, options: &Options) -> Result<()> {
        self.home.sweep()?;
        if self.home.major().is_none() {
            tracing::info!(dir = %self.home.dir.display(), version = self.install.major, "making a private PostgreSQL");
            let durable =
                options.settings.iter().rev().find(|(name, _)| name == "fsync").is_none_or(|(_, on)| on != "off");
            postmaster::init(&self.home, &self.install, durable).await?;
        }
        let socket_dir = self.home.socket_dir()?;
        let preload = self.install.preload();
        for attempt in 0..5 {
            let port = self.free_port(attempt)?;
            let place = settings::Place {
                memory: settings::memory(),
                port,
                socket_dir: &socket_dir.to_string_lossy(),
                preload: &preload,
            };
            self.home.write("pgdata/pulso.conf", &settings::render(&place, &options.settings))?;
            match postmaster::start(&self.home, &self.install).await {
                Ok(()) => return self.home.write("port", &format!("{port}\n")),
                Err(Failure::PortTaken) => tracing::debug!(port, "the port was taken meanwhile"),
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        Err(Error::unavailable("no free port was found on 127.0.0.1"))
    }

    /// The port of the last start if it is free, else the first free one from 5433; any for a temporary cluster.
    fn free_port(&self, attempt: u32) -> Result<u16> {
        let last = std::fs::read_to_string(self.home.path("port")).ok().and_then(|text| text.trim().parse().ok());
        let known = last.into_iter().chain(5433..5533).filter(|_| attempt == 0 && !self.temporary);
        let free = known.chain([0]).find_map(|port: u16| TcpListener::bind(("127.0.0.1", port)).ok());
        let listener = free.ok_or_else(|| Error::unavailable("no port can be opened on 127.0.0.1"))?;
        Ok(listener.local_addr()?.port())
    }

    /// Connects to the database `postgres`, patiently while the server starts or recovers.
    async fn wait_until_ready(&mut self) -> Result<Client> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            let Some(server) = postmaster::running(&self.home) else {
                return Err(Error::unavailable("the private PostgreSQL ended right after its start")
                    .with_hint(format!("See {}.", self.home.log().display())));
            };
            self.port = server.port;
            self.socket_dir = server.socket_dir;
            let error = match self.url_of("postgres").parse::<tokio_postgres::Config>()?.connect(NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return Ok(client);
                }
                Err(error) => error,
            };
            // 57P03: starting up, shutting down or recovering. Without a code the socket is not there yet.
            let passing = error.code().is_none_or(|code| code.code() == "57P03");
            if !passing || begun.elapsed() > READY_PATIENCE {
                return Err(Error::from(error).context("the private PostgreSQL refuses connections"));
            }
            if !told && begun.elapsed() > Duration::from_secs(3) {
                tracing::info!("the private PostgreSQL is recovering; waiting for it");
                told = true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The way to the database `pulso` through the socket; it holds no password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The way to another database through the socket.
    pub fn url_of(&self, database: &str) -> String {
        let host = encode(&self.socket_dir.to_string_lossy());
        format!("postgresql:///{}?host={host}&port={}&user=postgres", encode(database), self.port)
    }

    /// The way in over TCP, for programs that know no sockets, such as JDBC. It holds the password: never print it.
    pub fn tcp_url(&self) -> String {
        format!("postgresql://postgres:{}@127.0.0.1:{}/{DATABASE}", self.password, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file for `PGPASSFILE`, so that `psql -h 127.0.0.1` asks nothing.
    pub fn passfile(&self) -> PathBuf {
        self.home.path("pgpass")
    }

    pub fn data_dir(&self) -> &Path {
        &self.home.dir
    }

    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub fn log(&self) -> PathBuf {
        self.home.log()
    }

    /// Where `psql`, `pgbench` and `pg_dump` of this server's version are.
    pub fn bindir(&self) -> &Path {
        &self.install.bindir
    }

    /// The PostgreSQL's major version.
    pub fn major(&self) -> u32 {
        self.install.major
    }

    /// Whether the server ran already when this process came.
    pub fn attached(&self) -> bool {
        self.attached
    }

    /// The server's process, if it lives.
    pub fn postmaster_pid(&self) -> Option<i32> {
        postmaster::running(&self.home).map(|server| server.pid)
    }

    /// Ends the server as a power cut would, for tests of recovery: every process at once, nothing written.
    pub async fn stop_immediately(mut self) -> Result<()> {
        let _lock = self.home.lock(LOCK_PATIENCE).await?;
        self.leave(Stop::Immediate).await
    }

    /// Leaves the server, and stops it if no other process uses it. A temporary one is removed.
    pub async fn stop(mut self) -> Result<()> {
        let _lock = self.home.lock(LOCK_PATIENCE).await?;
        let how = if self.temporary { Stop::Immediate } else { Stop::Fast };
        self.leave(how).await
    }

    fn give_up_place(&mut self) {
        // Unlocked by word, since a child that another thread is just starting may hold a copy of the file.
        let _ = self.place.take().map(|place| place.unlock());
    }

    /// The caller holds the lock.
    async fn leave(&mut self, how: Stop) -> Result<()> {
        self.give_up_place();
        if let Some(_alone) = self.home.alone()? {
            postmaster::stop(&self.home, how).await?;
            if !self.socket_dir.starts_with(&self.home.dir) {
                // Under /tmp, since the path was too long. Made again at the next start.
                let _ = std::fs::remove_dir(&self.socket_dir);
            }
            if self.temporary {
                std::fs::remove_dir_all(&self.home.dir)?;
            }
        }
        self.guard.dismiss();
        Ok(())
    }
}

impl Drop for Cluster {
    /// Without `stop` the guard sees to the server: it acts as soon as its pipe closes and nobody else is left.
    fn drop(&mut self) {
        self.give_up_place();
    }
}

/// Which directory, and which PostgreSQL. Data that is there decides on the version.
fn settle(options: &Options, account: Account) -> Result<(Home, Installation)> {
    let find = |major| match &options.bindir {
        Some(dir) => Installation::in_dir(dir),
        None => Installation::find(major),
    };
    if options.temporary {
        let install = find(None)?;
        let dir =
            options.data_dir.clone().unwrap_or_else(|| format!("/tmp/pulso-{:016x}", rand::random::<u64>()).into());
        return Ok((Home::open(&dir, account)?, install));
    }
    if let Some(dir) = &options.data_dir {
        let home = Home::open(&std::path::absolute(dir)?, account)?;
        let install = find(home.major().filter(|_| !options.fresh))?;
        return Ok((home, install));
    }
    let install = find(None)?;
    let dir = usual_place(&account)?.join(format!("pg{}", install.major));
    Ok((Home::open(&dir, account)?, install))
}

fn usual_place(account: &Account) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(data) = variable("XDG_DATA_HOME") {
        return Ok(data.join("pulso"));
    }
    // Root's home is closed to the account that runs the server.
    if account.is_switched() {
        return Ok("/var/lib/pulso".into());
    }
    let home = variable("HOME")
        .ok_or_else(|| Error::usage("HOME is not set").with_hint("Name a place for the data with --data-dir."))?;
    Ok(home.join(".local/share/pulso"))
}

/// Deletes the data. The caller holds the lock.
async fn make_fresh(home: &Home) -> Result<()> {
    let Some(_alone) = home.alone()? else {
        return Err(Error::unavailable(format!("another pulso uses {}", home.dir.display()))
            .with_hint("End it first; --fresh deletes what it works on."));
    };
    postmaster::stop(home, Stop::Immediate).await?;
    home.wipe()
}

/// Whether a server runs; one that is just ending is waited for.
async fn wait_while_stopping(home: &Home) -> bool {
    loop {
        let Some(_server) = postmaster::running(home) else { return false };
        let status = std::fs::read_to_string(home.pgdata().join("postmaster.pid")).unwrap_or_default();
        if status.lines().nth(7).is_none_or(|line| line.trim() != "stopping") {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Percent-encodes what has a meaning in a URL.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

//! Runs steps: one runner at a time, patient with locks, noted in the log, stopped by Ctrl-C at any moment.

use super::packs::{Kind, Pack, Step};
use super::tier::Tier;
use super::{convert, log, online};
use crate::aggregate;
use crate::db;
use crate::error::{Error, Result};
use crate::watch::Watch;
use indicatif::ProgressBar;
use refinery::Target;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

/// One runner at a time in a database: "pulso" in ASCII.
const LOCK_KEY: i64 = 0x70_75_6c_73_6f;
/// How often a step that could not get its lock in time is tried again before it is given up; about two minutes.
const LOCK_TRIES: u32 = 100;

/// A lock that is waited for keeps others waiting behind it: it is asked for a moment at a time.
pub const SETTINGS: &str = "set lock_timeout = '200ms'; set statement_timeout = 0;
  set idle_in_transaction_session_timeout = 0; set default_transaction_isolation = 'read committed';
  set application_name = 'pulso migrate'";
/// Where the runner dies, the server is to notice and stop too. Not every operating system can tell it.
const NOTICE_GONE: &str = "set client_connection_check_interval = '1s'";
const RESET: &str = "reset lock_timeout; reset statement_timeout; reset idle_in_transaction_session_timeout;
  reset default_transaction_isolation; reset application_name; reset client_connection_check_interval";

/// Why it did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// By a person; what was underway is undone.
    Interrupted,
    Failed(Error, Option<SqlState>),
}

impl Stop {
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Interrupted => None,
            Self::Failed(_, code) => code.as_ref(),
        }
    }

    pub fn context(self, context: impl std::fmt::Display) -> Self {
        match self {
            Self::Failed(error, code) => Self::Failed(error.context(context), code),
            Self::Interrupted => self,
        }
    }

    pub fn hint(self, code: &SqlState, hint: &str) -> Self {
        match self {
            Self::Failed(error, Some(found)) if found == *code => Self::Failed(error.with_hint(hint), Some(found)),
            other => other,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error, None)
    }
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        let code = error.code().cloned();
        Self::Failed(error.into(), code)
    }
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failed(error, _) => error,
            Stop::Interrupted => Self::failed("interrupted"),
        }
    }
}

/// A connection that migrates.
pub struct Runner<'a> {
    pub client: &'a mut Client,
    pub watch: Watch,
    /// What is being done goes to the terminal.
    talks: bool,
    pub tier: Tier,
    pub done: Vec<String>,
}

impl<'a> Runner<'a> {
    /// For other code: says nothing, and is not interrupted.
    pub async fn silent(client: &'a mut Client) -> Result<Self> {
        let watch = Watch::new(client, None, ProgressBar::hidden(), CancellationToken::new()).await?;
        Ok(Self { client, watch, talks: false, tier: Tier::Extension, done: Vec::new() })
    }

    /// For the terminal; `watcher` is a second connection.
    pub async fn seen(client: &'a mut Client, watcher: Client, cancel: CancellationToken, talks: bool) -> Result<Self> {
        let bar = if talks { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let watch = Watch::new(client, Some(watcher), bar, cancel).await?;
        Ok(Self { client, watch, talks, tier: Tier::Extension, done: Vec::new() })
    }

    pub fn say(&self, sentence: &str) {
        if self.talks {
            self.watch.bar.suspend(|| eprintln!("{sentence}"));
        }
    }

    /// Takes the lock of this database, for as long as the connection lives or until `close`.
    pub async fn open(&mut self) -> Result<(), Stop> {
        let mut told = false;
        while !self.client.query_one("select pg_try_advisory_lock($1)", &[&LOCK_KEY]).await?.get::<_, bool>(0) {
            if !told {
                tracing::info!("another migration is running on this database; waiting for it");
                self.say("another migration is running on this database; waiting for it");
                told = true;
            }
            self.sleep(Duration::from_millis(100)).await?;
        }
        self.client.batch_execute(SETTINGS).await?;
        let _ = self.client.batch_execute(NOTICE_GONE).await;
        Ok(())
    }

    pub async fn close(&mut self) {
        self.watch.bar.finish_and_clear();
        // What fails here is a lost connection, and that has released the lock already.
        let _ = self.client.batch_execute(RESET).await;
        let _ = self.client.execute("select pg_advisory_unlock($1)", &[&LOCK_KEY]).await;
    }

    async fn sleep(&self, time: Duration) -> Result<(), Stop> {
        let slept = self.watch.cancel.run_until_cancelled(tokio::time::sleep(time)).await;
        slept.ok_or(Stop::Interrupted)
    }

    /// Statements in a transaction of their own (or of none, if they cannot be in one), seen and cancelled by Ctrl-C.
    pub async fn call(&mut self, sql: &str, look: Option<&str>) -> Result<(), Stop> {
        if self.watch.cancel.is_cancelled() {
            return Err(Stop::Interrupted);
        }
        self.watch.bar.reset();
        let outcome = self.watch.see(self.client.batch_execute(sql), look).await;
        self.watch.bar.finish_and_clear();
        outcome.map_err(|error| self.stopped(error.into()))
    }

    /// A small part of long work, in transactions of its own: tried again while a row or table is busy.
    pub async fn bite(&self, sql: &str, what: &str) -> Result<(), Stop> {
        self.patiently(what, || self.client.batch_execute(sql)).await
    }

    /// The same for one statement; how many rows it has written.
    pub async fn count(&self, sql: &str, what: &str) -> Result<u64, Stop> {
        self.patiently(what, || self.client.execute(sql, &[])).await
    }

    /// Tries again while a row or table is busy; what is tried leaves nothing behind when it fails.
    pub async fn patiently<T, F>(&self, what: &str, attempt: impl Fn() -> F) -> Result<T, Stop>
    where
        F: Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    {
        let mut tries = 0;
        loop {
            if self.watch.cancel.is_cancelled() {
                return Err(Stop::Interrupted);
            }
            let stop = match self.watch.see(attempt(), None).await {
                Ok(done) => return Ok(done),
                Err(error) => self.stopped(error.into()),
            };
            let _ = self.client.batch_execute("rollback").await;
            if !self.again(&stop, &mut tries, what).await? {
                return Err(stop.context(what));
            }
        }
    }

    /// How far long work is.
    pub fn show(&self, what: &str, done: i64, total: i64) {
        let bar = &self.watch.bar;
        bar.set_length(total.unsigned_abs().max(1));
        bar.set_position(done.unsigned_abs());
        bar.set_message(what.to_owned());
    }

    /// A statement that ended because a person wished it to.
    fn stopped(&self, stop: Stop) -> Stop {
        if self.watch.cancel.is_cancelled() && stop.code() == Some(&SqlState::QUERY_CANCELED) {
            return Stop::Interrupted;
        }
        stop
    }

    /// Whether to try again what failed: a table was busy. Waits before it says yes.
    pub async fn again(&self, stop: &Stop, tries: &mut u32, what: &str) -> Result<bool, Stop> {
        let busy = [&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED];
        if !stop.code().is_some_and(|code| busy.contains(&code)) || *tries >= LOCK_TRIES {
            return Ok(false);
        }
        *tries += 1;
        tracing::info!(step = what, tries = *tries, "a table is busy; trying again");
        if *tries == 3 {
            self.say(&format!("{what}: a table is busy; trying again for a while"));
        }
        self.sleep(Duration::from_millis(50 + 50 * u64::from((*tries).min(20)))).await?;
        if tries.is_multiple_of(5) {
            db::interrupt_autovacuum(self.client).await;
        }
        Ok(true)
    }

    /// Runs a step and notes it.
    pub async fn step(&mut self, pack: &Pack, step: &Step, prepares: bool) -> Result<(), Stop> {
        let begun = Instant::now();
        let entry = log::begin(self.client, step.pack, &step.name, "up", Some(step.checksum)).await?;
        let outcome = match &step.kind {
            Kind::Transaction => self.transaction(pack, step).await,
            Kind::Online(statements) => online::run(self, step, statements, prepares).await,
        };
        self.note(entry, &step.to_string(), begun, outcome).await
    }

    /// Runs what is no file, and notes it.
    pub async fn noted(&mut self, pack: &Pack, what: &str, sql: &str, look: Option<&str>) -> Result<(), Stop> {
        let begun = Instant::now();
        let entry = log::begin(self.client, pack.name, what, "up", None).await?;
        let outcome = self.call(sql, look).await.map_err(|stop| stop.context(what));
        self.note(entry, &format!("{} {what}", pack.name), begun, outcome).await
    }

    /// Fills a continuous aggregate for the first time, and notes it.
    pub async fn filled(&mut self, pack: &Pack, call: &aggregate::Call) -> Result<(), Stop> {
        let what = format!("fill {}", call.name);
        let begun = Instant::now();
        let entry = log::begin(self.client, pack.name, &what, "up", None).await?;
        self.watch.bar.reset();
        let outcome = self.watch.see(call.run(self.client), None).await;
        self.watch.bar.finish_and_clear();
        let outcome = match outcome {
            Err(_) if self.watch.cancel.is_cancelled() => Err(Stop::Interrupted),
            outcome => outcome.map_err(Stop::from),
        };
        self.note(entry, &format!("{} {what}", pack.name), begun, outcome).await
    }

    /// Writes the end of what was begun into the log and to the terminal.
    pub async fn note(
        &mut self,
        entry: i64,
        what: &str,
        begun: Instant,
        outcome: Result<(), Stop>,
    ) -> Result<(), Stop> {
        match &outcome {
            Ok(()) => log::end(self.client, entry, "done", None).await?,
            // The connection may be lost: the next runner closes the entry then.
            Err(Stop::Interrupted) => drop(log::end(self.client, entry, "interrupted", None).await),
            Err(Stop::Failed(error, _)) => {
                drop(log::end(self.client, entry, "failed", Some(&error.to_string())).await);
            }
        }
        outcome?;
        self.say(&format!("{what} ({:.1} s)", begun.elapsed().as_secs_f64()));
        self.done.push(what.to_owned());
        Ok(())
    }

    async fn transaction(&mut self, pack: &Pack, step: &Step) -> Result<(), Stop> {
        let mut tries = 0;
        loop {
            let engine = self.tier.engine().filter(|_| step.installs_engine());
            let over_keys = match self.tier {
                Tier::Extension => convert::over_keys(self.client, &step.sql).await?,
                _ => None,
            };
            let outcome = match online::without_data(over_keys.as_deref().unwrap_or(&step.sql)) {
                _ if engine.is_some() => self.instead(pack, step, engine.unwrap_or_default()).await,
                Some(sql) if self.tier == Tier::Extension && self.populated(&step.sql).await? => {
                    self.instead(pack, step, &sql).await
                }
                _ => match &over_keys {
                    Some(sql) => self.instead(pack, step, sql).await,
                    None => self.by_refinery(pack, step).await,
                },
            };
            match outcome {
                Err(stop) if self.again(&stop, &mut tries, &step.to_string()).await? => (),
                Err(stop) => {
                    return Err(stop.hint(
                        &SqlState::LOCK_NOT_AVAILABLE,
                        "A long transaction holds the table; see pg_stat_activity, then run it again: it goes on where it stopped.",
                    ));
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn by_refinery(&mut self, pack: &Pack, step: &Step) -> Result<(), Stop> {
        if self.watch.cancel.is_cancelled() {
            return Err(Stop::Interrupted);
        }
        let runner = pack.runner().set_target(Target::Version(step.version));
        let outcome = self.watch.see(runner.run_async(self.client), None).await;
        outcome.map(drop).map_err(|error| self.stopped(refinery_stop(pack, &error)))
    }

    /// Another text for the migration: its rollups left to be filled while everybody goes on, or another engine than
    /// the extension. In refinery's table it is the same.
    async fn instead(&mut self, pack: &Pack, step: &Step, sql: &str) -> Result<(), Stop> {
        let table = pack.history_table();
        // Makes the table, and refuses a history that is not this version's.
        self.by_refinery(pack, &Step { version: step.version - 1, ..step.clone() }).await?;
        let name = step.name.split_once("__").map_or("", |(_, name)| name);
        let whole = format!(
            "begin; {sql};
             insert into {table} (version, name, applied_on, checksum)
             values ({}, '{name}', to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), '{}');
             commit",
            step.version, step.checksum
        );
        let outcome = self.call(&whole, None).await;
        if outcome.is_err() {
            let _ = self.client.batch_execute("rollback").await;
        }
        outcome.map_err(|stop| stop.context(step))
    }

    /// Whether one of the tables that a text names has rows.
    async fn populated(&self, sql: &str) -> Result<bool> {
        for table in tables_in(sql) {
            let there = db::has(self.client, &table).await?;
            if there && self.client.query_one(&format!("select exists (select from {table})"), &[]).await?.get(0) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The tables of schema public that a text names.
pub fn tables_in(sql: &str) -> Vec<String> {
    let code: String = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    let mut tables: Vec<String> = code
        .split("public.")
        .skip(1)
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            format!("public.{}", &rest[..end])
        })
        .collect();
    tables.sort();
    tables.dedup();
    tables
}

fn database_error(error: &refinery::Error) -> Option<&tokio_postgres::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(database) = cause.downcast_ref::<tokio_postgres::Error>() {
            return Some(database);
        }
        source = cause.source();
    }
    None
}

fn refinery_stop(pack: &Pack, error: &refinery::Error) -> Stop {
    use refinery::error::Kind;
    let cause = database_error(error);
    let mut this = Error::failed(format!("pack {}: {error}", pack.name));
    if let Some(database) = cause.and_then(|e| e.as_db_error()) {
        let detail = database.detail().map(|d| format!(" ({d})")).unwrap_or_default();
        this = Error::failed(format!(
            "pack {}: {error}: {}{detail} [{}]",
            pack.name,
            database.message(),
            database.code().code()
        ));
        if let Some(hint) = database.hint() {
            this = this.with_hint(hint);
        }
    }
    if let Kind::DivergentVersion(..) | Kind::MissingVersion(..) = error.kind() {
        this = this.with_hint(
            "The database was migrated by another version of Pulso; use that version or a newer one. `pulso migrate verify` lists the differences.",
        );
    }
    Stop::Failed(this, cause.and_then(|error| error.code().cloned()))
}

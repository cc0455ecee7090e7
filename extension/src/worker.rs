//! Background workers, when the library is preloaded: a launcher, and a folder for each database with rollups.
//!
//! The launcher is connected to no database. It starts a folder in each database from time to time; a folder that
//! finds no extension there ends at once. What needs folding is found by looking, not by being told: answers are
//! exact whether or not it happens soon, so no writer pays for a wake-up.

use crate::pg::worker::{databases, report_statistics};
use crate::{pg::session, rollup, settings};
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker,
    SignalWakeFlags,
};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often the launcher looks for databases without a folder.
const LAUNCH_INTERVAL: Duration = Duration::from_secs(5);
/// How often the log says again that a database has no folder.
const REMIND_INTERVAL: Duration = Duration::from_secs(600);
/// The longest pause of a folder that finds nothing to do, in multiples of `pulso.fold_interval`.
const IDLE_FACTOR: u32 = 10;
/// How long a folder has found nothing to fold when it is at rest.
const REST: Duration = Duration::from_secs(5);
/// How often a folder with nothing to do looks whether it should have.
const RELOAD_AT_LEAST: Duration = Duration::from_secs(60);

/// Registers the launcher; without preloading there are no workers, and folding is `pulso serve`'s.
pub fn register() {
    if !crate::pg::worker::is_preloading() {
        return;
    }
    BackgroundWorkerBuilder::new("pulso launcher")
        .set_type("pulso launcher")
        .set_library("pulso")
        .set_function("pulso_launcher_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(5)))
        .load();
}

/// The launcher's life.
pub fn launch() {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi(None, None);
    let mut folders: HashMap<pg_sys::Oid, DynamicBackgroundWorker> = HashMap::new();
    // When it was last said of each that it has none.
    let mut without: HashMap<pg_sys::Oid, Instant> = HashMap::new();
    loop {
        if settings::fold() {
            let mut all = BackgroundWorker::transaction(databases);
            // Those that never had one first: where the extension is not installed a folder comes and goes, at each look.
            all.sort_by_key(|(database, _)| folders.contains_key(database));
            for (database, name) in all {
                if folders.get(&database).is_some_and(is_alive) {
                    continue;
                }
                match start_folder(database) {
                    Some(folder) => {
                        folders.insert(database, folder);
                        without.remove(&database);
                    }
                    None if without.get(&database).is_none_or(|said| said.elapsed() > REMIND_INTERVAL) => {
                        without.insert(database, Instant::now());
                        warning!(
                            "pulso: no background worker is free to fold database {name}: rollups there stay exact, and reads grow \
                             slower; raise max_worker_processes and restart"
                        );
                    }
                    None => {}
                }
            }
        }
        if !wait(LAUNCH_INTERVAL) {
            return;
        }
    }
}

fn is_alive(folder: &DynamicBackgroundWorker) -> bool {
    matches!(folder.pid(), Ok(_) | Err(BackgroundWorkerStatus::NotYetStarted))
}

/// `None` where the server has no background worker to give.
fn start_folder(database: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    let folder = BackgroundWorkerBuilder::new("pulso folder")
        .set_type("pulso folder")
        .set_library("pulso")
        .set_function("pulso_folder_main")
        .enable_spi_access()
        .set_argument(Some(pg_sys::Datum::from(database)))
        .set_restart_time(None);
    folder.load_dynamic().ok()
}

/// A folder's life, in one database.
pub fn fold(database: pg_sys::Oid) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    // A fold that a crash undoes is done again; nobody waits for it to reach the disk.
    BackgroundWorker::transaction(|| {
        session::run(
            "select pg_catalog.set_config('synchronous_commit', 'off', false), pg_catalog.set_config('jit', 'off', false),
                    pg_catalog.set_config('pulso.fold_gently', 'on', false)",
            &[],
        );
    });
    let mut folds = Pace::default();
    let mut looks = Pace::default();
    let mut folded_at = Instant::now();
    loop {
        let now = Instant::now();
        let fold_every = Duration::from_millis(settings::fold_interval_ms());
        let look_every = settings::feed_interval_ms().map(Duration::from_millis);
        if settings::fold() && folds.is_due(now) {
            let Some(folded) = BackgroundWorker::transaction(|| step("select pulso.fold()")) else { return };
            if BackgroundWorker::transaction(rollup::may_be_vacuumed) {
                report_statistics();
            }
            if folded > 0 {
                folded_at = now;
            } else if now.duration_since(folded_at) > REST {
                while BackgroundWorker::transaction(rollup::rewrite_bloated) {}
            }
            // Where one rollup's part was full there is more: at once, after the next look.
            let pause = if folded >= rollup::FOLDED_AT_MOST { Duration::ZERO } else { fold_every };
            folds.next(now, pause, folded > 0, IDLE_FACTOR);
        } else if let Some(every) = look_every
            && looks.is_due(now)
        {
            let Some(announced) = BackgroundWorker::transaction(|| step("select pulso.announce()")) else { return };
            looks.next(now, every, announced > 0, 1);
            if announced > 0 {
                folds.hasten(now, fold_every);
            }
        }
        let next = [settings::fold().then_some(folds.at), look_every.map(|_| looks.at), Some(now + RELOAD_AT_LEAST)];
        let Some(next) = next.into_iter().flatten().min() else { return };
        if !wait(next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))) {
            return;
        }
    }
}

/// When something is done next: after its interval while it finds work, ever later while it does not.
struct Pace {
    at: Instant,
    idle: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at: Instant::now(), idle: 1 }
    }
}

impl Pace {
    fn is_due(&self, now: Instant) -> bool {
        self.at <= now
    }

    fn next(&mut self, now: Instant, every: Duration, busy: bool, idle_max: u32) {
        self.idle = if busy { 1 } else { (self.idle * 2).min(idle_max) };
        self.at = now + every * self.idle;
    }

    /// There is work: not later than an interval from now.
    fn hasten(&mut self, now: Instant, every: Duration) {
        self.at = self.at.min(now + every);
    }
}

/// Runs a step of the engine; `None` where the extension is not, or no longer, installed.
fn step(sql: &str) -> Option<i64> {
    let installed = session::one("select exists (select from pg_catalog.pg_extension where extname = 'pulso')", &[]);
    if installed == Some(true) { session::one(sql, &[]) } else { None }
}

/// Waits; `false` when it is time to end.
fn wait(pause: Duration) -> bool {
    let go_on = BackgroundWorker::wait_latch(Some(pause));
    if BackgroundWorker::sighup_received() {
        crate::pg::worker::reload_settings();
    }
    go_on
}

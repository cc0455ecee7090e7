//! Filling a rollup from its table while everybody goes on writing.
//!
//! In one transaction, holding the rollup's folder lock: the open generations are noted; then a snapshot S is taken;
//! the base becomes the groups of the table in S; every delta that S sees is deleted, since its rows are counted in
//! those groups; and the rollup is live, with `folded_through` at the last generation before the new one.
//!
//! What is left is exactly what S does not see. Such a delta belongs to a transaction that was open at S. It either
//! holds its generation, which has been noted in `open_generations`, or took one later than `folded_through`: in both
//! cases it is pending, as the reader's rule has it. For this to be all, each row that S does not see must have its
//! delta: the triggers were there before S, and CREATE TRIGGER had waited for every transaction that had written before.
//!
//! A reader's snapshot has either all of this or nothing. Snapshots older than the commit find the rollup as it was:
//! not live, so that its view is its query; or with its old base and all of its old deltas.

use super::capture::names;
use super::feed;
use super::partitions;
use super::sql::Sql;
use crate::error::{OrRaise, Refusal};
use crate::generation;
use crate::pg::catalog::{self, Rollup};
use crate::pg::collect::{self, COLLECTED, Transfer};
use crate::pg::lock::{self, Tag};
use crate::pg::query;
use crate::pg::session::{self, AsRole, Setting, arg};
use crate::pg::xact;
use pgrx::prelude::*;
use std::cell::Cell;

/// What `blocks_done` says while the groups are being stored.
const STORING: u32 = u32::MAX;
/// How many notes of progress a scan leaves.
const STEPS: u32 = 200;

thread_local! {
    static PROGRESS: Cell<Option<Progress>> = const { Cell::new(None) };
}

/// How far the scan of the table has come, as noted in `pg_locks`.
#[derive(Clone, Copy)]
struct Progress {
    rollup: i32,
    noted: u32,
    /// The block whose turn it is to be noted next, and the distance to the one after it.
    next: u32,
    step: u32,
}

/// Fills a rollup, or the one that is to replace it, unless that is live already; `anew` fills the rollup whatever it
/// is. Returns the groups stored.
#[pg_extern(strict)]
fn fill_rollup(name: &str, anew: bool) -> i64 {
    fill(name, anew).or_raise()
}

/// Notes how far the scan has come; always true. Stands in the WHERE of the query that fills a rollup.
#[pg_extern(strict, stable, parallel_safe)]
fn scanned(place: pg_sys::ItemPointerData) -> bool {
    let block = u32::from(place.ip_blkid.bi_hi) << 16 | u32::from(place.ip_blkid.bi_lo);
    if let Some(progress) = PROGRESS.get()
        && block >= progress.next
    {
        progress.note(block);
    }
    true
}

fn fill(name: &str, anew: bool) -> Result<i64, Refusal> {
    let function = if anew { "pulso.repair" } else { "pulso.build" };
    if xact::keeps_one_snapshot() {
        return Err(Refusal::Isolation { function });
    }
    session::refuse_other_version()?;
    let rollup = find(name)?;
    super::create::refuse_stranger(rollup.view, session::qualified_name(rollup.view))?;
    let target = if anew { rollup.clone() } else { successor(rollup.id).unwrap_or_else(|| rollup.clone()) };
    lock::exclusive(Tag::Folder(target.id));
    // Somebody may have finished, or dropped it, while this waited.
    if by_id(target.id).is_none() {
        return if target.id == rollup.id { Err(Refusal::NoRollup { name: name.to_owned() }) } else { Ok(0) };
    }
    // Its groups may be all that is left of chunks that were dropped.
    let built: Option<bool> = session::one(
        "select (s.reason is distinct from 'not built yet') from pulso.state s where s.id = $1",
        &[arg(target.id)],
    );
    if built == Some(true) && (anew || !is_live(target.id)) && session::is_hypertable(target.source) {
        return Err(Refusal::Kept { view: session::qualified_name(rollup.view) });
    }
    let misses_changes = "select pulso.misses_changes(r) from pulso.rollup r where r.id = $1";
    if session::one(misses_changes, &[arg(target.id)]) == Some(true) {
        let definition = query::read(target.definition)?;
        if definition.is_joined() {
            super::create::refuse_join(&definition)?;
        }
        super::create::lock_tables_at_once(target.source, &[])?;
        super::triggers::renew_triggers(target.id);
    }
    for companion in catalog::companions(target.id) {
        lock::exclusive(Tag::Folder(companion.id));
        if anew || !is_live(companion.id) {
            rebuild(&companion);
        }
    }
    if !anew && is_live(target.id) {
        return Ok(0);
    }
    Ok(rebuild(&target))
}

fn is_live(id: i32) -> bool {
    session::one("select s.live from pulso.state s where s.id = $1", &[arg(id)]) == Some(true)
}

/// The rollup of that name.
pub fn find(name: &str) -> Result<Rollup, Refusal> {
    let id: Option<i32> = session::one("select pulso.rollup_id($1)", &[arg(name.to_owned())]);
    id.and_then(by_id).ok_or_else(|| Refusal::NoRollup { name: name.to_owned() })
}

pub fn by_id(id: i32) -> Option<Rollup> {
    catalog::rollups().into_iter().find(|rollup| rollup.id == id)
}

/// The rollup that is to take another's place once it is built.
pub fn successor(id: i32) -> Option<Rollup> {
    session::one::<i32>("select r.id from pulso.rollup r where r.replaces = $1", &[arg(id)]).and_then(by_id)
}

/// Puts the groups of the table into the base and makes the rollup live. The caller holds the folder lock, or has made
/// the rollup in this transaction.
pub fn rebuild(rollup: &Rollup) -> i64 {
    let _path = Setting::pinned_path();
    let definition = query::read(rollup.definition).unwrap_or_else(|refusal| refusal.raise());
    let sql = Sql::new(rollup.id, names(rollup), &definition);
    let tables: Vec<String> = definition.tables.iter().map(|table| session::qualified_name(table.relation)).collect();
    partitions::keep(rollup.source);
    partitions::adopt(rollup).or_raise();
    let horizon = settled_horizon(rollup.id);
    let stored = {
        let _role = AsRole::become_role(rollup.owner);
        let _noting = Progress::begin(rollup);
        // Before the snapshot: what a TRUNCATE in between would take out of the table, it would leave in the snapshot.
        session::run(&format!("lock table {} in access share mode", tables.join(", ")), &[]);
        session::run(&sql.empty_base(), &[]);
        let groups = Transfer {
            guess: sql.groups_if_finite().map(|query| (query, sql.has_specials(COLLECTED))),
            query: sql.groups(),
            store: sql.store(COLLECTED),
            last: sql.empty_delta(),
        };
        let _memory = Setting::maintenance_memory();
        let stored = collect::in_one_snapshot(&groups, Progress::scanning, Progress::storing);
        session::run(&format!("analyze {}", sql.names().base), &[]);
        stored
    };
    let _role = AsRole::become_role(session::extension_owner());
    session::run(
        "update pulso.state
            set live = true, reason = null, folded_through = $2, open_generations = $3,
                folded_at = pg_catalog.clock_timestamp()
          where id = $1",
        &[arg(rollup.id), arg(horizon.through), arg(horizon.open.iter().copied().collect::<Vec<i64>>())],
    );
    // Its deltas are gone unannounced.
    if rollup.companion_of.is_none() {
        feed::announce_all(&sql.names().view);
    }
    stored as i64
}

/// What is open now. Where the counter was once set back, transactions may hold generations that others take for
/// closed for good: those are waited for, which happens after a mishap only.
fn settled_horizon(id: i32) -> generation::Horizon {
    let known: Option<Vec<i64>> =
        session::one("select s.open_generations || s.folded_through from pulso.state s where s.id = $1", &[arg(id)]);
    let horizon = {
        let _role = AsRole::become_role(session::extension_owner());
        generation::close_anew()
    };
    let Some(known) = known else { return horizon };
    let Some((through, exceptions)) = known.split_last() else { return horizon };
    for generation in horizon.open.iter().filter(|g| *g <= through && !exceptions.contains(g)) {
        lock::exclusive(Tag::Generation(*generation));
    }
    horizon
}

/// Ends the notes of a scan when it is dropped.
struct Noting;

impl Drop for Noting {
    fn drop(&mut self) {
        let progress = PROGRESS.take();
        // An error ends the transaction, and the note with it.
        if let Some(progress) = progress.filter(|_| !std::thread::panicking()) {
            lock::release_share(Tag::Progress(progress.rollup, progress.noted));
        }
    }
}

impl Progress {
    fn begin(rollup: &Rollup) -> Noting {
        let blocks: i64 = session::one("select pulso.blocks($1::oid::regclass)", &[arg(rollup.source)]).unwrap_or(0);
        let step = (u32::try_from(blocks).unwrap_or(STORING) / STEPS).max(1);
        lock::try_share(Tag::Progress(rollup.id, 0));
        PROGRESS.set(Some(Self { rollup: rollup.id, noted: 0, next: step, step }));
        Noting
    }

    /// A scan begins at the first block, also where it is the second one.
    fn scanning() {
        if let Some(progress) = PROGRESS.get() {
            progress.note(0);
        }
    }

    fn storing() {
        if let Some(progress) = PROGRESS.get() {
            progress.note(STORING);
        }
    }

    fn note(self, block: u32) {
        lock::try_share(Tag::Progress(self.rollup, block));
        lock::release_share(Tag::Progress(self.rollup, self.noted));
        PROGRESS.set(Some(Self { noted: block, next: block.saturating_add(self.step), ..self }));
    }
}

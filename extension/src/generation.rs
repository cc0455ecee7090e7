//! Generations: what lets a reader skip folded deltas without looking at them.
//!
//! A writer puts the current generation on its deltas and holds a share lock on it until its transaction ends. A
//! folder begins a new generation, and then knows of each earlier one whether it is closed: nobody holds it, and
//! nobody can take it any more, since a writer checks that the generation is still current once it has the lock.
//! Neither side ever waits.
//!
//! A snapshot that is kept meets ever more deltas that it cannot see. So each new generation leaves a fact: snapshots
//! taken before it began see no delta of it, nor of a later one. They are told by their `xmax`, the first transaction
//! that was not over when they were taken, which only grows: what had a smaller one than was seen before the
//! generation began was taken before that. Facts are about transactions of this cluster and are not dumped; where none
//! is left, nothing is skipped.

use crate::pg::lock::{self, Tag};
use crate::pg::state::{self, State};
use crate::pg::{catalog, facts, session, xact};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// More new generations than this are looked up in `pg_locks` instead of one by one.
const FAR: i64 = 10_000;

thread_local! {
    /// The generation of this transaction, once it has written a delta.
    static MINE: Cell<Option<i64>> = const { Cell::new(None) };
    /// What this backend knows of earlier generations; it never becomes untrue.
    static HORIZON: RefCell<Option<Horizon>> = const { RefCell::new(None) };
}

/// Generations up to `through` are closed, but for those in `open` when they were last looked at.
#[derive(Debug, Clone, Default)]
pub struct Horizon {
    pub through: i64,
    pub open: BTreeSet<i64>,
}

pub fn register() {
    xact::at_end(|_| MINE.set(None));
}

/// The generation of this transaction's deltas; taken at the first and kept to the end, so that a long import
/// holds one lock.
pub fn of_this_transaction() -> i64 {
    if let Some(generation) = MINE.get() {
        return generation;
    }
    let sequence = catalog::generation_sequence();
    loop {
        let generation = xact::last_value(sequence);
        let tag = Tag::Generation(generation);
        // Refused only while a folder looks at this generation, which is then no longer the current one.
        if lock::try_share(tag) {
            if xact::last_value(sequence) == generation {
                MINE.set(Some(generation));
                return generation;
            }
            lock::release_share(tag);
        }
    }
}

/// Begins a new generation and looks which earlier ones are still open.
///
/// The caller takes its snapshot afterwards: a generation found closed here belongs to transactions whose end that
/// snapshot sees, since Postgres releases locks only after a commit is visible.
pub fn close() -> Horizon {
    let next = begin();
    // Looking at all locks is for the first time, and for a counter that has jumped, as it does when a dump is loaded.
    let known = HORIZON.take().filter(|horizon| (1..=FAR).contains(&(next - horizon.through)));
    let mut horizon =
        known.unwrap_or_else(|| Horizon { through: next - 1, open: session::generations_held_before(next) });
    let candidates: Vec<i64> = horizon.open.iter().copied().chain(horizon.through + 1..next).collect();
    let mine = MINE.get();
    // One's own lock is no obstacle to oneself: a transaction's own generation is open until it ends.
    horizon.open =
        candidates.into_iter().filter(|g| Some(*g) == mine || lock::held_by_another(Tag::Generation(*g))).collect();
    horizon.through = next - 1;
    HORIZON.set(Some(horizon.clone()));
    horizon
}

/// Begins a new generation, and notes what snapshots from before it do not see.
fn begin() -> i64 {
    let Some((table, _)) = catalog::visible_through() else { return session::next_generation() };
    let xmax = xact::latest_xmax();
    let next = session::next_generation();
    // The counter may have been set back: what was ever written counts. What another folder takes away is left to it.
    session::run(
        "with forgotten as (
           delete from pulso.visible_through
            where ctid = any (array(
                    select v.ctid from pulso.visible_through v where v.snapshot_xmax <= $3
                     limit 1000 for update skip locked))
         )
         insert into pulso.visible_through (snapshot_xmax, generation)
         values ($1, greatest($2, (select v.generation from pulso.visible_through v order by v.snapshot_xmax desc limit 1)))",
        &[session::arg(xmax), session::arg(next - 1), session::arg(xact::Xid::oldest_needed(table).widened())],
    );
    next
}

/// The last generation whose deltas the active snapshot may see. Told only in REPEATABLE READ without deltas of its own: at
/// READ COMMITTED a snapshot sees nearly all there are, and a SERIALIZABLE reader must have looked where others will write.
#[pg_extern(stable, parallel_restricted)]
fn last_visible_generation() -> i64 {
    if MINE.get().is_some() { i64::MAX } else { last_visible_of_others() }
}

fn last_visible_of_others() -> i64 {
    if !xact::is_repeatable_read() {
        return i64::MAX;
    }
    facts::first_above(catalog::visible_through(), xact::active_xmax()).unwrap_or(i64::MAX)
}

/// What is folded of a rollup in the active snapshot.
fn noted(id: i32) -> Rc<State> {
    state::of(id, last_visible_of_others)
}

/// Whether a rollup is read from what is folded, in the active snapshot; if not, its view is its query.
#[pg_extern(stable, parallel_safe, strict)]
fn is_live(id: i32) -> bool {
    noted(id).live
}

/// Deltas of generations up to this one are folded, or compacted into a later one, in the active snapshot, but for the open ones.
#[pg_extern(stable, parallel_safe, strict)]
fn folded_through(id: i32) -> i64 {
    noted(id).folded_through
}

/// Generations up to the one folded through that a transaction still held then.
#[pg_extern(stable, parallel_safe, strict)]
fn open_generations(id: i32) -> Vec<i64> {
    noted(id).open_generations.clone()
}

/// As [`close`], without trust in what this backend knew: the counter may have been set by hand.
pub fn close_anew() -> Horizon {
    HORIZON.take();
    close()
}

/// What [`close`] found last.
pub fn horizon() -> Horizon {
    HORIZON.with_borrow(|horizon| horizon.clone().unwrap_or_default())
}

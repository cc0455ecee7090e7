//! Generations: what lets a reader skip folded deltas without looking at them.
//!
//! A writer puts the current generation on its deltas and holds a share lock on it until its transaction ends. A
//! folder begins a new generation, and then knows of each earlier one whether it is closed: nobody holds it, and
//! nobody can take it any more, since a writer checks that the generation is still current once it has the lock.
//! Neither side ever waits.

use crate::pg::lock::{self, Tag};
use crate::pg::{catalog, session, xact};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

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
    let next = session::next_generation();
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

/// As [`close`], without trust in what this backend knew: the counter may have been set by hand.
pub fn close_anew() -> Horizon {
    HORIZON.take();
    close()
}

/// What [`close`] found last.
pub fn horizon() -> Horizon {
    HORIZON.with_borrow(|horizon| horizon.clone().unwrap_or_default())
}

//! Folding: deltas of closed generations move into the base, in one transaction with the note that they have.

use super::build::by_id;
use super::capture::{names, watch};
use super::feed;
use super::sql::Sql;
use crate::generation::{self, Horizon};
use crate::pg::catalog::{self, Rollup};
use crate::pg::invalidation;
use crate::pg::lock::{self, Tag};
use crate::pg::plans::{self, planned};
use crate::pg::query;
use crate::pg::session::{self, AsRole, Setting, arg};
use crate::pg::xact::Xid;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Deltas that a background worker folds of one rollup in one transaction.
pub const AT_MOST: i64 = 50_000;
/// Dead deltas at which autovacuum comes, and while the table is large.
pub const DEAD: u32 = 10_000;
const DEAD_WHILE_LARGE: u32 = 100;
/// Bytes of a table of deltas that are kept for the next ones.
const KEPT_BYTES: i64 = 64 << 20;

thread_local! {
    /// Whether this session folds many deltas in several transactions.
    static IN_PARTS: Cell<bool> = const { Cell::new(false) };
    /// Rollups with many deltas to fold.
    static MANY: RefCell<HashSet<i32>> = RefCell::default();
    /// The transactions that have folded each rollup here, as far as a snapshot may still need what they replaced.
    static FOLDS: RefCell<HashMap<i32, Vec<Xid>>> = RefCell::default();
    /// The oldest transaction that a snapshot still needed when autovacuum was last told of what this session had deleted.
    static TOLD_AT: Cell<Option<Xid>> = const { Cell::new(None) };
    /// Rollups made ready, and the epoch in which they were.
    static FOLDINGS: RefCell<(u64, HashMap<i32, Rc<Folding>>)> = RefCell::default();
}

#[pg_extern(strict)]
fn has_pending(id: i32) -> bool {
    let Some(folding) = folding(id) else { return false };
    let _path = Setting::pinned_path();
    let _role = AsRole::become_role(folding.rollup.owner);
    planned(&folding.has_pending, &[], &[], |rows| rows.first().get_one::<bool>().ok().flatten().unwrap_or(false))
}

/// From now on, many deltas are folded in several calls.
pub fn in_parts() {
    IN_PARTS.set(true);
}

/// A look found more deltas than it reads.
pub fn expect_many(id: i32) {
    MANY.with_borrow_mut(|many| many.insert(id));
}

#[pg_extern]
fn close_generations() {
    generation::close();
}

#[pg_extern(strict)]
fn fold_rollup(id: i32, wait: bool) -> i64 {
    let tag = Tag::Folder(id);
    if wait {
        lock::exclusive(tag);
    } else if !lock::try_exclusive(tag) {
        return 0;
    }
    // Dropped, or altered, since it was found to be due.
    let Some(folding) = folding(id) else { return 0 };
    let horizon = generation::horizon();
    feed::note_news(id, &folding, &horizon);
    let in_parts = IN_PARTS.get() && MANY.with_borrow(|many| many.contains(&id));
    let open: Vec<i64> = horizon.open.iter().copied().collect();
    let _path = Setting::pinned_path();
    if IN_PARTS.get() && !is_worth_it(&folding, &horizon) {
        return 0;
    }
    let folded = {
        let _role = AsRole::become_role(folding.rollup.owner);
        let (folded, empty) = planned(
            if in_parts { &folding.fold_some } else { &folding.fold },
            &BOUNDS.map(|oid| oid.oid()),
            &[arg(horizon.through + 1), arg(open.clone())],
            |rows| {
                let row = rows.first();
                let empty: Option<Vec<pg_sys::ItemPointerData>> = row.get(2).ok().flatten();
                (row.get::<i64>(1).ok().flatten().unwrap_or(0), empty)
            },
        );
        if let Some(places) = empty {
            session::run(&folding.remove, &[arg(places)]);
        }
        folded
    };
    if folded > 0 {
        FOLDS.with_borrow_mut(|folds| folds.entry(id).or_default().push(Xid::current()));
    }
    // What is left of a generation is pending as long as the note of what is folded stays.
    let is_unfinished = in_parts && folded >= AT_MOST;
    if !is_unfinished {
        MANY.with_borrow_mut(|many| many.remove(&id));
    }
    if folded > 0 && is_another(oldest_needed()) {
        may_shrink(&folding.rollup);
    }
    if folded > 0 && !is_unfinished {
        session::run(
            "update pulso.state set folded_through = $2, open_generations = $3, folded_at = pg_catalog.clock_timestamp() where id = $1",
            &[arg(id), arg(horizon.through), arg(open)],
        );
    }
    folded
}

/// Whether autovacuum would gain by being told of what this session has deleted: not while the same snapshot needs it that did
/// when it was last told. It would come each time, read the tables of deltas whole, and take nothing.
pub fn may_be_vacuumed() -> bool {
    let oldest = oldest_needed();
    let gains = is_another(oldest);
    TOLD_AT.set(oldest);
    gains
}

/// Whether a snapshot is the oldest that was not when autovacuum was last told; before `alter extension update` as if it were.
fn is_another(oldest: Option<Xid>) -> bool {
    oldest.is_none() || oldest != TOLD_AT.get()
}

fn oldest_needed() -> Option<Xid> {
    catalog::visible_through().map(Xid::oldest_needed)
}

/// Lets vacuum give back the end of a table of deltas while it is a large one, and only then: it locks the table for that,
/// for some 20 ms at most, and writers would wait for it each time that the table is empty. It comes often then, so that it also
/// finds the table at rest, when nothing at its end is in use. Nor may it spare itself the indexes, as it does for a few dead
/// rows in a large table: their line pointers would stay, and keep the end of the table.
fn may_shrink(rollup: &Rollup) {
    const DIFFERS: &str = "
        select pg_catalog.pg_relation_size(c.oid) > $2 from pg_catalog.pg_class c
         where c.oid = $1
           and (pg_catalog.pg_relation_size(c.oid) > $2) is distinct from ('vacuum_truncate=true' = any (c.reloptions))";
    let types = [PgBuiltInOids::OIDOID.oid(), PgBuiltInOids::INT8OID.oid()];
    let large = planned(DIFFERS, &types, &[arg(rollup.delta), arg(KEPT_BYTES)], |rows| {
        if rows.is_empty() { None } else { rows.first().get_one::<bool>().ok().flatten() }
    });
    let Some(large) = large else { return };
    // A vacuum at work has it for longer than a folder should wait.
    if lock::try_alter(rollup.delta) {
        let _role = AsRole::become_role(rollup.owner);
        let table = session::qualified_name(rollup.delta);
        let (threshold, indexes) = if large { (DEAD_WHILE_LARGE, "on") } else { (DEAD, "auto") };
        session::run(
            &format!(
                "alter table {table} set (vacuum_truncate = {large}, vacuum_index_cleanup = {indexes},
                                          autovacuum_vacuum_threshold = {threshold})"
            ),
            &[],
        );
    }
}

/// Types of the bounds of what is folded: first generation not to be folded, and those before it that are open.
const BOUNDS: [PgBuiltInOids; 2] = [PgBuiltInOids::INT8OID, PgBuiltInOids::INT8ARRAYOID];

/// Whether readers gain more by a fold than they lose. It takes deltas from their way, and leaves a dead row of each
/// hot group and of the note of what is folded, which vanish at once unless a snapshot is open that may need them. While
/// one is, a read costs by both numbers, so neither is let grow beyond the other: `n` deltas leave `√2n` rows, not one a tick.
fn is_worth_it(folding: &Folding, horizon: &Horizon) -> bool {
    let id = folding.rollup.id;
    let kept = FOLDS.with_borrow_mut(|folds| {
        let Some(folds) = folds.get_mut(&id) else { return 0 };
        let needed = Xid::oldest_needed(folding.rollup.base);
        folds.retain(|xid| !xid.is_before(needed));
        folds.len()
    });
    if kept < 2 {
        return true;
    }
    let _role = AsRole::become_role(folding.rollup.owner);
    let types = [BOUNDS[0].oid(), BOUNDS[1].oid(), PgBuiltInOids::INT8OID.oid()];
    let open: Vec<i64> = horizon.open.iter().copied().collect();
    planned(&folding.has_foldable, &types, &[arg(horizon.through + 1), arg(open), arg(kept as i64)], |rows| {
        rows.first().get_one::<bool>().ok().flatten().unwrap_or(true)
    })
}

/// A rollup made ready for folding.
pub struct Folding {
    pub rollup: Rollup,
    /// As JSON.
    pub name: String,
    pub has_pending: String,
    has_foldable: String,
    pub has_news: String,
    pub news: String,
    pub news_since: String,
    fold: String,
    fold_some: String,
    remove: String,
}

/// Whether a rollup is there and stays until this transaction ends. Whoever drops it begins with its query.
fn is_kept(rollup: &Rollup) -> bool {
    lock::keep_table(rollup.definition) && lock::keep_table(rollup.delta)
}

/// The rollup of that number, unless it is being dropped; looked up again when something about it has changed.
pub fn folding(id: i32) -> Option<Rc<Folding>> {
    let epoch = invalidation::epoch_now();
    let known = FOLDINGS.with_borrow_mut(|(filled_in, foldings)| {
        if *filled_in != epoch {
            *filled_in = epoch;
            foldings.clear();
            plans::forget_unused();
        }
        foldings.get(&id).cloned()
    });
    if let Some(known) = known {
        return is_kept(&known.rollup).then_some(known);
    }
    let rollup = by_id(id).filter(is_kept)?;
    watch(&rollup);
    let _path = Setting::pinned_path();
    let definition = query::read(rollup.definition).unwrap_or_else(|refusal| refusal.raise());
    let names = names(&rollup);
    // What changes in a companion changes in the whole.
    let whole = rollup.companion_of.and_then(by_id);
    let view = whole.map_or_else(|| names.view.clone(), |whole| session::qualified_name(whole.view));
    let name = feed::json(&view);
    let sql = Sql::new(id, names, &definition);
    let folding = Rc::new(Folding {
        name,
        has_pending: sql.has_pending(),
        has_foldable: sql.has_foldable(),
        has_news: sql.has_news(),
        news: sql.news(false, feed::ROWS_MAX, feed::GROUPS_MAX),
        news_since: sql.news(true, feed::ROWS_MAX, feed::GROUPS_MAX),
        fold: sql.fold(None),
        fold_some: sql.fold(Some(AT_MOST)),
        remove: sql.remove(),
        rollup,
    });
    FOLDINGS.with_borrow_mut(|(_, foldings)| foldings.insert(id, Rc::clone(&folding)));
    Some(folding)
}

//! Folding: deltas of closed generations move into the base, in one transaction with the note that they have.
//!
//! While a snapshot is kept, each fold leaves a dead row of every group that it has changed, past which all readers of the group
//! come. Where the groups are few, deltas are compacted instead, as a log-structured merge tree does (O'Neil et al., 1996): one of
//! each group takes the place of many, with the last closed generation, and what is noted as folded ends before that. No reader
//! comes past what was compacted: one that does not see the compaction looks at no later generation, the others at no earlier one.

use super::build::by_id;
use super::capture::{names, watch};
use super::feed;
use super::sql::Sql;
use crate::generation;
use crate::pg::catalog::{self, Rollup};
use crate::pg::invalidation;
use crate::pg::lock::{self, Tag};
use crate::pg::plans::{self, planned};
use crate::pg::query;
use crate::pg::session::{self, AsRole, Setting, arg};
use crate::pg::xact::Xid;
use crate::settings;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiTupleTable;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Deltas that are gently folded of one rollup in one transaction.
pub const AT_MOST: i64 = 50_000;
/// Dead deltas at which autovacuum comes, and while the table is large.
pub const DEAD: u32 = 10_000;
const DEAD_WHILE_LARGE: u32 = 100;
/// Deltas that are the most a compaction may leave: each read of the rollup comes past them.
const COMPACTED_MAX: i64 = 128;
/// Bytes of a table of deltas that are kept for the next ones.
const KEPT_BYTES: i64 = 64 << 20;

thread_local! {
    /// Rollups with many deltas to fold.
    static MANY: RefCell<HashSet<i32>> = RefCell::default();
    /// What this session, where it folds gently, has left of each rollup.
    static LEFT: RefCell<HashMap<i32, Left>> = RefCell::default();
    /// The oldest transaction that a snapshot still needed when autovacuum was last told of what this session had deleted.
    static TOLD_AT: Cell<Option<Xid>> = const { Cell::new(None) };
    /// The last transaction of this session that folded anything.
    static LAST: Cell<Option<Xid>> = const { Cell::new(None) };
    /// Rollups made ready, and the epoch in which they were.
    static FOLDINGS: RefCell<(u64, HashMap<i32, Rc<Folding>>)> = RefCell::default();
}

#[derive(Default)]
struct Left {
    /// The transactions that have folded, as far as a snapshot may still need what they replaced.
    folds: Vec<Xid>,
    /// Deltas that the last compaction has made.
    compacted: i64,
}

/// What to do with the deltas of closed generations.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Leave,
    Compact,
    Fold,
}

#[pg_extern(strict)]
fn has_pending(id: i32) -> bool {
    let Some(folding) = folding(id) else { return false };
    let _path = Setting::pinned_path();
    let _role = AsRole::become_role(folding.rollup.owner);
    planned(&folding.has_pending, &[], &[], |rows| rows.first().get_one::<bool>().ok().flatten().unwrap_or(false))
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
    let gently = settings::fold_gently();
    let in_parts = gently && MANY.with_borrow(|many| many.contains(&id));
    let open: Vec<i64> = horizon.open.iter().copied().collect();
    let _path = Setting::pinned_path();
    let bounds = [arg(horizon.through + 1), arg(open.clone())];
    let step = if gently && !in_parts { worthwhile(&folding, &bounds) } else { Step::Fold };
    let (folded, through) = match step {
        Step::Leave => return 0,
        Step::Compact => (compact(&folding, bounds, horizon.through), horizon.through - 1),
        Step::Fold => (move_to_base(&folding, bounds, in_parts), horizon.through),
    };
    // What is left of a generation is pending as long as the note of what is folded stays.
    let is_unfinished = in_parts && folded >= AT_MOST;
    if !is_unfinished {
        MANY.with_borrow_mut(|many| many.remove(&id));
    }
    if folded > 0 {
        LAST.set(Some(Xid::current()));
        if is_another(oldest_needed()) {
            may_shrink(&folding.rollup);
        }
    }
    if folded > 0 && !is_unfinished {
        // By the whole key: of the rollup alone an old snapshot keeps thousands.
        let of_now =
            catalog::visible_through().map_or("", |_| " and folded_through = (select pulso.folded_through($1))");
        session::run(
            &format!(
                "update pulso.state
                    set folded_through = $2, open_generations = $3, folded_at = pg_catalog.clock_timestamp()
                  where id = $1{of_now}"
            ),
            &[arg(id), arg(through), arg(open)],
        );
    }
    folded
}

/// Returns the number of deltas.
fn move_to_base(folding: &Folding, bounds: [DatumWithOid<'_>; 2], in_parts: bool) -> i64 {
    let id = folding.rollup.id;
    let _role = AsRole::become_role(folding.rollup.owner);
    let sql = if in_parts { &folding.fold_some } else { &folding.fold };
    let (folded, empty) = planned(sql, &BOUNDS.map(|oid| oid.oid())[..2], &bounds, |rows| {
        let row = rows.first();
        let empty: Option<Vec<pg_sys::ItemPointerData>> = row.get(2).ok().flatten();
        (row.get::<i64>(1).ok().flatten().unwrap_or(0), empty)
    });
    if let Some(places) = empty {
        session::run(&folding.remove, &[arg(places)]);
    }
    if folded > 0 && settings::fold_gently() {
        LEFT.with_borrow_mut(|left| {
            let left = left.entry(id).or_default();
            left.folds.push(Xid::current());
            left.compacted = 0;
        });
    }
    folded
}

/// Returns the number of deltas that there were.
fn compact(folding: &Folding, [before, open]: [DatumWithOid<'_>; 2], generation: i64) -> i64 {
    let _role = AsRole::become_role(folding.rollup.owner);
    let types = BOUNDS.map(|oid| oid.oid());
    let (were, are) = planned(&folding.compact, &types, &[before, open, arg(generation)], two_numbers);
    LEFT.with_borrow_mut(|left| left.entry(folding.rollup.id).or_default().compacted = are);
    were
}

/// Whether autovacuum would gain by being told of what this session has deleted: not while the same snapshot needs it that did
/// when it was last told. It would come each time, read the tables of deltas whole, and take nothing.
pub fn may_be_vacuumed() -> bool {
    let oldest = oldest_needed();
    let gains = is_another(oldest);
    TOLD_AT.set(oldest);
    gains
}

/// Whether this session has folded, and no snapshot needs what the last fold has replaced.
pub fn has_been_forgotten() -> bool {
    LAST.get().zip(oldest_needed()).is_some_and(|(last, oldest)| last.is_before(oldest))
}

/// Whether a snapshot is the oldest that was not when autovacuum was last told; before `alter extension update` as if it were.
fn is_another(oldest: Option<Xid>) -> bool {
    oldest.is_none() || oldest != TOLD_AT.get()
}

fn oldest_needed() -> Option<Xid> {
    catalog::visible_through().map(|(table, _)| Xid::oldest_needed(table))
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

/// Types of the bounds of what is folded: first generation not to be folded, and those before it that are open; and of the generation
/// of what is compacted.
const BOUNDS: [PgBuiltInOids; 3] = [PgBuiltInOids::INT8OID, PgBuiltInOids::INT8ARRAYOID, PgBuiltInOids::INT8OID];

/// What readers gain most by. A fold takes deltas from their way, and leaves a dead row of each group that it changes, which
/// vanishes at once unless a snapshot is open that may need it. While one is, few groups are compacted, whenever the deltas have
/// doubled. Of many, a read costs by the number of deltas and by that of folds, so neither is let grow beyond the other: `n` deltas
/// leave `√2n` rows, not one a tick.
fn worthwhile(folding: &Folding, bounds: &[DatumWithOid<'_>; 2]) -> Step {
    let id = folding.rollup.id;
    let (folds, compacted) = LEFT.with_borrow_mut(|left| {
        let Some(left) = left.get_mut(&id) else { return (0, 0) };
        let needed = Xid::oldest_needed(folding.rollup.base);
        left.folds.retain(|xid| !xid.is_before(needed));
        (left.folds.len() as i64, left.compacted)
    });
    if folds < 2 {
        return Step::Fold;
    }
    let _role = AsRole::become_role(folding.rollup.owner);
    let types = BOUNDS.map(|oid| oid.oid());
    let (deltas, groups) = planned(&folding.count_foldable, &types[..2], bounds, two_numbers);
    match groups <= COMPACTED_MAX {
        true if deltas >= (2 * compacted).max(2) => Step::Compact,
        false if deltas >= folds => Step::Fold,
        _ => Step::Leave,
    }
}

fn two_numbers(rows: SpiTupleTable<'_>) -> (i64, i64) {
    let row = rows.first();
    let number = |column| row.get::<i64>(column).ok().flatten().unwrap_or(0);
    (number(1), number(2))
}

/// A rollup made ready for folding.
pub struct Folding {
    pub rollup: Rollup,
    /// As JSON.
    pub name: String,
    pub has_pending: String,
    count_foldable: String,
    pub has_news: String,
    pub news: String,
    pub news_since: String,
    fold: String,
    fold_some: String,
    compact: String,
    remove: String,
}

/// Whether a rollup is there and stays until this transaction ends. Whoever drops it begins with its query.
pub fn is_kept(rollup: &Rollup) -> bool {
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
        count_foldable: sql.count_foldable(),
        has_news: sql.has_news(),
        news: sql.news(false, feed::ROWS_MAX, feed::GROUPS_MAX),
        news_since: sql.news(true, feed::ROWS_MAX, feed::GROUPS_MAX),
        fold: sql.fold(None),
        fold_some: sql.fold(Some(AT_MOST)),
        compact: sql.compact(),
        remove: sql.remove(),
        rollup,
    });
    FOLDINGS.with_borrow_mut(|(_, foldings)| foldings.insert(id, Rc::clone(&folding)));
    Some(folding)
}

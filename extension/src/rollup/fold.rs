//! Folding: deltas of closed generations move into the base, in one transaction with the note that they have.

use super::build::by_id;
use super::capture::{names, watch};
use super::feed;
use super::sql::Sql;
use crate::generation::{self, Horizon};
use crate::pg::catalog::Rollup;
use crate::pg::invalidation;
use crate::pg::lock::{self, Tag};
use crate::pg::query;
use crate::pg::session::{self, AsRole, PinnedPath, arg};
use crate::pg::xact::Xid;
use pgrx::prelude::*;
use pgrx::spi::OwnedPreparedStatement;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Deltas that a background worker folds of one rollup in one transaction.
pub const AT_MOST: i64 = 50_000;

thread_local! {
    /// Whether this session folds many deltas in several transactions.
    static IN_PARTS: Cell<bool> = const { Cell::new(false) };
    /// Rollups with many deltas to fold.
    static MANY: RefCell<HashSet<i32>> = RefCell::default();
    /// The transactions that have folded each rollup here, as far as a snapshot may still need what they replaced.
    static FOLDS: RefCell<HashMap<i32, Vec<Xid>>> = RefCell::default();
    /// Plans of this backend by the text they were made from.
    static PLANS: RefCell<HashMap<String, OwnedPreparedStatement>> = RefCell::default();
    /// Rollups made ready, and the epoch in which they were.
    static FOLDINGS: RefCell<(u64, HashMap<i32, Rc<Folding>>)> = RefCell::default();
}

#[pg_extern(strict)]
fn has_pending(id: i32) -> bool {
    let Some(folding) = folding(id) else { return false };
    let _path = PinnedPath::pin();
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
    let _path = PinnedPath::pin();
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
    if folded > 0 && !is_unfinished {
        session::run(
            "update pulso.state set folded_through = $2, open_generations = $3, folded_at = pg_catalog.clock_timestamp() where id = $1",
            &[arg(id), arg(horizon.through), arg(open)],
        );
    }
    folded
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
        }
        foldings.get(&id).cloned()
    });
    if let Some(known) = known {
        return is_kept(&known.rollup).then_some(known);
    }
    let rollup = by_id(id).filter(is_kept)?;
    watch(&rollup);
    let _path = PinnedPath::pin();
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

/// Runs a statement by a plan kept for the life of the backend.
pub fn planned<T>(
    text: &str,
    types: &[pg_sys::PgOid],
    args: &[pgrx::datum::DatumWithOid<'_>],
    read: impl FnOnce(pgrx::spi::SpiTupleTable<'_>) -> T,
) -> T {
    Spi::connect_mut(|client| {
        PLANS.with_borrow_mut(|plans| {
            if !plans.contains_key(text) {
                let plan = client.prepare_mut(text, types).unwrap_or_else(|error| error!("{error}: {text}"));
                plans.insert(text.to_owned(), plan.keep());
            }
            let Some(plan) = plans.get(text) else { error!("pulso: a plan is lost") };
            read(client.update(plan, None, args).unwrap_or_else(|error| error!("{error}: {text}")))
        })
    })
}

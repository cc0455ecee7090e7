//! The engine's settings.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static FOLD: GucSetting<bool> = GucSetting::<bool>::new(true);
static FOLD_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(500);
static FOLD_GENTLY: GucSetting<bool> = GucSetting::<bool>::new(false);
static FEED_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(100);
static ALLOW_ROW_SECURITY: GucSetting<bool> = GucSetting::<bool>::new(false);
static MAX_MOVED_ROWS: GucSetting<i32> = GucSetting::<i32>::new(100_000);

pub fn define() {
    GucRegistry::define_bool_guc(
        c"pulso.fold",
        c"Whether background workers fold rollups.",
        c"Off, answers stay exact and reads get slower with each change.",
        &FOLD,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pulso.fold_interval",
        c"Time between two folds of a database with pending changes.",
        c"Longer intervals cost writers less and readers more.",
        &FOLD_INTERVAL,
        1,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"pulso.fold_gently",
        c"Whether pulso.fold() does in this session what is worth its while, as background workers do.",
        c"It folds many deltas in several calls, and leaves or compacts some while a snapshot is kept; off, it folds all there is.",
        &FOLD_GENTLY,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pulso.feed_interval",
        c"Time between two looks for changes to be announced on channel pulso_changes; 0 announces what is folded only.",
        c"A change is announced at most so long after its commit, whether or not it can be folded.",
        &FEED_INTERVAL,
        0,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"pulso.allow_row_security",
        c"Whether rollups may be made of tables with row security.",
        c"Their figures are of all rows, and shown to whoever may read the rollup: an owner says so by setting this.",
        &ALLOW_ROW_SECURITY,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pulso.max_moved_rows",
        c"Rows that one statement on a joined table may move from group to group.",
        c"A rename of a store moves all its sales; above this it is refused.",
        &MAX_MOVED_ROWS,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Whether background workers fold.
pub fn fold() -> bool {
    FOLD.get()
}

/// Whether this session folds as background workers do.
pub fn fold_gently() -> bool {
    FOLD_GENTLY.get()
}

/// Time between two folds, in milliseconds.
pub fn fold_interval_ms() -> u64 {
    FOLD_INTERVAL.get().unsigned_abs().into()
}

/// Time between two looks for changes to announce, in milliseconds; `None` where only folding announces.
pub fn feed_interval_ms() -> Option<u64> {
    Some(FEED_INTERVAL.get().unsigned_abs().into()).filter(|interval| *interval > 0)
}

/// Whether rollups may be made of tables with row security.
pub fn allow_row_security() -> bool {
    ALLOW_ROW_SECURITY.get()
}

/// Rows that one statement on a joined table may move.
pub fn max_moved_rows() -> i64 {
    MAX_MOVED_ROWS.get().into()
}

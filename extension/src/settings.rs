//! The engine's settings.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static FOLD: GucSetting<bool> = GucSetting::<bool>::new(true);
static FOLD_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(500);

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
        10,
        60_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

/// Whether background workers fold.
pub fn fold() -> bool {
    FOLD.get()
}

/// Time between two folds, in milliseconds.
pub fn fold_interval_ms() -> u64 {
    FOLD_INTERVAL.get().unsigned_abs().into()
}

//! Pulso's engine: rollups that equal their query in every snapshot and never make a writer wait.
//!
//! `rollup` is what the engine does, `generation` and `worker` how folding keeps up, `pg` the narrow border to
//! Postgres's internals: the only place with unsafe code. The SQL objects are in `sql/`.

::pgrx::pg_module_magic!(name, version);

mod error;
mod generation;
mod pg;
mod rollup;
mod settings;
mod worker;

#[allow(non_snake_case)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    generation::register();
    rollup::register();
    pg::invalidation::register();
    pg::planning::register();
    pg::state::register();
    pg::statement::register();
    worker::register();
}

//! TRUNCATE: takes every row away that the latest snapshot sees, under TRUNCATE's own lock.

use super::sql::Sql;
use crate::error::{OrRaise, Refusal};
use crate::generation;
use crate::pg::session::{self, AsRole, Setting};
use crate::pg::{latest, xact};

/// Before the table is emptied: its rows, negated, become deltas.
pub fn negate(sql: &Sql, owner: pgrx::pg_sys::Oid) {
    let generation = generation::of_this_transaction();
    let _path = Setting::pinned_path();
    let _role = AsRole::become_role(owner);
    latest::run_in_latest_snapshot(&sql.negate(), generation);
    // A transaction that keeps its snapshot sees the groups as they were then, and must not find a difference.
    if xact::keeps_one_snapshot() && session::one::<bool>(&sql.is_not_empty(), &[]) == Some(true) {
        Err(Refusal::TruncateConflict).or_raise()
    }
}

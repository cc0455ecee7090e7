//! Dependencies that Postgres does not find by itself.

use super::session::{self, arg};
use pgrx::pg_sys;

/// The OID of the catalog pg_constraint.
const PG_CONSTRAINT: pg_sys::Oid = pg_sys::Oid::from_u32(2606);

/// The OID of the catalog pg_rewrite.
const PG_REWRITE: pg_sys::Oid = pg_sys::Oid::from_u32(2618);

/// It is the view's rule that depends, as where Postgres itself finds that a query rests on a key: pg_dump knows that it
/// can put a rule off until keys and indexes are there.
fn depends(view: pg_sys::Oid, class: pg_sys::Oid, object: pg_sys::Oid) {
    let address = |class, object| pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
    let rule: Option<pg_sys::Oid> = session::one(
        "select oid from pg_catalog.pg_rewrite where ev_class = $1 and rulename = '_RETURN'",
        &[arg(view)],
    );
    let Some(rule) = rule else { return };
    let (rule, object) = (address(PG_REWRITE, rule), address(class, object));
    // SAFETY: both addresses are those of existing objects.
    unsafe { pg_sys::recordDependencyOn(&rule, &object, pg_sys::DependencyType::DEPENDENCY_NORMAL) };
}

/// The constraint cannot be dropped before the view.
pub fn on_constraint(view: pg_sys::Oid, constraint: pg_sys::Oid) {
    depends(view, PG_CONSTRAINT, constraint);
}

/// The index cannot be dropped before the view.
pub fn on_index(view: pg_sys::Oid, index: pg_sys::Oid) {
    depends(view, pg_sys::RelationRelationId, index);
}

//! Dependencies that Postgres does not find by itself.

use pgrx::pg_sys;

/// The OID of the catalog pg_constraint.
const PG_CONSTRAINT: pg_sys::Oid = pg_sys::Oid::from_u32(2606);

fn depends(view: pg_sys::Oid, class: pg_sys::Oid, object: pg_sys::Oid) {
    let address = |class, object| pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
    let (view, object) = (address(pg_sys::RelationRelationId, view), address(class, object));
    // SAFETY: both addresses are those of existing objects.
    unsafe { pg_sys::recordDependencyOn(&view, &object, pg_sys::DependencyType::DEPENDENCY_NORMAL) };
}

/// The constraint cannot be dropped before the view.
pub fn on_constraint(view: pg_sys::Oid, constraint: pg_sys::Oid) {
    depends(view, PG_CONSTRAINT, constraint);
}

/// The index cannot be dropped before the view.
pub fn on_index(view: pg_sys::Oid, index: pg_sys::Oid) {
    depends(view, pg_sys::RelationRelationId, index);
}

//! Reads the engine's catalog as it is now, whatever this transaction's snapshot is: a rollup made after the
//! snapshot of a REPEATABLE READ writer must count that writer's rows all the same.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// A row of `pulso.rollup`, as the capture needs it.
#[derive(Debug, Clone)]
pub struct Rollup {
    pub id: i32,
    pub view: pg_sys::Oid,
    pub definition: pg_sys::Oid,
    /// The table whose rows are counted.
    pub source: pg_sys::Oid,
    /// The tables that are joined to it.
    pub joined: Vec<pg_sys::Oid>,
    pub base: pg_sys::Oid,
    pub delta: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// The rollup whose values it counts one by one.
    pub companion_of: Option<i32>,
}

impl Rollup {
    pub fn reads(&self, table: pg_sys::Oid) -> bool {
        self.source == table || self.joined.contains(&table)
    }
}

/// Columns of `pulso.rollup` by position, as the install script has them.
const ID: i32 = 1;
const VIEW: i32 = 2;
const DEFINITION: i32 = 3;
const SOURCE: i32 = 4;
const BASE: i32 = 5;
const DELTA: i32 = 6;
/// Since 0.2.0.
const JOINED: i32 = 9;
const COMPANION_OF: i32 = 10;

fn relation(name: &CStr) -> pg_sys::Oid {
    // SAFETY: constant strings; missing objects give InvalidOid.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"pulso".as_ptr(), true)) }
}

/// Whether a table has a trigger of that name.
pub fn has_trigger(table: pg_sys::Oid, name: &CStr) -> bool {
    // SAFETY: looks into the catalog; a missing one gives InvalidOid.
    unsafe { pg_sys::get_trigger_oid(table, name.as_ptr(), true) != pg_sys::InvalidOid }
}

/// `pulso.generation`.
pub fn generation_sequence() -> pg_sys::Oid {
    let sequence = relation(c"generation");
    if sequence == pg_sys::InvalidOid {
        error!("the extension pulso is not installed in this database");
    }
    sequence
}

/// `pulso.state`, and its key, which is the rollup and what is folded; before 0.2.0 the rollup alone.
pub fn state() -> Option<(pg_sys::Oid, pg_sys::Oid)> {
    indexed(c"state", c"state_id_folded_through_key").or_else(|| indexed(c"state", c"state_pkey"))
}

/// `pulso.visible_through`, and its index; none before 0.2.0.
pub fn visible_through() -> Option<(pg_sys::Oid, pg_sys::Oid)> {
    indexed(c"visible_through", c"visible_through_snapshot_xmax_idx")
}

fn indexed(table: &CStr, index: &CStr) -> Option<(pg_sys::Oid, pg_sys::Oid)> {
    Some((relation(table), relation(index))).filter(|(_, index)| *index != pg_sys::InvalidOid)
}

/// Calls `f` with each row that is committed now, and the table's row type; the row is gone when `f` returns.
pub fn scan(table: pg_sys::Oid, mut f: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc)) {
    // SAFETY: the table is held open during the scan; a NULL snapshot makes systable_beginscan take a fresh one.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            f(tuple, (*relation).rd_att);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
}

/// All rollups.
pub fn rollups() -> Vec<Rollup> {
    let catalog = relation(c"rollup");
    let mut found = Vec::new();
    if catalog == pg_sys::InvalidOid {
        return found;
    }
    // SAFETY: the columns read are NOT NULL and of the types read.
    scan(catalog, |tuple, descriptor| unsafe {
        let value = |column: i32| {
            let mut null = false;
            pg_sys::heap_getattr(tuple, column, descriptor, &mut null)
        };
        let oid = |column: i32| pg_sys::Oid::from(value(column).value() as u32);
        found.push(Rollup {
            id: value(ID).value() as i32,
            view: oid(VIEW),
            definition: oid(DEFINITION),
            source: oid(SOURCE),
            joined: if (*descriptor).natts < JOINED {
                Vec::new()
            } else {
                Vec::<pg_sys::Oid>::from_datum(value(JOINED), false).unwrap_or_default()
            },
            base: oid(BASE),
            delta: oid(DELTA),
            owner: pg_sys::InvalidOid,
            companion_of: if (*descriptor).natts < COMPANION_OF {
                None
            } else {
                let mut null = false;
                let of = pg_sys::heap_getattr(tuple, COMPANION_OF, descriptor, &mut null);
                (!null).then(|| of.value() as i32)
            },
        });
    });
    for rollup in &mut found {
        rollup.owner = owner(rollup.delta);
    }
    found
}

/// The rollups that count values for another one, in the order of its query.
pub fn companions(id: i32) -> Vec<Rollup> {
    let mut found: Vec<Rollup> = rollups().into_iter().filter(|rollup| rollup.companion_of == Some(id)).collect();
    found.sort_unstable_by_key(|rollup| rollup.id);
    found
}

/// The owner of a relation.
fn owner(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a syscache look-up; the tuple is released after its owner is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let owner = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple)).relowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

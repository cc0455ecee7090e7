//! Partitioned tables: whose partition a table is, and rows of a partition in the form of the whole.

use pgrx::pg_sys;
use pgrx::prelude::*;

unsafe extern "C-unwind" {
    // Not bound by pgrx.
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
    fn get_partition_parent(relation: pg_sys::Oid, even_if_detached: bool) -> pg_sys::Oid;
    fn has_superclass(relation: pg_sys::Oid) -> bool;
    fn has_subclass(relation: pg_sys::Oid) -> bool;
}

/// The partitioned table that a partition belongs to in the end; any other table is its own.
pub fn root_of(table: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: syscache look-ups; ancestors are looked up of partitions only.
    unsafe {
        if !pg_sys::get_rel_relispartition(table) {
            return table;
        }
        let ancestors = pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_ancestors(table));
        pgrx::PgList::<pg_sys::Oid>::from_pg(ancestors).iter_oid().last().unwrap_or(table)
    }
}

pub fn is_partition(table: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_rel_relispartition(table) }
}

/// The table whose row triggers a chunk has; any other table is its own.
pub fn hypertable_of(table: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: look-ups in pg_inherits, where chunks are as partitions are; the parent is looked up of children only.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            if has_superclass(table) { get_partition_parent(table, false) } else { table }
        })
    }
}

/// Whether a table that is not partitioned may be a hypertable: it has, or has had, children.
pub fn may_be_hypertable(table: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    !is_partitioned(table) && unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| has_subclass(table)) }
}

pub fn is_partitioned(table: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_rel_relkind(table) as u8 == pg_sys::RELKIND_PARTITIONED_TABLE }
}

/// Whether a table that a partition tree has, or had, holds rows itself.
pub fn holds_rows(table: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_rel_relkind(table) as u8 == pg_sys::RELKIND_RELATION }
}

/// Brings rows of a partition into the form of its root: the same columns, which may lie elsewhere.
pub struct Conversion {
    root: pg_sys::Relation,
    map: *mut pg_sys::TupleConversionMap,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Conversion {
    /// From rows of type `from`. Opens the root as Postgres does for a write that is aimed at its partition.
    ///
    /// # Safety
    /// `from` lives as long as the conversion.
    pub unsafe fn new(from: pg_sys::TupleDesc, root: pg_sys::Oid) -> Self {
        // SAFETY: the root is held open until `close`; an error frees all with the transaction.
        unsafe {
            let root = pg_sys::table_open(root, pg_sys::AccessShareLock as i32);
            let map = pg_sys::convert_tuples_by_name(from, (*root).rd_att);
            let slot = pg_sys::MakeSingleTupleTableSlot((*root).rd_att, &pg_sys::TTSOpsVirtual);
            Self { root, map, slot }
        }
    }

    /// The row in the root's form, until the next is converted.
    ///
    /// # Safety
    /// `row` holds a row of the type that the conversion was made for.
    pub unsafe fn convert(&self, row: *mut pg_sys::TupleTableSlot) -> *mut pg_sys::TupleTableSlot {
        // SAFETY: as the caller's. Without a map the columns lie in the same places.
        unsafe {
            if self.map.is_null() {
                return row;
            }
            pg_sys::execute_attr_map_slot((*self.map).attrMap, row, self.slot)
        }
    }

    pub fn close(self) {
        // SAFETY: closes what `new` opened, once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            if !self.map.is_null() {
                pg_sys::free_conversion_map(self.map);
            }
            pg_sys::table_close(self.root, pg_sys::NoLock as i32);
        }
    }
}

super::version_1!(pg_finfo_refuse_concurrent_detach_wrapper);

/// `pulso.refuse_concurrent_detach() returns event_trigger`
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn refuse_concurrent_detach_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: Postgres passes a valid fcinfo; nodes are cast by their tags.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
            error!("pulso.refuse_concurrent_detach() can only be called by an event trigger");
        }
        let statement = (*context.cast::<pg_sys::EventTriggerData>()).parsetree;
        if (*statement).type_ == pg_sys::NodeTag::T_AlterTableStmt {
            let statement = statement.cast::<pg_sys::AlterTableStmt>();
            let detaches =
                pgrx::PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds).iter_ptr().any(|command| {
                    (*command).subtype == pg_sys::AlterTableType::AT_DetachPartition
                        && (*(*command).def.cast::<pg_sys::PartitionCmd>()).concurrent
                });
            if detaches {
                let flags = pg_sys::RVROption::RVR_MISSING_OK;
                let table = pg_sys::RangeVarGetRelidExtended(
                    (*statement).relation,
                    pg_sys::NoLock as i32,
                    flags,
                    None,
                    std::ptr::null_mut(),
                );
                if table != pg_sys::InvalidOid {
                    crate::rollup::refuse_concurrent_detach(table);
                }
            }
        }
    }
    pg_sys::Datum::null()
}

//! Conditions that others have put around what a rollup's view reads, layer by layer: `select v.* from (…) as v where …`.

use pgrx::{PgList, pg_sys};
use std::ffi::CStr;

/// The alias under which [`conditions`] name the columns of the layer below.
pub const ALIAS: &str = "v";
const ALIAS_C: &CStr = c"v";

/// The conditions of the layers around the union that Pulso has made, from the inside outwards; `None` where a layer
/// does anything else. Keeps the view as it is until the transaction ends.
pub fn conditions(view: pg_sys::Oid) -> Option<Vec<String>> {
    let mut found = Vec::new();
    // SAFETY: the view is held open while its query is copied into the current memory context, where all nodes below
    // live; they are cast by their tags.
    unsafe {
        let relation = pg_sys::table_open(view, pg_sys::AccessShareLock as i32);
        let mut query = pg_sys::copyObjectImpl(pg_sys::get_view_query(relation).cast()).cast::<pg_sys::Query>();
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        while (*query).setOperations.is_null() {
            let (place, below) = only_subquery(&*query)?;
            if !passes_all_on(&*query, place, &*below) {
                return None;
            }
            let condition = (*(*query).jointree).quals;
            if !condition.is_null() {
                // The view has the columns of each layer, in their order and by their names.
                pg_sys::ChangeVarNodes(condition, place, 1, 0);
                let names = pg_sys::deparse_context_for(ALIAS_C.as_ptr(), view);
                let text = pg_sys::deparse_expression(condition, names, true, false);
                found.push(CStr::from_ptr(text).to_string_lossy().into_owned());
            }
            query = below;
        }
    }
    found.reverse();
    Some(found)
}

/// What a layer reads, if that is one subquery and it keeps each of its rows whole; and its place.
unsafe fn only_subquery(query: &pg_sys::Query) -> Option<(i32, *mut pg_sys::Query)> {
    let does_more =
        [query.groupClause, query.groupingSets, query.distinctClause, query.sortClause, query.rowMarks, query.cteList]
            .iter()
            .any(|list| !list.is_null())
            || query.hasAggs
            || query.hasWindowFuncs
            || query.hasTargetSRFs
            || ![query.havingQual, query.limitCount, query.limitOffset].iter().all(|node| node.is_null());
    // SAFETY: a live query; nodes are cast by their tags, places in the range table count from 1.
    unsafe {
        let from = PgList::<pg_sys::Node>::from_pg((*query.jointree).fromlist);
        let item = from.get_ptr(0)?;
        if does_more || from.len() != 1 || (*item).type_ != pg_sys::NodeTag::T_RangeTblRef {
            return None;
        }
        let place = (*item.cast::<pg_sys::RangeTblRef>()).rtindex;
        let entry = PgList::<pg_sys::RangeTblEntry>::from_pg(query.rtable).get_ptr(place as usize - 1)?;
        let is_subquery = (*entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY;
        is_subquery.then_some((place, (*entry).subquery))
    }
}

/// Whether a layer shows all columns of the one below, as they are.
unsafe fn passes_all_on(query: &pg_sys::Query, place: i32, below: &pg_sys::Query) -> bool {
    // SAFETY: live queries; a target that is a Var is cast by its tag, names are C strings.
    unsafe {
        let (shown, given) = (
            PgList::<pg_sys::TargetEntry>::from_pg(query.targetList),
            PgList::<pg_sys::TargetEntry>::from_pg(below.targetList),
        );
        let passes = |(number, (shown, given)): (usize, (*mut pg_sys::TargetEntry, *mut pg_sys::TargetEntry))| {
            let var = (*shown).expr.cast::<pg_sys::Var>();
            (*(*shown).expr).type_ == pg_sys::NodeTag::T_Var
                && ((*var).varno, (*var).varattno as usize, (*var).varlevelsup) == (place, number + 1, 0)
                && CStr::from_ptr((*shown).resname) == CStr::from_ptr((*given).resname)
        };
        shown.len() == given.len() && shown.iter_ptr().zip(given.iter_ptr()).enumerate().all(passes)
    }
}

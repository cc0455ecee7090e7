//! What is folded of a rollup, as the active snapshot has it: looked up once for a snapshot, however often it is asked for.

use super::{catalog, xact};
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A row of `pulso.state`.
#[derive(Default)]
pub struct State {
    pub live: bool,
    pub folded_through: i64,
    pub open_generations: Vec<i64>,
}

/// Columns of `pulso.state` by position, as the install script has them.
const ID: i32 = 1;
const LIVE: i32 = 2;
const FOLDED_THROUGH: i32 = 4;
const OPEN_GENERATIONS: i32 = 5;

/// What tells two snapshots of a transaction apart by what they see, and so do those of its subtransactions.
#[derive(Default, PartialEq)]
struct Seen {
    subtransaction: pg_sys::SubTransactionId,
    command: pg_sys::CommandId,
    xmin: pg_sys::TransactionId,
    xmax: pg_sys::TransactionId,
    underway: Vec<pg_sys::TransactionId>,
}

/// What was looked up for a snapshot.
#[derive(Default)]
struct Known {
    seen: Seen,
    states: HashMap<i32, Rc<State>>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

pub fn register() {
    xact::at_end(|_| drop(KNOWN.take()));
}

/// The row of a rollup. Where there is none, the rollup is not live.
pub fn of(id: i32) -> Rc<State> {
    // SAFETY: a function that a query calls has an active snapshot, here an MVCC one; its arrays have the lengths that it says.
    let seen = unsafe {
        let snapshot = &*pg_sys::GetActiveSnapshot();
        let list = |at: *const pg_sys::TransactionId, count: usize| match count {
            0 => &[][..],
            _ => std::slice::from_raw_parts(at, count),
        };
        let top = list(snapshot.xip, snapshot.xcnt as usize);
        let sub = list(snapshot.subxip, snapshot.subxcnt.max(0) as usize);
        Seen {
            subtransaction: pg_sys::GetCurrentSubTransactionId(),
            command: snapshot.curcid,
            xmin: snapshot.xmin,
            xmax: snapshot.xmax,
            underway: top.iter().chain(sub).copied().collect(),
        }
    };
    let known = KNOWN.with_borrow_mut(|known| {
        if known.seen != seen {
            *known = Known { seen, states: HashMap::new() };
        }
        known.states.get(&id).cloned()
    });
    known.unwrap_or_else(|| {
        let state = Rc::new(look_up(id).unwrap_or_default());
        KNOWN.with_borrow_mut(|known| known.states.insert(id, Rc::clone(&state)));
        state
    })
}

fn look_up(id: i32) -> Option<State> {
    let table = catalog::state()?;
    // SAFETY: the table is held open during the scan of its first index, which is on the key, an integer; columns of the types read.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let index = pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation)).get_oid(0);
        let mut key = pg_sys::ScanKeyData::default();
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        let value = id.into_datum().unwrap_or(pg_sys::Datum::null());
        pg_sys::ScanKeyInit(&mut key, ID as i16, equal, pg_sys::Oid::from(pg_sys::F_INT4EQ), value);
        let index = index.unwrap_or(pg_sys::InvalidOid);
        let is_there = index != pg_sys::InvalidOid;
        let scan = pg_sys::systable_beginscan(relation, index, is_there, pg_sys::GetActiveSnapshot(), 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let mut found = None;
        if !tuple.is_null() {
            let column = |number: i32| {
                let mut null = false;
                (pg_sys::heap_getattr(tuple, number, (*relation).rd_att, &mut null), null)
            };
            let ((live, n1), (through, n2), (open, n3)) =
                (column(LIVE), column(FOLDED_THROUGH), column(OPEN_GENERATIONS));
            found = Some(State {
                live: bool::from_datum(live, n1).unwrap_or_default(),
                folded_through: i64::from_datum(through, n2).unwrap_or_default(),
                open_generations: Vec::from_datum(open, n3).unwrap_or_default(),
            });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        found
    }
}

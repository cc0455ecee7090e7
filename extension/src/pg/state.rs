//! What is folded of a rollup, as the active snapshot has it: looked up once for a snapshot, however often it is asked for.

use super::first_row::{Bound, Start, first_row};
use super::{catalog, xact};
use pgrx::{FromDatum, pg_sys};
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
const ID: usize = 1;
const LIVE: usize = 2;
const FOLDED_THROUGH: usize = 4;
const OPEN_GENERATIONS: usize = 5;

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

/// The row of a rollup, which has not folded further in the active snapshot than `through` tells. Where there is none, the rollup
/// is not live.
pub fn of(id: i32, through: impl FnOnce() -> i64) -> Rc<State> {
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
        let state = Rc::new(look_up(id, through()).unwrap_or_default());
        KNOWN.with_borrow_mut(|known| known.states.insert(id, Rc::clone(&state)));
        state
    })
}

/// The one row that the snapshot sees, among all that other snapshots need: from the last one on, and from `through` on where
/// that is known. So neither a new snapshot nor an old one comes past many rows that it does not see.
fn look_up(id: i32, through: i64) -> Option<State> {
    let state = catalog::state()?;
    let row = |bounds: &[(usize, Bound)]| {
        // SAFETY: the columns are of the types read, and the arrays are copied; the active snapshot is an MVCC one.
        unsafe {
            first_row(state, Start::Greatest, bounds, pg_sys::GetActiveSnapshot(), |column| {
                let ((live, n1), (through, n2), (open, n3)) =
                    (column(LIVE), column(FOLDED_THROUGH), column(OPEN_GENERATIONS));
                State {
                    live: bool::from_datum(live, n1).unwrap_or_default(),
                    folded_through: i64::from_datum(through, n2).unwrap_or_default(),
                    open_generations: Vec::from_datum(open, n3).unwrap_or_default(),
                }
            })
        }
    };
    let of_rollup = (ID, Bound::Is(id));
    let no_further = (through < i64::MAX).then_some((FOLDED_THROUGH, Bound::AtMost(through)));
    // A counter that was set back may have left a higher one.
    no_further.and_then(|bound| row(&[of_rollup, bound])).or_else(|| row(&[of_rollup]))
}

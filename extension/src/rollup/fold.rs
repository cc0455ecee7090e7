//! Folding: deltas of closed generations move into the base, in one transaction with the note that they have.

use super::capture::names;
use super::sql::Sql;
use crate::generation;
use crate::pg::catalog::{self, Rollup};
use crate::pg::lock::{self, Tag};
use crate::pg::query;
use crate::pg::session::{self, AsRole, PinnedPath, arg};
use pgrx::prelude::*;
use pgrx::spi::OwnedPreparedStatement;
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    /// Plans of this backend by the text they were made from.
    static PLANS: RefCell<HashMap<String, OwnedPreparedStatement>> = RefCell::default();
}

#[pg_extern(strict)]
fn has_pending(id: i32) -> bool {
    let Some((rollup, statements)) = statements(id) else { return false };
    let _path = PinnedPath::pin();
    let _role = AsRole::become_role(rollup.owner);
    planned(&statements.has_pending, &[], &[], |rows| rows.first().get_one::<bool>().ok().flatten().unwrap_or(false))
}

#[pg_extern]
fn close_generations() {
    generation::close();
}

#[pg_extern(strict)]
fn fold_rollup(id: i32, wait: bool) -> i64 {
    let tag = Tag::Folder(id);
    if wait {
        lock::exclusive(tag);
    } else if !lock::try_exclusive(tag) {
        return 0;
    }
    // Dropped, or altered, since it was found to be due.
    let Some((rollup, statements)) = statements(id) else { return 0 };
    let horizon = generation::horizon();
    let open: Vec<i64> = horizon.open.iter().copied().collect();
    let _path = PinnedPath::pin();
    let folded = {
        let _role = AsRole::become_role(rollup.owner);
        let types = [PgBuiltInOids::INT8OID.oid(), PgBuiltInOids::INT8ARRAYOID.oid()];
        let (folded, empty) =
            planned(&statements.fold, &types, &[arg(horizon.through + 1), arg(open.clone())], |rows| {
                let row = rows.first();
                let empty: Option<Vec<pg_sys::ItemPointerData>> = row.get(2).ok().flatten();
                (row.get::<i64>(1).ok().flatten().unwrap_or(0), empty)
            });
        if let Some(places) = empty {
            session::run(&statements.remove, &[arg(places)]);
        }
        folded
    };
    if folded > 0 {
        session::run(
            "update pulso.state set folded_through = $2, open_generations = $3, folded_at = pg_catalog.clock_timestamp() where id = $1",
            &[arg(id), arg(horizon.through), arg(open)],
        );
    }
    folded
}

struct Statements {
    has_pending: String,
    fold: String,
    remove: String,
}

fn statements(id: i32) -> Option<(Rollup, Statements)> {
    let rollup = catalog::rollups().into_iter().find(|rollup| rollup.id == id)?;
    let _path = PinnedPath::pin();
    let definition = query::read(rollup.definition).unwrap_or_else(|refusal| refusal.raise());
    let sql = Sql::new(id, names(&rollup), &definition);
    Some((rollup, Statements { has_pending: sql.has_pending(), fold: sql.fold(), remove: sql.remove() }))
}

/// Runs a statement by a plan kept for the life of the backend.
fn planned<T>(
    text: &str,
    types: &[pg_sys::PgOid],
    args: &[pgrx::datum::DatumWithOid<'_>],
    read: impl FnOnce(pgrx::spi::SpiTupleTable<'_>) -> T,
) -> T {
    Spi::connect_mut(|client| {
        PLANS.with_borrow_mut(|plans| {
            if !plans.contains_key(text) {
                let plan = client.prepare_mut(text, types).unwrap_or_else(|error| error!("{error}: {text}"));
                plans.insert(text.to_owned(), plan.keep());
            }
            let Some(plan) = plans.get(text) else { error!("pulso: a plan is lost") };
            read(client.update(plan, None, args).unwrap_or_else(|error| error!("{error}: {text}")))
        })
    })
}

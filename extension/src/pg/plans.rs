//! Plans of this backend, by the text they were made from.

use pgrx::prelude::*;
use pgrx::spi::OwnedPreparedStatement;
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    static PLANS: RefCell<HashMap<String, Plan>> = RefCell::default();
}

struct Plan {
    statement: OwnedPreparedStatement,
    /// Since unused plans were last forgotten.
    is_used: bool,
}

/// Runs a statement by a plan that is kept.
pub fn planned<T>(
    text: &str,
    types: &[pg_sys::PgOid],
    args: &[pgrx::datum::DatumWithOid<'_>],
    read: impl FnOnce(pgrx::spi::SpiTupleTable<'_>) -> T,
) -> T {
    Spi::connect_mut(|client| {
        PLANS.with_borrow_mut(|plans| {
            if !plans.contains_key(text) {
                let statement =
                    client.prepare_mut(text, types).unwrap_or_else(|error| error!("{error}: {text}")).keep();
                plans.insert(text.to_owned(), Plan { statement, is_used: true });
            }
            let Some(plan) = plans.get_mut(text) else { error!("pulso: a plan is lost") };
            plan.is_used = true;
            read(client.update(&plan.statement, None, args).unwrap_or_else(|error| error!("{error}: {text}")))
        })
    })
}

/// Forgets plans that were not used since the last call: those of rollups that are gone, or changed, are among them.
pub fn forget_unused() {
    PLANS.with_borrow_mut(|plans| plans.retain(|_, plan| std::mem::take(&mut plan.is_used)));
}

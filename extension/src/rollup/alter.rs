//! `pulso.alter_rollup`: another query for a view that stays.
//!
//! The new rollup is made beside the old one, with tables and a view of its own in the engine's schema, and is built as
//! any other is; the catalog notes whose place it is to take. When it is live the view becomes its view, in one short
//! transaction: what rests on the view stays, and so do its grants. A snapshot older than that finds the new rollup not
//! live and runs its query, which is right at any time.

use super::build::{self, find, successor};
use super::capture::names;
use super::create::{self, Wanted, oid_of, refuse_stranger};
use super::feed;
use super::sql::{Names, Sql};
use crate::error::{OrRaise, Refusal};
use crate::pg::catalog::Rollup;
use crate::pg::layers;
use crate::pg::lock::{self, Tag};
use crate::pg::query;
use crate::pg::session::{self, AsRole, Setting, arg};
use crate::pg::xact;
use pgrx::prelude::*;

/// How long the swap may wait for the view or one of the tables.
const SWAP_WAIT_MS: i32 = 100;

/// How often the swap is tried while writers of the table wait for it.
const SWAP_TRIES: i32 = 20;

#[pg_extern(strict)]
fn alter_rollup(name: &str, query: &str, with_data: bool) {
    alter(name, query, with_data).or_raise();
}

/// Puts a built successor in its place; false where there is none. Fails with 55P03 when the table or the view is busy.
#[pg_extern(strict)]
fn finish_alter(name: &str) -> bool {
    finish(name).or_raise()
}

fn alter(name: &str, text: &str, with_data: bool) -> Result<(), Refusal> {
    let rollup = begin(name, text, with_data)?;
    if !with_data {
        return Ok(());
    }
    let swapped: Option<bool> = session::one("select pulso.swap_in($1, $2)", &[arg(name.to_owned()), arg(SWAP_TRIES)]);
    if swapped == Some(true) { Ok(()) } else { Err(Refusal::Readers { view: session::qualified_name(rollup.view) }) }
}

/// Makes the rollup that is to take the place of the one of that name; returns the latter.
fn begin(name: &str, text: &str, with_data: bool) -> Result<Rollup, Refusal> {
    if xact::keeps_one_snapshot() {
        return Err(Refusal::Isolation { function: "pulso.alter_rollup" });
    }
    session::refuse_other_version()?;
    let rollup = find(name)?;
    refuse_stranger(rollup.view, session::qualified_name(rollup.view))?;
    create::refuse_companion(&rollup)?;
    layers(&rollup)?;
    // One alter at a time; the latest wins.
    lock::exclusive(Tag::Folder(rollup.id));
    if let Some(earlier) = successor(rollup.id) {
        lock::exclusive(Tag::Folder(earlier.id));
        create::lock_tables_at_once(earlier.source, &earlier.joined)?;
        create::remove(&earlier, true)?;
    }
    let _role = AsRole::become_role(owner_of_view(&rollup));
    let (schema, relation) = create::target(&session::qualified_name(rollup.view))?;
    let id = create::make(&Wanted {
        schema: &schema,
        relation: &relation,
        query: text,
        with_data,
        replaces: Some(rollup.id),
        companion_of: None,
    })?;
    let made = build::by_id(id).unwrap_or_else(|| error!("rollup {id} is not in the catalog"));
    refuse_columns(&rollup, &made)?;
    Ok(rollup)
}

fn finish(name: &str) -> Result<bool, Refusal> {
    let rollup = find(name)?;
    refuse_stranger(rollup.view, session::qualified_name(rollup.view))?;
    let Some(next) = successor(rollup.id) else { return Ok(false) };
    let live: Option<bool> = session::one("select s.live from pulso.state s where s.id = $1", &[arg(next.id)]);
    if live != Some(true) {
        return Ok(false);
    }
    lock::exclusive(Tag::Folder(rollup.id));
    lock::exclusive(Tag::Folder(next.id));
    if build::by_id(rollup.id).is_none() || build::by_id(next.id).is_none() {
        return Ok(false);
    }
    let _path = Setting::pinned_path();
    let owner = session::extension_owner();
    let _view_owner = AsRole::become_role(owner_of_view(&rollup));
    let _waits = Setting::short_waits(SWAP_WAIT_MS);
    let definition = query::read(next.definition)?;
    let beside = names(&next);
    let view = session::qualified_name(rollup.view);
    let mut used = vec![(rollup.view, pg_sys::AccessExclusiveLock)];
    used.extend(create::writers(rollup.source, &rollup.joined)?);
    if !lock::together(&used) {
        return Err(Refusal::Readers { view });
    }
    let sql = Sql::new(next.id, Names { view: view.clone(), ..names(&next) }, &definition);
    let body = layers(&rollup)?.into_iter().fold(sql.read(), |body, condition| {
        format!("select {0}.* from ({body}) as {0} where {condition}", layers::ALIAS)
    });
    session::run(&format!("create or replace view {view}{} as {body}", options(&rollup)), &[]);
    session::run(&format!("drop view {}", beside.view), &[]);
    create::remove(&rollup, false)?;
    let _role = AsRole::become_role(owner);
    session::run(
        "update pulso.rollup set view = $2, replaces = null where id = $1",
        &[arg(next.id), arg(oid_of(&view))],
    );
    std::iter::once(&next.source).chain(&next.joined).for_each(|table| session::invalidate(*table));
    feed::announce_all(&view);
    Ok(true)
}

fn owner_of_view(rollup: &Rollup) -> pg_sys::Oid {
    session::one("select c.relowner from pg_catalog.pg_class c where c.oid = $1", &[arg(rollup.view)])
        .unwrap_or(rollup.owner)
}

/// The conditions that somebody has put around the view, such as which rows a role may see: they stay. Refuses anything
/// else, which would be lost.
fn layers(rollup: &Rollup) -> Result<Vec<String>, Refusal> {
    layers::conditions(rollup.view).ok_or_else(|| Refusal::Rewritten { view: session::qualified_name(rollup.view) })
}

/// The view's own options, such as security_barrier, which CREATE OR REPLACE VIEW would forget.
fn options(rollup: &Rollup) -> String {
    let options: Option<String> = session::one(
        "select pg_catalog.array_to_string(c.reloptions, ', ') from pg_catalog.pg_class c where c.oid = $1",
        &[arg(rollup.view)],
    );
    options.filter(|text| !text.is_empty()).map(|text| format!(" with ({text})")).unwrap_or_default()
}

/// Refuses, before anything is built, what CREATE OR REPLACE VIEW would refuse at the end.
fn refuse_columns(rollup: &Rollup, next: &Rollup) -> Result<(), Refusal> {
    const DIFFERENCE: &str = "
        select pg_catalog.format('column %s is %I %s and would be %s', o.attnum, o.attname,
                 pg_catalog.format_type(o.atttypid, o.atttypmod),
                 case when n.attname is null then 'gone'
                      else pg_catalog.format('%I %s', n.attname, pg_catalog.format_type(n.atttypid, n.atttypmod)) end)
          from pg_catalog.pg_attribute o
          left join pg_catalog.pg_attribute n on n.attrelid = $2 and n.attnum = o.attnum
         where o.attrelid = $1 and o.attnum > 0
           and (o.attname, o.atttypid, o.atttypmod, o.attcollation)
               is distinct from (n.attname, n.atttypid, n.atttypmod, n.attcollation)
         order by o.attnum limit 1";
    match session::one(DIFFERENCE, &[arg(rollup.view), arg(next.view)]) {
        Some(difference) => Err(Refusal::Columns { view: session::qualified_name(rollup.view), difference }),
        None => Ok(()),
    }
}

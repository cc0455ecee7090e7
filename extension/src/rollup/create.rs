//! `pulso.create_rollup` and `pulso.drop_rollup`.

use super::sql::{Names, Sql};
use super::{build, guard, partitions, triggers};
use crate::error::{OrRaise, Refusal};
use crate::pg::catalog::{self, Rollup};
use crate::pg::lock::{self, Tag};
use crate::pg::query::{self, Definition};
use crate::pg::session::{self, AsRole, Setting, arg};
use crate::pg::{tree, xact};
use crate::settings;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

/// Room that "_<id>_delta" needs within Postgres's 63 bytes.
const STEM_MAX: usize = 40;
/// How long DDL on a table that is in use may wait for its lock.
pub const LOCK_WAIT_MS: i32 = 200;

#[pg_extern(strict)]
fn create_rollup(name: &str, query: &str, with_data: bool) {
    create(name, query, with_data).or_raise();
}

#[pg_extern(strict)]
fn drop_rollup(name: &str) {
    drop(name).or_raise();
}

fn create(name: &str, text: &str, with_data: bool) -> Result<(), Refusal> {
    if xact::keeps_one_snapshot() {
        return Err(Refusal::Isolation { function: "pulso.create_rollup" });
    }
    session::refuse_other_version()?;
    let (schema, relation) = target(name)?;
    let view = quote_qualified_identifier(&schema, &relation);
    let taken: Option<bool> = session::one("select pg_catalog.to_regclass($1) is not null", &[arg(view.clone())]);
    if taken == Some(true) {
        return Err(Refusal::NameTaken { name: view });
    }
    make(&Wanted { schema: &schema, relation: &relation, query: text, with_data, replaces: None, companion_of: None })?;
    Ok(())
}

/// A rollup to be made.
pub struct Wanted<'a> {
    pub schema: &'a str,
    pub relation: &'a str,
    pub query: &'a str,
    /// Filled in this transaction while writers of the table wait; else by `pulso.build`, while nobody does.
    pub with_data: bool,
    /// The rollup whose place it is to take. Until then its view is in the engine's schema.
    pub replaces: Option<i32>,
    /// The rollup whose values it counts one by one; its view is in the engine's schema for good.
    pub companion_of: Option<i32>,
}

impl Wanted<'_> {
    /// What the view in the engine's schema is for.
    fn inner_view(&self) -> Option<&'static str> {
        match (self.replaces, self.companion_of) {
            (Some(_), _) => Some("next"),
            (_, Some(_)) => Some("values"),
            _ => None,
        }
    }
}

/// Makes a rollup that the role in force will own; returns its number.
pub fn make(wanted: &Wanted<'_>) -> Result<i32, Refusal> {
    let select = query::single_select(wanted.query)?;
    let caller = session::current_role();
    let owner = session::extension_owner();
    let id: i32 = {
        let _role = AsRole::become_role(owner);
        session::one("select pg_catalog.nextval('pulso.rollup_id_seq')::int", &[])
            .unwrap_or_else(|| error!("no id for the rollup"))
    };
    let stem = stem(wanted.relation);
    let inner =
        |schema: &str, suffix: &str| quote_qualified_identifier(schema, format!("{stem}_{id}_{suffix}").as_str());
    let names = Names {
        view: match wanted.inner_view() {
            None => quote_qualified_identifier(wanted.schema, wanted.relation),
            Some(purpose) => inner(wanted.schema, purpose),
        },
        definition: inner("pulso", "query"),
        base: inner("pulso", "base"),
        delta: inner("pulso", "delta"),
        companions: Vec::new(),
    };

    // The query is read with the caller's rights and search path, in the schema where the caller may make views;
    // then it moves to the engine's schema, where only the extension's owner may put things.
    let passing = inner(wanted.schema, "query");
    session::run(&format!("create view {passing} as\n{select}\n"), &[]);
    let _path = Setting::pinned_path();
    move_to_engine(&passing, owner);
    let definition = query::read(oid_of(&names.definition))?;
    for table in &definition.tables {
        refuse_source(table.relation)?;
    }
    partitions::keep(definition.fact());
    for partition in partitions::of(definition.fact()) {
        refuse_partition(partition, caller)?;
    }
    if definition.is_joined() {
        refuse_join(&definition)?;
    }
    let joined: Vec<pg_sys::Oid> = definition.tables[1..].iter().map(|table| table.relation).collect();

    let mut sql = Sql::new(id, names, &definition);
    let companions = (0..definition.companions.len()).map(|companion| {
        let query = sql.companion(companion);
        let made = make(&Wanted { query: &query, replaces: None, companion_of: Some(id), ..*wanted })?;
        Ok(build::by_id(made).map(|made| session::qualified_name(made.view)).unwrap_or_default())
    });
    let companions = companions.collect::<Result<Vec<String>, Refusal>>()?;
    sql.name_companions(companions);
    let names = sql.names();
    {
        let _role = AsRole::become_role(owner);
        for statement in sql.create_tables() {
            session::run(&statement, &[]);
        }
        for table in [&names.base, &names.delta] {
            session::run(&format!("alter table {table} owner to {}", quote_identifier(role_name(caller))), &[]);
        }
    }
    session::run(&sql.create_view(), &[]);
    let view = oid_of(&names.view);
    if wanted.inner_view().is_some() {
        move_to_engine(&names.view, owner);
    }
    // The lock of CREATE TRIGGER: it waits for every transaction that has written to the tables, so that each row a
    // later snapshot does not see has its delta. New writers queue behind it: taken last, and, where the tables are to
    // be filled online, not waited for.
    if wanted.with_data {
        lock_tables(definition.fact(), &joined)?;
    } else {
        guard::refuse_missing(&definition)?;
        lock_tables_at_once(definition.fact(), &joined)?;
    }
    guard::make(id, &definition, oid_of(&names.definition))?;
    triggers::create(definition.fact(), &joined);
    {
        let _role = AsRole::become_role(owner);
        session::run(
            "with made as (
               insert into pulso.rollup (id, view, definition, source, base, delta, replaces, joined, companion_of, partitions, shows_all_rows)
               overriding system value
               values ($1, $2, $3::regclass, $4, $5::regclass, $6::regclass, $7, $8::oid[]::regclass[], $9, $10::oid[]::regclass[], $11)
               returning id)
             insert into pulso.state (id, live, reason) select id, false, 'not built yet' from made",
            &[
                arg(id),
                arg(view),
                arg(names.definition.clone()),
                arg(definition.fact()),
                arg(names.base.clone()),
                arg(names.delta.clone()),
                arg(wanted.replaces),
                arg(joined.clone()),
                arg(wanted.companion_of),
                arg(partitions::of(definition.fact())),
                arg(settings::allow_row_security()),
            ],
        );
    }
    std::iter::once(&definition.fact()).chain(&joined).for_each(|table| session::invalidate(*table));
    if wanted.with_data {
        let made = build::by_id(id).unwrap_or_else(|| error!("rollup {id} is not in the catalog"));
        build::rebuild(&made);
    }
    Ok(id)
}

fn move_to_engine(view: &str, owner: pg_sys::Oid) {
    let _role = AsRole::become_role(owner);
    session::run(&format!("alter view {view} set schema pulso"), &[]);
}

/// What keeps writers off the tables of a rollup, those first that are written first: headers before their lines.
/// Writers of a hypertable name the whole; those of partitions may not.
pub fn writers(source: pg_sys::Oid, joined: &[pg_sys::Oid]) -> Result<Vec<(pg_sys::Oid, u32)>, Refusal> {
    let mut tables = [joined, &[source]].concat();
    for table in &tables {
        let may = "select pg_catalog.has_table_privilege($1, 'update, delete, truncate')";
        if session::one(may, &[arg(*table)]) != Some(true) {
            return Err(Refusal::NotOwner { what: format!("table {}", session::qualified_name(*table)) });
        }
    }
    tables.extend(partitions::of(source));
    Ok(tables.into_iter().map(|table| (table, pg_sys::ShareRowExclusiveLock)).collect())
}

/// Keeps writers off the tables until the transaction ends, after waiting for those there are.
fn lock_tables(source: pg_sys::Oid, joined: &[pg_sys::Oid]) -> Result<(), Refusal> {
    let free = lock::together(&writers(source, joined)?);
    free.then_some(()).ok_or_else(|| Refusal::Busy { table: session::qualified_name(source) })
}

/// The same, if writers let go in a moment: whoever waits here makes every new writer wait as well.
pub fn lock_tables_at_once(source: pg_sys::Oid, joined: &[pg_sys::Oid]) -> Result<(), Refusal> {
    let _waits = Setting::short_waits(LOCK_WAIT_MS);
    PgTryBuilder::new(std::panic::AssertUnwindSafe(|| lock_tables(source, joined)))
        .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, |_| {
            Err(Refusal::Busy { table: session::qualified_name(source) })
        })
        .execute()
}

fn drop(name: &str) -> Result<(), Refusal> {
    session::refuse_other_version()?;
    let rollup = build::find(name)?;
    refuse_stranger(rollup.view, session::qualified_name(rollup.view))?;
    refuse_companion(&rollup)?;
    let successor = build::successor(rollup.id);
    for rollup in successor.iter().chain([&rollup]) {
        // Whoever fills or folds it goes first: waiting for that with a lock on its table would keep writers waiting too.
        lock::exclusive(Tag::Folder(rollup.id));
        catalog::companions(rollup.id).iter().for_each(|companion| lock::exclusive(Tag::Folder(companion.id)));
        lock_tables(rollup.source, &rollup.joined)?;
        remove(rollup, true)?;
    }
    Ok(())
}

/// Refuses to change a rollup that is part of another.
pub fn refuse_companion(rollup: &Rollup) -> Result<(), Refusal> {
    match rollup.companion_of.and_then(build::by_id) {
        Some(whole) => Err(Refusal::Part {
            view: session::qualified_name(rollup.view),
            whole: session::qualified_name(whole.view),
        }),
        None => Ok(()),
    }
}

/// Removes a rollup's tables, its view if asked to, and the triggers and indexes that no other rollup needs. The caller
/// keeps writers off its tables.
pub fn remove(rollup: &Rollup, with_view: bool) -> Result<(), Refusal> {
    let owner = session::extension_owner();
    let _path = Setting::pinned_path();
    let [view, definition, base, delta] =
        [rollup.view, rollup.definition, rollup.base, rollup.delta].map(session::qualified_name);
    if with_view {
        session::run(&format!("drop view {view}"), &[]);
    }
    // Read by that view.
    for companion in catalog::companions(rollup.id) {
        remove(&companion, true)?;
    }
    session::run(&format!("drop view {definition}"), &[]);
    session::run(&format!("drop table {base}, {delta}"), &[]);
    let others: Vec<Rollup> = catalog::rollups().into_iter().filter(|other| other.id != rollup.id).collect();
    for table in std::iter::once(&rollup.source).chain(&rollup.joined) {
        triggers::sweep(*table, &others);
        guard::sweep(*table, &others)?;
        session::invalidate(*table);
    }
    let _role = AsRole::become_role(owner);
    session::run("delete from pulso.rollup where id = $1", &[arg(rollup.id)]);
    session::run("delete from pulso.state where id = $1", &[arg(rollup.id)]);
    Ok(())
}

/// Schema and name of the view to make.
pub fn target(name: &str) -> Result<(String, String), Refusal> {
    let bad = || Refusal::BadName { name: name.to_owned() };
    let parts: Vec<String> =
        session::one("select pg_catalog.parse_ident($1)", &[arg(name.to_owned())]).ok_or_else(bad)?;
    match parts.as_slice() {
        [relation] => {
            let schema: Option<String> = session::one("select pg_catalog.current_schema()::text", &[]);
            Ok((schema.ok_or_else(bad)?, relation.clone()))
        }
        [schema, relation] => Ok((schema.clone(), relation.clone())),
        _ => Err(bad()),
    }
}

/// The beginning of the view's name that leaves room for a suffix.
fn stem(relation: &str) -> &str {
    let mut end = relation.len().min(STEM_MAX);
    while !relation.is_char_boundary(end) {
        end -= 1;
    }
    &relation[..end]
}

pub fn oid_of(name: &str) -> pg_sys::Oid {
    session::one("select $1::regclass::oid", &[arg(name.to_owned())]).unwrap_or_else(|| error!("no relation {name}"))
}

fn role_name(role: pg_sys::Oid) -> String {
    session::one("select rolname::text from pg_catalog.pg_roles where oid = $1", &[arg(role)])
        .unwrap_or_else(|| error!("no role {role}"))
}

/// Refuses a role that is not, and is not a member of, the owner of a relation.
pub fn refuse_stranger(relation: pg_sys::Oid, what: String) -> Result<(), Refusal> {
    if owns(session::current_role(), relation) { Ok(()) } else { Err(Refusal::NotOwner { what }) }
}

fn owns(role: pg_sys::Oid, relation: pg_sys::Oid) -> bool {
    session::one(
        "select pg_catalog.pg_has_role($2, c.relowner, 'usage') from pg_catalog.pg_class c where c.oid = $1",
        &[arg(relation), arg(role)],
    ) == Some(true)
}

/// Refuses a partition that the rollup's owner does not own, or whose changes cannot be seen.
pub fn refuse_partition(table: pg_sys::Oid, owner: pg_sys::Oid) -> Result<(), Refusal> {
    if !owns(owner, table) {
        return Err(Refusal::NotOwner { what: format!("partition {}", session::qualified_name(table)) });
    }
    refuse_obstacle(table, |obstacle| obstacle != "partition")
}

fn refuse_source(table: pg_sys::Oid) -> Result<(), Refusal> {
    refuse_stranger(table, format!("table {}", session::qualified_name(table)))?;
    refuse_obstacle(table, |obstacle| obstacle != "row security" || !settings::allow_row_security())
}

/// Refuses tables that can be counted, but not joined.
pub fn refuse_join(definition: &Definition) -> Result<(), Refusal> {
    let refuse = |table: pg_sys::Oid, why: &str, hint| {
        Err(Refusal::Join { table: session::qualified_name(table), why: why.to_owned(), hint })
    };
    const AT_READ: &str = "Only the table whose rows are counted may be; join this one in a view over the rollup.";
    for table in definition.tables[1..].iter().map(|table| table.relation) {
        if tree::is_partitioned(table) {
            return refuse(table, "it is partitioned", AT_READ);
        }
        if session::is_hypertable(table) {
            return refuse(table, "it is a hypertable", AT_READ);
        }
    }
    for table in definition.tables.iter().map(|table| table.relation) {
        if session::one("select pulso.is_subscribed($1)", &[arg(table)]) == Some(true) {
            return refuse(
                table,
                "logical replication feeds it, which heeds no foreign key",
                "Roll up each table alone, or join where the changes are made.",
            );
        }
    }
    Ok(())
}

fn refuse_obstacle(table: pg_sys::Oid, matters: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let source = session::qualified_name(table);
    let obstacle: Option<String> = session::one("select pulso.obstacle($1::oid::regclass)", &[arg(table)]);
    let Some(obstacle) = obstacle.filter(|obstacle| matters(obstacle)) else { return Ok(()) };
    let (what, hint) = match obstacle.as_str() {
        "system" => ("system table", "Only the tables of an application can be rolled up."),
        "view" => ("view", "Name the table under it."),
        "foreign" => {
            ("foreign table", "Its changes cannot be seen from here; make the rollup on the server that holds it.")
        }
        "partition" => ("partition", "Name the partitioned table, and the partition's bounds in WHERE."),
        "unlogged" => (
            "unlogged table",
            "A crash would empty the table and not the rollup; use `alter table … set logged` first.",
        ),
        "row security" => (
            "table with row security",
            "The rollup would show figures of every row to whoever may read it; where that is meant, set \
             pulso.allow_row_security = on first.",
        ),
        "forced row security" => (
            "table with forced row security",
            "It hides rows from their owner too, with whose eyes the rollup would be filled; use no force.",
        ),
        "inherited" => {
            ("table with inheritance", "Partition it instead, or roll up each table and combine them in a view.")
        }
        _ => ("chunk", "Name the hypertable, and the chunk's bounds in WHERE."),
    };
    Err(Refusal::Source { what: format!("{what} {source}"), hint })
}

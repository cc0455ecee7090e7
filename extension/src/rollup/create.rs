//! `pulso.create_rollup` and `pulso.drop_rollup`.

use super::sql::{Names, Sql};
use crate::error::{OrRaise, Refusal};
use crate::pg::query::{self, Definition};
use crate::pg::session::{self, AsRole, PinnedPath, arg};
use crate::pg::{catalog, xact};
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

/// Room that "_<id>_delta" needs within Postgres's 63 bytes.
const STEM_MAX: usize = 40;

#[pg_extern(strict)]
fn create_rollup(name: &str, query: &str, with_data: bool) {
    create(name, query, with_data).or_raise();
}

#[pg_extern(strict)]
fn drop_rollup(name: &str) {
    drop(name).or_raise();
}

fn create(name: &str, text: &str, with_data: bool) -> Result<(), Refusal> {
    if !with_data {
        return Err(Refusal::WithoutData);
    }
    if xact::keeps_one_snapshot() {
        return Err(Refusal::Isolation { function: "pulso.create_rollup" });
    }
    let (schema, relation) = target(name)?;
    let select = query::single_select(text)?;
    let caller = session::current_role();
    let owner = session::extension_owner();
    let view = quote_qualified_identifier(&schema, &relation);
    let taken: Option<bool> = session::one("select pg_catalog.to_regclass($1) is not null", &[arg(view.clone())]);
    if taken == Some(true) {
        return Err(Refusal::NameTaken { name: view });
    }

    let id: i32 = {
        let _role = AsRole::become_role(owner);
        session::one("select pg_catalog.nextval('pulso.rollup_id_seq')::int", &[])
            .unwrap_or_else(|| error!("no id for the rollup"))
    };
    let stem = stem(&relation);
    let inner =
        |schema: &str, suffix: &str| quote_qualified_identifier(schema, format!("{stem}_{id}_{suffix}").as_str());
    let names = Names {
        view,
        definition: inner("pulso", "query"),
        base: inner("pulso", "base"),
        delta: inner("pulso", "delta"),
    };

    // The query is read with the caller's rights and search path, in the schema where the caller may make views;
    // then it moves to the engine's schema, where only the extension's owner may put things.
    let passing = inner(&schema, "query");
    session::run(&format!("create view {passing} as\n{select}\n"), &[]);
    let _path = PinnedPath::pin();
    {
        let _role = AsRole::become_role(owner);
        session::run(&format!("alter view {passing} set schema pulso"), &[]);
    }
    let definition = query::read(oid_of(&names.definition))?;
    let source = session::qualified_name(definition.source);
    refuse_source(&definition, &source)?;
    // The lock of CREATE TRIGGER, taken before the first look at the rows: writers wait until this commits.
    session::run(&format!("lock table only {source} in share row exclusive mode"), &[]);

    let sql = Sql::new(id, names, &definition);
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
    session::run(&sql.fill(), &[]);
    session::run(&format!("analyze {}", names.base), &[]);
    session::run(&sql.create_view(), &[]);
    create_triggers(&definition, &source);
    {
        let _role = AsRole::become_role(owner);
        session::run(
            "with made as (
               insert into pulso.rollup (id, view, definition, source, base, delta)
               overriding system value values ($1, $2::regclass, $3::regclass, $4::regclass, $5::regclass, $6::regclass)
               returning id)
             insert into pulso.state (id) select id from made",
            &[
                arg(id),
                arg(names.view.clone()),
                arg(names.definition.clone()),
                arg(source),
                arg(names.base.clone()),
                arg(names.delta.clone()),
            ],
        );
    }
    session::invalidate(definition.source);
    Ok(())
}

fn drop(name: &str) -> Result<(), Refusal> {
    let id: Option<i32> = session::one("select pulso.rollup_id($1)", &[arg(name.to_owned())]);
    let no_rollup = || Refusal::NoRollup { name: name.to_owned() };
    let id = id.ok_or_else(no_rollup)?;
    let rollups = catalog::rollups();
    let rollup = *rollups.iter().find(|rollup| rollup.id == id).ok_or_else(no_rollup)?;
    refuse_stranger(rollup.view, session::qualified_name(rollup.view))?;
    let owner = session::extension_owner();
    let _path = PinnedPath::pin();
    let source = session::qualified_name(rollup.source);
    session::run(&format!("lock table only {source} in share row exclusive mode"), &[]);
    let names = [rollup.view, rollup.definition, rollup.base, rollup.delta].map(session::qualified_name);
    session::run(&format!("drop view {}, {}", names[0], names[1]), &[]);
    session::run(&format!("drop table {}, {}", names[2], names[3]), &[]);
    if !rollups.iter().any(|other| other.source == rollup.source && other.id != id) {
        for event in EVENTS {
            session::run(&format!("drop trigger if exists pulso_{event} on {source}"), &[]);
        }
    }
    {
        let _role = AsRole::become_role(owner);
        session::run("delete from pulso.rollup where id = $1", &[arg(id)]);
    }
    session::invalidate(rollup.source);
    Ok(())
}

/// Schema and name of the view to make.
fn target(name: &str) -> Result<(String, String), Refusal> {
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

fn oid_of(name: &str) -> pg_sys::Oid {
    session::one("select $1::regclass::oid", &[arg(name.to_owned())]).unwrap_or_else(|| error!("no relation {name}"))
}

fn role_name(role: pg_sys::Oid) -> String {
    session::one("select rolname::text from pg_catalog.pg_roles where oid = $1", &[arg(role)])
        .unwrap_or_else(|| error!("no role {role}"))
}

/// Refuses a role that is not, and is not a member of, the owner of a relation.
fn refuse_stranger(relation: pg_sys::Oid, what: String) -> Result<(), Refusal> {
    let owns: Option<bool> = session::one(
        "select pg_catalog.pg_has_role(c.relowner, 'usage') from pg_catalog.pg_class c where c.oid = $1",
        &[arg(relation)],
    );
    if owns == Some(true) { Ok(()) } else { Err(Refusal::NotOwner { what }) }
}

fn refuse_source(definition: &Definition, source: &str) -> Result<(), Refusal> {
    // The first thing in the way, in the words of the message, and the cure.
    const OBSTACLE: &str = "
        select case
                 when n.nspname in ('pg_catalog', 'information_schema', 'pulso') then 'system'
                 when c.relkind in ('v', 'm') then 'view'
                 when c.relkind = 'f' then 'foreign'
                 when c.relkind = 'p' or c.relispartition then 'partitioned'
                 when c.relpersistence = 'u' then 'unlogged'
                 when c.relrowsecurity then 'row security'
                 when c.relhassubclass or exists (select from pg_catalog.pg_inherits i where c.oid in (i.inhrelid, i.inhparent)) then 'inherited'
                 when exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgname = 'ts_insert_blocker') then 'hypertable'
               end
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.oid = $1";
    refuse_stranger(definition.source, format!("table {source}"))?;
    let obstacle: Option<String> = session::one(OBSTACLE, &[arg(definition.source)]);
    let Some(obstacle) = obstacle else { return Ok(()) };
    let (what, hint) = match obstacle.as_str() {
        "system" => ("system table", "Only the tables of an application can be rolled up."),
        "view" => ("view", "Name the table under it."),
        "foreign" => {
            ("foreign table", "Its changes cannot be seen from here; make the rollup on the server that holds it.")
        }
        "partitioned" => ("partitioned table or partition", "This version maintains rollups of plain tables only."),
        "unlogged" => (
            "unlogged table",
            "A crash would empty the table and not the rollup; use `alter table … set logged` first.",
        ),
        "row security" => (
            "table with row security",
            "The rollup would show every row to whoever may read it; this version refuses that.",
        ),
        "inherited" => ("table with inheritance", "This version maintains rollups of plain tables only."),
        _ => ("hypertable", "This version maintains rollups of plain tables only."),
    };
    Err(Refusal::Source { what: format!("{what} {source}"), hint })
}

const EVENTS: [&str; 4] = ["insert", "update", "delete", "truncate"];

fn create_triggers(definition: &Definition, source: &str) {
    for event in EVENTS {
        let exists: Option<bool> = session::one(
            "select exists (select from pg_catalog.pg_trigger t where t.tgrelid = $1 and t.tgname = $2)",
            &[arg(definition.source), arg(format!("pulso_{event}"))],
        );
        if exists == Some(true) {
            continue;
        }
        let (when, rows) = match event {
            "insert" => ("after", "referencing new table as pulso_new"),
            "update" => ("after", "referencing old table as pulso_old new table as pulso_new"),
            "delete" => ("after", "referencing old table as pulso_old"),
            _ => ("before", ""),
        };
        session::run(
            &format!(
                "create trigger pulso_{event} {when} {event} on {source} {rows} for each statement execute function pulso.capture()"
            ),
            &[],
        );
    }
}

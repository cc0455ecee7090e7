//! `alter extension pulso update`: a database of an earlier version becomes what a new one is, with its rollups at work.

use crate::assert_equal;
use crate::common::Db;
use tokio_postgres::Client;

const QUERY: &str = "select k, count(*) as n, sum(x) as total, avg(x::numeric(10, 2)) as mean from public.t group by k";
const WHOLE: &str = "select count(*) as n, sum(x) as total from public.t where k <> 2";

/// Everything an extension's script makes, as text: what is there, how it is defined, what it says of itself, and who
/// may use it. Nothing of it depends on a version.
const CATALOG: &str = "
  with own as (
    select d.classid, d.objid from pg_depend d join pg_extension e on e.oid = d.refobjid
     where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'pulso'
  )
  select 'member ' || pg_describe_object(classid, objid, 0) || ': ' || coalesce(obj_description(objid, classid::regclass::name), 'no comment') from own
  union all
  select 'function ' || pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') || p.proparallel::text || p.procost from pg_proc p join own on own.objid = p.oid and own.classid = 'pg_proc'::regclass
  union all
  select 'relation ' || c.oid::regclass || ' ' || c.relkind::text || coalesce(c.relacl::text, '') || coalesce(c.reloptions::text, '') || coalesce(pg_get_viewdef(c.oid), '')
    from pg_class c join own on own.objid = c.oid and own.classid = 'pg_class'::regclass
  union all
  select 'column ' || c.oid::regclass || ' ' || a.attnum || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || a.attnotnull || a.attidentity::text || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || coalesce(col_description(c.oid, a.attnum), '') || coalesce(a.attacl::text, '')
    from pg_class c join own on own.objid = c.oid and own.classid = 'pg_class'::regclass
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
  union all
  select 'index ' || pg_get_indexdef(i.indexrelid) from pg_index i join own on own.objid = i.indrelid and own.classid = 'pg_class'::regclass
  union all
  select 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(k.oid) from pg_constraint k join own on own.objid = k.conrelid and own.classid = 'pg_class'::regclass
  union all
  select 'trigger ' || pg_get_triggerdef(t.oid) from pg_trigger t join own on own.objid = t.tgrelid and own.classid = 'pg_class'::regclass where not t.tgisinternal
  union all
  select 'dumped ' || o.config::regclass || ' ' || coalesce(o.condition, '') from pg_extension e cross join lateral unnest(e.extconfig, e.extcondition) as o (config, condition) where e.extname = 'pulso'
  union all
  select 'extension ' || extversion || extrelocatable from pg_extension where extname = 'pulso'
  union all
  select 'schema ' || coalesce(nspacl::text, '') || coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = 'pulso'
  order by 1";

async fn catalog(client: &Client) -> Vec<String> {
    client.query(CATALOG, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A database of the first version, with rollups at work.
async fn first_version() -> (Db, Client) {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute("create extension pulso version '0.1.0'; create table t (k int, x numeric); insert into t select i % 5, i from generate_series(1, 100) i").await.unwrap();
    // What create_rollup of that version made; today's refuses to work with that version's SQL.
    client.batch_execute(include_str!("rollups_of_0_1_0.sql")).await.unwrap();
    (db, client)
}

#[tokio::test]
async fn an_updated_database_is_as_a_new_one() {
    let (_db, updated) = first_version().await;
    updated
        .batch_execute("insert into t values (1, 1); update t set x = x + 1 where k = 3; select pulso.fold()")
        .await
        .unwrap();
    updated.batch_execute("insert into t values (1, 1), (9, 9); delete from t where k = 4").await.unwrap();
    for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
        assert_eq!(crate::differences(&updated, name, query).await, 0, "{name} before the update, by the new library");
    }
    // Until then rollups keep working; what would mix the versions is refused.
    for call in ["create_rollup('public.n', 'select k, count(*) as n from t group by k')", "drop_rollup('public.r')"] {
        let error = updated.batch_execute(&format!("select pulso.{call}")).await.expect_err(call);
        let error = error.as_db_error().unwrap().clone();
        assert_eq!(error.code().code(), "55000", "{call}: {error:?}");
        assert_eq!(error.hint(), Some("Run: alter extension pulso update"), "{call}");
    }
    updated.batch_execute("alter extension pulso update").await.unwrap();
    for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
        assert_equal(&updated, name, query, "right after the update").await;
    }
    assert_eq!(
        updated.query_one("select count(*) from pulso.rollups where live", &[]).await.unwrap().get::<_, i64>(0),
        2
    );
    for statement in [
        "insert into t values (1, 1)",
        "select pulso.fold()",
        "update t set k = 2 where k = 9",
        "select pulso.repair('public.r')",
        "delete from t where k = 3",
        "select pulso.alter_rollup('public.w', 'select count(*) as n, sum(x) as total from public.t where k <> 2', false); select pulso.build('public.w')",
        "truncate t",
        "insert into t values (5, 5); select pulso.fold()",
    ] {
        updated.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
            assert_equal(&updated, name, query, statement).await;
        }
    }
    let fresh = Db::empty().await;
    let fresh = fresh.connect().await;
    fresh.batch_execute("create extension pulso").await.unwrap();
    let (got, wanted) = (catalog(&updated).await, catalog(&fresh).await);
    let missing: Vec<_> = wanted.iter().filter(|line| !got.contains(line)).collect();
    let left: Vec<_> = got.iter().filter(|line| !wanted.contains(line)).collect();
    assert!(missing.is_empty() && left.is_empty(), "the update does not make: {missing:#?}\nand leaves: {left:#?}");
    updated.batch_execute("select pulso.drop_rollup('public.r'); select pulso.drop_rollup('public.w')").await.unwrap();
}

//! What a role that is bound to shops sees through SQL: every object of schema analytics, out of the catalog.

use crate::common::Db;
use indicatif::ProgressBar;
use jiff::Timestamp;
use pulso::db;
use pulso::migrate::{self, Tier};
use pulso::simulate::{Plan, history};
use std::collections::BTreeMap;
use std::process::Command;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

const UNKNOWN: &str = "00000000-0000-4000-8000-00000000dead";

/// Objects of the chain, not of a shop. Whoever adds one here has looked at what it tells.
const WITHOUT_A_SHOP: [&str; 2] = ["report_freshness", "report_refresh"];
/// Functions that take no shop. Those that write are no reader's.
const FUNCTIONS_WITHOUT_A_SHOP: [&str; 1] = ["figures_as_of"];

/// Two shops with everything that the contract shows, on a tier.
async fn two_tenants(tier: Tier) -> (Db, Client, [String; 2]) {
    two_tenants_in(Db::empty().await, tier).await
}

pub async fn two_tenants_in(db: Db, tier: Tier) -> (Db, Client, [String; 2]) {
    let mut sql = db.connect().await;
    migrate::up_on(&mut sql, tier).await.unwrap();
    let plan = Plan { shops: 2, history_days: 20, until: Timestamp::now(), ..Plan::default() };
    history(db.url(), &plan, &ProgressBar::hidden(), &CancellationToken::new()).await.unwrap();
    if tier == Tier::Plain {
        sql.batch_execute("select pulso.plain_refresh()").await.unwrap();
    }
    sql.batch_execute("select analytics.refresh_analytics_views()").await.unwrap();
    let shops = sql.query("select id::text from stores order by 1", &[]).await.unwrap();
    (db, sql, [shops[0].get(0), shops[1].get(0)])
}

/// Makes a role of the test's own; roles are the cluster's, names must not meet.
async fn role(db: &Db, sql: &Client, name: &str) -> String {
    let role = format!("{}_{name}", db.name);
    sql.batch_execute(&format!("create role {role} login")).await.unwrap();
    role
}

async fn as_role(db: &Db, role: &str) -> Client {
    let mut config: tokio_postgres::Config = db.url().parse().unwrap();
    config.user(role);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn pulso(db: &Db, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pulso")).args(args).env("DATABASE_URL", db.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn text(client: &Client, sql: &str) -> Result<String, String> {
    let rows = client.query(sql, &[]).await.map_err(|error| match error.as_db_error() {
        Some(error) => format!("{} {}", error.code().code(), error.message()),
        None => error.to_string(),
    })?;
    Ok(rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect::<Vec<_>>().join("\n"))
}

/// Name → whether it has rows of shops.
async fn relations(sql: &Client) -> BTreeMap<String, bool> {
    let query = "select c.relname::text, exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'store_id' and not a.attisdropped)
                   from pg_class c where c.relnamespace = 'analytics'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')";
    sql.query(query, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A call of each function that reads, with a place for the shop: what it takes besides is of its type.
async fn calls(sql: &Client) -> Vec<(String, String)> {
    let query = "
      select p.proname::text, coalesce(string_agg(case
               when t.type = 'uuid'::regtype then '$'
               when t.type = 'uuid[]'::regtype then 'array[$]'
               when t.type = 'date'::regtype and t.name = 'first' then 'current_date - 30'
               when t.type = 'date'::regtype then 'current_date'
               when t.type = 'timestamptz'::regtype then 'now()'
               when t.type = 'text'::regtype then '''weekday'''
               when t.type = 'int'::regtype then '1' end, ', ' order by t.n), '')
        from pg_proc p
        left join lateral (select a.type, a.n, p.proargnames[a.n] as name from unnest(p.proargtypes) with ordinality as a (type, n)) t on true
       where p.pronamespace = 'analytics'::regnamespace and p.provolatile <> 'v' and p.prokind = 'f'
       group by p.oid, p.proname order by 1";
    let rows = sql.query(query, &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), format!("analytics.{}({})", row.get::<_, &str>(0), row.get::<_, &str>(1))))
        .collect()
}

/// All that a function answers about a shop, as one text, or its error.
async fn answer(client: &Client, call: &str, shop: &str) -> Result<String, String> {
    let call = call.replace('$', &format!("'{shop}'::uuid"));
    text(client, &format!("select string_agg(x::text, '; ' order by x::text) from {call} x"))
        .await
        .map_err(|error| error.replace(shop, "…"))
}

/// Every object, as `role` sees it, against what the owner sees of `shops`.
async fn sees_only(db: &Db, sql: &Client, all_shops: &[&str], role: &str, shops: &[&str]) {
    let reader = as_role(db, role).await;
    let list = shops.iter().map(|shop| format!("'{shop}'")).collect::<Vec<_>>().join(", ");
    let mut seen = 0;
    for (name, of_shops) in relations(sql).await {
        if !of_shops {
            assert!(WITHOUT_A_SHOP.contains(&&*name), "analytics.{name} has no store_id: does it tell of other shops?");
            continue;
        }
        let rows = |condition: &str| {
            format!("select string_agg(x::text, E'\\n' order by x::text) from analytics.{name} x {condition}")
        };
        let own = text(sql, &rows(&format!("where store_id in ({list})"))).await.unwrap();
        let all = text(sql, &rows("")).await.unwrap();
        assert!(!own.is_empty(), "analytics.{name} has no rows: that proves nothing");
        if shops.len() == 1 {
            assert_ne!(own, all, "analytics.{name} has one shop's rows only: that proves nothing");
        }
        let read = text(&reader, &rows(""))
            .await
            .unwrap_or_else(|error| panic!("{role} cannot read analytics.{name}: {error}"));
        assert_eq!(read, own, "analytics.{name} as {role}");
        seen += 1;
    }
    assert!(seen >= 18, "{seen}");
    let mut called = 0;
    for (name, call) in calls(sql).await {
        if !call.contains('$') {
            assert!(FUNCTIONS_WITHOUT_A_SHOP.contains(&&*name), "{call} takes no shop: does it tell of some?");
            continue;
        }
        for &shop in all_shops {
            let wanted = answer(sql, &call, shop).await;
            let found = answer(&reader, &call, shop).await;
            if shops.contains(&shop) {
                assert_eq!(found, wanted, "{call} of {shop} as {role}");
                assert!(
                    found.is_ok_and(|text| !text.is_empty()),
                    "{call} tells nothing of {shop}: that proves nothing"
                );
            } else {
                assert_eq!(found, answer(&reader, &call, UNKNOWN).await, "{call} of {shop} as {role}");
            }
        }
        called += 1;
    }
    assert!(called >= 15, "{called}");
    let others = text(&reader, "select string_agg(store_id::text, ' ' order by store_id) from analytics.chain(null, current_date - 30, current_date)").await.unwrap();
    assert_eq!(
        others.split(' ').collect::<Vec<_>>(),
        shops.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    // Nothing beside the contract: what it rests on is granted to nobody.
    let beside = "select string_agg(c.oid::regclass::text, ' ') from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where c.relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege(c.oid, 'select')
                     and (n.nspname in ('analytics_all', 'public') or n.nspname = 'pulso' and c.relname ~ '(base|delta|_def)$|access|api_key')";
    assert_eq!(text(&reader, beside).await.unwrap(), "", "as {role}");
    for write in [
        "select analytics.refresh_report('mv_inventory_metrics')",
        "select pulso.release_role(current_user::regrole)",
        "delete from pulso.access",
    ] {
        assert!(text(&reader, write).await.unwrap_err().starts_with("42501"), "{write}");
    }
}

async fn isolates(tier: Tier) {
    let (db, sql, shops) = two_tenants(tier).await;
    let [one, other] = [shops[0].as_str(), shops[1].as_str()];
    let both_shops = [one, other];
    let grocer = role(&db, &sql, "grocer").await;
    let barman = role(&db, &sql, "barman").await;
    let both = role(&db, &sql, "both").await;
    assert_eq!(
        pulso(&db, &["access", "bind", &grocer, "--store", one]).trim(),
        format!("{grocer} sees 1 shops in schema analytics")
    );
    sql.batch_execute(&format!(
        "select pulso.bind_role('{barman}', '{{{other}}}');
         select pulso.bind_role('{both}', '{{{one},{other}}}')"
    ))
    .await
    .unwrap();
    sees_only(&db, &sql, &both_shops, &grocer, &[one]).await;
    sees_only(&db, &sql, &both_shops, &barman, &[other]).await;
    sees_only(&db, &sql, &both_shops, &both, &[one, other]).await;
    // A role of the role: a person of the grocery's.
    let clerk = role(&db, &sql, "clerk").await;
    sql.batch_execute(&format!("grant {grocer} to {clerk}")).await.unwrap();
    sees_only(&db, &sql, &both_shops, &clerk, &[one]).await;
    // And of two: both.
    sql.batch_execute(&format!("grant {barman} to {clerk}")).await.unwrap();
    sees_only(&db, &sql, &both_shops, &clerk, &[one, other]).await;
    // As a role that the session takes on, functions of their owner too.
    let taken = as_role(&db, &clerk).await;
    taken.batch_execute(&format!("set role {barman}")).await.unwrap();
    let call = format!("select total_products::text from analytics.inventory('{one}')");
    assert_eq!(text(&taken, &call).await.unwrap(), "0");
    taken.batch_execute(&format!("set role {grocer}")).await.unwrap();
    assert_ne!(text(&taken, &call).await.unwrap(), "0");
    // Whoever is not bound sees what it is granted, as before.
    let reader = role(&db, &sql, "reader").await;
    sql.batch_execute(&format!(
        "grant usage on schema analytics to {reader}; grant select on all tables in schema analytics to {reader}"
    ))
    .await
    .unwrap();
    let stores = "select count(distinct store_id)::text from analytics.sales_daily";
    assert_eq!(text(&as_role(&db, &reader).await, stores).await.unwrap(), "2");
    // Let go, it reads nothing, rather than everything.
    let listed = pulso(&db, &["access", "list", "--json"]);
    assert_eq!(listed.matches(other).count(), 2, "{listed}");
    assert!(pulso(&db, &["access", "release", &grocer]).contains("sees nothing"));
    assert!(text(&as_role(&db, &grocer).await, stores).await.unwrap_err().starts_with("42501"));
    // Reports are filled with every shop's rows while roles are bound.
    sql.batch_execute("select analytics.refresh_analytics_views()").await.unwrap();
    assert_eq!(
        text(&sql, "select count(distinct store_id)::text from analytics.mv_inventory_metrics").await.unwrap(),
        "2"
    );
    // And what a shop sees is what it would see if the other had never been.
    let reader = as_role(&db, &barman).await;
    let before = all_of(&reader, &sql, other).await;
    crate::isolation::forget(&sql, one).await;
    if tier == Tier::Plain {
        sql.batch_execute("select pulso.plain_refresh()").await.unwrap();
    }
    sql.batch_execute("select analytics.refresh_analytics_views()").await.unwrap();
    for (name, after) in all_of(&reader, &sql, other).await {
        assert_eq!(after, before[&name], "{name} once the other tenant is gone");
    }
}

/// What a role sees of its shop by every object and every function of the contract.
async fn all_of(reader: &Client, sql: &Client, shop: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for name in relations(sql).await.into_iter().filter_map(|(name, of_shops)| of_shops.then_some(name)) {
        let rows = format!("select string_agg(x::text, E'\\n' order by x::text) from analytics.{name} x");
        all.insert(name, text(reader, &rows).await.unwrap());
    }
    for (_, call) in calls(sql).await.into_iter().filter(|(_, call)| call.contains('$')) {
        let told = answer(reader, &call, shop).await.unwrap();
        all.insert(call, told);
    }
    all
}

#[tokio::test]
async fn no_row_crosses_between_two_roles_by_any_object_of_the_contract() {
    isolates(Tier::Extension).await;
}

#[tokio::test]
async fn no_row_crosses_on_the_plain_tier() {
    isolates(Tier::Plain).await;
}

#[tokio::test]
async fn a_cheap_function_sees_no_row_of_another_shop() {
    let (db, sql, [one, other]) = two_tenants(Tier::Extension).await;
    let spy = role(&db, &sql, "spy").await;
    sql.batch_execute(&format!(
        "select pulso.bind_role('{spy}', '{{{other}}}'); create schema lair authorization {spy}"
    ))
    .await
    .unwrap();
    let reader = as_role(&db, &spy).await;
    reader
        .batch_execute(&format!(
            "create function lair.tells(x anyelement) returns boolean language plpgsql cost 0.0000001 as
             $$ begin if x::text like '{one}%' then raise exception 'seen: %', x; end if; return true; end $$"
        ))
        .await
        .unwrap();
    for (name, of_shops) in relations(&sql).await {
        if of_shops {
            text(&reader, &format!("select count(*)::text from analytics.{name} where lair.tells(store_id)"))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn an_object_that_is_new_or_altered_comes_under_the_condition() {
    let (db, sql, [one, other]) = two_tenants(Tier::Extension).await;
    let barman = role(&db, &sql, "barman").await;
    sql.batch_execute(
        "create view analytics.late as select store_id, count(*) as n from sales group by 1;
         comment on view analytics.late is 'Made by hand.';
         create materialized view analytics.kept as select store_id, count(*) as n from sales group by 1;
         create table analytics.noted (store_id uuid, remark text);
         insert into analytics.noted select id, name from stores;
         select pulso.create_rollup('analytics.by_status', $$ select store_id, status, count(*) as n from public.sales group by 1, 2 $$)",
    )
    .await
    .unwrap();
    sql.batch_execute(&format!("select pulso.bind_role('{barman}', '{{{other}}}')")).await.unwrap();
    let reader = as_role(&db, &barman).await;
    let made = ["late", "kept", "noted", "by_status"];
    // What asks nothing yet is granted to no bound role, and the doctor names it.
    for name in made {
        assert!(
            text(&reader, &format!("select store_id::text from analytics.{name}"))
                .await
                .unwrap_err()
                .starts_with("42501"),
            "{name}"
        );
    }
    let doctor =
        Command::new(env!("CARGO_BIN_EXE_pulso")).arg("doctor").env("DATABASE_URL", db.url()).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("analytics.late"), "{said}");
    let mut client = db::connect(db.url()).await.unwrap();
    let steps = migrate::up(&mut client).await.unwrap();
    assert_eq!(steps, ["contract scope of analytics.by_status, analytics.kept, analytics.late, analytics.noted"]);
    assert!(migrate::up(&mut client).await.unwrap().is_empty(), "once is enough");
    sql.batch_execute(&format!("select pulso.bind_role('{barman}', '{{{other}}}')")).await.unwrap();
    for name in made {
        let stores = format!("select string_agg(distinct store_id::text, ' ') from analytics.{name}");
        assert_eq!(text(&reader, &stores).await.unwrap(), other, "{name}");
        assert_eq!(text(&sql, &stores).await.unwrap(), format!("{one} {other}"), "{name}");
    }
    assert_eq!(text(&sql, "select obj_description('analytics.late'::regclass)").await.unwrap(), "Made by hand.");
    // The rollup goes on: exact, and alterable, the condition staying where it is.
    sql.batch_execute("update sales set status = 'voided', voided_at = now() where id = (select id from sales where status = 'completed' limit 1)").await.unwrap();
    assert_eq!(text(&sql, "select pulso.verify('analytics.by_status')::text").await.unwrap(), "0");
    for (filter, way) in [("sold_at is not null", ""), ("id is not null", ", with_data => false")] {
        let query = format!("select store_id, status, count(*) as n from public.sales where {filter} group by 1, 2");
        sql.batch_execute(&format!("select pulso.alter_rollup('analytics.by_status', $${query}$${way})"))
            .await
            .unwrap();
        sql.batch_execute("select pulso.build('analytics.by_status')").await.unwrap();
        assert!(
            text(&sql, "select lower(sql) from pulso.explain_rollup('analytics.by_status')")
                .await
                .unwrap()
                .contains(filter)
        );
        assert_eq!(text(&sql, "select name::text from pulso.unscoped").await.unwrap(), "");
        let stores = "select string_agg(distinct store_id::text, ' ') from analytics.by_status";
        assert_eq!(text(&reader, stores).await.unwrap(), other);
        assert_eq!(text(&sql, "select pulso.verify('analytics.by_status')::text").await.unwrap(), "0");
    }
    assert!(migrate::up(&mut client).await.unwrap().is_empty());
    sql.batch_execute("select pulso.drop_rollup('analytics.by_status')").await.unwrap();
}

#[tokio::test]
async fn a_binding_that_would_not_bind_is_refused() {
    let (db, sql, [_, other]) = two_tenants(Tier::Extension).await;
    let barman = role(&db, &sql, "barman").await;
    let trusted = role(&db, &sql, "trusted").await;
    sql.batch_execute(&format!("grant pg_read_all_data to {trusted}")).await.unwrap();
    for (call, says) in [
        (format!("'{barman}', '{{{UNKNOWN}}}'"), format!("there is no store {UNKNOWN}")),
        (format!("'{barman}', '{{}}'"), "one shop at least".to_owned()),
        (format!("'{trusted}', '{{{other}}}'"), "sees every shop".to_owned()),
        (format!("current_user::regrole, '{{{other}}}'"), "sees every shop".to_owned()),
    ] {
        let error = text(&sql, &format!("select pulso.bind_role({call})::text")).await.unwrap_err();
        assert!(error.contains(&says), "{call}: {error}");
    }
}

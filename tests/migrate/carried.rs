//! What a table is beside its rows: a conversion carries it over, or refuses the table with a reason.

use crate::hypertables::{likeness, shop};
use crate::{assert_same, one, stdout};
use pulso::cluster::Cluster;
use pulso::migrate;
use std::process::Command;
use tokio_postgres::Client;

/// Whatever can be said of a table, of `events` mostly.
const SAID: &str = "
  alter table events set (autovacuum_enabled = on, toast.autovacuum_vacuum_threshold = 77);
  alter table events alter type set statistics 321, alter type set (n_distinct = 5, n_distinct_inherited = 6);
  alter table events alter payload set storage external, alter payload set compression pglz;
  create statistics of_events (dependencies, ndistinct) on store_id, type from events;
  alter statistics of_events set statistics 55; comment on statistics of_events is 'shops differ';
  alter sequence events_id_seq rename to numbers_of_events; comment on sequence numbers_of_events is 'numbers';
  alter sequence numbers_of_events increment 3 cache 5;
  grant usage on sequence numbers_of_events to till_of_hypertables;
  grant select (type) on events to till_of_hypertables with grant option;
  alter table events alter type set default 'x', add constraint events_typed check (type <> '');
  comment on constraint events_typed on events is 'of some type'; comment on column events.payload is 'what else';
  create index events_by_shop on events (store_id) include (type) with (fillfactor = 70); comment on index events_by_shop is 'by shop';
  alter table events cluster on events_by_shop;
  alter table events drop constraint events_pkey, add primary key (id) include (store_id) with (fillfactor = 80);
  alter table events replica identity full;
  create function upper_type() returns trigger language plpgsql as $$ begin new.type := lower(new.type); return new; end $$;
  create trigger as_written before insert or update of type on events for each row when (new.type <> lower(new.type)) execute function upper_type();
  comment on trigger as_written on events is 'in small letters';
  create view of_a_shop with (security_barrier, check_option = local) as select * from events where store_id is not null;
  grant select on of_a_shop to till_of_hypertables;
  alter table inventory_movements replica identity nothing;
  create role keeper_of_events; grant create on schema public to keeper_of_events; alter table real_time_metrics owner to keeper_of_events";

/// The same, as the catalogs have it. What a hypertable cannot have as it is (its key) is left to the comparison at the end.
const AS_IT_IS: &str = "
  select string_agg(s.what, E'\\n' order by s.what collate \"C\") from (
    select format('%s: %s %s %s %s', c.relname, pg_get_userbyid(c.relowner), array_to_string(array(select unnest(c.reloptions) order by 1), ','), c.relreplident,
             array(select format('%s %s %s', x.grantee::regrole, x.privilege_type, x.is_grantable) from aclexplode(c.relacl) x where x.grantee <> c.relowner order by 1))
      from pg_class c where c.oid in ('events'::regclass, 'inventory_movements'::regclass, 'real_time_metrics'::regclass)
    union all
    select format('toast %s', t.reloptions) from pg_class c join pg_class t on t.oid = c.reltoastrelid where c.oid = 'events'::regclass
    union all
    select format('column %s %s %s %s %s %s %s %s %s', a.attname, a.attstattarget, array(select o from unnest(a.attoptions) o where o like 'n%' order by 1), a.attstorage, a.attcompression, a.attidentity, a.attnotnull,
             pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)) || array(select format('%s %s %s', x.grantee::regrole, x.privilege_type, x.is_grantable) from aclexplode(a.attacl) x order by 1)::text
      from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum where a.attrelid = 'events'::regclass and a.attnum > 0 and not a.attisdropped
    union all
    select format('statistics %s %s %s', pg_get_statisticsobjdef(s.oid), s.stxstattarget, obj_description(s.oid, 'pg_statistic_ext')) from pg_statistic_ext s where s.stxrelid = 'events'::regclass
    union all
    select format('sequence %s %s %s %s', q.seqincrement, q.seqcache, c.relacl, obj_description(c.oid, 'pg_class'))
      from pg_sequence q join pg_class c on c.oid = q.seqrelid where c.oid = 'numbers_of_events'::regclass and c.oid = pg_get_serial_sequence('events', 'id')::regclass
    union all
    select format('check %s %s %s', k.conname, pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint')) from pg_constraint k where k.conrelid = 'events'::regclass and k.contype = 'c'
    union all
    select format('index %s %s %s', pg_get_indexdef(i.indexrelid), i.indisclustered, obj_description(i.indexrelid, 'pg_class')) from pg_index i where i.indrelid = 'events'::regclass and not i.indisprimary
    union all
    select format('key %s %s', c.reloptions, i.indnatts - i.indnkeyatts) from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = 'events'::regclass and i.indisprimary
    union all
    select format('trigger %s %s %s', pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger')) from pg_trigger t where t.tgrelid = 'events'::regclass and t.tgname = 'as_written'
    union all
    select format('view %s %s %s', pg_get_viewdef(c.oid), c.reloptions, c.relacl) from pg_class c where c.oid = 'of_a_shop'::regclass
  ) as s (what)";

async fn carried(major: u32) {
    let Some((cluster, mut client)) = shop(major).await else { return };
    client.batch_execute(SAID).await.unwrap();
    let (before, said) = (likeness(&cluster, &client).await, one::<String>(&client, AS_IT_IS).await);
    assert!(said.contains("toast {autovacuum") && said.contains("of_events") && said.contains("sequence 3"), "{said}");
    // New tables are everybody's by default: one in the place of another is not.
    client.batch_execute("alter default privileges grant select on tables to public").await.unwrap();
    migrate::up_only(&mut client, &["timescale"]).await.unwrap();
    assert!(one::<bool>(&client, "select count(*) = 3 from timescaledb_information.hypertables").await);
    assert_same(&said, &one::<String>(&client, AS_IT_IS).await, "of hypertables");
    migrate::undo(&mut client, "timescale", 0, false).await.unwrap();
    client.batch_execute("alter default privileges revoke select on tables from public").await.unwrap();
    assert_same(&said, &one::<String>(&client, AS_IT_IS).await, "of plain tables again");
    assert_same(&before, &likeness(&cluster, &client).await, "after undoing timescale");
    drop(client);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_said_of_a_table_is_said_of_its_hypertable_on_17() {
    carried(17).await;
}

#[tokio::test]
async fn what_is_said_of_a_table_is_said_of_its_hypertable_on_18() {
    carried(18).await;
}

/// What makes a table stay as it is: how it comes about, what `plan` says, how it goes.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "create policy of_all on events using (true)",
        "policy of_all is on public.events, or reads it: drop it",
        "drop policy of_all on events",
    ),
    (
        "create policy by_events on stores using (exists (select from events))",
        "policy by_events is on public.events, or reads it: drop it",
        "drop policy by_events on stores",
    ),
    (
        "alter table events force row level security",
        "public.events is under row security",
        "alter table events no force row level security",
    ),
    (
        "alter table events replica identity using index events_pkey",
        "public.events has replica identity by an index, which chunks would not have: alter table public.events replica identity default",
        "alter table events replica identity default",
    ),
    (
        "create publication some_events for table events where (id > 5)",
        "publication some_events publishes public.events",
        "drop publication some_events",
    ),
    (
        "create publication of_public for tables in schema public",
        "publication of_public publishes public.events",
        "drop publication of_public",
    ),
    (
        "alter table events add constraint typed check (type <> '') not valid",
        "constraint typed of events is not validated: alter table events validate constraint typed",
        "alter table events validate constraint typed",
    ),
    (
        "create function told(events) returns text language sql as $$ select 'so' $$",
        "function told(events) uses the row type of public.events: drop it",
        "drop function told(events)",
    ),
    (
        "create function nothing() returns trigger language plpgsql as $$ begin return new; end $$;
         create trigger off before insert on events for each row execute function nothing(); alter table events disable trigger off",
        "trigger off of public.events is disabled, or for replicas: triggers of hypertables are enabled: drop it, or alter table public.events enable trigger off",
        "drop trigger off on events; drop function nothing()",
    ),
    (
        "create rule and_events as on insert to sales_heatmap do also insert into events (store_id, type) values (new.store_id, 'h')",
        "a rule of public.sales_heatmap reads or writes public.events: drop it",
        "drop rule and_events on sales_heatmap",
    ),
    (
        "create index apart on events (type) tablespace elsewhere",
        "public.events or an index of it is in a tablespace of its own: alter table public.events set tablespace pg_default",
        "drop index apart",
    ),
    (
        "insert into pg_seclabel values ('events'::regclass, 'pg_class'::regclass, 2, 'anon', 'MASKED')",
        "public.events or a column of it has a security label",
        "delete from pg_seclabel",
    ),
    (
        "alter extension timescaledb add table events",
        "public.events belongs to extension timescaledb",
        "alter extension timescaledb drop table events",
    ),
    (
        "create type of_event as (id bigint, store_id uuid, type text, payload jsonb, created_at timestamptz); alter table events of of_event",
        "public.events is of a type",
        "alter table events not of; drop type of_event",
    ),
    (
        "create materialized view kept_events as select id from events",
        "materialized view public.kept_events reads public.events: drop it",
        "drop materialized view kept_events",
    ),
];

fn plan(cluster: &Cluster) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    stdout(&command.args(["migrate", "plan", "timescale"]).env("DATABASE_URL", cluster.url()).output().unwrap())
}

/// All reasons are in one list; once they are gone, nothing stands in the way.
async fn refused(major: u32) {
    let Some((cluster, client)) = shop(major).await else { return };
    client.batch_execute("set allow_in_place_tablespaces = on").await.unwrap();
    client.batch_execute("create tablespace elsewhere location ''").await.unwrap();
    for (how, _, _) in REFUSED {
        client.batch_execute(how).await.unwrap_or_else(|error| panic!("{how}: {error:?}"));
    }
    let said = plan(&cluster);
    for (how, reason, _) in REFUSED {
        assert!(said.contains(reason), "{how}: {reason:?} is not in {said}");
    }
    for (_, _, back) in REFUSED.iter().rev() {
        client.batch_execute(back).await.unwrap_or_else(|error| panic!("{back}: {error:?}"));
    }
    let said = plan(&cluster);
    assert!(said.contains("pending  C2__events_by_week"), "{said}");
    unvalidated(&cluster, client).await;
    cluster.stop().await.unwrap();
}

/// A foreign key that is not validated may be broken: it would be found out at the very end.
async fn unvalidated(cluster: &Cluster, mut client: Client) {
    client
        .batch_execute("alter table sale_payments drop constraint sale_payments_sale_id_fkey, add constraint sale_payments_sale_id_fkey foreign key (sale_id) references sales not valid")
        .await
        .unwrap();
    crate::hypertables::force(&client).await;
    migrate::up_only(&mut client, &["timescale"]).await.unwrap();
    let kind = "select exists (select from timescaledb_information.hypertables where hypertable_name = 'sales')";
    assert!(!one::<bool>(&client, kind).await);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    let up = command
        .args(["migrate", "plan", "timescale", "--hypertable", "sales"])
        .env("DATABASE_URL", cluster.url())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&up.stdout), crate::stderr(&up));
    assert!(said.contains("constraint sale_payments_sale_id_fkey of sale_payments is not validated"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_carried_over_is_named_before() {
    refused(17).await;
    refused(18).await;
}

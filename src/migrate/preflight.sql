-- What stands in the way (blocks) or is worth a look, of what can be told from the catalogs alone.
-- $1: the packs that are asked for; $2: whether they are for the tier extension.
with found (blocks, what) as (
  select true, format('PostgreSQL 15 or newer is needed; this server is %s', current_setting('server_version'))
   where current_setting('server_version_num')::int < 150000
  union all
  select true, 'this server is a standby: migrate the primary'
   where pg_is_in_recovery()
  union all
  select true, 'the extension pulso is not installed on this server: run `make setup` there, or copy its three files (or take --tier plain)'
   where $2::boolean
     and $1::text[] && array['core', 'rollups']
     and not exists (select from pg_available_extensions a where a.name = 'pulso')
  union all
  select true, format('role %I may not create the extension pulso: a superuser runs, once in this database: create extension pulso (or take --tier plain)', current_user)
   where $2
     and 'core' = any ($1)
     and not exists (select from pg_extension e where e.extname = 'pulso')
     and exists (select from pg_available_extensions a where a.name = 'pulso')
     and not (select r.rolsuper from pg_roles r where r.rolname = current_user)
  union all
  select true, format('role %I may not update the extension pulso: its owner runs: alter extension pulso update', current_user)
    from pg_extension e
    join pg_available_extensions a on a.name = e.extname
   where 'core' = any ($1)
     and e.extname = 'pulso'
     and e.extversion <> a.default_version
     and not pg_has_role(e.extowner, 'usage')
  union all
  select true, format('role %I may not create in schema pulso: grant create on schema pulso to %1$I', current_user)
   where to_regnamespace('pulso') is not null
     and not has_schema_privilege(to_regnamespace('pulso')::oid, 'create')
  union all
  select true, format('role %I may not create in schema analytics: grant create on schema analytics to %1$I', current_user)
   where to_regnamespace('analytics') is not null
     and not has_schema_privilege(to_regnamespace('analytics')::oid, 'create')
  union all
  select true, format('role %I may not create schemas: grant create on database %I to %1$I', current_user, current_database())
   where not has_database_privilege(current_database(), 'create')
     and (to_regnamespace('pulso') is null or to_regnamespace('analytics') is null)
  union all
  select true, format('role %I may not create in schema public: grant create on schema public to %1$I', current_user)
   where $1::text[] && array['pos', 'indexes']
     and not has_schema_privilege('public', 'create')
  union all
  select true, format('table public.%I belongs to role %I: the owner migrates, or a member of it', c.relname, pg_get_userbyid(c.relowner))
    from pg_class c
   where c.oid in (to_regclass('public.sales'), to_regclass('public.sale_items'))
     and not pg_has_role(c.relowner, 'usage')
  union all
  select true, format('table public.%I is %s: rollups are for plain permanent tables', c.relname,
           case when c.relkind <> 'r' then 'partitioned, foreign or a view' when c.relpersistence <> 'p' then 'unlogged'
                when c.relhassubclass then 'a hypertable that Pulso did not make, or inherited from' else 'under row security' end)
    from pg_class c
   where $2
     and 'rollups' = any ($1)
     and c.oid in (to_regclass('public.sales'), to_regclass('public.sale_items'))
     and (c.relkind <> 'r' or c.relpersistence <> 'p' or c.relrowsecurity
          -- Where pack timescale has made it a hypertable, joins rest on the table of its keys.
          or c.relhassubclass and not (c.relname = 'sales' and to_regclass('public.sales_keys') is not null))
  union all
  select true, 'a validated foreign key from sale_items (sale_id) to sales is missing'
   where $2
     and 'rollups' = any ($1)
     and to_regclass('public.sale_items') is not null
     and to_regclass('public.sales') is not null
     and not exists (
       select
         from pg_constraint k
         join pg_attribute a on a.attrelid = k.conrelid and a.attname = 'sale_id'
        where k.contype = 'f'
          and k.conrelid = to_regclass('public.sale_items')
          and k.confrelid in (to_regclass('public.sales'), to_regclass('public.sales_keys'))
          and k.conkey = array[a.attnum]
          and k.convalidated
          and not k.condeferrable
     )
  union all
  select false, format('process %s, %s, has had its transaction open for %s: making indexes and triggers waits for it', s.pid,
           coalesce(nullif(s.application_name, ''), 'unnamed'), date_trunc('second', now() - s.xact_start))
    from pg_stat_activity s
   where s.datname = current_database()
     and s.pid <> pg_backend_pid()
     and s.backend_type = 'client backend'
     and s.xact_start < now() - interval '1 minute'
  union all
  select false, format('prepared transaction %L of %s is open: making indexes and triggers waits for it', p.gid, p.prepared)
    from pg_prepared_xacts p
   where p.database = current_database()
  union all
  select false, format('index %s is invalid, left behind by an interrupted build: it costs writers time and serves nobody', i.indexrelid::regclass)
    from pg_index i
   where not i.indisvalid
     and i.indrelid in (to_regclass('public.sales'), to_regclass('public.sale_items'), to_regclass('public.products'), to_regclass('public.events'))
  union all
  select false, format('publication %I publishes all tables, Pulso''s too: create the rollups on the subscriber instead', p.pubname)
    from pg_publication p
   where p.puballtables
  union all
  select false, 'column sales.cashier_id is missing, or of another type than uuid: no figures by cashier are kept'
   where 'rollups' = any ($1)
     and to_regclass('public.sales') is not null
     and not exists (
       select
         from pg_attribute a
        where a.attrelid = to_regclass('public.sales')
          and a.attname = 'cashier_id'
          and a.atttypid = 'uuid'::regtype
          and not a.attisdropped
     )
  union all
  select false, 'pulso is not in shared_preload_libraries: `pulso serve` has to run, or nobody folds and reads grow slower'
   where $2
     and 'rollups' = any ($1)
     and case
           when pg_has_role('pg_read_all_settings', 'usage')
             then position('pulso' in coalesce(current_setting('shared_preload_libraries', true), '')) = 0
         end
  union all
  select false, format('public.%I is there already and stays: the report is analytics.%1$I', n.name)
    from unnest(array['mv_sales_daily', 'mv_top_products_30d', 'mv_inventory_metrics']) as n (name)
   where 'reports' = any ($1)
     and to_regclass('public.' || n.name) is not null
     and coalesce(obj_description(to_regclass('public.' || n.name), 'pg_class'), '') not like 'Made by Pulso: %'
  union all
  select false, 'public.refresh_analytics_views() is there already and stays: call analytics.refresh_analytics_views()'
   where 'reports' = any ($1)
     and to_regprocedure('public.refresh_analytics_views()') is not null
     and coalesce(obj_description(to_regprocedure('public.refresh_analytics_views()'), 'pg_proc'), '') not like 'Made by Pulso: %'
  union all
  select false, format('schema analytics is there already, with %s tables and views of its own', count(*))
    from pg_class c
   where c.relnamespace = to_regnamespace('analytics')
     and c.relkind in ('r', 'v', 'm', 'p')
     and to_regclass('pulso.migrations_core') is null
  having count(*) > 0
)
select f.blocks, f.what from found f order by f.blocks desc, f.what limit 200

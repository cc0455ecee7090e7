-- Which shops a role may see through SQL, and what puts that condition into every object of schema analytics.
-- Locks: none on what is there; the objects are new. Undo: drop them, once nothing in schema analytics rests on them.

-- Rows of every shop, where no condition can stand: materialized views. Granted to nobody.
create schema analytics_all;
comment on schema analytics_all is 'Materialized views with the rows of every shop. Read them in schema analytics, where a view of the same name shows each role its own.';

create table pulso.access (
  role regrole primary key,
  stores uuid[],
  bound_at timestamptz not null default now()
);
comment on table pulso.access is 'Roles bound to shops. A role sees the shops of all its rows and of those of the roles that it inherits; without any, whatever it is granted. Written by pulso.bind_role and pulso.release_role.';
comment on column pulso.access.stores is 'stores.id; NULL: all, for a role that inherits a bound one.';

-- ---------------------------------------------------------------- what a role sees

create view pulso.role_scope as
select r.rolname as role,
       case
         -- The owner of the contract computes it, so it has to see all; the others may read every table anyway.
         when pg_has_role(r.oid, c.relowner, 'usage') or pg_has_role(r.oid, 'pg_read_all_data', 'usage') then null
         else (select case when bool_and(a.stores is not null) then array_agg(distinct s.id) filter (where s.id is not null) end
                 from pulso.access a
                 left join lateral unnest(a.stores) as s (id) on true
                where pg_has_role(r.oid, a.role::oid, 'usage'))
       end as stores
  from pg_roles r
 cross join pg_class c
 where c.oid = 'pulso.access'::regclass;
comment on view pulso.role_scope is 'The shops that each role may see in schema analytics; NULL: all.';

create view pulso.own_scope as
select s.stores from pulso.role_scope s where s.role = current_user;
comment on view pulso.own_scope is 'The shops that the current role may see in schema analytics; NULL: all. Read pulso.scope, which costs nothing while no role is bound.';

create function pulso.bound_stores() returns uuid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select s.stores from pulso.own_scope s);
end
$$;
comment on function pulso.bound_stores() is 'pulso.own_scope. A function, so that a query which need not ask does not set up what answers.';

-- Part of every query: with no bound role at all it is one look at an empty table.
create view pulso.scope as
select case when exists (select from pulso.access) then pulso.bound_stores() end as stores;
comment on view pulso.scope is 'The shops that the current role may see in schema analytics; NULL: all.';
grant select on pulso.own_scope, pulso.scope to public;

create function pulso.caller_sees(store uuid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select not exists (select from pulso.access)
      or coalesce((select s.stores is null or caller_sees.store = any (s.stores)
                     from pulso.role_scope s
                    where s.role = case current_setting('role') when 'none' then session_user else current_setting('role') end), false)
$$;
comment on function pulso.caller_sees(uuid) is
  'Whether the session''s role may see a shop. For functions that run as their owner: current_user is that owner there.';
revoke execute on function pulso.caller_sees(uuid) from public;

-- ---------------------------------------------------------------- the condition, everywhere

create view pulso.unscoped as
with recursive object as (
  select c.oid, n.nspname as schema, c.relname as name, c.relkind as kind,
         exists (select from pg_attribute a
                  where a.attrelid = c.oid and a.attname = 'store_id' and a.atttypid = 'uuid'::regtype and not a.attisdropped) as of_shops,
         case c.relkind
           when 'v' then coalesce('security_barrier=true' = any (c.reloptions), false)
                and exists (select from pg_rewrite w join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
                             where w.ev_class = c.oid and d.refobjid = 'pulso.scope'::regclass)
           else c.relrowsecurity
                and exists (select from pg_policy p join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
                             where p.polrelid = c.oid and d.refobjid = 'pulso.scope'::regclass) end as asks
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where (n.nspname = 'analytics' or (n.nspname = 'public' and obj_description(c.oid, 'pg_class') like 'Made by Pulso: %'))
     and c.relkind in ('r', 'p', 'f', 'v', 'm')
), reads as (
  select distinct w.ev_class as view, d.refobjid as relation
    from pg_rewrite w
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
                    and d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class
), open as (
  -- Asks nothing itself, and does not read views of the contract alone.
  select o.oid
    from object o
   where o.of_shops and not o.asks
     and (o.kind <> 'v'
          or not exists (select from reads r where r.view = o.oid)
          or exists (select from reads r
                      where r.view = o.oid
                        and not exists (select from object x where x.oid = r.relation and (x.kind = 'v' or x.asks or not x.of_shops))))
   union
  -- Or reads one of those.
  select o.oid
    from open
    join reads r on r.relation = open.oid
    join object o on o.oid = r.view
   where o.of_shops and not o.asks
)
select o.schema, o.name, o.oid as relation, o.kind
  from object o
 where o.oid in (select oid from open)
 order by 1, 2;
comment on view pulso.unscoped is 'Objects of the contract with rows of shops that do not ask which of them the reader may see. pulso.scope_contract() mends those of the role that calls it.';

create function pulso.scope_contract() returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  -- Two subqueries that depend on no row: each is evaluated once per query.
  condition constant text := '((select s.stores from pulso.scope s) is null or store_id = any ((select s.stores from pulso.scope s)::uuid[]))';
  one record;
  privilege record;
  options text;
  is_aggregate boolean;
  mended bigint := 0;
begin
  for one in
    select u.*, format('%I.%I', u.schema, u.name) as full_name, c.relowner as owner, c.relacl as acl,
           obj_description(c.oid, 'pg_class') as remark
      from pulso.unscoped u join pg_class c on c.oid = u.relation
     where pg_has_role(c.relowner, 'usage')
     -- Materialized views first: what is a view over one is wrapped after it has moved. Then what was made first.
     order by u.kind <> 'm', u.relation
  loop
    -- A view may have become fit by what it reads.
    continue when one.kind = 'v' and not exists (select from pulso.unscoped u where u.relation = one.relation);
    if one.kind = 'm' then
      execute format('alter materialized view %s set schema analytics_all', one.full_name);
      execute format('create view %s with (security_barrier = true) as select v.* from analytics_all.%I as v where %s', one.full_name, one.name, condition);
      execute format('alter view %s owner to %s', one.full_name, one.owner::regrole);
      if one.remark is not null then
        execute format('comment on view %s is %L', one.full_name, one.remark);
      end if;
      for privilege in
        select a.attname, col_description(one.relation, a.attnum) as remark
          from pg_attribute a
         where a.attrelid = one.relation and a.attnum > 0 and not a.attisdropped and col_description(one.relation, a.attnum) is not null
      loop
        execute format('comment on column %s.%I is %L', one.full_name, privilege.attname, privilege.remark);
      end loop;
      for privilege in
        select x.grantee, case x.grantee when 0 then 'public' else x.grantee::regrole::text end as who,
               x.privilege_type as may, x.is_grantable
          from aclexplode(one.acl) x
         where x.grantee <> one.owner and x.privilege_type = 'SELECT'
      loop
        execute format('grant select on %s to %s%s', one.full_name, privilege.who, case when privilege.is_grantable then ' with grant option' else '' end);
        execute format('revoke all on analytics_all.%I from %s cascade', one.name, privilege.who);
      end loop;
    elsif one.kind = 'v' then
      -- A continuous aggregate is a view that only TimescaleDB may change.
      if to_regclass('timescaledb_information.continuous_aggregates') is not null then
        execute 'select exists (select from timescaledb_information.continuous_aggregates c where c.view_schema = $1 and c.view_name = $2)'
          into is_aggregate using one.schema, one.name;
        continue when is_aggregate;
      end if;
      select string_agg(o, ', ') into options
        from pg_class c cross join unnest(c.reloptions) as o
       where c.oid = one.relation and o not like 'security_barrier=%';
      execute format('create or replace view %s with (%s) as select v.* from (%s) as v where %s',
                     one.full_name, concat_ws(', ', 'security_barrier = true', options),
                     rtrim(pg_get_viewdef(one.relation), ';'), condition);
    elsif one.kind in ('r', 'p') then
      execute format('alter table %s enable row level security', one.full_name);
      execute format('create policy pulso_shops on %s using (%s)', one.full_name, condition);
    else
      continue;
    end if;
    mended := mended + 1;
  end loop;
  return mended;
end
$$;
comment on function pulso.scope_contract() is
  'Puts the condition of pulso.scope into each object of schema analytics that has a store_id: views are wrapped, materialized views move to analytics_all behind a view, tables get a policy. `pulso migrate up` calls it; call it after making or altering an object there. Returns how many it changed.';

create function pulso.stored(name text) returns text
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select format('%I.%I', n.nspname, c.relname)
      from pg_class v
      join pg_class c on c.relname = v.relname and c.relkind = 'm'
      join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'analytics_all'
     where v.oid = to_regclass(stored.name) and v.relnamespace = 'analytics'::regnamespace), stored.name)
$$;
comment on function pulso.stored(text) is 'Where the rows of a materialized view of schema analytics are: behind its view, in analytics_all.';

-- ---------------------------------------------------------------- binding

create function pulso.bind_role(role regrole, stores uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  unknown uuid;
  one record;
begin
  if cardinality(bind_role.stores) = 0 or array_position(bind_role.stores, null) is not null then
    raise exception 'a role is bound to one shop at least' using errcode = '22023', hint = 'NULL instead of a list stands for all shops.';
  end if;
  if exists (select from pg_class c where c.oid = 'pulso.access'::regclass
              and (pg_has_role(bind_role.role, c.relowner, 'usage') or pg_has_role(bind_role.role, 'pg_read_all_data', 'usage'))) then
    raise exception 'role % sees every shop: it is a superuser, the contract''s owner or may read all data', bind_role.role
      using errcode = '42501', hint = 'Bind a role of its own that owns nothing.';
  end if;
  select s.id into unknown
    from unnest(bind_role.stores) as s (id)
   where not exists (select from public.stores t where t.id = s.id)
   limit 1;
  if found then
    raise exception 'there is no store %', unknown using errcode = 'no_data_found', hint = 'The stores are listed by: select id, name from public.stores';
  end if;
  insert into pulso.access (role, stores) values (bind_role.role, bind_role.stores)
  on conflict on constraint access_pkey do update set stores = excluded.stores, bound_at = now();
  execute format('grant usage on schema analytics to %s', bind_role.role);
  for one in
    select format('%I.%I', n.nspname, c.relname) as name
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'analytics' and c.relkind in ('v', 'r', 'p', 'm')
       and not exists (select from pulso.unscoped u where u.relation = c.oid)
  loop
    execute format('grant select on %s to %s', one.name, bind_role.role);
  end loop;
  -- What only reads.
  for one in
    select p.oid::regprocedure as name
      from pg_proc p
     where p.pronamespace = 'analytics'::regnamespace and p.provolatile <> 'v' and p.prokind = 'f'
  loop
    execute format('grant execute on function %s to %s', one.name, bind_role.role);
  end loop;
end
$$;
comment on function pulso.bind_role(regrole, uuid[]) is
  'Binds a role to shops (NULL: to all) and lets it read schema analytics, where it then sees those shops only. Call it again for another list, and for objects that came since.';

create function pulso.release_role(role regrole) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  one record;
begin
  -- It must not see everything from now on.
  for one in
    select c.oid::regclass as name from pg_class c
     where c.relnamespace in ('analytics'::regnamespace, 'analytics_all'::regnamespace) and c.relkind in ('v', 'r', 'p', 'm', 'f')
  loop
    execute format('revoke all on %s from %s', one.name, release_role.role);
  end loop;
  for one in select p.oid::regprocedure as name from pg_proc p where p.pronamespace = 'analytics'::regnamespace and p.prokind = 'f' loop
    execute format('revoke execute on function %s from %s', one.name, release_role.role);
  end loop;
  execute format('revoke all on schema analytics from %s', release_role.role);
  delete from pulso.access a where a.role = release_role.role;
  return found;
end
$$;
comment on function pulso.release_role(regrole) is 'Takes a role''s binding and its rights in schema analytics away. False where it was not bound.';
revoke execute on function pulso.scope_contract(), pulso.bind_role(regrole, uuid[]), pulso.release_role(regrole) from public;

-- ---------------------------------------------------------------- the tier plain, whose rollups are materialized views

do $plain$
begin
  if to_regclass('pulso.plain_rollup') is null then
    return;
  end if;
  -- As the extension does.
  grant usage on schema pulso to public;
  create or replace function pulso.plain_refresh() returns bigint
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  as $$
  declare
    called timestamptz := clock_timestamp();
    began timestamptz;
    one record;
    refreshed bigint := 0;
  begin
    perform pg_advisory_xact_lock(1886743663, 0);
    for one in select r.id, r.name from pulso.plain_rollup r order by r.id loop
      -- Somebody refreshed it while this call waited.
      if pg_current_xact_id_if_assigned() is null
         and exists (select from pulso.plain_rollup r where r.id = one.id and r.as_of > called) then
        continue;
      end if;
      began := clock_timestamp();
      execute format('refresh materialized view concurrently %s', pulso.stored(one.name));
      update pulso.plain_rollup r set as_of = began, took = clock_timestamp() - began where r.id = one.id;
      refreshed := refreshed + 1;
    end loop;
    return refreshed;
  end
  $$;
  create or replace function pulso.drop_rollup(name text) returns void
  language plpgsql volatile strict
  set search_path = pg_catalog, pg_temp
  as $$
  declare
    place text := pulso.stored(name);
  begin
    if place <> name then
      execute format('drop view %s', name);
    end if;
    execute format('drop materialized view %s', place);
    delete from pulso.plain_rollup r where r.name = drop_rollup.name;
  end
  $$;
end
$plain$;

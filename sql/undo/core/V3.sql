-- Fails while objects of schema analytics rest on it, and names them: Pulso's own are gone by now.
do $plain$
begin
  if to_regclass('pulso.plain_rollup') is null then
    return;
  end if;
  revoke usage on schema pulso from public;
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
      execute format('refresh materialized view concurrently %s', one.name);
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
  begin
    execute format('drop materialized view %s', name);
    delete from pulso.plain_rollup r where r.name = drop_rollup.name;
  end
  $$;
end
$plain$;
drop function pulso.release_role(regrole), pulso.bind_role(regrole, uuid[]), pulso.stored(text), pulso.scope_contract(),
  pulso.caller_sees(uuid);
drop view pulso.unscoped, pulso.scope;
drop function pulso.bound_stores();
drop view pulso.own_scope, pulso.role_scope;
drop table pulso.access;
drop schema analytics_all;

-- The engine of the tier `plain`, for servers on which no extension can be installed: the same rollups as materialized
-- views, refreshed from time to time instead of kept in the sale's transaction.

create table pulso.plain_rollup (
  id integer generated always as identity primary key,
  name text not null unique,
  query text not null,
  as_of timestamptz,
  took interval
);
comment on table pulso.plain_rollup is 'One row per rollup of the tier plain. Written by the functions of this schema only.';
comment on column pulso.plain_rollup.as_of is 'What was committed at this moment is in the rollup.';
comment on column pulso.plain_rollup.took is 'How long its last refresh took.';

-- For what is written over the extension's view.
create view pulso.rollups as
select r.id,
       r.name,
       true as live,
       null::text as reason,
       0::bigint as pending_deltas,
       r.as_of as folded_at,
       null::text as replaces,
       null::text as companion_of
  from pulso.plain_rollup r
 where false;
comment on view pulso.rollups is 'Rollups that are kept in the transaction of each sale: none on the tier plain, whose figures are materialized views.';
grant select on pulso.rollups to public;

-- Not `strict`, so that it is inlined: a refresh of a million sales took 2.6 times as long.
create function pulso.jsonb_numeric(document jsonb, key text) returns numeric
language sql immutable parallel safe
return case jsonb_typeof(document -> key) when 'number' then (document ->> key)::numeric end;
comment on function pulso.jsonb_numeric(jsonb, text) is
  'The number at a key of a JSON object; NULL where there is none or it is not a number. Never an error.';

create function pulso.create_rollup(name text, query text, with_data boolean default true) returns void
language plpgsql volatile strict
set search_path = pg_catalog, pg_temp
as $$
declare
  began timestamptz := clock_timestamp();
  places text := substring(query from 'group\s+by\s+(\d+(?:\s*,\s*\d+)*)\s*$');
  keys text;
begin
  if places is null then
    raise exception 'rollup % is not grouped by the numbers of its columns', name
      using errcode = 'feature_not_supported', hint = 'Write: group by 1, 2. Without an extension its key is read from there.';
  end if;
  execute format('create materialized view %s as %s', name, query);
  select string_agg(quote_ident(a.attname), ', ' order by p.place)
    into keys
    from unnest(string_to_array(regexp_replace(places, '\s', '', 'g'), ',')::integer[]) with ordinality as p (number, place)
    join pg_attribute a on a.attrelid = name::regclass and a.attnum = p.number;
  execute format('create unique index on %s (%s)', name, keys);
  insert into pulso.plain_rollup (name, query, as_of, took) values (name, query, began, clock_timestamp() - began);
end
$$;
comment on function pulso.create_rollup(text, text, boolean) is
  'Creates materialized view `name` of `query`, filled, with a unique index over its grouping columns. Nobody waits, so with_data changes nothing.';

create function pulso.drop_rollup(name text) returns void
language plpgsql volatile strict
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('drop materialized view %s', name);
  delete from pulso.plain_rollup r where r.name = $1;
end
$$;
comment on function pulso.drop_rollup(text) is 'Drops a rollup.';

create function pulso.plain_as_of() returns timestamptz
language sql stable
return (select min(r.as_of) from pulso.plain_rollup r);
comment on function pulso.plain_as_of() is 'What was committed at this moment is in every rollup.';

create function pulso.plain_refresh() returns bigint
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
comment on function pulso.plain_refresh() is 'Refreshes every rollup while readers go on; returns how many.';

create function pulso.fold(name text default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  due boolean;
begin
  -- Called every other second by `pulso serve`: a minute old, or five times what it takes, is old enough.
  select clock_timestamp() - min(r.as_of) > greatest(interval '1 minute', 5 * sum(r.took))
    into due
    from pulso.plain_rollup r;
  if not coalesce(due, false) or not pg_try_advisory_xact_lock(1886743663, 0) then
    return 0;
  end if;
  return pulso.plain_refresh();
end
$$;
comment on function pulso.fold(text) is 'Refreshes the rollups when they are a minute old, or five times as old as refreshing takes; else 0.';

revoke execute on function pulso.plain_refresh(), pulso.fold(text) from public;

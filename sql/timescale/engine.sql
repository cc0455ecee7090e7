-- The engine of the tier `timescale`, over that of the tier `plain`: a rollup of one hypertable is kept by continuous
-- aggregates, any other by a materialized view.
--
-- A continuous aggregate wants buckets of the hypertable's time, which have one zone. The shop's own clock and business day
-- are frozen in each sale, so every aggregate is grouped by bucket *and* by them, and the rollup adds the buckets up: exact
-- for any zone and any start of day, all shops in one aggregate.

create table pulso.aggregate_source (
  name text primary key,
  oldest timestamptz,
  kept_from timestamptz
);
comment on table pulso.aggregate_source is 'Hypertables that continuous aggregates of Pulso read.';
comment on column pulso.aggregate_source.oldest is 'Where its first chunk began when that was looked at last.';
comment on column pulso.aggregate_source.kept_from is 'Where its rows begin since older chunks were dropped; what was added up before is never refreshed. NULL: none was dropped.';

create table pulso.aggregate (
  id integer generated always as identity primary key,
  name text not null unique,
  rollup text not null,
  query text not null,
  source text not null references pulso.aggregate_source (name),
  of_rows boolean not null,
  as_of timestamptz,
  took interval
);
comment on table pulso.aggregate is 'Continuous aggregates under the rollups, in the order in which they are refreshed. Written by the functions of this schema only.';
comment on column pulso.aggregate.of_rows is 'Whether it reads the hypertable itself, or another aggregate.';
comment on column pulso.aggregate.as_of is 'Changes that were committed at this moment are in it. New rows are seen at once. NULL: never refreshed, so that each read adds the rows up.';

-- Where the functions of TimescaleDB are.
create function pulso.timescale_schema() returns text
language sql stable
return (select format('%I', n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb');

create function pulso.create_aggregate(rollup text, name text, source text, of_rows boolean, query text) returns void
language plpgsql volatile strict
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('create materialized view %s with (timescaledb.continuous, timescaledb.materialized_only = false, '
    'timescaledb.create_group_indexes = false) as %s with no data', name, query);
  insert into pulso.aggregate_source (name) values (source) on conflict do nothing;
  insert into pulso.aggregate (rollup, name, source, of_rows, query) values (rollup, name, source, of_rows, query);
end
$$;

alter function pulso.create_rollup(text, text, boolean) rename to create_view_rollup;

create function pulso.create_rollup(name text, query text, with_data boolean default true) returns void
language plpgsql volatile strict
set search_path = pg_catalog, pg_temp
as $$
declare
  -- select … from TABLE ALIAS [where …] group by 1, 2
  parts text[] := regexp_match(query, '^\s*select\s(.*\sfrom\s+([a-z_0-9.]+)\s+([a-z_0-9]+)\s+(?:where\s.*)?)group\s+by\s+(\d+(?:\s*,\s*\d+)*)\s*$');
  places integer[] := string_to_array(regexp_replace(parts[4], '\s', '', 'g'), ',')::integer[];
  ts constant text := pulso.timescale_schema();
  time_column text;
  stem text;
  by_hour text;
  by_day text;
  last text;
  keys text;
  key_places text;
  sums text;
  months text;
begin
  if parts is not null and query !~ '\mdistinct\M|\m(avg|min|max|array_agg|string_agg|percentile_cont|stddev|variance)\s*\('
     and current_setting('timescaledb.license', true) = 'timescale' then
    select d.column_name into time_column
      from timescaledb_information.dimensions d
     where d.dimension_number = 1
       and d.column_type = 'timestamptz'::regtype
       and format('%I.%I', d.hypertable_schema, d.hypertable_name)::regclass = to_regclass(parts[2]);
  end if;
  if time_column is null then
    perform pulso.create_view_rollup(name, query, with_data);
    return;
  end if;

  stem := format('pulso.%s', regexp_replace(name, '^.*\.', ''));
  by_hour := stem || '_by_hour';
  perform pulso.create_aggregate(name, by_hour, parts[2], true, format(
    'select %s.time_bucket(interval ''1 hour'', %s.%I) as bucket, %sgroup by 1, %s', ts, parts[3], time_column, parts[1],
    (select string_agg((p + 1)::text, ', ') from unnest(places) p)));
  last := by_hour;

  -- Sums over several buckets: of the type that they have over one.
  select string_agg(quote_ident(a.attname), ', ' order by a.attnum) filter (where a.attnum - 1 = any (places)),
         string_agg(a.attnum::text, ', ' order by a.attnum) filter (where a.attnum - 1 = any (places)),
         string_agg(format('sum(%1$I)::%2$s as %1$I', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
           filter (where a.attnum - 1 <> all (places)),
         string_agg(case a.atttypid when 'date'::regtype then format('date_trunc(''month'', %1$I::timestamp)::date as %1$I', a.attname)
                                    else quote_ident(a.attname) end, ', ' order by a.attnum) filter (where a.attnum - 1 = any (places))
    into keys, key_places, sums, months
    from pg_attribute a
   where a.attrelid = by_hour::regclass
     and a.attnum > 1;

  -- By days of the calendar, where nobody asks for hours.
  if query !~ '''hour''' then
    by_day := stem || '_by_day';
    perform pulso.create_aggregate(name, by_day, parts[2], false, format(
      'select %s.time_bucket(interval ''1 day'', bucket) as bucket, %s, %s from %s group by 1, %s', ts, keys, sums, by_hour, key_places));
    last := by_day;
    -- A shop's months, for long ranges.
    if cardinality(places) = 2 and months <> keys then
      perform pulso.create_aggregate(name, stem || '_by_month', parts[2], false, format(
        'select %s.time_bucket(interval ''1 month'', bucket) as bucket, %s, %s from %s group by 1, %s', ts, months, sums, by_day, key_places));
    end if;
  end if;
  execute format('create index on %s (%s)', last, keys);
  execute format('create view %s as select %s, %s from %s group by %s', name, keys, sums, last, keys);

  -- The users' rhythm, by TimescaleDB's own workers; late changes of up to 90 days before are found.
  for last in select a.name from pulso.aggregate a where a.rollup = create_rollup.name order by a.id loop
    execute format('select %s.add_continuous_aggregate_policy(%L, start_offset => %L::interval, end_offset => interval ''1 hour'', '
      'schedule_interval => interval ''1 hour'', initial_start => now() + interval ''1 hour'')', ts, last,
      case when last like '%\_by\_month' then '4 months' else '90 days' end);
  end loop;
end
$$;
comment on function pulso.create_rollup(text, text, boolean) is
  'Creates view `name` of `query` over continuous aggregates, where the query counts and sums one hypertable; else a materialized view. They are filled afterwards, so with_data changes nothing.';

create or replace function pulso.plain_as_of() returns timestamptz
language sql stable
return least((select min(r.as_of) from pulso.plain_rollup r), (select min(a.as_of) from pulso.aggregate a));

-- No function can refresh a continuous aggregate: who asks runs these calls, each by itself.
create function pulso.aggregate_calls(due_only boolean) returns table (aggregate text, call text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Chunks that are gone were dropped, by whomever. TimescaleDB would refresh their time to nothing.
  update pulso.aggregate_source s
     set kept_from = case when c.oldest > s.oldest then greatest(c.oldest, s.kept_from) else s.kept_from end, oldest = c.oldest
    from (select i.name, min(k.range_start) as oldest
            from pulso.aggregate_source i
            join timescaledb_information.chunks k on format('%I.%I', k.hypertable_schema, k.hypertable_name)::regclass = i.name::regclass
           group by i.name) as c
   where c.name = s.name
     and c.oldest is distinct from s.oldest;
  return query
  select a.name,
         format('call %s.refresh_continuous_aggregate(%L, %L::timestamptz, %L::timestamptz)', pulso.timescale_schema(), a.name,
           case when a.of_rows then greatest(s.oldest, s.kept_from) end,
           -- Never younger than what the policy takes: hours underway are read from the rows.
           now() - interval '1 hour')
    from pulso.aggregate a
    join pulso.aggregate_source s on s.name = a.source
   where s.oldest < now() - interval '3 hours'
     and (not due_only
          or a.as_of is null
          or (select clock_timestamp() - min(o.as_of) > greatest(interval '1 minute', 5 * sum(o.took)) from pulso.aggregate o))
   order by a.id;
end
$$;
comment on function pulso.aggregate_calls(boolean) is
  'The statements that refresh the continuous aggregates, in order: all of them, or once they are a minute old, or five times as old as refreshing takes.';

create function pulso.aggregate_refreshed(aggregate text, began timestamptz) returns void
language sql volatile strict security definer
begin atomic
  update pulso.aggregate a
     set as_of = aggregate_refreshed.began, took = clock_timestamp() - aggregate_refreshed.began
   where a.name = aggregate_refreshed.aggregate;
end;
comment on function pulso.aggregate_refreshed(text, timestamptz) is 'Notes that one of these calls has been made.';

revoke execute on function pulso.create_aggregate(text, text, text, boolean, text), pulso.aggregate_calls(boolean),
  pulso.aggregate_refreshed(text, timestamptz) from public;

-- The rows of a materialized view of the contract move behind a view of its name (pulso.scope_contract): refreshing it
-- and its freshness find them there, under the name that is read.
-- Locks: AccessExclusive on pulso.freshness for a moment. Undo: the function and the view as they were.

create or replace function pulso.refresh_view(view regclass) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  began timestamptz := clock_timestamp();
  full_name text;
  place text;
  populated boolean;
  mode text := 'exclusive';
  report text;
  is_report boolean := false;
begin
  select format('%I.%I', n.name, c.relname), c.oid::regclass, c.relispopulated, case n.name when 'analytics' then c.relname end
    into full_name, place, populated, report
    from pg_class c
   cross join lateral (
          select case s.nspname when 'analytics_all' then 'analytics' else s.nspname end as name
            from pg_namespace s where s.oid = c.relnamespace
         ) n
   where c.oid = pulso.stored(refresh_view.view::text)::regclass and c.relkind = 'm';
  if not found then
    raise exception '% is not a materialized view', refresh_view.view
      using errcode = '42809', hint = 'They are listed by: select schemaname, matviewname from pg_matviews';
  end if;
  -- The reports have a function of their own, which notes the refresh for those who ask there.
  if to_regprocedure('analytics.refresh_report(text)') is not null then
    execute 'select exists (select from analytics.report_refresh f where f.report = $1)' into is_report using report;
  end if;
  if is_report then
    mode := case when populated then 'concurrently' else 'exclusive' end;
    execute 'select analytics.refresh_report($1)' using report;
  elsif populated and exists (
    select from pg_index i
     where i.indrelid = place::regclass and i.indisunique and i.indisvalid and i.indimmediate
       and i.indpred is null and i.indexprs is null
  ) then
    mode := 'concurrently';
    execute format('refresh materialized view concurrently %s', place);
  else
    execute format('refresh materialized view %s', place);
  end if;
  insert into pulso.view_refresh (name, refreshed_at, mode, duration_ms)
  values (full_name, began, mode, 1000 * extract(epoch from clock_timestamp() - began))
  on conflict (name) do update
    set refreshed_at = excluded.refreshed_at, mode = excluded.mode, duration_ms = excluded.duration_ms,
        failed_at = null, error = null;
  return mode;
end
$$;

create or replace view pulso.freshness as
select r.name,
       'rollup'::text as kind,
       now() as as_of,
       interval '0' as staleness,
       r.pending_deltas,
       r.folded_at,
       case when not r.live then 'runs its query: ' || r.reason end as detail
  from pulso.rollups r
 where r.replaces is null
 union all
select format('%I.%I', n.name, v.matviewname),
       'materialized view',
       case when v.ispopulated then l.at end,
       case when v.ispopulated then now() - l.at end,
       null,
       null,
       case when not v.ispopulated then 'has no data yet'
            when f.error is not null then 'the last refresh failed: ' || f.error
            when l.at is null then 'was never refreshed by Pulso' end
  from pg_catalog.pg_matviews v
 cross join lateral (select 'analytics'::text) as n (name)
  left join pulso.view_refresh f on f.name = format('%I.%I', n.name, v.matviewname)
 cross join lateral (select pulso.last_refresh(n.name, v.matviewname)) as l (at)
 where v.schemaname in ('analytics', 'analytics_all');

-- On the tier timescale there are continuous aggregates under the rollups.
do $$
begin
  if to_regclass('pulso.aggregate') is not null then
    execute format($v$
      create or replace view pulso.freshness as %s
       union all
      select a.name, 'continuous aggregate', a.as_of, now() - a.as_of, null, null,
             case when a.as_of is null and exists (
                    select from timescaledb_information.chunks k
                     where format('%%I.%%I', k.hypertable_schema, k.hypertable_name)::regclass = a.source::regclass
                       and k.range_start < now() - interval '3 hours')
                  then 'was never refreshed: each read adds its rows up' end
        from pulso.aggregate a $v$, rtrim(pg_get_viewdef('pulso.freshness'::regclass), ';'));
  end if;
end
$$;

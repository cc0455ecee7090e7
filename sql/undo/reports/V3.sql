do $$
declare
  one record;
begin
  for one in
    select c.relname as name, 'analytics_all.' || quote_ident(c.relname) as place
      from analytics.report_refresh f
      join pg_class c on c.relname = f.report and c.relkind = 'm' and c.relnamespace = 'analytics_all'::regnamespace
  loop
    execute format('drop view analytics.%I', one.name);
    execute format('alter materialized view %s set schema analytics', one.place);
  end loop;
end
$$;

create or replace function analytics.refresh_report(report text) returns boolean
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  called timestamptz := clock_timestamp();
  began timestamptz;
  filled boolean;
begin
  if not exists (select from analytics.report_refresh f where f.report = refresh_report.report) then
    raise exception 'there is no report %', report
      using errcode = 'undefined_object', hint = 'See: select report from analytics.report_freshness';
  end if;
  perform pg_advisory_xact_lock(1886743663, hashtext(report));
  -- Somebody refreshed it while this call waited: all that was committed at the call is in it. But not what the calling
  -- transaction itself has written.
  if pg_current_xact_id_if_assigned() is null
     and exists (select from analytics.report_refresh f where f.report = refresh_report.report and f.as_of > called) then
    return false;
  end if;
  select c.relispopulated into filled from pg_class c where c.oid = format('analytics.%I', report)::regclass;
  began := clock_timestamp();
  execute format('refresh materialized view %s analytics.%I', case when filled then 'concurrently' else '' end, report);
  update analytics.report_refresh f
     set as_of = began, took = clock_timestamp() - began, refreshed_by = session_user
   where f.report = refresh_report.report;
  return true;
end
$$;

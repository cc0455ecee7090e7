-- The rows of a report move behind a view of its name (pulso.scope_contract): refreshing finds them there.
-- Locks: none. Undo: the reports back into schema analytics, and the function as it was.

create or replace function analytics.refresh_report(report text) returns boolean
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  called timestamptz := clock_timestamp();
  began timestamptz;
  filled boolean;
  place text;
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
  place := pulso.stored(format('analytics.%I', report));
  select c.relispopulated into filled from pg_class c where c.oid = place::regclass;
  began := clock_timestamp();
  execute format('refresh materialized view %s %s', case when filled then 'concurrently' else '' end, place);
  update analytics.report_refresh f
     set as_of = began, took = clock_timestamp() - began, refreshed_by = session_user
   where f.report = refresh_report.report;
  return true;
end
$$;

-- Materialized views of the contract that are old, empty or cannot be refreshed.
select case when f.detail like 'the last refresh failed%' then 'wrong' else 'warning' end as severity,
       f.name as object,
       coalesce(f.detail, format('its figures are of %s ago', date_trunc('second', f.staleness))) as finding,
       'Run `pulso job run refresh_views`; `pulso job list` shows when it runs by itself.' as cure
  from pulso.freshness f
 where f.kind = 'materialized view'
   and (f.detail is not null or f.staleness > current_setting('doctor.stale')::interval)

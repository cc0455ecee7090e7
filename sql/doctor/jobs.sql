-- Jobs that fail, stand still or are paused.
select 'warning' as severity, 'job ' || j.name as object, format('its last run failed: %s', j.last_error) as finding,
       format('`pulso job history %s` shows the runs; `pulso job run %1$s` tries it now.', j.name) as cure
  from pulso.job j
 where j.last_error is not null
 union all
select 'warning', 'job ' || j.name,
       case when j.next_slot is null then 'no worker has ever looked at it'
            else format('it has been due since %s and no worker takes it', date_trunc('second', j.next_slot)) end,
       'Run `pulso serve` or `pulso worker` on this database.'
  from pulso.job j
 where not j.paused
   and (j.lease_until is null or j.lease_until < now())
   and coalesce(j.next_slot, j.created_at) < now() - current_setting('doctor.overdue')::interval
   and coalesce(j.retry_at < now(), true)
 union all
select 'note', 'job ' || j.name, 'it is paused', format('pulso job resume %s', j.name)
  from pulso.job j
 where j.paused

-- Notes slots as skipped. $1: job; $2: its token as seen; $3: now; $4: who; $5: first slot skipped; $6: how many; $7: next slot.
with free as materialized (
  select j.name
    from pulso.job j
   where j.name = $1
     and j.token = $2
     and (j.lease_until is null or j.lease_until <= $3 or j.lease_until > $3::timestamptz + make_interval(secs => j.lease_seconds))
     for update skip locked
), moved as (
  update pulso.job j
     set token = j.token + 1, next_slot = $7, attempt = 0, retry_at = null
    from free
   where j.name = free.name
  returning j.name, j.token
)
insert into pulso.job_run (job, token, slot, slots, trigger, owner, started_at, finished_at, outcome)
select m.name, m.token, $5, $6, 'schedule', $4, $3, $3, 'skipped'
  from moved m

-- Jobs that may have something to do. $1: now. Nothing is locked: claim.sql decides.
-- A lease that ends later than any that is given now was given before the clock was set back: nobody waits for it. Should its
-- worker live, its token is old from then on.
select j.name, j.task, j.command, j.schedule, j.time_zone, j.catch_up, j.lease_seconds, j.timeout_seconds,
       j.max_attempts, j.next_slot, j.token, j.last_error
  from pulso.job j
 where not j.paused
   and (j.next_slot is null or j.next_slot <= $1)
   and (j.retry_at is null or j.retry_at <= $1)
   and (j.lease_until is null or j.lease_until <= $1 or j.lease_until > $1::timestamptz + make_interval(secs => j.lease_seconds))
 order by j.next_slot nulls first, j.name

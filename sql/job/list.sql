-- Every job, as `pulso job list` shows it.
select j.name, j.task, j.schedule, j.time_zone, j.catch_up, j.paused, j.attempt,
       j.next_slot, j.retry_at, j.lease_owner, j.lease_until > now() as running,
       j.last_finished_at, j.last_outcome, j.last_error, j.last_duration_ms, j.done_count, j.failed_count
  from pulso.job j
 order by j.name

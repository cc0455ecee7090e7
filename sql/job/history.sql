-- Runs, the newest first. $1: job, or NULL for all; $2: at most so many.
select r.job, r.slot, r.slots, r.trigger, r.owner, r.started_at, r.finished_at, r.outcome, r.duration_ms, r.result, r.error
  from pulso.job_run r
 where $1::text is null or r.job = $1
 order by r.started_at desc, r.token desc
 limit $2

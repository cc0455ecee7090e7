-- Notes a run as failed: the slot is tried again, or given up. $1: job; $2: token; $3: now; $4: slot;
-- $5: next slot, or NULL for a run by hand; $6: duration; $7: error.
with failed as (
  update pulso.job j
     set token = j.token + 1,
         next_slot = case when j.attempt + 1 >= j.max_attempts then coalesce($5, j.next_slot) else j.next_slot end,
         attempt = case when $5::timestamptz is null then j.attempt
                        when j.attempt + 1 >= j.max_attempts then 0 else j.attempt + 1 end,
         retry_at = case when $5::timestamptz is null then j.retry_at
                         when j.attempt + 1 < j.max_attempts
                         then $3::timestamptz + make_interval(secs => least(30 * 2 ^ j.attempt, 3600)) end,
         lease_owner = null, lease_until = null,
         last_slot = $4, last_finished_at = $3, last_outcome = 'failed', last_error = $7, last_duration_ms = $6,
         failed_count = j.failed_count + 1
   where j.name = $1 and j.token = $2 and j.lease_owner is not null
  returning j.name
)
update pulso.job_run r
   set outcome = 'failed', finished_at = $3, duration_ms = $6, error = $7
  from failed
 where r.job = failed.name and r.token = $2

-- Notes a run as done, in the transaction of its effect; no row means that the run is not its own any more, and must
-- not commit. $1: job; $2: token; $3: now; $4: slot; $5: next slot, or NULL to leave it; $6: duration; $7: result.
with done as (
  update pulso.job j
     set token = j.token + 1, next_slot = coalesce($5, j.next_slot), attempt = case when $5::timestamptz is null then j.attempt else 0 end,
         retry_at = case when $5::timestamptz is null then j.retry_at end,
         lease_owner = null, lease_until = null,
         last_slot = $4, last_finished_at = $3, last_outcome = 'done', last_error = null, last_duration_ms = $6,
         done_count = j.done_count + 1
   where j.name = $1 and j.token = $2 and j.lease_owner is not null
  returning j.name
)
update pulso.job_run r
   set outcome = 'done', finished_at = $3, duration_ms = $6, result = $7
  from done
 where r.job = done.name and r.token = $2

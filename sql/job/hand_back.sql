-- Gives up a run whose worker is told to stop; the next worker takes the slot at once. $1: job; $2: token; $3: now.
with returned as (
  update pulso.job j
     set token = j.token + 1, lease_owner = null, lease_until = null
   where j.name = $1 and j.token = $2 and j.lease_owner is not null
  returning j.name
)
update pulso.job_run r
   set outcome = 'returned', finished_at = $3, error = 'its worker was told to stop'
  from returned
 where r.job = returned.name and r.token = $2

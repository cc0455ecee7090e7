-- Takes a job for one run, if it is as it was seen and nobody else has it: its token grows with each claim and each end of a run.
-- $1: job; $2: its token as seen; $3: now; $4: who; $5: slot; $6: slots it stands for; $7: 'schedule' or 'hand'.
with free as materialized (
  select j.name
    from pulso.job j
   where j.name = $1
     and j.token = $2
     and (j.lease_until is null or j.lease_until <= $3 or j.lease_until > $3::timestamptz + make_interval(secs => j.lease_seconds))
     and ($7::text = 'hand' or not j.paused)
     for update skip locked
), lost as (
  update pulso.job_run r
     set outcome = 'lost', finished_at = $3, error = 'its worker stopped renewing the lease'
    from free
   where r.job = free.name and r.outcome = 'running'
), claimed as (
  update pulso.job j
     set token = j.token + 1,
         lease_owner = $4,
         lease_until = $3::timestamptz + make_interval(secs => j.lease_seconds),
         last_started_at = $3
    from free
   where j.name = free.name
  returning j.name, j.token
), noted as (
  insert into pulso.job_run (job, token, slot, slots, trigger, owner, started_at, outcome)
  select c.name, c.token, $5, $6, $7, $4, $3, 'running'
    from claimed c
)
select token from claimed

-- Renews a lease while the run goes on. $1: job; $2: the run's token; $3: now. No row: the run is another's.
update pulso.job
   set lease_until = $3::timestamptz + make_interval(secs => lease_seconds)
 where name = $1 and token = $2 and lease_owner is not null

-- One job. $1: its name.
select j.name, j.task, j.command, j.schedule, j.time_zone, j.catch_up, j.lease_seconds, j.timeout_seconds,
       j.max_attempts, j.next_slot, j.token, j.last_error
  from pulso.job j
 where j.name = $1

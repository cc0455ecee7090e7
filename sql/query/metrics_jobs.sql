-- Jobs for /metrics.
select j.name,
       j.done_count,
       j.failed_count,
       j.paused,
       (j.last_duration_ms / 1000.0)::float8 as last_duration_seconds,
       case when not j.paused and j.next_slot < now() then extract(epoch from now() - j.next_slot) else 0 end::float8 as overdue_seconds
  from pulso.job j

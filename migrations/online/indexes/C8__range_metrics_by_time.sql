-- A time span over all metrics, which are only ever appended.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists real_time_metrics_created_at_brin
  on public.real_time_metrics using brin (created_at);

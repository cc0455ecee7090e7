-- A time span over all events, which are only ever appended.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists events_created_at_brin
  on public.events using brin (created_at);

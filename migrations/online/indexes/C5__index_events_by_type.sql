-- A shop's events of one type, latest first.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists events_store_type_created_at_idx
  on public.events (store_id, type, created_at desc);

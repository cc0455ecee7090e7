-- A time span over all stock movements, which are only ever appended.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists inventory_movements_happened_at_brin
  on public.inventory_movements using brin (happened_at);

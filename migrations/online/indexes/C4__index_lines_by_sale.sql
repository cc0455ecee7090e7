-- The lines of a sale, for voids and receipts. Left out where an index begins with sale_id already.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists sale_items_sale_idx
  on public.sale_items (sale_id);

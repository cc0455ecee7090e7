-- A shop's completed sales of a time span, latest first. The status is in the condition, so it need not be a column too.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists sales_store_sold_at_idx
  on public.sales (store_id, sold_at desc)
  where status = 'completed';

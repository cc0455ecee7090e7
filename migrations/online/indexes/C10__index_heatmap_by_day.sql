-- A shop's heatmap by day. An index is read backwards as well; left out where the key begins with these already.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists sales_heatmap_store_date_hour_idx
  on public.sales_heatmap (store_id, date, hour);

-- A shop's products. Left out where an index begins with store_id already. Without the stock in it: an index over
-- current_stock, also in its condition, would make every sale of a product rewrite its entries in all indexes.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists products_store_idx
  on public.products (store_id);

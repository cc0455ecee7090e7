-- The unique index that joined rollups need over what they read of sales; V2 would make it while writers wait.
-- Locks: ShareUpdateExclusive on sales (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently, after the rollups.

create unique index concurrently if not exists sales_rollup_columns_key
  on public.sales (id, store_id, business_date, status, kind);

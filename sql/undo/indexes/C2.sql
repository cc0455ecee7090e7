-- Not in a transaction.
drop index concurrently if exists public.sales_store_sold_at_idx;

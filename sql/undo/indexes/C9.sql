-- Not in a transaction.
drop index concurrently if exists public.products_store_idx;

-- Not in a transaction.
drop index concurrently if exists public.sale_items_sale_idx;

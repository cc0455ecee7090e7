-- Not in a transaction.
drop index concurrently if exists public.sales_heatmap_store_date_hour_idx;

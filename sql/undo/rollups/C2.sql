-- Not in a transaction.
drop index concurrently if exists public.sales_rollup_columns_key;
drop index concurrently if exists public.sales_keys_rollup_columns_key;

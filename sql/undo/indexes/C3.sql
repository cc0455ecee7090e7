-- Not in a transaction.
drop index concurrently if exists public.sales_sold_at_brin;

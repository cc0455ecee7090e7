-- Not in a transaction.
drop index concurrently if exists public.sales_store_business_date_idx;
drop index concurrently if exists public.sales_store_customer_sold_at_idx;
drop index concurrently if exists public.sale_items_product_idx;

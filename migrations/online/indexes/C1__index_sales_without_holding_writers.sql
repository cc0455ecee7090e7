-- The indexes of V1, made before it so that V1 finds them and locks nothing for long.
-- Locks: ShareUpdateExclusive on each table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently, each.

create index concurrently if not exists sales_store_business_date_idx
  on public.sales (store_id, business_date)
  where status = 'completed';

create index concurrently if not exists sales_store_customer_sold_at_idx
  on public.sales (store_id, customer_id, sold_at desc)
  where customer_id is not null;

create index concurrently if not exists sale_items_product_idx
  on public.sale_items (product_id);

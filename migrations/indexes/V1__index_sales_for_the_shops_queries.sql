-- Look-ups by business day, by customer, and of the lines of a product.
-- Locks: ShareLock on each table while its index is built: readers go on, writers wait.
-- Undo: drop index each name.

create index if not exists sales_store_business_date_idx
  on public.sales (store_id, business_date)
  where status = 'completed';

create index if not exists sales_store_customer_sold_at_idx
  on public.sales (store_id, customer_id, sold_at desc)
  where customer_id is not null;

create index if not exists sale_items_product_idx
  on public.sale_items (product_id);

-- Columns that the rollups and the contract read and that are not there.
select n.table_name || '.' || n.column_name
  from (values
    ('stores', 'id'), ('stores', 'name'), ('stores', 'time_zone'), ('stores', 'day_start'),
    ('sales', 'id'), ('sales', 'store_id'), ('sales', 'customer_id'), ('sales', 'kind'), ('sales', 'status'),
    ('sales', 'sold_at'), ('sales', 'local_time'), ('sales', 'business_date'), ('sales', 'totals'), ('sales', 'payment'),
    ('sale_items', 'sale_id'), ('sale_items', 'product_id'), ('sale_items', 'qty'),
    ('sale_items', 'unit_price_bs'), ('sale_items', 'unit_price_usd'),
    ('sale_items', 'discount_bs'), ('sale_items', 'discount_usd'),
    ('sale_items', 'unit_cost_bs'), ('sale_items', 'unit_cost_usd'),
    ('products', 'id'), ('products', 'name'), ('products', 'sku')
  ) as n (table_name, column_name)
 where not exists (
   select
     from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass('public.' || n.table_name)
      and a.attname = n.column_name
      and not a.attisdropped
 )
 order by 1

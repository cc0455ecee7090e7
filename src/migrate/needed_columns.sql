-- Columns that a pack reads and that are not there. $1: the packs that are asked for, 'rollups' with its contract.
select n.table_name || '.' || n.column_name || case when n.pack = 'reports' then ' (for the pack reports)' else '' end
  from (values
    ('rollups', 'stores', 'id'), ('rollups', 'stores', 'name'), ('rollups', 'stores', 'time_zone'), ('rollups', 'stores', 'day_start'),
    ('rollups', 'sales', 'id'), ('rollups', 'sales', 'store_id'), ('rollups', 'sales', 'customer_id'), ('rollups', 'sales', 'kind'),
    ('rollups', 'sales', 'status'), ('rollups', 'sales', 'sold_at'), ('rollups', 'sales', 'local_time'),
    ('rollups', 'sales', 'business_date'), ('rollups', 'sales', 'totals'), ('rollups', 'sales', 'payment'),
    ('rollups', 'sale_items', 'sale_id'), ('rollups', 'sale_items', 'product_id'), ('rollups', 'sale_items', 'qty'),
    ('rollups', 'sale_items', 'unit_price_bs'), ('rollups', 'sale_items', 'unit_price_usd'),
    ('rollups', 'sale_items', 'discount_bs'), ('rollups', 'sale_items', 'discount_usd'),
    ('rollups', 'sale_items', 'unit_cost_bs'), ('rollups', 'sale_items', 'unit_cost_usd'),
    ('rollups', 'products', 'id'), ('rollups', 'products', 'name'), ('rollups', 'products', 'sku'),
    ('reports', 'products', 'store_id'), ('reports', 'products', 'category'), ('reports', 'products', 'is_active'),
    ('reports', 'products', 'current_stock'), ('reports', 'products', 'low_stock_threshold'),
    ('reports', 'products', 'cost_bs'), ('reports', 'products', 'cost_usd'),
    ('indexes', 'sales', 'store_id'), ('indexes', 'sales', 'customer_id'), ('indexes', 'sales', 'sold_at'),
    ('indexes', 'sales', 'status'), ('indexes', 'sales', 'business_date'), ('indexes', 'sale_items', 'product_id')
  ) as n (pack, table_name, column_name)
 where n.pack = any ($1)
   and not exists (
   select
     from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass('public.' || n.table_name)
      and a.attname = n.column_name
      and not a.attisdropped
 )
 group by 1
 order by 1

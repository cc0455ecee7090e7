-- The reports filled for the first time, one after another.
-- Locks: AccessShare on what they read; nobody waits. The reports themselves are not readable before.
-- Undo: nothing to do.

select analytics.refresh_report('mv_top_products_30d');
select analytics.refresh_report('mv_inventory_metrics');
select analytics.refresh_report('product_abc_xyz');
select analytics.refresh_report('customer_rfm');
select analytics.refresh_report('basket_affinity');
select analytics.refresh_report('sales_weekday_hour');
select analytics.refresh_report('stock_cover');
select analytics.refresh_report('sell_through');

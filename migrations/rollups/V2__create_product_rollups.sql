-- Rollups of the lines with their sales, kept exact in the transaction of each sale.
-- Locks: ShareRowExclusive on sale_items and sales while they fill (readers go on, writers wait): about 6 s per million
-- lines; sales gets a unique index over the columns that the rollups read of it.
-- Undo: select pulso.drop_rollup(name) for each.

select pulso.create_rollup('analytics.product_sales_daily_totals', $$
  select s.store_id,
         s.business_date as sale_date,
         i.product_id,
         sum(i.qty) as units,
         sum(i.qty * i.unit_price_bs) as gross_bs,
         sum(i.qty * i.unit_price_usd) as gross_usd,
         sum(i.qty * i.unit_price_bs - i.discount_bs) as revenue_bs,
         sum(i.qty * i.unit_price_usd - i.discount_usd) as revenue_usd,
         sum(i.qty * i.unit_cost_bs) as cost_bs,
         sum(i.qty * i.unit_cost_usd) as cost_usd
    from public.sale_items i
    join public.sales s on s.id = i.sale_id
   where s.status = 'completed' and s.kind = 'sale'
   group by 1, 2, 3
$$);

-- One row a sale and product: the number of sales in which a product appears is the number of these.
select pulso.create_rollup('analytics.product_sales_tickets', $$
  select s.store_id,
         s.business_date as sale_date,
         i.product_id,
         i.sale_id,
         count(*) as lines
    from public.sale_items i
    join public.sales s on s.id = i.sale_id
   where s.status = 'completed' and s.kind = 'sale'
   group by 1, 2, 3, 4
$$);

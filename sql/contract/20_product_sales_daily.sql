-- The query itself: exact by construction. It becomes a rollup when the engine maintains joins.
create or replace view analytics.product_sales_daily as
select s.store_id,
       s.business_date as sale_date,
       i.product_id,
       sum(i.qty) as units,
       sum(i.qty * i.unit_price_bs) as gross_bs,
       sum(i.qty * i.unit_price_usd) as gross_usd,
       sum(i.qty * i.unit_price_bs - i.discount_bs) as revenue_bs,
       sum(i.qty * i.unit_price_usd - i.discount_usd) as revenue_usd,
       sum(i.qty * i.unit_cost_bs) as cost_bs,
       sum(i.qty * i.unit_cost_usd) as cost_usd,
       count(distinct i.sale_id) as times_sold
  from public.sale_items i
  join public.sales s on s.id = i.sale_id
 where s.status = 'completed'
   and s.kind = 'sale'
 group by s.store_id, s.business_date, i.product_id;

comment on view analytics.product_sales_daily is 'Units and money by product and business day; completed sales, returns not deducted. Fresh at commit.';
comment on column analytics.product_sales_daily.units is 'Units sold.';
comment on column analytics.product_sales_daily.gross_bs is 'Quantity times price, before discounts.';
comment on column analytics.product_sales_daily.gross_usd is 'Quantity times price, before discounts.';
comment on column analytics.product_sales_daily.revenue_bs is 'gross_bs less line discounts.';
comment on column analytics.product_sales_daily.revenue_usd is 'gross_usd less line discounts.';
comment on column analytics.product_sales_daily.cost_bs is 'Quantity times the cost at the moment of the sale.';
comment on column analytics.product_sales_daily.cost_usd is 'Quantity times the cost at the moment of the sale.';
comment on column analytics.product_sales_daily.times_sold is 'Sales in which the product appears.';

-- A union and not a join: nothing depends on how many rows the planner expects.
create or replace view analytics.product_sales_daily as
select p.store_id,
       p.sale_date,
       p.product_id,
       sum(p.units) as units,
       sum(p.gross_bs) as gross_bs,
       sum(p.gross_usd) as gross_usd,
       sum(p.revenue_bs) as revenue_bs,
       sum(p.revenue_usd) as revenue_usd,
       sum(p.cost_bs) as cost_bs,
       sum(p.cost_usd) as cost_usd,
       count(p.lines) as times_sold
  from (
        select d.store_id, d.sale_date, d.product_id, d.units, d.gross_bs, d.gross_usd,
               d.revenue_bs, d.revenue_usd, d.cost_bs, d.cost_usd,
               null::bigint as lines
          from analytics.product_sales_daily_totals d
         union all
        select t.store_id, t.sale_date, t.product_id, null, null, null, null, null, null, null, t.lines
          from analytics.product_sales_tickets t
       ) as p
 group by p.store_id, p.sale_date, p.product_id;

comment on view analytics.product_sales_daily is 'Units and money by product and business day; completed sales, returns not deducted. Fresh at commit.';
comment on column analytics.product_sales_daily.units is 'Units sold.';
comment on column analytics.product_sales_daily.gross_bs is 'Quantity times price, before discounts.';
comment on column analytics.product_sales_daily.gross_usd is 'Quantity times price, before discounts.';
comment on column analytics.product_sales_daily.revenue_bs is 'gross_bs less line discounts.';
comment on column analytics.product_sales_daily.revenue_usd is 'gross_usd less line discounts.';
comment on column analytics.product_sales_daily.cost_bs is 'Quantity times the cost at the moment of the sale.';
comment on column analytics.product_sales_daily.cost_usd is 'Quantity times the cost at the moment of the sale.';
comment on column analytics.product_sales_daily.times_sold is 'Sales in which the product appears.';

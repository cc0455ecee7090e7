create or replace view analytics.product_sales_daily as
select d.store_id,
       d.sale_date,
       d.product_id,
       d.units,
       d.gross_bs,
       d.gross_usd,
       d.revenue_bs,
       d.revenue_usd,
       d.cost_bs,
       d.cost_usd,
       (select count(*)
          from analytics.product_sales_tickets t
         where t.store_id = d.store_id
           and t.sale_date = d.sale_date
           and t.product_id = d.product_id) as times_sold
  from analytics.product_sales_daily_totals d;

comment on view analytics.product_sales_daily is 'Units and money by product and business day; completed sales, returns not deducted. Fresh at commit.';
comment on column analytics.product_sales_daily.units is 'Units sold.';
comment on column analytics.product_sales_daily.gross_bs is 'Quantity times price, before discounts.';
comment on column analytics.product_sales_daily.gross_usd is 'Quantity times price, before discounts.';
comment on column analytics.product_sales_daily.revenue_bs is 'gross_bs less line discounts.';
comment on column analytics.product_sales_daily.revenue_usd is 'gross_usd less line discounts.';
comment on column analytics.product_sales_daily.cost_bs is 'Quantity times the cost at the moment of the sale.';
comment on column analytics.product_sales_daily.cost_usd is 'Quantity times the cost at the moment of the sale.';
comment on column analytics.product_sales_daily.times_sold is 'Sales in which the product appears.';
